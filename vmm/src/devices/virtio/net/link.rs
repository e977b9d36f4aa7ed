//! The link of a network device: whether its cable is in.
//!
//! In come requests from outside ([`LinkControl::set`]), out go the status that the guest reads and an interrupt that tells it to read. The state is the
//! cable's, not the guest's: it outlives a reset of the device.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::super::VirtioInterrupt;
use super::vhost::Vhost;
use crate::bus::lock;
use crate::config::LinkState;

/// Status: the link is up (`VIRTIO_NET_S_LINK_UP`).
const LINK_UP: u16 = 1;

/// The handle by which the machine pulls the cable and puts it in. Clones are of one cable.
#[derive(Clone)]
pub struct LinkControl(Arc<Link>);

struct Link {
    up: AtomicBool,
    /// Pairs that the kernel serves.
    kernel: Vec<Arc<Vhost>>,
    /// How to tell the guest, while it drives the device.
    interrupt: Mutex<Option<Arc<dyn VirtioInterrupt>>>,
}

impl LinkControl {
    pub(super) fn new(state: LinkState, kernel: Vec<Arc<Vhost>>) -> Self {
        Self(Arc::new(Link {
            up: AtomicBool::new(state.is_up()),
            kernel,
            interrupt: Mutex::new(None),
        }))
    }

    /// Puts the cable in or pulls it, and tells the guest where that changes anything. Says whether it did.
    pub fn set(&self, state: LinkState) -> bool {
        if self.0.up.swap(state.is_up(), Ordering::AcqRel) == state.is_up() {
            return false;
        }
        for vhost in &self.0.kernel {
            vhost.set_link(state.is_up());
        }
        let interrupt = lock(&self.0.interrupt).clone();
        if let Some(interrupt) = interrupt {
            interrupt.config_changed();
        }
        true
    }

    /// Whether frames pass.
    pub fn is_up(&self) -> bool {
        self.0.up.load(Ordering::Acquire)
    }

    /// The status as the guest reads it.
    pub(super) fn status(&self) -> u16 {
        if self.is_up() { LINK_UP } else { 0 }
    }

    pub(super) fn activate(&self, interrupt: Arc<dyn VirtioInterrupt>) {
        *lock(&self.0.interrupt) = Some(interrupt);
    }

    pub(super) fn reset(&self) {
        *lock(&self.0.interrupt) = None;
    }
}
