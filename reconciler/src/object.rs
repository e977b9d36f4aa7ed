//! What an object is called everywhere: its kind, its UUID (the identity) and its name (for people).

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The kinds of object that vireo keeps, in the order in which a host needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A secret that a volume or a pool refers to.
    Secret,
    /// A virtual network.
    Network,
    /// A storage pool.
    Pool,
    /// A storage volume.
    Volume,
    /// A packet filter.
    NwFilter,
    /// A virtual machine.
    Domain,
}

impl Kind {
    /// Every kind, in the order in which a host needs them.
    pub const ALL: [Kind; 6] = [
        Kind::Secret,
        Kind::Network,
        Kind::Pool,
        Kind::Volume,
        Kind::NwFilter,
        Kind::Domain,
    ];

    /// The word used on the command line and in plans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Secret => "secret",
            Kind::Network => "network",
            Kind::Pool => "pool",
            Kind::Volume => "volume",
            Kind::NwFilter => "nwfilter",
            Kind::Domain => "domain",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One object. Ordered by kind, then by UUID; the name is for people and plays no part in identity.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObjectId {
    /// What it is.
    pub kind: Kind,
    /// Its identity, stated or derived.
    pub uuid: Uuid,
    /// Its name; a volume's is `pool/volume`.
    pub name: String,
}

impl ObjectId {
    /// The object of that kind, identity and name.
    pub fn new(kind: Kind, uuid: Uuid, name: impl Into<String>) -> Self {
        Self {
            kind,
            uuid,
            name: name.into(),
        }
    }

    const fn key(&self) -> (Kind, Uuid) {
        (self.kind, self.uuid)
    }
}

impl PartialEq for ObjectId {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for ObjectId {}

impl PartialOrd for ObjectId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ObjectId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl std::hash::Hash for ObjectId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}
