//! A guest's command line.
//!
//! In: the guest, its directory, what accelerates it. Out: arguments, which QEMU gets one by one without a shell, and files for what must not be read off a
//! process list. What QEMU takes as JSON is given as JSON; in what it does not, commas are doubled. Source: QEMU's "Invocation".

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vireo_schema::domain::disk::{CacheMode, DiskIo};

use super::clock;
use super::graphics;
use super::place::{self, pci};
use super::unsupported;
use super::{chardevs, controllers, devices, machine};
use crate::domain::{DriverError, GuestDir, Objection, find_program};
use crate::resolve::domain::{
    Action, Boot, Chardev, Disk, Domain, Extra, Interface, InterfaceSource,
};
use crate::resolve::nth_device as nth;
use crate::resolve::storage::ImageFormat;

/// The name of the first serial port's character device.
pub const CONSOLE: &str = "serial0";
/// What of the host a command line depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// KVM runs the guest's instructions instead of software emulation.
    pub kvm: bool,
    /// The kernel's vhost-net can move packets.
    pub vhost: bool,
    /// The installed firmware for UEFI: its code, and the template of its variables.
    pub firmware: Option<(PathBuf, PathBuf)>,
    /// The port of a SPICE display that leaves it to be chosen.
    pub spice: u16,
}

impl Host {
    /// What this host has for this guest.
    pub fn of(domain: &Domain) -> Self {
        let installed = machine::OVMF
            .iter()
            .find(|(code, vars)| Path::new(code).exists() && Path::new(vars).exists());
        Self {
            kvm: !domain.emulated,
            vhost: Path::new("/dev/vhost-net").exists(),
            firmware: installed.map(|(code, vars)| (code.into(), vars.into())),
            spice: graphics::spice_port(domain).unwrap_or(graphics::FIRST),
        }
    }

    /// A host that has everything.
    pub fn complete(domain: &Domain) -> Self {
        let [(code, vars), ..] = machine::OVMF;
        Self {
            kvm: !domain.emulated,
            vhost: true,
            firmware: Some((code.into(), vars.into())),
            spice: graphics::FIRST,
        }
    }
}

/// A command line as it grows.
#[derive(Debug, Clone, Default)]
pub struct CommandLine {
    /// Arguments, without the program.
    pub arguments: Vec<String>,
    /// Files of the guest's directory that hold what must not be an argument: name and contents.
    pub secrets: Vec<(String, String)>,
    /// A file that is made from another before the start, unless it is there.
    pub copy: Option<(PathBuf, PathBuf)>,
    devices: Vec<Value>,
}

impl CommandLine {
    /// A switch.
    pub fn flag(&mut self, flag: &str) {
        self.arguments.push(flag.to_owned());
    }

    /// An option with its value.
    pub fn option(&mut self, flag: &str, value: impl Into<String>) {
        self.flag(flag);
        self.arguments.push(value.into());
    }

    /// An option whose value QEMU reads as JSON. Keys whose value is `null` are left out.
    pub fn json(&mut self, flag: &str, mut value: Value) {
        if let Some(object) = value.as_object_mut() {
            object.retain(|_, value| !value.is_null());
        }
        self.option(flag, value.to_string());
    }

    /// A device.
    pub fn device(&mut self, value: Value) {
        self.devices.push(value);
    }

    /// Takes over a part of the line.
    pub fn append(&mut self, part: Self) {
        self.arguments.extend(part.arguments);
        self.secrets.extend(part.secrets);
        self.devices.extend(part.devices);
        self.copy = part.copy.or(self.copy.take());
    }

    /// Adds the devices, in the order in which each finds its place.
    fn plug(&mut self) {
        let mut devices = std::mem::take(&mut self.devices);
        place::order(&mut devices);
        for device in devices {
            self.json("-device", device);
        }
    }
}

/// A value between commas.
pub fn escape(text: &str) -> String {
    text.replace(',', ",,")
}

/// A path in an argument.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether the machine is of the q35 family: PCI Express and SATA instead of PCI and IDE.
pub fn is_q35(domain: &Domain) -> bool {
    domain
        .machine
        .machine
        .as_deref()
        .is_some_and(|machine| machine.contains("q35"))
}

/// The QEMU to run.
///
/// # Errors
/// It is not installed.
pub fn program(domain: &Domain) -> Result<PathBuf, DriverError> {
    let name = format!("qemu-system-{}", domain.machine.arch);
    if let Some(stated) = &domain.machine.emulator {
        return if stated.exists() {
            Ok(stated.clone())
        } else {
            Err(DriverError::NotInstalled {
                program: text(stated),
                help: format!("leave <emulator> out of the definition to take {name} from PATH"),
            })
        };
    }
    find_program(&name, None).ok_or_else(|| DriverError::NotInstalled {
        help: format!("install the package that has {name} (Debian: qemu-system-x86)"),
        program: name,
    })
}

/// The whole command line.
///
/// # Errors
/// Something that this driver does not do.
pub fn build(domain: &Domain, dir: &GuestDir, host: &Host) -> Result<CommandLine, DriverError> {
    let mut line = CommandLine::default();
    for (_, part) in parts(domain, dir, host) {
        line.append(part?);
    }
    line.plug();
    line.arguments.extend(domain.qemu_arguments.iter().cloned());
    Ok(line)
}

/// Everything of the guest that this driver cannot do on any host.
pub fn objections(domain: &Domain) -> Vec<Objection> {
    let dir = GuestDir::new(Path::new("/"), domain.uuid);
    let host = Host::complete(domain);
    let failed = parts(domain, &dir, &host)
        .into_iter()
        .filter_map(|(path, part)| Some(Objection::new(path, &part.err()?)));
    let timers = clock::timers(domain, &host).objections;
    failed.chain(timers).collect()
}

/// A part of the command line, with the path of the element that asks for it.
type Part = (String, Result<CommandLine, DriverError>);

fn part(
    path: impl Into<String>,
    add: impl FnOnce(&mut CommandLine) -> Result<(), DriverError>,
) -> Part {
    let mut line = CommandLine::default();
    let added = add(&mut line);
    (path.into(), added.map(|()| line))
}

fn parts(domain: &Domain, dir: &GuestDir, host: &Host) -> Vec<Part> {
    let orders = boot_orders(domain);
    let timers = clock::timers(domain, host);
    let mut parts = vec![
        part("", |line| {
            monitor(line, domain, dir);
            Ok(())
        }),
        part("os", |line| {
            machine::machine(line, domain, dir, host, &timers)
        }),
        part("cpu", |line| {
            line.option("-cpu", machine::cpu(domain, host, &timers)?);
            Ok(())
        }),
        part("sysinfo", |line| machine::smbios(line, domain)),
        part("on_reboot", |line| ends(line, domain)),
    ];
    parts.extend(buses(domain));
    for (index, disk) in domain.disks.iter().enumerate() {
        let order = orders.disks.get(index).copied().flatten();
        parts.push(part(nth("disk", index), |line| {
            self::disk(line, domain, disk, order)
        }));
    }
    for (index, interface) in domain.interfaces.iter().enumerate() {
        let order = orders.interfaces.get(index).copied().flatten();
        parts.push(part(nth("interface", index), |line| {
            self::interface(line, domain, interface, host, order)
        }));
    }
    for (index, chardev) in domain.chardevs.iter().enumerate() {
        let same = |one: &&Chardev| one.class == chardev.class;
        let number = domain.chardevs.iter().take(index).filter(same).count();
        parts.push(part(nth(&chardev.class, number), |line| {
            chardevs::chardev(line, domain, dir, index, chardev)
        }));
    }
    parts.extend(extras(domain, dir, host));
    parts.push(part("devices/rng", |line| rng(line, domain)));
    parts.push(part("devices/memballoon", |line| {
        if domain.balloon {
            let mut device = json!({"driver": "virtio-balloon-pci", "id": "balloon0"});
            let options = &domain.balloon_options;
            if options.autodeflate {
                device["deflate-on-oom"] = true.into();
            }
            if let Some(reporting) = options.free_page_reporting {
                device["free-page-reporting"] = reporting.into();
            }
            if options.period.is_some() {
                return Err(unsupported(
                    "reports of the guest's memory (<stats period>)",
                ));
            }
            line.device(pci(domain, device, domain.balloon_address.as_ref())?);
        }
        Ok(())
    }));
    parts
}

/// The path of an extra device, counted among those of its class.
fn path_of(domain: &Domain, index: usize, extra: &Extra) -> String {
    let same = |one: &&Extra| one.class == extra.class;
    let number = domain.extras.iter().take(index).filter(same).count();
    match extra.class.as_str() {
        "pm" => "pm".to_owned(),
        class => nth(class, number),
    }
}

/// Controllers: those that the definition states, companions last, and those that its devices need.
fn buses(domain: &Domain) -> Vec<Part> {
    let stated = domain.extras.iter().enumerate();
    let mut stated: Vec<_> = stated
        .filter(|(_, extra)| extra.class == "controller")
        .collect();
    stated.sort_by_key(|(_, extra)| controllers::is_companion(extra));
    let mut parts: Vec<Part> = stated
        .into_iter()
        .map(|(index, extra)| {
            part(path_of(domain, index, extra), |line| {
                line.devices.extend(controllers::stated(domain, extra)?);
                Ok(())
            })
        })
        .collect();
    parts.push(part("devices", |line| {
        line.devices.extend(controllers::needed(domain));
        Ok(())
    }));
    parts
}

/// Whatever else only QEMU has. Timers are in what the machine, the processor and the clock are told.
fn extras(domain: &Domain, dir: &GuestDir, host: &Host) -> Vec<Part> {
    let others = domain.extras.iter().enumerate();
    let others = others.filter(|(_, extra)| extra.class != "controller" && extra.class != "timer");
    let mut parts: Vec<Part> = others
        .map(|(index, extra)| {
            part(path_of(domain, index, extra), |line| {
                devices::extra(line, domain, dir, host, (index, extra))
            })
        })
        .collect();
    if !domain.extras.iter().any(|extra| extra.class == "graphics") {
        parts.push(part("devices", |line| {
            line.option("-display", "none");
            Ok(())
        }));
    }
    parts
}

fn rng(line: &mut CommandLine, domain: &Domain) -> Result<(), DriverError> {
    let Some(rng) = &domain.rng else {
        return Ok(());
    };
    line.json(
        "-object",
        json!({"qom-type": "rng-random", "id": "rng0", "filename": text(&rng.source)}),
    );
    let device = json!({"driver": "virtio-rng-pci", "id": "rng0-device", "rng": "rng0"});
    line.device(pci(domain, device, rng.address.as_ref())?);
    Ok(())
}

fn monitor(line: &mut CommandLine, domain: &Domain, dir: &GuestDir) {
    let name = escape(&domain.name);
    line.option("-name", format!("guest={name},process={name}"));
    line.option("-uuid", domain.uuid.to_string());
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.option(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    line.option("-msg", "timestamp=on");
    let control = escape(&text(&dir.control()));
    line.option(
        "-chardev",
        format!("socket,id=monitor,path={control},server=on,wait=off"),
    );
    line.option("-mon", "chardev=monitor,mode=control");
    let events = escape(&text(&dir.file("events")));
    line.option("-chardev", format!("pipe,id=events,path={events}"));
    line.option("-mon", "chardev=events,mode=control");
}

/// What the guest's ends lead to. It is the agent that starts a guest again which has powered itself off.
fn ends(line: &mut CommandLine, domain: &Domain) -> Result<(), DriverError> {
    let events = domain.events;
    match events.on_poweroff {
        Action::Preserve => line.option("-action", "shutdown=pause"),
        _ => line.option("-action", "shutdown=poweroff"),
    }
    match events.on_reboot {
        Action::Restart => line.option("-action", "reboot=reset"),
        Action::Destroy => line.option("-action", "reboot=shutdown"),
        _ => return Err(unsupported("<on_reboot>preserve</on_reboot>")),
    }
    match events.on_crash {
        Action::Preserve => line.option("-action", "panic=pause"),
        Action::Destroy | Action::Restart => line.option("-action", "panic=shutdown"),
        Action::CoredumpDestroy | Action::CoredumpRestart => {
            return Err(unsupported("a core dump of a guest that crashes"));
        }
    }
    Ok(())
}

/// `bootindex` of disks and interfaces, in the order of the definition.
#[derive(Debug)]
struct BootOrders {
    disks: Vec<Option<u32>>,
    interfaces: Vec<Option<u32>>,
}

/// Stated orders; where there are none, `<boot dev>` names the first device of each kind.
fn boot_orders(domain: &Domain) -> BootOrders {
    let mut orders = BootOrders {
        disks: domain.disks.iter().map(|disk| disk.boot_order).collect(),
        interfaces: domain
            .interfaces
            .iter()
            .map(|interface| interface.boot_order)
            .collect(),
    };
    let stated = orders
        .disks
        .iter()
        .chain(&orders.interfaces)
        .any(Option::is_some);
    let Boot::Firmware { order, .. } = &domain.boot else {
        return orders;
    };
    if stated {
        return orders;
    }
    for (index, kind) in (1..).zip(order) {
        let device = match kind.as_str() {
            "hd" => "disk",
            "fd" => "floppy",
            other => other,
        };
        let slot = if device == "network" {
            orders.interfaces.first_mut()
        } else {
            let first = domain.disks.iter().position(|disk| disk.device == device);
            first.and_then(|first| orders.disks.get_mut(first))
        };
        if let Some(slot) = slot {
            *slot = Some(index);
        }
    }
    orders
}

/// The name of the block node that a disk's guest sees.
pub fn node_name(target: &str) -> String {
    format!("{NODE}{target}")
}

/// The disk whose node has this name.
pub fn target_of(node: &str) -> Option<&str> {
    node.strip_prefix(NODE)
}

/// What the names of disks' nodes begin with.
const NODE: &str = "disk-";

/// A disk: its image as a block node, and the device that shows it.
fn disk(
    line: &mut CommandLine,
    domain: &Domain,
    disk: &Disk,
    order: Option<u32>,
) -> Result<(), DriverError> {
    let target = &disk.target;
    // Source: QEMU's "Disk image file formats", cache modes: (past the page cache, flushes ignored, the guest sees a write cache).
    let (direct, no_flush, write_cache) = match disk.cache {
        None | Some(CacheMode::Default) => (false, false, None),
        Some(CacheMode::Writeback) => (false, false, Some("on")),
        Some(CacheMode::None) => (true, false, Some("on")),
        Some(CacheMode::Writethrough) => (false, false, Some("off")),
        Some(CacheMode::Directsync) => (true, false, Some("off")),
        Some(CacheMode::Unsafe) => (false, true, Some("on")),
    };
    if disk.device == "floppy" && disk.serial.is_some() {
        return Err(unsupported(format!("the serial number of floppy {target}")));
    }
    if disk.device == "floppy" && (disk.error_policy.is_some() || disk.rerror_policy.is_some()) {
        return Err(unsupported(format!(
            "the error policies of floppy {target}"
        )));
    }
    if disk.io == Some(DiskIo::Native) && !direct {
        return Err(unsupported(format!(
            "io native of disk {target} without cache none or directsync"
        )));
    }
    if disk.bus != "virtio" && (disk.queues.is_some() || disk.queue_size.is_some()) {
        return Err(unsupported(format!(
            "queues of disk {target} on bus {}",
            disk.bus
        )));
    }
    let node = node_name(target);
    let readonly = disk.readonly || disk.device == "cdrom";
    if let Some(path) = &disk.path {
        let device = path.starts_with("/dev/");
        let cache = json!({"direct": direct, "no-flush": no_flush});
        let mut file = json!({
            "driver": if device { "host_device" } else { "file" }, "filename": text(path), "cache": cache,
        });
        if let (Some(file), Some(io)) = (file.as_object_mut(), disk.io) {
            file.insert("aio".to_owned(), io.as_str().into());
        }
        let driver = match disk.format {
            ImageFormat::Raw => "raw",
            ImageFormat::Qcow2 => "qcow2",
        };
        line.json("-blockdev", json!({
            "node-name": node, "driver": driver, "read-only": readonly, "cache": cache, "discard": disk.discard, "detect-zeroes": disk.detect_zeroes, "file": file,
        }));
    }
    let mut shown = devices::disk(domain, disk)?;
    if let Some(shown) = shown.as_object_mut() {
        let mut put = |key: &str, value: Value| shown.insert(key.to_owned(), value);
        put("id", target.as_str().into());
        if disk.path.is_some() {
            put("drive", node.into());
        }
        put("bootindex", json!(order));
        if disk.device != "floppy" {
            put("serial", json!(disk.serial));
        }
        if disk.device == "disk" {
            put("write-cache", json!(write_cache));
        }
        put("num-queues", json!(disk.queues));
        put("queue-size", json!(disk.queue_size));
        put("werror", json!(disk.error_policy));
        put("rerror", json!(disk.rerror_policy));
        if disk.shareable {
            put("share-rw", true.into());
        }
    }
    line.device(shown);
    Ok(())
}

/// A network interface: a tap that is there already, and the device that shows it.
fn interface(
    line: &mut CommandLine,
    domain: &Domain,
    interface: &Interface,
    host: &Host,
    order: Option<u32>,
) -> Result<(), DriverError> {
    let index = interface.index;
    let driver = match interface.model.as_str() {
        "virtio" => "virtio-net-pci",
        "virtio-transitional" => "virtio-net-pci-transitional",
        "virtio-non-transitional" => "virtio-net-pci-non-transitional",
        model @ ("e1000" | "e1000e" | "rtl8139" | "ne2k_pci" | "pcnet" | "vmxnet3" | "igb") => {
            model
        }
        model => return Err(unsupported(format!("an interface of model {model}"))),
    };
    let virtio = driver.starts_with("virtio");
    if !virtio && (interface.queues.is_some() || interface.vhost == Some(true)) {
        return Err(unsupported(format!(
            "queues or vhost of an interface of model {driver}"
        )));
    }
    if matches!(interface.source, InterfaceSource::Direct { .. }) {
        return Err(unsupported("an interface of type 'direct'".to_owned()));
    }
    let sized = interface.rx_queue_size.or(interface.tx_queue_size);
    if !virtio && (sized.is_some() || !interface.offloads.is_empty()) {
        return Err(unsupported(format!(
            "sizes of queues, or <host> and <guest>, of an interface of model {driver}"
        )));
    }
    let fits = |size: u32| size.is_power_of_two() && (256..=1024).contains(&size);
    if let Some(size) = interface.rx_queue_size.filter(|size| !fits(*size)) {
        return Err(unsupported(format!("rx_queue_size {size}")));
    }
    // Only a switch outside of the kernel takes longer ones.
    if let Some(size) = interface.tx_queue_size.filter(|size| *size != 256) {
        return Err(unsupported(format!("tx_queue_size {size}")));
    }
    let vhost = virtio && interface.vhost.unwrap_or(host.kvm && host.vhost);
    if vhost && !host.vhost {
        return Err(DriverError::NotInstalled {
            program: "/dev/vhost-net".to_owned(),
            help: "load the module vhost_net, or leave <driver name='vhost'/> out".to_owned(),
        });
    }
    let queues = interface.queues.filter(|&queues| queues > 1 && virtio);
    let mut netdev = match interface.source {
        InterfaceSource::User => format!("user,id=net{index}"),
        _ => format!(
            "tap,id=net{index},ifname={},script=no,downscript=no",
            escape(&interface.tap)
        ),
    };
    if interface.source != InterfaceSource::User {
        if let Some(queues) = queues {
            netdev.push_str(&format!(",queues={queues}"));
        }
        if vhost {
            netdev.push_str(",vhost=on");
        }
    }
    line.option("-netdev", netdev);
    let [a, b, c, d, e, f] = interface.mac;
    let mut device = json!({
        "driver": driver, "id": format!("nic{index}"), "netdev": format!("net{index}"),
        "mac": format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"), "bootindex": order,
        "mq": queues.map(|_| true), "vectors": queues.map(|queues| 2 * queues + 2),
        "host_mtu": interface.mtu.filter(|_| virtio),
        "rx_queue_size": interface.rx_queue_size, "tx_queue_size": interface.tx_queue_size,
    });
    if let Some(device) = device.as_object_mut() {
        let switches = interface.offloads.iter();
        device.extend(switches.map(|(name, on)| (offload(name), json!(on))));
    }
    line.device(pci(domain, device, interface.address.as_ref())?);
    Ok(())
}

/// QEMU's name of what one side may leave to the other.
fn offload(name: &str) -> String {
    let bare = ["host-csum", "host-gso", "host-mrg-rxbuf"];
    let name = match name.strip_prefix("host-") {
        Some(rest) if bare.contains(&name) => rest,
        _ => name,
    };
    name.replace('-', "_")
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
