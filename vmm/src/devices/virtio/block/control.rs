//! What of a disk changes while the guest runs.
//!
//! In come requests from outside through [`DiskControl`]; out go limits that the disk's worker asks, and its waking. Neither side waits for the other's work: the owner
//! of the machine never waits for a disk.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

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
    /// Bytes that the guest sees.
    capacity: u64,
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
}

/// The handle by which the machine changes a disk. Clones are of one disk.
#[derive(Clone)]
pub struct DiskControl(Arc<Shared>);

impl DiskControl {
    pub(super) fn new(capacity: u64, limits: Limits) -> io::Result<Self> {
        let wake = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        Ok(Self(Arc::new(Shared {
            throttle: Mutex::new(Arc::new(Mutex::new(Throttle::new(limits)))),
            changed: AtomicBool::new(false),
            wake: Arc::new(wake),
            capacity,
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
        self.0.capacity
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
