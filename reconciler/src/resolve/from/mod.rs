//! From a definition to what will be.
//!
//! One function a kind. Each checks every stated path against what can be done ([`support`]), makes the defaults that libvirt makes, and replaces references by what they stand
//! for. Problems are collected with their place; a definition with a problem resolves to nothing.

#[cfg(test)]
mod audit;
mod clock;
mod devices;
mod domain;
mod machine;
mod memory;
mod network;
mod pins;
mod storage;
mod support;

use std::collections::BTreeMap;

use vireo_schema::{Located, Rule, Source, Stated};

use crate::compile::filter::ir::Filter;
use crate::inventory::HostFacts;
use crate::object::{Kind, ObjectId};
use crate::plan::step::{Location, Refusal};

use super::network::Network;
use super::storage::{Pool, Volume};

/// What references may stand for, and what the host can do.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// Networks by name.
    pub networks: BTreeMap<String, Network>,
    /// Pools by name.
    pub pools: BTreeMap<String, Pool>,
    /// Volumes by `pool/name`.
    pub volumes: BTreeMap<String, Volume>,
    /// Packet filters by name.
    pub filters: BTreeMap<String, Filter>,
    /// What is defined and cannot be had, as it is refused or claimed by two files: where, by kind and name.
    pub refused: BTreeMap<(Kind, String), String>,
    /// The host.
    pub facts: HostFacts,
}

impl Surroundings {
    /// Why a reference stands for nothing, and what to do about it: the object is defined nowhere, or has a problem of its own.
    pub(crate) fn lack<'a>(
        &self,
        kind: Kind,
        name: &str,
        known: impl Iterator<Item = &'a String>,
    ) -> (String, String) {
        let word = match kind {
            Kind::NwFilter => "packet filter",
            other => other.as_str(),
        };
        match self.refused.get(&(kind, name.to_owned())) {
            Some(place) => (
                format!("{word} {name} has a problem of its own"),
                format!("mend it first, at {place}"),
            ),
            None => (
                format!("there is no {word} {name}"),
                crate::desired::nearest(name, known),
            ),
        }
    }
}

/// One definition at work.
pub(crate) struct Resolving<'a> {
    /// The definition.
    pub located: &'a Located,
    /// Which object it is.
    pub id: &'a ObjectId,
    /// Everything it states.
    pub stated: &'a [Stated],
    problems: Vec<Refusal>,
}

impl<'a> Resolving<'a> {
    /// Begins with a definition.
    pub fn new(located: &'a Located, id: &'a ObjectId, stated: &'a [Stated]) -> Self {
        Self {
            located,
            id,
            stated,
            problems: Vec::new(),
        }
    }

    /// Refuses something about the element or attribute at this path.
    pub fn refuse(
        &mut self,
        rule: Rule,
        path: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let span = self
            .stated
            .iter()
            .find(|stated| stated.path == path || stated.shape == path);
        let start = span.map_or(self.located.span.start, |stated| stated.span.start);
        self.refuse_at(rule, start, message, help);
    }

    fn refuse_at(
        &mut self,
        rule: Rule,
        start: usize,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems.push(Refusal {
            object: Some(self.id.clone()),
            location: Some(place(&self.located.source, start)),
            message: message.into(),
            help: Some(help.into()).filter(|help: &String| !help.is_empty()),
            rule: rule.to_string(),
        });
    }

    /// Refuses everything stated that the rows do not cover. Of an element that is not covered only the element is named, not all inside it.
    fn refuse_uncovered(&mut self, rows: &support::Rows, who: &str) {
        let mut refused: Option<&str> = None;
        let stated = self.stated;
        for one in stated {
            let inside = refused.is_some_and(|path| {
                one.path
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.starts_with('/'))
            });
            if inside || rows.cover(&one.shape) {
                continue;
            }
            refused = Some(&one.path);
            let message = format!("{} is not something {who} can do", in_words(&one.path));
            self.refuse_at(
                Rule::Unsupported,
                one.span.start,
                message,
                "take it out; nothing that is asked for is ignored",
            );
        }
    }

    /// What was found, if nothing was refused.
    pub fn finish<T>(self, found: Option<T>) -> Result<T, Vec<Refusal>> {
        match found {
            Some(found) if self.problems.is_empty() => Ok(found),
            _ => Err(self.problems),
        }
    }
}

/// A path as people say it: `<driver io>` in `devices/disk`.
fn in_words(path: &str) -> String {
    let mut parts: Vec<&str> = path
        .split('/')
        .map(|part| part.split('[').next().unwrap_or(part))
        .collect();
    let leaf = parts.pop().unwrap_or(path);
    match leaf.strip_prefix('@') {
        Some(attribute) => {
            let element = parts.pop().unwrap_or("");
            if element.is_empty() {
                format!("the attribute `{attribute}`")
            } else {
                format!("<{element} {attribute}>")
            }
        }
        None => format!("<{leaf}>"),
    }
}

/// The place of a byte of a definition's source.
pub(crate) fn place(source: &Source, start: usize) -> Location {
    let position = source.position(start);
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Location {
        file: source.path.clone(),
        line: number(position.line),
        column: number(position.column),
    }
}

pub(crate) use domain::domain;
pub(crate) use network::network;
pub(crate) use storage::{pool, volume};
