//! Limits and places: processors, memory, block input and output.

use super::cpu::{MemAccess, Unit};
use crate::scalar::{CpuSet, KibSize};

element! {
    /// Limits and places of processors.
    pub struct CpuTune {
        /// The weight among guests.
        leaf "shares" shares: u64,
        /// The period of the quota, in microseconds (1,000 to 1,000,000).
        leaf "period" period: u64,
        /// What each processor may run in a period, in microseconds; negative or 0 for no limit.
        leaf "quota" quota: i64,
        /// The period of the whole guest's quota.
        leaf "global_period" global_period: u64,
        /// What the whole guest may run in it.
        leaf "global_quota" global_quota: i64,
        /// The period of the emulator's quota.
        leaf "emulator_period" emulator_period: u64,
        /// What the emulator may run in it.
        leaf "emulator_quota" emulator_quota: i64,
        /// The period of the quota of threads for input and output.
        leaf "iothread_period" iothread_period: u64,
        /// What each of them may run in it.
        leaf "iothread_quota" iothread_quota: i64,
        /// Where processors run.
        list "vcpupin" vcpupins: VcpuPin,
        /// Where the emulator runs.
        child "emulatorpin" emulatorpin: EmulatorPin,
        /// Where threads for input and output run.
        list "iothreadpin" iothreadpins: IoThreadPin,
        /// How processors are scheduled.
        list "vcpusched" vcpuscheds: VcpuSched,
        /// How threads for input and output are scheduled.
        list "iothreadsched" iothreadscheds: IoThreadSched,
        /// How the emulator is scheduled.
        child "emulatorsched" emulatorsched: EmulatorSched,
        /// Shares of the host's caches.
        list "cachetune" cachetunes: CacheTune,
        /// Shares of the host's memory speed.
        list "memorytune" memorytunes: MemoryTune,
        /// What of the processors' energy is measured.
        list "energytune" energytunes: EnergyTune,
    }
}

element! {
    /// Where a processor runs.
    pub struct VcpuPin must ["vcpu", "cpuset"] {
        /// The guest's processor.
        attr "vcpu" vcpu: u32,
        /// The host's.
        attr "cpuset" cpuset: CpuSet,
    }
}

element! {
    /// Where the emulator runs.
    pub struct EmulatorPin main "cpuset" must ["cpuset"] {
        /// The host's processors.
        attr "cpuset" cpuset: CpuSet,
    }
}

element! {
    /// Where a thread for input and output runs.
    pub struct IoThreadPin must ["iothread", "cpuset"] {
        /// The thread.
        attr "iothread" iothread: u32,
        /// The host's processors.
        attr "cpuset" cpuset: CpuSet,
    }
}

choice! {
    /// The kernel's manner of scheduling.
    pub enum Scheduler { Batch = "batch", Idle = "idle", Fifo = "fifo", Rr = "rr" }
}

element! {
    /// How processors are scheduled.
    pub struct VcpuSched must ["scheduler"] {
        /// The processors.
        attr "vcpus" vcpus: CpuSet,
        /// The manner.
        attr "scheduler" scheduler: Scheduler,
        /// The priority, 1 to 99 where the kernel is asked for `fifo` or `rr`; without meaning otherwise.
        attr "priority" priority: crate::scalar::Within<0, 99>,
    }
}

element! {
    /// How threads for input and output are scheduled.
    pub struct IoThreadSched must ["scheduler"] {
        /// The threads.
        attr "iothreads" iothreads: CpuSet,
        /// The manner.
        attr "scheduler" scheduler: Scheduler,
        /// The priority, 1 to 99 where the kernel is asked for `fifo` or `rr`; without meaning otherwise.
        attr "priority" priority: crate::scalar::Within<0, 99>,
    }
}

element! {
    /// How the emulator is scheduled.
    pub struct EmulatorSched must ["scheduler"] {
        /// The manner.
        attr "scheduler" scheduler: Scheduler,
        /// The priority, 1 to 99 where the kernel is asked for `fifo` or `rr`; without meaning otherwise.
        attr "priority" priority: crate::scalar::Within<0, 99>,
    }
}

element! {
    /// Shares of the host's caches.
    pub struct CacheTune must ["vcpus"] {
        /// The processors they are for.
        attr "vcpus" vcpus: CpuSet,
        /// The group's name, in output of libvirt.
        attr "id" id: String,
        /// The shares.
        list "cache" caches: CacheShare,
        /// What is measured.
        list "monitor" monitors: CacheMonitor,
    }
}

choice! {
    /// What a cache holds.
    pub enum CacheType { Both = "both", Code = "code", Data = "data" }
}

element! {
    /// A share of a cache.
    pub struct CacheShare must ["id", "level", "type", "size"] {
        /// The cache's number.
        attr "id" id: u32,
        /// Its level.
        attr "level" level: u32,
        /// What it holds.
        attr "type" kind: CacheType,
        /// How much.
        attr "size" size: u64,
        /// The unit of that; bytes where not stated.
        attr "unit" unit: Unit,
    }
}

element! {
    /// What is measured of caches.
    pub struct CacheMonitor must ["level", "vcpus"] {
        /// The level.
        attr "level" level: u32,
        /// For these processors.
        attr "vcpus" vcpus: CpuSet,
    }
}

element! {
    /// Shares of the host's memory speed.
    pub struct MemoryTune must ["vcpus"] {
        /// The processors they are for.
        attr "vcpus" vcpus: CpuSet,
        /// The shares.
        list "node" nodes: MemoryTuneNode,
        /// What is measured.
        list "monitor" monitors: MemoryMonitor,
    }
}

element! {
    /// A share of a node's memory speed.
    pub struct MemoryTuneNode must ["id", "bandwidth"] {
        /// The node.
        attr "id" id: u32,
        /// In per cent.
        attr "bandwidth" bandwidth: u32,
    }
}

element! {
    /// What is measured of memory speed or energy.
    pub struct MemoryMonitor must ["vcpus"] {
        /// For these processors.
        attr "vcpus" vcpus: CpuSet,
    }
}

element! {
    /// What of the processors' energy is measured.
    pub struct EnergyTune must ["vcpus"] {
        /// The processors it is for.
        attr "vcpus" vcpus: CpuSet,
        /// The group's name, in output of libvirt.
        attr "id" id: String,
        /// What is measured.
        list "monitor" monitors: MemoryMonitor,
    }
}

element! {
    /// Limits of memory; KiB where no unit is given.
    pub struct MemTune {
        /// The most the guest's process may take.
        child "hard_limit" hard_limit: Limit,
        /// What it is pushed back to when memory is short.
        child "soft_limit" soft_limit: Limit,
        /// The most of memory and swap together.
        child "swap_hard_limit" swap_hard_limit: Limit,
        /// What it is guaranteed.
        child "min_guarantee" min_guarantee: Limit,
    }
}

element! {
    /// A limit.
    pub struct Limit {
        /// How much.
        sized "value" value: KibSize,
    }
}

element! {
    /// Limits of block input and output.
    pub struct BlkioTune {
        /// The weight among guests, 10 to 1000.
        leaf "weight" weight: u32,
        /// Limits of single devices.
        list "device" devices: BlkioDevice,
    }
}

element! {
    /// Limits of one device of the host.
    pub struct BlkioDevice must ["path"] {
        /// Its path.
        leaf "path" path: String,
        /// The weight among guests.
        leaf "weight" weight: u32,
        /// Bytes read a second.
        leaf "read_bytes_sec" read_bytes_sec: u64,
        /// Bytes written a second.
        leaf "write_bytes_sec" write_bytes_sec: u64,
        /// Reads a second.
        leaf "read_iops_sec" read_iops_sec: u64,
        /// Writes a second.
        leaf "write_iops_sec" write_iops_sec: u64,
    }
}

choice! {
    /// How memory is taken from nodes.
    pub enum NumaMode { Strict = "strict", Preferred = "preferred", Interleave = "interleave", Restrictive = "restrictive" }
}

element! {
    /// Places of memory.
    pub struct NumaTune {
        /// Of all of it.
        child "memory" memory: NumaMemory,
        /// Of single cells.
        list "memnode" memnodes: MemNode,
    }
}

element! {
    /// Where memory is taken from.
    pub struct NumaMemory {
        /// How strictly.
        attr "mode" mode: NumaMode,
        /// The host's nodes.
        attr "nodeset" nodeset: CpuSet,
        /// Who chooses them.
        attr "placement" placement: super::Placement,
    }
}

element! {
    /// Where a cell's memory is taken from.
    pub struct MemNode must ["cellid"] {
        /// The guest's cell.
        attr "cellid" cellid: u32,
        /// How strictly.
        attr "mode" mode: NumaMode,
        /// The host's nodes.
        attr "nodeset" nodeset: CpuSet,
    }
}

element! {
    /// What a guest's memory is made of.
    pub struct MemoryBacking {
        /// Large pages.
        child "hugepages" hugepages: HugePages,
        /// Whether pages that are equal stay apart.
        flag "nosharepages" nosharepages: bool,
        /// Whether it is never swapped out.
        flag "locked" locked: bool,
        /// What it comes from.
        child "source" source: MemorySource,
        /// Whether it is shared with other processes.
        child "access" access: MemoryAccess,
        /// When it is taken.
        child "allocation" allocation: MemoryAllocation,
        /// Whether its content is dropped at the end.
        flag "discard" discard: bool,
    }
}

element! {
    /// Large pages.
    pub struct HugePages {
        /// Their sizes.
        list "page" pages: HugePage,
    }
}

element! {
    /// A size of pages.
    pub struct HugePage must ["size"] {
        /// The number.
        attr "size" size: u64,
        /// Its unit; KiB where not stated.
        attr "unit" unit: Unit,
        /// The guest's cells it is for.
        attr "nodeset" nodeset: CpuSet,
    }
}

choice! {
    /// What memory comes from.
    pub enum MemorySourceType { File = "file", Anonymous = "anonymous", Memfd = "memfd" }
}

element! {
    /// What memory comes from.
    pub struct MemorySource main "type" must ["type"] {
        /// The way.
        attr "type" kind: MemorySourceType,
    }
}

element! {
    /// Whether memory is shared.
    pub struct MemoryAccess main "mode" must ["mode"] {
        /// If so.
        attr "mode" mode: MemAccess,
    }
}

choice! {
    /// When memory is taken.
    pub enum AllocationMode { Immediate = "immediate", Ondemand = "ondemand" }
}

element! {
    /// When memory is taken.
    pub struct MemoryAllocation main "mode" {
        /// When.
        attr "mode" mode: AllocationMode,
        /// By how many threads.
        attr "threads" threads: u32,
    }
}
