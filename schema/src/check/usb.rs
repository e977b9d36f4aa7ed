//! Rules on USB: whether there is any, the ports of controllers and hubs, and which are taken.

use super::addresses::places;
use super::machine::is_qemu;
use super::one::Report;
use super::path::DevicePath;
use crate::domain::address::{Address, AddressType};
use crate::domain::chardev::CharTargetType;
use crate::domain::controller::{Controller, ControllerModel, ControllerType};
use crate::domain::disk::DiskBus;
use crate::domain::graphics::SoundModel;
use crate::domain::hostdev::HostdevType;
use crate::domain::misc::InputBus;
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::Number;
use std::collections::{HashMap, HashSet};

/// The ports of a hub.
const HUB_PORTS: u64 = 8;

/// The most numbers in a port's path.
const MOST_DEEP: usize = 4;

/// Every rule on USB.
pub(crate) fn check(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let qemu = is_qemu(domain);
    for (i, controller) in controllers(devices) {
        let xhci = matches!(
            controller.model,
            Some(ControllerModel::QemuXhci | ControllerModel::NecXhci)
        );
        let fixed = qemu && !xhci && ports_of(controller).is_some();
        let at = format_args!("devices/controller[{}]/@ports", i + 1);
        if xhci && controller.ports.is_some_and(|ports| ports > 15) {
            r.add(
                Rule::UsbPorts,
                at,
                "this controller has at most 15 ports",
                None,
            );
        } else if fixed && controller.ports.is_some() {
            r.add(
                Rule::UsbPorts,
                at,
                "this controller's ports cannot be chosen",
                Some("take model='qemu-xhci', which has up to 15"),
            );
        }
    }
    none(devices, r);
    kinds(devices, r);
    taken(devices, qemu, r);
}

fn controllers(devices: &Devices) -> impl Iterator<Item = (usize, &Controller)> {
    devices
        .controllers
        .iter()
        .enumerate()
        .filter(|(_, controller)| controller.kind == Some(ControllerType::Usb))
}

/// The ports of a controller of a known model.
fn ports_of(controller: &Controller) -> Option<u64> {
    use ControllerModel as M;
    match controller.model? {
        M::Piix3Uhci
        | M::Piix4Uhci
        | M::Ich9Uhci1
        | M::Ich9Uhci2
        | M::Ich9Uhci3
        | M::Vt82c686bUhci => Some(2),
        M::PciOhci => Some(3),
        M::Ehci | M::Ich9Ehci1 => Some(6),
        M::QemuXhci | M::NecXhci => match controller.ports {
            Some(ports) => u64::try_from(ports).ok(),
            None => Some(4),
        },
        _ => None,
    }
}

/// The controller that says that there is no USB, and what needs it nevertheless.
fn none(devices: &Devices, r: &mut Report<'_>) {
    if !controllers(devices).any(|(_, controller)| controller.model == Some(ControllerModel::None))
    {
        return;
    }
    if let Some((i, _)) =
        controllers(devices).find(|(_, controller)| controller.model != Some(ControllerModel::None))
    {
        r.report(
            Rule::UsbNone,
            format_args!("devices/controller[{}]", i + 1),
            "another USB controller is of model none: the guest has no USB",
        );
    }
    let inputs = devices
        .inputs
        .iter()
        .position(|input| input.bus == Some(InputBus::Usb))
        .map(|i| format!("devices/input[{}]/@bus", i + 1));
    let disks = devices
        .disks
        .iter()
        .position(|disk| disk.target.as_ref().and_then(|target| target.bus) == Some(DiskBus::Usb))
        .map(|i| format!("devices/disk[{}]/target/@bus", i + 1));
    let hostdevs = devices
        .hostdevs
        .iter()
        .position(|hostdev| hostdev.kind == Some(HostdevType::Usb))
        .map(|i| format!("devices/hostdev[{}]/@type", i + 1));
    let sounds = devices
        .sounds
        .iter()
        .position(|sound| sound.model == Some(SoundModel::Usb))
        .map(|i| format!("devices/sound[{}]/@model", i + 1));
    let serials = devices
        .serials
        .iter()
        .position(|serial| {
            serial.target.as_ref().and_then(|target| target.kind) == Some(CharTargetType::UsbSerial)
        })
        .map(|i| format!("devices/serial[{}]/target/@type", i + 1));
    let hubs = (!devices.hubs.is_empty()).then(|| "devices/hub[1]".to_owned());
    let redirs = (!devices.redirdevs.is_empty()).then(|| "devices/redirdev[1]".to_owned());
    for path in [inputs, disks, hostdevs, sounds, serials, hubs, redirs]
        .into_iter()
        .flatten()
    {
        r.report(
            Rule::UsbNone,
            path,
            "the guest has no USB: its controller is of model none",
        );
    }
}

/// What is on USB has a place on USB.
fn kinds(devices: &Devices, r: &mut Report<'_>) {
    let inputs = devices
        .inputs
        .iter()
        .enumerate()
        .filter(|(_, input)| input.bus == Some(InputBus::Usb))
        .map(|(i, input)| (DevicePath::new("input", i), &input.address));
    let redirdevs = devices
        .redirdevs
        .iter()
        .enumerate()
        .map(|(i, redirdev)| (DevicePath::new("redirdev", i), &redirdev.address));
    for (path, address) in inputs.chain(redirdevs) {
        let kind = address.as_ref().and_then(|address| address.kind);
        if let Some(kind) = kind.filter(|kind| *kind != AddressType::Usb) {
            r.report(
                Rule::AddressType,
                format_args!("{path}/address/@type"),
                format!("a device on USB has no {kind} address"),
            );
        }
    }
}

/// The bus and the path of ports of a place on USB, where it is stated.
fn port(address: &Address) -> Option<(u64, &str)> {
    let usb = address.kind == Some(AddressType::Usb);
    let port = address.port.as_deref().filter(|_| usb)?;
    Some((address.bus.map_or(0, Number::get), port))
}

/// Whether it is a path of ports such as `1` or `1.2`.
fn is_path(port: &str) -> bool {
    port.split('.').count() <= MOST_DEEP
        && port.split('.').all(|number| {
            number.bytes().all(|b| b.is_ascii_digit()) && number.parse::<u32>().is_ok()
        })
}

/// Ports that are there, each taken once, with a hub at every step of the way.
fn taken(devices: &Devices, qemu: bool, r: &mut Report<'_>) {
    let mut sizes: HashMap<u64, Option<u64>> = HashMap::new();
    for (_, controller) in controllers(devices) {
        let bus = u64::from(controller.index.unwrap_or(0));
        let ports = ports_of(controller);
        let size = sizes.entry(bus).or_insert(Some(0));
        *size = size.zip(ports).map(|(a, b)| a.max(b));
    }
    let hubs: HashSet<(u64, &str)> = devices
        .hubs
        .iter()
        .filter_map(|hub| port(hub.address.as_ref()?))
        .collect();
    let mut seen: HashMap<(u64, &str), DevicePath> = HashMap::new();
    for (path, address) in places(devices) {
        let Some((bus, port)) = port(address) else {
            continue;
        };
        let at = format_args!("{path}/address/@port");
        if !is_path(port) {
            r.report(
                Rule::UsbHub,
                at,
                format!("`{port}` is no port such as 1, nor one of a hub's such as 1.2"),
            );
            continue;
        }
        let last = match port.rsplit_once('.') {
            Some((hub, last)) if hubs.contains(&(bus, hub)) => Some((HUB_PORTS, last)),
            Some((hub, _)) => {
                let message = format!("there is no hub at port {hub} of bus {bus}");
                r.report(Rule::UsbHub, at, message);
                None
            }
            None => sizes
                .get(&bus)
                .copied()
                .flatten()
                .filter(|_| qemu)
                .map(|size| (size, port)),
        };
        if let Some((size, last)) = last
            && last
                .parse::<u64>()
                .is_ok_and(|last| last == 0 || last > size)
        {
            let of = if last.len() == port.len() {
                format!("USB bus {bus}")
            } else {
                "a hub".to_owned()
            };
            r.report(
                Rule::UsbHub,
                at,
                format!("the ports of {of} are 1 to {size}"),
            );
        }
        if qemu && let Some(other) = seen.insert((bus, port), path) {
            r.report(Rule::AddressInUse, at, format!("{other} has this port"));
        }
    }
}
