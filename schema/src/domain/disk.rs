//! Disks.

use super::storage::{Auth, DiskSource};
use crate::scalar::{OnOff, Text, YesNo};
use crate::volume::VolumeEncryption;

choice! {
    /// What a disk's data lies on.
    pub enum DiskType {
        File = "file",
        Block = "block",
        Dir = "dir",
        Network = "network",
        Volume = "volume",
        /// FreeBSD's target layer (bhyve).
        Ctl = "ctl",
        Nvme = "nvme",
        VhostUser = "vhostuser",
        VhostVdpa = "vhostvdpa",
    }
}

choice! {
    /// What the guest sees.
    pub enum DiskDevice {
        /// A disk.
        Disk = "disk",
        /// A CD drive.
        Cdrom = "cdrom",
        /// A floppy drive.
        Floppy = "floppy",
        /// A disk whose commands go to a device of the host's.
        Lun = "lun",
    }
}

choice! {
    /// The bus a disk is on.
    pub enum DiskBus {
        Ide = "ide",
        Fdc = "fdc",
        Scsi = "scsi",
        Virtio = "virtio",
        Xen = "xen",
        Usb = "usb",
        Uml = "uml",
        Sata = "sata",
        Sd = "sd",
        Nvme = "nvme",
    }
}

choice! {
    /// How a disk is part of snapshots.
    pub enum DiskSnapshot { No = "no", Internal = "internal", External = "external", Manual = "manual" }
}

choice! {
    /// Which form of virtio is spoken.
    pub enum VirtioModel { Virtio = "virtio", Transitional = "virtio-transitional", NonTransitional = "virtio-non-transitional" }
}

choice! {
    /// How the host caches.
    pub enum CacheMode {
        Default = "default",
        None = "none",
        Writethrough = "writethrough",
        Writeback = "writeback",
        Directsync = "directsync",
        Unsafe = "unsafe",
    }
}

choice! {
    /// What happens on an error of writing.
    pub enum ErrorPolicy { Stop = "stop", Report = "report", Ignore = "ignore", Enospace = "enospace" }
}

choice! {
    /// What happens on an error of reading.
    pub enum ReadErrorPolicy { Stop = "stop", Report = "report", Ignore = "ignore" }
}

choice! {
    /// How requests are handed to the host's kernel.
    pub enum DiskIo { Threads = "threads", Native = "native", IoUring = "io_uring" }
}

choice! {
    /// What becomes of data that a guest discards.
    pub enum Discard { Unmap = "unmap", Ignore = "ignore" }
}

choice! {
    /// What becomes of zeros that a guest writes.
    pub enum DetectZeroes { Off = "off", On = "on", Unmap = "unmap" }
}

choice! {
    /// Where a drive's tray is.
    pub enum Tray { Open = "open", Closed = "closed" }
}

choice! {
    /// How a disk's geometry is told.
    pub enum GeometryTranslation { None = "none", Auto = "auto", Lba = "lba" }
}

choice! {
    /// Who filters commands to a device.
    pub enum SgIo { Filtered = "filtered", Unfiltered = "unfiltered" }
}

device! {
    /// A disk.
    Disk [short [
        "file" => ["source/@file"] with [("@type", "file")],
        "block" => ["source/@dev"] with [("@type", "block")],
        "volume" => ["source/@pool", "source/@volume"] with [("@type", "volume")],
        "bus" => ["target/@bus"],
        "dev" => ["target/@dev"],
        "format" => ["driver/@type"],
    ]] {
        /// What its data lies on.
        attr "type" kind: DiskType,
        /// What the guest sees; a disk where not stated.
        attr "device" device: DiskDevice,
        /// The form of virtio.
        attr "model" model: DiskModel,
        /// How it is part of snapshots.
        attr "snapshot" snapshot: DiskSnapshot,
        /// Whether commands are handed through.
        attr "rawio" rawio: YesNo,
        /// Who filters them.
        attr "sgio" sgio: SgIo,
        /// How the host drives it.
        child "driver" driver: DiskDriver,
        /// Who one is towards a server (the old place).
        child "auth" auth: Auth,
        /// What its data lies on.
        child "source" source: DiskSource,
        /// What its data is a difference to; empty for nothing.
        child "backingStore" backing_store: Box<DiskBackingStore>,
        /// The Xen guest that serves it.
        child "backenddomain" backenddomain: super::storage::NamedThing,
        /// A copy being made, in output of libvirt.
        child "mirror" mirror: Box<Mirror>,
        /// Where the guest sees it.
        child "target" target: DiskTarget,
        /// Its geometry.
        child "geometry" geometry: Geometry,
        /// Sizes of its blocks.
        child "blockio" blockio: BlockIo,
        /// Limits.
        child "iotune" iotune: IoTune,
        /// Whether the guest cannot write it.
        flag "readonly" readonly: bool,
        /// Whether several guests may write it.
        flag "shareable" shareable: bool,
        /// Whether changes are dropped at the end.
        child "transient" transient: Transient,
        /// Its serial number.
        leaf "serial" serial: Text,
        /// Its world-wide name.
        leaf "wwn" wwn: String,
        /// Its maker.
        leaf "vendor" vendor: Text,
        /// What it is.
        leaf "product" product: Text,
        /// How it is encrypted (the old place).
        child "encryption" encryption: VolumeEncryption,
        /// Its place in the order of boot.
        child "boot" boot: super::address::BootOrder,
        /// When statistics are kept apart.
        child "throttlefilters" throttlefilters: ThrottleFilters,
    }
}

choice! {
    /// Which device a disk is shown as.
    pub enum DiskModel {
        Virtio = "virtio",
        Transitional = "virtio-transitional",
        NonTransitional = "virtio-non-transitional",
        UsbStorage = "usb-storage",
        UsbBot = "usb-bot",
    }
}

element! {
    /// Groups of limits that disks may share.
    pub struct ThrottleGroups {
        /// The groups, each with its name.
        list "throttlegroup" groups: IoTune,
    }
}

element! {
    /// Groups of limits.
    pub struct ThrottleFilters {
        /// The groups.
        list "throttlefilter" filters: ThrottleFilter,
    }
}

element! {
    /// A group of limits.
    pub struct ThrottleFilter main "group" {
        /// Its name.
        attr "group" group: String,
    }
}

element! {
    /// Whether changes are dropped at the end.
    pub struct Transient {
        /// Whether several guests share what is below.
        attr "shareBacking" share_backing: YesNo,
    }
}

virtio_driver! {
    /// How the host drives a disk.
    DiskDriver [main "type"] {
        /// The driver, such as `qemu`.
        attr "name" name: String,
        /// The format, such as `raw` or `qcow2`.
        attr "type" kind: ImageFormatName,
        /// How the host caches.
        attr "cache" cache: CacheMode,
        /// What happens on an error of writing.
        attr "error_policy" error_policy: ErrorPolicy,
        /// What happens on an error of reading.
        attr "rerror_policy" rerror_policy: ReadErrorPolicy,
        /// How requests reach the kernel.
        attr "io" io: DiskIo,
        /// Whether the guest's notifications are taken by the kernel.
        attr "ioeventfd" ioeventfd: OnOff,
        /// Whether notifications are sent when asked for only.
        attr "event_idx" event_idx: OnOff,
        /// Whether what is read is kept.
        attr "copy_on_read" copy_on_read: OnOff,
        /// What becomes of discarded data.
        attr "discard" discard: Discard,
        /// Whether discarded clusters stay counted.
        attr "discard_no_unref" discard_no_unref: OnOff,
        /// What becomes of zeros.
        attr "detect_zeroes" detect_zeroes: DetectZeroes,
        /// The thread that serves it.
        attr "iothread" iothread: u32,
        /// The number of queues.
        attr "queues" queues: u32,
        /// The size of a queue.
        attr "queue_size" queue_size: u32,
        /// Threads for its queues.
        child "iothreads" iothreads: DiskIoThreads,
        /// What is kept of the format's tables.
        child "metadata_cache" metadata_cache: MetadataCache,
        /// How statistics are kept.
        child "statistics" statistics: DiskStatistics,
    }
}

element! {
    /// How statistics are kept.
    pub struct DiskStatistics {
        /// Intervals.
        list "statistic" statistics: DiskStatistic,
        /// Intervals of latency.
        list "latency-histogram" histograms: LatencyHistogram,
    }
}

element! {
    /// An interval of statistics.
    pub struct DiskStatistic main "interval" {
        /// In seconds.
        attr "interval" interval: u32,
    }
}

choice! {
    /// The requests whose latency is measured.
    pub enum HistogramType { Read = "read", Write = "write", Zone = "zone", Flush = "flush" }
}

element! {
    /// A bin of a histogram.
    pub struct HistogramBin main "start" must ["start"] {
        /// Where it begins, in nanoseconds.
        attr "start" start: u64,
    }
}

element! {
    /// A histogram of latency.
    pub struct LatencyHistogram {
        /// What is measured; all requests where not stated.
        attr "type" kind: HistogramType,
        /// Its bins.
        list "bin" bins: HistogramBin,
    }
}

choice! {
    /// A format of images.
    pub enum ImageFormatName {
        Raw = "raw",
        Qcow2 = "qcow2",
        Qcow = "qcow",
        Qed = "qed",
        Vmdk = "vmdk",
        Vdi = "vdi",
        Vhd = "vhd",
        Vpc = "vpc",
        Bochs = "bochs",
        Cloop = "cloop",
        Dmg = "dmg",
        Fat = "fat",
        Ploop = "ploop",
        Aio = "aio",
        Iso = "iso",
        Dir = "dir",
        Cow = "cow",
        Luks = "luks",
    }
}

element! {
    /// Threads for a disk's queues.
    pub struct DiskIoThreads {
        /// The threads.
        list "iothread" iothreads: DiskIoThread,
    }
}

element! {
    /// A thread.
    pub struct DiskIoThread main "id" must ["id"] {
        /// Its number.
        attr "id" id: u32,
        /// The queues it serves.
        list "queue" queues: DiskQueue,
    }
}

element! {
    /// A queue.
    pub struct DiskQueue main "id" must ["id"] {
        /// Its number.
        attr "id" id: u32,
    }
}

element! {
    /// What is kept of a format's tables.
    pub struct MetadataCache {
        /// The most; bytes where no unit is given.
        child "max_size" max_size: crate::pool::SizeElement,
    }
}

element! {
    /// Where a guest sees a disk.
    pub struct DiskTarget main "dev" {
        /// The device's name, such as `vda`.
        attr "dev" dev: String,
        /// The bus.
        attr "bus" bus: DiskBus,
        /// Where a drive's tray is.
        attr "tray" tray: Tray,
        /// Whether it can be taken out.
        attr "removable" removable: OnOff,
        /// Rounds a minute; 1 for no rotation.
        attr "rotation_rate" rotation_rate: u16,
        /// Whether writes may go past the cache.
        attr "dpofua" dpofua: OnOff,
    }
}

element! {
    /// A disk's geometry.
    pub struct Geometry {
        /// Cylinders.
        attr "cyls" cyls: u32,
        /// Heads.
        attr "heads" heads: u32,
        /// Sectors.
        attr "secs" secs: u32,
        /// How it is told.
        attr "trans" trans: GeometryTranslation,
    }
}

element! {
    /// Sizes of blocks, in bytes.
    pub struct BlockIo {
        /// As the guest counts.
        attr "logical_block_size" logical_block_size: u32,
        /// As it is best written.
        attr "physical_block_size" physical_block_size: u32,
        /// As it is discarded.
        attr "discard_granularity" discard_granularity: u32,
    }
}

element! {
    /// Limits of a disk.
    pub struct IoTune {
        /// Bytes a second.
        leaf "total_bytes_sec" total_bytes_sec: u64,
        /// Bytes read a second.
        leaf "read_bytes_sec" read_bytes_sec: u64,
        /// Bytes written a second.
        leaf "write_bytes_sec" write_bytes_sec: u64,
        /// Requests a second.
        leaf "total_iops_sec" total_iops_sec: u64,
        /// Reads a second.
        leaf "read_iops_sec" read_iops_sec: u64,
        /// Writes a second.
        leaf "write_iops_sec" write_iops_sec: u64,
        /// Bytes a second in a burst.
        leaf "total_bytes_sec_max" total_bytes_sec_max: u64,
        /// Bytes read a second in a burst.
        leaf "read_bytes_sec_max" read_bytes_sec_max: u64,
        /// Bytes written a second in a burst.
        leaf "write_bytes_sec_max" write_bytes_sec_max: u64,
        /// Requests a second in a burst.
        leaf "total_iops_sec_max" total_iops_sec_max: u64,
        /// Reads a second in a burst.
        leaf "read_iops_sec_max" read_iops_sec_max: u64,
        /// Writes a second in a burst.
        leaf "write_iops_sec_max" write_iops_sec_max: u64,
        /// The size that counts as one request, in bytes.
        leaf "size_iops_sec" size_iops_sec: u64,
        /// The name of a group that shares these limits.
        leaf "group_name" group_name: String,
        /// Seconds a burst may last.
        leaf "total_bytes_sec_max_length" total_bytes_sec_max_length: u64,
        /// Seconds a burst of reads may last.
        leaf "read_bytes_sec_max_length" read_bytes_sec_max_length: u64,
        /// Seconds a burst of writes may last.
        leaf "write_bytes_sec_max_length" write_bytes_sec_max_length: u64,
        /// Seconds a burst of requests may last.
        leaf "total_iops_sec_max_length" total_iops_sec_max_length: u64,
        /// Seconds a burst of reads may last.
        leaf "read_iops_sec_max_length" read_iops_sec_max_length: u64,
        /// Seconds a burst of writes may last.
        leaf "write_iops_sec_max_length" write_iops_sec_max_length: u64,
    }
}

element! {
    /// A format of an image.
    pub struct ImageFormat main "type" {
        /// The format.
        attr "type" kind: ImageFormatName,
        /// What is kept of its tables.
        child "metadata_cache" metadata_cache: MetadataCache,
    }
}

element! {
    /// What a disk's data is a difference to; empty for nothing.
    pub struct DiskBackingStore {
        /// What it lies on.
        attr "type" kind: DiskType,
        /// Its number in the chain, in output of libvirt.
        attr "index" index: u32,
        /// Its format.
        child "format" format: ImageFormat,
        /// What it lies on.
        child "source" source: DiskSource,
        /// What this is a difference to in turn.
        child "backingStore" backing_store: Box<DiskBackingStore>,
    }
}

choice! {
    /// Why a copy is made.
    pub enum MirrorJob { Copy = "copy", ActiveCommit = "active-commit" }
}

choice! {
    /// How far a copy is.
    pub enum MirrorReady { Yes = "yes", Abort = "abort", Pivot = "pivot", No = "no" }
}

element! {
    /// A copy being made.
    pub struct Mirror {
        /// What it lies on.
        attr "type" kind: DiskType,
        /// Its path, in the old form.
        attr "file" file: String,
        /// Its format, in the old form.
        attr "format" = "format-name" format_name: String,
        /// Why.
        attr "job" job: MirrorJob,
        /// How far it is.
        attr "ready" ready: MirrorReady,
        /// Its format.
        child "format" format: ImageFormat,
        /// What it lies on.
        child "source" source: DiskSource,
        /// What it is a difference to.
        child "backingStore" backing_store: Box<DiskBackingStore>,
    }
}
