use std::io::Write;
use std::os::unix::fs::FileExt;

use super::*;
use crate::devices::virtio::testing::{memory, wait_until};
use vm_memory::{Bytes, GuestAddress};

fn ring<'a>(files: impl IntoIterator<Item = &'a File>) -> Option<Uring<u32>> {
    match Uring::new(files, 16) {
        Ok(ring) => Some(ring),
        Err(error) => {
            println!("skipped: this kernel gives no io_uring: {error}");
            None
        }
    }
}

fn buffers(runs: &[(u64, u32)]) -> Buffers {
    let buffer = |&(addr, len)| super::super::super::ring::Buffer {
        addr: GuestAddress(addr),
        len,
    };
    runs.iter().map(buffer).collect()
}

/// A file of 64 KiB whose every byte is the number of its KiB.
fn file() -> File {
    let file = tempfile::tempfile().unwrap();
    for kib in 0..64_u8 {
        file.write_all_at(&[kib; 1024], u64::from(kib) * 1024)
            .unwrap();
    }
    file
}

fn all(ring: &mut Uring<u32>) -> Vec<(u32, bool)> {
    ring.submit().unwrap();
    ring.wait();
    let mut all: Vec<_> = std::iter::from_fn(|| ring.done()).collect();
    all.sort_unstable();
    all
}

#[test]
fn each_access_reaches_its_own_file_place_and_memory() {
    let (a, b) = (file(), file());
    b.write_all_at(b"other", 1024).unwrap();
    let Some(mut ring) = ring([&a, &b]) else {
        return;
    };
    let memory = memory();
    let pushed = [
        ring.push(0, Op::Read(1024), &buffers(&[(0, 3), (64, 2)]), &memory, 7),
        ring.push(1, Op::Read(1024), &buffers(&[(128, 5)]), &memory, 8),
        ring.push(0, Op::Flush, &buffers(&[]), &memory, 9),
    ];
    assert_eq!(pushed, [Ok(()); 3]);
    assert_eq!(all(&mut ring), [(7, true), (8, true), (9, true)]);
    let mut found = [0; 133];
    memory.read_slice(&mut found, GuestAddress(0)).unwrap();
    assert_eq!(
        (&found[..4], &found[64..67]),
        (&[1, 1, 1, 0][..], &[1, 1, 0][..])
    );
    assert_eq!(&found[128..], b"other");
    memory.write_slice(b"new", GuestAddress(0)).unwrap();
    let durable = true;
    let op = Op::Write { at: 5, durable };
    ring.push(1, op, &buffers(&[(0, 3)]), &memory, 1).unwrap();
    assert_eq!(all(&mut ring), [(1, true)]);
    let mut found = [9; 5];
    b.read_exact_at(&mut found, 4).unwrap();
    assert_eq!(&found, b"\0new\0");
}

#[test]
fn more_than_the_line_holds_goes_on_its_way_and_more_than_the_ring_is_given_back() {
    let a = file();
    let Some(mut ring) = ring([&a]) else {
        return;
    };
    let memory = memory();
    let mut sent = 0;
    while ring.has_room() {
        let at = u64::from(sent % 64) * 1024;
        let to = buffers(&[(u64::from(sent) * 16, 16)]);
        ring.push(0, Op::Read(at), &to, &memory, sent).unwrap();
        sent += 1;
    }
    assert!(sent >= 16);
    let one_more = ring.push(0, Op::Flush, &buffers(&[]), &memory, 1000);
    assert_eq!(one_more, Err(1000));
    let expected: Vec<_> = (0..sent).map(|n| (n, true)).collect();
    assert_eq!(all(&mut ring), expected);
    assert_eq!((ring.under_way(), ring.has_room()), (0, true));
    for n in 0..sent {
        let byte: u8 = memory
            .read_obj(GuestAddress(u64::from(n) * 16 + 15))
            .unwrap();
        assert_eq!(u32::from(byte), n % 64);
    }
}

#[test]
fn what_ends_early_is_not_whole() {
    let a = file();
    let Some(mut ring) = ring([&a]) else {
        return;
    };
    let memory = memory();
    let to = buffers(&[(0, 2048)]);
    for (n, at) in [(1, 63 << 10), (2, 64 << 10), (3, 62 << 10)] {
        ring.push(0, Op::Read(at), &to, &memory, n).unwrap();
    }
    assert_eq!(all(&mut ring), [(1, false), (2, false), (3, true)]);
}

#[test]
fn the_ring_does_nothing_but_read_write_and_flush_the_files_it_was_made_with() {
    let a = file();
    let Some(mut ring) = ring([&a]) else {
        return;
    };
    let fd = io_uring::types::Fd(a.as_raw_fd());
    let path = c"/etc/passwd";
    let at = io_uring::types::Fd(libc::AT_FDCWD);
    let run = Run { address: 0, len: 0 };
    let run = (&raw const run).cast::<libc::iovec>();
    let attempts = [
        opcode::OpenAt::new(at, path.as_ptr()).build(),
        opcode::OpenAt::new(at, path.as_ptr())
            .build()
            .flags(Flags::FIXED_FILE),
        opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
        opcode::UnlinkAt::new(at, path.as_ptr()).build(),
        opcode::Close::new(fd).build(),
        opcode::Fallocate::new(Fixed(0), 1).build(),
        opcode::Nop::new().build(),
        // Its own file too, but by the process's descriptor.
        opcode::Readv::new(fd, run, 1).build(),
        // Links and drains would hold others up.
        opcode::Fsync::new(Fixed(0))
            .build()
            .flags(Flags::FIXED_FILE | Flags::IO_DRAIN),
    ];
    for entry in attempts {
        // SAFETY: what the entries point to lives until the answer, which is waited for.
        unsafe { ring.ring.submission().push(&entry) }.unwrap();
        ring.ring.submit_and_wait(1).unwrap();
        let answer = ring.ring.completion().next().unwrap();
        assert_eq!(answer.result(), -libc::EACCES, "{entry:?}");
    }
    let more = ring.ring.submitter().register_files_update(0, &[0]);
    assert_eq!(more.unwrap_err().raw_os_error(), Some(libc::EACCES));
}

/// A pipe with nothing in it: a read of it stays under way.
fn pipe() -> (File, File) {
    let (from, to) = rustix::pipe::pipe().unwrap();
    (from.into(), to.into())
}

#[test]
fn to_wait_lasts_until_the_last_access_has_ended() {
    let (from, mut to) = pipe();
    let Some(mut ring) = ring([&from]) else {
        return;
    };
    let memory = memory();
    let pushed = ring.push(0, Op::Read(0), &buffers(&[(0, 4)]), &memory, 5);
    assert_eq!(pushed, Ok(()));
    ring.submit().unwrap();
    assert!(ring.done().is_none());
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        to.write_all(b"late").unwrap();
    });
    ring.wait();
    let mut found = [0; 4];
    memory.read_slice(&mut found, GuestAddress(0)).unwrap();
    assert_eq!((&found, ring.done()), (b"late", Some((5, true))));
    writer.join().unwrap();
}

#[test]
fn a_ring_that_is_given_up_gives_back_what_it_began_and_what_it_did_not() {
    let (from, mut to) = pipe();
    let Some(mut ring) = ring([&from]) else {
        return;
    };
    let memory = memory();
    ring.push(0, Op::Read(0), &buffers(&[(0, 4)]), &memory, 1)
        .unwrap();
    ring.submit().unwrap();
    ring.push(0, Op::Read(0), &buffers(&[(8, 4)]), &memory, 2)
        .unwrap();
    to.write_all(b"mine").unwrap();
    assert_eq!(ring.abandon(), [(1, true), (2, false)]);
}

#[test]
fn the_end_of_an_access_is_signalled() {
    let (from, mut to) = pipe();
    let Some(mut ring) = ring([&from]) else {
        return;
    };
    let signal = ring.signal().unwrap();
    let is_signalled = || {
        let mut polled = [rustix::event::PollFd::new(
            &signal,
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut polled, Some(&now)).unwrap() == 1
    };
    let memory = memory();
    ring.push(0, Op::Read(0), &buffers(&[(0, 4)]), &memory, 1)
        .unwrap();
    ring.submit().unwrap();
    assert!(!is_signalled());
    to.write_all(b"now!").unwrap();
    wait_until("the end is signalled", is_signalled);
    assert_eq!(ring.done(), Some((1, true)));
}

#[test]
fn the_kernels_helpers_of_a_thread_run_where_it_does() {
    let here = rustix::thread::sched_getaffinity(None).unwrap();
    let numbers: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| here.is_set(*cpu))
        .collect();
    let (a, memory) = (file(), memory());
    if numbers.len() < 2 || ring([&a]).is_none() {
        println!("skipped: it needs two processors and an io_uring");
        return;
    }
    let last = *numbers.last().unwrap();
    let looked = std::thread::spawn(move || {
        let mut one = rustix::thread::CpuSet::new();
        one.set(last);
        rustix::thread::sched_setaffinity(None, &one).unwrap();
        keep_helpers_here().unwrap();
        let mut ring = ring([&a]).unwrap();
        // A flush is always a helper's work.
        ring.push(0, Op::Flush, &buffers(&[]), &memory, 1).unwrap();
        assert_eq!(all(&mut ring), [(1, true)]);
        let own = rustix::thread::gettid().as_raw_nonzero();
        let helper = format!("iou-wrk-{own}");
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let places = tasks.filter_map(|task| {
            let task = task.unwrap().path();
            // One that has ended meanwhile is no helper of this thread.
            let name = std::fs::read_to_string(task.join("comm")).ok()?;
            let status = std::fs::read_to_string(task.join("status")).ok()?;
            let line = status
                .lines()
                .find(|line| line.starts_with("Cpus_allowed_list"))?;
            (name.trim() == helper).then(|| line.to_owned())
        });
        places.collect::<Vec<_>>()
    });
    let places = looked.join().unwrap();
    assert!(!places.is_empty());
    for place in places {
        assert_eq!(place, format!("Cpus_allowed_list:\t{last}"));
    }
}
