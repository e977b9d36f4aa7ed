//! Guests that run under another driver than the one that they would start under.

use super::*;
use crate::plan::restart;
use crate::resolve::Driver;
use crate::resolve::domain::Boot;
use crate::resolve::limits::Limits;

/// A guest that boots its disk and prefers builtin, and was started under QEMU by a vireo whose builtin driver could not run it.
fn under_qemu() -> Case {
    let mut case = Case::bare(make::small());
    case.edit_guest(|guest| {
        guest.boot = Boot::Disk {
            target: "vda".to_owned(),
            cmdline: String::new(),
        };
    });
    case.settle();
    let web = make::uuid(Kind::Domain, "web");
    let runs = &mut case.host.guests.get_mut(&web).unwrap().launch.domain;
    runs.driver = Driver::Qemu;
    runs.driver_why = "it boots firmware".to_owned();
    runs.boot = Boot::Firmware {
        efi: false,
        loader: None,
        flash: false,
        nvram: None,
        template: None,
        order: vec!["hd".to_owned()],
    };
    case
}

fn runs(case: &Case) -> &Domain {
    &case.host.guests[&make::uuid(Kind::Domain, "web")]
        .launch
        .domain
}

#[test]
fn a_guest_is_never_restarted_because_another_driver_could_run_it_as_well() {
    let mut case = under_qemu();
    for allowed in [Disruption::Live, Disruption::NextBoot, Disruption::Restart] {
        case.wanted(Kind::Domain, "web").policy.disruption = allowed;
        let plan = case.plan();
        assert!(
            plan.is_empty() && plan.pending.is_empty(),
            "{}",
            case.text()
        );
        let notes: Vec<&str> = plan.notes.iter().map(|note| note.text.as_str()).collect();
        assert_eq!(
            notes,
            [
                "it runs under driver qemu, and will under builtin when it next starts: the builtin driver can do all of it"
            ]
        );
    }
}

#[test]
fn what_changes_live_changes_under_the_driver_that_runs_the_guest() {
    let mut case = under_qemu();
    case.edit_guest(|guest| guest.tuning.shares = Some(2048));
    let plan = case.plan();
    assert_eq!(plan.steps.len(), 1, "{}", case.text());
    assert_eq!(plan.steps[0].disruption, Disruption::Live);
    case.settle();
    assert_eq!(runs(&case).driver, Driver::Qemu);
    assert_eq!(runs(&case).tuning.shares, Some(2048));
}

#[test]
fn limits_that_qemu_tells_otherwise_are_put_back_where_there_is_a_rate() {
    let mut case = under_qemu();
    let mut tell = |change: fn(&mut Limits)| {
        for guest in case.host.guests.values_mut() {
            for disk in guest.disks.values_mut() {
                change(&mut disk.limits);
            }
        }
        case.plan().steps.len()
    };
    assert_eq!(tell(|limits| limits.group = Some("slow".to_owned())), 0);
    assert_eq!(tell(|limits| limits.total_requests = Some(limit(10))), 1);
    case.settle();
    let web = &case.host.guests[&make::uuid(Kind::Domain, "web")];
    assert!(!web.disks["vda"].limits.states_any());
}

#[test]
fn what_waits_for_a_restart_does_not_name_the_driver_and_the_restart_takes_the_preferred_one() {
    let mut case = under_qemu();
    case.edit_guest(|guest| guest.memory.maximum = Bytes::gib(1));
    let waits = case.plan().pending;
    assert_eq!(waits.len(), 1);
    let fields: Vec<&str> = waits[0]
        .differences
        .iter()
        .map(|d| d.field.as_str())
        .collect();
    assert_eq!(fields, ["memory"]);
    case.wanted(Kind::Domain, "web").policy.disruption = Disruption::Restart;
    assert_eq!(case.plan().steps[0].verb, Verb::Restart);
    case.settle();
    assert_eq!(runs(&case).driver, Driver::Builtin);
}

#[test]
fn a_restart_that_is_asked_for_takes_the_preferred_driver() {
    let mut case = under_qemu();
    let web = make::id(Kind::Domain, "web");
    let plan = restart(&case.desired, &case.host, &case.ledger, &web).unwrap();
    apply::all(&plan, &mut case.host, &mut case.ledger);
    assert_eq!(runs(&case).driver, Driver::Builtin);
    assert!(case.plan().is_empty(), "{}", case.text());
}

#[test]
fn a_policy_that_pins_another_driver_waits_for_leave() {
    let mut case = under_qemu();
    case.wanted(Kind::Domain, "web").policy.driver = Some(Driver::Builtin);
    let waits = case.plan().pending;
    assert!(
        waits[0]
            .differences
            .iter()
            .any(|d| d.field == "policy/driver")
    );
}
