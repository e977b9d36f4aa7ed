//! The disks of a machine, as its owner changes them.
//!
//! In come requests by a disk's name; out go changes through its [`DiskControl`], also of those that share limits with it.

use thiserror::Error;

use crate::config::{Bytes, Limits};
use crate::control::wire::DiskStats;
use crate::devices::virtio::block::{DiskControl, GrowError};

/// The guest has no disk of this name.
#[derive(Debug, Error)]
#[error("the guest has no disk {0:?}")]
pub struct NoDisk(pub String);

/// Why a disk is not made larger.
#[derive(Debug, Error)]
pub enum ResizeError {
    /// There is none.
    #[error(transparent)]
    NoDisk(#[from] NoDisk),
    /// It cannot be.
    #[error("could not resize disk {id}")]
    Disk {
        /// The disk.
        id: String,
        /// Why.
        source: GrowError,
    },
}

/// Disks by their names.
#[derive(Default)]
pub(super) struct Disks(Vec<(String, DiskControl)>);

impl Disks {
    /// Adds a disk, which shares its limits with those of its group that are there.
    pub fn insert(&mut self, id: &str, disk: DiskControl) {
        let limits = disk.limits();
        self.0.push((id.to_owned(), disk));
        if limits.group.is_some() {
            self.limit(id, &limits);
        }
    }

    /// Puts a disk, and those of its group, under these limits; says whether that changed anything.
    pub fn set_limits(&self, id: &str, limits: &Limits) -> Result<bool, NoDisk> {
        let found = self.0.iter().find(|(name, _)| name == id);
        let (_, disk) = found.ok_or_else(|| NoDisk(id.to_owned()))?;
        let changes = disk.limits() != *limits;
        if changes {
            self.limit(id, limits);
        }
        Ok(changes)
    }

    /// Asks for a disk of `capacity`.
    pub fn grow(&self, id: &str, capacity: Bytes) -> Result<(), ResizeError> {
        let found = self.0.iter().find(|(name, _)| name == id);
        let (_, disk) = found.ok_or_else(|| NoDisk(id.to_owned()))?;
        disk.grow(capacity.0).map_err(|source| ResizeError::Disk {
            id: id.to_owned(),
            source,
        })
    }

    fn limit(&self, id: &str, limits: &Limits) {
        let together =
            |disk: &DiskControl| limits.group.is_some() && disk.limits().group == limits.group;
        let disks = self.0.iter();
        let disks: Vec<_> = disks
            .filter(|(name, disk)| name == id || together(disk))
            .map(|(_, disk)| disk)
            .collect();
        DiskControl::limit(disks, limits);
    }

    /// The first that the host failed so that the guest has to wait, and how.
    pub fn failure(&self) -> Option<String> {
        let mut disks = self.0.iter();
        disks.find_map(|(id, disk)| Some(format!("disk {id} {}", disk.failure()?)))
    }

    /// Tries again what the host failed.
    pub fn retry(&self) {
        self.0.iter().for_each(|(_, disk)| disk.retry());
    }

    /// How they are.
    pub fn stats(&self) -> Vec<DiskStats> {
        let disks = self.0.iter();
        disks
            .map(|(id, disk)| DiskStats {
                id: id.clone(),
                capacity: Bytes(disk.capacity()),
                limits: disk.limits(),
                problem: disk.problem(),
                failure: disk.failure(),
            })
            .collect()
    }
}
