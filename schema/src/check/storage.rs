//! Rules on pools, volumes and secrets.

use super::one::Report;
use crate::common::Auth;
use crate::diagnostic::{did_you_mean, one_of};
use crate::pool::{Adapter, AdapterType, Permissions, Pool, PoolSource, PoolType, SizeElement};
use crate::rule::Rule;
use crate::scalar::ByteSize;
use crate::secret::{Secret, UsageType};
use crate::volume::Volume;
use std::fmt::Arguments;

/// Formats of the file systems that a pool of type fs mounts.
const FILE_SYSTEMS: &[&str] = &[
    "auto", "ext2", "ext3", "ext4", "ufs", "iso9660", "udf", "gfs", "gfs2", "vfat", "hfs+", "xfs",
    "ocfs2", "vmfs",
];
/// Formats of the file systems that a pool of type netfs mounts.
const NETWORK_FILE_SYSTEMS: &[&str] = &["auto", "nfs", "glusterfs", "cifs"];
/// Formats of partition tables.
const PARTITION_TABLES: &[&str] = &[
    "unknown", "dos", "dvh", "gpt", "mac", "bsd", "pc98", "sun", "lvm2",
];
/// Formats of volumes: images, and partitions of a pool of type disk.
const VOLUMES: &[&str] = &[
    "none",
    "auto",
    "unknown",
    "raw",
    "dir",
    "bochs",
    "cloop",
    "dmg",
    "iso",
    "vpc",
    "vdi",
    "fat",
    "vhd",
    "ploop",
    "cow",
    "qcow",
    "qcow2",
    "qed",
    "vmdk",
    "linux",
    "fat16",
    "fat32",
    "linux-swap",
    "linux-lvm",
    "linux-raid",
    "extended",
];

/// Every rule on pools: what each type needs, and takes.
pub(crate) fn pool(pool: &Pool, r: &mut Report<'_>) {
    let Some(kind) = pool.kind else { return };
    let none = PoolSource::default();
    let source = pool.source.as_ref().unwrap_or(&none);
    target(pool, kind, r);
    let iqn = source
        .initiator
        .as_ref()
        .is_some_and(|initiator| initiator.iqn.is_some());
    let needs: &[(&str, bool)] = &match kind {
        PoolType::Netfs => vec![
            ("<host>", !source.hosts.is_empty()),
            ("<dir>", source.dir.is_some()),
        ],
        PoolType::Fs | PoolType::Disk => vec![("<device>", !source.devices.is_empty())],
        PoolType::Iscsi => vec![
            ("<host>", !source.hosts.is_empty()),
            ("<device>", !source.devices.is_empty()),
        ],
        PoolType::IscsiDirect => vec![
            ("<host>", !source.hosts.is_empty()),
            ("<device>", !source.devices.is_empty()),
            ("<initiator><iqn>", iqn),
        ],
        PoolType::Scsi => vec![("<adapter>", source.adapter.is_some())],
        PoolType::Rbd => vec![
            ("<host>", !source.hosts.is_empty()),
            ("<name>", source.name.is_some()),
        ],
        PoolType::Gluster | PoolType::Sheepdog => vec![("<host>", !source.hosts.is_empty())],
        _ => Vec::new(),
    };
    for (name, stated) in needs {
        if !stated {
            r.report(
                Rule::PoolSource,
                "source",
                format!("a pool of type {kind} needs {name} in its <source>"),
            );
        }
    }
    for (i, host) in source.hosts.iter().enumerate() {
        if host.name.is_none() {
            let path = format_args!("source/host[{}]", i + 1);
            r.report(Rule::PoolSource, path, "the server has no `name`");
        }
    }
    source_format(source, kind, r);
    if let Some(adapter) = &source.adapter {
        self::adapter(adapter, r);
    }
    if let Some(auth) = &source.auth {
        self::auth(auth, r);
    }
    let cow = pool
        .features
        .as_ref()
        .and_then(|features| features.cow.as_ref());
    if cow.is_some_and(|cow| cow.state.is_some()) && !matches!(kind, PoolType::Dir | PoolType::Fs) {
        r.report(
            Rule::PoolFeature,
            "features/cow",
            format!("copy on write is for pools of type dir and fs, not {kind}"),
        );
    }
}

/// Where a pool appears on the host, and who may use it.
fn target(pool: &Pool, kind: PoolType, r: &mut Report<'_>) {
    let path = pool
        .target
        .as_ref()
        .and_then(|target| target.path.as_deref());
    let appears = matches!(
        kind,
        PoolType::Dir
            | PoolType::Fs
            | PoolType::Netfs
            | PoolType::Disk
            | PoolType::Iscsi
            | PoolType::Scsi
            | PoolType::Mpath
            | PoolType::Vstorage
    );
    if path.is_none() && appears {
        r.report(
            Rule::PoolTarget,
            "target",
            format!("a pool of type {kind} needs <target><path>"),
        );
    }
    let rights = pool
        .target
        .as_ref()
        .and_then(|target| target.permissions.as_ref());
    permissions(rights, format_args!("target/permissions"), r);
}

/// Rights are those of owner, group and others.
fn permissions(permissions: Option<&Permissions>, path: Arguments<'_>, r: &mut Report<'_>) {
    let mode = permissions.and_then(|permissions| permissions.mode.as_ref());
    if mode.is_some_and(|mode| mode.bits() > 0o777) {
        r.report(
            Rule::FileMode,
            format_args!("{path}/mode"),
            "a mode is at most 0777: of owner, group and others",
        );
    }
}

/// The words that a pool's type takes for its format, and what the format takes.
fn source_format(source: &PoolSource, kind: PoolType, r: &mut Report<'_>) {
    let format = source
        .format
        .as_ref()
        .and_then(|format| format.kind.as_deref());
    let known = match kind {
        PoolType::Fs => FILE_SYSTEMS,
        PoolType::Netfs => NETWORK_FILE_SYSTEMS,
        PoolType::Disk => PARTITION_TABLES,
        PoolType::Logical => &["unknown", "lvm2", "auto"],
        _ => return,
    };
    unknown_format(format, known, format_args!("source/format/@type"), r);
    let version = source
        .protocol
        .as_ref()
        .and_then(|protocol| protocol.version.as_deref());
    let Some(version) = version.filter(|_| kind == PoolType::Netfs) else {
        return;
    };
    if !matches!(format, None | Some("nfs" | "auto")) {
        r.report(
            Rule::PoolFeature,
            "source/protocol",
            "only NFS has versions of its protocol to choose from",
        );
    } else if version.parse::<f32>().is_err() {
        r.report(
            Rule::PoolFeature,
            "source/protocol/@ver",
            format!("`{version}` is no version of NFS"),
        );
    }
}

/// A volume does not say of what type its pool is: in those that are neither folders nor disks, libvirt's grammar has the formats of file systems, which nobody reads.
fn volume_format(format: Option<&str>, path: Arguments<'_>, r: &mut Report<'_>) {
    let format = format.filter(|format| !FILE_SYSTEMS.contains(format));
    unknown_format(format, VOLUMES, path, r);
}

fn unknown_format(format: Option<&str>, known: &[&str], path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(format) = format.filter(|format| !known.contains(format)) else {
        return;
    };
    let near = did_you_mean(format, known.iter().copied())
        .map(|near| format!("did you mean `{near}`? "))
        .unwrap_or_default();
    let help = format!("{near}accepted: {}", one_of(known.iter().copied(), 32));
    r.add(
        Rule::StorageFormat,
        path,
        format!("`{format}` is no format that is known here"),
        Some(&help),
    );
}

/// A SCSI adapter is told by its name or its parent's address, a virtual one of fibre channel by its two names.
fn adapter(adapter: &Adapter, r: &mut Report<'_>) {
    let virtual_only = [
        ("parent", adapter.parent.is_some()),
        ("wwnn", adapter.wwnn.is_some()),
        ("wwpn", adapter.wwpn.is_some()),
    ];
    let complaint = match adapter.kind {
        None => match virtual_only.iter().find(|(_, stated)| *stated) {
            Some((name, _)) => Some(format!("`{name}` needs type='fc_host'")),
            None if adapter.name.is_none() => Some("the adapter has no `name`".to_owned()),
            None => None,
        },
        Some(AdapterType::ScsiHost) if adapter.name.is_none() && adapter.parentaddr.is_none() => {
            Some("a SCSI host needs `name` or <parentaddr>".to_owned())
        }
        Some(AdapterType::ScsiHost) if adapter.name.is_some() && adapter.parentaddr.is_some() => {
            Some("a SCSI host is told by `name` or by <parentaddr>, one of them".to_owned())
        }
        Some(AdapterType::FcHost) if adapter.wwnn.is_none() || adapter.wwpn.is_none() => {
            Some("a host of fibre channel needs `wwnn` and `wwpn`".to_owned())
        }
        Some(AdapterType::FcHost)
            if adapter.parent_wwnn.is_some() != adapter.parent_wwpn.is_some() =>
        {
            Some("`parent_wwnn` and `parent_wwpn` are stated both or not at all".to_owned())
        }
        Some(AdapterType::ScsiHost | AdapterType::FcHost) => None,
    };
    if let Some(complaint) = complaint {
        r.report(Rule::PoolAdapter, "source/adapter", complaint);
    }
    let names = [
        ("wwnn", &adapter.wwnn),
        ("wwpn", &adapter.wwpn),
        ("parent_wwnn", &adapter.parent_wwnn),
        ("parent_wwpn", &adapter.parent_wwpn),
        ("parent_fabric_wwn", &adapter.parent_fabric_wwn),
    ];
    for (name, value) in names {
        let digits = |text: &str| {
            let text = text.strip_prefix("0x").unwrap_or(text);
            text.len() == 16 && text.chars().all(|c| c.is_ascii_hexdigit())
        };
        if let Some(value) = value.as_deref().filter(|value| !digits(value)) {
            r.report(
                Rule::PoolAdapter,
                format_args!("source/adapter/@{name}"),
                format!("`{value}` is no name of fibre channel: 16 hexadecimal digits"),
            );
        }
    }
}

fn auth(auth: &Auth, r: &mut Report<'_>) {
    if auth.kind.is_none() {
        r.report(
            Rule::PoolAuth,
            "source/auth",
            "the manner is not stated: type='chap' or type='ceph'",
        );
    }
    if auth.username.is_none() {
        r.report(
            Rule::PoolAuth,
            "source/auth",
            "the `username` is not stated",
        );
    }
    let Some(secret) = &auth.secret else {
        return r.report(Rule::PoolAuth, "source/auth", "the <secret> is not stated");
    };
    if secret.uuid.is_some() == secret.usage.is_some() {
        r.report(
            Rule::SecretReference,
            "source/auth/secret",
            "a secret is named by its uuid or by its usage, one of them",
        );
    }
}

/// Every rule on volumes.
pub(crate) fn volume(volume: &Volume, r: &mut Report<'_>) {
    let size = |size: &Option<SizeElement>| size.as_ref()?.value.as_ref().map(ByteSize::bytes);
    if size(&volume.capacity).is_none() && volume.backing_store.is_none() {
        r.add(
            Rule::VolumeCapacity,
            "capacity",
            "the volume has no capacity",
            Some("state <capacity unit='GiB'>10</capacity>, in YAML `capacity: 10 GiB`"),
        );
    }
    for (path, size) in [
        ("capacity", size(&volume.capacity)),
        ("allocation", size(&volume.allocation)),
    ] {
        if size.is_some_and(|size| size.0 > i64::MAX as u64) {
            r.report(Rule::FileSize, path, "a file is smaller than 8 EiB");
        }
    }
    if let Some(backing) = &volume.backing_store {
        let format = backing
            .format
            .as_ref()
            .and_then(|format| format.kind.as_deref());
        volume_format(format, format_args!("backingStore/format/@type"), r);
        permissions(
            backing.permissions.as_ref(),
            format_args!("backingStore/permissions"),
            r,
        );
    }
    let Some(target) = &volume.target else { return };
    let format = target
        .format
        .as_ref()
        .and_then(|format| format.kind.as_deref());
    volume_format(format, format_args!("target/format/@type"), r);
    permissions(
        target.permissions.as_ref(),
        format_args!("target/permissions"),
        r,
    );
    let version = |text: &str| {
        let number = |text: &str| text.parse::<u32>().is_ok();
        text.split_once('.')
            .is_some_and(|(major, minor)| number(major) && number(minor))
    };
    if let Some(compat) = target
        .compat
        .as_deref()
        .filter(|text| !version(text.trim()))
    {
        r.report(
            Rule::VolumeCompat,
            "target/compat",
            format!("`{compat}` is no version such as 1.1"),
        );
    }
    let secrets = target
        .encryption
        .iter()
        .flat_map(|encryption| &encryption.secrets);
    for (i, secret) in secrets.enumerate() {
        if secret.uuid.is_some() == secret.usage.is_some() {
            r.report(
                Rule::SecretReference,
                format_args!("target/encryption/secret[{}]", i + 1),
                "a secret is named by its uuid or by its usage, one of them",
            );
        }
    }
}

/// Every rule on secrets: what each use needs, and takes.
pub(crate) fn secret(secret: &Secret, r: &mut Report<'_>) {
    let Some(usage) = &secret.usage else { return };
    let Some(kind) = usage.kind else { return };
    let needed = match kind {
        UsageType::None => "",
        UsageType::Volume => "volume",
        UsageType::Ceph | UsageType::Tls | UsageType::Vtpm => "name",
        UsageType::Iscsi => "target",
        UsageType::Passphrase => {
            return r.add(
                Rule::SecretUsage,
                "usage/@type",
                "a passphrase is what an encryption takes its secret for, and no use of a secret's own",
                Some("take volume, ceph, iscsi, tls, vtpm or none"),
            );
        }
    };
    let stated = [
        ("volume", usage.volume.is_some()),
        ("name", usage.name.is_some()),
        ("target", usage.target.is_some()),
    ];
    for (name, stated) in stated {
        if name == needed && !stated {
            r.report(
                Rule::SecretUsage,
                "usage",
                format!("a secret of this use needs <{name}>"),
            );
        } else if name != needed && stated {
            r.report(
                Rule::SecretUsage,
                format_args!("usage/{name}"),
                format!("a secret of use {kind} takes no <{name}>"),
            );
        }
    }
}
