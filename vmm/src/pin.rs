//! Threads on the host's processors.
//!
//! In come numbers of processors; out go threads that run on them. A thread begins where the one that makes it runs: so whoever makes it goes there for that moment, and no
//! thread needs to move itself, which inside the sandbox none may.

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thiserror::Error;

use crate::config::Pins;

/// A thread cannot run there.
#[derive(Debug, Error)]
#[error("could not have {thread} run on the host's processors {cpus:?}")]
pub struct PinError {
    /// Which.
    thread: String,
    cpus: Vec<u32>,
    /// The kernel's answer: none of them is there, or open to the monitor's control group.
    source: Errno,
}

/// Where the threads of one monitor are made.
pub struct Pinning<'a> {
    pins: &'a Pins,
    /// Where the monitor was started, and where its owner runs, if anything is said of any thread.
    places: Option<[CpuSet; 2]>,
}

impl<'a> Pinning<'a> {
    /// Puts the calling thread, which is to make all others, where the emulator is to run.
    ///
    /// # Errors
    /// It cannot run there.
    pub fn begin(pins: &'a Pins) -> Result<Self, PinError> {
        if *pins == Pins::default() {
            return Ok(Self { pins, places: None });
        }
        let name = "the monitor";
        let failed = |source| PinError {
            thread: name.to_owned(),
            cpus: pins.emulator.clone(),
            source,
        };
        let started = sched_getaffinity(None).map_err(failed)?;
        let mut own = started;
        if !pins.emulator.is_empty() {
            own = set(&pins.emulator);
            sched_setaffinity(None, &own).map_err(failed)?;
        }
        Ok(Self {
            pins,
            places: Some([started, own]),
        })
    }

    /// Makes the thread of a vcpu.
    ///
    /// # Errors
    /// It cannot run where it is to.
    pub fn vcpu<T>(&self, number: u32, make: impl FnOnce() -> T) -> Result<T, PinError> {
        let Some([started, own]) = &self.places else {
            return Ok(make());
        };
        let thread = || format!("vcpu {number}");
        match self.pins.vcpu(number) {
            Some(cpus) => made_on(&set(cpus), own, thread, cpus, make),
            None => made_on(started, own, thread, &[], make),
        }
    }

    /// Makes the thread of a disk.
    ///
    /// # Errors
    /// It cannot run where it is to.
    pub fn disk<T>(&self, id: &str, make: impl FnOnce() -> T) -> Result<T, PinError> {
        match (&self.places, self.pins.disk(id)) {
            (Some([_, own]), Some(cpus)) => {
                made_on(&set(cpus), own, || format!("disk {id}"), cpus, make)
            }
            _ => Ok(make()),
        }
    }
}

/// The processors of these numbers, which were checked.
fn set(cpus: &[u32]) -> CpuSet {
    let mut set = CpuSet::new();
    let numbers = cpus.iter().filter_map(|cpu| usize::try_from(*cpu).ok());
    for number in numbers.filter(|number| *number < CpuSet::MAX_CPU) {
        set.set(number);
    }
    set
}

fn made_on<T>(
    there: &CpuSet,
    own: &CpuSet,
    thread: impl Fn() -> String,
    cpus: &[u32],
    make: impl FnOnce() -> T,
) -> Result<T, PinError> {
    let failed = |source| PinError {
        thread: thread(),
        cpus: cpus.to_vec(),
        source,
    };
    sched_setaffinity(None, there).map_err(failed)?;
    let made = make();
    sched_setaffinity(None, own).map_err(failed)?;
    Ok(made)
}
