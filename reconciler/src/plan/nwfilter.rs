//! Packet filters. A filter by itself is nothing on the host; a changed one rewrites the rules of every running interface that reaches it, in one transaction.

use crate::compile::filter::ir::{Entry, Filter};
use crate::desired::{Resolved, Wanted};
use crate::execute::effect::Effect;
use crate::object::{Kind, ObjectId};
use crate::resolve::domain::Domain;

use super::context::Context;
use super::draft::{Found, Page, Says, Work, finish};
use super::{difference, domain, rules, summary};

/// Plans one filter.
pub(super) fn plan(context: &Context<'_>, wanted: &Wanted, filter: &Filter) -> Found {
    let page = Page::open(context.ledger, wanted);
    let mut work = Work::default();
    if context.changed_filters.contains(filter.name.as_str()) {
        let (ops, interfaces) = rules::filter_ops(context, &filter.name, &running(context));
        if !ops.is_empty() {
            let interfaces = match interfaces {
                1 => "the interface that uses it".to_owned(),
                n => format!("the {n} interfaces that use it"),
            };
            work.act(
                format!("the rules of {interfaces} are exchanged in one transaction"),
                Effect::Nft(ops),
            );
        }
    }
    let says = Says {
        summary: summary::filter(filter),
        create: "it is defined, and vireo does not keep it yet".to_owned(),
        differences: if page.is_new() {
            Vec::new()
        } else {
            difference::of_definition(wanted, page.old())
        },
        needs: references(context, filter),
    };
    Found::step(finish(&page, work, says))
}

/// Filters that this one refers to.
fn references(context: &Context<'_>, filter: &Filter) -> Vec<ObjectId> {
    let names = filter.entries.iter().filter_map(|entry| match entry {
        Entry::Reference(reference) => Some(reference.filter.as_str()),
        Entry::Rule(_) => None,
    });
    names
        .filter_map(|name| context.named(Kind::NwFilter, name).cloned())
        .collect()
}

/// Guests that run on through this plan, as they are to be.
fn running(context: &Context<'_>) -> Vec<Domain> {
    context
        .desired
        .objects
        .values()
        .filter_map(|wanted| match &wanted.resolved {
            Resolved::Domain(guest) => domain::target(context, wanted, guest),
            _ => None,
        })
        .collect()
}
