//! Snapshots: the types behind `<domainsnapshot>`, libvirt's note of what a guest was at one moment.
//!
//! <https://libvirt.org/formatsnapshot.html>. The guest itself stands inside, whole or by its uuid alone.

use crate::domain::Domain;
use crate::domain::disk::{ImageFormatName, MetadataCache};
use crate::domain::storage::DiskSource;
use crate::element::{Decoder, Element, ElementInfo, decode};
use crate::scalar::{Form, Name, Scalar, ScalarInfo, Text};
use crate::tree::{Element as Tree, Foreign};
use std::borrow::Cow;
use std::sync::LazyLock;

choice! {
    /// What a guest did when its snapshot was taken.
    pub enum SnapshotState {
        Running = "running",
        Blocked = "blocked",
        Paused = "paused",
        Shutdown = "shutdown",
        Shutoff = "shutoff",
        Crashed = "crashed",
        /// Only its disks were noted.
        DiskSnapshot = "disk-snapshot",
    }
}

choice! {
    /// Where a guest's memory is kept.
    pub enum MemorySnapshot {
        /// It is not.
        No = "no",
        /// In the image of one of its disks.
        Internal = "internal",
        /// In a file of its own.
        External = "external",
    }
}

choice! {
    /// Where a disk's state is kept.
    pub enum SnapshotPlace {
        /// It is not.
        No = "no",
        /// In the disk's own image.
        Internal = "internal",
        /// The image stays as it is, and what comes after goes into a new one.
        External = "external",
        /// Whoever took the snapshot takes care of it.
        Manual = "manual",
    }
}

choice! {
    /// What a new image lies on.
    pub enum SnapshotDiskType { File = "file", Block = "block", Network = "network" }
}

choice! {
    /// Whether a snapshot is the one that its guest goes on from.
    pub enum Active { No = "0", Yes = "1" }
}

/// The name of a snapshot or a checkpoint. Where nothing is in it, libvirt makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MomentName(Name);

impl MomentName {
    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Scalar for MomentName {
    const INFO: ScalarInfo = ScalarInfo::new(Name::INFO.expects, Form::Text);

    fn parse(text: &str) -> Result<Self, String> {
        Name::parse(text).map(Self)
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.as_str())
    }
}

element! {
    /// A snapshot of a guest.
    pub struct DomainSnapshot {
        /// The snapshot's name; libvirt takes the time where not stated.
        leaf "name" name: MomentName,
        /// What it is.
        leaf "description" description: Text,
        /// What the guest did.
        leaf "state" state: SnapshotState,
        /// The snapshot that the guest went on from before.
        child "parent" parent: SnapshotParent,
        /// When it was taken, in seconds since 1970.
        leaf "creationTime" creation_time: i64,
        /// Where the guest's memory is kept.
        child "memory" memory: SnapshotMemory,
        /// What was done with the guest's disks.
        child "disks" disks: SnapshotDisks,
        /// What the disks go on from after going back to a snapshot, in output of libvirt.
        child "revertDisks" revert_disks: SnapshotDisks,
        /// The guest at that moment: whole, or by its uuid.
        child "domain" domain: SnapshotDomain,
        /// What the guest would have been at its next start.
        child "inactiveDomain" inactive_domain: SnapshotDomain,
        /// Whether the guest goes on from it.
        leaf "active" active: Active,
        /// What libvirt noted for itself.
        tree "cookie" cookie: Foreign,
    }
}

element! {
    /// The snapshot before.
    pub struct SnapshotParent main "name" must ["name"] {
        /// Its name.
        leaf "name" name: Name,
    }
}

element! {
    /// Where a guest's memory is kept.
    pub struct SnapshotMemory main "snapshot" {
        /// How; external where a file is stated.
        attr "snapshot" snapshot: MemorySnapshot,
        /// The file, for external.
        attr "file" file: String,
    }
}

element! {
    /// What was done with a guest's disks.
    pub struct SnapshotDisks {
        /// Each disk.
        list "disk" disks: SnapshotDisk,
    }
}

element! {
    /// What was done with a disk.
    pub struct SnapshotDisk main "name" must ["name"]
        short [
            "block" => ["source/@dev"] with [("@type", "block")],
            "file" => ["source/@file"],
            "format" => ["driver/@type"],
        ]
    {
        /// The disk: its target, such as `vda`, or its path.
        attr "name" name: String,
        /// Where its state is kept.
        attr "snapshot" snapshot: SnapshotPlace,
        /// What the new image lies on; file where not stated.
        attr "type" kind: SnapshotDiskType,
        /// The new image's format.
        child "driver" driver: SnapshotDriver,
        /// The new image.
        child "source" source: DiskSource,
        /// Whether libvirt is taking it away just now.
        flag "snapshotDeleteInProgress" delete_in_progress: bool,
    }
}

element! {
    /// How a new image is driven.
    pub struct SnapshotDriver main "type" {
        /// Its format.
        attr "type" kind: ImageFormatName,
        /// What is kept of the format's tables.
        child "metadata_cache" metadata_cache: MetadataCache,
    }
}

/// A guest inside of a snapshot: whole, or nothing but its uuid.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SnapshotDomain(pub Box<Domain>);

impl Element for SnapshotDomain {
    fn info() -> &'static ElementInfo {
        static INFO: LazyLock<ElementInfo> = LazyLock::new(|| ElementInfo {
            name: "SnapshotDomain",
            doc: "A guest inside of a snapshot: whole, or nothing but its uuid.",
            fields: Domain::info().fields,
            must: &[],
            main: "",
            short: Domain::info().short,
        });
        &INFO
    }

    fn decode(decoder: &mut Decoder, tree: &Tree<'_>) -> Self {
        let only_uuid = tree.attributes.is_empty()
            && matches!(tree.children.as_slice(), [only] if only.name == "uuid");
        if !only_uuid {
            return Self(Box::new(Domain::decode(decoder, tree)));
        }
        let outer = decoder.begin();
        let uuid = decode::leaf(decoder, tree, "uuid");
        let looks = decoder.end(outer);
        Self(Box::new(Domain {
            uuid,
            looks,
            ..Domain::default()
        }))
    }

    fn encode(&self, name: &'static str) -> Tree<'static> {
        self.0.encode(name)
    }
}
