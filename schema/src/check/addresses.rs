//! Rules on places: what numbers an address may have, which places are taken twice, and what may be on which bus.

use super::devices::{is_i440fx, is_q35};
use super::one::Report;
use crate::domain::address::{Address, AddressType};
use crate::domain::controller::{Controller, ControllerModel, ControllerType};
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::Number;
use std::collections::HashMap;

/// Every rule on places.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    let Some(devices) = &domain.devices else {
        return;
    };
    let mut taken: HashMap<[u64; 4], String> = HashMap::new();
    for (path, address) in places(devices) {
        range(address, &format!("{path}/address"), r);
        if address.kind != Some(AddressType::Pci) || address.slot.is_none() {
            continue;
        }
        let number = |number: Option<Number>| number.map_or(0, Number::get);
        let place = [
            number(address.domain),
            number(address.bus),
            number(address.slot),
            number(address.function),
        ];
        match taken.get(&place) {
            Some(other) => r.add(
                Rule::AddressInUse,
                &format!("{path}/address"),
                format!("{other} has this place"),
                None,
            ),
            None => {
                taken.insert(place, path);
            }
        }
    }
    for (i, hostdev) in devices.hostdevs.iter().enumerate() {
        if let Some(address) = hostdev
            .source
            .as_ref()
            .and_then(|source| source.address.as_ref())
        {
            range(
                address,
                &format!("devices/hostdev[{}]/source/address", i + 1),
                r,
            );
        }
    }
    buses(domain, devices, r);
}

/// Each device's address with the device's path.
pub(crate) fn places(devices: &Devices) -> Vec<(String, &Address)> {
    let mut out = Vec::new();
    macro_rules! each {
        ($($name:literal $field:ident),*) => {$(
            for (i, device) in devices.$field.iter().enumerate() {
                out.extend(device.address.as_ref().map(|address| (format!(concat!("devices/", $name, "[{}]"), i + 1), address)));
            }
        )*};
    }
    each!(
        "disk" disks, "interface" interfaces, "controller" controllers, "filesystem" filesystems, "smartcard" smartcards, "serial" serials,
        "parallel" parallels, "console" consoles, "channel" channels, "input" inputs, "tpm" tpms, "sound" sounds, "video" videos, "hostdev" hostdevs,
        "redirdev" redirdevs, "hub" hubs, "watchdog" watchdogs, "rng" rngs, "panic" panics, "shmem" shmems, "memory" memory_devices, "crypto" cryptos,
        "memballoon" memballoon, "iommu" iommu, "vsock" vsock, "pstore" pstore
    );
    out
}

/// What the numbers of an address may be.
fn range(address: &Address, path: &str, r: &mut Report<'_>) {
    let pci = address.kind == Some(AddressType::Pci)
        || address.kind.is_none() && address.slot.is_some() && address.function.is_some();
    if !pci {
        return;
    }
    let numbers = [
        ("domain", address.domain, 0xffff),
        ("bus", address.bus, 0xff),
        ("slot", address.slot, 0x1f),
        ("function", address.function, 7),
    ];
    for (name, number, most) in numbers {
        if number.is_some_and(|number| number.get() > most) {
            r.add(
                Rule::AddressRange,
                &format!("{path}/@{name}"),
                format!("a PCI {name} is at most {most:#x}"),
                None,
            );
        }
    }
}

/// PCI controllers: the root that the machine has, expanders on the root, each number once.
fn buses(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let mut seen = HashMap::new();
    let mut ports = 0;
    for (i, controller) in devices.controllers.iter().enumerate() {
        let path = format!("devices/controller[{}]", i + 1);
        if let (Some(kind), Some(index)) = (controller.kind, controller.index)
            && controller.master.is_none()
            && seen
                .insert((kind, index, companion(controller)), i)
                .is_some()
        {
            r.report(
                Rule::DuplicateController,
                &format!("{path}/@index"),
                format!("two {kind} controllers are number {index}"),
            );
        }
        if controller.kind == Some(ControllerType::Pci) {
            pci(domain, controller, &path, r);
        }
        if controller.model == Some(ControllerModel::PcieRootPort) {
            ports += 1;
            if ports == 240 {
                r.report(
                    Rule::RootPorts,
                    &path,
                    "more root ports than the root bus has places",
                );
            }
        }
    }
}

/// USB companions share a number: they are told apart by their model.
fn companion(controller: &Controller) -> Option<ControllerModel> {
    controller
        .model
        .filter(|_| controller.kind == Some(ControllerType::Usb))
}

fn pci(domain: &Domain, controller: &Controller, path: &str, r: &mut Report<'_>) {
    let Some(model) = controller.model else {
        return;
    };
    let root = matches!(model, ControllerModel::PciRoot | ControllerModel::PcieRoot);
    if root && controller.address.is_some() {
        r.add(
            Rule::RootBusAddress,
            &format!("{path}/address"),
            "the root bus has no address",
            None,
        );
    }
    let wrong = match model {
        ControllerModel::PcieRoot
        | ControllerModel::PcieExpanderBus
        | ControllerModel::PcieRootPort
        | ControllerModel::DmiToPciBridge => is_i440fx(domain),
        ControllerModel::PciRoot | ControllerModel::PciExpanderBus => is_q35(domain),
        _ => false,
    };
    if wrong {
        r.report(
            Rule::ControllerMachine,
            &format!("{path}/@model"),
            format!(
                "a machine `{}` has no {model}",
                super::machine::machine(domain)
            ),
        );
    }
    let on_root = matches!(
        model,
        ControllerModel::PciExpanderBus
            | ControllerModel::PcieExpanderBus
            | ControllerModel::DmiToPciBridge
    );
    let bus = controller
        .address
        .as_ref()
        .and_then(|address| address.bus)
        .map_or(0, Number::get);
    if on_root && bus != 0 {
        r.add(
            Rule::AddressBus,
            &format!("{path}/address/@bus"),
            format!("a {model} is on the root bus, which is number 0"),
            None,
        );
    }
}
