//! Limits of disks, as QEMU is told of them while it runs. Source: QEMU's QMP reference, `block_set_io_throttle`.

use serde_json::{Map, Value};

use crate::resolve::limits::{Limit, Limits};

/// The arguments that put a disk under these limits. QEMU wants every rate, zero for no limit, and a group: the disk's own where it shares with none.
pub fn arguments(disk: &str, limits: &Limits) -> Value {
    let kinds: [(&str, Option<Limit>); 6] = [
        ("bps", limits.total_bytes),
        ("bps_rd", limits.read_bytes),
        ("bps_wr", limits.write_bytes),
        ("iops", limits.total_requests),
        ("iops_rd", limits.read_requests),
        ("iops_wr", limits.write_requests),
    ];
    let mut arguments = Map::new();
    arguments.insert("id".to_owned(), disk.into());
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
    let group = limits.group.as_deref().unwrap_or(disk);
    arguments.insert("group".to_owned(), group.into());
    Value::Object(arguments)
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
            "id": "vda", "bps_rd": 1000, "bps_rd_max": 2000, "bps_rd_max_length": 5, "iops": 10, "iops_size": 4096, "group": "vda",
        });
        if let (Some(told), Value::Object(none)) = (told.as_object_mut(), none) {
            told.extend(none);
        }
        assert_eq!(arguments("vda", &limits), told);
        let shared = Limits {
            group: Some("slow".to_owned()),
            ..limits
        };
        assert_eq!(arguments("vda", &shared)["group"], "slow");
    }
}
