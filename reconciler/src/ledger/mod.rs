//! What neither the files nor the host can show: what we own, its last good definition, and what went wrong.
//!
//! One small file per owned object under the state directory, written by write, fsync, rename, fsync of the directory. An entry is written before the first
//! effect of an object's first step and removed after the last effect of its removal, so that whatever we made can always be traced to an owner.

pub mod store;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::object::ObjectId;
use crate::resolve::storage::Permissions;

/// One owned object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which.
    pub object: ObjectId,
    /// The file it was last read from. A file that no longer parses holds the objects whose entries name it.
    pub file: PathBuf,
    /// The last definition that was planned without a problem, in canonical XML with its policy.
    pub definition: String,
    /// What of the object lives on the host under a name that the definition could change: enough to remove it without its definition.
    pub holds: Holds,
    /// The object's first step has succeeded whole. While this is false, what is missing on the host was never made, and so is not lost.
    pub made: bool,
}

/// What an object holds on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// A pool's directory or a volume's file.
    pub path: Option<PathBuf>,
    /// Permissions that were set on it.
    pub permissions: Permissions,
}

/// Everything owned, as planning sees it. Ordered by object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Entries by object.
    pub entries: std::collections::BTreeMap<ObjectKey, Entry>,
}

/// An entry's key: kind and UUID in text, so that it can be a key in JSON.
pub type ObjectKey = String;

/// The key of an object's entry, and the stem of its file's name: `network-86891d0f-…`.
pub fn key(object: &ObjectId) -> ObjectKey {
    format!("{}-{}", object.kind, object.uuid)
}

impl Ledger {
    /// The entry of an object.
    pub fn get(&self, object: &ObjectId) -> Option<&Entry> {
        self.entries.get(&key(object))
    }

    /// Adds or replaces an entry.
    pub fn record(&mut self, entry: Entry) {
        self.entries.insert(key(&entry.object), entry);
    }

    /// Removes an entry.
    pub fn forget(&mut self, object: &ObjectId) {
        self.entries.remove(&key(object));
    }
}
