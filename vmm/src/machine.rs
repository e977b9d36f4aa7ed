//! The machine: memory, vcpus, interrupt controllers, buses and devices, put together.
//!
//! In comes a [`Guest`]; out goes a machine that is commanded by one owner and speaks through [`Notice`](crate::notice::Notice)s. Building it opens
//! everything that it will ever need, so that privileges can be given up before [`Machine::start`] makes the vcpus' threads. What the guest boots is a stranger's file,
//! or a stranger's file system: [`Machine::load`] reads it once the whole monitor is inside its sandbox.
//!
//! A reset does not build a new machine: KVM's machine, the vcpus' threads, open images, taps and terminals stay, the devices and
//! registers go back to power on, memory is given back to the host, and the kernel is loaded again from files that are still open, or from where the disk's
//! boot configuration now says. So it needs no
//! privilege that was dropped, and the guest's process, console and control socket stay what they are.

mod chips;
mod disks;
mod plug;

use std::io;
use std::sync::{Arc, Mutex};

use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use crate::acpi::{self, AcpiError};
use crate::boot::{self, BootError, Images};
use crate::bus::{Bus, BusError, SharedDevice, lock};
use crate::clock::Origin;
use crate::config::{self, Bytes, Guest, Limits, LinkState};
use crate::console::Console;
use crate::control::wire::{BalloonStats, DiskStats};
use crate::core_dump::CoreFile;
use crate::cpuid::topology::Topology;
use crate::cpuid::{CpuError, Host, Processors};
use crate::devices::i8042::I8042;
use crate::devices::pm::{self, PowerManagement};
use crate::devices::rtc::Rtc;
use crate::devices::serial::Com1;
use crate::devices::virtio::console::PortState;
use crate::interrupt::{self, KvmIrqFd, KvmIrqLine};
use crate::layout;
use crate::memory::{self, MemoryError};
use crate::notice::Notifier;
use crate::pin::{PinError, Pinning};
use crate::sandbox::{Role, Sandbox};
use crate::smbios::{self, SmbiosError};
use crate::vcpu::{Core, Registers, StateError, Vcpu, VcpuError};
use chips::Chips;

pub use disks::{NoDisk, ResizeError};
pub use plug::PlugError;

/// Why there is no machine.
#[derive(Debug, Error)]
pub enum MachineError {
    /// There is no KVM, or it may not be used.
    #[error(
        "could not open /dev/kvm: the host's processor needs virtualisation turned on, a kernel module kvm_intel or kvm_amd, and this user access"
    )]
    NoKvm(#[source] kvm_ioctls::Error),
    /// KVM is too old or too small.
    #[error("this host's kvm lacks {0}")]
    Lacks(&'static str),
    /// A call of KVM failed.
    #[error("kvm could not {what}")]
    Kvm {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: kvm_ioctls::Error,
    },
    /// More vcpus than the host's KVM can give a guest.
    #[error("the guest wants {wanted} vcpus, this host's kvm gives at most {most}")]
    TooManyVcpus {
        /// What was wanted.
        wanted: u32,
        /// What is possible.
        most: usize,
    },
    /// Memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// ACPI tables.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// SMBIOS tables.
    #[error(transparent)]
    Smbios(#[from] SmbiosError),
    /// Kernel and initrd.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A thread cannot run where it is to.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Vcpus.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// Registers.
    #[error(transparent)]
    State(#[from] StateError),
    /// Two devices want one address.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The host cannot give the guest the processor that was asked for.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The configuration names neither a kernel nor a disk that is there.
    #[error("the guest has neither a kernel nor a disk to boot from")]
    NothingToBoot,
    /// The thread that reads what a disk boots could not be started.
    #[error("could not start the thread that reads what disk {disk} boots")]
    Reader {
        /// The disk.
        disk: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The host cannot make the time stamp counter go so fast.
    #[error("this host's kvm cannot give the guest a time stamp counter of {wanted} kHz: its own has {own} kHz{}", if *.scales { "" } else { ", and its processor does not scale it" })]
    Tsc {
        /// What was wanted.
        wanted: u32,
        /// The host's.
        own: u32,
        /// The host's processor can scale it.
        scales: bool,
    },
    /// A device of the configuration.
    #[error(transparent)]
    Plug(#[from] PlugError),
    /// The process has no descriptor left.
    #[error("could not make an event descriptor for {what}")]
    Event {
        /// For what.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl MachineError {
    fn kvm(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |source| Self::Kvm { what, source }
    }
}

/// The guest has no interface of this name.
#[derive(Debug, Error)]
#[error("the guest has no interface {0:?}")]
pub struct NoInterface(pub String);

/// Why the balloon cannot be changed.
#[derive(Debug, Error)]
pub enum BalloonError {
    /// There is none.
    #[error("the guest has no balloon")]
    None,
    /// It would need more memory than there is.
    #[error("the guest cannot keep {target}: its memory has {size}")]
    TooLarge {
        /// What was asked for.
        target: Bytes,
        /// What there is.
        size: Bytes,
    },
}

/// A machine. Fields are dropped in this order: threads first, memory last.
pub struct Machine {
    vcpus: Vec<Vcpu>,
    /// Vcpus whose threads have not been started.
    cores: Vec<Core>,
    devices: Devices,
    chips: Chips,
    images: Images,
    vm: Arc<VmFd>,
    memory: GuestMemoryMmap,
    places: Places,
    notifier: Notifier,
}

/// What memory and firmware tables are made from, at every reset again.
struct Places {
    apic_ids: Vec<u8>,
    memory: config::Memory,
    /// There is a panic device at its port.
    pvpanic: bool,
    /// Number of the last PCI bus.
    last_bus: u8,
    smbios: Vec<u8>,
}

impl Places {
    /// Writes the firmware's tables; gives the address of their root.
    fn write(&self, memory: &GuestMemoryMmap) -> Result<u64, MachineError> {
        smbios::write(memory, &self.smbios)?;
        let board = acpi::Board {
            processors: &self.apic_ids,
            memory: &self.memory,
            pvpanic: self.pvpanic,
            last_bus: self.last_bus,
        };
        Ok(acpi::write(memory, &board)?)
    }
}

/// Devices that the owner speaks to.
struct Devices {
    power: Arc<Mutex<PowerManagement>>,
    serial: Arc<Mutex<Com1>>,
    rtc: Arc<Mutex<Rtc>>,
    plugged: plug::Plugged,
}

impl Machine {
    /// Builds a machine with everything open and nothing loaded.
    pub fn build(
        guest: &Guest,
        console: &Console,
        notifier: &Notifier,
        sandbox: &Sandbox,
        pinning: &Pinning<'_>,
        clock: Origin,
    ) -> Result<Self, MachineError> {
        let kvm = open_kvm(guest.vcpus.count)?;
        let memory = memory::map(&guest.memory)?;
        let vm = Arc::new(
            kvm.create_vm()
                .map_err(MachineError::kvm("make a machine"))?,
        );
        // Before the chips: they leave the kernel in the middle of something that the memory would have to wait for, for milliseconds.
        memory::register(&vm, &memory)?;
        let chips = Chips::create(&vm, guest.clock.pit)?;

        let ports = Arc::new(Bus::new());
        let mmio = Arc::new(Bus::new());
        let power = shared(PowerManagement::new(
            Arc::new(KvmIrqLine::new(Arc::clone(&vm), layout::IRQ_SCI)),
            notifier.clone(),
        ));
        let line = KvmIrqFd::new(&vm, layout::IRQ_COM1).map_err(|source| MachineError::Event {
            what: "the serial port",
            source,
        })?;
        let serial = shared(Com1::new(
            Arc::new(line),
            Box::new(console.sink()),
            console.wanted(),
        ));
        let rtc = shared(Rtc::new(clock, notifier.clone()));
        let fixed: [(_, SharedDevice); 4] = [
            (pm::PORTS, power.clone()),
            (layout::PORT_COM1, serial.clone()),
            (layout::PORT_RTC, rtc.clone()),
            (layout::PORT_I8042, shared(I8042::new(notifier.clone()))),
        ];
        for (range, device) in fixed {
            ports.insert(range.start.into(), range.len() as u64, device)?;
        }
        let buses = plug::Buses {
            vm: &vm,
            memory: &memory,
            ports: &ports,
            mmio: &mmio,
            notifier,
        };
        let plugged = plug::plug(guest, &buses, sandbox, pinning)?;

        let images = open_images(guest, &plugged, sandbox)?;
        let processors = processors(&kvm, guest)?;
        let count = guest.vcpus.count;
        let places = Places {
            apic_ids: (0..count).map(|n| processors.apic_id(n) as u8).collect(),
            memory: guest.memory.clone(),
            pvpanic: plug::has_pvpanic_port(guest),
            last_bus: guest.last_bus(),
            smbios: smbios::image(guest),
        };

        let mut cores = Vec::new();
        for id in 0..count {
            let fd = vm
                .create_vcpu(processors.apic_id(id).into())
                .map_err(MachineError::kvm("make a vcpu"))?;
            if let Some(wanted) = guest.clock.tsc_khz {
                set_tsc(&kvm, &fd, wanted)?;
            }
            let features = processors.table(id);
            let features = kvm_bindings::CpuId::from_entries(&features)
                .map_err(|_| MachineError::Lacks("room for the vcpu's features"))?;
            fd.set_cpuid2(&features)
                .map_err(MachineError::kvm("give a vcpu its features"))?;
            let pristine = Registers { fd: &fd, id }.pristine()?;
            cores.push(Core {
                fd,
                id,
                pristine,
                memory: memory.clone(),
                ports: Arc::clone(&ports),
                mmio: Arc::clone(&mmio),
                notifier: notifier.clone(),
            });
        }
        let devices = Devices {
            power,
            serial,
            rtc,
            plugged,
        };
        Ok(Self {
            vcpus: Vec::new(),
            cores,
            devices,
            chips,
            images,
            vm,
            memory,
            places,
            notifier: notifier.clone(),
        })
    }

    /// Starts the vcpus' threads, at rest and on their way into the sandbox.
    pub fn start(&mut self, sandbox: &Sandbox, pinning: &Pinning<'_>) -> Result<(), MachineError> {
        for core in std::mem::take(&mut self.cores) {
            let sandbox = sandbox.clone();
            let number = core.id;
            let start = || Vcpu::start(core, move || sandbox.enter(Role::Vcpu));
            self.vcpus.push(pinning.vcpu(number, start)??);
        }
        Ok(())
    }

    /// Loads what the guest boots into its memory, which must read as zeroes, and puts the vcpus where it begins. The guest must be at rest and stays so.
    pub fn load(&mut self) -> Result<(), MachineError> {
        for vcpu in &mut self.vcpus {
            vcpu.entered().map_err(VcpuError::from)?;
        }
        let rsdp = self.places.write(&self.memory)?;
        let entry = self.images.load(&self.memory, rsdp)?;
        for vcpu in &self.vcpus {
            vcpu.reset(entry);
        }
        for vcpu in &self.vcpus {
            vcpu.wait()?;
        }
        Ok(())
    }

    /// Lets the guest run.
    pub fn run(&self) {
        self.notifier.guest_begins();
        self.devices.plugged.release();
        for vcpu in &self.vcpus {
            vcpu.run();
        }
    }

    /// Stops the guest where it is; it rests when this returns.
    pub fn pause(&self) {
        for vcpu in &self.vcpus {
            vcpu.hold();
        }
        for vcpu in &self.vcpus {
            // Only a reset can leave a failure behind, and it is collected there.
            let _ = vcpu.wait();
        }
        self.devices.plugged.hold();
    }

    /// Gives every processor a non-maskable interrupt.
    pub fn inject_nmi(&self) -> io::Result<()> {
        // A message to all local APICs (Intel SDM, volume 3, section "Message Signalled Interrupts"): physical destination 0xff, delivery mode NMI.
        const EVERYBODY: u64 = 0xff << 12;
        const NMI: u32 = 0b100 << 8;
        interrupt::signal(&self.vm, layout::LOCAL_APIC | EVERYBODY, NMI)
    }

    /// Puts everything back to power on and loads the kernel again. The guest must be at rest and stays so.
    pub fn reset(&mut self) -> Result<(), MachineError> {
        self.devices.plugged.reset();
        lock(&self.devices.power).reset();
        lock(&self.devices.serial).reset();
        lock(&self.devices.rtc).reset();
        memory::discard(&self.memory, &self.places.memory)?;
        self.chips.reset(&self.vm)?;
        self.load()
    }

    /// Writes the guest's memory and registers to a core file. The guest must be at rest and stays so.
    pub fn dump(&self, core: &mut CoreFile) -> io::Result<u64> {
        let processors: Vec<_> = self.vcpus.iter().filter_map(Vcpu::look).collect();
        core.write(&self.memory, &processors)
    }

    /// Presses the power button.
    pub fn press_power_button(&self) {
        lock(&self.devices.power).press_power_button();
    }

    /// How far the guest's battery-backed clock is ahead of universal time, in seconds.
    pub fn clock_ahead(&self) -> i64 {
        lock(&self.devices.rtc).ahead()
    }

    /// The serial port, for keystrokes.
    pub fn serial(&self) -> &Mutex<Com1> {
        &self.devices.serial
    }

    /// Asks the guest to keep `target` of its memory and give the rest back.
    pub fn set_balloon(&self, target: Bytes) -> Result<(), BalloonError> {
        let size = self.places.memory.size;
        if target > size {
            return Err(BalloonError::TooLarge { target, size });
        }
        self.devices.plugged.set_balloon(target)
    }

    /// Pulls the cable of the interface named `id`, or puts it in; says whether that changed anything.
    pub fn set_link(&self, id: &str, state: LinkState) -> Result<bool, NoInterface> {
        self.devices.plugged.set_link(id, state)
    }

    /// Puts the disk named `id`, and with it those of its group, under these limits; says whether that changed anything.
    pub fn set_limits(&self, id: &str, limits: &Limits) -> Result<bool, NoDisk> {
        self.devices.plugged.disks().set_limits(id, limits)
    }

    /// Asks for the disk named `id` to be made larger; how far that is, is in [`Machine::disks`].
    pub fn grow_disk(&self, id: &str, capacity: Bytes) -> Result<(), ResizeError> {
        self.devices.plugged.disks().grow(id, capacity)
    }

    /// How the disks are.
    pub fn disks(&self) -> Vec<DiskStats> {
        self.devices.plugged.disks().stats()
    }

    /// How the host failed a disk so that the guest has to wait, if it did.
    pub fn disk_failure(&self) -> Option<String> {
        self.devices.plugged.disks().failure()
    }

    /// How the ports of the virtio console are.
    pub fn ports(&self) -> Vec<PortState> {
        self.devices.plugged.ports()
    }

    /// How the balloon is, if there is one.
    pub fn balloon(&self) -> Option<BalloonStats> {
        self.devices.plugged.balloon()
    }
}

/// Opens what the guest boots.
fn open_images(
    guest: &Guest,
    plugged: &plug::Plugged,
    sandbox: &Sandbox,
) -> Result<Images, MachineError> {
    let boot = &guest.boot;
    if let Some(kernel) = &boot.kernel {
        let files = boot::Files::open(kernel, boot.initrd.as_deref(), &boot.cmdline)?;
        return Ok(Images::Host(files));
    }
    let (Some(name), Some(bytes)) = (&boot.disk, plugged.boot_disk()) else {
        return Err(MachineError::NothingToBoot);
    };
    let spec = boot::disk::Spec {
        name: name.clone(),
        bytes,
        more: boot.cmdline.clone(),
        console: guest.serial.goes_anywhere(),
    };
    let sandbox = sandbox.clone();
    let disk = boot::disk::Disk::start(spec, move || {
        sandbox.enter(Role::Boot).map_err(io::Error::other)
    });
    disk.map(Images::Disk)
        .map_err(|source| MachineError::Reader {
            disk: name.clone(),
            source,
        })
}

/// The guest's processors, as far as this host can give them.
fn processors(kvm: &Kvm, guest: &Guest) -> Result<Processors, MachineError> {
    request_tile_registers();
    let supported = kvm
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .map_err(MachineError::kvm("say what its processors can do"))?;
    let host = Host {
        supported: supported.as_slice().to_vec(),
        deadline: kvm.check_extension(Cap::TscDeadlineTimer),
    };
    let mut processors = Processors::new(&host, &guest.cpu, Topology::new(&guest.vcpus))?;
    if !guest.clock.kvmclock {
        processors.hide_kvmclock();
    }
    Ok(processors)
}

/// Makes a vcpu's time stamp counter count so many kHz. A kernel whose processor cannot scale it would only let it jump after the faster one.
fn set_tsc(kvm: &Kvm, fd: &VcpuFd, wanted: u32) -> Result<(), MachineError> {
    /// What clocks of one nominal frequency differ by, in parts of a million.
    const TOLERANCE: u64 = 250;
    let own = fd.get_tsc_khz().unwrap_or(0);
    let scales = kvm.check_extension(Cap::TscControl);
    let near = u64::from(own.abs_diff(wanted)) * 1_000_000 <= u64::from(own) * TOLERANCE;
    let refused = MachineError::Tsc {
        wanted,
        own,
        scales,
    };
    if !scales && !near {
        return Err(refused);
    }
    fd.set_tsc_khz(wanted).map_err(|_| refused)
}

/// Asks the kernel to let guests use the tile registers (AMX), which it keeps back because of their size. Hosts without them refuse.
fn request_tile_registers() {
    // Of the kernel's arch/x86/include/uapi/asm/prctl.h.
    const ARCH_REQ_XCOMP_GUEST_PERM: libc::c_long = 0x1025;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes only what later vcpus may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_GUEST_PERM, TILE_DATA) };
}

fn shared<T>(device: T) -> Arc<Mutex<T>> {
    Arc::new(Mutex::new(device))
}

/// Opens KVM, having looked whether it can do what every guest needs.
fn open_kvm(vcpus: u32) -> Result<Kvm, MachineError> {
    let kvm = Kvm::new().map_err(MachineError::NoKvm)?;
    if kvm.get_api_version() != kvm_bindings::KVM_API_VERSION.cast_signed() {
        return Err(MachineError::Lacks("the interface of this age"));
    }
    let needed = [
        (Cap::Irqchip, "interrupt controllers in the kernel"),
        (Cap::UserMemory, "memory from user space"),
        (Cap::SetTssAddr, "a place for its task state"),
        (Cap::Pit2, "a timer in the kernel"),
        (Cap::ExtCpuid, "processor features that can be chosen"),
        (Cap::Irqfd, "interrupts by descriptor"),
        (Cap::Ioeventfd, "notifications by descriptor"),
        (Cap::SignalMsi, "message-signalled interrupts"),
        (Cap::ImmediateExit, "immediate exits"),
    ];
    for (capability, what) in needed {
        if !kvm.check_extension(capability) {
            return Err(MachineError::Lacks(what));
        }
    }
    let most = kvm.get_max_vcpus();
    if vcpus as usize > most {
        return Err(MachineError::TooManyVcpus {
            wanted: vcpus,
            most,
        });
    }
    Ok(kvm)
}
