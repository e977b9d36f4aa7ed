//! What of a disk changes while the guest runs.
//!
//! In come requests from outside through [`DiskControl`]; out go limits that the disk's worker asks, and its waking. Neither side waits for the other's work: the owner
//! of the machine never waits for a disk.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use thiserror::Error;
use vmm_sys_util::eventfd::EventFd;

use super::SECTOR;
use super::throttle::Throttle;
use crate::bus::lock;
use crate::config::Limits;

/// Limits as those share them who have them in common.
type SharedThrottle = Arc<Mutex<Throttle>>;

/// What the worker and the control have in common.
pub(super) struct Shared {
    throttle: Mutex<SharedThrottle>,
    changed: AtomicBool,
    wake: Arc<EventFd>,
    readonly: bool,
    /// Bytes that the guest sees.
    capacity: AtomicU64,
    /// Bytes that it is to see; 0 once that has been tried.
    wanted: AtomicU64,
    /// Why it could not be made larger when that was last tried.
    problem: Mutex<Option<String>>,
    /// How the host failed the request that waits.
    failure: Mutex<Option<String>>,
    /// The request that waits is to be tried again.
    retry: AtomicBool,
}

impl Shared {
    /// Asks the limits.
    pub(super) fn throttle<T>(&self, ask: impl FnOnce(&mut Throttle) -> T) -> T {
        let throttle = Arc::clone(&lock(&self.throttle));
        ask(&mut lock(&throttle))
    }

    /// Whether the limits were changed since the last call.
    pub(super) fn has_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// A request waits because the host failed it, and how; or none does.
    pub(super) fn failed(&self, how: Option<String>) {
        *lock(&self.failure) = how;
    }

    /// Whether the request that waits is to be tried again, once for each time that it was said.
    pub(super) fn is_to_retry(&self) -> bool {
        self.retry.swap(false, Ordering::AcqRel)
    }

    /// How large the disk is to be in bytes, once for each time that it was said.
    pub(super) fn wanted(&self) -> Option<u64> {
        Some(self.wanted.swap(0, Ordering::AcqRel)).filter(|wanted| *wanted > 0)
    }

    /// The disk has so many bytes from now on; or has not become larger, and why.
    pub(super) fn grown(&self, capacity: u64, problem: Option<String>) {
        self.capacity.store(capacity, Ordering::Release);
        *lock(&self.problem) = problem;
    }
}

/// Why a disk cannot be made larger.
#[derive(Debug, Error)]
pub enum GrowError {
    /// Data would be cut off.
    #[error("it has {is} bytes, and {capacity} would cut data off")]
    Smaller {
        /// What it has.
        is: u64,
        /// What was asked for.
        capacity: u64,
    },
    /// A disk is whole sectors.
    #[error("{0} bytes are not one or more sectors of {SECTOR}")]
    Sectors(u64),
    /// The guest may not write it, and neither may we.
    #[error("it is read-only")]
    ReadOnly,
    /// The worker could not be told.
    #[error("could not tell its worker")]
    Wake(#[source] io::Error),
}

/// The handle by which the machine changes a disk. Clones are of one disk.
#[derive(Clone)]
pub struct DiskControl(Arc<Shared>);

impl DiskControl {
    pub(super) fn new(sectors: u64, readonly: bool, limits: Limits) -> io::Result<Self> {
        let wake = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        Ok(Self(Arc::new(Shared {
            throttle: Mutex::new(Arc::new(Mutex::new(Throttle::new(limits)))),
            changed: AtomicBool::new(false),
            wake: Arc::new(wake),
            readonly,
            capacity: AtomicU64::new(sectors * SECTOR),
            wanted: AtomicU64::new(0),
            problem: Mutex::new(None),
            failure: Mutex::new(None),
            retry: AtomicBool::new(false),
        })))
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }

    pub(super) fn wake(&self) -> Arc<EventFd> {
        Arc::clone(&self.0.wake)
    }

    /// Bytes that the guest sees.
    pub fn capacity(&self) -> u64 {
        self.0.capacity.load(Ordering::Acquire)
    }

    /// Why it could not be made larger when that was last tried.
    pub fn problem(&self) -> Option<String> {
        lock(&self.0.problem).clone()
    }

    /// How the host failed the request that waits for the guest's resumption, if one does.
    pub fn failure(&self) -> Option<String> {
        lock(&self.0.failure).clone()
    }

    /// Has its worker try the request again that waits, if one does. If the host fails it again, it waits again.
    pub fn retry(&self) {
        if lock(&self.0.failure).take().is_none() {
            return;
        }
        self.0.retry.store(true, Ordering::Release);
        if let Err(error) = self.0.wake.write(1) {
            tracing::error!(%error, "a disk does not hear that it is to try again");
        }
    }

    /// Asks its worker to make the disk `capacity` bytes long, if it is not. What comes of it shows in [`DiskControl::capacity`] and
    /// [`DiskControl::problem`].
    ///
    /// # Errors
    /// The disk is longer; it is read-only; not whole sectors.
    pub fn grow(&self, capacity: u64) -> Result<(), GrowError> {
        if !capacity.is_multiple_of(SECTOR) || capacity == 0 {
            return Err(GrowError::Sectors(capacity));
        }
        let is = self.capacity();
        if capacity < is {
            return Err(GrowError::Smaller { is, capacity });
        }
        if capacity == is {
            return Ok(());
        }
        if self.0.readonly {
            return Err(GrowError::ReadOnly);
        }
        *lock(&self.0.problem) = None;
        self.0.wanted.store(capacity, Ordering::Release);
        self.0.wake.write(1).map_err(GrowError::Wake)
    }

    /// The limits that its requests are under.
    pub fn limits(&self) -> Limits {
        self.0.throttle(|throttle| throttle.limits().clone())
    }

    /// Puts the disks under limits that they share. What waits under the old ones finds its place under these.
    pub fn limit<'a>(disks: impl IntoIterator<Item = &'a Self>, limits: &Limits) {
        let throttle = Arc::new(Mutex::new(Throttle::new(limits.clone())));
        for Self(disk) in disks {
            *lock(&disk.throttle) = Arc::clone(&throttle);
            disk.changed.store(true, Ordering::Release);
            if let Err(error) = disk.wake.write(1) {
                tracing::warn!(%error, "a disk does not hear of its new limits at once");
            }
        }
    }
}
