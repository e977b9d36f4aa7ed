//! Rules between definitions: what there can be but once, claimed twice; references to nothing, and what cannot be kept.

use super::record::not_kept;
use super::references::{Target, references};
use super::{clashes, display_ports};
use crate::definition::{Definition, Kind};
use crate::diagnostic::{Diagnostic, did_you_mean, one_of};
use crate::document::{Document, Located};
use crate::network::{ForwardMode, Network};
use crate::rule::Rule;
use crate::secret::UsageType;
use crate::source::{Source, Span};
use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

/// Problems, each with the file that it is in.
pub(super) type Problems = Vec<(Arc<Source>, Diagnostic)>;

/// Everything wrong between the definitions of several files.
///
/// A reference to a definition that is there but broken is no reference to nothing; where a whole file could not be read, references are not judged, as
/// their targets may lie there.
pub fn check<D: Borrow<Document>>(documents: &[D]) -> Problems {
    let (records, all): (Vec<&Located>, Vec<&Located>) = documents
        .iter()
        .flat_map(|document| &document.borrow().definitions)
        .partition(|located| located.kind().is_record());
    let mut problems = Vec::new();
    for record in records {
        if let Some((message, help)) = not_kept(record.kind()) {
            let problem = Diagnostic::new(Rule::NotKept, record.spans.nearest(""), message);
            let problem = problem.with_help(help).at(record.kind().root());
            problems.push((record.source.clone(), problem));
        }
    }
    let uuids = all
        .iter()
        .filter(|located| located.kind() != Kind::Volume)
        .map(|located| ((located.kind(), located.uuid()), *located));
    let remedy = "take `uuid` out of the copy, and it gets its own";
    twice(
        uuids,
        (Rule::DuplicateUuid, remedy),
        &mut problems,
        |here, other| {
            (here.name() != other.name()).then(|| {
                format!(
                    "the uuid {} is claimed by {} {} too",
                    other.uuid(),
                    other.kind(),
                    other.name()
                )
            })
        },
    );
    let names = all
        .iter()
        .filter(|located| !matches!(located.definition, Definition::Secret(_)))
        .map(|located| ((located.kind(), located.name()), *located));
    let remedy = "rename one of them, or remove it";
    twice(
        names,
        (Rule::DuplicateName, remedy),
        &mut problems,
        |_, other| {
            Some(format!(
                "{} {} is defined twice",
                other.kind(),
                other.name()
            ))
        },
    );
    let uses = all
        .iter()
        .filter_map(|located| Some((secret_use(&located.definition)?, *located)));
    let remedy = "remove one of them";
    twice(
        uses,
        (Rule::DuplicateUsage, remedy),
        &mut problems,
        |_, other| Some(format!("secret {} is for the same use", other.uuid())),
    );
    let bridges = all
        .iter()
        .filter_map(|located| Some((made_bridge(&located.definition)?, *located)));
    let remedy = "give one of them another name, or leave it out, and it gets its own";
    twice(
        bridges,
        (Rule::DuplicateBridge, remedy),
        &mut problems,
        |here, other| {
            (here.name() != other.name())
                .then(|| format!("network {} makes the same bridge", other.name()))
        },
    );
    clashes::macs(&all, &mut problems);
    clashes::taps(&all, &mut problems);
    clashes::subnets(&all, &mut problems);
    clashes::loops(&all, &mut problems);
    display_ports::across(&all, &mut problems);
    if documents
        .iter()
        .flat_map(|document| &document.borrow().broken)
        .all(|broken| broken.kind.is_some())
    {
        dangling(documents, &all, &mut problems);
    }
    problems
}

/// What a secret is used for, if that is stated: there is one for each use.
fn secret_use(definition: &Definition) -> Option<(UsageType, &str)> {
    let Definition::Secret(secret) = definition else {
        return None;
    };
    Some((secret.usage.as_ref()?.kind?, secret.usage_id()?))
}

/// The bridge that a network makes, if it makes one with a stated name.
fn made_bridge(definition: &Definition) -> Option<&str> {
    let Definition::Network(network) = definition else {
        return None;
    };
    let bridge = network.bridge.as_ref();
    bridge.filter(|_| makes_bridge(network))?.name.as_deref()
}

/// Whether a network has a bridge made for it, and so addresses of its own.
pub(super) fn makes_bridge(network: &Network) -> bool {
    let mode = network
        .forward
        .as_ref()
        .map(|forward| forward.mode.unwrap_or(ForwardMode::Nat));
    matches!(
        mode,
        None | Some(ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open)
    )
}

/// Reports each pair of definitions that share a key, at both of them, with what to do about it.
fn twice<'l, K: Eq + Hash>(
    keyed: impl Iterator<Item = (K, &'l Located)>,
    (rule, remedy): (Rule, &str),
    problems: &mut Problems,
    message: impl Fn(&Located, &Located) -> Option<String>,
) {
    let mut first: HashMap<K, &Located> = HashMap::new();
    for (key, located) in keyed {
        match first.entry(key) {
            Entry::Vacant(free) => {
                free.insert(located);
            }
            Entry::Occupied(taken) => {
                for (here, other) in [(located, *taken.get()), (*taken.get(), located)] {
                    let Some(message) = message(here, other) else {
                        continue;
                    };
                    let position = other.source.position(other.span.start);
                    let help = format!(
                        "the other is at {}:{}:{}: {remedy}",
                        other.source.path.display(),
                        position.line,
                        position.column
                    );
                    let place = if rule == Rule::DuplicateBridge {
                        "bridge/@name"
                    } else {
                        "uuid"
                    };
                    // What an alias or a merge brings in stands in another definition.
                    let inside =
                        |span: &Span| here.span.start <= span.start && span.start <= here.span.end;
                    let span = here
                        .spans
                        .get(place)
                        .filter(inside)
                        .or_else(|| here.spans.get("name"))
                        .or_else(|| here.spans.get("@name"))
                        .filter(inside)
                        .unwrap_or(here.span);
                    problems.push((
                        here.source.clone(),
                        Diagnostic::new(rule, span, message)
                            .with_help(help)
                            .at(here.kind().root()),
                    ));
                }
            }
        }
    }
}

/// Reports references whose target no definition is.
fn dangling<D: Borrow<Document>>(documents: &[D], all: &[&Located], problems: &mut Problems) {
    let mut names: HashSet<(Kind, String)> = all
        .iter()
        .map(|located| (located.kind(), located.name()))
        .collect();
    names.extend(
        documents
            .iter()
            .flat_map(|document| &document.borrow().broken)
            .filter_map(|broken| Some((broken.kind?, broken.name.clone()?))),
    );
    let secrets: HashSet<_> = all
        .iter()
        .filter(|located| located.kind() == Kind::Secret)
        .map(|located| located.uuid())
        .collect();
    for located in all {
        for reference in references(&located.definition, &located.policy) {
            let found = match &reference.target {
                Target::Object(object) => names.contains(&(object.kind, object.name.clone())),
                Target::SecretUuid(uuid) => secrets.contains(uuid),
                Target::SecretUsage(usage) => names.contains(&(Kind::Secret, usage.clone())),
            };
            if found {
                continue;
            }
            let span = located.spans.nearest(&reference.path);
            let mut problem = Diagnostic::new(
                Rule::UnknownReference,
                span,
                format!("no definition is {}", reference.target),
            )
            .at(format!("{}/{}", located.kind().root(), reference.path));
            if let Target::Object(object) = &reference.target {
                let mut known: Vec<&str> = names
                    .iter()
                    .filter(|(kind, _)| *kind == object.kind)
                    .map(|(_, name)| name.as_str())
                    .collect();
                known.sort_unstable();
                let near = did_you_mean(&object.name, known.iter().copied())
                    .map(|near| format!("did you mean `{near}`? "))
                    .unwrap_or_default();
                problem.help = Some(format!("{near}defined here: {}", one_of(known, 12)));
            }
            problems.push((located.source.clone(), problem));
        }
    }
}
