//! A driver's half of virtio over PCI, by polling: negotiation, one-shot queues, MSI-X.

use crate::board::{config_byte, config_read, config_write, read, wait, write};

pub const VERSION_1: u64 = 1 << 32;
pub const NEEDS_RESET: u8 = 64;
const SIZE: u16 = 16;

/// Memory for rings and buffers: zero at the start, handed out in pages, never given back.
const ARENA: usize = 2 << 20;
#[repr(align(4096))]
struct Arena {
    _bytes: [u8; ARENA],
}
static mut MEMORY: Arena = Arena { _bytes: [0; ARENA] };
static mut USED: u64 = 0;

/// The address of `count` fresh pages.
pub fn pages(count: u64) -> u64 {
    // SAFETY: one processor, no interrupts: nothing else runs.
    unsafe {
        let at = (&raw mut MEMORY) as u64 + USED;
        USED += count * 4096;
        assert!(USED <= ARENA as u64, "out of memory");
        at
    }
}

/// A device after negotiation.
#[derive(Clone, Copy)]
pub struct Device {
    pub slot: u32,
    pub common: u64,
    pub notify: u64,
    pub multiplier: u64,
    pub config: u64,
    msix: Option<(u32, u64)>,
}

impl Device {
    /// Finds the first device of a type (virtio's number).
    pub fn find(kind: u32) -> Option<Self> {
        let slot = (0..32).find(|&slot| config_read(slot, 0) == (0x1040 + kind) << 16 | 0x1af4)?;
        config_write(slot, 4, config_read(slot, 4) & 0xffff | 6);
        let bar = |number: u8| {
            let register = 0x10 + u32::from(number) * 4;
            u64::from(config_read(slot, register) & !0xf)
        };
        let mut device = Self { slot, common: 0, notify: 0, multiplier: 0, config: 0, msix: None };
        let mut at = u32::from(config_byte(slot, 0x34));
        while at != 0 {
            let place = || bar(config_byte(slot, at + 4)) + u64::from(config_read(slot, at + 8));
            match (config_byte(slot, at), config_byte(slot, at + 3)) {
                (9, 1) => device.common = place(),
                (9, 2) => {
                    device.notify = place();
                    device.multiplier = config_read(slot, at + 16).into();
                }
                (9, 4) => device.config = place(),
                (0x11, _) => {
                    let table = config_read(slot, at + 4);
                    device.msix = Some((at, bar((table & 7) as u8) + u64::from(table & !7)));
                }
                _ => {}
            }
            at = config_byte(slot, at + 1).into();
        }
        Some(device)
    }

    pub fn status(&self) -> u8 {
        read(self.common + 20)
    }

    fn set_status(&self, status: u8) {
        write(self.common + 20, status);
    }

    /// Resets the device.
    pub fn reset(&self) -> bool {
        self.set_status(0);
        wait(|| self.status() == 0)
    }

    /// Resets and agrees on `features`; says whether the device does.
    pub fn negotiate(&self, features: u64) -> bool {
        if !self.reset() {
            return false;
        }
        self.set_status(1);
        self.set_status(3);
        for word in 0..2u32 {
            write(self.common + 8, word);
            write(self.common + 12, (features >> (32 * word)) as u32);
        }
        self.set_status(11);
        self.status() & 8 != 0
    }

    pub fn offered(&self) -> u64 {
        write(self.common, 0u32);
        let low: u32 = read(self.common + 4);
        write(self.common, 1u32);
        u64::from(low) | u64::from(read::<u32>(self.common + 4)) << 32
    }

    /// Directs a queue's interrupts to a vector of the processor by entry 1 of the table.
    pub fn interrupt(&self, queue: u16, vector: u32) -> bool {
        let Some((capability, table)) = self.msix else { return false };
        write::<u64>(table + 16, 0xfee0_0000);
        write(table + 24, vector);
        write(table + 28, 0u32);
        config_write(self.slot, capability, config_read(self.slot, capability) | 1 << 31);
        write(self.common + 22, queue);
        write(self.common + 26, 1u16);
        read::<u16>(self.common + 26) == 1
    }

    /// Sets a queue up.
    pub fn queue(&self, index: u16) -> Queue {
        let base = pages(1);
        write(self.common + 22, index);
        write(self.common + 24, SIZE);
        let offset: u16 = read(self.common + 30);
        for (register, at) in [(32, 0), (40, 0x400), (48, 0x800)] {
            write(self.common + register, (base + at) as u32);
            write(self.common + register + 4, 0u32);
        }
        write(self.common + 28, 1u16);
        let bell = self.notify + u64::from(offset) * self.multiplier;
        Queue { index, base, bell, next: 0, offered: 0, taken: 0 }
    }

    /// Tells the device to begin.
    pub fn go(&self) {
        self.set_status(15);
    }
}

/// A queue of 16 descriptors.
pub struct Queue {
    index: u16,
    base: u64,
    bell: u64,
    next: u16,
    offered: u16,
    taken: u16,
}

impl Queue {
    /// Offers a chain of (address, length, device writes) and rings the bell.
    pub fn offer(&mut self, buffers: &[(u64, u32, bool)]) {
        let head = self.next;
        for (at, &(address, len, device_writes)) in buffers.iter().enumerate() {
            let descriptor = self.base + u64::from(self.next) * 16;
            self.next = (self.next + 1) % SIZE;
            let more = u16::from(at + 1 < buffers.len());
            write(descriptor, address);
            write(descriptor + 8, len);
            write(descriptor + 12, more | u16::from(device_writes) << 1);
            write(descriptor + 14, self.next);
        }
        write(self.base + 0x404 + u64::from(self.offered % SIZE) * 2, head);
        self.offered = self.offered.wrapping_add(1);
        core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
        write(self.base + 0x402, self.offered);
        write(self.bell, self.index);
    }

    /// Waits for the next answer: how many bytes the device wrote.
    pub fn answer(&mut self) -> Option<u32> {
        wait(|| self.answered()).then(|| self.take())
    }

    /// Whether there is an answer that was not taken.
    pub fn answered(&self) -> bool {
        read::<u16>(self.base + 0x802) != self.taken
    }

    fn take(&mut self) -> u32 {
        let slot = self.base + 0x804 + u64::from(self.taken % SIZE) * 8;
        self.taken = self.taken.wrapping_add(1);
        read(slot + 4)
    }
}
