//! What follows when the host fails a disk: an image is damaged from its second half on, and later mended.

use std::os::unix::fs::{FileExt, MetadataExt};

use super::*;
use crate::notice;

/// Bytes of a cluster of the image.
const CLUSTER: usize = 64 << 10;
/// Where a table is put: nothing else comes there.
const SECOND: u64 = 64 << 20;
/// The first sector that the damage is in: where what the second entry of the image's first table is for begins.
const DAMAGE: u64 = (512 << 20) / SECTOR;

/// A disk of 1 GiB whose second half can be neither read nor written, and who is woken when a request waits.
fn damaged(
    dir: &TempDir,
    change: impl FnOnce(&mut Spec),
) -> (Rig<Block>, DiskControl, notice::Notices) {
    let path = dir.path().join("damaged.qcow2");
    let file = File::create_open(StorageCreateOptions::new().filename(&path)).unwrap();
    Qcow2::<File>::create_builder(file)
        .size(1 << 30)
        .create()
        .unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&path);
    let file = file.unwrap();
    // Where the first table is, whose second entry leads to a second table of entries that lead into the middle of clusters.
    let mut table = [0; 8];
    file.read_exact_at(&mut table, 40).unwrap();
    let second = (1 << 63 | SECOND).to_be_bytes();
    file.write_all_at(&second, u64::from_be_bytes(table) + 8)
        .unwrap();
    let entries = (1_u64 << 63 | 0x200).to_be_bytes().repeat(CLUSTER / 8);
    file.write_all_at(&entries, SECOND).unwrap();
    let mut spec = spec(path, DiskFormat::Qcow2);
    // `mend` exchanges the image, which a ring was made with.
    spec.io = Some(DiskIo::Threads);
    change(&mut spec);
    let rig = rig(&spec);
    let (notifier, notices) = notice::channel().unwrap();
    rig.device.tell(notifier);
    let control = rig.device.control();
    (rig, control, notices)
}

fn stopping(spec: &mut Spec) {
    spec.error_policy = ErrorPolicy::Stop;
    spec.rerror_policy = ReadErrorPolicy::Stop;
}

/// Puts another image in the place of the damaged one: all zeroes, and sound.
fn mend(dir: &TempDir, rig: &Rig<Block>) -> PathBuf {
    let path = dir.path().join("sound");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(1 << 30).unwrap();
    let image = Image::open(&path, DiskFormat::Raw, false, false, false).unwrap();
    lock(&rig.device.engine).image = image;
    path
}

fn wait_for_failure(control: &DiskControl) -> String {
    wait_until("a request waits", || control.failure().is_some());
    control.failure().unwrap()
}

fn is_readable(source: &impl std::os::fd::AsRawFd) -> bool {
    use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent};
    let epoll = Epoll::new().unwrap();
    let event = EpollEvent::new(EventSet::IN, 0);
    let source = source.as_raw_fd();
    epoll.ctl(ControlOperation::Add, source, event).unwrap();
    epoll.wait(5000, &mut [event]).unwrap() == 1
}

/// Offers a request with this data or room for it, as the `n`th.
fn offer(rig: &mut Rig<Block>, n: u64, kind: u32, sector: u64, data: (u64, u32)) {
    let at = HEADER + n * 16;
    rig.write(at, &header(kind, sector));
    rig.write(STATUS + n, &[0xee]);
    let (place, len) = data;
    rig.queues[0].add(&[
        (at, 16, false),
        (place, len, kind == T_IN),
        (STATUS + n, 1, true),
    ]);
}

/// A range of four sectors in the damage, for a discard or zeroes.
fn put_range(rig: &Rig<Block>) {
    rig.write(DATA, &range(DAMAGE + 8, 4, 0));
}

#[test]
fn a_request_that_the_host_fails_waits_and_is_done_when_it_is_tried_again() {
    for (kind, len, failure) in [
        (T_IN, 1024, "could not read: "),
        (T_OUT, 1024, "could not write: "),
        (T_WRITE_ZEROES, 16, "could not write zeroes: "),
    ] {
        let dir = TempDir::new().unwrap();
        let (mut rig, control, notices) = damaged(&dir, stopping);
        rig.write(DATA, &[0xab; 1024]);
        if kind == T_WRITE_ZEROES {
            put_range(&rig);
        }
        offer(&mut rig, 0, kind, DAMAGE, (DATA, len));
        rig.queues[0].kick();
        assert!(wait_for_failure(&control).starts_with(failure));
        assert!(is_readable(&notices), "the owner is woken");
        // What is as bad as before waits again.
        control.retry();
        wait_for_failure(&control);
        assert_eq!(
            (rig.queues[0].used().len(), rig.read(STATUS, 1)[0]),
            (0, 0xee)
        );
        let sound = mend(&dir, &rig);
        control.retry();
        let answered = if kind == T_IN { len + 1 } else { 1 };
        assert_eq!(rig.queues[0].run(1), [(0, answered)]);
        assert_eq!((control.failure(), rig.read(STATUS, 1)[0]), (None, 0));
        match kind {
            T_IN => assert_eq!(rig.read(DATA, 1024), [0; 1024]),
            T_OUT => {
                let mut written = [0; 1024];
                let file = std::fs::File::open(sound).unwrap();
                file.read_exact_at(&mut written, DAMAGE * SECTOR).unwrap();
                assert_eq!(written, [0xab; 1024]);
            }
            _ => {}
        }
    }
}

#[test]
fn while_a_request_waits_the_disk_does_no_other_and_then_all() {
    let dir = TempDir::new().unwrap();
    let (mut rig, control, _notices) = damaged(&dir, stopping);
    offer(&mut rig, 0, T_OUT, DAMAGE, (DATA, 512));
    for n in 1..4 {
        offer(&mut rig, n, T_IN, n, (DATA + n * 512, 512));
    }
    rig.queues[0].kick();
    wait_for_failure(&control);
    rig.queues[0].kick();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(rig.queues[0].used().is_empty());
    mend(&dir, &rig);
    control.retry();
    let answers = rig.queues[0].run(4);
    assert_eq!(answers, [(0, 1), (3, 513), (6, 513), (9, 513)]);
}

#[test]
fn what_had_its_turn_under_limits_waits_for_the_host_all_the_same() {
    let dir = TempDir::new().unwrap();
    let (mut rig, control, _notices) = damaged(&dir, |spec| {
        stopping(spec);
        spec.limits.write_requests = Some(crate::config::Limit {
            rate: 20,
            max: None,
            length: None,
        });
    });
    for n in 0..4 {
        offer(&mut rig, n, T_OUT, DAMAGE, (DATA, 512));
    }
    rig.queues[0].kick();
    wait_for_failure(&control);
    // By now all of them might go.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(rig.queues[0].used().is_empty());
    assert_eq!(lock(&rig.device.engine).waits(), 0);
    mend(&dir, &rig);
    control.retry();
    assert_eq!(rig.queues[0].run(4).len(), 4);
}

#[test]
fn what_was_done_of_a_request_is_not_done_again() {
    let dir = TempDir::new().unwrap();
    let (mut rig, control, _notices) = damaged(&dir, stopping);
    // Whole clusters would take the place of damaged ones.
    let len = PIECE as u32 + 1024;
    let start = DAMAGE - PIECE / SECTOR;
    rig.write(DATA, &vec![0x5a; len as usize]);
    offer(&mut rig, 0, T_OUT, start, (DATA, len));
    rig.queues[0].kick();
    wait_for_failure(&control);
    // The image that takes the rest has nothing of the first half.
    mend(&dir, &rig);
    control.retry();
    assert_eq!(rig.queues[0].run(1), [(0, 1)]);
    rig.write(DATA, &vec![0xff; len as usize]);
    assert_eq!(request(&mut rig, T_IN, start, len, true), (0, len + 1));
    let (first, second) = (PIECE as usize, len as usize);
    let read = rig.read(DATA, second);
    assert!(read[..first].iter().all(|byte| *byte == 0));
    assert!(read[first..].iter().all(|byte| *byte == 0x5a));
}

#[test]
fn a_read_that_is_tried_again_says_how_much_it_read_in_all() {
    let dir = TempDir::new().unwrap();
    let (mut rig, control, _notices) = damaged(&dir, stopping);
    let len = 2 * PIECE as u32;
    offer(&mut rig, 0, T_IN, DAMAGE - PIECE / SECTOR, (DATA, len));
    rig.queues[0].kick();
    wait_for_failure(&control);
    mend(&dir, &rig);
    control.retry();
    assert_eq!(rig.queues[0].run(1), [(0, len + 1)]);
}

#[test]
fn an_error_is_told_where_the_policy_says_report_and_where_space_is_not_what_is_wanting() {
    for policy in [ErrorPolicy::Report, ErrorPolicy::Enospace] {
        let dir = TempDir::new().unwrap();
        let (mut rig, control, _notices) = damaged(&dir, |spec| spec.error_policy = policy);
        assert_eq!(request(&mut rig, T_OUT, DAMAGE, 512, false), (1, 1));
        assert_eq!(request(&mut rig, T_IN, DAMAGE, 512, true), (1, 1));
        assert_eq!(
            request(&mut rig, T_OUT, 5, 512, false),
            (0, 1),
            "it goes on"
        );
        assert_eq!(control.failure(), None);
    }
}

#[test]
fn an_error_that_is_ignored_is_told_as_success_and_reads_as_zeroes() {
    let dir = TempDir::new().unwrap();
    let (mut rig, control, _notices) = damaged(&dir, |spec| {
        spec.error_policy = ErrorPolicy::Ignore;
        spec.rerror_policy = ReadErrorPolicy::Ignore;
    });
    rig.write(DATA, &[0xab; 8192]);
    assert_eq!(request(&mut rig, T_OUT, DAMAGE, 512, false), (0, 1));
    assert_eq!(request(&mut rig, T_IN, DAMAGE, 8192 - 512, true).0, 0);
    let read = rig.read(DATA, 8192);
    assert!(read[..7680].iter().all(|byte| *byte == 0));
    assert_eq!(read[7680..], [0xab; 512], "beyond the request");
    put_range(&rig);
    assert_eq!(request(&mut rig, T_WRITE_ZEROES, 0, 16, false), (0, 1));
    assert_eq!(control.failure(), None);
}

#[test]
fn what_a_guest_may_not_ask_for_is_its_own_error_whatever_the_policy() {
    let dir = TempDir::new().unwrap();
    let (mut rig, control, _notices) = damaged(&dir, stopping);
    let end = (1 << 30) / SECTOR;
    for kind in [T_IN, T_OUT] {
        let answer = request(&mut rig, kind, end, 512, kind == T_IN);
        assert_eq!(answer, (1, 1));
    }
    rig.write(DATA, &range(end, 4, 0));
    assert_eq!(request(&mut rig, T_WRITE_ZEROES, 0, 16, false), (1, 1));
    assert_eq!(control.failure(), None);
}

#[test]
fn a_reset_forgets_a_request_that_waits() {
    let dir = TempDir::new().unwrap();
    let (mut rig, control, _notices) = damaged(&dir, stopping);
    rig.write(DATA, &[0xab; 512]);
    offer(&mut rig, 0, T_OUT, DAMAGE, (DATA, 512));
    rig.queues[0].kick();
    wait_for_failure(&control);
    rig.device.reset();
    assert_eq!(control.failure(), None);
    let sound = mend(&dir, &rig);
    control.retry();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let blocks = std::fs::metadata(sound).unwrap().blocks();
    assert_eq!((rig.queues[0].used().len(), blocks), (0, 0));
}
