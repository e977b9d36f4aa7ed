//! Rules on disks.

use super::drives::ejects;
use super::one::Report;
use super::sources::reference;
use crate::complete::targets::known_bus as bus_of;
use crate::domain::Domain;
use crate::domain::address::AddressType;
use crate::domain::disk::{Disk, DiskBus, DiskDevice, DiskModel, DiskType, ImageFormatName, SgIo};
use crate::domain::security::DeviceSecLabel;
use crate::domain::storage::{DiskSource, NetworkProtocol};
use crate::rule::Rule;
use crate::scalar::{OnOff, YesNo};
use crate::secret::UsageType;
use std::collections::{BTreeSet, HashSet};
use std::fmt::Arguments;

/// Every rule on disks.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    let mut targets = BTreeSet::new();
    for (i, disk) in domain.disks().iter().enumerate() {
        let path = format_args!("devices/disk[{}]", i + 1);
        let target = disk
            .target
            .as_ref()
            .and_then(|target| target.dev.as_deref());
        if target.is_some_and(|dev| !targets.insert(dev)) {
            r.add(
                Rule::DuplicateTarget,
                format_args!("{path}/target/@dev"),
                format!("two disks are `{}`", target.unwrap_or_default()),
                Some("give one of them a name that no other has"),
            );
        }
        source(disk, path, r);
        device(disk, path, r);
        secrets(disk, path, r);
        bus(disk, path, r);
        if let Some(source) = &disk.source {
            labels(domain, &source.seclabels, format_args!("{path}/source"), r);
        }
    }
    super::drive_places::check(domain, r);
}

/// In XML every disk has a name in the guest; in YAML a free one is found.
pub(crate) fn named(domain: &Domain, r: &mut Report<'_>) {
    let unnamed = |disk: &Disk| disk.target.as_ref().is_none_or(|it| it.dev.is_none());
    for (i, _) in (domain.disks().iter().enumerate()).filter(|(_, disk)| unnamed(disk)) {
        if !r.is_xml() {
            return;
        }
        r.add(
            Rule::DiskTarget,
            format_args!("devices/disk[{}]/target", i + 1),
            "the disk has no name in the guest",
            Some("add one that its bus has: <target dev='vda'/> for virtio, <target dev='sda' bus='sata'/> for sata"),
        );
    }
}

/// What the type of the disk needs of its source.
fn source(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    let empty = DiskSource::default();
    let source = disk.source.as_ref().unwrap_or(&empty);
    let at = format_args!("{path}/source");
    let kind = disk.kind.unwrap_or(DiskType::File);
    let lacks = match kind {
        DiskType::File => source.file.is_none().then_some("`file`"),
        DiskType::Block | DiskType::VhostVdpa | DiskType::Ctl => {
            source.dev.is_none().then_some("`dev`")
        }
        DiskType::Dir => source.dir.is_none().then_some("`dir`"),
        DiskType::Volume => {
            (source.pool.is_none() || source.volume.is_none()).then_some("`pool` and `volume`")
        }
        DiskType::Network => source.protocol.is_none().then_some("`protocol`"),
        DiskType::Nvme => source.address.is_none().then_some("<address>"),
        DiskType::VhostUser => source.path.is_none().then_some("`path`"),
    };
    if let Some(lacks) = lacks
        && !(ejects(disk)
            && disk
                .source
                .as_ref()
                .is_none_or(|source| *source == empty || only_policy(source)))
    {
        r.report(
            Rule::DiskSource,
            at,
            format!("a disk of type `{kind}` needs a source with {lacks}"),
        );
    }
    let others = [
        (DiskType::File, "file", source.file.is_some()),
        (DiskType::Block, "dev", source.dev.is_some()),
        (DiskType::Volume, "volume", source.volume.is_some()),
        (DiskType::Network, "protocol", source.protocol.is_some()),
    ];
    for (other, name, stated) in others {
        if stated
            && other != kind
            && !(matches!(kind, DiskType::VhostVdpa | DiskType::Ctl) && other == DiskType::Block)
        {
            r.add(
                Rule::DiskSourceType,
                format_args!("{at}/@{name}"),
                format!("`{name}` belongs to disks of type `{other}`, and this is `{kind}`"),
                None,
            );
        }
    }
    let needs_host = matches!(
        source.protocol,
        Some(
            NetworkProtocol::Iscsi
                | NetworkProtocol::Gluster
                | NetworkProtocol::Http
                | NetworkProtocol::Https
                | NetworkProtocol::Ssh
                | NetworkProtocol::Nfs
        )
    );
    if needs_host && source.hosts.is_empty() {
        r.report(Rule::SourceHosts, at, "the protocol needs a <host>");
    }
    if source.hosts.len() > 1
        && matches!(
            source.protocol,
            Some(
                NetworkProtocol::Iscsi
                    | NetworkProtocol::Nbd
                    | NetworkProtocol::Nfs
                    | NetworkProtocol::Http
                    | NetworkProtocol::Https
                    | NetworkProtocol::Ftp
                    | NetworkProtocol::Ftps
                    | NetworkProtocol::Tftp
                    | NetworkProtocol::Ssh
                    | NetworkProtocol::Vxhs
            )
        )
    {
        r.report(
            Rule::SourceHosts,
            format_args!("{at}/host[2]"),
            "the protocol takes one host",
        );
    }
}

/// A source that only says what happens when there is no medium.
fn only_policy(source: &DiskSource) -> bool {
    let bare = DiskSource {
        startup_policy: source.startup_policy,
        index: source.index,
        ..DiskSource::default()
    };
    *source == bare
}

/// What kind of device can be what.
fn device(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    let format = disk.driver.as_ref().and_then(|driver| driver.kind);
    if matches!(
        format,
        Some(ImageFormatName::Cow | ImageFormatName::Dir | ImageFormatName::Iso)
    ) {
        let help = "an ISO image is `raw`, a directory shown as a disk is `fat`";
        r.add(
            Rule::DiskFormat,
            format_args!("{path}/driver/@type"),
            "no driver reads this format",
            Some(help),
        );
    }
    let lun = disk.device == Some(DiskDevice::Lun);
    if lun {
        let direct = matches!(
            disk.kind,
            Some(DiskType::Block | DiskType::Network | DiskType::Volume)
        );
        if !direct {
            r.report(
                Rule::LunDisk,
                format_args!("{path}/@type"),
                "device='lun' needs a disk of type block, network or volume",
            );
        }
        if format.is_some_and(|format| format != ImageFormatName::Raw) {
            r.report(
                Rule::LunDisk,
                format_args!("{path}/driver/@type"),
                "device='lun' is always raw",
            );
        }
    } else if disk.rawio.is_some() || disk.sgio.is_some() {
        let name = if disk.rawio.is_some() {
            "@rawio"
        } else {
            "@sgio"
        };
        r.report(
            Rule::LunDisk,
            format_args!("{path}/{name}"),
            "commands are handed through only for device='lun'",
        );
    }
    if disk.sgio == Some(SgIo::Unfiltered) && lun {
        r.report(
            Rule::LunDisk,
            format_args!("{path}/@sgio"),
            "kernels no longer hand commands through unfiltered",
        );
    }
    let reads_back = disk.driver.as_ref().and_then(|driver| driver.copy_on_read) == Some(OnOff::On);
    if reads_back && (disk.readonly || lun || ejects(disk)) {
        let what = if lun {
            "a device that is handed through"
        } else {
            "a disk that is read-only, or on a drive's medium"
        };
        r.report(
            Rule::CopyOnRead,
            format_args!("{path}/driver/@copy_on_read"),
            format!("what is read cannot be kept on {what}"),
        );
    }
}

fn secrets(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    let inner = disk.source.as_ref();
    if disk.auth.is_some() && inner.is_some_and(|source| source.auth.is_some()) {
        r.report(
            Rule::StatedTwice,
            format_args!("{path}/auth"),
            "<auth> is stated twice: keep the one inside of <source>",
        );
    }
    if disk.encryption.is_some() && inner.is_some_and(|source| source.encryption.is_some()) {
        r.report(
            Rule::StatedTwice,
            format_args!("{path}/encryption"),
            "<encryption> is stated twice: keep the one inside of <source>",
        );
    }
    let (auth, of) = match inner.and_then(|source| source.auth.as_ref()) {
        Some(auth) => (Some(auth), "/source"),
        None => (disk.auth.as_ref(), ""),
    };
    let at = format_args!("{path}{of}/auth/secret");
    let Some(secret) = auth.and_then(|auth| auth.secret.as_ref()) else {
        return;
    };
    let fits = match inner.and_then(|source| source.protocol) {
        Some(NetworkProtocol::Iscsi) => Some(UsageType::Iscsi),
        Some(NetworkProtocol::Rbd) => Some(UsageType::Ceph),
        _ => None,
    };
    match (secret.kind, fits) {
        (None, _) => r.report(Rule::SecretType, at, "the secret has no type"),
        (Some(kind), Some(fits)) if kind != fits => r.report(
            Rule::SecretType,
            format_args!("{at}/@type"),
            format!("the protocol takes a secret of type `{fits}`"),
        ),
        _ => {}
    }
    reference(secret, at, r);
}

/// What a bus can carry.
fn bus(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(bus) = bus_of(disk) else { return };
    if (disk.vendor.is_some() || disk.product.is_some()) && bus != DiskBus::Scsi {
        let name = if disk.vendor.is_some() {
            "vendor"
        } else {
            "product"
        };
        r.report(
            Rule::VendorBus,
            format_args!("{path}/{name}"),
            "only a SCSI disk tells its maker and product",
        );
    }
    let virtio = matches!(
        disk.model,
        Some(DiskModel::Virtio | DiskModel::Transitional | DiskModel::NonTransitional)
    );
    if virtio && bus != DiskBus::Virtio {
        r.report(
            Rule::VirtioModel,
            format_args!("{path}/@model"),
            format!("the disk is on the {bus} bus, its model is of virtio"),
        );
    }
    let ejects = matches!(
        bus,
        DiskBus::Ide | DiskBus::Scsi | DiskBus::Sata | DiskBus::Fdc
    );
    if disk.device == Some(DiskDevice::Cdrom) && disk.source.is_none() && !ejects {
        r.report(
            Rule::EmptyDrive,
            format_args!("{path}/target/@bus"),
            format!("a drive on the {bus} bus cannot be empty"),
        );
    }
    let floppy = disk.device == Some(DiskDevice::Floppy);
    if floppy != (bus == DiskBus::Fdc) {
        let message = if floppy {
            format!("a floppy drive is on the fdc bus, not on {bus}")
        } else {
            "only a floppy drive is on the fdc bus".to_owned()
        };
        r.report(Rule::FloppyBus, format_args!("{path}/target/@bus"), message);
    }
    let Some(kind) = disk.address.as_ref().and_then(|address| address.kind) else {
        return;
    };
    let fits = match bus {
        DiskBus::Ide | DiskBus::Fdc | DiskBus::Sata | DiskBus::Scsi => {
            matches!(kind, AddressType::Drive | AddressType::Unassigned)
        }
        DiskBus::Usb => matches!(kind, AddressType::Usb | AddressType::Unassigned),
        DiskBus::Virtio => !matches!(
            kind,
            AddressType::Drive
                | AddressType::Usb
                | AddressType::Isa
                | AddressType::Ccid
                | AddressType::Dimm
        ),
        _ => true,
    };
    if !fits {
        r.add(
            Rule::AddressType,
            format_args!("{path}/address/@type"),
            format!("a disk on the {bus} bus has no {kind} address"),
            None,
        );
    }
}

/// Labels of one file: one a manner, and none where the guest's own says that nothing is labelled.
pub(crate) fn labels(
    domain: &Domain,
    labels: &[DeviceSecLabel],
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    let mut seen = HashSet::new();
    for (i, label) in labels.iter().enumerate() {
        let at = format_args!("{path}/seclabel[{}]", i + 1);
        if !seen.insert(label.model.as_deref()) {
            r.report(Rule::DuplicateSeclabel, at, "two labels of one manner");
        }
        let stays = |own: &&crate::domain::security::SecLabel| {
            own.model == label.model && label.model.is_some() && own.relabel == Some(YesNo::No)
        };
        if label.relabel == Some(YesNo::Yes) && domain.seclabels.iter().any(|own| stays(&own)) {
            r.report(
                Rule::SeclabelRelabel,
                at,
                "the guest's own label says that nothing is labelled",
            );
        }
    }
}
