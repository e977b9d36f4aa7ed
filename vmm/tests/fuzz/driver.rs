//! The guest: what it does at random, and how it behaves when it is honest.

use std::time::{Duration, Instant};

use fastrand::Rng;
use vireo_vmm::layout;
use vm_memory::{Bytes, GuestAddress};

use crate::machine::{BAD, HIGH, Kind, LOW, Machine, SLOT};

/// The device's register, where the guest puts it.
const BAR: u64 = layout::PCI_MMIO32.start + SLOT * layout::PCI_BAR_STRIDE;
/// What is in it (virtio 1.2, section 4.1.4): the common configuration, the notifications.
const NOTIFY: u64 = BAR + 0x3000;
const LEN: u64 = 0x8000;
/// Entries of every queue of the honest driver, and most that the random one writes.
const SIZE: u64 = 16;

/// Feature: a device of version 1.
const VERSION_1: u64 = 1 << 32;
/// Feature: notifications by index, which this guest does not keep.
const EVENT_INDEX: u64 = 1 << 29;

pub struct Guest {
    pub machine: Machine,
    random: Rng,
}

/// Where queue `n` is: descriptors, available ring, used ring.
fn rings(queue: u64) -> [u64; 3] {
    let base = 0x1_0000 + queue * 0x1000;
    [base, base + 0x400, base + 0x800]
}

impl Guest {
    pub fn new(machine: Machine, seed: u64) -> Self {
        Self {
            machine,
            random: Rng::with_seed(seed),
        }
    }

    /// Does something.
    pub fn step(&mut self) {
        match self.random.u8(..24) {
            16.. => self.request(),
            0 | 1 => self.touch_port(),
            // The sequence that a watchdog wants before it takes anything.
            3 => [0x80_u16, 0x86]
                .iter()
                .for_each(|word| self.register(0x0c, word.to_le_bytes())),
            2 => self.touch_configuration(),
            4..=6 => self.touch_register(),
            7 => self.set_up(),
            8..=12 => self.scribble(),
            13 => self.machine.reset(),
            14 => self.machine.resume(),
            _ => self.notify(),
        }
    }

    fn value(&mut self) -> u64 {
        match self.random.u8(..8) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.random.u8(..64),
            3 => self.random.u64(..SIZE + 2),
            4 => self.random.u64(..LOW),
            5 => HIGH + self.random.u64(..1 << 20),
            6 => LOW - self.random.u64(..8192),
            _ => self.random.u64(..),
        }
    }

    fn data(&mut self) -> Vec<u8> {
        let len = [1, 2, 4, 8][self.random.usize(..4)];
        self.value().to_le_bytes()[..len].to_vec()
    }

    fn touch_port(&mut self) {
        let ranges = [
            layout::PORT_I8042,
            layout::PORT_RTC,
            layout::PORT_PCI,
            0x500..0x610,
            0..0xffff,
        ];
        let range = ranges[self.random.usize(..ranges.len())].clone();
        let port = self.random.u16(range).into();
        let mut data = self.data();
        data.truncate(4);
        if self.random.bool() {
            self.machine.ports.write(port, &data);
        } else {
            self.machine.ports.read(port, &mut data);
        }
    }

    fn touch_configuration(&mut self) {
        let slot = if self.random.u8(..4) > 0 {
            SLOT
        } else {
            self.random.u64(..256)
        };
        let offset = if self.random.bool() {
            self.random.u64(..256)
        } else {
            self.random.u64(..4096)
        };
        let address = layout::PCI_ECAM + (slot << 15) + offset;
        let mut data = self.data();
        if self.random.bool() {
            self.machine.mmio.write(address, &data);
        } else {
            self.machine.mmio.read(address, &mut data);
        }
    }

    fn touch_register(&mut self) {
        let starts = [0, 0, 0, 0x1000, 0x2000, 0x3000, 0x4000, 0x6000];
        let start = starts[self.random.usize(..starts.len())];
        let address = BAR + (start + self.random.u64(..0x80)).min(LEN - 1);
        let mut data = self.data();
        if self.random.u8(..4) > 0 {
            self.machine.mmio.write(address, &data);
        } else {
            self.machine.mmio.read(address, &mut data);
        }
    }

    /// Sets the device up, now and then with a mistake.
    fn set_up(&mut self) {
        let mistake = self.random.u8(..16);
        self.enable(!0, mistake);
    }

    /// Fills part of a queue with descriptors of any kind, and offers some.
    fn scribble(&mut self) {
        let queue = self.random.u64(..4);
        let [descriptors, available, _] = rings(queue);
        for _ in 0..self.random.u64(1..SIZE) {
            let at = descriptors + self.random.u64(..SIZE) * 16;
            let (address, len) = (self.value(), self.length());
            let flags = self.random.u16(..8);
            let next = self.random.u16(..SIZE as u16 + 2);
            self.put(at, &address.to_le_bytes());
            self.put(at + 8, &len.to_le_bytes());
            self.put(at + 12, &flags.to_le_bytes());
            self.put(at + 14, &next.to_le_bytes());
            // What a device would take for its request.
            let kind = self.random.u32(..12).to_le_bytes();
            self.put(address, &kind);
            let sector = self.value();
            self.put(address.wrapping_add(8), &sector.to_le_bytes());
        }
        let entries = self.random.u16(..SIZE as u16 + 2);
        for entry in 0..SIZE {
            let head = self.random.u16(..SIZE as u16 + 1);
            self.put(available + 4 + entry * 2, &head.to_le_bytes());
        }
        let index = if self.random.bool() {
            entries
        } else {
            self.random.u16(..)
        };
        self.put(available + 2, &index.to_le_bytes());
        self.notify();
    }

    /// A request as a driver would make it, but for a value here and there.
    fn request(&mut self) {
        if self.read(BAR + 0x14) != [15] {
            self.machine.reset();
            for queue in 0..4 {
                self.put(rings(queue)[0], &[0; 0x1000]);
            }
            self.enable(!0 ^ EVENT_INDEX, 0);
        }
        let queue = self.random.u64(..4);
        let [descriptors, available, used] = rings(queue);
        let header = 0x4_0000;
        let count = self.random.u16(1..4);
        for n in 0..count {
            let at = descriptors + u64::from(n) * 16;
            let (mut address, mut len) = (header + u64::from(n) * 0x1000, 512);
            if n == 0 {
                len = 16;
            } else if n + 1 == count {
                len = 1;
            }
            if self.random.u8(..12) == 0 {
                address = self.value();
            }
            if self.random.u8(..8) == 0 {
                len = self.length();
            }
            let writable = n > 0 && self.random.u8(..4) > 0;
            let flags = u16::from(n + 1 < count) | u16::from(writable) << 1;
            self.put(at, &address.to_le_bytes());
            self.put(at + 8, &len.to_le_bytes());
            self.put(at + 12, &flags.to_le_bytes());
            self.put(at + 14, &(n + 1).to_le_bytes());
        }
        let (kind, sector) = (self.random.u32(..14), self.value());
        self.put(header, &kind.to_le_bytes());
        self.put(header + 8, &sector.to_le_bytes());
        let done = self.machine.memory.read_obj::<u16>(GuestAddress(used + 2));
        let done = done.unwrap_or(0);
        let place = available + 4 + u64::from(done) % SIZE * 2;
        self.put(place, &0_u16.to_le_bytes());
        self.put(available + 2, &done.wrapping_add(1).to_le_bytes());
        self.machine
            .mmio
            .write(NOTIFY + queue * 4, &(queue as u16).to_le_bytes());
        // Long enough, mostly, for the device to have seen it before it is changed again.
        std::thread::sleep(Duration::from_micros(50));
    }

    fn length(&mut self) -> u32 {
        match self.random.u8(..6) {
            0 => 0,
            1 => u32::MAX,
            2 => 512,
            3 => self.random.u32(..64),
            4 => self.random.u32(..1 << 22),
            _ => 16,
        }
    }

    fn notify(&mut self) {
        let queue = self.random.u64(..4);
        self.machine
            .mmio
            .write(NOTIFY + queue * 4, &(queue as u16).to_le_bytes());
    }

    /// Writes into memory, where there is any.
    fn put(&self, at: u64, bytes: &[u8]) {
        let _ = self.machine.memory.write_slice(bytes, GuestAddress(at));
    }

    fn register<const N: usize>(&self, offset: u64, bytes: [u8; N]) {
        self.machine.mmio.write(BAR + offset, &bytes);
    }

    fn read<const N: usize>(&self, address: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.machine.mmio.read(address, &mut bytes);
        bytes
    }

    /// The order of virtio 1.2, section 3.1.1, with these of the offered features.
    fn enable(&mut self, wanted: u64, mistake: u8) {
        self.place();
        if mistake != 1 {
            self.register(0x14, [0]);
        }
        self.register(0x14, [3]);
        for half in 0..2_u32 {
            self.register(0x00, half.to_le_bytes());
            let offered = u32::from_le_bytes(self.read(BAR + 4));
            self.register(0x08, half.to_le_bytes());
            let taken = offered & (wanted >> (32 * half)) as u32;
            let taken = if mistake == 2 { !taken } else { taken };
            self.register(0x0c, taken.to_le_bytes());
        }
        self.register(0x14, [11]);
        let queues = u64::from(u16::from_le_bytes(self.read(BAR + 0x12)));
        for queue in 0..queues.min(8) {
            self.register(0x16, (queue as u16).to_le_bytes());
            let size = if mistake == 3 {
                self.random.u16(..)
            } else {
                SIZE as u16
            };
            self.register(0x18, size.to_le_bytes());
            for (register, ring) in (0..).zip(rings(queue)) {
                let ring = if mistake == 4 { self.value() } else { ring };
                self.register(0x20 + register * 8, ring.to_le_bytes());
            }
            self.register(0x1c, 1_u16.to_le_bytes());
        }
        self.register(0x14, [15]);
    }

    /// Offers one chain of buffers in a queue, as its first.
    fn offer(&mut self, queue: u64, buffers: &[(u64, u32, bool)]) {
        let [descriptors, available, _] = rings(queue);
        for (n, &(address, len, writable)) in (0_u16..).zip(buffers) {
            let last = usize::from(n) + 1 == buffers.len();
            let flags = u16::from(!last) | u16::from(writable) << 1;
            let at = descriptors + u64::from(n) * 16;
            self.put(at, &address.to_le_bytes());
            self.put(at + 8, &len.to_le_bytes());
            self.put(at + 12, &flags.to_le_bytes());
            self.put(at + 14, &(n + 1).to_le_bytes());
        }
        self.put(available + 4, &0_u16.to_le_bytes());
        self.put(available + 2, &1_u16.to_le_bytes());
        self.machine
            .mmio
            .write(NOTIFY + queue * 4, &(queue as u16).to_le_bytes());
    }

    /// Offers one chain of buffers in a queue, as its first, and waits for the answer.
    fn ask(&mut self, queue: u64, buffers: &[(u64, u32, bool)]) -> bool {
        self.offer(queue, buffers);
        let [_, _, used] = rings(queue);
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            let index = self.machine.memory.read_obj::<u16>(GuestAddress(used + 2));
            if index.is_ok_and(|index| index == 1) {
                return true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        false
    }

    /// Gives the device its register, and memory and bus mastering.
    fn place(&self) {
        let configuration = layout::PCI_ECAM + (SLOT << 15);
        let write = |at: u64, data: &[u8]| self.machine.mmio.write(configuration + at, data);
        write(0x10, &(BAR as u32).to_le_bytes());
        write(0x14, &0_u32.to_le_bytes());
        write(0x04, &6_u16.to_le_bytes());
    }

    /// Lets a watchdog end, or tells of a panic; what comes of it.
    fn honest_guard(&mut self, kind: Kind) -> Result<(), String> {
        self.place();
        self.machine.notices.drain();
        if kind == Kind::Panic {
            self.register(0, [1]);
        } else {
            for at in [0, 4] {
                self.register(0x0c, 0x80_u16.to_le_bytes());
                self.register(0x0c, 0x86_u16.to_le_bytes());
                self.register(at, 1_u32.to_le_bytes());
            }
            let lock = layout::PCI_ECAM + (SLOT << 15) + 0x68;
            self.machine.mmio.write(lock, &[2]);
        }
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if !self.machine.notices.drain().is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Err("it does not tell".into())
    }

    /// Has the host fail a request of a bad disk, which then waits, also when it was tried again, until the machine is reset.
    pub fn has_a_request_fail(&mut self) {
        for queue in 0..4 {
            self.put(rings(queue)[0], &[0; 0x1000]);
        }
        self.enable(VERSION_1, 0);
        let data = 0x4_0000;
        self.put(data, &[0; 8]);
        self.put(data + 8, &BAD.to_le_bytes());
        self.offer(
            0,
            &[
                (data, 16, false),
                (data + 512, 512, true),
                (data + 1024, 1, true),
            ],
        );
        for _ in 0..2 {
            let end = Instant::now() + Duration::from_secs(10);
            while self.machine.failure().is_none() {
                assert!(Instant::now() < end, "no request waits");
                std::thread::sleep(Duration::from_micros(200));
            }
            self.machine.resume();
        }
        self.machine.reset();
        assert_eq!(self.machine.failure(), None);
    }

    /// Uses the device as a driver would, from a reset on.
    pub fn honest(&mut self, kind: Kind) -> Result<(), String> {
        if matches!(kind, Kind::Watchdog | Kind::Panic) {
            return self.honest_guard(kind);
        }
        for queue in 0..4 {
            self.put(rings(queue)[0], &[0; 0x1000]);
        }
        self.enable(VERSION_1, 0);
        let [status] = self.read(BAR + 0x14);
        if status != 15 {
            return Err(format!("its status is {status:#x}"));
        }
        let data = 0x4_0000;
        let answered = match kind {
            Kind::Console => self.ask(1, &[(data, 64, false)]),
            Kind::Vsock => self.ask(1, &[(data, 44, false)]),
            Kind::Rng => self.ask(0, &[(data, 64, true)]),
            Kind::Balloon => {
                self.put(data, &0x50_u32.to_le_bytes());
                self.ask(0, &[(data, 4, false)])
            }
            Kind::Block | Kind::SlowBlock | Kind::BadBlock => {
                self.put(data, &[0; 16]);
                self.ask(
                    0,
                    &[
                        (data, 16, false),
                        (data + 512, 512, true),
                        (data + 1024, 1, true),
                    ],
                )
            }
            Kind::Net | Kind::ManyNet | Kind::KernelNet => {
                // The kernel tries a frame whose header it does not understand again and again.
                self.put(data, &[0; 12]);
                self.ask(1, &[(data, 12 + 60, false)])
            }
            Kind::Watchdog | Kind::Panic => false,
        };
        if answered {
            Ok(())
        } else {
            Err("it does not answer".into())
        }
    }
}
