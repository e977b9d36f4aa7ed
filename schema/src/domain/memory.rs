//! Memory devices, and memory shared between guests.

use super::{CurrentMemory, cpu::MemAccess};
use crate::scalar::{CpuSet, Hex, OnOff, YesNo};
use uuid::Uuid;

choice! {
    /// A memory device.
    pub enum MemoryModel { Dimm = "dimm", Nvdimm = "nvdimm", VirtioPmem = "virtio-pmem", VirtioMem = "virtio-mem", SgxEpc = "sgx-epc" }
}

device! {
    /// A memory device.
    MemoryDevice [must ["model"]] {
        /// Which.
        attr "model" model: MemoryModel,
        /// Whether it is shared with other processes.
        attr "access" access: MemAccess,
        /// Whether its content is dropped at the end.
        attr "discard" discard: YesNo,
        /// Its identity.
        leaf "uuid" uuid: Uuid,
        /// How the host drives it.
        child "driver" driver: super::address::VirtioDriver,
        /// Where it comes from.
        child "source" source: MemoryDeviceSource,
        /// What the guest sees.
        child "target" target: MemoryTarget,
    }
}

element! {
    /// Where a memory device comes from.
    pub struct MemoryDeviceSource {
        /// A file's path.
        leaf "path" path: String,
        /// How it is aligned.
        child "alignsize" alignsize: CurrentMemory,
        /// Whether what is written stays.
        flag "pmem" pmem: bool,
        /// The size of its pages.
        child "pagesize" pagesize: CurrentMemory,
        /// The host's nodes.
        leaf "nodemask" nodemask: CpuSet,
    }
}

element! {
    /// What a guest sees of a memory device.
    pub struct MemoryTarget {
        /// Whether slots are made when needed.
        attr "dynamicMemslots" dynamic_memslots: YesNo,
        /// Its size.
        child "size" size: CurrentMemory,
        /// The guest's cell.
        leaf "node" node: u32,
        /// The size of its blocks.
        child "block" block: CurrentMemory,
        /// How much the guest is to use.
        child "requested" requested: CurrentMemory,
        /// How much it uses, in output of libvirt.
        child "current" current: CurrentMemory,
        /// Where it is.
        child "address" address: MemoryBase,
        /// The part for labels.
        child "label" label: MemoryLabel,
        /// Whether the guest may only read it.
        flag "readonly" readonly: bool,
    }
}

element! {
    /// Where memory is.
    pub struct MemoryBase main "base" {
        /// Its first address.
        attr "base" base: Hex,
    }
}

element! {
    /// The part for labels.
    pub struct MemoryLabel {
        /// Its size.
        child "size" size: CurrentMemory,
    }
}

device! {
    /// Memory shared between guests.
    Shmem [must ["name"]] {
        /// Its name.
        attr "name" name: String,
        /// Whether this guest holds it.
        attr "role" role: ShmemRole,
        /// The device.
        child "model" model: ShmemModel,
        /// Its size.
        child "size" size: ShmemSize,
        /// The server.
        child "server" server: super::storage::PathThing,
        /// Its interrupts.
        child "msi" msi: Msi,
    }
}

choice! {
    /// Whether a guest holds shared memory.
    pub enum ShmemRole { Master = "master", Peer = "peer" }
}

choice! {
    /// The device of shared memory.
    pub enum ShmemModelName { Ivshmem = "ivshmem", IvshmemPlain = "ivshmem-plain", IvshmemDoorbell = "ivshmem-doorbell" }
}

element! {
    /// The device of shared memory.
    pub struct ShmemModel main "type" must ["type"] {
        /// Which.
        attr "type" kind: ShmemModelName,
    }
}

element! {
    /// The size of shared memory; bytes where no unit is given.
    pub struct ShmemSize {
        /// How much.
        sized "value" value: crate::scalar::ByteSize,
    }
}

element! {
    /// Interrupts of shared memory.
    pub struct Msi {
        /// Whether there are.
        attr "enabled" enabled: YesNo,
        /// How many.
        attr "vectors" vectors: u32,
        /// Whether notifications are taken by the kernel.
        attr "ioeventfd" ioeventfd: OnOff,
    }
}

device! {
    /// The device by which guests are given and taken memory.
    MemBalloon [main "model" must ["model"]] {
        /// Which; `none` for no such device.
        attr "model" model: BalloonModel,
        /// Whether the guest gets memory back when it is short.
        attr "autodeflate" autodeflate: OnOff,
        /// Whether it tells of pages it does not use.
        attr "freePageReporting" free_page_reporting: OnOff,
        /// How the host drives it.
        child "driver" driver: super::address::VirtioDriver,
        /// When statistics are asked for.
        child "stats" stats: BalloonStats,
    }
}

choice! {
    /// A balloon device.
    pub enum BalloonModel {
        Virtio = "virtio",
        Transitional = "virtio-transitional",
        NonTransitional = "virtio-non-transitional",
        Xen = "xen",
        None = "none",
    }
}

element! {
    /// When statistics are asked for.
    pub struct BalloonStats main "period" must ["period"] {
        /// Every so many seconds.
        attr "period" period: u32,
    }
}
