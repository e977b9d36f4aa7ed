//! Rules between definitions: one identity or name claimed twice.

use crate::definition::{Definition, Kind};
use crate::diagnostic::Diagnostic;
use crate::document::{Document, Located};
use crate::source::Source;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

/// Everything wrong between the definitions of several files.
pub fn check<D: Borrow<Document>>(documents: &[D]) -> Vec<(Arc<Source>, Diagnostic)> {
    let all: Vec<&Located> = documents
        .iter()
        .flat_map(|document| &document.borrow().definitions)
        .collect();
    let mut problems = Vec::new();
    let uuids = all
        .iter()
        .filter(|located| located.kind() != Kind::Volume)
        .map(|located| ((located.kind(), located.uuid()), *located));
    twice(uuids, "duplicate-uuid", &mut problems, |located| {
        format!(
            "the uuid {} is claimed by {} {} too",
            located.uuid(),
            located.kind(),
            located.name()
        )
    });
    let names = all
        .iter()
        .filter(|located| !matches!(located.definition, Definition::Secret(_)))
        .map(|located| ((located.kind(), located.name()), *located));
    twice(names, "duplicate-name", &mut problems, |located| {
        format!("{} {} is defined twice", located.kind(), located.name())
    });
    problems
}

/// Reports each pair of definitions that share a key, at both of them.
fn twice<'l, K: Eq + Hash>(
    keyed: impl Iterator<Item = (K, &'l Located)>,
    rule: &'static str,
    problems: &mut Vec<(Arc<Source>, Diagnostic)>,
    message: impl Fn(&Located) -> String,
) {
    let mut first: HashMap<K, &Located> = HashMap::new();
    for (key, located) in keyed {
        match first.entry(key) {
            Entry::Vacant(free) => {
                free.insert(located);
            }
            Entry::Occupied(taken) => {
                for (here, other) in [(located, *taken.get()), (*taken.get(), located)] {
                    let position = other.source.position(other.span.start);
                    let help = format!(
                        "the other is at {}:{}:{}",
                        other.source.path.display(),
                        position.line,
                        position.column
                    );
                    let span = here
                        .spans
                        .get("uuid")
                        .or_else(|| here.spans.get("name"))
                        .unwrap_or(here.span);
                    problems.push((
                        here.source.clone(),
                        Diagnostic::new(rule, span, message(other))
                            .with_help(help)
                            .at(here.kind().root()),
                    ));
                }
            }
        }
    }
}
