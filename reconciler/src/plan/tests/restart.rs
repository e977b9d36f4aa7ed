//! Restarts that somebody asks for, and guests whose process is kept for a look.

use super::*;
use crate::object::ObjectId;
use crate::plan::{RestartError, restart};

fn web() -> ObjectId {
    make::id(Kind::Domain, "web")
}

impl Case {
    fn restart(&self) -> Result<Plan, RestartError> {
        restart(&self.desired, &self.host, &self.ledger, &web())
    }
}

#[test]
fn a_restart_makes_what_waits_for_it_whatever_the_policy_allows() {
    let mut case = Case::made(make::small());
    case.edit_guest(|guest| guest.memory.maximum = Bytes::gib(1));
    assert!(case.text().contains("or run `vireo restart web`"));
    let before = case.host.guests[&web().uuid].launch.clone();
    let plan = case.restart().unwrap();
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(plan.steps[0].verb, Verb::Restart);
    assert_eq!(plan.steps[0].differences.len(), 1);
    apply::all(&plan, &mut case.host, &mut case.ledger);
    let after = &case.host.guests[&web().uuid].launch;
    assert_eq!(after.domain.memory.maximum, Bytes::gib(1));
    assert_ne!(after.generation, before.generation);
    let left = case.plan();
    assert!(
        left.steps.is_empty() && left.pending.is_empty(),
        "{}",
        case.text()
    );
}

#[test]
fn a_balloon_beyond_what_the_guest_was_built_with_waits_with_the_memory() {
    let mut case = Case::made(make::small());
    case.edit_guest(|guest| {
        guest.memory.maximum = Bytes::gib(1);
        guest.memory.current = Bytes::mib(900);
    });
    let plan = case.plan();
    assert!(plan.steps.is_empty(), "{}", case.text());
    assert_eq!(plan.pending[0].differences.len(), 2);
}

#[test]
fn a_guest_without_a_change_is_restarted_all_the_same_and_alone() {
    let mut case = Case::made(make::small());
    // Damage elsewhere is not this plan's business.
    case.host.dnsmasq.clear();
    let plan = case.restart().unwrap();
    assert!(
        plan.steps
            .iter()
            .any(|step| step.object == web() && step.verb == Verb::Restart)
    );
    assert!(
        plan.steps
            .iter()
            .all(|step| step.object == web() || step.object.kind == Kind::Network),
        "the guest, and the network that it needs"
    );
    assert!(
        plan.steps
            .iter()
            .all(|step| step.object != web() || step.why.contains("asked for"))
    );
}

#[test]
fn a_guest_that_does_not_run_is_started() {
    let mut case = Case::made(make::small());
    case.host.guests.get_mut(&web().uuid).unwrap().state = GuestState::Ended {
        reason: "crash".to_owned(),
    };
    assert_eq!(case.restart().unwrap().steps[0].verb, Verb::Start);
}

#[test]
fn what_is_wanted_stopped_suspended_or_undefined_is_not_restarted() {
    let mut case = Case::made(make::small());
    let other = restart(
        &case.desired,
        &case.host,
        &case.ledger,
        &make::id(Kind::Domain, "db"),
    );
    assert!(matches!(other, Err(RestartError::Undefined(_))));
    case.wanted(Kind::Domain, "web").policy.suspend = true;
    assert!(matches!(case.restart(), Err(RestartError::Refused { .. })));
    case.wanted(Kind::Domain, "web").policy.suspend = false;
    case.edit_guest(|guest| guest.lifecycle.wanted = WantedState::Stopped);
    assert_eq!(case.restart(), Err(RestartError::Stopped(web())));
}

#[test]
fn a_guest_that_was_paused_for_a_disks_error_is_told_of_and_stays_so_until_somebody_lets_it_go_on()
{
    let mut case = Case::made(make::small());
    let state = |case: &mut Case, why: Option<&str>| {
        case.host.guests.get_mut(&web().uuid).unwrap().state = GuestState::Paused {
            pid: 2,
            why: why.map(str::to_owned),
        };
    };
    state(
        &mut case,
        Some("disk vda could not write: No space left on device"),
    );
    let plan = case.plan();
    assert!(plan.steps.is_empty(), "{}", case.text());
    assert_eq!(
        plan.held[0].why,
        "it was paused: disk vda could not write: No space left on device; `vireo resume web` lets it go on"
    );
    // All else of it is kept as it is wanted.
    case.edit_guest(|guest| guest.tuning.shares = Some(2048));
    let plan = case.plan();
    assert_eq!((plan.steps.len(), plan.held.len()), (1, 1));
    assert_eq!(case.restart().unwrap().steps[0].verb, Verb::Restart);
    case.edit_guest(|guest| guest.lifecycle.wanted = WantedState::Paused);
    assert_eq!(case.plan().held, []);
    case.edit_guest(|guest| guest.lifecycle.wanted = WantedState::Running);
    case.settle();
    state(&mut case, None);
    assert_eq!(
        case.plan().steps[0].why,
        "it is paused, and its policy wants it running"
    );
}

#[test]
fn a_guest_whose_process_is_kept_for_a_look_is_told_of_and_left_alone_until_its_restart_is_asked_for()
 {
    let mut case = Case::made(make::small());
    case.host.guests.get_mut(&web().uuid).unwrap().state = GuestState::Preserved {
        pid: 2,
        reason: "crash".to_owned(),
    };
    case.edit_guest(|guest| {
        guest.memory.maximum = Bytes::gib(1);
        guest.tuning.shares = Some(2048);
    });
    let plan = case.plan();
    assert!(
        plan.steps.is_empty() && plan.pending.is_empty(),
        "{}",
        case.text()
    );
    assert_eq!(
        plan.held[0].why,
        "it has ended (crash), and its process is kept for a look as its definition says; `vireo restart web` starts it again"
    );
    assert_eq!(case.restart().unwrap().steps[0].verb, Verb::Restart);
    case.edit_guest(|guest| guest.lifecycle.wanted = WantedState::Stopped);
    assert_eq!(case.plan().steps[0].verb, Verb::Stop);
}
