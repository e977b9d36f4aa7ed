use super::*;
use crate::devices::virtio::testing::{Rig, wait_until, worker};
use std::time::Instant;

fn rig() -> Rig<Rng> {
    Rig::new(Rng::new(&Spec::default(), worker()).unwrap(), 0)
}

#[test]
fn buffers_come_back_full_of_random_bytes() {
    let mut rig = rig();
    let head = rig.queues[0].add(&[(0x10000, 100, true), (0x20000, 156, true)]);
    assert_eq!(rig.queues[0].run(1), [(head.into(), 256)]);
    assert!(rig.read(0x10000, 100).iter().any(|&byte| byte != 0));
    assert_ne!(rig.read(0x10000, 100), rig.read(0x20000, 100));
    assert_eq!(
        rig.read(0x20000 + 156, 8),
        [0; 8],
        "nothing beyond the buffer"
    );
    wait_until("the interrupt is sent", || rig.told.queues() == [0]);
}

#[test]
fn a_huge_buffer_gets_a_bounded_answer() {
    let mut rig = rig();
    rig.queues[0].add(&[(0x10000, 0x100000, true)]);
    let used = rig.queues[0].run(1);
    assert!(used[0].1 > 0 && used[0].1 <= MOST as u32, "{used:?}");
}

#[test]
fn a_greedy_guest_waits_for_its_budget() {
    let mut rig = rig();
    let start = Instant::now();
    let mut got = 0;
    while got < 3 * BURST {
        for _ in 0..8 {
            rig.queues[0].add(&[(0x10000, MOST as u32, true)]);
        }
        got += rig.queues[0]
            .run(8)
            .iter()
            .map(|&(_, len)| u64::from(len))
            .sum::<u64>();
    }
    assert!(start.elapsed() >= 2 * PERIOD, "{:?}", start.elapsed());
}

#[test]
fn a_buffer_the_device_may_not_write_gets_nothing() {
    let mut rig = rig();
    rig.queues[0].add(&[(0x10000, 16, false)]);
    assert_eq!(rig.queues[0].run(1), [(0, 0)]);
    assert!(!rig.told.broken());
}

#[test]
fn a_source_that_is_empty_gives_empty_answers() {
    let spec = Spec {
        source: "/dev/null".into(),
    };
    let mut rig = Rig::new(Rng::new(&spec, worker()).unwrap(), 0);
    rig.queues[0].add(&[(0x10000, 16, true)]);
    assert_eq!(rig.queues[0].run(1), [(0, 0)]);
}

#[test]
fn after_reset_the_queue_is_left_alone() {
    let mut rig = rig();
    rig.device.reset();
    rig.queues[0].add(&[(0x10000, 16, true)]);
    rig.queues[0].kick();
    std::thread::sleep(Duration::from_millis(20));
    assert!(rig.queues[0].used().is_empty());
}
