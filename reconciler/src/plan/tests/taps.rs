//! A running guest's taps, and its side of the cable.

use super::*;

/// What a plan does to the guest's cable and its tap, in order.
fn words(case: &Case) -> Vec<&'static str> {
    let plan = case.plan();
    let effects = plan.steps.iter().flat_map(|step| &step.effects);
    effects
        .filter_map(|effect| match effect {
            Effect::EnsureTap { .. } => Some("tap"),
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
