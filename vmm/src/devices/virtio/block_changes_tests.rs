//! What of a disk changes under a running guest: the limits of its requests, and its size.

use super::*;

fn limit(rate: u64) -> Option<crate::config::Limit> {
    Some(crate::config::Limit {
        rate,
        max: None,
        length: None,
    })
}

/// A disk that takes one write a second, and any number of reads.
fn slow(dir: &TempDir) -> Rig<Block> {
    rig(&Spec {
        limits: Limits {
            write_requests: limit(1),
            ..Limits::default()
        },
        ..raw(dir)
    })
}

/// Offers two writes, of which the second has to wait, and then a read.
fn offer_two_writes_and_a_read(rig: &mut Rig<Block>) {
    rig.write(HEADER, &header(T_OUT, 1));
    rig.write(HEADER + 16, &header(T_IN, 2));
    rig.queues[0].add(&[(HEADER, 16, false), (DATA, 512, false), (STATUS, 1, true)]);
    rig.queues[0].add(&[(HEADER, 16, false), (DATA, 512, false), (STATUS, 1, true)]);
    rig.queues[0].add(&[
        (HEADER + 16, 16, false),
        (DATA + 512, 512, true),
        (STATUS, 1, true),
    ]);
}

#[test]
fn a_write_that_waits_for_its_turn_holds_up_no_read() {
    let dir = TempDir::new().unwrap();
    let mut rig = slow(&dir);
    offer_two_writes_and_a_read(&mut rig);
    let first = std::time::Instant::now();
    assert_eq!(rig.queues[0].run(2), [(0, 1), (6, 513)]);
    assert_eq!(rig.queues[0].run(1), [(3, 1)]);
    let took = first.elapsed();
    assert!(took > std::time::Duration::from_millis(800), "{took:?}");
}

#[test]
fn new_limits_let_those_go_that_waited_under_the_old_ones() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&Spec {
        limits: Limits {
            write_bytes: limit(1),
            ..Limits::default()
        },
        ..raw(&dir)
    });
    offer_two_writes_and_a_read(&mut rig);
    assert_eq!(rig.queues[0].run(2), [(0, 1), (6, 513)]);
    let control = rig.device.control();
    DiskControl::limit([&control], &Limits::default());
    assert_eq!(
        rig.queues[0].run(1),
        [(3, 1)],
        "it would have waited for minutes"
    );
    assert!(control.limits().is_default());
}

#[test]
fn disks_that_share_limits_wait_for_each_other() {
    let dir = TempDir::new().unwrap();
    let other = TempDir::new().unwrap();
    let mut rigs = [rig(&raw(&dir)), rig(&raw(&other))];
    let controls = [rigs[0].device.control(), rigs[1].device.control()];
    let limits = Limits {
        read_requests: limit(2),
        group: Some("both".into()),
        ..Limits::default()
    };
    DiskControl::limit(&controls, &limits);
    let began = std::time::Instant::now();
    for _ in 0..2 {
        for rig in &mut rigs {
            assert_eq!(request(rig, T_IN, 1, 512, true), (0, 513));
        }
    }
    let took = began.elapsed();
    assert!(took > std::time::Duration::from_millis(1200), "{took:?}");
}

#[test]
fn a_reset_forgets_what_waits_and_keeps_the_limits() {
    let dir = TempDir::new().unwrap();
    let mut rig = slow(&dir);
    offer_two_writes_and_a_read(&mut rig);
    assert_eq!(rig.queues[0].run(2).len(), 2);
    rig.device.reset();
    assert!(lock(&rig.device.engine).lanes.is_empty());
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert!(rig.queues[0].used().is_empty());
    assert_eq!(rig.device.control().limits().write_requests, limit(1));
}

#[test]
fn a_guest_cannot_have_more_waiting_than_its_queue_holds() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&Spec {
        limits: Limits {
            read_bytes: limit(1),
            ..Limits::default()
        },
        ..raw(&dir)
    });
    rig.write(HEADER, &header(T_IN, 1));
    // The same chain over and over: each time around the ring the guest says that there is as much again.
    for _ in 0..8 {
        for _ in 0..SIZE {
            rig.queues[0].add(&[(HEADER, 16, false)]);
        }
        rig.queues[0].kick();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let waiting = || lock(&rig.device.engine).waits();
    assert!(waiting() <= usize::from(SIZE), "{}", waiting());
}

#[test]
fn zeroes_that_are_written_count_as_what_they_are() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&Spec {
        limits: Limits {
            write_bytes: limit(64 * 1024),
            ..Limits::default()
        },
        ..raw(&dir)
    });
    rig.write(DATA, &range(0, SECTORS as u32, 0));
    let began = std::time::Instant::now();
    for _ in 0..2 {
        assert_eq!(request(&mut rig, T_WRITE_ZEROES, 0, 16, false).0, 0);
    }
    assert!(began.elapsed() > std::time::Duration::from_millis(800));
}

/// The capacity in bytes, as the guest reads it.
fn capacity(rig: &Rig<Block>) -> u64 {
    let mut data = [0; 8];
    rig.device.read_config(0, &mut data);
    u64::from_le_bytes(data) * 512
}

fn config_changes(rig: &Rig<Block>) -> u32 {
    rig.told
        .config_changes
        .load(std::sync::atomic::Ordering::SeqCst)
}

#[test]
fn a_disk_that_is_made_larger_is_told_to_the_guest_and_used_to_its_new_end() {
    let dir = TempDir::new().unwrap();
    let qcow2 = dir.path().join("disk.qcow2");
    make_qcow2(&qcow2, None);
    let overlay = dir.path().join("overlay.qcow2");
    make_qcow2(&overlay, Some(("disk.raw", "raw")));
    let raw = raw(&dir);
    // What lies behind an overlay and was beyond its end stays hidden.
    let behind = std::fs::File::options()
        .append(true)
        .open(&raw.path)
        .unwrap();
    let overlay = spec(overlay, DiskFormat::Qcow2);
    for (spec, hidden) in [
        (spec(qcow2, DiskFormat::Qcow2), false),
        (overlay, true),
        (raw.clone(), false),
    ] {
        if hidden {
            std::io::Write::write_all(&mut &behind, &[0xbb; 64 * 512]).unwrap();
        } else {
            behind.set_len(SECTORS * 512).unwrap();
        }
        let mut rig = rig(&spec);
        let control = rig.device.control();
        let larger = 2 * SECTORS * 512;
        control.grow(larger).unwrap();
        wait_until("the disk is larger", || control.capacity() == larger);
        wait_until("the guest is told", || config_changes(&rig) == 1);
        assert_eq!((capacity(&rig), control.problem()), (larger, None));
        assert_eq!(request(&mut rig, T_IN, SECTORS, 512, true), (0, 513));
        assert_eq!(rig.read(DATA, 512), [0; 512], "{spec:?}");
        rig.write(DATA, &[0xab; 512]);
        assert_eq!(
            request(&mut rig, T_OUT, 2 * SECTORS - 1, 512, false),
            (0, 1)
        );
        assert_eq!(request(&mut rig, T_OUT, 2 * SECTORS, 512, false), (1, 1));
        drop(rig);
        let again = Block::new(&spec, worker()).unwrap();
        assert_eq!(again.control().capacity(), larger, "{spec:?}");
    }
}

#[test]
fn a_disk_grows_only_in_whole_sectors_and_never_shrinks() {
    let dir = TempDir::new().unwrap();
    let rig = rig(&raw(&dir));
    let control = rig.device.control();
    let is = SECTORS * 512;
    assert!(matches!(
        control.grow(is - 512),
        Err(GrowError::Smaller { .. })
    ));
    for odd in [0, is + 1, is + 511, u64::MAX] {
        assert!(
            matches!(control.grow(odd), Err(GrowError::Sectors(_))),
            "{odd}"
        );
    }
    assert!(control.grow(is).is_ok());
    let fixed = Spec {
        readonly: true,
        ..raw(&dir)
    };
    drop(rig);
    let fixed = Block::new(&fixed, worker()).unwrap();
    assert!(matches!(
        fixed.control().grow(2 * is),
        Err(GrowError::ReadOnly)
    ));
}

#[test]
fn a_disk_that_cannot_grow_says_why_and_stays_as_it_is() {
    let dir = TempDir::new().unwrap();
    let mut rig = rig(&raw(&dir));
    let control = rig.device.control();
    control.grow(1 << 63).unwrap();
    wait_until("it was tried", || control.problem().is_some());
    assert_eq!((capacity(&rig), config_changes(&rig)), (SECTORS * 512, 0));
    assert_eq!(request(&mut rig, T_IN, 5, 512, true), (0, 513));
}

#[test]
fn what_somebody_else_added_to_a_raw_file_is_never_cut_off() {
    let dir = TempDir::new().unwrap();
    let spec = raw(&dir);
    let rig = rig(&spec);
    let control = rig.device.control();
    let longer = 4 * SECTORS * 512;
    std::fs::File::options()
        .write(true)
        .open(&spec.path)
        .unwrap()
        .set_len(longer)
        .unwrap();
    control.grow(2 * SECTORS * 512).unwrap();
    wait_until("the disk is larger", || control.capacity() == longer);
    assert_eq!(std::fs::metadata(&spec.path).unwrap().len(), longer);
}
