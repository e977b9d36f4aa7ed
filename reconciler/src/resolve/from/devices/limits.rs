//! Limits of disks.

use std::collections::HashMap;

use vireo_schema::Rule;
use vireo_schema::domain::disk::IoTune;

use super::super::Resolving;
use crate::resolve::domain::Disk;
use crate::resolve::limits::{Limit, Limits};

/// The limits of the disk at this path. Zero is no limit.
pub(super) fn limits(at: &mut Resolving<'_>, tune: Option<&IoTune>, path: &str) -> Limits {
    let Some(tune) = tune else {
        return Limits::default();
    };
    let path = format!("{path}/iotune");
    let mut limit = |name: &str, rate: Option<u64>, max: Option<u64>, length: Option<u64>| {
        let given = |value: Option<u64>| value.filter(|value| *value > 0);
        one(
            at,
            &format!("{path}/{name}"),
            [rate, max, length].map(given),
        )
    };
    Limits {
        total_bytes: limit(
            "total_bytes_sec",
            tune.total_bytes_sec,
            tune.total_bytes_sec_max,
            tune.total_bytes_sec_max_length,
        ),
        read_bytes: limit(
            "read_bytes_sec",
            tune.read_bytes_sec,
            tune.read_bytes_sec_max,
            tune.read_bytes_sec_max_length,
        ),
        write_bytes: limit(
            "write_bytes_sec",
            tune.write_bytes_sec,
            tune.write_bytes_sec_max,
            tune.write_bytes_sec_max_length,
        ),
        total_requests: limit(
            "total_iops_sec",
            tune.total_iops_sec,
            tune.total_iops_sec_max,
            tune.total_iops_sec_max_length,
        ),
        read_requests: limit(
            "read_iops_sec",
            tune.read_iops_sec,
            tune.read_iops_sec_max,
            tune.read_iops_sec_max_length,
        ),
        write_requests: limit(
            "write_iops_sec",
            tune.write_iops_sec,
            tune.write_iops_sec_max,
            tune.write_iops_sec_max_length,
        ),
        request_size: tune.size_iops_sec.filter(|size| *size > 0),
        group: tune.group_name.clone().filter(|name| !name.is_empty()),
    }
}

/// One limit: its rate, its burst's rate, its burst's length in seconds.
fn one(at: &mut Resolving<'_>, path: &str, [rate, max, length]: [Option<u64>; 3]) -> Option<Limit> {
    let whole = max.or(rate).unwrap_or(0).checked_mul(length.unwrap_or(1));
    let (part, message, help) = match (rate, max, length) {
        (None, None, None) => return None,
        (None, Some(_), _) => (
            "_max",
            "a burst's limit stands without the limit that it exceeds",
            "state the limit too, or take the burst out",
        ),
        (_, None, Some(2..)) | (None, None, Some(_)) => (
            "_max_length",
            "a burst's length stands without its limit",
            "state the burst's limit too, or take its length out",
        ),
        (Some(rate), Some(max), _) if max < rate => (
            "_max",
            "a burst's limit is below the limit that it exceeds",
            "a burst is at least as fast as what is let through in the long run",
        ),
        (Some(rate), _, _)
            if rate > Limit::MOST || whole.is_none_or(|whole| whole > Limit::MOST) =>
        {
            (
                "",
                "so high a limit, or so long a burst, is not something vireo can count",
                "a limit, and a burst over its whole length, come to 10^15 at most; 0 is no limit",
            )
        }
        (Some(rate), max, length) => {
            return Some(Limit {
                rate,
                max,
                length: length.filter(|length| *length > 1),
            });
        }
    };
    at.refuse(Rule::Contradiction, &format!("{path}{part}"), message, help);
    None
}

/// Disks of one group share its limits, which one of them may state for all. That they do not state different ones is a rule of the schema's.
pub(super) fn share(disks: &mut [Disk]) {
    let mut groups: HashMap<String, Limits> = HashMap::new();
    for disk in disks.iter().filter(|disk| disk.limits.states_any()) {
        if let Some(group) = &disk.limits.group {
            groups.insert(group.clone(), disk.limits.clone());
        }
    }
    for disk in disks.iter_mut().filter(|disk| !disk.limits.states_any()) {
        let shared = disk
            .limits
            .group
            .as_ref()
            .and_then(|group| groups.get(group));
        if let Some(shared) = shared {
            disk.limits = shared.clone();
        }
    }
}
