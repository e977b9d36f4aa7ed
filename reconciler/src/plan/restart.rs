//! A restart that somebody asks for.

use std::collections::BTreeSet;

use crate::desired::Desired;
use crate::inventory::Inventory;
use crate::ledger::Ledger;
use crate::object::ObjectId;

use super::step::{Plan, Verb};

/// A guest that cannot be restarted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    /// It is in no definition, or broken in the only one.
    #[error("{0} is in no definition that could be started")]
    Undefined(ObjectId),
    /// It is refused, held or suspended.
    #[error("{guest} is not restarted: {why}")]
    Refused {
        /// The guest.
        guest: ObjectId,
        /// Why.
        why: String,
    },
    /// Its policy wants it stopped.
    #[error("{0} is not restarted: its policy wants it stopped")]
    Stopped(ObjectId),
    /// Something that it needs would remove objects, which waits for a confirmation of its own.
    #[error(
        "{guest} is not restarted: {needs} would be removed first, which waits for a confirmation"
    )]
    Unconfirmed {
        /// The guest.
        guest: ObjectId,
        /// What it needs gone.
        needs: ObjectId,
    },
}

/// The plan that restarts a guest, whatever its policy allows and whether its definition has changed or not: its step, and those that it needs.
///
/// # Errors
/// The guest cannot be restarted.
pub fn restart(
    desired: &Desired,
    inventory: &Inventory,
    ledger: &Ledger,
    guest: &ObjectId,
) -> Result<Plan, RestartError> {
    // Whoever asks may know the UUID alone.
    let Some((guest, _)) = desired.objects.get_key_value(guest) else {
        return Err(RestartError::Undefined(guest.clone()));
    };
    let mut plan = super::plan_with(desired, inventory, ledger, Some(guest.uuid));
    let begins = |verb| matches!(verb, Verb::Restart | Verb::Start | Verb::Create);
    if !plan
        .steps
        .iter()
        .any(|step| step.object == *guest && begins(step.verb))
    {
        return Err(why_not(&plan, guest));
    }
    let mut needed = BTreeSet::from([guest.clone()]);
    // Backwards: whatever a step needs comes before it.
    for step in plan.steps.iter().rev() {
        if needed.contains(&step.object) {
            needed.extend(step.needs.iter().cloned());
        }
    }
    plan.steps.retain(|step| needed.contains(&step.object));
    let removal = |verb| matches!(verb, Verb::Delete | Verb::Release);
    if plan.confirm.is_some()
        && let Some(step) = plan.steps.iter().find(|step| removal(step.verb))
    {
        return Err(RestartError::Unconfirmed {
            guest: guest.clone(),
            needs: step.object.clone(),
        });
    }
    plan.confirm = None;
    plan.pending.clear();
    plan.refusals.clear();
    plan.held.clear();
    plan.notes.retain(|note| note.object == *guest);
    plan.unchanged = 0;
    Ok(plan)
}

fn why_not(plan: &Plan, guest: &ObjectId) -> RestartError {
    let refusals = plan.refusals.iter();
    let refused = refusals.filter(|refusal| refusal.object.as_ref() == Some(guest));
    let held = plan.held.iter().filter(|held| held.object == *guest);
    let mut why = refused
        .map(|refusal| &refusal.message)
        .chain(held.map(|held| &held.why));
    match why.next() {
        Some(why) => RestartError::Refused {
            guest: guest.clone(),
            why: why.clone(),
        },
        None => RestartError::Stopped(guest.clone()),
    }
}
