//! Who may write to an image: one guest at a time, or those who say that they share it.

use super::*;

fn writes(name: &str, disk: &str) -> String {
    format!("domain: {name}\nmemory: 512 MiB\nkernel: /boot/vmlinuz\ndisks:\n- {disk}\n")
}

fn guests(one: &str, other: &str) -> Desired {
    let (one, other) = (writes("one", one), writes("other", other));
    let files = [ALL[1], ALL[2], ("one.yaml", &*one), ("other.yaml", &*other)];
    build(&files, &Ledger::default())
}

#[test]
fn two_guests_that_would_write_one_image_are_refused_and_told_of_each_other() {
    let desired = guests(
        "{volume: images/web.qcow2}",
        "{file: /images/web.qcow2, format: qcow2}",
    );
    assert_eq!(rules(&desired), ["image-in-use", "image-in-use"]);
    assert!(named(&desired, Kind::Domain, "one").is_none());
    let of_one = desired
        .problems
        .iter()
        .find(|problem| problem.object.as_ref().is_some_and(|id| id.name == "one"))
        .unwrap();
    assert_eq!(
        of_one.message,
        "/images/web.qcow2 is written by one here and is written by other at other.yaml:5: they cannot both have it open"
    );
    assert_eq!(of_one.location.as_ref().unwrap().line, 5);
}

#[test]
fn an_image_may_be_read_by_many_and_shared_by_those_who_say_so() {
    for disk in [
        "{file: /a.raw, readonly: true}",
        "{file: /a.raw, shareable: true}",
    ] {
        assert_eq!(guests(disk, disk).problems, [], "{disk}");
    }
    assert_eq!(
        rules(&guests("{file: /a.raw, readonly: true}", "{file: /a.raw}")),
        ["image-in-use", "image-in-use"]
    );
}

#[test]
fn a_backing_file_is_not_written_below_its_layers() {
    let layer = "volume: images/layer.qcow2\nformat: qcow2\nbackingStore: {path: /images/web.qcow2, format: qcow2}\n";
    let over = writes("over", "{volume: images/layer.qcow2}");
    let second = writes("second", "{volume: images/second.qcow2}");
    let more = layer.replace("layer.qcow2\nf", "second.qcow2\nf");
    let below = writes("below", "{volume: images/web.qcow2}");
    let mut files = vec![
        ALL[1],
        ALL[2],
        ("l.yaml", layer),
        ("m.yaml", &*more),
        ("o.yaml", &*over),
        ("s.yaml", &*second),
    ];
    assert_eq!(build(&files, &Ledger::default()).problems, []);
    files.push(("b.yaml", &*below));
    assert_eq!(
        rules(&build(&files, &Ledger::default())),
        ["image-in-use"; 3]
    );
}

#[test]
fn a_guest_that_is_wanted_stopped_has_no_image_open() {
    let (one, other) = (
        writes("one", "{file: /a.raw}"),
        writes("other", "{file: /a.raw}") + "policy: {state: stopped}\n",
    );
    let files = [("one.yaml", &*one), ("other.yaml", &*other)];
    assert_eq!(build(&files, &Ledger::default()).problems, []);
}

#[test]
fn a_guest_that_runs_is_held_when_another_wants_its_image() {
    let one = writes("one", "{file: /a.raw}");
    let ledger = applied(&[("one.yaml", &one)]);
    let other = writes("other", "{file: /a.raw}");
    let desired = build(&[("one.yaml", &one), ("other.yaml", &other)], &ledger);
    assert!(named(&desired, Kind::Domain, "one").is_some());
    assert!(named(&desired, Kind::Domain, "other").is_none());
    assert_eq!(desired.held.len(), 1);
    assert!(desired.departed.is_empty());
}
