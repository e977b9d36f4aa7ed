//! Places on PCI buses, in the order in which libvirt gives them.
//!
//! On i440FX every device takes the first free slot of the first bus, and bridges are added for buses that stated places name. On Q35 a device of PCI Express takes a root
//! port of its own; root ports share slots of the root bus, eight to a slot.

use std::collections::BTreeSet;

use super::Chipset;
use super::controllers::insert;
use super::order::{Slot, on_pci};
use crate::check::places;
use crate::domain::Devices;
use crate::domain::address::{Address, AddressType};
use crate::domain::controller::{
    Controller, ControllerModel, ControllerTarget, ControllerType, NamedModel,
};
use crate::domain::graphics::{SoundModel, VideoType};
use crate::scalar::{Number, OnOff};

/// Bus, slot and function.
type Place = (u64, u64, u64);

/// Gives a place to every device that sits on PCI and has none.
pub(super) fn place(devices: &mut Devices, chipset: Chipset) {
    let mut buses = Buses {
        chipset,
        taken: BTreeSet::new(),
        ports: Vec::new(),
        switches: Vec::new(),
        shared: BTreeSet::new(),
    };
    buses.know(devices);
    built_in(devices, &mut buses);
    buses.bridges(devices);
    buses.number_ports(devices);
    let own = |controller: &Controller| {
        controller.kind == Some(ControllerType::Pci) && controller.index != Some(0)
    };
    let chosen = devices.controllers.iter().any(own);
    others(devices, &mut buses);
    if chipset == Chipset::Q35 && !chosen {
        // Where the ports were left to libvirt, one stays free for what is plugged in later.
        let spare = buses.ports.iter().any(|bus| buses.slot_is_free(*bus, 0));
        if !spare && !buses.ports.is_empty() {
            buses.add(devices, ControllerModel::PcieRootPort);
        }
    }
}

struct Buses {
    chipset: Chipset,
    taken: BTreeSet<Place>,
    /// Numbers of buses behind root ports and ports of switches.
    ports: Vec<u64>,
    /// Numbers of buses inside switches.
    switches: Vec<u64>,
    /// Slots of the root bus that hold root ports placed here.
    shared: BTreeSet<u64>,
}

impl Buses {
    /// Notes the places that are stated.
    fn know(&mut self, devices: &Devices) {
        // The host bridge, and the bridge to ISA.
        match self.chipset {
            Chipset::I440fx => {
                self.taken.insert((0, 0, 0));
                self.taken.insert((0, 1, 0));
            }
            Chipset::Q35 => {
                self.taken.insert((0, 0, 0));
                self.taken.insert((0, 0x1f, 0));
                self.taken.insert((0, 0x1f, 3));
            }
        }
        let stated = places(devices);
        let stated = stated.iter().filter_map(|(_, address)| of(address));
        self.taken.extend(stated);
        for controller in &devices.controllers {
            let port = controller.model == Some(ControllerModel::PcieRootPort);
            if let Some((0, slot, _)) = controller.address.as_ref().filter(|_| port).and_then(of) {
                self.shared.insert(slot);
            }
        }
    }

    fn slot_is_free(&self, bus: u64, slot: u64) -> bool {
        self.taken
            .range((bus, slot, 0)..=(bus, slot, 7))
            .next()
            .is_none()
    }

    /// The first free slot of a conventional bus.
    fn conventional(&mut self, devices: &Devices) -> Option<Place> {
        let mut conventional: Vec<(u64, u64)> = devices
            .controllers
            .iter()
            .filter(|controller| {
                matches!(
                    controller.model,
                    Some(
                        ControllerModel::PciRoot
                            | ControllerModel::PciBridge
                            | ControllerModel::PcieToPciBridge
                            | ControllerModel::DmiToPciBridge
                    )
                )
            })
            .filter_map(|controller| {
                // Only behind this bridge is slot 0 a device's.
                let first = u64::from(controller.model != Some(ControllerModel::DmiToPciBridge));
                Some((u64::from(controller.index?), first))
            })
            .collect();
        conventional.sort_unstable();
        for (bus, first) in conventional {
            let slot = (first..32).find(|slot| self.slot_is_free(bus, *slot));
            if let Some(slot) = slot {
                self.taken.insert((bus, slot, 0));
                return Some((bus, slot, 0));
            }
        }
        None
    }

    /// A bus behind a root port that is empty; a root port is added where there is none.
    fn express(&mut self, devices: &mut Devices) -> Option<Place> {
        let free = self
            .ports
            .iter()
            .copied()
            .find(|bus| self.slot_is_free(*bus, 0));
        let bus = match free {
            Some(bus) => bus,
            None => self.add(devices, ControllerModel::PcieRootPort)?,
        };
        self.taken.insert((bus, 0, 0));
        Some((bus, 0, 0))
    }

    /// Adds a PCI controller with the next number.
    fn add(&mut self, devices: &mut Devices, model: ControllerModel) -> Option<u64> {
        let pci = devices
            .controllers
            .iter()
            .filter(|controller| controller.kind == Some(ControllerType::Pci));
        let index = pci
            .filter_map(|controller| controller.index)
            .max()?
            .checked_add(1)?;
        if index > 255 {
            return None;
        }
        insert(devices, ControllerType::Pci, index, Some(model));
        let at = devices.controllers.len() - 1;
        self.settle(devices, at);
        Some(u64::from(index))
    }

    /// Places a PCI controller and gives it its model's name and numbers.
    fn settle(&mut self, devices: &mut Devices, at: usize) -> Option<()> {
        let controller = devices.controllers.get(at)?;
        let model = controller.model?;
        let unplaced = is_open(&controller.address);
        let address = match model {
            ControllerModel::PcieRootPort if unplaced => Some(self.port()?),
            ControllerModel::PciBridge if unplaced => Some((self.conventional(devices)?, false)),
            ControllerModel::PcieToPciBridge if unplaced => Some((self.express(devices)?, false)),
            ControllerModel::PcieSwitchUpstreamPort if unplaced => {
                Some((self.express(devices)?, false))
            }
            ControllerModel::PcieSwitchDownstreamPort if unplaced => Some((self.switch()?, false)),
            ControllerModel::DmiToPciBridge if unplaced => {
                let slot = if self.slot_is_free(0, 0x1e) {
                    0x1e
                } else {
                    (1..32).find(|slot| self.slot_is_free(0, *slot))?
                };
                self.taken.insert((0, slot, 0));
                Some(((0, slot, 0), false))
            }
            _ => None,
        };
        let controller = devices.controllers.get_mut(at)?;
        if let Some((place, many)) = address {
            controller.address = Some(Address {
                multifunction: many.then_some(OnOff::On),
                ..address_of(place)
            });
        }
        named(controller);
        let index = u64::from(controller.index?);
        match model {
            ControllerModel::PcieRootPort | ControllerModel::PcieSwitchDownstreamPort => {
                self.ports.push(index);
            }
            ControllerModel::PcieSwitchUpstreamPort => self.switches.push(index),
            _ => {}
        }
        Some(())
    }

    /// A slot inside a switch, for a port of it.
    fn switch(&mut self) -> Option<Place> {
        let place = self.switches.iter().find_map(|bus| {
            let slot = (0..32).find(|slot| self.slot_is_free(*bus, *slot))?;
            Some((*bus, slot, 0))
        })?;
        self.taken.insert(place);
        Some(place)
    }

    /// A function of the root bus for a root port, and whether it is the first of its slot.
    fn port(&mut self) -> Option<(Place, bool)> {
        // A slot that holds root ports is filled before the next is begun.
        for slot in 1..0x1f {
            if self.slot_is_free(0, slot) {
                self.taken.insert((0, slot, 0));
                self.shared.insert(slot);
                return Some(((0, slot, 0), true));
            }
            if !self.shared.contains(&slot) {
                continue;
            }
            if let Some(function) =
                (1..8).find(|function| !self.taken.contains(&(0, slot, *function)))
            {
                self.taken.insert((0, slot, function));
                return Some(((0, slot, function), false));
            }
        }
        None
    }

    /// A bridge or port for every bus up to the last that a stated place or controller names.
    fn bridges(&mut self, devices: &mut Devices) {
        let pci = devices
            .controllers
            .iter()
            .filter(|controller| controller.kind == Some(ControllerType::Pci));
        let named = pci.filter_map(|controller| controller.index.map(u64::from));
        let most = named
            .chain(self.taken.iter().map(|(bus, _, _)| *bus))
            .max()
            .unwrap_or(0);
        for bus in 1..=most.min(255) {
            let there = devices.controllers.iter().any(|controller| {
                controller.kind == Some(ControllerType::Pci)
                    && controller.index.map(u64::from) == Some(bus)
            });
            if !there && let Ok(index) = u32::try_from(bus) {
                let model = match self.chipset {
                    Chipset::I440fx => ControllerModel::PciBridge,
                    Chipset::Q35 => ControllerModel::PcieRootPort,
                };
                insert(devices, ControllerType::Pci, index, Some(model));
            }
        }
    }

    /// Places every PCI controller, in order of number.
    fn number_ports(&mut self, devices: &mut Devices) {
        let controllers = devices.controllers.iter().enumerate();
        let pci =
            controllers.filter(|(_, controller)| controller.kind == Some(ControllerType::Pci));
        let mut order: Vec<(Option<u32>, usize)> =
            pci.map(|(at, controller)| (controller.index, at)).collect();
        order.sort_unstable();
        for (_, at) in order {
            self.settle(devices, at);
        }
    }

    fn find(&mut self, devices: &mut Devices, wants: Slot) -> Option<Place> {
        match (self.chipset, wants) {
            (Chipset::Q35, Slot::Express) => self.express(devices),
            (Chipset::I440fx, _) => self.conventional(devices),
            (Chipset::Q35, Slot::Conventional) => match self.conventional(devices) {
                Some(place) => Some(place),
                None => {
                    self.add(devices, ControllerModel::PcieToPciBridge)?;
                    self.conventional(devices)
                }
            },
        }
    }
}

/// Whether a place is yet to be given: nothing is stated, or only that it is on PCI.
fn is_open(address: &Option<Address>) -> bool {
    address
        .as_ref()
        .is_none_or(|address| address.kind == Some(AddressType::Pci) && address.slot.is_none())
}

/// The place that a PCI address states.
fn of(address: &Address) -> Option<Place> {
    let pci = address.kind == Some(AddressType::Pci) && address.slot.is_some();
    let number = |number: Option<Number>| number.map_or(0, Number::get);
    let place = (
        number(address.bus),
        number(address.slot),
        number(address.function),
    );
    (pci && number(address.domain) == 0).then_some(place)
}

fn address_of((bus, slot, function): Place) -> Address {
    Address {
        kind: Some(AddressType::Pci),
        domain: Some(Number::hex(0, 4)),
        bus: Some(Number::hex(bus, 2)),
        slot: Some(Number::hex(slot, 2)),
        function: Some(Number::hex(function, 1)),
        ..Address::default()
    }
}

/// The device and the numbers of a PCI controller's model.
fn named(controller: &mut Controller) {
    let index = u64::from(controller.index.unwrap_or(0));
    let name = match controller.model {
        Some(ControllerModel::PciBridge) => "pci-bridge",
        Some(ControllerModel::PcieRootPort) => "pcie-root-port",
        Some(ControllerModel::PcieToPciBridge) => "pcie-pci-bridge",
        Some(ControllerModel::DmiToPciBridge) => "i82801b11-bridge",
        Some(ControllerModel::PcieSwitchUpstreamPort) => "x3130-upstream",
        Some(ControllerModel::PcieSwitchDownstreamPort) => "xio3130-downstream",
        Some(ControllerModel::PciExpanderBus) => "pxb",
        Some(ControllerModel::PcieExpanderBus) => "pxb-pcie",
        _ => return,
    };
    controller.device.get_or_insert_with(|| NamedModel {
        name: Some(name.to_owned()),
        ..NamedModel::default()
    });
    let place = controller.address.as_ref().and_then(of);
    match controller.model {
        Some(ControllerModel::PciBridge) => {
            let target = controller
                .target
                .get_or_insert_with(ControllerTarget::default);
            target.chassis_nr.get_or_insert_with(|| Number::new(index));
        }
        Some(ControllerModel::PcieRootPort | ControllerModel::PcieSwitchDownstreamPort) => {
            let target = controller
                .target
                .get_or_insert_with(ControllerTarget::default);
            target.chassis.get_or_insert_with(|| Number::new(index));
            if let Some((_, slot, function)) = place {
                target
                    .port
                    .get_or_insert_with(|| Number::hex(slot * 8 + function, 1));
            }
        }
        _ => {}
    }
}

/// Places that the machine's own devices have: IDE, the first USB controller, the first display, SATA, sound.
fn built_in(devices: &mut Devices, buses: &mut Buses) {
    let express = buses.chipset == Chipset::Q35;
    for controller in &mut devices.controllers {
        if !is_open(&controller.address) || controller.index != Some(0) {
            continue;
        }
        let place = match (controller.kind, controller.model, express) {
            (Some(ControllerType::Ide), _, false) => (0, 1, 1),
            (Some(ControllerType::Usb), Some(ControllerModel::Piix3Uhci), false) => (0, 1, 2),
            (Some(ControllerType::Sata), _, true) => (0, 0x1f, 2),
            _ => continue,
        };
        if buses.taken.insert(place) {
            controller.address = Some(address_of(place));
        }
    }
    if let Some(video) = devices.videos.first_mut()
        && is_open(&video.address)
        && video.model.as_ref().and_then(|model| model.kind) != Some(VideoType::None)
    {
        let slot = if express { 1 } else { 2 };
        if buses.slot_is_free(0, slot) {
            buses.taken.insert((0, slot, 0));
            video.address = Some(address_of((0, slot, 0)));
        }
    }
    let sound = devices
        .sounds
        .iter_mut()
        .find(|sound| sound.model == Some(SoundModel::Ich9));
    if let Some(sound) = sound
        && express
        && is_open(&sound.address)
        && buses.slot_is_free(0, 0x1b)
    {
        buses.taken.insert((0, 0x1b, 0));
        sound.address = Some(address_of((0, 0x1b, 0)));
    }
    companions(devices, buses);
}

/// The USB 2 controllers of the ICH9, which share a slot: 0x1d for the first four, 0x1a for the next.
fn companions(devices: &mut Devices, buses: &mut Buses) {
    let mut slots: Vec<(u32, u64)> = Vec::new();
    for at in 0..devices.controllers.len() {
        let Some(controller) = devices.controllers.get(at) else {
            continue;
        };
        let function = match controller.model {
            Some(ControllerModel::Ich9Ehci1) => 7,
            Some(ControllerModel::Ich9Uhci1) => 0,
            Some(ControllerModel::Ich9Uhci2) => 1,
            Some(ControllerModel::Ich9Uhci3) => 2,
            _ => continue,
        };
        let index = controller.index.unwrap_or(0);
        if let Some((bus, slot, _)) = controller.address.as_ref().and_then(of) {
            if bus == 0 && !slots.iter().any(|(other, _)| *other == index) {
                slots.push((index, slot));
            }
            continue;
        }
        let known = slots
            .iter()
            .find(|(other, _)| *other == index)
            .map(|(_, slot)| *slot);
        let usual: &[u64] = match buses.chipset {
            Chipset::Q35 => &[0x1d, 0x1a],
            Chipset::I440fx => &[],
        };
        let free = || {
            usual
                .iter()
                .copied()
                .chain(2..32)
                .find(|slot| buses.slot_is_free(0, *slot))
        };
        let Some(slot) = known.or_else(free) else {
            continue;
        };
        if known.is_none() {
            slots.push((index, slot));
        }
        buses.taken.insert((0, slot, function));
        if let Some(controller) = devices.controllers.get_mut(at) {
            controller.address = Some(Address {
                multifunction: (function == 0).then_some(OnOff::On),
                ..address_of((0, slot, function))
            });
        }
    }
}

fn others(devices: &mut Devices, buses: &mut Buses) {
    for (device, wants) in on_pci(devices) {
        if !device
            .address(devices)
            .is_some_and(|address| is_open(address))
        {
            continue;
        }
        if let Some(place) = buses.find(devices, wants)
            && let Some(address) = device.address(devices)
        {
            *address = Some(address_of(place));
        }
    }
}
