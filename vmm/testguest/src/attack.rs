//! A guest that attacks its machine: whatever can be written is written, anywhere, with anything.
//!
//! In comes a seed; out goes nothing: the guest does not know what has become of the machine, and may not outlive it. What must hold is what its monitor shows to the host.

use core::arch::asm;

use crate::say;
use crate::board::{self, config_read, config_write, cycles, read, write};
use crate::virtio::{Device, pages};

/// How long one attack lasts: a tenth of a second or two.
const CYCLES: u64 = 500_000_000;

/// Bytes of memory; the monitor's tests give as many.
const MEMORY: u64 = 32 << 20;

/// Ports of the machine's old chips, and of ways to reset it.
static PORTS: [u16; 10] = [0x20, 0x21, 0x40, 0x43, 0x61, 0x64, 0x70, 0x71, 0x92, 0xcf9];

struct Attacker {
    state: u64,
    /// A page for what string instructions carry.
    page: u64,
    /// The devices where they were at the beginning.
    devices: [Option<Device>; 6],
}

/// Attacks until the time is over.
pub fn attack(seed: u64) {
    say!("attack {seed:x}");
    let devices = [1, 2, 3, 4, 5, 19].map(Device::find);
    let mut attacker = Attacker { state: seed | 1, page: pages(1), devices };
    let start = cycles();
    // Queues first: what comes then may move the devices away.
    while cycles() - start < CYCLES / 2 {
        match attacker.below(8) {
            0 => attacker.port(),
            1..3 => attacker.register(),
            _ => attacker.rings(),
        }
    }
    while cycles() - start < CYCLES {
        match attacker.below(16) {
            0..3 => attacker.port(),
            3 => attacker.string_port(),
            4..7 => attacker.configuration(),
            7..11 => attacker.register(),
            11 => attacker.hole(),
            _ => attacker.rings(),
        }
    }
    // The serial port as it was, so that the rest can be said.
    for (port, value) in [(0x3fb, 3), (0x3f9, 0), (0x3fc, 0), (0x3f8, b'\n')] {
        board::out8(port, value);
    }
}

impl Attacker {
    /// Marsaglia's xorshift.
    fn any(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.any() % limit
    }

    /// A number at which something may go wrong, or any number.
    fn value(&mut self) -> u64 {
        let near = self.below(3).wrapping_sub(1);
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => (1u64 << self.below(64)).wrapping_add(near),
            4 => self.address(),
            5 => self.below(256),
            _ => self.any(),
        }
    }

    /// An address in memory, at its end, beyond it, in a device, or at the end of everything.
    fn address(&mut self) -> u64 {
        let offset = self.below(64) << self.below(13);
        match self.below(10) {
            0 => MEMORY.wrapping_sub(offset),
            1 => MEMORY + offset,
            2 => 0xc000_0000 + self.below(0x4000_0000),
            3 => u64::MAX - offset,
            4 => 0xfee0_0000 + offset,
            5 => self.any(),
            6 => 1u64 << self.below(64),
            // Above this program more often than in it.
            7 => self.below(MEMORY),
            _ => 8 * 1024 * 1024 + self.below(MEMORY - 8 * 1024 * 1024),
        }
    }

    fn port(&mut self) {
        let port = match self.below(4) {
            0 => PORTS[self.below(10) as usize],
            1 => 0x500 + self.below(0x120) as u16,
            2 => 0xcf8 + self.below(8) as u16,
            _ => self.any() as u16,
        };
        let value = self.value();
        match self.below(6) {
            0 => board::out8(port, value as u8),
            1 => board::out16(port, value as u16),
            2 => board::out32(port, value as u32),
            3 => drop(board::in8(port)),
            4 => drop(board::in16(port)),
            _ => drop(board::in32(port)),
        }
    }

    /// Up to a page in one instruction.
    fn string_port(&mut self) {
        let (port, page) = (self.any() as u16, self.page);
        let count = 1 + self.below(1024);
        // SAFETY: `count` times four bytes are in the page, which is nobody else's.
        unsafe {
            match self.below(4) {
                0 => asm!("rep outsb", in("dx") port, inout("rsi") page => _, inout("rcx") count => _),
                1 => asm!("rep outsd", in("dx") port, inout("rsi") page => _, inout("rcx") count => _),
                2 => asm!("rep insb", in("dx") port, inout("rdi") page => _, inout("rcx") count => _),
                _ => asm!("rep insd", in("dx") port, inout("rdi") page => _, inout("rcx") count => _),
            }
        }
    }

    fn configuration(&mut self) {
        let (slot, register) = (self.below(40) as u32 & 31, self.below(256) as u32);
        let (value, offset) = (self.value() as u32, self.below(0x8000));
        match self.below(4) {
            0 => config_write(slot, register, value),
            1 => drop(config_read(slot, register)),
            _ => self.access(0xe000_0000 + (u64::from(slot) << 15) + offset),
        }
    }

    /// A register of a device, where the device is now.
    fn register(&mut self) {
        let slot = self.below(12) as u32;
        let bar = 0x10 + self.below(6) as u32 * 4;
        let base = u64::from(config_read(slot, bar) & !0xf);
        if base >= 0xc000_0000 && base < 0xfe00_0000 {
            let at = if self.below(2) == 0 { self.below(0x40) } else { self.below(0x1_0000) };
            self.access(base + at);
        }
    }

    /// Where nothing is, or something of the processor's.
    fn hole(&mut self) {
        let at = match self.below(4) {
            0 => 0xfec0_0000 + self.below(0x1000),
            1 => 0xfff0_0000 + self.below(0xf_fff0),
            _ => 0xc000_0000 + self.below(0x3ec0_0000),
        };
        self.access(at);
    }

    /// Reads or writes in some width, also across what it should be aligned to.
    fn access(&mut self, at: u64) {
        let value = self.value();
        match self.below(8) {
            0 => write(at, value as u8),
            1 => write(at, value as u16),
            2 | 3 => write(at, value as u32),
            4 => write(at, value),
            5 => drop(read::<u8>(at)),
            6 => drop(read::<u32>(at)),
            _ => drop(read::<u64>(at)),
        }
    }

    /// A driver that sets a device's queues up anywhere, fills them with nonsense, and rings.
    fn rings(&mut self) {
        let chosen = self.below(6) as usize;
        let Some(Device { common, notify, multiplier, .. }) = self.devices[chosen] else { return };
        if self.below(4) != 0 {
            write(common + 20, 0u8);
            let features = if self.below(2) == 0 { self.any() } else { 0 };
            for (at, value) in [(8, 0), (12, features as u32), (8, 1), (12, (features >> 32) as u32 | 1)] {
                write(common + at, value);
            }
            write(common + 20, 11u8);
        }
        for _ in 0..1 + self.below(4) {
            self.ring(common);
        }
        write(common + 20, if self.below(8) == 0 { self.any() as u8 } else { 15u8 });
        for _ in 0..self.below(8) {
            write(notify + self.below(8) * multiplier, self.below(8) as u16);
        }
    }

    fn ring(&mut self, common: u64) {
        write(common + 22, if self.below(8) == 0 { self.any() as u16 } else { self.below(4) as u16 });
        let size = if self.below(4) == 0 { self.any() as u16 } else { 1 << self.below(9) };
        write(common + 24, size);
        let within = 12 * 1024 * 1024 + (self.below(1024) << 12);
        let places: [u64; 3] = core::array::from_fn(|part| {
            if self.below(8) == 0 { self.address() } else { within + part as u64 * 0x1000 * self.below(2) }
        });
        for (place, register) in places.into_iter().zip([32, 40, 48]) {
            write(common + register, place as u32);
            write(common + register + 4, (place >> 32) as u32);
        }
        if places[0] < MEMORY - 0x2000 && places[0] > 8 * 1024 * 1024 {
            for number in 0..64 {
                let descriptor = places[0] + number * 16;
                write(descriptor, self.address());
                write(descriptor + 8, if self.below(2) == 0 { self.below(0x2000) } else { self.any() } as u32);
                write(descriptor + 12, self.below(8) as u16);
                write(descriptor + 14, if self.below(8) == 0 { self.any() } else { self.below(64) } as u16);
            }
        }
        if places[1] < MEMORY - 0x2000 && places[1] > 8 * 1024 * 1024 {
            for entry in 0..64 {
                write(places[1] + 4 + entry * 2, if self.below(16) == 0 { self.any() } else { self.below(64) } as u16);
            }
            write(places[1], self.below(4) as u16);
            write(places[1] + 2, if self.below(4) == 0 { self.any() } else { self.below(64) } as u16);
        }
        write(common + 28, 1u16);
    }
}
