//! Rules on devices of the host's: how each is named, that each is handed over once, and what can be said of it.

use super::drives::is_wwn;
use super::interfaces::rom;
use super::machine::is_qemu;
use super::one::Report;
use super::sources::{server, user};
use crate::domain::address::{Address, AddressType};
use crate::domain::disk::SgIo;
use crate::domain::hostdev::{
    Hostdev, HostdevMode, HostdevModel, HostdevProtocol, HostdevSource, HostdevType,
};
use crate::domain::interface::{InterfaceType, TeamingType};
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::{Number, OnOff};
use crate::secret::UsageType;
use std::collections::HashMap;
use std::fmt::Arguments;

/// Every rule on devices of the host's.
pub(crate) fn check(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let qemu = is_qemu(domain);
    once(devices, r);
    let first = devices
        .hostdevs
        .iter()
        .position(|hostdev| hostdev.model == Some(HostdevModel::VfioAp));
    for (i, hostdev) in devices.hostdevs.iter().enumerate() {
        let path = format_args!("devices/hostdev[{}]", i + 1);
        if hostdev.mode == Some(HostdevMode::Capabilities) {
            capability(hostdev, qemu, path, r);
            continue;
        }
        source(hostdev, path, r);
        let filtered = hostdev
            .source
            .as_ref()
            .is_some_and(|source| source.write_filtering.is_some());
        if qemu && filtered {
            r.report(
                Rule::HostdevOption,
                format_args!("{path}/source/@writeFiltering"),
                "writes to the device's configuration are filtered with Xen only",
            );
        }
        place(hostdev, path, r);
        options(hostdev, path, r);
        if hostdev.kind == Some(HostdevType::Mdev) {
            mediated(devices, hostdev, path, qemu, r);
            if qemu && hostdev.model == Some(HostdevModel::VfioAp) && first != Some(i) {
                r.report(
                    Rule::HostdevModel,
                    format_args!("{path}/@model"),
                    "a guest has one device of model vfio-ap",
                );
            }
        }
        if let Some(rom) = &hostdev.rom {
            self::rom(rom, format_args!("{path}/rom"), r);
        }
    }
}

/// What tells a device of the host's from every other.
#[derive(PartialEq, Eq, Hash)]
enum Identity<'d> {
    Pci([u64; 4]),
    UsbPlace(u64, u64),
    UsbKind(u64, u64),
    Mediated(uuid::Uuid),
    Scsi(&'d str, [u64; 3]),
    Iscsi(&'d str, Option<&'d str>),
    ScsiHost(&'d str),
}

fn number(number: Option<Number>) -> u64 {
    number.map_or(0, Number::get)
}

fn pci(address: &Address) -> Identity<'_> {
    Identity::Pci([
        number(address.domain),
        number(address.bus),
        number(address.slot),
        number(address.function),
    ])
}

fn identity(hostdev: &Hostdev) -> Option<Identity<'_>> {
    let source = hostdev.source.as_ref()?;
    let address = source.address.as_ref();
    match hostdev.kind? {
        HostdevType::Pci => address.map(pci),
        HostdevType::Usb => {
            let placed = address.filter(|address| address.device.is_some());
            placed
                .map(|address| Identity::UsbPlace(number(address.bus), number(address.device)))
                .or_else(|| {
                    let vendor = source.vendor.as_ref()?.id?.get();
                    Some(Identity::UsbKind(
                        vendor,
                        source.product.as_ref()?.id?.get(),
                    ))
                })
        }
        HostdevType::Mdev => address?.uuid.map(Identity::Mediated),
        HostdevType::Scsi if source.protocol == Some(HostdevProtocol::Iscsi) => {
            let host = source.hosts.first().and_then(|host| host.name.as_deref());
            Some(Identity::Iscsi(source.name.as_deref()?, host))
        }
        HostdevType::Scsi => {
            let address = address?;
            let place = [address.bus, address.target, address.unit].map(number);
            let adapter = source.adapter.as_ref()?.name.as_deref()?;
            Some(Identity::Scsi(adapter, place))
        }
        HostdevType::ScsiHost => source.wwpn.as_deref().map(Identity::ScsiHost),
        _ => None,
    }
}

/// Each device is handed over once, be it as an interface.
fn once(devices: &Devices, r: &mut Report<'_>) {
    let interfaces = devices
        .interfaces
        .iter()
        .enumerate()
        .filter(|(_, interface)| interface.kind == Some(InterfaceType::Hostdev))
        .filter_map(|(i, interface)| {
            let address = interface.source.as_ref()?.address.as_ref()?;
            (address.kind == Some(AddressType::Pci))
                .then(|| (format!("devices/interface[{}]", i + 1), pci(address)))
        });
    let hostdevs = devices
        .hostdevs
        .iter()
        .enumerate()
        .filter_map(|(i, hostdev)| {
            Some((format!("devices/hostdev[{}]", i + 1), identity(hostdev)?))
        });
    let mut taken = HashMap::new();
    for (path, identity) in interfaces.chain(hostdevs) {
        if let Some(other) = taken.insert(identity, path.clone()) {
            r.report(
                Rule::DuplicateHostdev,
                format_args!("{path}/source"),
                format!("{other} hands the device over already"),
            );
        }
    }
    let mut early = devices
        .hostdevs
        .iter()
        .enumerate()
        .filter(|(_, hostdev)| hostdev.ramfb == Some(OnOff::On));
    if let Some((i, _)) = early.nth(1) {
        r.report(
            Rule::DuplicateRamfb,
            format_args!("devices/hostdev[{}]/@ramfb", i + 1),
            "only one device shows something before its driver runs",
        );
    }
}

/// What each type needs of its source.
fn source(hostdev: &Hostdev, path: Arguments<'_>, r: &mut Report<'_>) {
    let none = HostdevSource::default();
    let source = hostdev.source.as_ref().unwrap_or(&none);
    let at = format_args!("{path}/source");
    let address = source.address.as_ref();
    match hostdev.kind {
        None => r.report(Rule::HostdevType, path, "the device has no type"),
        Some(HostdevType::Storage | HostdevType::Misc | HostdevType::Net) => r.report(
            Rule::HostdevType,
            format_args!("{path}/@type"),
            "such a device is handed to containers, with mode='capabilities'",
        ),
        Some(HostdevType::Pci) if address.is_none() => r.report(
            Rule::HostdevSource,
            at,
            "a PCI device needs a source with <address>",
        ),
        Some(HostdevType::Mdev) if address.is_none_or(|address| address.uuid.is_none()) => {
            r.report(
                Rule::HostdevSource,
                at,
                "a mediated device needs a source with <address uuid='…'/>",
            );
        }
        Some(HostdevType::Usb) => usb(source, at, r),
        Some(HostdevType::Scsi) => scsi(source, at, r),
        Some(HostdevType::ScsiHost) => {
            let name = source.wwpn.as_deref();
            if !name.is_some_and(|name| name.strip_prefix("naa.").is_some_and(is_wwn)) {
                r.report(
                    Rule::HostdevSource,
                    format_args!("{at}/@wwpn"),
                    "a SCSI host is named by `wwpn`, naa. and 16 hexadecimal digits",
                );
            }
            if source.protocol.is_none() {
                r.report(
                    Rule::HostdevSource,
                    at,
                    "a SCSI host needs a source with protocol='vhost'",
                );
            }
        }
        _ => {}
    }
}

/// What containers are handed: a block or character device, or an interface, by its name.
fn capability(hostdev: &Hostdev, qemu: bool, path: Arguments<'_>, r: &mut Report<'_>) {
    if qemu {
        r.report(
            Rule::HostdevType,
            format_args!("{path}/@mode"),
            "capabilities of the host's are handed to containers only",
        );
    }
    let source = hostdev.source.as_ref();
    let (name, stated) = match hostdev.kind {
        Some(HostdevType::Storage) => ("block", source.is_some_and(|s| s.block.is_some())),
        Some(HostdevType::Misc) => ("char", source.is_some_and(|s| s.char.is_some())),
        Some(HostdevType::Net) => ("interface", source.is_some_and(|s| s.interface.is_some())),
        _ => {
            r.report(
                Rule::HostdevType,
                format_args!("{path}/@type"),
                "with mode='capabilities' the type is storage, misc or net",
            );
            return;
        }
    };
    if !stated {
        r.report(
            Rule::HostdevSource,
            format_args!("{path}/source"),
            format!("the device needs a source with <{name}>"),
        );
    }
}

fn usb(source: &HostdevSource, at: Arguments<'_>, r: &mut Report<'_>) {
    let Some(vendor) = &source.vendor else {
        if source.address.is_none() {
            r.report(
                Rule::HostdevSource,
                at,
                "a USB device needs a source with <vendor> and <product>, or <address>",
            );
        }
        return;
    };
    if vendor.id.is_some_and(|id| id.get() == 0) {
        r.report(
            Rule::HostdevSource,
            format_args!("{at}/vendor/@id"),
            "no vendor has the number 0",
        );
    }
    if source.product.is_none() {
        r.report(
            Rule::HostdevSource,
            at,
            "a USB device is named by <vendor> and <product>, and <product> is not stated",
        );
    }
}

fn scsi(source: &HostdevSource, at: Arguments<'_>, r: &mut Report<'_>) {
    if source.protocol == Some(HostdevProtocol::Iscsi) {
        if source.name.is_none() || source.hosts.len() != 1 {
            r.report(
                Rule::HostdevSource,
                at,
                "a SCSI device on a server needs `name` and one <host>",
            );
        }
        for (i, host) in source.hosts.iter().enumerate() {
            server(host, format_args!("{at}/host[{}]", i + 1), r);
        }
        let Some(auth) = &source.auth else { return };
        user(auth, format_args!("{at}/auth"), r);
        let kind = auth.secret.as_ref().and_then(|secret| secret.kind);
        if kind.is_some_and(|kind| kind != UsageType::Iscsi) {
            r.report(
                Rule::SecretType,
                format_args!("{at}/auth/secret/@type"),
                "the protocol takes a secret of type `iscsi`",
            );
        }
        return;
    }
    let whole = source.address.as_ref().is_some_and(|address| {
        address.bus.is_some() && address.target.is_some() && address.unit.is_some()
    });
    if source.adapter.is_none() || !whole {
        r.report(
            Rule::HostdevSource,
            at,
            "a SCSI device of the host's needs <adapter name='scsi_host0'/> and <address bus='0' target='0' unit='0'/>",
        );
    }
}

/// What kind of place each type has in the guest.
fn place(hostdev: &Hostdev, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(kind) = hostdev.address.as_ref().and_then(|address| address.kind) else {
        return;
    };
    let fits: &[AddressType] = match (hostdev.kind, hostdev.model) {
        (Some(HostdevType::Pci), _) => &[AddressType::Pci, AddressType::Unassigned],
        (Some(HostdevType::Usb), _) => &[AddressType::Usb],
        (Some(HostdevType::Scsi), _) => &[AddressType::Drive],
        (Some(HostdevType::ScsiHost), _) => &[AddressType::Pci, AddressType::Ccw],
        (Some(HostdevType::Mdev), Some(HostdevModel::VfioPci)) => &[AddressType::Pci],
        (Some(HostdevType::Mdev), Some(HostdevModel::VfioCcw)) => &[AddressType::Ccw],
        (Some(HostdevType::Mdev), _) => &[
            AddressType::Pci,
            AddressType::Ccw,
            AddressType::Unassigned,
            AddressType::Mdev,
        ],
        _ => return,
    };
    if !fits.contains(&kind) {
        r.report(
            Rule::AddressType,
            format_args!("{path}/address/@type"),
            format!(
                "such a device of the host's has no {kind} address, but {}",
                fits[0]
            ),
        );
    }
}

/// What only some types can do.
fn options(hostdev: &Hostdev, path: Arguments<'_>, r: &mut Report<'_>) {
    let kind = hostdev.kind;
    if hostdev.sgio.is_some() && kind != Some(HostdevType::Scsi) {
        r.report(
            Rule::HostdevSgio,
            format_args!("{path}/@sgio"),
            "commands are filtered for SCSI devices only",
        );
    }
    if hostdev.sgio == Some(SgIo::Unfiltered) {
        r.report(
            Rule::HostdevSgio,
            format_args!("{path}/@sgio"),
            "kernels no longer hand commands through unfiltered",
        );
    }
    if hostdev.rawio.is_some() && kind != Some(HostdevType::Scsi) {
        r.report(
            Rule::HostdevSgio,
            format_args!("{path}/@rawio"),
            "raw commands are handed through for SCSI devices only",
        );
    }
    let source = hostdev.source.as_ref();
    if source.is_some_and(|source| source.startup_policy.is_some())
        && kind != Some(HostdevType::Usb)
    {
        r.report(
            Rule::HostdevOption,
            format_args!("{path}/source/@startupPolicy"),
            "only a USB device may be missing when the guest starts",
        );
    }
    let modelled = matches!(kind, Some(HostdevType::Mdev | HostdevType::ScsiHost) | None);
    for (name, stated, taken) in [
        ("model", hostdev.model.is_some(), modelled),
        (
            "display",
            hostdev.display.is_some(),
            kind == Some(HostdevType::Mdev),
        ),
    ] {
        if stated && !taken {
            r.report(
                Rule::HostdevOption,
                format_args!("{path}/@{name}"),
                format!("`{name}` is of mediated devices"),
            );
        }
    }
    let vfio = matches!(
        hostdev.model,
        Some(HostdevModel::VfioPci | HostdevModel::VfioAp)
    );
    let boots = match kind {
        Some(HostdevType::ScsiHost) => false,
        Some(HostdevType::Mdev) => !vfio,
        _ => true,
    };
    if hostdev.boot.is_some() && !boots {
        r.report(
            Rule::HostdevBoot,
            format_args!("{path}/boot"),
            "a guest cannot boot from such a device",
        );
    }
    if let Some(teaming) = &hostdev.teaming {
        let at = format_args!("{path}/teaming");
        if kind != Some(HostdevType::Pci) {
            r.report(
                Rule::Teaming,
                at,
                "only a PCI device is joined with an interface",
            );
        } else if teaming.kind != Some(TeamingType::Transient) || teaming.persistent.is_none() {
            r.report(
                Rule::Teaming,
                at,
                "a device of the host's has type='transient' and `persistent`, the alias of the interface it is joined with",
            );
        }
    }
}

/// How mediated devices are driven, and what they show.
fn mediated(
    devices: &Devices,
    hostdev: &Hostdev,
    path: Arguments<'_>,
    qemu: bool,
    r: &mut Report<'_>,
) {
    let Some(model) = hostdev.model else {
        r.add(
            Rule::HostdevModel,
            path,
            "a mediated device has no model",
            Some("state how it is driven: model='vfio-pci', 'vfio-ccw' or 'vfio-ap'"),
        );
        return;
    };
    if !qemu {
        return;
    }
    if hostdev.display.is_some() && model != HostdevModel::VfioPci {
        r.report(
            Rule::HostdevDisplay,
            format_args!("{path}/@display"),
            format!("only devices of model vfio-pci have a display, not {model}"),
        );
    } else if hostdev.display == Some(OnOff::On) && devices.graphics.is_empty() {
        r.add(
            Rule::HostdevDisplay,
            format_args!("{path}/@display"),
            "the device has a display, and nothing shows it",
            Some("add <graphics type='vnc'/>, or take display='off'"),
        );
    }
    if hostdev.ramfb == Some(OnOff::On) && hostdev.display != Some(OnOff::On) {
        r.add(
            Rule::HostdevDisplay,
            format_args!("{path}/@ramfb"),
            "the device shows something early, and has no display",
            Some("add display='on'"),
        );
    }
}
