//! Checkpoints: the types behind `<domaincheckpoint>`, libvirt's note of a moment since which a guest's disks tell what was written.
//!
//! <https://libvirt.org/formatcheckpoint.html>. The guest itself stands inside, whole or by its uuid alone.

use crate::scalar::Text;
use crate::snapshot::{MomentName, SnapshotDomain, SnapshotParent};

choice! {
    /// What tells which parts of a disk were written.
    pub enum CheckpointPlace {
        /// Nothing.
        No = "no",
        /// A bitmap in the disk's image.
        Bitmap = "bitmap",
    }
}

element! {
    /// A checkpoint of a guest.
    pub struct DomainCheckpoint {
        /// The checkpoint's name; libvirt takes the time where not stated.
        leaf "name" name: MomentName,
        /// What it is.
        leaf "description" description: Text,
        /// The checkpoint before.
        child "parent" parent: SnapshotParent,
        /// When it was taken, in seconds since 1970.
        leaf "creationTime" creation_time: u64,
        /// What was done with the guest's disks.
        child "disks" disks: CheckpointDisks,
        /// The guest at that moment: whole, or by its uuid.
        child "domain" domain: SnapshotDomain,
    }
}

element! {
    /// What was done with a guest's disks.
    pub struct CheckpointDisks {
        /// Each disk.
        list "disk" disks: CheckpointDisk,
    }
}

element! {
    /// What was done with a disk.
    pub struct CheckpointDisk main "name" must ["name"] {
        /// The disk: its target, such as `vda`, or its path.
        attr "name" name: String,
        /// What tells which parts were written.
        attr "checkpoint" checkpoint: CheckpointPlace,
        /// The bitmap's name; the checkpoint's where not stated.
        attr "bitmap" bitmap: String,
        /// How much was written since, in bytes, in output of libvirt.
        attr "size" size: u64,
    }
}
