use super::*;
use crate::devices::virtio::testing::{MEMORY, Rig, wait_until, worker};
use proptest::prelude::*;
use std::sync::atomic::Ordering;

const LIST: u64 = 0x10000;

fn spec() -> Spec {
    Spec {
        memory: Bytes(MEMORY as u64),
        target: None,
        period: None,
        deflate_on_oom: true,
        free_page_reporting: true,
    }
}

fn rig(features: u64) -> (Rig<Balloon>, BalloonControl) {
    rig_of(&spec(), features)
}

fn rig_of(spec: &Spec, features: u64) -> (Rig<Balloon>, BalloonControl) {
    let device = Balloon::new(spec, worker()).unwrap();
    let control = device.control();
    (Rig::new(device, features), control)
}

fn list(rig: &mut Rig<Balloon>, queue: usize, pages: &[u32]) {
    let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
    rig.write(LIST, &bytes);
    rig.queues[queue].add(&[(LIST, bytes.len() as u32, false)]);
    assert_eq!(rig.queues[queue].run(1).len(), 1);
}

#[test]
fn pages_given_up_are_zero_and_their_neighbours_are_not() {
    let (mut rig, _) = rig(0);
    rig.write(0x100000, &[0x11; 8 * 4096]);
    list(&mut rig, 0, &[0x102, 0x101, 0x105, 0x106]);
    for page in 0..8u64 {
        let gone = [1, 2, 5, 6].contains(&page);
        let byte = if gone { 0 } else { 0x11 };
        assert_eq!(
            rig.read(0x100000 + page * 4096, 4096),
            vec![byte; 4096],
            "page {page}"
        );
    }
    list(&mut rig, 1, &[0x101]);
    rig.write(0x101000, &[5]);
    assert_eq!(rig.read(0x101000, 1), [5], "taken back");
}

#[test]
fn pages_that_are_not_there_are_skipped() {
    let (mut rig, _) = rig(0);
    rig.write(0x100000, &[0x11; 4096]);
    list(
        &mut rig,
        0,
        &[u32::MAX, (MEMORY / 4096) as u32, u32::MAX - 1, 0x100],
    );
    assert_eq!(rig.read(0x100000, 1), [0]);
    assert!(!rig.told.broken());
}

#[test]
fn the_target_is_told_and_the_answer_is_seen() {
    let (mut rig, control) = rig(0);
    assert_eq!(control.target(), Bytes(MEMORY as u64));
    control.set_target(Bytes(MEMORY as u64 - 10 * 4096));
    assert_eq!(rig.told.config_changes.load(Ordering::SeqCst), 1);
    let mut config = [0; 8];
    rig.device.read_config(0, &mut config);
    assert_eq!(config, [10, 0, 0, 0, 0, 0, 0, 0]);
    rig.device.write_config(4, &4u32.to_le_bytes());
    assert_eq!(control.actual(), Bytes(MEMORY as u64 - 4 * 4096));
    rig.device.write_config(4, &u32::MAX.to_le_bytes());
    assert_eq!(control.actual(), Bytes(0), "a claim of more than there is");
    rig.device.write_config(0, &[9; 4]);
    assert_eq!(
        control.target(),
        Bytes(MEMORY as u64 - 10 * 4096),
        "the guest cannot set it"
    );
}

fn statistic(tag: u16, value: u64) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat()
}

#[test]
fn a_report_is_kept_until_the_next_is_wanted() {
    let (mut rig, control) = rig(F_STATS);
    rig.write(
        LIST,
        &[statistic(4, 1 << 20), statistic(5, 4 << 20)].concat(),
    );
    rig.queues[2].add(&[(LIST, 20, false)]);
    rig.queues[2].kick();
    let expected = BTreeMap::from([
        ("unused".to_owned(), 1 << 20),
        ("available".to_owned(), 4 << 20),
    ]);
    wait_until("the report is read", || {
        control.stats().reported == expected
    });
    assert!(control.stats().reported_at.is_some());
    wait_until("the report is given back", || {
        rig.queues[2].used() == [(0, 0)]
    });
    assert_eq!(control.stats().reported, expected);
    assert!(rig.queues[2].used().is_empty(), "given back once");
}

#[test]
fn a_guest_is_asked_for_the_next_report_when_its_time_has_come() {
    let period = Some(1);
    let (mut rig, control) = rig_of(&Spec { period, ..spec() }, F_STATS);
    rig.write(LIST, &statistic(6, 7));
    for _ in 0..2 {
        rig.queues[2].add(&[(LIST, 10, false)]);
        rig.queues[2].kick();
        wait_until("the report is read", || {
            control.stats().reported.get("usable") == Some(&7)
        });
        wait_until("the next is asked for", || !rig.queues[2].used().is_empty());
    }
    rig.device.reset();
    assert_eq!(control.stats().reported_at, None);
}

#[test]
fn reports_of_what_nobody_knows_are_bounded_and_left_out() {
    let (mut rig, control) = rig(F_STATS);
    let many: Vec<u8> = (0..2000_u16)
        .flat_map(|tag| statistic(tag ^ 0x8000, u64::MAX))
        .collect();
    rig.write(LIST, &many);
    rig.write(LIST + 10, &statistic(0, u64::MAX));
    rig.queues[2].add(&[(LIST, many.len() as u32, false)]);
    rig.queues[2].kick();
    wait_until("the report is read", || {
        control.stats().reported_at.is_some()
    });
    assert_eq!(
        control.stats().reported,
        BTreeMap::from([("swap-in".to_owned(), u64::MAX)])
    );
}

#[test]
fn what_is_offered_is_what_was_configured() {
    let plain = Spec {
        deflate_on_oom: false,
        free_page_reporting: false,
        ..spec()
    };
    let offered = |spec: &Spec| Balloon::new(spec, worker()).unwrap().features();
    assert_eq!(offered(&plain), F_STATS);
    assert_eq!(offered(&spec()), F_STATS | F_DEFLATE_ON_OOM | F_REPORTING);
}

#[test]
fn reported_free_pages_are_given_up_wherever_the_queue_is() {
    for (features, queue) in [(F_REPORTING, 2), (F_STATS | F_REPORTING, 3)] {
        let (mut rig, _) = rig(features);
        rig.write(0x200000, &[0x22; 3 * 4096]);
        rig.queues[queue].add(&[(0x200100, 2 * 4096, true)]);
        assert_eq!(rig.queues[queue].run(1).len(), 1);
        assert_eq!(
            rig.read(0x200000, 4096),
            [0x22; 4096],
            "a page that is not wholly free"
        );
        assert_eq!(rig.read(0x201000, 4096), [0; 4096]);
        assert_eq!(rig.read(0x202000, 4096), [0x22; 4096]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_lists_never_panic(pages in prop::collection::vec(any::<u32>(), 1..300), queue in 0usize..4, odd in 0u32..4) {
        // The queues themselves are in the first pages: numbers that hit them are the guest's own harm, but would end this test.
        let pages: Vec<u32> = pages.into_iter().filter(|&page| page >= 32).collect();
        let (mut rig, control) = rig(F_STATS | F_REPORTING);
        let bytes: Vec<u8> = pages.iter().flat_map(|page| page.to_le_bytes()).collect();
        rig.write(LIST, &bytes);
        rig.queues[queue].add(&[(LIST, (bytes.len() as u32).saturating_sub(odd), false)]);
        rig.queues[queue].kick();
        control.stats();
        control.set_target(Bytes(u64::from(odd)));
        rig.device.reset();
        prop_assert!(!rig.told.broken());
    }
}
