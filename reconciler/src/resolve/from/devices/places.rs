//! What of a definition's places, buses and idle devices the builtin driver has.
//!
//! libvirt writes into every definition where each device sits, which controllers QEMU's machine has, and a mouse and a keyboard. Places are what the monitor makes of them
//! ([`places`]); of the rest a guest does without what nothing of it uses, and the plan says so ([`left_out`]). What something uses is in the way ([`obstacle`]).
//!
//! Source: libvirt's domain format, "Device addresses", "Controllers", "Input devices".

use std::collections::BTreeSet;

use vireo_schema::complete::targets::targets;
use vireo_schema::domain::address::{Address, AddressType};
use vireo_schema::domain::chardev::{CharTarget, CharTargetType};
use vireo_schema::domain::controller::{Controller, ControllerModel, ControllerType};
use vireo_schema::domain::devices::Devices;
use vireo_schema::domain::graphics::VideoType;
use vireo_schema::domain::memory::BalloonModel;
use vireo_schema::domain::misc::{
    InputBus, InputType, Panic, PanicModel, Watchdog, WatchdogAction, WatchdogModel,
};
use vireo_schema::scalar::{Hex, Number, Scalar as _};

use super::nth;
use crate::domain::builtin::places::{self, Device, Place, What};

/// The first serial port's place on ISA: its first port and its interrupt.
const COM1: (u64, u64) = (0x3f8, 4);
/// The panic device's port on ISA.
const PVPANIC: u64 = 0x505;

/// The first place, controller or idle device that the builtin driver does not have: its path, and why.
pub(super) fn obstacle(devices: &Devices) -> Option<(String, String)> {
    controller(devices)
        .or_else(|| on_pci(devices).err())
        .or_else(|| on_isa(devices))
        .or_else(|| on_virtio_serial(devices))
        .or_else(|| input(devices))
        .or_else(|| video(devices))
}

/// What the definition states and the guest does without, since nothing of it uses that, in words.
pub(super) fn left_out(devices: &Devices) -> Vec<String> {
    let controllers: BTreeSet<&str> = devices
        .controllers
        .iter()
        .filter(|it| !is_made(it))
        .filter_map(|it| match it.kind? {
            ControllerType::Pci => Some(it.model?.as_str()),
            kind => Some(kind.as_str()),
        })
        .collect();
    let controllers = controllers
        .into_iter()
        .map(|kind| format!("controller {kind}"));
    let inputs = devices.inputs.iter();
    let inputs = inputs.filter_map(|input| Some(format!("PS/2 {}", input.kind?.as_str())));
    let watchdogs = devices.watchdogs.iter().filter(|it| is_chipsets(it));
    let watchdogs = watchdogs.map(|_| "watchdog itco".to_owned());
    controllers.chain(inputs).chain(watchdogs).collect()
}

/// The watchdog that every Q35 machine has, and that nobody asked for more than that.
pub(super) fn is_chipsets(watchdog: &Watchdog) -> bool {
    watchdog.model == Some(WatchdogModel::Itco)
        && watchdog.action.unwrap_or(WatchdogAction::Reset) == WatchdogAction::Reset
}

fn number(stated: Option<Number>) -> u64 {
    stated.map_or(0, Number::get)
}

/// The place that an address on PCI states; all zeroes is libvirt's word for any.
fn place(device: &str, address: Option<&Address>) -> Result<Option<Place>, (String, String)> {
    let Some(address) = address else {
        return Ok(None);
    };
    let path = format!("{device}/address");
    if address.kind != Some(AddressType::Pci) {
        let kind = address.kind.map_or("?", |kind| kind.as_str());
        let why = format!("it asks for a device of PCI at an address of type {kind}");
        return Err((path, why));
    }
    if number(address.domain) != 0 {
        let why = "it asks for a second domain of PCI, and builtin has one".to_owned();
        return Err((path, why));
    }
    let small = |stated| u32::try_from(number(stated)).unwrap_or(u32::MAX);
    let place = Place {
        bus: small(address.bus),
        slot: small(address.slot),
        function: small(address.function),
    };
    let any = Place {
        bus: 0,
        slot: 0,
        function: 0,
    };
    Ok(Some(place).filter(|place| *place != any))
}

/// Lays out the devices of PCI as the monitor will.
fn on_pci(devices: &Devices) -> Result<(), (String, String)> {
    let mut found = Vec::new();
    let mut add = |path: String, what, address: Option<&Address>| {
        let place = place(&path, address)?;
        found.push(Device { path, what, place });
        Ok::<(), (String, String)>(())
    };
    let disks = devices.disks.iter().enumerate();
    for ((at, disk), target) in disks.zip(targets(&devices.disks)) {
        let what = What::Disk(places::disk_number(&target));
        add(nth("disk", at), what, disk.address.as_ref())?;
    }
    for (at, interface) in devices.interfaces.iter().enumerate() {
        let what = What::Interface(at);
        add(nth("interface", at), what, interface.address.as_ref())?;
    }
    for rng in devices.rngs.iter().take(1) {
        add(nth("rng", 0), What::Rng, rng.address.as_ref())?;
    }
    let balloon = devices.memballoon.as_ref();
    if balloon.and_then(|it| it.model) != Some(BalloonModel::None) {
        let address = balloon.and_then(|it| it.address.as_ref());
        add(nth("memballoon", 0), What::Balloon, address)?;
    }
    for (at, panic) in devices.panics.iter().enumerate() {
        if !is_isa(panic) {
            add(nth("panic", at), What::Panic, panic.address.as_ref())?;
        }
    }
    for (at, watchdog) in devices.watchdogs.iter().enumerate() {
        if !is_chipsets(watchdog) {
            add(
                nth("watchdog", at),
                What::Watchdog,
                watchdog.address.as_ref(),
            )?;
        }
    }
    if let Some(vsock) = &devices.vsock {
        add(nth("vsock", 0), What::Vsock, vsock.address.as_ref())?;
    }
    if has_ports(devices) {
        let mut controllers = devices.controllers.iter().enumerate();
        let serial = controllers.find(|(_, it)| it.kind == Some(ControllerType::VirtioSerial));
        let (at, address) = serial.map_or((0, None), |(at, it)| (at, it.address.as_ref()));
        add(nth("controller", at), What::Console, address)?;
    }
    let pci = devices.controllers.iter().enumerate();
    let pci = pci.filter(|(_, it)| it.kind == Some(ControllerType::Pci));
    let buses = pci.map(|(at, it)| {
        let path = nth("controller", at);
        Ok(places::Controller {
            place: place(&path, it.address.as_ref())?,
            path,
            index: it.index.unwrap_or(0),
            model: it.model.map_or("", |model| model.as_str()).to_owned(),
        })
    });
    let buses: Result<Vec<_>, (String, String)> = buses.collect();
    let buses = buses?;
    match places::lay_out(&buses, &found) {
        Ok(_) => Ok(()),
        Err(lack) => Err((lack.path, format!("it asks for {}", lack.what))),
    }
}

fn is_isa(panic: &Panic) -> bool {
    panic.model.unwrap_or(PanicModel::Isa) == PanicModel::Isa
}

fn on_isa(devices: &Devices) -> Option<(String, String)> {
    let is = |address: &Address, wanted: &[(Option<Hex>, u64)]| {
        address.kind == Some(AddressType::Isa)
            && wanted
                .iter()
                .all(|(stated, own)| stated.is_none_or(|stated| stated.get() == *own))
    };
    let consoles = devices.consoles.iter().enumerate();
    let consoles = consoles.filter(|(_, console)| !is_virtio(&console.target));
    let consoles = consoles.map(|(at, console)| (nth("console", at), &console.address));
    let serials = devices.serials.iter().enumerate();
    let serials = serials.map(|(at, serial)| (nth("serial", at), &serial.address));
    for (path, address) in serials.chain(consoles) {
        let (port, irq) = COM1;
        if let Some(address) = address
            && !is(address, &[(address.iobase, port), (address.irq, irq)])
        {
            let why = "it asks for a serial port at another place than the first one's, port 0x3f8 and interrupt 4";
            return Some((format!("{path}/address"), why.to_owned()));
        }
    }
    let panics = devices.panics.iter().enumerate();
    for (at, panic) in panics.filter(|(_, panic)| is_isa(panic)) {
        if let Some(address) = &panic.address
            && !is(address, &[(address.iobase, PVPANIC)])
        {
            let why = "it asks for a panic device at another port than 0x505";
            return Some((format!("{}/address", nth("panic", at)), why.to_owned()));
        }
    }
    None
}

fn is_virtio(target: &Option<CharTarget>) -> bool {
    target.as_ref().and_then(|target| target.kind) == Some(CharTargetType::Virtio)
}

fn has_ports(devices: &Devices) -> bool {
    let mut consoles = devices.consoles.iter();
    consoles.any(|console| is_virtio(&console.target)) || !devices.channels.is_empty()
}

/// There is one virtio console with its ports.
fn on_virtio_serial(devices: &Devices) -> Option<(String, String)> {
    let consoles = devices.consoles.iter().enumerate();
    let consoles = consoles.filter(|(_, console)| is_virtio(&console.target));
    let consoles = consoles.map(|(at, console)| (nth("console", at), &console.address));
    let channels = devices.channels.iter().enumerate();
    let channels = channels.map(|(at, channel)| (nth("channel", at), &channel.address));
    for (path, address) in consoles.chain(channels) {
        let Some(address) = address else { continue };
        let port = address.port.as_deref().map_or(Ok(0), |port| {
            Number::parse(port).map(Number::get).map_err(drop)
        });
        let fits = address.kind == Some(AddressType::VirtioSerial)
            && number(address.controller) == 0
            && number(address.bus) == 0
            && port.is_ok_and(|port| port <= super::MOST_PORTS as u64);
        if !fits {
            let most = super::MOST_PORTS;
            let why = format!(
                "it asks for a port of another controller than virtio-serial 0, or beyond its {most}"
            );
            return Some((format!("{path}/address"), why));
        }
    }
    None
}

/// Whether the monitor makes what the definition states.
fn is_made(controller: &Controller) -> bool {
    matches!(
        (controller.kind, controller.model),
        (
            Some(ControllerType::Pci),
            Some(
                ControllerModel::PciRoot
                    | ControllerModel::PcieRoot
                    | ControllerModel::PcieRootPort
            )
        ) | (Some(ControllerType::VirtioSerial), _)
    )
}

/// Controllers that QEMU's machines have, and bridges, are done without: no device that builtin has is on them, or its place is refused. Others were asked for.
fn controller(devices: &Devices) -> Option<(String, String)> {
    use ControllerModel as M;
    use ControllerType as T;
    let fits = |it: &Controller| match (it.kind, it.model) {
        (Some(T::Pci), Some(M::PciRoot | M::PcieRoot)) => it.index.unwrap_or(0) == 0,
        (Some(T::Pci), Some(_)) => it.index.is_some_and(|index| index > 0),
        (Some(T::VirtioSerial), None) => it.index.unwrap_or(0) == 0 && it.ports.is_none(),
        (Some(T::Usb | T::Sata | T::Ide | T::Fdc), _) => true,
        _ => false,
    };
    let mut controllers = devices.controllers.iter().enumerate();
    let (at, controller) = controllers.find(|(_, it)| !fits(it))?;
    let kind = controller.kind.map_or("?", |kind| kind.as_str());
    let index = controller.index.unwrap_or(0);
    let why = format!("it asks for a controller {kind} {index} that builtin does not have");
    Some((nth("controller", at), why))
}

/// A mouse and a keyboard that nobody can reach, since there is no display, are done without.
fn input(devices: &Devices) -> Option<(String, String)> {
    let mut inputs = devices.inputs.iter().enumerate();
    let (at, input) = inputs.find(|(_, input)| {
        let plain = matches!(input.kind, Some(InputType::Mouse | InputType::Keyboard));
        !(plain && input.bus == Some(InputBus::Ps2))
    })?;
    let kind = input.kind.map_or("?", |kind| kind.as_str());
    let why = format!("it has an input device, a {kind}, and builtin has none");
    Some((nth("input", at), why))
}

/// No display may be stated as one of model `none`.
fn video(devices: &Devices) -> Option<(String, String)> {
    let mut videos = devices.videos.iter().enumerate();
    let (at, _) = videos.find(|(_, video)| {
        video.model.as_ref().and_then(|model| model.kind) != Some(VideoType::None)
    })?;
    let why = "it has a display, and builtin has none".to_owned();
    Some((nth("video", at), why))
}
