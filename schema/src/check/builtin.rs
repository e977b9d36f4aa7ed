//! Rules on the devices that are part of a machine: they are where the machine has them, and nothing else is.

use super::addresses::places;
use super::machine::{is_i440fx, is_q35, machine};
use super::one::Report;
use super::pci_buses::pci_place;
use crate::domain::controller::{Controller, ControllerModel, ControllerType};
use crate::domain::{Devices, Domain};
use crate::rule::Rule;

/// A device that is part of a machine: its slot and function on the root bus, what it is, and how a definition may state it.
struct Own {
    slot: u64,
    function: u64,
    what: &'static str,
    stated: Option<(ControllerType, Option<ControllerModel>)>,
}

const fn own(slot: u64, function: u64, what: &'static str) -> Own {
    Own {
        slot,
        function,
        what,
        stated: None,
    }
}

/// What i440FX's southbridge holds. Source: QEMU's `hw/isa/piix.c`.
const PIIX: &[Own] = &[
    own(1, 0, "ISA bridge"),
    Own {
        stated: Some((ControllerType::Ide, None)),
        ..own(1, 1, "IDE controller")
    },
    Own {
        stated: Some((ControllerType::Usb, Some(ControllerModel::Piix3Uhci))),
        ..own(1, 2, "USB controller")
    },
    own(1, 3, "power management"),
];

/// What Q35's southbridge holds. Source: QEMU's `include/hw/southbridge/ich9.h`.
const ICH9: &[Own] = &[
    own(0x1f, 0, "ISA bridge"),
    Own {
        stated: Some((ControllerType::Sata, None)),
        ..own(0x1f, 2, "SATA controller")
    },
    own(0x1f, 3, "SMBus controller"),
];

/// Every rule on them.
pub(super) fn check(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let owns = if is_i440fx(domain) {
        PIIX
    } else if is_q35(domain) {
        ICH9
    } else {
        return;
    };
    let stated: Vec<Option<&Own>> = devices
        .controllers
        .iter()
        .map(|controller| owns.iter().find(|own| own.is(controller)))
        .collect();
    for (path, address) in places(devices) {
        let Some([domain_number, bus, slot, function]) = pci_place(address) else {
            continue;
        };
        let root = domain_number == 0 && bus == 0;
        let is = path
            .among("controller")
            .and_then(|at| stated.get(at).copied().flatten());
        if let Some(own) = is {
            if !(root && (slot, function) == (own.slot, own.function)) {
                let (what, slot, function) = (own.what, own.slot, own.function);
                r.add(
                    Rule::BuiltinPlace,
                    format_args!("{path}/address"),
                    format!(
                        "the first {what} is part of the machine `{}`: its place is slot {slot:#x}, function {function} of bus 0",
                        machine(domain)
                    ),
                    Some("leave <address> out"),
                );
            }
            continue;
        }
        let always = |own: &&Own| own.stated.is_none_or(|(_, model)| model.is_none());
        let holder = owns
            .iter()
            .filter(always)
            .find(|own| root && (slot, function) == (own.slot, own.function));
        if let Some(own) = holder {
            r.add(
                Rule::BuiltinPlace,
                format_args!("{path}/address"),
                format!(
                    "the {} of the machine `{}` has this place",
                    own.what,
                    machine(domain)
                ),
                Some("leave <address> out, and a free place is taken"),
            );
        }
    }
}

impl Own {
    /// Whether a definition states it with this controller.
    fn is(&self, controller: &Controller) -> bool {
        self.stated.is_some_and(|(kind, model)| {
            controller.kind == Some(kind)
                && controller.index.unwrap_or(0) == 0
                && (model.is_none() || controller.model == model)
        })
    }
}
