//! Planning: `plan(desired, inventory, ledger) -> Plan`, pure and deterministic.
//!
//! In: what is wanted ([`Desired`]), what is there ([`Inventory`]), what is ours ([`Ledger`]). Out: a [`Plan`] that leaves its executor no choice: at most one
//! step an object, each with its effects in order, in an order that satisfies every step's needs. What can go wrong with one object is a refusal of that
//! object and of what cannot be without it; the rest is planned as if it were not there.
//!
//! One planner a kind: [`network`], [`storage`], [`nwfilter`], [`domain`]; [`removal`] for what is in no file any more; [`sweep`] for packet rules that nobody
//! uses any more. Then [`graph`] orders the steps, and [`guard`] decides whether the whole waits for a confirmation. The rule that all keep: a plan's effects,
//! applied to the inventory and the ledger it was made from, leave nothing to plan.

mod context;
mod difference;
mod domain;
mod draft;
mod graph;
mod guard;
mod interest;
mod network;
mod nwfilter;
mod removal;
pub mod render;
mod restart;
mod rules;
pub mod step;
mod storage;
mod summary;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;

use uuid::Uuid;
use vireo_schema::Rule;

use crate::desired::{Desired, Resolved};
use crate::inventory::Inventory;
use crate::ledger::Ledger;
use crate::object::{Kind, ObjectId};

use self::context::Context;
use self::draft::Found;
pub use self::interest::interest;
pub use self::restart::{RestartError, restart};
use self::step::{Held, Note, Plan, Refusal};

/// What has to be done to the host, what will not be, and why.
pub fn plan(desired: &Desired, inventory: &Inventory, ledger: &Ledger) -> Plan {
    plan_with(desired, inventory, ledger, None)
}

/// The same, with leave to restart one guest, whose restart is asked for.
fn plan_with(
    desired: &Desired,
    inventory: &Inventory,
    ledger: &Ledger,
    restart: Option<Uuid>,
) -> Plan {
    let mut context = Context::new(desired, inventory, ledger);
    context.restart = restart;
    let mut plan = Plan {
        refusals: desired.problems.clone(),
        held: desired.held.clone(),
        ..Plan::default()
    };
    for (object, wanted) in &desired.objects {
        if wanted.policy.suspend {
            plan.held.push(Held {
                object: object.clone(),
                why: "suspended by its policy".to_owned(),
            });
            continue;
        }
        let found = match &wanted.resolved {
            Resolved::Network(network) => network::plan(&context, wanted, network),
            Resolved::Pool(pool) => storage::plan_pool(&context, wanted, pool),
            Resolved::Volume(volume) => storage::plan_volume(&context, wanted, volume),
            Resolved::NwFilter(filter) => nwfilter::plan(&context, wanted, filter),
            Resolved::Domain(domain) => domain::plan(&context, wanted, domain),
        };
        take(&mut plan, found);
    }
    for (object, departed) in &desired.departed {
        take(&mut plan, removal::plan(&context, object, departed));
    }
    plan.refusals.extend(orphans(desired, inventory));
    graph::block(&mut plan, &context);
    sweep::sweep(&mut plan, &context);
    graph::settle(&mut plan);
    plan.notes = notes(&context);
    guard::guard(&mut plan, desired, ledger);
    plan
}

/// What the planners found that people should know, by object.
fn notes(context: &Context<'_>) -> Vec<Note> {
    let kept = context.kept.borrow();
    let note = |(guest, text): &(Uuid, String)| {
        let id = ObjectId::new(Kind::Domain, *guest, "");
        let (object, _) = context.desired.objects.get_key_value(&id)?;
        Some(Note {
            object: object.clone(),
            text: text.clone(),
        })
    };
    kept.notes.iter().filter_map(note).collect()
}

/// Guests that are marked as ours and that neither a definition nor the ledger knows: nobody says what they should be, so they are told of and left alone.
fn orphans(desired: &Desired, inventory: &Inventory) -> Vec<Refusal> {
    let known = |id: &ObjectId| {
        desired.objects.contains_key(id)
            || desired.departed.contains_key(id)
            || desired.keep.contains(id)
    };
    inventory
        .guests
        .values()
        .map(|guest| &guest.launch.domain)
        .map(|domain| ObjectId::new(Kind::Domain, domain.uuid, &domain.name))
        .filter(|id| !known(id))
        .map(|id| Refusal {
            location: None,
            message: format!("{id} is on the host and marked as vireo's, and no definition and no ledger entry knows it"),
            help: Some(format!("state its definition (uuid {}) to have it kept, or to have it removed afterwards", id.uuid)),
            rule: Rule::Orphan.to_string(),
            object: Some(id),
        })
        .collect()
}

/// Adds what was found about one object.
fn take(plan: &mut Plan, found: Found) {
    if found.is_nothing() {
        plan.unchanged += 1;
    }
    plan.steps.extend(found.step);
    plan.pending.extend(found.pending);
    plan.refusals.extend(found.refusals);
    plan.held.extend(found.held);
}
