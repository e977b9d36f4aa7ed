//! Rules on places: what numbers an address may have, which places are taken twice, and what may be on which bus.

use super::machine::{is_qemu, stated_arch};
use super::one::Report;
use super::path::DevicePath;
use super::pci_buses::pci_place;
use crate::complete::targets::known_bus as bus_of;
use crate::domain::address::{AcpiIndex, Address, AddressType, Alias};
use crate::domain::controller::{ControllerModel, ControllerType};
use crate::domain::disk::DiskBus;
use crate::domain::hostdev::HostdevType;
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::{Hex, Number};
use std::collections::{HashMap, HashSet};
use std::fmt::Arguments;

/// The kind of consoles: the first one is another name for a serial port, whose place and name it may repeat.
const CONSOLE: &str = "console";

/// Every rule on places.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    let Some(devices) = &domain.devices else {
        return;
    };
    let qemu = is_qemu(domain);
    let mut taken: HashMap<[u64; 4], DevicePath> = HashMap::new();
    for (path, address) in places(devices) {
        range(address, format_args!("{path}/address"), r);
        decimal(address, format_args!("{path}/address"), r);
        kind(domain, address, path, r);
        let Some(place) =
            pci_place(address).filter(|_| address.slot.is_some() && !path.is(CONSOLE))
        else {
            continue;
        };
        match taken.get(&place) {
            Some(other) => r.add(
                Rule::AddressInUse,
                format_args!("{path}/address"),
                format!("{other} has this place"),
                Some("take another slot, or leave <address> out, and a free place is taken"),
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
                format_args!("devices/hostdev[{}]/source/address", i + 1),
                r,
            );
        }
    }
    names(devices, r);
    numbers(devices, r);
    if qemu {
        super::builtin::check(domain, devices, r);
        drives(devices, r);
        acpi(devices, r);
    }
}

/// What a device of any kind says of its place.
struct Held<'d> {
    path: DevicePath,
    alias: Option<&'d Alias>,
    acpi: Option<&'d AcpiIndex>,
    address: Option<&'d Address>,
}

/// Each device's address with the device's path.
pub(crate) fn places(devices: &Devices) -> Vec<(DevicePath, &Address)> {
    let all = held(devices).into_iter();
    all.filter_map(|one| Some((one.path, one.address?)))
        .collect()
}

/// Every device that can have a place.
fn held(devices: &Devices) -> Vec<Held<'_>> {
    let mut out = Vec::new();
    macro_rules! each {
        ($($name:literal $field:ident),*) => {$(
            out.extend(devices.$field.iter().enumerate().map(|(i, device)| Held {
                path: DevicePath::new($name, i),
                alias: device.alias.as_ref(),
                acpi: device.acpi.as_ref(),
                address: device.address.as_ref(),
            }));
        )*};
    }
    each!(
        "disk" disks, "interface" interfaces, "controller" controllers, "filesystem" filesystems, "smartcard" smartcards, "serial" serials,
        "parallel" parallels, "console" consoles, "channel" channels, "input" inputs, "tpm" tpms, "sound" sounds, "video" videos, "hostdev" hostdevs,
        "redirdev" redirdevs, "hub" hubs, "watchdog" watchdogs, "rng" rngs, "panic" panics, "shmem" shmems, "memory" memory_devices, "crypto" cryptos,
        "memballoon" memballoon, "iommu" iommu, "vsock" vsock, "pstore" pstore, "nvram" nvram
    );
    out
}

/// Names that people gave are each given once; a console may repeat its serial port's.
fn names(devices: &Devices, r: &mut Report<'_>) {
    let mut seen = HashMap::new();
    for one in held(devices) {
        let Some(name) = one.alias.and_then(|alias| alias.name.as_deref()) else {
            continue;
        };
        if !name.starts_with("ua-") || one.path.is(CONSOLE) {
            continue;
        }
        if let Some(other) = seen.insert(name, one.path) {
            r.report(
                Rule::DuplicateAlias,
                format_args!("{}/alias/@name", one.path),
                format!("{other} is called `{name}` too"),
            );
        }
    }
}

/// Only PCI devices have a number in ACPI's tables.
fn acpi(devices: &Devices, r: &mut Report<'_>) {
    for one in held(devices) {
        let kind = one.address.and_then(|address| address.kind);
        let numbered = one.acpi.and_then(|acpi| acpi.index).is_some_and(|i| i > 0);
        if numbered && let Some(kind) = kind.filter(|kind| *kind != AddressType::Pci) {
            r.report(
                Rule::AcpiIndex,
                format_args!("{}/acpi/@index", one.path),
                format!("ACPI's tables number PCI devices, and this one has a {kind} address"),
            );
        }
    }
}

/// Whether an address has a type, and one that the machine knows.
fn kind(domain: &Domain, address: &Address, path: DevicePath, r: &mut Report<'_>) {
    let at = format_args!("{path}/address");
    let Some(kind) = address.kind else {
        r.report(Rule::AddressType, at, "the address has no type");
        return;
    };
    parts(kind, address, at, r);
    let numbers = [address.cssid, address.ssid, address.devno];
    match kind {
        AddressType::Unassigned if !path.is("hostdev") => r.report(
            Rule::AddressType,
            format_args!("{at}/@type"),
            "only devices of the host's can be handed over without a place",
        ),
        AddressType::Ccw => {
            let count = numbers.iter().flatten().count();
            if !matches!(count, 0 | 3) {
                r.report(
                    Rule::AddressRange,
                    at,
                    "a ccw address has `cssid`, `ssid` and `devno`, or none of them",
                );
            }
            for ((name, most), number) in [("cssid", 0xfe), ("ssid", 3), ("devno", 0xffff)]
                .iter()
                .zip(numbers)
            {
                if number.is_some_and(|number| number.get() > *most) {
                    r.report(
                        Rule::AddressRange,
                        format_args!("{at}/@{name}"),
                        format!("`{name}` is at most {most:#x}"),
                    );
                }
            }
            if is_qemu(domain) && !super::machine::arch(domain).starts_with("s390") {
                r.report(
                    Rule::AddressType,
                    format_args!("{at}/@type"),
                    "ccw addresses are of s390's machines",
                );
            }
        }
        AddressType::VirtioS390 if is_qemu(domain) => r.add(
            Rule::AddressType,
            format_args!("{at}/@type"),
            "virtio-s390 addresses are no longer there",
            Some("take type='ccw'"),
        ),
        AddressType::SpaprVio if address.reg.is_some_and(|reg| reg.get() > 0xffff_ffff) => r
            .report(
                Rule::AddressRange,
                format_args!("{at}/@reg"),
                "`reg` is at most 0xffffffff",
            ),
        _ => {}
    }
    let other = stated_arch(domain).filter(|arch| !arch.starts_with("s390"));
    if let Some(other) = other.filter(|_| address.zpci.is_some() && is_qemu(domain)) {
        r.report(
            Rule::OtherMachine,
            format_args!("{at}/zpci"),
            format!("numbers of PCI functions are s390's, and the guest's machine is {other}"),
        );
    }
    let uid = address.zpci.as_ref().and_then(|zpci| zpci.uid);
    if uid.is_some_and(|uid| !(1..=0xffff).contains(&uid.get())) {
        r.report(
            Rule::AddressRange,
            format_args!("{at}/zpci/@uid"),
            "`uid` is 1 to 0xffff",
        );
    }
}

/// What an address of each type states.
fn parts_of(kind: AddressType) -> &'static [&'static str] {
    match kind {
        AddressType::Pci => &[
            "@domain",
            "@bus",
            "@slot",
            "@function",
            "@multifunction",
            "zpci",
        ],
        AddressType::Drive => &["@controller", "@bus", "@target", "@unit"],
        AddressType::VirtioSerial => &["@controller", "@bus", "@port"],
        AddressType::Ccid => &["@controller", "@slot"],
        AddressType::Usb => &["@bus", "@port"],
        AddressType::SpaprVio => &["@reg"],
        AddressType::Ccw => &["@cssid", "@ssid", "@devno"],
        AddressType::Isa => &["@iobase", "@irq"],
        AddressType::Dimm => &["@slot", "@base"],
        AddressType::Mdev => &["@uuid"],
        AddressType::VirtioMmio | AddressType::VirtioS390 | AddressType::Unassigned => &[],
    }
}

fn parts(kind: AddressType, address: &Address, at: Arguments<'_>, r: &mut Report<'_>) {
    let stated = [
        ("@domain", address.domain.is_some()),
        ("@bus", address.bus.is_some()),
        ("@slot", address.slot.is_some()),
        ("@function", address.function.is_some()),
        ("@multifunction", address.multifunction.is_some()),
        ("@controller", address.controller.is_some()),
        ("@target", address.target.is_some()),
        ("@unit", address.unit.is_some()),
        ("@port", address.port.is_some()),
        ("@device", address.device.is_some()),
        ("@reg", address.reg.is_some()),
        ("@iobase", address.iobase.is_some()),
        ("@irq", address.irq.is_some()),
        ("@cssid", address.cssid.is_some()),
        ("@ssid", address.ssid.is_some()),
        ("@devno", address.devno.is_some()),
        ("@base", address.base.is_some()),
        ("@uuid", address.uuid.is_some()),
        ("zpci", address.zpci.is_some()),
    ];
    let taken = parts_of(kind);
    for (name, _) in stated.iter().filter(|(_, stated)| *stated) {
        if taken.contains(name) {
            continue;
        }
        let names: Vec<&str> = taken
            .iter()
            .map(|name| name.trim_start_matches('@'))
            .collect();
        let help = (!names.is_empty()).then(|| format!("it has {}", names.join(", ")));
        r.add(
            Rule::AddressPart,
            format_args!("{at}/{name}"),
            format!(
                "an address of type {kind} has no `{}`",
                name.trim_start_matches('@')
            ),
            help.as_deref(),
        );
    }
}

/// Numbers of drives that their bus does not have.
fn drives(devices: &Devices, r: &mut Report<'_>) {
    let scsi = devices
        .hostdevs
        .iter()
        .enumerate()
        .filter(|(_, hostdev)| hostdev.kind == Some(HostdevType::Scsi))
        .map(|(i, hostdev)| {
            (
                DevicePath::new("hostdev", i),
                Some(DiskBus::Scsi),
                hostdev.address.as_ref(),
            )
        });
    let disks = devices.disks.iter().enumerate().map(|(i, disk)| {
        (
            DevicePath::new("disk", i),
            bus_of(disk),
            disk.address.as_ref(),
        )
    });
    let simple: HashSet<u64> = devices
        .controllers
        .iter()
        .filter(|controller| {
            controller.kind == Some(ControllerType::Scsi)
                && controller.model == Some(ControllerModel::Lsilogic)
        })
        .filter_map(|controller| controller.index.map(u64::from))
        .collect();
    for (path, bus, address) in disks.chain(scsi) {
        let (Some(bus), Some(address)) = (bus, address) else {
            continue;
        };
        if address.kind != Some(AddressType::Drive) {
            continue;
        }
        let controller = address.controller.map_or(0, Number::get);
        let none: &[&str] = match bus {
            DiskBus::Scsi if simple.contains(&controller) => &["bus", "target"],
            DiskBus::Scsi => &["bus"],
            DiskBus::Ide => &["controller", "target"],
            DiskBus::Fdc => &["controller", "bus", "target"],
            DiskBus::Sata => &["bus", "target"],
            _ => &[],
        };
        let numbers = [
            ("controller", address.controller),
            ("bus", address.bus),
            ("target", address.target),
        ];
        for (name, number) in numbers {
            if none.contains(&name) && number.is_some_and(|number| number.get() > 0) {
                r.report(
                    Rule::AddressRange,
                    format_args!("{path}/address/@{name}"),
                    format!("the only {name} of the {bus} bus is number 0"),
                );
            }
        }
    }
}

/// What the numbers of an address may be.
fn range(address: &Address, path: Arguments<'_>, r: &mut Report<'_>) {
    let pci = address.kind == Some(AddressType::Pci)
        || address.kind.is_none() && address.slot.is_some() && address.function.is_some();
    if !pci {
        return;
    }
    let numbers = [
        ("domain", address.domain, 0xffff_ffff),
        ("bus", address.bus, 0xff),
        ("slot", address.slot, 0x1f),
        ("function", address.function, 7),
    ];
    for (name, number, most) in numbers {
        if number.is_some_and(|number| number.get() > most) {
            r.add(
                Rule::AddressRange,
                format_args!("{path}/@{name}"),
                format!("a PCI {name} is at most {most:#x}"),
                None,
            );
        }
    }
}

/// Numbers of PCI, of channels and of the host's devices may be hexadecimal; those of other buses are not.
fn decimal(address: &Address, path: Arguments<'_>, r: &mut Report<'_>) {
    use AddressType::{Ccid, Dimm, Drive, Usb, VirtioSerial};
    if !matches!(address.kind, Some(Drive | VirtioSerial | Ccid | Usb | Dimm)) {
        return;
    }
    let numbers = [
        ("controller", address.controller),
        ("bus", address.bus),
        ("target", address.target),
        ("unit", address.unit),
        ("slot", address.slot),
    ];
    for (name, number) in numbers {
        if let Some(number) = number.filter(|number| number.is_hex()) {
            r.add(
                Rule::AddressRange,
                format_args!("{path}/@{name}"),
                format!("`{number}` is not decimal, as this bus takes it"),
                None,
            );
        }
    }
}

/// Registers of POWER's virtual bus, slots of memory and numbers of s390's devices are each taken once.
fn numbers(devices: &Devices, r: &mut Report<'_>) {
    let mut taken: HashMap<(&str, [u64; 3]), DevicePath> = HashMap::new();
    for (path, address) in places(devices) {
        if path.is(CONSOLE) {
            continue;
        }
        let ccw = match [address.cssid, address.ssid, address.devno] {
            [Some(a), Some(b), Some(c)] => Some([a.get(), b.get(), c.get()]),
            _ => None,
        };
        let alone = |number: Option<u64>| number.map(|number| [number, 0, 0]);
        let zpci = address.zpci.as_ref();
        let stated = [
            (
                "@reg",
                alone(address.reg.map(Hex::get))
                    .filter(|_| address.kind == Some(AddressType::SpaprVio)),
            ),
            (
                "@slot",
                alone(address.slot.map(Number::get))
                    .filter(|_| address.kind == Some(AddressType::Dimm)),
            ),
            (
                "@devno",
                ccw.filter(|_| address.kind == Some(AddressType::Ccw)),
            ),
            (
                "zpci/@uid",
                alone(zpci.and_then(|zpci| zpci.uid).map(Number::get)),
            ),
            (
                "zpci/@fid",
                alone(zpci.and_then(|zpci| zpci.fid).map(Number::get)),
            ),
        ];
        for (name, number) in stated {
            let Some(number) = number else { continue };
            match taken.get(&(name, number)) {
                Some(other) => r.add(
                    Rule::AddressInUse,
                    format_args!("{path}/address/{name}"),
                    format!("{other} has this number"),
                    Some("take another, or leave it out, and a free one is given"),
                ),
                None => {
                    taken.insert((name, number), path);
                }
            }
        }
    }
}
