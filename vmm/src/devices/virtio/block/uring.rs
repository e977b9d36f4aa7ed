//! Accesses of image files that go on side by side, through io_uring.
//!
//! In come accesses of files at buffers in guest memory, each with something of the caller's that stands for it; out come those things, each with whether all of the access was
//! done. Nothing here waits for a file but [`Uring::wait`].
//!
//! What is given to an io_uring is not looked at by a system call filter, so the ring itself is bound before the guest runs: it reads, writes and flushes the files that it was made with, and
//! does nothing else for whoever takes over the process. Source: io_uring_register(2), `IORING_REGISTER_RESTRICTIONS`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use io_uring::squeue::Flags;
use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, opcode, register::Restriction, squeue};
use vm_memory::GuestMemoryMmap;

use super::super::ring::Buffers;

/// Entries of the submission queue at most; twice as many accesses can be under way.
const MOST_ENTRIES: u32 = 128;
/// Buffers of one access at most: `IOV_MAX`.
const MOST_RUNS: usize = 1024;
/// Bytes of one access at most. The kernel would take more; nobody is to wait for one guest's request that long.
const MOST_BYTES: u64 = 16 << 20;
/// Pauses between two looks at what is being waited for.
const PAUSES: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(2)];

/// What is to be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// The buffers are filled from this byte on.
    Read(u64),
    /// The buffers are written from this byte on.
    Write {
        /// The first byte.
        at: u64,
        /// It is done when it is on the disk (`RWF_DSYNC`).
        durable: bool,
    },
    /// Everything that was written is put on the disk.
    Flush,
}

/// A run of memory as readv(2) takes it (`struct iovec`).
#[repr(C)]
struct Run {
    address: usize,
    len: usize,
}

const _: () = assert!(size_of::<Run>() == size_of::<libc::iovec>());

/// An access under way, with all that the kernel uses until it has ended.
struct Flight<T> {
    whose: T,
    /// Bytes to be moved.
    bytes: u64,
    _runs: Vec<Run>,
    _memory: GuestMemoryMmap,
}

/// An io_uring, and what is under way in it.
pub(super) struct Uring<T> {
    ring: IoUring,
    flights: Vec<Option<Flight<T>>>,
    /// Places in `flights` that are free.
    free: Vec<usize>,
}

impl<T> Uring<T> {
    /// A ring for accesses of `files`, which are named by their places, of which `most` or fewer are under way at a time.
    ///
    /// # Errors
    /// The kernel has no io_uring, does not give it to this process (`kernel.io_uring_disabled`), or cannot bind it (Linux before 5.10).
    pub fn new<'a>(files: impl IntoIterator<Item = &'a File>, most: u32) -> io::Result<Self> {
        let entries = most.div_ceil(2).clamp(1, MOST_ENTRIES);
        let ring = IoUring::builder()
            .setup_clamp()
            .setup_r_disabled()
            .dontfork()
            .build(entries)?;
        let files: Vec<_> = files.into_iter().map(AsRawFd::as_raw_fd).collect();
        let submitter = ring.submitter();
        submitter.register_files(&files)?;
        submitter.register_restrictions(&mut [
            Restriction::sqe_op(opcode::Readv::CODE),
            Restriction::sqe_op(opcode::Writev::CODE),
            Restriction::sqe_op(opcode::Fsync::CODE),
            Restriction::sqe_flags_required(Flags::FIXED_FILE.bits()),
        ])?;
        submitter.register_enable_rings()?;
        let places = ring.params().cq_entries() as usize;
        Ok(Self {
            ring,
            flights: std::iter::repeat_with(|| None).take(places).collect(),
            free: (0..places).rev().collect(),
        })
    }

    /// What becomes readable when an access ends.
    pub fn signal(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring keeps its descriptor open for as long as it is borrowed here.
        let fd = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        fd.try_clone_to_owned()
    }

    /// Whether one more access can be under way.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Puts an access of a file next in line: it begins with the next [`Uring::submit`]. What cannot go this way is given back.
    pub fn push(
        &mut self,
        file: u32,
        op: Op,
        buffers: &Buffers,
        memory: &GuestMemoryMmap,
        whose: T,
    ) -> Result<(), T> {
        let bytes = match op {
            Op::Flush => 0,
            _ => buffers.len(),
        };
        if bytes > MOST_BYTES || buffers.iter().count() > MOST_RUNS {
            return Err(whose);
        }
        let Some(place) = self.free.pop() else {
            return Err(whose);
        };
        let slices = buffers.slices(memory);
        let runs = slices.iter().map(|slice| Run {
            address: slice.ptr_guard().as_ptr().addr(),
            len: slice.len(),
        });
        let runs: Vec<Run> = runs.collect();
        let entry = entry(file, op, &runs).user_data(place as u64);
        if self.ring.submission().is_full() {
            // Should it fail, the line is full and the push below fails too.
            let _ = self.submit();
        }
        let flight = Flight {
            whose,
            bytes,
            _runs: runs,
            _memory: memory.clone(),
        };
        // SAFETY: what the entry points to, the runs and the guest's memory that they name, is kept in `flights` until the kernel has said that the access ended:
        // `done` takes it out then, and `drop` waits for it. The guest's memory is shared with it anyway, and nobody in this process holds references into it.
        match unsafe { self.ring.submission().push(&entry) } {
            Ok(()) => {
                if let Some(free) = self.flights.get_mut(place) {
                    *free = Some(flight);
                }
                Ok(())
            }
            Err(_) => {
                self.free.push(place);
                Err(flight.whose)
            }
        }
    }

    /// Begins what was pushed.
    ///
    /// # Errors
    /// The kernel does not take it. What it did not take is given back by [`Uring::abandon`].
    pub fn submit(&mut self) -> io::Result<()> {
        let mut tries = 0;
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => tries = 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It lacks memory for the moment.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < 100 => {
                    tries += 1;
                    let [_, pause] = PAUSES;
                    std::thread::sleep(pause);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// An access that has ended: whose it was, and whether all of it was done. Where not, part of it may have been.
    pub fn done(&mut self) -> Option<(T, bool)> {
        loop {
            let entry = self.ring.completion().next()?;
            let place = usize::try_from(entry.user_data()).ok()?;
            // The kernel names each access once.
            let Some(flight) = self.flights.get_mut(place).and_then(Option::take) else {
                continue;
            };
            self.free.push(place);
            let whole = u64::try_from(entry.result()).is_ok_and(|moved| moved == flight.bytes);
            return Some((flight.whose, whole));
        }
    }

    /// How many accesses are under way or in line.
    pub fn under_way(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Waits until all that was begun has ended; [`Uring::done`] then gives it. Any thread may do so: it makes no system call but to sleep.
    pub fn wait(&mut self) {
        let [mut pause, longest] = PAUSES;
        loop {
            let in_line = self.ring.submission().len();
            // Never more end than fit: so many at most are under way.
            let ended = self.ring.completion().len();
            if ended + in_line >= self.under_way() {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(longest);
        }
    }

    /// Gives the ring up: waits for what was begun, and gives all back that was not answered, with whether all of it was done.
    pub fn abandon(mut self) -> Vec<(T, bool)> {
        self.wait();
        let mut all: Vec<_> = std::iter::from_fn(|| self.done()).collect();
        // What is left was never begun, and no longer can be: nobody submits again.
        let left = self.flights.iter_mut().filter_map(Option::take);
        all.extend(left.map(|flight| (flight.whose, false)));
        self.free = (0..self.flights.len()).collect();
        all
    }
}

impl<T> Drop for Uring<T> {
    fn drop(&mut self) {
        self.wait();
    }
}

fn entry(file: u32, op: Op, runs: &[Run]) -> squeue::Entry {
    let file = Fixed(file);
    let vector: *const libc::iovec = runs.as_ptr().cast();
    // At most `MOST_RUNS`.
    let len = runs.len() as u32;
    match op {
        Op::Read(at) => opcode::Readv::new(file, vector, len).offset(at).build(),
        Op::Write { at, durable } => {
            let flags = if durable { libc::RWF_DSYNC } else { 0 };
            let write = opcode::Writev::new(file, vector, len).offset(at);
            write.rw_flags(flags).build()
        }
        Op::Flush => {
            let flush = opcode::Fsync::new(file);
            flush.flags(FsyncFlags::DATASYNC).build()
        }
    }
}

/// Has the threads that the kernel makes for this thread's accesses run where this thread does, also when it has given up the calls to say so. Without, they run on any of the control group's
/// processors. A kernel without io_uring makes no such threads.
pub fn keep_helpers_here() -> io::Result<()> {
    let Ok(ring) = IoUring::new(1) else {
        return Ok(());
    };
    // SAFETY: all zeroes are a mask: of no processor.
    let mut here: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the mask is as long as is said. 0 is this thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&here), &raw mut here) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // It is a property of the thread, and outlives the ring.
    ring.submitter().register_iowq_aff(&here)
}

#[cfg(test)]
#[path = "uring_tests.rs"]
mod tests;
