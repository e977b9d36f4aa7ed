//! The link of a network device: whether its cable is in.
//!
//! In come requests from outside ([`LinkControl::set`]), out go the status that the guest reads and an interrupt that tells it to read. The state is the
//! cable's, not the guest's: it outlives a reset of the device.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::super::VirtioInterrupt;
use super::vhost::Vhost;
use super::{Offload, Port};
use crate::bus::lock;
use crate::config::LinkState;

/// Status: the link is up (`VIRTIO_NET_S_LINK_UP`).
const LINK_UP: u16 = 1;

/// The handle by which the machine pulls the cable and puts it in. Clones are of one cable.
#[derive(Clone)]
pub struct LinkControl(Arc<Link>);

struct Link {
    up: AtomicBool,
    /// One queue of the port, by which what is true of all is said.
    port: Option<Arc<dyn Port>>,
    /// Pairs that the kernel serves.
    kernel: Vec<Arc<Vhost>>,
    /// How to tell the guest, while it drives the device, and what it takes.
    driver: Mutex<Option<(Arc<dyn VirtioInterrupt>, Offload)>>,
}

impl LinkControl {
    pub(super) fn new(
        state: LinkState,
        port: Option<Arc<dyn Port>>,
        kernel: Vec<Arc<Vhost>>,
    ) -> Self {
        Self(Arc::new(Link {
            up: AtomicBool::new(state.is_up()),
            port,
            kernel,
            driver: Mutex::new(None),
        }))
    }

    /// Puts the cable in or pulls it, and tells the guest where that changes anything. Says whether it did.
    ///
    /// What the cable leads to may be another tap than before: it learns what the guest takes.
    pub fn set(&self, state: LinkState) -> bool {
        if self.0.up.swap(state.is_up(), Ordering::AcqRel) == state.is_up() {
            return false;
        }
        let driver = lock(&self.0.driver).clone();
        if let Some((_, offload)) = &driver
            && state.is_up()
            && let Err(error) = self.set_offload(*offload)
        {
            tracing::warn!(%error, "a tap does not take what is left to it");
        }
        for vhost in &self.0.kernel {
            vhost.set_link(state.is_up());
        }
        if let Some((interrupt, _)) = driver {
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

    /// A driver begins.
    pub(super) fn activate(
        &self,
        interrupt: Arc<dyn VirtioInterrupt>,
        offload: Offload,
    ) -> io::Result<()> {
        *lock(&self.0.driver) = Some((interrupt, offload));
        self.set_offload(offload)
    }

    pub(super) fn reset(&self) {
        *lock(&self.0.driver) = None;
    }

    /// Says what the guest takes, unless there is nobody to say it to before the cable is put in anew.
    fn set_offload(&self, offload: Offload) -> io::Result<()> {
        match &self.0.port {
            Some(port) if port.leads_on() => port.set_offload(offload),
            _ => Ok(()),
        }
    }
}
