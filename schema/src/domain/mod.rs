//! Virtual machines: the types behind `<domain>`, by room: the machine ([`os`], [`cpu`], [`features`], [`tune`]), its [`devices`], and what is [`handed_on`] to the program that runs it.

#[macro_use]
pub mod address;
pub mod chardev;
pub mod controller;
pub mod cpu;
pub mod devices;
pub mod disk;
pub mod features;
pub mod filesystem;
pub mod graphics;
pub mod handed_on;
pub mod hostdev;
pub mod interface;
pub mod memory;
pub mod misc;
pub mod os;
pub mod security;
pub mod storage;
pub mod tune;

pub use devices::Devices;

use handed_on::{
    BhyveCommandLine, LxcNamespace, QemuCapabilities, QemuCommandLine, QemuDeprecation,
    QemuOverride, XenCommandLine,
};

use crate::scalar::{CpuSet, KibSize, Name, OnOff, Text, YesNo};
use crate::tree::Foreign;
use uuid::Uuid;

choice! {
    /// What runs a guest.
    pub enum DomainType {
        /// The processor's virtualisation through KVM.
        Kvm = "kvm",
        /// Emulation by QEMU.
        Qemu = "qemu",
        /// QEMU with a kernel's module of before KVM.
        Kqemu = "kqemu",
        /// Hyper-V through QEMU.
        Hyperv = "hyperv",
        /// Apple's framework through QEMU.
        Hvf = "hvf",
        /// Xen.
        Xen = "xen",
        /// Linux containers.
        Lxc = "lxc",
        /// OpenVZ.
        Openvz = "openvz",
        /// libvirt's own test driver.
        Test = "test",
        /// VMware.
        Vmware = "vmware",
        /// bhyve.
        Bhyve = "bhyve",
        /// Virtuozzo.
        Vz = "vz",
        /// User-mode Linux.
        Uml = "uml",
        /// VirtualBox.
        Vbox = "vbox",
        /// Parallels.
        Parallels = "parallels",
        /// IBM's hypervisor.
        Phyp = "phyp",
    }
}

choice! {
    /// What happens when a guest ends by itself.
    pub enum LifecycleAction {
        /// It stays off.
        Destroy = "destroy",
        /// It starts again.
        Restart = "restart",
        /// It starts again under another name.
        RenameRestart = "rename-restart",
        /// What is left stays for looking at.
        Preserve = "preserve",
        /// Its memory is written to a file, and it stays off.
        CoredumpDestroy = "coredump-destroy",
        /// Its memory is written to a file, and it starts again.
        CoredumpRestart = "coredump-restart",
    }
}

choice! {
    /// What happens when a lease is lost.
    pub enum LockFailureAction { Poweroff = "poweroff", Restart = "restart", Pause = "pause", Ignore = "ignore" }
}

choice! {
    /// Where a guest's processors are placed.
    pub enum Placement { Static = "static", Auto = "auto" }
}

element! {
    /// A virtual machine.
    pub struct Domain must ["name"]
        short [
            "kernel" => ["os/kernel"],
            "initrd" => ["os/initrd"],
            "cmdline" => ["os/cmdline"],
            "machine" => ["os/type/@machine"],
            "arch" => ["os/type/@arch"],
        ]
    {
        /// What runs it; kvm where not stated.
        attr "type" kind: DomainType,
        /// Its number while it runs, in output of libvirt.
        attr "id" id: u32,
        /// The guest's name.
        leaf "name" name: Name,
        /// The guest's identity.
        leaf "uuid" uuid: Uuid,
        /// What a guest copied from another one tells it by.
        child "genid" genid: GenId,
        /// One line about it.
        leaf "title" title: Text,
        /// More about it.
        leaf "description" description: Text,
        /// What belongs to other applications.
        tree "metadata" metadata: Foreign,
        /// The memory it may grow to by hot-plugging.
        child "maxMemory" max_memory: MaxMemory,
        /// The memory it has at boot; KiB where no unit is given.
        child "memory" memory: Memory,
        /// The memory it uses now, the balloon holding the rest.
        child "currentMemory" current_memory: CurrentMemory,
        /// Limits of block input and output.
        child "blkiotune" blkiotune: tune::BlkioTune,
        /// Limits of memory.
        child "memtune" memtune: tune::MemTune,
        /// What its memory is made of.
        child "memoryBacking" memory_backing: tune::MemoryBacking,
        /// The number of its processors.
        child "vcpu" vcpu: Vcpu,
        /// Each of its processors.
        child "vcpus" vcpus: Vcpus,
        /// The number of threads for input and output.
        leaf "iothreads" iothreads: u32,
        /// Each of these threads.
        child "iothreadids" iothreadids: IoThreadIds,
        /// The pool of threads of its main loop.
        child "defaultiothread" defaultiothread: DefaultIoThread,
        /// Limits and places of processors.
        child "cputune" cputune: tune::CpuTune,
        /// Places of memory.
        child "numatune" numatune: tune::NumaTune,
        /// Where it stands among control groups.
        child "resource" resource: Resource,
        /// Groups of limits that disks may share.
        child "throttlegroups" throttlegroups: disk::ThrottleGroups,
        /// What firmware tells the guest of its machine.
        list "sysinfo" = "sysinfos" sysinfos: os::SysInfo,
        /// A program to boot with, instead of firmware.
        leaf "bootloader" bootloader: Text,
        /// Its arguments.
        leaf "bootloader_args" bootloader_args: Text,
        /// What it boots.
        child "os" os: os::Os,
        /// Numbers of users as the container sees them.
        child "idmap" idmap: IdMap,
        /// What its machine has.
        child "features" features: features::Features,
        /// Its processor.
        child "cpu" cpu: cpu::Cpu,
        /// Its clock.
        child "clock" clock: os::Clock,
        /// When it powers off; destroy where not stated.
        leaf "on_poweroff" on_poweroff: LifecycleAction,
        /// When it reboots; restart where not stated.
        leaf "on_reboot" on_reboot: LifecycleAction,
        /// When it crashes; destroy where not stated.
        leaf "on_crash" on_crash: LifecycleAction,
        /// When a lease is lost.
        leaf "on_lockfailure" on_lockfailure: LockFailureAction,
        /// Whether it may sleep.
        child "pm" pm: PowerManagement,
        /// Counters of the processor that are measured.
        child "perf" perf: Perf,
        /// How its memory is kept from the host.
        child "launchSecurity" launch_security: security::LaunchSecurity,
        /// Its devices.
        flat "devices" devices: Devices,
        /// Whether devices of the host's are handed over through the kernel's iommufd.
        child "iommufd" iommufd: hostdev::IommuFd,
        /// How it is kept from other guests.
        list "seclabel" seclabels: security::SecLabel,
        /// Keys it may wrap (s390).
        child "keywrap" keywrap: KeyWrap,
        /// Arguments handed to QEMU as they are.
        child "qemu:commandline" qemu_commandline: QemuCommandLine,
        /// What libvirt is to believe of QEMU.
        child "qemu:capabilities" qemu_capabilities: QemuCapabilities,
        /// Properties of devices handed to QEMU as they are.
        child "qemu:override" qemu_override: QemuOverride,
        /// Deprecated things QEMU is to refuse.
        child "qemu:deprecation" qemu_deprecation: QemuDeprecation,
        /// What a container shares with another.
        child "lxc:namespace" lxc_namespace: LxcNamespace,
        /// Arguments handed to Xen's device model as they are.
        child "xen:commandline" xen_commandline: XenCommandLine,
        /// Arguments handed to bhyve as they are.
        child "bhyve:commandline" bhyve_commandline: BhyveCommandLine,
        /// The path of the data centre it is in (VMware).
        leaf "vmware:datacenterpath" vmware_datacenterpath: Text,
    }
}

element! {
    /// What a guest copied from another one tells it by.
    pub struct GenId {
        /// The identity; made anew where empty.
        text "value" value: Text,
    }
}

element! {
    /// The memory a guest may grow to.
    pub struct MaxMemory {
        /// How much; KiB where no unit is given.
        sized "value" value: KibSize,
        /// The number of slots for memory devices.
        attr "slots" slots: u32,
    }
}

element! {
    /// The memory a guest has.
    pub struct Memory {
        /// How much; KiB where no unit is given.
        sized "value" value: KibSize,
        /// Whether it is part of a dump of the host's process.
        attr "dumpCore" dump_core: OnOff,
    }
}

element! {
    /// The memory a guest uses.
    pub struct CurrentMemory {
        /// How much; KiB where no unit is given.
        sized "value" value: KibSize,
    }
}

element! {
    /// The number of processors.
    pub struct Vcpu {
        /// The most there may be.
        text "value" value: u32,
        /// Where they are placed.
        attr "placement" placement: Placement,
        /// The host's processors they may run on.
        attr "cpuset" cpuset: CpuSet,
        /// How many there are now; all where not stated.
        attr "current" current: u32,
    }
}

element! {
    /// Each processor.
    pub struct Vcpus {
        /// The processors.
        list "vcpu" vcpus: VcpuState,
    }
}

element! {
    /// One processor.
    pub struct VcpuState must ["id"] {
        /// Its number.
        attr "id" id: u32,
        /// Whether it is there.
        attr "enabled" enabled: YesNo,
        /// Whether it may be taken away.
        attr "hotpluggable" hotpluggable: YesNo,
        /// Its place in the order they are added.
        attr "order" order: u32,
    }
}

element! {
    /// Threads for input and output.
    pub struct IoThreadIds {
        /// The threads.
        list "iothread" iothreads: IoThread,
    }
}

element! {
    /// A thread for input and output.
    pub struct IoThread main "id" must ["id"] {
        /// Its number.
        attr "id" id: u32,
        /// The least number of workers.
        attr "thread_pool_min" thread_pool_min: u32,
        /// The greatest number of workers.
        attr "thread_pool_max" thread_pool_max: u32,
        /// How long it waits busily.
        child "poll" poll: IoThreadPoll,
    }
}

element! {
    /// How long a thread waits busily, in nanoseconds.
    pub struct IoThreadPoll {
        /// The most.
        attr "max" max: u64,
        /// What it grows by.
        attr "grow" grow: u64,
        /// What it shrinks by.
        attr "shrink" shrink: u64,
    }
}

element! {
    /// The workers of a guest's main loop.
    pub struct DefaultIoThread {
        /// The least number.
        attr "thread_pool_min" thread_pool_min: u32,
        /// The greatest number.
        attr "thread_pool_max" thread_pool_max: u32,
    }
}

element! {
    /// Where a guest stands among control groups.
    pub struct Resource main "partition" {
        /// The group above it, such as `/machine/production`.
        leaf "partition" partition: String,
        /// The identity used on a fibre channel network.
        child "fibrechannel" fibrechannel: FibreChannel,
    }
}

element! {
    /// The identity used on a fibre channel network.
    pub struct FibreChannel main "appid" {
        /// The identity.
        attr "appid" appid: String,
    }
}

element! {
    /// Numbers of users and groups as a guest sees them.
    pub struct IdMap {
        /// Users.
        list "uid" uids: IdRange,
        /// Groups.
        list "gid" gids: IdRange,
    }
}

element! {
    /// A range of numbers.
    pub struct IdRange must ["start", "target", "count"] {
        /// The first inside.
        attr "start" start: u32,
        /// The first outside.
        attr "target" target: u32,
        /// How many.
        attr "count" count: u32,
    }
}

element! {
    /// Whether a guest may sleep.
    pub struct PowerManagement {
        /// Keeping its memory powered.
        child "suspend-to-mem" suspend_to_mem: crate::common::Enabled,
        /// Writing its memory to disk.
        child "suspend-to-disk" suspend_to_disk: crate::common::Enabled,
    }
}

element! {
    /// Counters that are measured.
    pub struct Perf {
        /// The counters.
        list "event" events: PerfEvent,
    }
}

choice! {
    /// A counter of the kernel's.
    pub enum PerfEventName {
        Cmt = "cmt",
        Mbmt = "mbmt",
        Mbml = "mbml",
        CpuCycles = "cpu_cycles",
        Instructions = "instructions",
        CacheReferences = "cache_references",
        CacheMisses = "cache_misses",
        BranchInstructions = "branch_instructions",
        BranchMisses = "branch_misses",
        BusCycles = "bus_cycles",
        StalledCyclesFrontend = "stalled_cycles_frontend",
        StalledCyclesBackend = "stalled_cycles_backend",
        RefCpuCycles = "ref_cpu_cycles",
        CpuClock = "cpu_clock",
        TaskClock = "task_clock",
        PageFaults = "page_faults",
        ContextSwitches = "context_switches",
        CpuMigrations = "cpu_migrations",
        PageFaultsMin = "page_faults_min",
        PageFaultsMaj = "page_faults_maj",
        AlignmentFaults = "alignment_faults",
        EmulationFaults = "emulation_faults",
    }
}

element! {
    /// A counter.
    pub struct PerfEvent must ["name", "enabled"] {
        /// Its name.
        attr "name" name: PerfEventName,
        /// Whether it is measured.
        attr "enabled" enabled: YesNo,
    }
}

element! {
    /// Keys a guest may wrap.
    pub struct KeyWrap {
        /// The ciphers.
        list "cipher" ciphers: KeyWrapCipher,
    }
}

element! {
    /// A cipher for wrapping keys.
    pub struct KeyWrapCipher must ["name", "state"] {
        /// Its name.
        attr "name" name: String,
        /// Whether it may be used.
        attr "state" state: OnOff,
    }
}

impl Domain {
    /// The memory at boot, as stated.
    pub fn memory_bytes(&self) -> Option<crate::scalar::Bytes> {
        Some(self.memory.as_ref()?.value.as_ref()?.bytes())
    }

    /// The disks, in order.
    pub fn disks(&self) -> &[disk::Disk] {
        self.devices.as_ref().map_or(&[], |devices| &devices.disks)
    }

    /// The network interfaces, in order.
    pub fn interfaces(&self) -> &[interface::Interface] {
        self.devices
            .as_ref()
            .map_or(&[], |devices| &devices.interfaces)
    }

    /// The address of an interface: stated, else derived from the guest's identity and the interface's number from 0.
    pub fn mac(&self, uuid: Uuid, index: usize) -> crate::scalar::MacAddr {
        let stated = self
            .interfaces()
            .get(index)
            .and_then(|interface| interface.mac.as_ref()?.address);
        stated.unwrap_or_else(|| crate::definition::derived_mac(uuid, index))
    }
}
