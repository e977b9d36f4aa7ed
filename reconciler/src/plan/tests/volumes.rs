//! Volumes: what is lost is told, what is another's is left alone, and what holds data grows and never shrinks.

use super::*;

#[test]
fn a_volume_that_is_lost_is_reported_and_its_guest_not_started() {
    let mut case = Case::made(make::small());
    case.host.files.remove(Path::new("/images/web.qcow2"));
    let web = make::uuid(Kind::Domain, "web");
    case.host.guests.get_mut(&web).unwrap().state = GuestState::Ended {
        reason: "power-off".to_owned(),
    };
    let plan = case.plan();
    assert_eq!(plan.steps, []);
    let rules: Vec<&str> = plan.refusals.iter().map(|r| r.rule.as_str()).collect();
    assert_eq!(rules, ["data-loss", "blocked"]);
}

#[test]
fn a_volume_that_was_begun_and_never_made_is_not_lost() {
    let mut case = Case::bare(make::small());
    let plan = case.plan();
    let step = plan
        .steps
        .iter()
        .find(|step| step.object.kind == Kind::Volume);
    if let Some(Effect::Record(entry)) = step.and_then(|step| step.effects.first()) {
        case.ledger.record((**entry).clone());
    }
    assert_eq!(case.plan().refusals, []);
    case.settle();
}

#[test]
fn a_file_that_is_not_ours_is_never_taken_for_a_volume() {
    let mut case = Case::bare(make::small());
    let kernel = case.host.files[Path::new("/boot/vmlinuz")].clone();
    case.host
        .files
        .insert(PathBuf::from("/images/web.qcow2"), kernel);
    let plan = case.plan();
    assert_eq!(plan.refusals[0].rule, "exists");
    assert!(
        plan.steps
            .iter()
            .all(|step| step.object.kind != Kind::Volume)
    );
}

#[test]
fn a_volume_grows_in_the_guest_that_may_write_it_or_when_nobody_has_it_open_and_never_shrinks() {
    let grow = |objects: &mut Vec<Resolved>, size| {
        for object in objects {
            if let Resolved::Volume(volume) = object {
                volume.capacity = Some(size);
            }
        }
    };
    let mut case = Case::made(make::small());
    case.edit(|objects| grow(objects, Bytes::gib(15)));
    let plan = case.plan();
    assert_eq!(plan.steps[0].disruption, Disruption::Live);
    assert!(
        plan.steps[0].why.contains("as disk vda of web"),
        "{}",
        plan.steps[0].why
    );
    apply::all(&plan, &mut case.host, &mut case.ledger);
    case.settle();
    assert!(case.plan().is_empty());
    for guest in case.host.guests.values_mut() {
        guest.launch.domain.disks[0].readonly = true;
    }
    case.edit_guest(|guest| guest.disks[0].readonly = true);
    case.edit(|objects| grow(objects, Bytes::gib(20)));
    let volumes = |step: &Step| step.object.kind == Kind::Volume;
    assert!(!case.plan().steps.iter().any(volumes));
    assert_eq!(case.plan().pending[0].needs, Disruption::NextBoot);
    case.edit_guest(|guest| guest.lifecycle.wanted = WantedState::Stopped);
    apply::all(&case.plan(), &mut case.host, &mut case.ledger);
    case.settle();
    assert!(case.plan().is_empty());
    case.edit(|objects| grow(objects, Bytes::gib(5)));
    assert_eq!(case.plan().refusals[0].rule, "would-shrink");
}
