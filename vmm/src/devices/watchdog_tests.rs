use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::notice::{Notices, channel};

/// A watchdog on a clock of the test's own, in milliseconds.
struct Rig {
    device: Watchdog,
    now: Arc<AtomicU64>,
    notices: Notices,
    _worker: Arc<Worker>,
}

impl Rig {
    /// Of a guest that runs.
    fn new() -> Self {
        let worker = Worker::spawn("test", || Ok(())).unwrap();
        let (notifier, notices) = channel().unwrap();
        let now = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&now);
        let clock = Box::new(move || Duration::from_millis(clock.load(Ordering::SeqCst)));
        let device = Watchdog::with_clock(notifier, &worker, clock).unwrap();
        device.control().release();
        Self {
            device,
            now,
            notices,
            _worker: worker,
        }
    }

    /// Time passes, a millisecond at a time. How often the guest's end came.
    fn pass(&mut self, milliseconds: u64) -> usize {
        for _ in 0..milliseconds {
            self.now.fetch_add(1, Ordering::SeqCst);
            lock(&self.device.engine).look();
        }
        self.notices.drain().len()
    }

    fn unlocked(&mut self, offset: u64, data: &[u8]) {
        for word in UNLOCK {
            self.device.write_bar(0, RELOAD, &word.to_le_bytes());
        }
        self.device.write_bar(0, offset, data);
    }

    /// Two stages of about a second and half a second, and on.
    fn start(&mut self, lock: u8) {
        self.unlocked(0, &1000_u32.to_le_bytes());
        self.unlocked(4, &500_u32.to_le_bytes());
        self.device.write_config(LOCK, &[lock | ENABLED]);
    }

    fn feed(&mut self) {
        self.unlocked(RELOAD, &FEED.to_le_bytes());
    }

    fn told(&mut self) -> u16 {
        let mut word = [0; 2];
        self.device.read_bar(0, RELOAD, &mut word);
        u16::from_le_bytes(word)
    }
}

#[test]
fn a_guest_that_feeds_it_lives_and_one_that_stops_is_told_of_once() {
    let mut rig = Rig::new();
    rig.start(0);
    for _ in 0..10 {
        assert_eq!(rig.pass(1400), 0);
        rig.feed();
    }
    assert_eq!(rig.pass(1400), 0);
    assert_eq!(rig.pass(200), 1);
    assert_eq!(rig.pass(60_000), 0);
}

#[test]
fn it_does_nothing_until_it_is_turned_on_and_after_it_is_turned_off() {
    let mut rig = Rig::new();
    rig.feed();
    assert_eq!(rig.pass(60_000), 0);
    rig.start(0);
    rig.device.write_config(LOCK, &[0]);
    assert_eq!(rig.pass(60_000), 0);
}

#[test]
fn time_stands_still_while_the_guest_rests() {
    let mut rig = Rig::new();
    rig.start(0);
    assert_eq!(rig.pass(1200), 0);
    rig.device.control().hold();
    rig.device.control().hold();
    assert_eq!(rig.pass(60_000), 0);
    rig.device.control().release();
    assert_eq!(rig.pass(250), 0, "of the second stage 0.3 s are left");
    assert_eq!(rig.pass(100), 1);
}

#[test]
fn what_is_begun_at_rest_begins_when_the_guest_runs() {
    let mut rig = Rig::new();
    rig.device.control().hold();
    rig.start(0);
    assert_eq!(rig.pass(10_000), 0);
    rig.device.control().release();
    assert_eq!((rig.pass(1400), rig.pass(200)), (0, 1));
}

#[test]
fn a_locked_watchdog_stays_on_until_a_reset() {
    let mut rig = Rig::new();
    rig.start(LOCKED);
    rig.device.write_config(LOCK, &[0]);
    assert_eq!(rig.pass(2000), 1);
    rig.start(LOCKED);
    rig.device.reset();
    assert_eq!(rig.pass(60_000), 0);
    let mut byte = [0xff];
    rig.device.read_config(LOCK, &mut byte);
    assert_eq!(byte, [0]);
}

#[test]
fn the_guest_learns_after_its_reset_that_the_watchdog_was_why() {
    let mut rig = Rig::new();
    rig.start(0);
    assert_eq!(rig.told(), 0);
    rig.pass(2000);
    rig.device.reset();
    assert_eq!(rig.told(), TIMED_OUT);
    rig.unlocked(RELOAD, &(TIMED_OUT | FEED).to_le_bytes());
    assert_eq!(rig.told(), 0);
}

#[test]
fn nothing_is_taken_without_the_sequence_that_unlocks_it() {
    let mut rig = Rig::new();
    rig.start(0);
    rig.device.write_bar(0, 0, &9_u32.to_le_bytes());
    rig.device.write_bar(0, RELOAD, &UNLOCK[1].to_le_bytes());
    rig.device.write_bar(0, 4, &9_u32.to_le_bytes());
    let mut dword = [0; 4];
    for (at, length) in [(0, 1000), (4, 500)] {
        rig.device.read_bar(0, at, &mut dword);
        assert_eq!(u32::from_le_bytes(dword), length);
    }
    rig.pass(1400);
    rig.device.write_bar(0, RELOAD, &FEED.to_le_bytes());
    assert_eq!(rig.pass(200), 1);
}

#[test]
fn the_first_stage_shows_its_end_and_a_free_running_one_begins_again() {
    let mut rig = Rig::new();
    rig.device.write_config(CONFIG, &OUTPUT_OFF.to_le_bytes());
    rig.start(FREE_RUNNING);
    let mut status = [0; 4];
    for _ in 0..3 {
        rig.pass(1100);
        rig.device.read_bar(0, INTERRUPT, &mut status);
        assert_eq!(status, [1, 0, 0, 0]);
        rig.device.write_bar(0, INTERRUPT, &[1, 0, 0, 0]);
        rig.device.read_bar(0, INTERRUPT, &mut status);
        assert_eq!(status, [0; 4]);
        assert_eq!(rig.pass(500), 0, "its output is off");
    }
}

#[test]
fn the_timer_itself_ends_a_stage() {
    let worker = Worker::spawn("test", || Ok(())).unwrap();
    let (notifier, notices) = channel().unwrap();
    let mut device = Watchdog::new(notifier, &worker).unwrap();
    device.control().release();
    for at in PRELOADS {
        for word in UNLOCK {
            device.write_bar(0, RELOAD, &word.to_le_bytes());
        }
        device.write_bar(0, at, &1_u32.to_le_bytes());
    }
    device.write_config(LOCK, &[ENABLED]);
    let end = Instant::now() + Duration::from_secs(10);
    while notices.drain().is_empty() {
        assert!(Instant::now() < end, "no notice came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

proptest! {
    #[test]
    fn no_access_panics(accesses in prop::collection::vec((any::<bool>(), 0_u16..256, prop::collection::vec(any::<u8>(), 1..5), 0_u64..2000), 0..60)) {
        let mut rig = Rig::new();
        for (memory, offset, data, milliseconds) in accesses {
            if memory {
                rig.device.write_bar(0, u64::from(offset % 16), &data);
                rig.device.read_bar(0, u64::from(offset % 16), &mut data.clone());
            } else {
                let data = &data[..data.len().min(4 - usize::from(offset % 4))];
                rig.device.write_config(offset, data);
                rig.device.read_config(offset, &mut data.to_vec());
            }
            rig.pass(milliseconds / 100);
        }
    }
}
