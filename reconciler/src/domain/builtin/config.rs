//! The monitor's configuration: the definition in the words of `vireo-vmm`.
//!
//! A mirror of that program's own wire type, so that the agent is built without it; a test holds the two together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::clock::{self, ClockConfig};
use super::guards::{self, Guards};
use super::ports::{self, PortConfig};
use crate::domain::{DriverError, GuestDir};
use crate::resolve::Driver;
use crate::resolve::domain::{Action, Backend, Boot, Disk, Domain, Interface};
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
    cpu: CpuConfig,
    boot: BootConfig,
    disks: Vec<DiskConfig>,
    interfaces: Vec<InterfaceConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rng: Option<RngConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balloon: Option<BalloonConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortConfig>,
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
#[serde(rename_all = "kebab-case")]
struct MemoryConfig {
    size: Bytes,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hugepages: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_size: Option<Bytes>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    locked: bool,
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
    discard: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
    cache: &'static str,
    #[serde(rename = "detect-zeroes", skip_serializing_if = "Option::is_none")]
    detect_zeroes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<u32>,
    #[serde(rename = "queue-size", skip_serializing_if = "Option::is_none")]
    queue_size: Option<u32>,
    #[serde(skip_serializing_if = "Limits::is_default")]
    limits: Limits,
}

#[derive(Debug, Serialize)]
struct InterfaceConfig {
    id: String,
    tap: String,
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without: Vec<&'static str>,
    #[serde(rename = "rx-queue-size", skip_serializing_if = "Option::is_none")]
    rx_queue_size: Option<u32>,
    #[serde(rename = "tx-queue-size", skip_serializing_if = "Option::is_none")]
    tx_queue_size: Option<u32>,
}

#[derive(Debug, Serialize)]
struct RngConfig {
    source: PathBuf,
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
    let memory = &domain.memory;
    Ok(Config {
        name: domain.name.clone(),
        uuid: domain.uuid.to_string(),
        memory: MemoryConfig {
            size: memory.maximum,
            hugepages: memory.hugepages.is_some(),
            page_size: memory.hugepages.flatten(),
            locked: memory.locked,
        },
        vcpus: VcpusConfig {
            count: domain.vcpus.current,
            topology: domain.vcpus.topology.map(topology),
        },
        cpu: cpu(domain)?,
        boot: boot(&domain.boot)?,
        disks: domain.disks.iter().map(disk).collect::<Result<_, _>>()?,
        interfaces: domain
            .interfaces
            .iter()
            .map(interface)
            .collect::<Result<_, _>>()?,
        rng: domain.rng.as_ref().map(|rng| RngConfig {
            source: rng.source.clone(),
        }),
        balloon: domain.balloon.then_some(BalloonConfig {
            target: memory.current.min(memory.maximum),
            period: domain.balloon_options.period,
            deflate_on_oom: domain.balloon_options.autodeflate,
            free_page_reporting: domain.balloon_options.free_page_reporting,
        }),
        ports: ports::ports(domain, dir)?,
        guards: guards::guards(domain, dir)?,
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
    let known = ["panic", "watchdog", "vsock", "timer"];
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
    match domain.memory.hugepages {
        Some(Some(size)) if ![Bytes::mib(2), Bytes::mib(1024)].contains(&size) => Err(unsupported(
            format!("huge pages of {size}: it takes those of 2 MiB and of 1 GiB"),
        )),
        _ => Ok(()),
    }
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

fn disk(disk: &Disk) -> Result<DiskConfig, DriverError> {
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
        discard: disk.discard.clone(),
        serial: disk.serial.clone(),
        cache: match disk.cache.as_deref() {
            None | Some("default" | "writeback") => "writeback",
            Some("writethrough") => "writethrough",
            Some("none") => "none",
            Some(other) => return Err(unsupported(format!("cache {other} of disk {target}"))),
        },
        detect_zeroes: disk.detect_zeroes.clone(),
        queues: disk.queues,
        queue_size: disk.queue_size,
        limits: disk.limits.clone(),
    })
}

fn interface(interface: &Interface) -> Result<InterfaceConfig, DriverError> {
    let name = interface_name(interface.index);
    if interface.vhost == Some(true) {
        return Err(unsupported(format!("vhost of interface {name}")));
    }
    if let Some(queues) = interface.queues.filter(|queues| !PAIRS.contains(queues)) {
        let (least, most) = (PAIRS.start(), PAIRS.end());
        let what =
            format!("{queues} pairs of queues of interface {name}: {least} to {most} are possible");
        return Err(unsupported(what));
    }
    if let Some(mtu) = interface.mtu.filter(|mtu| !MTU.contains(mtu)) {
        let (least, most) = (MTU.start(), MTU.end());
        let what = format!("an MTU of {mtu} on interface {name}: {least} to {most} are possible");
        return Err(unsupported(what));
    }
    Ok(InterfaceConfig {
        id: name,
        tap: interface.tap.clone(),
        mac: mac(interface.mac),
        link: (!interface.link_up).then_some("down"),
        mtu: interface.mtu,
        queues: interface.queues,
        without: without(interface)?,
        rx_queue_size: queue_size(interface, "to", interface.rx_queue_size)?,
        tx_queue_size: queue_size(interface, "from", interface.tx_queue_size)?,
    })
}

/// What of the work on frames is not left to the other side. All of it is where nothing is said, but fragments of UDP, which the monitor never leaves to anybody.
fn without(interface: &Interface) -> Result<Vec<&'static str>, DriverError> {
    const SWITCHES: [(&str, &[&str]); 11] = [
        ("guest-csum", &["guest-csum"]),
        ("guest-ecn", &["guest-ecn"]),
        ("guest-tso4", &["guest-tso4"]),
        ("guest-tso6", &["guest-tso6"]),
        ("host-csum", &["host-csum"]),
        ("host-ecn", &["host-ecn"]),
        ("host-gso", &["host-tso4", "host-tso6"]),
        ("host-mrg-rxbuf", &["mrg-rxbuf"]),
        ("host-tso4", &["host-tso4"]),
        ("host-tso6", &["host-tso6"]),
        ("ufo", &[]),
    ];
    let mut without = Vec::new();
    for (name, on) in &interface.offloads {
        let name = if name.ends_with("-ufo") { "ufo" } else { name };
        let known = SWITCHES.iter().find(|(known, _)| *known == name);
        match (known, on) {
            (Some(("ufo", _)), false) => {}
            (Some((name, _)), true) if *name != "ufo" => {}
            (Some((_, missing)), false) => without.extend(*missing),
            _ => {
                let interface = interface_name(interface.index);
                return Err(unsupported(format!("{name} of interface {interface}")));
            }
        }
    }
    Ok(without)
}

/// The size of the queue to or from the guest.
fn queue_size(
    interface: &Interface,
    direction: &str,
    size: Option<u32>,
) -> Result<Option<u32>, DriverError> {
    let fits = |size: u32| size.is_power_of_two() && NET_QUEUE_SIZE.contains(&size);
    match size.filter(|size| !fits(*size)) {
        None => Ok(size),
        Some(size) => Err(unsupported(format!(
            "a queue of {size} buffers {direction} the guest on interface {}: powers of two from {} to {} are possible",
            interface_name(interface.index),
            NET_QUEUE_SIZE.start(),
            NET_QUEUE_SIZE.end()
        ))),
    }
}

/// How many pairs of queues an interface can have.
const PAIRS: std::ops::RangeInclusive<u32> = 1..=31;

/// How many buffers a queue of an interface can hold.
const NET_QUEUE_SIZE: std::ops::RangeInclusive<u32> = 256..=1024;

/// How many queues the monitor can give a disk.
const QUEUES: std::ops::RangeInclusive<u32> = 1..=63;

/// How many requests a queue of a disk can hold.
const QUEUE_SIZE: std::ops::RangeInclusive<u32> = 2..=1024;

/// The largest packets that the monitor can tell a guest of, in bytes.
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;

/// What the monitor calls the interface at this place of the definition.
pub fn interface_name(index: usize) -> String {
    format!("net{index}")
}

fn mac([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

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
mod tests {
    use super::*;
    use crate::domain::testing;

    #[test]
    fn the_monitor_reads_what_the_driver_writes() {
        let mut domain = testing::domain();
        domain.memory.hugepages = Some(None);
        domain.chardevs[0].backend = Backend::Unix(None);
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), domain.uuid);
        domain.balloon_options.period = Some(5);
        domain.balloon_options.autodeflate = true;
        domain.balloon_options.free_page_reporting = Some(false);
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let read = vireo_vmm::config::Guest::parse(&text).unwrap();
        let balloon = read.balloon.as_ref().unwrap();
        assert!(balloon.deflate_on_oom && !balloon.free_page_reporting);
        assert_eq!(balloon.period, Some(5));
        assert_eq!(read.name, "web");
        assert_eq!(read.disks.len(), 1);
        assert_eq!(read.interfaces.len(), 1);
        assert_eq!(read.on_poweroff, vireo_vmm::config::Then::Destroy);
        assert_eq!(
            read.balloon.unwrap().target.unwrap().0,
            domain.memory.current.0
        );
        assert!(read.serial.socket.is_some() && read.serial.pty);
    }

    #[test]
    fn a_disk_to_boot_from_reaches_the_monitor() {
        let mut domain = testing::domain();
        domain.boot = Boot::Disk {
            target: "vda".to_owned(),
            cmdline: "quiet".to_owned(),
        };
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), domain.uuid);
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let boot = vireo_vmm::config::Guest::parse(&text).unwrap().boot;
        assert_eq!((boot.kernel, boot.disk.as_deref()), (None, Some("vda")));
        assert_eq!(boot.cmdline, "quiet");
    }

    #[test]
    fn a_disk_reaches_the_monitor_with_what_others_and_the_host_may_do_to_it() {
        use vireo_vmm::config::Discard;
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
        let mut domain = testing::domain();
        for (shareable, discard, read) in [
            (false, None, Discard::Unmap),
            (true, Some("unmap"), Discard::Unmap),
            (true, Some("ignore"), Discard::Ignore),
        ] {
            domain.disks[0].shareable = shareable;
            domain.disks[0].discard = discard.map(str::to_owned);
            let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
            let guest = vireo_vmm::config::Guest::parse(&text).unwrap();
            assert_eq!(guest.disks[0].shareable, shareable);
            assert_eq!(guest.disks[0].discard, read);
        }
    }

    #[test]
    fn a_disk_reaches_the_monitor_with_its_queues_or_is_refused_with_what_is_possible() {
        use vireo_vmm::config::DetectZeroes;
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
        let mut domain = testing::domain();
        domain.disks[0].detect_zeroes = Some("unmap".to_owned());
        for (queues, size, possible) in [
            (Some(1), Some(2), true),
            (Some(63), Some(1024), true),
            (Some(0), None, false),
            (Some(64), None, false),
            (None, Some(1), false),
            (None, Some(200), false),
            (None, Some(2048), false),
        ] {
            (domain.disks[0].queues, domain.disks[0].queue_size) = (queues, size);
            let told = translate(&domain, &dir);
            assert_eq!(told.is_ok(), possible, "{queues:?} {size:?}");
            let Ok(told) = told else { continue };
            let text = serde_json::to_string(&told).unwrap();
            let disk = vireo_vmm::config::Guest::parse(&text)
                .unwrap()
                .disks
                .remove(0);
            assert_eq!(disk.detect_zeroes, DetectZeroes::Unmap);
            assert_eq!(disk.queues.map(u32::from), queues);
            assert_eq!(disk.queue_size.map(u32::from), size);
        }
    }

    #[test]
    fn what_an_interface_leaves_to_neither_side_reaches_the_monitor() {
        use vireo_vmm::config::Offload as O;
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
        let told = |switch: &str, on: bool| {
            let mut domain = testing::domain();
            domain.interfaces[0].offloads.insert(switch.to_owned(), on);
            let config = translate(&domain, &dir).ok()?;
            let text = serde_json::to_string(&config).unwrap();
            let mut read = vireo_vmm::config::Guest::parse(&text).unwrap();
            Some(read.interfaces.remove(0).without)
        };
        for (switch, missing) in [
            ("host-csum", &[O::HostCsum][..]),
            ("host-gso", &[O::HostTso4, O::HostTso6]),
            ("host-tso4", &[O::HostTso4]),
            ("host-tso6", &[O::HostTso6]),
            ("host-ecn", &[O::HostEcn]),
            ("host-mrg-rxbuf", &[O::MrgRxbuf]),
            ("guest-csum", &[O::GuestCsum]),
            ("guest-tso4", &[O::GuestTso4]),
            ("guest-tso6", &[O::GuestTso6]),
            ("guest-ecn", &[O::GuestEcn]),
        ] {
            assert_eq!(told(switch, false).as_deref(), Some(missing), "{switch}");
            assert_eq!(told(switch, true), Some(Vec::new()), "{switch}");
        }
        for switch in ["host-ufo", "guest-ufo"] {
            assert_eq!(told(switch, false), Some(Vec::new()));
            assert_eq!(
                told(switch, true),
                None,
                "{switch} is never left to anybody"
            );
        }
        assert_eq!(told("guest-gso", true), None);
    }

    #[test]
    fn an_interfaces_queues_are_as_long_as_the_monitor_can_make_them_or_refused() {
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
        for (queues, possible) in [(1, true), (31, true), (0, false), (32, false)] {
            let mut domain = testing::domain();
            domain.interfaces[0].queues = Some(queues);
            assert_eq!(translate(&domain, &dir).is_ok(), possible, "{queues}");
        }
        for (size, possible) in [
            (256, true),
            (1024, true),
            (128, false),
            (300, false),
            (2048, false),
        ] {
            let mut domain = testing::domain();
            domain.interfaces[0].rx_queue_size = Some(size);
            assert_eq!(translate(&domain, &dir).is_ok(), possible, "{size}");
            domain.interfaces[0].rx_queue_size = None;
            domain.interfaces[0].tx_queue_size = Some(size);
            assert_eq!(translate(&domain, &dir).is_ok(), possible, "{size}");
        }
    }

    #[test]
    fn an_interface_reaches_the_monitor_with_its_link_and_its_largest_packet() {
        use vireo_vmm::config::LinkState;
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
        let mut domain = testing::domain();
        for (up, mtu, state) in [
            (true, None, LinkState::Up),
            (false, Some(9000), LinkState::Down),
            (true, Some(65535), LinkState::Up),
        ] {
            domain.interfaces[0].link_up = up;
            domain.interfaces[0].mtu = mtu;
            let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
            let read = vireo_vmm::config::Guest::parse(&text).unwrap();
            assert_eq!(read.interfaces[0].link, state);
            assert_eq!(read.interfaces[0].mtu.map(u32::from), mtu);
        }
    }

    #[test]
    fn a_panic_device_and_a_watchdog_reach_the_monitor_with_what_follows() {
        use vireo_vmm::config::{PanicModel, WatchdogAction};
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
        let mut domain = testing::domain();
        let extra = |class: &str, fields: &[(&str, &str)]| crate::resolve::domain::Extra {
            class: class.to_owned(),
            fields: fields
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            address: None,
        };
        for (word, action) in [
            ("reset", WatchdogAction::Reset),
            ("shutdown", WatchdogAction::Shutdown),
            ("poweroff", WatchdogAction::Poweroff),
            ("pause", WatchdogAction::Pause),
            ("dump", WatchdogAction::Dump),
            ("none", WatchdogAction::None),
            ("inject-nmi", WatchdogAction::InjectNmi),
        ] {
            domain.extras = vec![
                extra("panic", &[("model", "pvpanic")]),
                extra("watchdog", &[("model", "i6300esb"), ("action", word)]),
                extra("vsock", &[("cid.auto", "no"), ("cid.address", "7")]),
            ];
            let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
            let read = vireo_vmm::config::Guest::parse(&text).unwrap();
            assert_eq!(read.panic.unwrap().model, PanicModel::Pci);
            assert_eq!(read.watchdog.unwrap().action, action);
            assert_eq!(read.core.is_some(), word == "dump");
            assert_eq!(read.vsock.unwrap().cid, 7);
        }
    }

    #[test]
    fn consoles_and_channels_reach_the_monitor_with_their_names_and_other_ends() {
        use crate::resolve::domain::Chardev;
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
        let mut domain = testing::domain();
        let chardev = |class: &str, name: Option<&str>, backend| Chardev {
            class: class.to_owned(),
            backend,
            target: "virtio".to_owned(),
            name: name.map(str::to_owned),
            port: None,
            log: None,
            address: None,
        };
        let backends = [
            Backend::Unix(None),
            Backend::UnixCall("/run/peer".into()),
            Backend::Tcp("127.0.0.1".to_owned(), "4555".to_owned(), true),
            Backend::File("/var/log/x".into()),
            Backend::Null,
        ];
        domain.chardevs.push(chardev("console", None, Backend::Pty));
        let channel = |backend| chardev("channel", Some("org.qemu.guest_agent.0"), backend);
        domain.chardevs.extend(backends.map(channel));
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let read = vireo_vmm::config::Guest::parse(&text).unwrap();
        let [console, bound, calling, tcp, file, null] = &read.ports[..] else {
            panic!("{:?}", read.ports);
        };
        assert!(console.console && console.pty && console.name.is_none());
        assert_eq!(bound.name.as_deref(), Some("org.qemu.guest_agent.0"));
        assert!(bound.socket.is_some() && !bound.connect);
        assert!(calling.connect && calling.socket.as_deref() == Some("/run/peer".as_ref()));
        assert_eq!(tcp.tcp.as_deref(), Some("127.0.0.1:4555"));
        assert_eq!(file.log.as_deref(), Some("/var/log/x".as_ref()));
        assert!(null.log.is_none() && null.socket.is_none() && !null.pty);
        domain.chardevs = vec![channel(Backend::SpiceVmc)];
        assert!(translate(&domain, &dir).is_err());
    }

    #[test]
    fn what_the_machine_says_of_itself_reaches_the_monitor_word_for_word() {
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
        let mut domain = testing::domain();
        for (table, names) in SMBIOS {
            for name in names {
                let value = if *name == "release" { "1.2" } else { name };
                let key = format!("{table}.{name}");
                domain.machine.sysinfo.insert(key, value.to_owned());
            }
        }
        let uuid = domain.uuid.to_string();
        let sysinfo = &mut domain.machine.sysinfo;
        sysinfo.insert("system.uuid".to_owned(), uuid);
        sysinfo.insert("oemStrings.000".to_owned(), "first".to_owned());
        sysinfo.insert("oemStrings.001".to_owned(), "second".to_owned());
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let read = vireo_vmm::config::Guest::parse(&text)
            .unwrap()
            .smbios
            .unwrap();
        let names: Vec<&str> = read.strings.keys().map(String::as_str).collect();
        let mut known = vireo_vmm::smbios::NAMES;
        known.sort_unstable();
        assert_eq!(names, known);
        assert_eq!(read.oem_strings, ["first", "second"]);
        for (key, value) in [
            ("system.uuid", "00000000-0000-0000-0000-000000000001"),
            ("bios.release", "one"),
            ("bios.colour", "blue"),
            ("system.serial", ""),
        ] {
            let mut domain = domain.clone();
            let sysinfo = &mut domain.machine.sysinfo;
            sysinfo.insert(key.to_owned(), value.to_owned());
            assert!(translate(&domain, &dir).is_err(), "{key} {value}");
        }
    }

    #[test]
    fn the_processor_reaches_the_monitor_as_it_was_asked_for() {
        let mut domain = testing::domain();
        domain.vcpus.maximum = 8;
        domain.vcpus.current = 8;
        domain.vcpus.topology = Some([2, 1, 2, 2]);
        domain.cpu.model = Some("Haswell-noTSX".to_owned());
        domain.cpu.features = vec![("pcid".to_owned(), "optional".to_owned())];
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), domain.uuid);
        for mode in [None, Some("custom"), Some("host-model"), Some("maximum")] {
            domain.cpu.mode = mode.map(str::to_owned);
            let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
            let read = vireo_vmm::config::Guest::parse(&text).unwrap();
            assert_eq!(read.vcpus.topology.unwrap().threads, 2);
            assert_eq!(read.cpu.features[0].name, "pcid");
            let custom = matches!(mode, None | Some("custom"));
            assert_eq!(read.cpu.model.is_some(), custom, "{mode:?}");
        }
    }

    #[test]
    fn a_crash_that_is_to_leave_a_core_dump_names_its_file() {
        let mut domain = testing::domain();
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), domain.uuid)
            .with_state(Path::new("/var/lib/vireo"));
        domain.events.on_crash = Action::CoredumpRestart;
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let read = vireo_vmm::config::Guest::parse(&text).unwrap();
        assert_eq!(read.on_crash, vireo_vmm::config::Then::Restart);
        let wanted = PathBuf::from(format!("/var/lib/vireo/cores/{}", domain.uuid));
        assert_eq!(read.core, Some(wanted));
    }

    #[test]
    fn clock_and_timers_reach_the_monitor() {
        use crate::resolve::domain::{Clock, ClockBasis, Extra};
        use vireo_vmm::config::{ClockOffset, LostTicks};
        let dir = GuestDir::new(Path::new("/run/vireo/guests"), uuid::Uuid::nil())
            .with_state(Path::new("/var/lib/vireo"));
        let mut domain = testing::domain();
        let read = |domain: &Domain| {
            let text = serde_json::to_string(&translate(domain, &dir).unwrap()).unwrap();
            vireo_vmm::config::Guest::parse(&text).unwrap().clock
        };
        domain.clock = Clock::Variable {
            basis: ClockBasis::Localtime,
            adjustment: -5,
        };
        let variable = read(&domain);
        let keep = PathBuf::from(format!("/var/lib/vireo/clocks/{}", uuid::Uuid::nil()));
        assert_eq!((variable.adjustment, variable.keep), (Some(-5), Some(keep)));
        domain.clock = Clock::Timezone("Europe/Berlin".to_owned());
        assert_eq!(read(&domain).timezone.as_deref(), Some("Europe/Berlin"));
        domain.clock = Clock::Absolute(7);
        let timer = |fields: &[(&str, &str)]| Extra {
            class: "timer".to_owned(),
            fields: fields
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            address: None,
        };
        domain.extras = vec![
            timer(&[("name", "pit"), ("tickpolicy", "discard")]),
            timer(&[
                ("name", "rtc"),
                ("tickpolicy", "catchup"),
                ("track", "wall"),
            ]),
            timer(&[("name", "hpet"), ("present", "no")]),
            timer(&[("name", "kvmclock"), ("present", "no")]),
            timer(&[
                ("name", "tsc"),
                ("frequency", "2400000000"),
                ("mode", "auto"),
            ]),
        ];
        let clock = read(&domain);
        assert_eq!(
            (clock.offset, clock.start),
            (ClockOffset::Absolute, Some(7))
        );
        assert_eq!((clock.pit, clock.kvmclock), (LostTicks::Discard, false));
        assert_eq!(clock.tsc_khz, Some(2_400_000));
        for odd in [
            timer(&[("name", "hpet"), ("present", "yes")]),
            timer(&[("name", "pit"), ("tickpolicy", "merge")]),
            timer(&[("name", "pit"), ("present", "no")]),
            timer(&[("name", "tsc"), ("frequency", "999")]),
        ] {
            domain.extras = vec![odd];
            assert!(translate(&domain, &dir).is_err(), "{:?}", domain.extras);
        }
    }

    #[test]
    fn what_the_monitor_does_not_do_is_refused_by_name() {
        let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
        let mut domain = testing::domain();
        domain.disks[0].bus = "ide".to_owned();
        let error = translate(&domain, &dir).unwrap_err();
        assert_eq!(
            error.to_string(),
            "driver builtin cannot do disk vda on bus ide"
        );
        let refused = |change: fn(&mut Interface)| {
            let mut domain = testing::domain();
            change(&mut domain.interfaces[0]);
            translate(&domain, &dir).unwrap_err().to_string()
        };
        let said = refused(|interface| interface.vhost = Some(true));
        assert!(said.ends_with("vhost of interface net0"), "{said}");
        let said = refused(|interface| interface.queues = Some(40));
        assert!(said.contains("40 pairs of queues"), "{said}");
        for mtu in [67, 65536] {
            let mut domain = testing::domain();
            domain.interfaces[0].mtu = Some(mtu);
            let said = translate(&domain, &dir).unwrap_err().to_string();
            assert!(said.contains(&format!("an MTU of {mtu} ")), "{said}");
        }
    }
}
