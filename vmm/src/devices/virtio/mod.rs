//! Virtio devices: what they have in common, whatever bus carries them.
//!
//! A device states its type, features and queue sizes; the transport negotiates with the guest and then hands the queues over by
//! [`VirtioDevice::activate`]. From then on a worker thread serves them until [`VirtioDevice::reset`]. Nothing that the guest leaves in
//! a queue stops the monitor: a request that makes no sense gets an error answer, a ring that makes no sense marks the device as
//! needing a reset (and is left alone until the guest does it).

pub mod balloon;
pub mod block;
pub mod console;
pub mod net;
pub mod pci;
pub mod ring;
pub mod rng;
#[cfg(test)]
mod testing;
pub mod vsock;
pub mod worker;

use std::io;
use std::sync::Arc;

use thiserror::Error;
use virtio_queue::Queue;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

/// Virtio's numbers for device types (virtio 1.2, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum DeviceType {
    /// Network interface.
    Net = 1,
    /// Block device.
    Block = 2,
    /// Console.
    Console = 3,
    /// Source of random bytes.
    Rng = 4,
    /// Memory balloon.
    Balloon = 5,
    /// Sockets.
    Vsock = 19,
}

/// One queue as the guest set it up, handed to the device that serves it.
#[derive(Debug)]
pub struct ActiveQueue {
    /// Number of the queue in the device.
    pub index: u16,
    /// Its rings: enabled, sized, and wholly inside guest memory when it was handed over.
    pub queue: Queue,
    /// Written when the guest notifies the queue.
    pub kick: Arc<EventFd>,
}

/// Everything a device needs to begin its work.
pub struct Activation {
    /// The guest's memory.
    pub memory: GuestMemoryMmap,
    /// The queues that the guest enabled, in order of their index. A guest may leave any out.
    pub queues: Vec<ActiveQueue>,
    /// How the device interrupts the guest.
    pub interrupt: Arc<dyn VirtioInterrupt>,
    /// The feature bits both sides agreed on.
    pub features: u64,
}

/// How a device gets the guest's attention.
pub trait VirtioInterrupt: Send + Sync {
    /// Buffers of queue `index` have been used.
    fn queue(&self, index: u16);
    /// From now on until the device's reset, what writes to `call` has used buffers of queue `index`. Where the host can, the guest is interrupted without the monitor, and
    /// nobody else sees the event; where it cannot, or the guest does not want it now, whoever watches `call` does.
    fn connect(&self, _index: u16, _call: &Arc<EventFd>) {}
    /// The device's configuration space has changed.
    fn config_changed(&self);
    /// The guest broke the device's rings: it must reset the device (`DEVICE_NEEDS_RESET`).
    fn needs_reset(&self);
}

/// Why a device could not begin its work. The guest sees a device that needs a reset.
#[derive(Debug, Error)]
pub enum ActivateError {
    /// The guest enabled too few queues for this device.
    #[error("queue {0} is needed and was not enabled")]
    MissingQueue(u16),
    /// The guest and the device disagree about what was negotiated.
    #[error("features {0:#x} do not go together")]
    Features(u64),
    /// A system call on a descriptor of the device failed.
    #[error("could not {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Copies out of the bytes of a device's configuration what `offset` and the length of `data` ask for; bytes beyond the end are zero.
pub fn read_config_bytes(config: &[u8], offset: u64, data: &mut [u8]) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = config.get(start..).unwrap_or(&[]);
    for (at, byte) in data.iter_mut().enumerate() {
        *byte = rest.get(at).copied().unwrap_or(0);
    }
}

/// A virtio device, as its transport drives it.
///
/// The transport calls in one order: any number of reads and writes of configuration; `activate` once; more reads and writes; `reset`; and
/// again.
pub trait VirtioDevice: Send {
    /// The device's type.
    fn device_type(&self) -> DeviceType;
    /// The feature bits the device offers, without those of the transport.
    fn features(&self) -> u64;
    /// The largest size of each queue: powers of two up to 32768. Their number is the number of queues.
    fn queue_sizes(&self) -> &[u16];
    /// Reads device configuration at `offset`. Bytes beyond its end read as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);
    /// Writes device configuration at `offset`. What is read-only or beyond the end is ignored.
    fn write_config(&mut self, offset: u64, data: &[u8]);
    /// Begins to serve the queues.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;
    /// Stops serving the queues, and gives them and the guest's memory up before it returns.
    fn reset(&mut self);
}
