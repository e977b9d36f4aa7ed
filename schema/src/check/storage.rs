//! Rules on pools, volumes and secrets.

use super::one::Report;
use crate::pool::{Pool, PoolSource, PoolType};
use crate::rule::Rule;
use crate::secret::{Secret, UsageType};
use crate::volume::Volume;

/// Every rule on pools: what each type needs.
pub(crate) fn pool(pool: &Pool, r: &mut Report<'_>) {
    let Some(kind) = pool.kind else { return };
    let none = PoolSource::default();
    let source = pool.source.as_ref().unwrap_or(&none);
    let target = pool
        .target
        .as_ref()
        .is_some_and(|target| target.path.is_some());
    if !target && matches!(kind, PoolType::Dir | PoolType::Fs | PoolType::Netfs) {
        r.report(
            Rule::PoolTarget,
            "target",
            format!("a pool of type {kind} needs <target><path>"),
        );
    }
    let needs: &[(&str, bool)] = &match kind {
        PoolType::Netfs => vec![
            ("<host>", !source.hosts.is_empty()),
            ("<dir>", source.dir.is_some()),
        ],
        PoolType::Fs | PoolType::Disk => vec![("<device>", !source.devices.is_empty())],
        PoolType::Iscsi | PoolType::IscsiDirect => vec![
            ("<host>", !source.hosts.is_empty()),
            ("<device>", !source.devices.is_empty()),
        ],
        PoolType::Scsi => vec![("<adapter>", source.adapter.is_some())],
        PoolType::Rbd | PoolType::Gluster => vec![
            ("<host>", !source.hosts.is_empty()),
            ("<name>", source.name.is_some()),
        ],
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
}

/// Every rule on volumes.
pub(crate) fn volume(volume: &Volume, r: &mut Report<'_>) {
    let capacity = volume
        .capacity
        .as_ref()
        .and_then(|capacity| capacity.value.as_ref());
    if capacity.is_none() && volume.backing_store.is_none() {
        r.add(
            Rule::VolumeCapacity,
            "capacity",
            "the volume has no capacity",
            Some("state <capacity unit='GiB'>10</capacity>, in YAML `capacity: 10 GiB`"),
        );
    }
}

/// Every rule on secrets: what each use needs.
pub(crate) fn secret(secret: &Secret, r: &mut Report<'_>) {
    let Some(usage) = &secret.usage else { return };
    let (name, stated) = match usage.kind {
        Some(UsageType::Volume) => ("volume", usage.volume.is_some()),
        Some(UsageType::Ceph | UsageType::Tls | UsageType::Vtpm) => ("name", usage.name.is_some()),
        Some(UsageType::Iscsi) => ("target", usage.target.is_some()),
        _ => return,
    };
    if !stated {
        r.report(
            Rule::SecretUsage,
            "usage",
            format!("a secret of this use needs <{name}>"),
        );
    }
}
