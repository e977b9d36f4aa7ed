//! Buses and names of disks that do not state them.
//!
//! XML must name every disk in the guest (`<target dev='vda'/>`), as libvirt refuses one without; YAML may leave that out. Then a disk has the first name of its bus that no disk states
//! and no disk before it gets.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::domain::Domain;
use crate::domain::disk::{Disk, DiskBus, DiskDevice};

/// Buses by how their disks' names begin. Source: libvirt's domain format, `target`.
const BUSES: [(&str, DiskBus); 6] = [
    ("hd", DiskBus::Ide),
    ("sd", DiskBus::Scsi),
    ("vd", DiskBus::Virtio),
    ("xvd", DiskBus::Xen),
    ("ubd", DiskBus::Uml),
    ("nvme", DiskBus::Nvme),
];

fn dev(disk: &Disk) -> Option<&str> {
    disk.target.as_ref()?.dev.as_deref()
}

/// The bus that a disk states, or that libvirt takes from its name.
pub(crate) fn known_bus(disk: &Disk) -> Option<DiskBus> {
    let stated = disk.target.as_ref().and_then(|target| target.bus);
    let floppy = (disk.device == Some(DiskDevice::Floppy)).then_some(DiskBus::Fdc);
    let named = || {
        let dev = dev(disk)?;
        let found = BUSES.iter().find(|(prefix, _)| dev.starts_with(prefix));
        found.map(|(_, bus)| *bus)
    };
    stated.or(floppy).or_else(named)
}

/// The bus of a disk: stated, or told by its name, or the one that is best for a device of its kind without a name.
pub fn bus(disk: &Disk) -> DiskBus {
    known_bus(disk).unwrap_or(match (dev(disk), disk.device) {
        (Some(_), _) => DiskBus::Ide,
        (None, Some(DiskDevice::Cdrom)) => DiskBus::Sata,
        (None, Some(DiskDevice::Lun)) => DiskBus::Scsi,
        (None, _) => DiskBus::Virtio,
    })
}

/// The name of each disk in the guest: stated, or found.
pub fn targets(disks: &[Disk]) -> Vec<Cow<'_, str>> {
    let stated: HashSet<&str> = disks.iter().filter_map(dev).collect();
    let mut next: HashMap<&str, usize> = HashMap::new();
    let mut found = |prefix| {
        let number = next.entry(prefix).or_insert(0);
        loop {
            let name = name(prefix, *number);
            *number += 1;
            if !stated.contains(name.as_str()) {
                return name;
            }
        }
    };
    let names = disks.iter().map(|disk| match dev(disk) {
        Some(dev) => Cow::Borrowed(dev),
        None => Cow::Owned(found(prefix(bus(disk)))),
    });
    names.collect()
}

/// The guest with a name for each of its disks.
pub fn with_targets(domain: &Domain) -> Cow<'_, Domain> {
    if domain.disks().iter().all(|disk| dev(disk).is_some()) {
        return Cow::Borrowed(domain);
    }
    let mut domain = domain.clone();
    if let Some(devices) = &mut domain.devices {
        name_all(&mut devices.disks);
    }
    Cow::Owned(domain)
}

/// Names every disk that has no name. The bus is stated too where the name does not tell it.
pub(super) fn name_all(disks: &mut [Disk]) {
    let names: Vec<String> = targets(disks).into_iter().map(Cow::into_owned).collect();
    for (disk, name) in disks.iter_mut().zip(names) {
        if dev(disk).is_some() {
            continue;
        }
        let bus = bus(disk);
        disk.target.get_or_insert_default().dev = Some(name);
        if known_bus(disk) != Some(bus) {
            disk.target.get_or_insert_default().bus = Some(bus);
        }
    }
}

/// How the names of a bus's disks begin.
fn prefix(bus: DiskBus) -> &'static str {
    match bus {
        DiskBus::Ide => "hd",
        DiskBus::Fdc => "fd",
        DiskBus::Virtio => "vd",
        DiskBus::Xen => "xvd",
        DiskBus::Uml => "ubd",
        DiskBus::Scsi | DiskBus::Sata | DiskBus::Usb | DiskBus::Sd | DiskBus::Nvme => "sd",
    }
}

/// `vda` … `vdz`, `vdaa` …
fn name(prefix: &str, number: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = number + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b'a' + u8::try_from(rest % 26).unwrap_or(0)));
        rest /= 26;
    }
    format!("{prefix}{}", letters.iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::disk::DiskTarget;

    fn disk(dev: &str, bus: Option<DiskBus>, device: DiskDevice) -> Disk {
        let dev = (!dev.is_empty()).then(|| dev.to_owned());
        Disk {
            device: Some(device),
            target: Some(DiskTarget {
                dev,
                bus,
                ..DiskTarget::default()
            }),
            ..Disk::default()
        }
    }

    #[test]
    fn names_are_counted_as_the_kernel_counts_them() {
        let names: Vec<String> = [0, 25, 26, 27, 701, 702].map(|n| name("vd", n)).into();
        assert_eq!(names, ["vda", "vdz", "vdaa", "vdab", "vdzz", "vdaaa"]);
    }

    #[test]
    fn a_name_is_the_first_that_is_free_whatever_bus_shares_it() {
        let disks = [
            disk("", None, DiskDevice::Disk),
            disk("", Some(DiskBus::Usb), DiskDevice::Disk),
            disk("vda", None, DiskDevice::Disk),
            disk("", None, DiskDevice::Cdrom),
            disk("", None, DiskDevice::Floppy),
            disk("", None, DiskDevice::Lun),
            disk("", None, DiskDevice::Disk),
        ];
        assert_eq!(
            targets(&disks),
            ["vdb", "sda", "vda", "sdb", "fda", "sdc", "vdc"]
        );
    }

    #[test]
    fn a_bus_is_stated_with_a_name_that_does_not_tell_it() {
        let mut disks = [
            disk("", None, DiskDevice::Disk),
            disk("", None, DiskDevice::Cdrom),
            disk("", Some(DiskBus::Usb), DiskDevice::Disk),
        ];
        name_all(&mut disks);
        let buses = disks.map(|disk| disk.target.and_then(|target| target.bus));
        assert_eq!(buses, [None, Some(DiskBus::Sata), Some(DiskBus::Usb)]);
    }
}
