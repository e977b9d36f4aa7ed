//! What the device and its worker tell the guest: messages where MSI-X is on, bits of the interrupt status where it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use vmm_sys_util::eventfd::EventFd;

use super::status::{DRIVER_OK, NEEDS_RESET};
use crate::devices::virtio::VirtioInterrupt;
use crate::pci::Msix;

/// "No vector" in the registers that name one.
pub(super) const NO_VECTOR: u16 = 0xffff;
/// Interrupt status: a queue was used.
const ISR_QUEUE: u8 = 1;
/// Interrupt status: the device configuration changed.
const ISR_CONFIG: u8 = 2;

/// What the registers, the device and its worker share.
pub(super) struct Signals {
    pub(super) msix: Msix,
    pub(super) config_vector: AtomicU16,
    pub(super) queue_vectors: Vec<AtomicU16>,
    pub(super) status: AtomicU8,
    pub(super) isr: AtomicU8,
    pub(super) generation: AtomicU8,
}

impl Signals {
    fn send(&self, vector: &AtomicU16, isr: u8) {
        if self.msix.enabled() {
            self.msix.signal(vector.load(Ordering::Acquire));
        } else {
            self.isr.fetch_or(isr, Ordering::AcqRel);
        }
    }
}

impl VirtioInterrupt for Signals {
    fn queue(&self, index: u16) {
        if let Some(vector) = self.queue_vectors.get(usize::from(index)) {
            self.send(vector, ISR_QUEUE);
        }
    }

    fn connect(&self, index: u16, call: &Arc<EventFd>) {
        if let Some(vector) = self.queue_vectors.get(usize::from(index)) {
            self.msix
                .connect(index, vector.load(Ordering::Acquire), call);
        }
    }

    fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.send(&self.config_vector, ISR_CONFIG);
    }

    fn needs_reset(&self) {
        let before = self.status.fetch_or(NEEDS_RESET, Ordering::AcqRel);
        if before & (DRIVER_OK | NEEDS_RESET) == DRIVER_OK {
            self.send(&self.config_vector, ISR_CONFIG);
        }
    }
}
