//! A guest as it will really be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vireo_schema::domain::disk::{
    CacheMode, DetectZeroes, Discard, DiskIo, ErrorPolicy, ReadErrorPolicy,
};

pub use super::memory::{Cell, HostNodes, Memory, NodeMode};
pub use super::tuning::Tuning;

use super::limits::Limits;
use super::storage::ImageFormat;
use super::{Driver, WantedState};

/// A guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// Identity.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// Who runs it.
    pub driver: Driver,
    /// Why that driver, as an operator would say it.
    pub driver_why: String,
    /// Software emulation instead of KVM (`type='qemu'`).
    pub emulated: bool,
    /// What kind of machine.
    pub machine: Machine,
    /// Memory.
    pub memory: Memory,
    /// Virtual processors.
    pub vcpus: Vcpus,
    /// What the guest's processors look like.
    pub cpu: Cpu,
    /// Where it boots from.
    pub boot: Boot,
    /// Disks, in the order of the definition.
    pub disks: Vec<Disk>,
    /// Network interfaces, in the order of the definition.
    pub interfaces: Vec<Interface>,
    /// Character devices.
    pub chardevs: Vec<Chardev>,
    /// Devices that a driver needs to know no more of than their attributes, each as one plain record.
    pub extras: Vec<Extra>,
    /// The random number device.
    pub rng: Option<Rng>,
    /// The memory balloon (`<memballoon model='virtio'>`, the default).
    pub balloon: bool,
    /// The balloon's `<address>`.
    #[serde(default)]
    pub balloon_address: Option<Address>,
    /// What the balloon does beside giving memory up.
    #[serde(default)]
    pub balloon_options: BalloonOptions,
    /// What the battery-backed clock shows.
    pub clock: Clock,
    /// What the guest's ends lead to.
    pub events: Events,
    /// Control group values. Applied live.
    pub tuning: Tuning,
    /// Where the monitor's threads run, for the builtin driver.
    #[serde(default)]
    pub pins: Pins,
    /// What libvirt's format cannot say.
    pub lifecycle: Lifecycle,
    /// `qemu:commandline` arguments, kept as they are; empty under the builtin driver.
    pub qemu_arguments: Vec<String>,
}

/// `<os><type arch machine>` and the features that are switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor architecture; `x86_64`.
    pub arch: String,
    /// QEMU's machine type, where stated; `None` is the driver's choice.
    pub machine: Option<String>,
    /// Stated emulator binary.
    pub emulator: Option<PathBuf>,
    /// `<features><acpi/>`; off only when the definition has a `<features>` without it, for QEMU.
    pub acpi: bool,
    /// SMBIOS strings: `system.manufacturer` and such.
    pub sysinfo: BTreeMap<String, String>,
}

/// Virtual processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vcpus {
    /// `<vcpu>`: how many at most.
    pub maximum: u32,
    /// `<vcpu current=…>`: how many at boot.
    pub current: u32,
    /// Sockets, dies, cores, threads, where stated.
    pub topology: Option<[u32; 4]>,
}

/// `<cpu>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// `host-passthrough`, `host-model`, `maximum`, `custom`, or `None` for the driver's default.
    pub mode: Option<String>,
    /// A named model, for `custom`.
    pub model: Option<String>,
    /// Features with their policy (`force`, `require`, `optional`, `disable`).
    pub features: Vec<(String, String)>,
    /// The guest may not start with less than is asked (`check='full'`).
    #[serde(default)]
    pub exact: bool,
    /// `migratable`: whether features that would keep it from another host are left out, where stated.
    #[serde(default)]
    pub migratable: Option<bool>,
}

/// Where a guest boots from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// A kernel from the host.
    Kernel {
        /// bzImage or ELF.
        kernel: PathBuf,
        /// Initial file system.
        initrd: Option<PathBuf>,
        /// Command line.
        cmdline: String,
    },
    /// What the boot configuration on one of its disks names, looked up by the guest's monitor at each boot.
    Disk {
        /// `<target dev>` of the disk.
        target: String,
        /// What is added to the configuration's own arguments.
        cmdline: String,
    },
    /// Firmware, which boots the devices in this order (`hd`, `cdrom`, `network`, `fd`); per-device orders are in the devices.
    Firmware {
        /// UEFI instead of BIOS (`<os firmware='efi'>`).
        efi: bool,
        /// `<loader>`.
        loader: Option<PathBuf>,
        /// `<loader type='pflash'>`: the loader is mapped as flash memory, beside that of its variables.
        #[serde(default)]
        flash: bool,
        /// `<nvram>`.
        nvram: Option<PathBuf>,
        /// `<nvram template>`: what variables that are not there yet are made from.
        #[serde(default)]
        template: Option<PathBuf>,
        /// `<boot dev=…>`, in order.
        order: Vec<String>,
    },
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// `<target dev>`: `vda`. Unique in the guest.
    pub target: String,
    /// `virtio`, `ide`, `sata`, `scsi`, `usb`, `fdc`.
    pub bus: String,
    /// `disk`, `cdrom`, `floppy`, `lun`.
    pub device: String,
    /// The image or block device; `None` is an empty drive.
    pub path: Option<PathBuf>,
    /// The volume it came from (`pool/volume`), for dependencies.
    pub volume: Option<String>,
    /// The image's format.
    pub format: ImageFormat,
    /// The guest may not write.
    pub readonly: bool,
    /// Several guests may open it.
    pub shareable: bool,
    /// `<driver cache>`; `None` is the driver's choice.
    pub cache: Option<CacheMode>,
    /// `<driver io>`; `None` is the driver's choice.
    pub io: Option<DiskIo>,
    /// `<driver discard>`; `None` is the driver's choice.
    pub discard: Option<Discard>,
    /// `<serial>`, at most 20 bytes for virtio.
    pub serial: Option<String>,
    /// `<driver detect_zeroes>`: on or unmap; `None` is off.
    #[serde(default)]
    pub detect_zeroes: Option<DetectZeroes>,
    /// `<driver queues>`.
    #[serde(default)]
    pub queues: Option<u32>,
    /// `<driver queue_size>`: requests that each queue holds.
    #[serde(default)]
    pub queue_size: Option<u32>,
    /// `<driver error_policy>`: report, stop or ignore; `None` is enospace, as in QEMU.
    #[serde(default)]
    pub error_policy: Option<ErrorPolicy>,
    /// `<driver rerror_policy>`, or else what is said of all errors: stop or ignore; `None` is report, as in QEMU.
    #[serde(default)]
    pub rerror_policy: Option<ReadErrorPolicy>,
    /// `<iotune>`. Applied live.
    #[serde(default)]
    pub limits: Limits,
    /// `<boot order>`.
    pub boot_order: Option<u32>,
    /// `<address>`.
    #[serde(default)]
    pub address: Option<Address>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its place in the definition, from 0.
    pub index: usize,
    /// Hardware address, stated or derived.
    pub mac: [u8; 6],
    /// The host's end.
    pub source: InterfaceSource,
    /// The tap's name, stated or derived.
    pub tap: String,
    /// `virtio`, `e1000`, `rtl8139`, …
    pub model: String,
    /// MTU in bytes, where stated.
    pub mtu: Option<u32>,
    /// `<link state='down'>` is false. Applied live.
    pub link_up: bool,
    /// `<filterref>`. Applied live.
    pub filter: Option<FilterRef>,
    /// `<bandwidth>`. Applied live.
    pub bandwidth: Bandwidth,
    /// `<boot order>`.
    pub boot_order: Option<u32>,
    /// `<driver queues>`.
    pub queues: Option<u32>,
    /// `<driver><host/><guest/>`: what one side may leave to the other or not, where stated, by `host-csum`, `guest-tso4` and such.
    #[serde(default)]
    pub offloads: BTreeMap<String, bool>,
    /// `<driver rx_queue_size>`: buffers that each queue to the guest holds.
    #[serde(default)]
    pub rx_queue_size: Option<u32>,
    /// `<driver tx_queue_size>`: the same of queues from the guest.
    #[serde(default)]
    pub tx_queue_size: Option<u32>,
    /// `<driver name>`: whether the kernel's vhost moves the packets; `None` is where the host has it.
    #[serde(default)]
    pub vhost: Option<bool>,
    /// `<address>`.
    #[serde(default)]
    pub address: Option<Address>,
}

/// What an interface is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceSource {
    /// A network of ours: its identity, its name and its bridge.
    Network {
        /// Identity.
        uuid: Uuid,
        /// Name.
        name: String,
        /// The bridge the tap goes into.
        bridge: String,
    },
    /// An existing bridge.
    Bridge {
        /// The link's name.
        bridge: String,
    },
    /// A tap in no bridge.
    Ethernet,
    /// A device of the host's own, which the guest shares: a macvtap.
    Direct {
        /// The device's name.
        device: String,
        /// How it is shared.
        mode: DirectMode,
    },
    /// User-mode networking, QEMU only: no tap.
    User,
}

impl InterfaceSource {
    /// The bridge that the tap is put into.
    pub fn bridge(&self) -> Option<&str> {
        match self {
            Self::Network { bridge, .. } | Self::Bridge { bridge } => Some(bridge),
            Self::Ethernet | Self::Direct { .. } | Self::User => None,
        }
    }

    /// Whether the interface has a link of its own on the host.
    pub fn has_link(&self) -> bool {
        *self != Self::User
    }

    /// Whether that is a tap.
    pub fn is_tap(&self) -> bool {
        self.has_link() && !matches!(self, Self::Direct { .. })
    }
}

/// How guests share a device of the host's. Source: libvirt's domain format, "Direct attachment to physical interface"; linux/if_link.h, `enum macvlan_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirectMode {
    /// All packets go out, and those to other guests come back from the switch outside.
    Vepa,
    /// Packets to other guests on the device in this mode go there directly.
    Bridge,
    /// No packet goes to other guests on the device.
    Private,
    /// The guest has the device alone.
    Passthrough,
}

/// A reference to a packet filter with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterRef {
    /// The filter's name.
    pub filter: String,
    /// Values by variable name, in the order of the definition.
    pub parameters: BTreeMap<String, Vec<String>>,
}

/// `<bandwidth>`. Rates as libvirt states them: KiB a second; bursts in KiB. Source: libvirt's network format, "Quality of service".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Towards the guest.
    pub inbound: Option<Rate>,
    /// From the guest.
    pub outbound: Option<Rate>,
}

/// One direction of a bandwidth limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Average, KiB/s, at least 1.
    pub average: u64,
    /// Peak, KiB/s.
    pub peak: Option<u64>,
    /// Burst, KiB.
    pub burst: Option<u64>,
}

/// A character device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chardev {
    /// `serial`, `console`, `channel`, `parallel`.
    pub class: String,
    /// The host's side.
    pub backend: Backend,
    /// `<target type>`: `isa-serial`, `virtio`, …
    pub target: String,
    /// `<target name>` of a channel.
    pub name: Option<String>,
    /// `<target port>`.
    pub port: Option<u32>,
    /// `<log file>`.
    pub log: Option<PathBuf>,
    /// `<address>`.
    #[serde(default)]
    pub address: Option<Address>,
}

/// The host's side of a character device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// A pseudo terminal.
    Pty,
    /// A file, written.
    File(PathBuf),
    /// A listening unix socket; `None` is a path of vireo's choice.
    Unix(Option<PathBuf>),
    /// A unix socket that somebody else listens on.
    UnixCall(PathBuf),
    /// TCP: host, service, whether it listens.
    Tcp(String, String, bool),
    /// Thrown away.
    Null,
    /// SPICE's own channel.
    SpiceVmc,
}

/// A device reduced to what its monitor has to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// The element: `graphics`, `video`, `input`, `sound`, `controller`, `redirdev`, `watchdog`, …
    pub class: String,
    /// Attributes and children's attributes by dotted path: `type`, `model.type`, `listen.address`.
    pub fields: BTreeMap<String, String>,
    /// `<address>`.
    #[serde(default)]
    pub address: Option<Address>,
}

/// `<address>`: where a device sits in the guest, by the bus that it is on. Source: libvirt's domain format, "Device addresses".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// On PCI, in domain 0.
    Pci {
        /// The bus's number: 0 is the root.
        bus: u32,
        /// 0 to 31.
        slot: u32,
        /// 0 to 7.
        function: u32,
        /// Other functions share the slot.
        multifunction: bool,
    },
    /// On a controller of drives.
    Drive {
        /// The controller's index.
        controller: u32,
        /// The controller's bus.
        bus: u32,
        /// SCSI's target.
        target: u32,
        /// Unit on the bus, or SCSI's logical unit.
        unit: u32,
    },
    /// On a virtio serial controller.
    VirtioSerial {
        /// The controller's index.
        controller: u32,
        /// The port's number.
        port: u32,
    },
    /// On USB.
    Usb {
        /// The controller's index.
        bus: u32,
        /// The port: `1`, or `1.2` behind a hub.
        port: Option<String>,
    },
    /// On ISA.
    Isa {
        /// The first I/O port.
        iobase: Option<u32>,
        /// The interrupt.
        irq: Option<u32>,
    },
}

/// What a memory balloon does beside giving memory up when it is asked to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalloonOptions {
    /// `autodeflate='on'`: the guest takes memory back before it runs out of it.
    pub autodeflate: bool,
    /// `freePageReporting`: whether the guest tells of pages that it does not use; `None` is the driver's choice.
    pub free_page_reporting: Option<bool>,
    /// `<stats period>`: seconds between the guest's reports of its memory, at least 1; `None` is on demand.
    pub period: Option<u32>,
}

/// The random number device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rng {
    /// Where the entropy comes from; `/dev/urandom` by default.
    pub source: PathBuf,
    /// `<address>`.
    #[serde(default)]
    pub address: Option<Address>,
}

/// `<clock offset>`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// Coordinated universal time.
    #[default]
    Utc,
    /// The host's local time.
    Localtime,
    /// The time of a zone of the host's database, by name.
    Timezone(String),
    /// So far ahead of its basis as the guest last made it.
    Variable {
        /// What it is counted from.
        basis: ClockBasis,
        /// Seconds ahead at the first start: at most [`Clock::FARTHEST`] either way.
        adjustment: i64,
    },
    /// This time at each start, in seconds since 1970: at most [`Clock::FARTHEST`].
    Absolute(u64),
}

impl Clock {
    /// The farthest that a clock is from universal time, in seconds: what four digits of years can show.
    pub const FARTHEST: u64 = 253_402_300_799;
}

/// What a variable clock is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockBasis {
    /// Coordinated universal time.
    Utc,
    /// The host's local time.
    Localtime,
}

/// `<on_poweroff>`, `<on_reboot>`, `<on_crash>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Default: destroy.
    pub on_poweroff: Action,
    /// Default: restart.
    pub on_reboot: Action,
    /// Default: destroy.
    pub on_crash: Action,
}

/// What an end leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The guest ends.
    Destroy,
    /// The guest starts again.
    Restart,
    /// The guest's process is kept for a look.
    Preserve,
    /// After a crash: a core dump is written, and the guest ends.
    CoredumpDestroy,
    /// After a crash: a core dump is written, and the guest starts again.
    CoredumpRestart,
}

/// Which of the host's processors the threads of a guest's monitor run on. A thread that is not here is not pinned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// `<emulatorpin>`: all threads that are neither vcpus nor named here.
    pub emulator: Option<BTreeSet<u32>>,
    /// `<vcpupin>`, by vcpu.
    pub vcpus: BTreeMap<u32, BTreeSet<u32>>,
    /// `<iothreadpin>`, by the target of each disk whose `<driver iothread>` it is.
    pub disks: BTreeMap<String, BTreeSet<u32>>,
}

/// What libvirt's format cannot say about a guest's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// The state it is wanted in.
    pub wanted: WantedState,
    /// How long the guest may take to shut down before it is forced.
    pub shutdown_timeout: Duration,
}
