//! What no plan may do without somebody's word.
//!
//! A list of files that is incomplete (a bad render, an unmounted directory, a checkout half done) looks like definitions that were removed. So a plan that would
//! remove much, or anything at all when no definition was found, waits for a confirmation that names its digest.

use crate::desired::Desired;
use crate::ledger::Ledger;

use super::step::{Plan, Verb};

/// From this many removals' worth of owned objects on, the share counts.
const AT_LEAST: usize = 4;

/// Sets [`Plan::confirm`] where the plan must wait.
pub(super) fn guard(plan: &mut Plan, desired: &Desired, ledger: &Ledger) {
    let removed = plan
        .steps
        .iter()
        .filter(|step| matches!(step.verb, Verb::Delete | Verb::Release))
        .count();
    let owned = ledger.entries.len();
    if removed == 0 {
        return;
    }
    let objects = if owned == 1 { "object" } else { "objects" };
    if desired.empty {
        plan.confirm = Some(format!(
            "no definition was found at all, and it would remove {removed} of {owned} {objects}"
        ));
    } else if owned >= AT_LEAST && removed * 4 > owned {
        plan.confirm = Some(format!("it would remove {removed} of {owned} {objects}"));
    }
}
