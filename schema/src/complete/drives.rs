//! Places of drives on their controllers, from the names of their targets, and of ports on serial buses.

use super::targets;
use crate::domain::Devices;
use crate::domain::address::{Address, AddressType};
use crate::domain::chardev::{CharTarget, CharTargetType};
use crate::domain::controller::ControllerType;
use crate::domain::disk::{DiskBus, DiskDevice};
use crate::scalar::Number;

/// The ports of a virtio serial controller that does not say.
const PORTS: u64 = 31;

/// Places every drive and every virtio serial port that has no place.
pub(super) fn place(devices: &mut Devices) {
    for disk in &mut devices.disks {
        let bus = targets::bus(disk);
        let target = disk.target.get_or_insert_default();
        let dev = target.dev.clone().unwrap_or_default();
        target.bus = Some(bus);
        let device = *disk.device.get_or_insert(DiskDevice::Disk);
        disk.readonly |= device == DiskDevice::Cdrom;
        if let Some(address) = disk
            .address
            .as_mut()
            .filter(|address| address.kind == Some(AddressType::Drive))
        {
            for number in [
                &mut address.controller,
                &mut address.bus,
                &mut address.target,
                &mut address.unit,
            ] {
                number.get_or_insert(Number::new(0));
            }
        }
        if disk.address.is_none()
            && let Some([controller, bus, unit]) = number(&dev).and_then(|number| on(bus, number))
        {
            disk.address = Some(Address {
                kind: Some(AddressType::Drive),
                controller: Some(Number::new(controller)),
                bus: Some(Number::new(bus)),
                target: Some(Number::new(0)),
                unit: Some(Number::new(unit)),
                ..Address::default()
            });
        }
    }
    ports(devices);
    cards(devices);
}

/// The number that the letters of a target's name count: `sda` 0, `sdz` 25, `sdaa` 26.
pub(super) fn number(dev: &str) -> Option<u64> {
    let prefixes = ["fd", "hd", "sd", "vd", "xvd", "ubd"];
    let letters = prefixes
        .iter()
        .find_map(|prefix| dev.strip_prefix(prefix))?;
    let letters = letters.trim_end_matches(|c: char| c.is_ascii_digit());
    let mut number: u64 = 0;
    for letter in letters.chars() {
        let value = u64::from(u32::from(letter).checked_sub(u32::from('a'))?);
        if value > 25 {
            return None;
        }
        number = number.checked_mul(26)?.checked_add(value + 1)?;
    }
    number.checked_sub(1)
}

/// Controller, bus and unit of the drive of that name, where they do not depend on the controller's model: on SCSI, of `sda` to `sdg`.
pub(crate) fn by_name(bus: DiskBus, dev: &str) -> Option<[u64; 3]> {
    let number = number(dev).filter(|number| bus != DiskBus::Scsi || *number < 7)?;
    on(bus, number)
}

/// Controller, bus and unit of the drive of that number.
fn on(bus: DiskBus, number: u64) -> Option<[u64; 3]> {
    match bus {
        DiskBus::Ide => Some([number / 4, number % 4 / 2, number % 2]),
        DiskBus::Fdc => Some([number / 2, 0, number % 2]),
        DiskBus::Sata => Some([number / 6, 0, number % 6]),
        // Unit 7 is the controller's own.
        DiskBus::Scsi => {
            let unit = number % 15;
            Some([number / 15, 0, if unit >= 7 { unit + 1 } else { unit }])
        }
        _ => None,
    }
}

/// Virtio serial ports: consoles from port 0, channels from port 1, on the first controller with a port that is free.
fn ports(devices: &mut Devices) {
    let is_virtio = |target: &Option<CharTarget>| {
        target.as_ref().and_then(|target| target.kind) == Some(CharTargetType::Virtio)
    };
    let number = |number: Option<Number>| number.map_or(0, Number::get);
    let mut taken: Vec<(u64, u64)> = Vec::new();
    let stated = devices.channels.iter().map(|channel| &channel.address);
    let stated = stated.chain(devices.consoles.iter().map(|console| &console.address));
    for address in stated.flatten() {
        let port = address.port.as_deref().and_then(|port| port.parse().ok());
        if let Some(port @ 1..) = port {
            taken.push((number(address.controller), port));
        }
    }
    let mut controllers: Vec<(u64, u64)> = devices
        .controllers
        .iter()
        .filter(|controller| controller.kind == Some(ControllerType::VirtioSerial))
        .map(|controller| {
            let ports = controller.ports.and_then(|ports| u64::try_from(ports).ok());
            (controller.index.unwrap_or(0).into(), ports.unwrap_or(PORTS))
        })
        .collect();
    for (index, _) in &taken {
        if !controllers.iter().any(|(other, _)| other == index) {
            controllers.push((*index, PORTS));
        }
    }
    controllers.sort_unstable();
    let mut next = |first: u64, stated: Option<&Address>| {
        let wanted = stated
            .and_then(|address| address.controller)
            .map(Number::get);
        let mut free = controllers
            .iter()
            .copied()
            .filter(|(index, _)| wanted.is_none_or(|wanted| wanted == *index))
            .find_map(|(index, ports)| {
                let port = (first..ports).find(|port| !taken.contains(&(index, *port)))?;
                Some((index, port))
            });
        if free.is_none() {
            let index =
                wanted.unwrap_or_else(|| controllers.last().map_or(0, |(index, _)| index + 1));
            if !controllers.iter().any(|(other, _)| *other == index) {
                controllers.push((index, PORTS));
            }
            free = Some((index, first));
        }
        let (index, port) = free.unwrap_or((0, first));
        taken.push((index, port));
        Address {
            kind: Some(AddressType::VirtioSerial),
            controller: Some(Number::new(index)),
            bus: Some(Number::new(0)),
            port: Some(port.to_string()),
            ..Address::default()
        }
    };
    let open = |address: &Option<Address>| {
        address.as_ref().is_none_or(|address| {
            let port = address
                .port
                .as_deref()
                .and_then(|port| port.parse::<u64>().ok());
            address.kind == Some(AddressType::VirtioSerial) && port.unwrap_or(0) == 0
        })
    };
    for channel in &mut devices.channels {
        if is_virtio(&channel.target) && open(&channel.address) {
            channel.address = Some(next(1, channel.address.as_ref()));
        }
    }
    for console in &mut devices.consoles {
        if is_virtio(&console.target) && console.address.is_none() {
            console.address = Some(next(0, None));
        }
    }
}

/// Smart cards, each in a slot of the first reader.
fn cards(devices: &mut Devices) {
    for (slot, smartcard) in (0..).zip(&mut devices.smartcards) {
        smartcard.address.get_or_insert_with(|| Address {
            kind: Some(AddressType::Ccid),
            controller: Some(Number::new(0)),
            slot: Some(Number::new(slot)),
            ..Address::default()
        });
    }
}
