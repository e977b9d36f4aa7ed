//! The disks of a guest, as QEMU tells of them. Source: QEMU's QMP reference, `query-block`.
//!
//! In: its answer. Out: how each disk is, and which device shows it. A disk is known by the node of its image: the names of devices are QEMU's own business, as some are in
//! others (a virtio disk in its PCI device). An empty drive is not told of.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{command, limits};
use crate::inventory::GuestDisk;
use crate::units::Bytes;

/// How the disks are, by target.
pub fn told(answer: &Value) -> BTreeMap<String, GuestDisk> {
    let disks = disks(answer).filter_map(|(target, device)| {
        let image = device.get("inserted")?;
        let capacity = image.pointer("/image/virtual-size")?.as_u64()?;
        let disk = GuestDisk {
            capacity: Bytes(capacity),
            limits: limits::understand(image),
        };
        Some((target.to_owned(), disk))
    });
    disks.collect()
}

/// The device that shows a disk, in the words that commands take.
pub fn device<'a>(answer: &'a Value, disk: &str) -> Option<&'a str> {
    let (_, device) = disks(answer).find(|(target, _)| *target == disk)?;
    device.get("qdev")?.as_str()
}

/// Those that have an image, each with its target.
fn disks(answer: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let devices = answer.as_array().into_iter().flatten();
    devices.filter_map(|device| {
        let node = device.pointer("/inserted/node-name")?.as_str()?;
        Some((command::target_of(node)?, device))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_disk_is_known_by_its_node_and_an_empty_drive_is_none() {
        let answer = json!([
            {"qdev": "/machine/peripheral/vda/virtio-backend", "inserted": {
                "node-name": "disk-vda", "bps": 7, "image": {"virtual-size": 4_194_304},
            }},
            {"qdev": "hdc", "removable": true, "tray_open": false},
            {"device": "floppy0", "inserted": {"node-name": "other", "image": {"virtual-size": 512}}},
        ]);
        let found = told(&answer);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["vda"]);
        assert_eq!(found["vda"].capacity, Bytes::mib(4));
        assert_eq!(found["vda"].limits.total_bytes.map(|it| it.rate), Some(7));
        let backend = "/machine/peripheral/vda/virtio-backend";
        assert_eq!(device(&answer, "vda"), Some(backend));
        assert_eq!(device(&answer, "hdc"), None);
    }
}
