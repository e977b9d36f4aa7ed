//! Rules on the numbers by which a machine tells its PCI ports and expanders apart: each is given once, also where libvirt gives it.

use super::one::Report;
use super::path::DevicePath;
use crate::domain::Devices;
use crate::domain::controller::{Controller, ControllerModel};
use crate::rule::Rule;
use crate::scalar::Number;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Every rule on them. Source: QEMU's `pcie_chassis_add_slot` in `hw/pci/pcie_port.c` and `pxb_register_bus` in `hw/pci-bridge/pci_expander_bridge.c`.
pub(super) fn check(devices: &Devices, r: &mut Report<'_>) {
    let mut taken: HashMap<(&str, u64), DevicePath> = HashMap::new();
    for (i, controller) in devices.controllers.iter().enumerate() {
        let path = DevicePath::new("controller", i);
        let Some((name, number, stated)) = number(controller) else {
            continue;
        };
        let other = match taken.entry((name, number)) {
            Entry::Vacant(free) => {
                free.insert(path);
                continue;
            }
            Entry::Occupied(other) => *other.get(),
        };
        let (at, given) = match stated {
            true => (format!("{path}/target/@{name}"), ""),
            false => (
                path.to_string(),
                ", which is this port's where none is stated",
            ),
        };
        r.add(
            Rule::PciNumberTaken,
            at,
            format!("{other} has the {name} {number}{given}"),
            Some("state another in <target>, or leave it out of both"),
        );
    }
}

/// What the number is called, the number, and whether it is stated: a port's chassis is its controller's number where it is not.
fn number(controller: &Controller) -> Option<(&'static str, u64, bool)> {
    use ControllerModel as M;
    let target = controller.target.as_ref();
    match controller.model? {
        M::PcieRootPort | M::PcieSwitchDownstreamPort => {
            let stated = target.and_then(|target| target.chassis);
            let number = stated.map(Number::get);
            let number = number.or_else(|| controller.index.map(u64::from))?;
            Some(("chassis", number, stated.is_some()))
        }
        M::PciExpanderBus | M::PcieExpanderBus => Some(("busNr", target?.bus_nr?.get(), true)),
        _ => None,
    }
}
