//! What a guest's machine has beyond the ordinary.

use crate::common::{Enabled, State};
use crate::scalar::{KibSize, MibSize, OnOff, Text};

element! {
    /// What a machine has; an element that is there switches its feature on.
    pub struct Features {
        /// ACPI's tables, without which a guest cannot be asked to shut down.
        flag "acpi" acpi: bool,
        /// Interrupt controllers in the processors.
        child "apic" apic: Apic,
        /// Memory above 4 GiB for 32-bit guests.
        flag "pae" pae: bool,
        /// Paging by hardware.
        child "hap" hap: State,
        /// What a container's root may do.
        child "capabilities" capabilities: Capabilities,
        /// viridian's extensions.
        flag "viridian" viridian: bool,
        /// A private network namespace.
        flag "privnet" privnet: bool,
        /// Hyper-V's extensions.
        child "hyperv" hyperv: Hyperv,
        /// KVM's extensions.
        child "kvm" kvm: KvmFeatures,
        /// Xen's extensions.
        child "xen" xen: XenFeatures,
        /// The unit that counts events of the processor.
        child "pmu" pmu: State,
        /// VMware's port.
        child "vmport" vmport: State,
        /// The interrupt controller of ARM.
        child "gic" gic: Gic,
        /// System management mode.
        child "smm" smm: Smm,
        /// The interrupt controller of devices.
        child "ioapic" ioapic: IoApic,
        /// Page tables by hash (POWER).
        child "hpt" hpt: Hpt,
        /// Where a guest's kernel says where it is, for dumps.
        child "vmcoreinfo" vmcoreinfo: State,
        /// Transactional memory (POWER).
        child "htm" htm: State,
        /// Nested guests (POWER).
        child "nested-hv" nested_hv: State,
        /// Locks that give way when the holder does not run.
        child "pvspinlock" pvspinlock: State,
        /// The console's input (POWER).
        child "ccf-assist" ccf_assist: State,
        /// How unknown model-specific registers are met.
        child "msrs" msrs: Msrs,
        /// Translation of instructions.
        child "tcg" tcg: Tcg,
        /// Taking memory down after the end.
        child "async-teardown" async_teardown: Enabled,
        /// RAS events (ARM).
        child "ras" ras: State,
        /// The keyboard's controller.
        child "ps2" ps2: State,
        /// Cache flushes that firmware asks for (POWER).
        child "cfpc" cfpc: Valued,
        /// Barriers against speculation (POWER).
        child "sbbc" sbbc: Valued,
        /// Indirect branches (POWER).
        child "ibs" ibs: Valued,
        /// Memory of the confidential kind (ARM).
        child "aia" aia: Valued,
    }
}

element! {
    /// A word.
    pub struct Valued main "value" {
        /// The word.
        attr "value" value: String,
    }
}

element! {
    /// Interrupt controllers in the processors.
    pub struct Apic {
        /// Whether ends of interrupts are told without an exit.
        attr "eoi" eoi: OnOff,
    }
}

choice! {
    /// How Hyper-V's extensions are chosen.
    pub enum HypervMode {
        /// One by one.
        Custom = "custom",
        /// All that the host can do, told where the guest starts.
        HostModel = "host-model",
        /// All that the host can do.
        Passthrough = "passthrough",
    }
}

element! {
    /// Hyper-V's extensions.
    pub struct Hyperv {
        /// How they are chosen.
        attr "mode" mode: HypervMode,
        /// Relaxed timers.
        child "relaxed" relaxed: State,
        /// A virtual interrupt controller.
        child "vapic" vapic: State,
        /// Locks that tell of waiting.
        child "spinlocks" spinlocks: Spinlocks,
        /// Numbers of processors.
        child "vpindex" vpindex: State,
        /// Time spent running.
        child "runtime" runtime: State,
        /// A synthetic interrupt controller.
        child "synic" synic: State,
        /// Synthetic timers.
        child "stimer" stimer: Stimer,
        /// Resetting.
        child "reset" reset: State,
        /// The maker's name.
        child "vendor_id" vendor_id: VendorId,
        /// Frequencies.
        child "frequencies" frequencies: State,
        /// Telling of a move to another host.
        child "reenlightenment" reenlightenment: State,
        /// Flushing of translations.
        child "tlbflush" tlbflush: TlbFlush,
        /// Interrupts between processors.
        child "ipi" ipi: State,
        /// Control structures of nested guests.
        child "evmcs" evmcs: State,
        /// Interrupt controllers by hardware.
        child "avic" avic: State,
        /// Bitmaps of registers of nested guests.
        child "emsr_bitmap" emsr_bitmap: State,
        /// Calls with wide registers.
        child "xmm_input" xmm_input: State,
    }
}

element! {
    /// Locks that tell of waiting.
    pub struct Spinlocks main "state" {
        /// Whether they do.
        attr "state" state: OnOff,
        /// After how many tries.
        attr "retries" retries: u32,
    }
}

element! {
    /// Synthetic timers.
    pub struct Stimer main "state" {
        /// Whether there are.
        attr "state" state: OnOff,
        /// Whether they interrupt directly.
        child "direct" direct: State,
    }
}

element! {
    /// Flushing of translations.
    pub struct TlbFlush main "state" {
        /// Whether guests may ask.
        attr "state" state: OnOff,
        /// Directly by nested guests.
        child "direct" direct: State,
        /// In the longer form.
        child "extended" extended: State,
    }
}

element! {
    /// A maker's name.
    pub struct VendorId main "value" {
        /// Whether it is told.
        attr "state" state: OnOff,
        /// The name, at most 12 letters.
        attr "value" value: Text,
    }
}

element! {
    /// KVM's extensions.
    pub struct KvmFeatures {
        /// Whether the guest is kept from knowing.
        child "hidden" hidden: State,
        /// Whether processors are the guest's alone.
        child "hint-dedicated" hint_dedicated: State,
        /// Whether waiting may go on in the guest.
        child "poll-control" poll_control: State,
        /// Interrupts between processors by one call.
        child "pv-ipi" pv_ipi: State,
        /// Rings of pages written to.
        child "dirty-ring" dirty_ring: DirtyRing,
    }
}

element! {
    /// Rings of pages written to.
    pub struct DirtyRing main "state" {
        /// Whether there are.
        attr "state" state: OnOff,
        /// Their size: a power of two, 1024 to 65536.
        attr "size" size: u32,
    }
}

element! {
    /// Xen's extensions.
    pub struct XenFeatures {
        /// The host's memory layout.
        child "e820_host" e820_host: State,
        /// Devices handed through.
        child "passthrough" passthrough: XenPassthrough,
    }
}

element! {
    /// Devices handed through to a guest of Xen.
    pub struct XenPassthrough main "state" {
        /// Whether they may be.
        attr "state" state: OnOff,
        /// How.
        attr "mode" mode: XenPassthroughMode,
    }
}

choice! {
    /// How devices are handed through.
    pub enum XenPassthroughMode { SyncPt = "sync_pt", SharePt = "share_pt" }
}

choice! {
    /// A version of ARM's interrupt controller; the host's own where not said.
    pub enum GicVersion { V2 = "2", V3 = "3", Host = "host" }
}

element! {
    /// The interrupt controller of ARM.
    pub struct Gic main "version" {
        /// Its version.
        attr "version" version: GicVersion,
    }
}

element! {
    /// System management mode.
    pub struct Smm main "state" {
        /// Whether there is.
        attr "state" state: OnOff,
        /// Its memory; MiB where no unit is given.
        child "tseg" tseg: Tseg,
    }
}

element! {
    /// The memory of system management mode.
    pub struct Tseg {
        /// How much.
        sized "value" value: MibSize,
    }
}

choice! {
    /// What makes a device's interrupt controller.
    pub enum IoApicDriver { Kvm = "kvm", Qemu = "qemu" }
}

element! {
    /// The interrupt controller of devices.
    pub struct IoApic main "driver" {
        /// What makes it.
        attr "driver" driver: IoApicDriver,
    }
}

element! {
    /// Page tables by hash.
    pub struct Hpt {
        /// How they are resized.
        attr "resizing" resizing: String,
        /// The largest page.
        child "maxpagesize" maxpagesize: super::CurrentMemory,
    }
}

choice! {
    /// How unknown registers are met.
    pub enum MsrsUnknown { Ignore = "ignore", Fault = "fault" }
}

element! {
    /// Model-specific registers.
    pub struct Msrs main "unknown" {
        /// How unknown ones are met.
        attr "unknown" unknown: MsrsUnknown,
    }
}

element! {
    /// Translation of instructions.
    pub struct Tcg {
        /// The memory for what was translated.
        child "tb-cache" tb_cache: TbCache,
    }
}

element! {
    /// The memory for what was translated.
    pub struct TbCache {
        /// How much.
        sized "value" value: KibSize,
    }
}

choice! {
    /// Which of the kernel's capabilities a container has where it is not said.
    pub enum CapabilitiesPolicy {
        /// The usual ones.
        Default = "default",
        /// All.
        Allow = "allow",
        /// None.
        Deny = "deny",
    }
}

element! {
    /// What a container's root may do: the kernel's capabilities, each on or off.
    pub struct Capabilities main "policy" {
        /// Which it has where it is not said.
        attr "policy" policy: CapabilitiesPolicy,
        /// Setting the rules of auditing.
        child "audit_control" audit_control: State,
        /// Writing to the log of auditing.
        child "audit_write" audit_write: State,
        /// Keeping the machine awake.
        child "block_suspend" block_suspend: State,
        /// Changing the owners of files.
        child "chown" chown: State,
        /// Passing by the rights of files.
        child "dac_override" dac_override: State,
        /// Reading any file and directory.
        child "dac_read_search" dac_read_search: State,
        /// Acting as the owner of files.
        child "fowner" fowner: State,
        /// Keeping set-id bits of files that change.
        child "fsetid" fsetid: State,
        /// Locking memory.
        child "ipc_lock" ipc_lock: State,
        /// Passing by the rights of shared memory and queues.
        child "ipc_owner" ipc_owner: State,
        /// Sending signals to any process.
        child "kill" kill: State,
        /// Leases of files.
        child "lease" lease: State,
        /// Making files unchangeable.
        child "linux_immutable" linux_immutable: State,
        /// Changing the rules of mandatory access.
        child "mac_admin" mac_admin: State,
        /// Passing by these rules.
        child "mac_override" mac_override: State,
        /// Making device files.
        child "mknod" mknod: State,
        /// Changing the network.
        child "net_admin" net_admin: State,
        /// Ports below 1024.
        child "net_bind_service" net_bind_service: State,
        /// Broadcasts.
        child "net_broadcast" net_broadcast: State,
        /// Raw sockets.
        child "net_raw" net_raw: State,
        /// Changing groups.
        child "setgid" setgid: State,
        /// Giving capabilities to files.
        child "setfcap" setfcap: State,
        /// Giving capabilities to processes.
        child "setpcap" setpcap: State,
        /// Changing users.
        child "setuid" setuid: State,
        /// The many things of an administrator's.
        child "sys_admin" sys_admin: State,
        /// Rebooting.
        child "sys_boot" sys_boot: State,
        /// Changing the root directory.
        child "sys_chroot" sys_chroot: State,
        /// Loading modules.
        child "sys_module" sys_module: State,
        /// Priorities of processes.
        child "sys_nice" sys_nice: State,
        /// Accounting of processes.
        child "sys_pacct" sys_pacct: State,
        /// Looking into processes.
        child "sys_ptrace" sys_ptrace: State,
        /// Ports of the machine.
        child "sys_rawio" sys_rawio: State,
        /// Passing by limits.
        child "sys_resource" sys_resource: State,
        /// Setting the clock.
        child "sys_time" sys_time: State,
        /// Hanging up terminals.
        child "sys_tty_config" sys_tty_config: State,
        /// The kernel's log.
        child "syslog" syslog: State,
        /// Waking the machine.
        child "wake_alarm" wake_alarm: State,
    }
}
