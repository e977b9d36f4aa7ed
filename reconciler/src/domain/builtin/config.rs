//! The monitor's configuration: the definition in the words of `vireo-vmm`.
//!
//! A mirror of that program's own wire type, so that the agent is built without it; a test holds the two together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vireo_schema::domain::disk::{
    CacheMode, DetectZeroes, Discard, DiskIo, ErrorPolicy, ReadErrorPolicy,
};

use super::clock::{self, ClockConfig};
use super::guards::{self, Guards};
use super::interfaces::{InterfaceConfig, interface};
use super::memory::{self, MemoryConfig};
use super::pci::{self, RootPortConfig, Slot};
use super::pins::{self, PinsConfig};
use super::ports::{self, PortConfig};
use crate::domain::{DriverError, GuestDir};
use crate::resolve::Driver;
use crate::resolve::domain::{Action, Backend, Boot, Disk, Domain};
use crate::resolve::limits::Limits;
use crate::resolve::storage::ImageFormat;
use crate::units::Bytes;

/// One guest, whole.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    name: String,
    uuid: String,
    memory: MemoryConfig,
    vcpus: VcpusConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pins: Option<PinsConfig>,
    cpu: CpuConfig,
    boot: BootConfig,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    root_ports: Vec<RootPortConfig>,
    disks: Vec<DiskConfig>,
    interfaces: Vec<InterfaceConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rng: Option<RngConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balloon: Option<BalloonConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports_slot: Option<Slot>,
    #[serde(flatten)]
    guards: Guards,
    #[serde(skip_serializing_if = "Option::is_none")]
    smbios: Option<SmbiosConfig>,
    serial: SerialConfig,
    control: PathBuf,
    state: PathBuf,
    on_poweroff: &'static str,
    on_reboot: &'static str,
    on_crash: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    core: Option<PathBuf>,
    clock: ClockConfig,
}

#[derive(Debug, Serialize)]
struct VcpusConfig {
    count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    topology: Option<TopologyConfig>,
}

#[derive(Debug, Serialize)]
struct TopologyConfig {
    sockets: u32,
    dies: u32,
    cores: u32,
    threads: u32,
}

#[derive(Debug, Serialize)]
struct CpuConfig {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    features: Vec<FeatureConfig>,
}

#[derive(Debug, Serialize)]
struct FeatureConfig {
    name: String,
    policy: String,
}

#[derive(Debug, Serialize)]
struct BootConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<String>,
    cmdline: String,
}

#[derive(Debug, Serialize)]
struct DiskConfig {
    id: String,
    path: PathBuf,
    format: ImageFormat,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    readonly: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shareable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    discard: Option<Discard>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    cache: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    io: Option<&'static str>,
    #[serde(rename = "detect-zeroes", skip_serializing_if = "Option::is_none")]
    detect_zeroes: Option<DetectZeroes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<u32>,
    #[serde(rename = "queue-size", skip_serializing_if = "Option::is_none")]
    queue_size: Option<u32>,
    #[serde(skip_serializing_if = "Limits::is_default")]
    limits: Limits,
    #[serde(rename = "error-policy", skip_serializing_if = "Option::is_none")]
    error_policy: Option<ErrorPolicy>,
    #[serde(rename = "rerror-policy", skip_serializing_if = "Option::is_none")]
    rerror_policy: Option<ReadErrorPolicy>,
    slot: Slot,
}

#[derive(Debug, Serialize)]
struct RngConfig {
    source: PathBuf,
    slot: Option<Slot>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct BalloonConfig {
    target: Bytes,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<u32>,
    deflate_on_oom: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    free_page_reporting: Option<bool>,
    slot: Option<Slot>,
}

#[derive(Debug, Serialize)]
struct SerialConfig {
    pty: bool,
    log: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SmbiosConfig {
    strings: BTreeMap<String, String>,
    oem_strings: Vec<String>,
}

/// A definition in the monitor's words.
///
/// # Errors
/// Something that the monitor does not do.
pub fn translate(domain: &Domain, dir: &GuestDir) -> Result<Config, DriverError> {
    refuse_extras(domain)?;
    let pci = pci::pci(domain)?;
    Ok(Config {
        name: domain.name.clone(),
        uuid: domain.uuid.to_string(),
        memory: memory::memory(domain)?,
        vcpus: VcpusConfig {
            count: domain.vcpus.current,
            topology: domain.vcpus.topology.map(topology),
        },
        pins: pins::pins(domain),
        cpu: cpu(domain)?,
        boot: boot(&domain.boot)?,
        root_ports: pci.root_ports,
        disks: domain
            .disks
            .iter()
            .zip(pci.disks)
            .map(|(stated, slot)| disk(stated, slot))
            .collect::<Result<_, _>>()?,
        interfaces: domain
            .interfaces
            .iter()
            .zip(pci.interfaces)
            .map(|(stated, slot)| interface(stated, slot))
            .collect::<Result<_, _>>()?,
        rng: domain.rng.as_ref().map(|rng| RngConfig {
            source: rng.source.clone(),
            slot: pci.rng,
        }),
        balloon: domain.balloon.then_some(BalloonConfig {
            target: domain.memory.current.min(domain.memory.maximum),
            period: domain.balloon_options.period,
            deflate_on_oom: domain.balloon_options.autodeflate,
            free_page_reporting: domain.balloon_options.free_page_reporting,
            slot: pci.balloon,
        }),
        ports: ports::ports(domain, dir)?,
        ports_slot: pci.console,
        guards: guards::guards(domain, dir, [pci.panic, pci.watchdog, pci.vsock])?,
        smbios: smbios(domain)?,
        serial: serial(domain, dir)?,
        control: dir.control(),
        state: dir.file("state"),
        on_poweroff: on_poweroff(domain.events.on_poweroff),
        on_reboot: word(domain.events.on_reboot),
        on_crash: word(domain.events.on_crash),
        core: core(domain, dir).map(Path::to_owned),
        clock: clock::clock(domain, dir)?,
    })
}

fn boot(boot: &Boot) -> Result<BootConfig, DriverError> {
    let (kernel, initrd, disk, cmdline) = match boot {
        Boot::Kernel {
            kernel,
            initrd,
            cmdline,
        } => (Some(kernel), initrd.as_ref(), None, cmdline),
        Boot::Disk { target, cmdline } => (None, None, Some(target), cmdline),
        Boot::Firmware { .. } => {
            return Err(unsupported(
                "firmware: it boots kernels, and what disks name",
            ));
        }
    };
    Ok(BootConfig {
        kernel: kernel.cloned(),
        initrd: initrd.cloned(),
        disk: disk.cloned(),
        cmdline: cmdline.clone(),
    })
}

pub(super) fn unsupported(what: impl Into<String>) -> DriverError {
    DriverError::Unsupported {
        driver: Driver::Builtin,
        what: what.into(),
    }
}

fn refuse_extras(domain: &Domain) -> Result<(), DriverError> {
    // Of controllers, inputs and displays there are those that nothing is on, or that are none.
    let known = [
        "panic",
        "watchdog",
        "vsock",
        "timer",
        "controller",
        "input",
        "video",
        "pm",
    ];
    let mut extras = domain.extras.iter();
    if let Some(extra) = extras.find(|extra| !known.contains(&extra.class.as_str())) {
        return Err(unsupported(format!("<{}>", extra.class)));
    }
    if !domain.qemu_arguments.is_empty() {
        return Err(unsupported("<qemu:commandline>"));
    }
    if domain.emulated {
        return Err(unsupported("software emulation (type='qemu')"));
    }
    Ok(())
}

fn topology([sockets, dies, cores, threads]: [u32; 4]) -> TopologyConfig {
    TopologyConfig {
        sockets,
        dies,
        cores,
        threads,
    }
}

/// The processor. Without a word about it, and where everything is asked for, it is the host's.
fn cpu(domain: &Domain) -> Result<CpuConfig, DriverError> {
    let cpu = &domain.cpu;
    let (mode, model) = match (cpu.mode.as_deref(), &cpu.model) {
        (None, None) | (Some("host-passthrough" | "maximum"), _) => ("host-passthrough", None),
        (Some("host-model"), _) => ("host-model", None),
        (None | Some("custom"), Some(model)) => ("custom", Some(model.clone())),
        (Some(other), _) => return Err(unsupported(format!("<cpu mode='{other}'>"))),
    };
    let feature = |(name, policy): &(String, String)| FeatureConfig {
        name: name.clone(),
        policy: policy.clone(),
    };
    Ok(CpuConfig {
        mode,
        model,
        features: cpu.features.iter().map(feature).collect(),
    })
}

fn disk(disk: &Disk, slot: Slot) -> Result<DiskConfig, DriverError> {
    let target = &disk.target;
    if disk.bus != "virtio" {
        return Err(unsupported(format!("disk {target} on bus {}", disk.bus)));
    }
    if let Some(queues) = disk.queues.filter(|queues| !QUEUES.contains(queues)) {
        let (least, most) = (QUEUES.start(), QUEUES.end());
        let what = format!("{queues} queues of disk {target}: {least} to {most} are possible");
        return Err(unsupported(what));
    }
    let fits = |size: u32| size.is_power_of_two() && QUEUE_SIZE.contains(&size);
    if let Some(size) = disk.queue_size.filter(|size| !fits(*size)) {
        let (least, most) = (QUEUE_SIZE.start(), QUEUE_SIZE.end());
        let what = format!(
            "queues of {size} requests of disk {target}: powers of two from {least} to {most} are possible"
        );
        return Err(unsupported(what));
    }
    let path = disk.path.clone();
    Ok(DiskConfig {
        id: target.clone(),
        path: path.ok_or_else(|| unsupported(format!("disk {target} without an image")))?,
        format: disk.format,
        readonly: disk.readonly,
        shareable: disk.shareable,
        discard: disk.discard,
        serial: disk.serial.clone(),
        cache: match disk.cache {
            None | Some(CacheMode::Default | CacheMode::Writeback) => "writeback",
            Some(CacheMode::Writethrough) => "writethrough",
            Some(CacheMode::None) => "none",
            Some(other) => return Err(unsupported(format!("cache {other} of disk {target}"))),
        },
        io: match disk.io {
            Some(DiskIo::Threads) => Some("threads"),
            Some(DiskIo::IoUring) => Some("io-uring"),
            // What only QEMU has was left out by leave.
            Some(DiskIo::Native) | None => None,
        },
        detect_zeroes: disk.detect_zeroes,
        queues: disk.queues,
        queue_size: disk.queue_size,
        limits: disk.limits.clone(),
        error_policy: disk.error_policy,
        rerror_policy: disk.rerror_policy,
        slot,
    })
}

/// How many queues the monitor can give a disk.
const QUEUES: std::ops::RangeInclusive<u32> = 1..=63;

/// How many requests a queue of a disk can hold.
const QUEUE_SIZE: std::ops::RangeInclusive<u32> = 2..=1024;

/// The serial port. What the guest says is always in a log; a terminal is there unless the definition sends the port elsewhere.
fn serial(domain: &Domain, dir: &GuestDir) -> Result<SerialConfig, DriverError> {
    let mut serial = SerialConfig {
        pty: true,
        log: dir.file("console.log"),
        socket: None,
    };
    // A `<console>` that is the serial port was made one.
    let port = domain
        .chardevs
        .iter()
        .find(|chardev| chardev.class == "serial");
    let Some(port) = port else { return Ok(serial) };
    if let Some(log) = &port.log {
        serial.log.clone_from(log);
    }
    match &port.backend {
        Backend::Pty => {}
        Backend::File(path) => serial.log.clone_from(path),
        Backend::Unix(path) => {
            let path = path.clone();
            serial.socket = Some(path.unwrap_or_else(|| dir.file("console.socket")));
        }
        Backend::Null => serial.pty = false,
        Backend::UnixCall(..) => return Err(unsupported("a serial port that calls a socket")),
        Backend::Tcp(..) => return Err(unsupported("a serial port over TCP")),
        Backend::SpiceVmc => return Err(unsupported("a serial port over SPICE")),
    }
    Ok(serial)
}

/// What the tables can say, by libvirt's names.
const SMBIOS: [(&str, &[&str]); 4] = [
    ("bios", &["vendor", "version", "date", "release"]),
    (
        "system",
        &[
            "manufacturer",
            "product",
            "version",
            "serial",
            "sku",
            "family",
        ],
    ),
    (
        "baseBoard",
        &[
            "manufacturer",
            "product",
            "version",
            "serial",
            "asset",
            "location",
        ],
    ),
    (
        "chassis",
        &["manufacturer", "version", "serial", "asset", "sku"],
    ),
];

/// What the machine says of itself. Its UUID is always the guest's.
fn smbios(domain: &Domain) -> Result<Option<SmbiosConfig>, DriverError> {
    let mut config = SmbiosConfig {
        strings: BTreeMap::new(),
        oem_strings: Vec::new(),
    };
    for (key, value) in &domain.machine.sysinfo {
        let odd = || unsupported(format!("<sysinfo> with {key} '{value}'"));
        if !(1..=255).contains(&value.len()) {
            return Err(odd());
        }
        let (table, name) = key.split_once('.').ok_or_else(odd)?;
        let names = SMBIOS.iter().find(|(known, _)| *known == table);
        match (table, name) {
            ("oemStrings", _) if config.oem_strings.len() < 64 => {
                config.oem_strings.push(value.clone());
            }
            ("system", "uuid") if value.parse() == Ok(domain.uuid) => {}
            ("bios", "release") if !is_release(value) => return Err(odd()),
            _ if names.is_some_and(|(_, names)| names.contains(&name)) => {
                config.strings.insert(key.clone(), value.clone());
            }
            _ => return Err(odd()),
        }
    }
    let is_empty = config.strings.is_empty() && config.oem_strings.is_empty();
    Ok((!is_empty).then_some(config))
}

/// Whether a text is two numbers as the tables have them.
fn is_release(text: &str) -> bool {
    let parts = text.split_once('.');
    parts.is_some_and(|(major, minor)| major.parse::<u8>().is_ok() && minor.parse::<u8>().is_ok())
}

/// A guest that powers itself off and is to start again is started by the agent, which also starts it when it was told to stop and is wanted again: a monitor
/// that did so by itself could not be shut down.
fn on_poweroff(action: Action) -> &'static str {
    match action {
        Action::Restart => "destroy",
        other => word(other),
    }
}

impl Config {
    /// The file that keeps what the guest makes of its clock, if that is to be kept.
    pub fn keeps_clock_in(&self) -> Option<&Path> {
        self.clock.keep()
    }
}

/// The file that the guest's crash, or its watchdog, is to leave a core dump in.
pub fn core<'d>(domain: &Domain, dir: &'d GuestDir) -> Option<&'d Path> {
    dumps_core(domain).then(|| dir.core())
}

fn dumps_core(domain: &Domain) -> bool {
    let crash = matches!(
        domain.events.on_crash,
        Action::CoredumpDestroy | Action::CoredumpRestart
    );
    crash || guards::watchdog_dumps(domain)
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Destroy | Action::CoredumpDestroy => "destroy",
        Action::Restart | Action::CoredumpRestart => "restart",
        Action::Preserve => "preserve",
    }
}

#[cfg(test)]
mod tests;
