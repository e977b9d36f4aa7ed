//! Rules on what is on which PCI bus: a bus takes certain devices and bridges, in the slots that it has.
//!
//! A bus that nothing states is of the controller that libvirt adds for it, where every PCI controller says its number and model.

use super::addresses::places;
use super::machine::{is_i440fx, is_q35};
use super::one::Report;
use super::path::DevicePath;
use crate::domain::address::{Address, AddressType};
use crate::domain::controller::{Controller, ControllerModel, ControllerType};
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::Number;
use std::collections::HashMap;

/// Every rule on them, for QEMU's machines.
pub(super) fn check(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let buses = stated(domain, devices);
    let x86 = is_q35(domain) || is_i440fx(domain);
    let added = added_for_a_bus(domain, devices);
    for (path, address) in places(devices) {
        let Some(place) = pci_place(address) else {
            continue;
        };
        if x86 && place[0] != 0 {
            r.report(
                Rule::AddressBus,
                format_args!("{path}/address/@domain"),
                "the machine has one PCI domain, which is number 0",
            );
            continue;
        }
        let bridge = path
            .among("controller")
            .and_then(|at| devices.controllers.get(at))
            .filter(|controller| controller.kind == Some(ControllerType::Pci))
            .and_then(|controller| controller.model);
        let Some(bus) = buses.get(&place[1]).or(added.as_ref()) else {
            if bridge == Some(ControllerModel::DmiToPciBridge) && place[1] != 0 {
                r.report(
                    Rule::AddressBus,
                    format_args!("{path}/address/@bus"),
                    "a dmi-to-pci-bridge is on the root bus, which is number 0, or on an expander",
                );
            }
            continue;
        };
        let unstated = !buses.contains_key(&place[1]);
        let help = unstated.then(|| {
            format!(
                "no controller is number {}, and libvirt adds a {bus} for it: state the one that you mean, or leave <address> out",
                place[1]
            )
        });
        slot(*bus, path, place, help.as_deref(), r);
        if !takes(*bus, bridge) {
            let what = bridge.map_or_else(|| "a device".to_owned(), |model| format!("a {model}"));
            r.report(
                Rule::AddressBus,
                format_args!("{path}/address/@bus"),
                format!("bus {} is of a {bus}, on which {what} cannot be", place[1]),
            );
        }
    }
}

/// The controllers of buses that are stated, and of the root bus.
fn stated(domain: &Domain, devices: &Devices) -> HashMap<u64, ControllerModel> {
    let mut buses: HashMap<u64, ControllerModel> = HashMap::new();
    if is_q35(domain) {
        buses.insert(0, ControllerModel::PcieRoot);
    } else if is_i440fx(domain) {
        buses.insert(0, ControllerModel::PciRoot);
    }
    let known = devices.controllers.iter().filter_map(|controller| {
        let pci = controller.kind == Some(ControllerType::Pci);
        let root = matches!(
            controller.model?,
            ControllerModel::PciRoot | ControllerModel::PcieRoot
        );
        (pci && !root).then_some((u64::from(controller.index?), controller.model?))
    });
    buses.extend(known);
    buses
}

/// The controller that libvirt adds for a bus that a place names and nothing states; none where the bus may be a stated controller's.
fn added_for_a_bus(domain: &Domain, devices: &Devices) -> Option<ControllerModel> {
    let pci = |controller: &&Controller| controller.kind == Some(ControllerType::Pci);
    let told = |controller: &Controller| match controller.index {
        Some(0) => true,
        Some(_) => controller.model.is_some(),
        None => false,
    };
    let all = devices.controllers.iter().filter(pci).all(told);
    match all {
        true if is_q35(domain) => Some(ControllerModel::PcieRootPort),
        true if is_i440fx(domain) => Some(ControllerModel::PciBridge),
        _ => None,
    }
}

/// Domain, bus, slot and function of a place on PCI; none where all are zero, which leaves the choice.
pub(crate) fn pci_place(address: &Address) -> Option<[u64; 4]> {
    let number = |number: Option<Number>| number.map_or(0, Number::get);
    let place = [
        number(address.domain),
        number(address.bus),
        number(address.slot),
        number(address.function),
    ];
    (address.kind == Some(AddressType::Pci) && place != [0; 4]).then_some(place)
}

/// Whether a bus has that slot.
fn slot(
    bus: ControllerModel,
    path: DevicePath,
    place: [u64; 4],
    help: Option<&str>,
    r: &mut Report<'_>,
) {
    use ControllerModel as M;
    let at = format_args!("{path}/address/@slot");
    match bus {
        M::PcieRootPort | M::PcieSwitchDownstreamPort if place[2] > 0 => r.add(
            Rule::AddressRange,
            at,
            format!("a {bus} has one slot, which is number 0"),
            help,
        ),
        M::PciRoot | M::PcieRoot | M::PciBridge | M::PcieToPciBridge if place[2] == 0 => {
            r.add(
                Rule::AddressRange,
                at,
                format!(
                    "slot 0 of bus {} is the {bus}'s own: take 1 to 0x1f",
                    place[1]
                ),
                help,
            );
        }
        _ => {}
    }
}

/// Whether a bus takes a bridge or port of that model; a device where none is given.
fn takes(bus: ControllerModel, bridge: Option<ControllerModel>) -> bool {
    use ControllerModel as M;
    match bridge {
        None | Some(M::PciBridge) => !matches!(bus, M::PcieSwitchUpstreamPort | M::PcieExpanderBus),
        Some(M::PcieRootPort | M::DmiToPciBridge) => {
            matches!(bus, M::PcieRoot | M::PcieExpanderBus)
        }
        Some(M::PcieSwitchUpstreamPort) => {
            matches!(bus, M::PcieRootPort | M::PcieSwitchDownstreamPort)
        }
        Some(M::PcieSwitchDownstreamPort) => bus == M::PcieSwitchUpstreamPort,
        Some(M::PcieToPciBridge) => matches!(
            bus,
            M::PcieRoot | M::PcieRootPort | M::PcieSwitchDownstreamPort
        ),
        _ => true,
    }
}
