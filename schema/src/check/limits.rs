//! Rules on limits of disks.

use super::machine::is_qemu;
use super::one::Report;
use super::path::DevicePath;
use crate::complete::targets::known_bus as bus_of;
use crate::domain::Domain;
use crate::domain::disk::{Disk, DiskBus, IoTune};
use crate::rule::Rule;
use std::collections::HashMap;
use std::fmt::Arguments;

/// The most that QEMU limits a disk to, in bytes or requests a second.
const MOST_LIMIT: u64 = 1_000_000_000_000_000;

/// Every rule on limits of disks.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    for (i, disk) in domain.disks().iter().enumerate() {
        if let Some(tune) = &disk.iotune {
            totals(tune, format_args!("devices/disk[{}]/iotune", i + 1), r);
        }
    }
    if is_qemu(domain) {
        groups(domain.disks(), r);
    }
}

/// A limit of all requests stands alone.
fn totals(tune: &IoTune, path: Arguments<'_>, r: &mut Report<'_>) {
    let groups = [
        (
            "total_bytes_sec",
            tune.total_bytes_sec,
            tune.read_bytes_sec,
            tune.write_bytes_sec,
        ),
        (
            "total_iops_sec",
            tune.total_iops_sec,
            tune.read_iops_sec,
            tune.write_iops_sec,
        ),
        (
            "total_bytes_sec_max",
            tune.total_bytes_sec_max,
            tune.read_bytes_sec_max,
            tune.write_bytes_sec_max,
        ),
        (
            "total_iops_sec_max",
            tune.total_iops_sec_max,
            tune.read_iops_sec_max,
            tune.write_iops_sec_max,
        ),
    ];
    for (name, total, read, write) in groups {
        let set = |limit: Option<u64>| limit.is_some_and(|limit| limit > 0);
        if set(total) && (set(read) || set(write)) {
            r.report(
                Rule::IotuneTotal,
                format_args!("{path}/{name}"),
                "a limit of all requests cannot stand beside limits of reads or writes",
            );
        }
    }
}

/// Each limit with its name.
fn each_limit(tune: &IoTune) -> [(&'static str, Option<u64>); 13] {
    [
        ("total_bytes_sec", tune.total_bytes_sec),
        ("read_bytes_sec", tune.read_bytes_sec),
        ("write_bytes_sec", tune.write_bytes_sec),
        ("total_iops_sec", tune.total_iops_sec),
        ("read_iops_sec", tune.read_iops_sec),
        ("write_iops_sec", tune.write_iops_sec),
        ("total_bytes_sec_max", tune.total_bytes_sec_max),
        ("read_bytes_sec_max", tune.read_bytes_sec_max),
        ("write_bytes_sec_max", tune.write_bytes_sec_max),
        ("total_iops_sec_max", tune.total_iops_sec_max),
        ("read_iops_sec_max", tune.read_iops_sec_max),
        ("write_iops_sec_max", tune.write_iops_sec_max),
        ("size_iops_sec", tune.size_iops_sec),
    ]
}

/// Whether anything is limited, be it the length of bursts.
pub(crate) fn limited(tune: &IoTune) -> bool {
    let lengths = [
        tune.total_bytes_sec_max_length,
        tune.read_bytes_sec_max_length,
        tune.write_bytes_sec_max_length,
        tune.total_iops_sec_max_length,
        tune.read_iops_sec_max_length,
        tune.write_iops_sec_max_length,
    ];
    let limits = each_limit(tune).map(|(_, limit)| limit);
    limits
        .iter()
        .chain(&lengths)
        .any(|limit| limit.is_some_and(|limit| limit > 0))
}

/// Whether two groups say the same; nothing and zero are the same.
fn equal(a: &IoTune, b: &IoTune) -> bool {
    let lengths = |tune: &IoTune| {
        [
            tune.total_bytes_sec_max_length,
            tune.read_bytes_sec_max_length,
            tune.write_bytes_sec_max_length,
            tune.total_iops_sec_max_length,
            tune.read_iops_sec_max_length,
            tune.write_iops_sec_max_length,
        ]
        .map(|length| length.unwrap_or(0))
    };
    let limits = |tune: &IoTune| each_limit(tune).map(|(_, limit)| limit.unwrap_or(0));
    limits(a) == limits(b) && lengths(a) == lengths(b)
}

/// Limits are numbers that QEMU takes, and disks of one group share them.
fn groups(disks: &[Disk], r: &mut Report<'_>) {
    let tunes = || {
        disks
            .iter()
            .enumerate()
            .filter_map(|(i, disk)| Some((DevicePath::new("disk", i), disk, disk.iotune.as_ref()?)))
    };
    let mut shared: HashMap<&str, &IoTune> = HashMap::new();
    for (path, disk, tune) in tunes() {
        for (name, limit) in each_limit(tune) {
            if limit.is_some_and(|limit| limit > MOST_LIMIT) {
                r.report(
                    Rule::IotuneLimit,
                    format_args!("{path}/iotune/{name}"),
                    format!("a limit is at most {MOST_LIMIT}"),
                );
            }
        }
        if limited(tune) && bus_of(disk) == Some(DiskBus::Sd) {
            r.report(
                Rule::IotuneLimit,
                format_args!("{path}/iotune"),
                "a disk on the sd bus cannot be limited",
            );
        }
        if let Some(name) = tune.group_name.as_deref().filter(|_| limited(tune))
            && !equal(shared.entry(name).or_insert(tune), tune)
        {
            r.add(
                Rule::IotuneGroup,
                format_args!("{path}/iotune/group_name"),
                format!("the group `{name}` has other limits at another disk"),
                Some("a group shares one set of limits: state the same in each of its disks"),
            );
        }
    }
    for (path, _, tune) in tunes() {
        if let Some(name) = tune.group_name.as_deref()
            && !shared.contains_key(name)
        {
            r.report(
                Rule::IotuneGroup,
                format_args!("{path}/iotune/group_name"),
                format!("the group `{name}` has no limits"),
            );
        }
    }
}
