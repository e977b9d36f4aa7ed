//! Controllers that the machine has, and those that stated devices need.

use std::collections::BTreeSet;

use super::Chipset;
use crate::domain::address::{Address, AddressType};
use crate::domain::chardev::CharTargetType;
use crate::domain::controller::{Controller, ControllerModel, ControllerType};
use crate::domain::disk::DiskBus;
use crate::domain::hostdev::HostdevType;
use crate::domain::{Devices, Domain};
use crate::scalar::Number;

/// The greatest number of a controller that is added.
const MOST: u32 = 64;

/// Adds the controllers, each after those of its kind.
pub(super) fn imply(domain: &mut Domain, chipset: Chipset) {
    let devices = domain.devices.get_or_insert_default();
    number(devices);
    let usb = match chipset {
        Chipset::I440fx => ControllerModel::Piix3Uhci,
        Chipset::Q35 => ControllerModel::QemuXhci,
    };
    if !has(devices, ControllerType::Usb) {
        insert(devices, ControllerType::Usb, 0, Some(usb));
    }
    for controller in &mut devices.controllers {
        if controller.kind == Some(ControllerType::Usb) {
            controller.model.get_or_insert(usb);
        }
    }
    if chipset == Chipset::Q35 {
        ensure(devices, ControllerType::Sata, 0, None);
    }
    let root = match chipset {
        Chipset::I440fx => ControllerModel::PciRoot,
        Chipset::Q35 => ControllerModel::PcieRoot,
    };
    ensure(devices, ControllerType::Pci, 0, Some(root));
    for (kind, indices) in needed(devices) {
        for index in indices {
            ensure(devices, kind, index, None);
        }
    }
    for controller in &mut devices.controllers {
        if controller.kind == Some(ControllerType::Scsi) {
            let default = match chipset {
                Chipset::I440fx => ControllerModel::Lsilogic,
                Chipset::Q35 => ControllerModel::VirtioScsi,
            };
            if matches!(controller.model, None | Some(ControllerModel::Auto)) {
                controller.model = Some(default);
            }
        }
    }
}

fn has(devices: &Devices, kind: ControllerType) -> bool {
    devices
        .controllers
        .iter()
        .any(|controller| controller.kind == Some(kind))
}

/// Gives each stated controller without a number the first that is free.
fn number(devices: &mut Devices) {
    for at in 0..devices.controllers.len() {
        let Some(controller) = devices.controllers.get(at) else {
            continue;
        };
        if controller.index.is_some() {
            continue;
        }
        let kind = controller.kind;
        let free = (0..).find(|index| {
            !devices
                .controllers
                .iter()
                .any(|other| other.kind == kind && other.index == Some(*index))
        });
        if let Some(controller) = devices.controllers.get_mut(at) {
            controller.index = free;
        }
    }
}

fn ensure(devices: &mut Devices, kind: ControllerType, index: u32, model: Option<ControllerModel>) {
    let same =
        |controller: &Controller| controller.kind == Some(kind) && controller.index == Some(index);
    match devices
        .controllers
        .iter_mut()
        .find(|controller| same(controller))
    {
        Some(controller) => {
            if let Some(model) = model {
                controller.model.get_or_insert(model);
            }
        }
        None => insert(devices, kind, index, model),
    }
}

pub(super) fn insert(
    devices: &mut Devices,
    kind: ControllerType,
    index: u32,
    model: Option<ControllerModel>,
) {
    devices.controllers.push(Controller {
        kind: Some(kind),
        index: Some(index),
        model,
        ..Controller::default()
    });
}

/// The controllers that devices sit on: of drives all up to the greatest number, of others those that are named.
fn needed(devices: &Devices) -> Vec<(ControllerType, BTreeSet<u32>)> {
    let mut needed: Vec<(ControllerType, BTreeSet<u32>)> = Vec::new();
    let mut need = |kind: ControllerType, address: Option<&Address>| {
        let named = address.filter(|address| {
            matches!(
                address.kind,
                Some(AddressType::Drive | AddressType::VirtioSerial | AddressType::Ccid)
            )
        });
        let index = named
            .and_then(|address| address.controller)
            .map_or(0, Number::get);
        let index = u32::try_from(index).unwrap_or(0).min(MOST);
        let first = match kind {
            ControllerType::VirtioSerial | ControllerType::Ccid => index,
            _ => 0,
        };
        match needed.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, indices)) => indices.extend(first..=index),
            None => needed.push((kind, (first..=index).collect())),
        }
    };
    for disk in &devices.disks {
        let kind = match disk.target.as_ref().and_then(|target| target.bus) {
            Some(DiskBus::Ide) => ControllerType::Ide,
            Some(DiskBus::Fdc) => ControllerType::Fdc,
            Some(DiskBus::Scsi) => ControllerType::Scsi,
            Some(DiskBus::Sata) => ControllerType::Sata,
            _ => continue,
        };
        need(kind, disk.address.as_ref());
    }
    let virtio = Some(CharTargetType::Virtio);
    for channel in &devices.channels {
        if channel.target.as_ref().and_then(|target| target.kind) == virtio {
            need(ControllerType::VirtioSerial, channel.address.as_ref());
        }
    }
    for console in &devices.consoles {
        if console.target.as_ref().and_then(|target| target.kind) == virtio {
            need(ControllerType::VirtioSerial, console.address.as_ref());
        }
    }
    for smartcard in &devices.smartcards {
        need(ControllerType::Ccid, smartcard.address.as_ref());
    }
    for hostdev in &devices.hostdevs {
        if hostdev.kind == Some(HostdevType::Scsi) {
            need(ControllerType::Scsi, hostdev.address.as_ref());
        }
    }
    needed
}
