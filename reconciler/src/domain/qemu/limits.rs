//! Limits of disks, as QEMU is told of them and tells them while it runs. Source: QEMU's QMP reference, `block_set_io_throttle` and `BlockDeviceInfo`.
//!
//! QEMU limits groups, and nothing else: a disk that shares with none has one of its own. So that no definition's group is a disk's own, their names begin differently.

use serde_json::{Map, Value};

use crate::resolve::limits::{Limit, Limits};

/// What the names of shared groups begin with.
const SHARED: &str = "group-";
/// What the names of disks' own groups begin with.
const OWN: &str = "disk-";

/// The arguments that put a disk, shown by that device, under these limits. QEMU wants every rate, zero for no limit, and a group.
pub fn arguments(device: &str, disk: &str, limits: &Limits) -> Value {
    let kinds: [(&str, Option<Limit>); 6] = [
        ("bps", limits.total_bytes),
        ("bps_rd", limits.read_bytes),
        ("bps_wr", limits.write_bytes),
        ("iops", limits.total_requests),
        ("iops_rd", limits.read_requests),
        ("iops_wr", limits.write_requests),
    ];
    let mut arguments = Map::new();
    arguments.insert("id".to_owned(), device.into());
    for (name, limit) in kinds {
        arguments.insert(name.to_owned(), limit.map_or(0, |limit| limit.rate).into());
        let bursts = limit.map(|limit| [("_max", limit.max), ("_max_length", limit.length)]);
        for (part, value) in bursts.into_iter().flatten() {
            if let Some(value) = value {
                arguments.insert(format!("{name}{part}"), value.into());
            }
        }
    }
    if let Some(size) = limits.request_size {
        arguments.insert("iops_size".to_owned(), size.into());
    }
    let group = match &limits.group {
        Some(group) => format!("{SHARED}{group}"),
        None => format!("{OWN}{disk}"),
    };
    arguments.insert("group".to_owned(), group.into());
    Value::Object(arguments)
}

/// The limits of an image that is told of. A burst lasts a second where nothing else was said.
pub fn understand(told: &Value) -> Limits {
    let number = |name: &str| {
        let number = told.get(name).and_then(Value::as_u64);
        number.filter(|number| *number > 0)
    };
    let limit = |name: &str| {
        Some(Limit {
            rate: number(name)?,
            max: number(&format!("{name}_max")),
            length: number(&format!("{name}_max_length")).filter(|length| *length > 1),
        })
    };
    let group = told.get("group").and_then(Value::as_str);
    let shared = group.filter(|group| !group.starts_with(OWN));
    Limits {
        total_bytes: limit("bps"),
        read_bytes: limit("bps_rd"),
        write_bytes: limit("bps_wr"),
        total_requests: limit("iops"),
        read_requests: limit("iops_rd"),
        write_requests: limit("iops_wr"),
        request_size: number("iops_size"),
        group: shared.map(|group| group.strip_prefix(SHARED).unwrap_or(group).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_rate_is_told_and_bursts_where_there_are_any() {
        let limits = Limits {
            read_bytes: Some(Limit {
                rate: 1000,
                max: Some(2000),
                length: Some(5),
            }),
            total_requests: Some(Limit {
                rate: 10,
                max: None,
                length: None,
            }),
            request_size: Some(4096),
            ..Limits::default()
        };
        let none = json!({"bps": 0, "bps_wr": 0, "iops_rd": 0, "iops_wr": 0});
        let mut told = json!({
            "id": "/a/device", "bps_rd": 1000, "bps_rd_max": 2000, "bps_rd_max_length": 5, "iops": 10, "iops_size": 4096, "group": "disk-vda",
        });
        if let (Some(told), Value::Object(none)) = (told.as_object_mut(), none) {
            told.extend(none);
        }
        assert_eq!(arguments("/a/device", "vda", &limits), told);
        let shared = Limits {
            group: Some("slow".to_owned()),
            ..limits
        };
        assert_eq!(arguments("", "vda", &shared)["group"], "group-slow");
    }

    #[test]
    fn what_qemu_tells_is_what_it_was_told() {
        // As QEMU 7.2 answers: a burst has a length, and one without it lasts a second.
        let told = json!({
            "bps": 0, "bps_rd": 1000, "bps_wr": 0, "iops": 10, "iops_rd": 0, "iops_wr": 0, "bps_rd_max": 2000, "bps_rd_max_length": 5,
            "iops_max": 20, "iops_max_length": 1, "iops_size": 4096, "group": "disk-vda", "node-name": "disk-vda", "ro": false,
        });
        let limit = |rate, max, length| Some(Limit { rate, max, length });
        let mut limits = Limits {
            read_bytes: limit(1000, Some(2000), Some(5)),
            total_requests: limit(10, Some(20), None),
            request_size: Some(4096),
            ..Limits::default()
        };
        assert_eq!(understand(&told), limits);
        for group in [None, Some("slow"), Some("vda"), Some("disk-vda")] {
            limits.group = group.map(str::to_owned);
            assert_eq!(understand(&arguments("", "vda", &limits)), limits);
        }
        let none =
            json!({"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0});
        assert_eq!(understand(&none), Limits::default());
    }
}
