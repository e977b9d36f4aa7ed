//! The PCI bus: who sits in which slot, and where its memory answers.
//!
//! In come configuration accesses, by the ports 0xcf8 and 0xcfc ([`PciPorts`]) or by memory ([`PciEcam`]); out go calls of the functions
//! and, when a guest moves a base address register or turns decoding on or off, changes of the memory bus. Slots are given by
//! the caller and never change, so that a guest's device names stay.
//!
//! A guest may move a register onto another device's range: then the one that was there first keeps it, and the moved one does not
//! answer.

use std::sync::{Arc, Mutex};

use thiserror::Error;

use super::{BarRange, HostBridge, PciFunction, SLOTS};
use crate::bus::{Bus, BusDevice, lock};
use crate::layout;

type SharedFunction = Arc<Mutex<dyn PciFunction>>;

/// Why a function was not put into a slot.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InsertError {
    /// There are 32 slots, and slot 0 holds the host bridge.
    #[error("there is no PCI slot {0} for a device: slots are 1 to 31")]
    NoSuchSlot(usize),
    /// Another function is in the slot.
    #[error("PCI slot {0} is taken")]
    Taken(usize),
}

/// A function and where its registers answer now.
struct Slot {
    function: SharedFunction,
    /// What the function asked for when it was last looked at.
    wanted: Vec<BarRange>,
    /// The part of that which the memory bus granted.
    granted: Vec<BarRange>,
}

/// Bus 0, with a host bridge in slot 0.
pub struct PciBus {
    memory: Arc<Bus>,
    slots: [Option<Slot>; SLOTS],
}

impl PciBus {
    /// A bus whose functions answer on `memory`.
    pub fn new(memory: Arc<Bus>) -> Self {
        let mut slots = [const { None }; SLOTS];
        let bridge: SharedFunction = Arc::new(Mutex::new(HostBridge::new()));
        slots[0] = Some(Slot {
            function: bridge,
            wanted: Vec::new(),
            granted: Vec::new(),
        });
        Self { memory, slots }
    }

    /// Puts `function` into `slot` (1 to 31) and gives its first base address register its address, as firmware would.
    pub fn insert(&mut self, slot: usize, function: SharedFunction) -> Result<(), InsertError> {
        match self.slots.get_mut(slot).filter(|_| slot != 0) {
            None => Err(InsertError::NoSuchSlot(slot)),
            Some(Some(_)) => Err(InsertError::Taken(slot)),
            Some(free) => {
                place_first_bar(slot, &function);
                *free = Some(Slot {
                    function,
                    wanted: Vec::new(),
                    granted: Vec::new(),
                });
                Ok(())
            }
        }
    }

    /// Reads configuration space: `data` is 1 to 4 bytes within one dword. Slots without a function read as ones.
    pub fn read_config(&mut self, slot: usize, offset: u16, data: &mut [u8]) {
        match self.slots.get(slot) {
            Some(Some(slot)) => lock(&slot.function).read_config(offset, data),
            _ => data.fill(0xff),
        }
    }

    /// Writes configuration space, as for reads, and moves what the function decodes.
    pub fn write_config(&mut self, slot: usize, offset: u16, data: &[u8]) {
        if let Some(Some(slot)) = self.slots.get_mut(slot) {
            lock(&slot.function).write_config(offset, data);
            slot.remap(&self.memory);
        }
    }

    /// Resets every function and gives the registers their first addresses again.
    pub fn reset(&mut self) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let Some(slot) = slot {
                lock(&slot.function).reset();
                slot.remap(&self.memory);
                if number != 0 {
                    place_first_bar(number, &slot.function);
                }
            }
        }
    }
}

impl Slot {
    /// Makes the memory bus agree with what the function decodes now.
    fn remap(&mut self, memory: &Bus) {
        let wanted = lock(&self.function).ranges();
        if wanted == self.wanted {
            return;
        }
        for range in self.granted.drain(..) {
            memory.remove(range.base);
            lock(&self.function).mapped(range.bar, None);
        }
        for range in &wanted {
            let window = Window {
                function: Arc::clone(&self.function),
                bar: range.bar,
            };
            match memory.insert(range.base, range.len, Arc::new(Mutex::new(window))) {
                Ok(()) => {
                    lock(&self.function).mapped(range.bar, Some(range.base));
                    self.granted.push(*range);
                }
                Err(error) => {
                    tracing::debug!(bar = range.bar, %error, "guest placed a base address register badly")
                }
            }
        }
        self.wanted = wanted;
    }
}

/// Writes the address that the machine's layout keeps for `slot` into the function's first register.
fn place_first_bar(slot: usize, function: &SharedFunction) {
    let base = layout::PCI_MMIO32.start + slot as u64 * layout::PCI_BAR_STRIDE;
    lock(function).write_config(0x10, &(base as u32).to_le_bytes());
}

/// What one base address register decodes, as a device on the memory bus.
struct Window {
    function: SharedFunction,
    bar: usize,
}

impl BusDevice for Window {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        lock(&self.function).read_bar(self.bar, offset, data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        lock(&self.function).write_bar(self.bar, offset, data);
    }
}

/// The configuration ports: 8 bytes from 0xcf8.
pub struct PciPorts {
    bus: Arc<Mutex<PciBus>>,
    address: [u8; 4],
}

impl PciPorts {
    /// Ports that lead to `bus`.
    pub fn new(bus: Arc<Mutex<PciBus>>) -> Self {
        Self {
            bus,
            address: [0; 4],
        }
    }

    /// The slot and register that the address port selects: `None` unless it is enabled and names function 0 of bus 0.
    fn selected(&self) -> Option<(usize, u16)> {
        let address = u32::from_le_bytes(self.address);
        let enabled = address & 1 << 31 != 0;
        let function_0_of_bus_0 = address & 0x00ff_0700 == 0;
        (enabled && function_0_of_bus_0)
            .then_some((((address >> 11) & 0x1f) as usize, (address & 0xfc) as u16))
    }
}

impl BusDevice for PciPorts {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        match (offset, self.selected()) {
            (0, _) if data.len() == 4 => data.copy_from_slice(&self.address),
            (4..8, Some((slot, register))) if offset as usize + data.len() <= 8 => {
                lock(&self.bus).read_config(slot, register + (offset - 4) as u16, data);
            }
            _ => {}
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, self.selected()) {
            (0, _) => {
                if let Ok(address) = data.try_into() {
                    self.address = address;
                }
            }
            (4..8, Some((slot, register))) if offset as usize + data.len() <= 8 => {
                lock(&self.bus).write_config(slot, register + (offset - 4) as u16, data);
            }
            _ => {}
        }
    }
}

/// Configuration space in memory (ECAM): 1 MiB for bus 0.
pub struct PciEcam {
    bus: Arc<Mutex<PciBus>>,
}

impl PciEcam {
    /// A window onto `bus`.
    pub fn new(bus: Arc<Mutex<PciBus>>) -> Self {
        Self { bus }
    }
}

/// The slot and register at `offset` of the window: `None` beyond bus 0 and for functions other than 0.
fn ecam_target(offset: u64) -> Option<(usize, u16)> {
    (offset < 1 << 20 && offset & 0x7000 == 0)
        .then_some(((offset >> 15) as usize, (offset & 0xfff) as u16))
}

/// Cuts an access into pieces that each stay within one dword, as functions want them: (offset, start in data, length).
fn dwords(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset.checked_add(done as u64)?;
        let piece = (4 - (at % 4) as usize).min(len - done);
        let start = done;
        done += piece;
        (piece > 0).then_some((at, start, piece))
    })
}

impl BusDevice for PciEcam {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        for (at, start, len) in dwords(offset, data.len()) {
            let Some(piece) = data.get_mut(start..start + len) else {
                return;
            };
            match ecam_target(at) {
                Some((slot, register)) => lock(&self.bus).read_config(slot, register, piece),
                None => piece.fill(0xff),
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for (at, start, len) in dwords(offset, data.len()) {
            if let (Some((slot, register)), Some(piece)) =
                (ecam_target(at), data.get(start..start + len))
            {
                lock(&self.bus).write_config(slot, register, piece);
            }
        }
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
