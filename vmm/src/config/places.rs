//! Places of devices on PCI, and the root ports behind which there are more of them.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Problems;
use super::{Guest, PanicModel};
use crate::pci::{Place, SLOTS};

/// A root port: a bridge to a bus of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RootPort {
    /// Number of the bus behind it, as the guest finds it.
    #[schemars(range(min = 1))]
    pub bus: u8,
    /// Where the port is on bus 0: a slot, or `00:SLOT.FUNCTION`.
    pub slot: Place,
}

impl Guest {
    /// Every device's stated place with the field that states it, in the order in which free slots are given.
    pub(crate) fn slots(&self) -> Vec<(String, Option<Place>)> {
        let disks = self.disks.iter().enumerate();
        let disks = disks.map(|(i, d)| (format!("disks[{i}].slot"), d.slot));
        let interfaces = self.interfaces.iter().enumerate();
        let interfaces = interfaces.map(|(i, d)| (format!("interfaces[{i}].slot"), d.slot));
        let panic = self.panic.iter().filter(|d| d.model == PanicModel::Pci);
        let single = [
            self.rng.as_ref().map(|d| ("rng.slot", d.slot)),
            self.balloon.as_ref().map(|d| ("balloon.slot", d.slot)),
            panic.map(|d| ("panic.slot", d.slot)).next(),
            self.watchdog.as_ref().map(|d| ("watchdog.slot", d.slot)),
            (!self.ports.is_empty()).then_some(("ports-slot", self.ports_slot)),
            self.vsock.as_ref().map(|d| ("vsock.slot", d.slot)),
        ];
        let single = single.into_iter().flatten();
        disks
            .chain(interfaces)
            .chain(single.map(|(field, slot)| (field.to_owned(), slot)))
            .collect()
    }

    /// Slots of bus 0 that no device and no root port states, in ascending order.
    pub(crate) fn free_slots(&self) -> impl Iterator<Item = Place> + use<> {
        let stated = self.slots().into_iter().filter_map(|(_, place)| place);
        let ports = self.root_ports.iter().map(|port| port.slot);
        let taken: BTreeSet<Place> = stated.chain(ports).map(Place::first).collect();
        let slots = (1..SLOTS as u8).map(Place::slot_of_root);
        slots.filter(move |slot| !taken.contains(slot))
    }

    /// Number of the last PCI bus.
    pub(crate) fn last_bus(&self) -> u8 {
        let buses = self.root_ports.iter().map(|port| port.bus);
        buses.max().unwrap_or(0)
    }
}

/// Whether every place is one that the machine has, and taken once.
pub(super) fn check(guest: &Guest, p: &mut Problems) {
    let mut buses = BTreeSet::from([0]);
    let mut wanted = Vec::new();
    for (i, port) in guest.root_ports.iter().enumerate() {
        p.require(
            format!("root-ports[{i}].bus"),
            buses.insert(port.bus),
            format!("bus {} is there twice", port.bus),
        );
        p.require(
            format!("root-ports[{i}].slot"),
            port.slot.bus() == 0,
            format!("{} is not on bus 0", port.slot),
        );
        wanted.push((format!("root-ports[{i}].slot"), port.slot));
    }
    let devices = guest.slots();
    let unplaced = devices.iter().filter(|(_, place)| place.is_none()).count();
    let free = guest.free_slots().count();
    p.require(
        "disks, interfaces",
        unplaced <= free,
        format!("{unplaced} devices without a slot do not fit on PCI's bus 0, where {free} slots are free"),
    );
    wanted.extend(
        devices
            .into_iter()
            .filter_map(|(field, place)| Some((field, place?))),
    );
    let mut taken: BTreeMap<Place, &str> = BTreeMap::new();
    for (field, place) in &wanted {
        let (bus, slot) = (place.bus(), place.slot());
        p.require(
            field,
            buses.contains(&bus),
            format!("no root port has bus {bus:#x} of {place} behind it"),
        );
        p.require(
            field,
            if bus == 0 { slot > 0 } else { slot == 0 },
            match bus {
                0 => "slot 0 of bus 0 is the host bridge's".to_owned(),
                _ => format!("{place}: the bus behind a root port has slot 0 alone"),
            },
        );
        if let Some(other) = taken.insert(*place, field) {
            p.require(
                field,
                false,
                format!("{place} is used by two devices: see {other}"),
            );
        }
    }
    for (field, place) in &wanted {
        p.require(
            field,
            taken.contains_key(&place.first()),
            format!("{place}: a guest looks for it only where function 0 of its slot is there"),
        );
    }
}
