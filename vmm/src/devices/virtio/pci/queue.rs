//! A queue as the guest sets it up, register by register, before the device gets it.

use std::io;
use std::sync::Arc;

use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::devices::virtio::ActiveQueue;

/// One queue as the guest is setting it up.
pub(super) struct QueueSetup {
    pub(super) most: u16,
    pub(super) size: u16,
    pub(super) enabled: bool,
    pub(super) descriptors: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
    pub(super) kick: Arc<EventFd>,
}

impl QueueSetup {
    pub(super) fn new(most: u16) -> io::Result<Self> {
        let kick = Arc::new(EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?);
        Ok(Self {
            most,
            size: most,
            enabled: false,
            descriptors: 0,
            driver: 0,
            device: 0,
            kick,
        })
    }

    /// The queue ready for use: `None` if it does not lie wholly in guest memory, aligned as it must be.
    pub(super) fn build(
        &self,
        index: u16,
        memory: &GuestMemoryMmap,
        event_idx: bool,
    ) -> Option<ActiveQueue> {
        let mut queue = Queue::new(self.most).ok()?;
        queue.try_set_size(self.size).ok()?;
        queue
            .try_set_desc_table_address(GuestAddress(self.descriptors))
            .ok()?;
        queue
            .try_set_avail_ring_address(GuestAddress(self.driver))
            .ok()?;
        queue
            .try_set_used_ring_address(GuestAddress(self.device))
            .ok()?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        queue.is_valid(memory).then(|| ActiveQueue {
            index,
            queue,
            kick: Arc::clone(&self.kick),
        })
    }
}

/// Writes the whole or half of a 64-bit register.
pub(super) fn set_address(address: &mut u64, at: u64, data: &[u8]) {
    let mut bytes = address.to_le_bytes();
    let (start, len) = (at as usize, data.len());
    if matches!((start, len), (0 | 4, 4) | (0, 8))
        && let Some(part) = bytes.get_mut(start..start + len)
    {
        part.copy_from_slice(data);
        *address = u64::from_le_bytes(bytes);
    }
}
