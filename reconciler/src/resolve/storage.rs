//! Pools and volumes as they will really be.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::units::Bytes;

/// A directory pool. Other pool types are refused when planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Identity.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// The directory that holds its volumes; absolute.
    pub path: PathBuf,
    /// Owner, group and mode of the directory, where stated.
    pub permissions: Permissions,
}

/// Owner, group and mode. `None` leaves the host's default alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// Numeric user.
    pub owner: Option<u32>,
    /// Numeric group.
    pub group: Option<u32>,
    /// Permission bits, 0 to 0o7777.
    pub mode: Option<u32>,
}

/// The formats of image files that vireo makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Plain bytes.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

impl std::fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            ImageFormat::Raw => "raw",
            ImageFormat::Qcow2 => "qcow2",
        })
    }
}

/// A volume of a directory pool: one image file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Identity.
    pub uuid: Uuid,
    /// The pool's name.
    pub pool: String,
    /// The pool's identity.
    pub pool_uuid: Uuid,
    /// Its name within the pool; also the file's name, never with a slash.
    pub name: String,
    /// `pool path/name`.
    pub path: PathBuf,
    /// What the guest sees as the size. `None` only with a backing file, whose size is then taken.
    pub capacity: Option<Bytes>,
    /// What to allocate at creation: `None` is all of it for raw (libvirt's default), metadata only for qcow2.
    pub allocation: Option<Bytes>,
    /// The image's format.
    pub format: ImageFormat,
    /// The image that this one is a copy-on-write layer over.
    pub backing: Option<Backing>,
    /// qcow2's `compat`: `0.10` or `1.1`; `None` takes qemu-img's default, 1.1.
    pub compat: Option<String>,
    /// Owner, group and mode of the file.
    pub permissions: Permissions,
    /// Whether the file is removed when its definition goes. Default: kept.
    pub delete_with_definition: bool,
}

/// A backing file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing {
    /// The image's absolute path.
    pub path: PathBuf,
    /// Its format, always written into the overlay so that nothing has to be probed.
    pub format: ImageFormat,
}
