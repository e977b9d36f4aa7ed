//! Disks as they are configured.
//!
//! Which field is wrong, and what would be accepted, is in the [`Problems`] that [`check`] leaves.

use std::collections::HashSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Problems;
use super::limits::{self, Limits};
use crate::pci::Place;

/// A virtio block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Disk {
    /// Its name in requests and messages; no other device has it.
    pub id: String,
    /// The image: a file or a block device.
    pub path: PathBuf,
    /// The image's format. It is never guessed, since a guest could write another one's header.
    pub format: DiskFormat,
    /// The guest may not write.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub readonly: bool,
    /// Others may write the image too: the guests' file system is made for it. Without, a start fails where another process has it open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shareable: bool,
    /// The serial number that the guest sees: at most 20 bytes of printable ASCII.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// How writes reach the disk.
    #[serde(default)]
    pub cache: Cache,
    /// How the image is accessed: by io_uring if left out and the kernel gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<DiskIo>,
    /// What becomes of space that the guest says it no longer needs.
    #[serde(default, skip_serializing_if = "Discard::is_default")]
    pub discard: Discard,
    /// What becomes of zeroes that the guest writes.
    #[serde(default, skip_serializing_if = "DetectZeroes::is_default")]
    pub detect_zeroes: DetectZeroes,
    /// Queues: one if left out.
    #[schemars(range(min = 1, max = Disk::MOST_QUEUES))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
    /// Requests that each queue holds, a power of two: 256 if left out.
    #[schemars(range(min = 2, max = Disk::MOST_QUEUE_SIZE))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_size: Option<u16>,
    /// What its requests may come to; a request `limits` changes it later.
    #[serde(default, skip_serializing_if = "Limits::is_default")]
    pub limits: Limits,
    /// What follows when the host fails a request that is no read: a write, a flush, a discard, writing zeroes.
    #[serde(default, skip_serializing_if = "ErrorPolicy::is_default")]
    pub error_policy: ErrorPolicy,
    /// What follows when the host fails a read.
    #[serde(default, skip_serializing_if = "ReadErrorPolicy::is_default")]
    pub rerror_policy: ReadErrorPolicy,
    /// PCI slot of bus 0, or `BUS:SLOT.FUNCTION` as `lspci` shows it; the first free slot if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Place>,
}

impl Disk {
    /// Most queues: as many as a PCI device has interrupts for, beside the one of its configuration.
    pub const MOST_QUEUES: u16 = 63;
    /// Most requests in one queue: what Linux and QEMU take.
    pub const MOST_QUEUE_SIZE: u16 = 1024;
}

/// Format of a disk's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    /// The guest's sectors and nothing else.
    Raw,
    /// qcow2, with its chain of backing files.
    Qcow2,
}

/// How writes reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// Through the host's page cache; the guest's flushes are honoured.
    #[default]
    Writeback,
    /// Through the host's page cache; each write is flushed before it is answered.
    Writethrough,
    /// Past the host's page cache (`O_DIRECT`); the guest's flushes are honoured.
    None,
}

/// How an image is accessed. Source: libvirt's domain format, "Hard drives, floppy disks, CDROMs", `io` of a disk's driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskIo {
    /// By the disk's thread, one request after the other.
    Threads,
    /// By io_uring, requests side by side; the start fails where the kernel does not give it.
    IoUring,
}

/// What becomes of space that the guest says it no longer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Discard {
    /// It is given back to the host, where the image's file system can take it.
    #[default]
    Unmap,
    /// The guest is not offered to say so, and an image keeps the space that it has.
    Ignore,
}

impl Discard {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of zeroes that the guest writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DetectZeroes {
    /// They are written like anything else.
    #[default]
    Off,
    /// Nothing but zeroes is written as the format can best say it.
    On,
    /// The space of nothing but zeroes is also given back to the host, where discarded space is.
    Unmap,
}

impl DetectZeroes {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What follows when the host fails a request that is no read. Source: libvirt's domain format, "Hard drives, floppy disks, CDROMs"; the default is QEMU's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorPolicy {
    /// Like `stop` where the host has no space left (`ENOSPC`), and like `report` where it is anything else.
    #[default]
    Enospace,
    /// The guest is told of the error.
    Report,
    /// The guest is paused, and the request is kept: it is tried again when the guest is resumed.
    Stop,
    /// The guest is told that all went well. What it wrote may be lost.
    Ignore,
}

impl ErrorPolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What follows when the host fails a read, for which space cannot be wanting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReadErrorPolicy {
    /// The guest is told of the error.
    #[default]
    Report,
    /// The guest is paused, and the request is kept: it is tried again when the guest is resumed.
    Stop,
    /// The guest is told that all went well, and finds zeroes.
    Ignore,
}

impl ReadErrorPolicy {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn check<'a>(disks: &'a [Disk], ids: &mut HashSet<&'a str>, p: &mut Problems) {
    limits::check(disks, p);
    for (i, disk) in disks.iter().enumerate() {
        p.id(format!("disks[{i}].id"), &disk.id, ids);
        let (most, most_size) = (Disk::MOST_QUEUES, Disk::MOST_QUEUE_SIZE);
        p.require(
            format!("disks[{i}].queues"),
            disk.queues
                .is_none_or(|queues| (1..=most).contains(&queues)),
            format!("1 to {most} are possible"),
        );
        let fits = |size: u16| size.is_power_of_two() && (2..=most_size).contains(&size);
        p.require(
            format!("disks[{i}].queue-size"),
            disk.queue_size.is_none_or(fits),
            format!("a power of two from 2 to {most_size} is wanted"),
        );
        if let Some(serial) = &disk.serial {
            let sound = serial.len() <= 20 && serial.bytes().all(|b| (0x20..0x7f).contains(&b));
            p.require(
                format!("disks[{i}].serial"),
                sound,
                "at most 20 printable ASCII characters are wanted",
            );
        }
    }
}
