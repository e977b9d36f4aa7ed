//! Rules on where a disk's data is: servers, names on them, proofs of who one is, and chains of images.

use super::machine::is_qemu;
use super::one::Report;
use crate::common::{Auth, AuthSecret, HostTransport, StorageHost};
use crate::complete::targets::known_bus as bus_of;
use crate::domain::Domain;
use crate::domain::chardev::CharMode;
use crate::domain::disk::{Disk, DiskBackingStore, DiskBus, DiskDevice, DiskType, ImageFormatName};
use crate::domain::storage::{DiskSource, NetworkProtocol, Reservations, SourceType};
use crate::rule::Rule;
use crate::scalar::YesNo;
use crate::volume::{EncryptionFormat, VolumeEncryption};
use std::collections::HashSet;
use std::fmt::Arguments;

/// Every rule on sources of disks.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    let qemu = is_qemu(domain);
    for (i, disk) in domain.disks().iter().enumerate() {
        let path = format_args!("devices/disk[{}]", i + 1);
        if let Some(source) = &disk.source {
            self::source(disk, source, format_args!("{path}/source"), r);
            if qemu && disk.kind == Some(DiskType::Network) {
                network(source, format_args!("{path}/source"), r);
            }
        }
        if let Some(auth) = &disk.auth {
            user(auth, format_args!("{path}/auth"), r);
        }
        if let Some(encryption) = &disk.encryption {
            encrypted(disk, encryption, format_args!("{path}/encryption"), r);
        }
        chain(disk.backing_store.as_deref(), path, r);
    }
}

fn source(disk: &Disk, source: &DiskSource, path: Arguments<'_>, r: &mut Report<'_>) {
    for (i, host) in source.hosts.iter().enumerate() {
        server(host, format_args!("{path}/host[{}]", i + 1), r);
    }
    if let Some(auth) = &source.auth {
        user(auth, format_args!("{path}/auth"), r);
    }
    if let Some(encryption) = &source.encryption {
        encrypted(disk, encryption, format_args!("{path}/encryption"), r);
    }
    let lun = disk.device == Some(DiskDevice::Lun);
    match disk.kind {
        Some(DiskType::Network) => named(disk, source, lun, path, r),
        Some(DiskType::Nvme) => {
            if source.namespace.is_none_or(|namespace| namespace == 0) {
                r.add(
                    Rule::NvmeSource,
                    path,
                    "a disk of type nvme needs `namespace`, a number from 1",
                    Some("most drives have one: namespace='1'"),
                );
            }
            if source.kind != Some(SourceType::Pci) {
                r.report(
                    Rule::NvmeSource,
                    path,
                    "a disk of type nvme needs a source with type='pci'",
                );
            }
        }
        Some(DiskType::VhostUser) if source.kind != Some(SourceType::Unix) => r.report(
            Rule::VhostUserDisk,
            path,
            "a disk of type vhostuser needs a source with type='unix'",
        ),
        _ => {}
    }
    if disk.kind != Some(DiskType::Network) {
        for (name, stated) in [
            ("snapshot", source.snapshot.is_some()),
            ("config", source.config.is_some()),
        ] {
            if stated {
                r.report(
                    Rule::SourceProtocol,
                    format_args!("{path}/{name}"),
                    format!("<{name}> is for what lies on a server of protocol rbd"),
                );
            }
        }
    }
    if lun && source.slices.is_some() {
        r.report(
            Rule::LunDisk,
            format_args!("{path}/slices"),
            "device='lun' is a whole device",
        );
    }
    if let Some(reservations) = &source.reservations {
        reserved(reservations, lun, format_args!("{path}/reservations"), r);
    }
}

/// What is read on a server, and as whom.
fn named(disk: &Disk, source: &DiskSource, lun: bool, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(protocol) = source.protocol else {
        return;
    };
    if source.name.is_none() && protocol != NetworkProtocol::Nbd {
        r.report(
            Rule::SourceName,
            path,
            format!("the protocol {protocol} needs `name`: what to read on the server"),
        );
    }
    let volume = source.name.as_deref().and_then(|name| name.find('/'));
    if protocol == NetworkProtocol::Gluster
        && source.name.is_some()
        && volume.is_none_or(|place| place == 0)
    {
        r.report(
            Rule::SourceName,
            format_args!("{path}/@name"),
            "gluster needs a name such as `volume/image`",
        );
    }
    if lun && protocol != NetworkProtocol::Iscsi {
        r.report(
            Rule::LunDisk,
            format_args!("{path}/@protocol"),
            format!("device='lun' takes the protocol iscsi, not {protocol}"),
        );
    }
    let proves = !matches!(
        protocol,
        NetworkProtocol::Nbd
            | NetworkProtocol::Sheepdog
            | NetworkProtocol::Gluster
            | NetworkProtocol::Tftp
            | NetworkProtocol::Vxhs
            | NetworkProtocol::Nfs
    );
    if !proves && (source.auth.is_some() || disk.auth.is_some()) {
        r.report(
            Rule::AuthProtocol,
            format_args!("{path}/auth"),
            format!("the protocol {protocol} does not ask who one is"),
        );
    }
}

/// What a protocol takes beside a name.
fn network(source: &DiskSource, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(protocol) = source.protocol else {
        return;
    };
    let web = matches!(protocol, NetworkProtocol::Http | NetworkProtocol::Https);
    let files = matches!(protocol, NetworkProtocol::Ftp | NetworkProtocol::Ftps);
    let secured = matches!(protocol, NetworkProtocol::Https | NetworkProtocol::Ftps);
    let stated = [
        ("@query", source.query.is_some(), web, "http and https"),
        ("ssl", source.ssl.is_some(), secured, "https and ftps"),
        ("cookies", source.cookies.is_some(), web, "http and https"),
        (
            "readahead",
            source.readahead.is_some(),
            web || files,
            "http, https, ftp and ftps",
        ),
        (
            "timeout",
            source.timeout.is_some(),
            web || files,
            "http, https, ftp and ftps",
        ),
    ];
    for (name, stated, taken, by) in stated {
        if stated && !taken {
            r.report(
                Rule::SourceProtocol,
                format_args!("{path}/{name}"),
                format!(
                    "`{}` is for {by}, not for {protocol}",
                    name.trim_start_matches('@')
                ),
            );
        }
    }
    let mut names = HashSet::new();
    for (i, cookie) in source
        .cookies
        .iter()
        .flat_map(|cookies| &cookies.cookies)
        .enumerate()
    {
        if let Some(name) = cookie.name.as_deref()
            && !names.insert(name)
        {
            let at = format_args!("{path}/cookies/cookie[{}]/@name", i + 1);
            let message = format!("two cookies are called `{name}`");
            r.report(Rule::DuplicateCookie, at, message);
        }
    }
    if protocol == NetworkProtocol::Nfs
        && let [host] = source.hosts.as_slice()
        && (host.port.is_some_and(|port| port > 0)
            || host
                .transport
                .is_some_and(|transport| transport != HostTransport::Tcp))
    {
        r.report(
            Rule::SourceServer,
            format_args!("{path}/host[1]"),
            "nfs goes over TCP and finds its port itself",
        );
    }
}

/// A server is named, or reached through a socket.
pub(crate) fn server(host: &StorageHost, path: Arguments<'_>, r: &mut Report<'_>) {
    let unix = host.transport == Some(HostTransport::Unix);
    if unix && host.socket.is_none() {
        r.report(
            Rule::SourceServer,
            path,
            "transport='unix' needs `socket`, its path",
        );
    }
    if !unix && host.socket.is_some() {
        r.add(
            Rule::SourceServer,
            format_args!("{path}/@socket"),
            "a socket is for transport='unix'",
            Some("add transport='unix'"),
        );
    }
    if !unix && host.socket.is_none() && host.name.is_none() {
        r.report(Rule::SourceServer, path, "the server has no `name`");
    }
}

/// Who proves to be somebody says who, and with which secret.
pub(crate) fn user(auth: &Auth, path: Arguments<'_>, r: &mut Report<'_>) {
    if auth.username.is_none() {
        r.report(
            Rule::AuthUser,
            path,
            "<auth> does not say who: it needs `username`",
        );
    }
    if auth.secret.is_none() {
        r.report(
            Rule::AuthUser,
            path,
            "<auth> does not say how: it needs a <secret>",
        );
    }
}

/// Each secret is named in one way, and the format is one that can be opened.
fn encrypted(disk: &Disk, encryption: &VolumeEncryption, path: Arguments<'_>, r: &mut Report<'_>) {
    for (i, secret) in encryption.secrets.iter().enumerate() {
        let same = AuthSecret {
            uuid: secret.uuid,
            usage: secret.usage.clone(),
            ..AuthSecret::default()
        };
        reference(&same, format_args!("{path}/secret[{}]", i + 1), r);
    }
    if encryption.format == Some(EncryptionFormat::Luks) && encryption.cipher.is_some() {
        r.report(
            Rule::DiskEncryption,
            format_args!("{path}/cipher"),
            "the disk itself tells its cipher: it is chosen where a volume is made",
        );
    }
    let format = disk.driver.as_ref().and_then(|driver| driver.kind);
    if encryption.format == Some(EncryptionFormat::Qcow)
        && matches!(format, Some(ImageFormatName::Qcow | ImageFormatName::Qcow2))
    {
        r.add(
            Rule::DiskEncryption,
            format_args!("{path}/@format"),
            "qcow's own encryption is no longer read",
            Some("take format='luks'"),
        );
    }
    if disk.device == Some(DiskDevice::Lun) {
        r.report(
            Rule::LunDisk,
            path,
            "device='lun' is handed through as it is",
        );
    }
    if encryption.secrets.len() > 1 && bus_of(disk) == Some(DiskBus::Sd) {
        r.report(
            Rule::DiskEncryption,
            format_args!("{path}/secret[2]"),
            "a disk on the sd bus has one secret",
        );
    }
}

pub(crate) fn reference(secret: &AuthSecret, path: Arguments<'_>, r: &mut Report<'_>) {
    if secret.uuid.is_some() == secret.usage.is_some() {
        r.report(
            Rule::SecretReference,
            path,
            "a secret is named by its uuid or by its usage, one of them",
        );
    }
}

/// A helper that reserves a device is managed, or reached through a socket.
fn reserved(reservations: &Reservations, lun: bool, path: Arguments<'_>, r: &mut Report<'_>) {
    if !lun {
        r.report(
            Rule::Reservations,
            path,
            "persistent reservations are for device='lun'",
        );
    }
    if reservations.managed != Some(YesNo::No) {
        return;
    }
    let source = reservations.source.as_ref();
    let reached = source.is_some_and(|source| {
        source.kind == Some(SourceType::Unix)
            && source.path.is_some()
            && source.mode == Some(CharMode::Client)
    });
    if !reached {
        r.add(
            Rule::Reservations,
            path,
            "the helper that reserves is not told",
            Some("add <source type='unix' path='/run/…' mode='client'/>, or take managed='yes'"),
        );
    }
}

/// Each image that another one builds on says what it is and in which format.
fn chain(mut store: Option<&DiskBackingStore>, path: Arguments<'_>, r: &mut Report<'_>) {
    let mut at = path.to_string();
    while let Some(one) = store {
        at.push_str("/backingStore");
        if one.kind.is_some() {
            let format = one.format.as_ref().and_then(|format| format.kind);
            if format.is_none() {
                r.add(
                    Rule::BackingStore,
                    &at,
                    "the image below has no format, and guessing it would let a guest choose",
                    Some("add <format type='qcow2'/> or <format type='raw'/>"),
                );
            }
            match &one.source {
                None => r.report(Rule::BackingStore, &at, "the image below has no <source>"),
                Some(source) => {
                    for (i, host) in source.hosts.iter().enumerate() {
                        server(host, format_args!("{at}/source/host[{}]", i + 1), r);
                    }
                    if let Some(auth) = &source.auth {
                        user(auth, format_args!("{at}/source/auth"), r);
                    }
                }
            }
        }
        store = one.backing_store.as_deref();
    }
}
