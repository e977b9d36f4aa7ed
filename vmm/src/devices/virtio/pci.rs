//! Virtio over PCI, the modern interface of virtio 1.2, section 4.1.
//!
//! [`VirtioPci`] is a PCI function around any [`VirtioDevice`]. In come configuration space and one 32 KiB memory register with
//! the common configuration, interrupt status, device configuration, queue notifications and the MSI-X table; out go the
//! device's activation and reset, and messages. Legacy interfaces and wires (INTx) do not exist: interrupts are MSI-X.
//!
//! ```text
//! status: 0 ──ACKNOWLEDGE──► ──DRIVER──► ──FEATURES_OK──► ──DRIVER_OK──► device active
//!         ▲                              (VERSION_1 and a subset, or refused)    │
//!         └───────────── guest writes 0: device reset ◄── DEVICE_NEEDS_RESET ◄───┘ rings broken
//! ```
//!
//! What a guest may do at the wrong time (set addresses of an enabled queue, change features after they were agreed on) is ignored;
//! queues that do not lie in guest memory are found when the device is activated, which then asks for a reset.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use super::{Activation, ActiveQueue, VirtioDevice, VirtioInterrupt};
use crate::interrupt::Msi;
use crate::pci::{Bar, BarRange, CapabilityError, ConfigSpace, Msix, PciFunction};

mod doorbells;
mod queue;
mod registers;
mod signals;

pub use doorbells::{Doorbells, KvmDoorbells};

use queue::{QueueSetup, set_address};
use registers::{
    BAR_LEN, CAP_MSIX, COMMON, COMMON_LEN, DEVICE, ISR, MSIX_PBA, MSIX_TABLE, NOTIFY,
    NOTIFY_STRIDE, add_virtio_capabilities, identity,
};
use signals::{NO_VECTOR, Signals};

/// Most queues of a device: each has an MSI-X vector, and one is for the configuration.
const MOST_QUEUES: usize = 63;

/// Feature: the interface of virtio 1.0 and later. A guest that does not take it is refused.
pub const F_VERSION_1: u64 = 1 << 32;
/// Feature: indirect descriptors.
pub const F_INDIRECT: u64 = 1 << 28;
/// Feature: both sides say at which index they want to be notified.
pub const F_EVENT_IDX: u64 = 1 << 29;
/// What the transport and the rings offer beside the device's own features.
const TRANSPORT_FEATURES: u64 = F_VERSION_1 | F_INDIRECT | F_EVENT_IDX;

/// Device status bits.
pub mod status {
    /// The guest has noticed the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The guest has a driver for it.
    pub const DRIVER: u8 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// Features are agreed on.
    pub const FEATURES_OK: u8 = 8;
    /// The device wants to be reset.
    pub const NEEDS_RESET: u8 = 64;
    /// The guest has given up.
    pub const FAILED: u8 = 128;
}
use status::*;

/// Why a device was not put onto PCI.
#[derive(Debug, Error)]
pub enum NewError {
    /// A device has more queues than vectors.
    #[error("a virtio device over PCI has 1 to {MOST_QUEUES} queues, not {0}")]
    Queues(usize),
    /// The kernel gave no eventfd.
    #[error("could not make an eventfd for a virtio queue")]
    EventFd(#[from] io::Error),
    /// Configuration space is full.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
}

/// A virtio device as a PCI function.
pub struct VirtioPci {
    device: Box<dyn VirtioDevice>,
    memory: GuestMemoryMmap,
    doorbells: Option<Arc<dyn Doorbells>>,
    config: ConfigSpace,
    msix_capability: u16,
    pci_capability: u16,
    signals: Arc<Signals>,
    queues: Vec<QueueSetup>,
    queue_select: u16,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    active: bool,
    /// Where the register answers now.
    base: Option<u64>,
}

impl VirtioPci {
    /// Puts `device` onto PCI. Its queues will be in `memory`, its interrupts go to `msi`, and notifications come by `doorbells` where
    /// there are any and through the register where not.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemoryMmap,
        msi: Arc<dyn Msi>,
        doorbells: Option<Arc<dyn Doorbells>>,
    ) -> Result<Self, NewError> {
        let sizes = device.queue_sizes().to_vec();
        if sizes.is_empty() || sizes.len() > MOST_QUEUES {
            return Err(NewError::Queues(sizes.len()));
        }
        let queues = sizes
            .iter()
            .map(|&size| QueueSetup::new(size))
            .collect::<io::Result<Vec<_>>>()?;
        let signals = Arc::new(Signals {
            msix: Msix::new(sizes.len() as u16 + 1, msi),
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: sizes.iter().map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            status: AtomicU8::new(0),
            isr: AtomicU8::new(0),
            generation: AtomicU8::new(0),
        });
        let mut config = ConfigSpace::new(
            identity(device.device_type()),
            [Some(Bar { len: BAR_LEN }), None, None, None, None, None],
        );
        let (body, writable) = signals
            .msix
            .capability(0, MSIX_TABLE as u32, MSIX_PBA as u32);
        let msix_capability = config.add_capability(CAP_MSIX, &body, &writable)?.into();
        let pci_capability = add_virtio_capabilities(&mut config, sizes.len() as u64)?.into();
        Ok(Self {
            device,
            memory,
            doorbells,
            config,
            msix_capability,
            pci_capability,
            signals,
            queues,
            queue_select: 0,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            active: false,
            base: None,
        })
    }

    /// What the device's own code uses to interrupt the guest; also for requests from outside that change its configuration.
    pub fn interrupt(&self) -> Arc<dyn VirtioInterrupt> {
        self.signals.clone()
    }

    fn offered(&self) -> u64 {
        self.device.features() | TRANSPORT_FEATURES
    }

    fn status(&self) -> u8 {
        self.signals.status.load(Ordering::Acquire)
    }

    fn selected(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::from(self.queue_select))
    }

    /// The common configuration as it reads now.
    fn common(&self) -> [u8; COMMON_LEN as usize] {
        let word = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        let vector = |vector: Option<&AtomicU16>| {
            vector.map_or(NO_VECTOR, |vector| vector.load(Ordering::Acquire))
        };
        let queue = self.selected();
        let mut image = [0; COMMON_LEN as usize];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.device_feature_select.to_le_bytes());
        put(
            4,
            &word(self.offered(), self.device_feature_select).to_le_bytes(),
        );
        put(8, &self.driver_feature_select.to_le_bytes());
        put(
            12,
            &word(self.driver_features, self.driver_feature_select).to_le_bytes(),
        );
        put(16, &vector(Some(&self.signals.config_vector)).to_le_bytes());
        put(18, &(self.queues.len() as u16).to_le_bytes());
        put(
            20,
            &[
                self.status(),
                self.signals.generation.load(Ordering::Acquire),
            ],
        );
        put(22, &self.queue_select.to_le_bytes());
        put(
            26,
            &vector(
                self.signals
                    .queue_vectors
                    .get(usize::from(self.queue_select)),
            )
            .to_le_bytes(),
        );
        if let Some(queue) = queue {
            put(24, &queue.size.to_le_bytes());
            put(28, &u16::from(queue.enabled).to_le_bytes());
            put(30, &self.queue_select.to_le_bytes());
            put(32, &queue.descriptors.to_le_bytes());
            put(40, &queue.driver.to_le_bytes());
            put(48, &queue.device.to_le_bytes());
        }
        image
    }

    /// Takes a write to one whole field of the common configuration; 64-bit fields also by halves. Anything else is ignored.
    fn write_common(&mut self, at: u64, data: &[u8]) {
        match (at, data) {
            (0, &[a, b, c, d]) => self.device_feature_select = u32::from_le_bytes([a, b, c, d]),
            (8, &[a, b, c, d]) => self.driver_feature_select = u32::from_le_bytes([a, b, c, d]),
            (12, &[a, b, c, d]) => self.accept_features(u32::from_le_bytes([a, b, c, d])),
            (16, &[a, b]) => self.set_vector(None, u16::from_le_bytes([a, b])),
            (20, &[status]) => self.set_status(status),
            (22, &[a, b]) => self.queue_select = u16::from_le_bytes([a, b]),
            (26, &[a, b]) => self.set_vector(Some(self.queue_select), u16::from_le_bytes([a, b])),
            (24 | 28 | 32..56, _) => self.write_queue(at, data),
            _ => {}
        }
    }

    fn accept_features(&mut self, word: u32) {
        // Features agreed on are fixed: the device was told them, and a later change would make it trust what it never checked.
        if self.status() & FEATURES_OK != 0 {
            return;
        }
        let (shift, mask) = match self.driver_feature_select {
            0 => (0, !0 << 32),
            1 => (32, 0xffff_ffff),
            _ => return,
        };
        self.driver_features = (self.driver_features & mask) | u64::from(word) << shift;
    }

    /// Sets the vector of a queue, or of configuration changes. What does not exist becomes "no vector", which the guest reads back.
    fn set_vector(&mut self, queue: Option<u16>, vector: u16) {
        let vector = if vector < self.signals.msix.vectors() {
            vector
        } else {
            NO_VECTOR
        };
        let place = match queue {
            None => Some(&self.signals.config_vector),
            Some(queue) => self.signals.queue_vectors.get(usize::from(queue)),
        };
        if let Some(place) = place {
            place.store(vector, Ordering::Release);
        }
        if let Some(queue) = queue {
            self.signals.msix.move_wire(queue, vector);
        }
    }

    fn write_queue(&mut self, at: u64, data: &[u8]) {
        // An enabled queue is the device's; addresses that moved under it would escape the check made at activation.
        let Some(queue) = self
            .queues
            .get_mut(usize::from(self.queue_select))
            .filter(|queue| !queue.enabled)
        else {
            return;
        };
        match (at, data) {
            (24, &[a, b]) => {
                let size = u16::from_le_bytes([a, b]);
                if size.is_power_of_two() && size <= queue.most {
                    queue.size = size;
                }
            }
            (28, &[1, 0]) if !self.active => queue.enabled = true,
            (32..40, _) => set_address(&mut queue.descriptors, at - 32, data),
            (40..48, _) => set_address(&mut queue.driver, at - 40, data),
            (48..56, _) => set_address(&mut queue.device, at - 48, data),
            _ => {}
        }
    }

    fn set_status(&mut self, wanted: u8) {
        if wanted == 0 {
            return self.reset_device();
        }
        let now = self.status();
        let mut added = wanted & !now & (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED);
        let acceptable =
            self.driver_features & !self.offered() == 0 && self.driver_features & F_VERSION_1 != 0;
        if added & FEATURES_OK != 0 && !acceptable {
            added &= !FEATURES_OK;
        }
        // A driver that skips the negotiation gets no device: its queues would be read under rules that nobody agreed on.
        if (now | added) & FEATURES_OK == 0 {
            added &= !DRIVER_OK;
        }
        self.signals.status.fetch_or(added, Ordering::AcqRel);
        if added & DRIVER_OK != 0 && !self.active {
            self.activate();
        }
    }

    fn activate(&mut self) {
        let event_idx = self.driver_features & F_EVENT_IDX != 0;
        let enabled = self
            .queues
            .iter()
            .zip(0u16..)
            .filter(|(queue, _)| queue.enabled);
        let queues: Option<Vec<ActiveQueue>> = enabled
            .map(|(queue, index)| queue.build(index, &self.memory, event_idx))
            .collect();
        let Some(queues) = queues else {
            tracing::warn!(device = ?self.device.device_type(), "guest placed a virtio queue outside its memory");
            return self.signals.needs_reset();
        };
        let activation = Activation {
            memory: self.memory.clone(),
            queues,
            interrupt: self.signals.clone(),
            features: self.driver_features,
        };
        self.active = true;
        if let Err(error) = self.device.activate(activation) {
            tracing::warn!(device = ?self.device.device_type(), %error, "virtio device could not begin its work");
            self.signals.needs_reset();
        }
    }

    fn reset_device(&mut self) {
        if self.active {
            self.device.reset();
            self.signals.msix.disconnect();
            self.active = false;
        }
        for (queue, vector) in self.queues.iter_mut().zip(&self.signals.queue_vectors) {
            *queue = QueueSetup {
                size: queue.most,
                enabled: false,
                descriptors: 0,
                driver: 0,
                device: 0,
                kick: Arc::clone(&queue.kick),
                ..*queue
            };
            vector.store(NO_VECTOR, Ordering::Release);
        }
        self.signals
            .config_vector
            .store(NO_VECTOR, Ordering::Release);
        self.signals.isr.store(0, Ordering::Release);
        self.queue_select = 0;
        self.device_feature_select = 0;
        self.driver_feature_select = 0;
        self.driver_features = 0;
        self.signals.status.store(0, Ordering::Release);
    }

    fn kick(&self, offset: u64) {
        let queue = usize::try_from(offset / NOTIFY_STRIDE)
            .ok()
            .and_then(|index| self.queues.get(index));
        if let Some(queue) = queue
            && let Err(error) = queue.kick.write(1)
        {
            tracing::warn!(%error, "could not pass a guest's notification on");
        }
    }

    /// Connects or disconnects all queues' doorbells at `base`.
    fn connect(&self, base: u64, on: bool) {
        let Some(doorbells) = &self.doorbells else {
            return;
        };
        for (queue, index) in self.queues.iter().zip(0..) {
            let address = base + NOTIFY + index * NOTIFY_STRIDE;
            let done = if on {
                doorbells.connect(address, &queue.kick)
            } else {
                doorbells.disconnect(address, &queue.kick)
            };
            if let Err(error) = done {
                // The write then reaches the register as any other, which is slower and does the same.
                tracing::debug!(address, on, %error, "doorbell was not changed");
            }
        }
    }

    /// The access that the guest set up in the capability for access through configuration space: offset in the register and width.
    fn window(&self) -> Option<(u64, usize)> {
        let bar = self.config.u32_at(self.pci_capability + 4) & 0xff;
        let offset = u64::from(self.config.u32_at(self.pci_capability + 8));
        let len = self.config.u32_at(self.pci_capability + 12);
        // The guest chooses offset and length freely: only what the register itself could have been asked is done.
        let sound = bar == 0
            && matches!(len, 1 | 2 | 4)
            && offset.is_multiple_of(len.into())
            && offset + u64::from(len) <= BAR_LEN.into();
        sound.then_some((offset, len as usize))
    }
}

impl PciFunction for VirtioPci {
    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        if offset == self.pci_capability + 16
            && let Some((at, len)) = self.window()
            && len == data.len()
        {
            return self.read_bar(0, at, data);
        }
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
        if offset == self.pci_capability + 16
            && let Some((at, len)) = self.window()
            && len == data.len()
        {
            self.write_bar(0, at, data);
        }
        self.signals
            .msix
            .set_control(self.config.u16_at(self.msix_capability + 2));
    }

    fn ranges(&self) -> Vec<BarRange> {
        self.config.ranges()
    }

    fn mapped(&mut self, _bar: usize, base: Option<u64>) {
        if let Some(old) = std::mem::replace(&mut self.base, base) {
            self.connect(old, false);
        }
        if let Some(new) = base {
            self.connect(new, true);
        }
    }

    fn read_bar(&mut self, _bar: usize, offset: u64, data: &mut [u8]) {
        match offset {
            COMMON..ISR => super::read_config_bytes(&self.common(), offset - COMMON, data),
            ISR => {
                data.fill(0);
                let isr = self.signals.isr.swap(0, Ordering::AcqRel);
                if let Some(first) = data.first_mut() {
                    *first = isr;
                }
            }
            DEVICE..NOTIFY => self.device.read_config(offset - DEVICE, data),
            MSIX_TABLE..MSIX_PBA => self.signals.msix.read_table(offset - MSIX_TABLE, data),
            MSIX_PBA.. => self.signals.msix.read_pending(offset - MSIX_PBA, data),
            _ => data.fill(0),
        }
    }

    fn write_bar(&mut self, _bar: usize, offset: u64, data: &[u8]) {
        match offset {
            COMMON..ISR => self.write_common(offset - COMMON, data),
            DEVICE..NOTIFY => self.device.write_config(offset - DEVICE, data),
            NOTIFY..MSIX_TABLE => self.kick(offset - NOTIFY),
            MSIX_TABLE..MSIX_PBA => self.signals.msix.write_table(offset - MSIX_TABLE, data),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.reset_device();
        self.config.reset();
        self.signals.msix.reset();
    }
}

#[cfg(test)]
#[path = "pci_tests.rs"]
mod tests;
