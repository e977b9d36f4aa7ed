//! Where the threads of a guest's monitor run.

use std::collections::BTreeMap;

use vireo_reconciler::ledger::Ledger;
use vireo_reconciler::resolve::Driver;
use vireo_reconciler::resolve::domain::{Domain, Pins};

use super::{build, domain, rules};

/// A guest of two processors and three disks, the last of which has no thread by name.
fn guest(vcpu: &str, tune: &str, more: &str) -> Result<Domain, Vec<String>> {
    let disk = |target: &str, thread: &str| {
        format!(
            "<disk type='file'><driver name='qemu' type='raw'{thread}/><source file='/images/{target}.raw'/><target dev='{target}' bus='virtio'/></disk>"
        )
    };
    let text = format!(
        "<domain type='kvm'><name>a</name>{more}<memory>524288</memory>{vcpu}<iothreads>2</iothreads><cputune>{tune}</cputune>\
         <os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os><devices>{}{}{}</devices></domain>",
        disk("vda", " iothread='1'"),
        disk("vdb", " iothread='2'"),
        disk("vdc", ""),
    );
    let desired = build(&[("a.xml", &text)], &Ledger::default());
    let problems: Vec<String> = rules(&desired).into_iter().map(str::to_owned).collect();
    match problems.is_empty() {
        true => Ok(domain(&desired, "a").clone()),
        false => Err(problems),
    }
}

#[test]
fn a_thread_that_is_not_pinned_runs_where_the_processors_may_and_the_group_has_room_for_all() {
    let vcpu = "<vcpu cpuset='4-6,^5' current='2'>4</vcpu>";
    let pins = "<vcpupin vcpu='1' cpuset='0-1'/><vcpupin vcpu='3' cpuset='9'/><iothreadpin iothread='2' cpuset='7'/>";
    let a = guest(vcpu, pins, "").unwrap();
    assert_eq!(a.driver, Driver::Builtin, "{}", a.driver_why);
    assert_eq!(
        a.pins,
        Pins {
            emulator: Some([4, 6].into()),
            vcpus: BTreeMap::from([(0, [4, 6].into()), (1, [0, 1].into())]),
            disks: BTreeMap::from([
                ("vda".to_owned(), [4, 6].into()),
                ("vdb".to_owned(), [7].into()),
            ]),
        }
    );
    assert_eq!(a.tuning.cpuset.as_deref(), Some("0,1,4,6,7"));
}

#[test]
fn without_a_word_of_the_processors_only_what_is_pinned_is() {
    let a = guest("<vcpu>2</vcpu>", "<emulatorpin cpuset='1'/>", "").unwrap();
    let pins = Pins {
        emulator: Some([1].into()),
        ..Pins::default()
    };
    assert_eq!((a.pins, a.tuning.cpuset), (pins, None));
    let a = guest("<vcpu cpuset='0-1'>2</vcpu>", "", "").unwrap();
    assert_eq!(a.pins, Pins::default(), "the control group says it");
    assert_eq!(a.tuning.cpuset.as_deref(), Some("0-1"));
}

#[test]
fn pins_are_what_qemu_does_not_do() {
    let policy =
        "<metadata><vireo:policy xmlns:vireo='urn:vireo:policy:1' driver='qemu'/></metadata>";
    let refused = guest("<vcpu>2</vcpu>", "<vcpupin vcpu='0' cpuset='1'/>", policy);
    assert!(refused.is_err(), "{refused:?}");
}
