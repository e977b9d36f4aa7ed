//! A guest's side of a device, for tests: memory, queues that a driver would fill, and a record of interrupts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use super::worker::Worker;
use super::{Activation, ActiveQueue, VirtioDevice, VirtioInterrupt};
use crate::bus::lock;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;
/// Size of every test queue.
pub const SIZE: u16 = 16;
/// Bytes of guest memory; the queues are in the first 64 KiB.
pub const MEMORY: usize = 4 << 20;

/// What a device told the guest.
#[derive(Default)]
pub struct Told {
    queues: Mutex<Vec<u16>>,
    pub config_changes: AtomicU32,
    pub resets_wanted: AtomicU32,
}

impl Told {
    pub fn broken(&self) -> bool {
        self.resets_wanted.load(Ordering::SeqCst) > 0
    }

    pub fn queues(&self) -> Vec<u16> {
        std::mem::take(&mut lock(&self.queues))
    }
}

impl VirtioInterrupt for Told {
    fn queue(&self, index: u16) {
        lock(&self.queues).push(index);
    }
    fn config_changed(&self) {
        self.config_changes.fetch_add(1, Ordering::SeqCst);
    }
    fn needs_reset(&self) {
        self.resets_wanted.fetch_add(1, Ordering::SeqCst);
    }
}

/// The driver's side of one queue.
pub struct DriverQueue {
    memory: GuestMemoryMmap,
    pub base: u64,
    next: u16,
    available: u16,
    seen: u16,
    pub kick: Arc<EventFd>,
}

impl DriverQueue {
    pub fn new(memory: &GuestMemoryMmap, index: u16) -> Self {
        let kick = Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap());
        Self {
            memory: memory.clone(),
            base: u64::from(index) * 0x1000,
            next: 0,
            available: 0,
            seen: 0,
            kick,
        }
    }

    pub fn avail_ring(&self) -> u64 {
        self.base + 0x400
    }

    pub fn used_ring(&self) -> u64 {
        self.base + 0x800
    }

    pub fn active(&self, index: u16) -> ActiveQueue {
        let mut queue = Queue::new(SIZE).unwrap();
        queue.set_desc_table_address(Some(self.base as u32), None);
        queue.set_avail_ring_address(Some(self.avail_ring() as u32), None);
        queue.set_used_ring_address(Some(self.used_ring() as u32), None);
        queue.set_ready(true);
        assert!(queue.is_valid(&self.memory));
        ActiveQueue {
            index,
            queue,
            kick: Arc::clone(&self.kick),
        }
    }

    /// Writes one descriptor into the table.
    pub fn describe(&self, at: u16, addr: u64, len: u32, flags: u16, next: u16) {
        self.memory
            .write_slice(
                &descriptor(addr, len, flags, next),
                GuestAddress(self.base + u64::from(at) * 16),
            )
            .unwrap();
    }

    /// Makes the chain that begins at descriptor `head` available.
    pub fn offer(&mut self, head: u16) {
        let slot = self.avail_ring() + 4 + u64::from(self.available % SIZE) * 2;
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.available = self.available.wrapping_add(1);
        self.set_available(self.available);
    }

    pub fn set_available(&mut self, index: u16) {
        self.available = index;
        self.memory
            .write_obj(index, GuestAddress(self.avail_ring() + 2))
            .unwrap();
    }

    /// Adds a chain of (address, length, device writes) and returns its head.
    pub fn add(&mut self, buffers: &[(u64, u32, bool)]) -> u16 {
        let head = self.next;
        for (at, &(addr, len, write)) in buffers.iter().enumerate() {
            let more = if at + 1 < buffers.len() { NEXT } else { 0 };
            let index = self.next;
            self.next = (self.next + 1) % SIZE;
            self.describe(
                index,
                addr,
                len,
                more | if write { WRITE } else { 0 },
                self.next,
            );
        }
        self.offer(head);
        head
    }

    pub fn kick(&self) {
        self.kick.write(1).unwrap();
    }

    /// What the device gave back since the last call: (head, bytes written).
    pub fn used(&mut self) -> Vec<(u32, u32)> {
        let index: u16 = self
            .memory
            .read_obj(GuestAddress(self.used_ring() + 2))
            .unwrap();
        let mut used = Vec::new();
        while self.seen != index {
            let slot = self.used_ring() + 4 + u64::from(self.seen % SIZE) * 8;
            used.push((
                self.memory.read_obj(GuestAddress(slot)).unwrap(),
                self.memory.read_obj(GuestAddress(slot + 4)).unwrap(),
            ));
            self.seen = self.seen.wrapping_add(1);
        }
        used
    }

    /// Kicks and waits until the device has given `count` chains back.
    pub fn run(&mut self, count: usize) -> Vec<(u32, u32)> {
        self.kick();
        let mut used = Vec::new();
        wait_until("the device answers", || {
            used.extend(self.used());
            used.len() >= count
        });
        used
    }
}

pub fn descriptor(addr: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&addr.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}

pub fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap()
}

pub fn worker() -> Arc<Worker> {
    Worker::spawn("test", || Ok(())).unwrap()
}

/// A device with all its queues in use.
pub struct Rig<D> {
    pub device: D,
    pub memory: GuestMemoryMmap,
    pub told: Arc<Told>,
    pub queues: Vec<DriverQueue>,
}

impl<D: VirtioDevice> Rig<D> {
    pub fn new(device: D, features: u64) -> Self {
        Self::with_memory(device, features, memory())
    }

    pub fn with_memory(mut device: D, features: u64, memory: GuestMemoryMmap) -> Self {
        let told = Arc::new(Told::default());
        let indices = 0..device.queue_sizes().len() as u16;
        let queues: Vec<_> = indices
            .map(|index| DriverQueue::new(&memory, index))
            .collect();
        let active = queues
            .iter()
            .zip(0..)
            .map(|(queue, index)| queue.active(index))
            .collect();
        device
            .activate(Activation {
                memory: memory.clone(),
                queues: active,
                interrupt: told.clone(),
                features,
            })
            .unwrap();
        Self {
            device,
            memory,
            told,
            queues,
        }
    }

    pub fn write(&self, addr: u64, data: &[u8]) {
        self.memory.write_slice(data, GuestAddress(addr)).unwrap();
    }

    pub fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.memory
            .read_slice(&mut data, GuestAddress(addr))
            .unwrap();
        data
    }

    /// Waits until the device asks for a reset.
    pub fn wait_broken(&self) {
        wait_until("the device asks for a reset", || self.told.broken());
    }
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
