//! A running guest's taps, and its side of the cable.

use crate::inventory::LinkKind;
use crate::resolve::domain::{DirectMode, InterfaceSource};

use super::*;

/// What a plan does to the guest's cable and its tap, in order.
fn words(case: &Case) -> Vec<&'static str> {
    let plan = case.plan();
    let effects = plan.steps.iter().flat_map(|step| &step.effects);
    effects
        .filter_map(|effect| match effect {
            Effect::EnsureTap { .. } => Some("tap"),
            Effect::EnsureMacvtap(_) => Some("macvtap"),
            Effect::StartGuest(_) => Some("start"),
            Effect::ShutdownGuest { .. } => Some("stop"),
            Effect::SetGuestLink { up: false, .. } => Some("cable out"),
            Effect::SetGuestLink { up: true, .. } => Some("cable in"),
            Effect::Nft(_) => Some("rules"),
            Effect::SetLink { up: true, .. } => Some("up"),
            Effect::SetLink { up: false, .. } => Some("down"),
            _ => None,
        })
        .collect()
}

#[test]
fn a_guest_whose_tap_is_gone_has_another_its_cable_put_in_anew_and_the_tap_up_last() {
    let mut case = Case::made(filtered());
    case.host.links.remove(&tap("web"));
    case.host.tables.clear();
    assert_eq!(
        words(&case),
        ["rules", "tap", "rules", "cable out", "cable in", "up"]
    );
}

#[test]
fn a_tap_that_is_down_may_have_been_made_by_a_run_that_was_cut_and_is_given_to_its_guest_again() {
    let mut case = Case::made(make::small());
    case.host.links.get_mut(&tap("web")).unwrap().up = false;
    assert_eq!(words(&case), ["tap", "cable out", "cable in", "up"]);
}

#[test]
fn a_cable_that_is_to_be_out_is_pulled_before_its_tap_goes_down() {
    let mut case = Case::made(make::small());
    case.edit_guest(|guest| guest.interfaces[0].link_up = false);
    assert_eq!(words(&case), ["cable out", "down"]);
    case.settle();
    assert!(case.plan().is_empty());
    case.host.links.remove(&tap("web"));
    assert_eq!(words(&case), ["tap"]);
}

fn allow(case: &mut Case, disruption: Disruption) {
    case.wanted(Kind::Domain, "web").policy.disruption = disruption;
}

/// The host with a guest that shares its device.
fn sharing() -> Case {
    let mut case = Case::made(make::small());
    let mut device = case.host.links["virbr0"].clone();
    (device.kind, device.owner) = (LinkKind::Other, None);
    case.host.links.insert("eth0".to_owned(), device);
    case.edit_guest(|guest| {
        guest.interfaces[0].source = InterfaceSource::Direct {
            device: "eth0".to_owned(),
            mode: DirectMode::Bridge,
        };
    });
    case
}

#[test]
fn a_guest_that_is_to_share_a_device_waits_for_a_restart_and_has_a_macvtap_then() {
    let mut case = sharing();
    assert_eq!(words(&case), [""; 0]);
    assert_eq!(case.plan().pending.len(), 1, "{}", case.text());
    allow(&mut case, Disruption::Restart);
    assert_eq!(words(&case), ["stop", "macvtap", "up", "start"]);
    case.settle();
    assert!(case.plan().is_empty(), "{}", case.text());
}

#[test]
fn a_macvtap_that_is_gone_takes_a_restart_and_is_not_put_in_place_of_the_old_one() {
    let mut case = sharing();
    allow(&mut case, Disruption::Restart);
    case.settle();
    case.host.links.remove(&tap("web"));
    assert_eq!(words(&case), ["stop", "macvtap", "up", "start"]);
    allow(&mut case, Disruption::Live);
    assert_eq!(words(&case), [""; 0]);
    let why = &case.plan().pending[0].why;
    assert!(why.starts_with("its macvtap is gone"), "{why}");
}

#[test]
fn a_device_that_the_host_does_not_have_is_not_shared() {
    let mut case = sharing();
    case.host.links.remove("eth0");
    case.host.guests.clear();
    let text = case.text();
    assert!(
        text.contains("device eth0 of interface 0 does not exist"),
        "{text}"
    );
}
