//! Packet rules that nobody uses any more.
//!
//! Chains are shared, so the step that takes one's last user away cannot know that it was the last while others run beside it. What is left over goes in the
//! same transaction when a single step writes to the table, and else in a step of its own after all that do. While the rules of any running guest or network
//! are not known (it is suspended, held, or refused), nothing is swept: what looks unused may be theirs.

use uuid::Uuid;

use crate::compile::nft::{NftOp, TableName};
use crate::execute::effect::Effect;
use crate::inventory::{GuestState, LinkKind};
use crate::object::{Kind, ObjectId};

use super::context::Context;
use super::step::{Disruption, Plan, Step, Verb};
use super::tables::leftovers;

/// Adds what removes leftovers to the plan.
pub(super) fn sweep(plan: &mut Plan, context: &Context<'_>) {
    if knows_all_guests(plan, context) {
        sweep_table(plan, context, &TableName::filters(), Kind::NwFilter);
    }
    if knows_all_networks(plan, context) {
        sweep_table(plan, context, &TableName::networks(), Kind::Network);
    }
}

fn knows_all_guests(plan: &Plan, context: &Context<'_>) -> bool {
    let kept = context.kept.borrow();
    context.inventory.guests.iter().all(|(uuid, guest)| {
        matches!(guest.state, GuestState::Ended { .. })
            || kept.owners.contains(uuid)
            || goes(plan, Kind::Domain, *uuid)
    })
}

fn knows_all_networks(plan: &Plan, context: &Context<'_>) -> bool {
    let kept = context.kept.borrow();
    let mut wanted = context.desired.objects.keys().chain(&context.desired.keep);
    if wanted.any(|id| id.kind == Kind::Network && !kept.owners.contains(&id.uuid)) {
        return false;
    }
    let mut links = context.inventory.links.values();
    links.all(|link| {
        let owner = link.owner.filter(|_| link.kind == LinkKind::Bridge);
        owner.is_none_or(|owner| kept.owners.contains(&owner) || goes(plan, Kind::Network, owner))
    })
}

/// Whether the plan removes or stops the object.
fn goes(plan: &Plan, kind: Kind, uuid: Uuid) -> bool {
    plan.steps.iter().any(|step| {
        step.object.kind == kind
            && step.object.uuid == uuid
            && matches!(step.verb, Verb::Delete | Verb::Stop)
    })
}

fn sweep_table(plan: &mut Plan, context: &Context<'_>, table: &TableName, kind: Kind) {
    let Some(observed) = context.inventory.tables.get(table) else {
        return;
    };
    let kept = context.kept.borrow();
    let leftovers: Vec<NftOp> = leftovers(
        table,
        observed,
        &|chain| kept.chains.contains(&(table.clone(), chain.clone())),
        &|element| kept.elements.contains(&(table.clone(), element.clone())),
    )
    .into_iter()
    .filter(|op| !plan.steps.iter().any(|step| deletes(step, op)))
    .collect();
    if leftovers.is_empty() {
        return;
    }
    let mut writers: Vec<&mut Step> = plan
        .steps
        .iter_mut()
        .filter(|step| step.effects.iter().any(|effect| writes(effect, table)))
        .collect();
    if let [only] = writers.as_mut_slice() {
        let last = only
            .effects
            .iter_mut()
            .rev()
            .find_map(|effect| match effect {
                Effect::Nft(ops) if touches(ops, table) => Some(ops),
                _ => None,
            });
        if let Some(ops) = last {
            ops.extend(leftovers);
        }
        return;
    }
    let needs = writers.iter().map(|step| step.object.clone()).collect();
    let chains = leftovers.len();
    plan.steps.push(Step {
        object: ObjectId::new(kind, Uuid::nil(), "unused rules"),
        verb: Verb::Repair,
        disruption: Disruption::Live,
        summary: format!("{chains} chains and map elements"),
        why: "nobody uses them any more".to_owned(),
        differences: Vec::new(),
        needs,
        effects: vec![Effect::Nft(leftovers)],
        undo: Vec::new(),
    });
}

fn deletes(step: &Step, op: &NftOp) -> bool {
    step.effects
        .iter()
        .any(|effect| matches!(effect, Effect::Nft(ops) if ops.contains(op)))
}

fn writes(effect: &Effect, table: &TableName) -> bool {
    matches!(effect, Effect::Nft(ops) if touches(ops, table))
}

fn touches(ops: &[NftOp], table: &TableName) -> bool {
    ops.iter().any(|op| match op {
        NftOp::EnsureSkeleton(skeleton) => skeleton.table == *table,
        NftOp::ReplaceChain { table: of, .. }
        | NftOp::DeleteChain { table: of, .. }
        | NftOp::SetElement { table: of, .. }
        | NftOp::DeleteElement { table: of, .. }
        | NftOp::DeleteTable { table: of } => of == table,
    })
}
