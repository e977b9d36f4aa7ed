//! What holds of every plan: its order, what it waits for, what its digest binds.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::ledger::{Entry, Holds};
use crate::object::ObjectId;
use crate::plan::step::{Disruption, Step};
use crate::plan::{graph, guard};

fn object(number: usize) -> ObjectId {
    let kinds = [Kind::Network, Kind::Pool, Kind::Volume, Kind::Domain];
    make::id(kinds[number % kinds.len()], &format!("n{number}"))
}

fn step(number: usize, verb: Verb, needs: &[usize]) -> Step {
    Step {
        object: object(number),
        verb,
        disruption: Disruption::Live,
        summary: String::new(),
        why: format!("step {number}"),
        differences: Vec::new(),
        needs: needs.iter().map(|need| object(*need)).collect(),
        effects: Vec::new(),
        undo: Vec::new(),
    }
}

/// Steps with needs of any kind: of each other, of themselves, of what has no step, in circles.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let needs = prop::collection::vec(prop::collection::vec(0_usize..24, 0..4), 0..20);
    let order = any::<prop::sample::Index>();
    (needs, order).prop_map(|(needs, order)| {
        let mut steps: Vec<Step> = needs
            .iter()
            .enumerate()
            .map(|(number, needs)| step(number, Verb::Create, needs))
            .collect();
        if !steps.is_empty() {
            let by = order.index(steps.len());
            steps.rotate_left(by);
        }
        steps
    })
}

fn settled(steps: Vec<Step>) -> Plan {
    let mut plan = Plan {
        steps,
        ..Plan::default()
    };
    graph::settle(&mut plan);
    plan
}

fn objects(steps: &[Step]) -> BTreeSet<ObjectId> {
    steps.iter().map(|step| step.object.clone()).collect()
}

proptest! {
    #[test]
    fn nothing_comes_before_what_it_needs(steps in steps()) {
        let plan = settled(steps);
        let mut done = BTreeSet::new();
        for step in &plan.steps {
            for need in &step.needs {
                prop_assert!(done.contains(need), "{} before {need}", step.object);
            }
            done.insert(step.object.clone());
        }
    }

    #[test]
    fn no_step_is_lost_and_those_in_circles_are_refused(steps in steps()) {
        let all = objects(&steps);
        let plan = settled(steps);
        let planned = objects(&plan.steps);
        let refused: BTreeSet<ObjectId> =
            plan.refusals.iter().filter_map(|refusal| refusal.object.clone()).collect();
        prop_assert!(planned.is_disjoint(&refused));
        prop_assert_eq!(planned.union(&refused).cloned().collect::<BTreeSet<_>>(), all);
        prop_assert!(plan.refusals.iter().all(|refusal| refusal.rule == "dependency-cycle"));
    }

    #[test]
    fn steps_that_need_only_earlier_ones_are_all_planned(needs in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 0..20)) {
        let steps: Vec<Step> = needs
            .iter()
            .enumerate()
            .map(|(number, needs)| {
                let needs: Vec<usize> = needs.iter().filter(|_| number > 0).map(|need| need.index(number.max(1))).collect();
                step(number, Verb::Create, &needs)
            })
            .collect();
        let count = steps.len();
        prop_assert_eq!(settled(steps).steps.len(), count);
    }

    #[test]
    fn the_order_of_steps_does_not_depend_on_how_they_were_found(steps in steps(), by in any::<prop::sample::Index>()) {
        let mut turned = steps.clone();
        if !turned.is_empty() {
            let by = by.index(turned.len());
            turned.rotate_left(by);
        }
        prop_assert_eq!(settled(steps).steps, settled(turned).steps);
    }

    #[test]
    fn what_is_left_out_takes_with_it_what_needs_it(steps in steps(), out in any::<prop::sample::Index>()) {
        let mut plan = settled(steps);
        if !plan.steps.is_empty() {
            let gone = plan.steps[out.index(plan.steps.len())].object.clone();
            plan.leave_out(|step| step.object == gone);
            let left = objects(&plan.steps);
            prop_assert!(!left.contains(&gone));
            for step in &plan.steps {
                prop_assert!(step.needs.iter().all(|need| left.contains(need)));
            }
        }
    }

    #[test]
    fn more_than_a_quarter_of_at_least_four_waits_and_no_less(owned in 1_usize..40, removed in 0_usize..40, created in 0_usize..5, empty: bool) {
        let removed = removed.min(owned);
        let mut ledger = Ledger::default();
        for number in 0..owned {
            ledger.record(Entry {
                object: object(number),
                file: PathBuf::from("a.yaml"),
                definition: String::new(),
                holds: Holds::default(),
                made: true,
            });
        }
        let removals = (0..removed).map(|number| {
            let verb = if number % 2 == 0 { Verb::Delete } else { Verb::Release };
            step(number, verb, &[])
        });
        let creations = (100..100 + created).map(|number| step(number, Verb::Create, &[]));
        let mut plan = Plan { steps: removals.chain(creations).collect(), ..Plan::default() };
        let desired = Desired { empty, ..Desired::default() };
        guard::guard(&mut plan, &desired, &ledger);
        let much = owned >= 4 && removed * 4 > owned;
        prop_assert_eq!(plan.confirm.is_some(), removed > 0 && (empty || much));
    }

    #[test]
    fn a_digest_binds_every_step_and_what_each_says(steps in steps(), which in any::<prop::sample::Index>(), what in 0..4) {
        let plan = settled(steps);
        let digest = plan.digest();
        prop_assert_eq!(&digest, &plan.clone().digest());
        if !plan.steps.is_empty() {
            let mut other = plan.clone();
            let which = which.index(other.steps.len());
            match what {
                0 => drop(other.steps.remove(which)),
                1 => other.steps[which].verb = Verb::Delete,
                2 => other.steps[which].why.push('.'),
                _ => other.confirm = Some("it would remove much".to_owned()),
            }
            prop_assert_ne!(&digest, &other.digest());
        }
    }
}
