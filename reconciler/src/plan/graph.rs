//! The order of a plan's steps.
//!
//! In: steps in any order, each with everything that it needs. Out: `needs` cut down to objects that have a step in the plan, steps that cannot be without
//! something that is refused turned into refusals, and the rest in an order that satisfies every need; among steps that could go next, the least object goes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use vireo_schema::Rule;

use crate::object::ObjectId;

use super::context::Context;
use super::step::{Plan, Refusal, Step, Verb};

/// Cuts needs down to what the plan holds, and orders the steps.
pub(super) fn settle(plan: &mut Plan) {
    let there: BTreeSet<ObjectId> = plan.steps.iter().map(|step| step.object.clone()).collect();
    for step in &mut plan.steps {
        let object = step.object.clone();
        step.needs
            .retain(|need| *need != object && there.contains(need));
        step.needs.sort();
        step.needs.dedup();
    }
    order(plan);
}

/// Whether the step brings something about that is in vain while something it needs is refused.
const fn brings_about(verb: Verb) -> bool {
    matches!(verb, Verb::Create | Verb::Start | Verb::Restart)
}

/// Turns steps that need something refused into refusals, and what needs those, until there are no more.
pub(super) fn block(plan: &mut Plan, context: &Context<'_>) {
    let mut refused: BTreeMap<ObjectId, ()> = plan
        .refusals
        .iter()
        .filter_map(|refusal| Some((refusal.object.clone()?, ())))
        .collect();
    loop {
        let blocked: Vec<(ObjectId, ObjectId)> = plan
            .steps
            .iter()
            .filter(|step| brings_about(step.verb))
            .filter_map(|step| {
                let need = step.needs.iter().find(|need| refused.contains_key(need))?;
                Some((step.object.clone(), need.clone()))
            })
            .collect();
        if blocked.is_empty() {
            return;
        }
        for (object, need) in blocked {
            plan.steps.retain(|step| step.object != object);
            plan.refusals.push(Refusal {
                location: context
                    .desired
                    .objects
                    .get(&object)
                    .map(|wanted| wanted.location.clone()),
                message: format!("{object} needs {need}, which is refused"),
                help: None,
                rule: Rule::Blocked.to_string(),
                object: Some(object.clone()),
            });
            refused.insert(object, ());
        }
    }
}

/// Orders the steps. Needs that go in a circle cannot come from a checked [`crate::desired::Desired`]; were there one, its steps are refused.
fn order(plan: &mut Plan) {
    let mut steps: Vec<Option<Step>> = std::mem::take(&mut plan.steps)
        .into_iter()
        .map(Some)
        .collect();
    let place: BTreeMap<ObjectId, usize> = steps
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, step)| (step.object.clone(), index))
        .collect();
    let mut missing = vec![0_usize; steps.len()];
    let mut waiters: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, step) in steps.iter().flatten().enumerate() {
        for need in step.needs.iter().filter_map(|need| place.get(need)) {
            missing[index] += 1;
            waiters.entry(*need).or_default().push(index);
        }
    }
    let key = |steps: &[Option<Step>], index: usize| {
        let object = steps[index].as_ref().map(|step| step.object.clone());
        Reverse((object, index))
    };
    let mut ready: BinaryHeap<_> = (0..steps.len())
        .filter(|index| missing[*index] == 0)
        .map(|index| key(&steps, index))
        .collect();
    while let Some(Reverse((_, index))) = ready.pop() {
        plan.steps.extend(steps[index].take());
        for waiter in waiters.remove(&index).unwrap_or_default() {
            missing[waiter] -= 1;
            if missing[waiter] == 0 {
                ready.push(key(&steps, waiter));
            }
        }
    }
    for step in steps.into_iter().flatten() {
        plan.refusals.push(Refusal {
            object: Some(step.object.clone()),
            location: None,
            message: format!("{} needs itself by way of others", step.object),
            help: Some("break the circle of dependsOn".to_owned()),
            rule: Rule::DependencyCycle.to_string(),
        });
    }
}
