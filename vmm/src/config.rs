//! The guest as it was asked for: what `vireo-vmm --config` reads.
//!
//! In comes JSON or YAML (JSON is YAML, so one parser reads both), out goes a [`Guest`] that [`Guest::check`] has found
//! consistent, or a message naming the line, or the field and what would be accepted. Field names are kebab-case; unknown fields
//! are errors. This is the wire type: the machine's own types are made from it and may differ.
//!
//! ```yaml
//! name: web
//! uuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1
//! memory: {size: 536870912}
//! vcpus: {count: 2}
//! boot: {kernel: /boot/vmlinuz, initrd: /boot/initrd.img, cmdline: console=ttyS0 root=/dev/vda}
//! disks: [{id: vda, path: /var/lib/vireo/images/web.qcow2, format: qcow2}]
//! interfaces: [{id: net0, tap: vnet0, mac: '52:54:00:12:34:56'}]
//! rng: {}
//! serial: {pty: true, log: /var/log/vireo/web.log}
//! control: /run/vireo/guests/web/control
//! state: /run/vireo/guests/web/state
//! ```
//!
//! Instead of a kernel, `boot: {disk: vda}` boots what that disk's own boot configuration names.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::layout;
use crate::pci::Place;

mod check;
mod clock;
mod cpu;
mod disk;
mod guards;
mod limits;
mod net;
mod numa;
mod pins;
mod places;
mod port;
mod smbios;
mod vsock;

pub use clock::{Clock, ClockBasis, ClockOffset, LostTicks};
pub use cpu::{Cpu, CpuFeature, CpuMode, FeaturePolicy, Topology};
pub use disk::{
    Cache, DetectZeroes, Discard, Disk, DiskFormat, DiskIo, ErrorPolicy, ReadErrorPolicy,
};
pub use guards::{Panic, PanicModel, Watchdog, WatchdogAction};
pub use limits::{Limit, Limits};
pub use net::{Interface, LinkState, Mac, MacError, Offload};
pub use numa::{Cell, ELSEWHERE, HERE, HostNodes, MOST_CELLS, MOST_NODES, NodeMode};
pub use pins::{DiskPin, MOST_CPUS, Pins, VcpuPin};
pub use places::RootPort;
pub(crate) use port::numbers as port_numbers;
pub use port::{MOST_PORTS, Port};
pub use smbios::Smbios;
pub use vsock::Vsock;

/// One guest, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Guest {
    /// Its name, for messages.
    pub name: String,
    /// Its UUID, in the usual 8-4-4-4-12 form, for messages and the state file.
    pub uuid: String,
    /// Its memory.
    pub memory: Memory,
    /// Its processors.
    pub vcpus: Vcpus,
    /// Which of the host's processors its threads run on.
    #[serde(default, skip_serializing_if = "Pins::is_default")]
    pub pins: Pins,
    /// What its processors look like; the host's if left out.
    #[serde(default, skip_serializing_if = "Cpu::is_default")]
    pub cpu: Cpu,
    /// What it boots.
    pub boot: Boot,
    /// PCI root ports: each has a bus of one slot behind it, where a device may be (`slot: '01:00.0'`, all in hexadecimal digits).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub root_ports: Vec<RootPort>,
    /// Its disks, in the order in which the guest finds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Its network interfaces, in the order in which the guest finds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// An entropy device; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rng: Option<Rng>,
    /// A memory balloon; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balloon: Option<Balloon>,
    /// The ports of its virtio console; no such device if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// PCI slot of the virtio console on bus 0, or `BUS:SLOT.FUNCTION` as `lspci` shows it; the first free slot if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports_slot: Option<Place>,
    /// A device for sockets between the guest and the host; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<Vsock>,
    /// A device by which the guest's kernel tells of its panic; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic: Option<Panic>,
    /// A watchdog; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Watchdog>,
    /// Where its serial console goes.
    #[serde(default)]
    pub serial: Serial,
    /// What the machine says of its makers and itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smbios: Option<Smbios>,
    /// Where the monitor listens for requests: path of a unix socket that it makes with mode 0600. The console's name is in a
    /// symbolic link `console` beside it.
    pub control: PathBuf,
    /// File that gets one line of JSON at each change in the guest's life, and is readable after its end.
    pub state: PathBuf,
    /// What follows when the guest powers itself off.
    #[serde(default = "Then::destroy")]
    pub on_poweroff: Then,
    /// What follows when the guest asks for a reboot.
    #[serde(default = "Then::restart")]
    pub on_reboot: Then,
    /// What follows when the guest crashes: a triple fault, or its kernel told of a panic.
    #[serde(default = "Then::destroy")]
    pub on_crash: Then,
    /// File that gets a core dump of the guest, for `gdb` or `crash`, when it crashes and before what `on-crash` says follows, or when its
    /// watchdog says so. It is made when the monitor starts; none if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<PathBuf>,
    /// Numeric user that the monitor becomes once everything is open. If left out, a monitor that root started becomes a user of its own, derived
    /// from the UUID, and another one stays who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// Numeric group that the monitor becomes once everything is open; like `user` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// How much of the sandbox must be there.
    #[serde(default)]
    pub sandbox: Containment,
    /// The guest's clock.
    #[serde(default)]
    pub clock: Clock,
}

/// How much of the sandbox must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Containment {
    /// As much as the host gives; what is missing is told.
    #[default]
    BestEffort,
    /// All of it: the guest does not start where the host lacks a layer.
    Strict,
}

/// A number of bytes; a plain integer on the wire.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
#[schemars(extend("unit" = "bytes"))]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(n) = *self;
        match n {
            0 => write!(f, "0 bytes"),
            _ if n % layout::GIB == 0 => write!(f, "{} GiB", n / layout::GIB),
            _ if n % layout::MIB == 0 => write!(f, "{} MiB", n / layout::MIB),
            _ if n % layout::KIB == 0 => write!(f, "{} KiB", n / layout::KIB),
            _ => write!(f, "{n} bytes"),
        }
    }
}

/// The guest's memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Memory {
    /// Its size: a multiple of 4 KiB, or of the huge pages' size, from 4 MiB to 4 TiB.
    #[schemars(range(min = Memory::LEAST.0, max = Memory::MOST.0))]
    pub size: Bytes,
    /// Back it by the host's reserved huge pages. The start fails where too few are free.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hugepages: bool,
    /// Size of the huge pages: 2 MiB, which is also what it is if left out, or 1 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_size: Option<Bytes>,
    /// Keep all of it in the host's memory: it is there from the start and never swapped, and the balloon gives nothing back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// Take all of it from the host at the start, so that the guest never waits for a page.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preallocated: bool,
    /// Make it a memory file, which others who are given its descriptor can map too, instead of memory of the monitor's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// The host's nodes that it is taken from; the kernel's choice if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostNodes>,
    /// The guest's cells, by number; all is equally near if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<Cell>,
}

impl Memory {
    /// The least memory of a guest.
    pub const LEAST: Bytes = Bytes(4 * layout::MIB);
    /// The size of its pages.
    pub fn page(&self) -> Bytes {
        match self.page_size {
            Some(size) => size,
            None if self.hugepages => Bytes(2 * layout::MIB),
            None => Bytes(4 * layout::KIB),
        }
    }

    /// The most memory of a guest: the kernel's limit for one slot of memory, 8 TiB less a page, less a hole.
    pub const MOST: Bytes = Bytes(4096 * layout::GIB);
}

/// The guest's processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vcpus {
    /// How many.
    #[schemars(range(min = 1, max = layout::MAX_VCPUS))]
    pub count: u32,
    /// How they are grouped; in one socket, each a core, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,
}

/// What the guest boots: a kernel of the host's, or what a disk's own boot configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Boot {
    /// A Linux bzImage, or a 64-bit ELF executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<PathBuf>,
    /// An initial RAM disk, beside a kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,
    /// Instead of a kernel, the disk of this `id`: its GRUB configuration or Boot Loader Specification entries say which kernel, initrds and arguments, at every
    /// boot and reset anew. It is read in its ext4 and FAT partitions, and nothing is written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// The kernel's command line: no zero byte, shorter than 2 KiB. With a disk, it is added to the arguments that its configuration states, and so is
    /// `console=ttyS0` where neither names a console and the serial console goes anywhere.
    #[serde(default)]
    pub cmdline: String,
}

/// A virtio entropy device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rng {
    /// Where the entropy comes from; `/dev/urandom` if left out.
    #[serde(default = "Rng::urandom")]
    pub source: PathBuf,
    /// PCI slot of bus 0, or `BUS:SLOT.FUNCTION` as `lspci` shows it; the first free slot if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Place>,
}

impl Rng {
    fn urandom() -> PathBuf {
        PathBuf::from("/dev/urandom")
    }
}

/// A virtio memory balloon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Balloon {
    /// How much memory the guest keeps: at most its size, which is also the default (nothing is taken).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Bytes>,
    /// Seconds between the reports that the guest is asked for; it is asked when somebody asks for `stats` if left out. 0 is the same as left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u32>,
    /// The guest may take pages back before it kills a program for want of memory.
    #[serde(default)]
    pub deflate_on_oom: bool,
    /// The guest may tell of pages that happen to be free, which the host then gets back. Locked memory never is.
    #[serde(default = "Balloon::yes")]
    pub free_page_reporting: bool,
    /// PCI slot of bus 0, or `BUS:SLOT.FUNCTION` as `lspci` shows it; the first free slot if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Place>,
}

impl Balloon {
    fn yes() -> bool {
        true
    }
}

/// Where the serial console goes. All of them may be used at once; with none the guest's words are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Serial {
    /// Make a pseudo-terminal. Its name is in `status` and in the link `console` beside the control socket.
    #[serde(default)]
    pub pty: bool,
    /// A file to which all output is appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Largest size of the log; when it is reached, the older half is dropped. At least 4 KiB; 2 MiB if left out.
    #[serde(default = "Serial::log_limit")]
    pub log_limit: Bytes,
    /// Path of a unix socket, made with mode 0600, on which one peer at a time reads and writes the console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl Serial {
    fn log_limit() -> Bytes {
        Bytes(2 * layout::MIB)
    }

    /// Whether anything becomes of the guest's words.
    pub fn goes_anywhere(&self) -> bool {
        self.pty || self.log.is_some() || self.socket.is_some()
    }
}

impl Default for Serial {
    fn default() -> Self {
        Self {
            pty: false,
            log: None,
            log_limit: Self::log_limit(),
            socket: None,
        }
    }
}

/// What follows an end that the guest itself brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The monitor ends, having written why.
    Destroy,
    /// The machine is made anew in the same process and boots.
    Restart,
    /// The guest stays as it is, stopped, until a request says `quit` or `reset`.
    Preserve,
}

impl Then {
    fn destroy() -> Self {
        Self::Destroy
    }

    fn restart() -> Self {
        Self::Restart
    }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is neither JSON nor YAML, or has an unknown, missing or mistyped field.
    #[error("cannot read the guest's configuration: {0}")]
    Parse(#[from] serde_yaml::Error),
    /// The text is sound but what it asks for is not possible.
    #[error("the guest's configuration cannot be:{}", list(.0))]
    Invalid(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("\n  {p}")).collect()
}

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, as a path: `disks[0].serial`.
    pub field: String,
    /// What is wrong with it, and what would be accepted.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Guest {
    /// Reads a configuration from JSON or YAML and checks it.
    ///
    /// # Errors
    /// Text that does not parse, an unknown or missing field, or a value out of its range; all problems at once.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let guest: Self = serde_yaml::from_str(text)?;
        let problems = guest.check();
        if problems.is_empty() {
            Ok(guest)
        } else {
            Err(ConfigError::Invalid(problems))
        }
    }
}

#[cfg(test)]
mod tests;
