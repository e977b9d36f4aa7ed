//! Rules on places of drives on their controllers: those that are stated, and those that a disk's name stands for where none is.

use super::machine::{is_i440fx, is_qemu};
use super::one::Report;
use super::path::DevicePath;
use crate::complete::drives::by_name;
use crate::complete::targets::known_bus;
use crate::domain::Domain;
use crate::domain::address::{Address, AddressType};
use crate::domain::disk::{Disk, DiskBus};
use crate::rule::Rule;
use crate::scalar::Number;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Controller, bus, target and unit.
type Place = [u64; 4];

/// Every place is one drive's, and on a controller that the machine has.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    let mut taken: HashMap<(DiskBus, Place), (DevicePath, bool)> = HashMap::new();
    for (i, disk) in domain.disks().iter().enumerate() {
        let path = DevicePath::new("disk", i);
        let Some(bus) = known_bus(disk) else { continue };
        let at = disk.address.as_ref().and_then(stated);
        let named = at.is_none();
        let Some(place) = at.or_else(|| implied(disk, bus)) else {
            continue;
        };
        if named {
            on_the_first(domain, (disk, bus), place, path, r);
        }
        match taken.entry((bus, place)) {
            Entry::Vacant(free) => {
                free.insert((path, named));
            }
            Entry::Occupied(holder) if named => r.add(
                Rule::AddressInUse,
                format_args!("{path}/target/@dev"),
                format!(
                    "`{}` stands for the place that {} has",
                    name(disk),
                    holder.get().0
                ),
                Some("take another name, or state an <address> that is free"),
            ),
            Entry::Occupied(holder) => {
                let (other, by_name) = holder.get();
                let why = if *by_name { ", by its name" } else { "" };
                r.add(
                    Rule::AddressInUse,
                    format_args!("{path}/address"),
                    format!("{other} has this place{why}"),
                    Some("take another unit"),
                );
            }
        }
    }
    let devices = domain.devices.iter();
    let hostdevs = devices.flat_map(|devices| &devices.hostdevs).enumerate();
    for (i, hostdev) in hostdevs {
        let Some(place) = hostdev.address.as_ref().and_then(stated) else {
            continue;
        };
        let path = DevicePath::new("hostdev", i);
        if let Some((other, _)) = taken.insert((DiskBus::Scsi, place), (path, false)) {
            r.add(
                Rule::AddressInUse,
                format_args!("{path}/address"),
                format!("{other} has this place"),
                Some("take another unit"),
            );
        }
    }
}

fn name(disk: &Disk) -> &str {
    let target = disk.target.as_ref();
    target
        .and_then(|target| target.dev.as_deref())
        .unwrap_or_default()
}

fn stated(address: &Address) -> Option<Place> {
    let number = |number: Option<Number>| number.map_or(0, Number::get);
    (address.kind == Some(AddressType::Drive)).then(|| {
        [
            number(address.controller),
            number(address.bus),
            number(address.target),
            number(address.unit),
        ]
    })
}

/// The place that libvirt gives a disk of this name.
fn implied(disk: &Disk, bus: DiskBus) -> Option<Place> {
    let [controller, bus, unit] = by_name(bus, name(disk)).filter(|_| disk.address.is_none())?;
    Some([controller, bus, 0, unit])
}

/// Of IDE and of floppy drives, a machine has one controller. Source: QEMU's `hw/isa/piix.c` and `hw/block/fdc.c`.
fn on_the_first(
    domain: &Domain,
    (disk, bus): (&Disk, DiskBus),
    [controller, ..]: Place,
    path: DevicePath,
    r: &mut Report<'_>,
) {
    let (names, help) = match bus {
        DiskBus::Ide if is_i440fx(domain) => (
            "hda to hdd",
            "take one of these names, or another bus, such as virtio",
        ),
        DiskBus::Fdc => ("fda and fdb", "take one of these names"),
        _ => return,
    };
    if controller > 0 && is_qemu(domain) {
        r.add(
            Rule::DiskName,
            format_args!("{path}/target/@dev"),
            format!(
                "`{}` would be on a second {bus} controller, and the machine has one, for {names}",
                name(disk)
            ),
            Some(help),
        );
    }
}
