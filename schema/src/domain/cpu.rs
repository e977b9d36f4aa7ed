//! A guest's processor: model, topology, caches, NUMA cells.

use crate::scalar::{CpuSet, OnOff, YesNo};

choice! {
    /// Where the model comes from.
    pub enum CpuMode {
        /// A named model.
        Custom = "custom",
        /// The named model closest to the host's.
        HostModel = "host-model",
        /// The host's own.
        HostPassthrough = "host-passthrough",
        /// The most that can be.
        Maximum = "maximum",
    }
}

choice! {
    /// How strictly the model is held to.
    pub enum CpuMatch { Minimum = "minimum", Exact = "exact", Strict = "strict" }
}

choice! {
    /// How what the guest gets is checked.
    pub enum CpuCheck { None = "none", Partial = "partial", Full = "full" }
}

choice! {
    /// What happens when a host lacks the model.
    pub enum CpuFallback { Allow = "allow", Forbid = "forbid" }
}

choice! {
    /// What becomes of a feature.
    pub enum FeaturePolicy { Force = "force", Require = "require", Optional = "optional", Disable = "disable", Forbid = "forbid" }
}

choice! {
    /// How caches are shown.
    pub enum CacheMode { Emulate = "emulate", Passthrough = "passthrough", Disable = "disable" }
}

choice! {
    /// How wide physical addresses are.
    pub enum MaxPhysAddrMode { Emulate = "emulate", Passthrough = "passthrough" }
}

choice! {
    /// Whether memory is shared with other processes.
    pub enum MemAccess { Shared = "shared", Private = "private" }
}

element! {
    /// A guest's processor.
    pub struct Cpu main "mode" {
        /// Where the model comes from.
        attr "mode" mode: CpuMode,
        /// How strictly it is held to.
        attr "match" matches: CpuMatch,
        /// How what the guest gets is checked.
        attr "check" check: CpuCheck,
        /// Whether only what can move to another host is used.
        attr "migratable" migratable: OnOff,
        /// Whether deprecated features are there.
        attr "deprecated_features" deprecated_features: OnOff,
        /// The model.
        child "model" model: CpuModel,
        /// The maker.
        leaf "vendor" vendor: String,
        /// Sockets, cores and threads.
        child "topology" topology: Topology,
        /// Caches.
        child "cache" cache: CpuCache,
        /// The width of physical addresses.
        child "maxphysaddr" maxphysaddr: MaxPhysAddr,
        /// Features beyond or below the model's.
        list "feature" features: CpuFeature,
        /// NUMA cells.
        child "numa" numa: Numa,
    }
}

element! {
    /// A processor's model.
    pub struct CpuModel {
        /// Its name.
        text "value" value: String,
        /// What happens when the host lacks it.
        attr "fallback" fallback: CpuFallback,
        /// The maker that the guest sees.
        attr "vendor_id" vendor_id: String,
    }
}

element! {
    /// Sockets, cores and threads.
    pub struct Topology {
        /// Sockets.
        attr "sockets" sockets: u32,
        /// Dies a socket.
        attr "dies" dies: u32,
        /// Clusters a die.
        attr "clusters" clusters: u32,
        /// Cores a cluster.
        attr "cores" cores: u32,
        /// Threads a core.
        attr "threads" threads: u32,
    }
}

element! {
    /// How caches are shown.
    pub struct CpuCache main "mode" {
        /// The level, 1 to 3.
        attr "level" level: crate::scalar::Within<1, 3>,
        /// The way.
        attr "mode" mode: CacheMode,
    }
}

element! {
    /// The width of physical addresses.
    pub struct MaxPhysAddr main "mode" {
        /// How it is chosen.
        attr "mode" mode: MaxPhysAddrMode,
        /// In bits.
        attr "bits" bits: u32,
        /// The most, where the host's is used.
        attr "limit" limit: u32,
    }
}

element! {
    /// A feature.
    pub struct CpuFeature main "name" must ["name"] {
        /// What becomes of it; required where not stated.
        attr "policy" policy: FeaturePolicy,
        /// Its name.
        attr "name" name: String,
    }
}

element! {
    /// NUMA cells.
    pub struct Numa {
        /// The cells.
        list "cell" cells: NumaCell,
        /// Speeds between them.
        child "interconnects" interconnects: Interconnects,
    }
}

element! {
    /// A NUMA cell.
    pub struct NumaCell {
        /// Its number.
        attr "id" id: u32,
        /// Its processors.
        attr "cpus" cpus: CpuSet,
        /// Its memory.
        attr "memory" memory: u64,
        /// The unit of that; KiB where not stated.
        attr "unit" unit: Unit,
        /// Whether its memory is shared.
        attr "memAccess" mem_access: MemAccess,
        /// Whether its content is dropped at the end.
        attr "discard" discard: YesNo,
        /// Distances to other cells.
        child "distances" distances: Distances,
        /// Caches of its memory.
        list "cache" caches: NumaCache,
    }
}

impl NumaCell {
    /// Its memory; saturates.
    pub fn memory_bytes(&self) -> Option<crate::scalar::Bytes> {
        let unit = self.unit.as_ref().map_or(1024, Unit::bytes);
        Some(crate::scalar::Bytes(self.memory?.saturating_mul(unit)))
    }
}

/// A unit of size, such as `KiB`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit(String);

impl Unit {
    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        crate::scalar::unit_bytes(&self.0).unwrap_or(1)
    }
}

impl crate::scalar::Scalar for Unit {
    const INFO: crate::scalar::ScalarInfo = crate::scalar::ScalarInfo::new(
        "a unit: bytes, KiB, MiB, GiB, TiB, PiB, EiB (1024) or KB, MB, GB, TB, PB, EB (1000)",
        crate::scalar::Form::Text,
    )
    .matching("^([bB]|[bB][yY][tT][eE][sS]?|[kKmMgGtTpPeE]([iI]?[bB])?)$");

    fn parse(text: &str) -> Result<Self, String> {
        if crate::scalar::unit_bytes(text).is_some() {
            Ok(Self(text.to_owned()))
        } else {
            Err(String::new())
        }
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        std::borrow::Cow::Borrowed(&self.0)
    }
}

element! {
    /// Distances to other cells.
    pub struct Distances {
        /// The other cells.
        list "sibling" siblings: Sibling,
    }
}

element! {
    /// Another cell.
    pub struct Sibling must ["id", "value"] {
        /// Its number.
        attr "id" id: u32,
        /// The distance, 10 to 255.
        attr "value" value: crate::scalar::Within<10, 255>,
    }
}

element! {
    /// A cache of a cell's memory.
    pub struct NumaCache {
        /// Its level.
        attr "level" level: u32,
        /// Where a line may lie: `none`, `direct` or `full`.
        attr "associativity" associativity: Associativity,
        /// When it is written.
        attr "policy" policy: CachePolicy,
        /// Its size.
        child "size" size: NumaCacheSize,
        /// The size of a line.
        child "line" line: NumaCacheSize,
    }
}

choice! {
    /// Where a line may lie.
    pub enum Associativity { None = "none", Direct = "direct", Full = "full" }
}

choice! {
    /// When a cache is written.
    pub enum CachePolicy { None = "none", Writeback = "writeback", Writethrough = "writethrough" }
}

element! {
    /// A size.
    pub struct NumaCacheSize main "value" {
        /// The number.
        attr "value" value: u64,
        /// Its unit.
        attr "unit" unit: Unit,
    }
}

element! {
    /// Speeds between cells.
    pub struct Interconnects {
        /// Times.
        list "latency" latencies: Latency,
        /// Widths.
        list "bandwidth" bandwidths: InterconnectBandwidth,
    }
}

choice! {
    /// What is measured.
    pub enum AccessType { Access = "access", Read = "read", Write = "write" }
}

element! {
    /// A time between cells.
    pub struct Latency {
        /// From.
        attr "initiator" initiator: u32,
        /// To.
        attr "target" target: u32,
        /// Through the cache of this level.
        attr "cache" cache: u32,
        /// What is measured.
        attr "type" kind: AccessType,
        /// In nanoseconds.
        attr "value" value: u64,
    }
}

element! {
    /// A width between cells.
    pub struct InterconnectBandwidth {
        /// From.
        attr "initiator" initiator: u32,
        /// To.
        attr "target" target: u32,
        /// Through the cache of this level.
        attr "cache" cache: u32,
        /// What is measured.
        attr "type" kind: AccessType,
        /// How much a second.
        attr "value" value: u64,
        /// Its unit; KiB where not stated.
        attr "unit" unit: Unit,
    }
}
