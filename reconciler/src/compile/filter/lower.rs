//! Filters as the schema reads them to filters as the compiler takes them.
//!
//! The schema has checked every value that is no variable. Attributes go over by name, from the same table that writes them, so that one which the schema
//! learns reaches the compiler, and is refused there until it is compiled.

use std::collections::BTreeMap;

use vireo_schema::element::Union;
use vireo_schema::nwfilter::{self, NwFilter};

use super::ir::{
    Action, Direction, Entry, Filter, Parameters, Protocol, ProtocolMatch, RULE_PRIORITY,
    Reference, Rule, Value,
};

/// One filter.
pub fn filter(filter: &NwFilter) -> Filter {
    Filter {
        name: filter
            .name
            .as_ref()
            .map(|name| name.as_str().to_owned())
            .unwrap_or_default(),
        chain: filter.chain_name().to_owned(),
        priority: filter.priority.map(|priority| small(priority.get())),
        entries: filter.entries.iter().map(entry).collect(),
    }
}

/// A reference, from a filter or from an interface.
pub fn reference(reference: &nwfilter::FilterRef) -> Reference {
    let mut parameters = Parameters::new();
    for parameter in &reference.parameters {
        if let (Some(name), Some(value)) = (&parameter.name, &parameter.value) {
            parameters
                .entry(name.as_str().to_owned())
                .or_default()
                .push(value.clone());
        }
    }
    Reference {
        filter: reference
            .filter
            .as_ref()
            .map(|name| name.as_str().to_owned())
            .unwrap_or_default(),
        parameters,
    }
}

fn entry(entry: &nwfilter::Entry) -> Entry {
    match entry {
        nwfilter::Entry::FilterRef(inner) => Entry::Reference(reference(inner)),
        nwfilter::Entry::Rule(inner) => Entry::Rule(rule(inner)),
    }
}

fn rule(rule: &nwfilter::Rule) -> Rule {
    Rule {
        action: match rule.action {
            Some(nwfilter::Action::Accept) => Action::Accept,
            Some(nwfilter::Action::Reject) => Action::Reject,
            Some(nwfilter::Action::Return) => Action::Return,
            Some(nwfilter::Action::Continue) => Action::Continue,
            // The schema does not let a rule without an action through.
            Some(nwfilter::Action::Drop) | None => Action::Drop,
        },
        direction: match rule.direction {
            Some(nwfilter::Direction::In) => Direction::In,
            Some(nwfilter::Direction::Out) => Direction::Out,
            Some(nwfilter::Direction::InOut) | None => Direction::Inout,
        },
        priority: rule
            .priority
            .map_or(RULE_PRIORITY, |priority| small(priority.get())),
        statematch: rule.statematch.is_none_or(nwfilter::StateMatch::is_on),
        matches: rule.protocols.iter().filter_map(protocol).collect(),
    }
}

fn protocol(condition: &nwfilter::Protocol) -> Option<ProtocolMatch> {
    let tree = condition.encode();
    let protocol = Protocol::named(&tree.name)?;
    let mut negated = false;
    let mut attributes = BTreeMap::new();
    for attribute in &tree.attributes {
        match attribute.name.as_ref() {
            "match" => negated = attribute.value == "no",
            // A comment is what it says, dollar signs and all.
            "comment" => {
                let text = Value::Text(attribute.value.to_string());
                attributes.insert("comment".to_owned(), text);
            }
            name => {
                attributes.insert(name.to_owned(), Value::parse(&attribute.value));
            }
        }
    }
    Some(ProtocolMatch {
        protocol,
        negated,
        attributes,
    })
}

/// Priorities are within -1000 to 1000.
fn small(priority: i64) -> i16 {
    i16::try_from(priority.clamp(-1000, 1000)).unwrap_or_default()
}
