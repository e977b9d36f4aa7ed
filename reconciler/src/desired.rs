//! The cross-checked set of definitions, with provenance and problems.
//!
//! In: documents read from the watched directories, the ledger (for what a broken file holds), the host's facts (for the choice of drivers). Out: [`Desired`]:
//! good objects and problems side by side. A problem of one object never takes another with it, unless the other refers to it.

mod build;
mod fields;
mod images;
mod references;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

pub use fields::Fields;
use serde::{Deserialize, Serialize};

use crate::compile::filter::ir::Filter;
use crate::object::ObjectId;
use crate::plan::step::{Disruption, Held, Location, Refusal};
use crate::resolve::Driver;
use crate::resolve::domain::Domain;
use crate::resolve::network::Network;
use crate::resolve::storage::{Pool, Volume};

/// What is wanted of the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Every good object.
    #[serde(with = "crate::pairs")]
    pub objects: BTreeMap<ObjectId, Wanted>,
    /// What is wrong, by file and line. Never a reason to remove anything.
    pub problems: Vec<Refusal>,
    /// Objects kept at their last good definition because their file is broken; their last good definition is among `objects` when it still resolves.
    pub held: Vec<Held>,
    /// Owned objects that must not be removed although they are in no file: their file is broken or refers to something broken.
    pub keep: BTreeSet<ObjectId>,
    /// Owned objects that no file states any more, and that nothing keeps: what removing them may do.
    #[serde(with = "crate::pairs")]
    pub departed: BTreeMap<ObjectId, Departed>,
    /// No definition at all was found in any watched directory.
    pub empty: bool,
}

/// What the last good definition of an object that is in no file any more says about its removal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departed {
    /// Its policy protects it: it stays until the policy is changed and applied first.
    pub protect: bool,
    /// Its policy suspends it: it is not touched.
    pub suspend: bool,
    /// A volume whose file goes with its definition.
    pub delete_data: bool,
    /// The bridge of a network, where it had one of its own.
    pub bridge: Option<String>,
}

/// One wanted object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Which.
    pub id: ObjectId,
    /// The file that states it.
    pub file: PathBuf,
    /// Where the definition begins.
    pub location: Location,
    /// Where each stated field is.
    pub fields: Fields,
    /// The definition in canonical XML with its policy, for the ledger, hooks and diffs.
    pub xml: String,
    /// What it may do to the host.
    pub policy: Policy,
    /// What will really be.
    pub resolved: Resolved,
    /// What the ledger's definition stands for, where that is another than `xml`: what the host is kept at while a change waits for leave.
    pub previous: Option<Box<Resolved>>,
}

/// The part of an object's policy that every kind has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The worst that a change may do. Default: live.
    pub disruption: Disruption,
    /// Objects that must be as wanted before this one is touched.
    pub depends_on: Vec<ObjectId>,
    /// Not reconciled at all while true.
    pub suspend: bool,
    /// Never removed while true.
    pub protect: bool,
    /// The driver that a guest is pinned to.
    #[serde(default)]
    pub driver: Option<Driver>,
}

/// The completed definition of each kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "definition", rename_all = "lowercase")]
pub enum Resolved {
    /// A network.
    Network(Box<Network>),
    /// A pool.
    Pool(Box<Pool>),
    /// A volume.
    Volume(Box<Volume>),
    /// A packet filter.
    NwFilter(Box<Filter>),
    /// A guest.
    Domain(Box<Domain>),
}

/// Help for a name that is not there: the nearest that is, or all of them where they are few.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    match (
        vireo_schema::diagnostic::did_you_mean(name, known.iter().copied()),
        known.len(),
    ) {
        (Some(near), _) => format!("did you mean {near}?"),
        (None, 0) => "none is defined".to_owned(),
        (None, 1..=8) => format!("defined are {}", known.join(", ")),
        (None, count) => format!("{count} others are defined"),
    }
}
