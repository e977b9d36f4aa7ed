//! PCI's buses: who sits where, and where its memory answers.
//!
//! In come configuration accesses, by the ports 0xcf8 and 0xcfc ([`PciPorts`]) or by memory ([`PciEcam`]); out go calls of the functions
//! and, when a guest moves a base address register or turns decoding on or off, changes of the memory bus. Places are given by
//! the caller and never change, so that a guest's device names stay.
//!
//! A guest may move a register onto another device's range: then the one that was there first keeps it, and the moved one does not
//! answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use thiserror::Error;

use super::{BarRange, CapabilityError, HostBridge, PciFunction, Place, RootPort};
use crate::bus::{Bus, BusDevice, lock};
use crate::layout;

type SharedFunction = Arc<Mutex<dyn PciFunction>>;

/// Where the header's type is; its highest bit says that the slot has more functions than the first.
const HEADER_TYPE: u16 = 0x0e;
const SEVERAL_FUNCTIONS: u8 = 1 << 7;

/// Why a function was not put where it was to be.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InsertError {
    /// Slot 0 of bus 0 is the host bridge's, a bus behind a root port has slot 0 alone, and there is no other bus.
    #[error("there is no place {0} on PCI for a device")]
    NoSuchPlace(Place),
    /// Another function is there.
    #[error("place {0} on PCI is taken")]
    Taken(Place),
    /// Another root port leads to the bus.
    #[error("there is a PCI bus {0} already")]
    BusTaken(u8),
    /// The port could not be made.
    #[error(transparent)]
    Port(#[from] CapabilityError),
}

/// A function and where its registers answer now.
struct Slot {
    function: SharedFunction,
    /// What the function asked for when it was last looked at.
    wanted: Vec<BarRange>,
    /// The part of that which the memory bus granted.
    granted: Vec<BarRange>,
}

/// A bus behind a root port.
struct Behind {
    port: Arc<Mutex<RootPort>>,
    /// Its number at power on; the port's register has the one that the guest gave it.
    bus: u8,
    slots: BTreeMap<u8, Slot>,
}

/// Bus 0, with a host bridge in slot 0, and the buses behind its root ports.
pub struct PciBus {
    memory: Arc<Bus>,
    root: BTreeMap<u8, Slot>,
    behind: Vec<Behind>,
}

impl PciBus {
    /// A bus whose functions answer on `memory`.
    pub fn new(memory: Arc<Bus>) -> Self {
        let bridge: SharedFunction = Arc::new(Mutex::new(HostBridge::new()));
        Self {
            memory,
            root: BTreeMap::from([(0, Slot::new(bridge))]),
            behind: Vec::new(),
        }
    }

    /// Puts `function` at `place` and gives its first base address register its address, as firmware would.
    ///
    /// # Errors
    /// There is no such place, or it is taken.
    pub fn insert(&mut self, place: Place, function: SharedFunction) -> Result<(), InsertError> {
        let slots = match (place.bus(), place.slot()) {
            (0, 1..) => Some(&mut self.root),
            (bus @ 1.., 0) => {
                let mut behind = self.behind.iter_mut();
                let found = behind.find(|behind| behind.bus == bus);
                found.map(|behind| &mut behind.slots)
            }
            _ => None,
        };
        let slots = slots.ok_or(InsertError::NoSuchPlace(place))?;
        if slots.contains_key(&place.devfn()) {
            return Err(InsertError::Taken(place));
        }
        place_first_bar(place, &function);
        slots.insert(place.devfn(), Slot::new(function));
        Ok(())
    }

    /// Puts a root port at `place` of bus 0, with bus `bus` behind it.
    ///
    /// # Errors
    /// There is no such place, or it is taken, or the bus is there already.
    pub fn insert_port(&mut self, place: Place, bus: u8) -> Result<(), InsertError> {
        if bus == 0 || self.behind.iter().any(|behind| behind.bus == bus) {
            return Err(InsertError::BusTaken(bus));
        }
        if place.bus() != 0 {
            return Err(InsertError::NoSuchPlace(place));
        }
        let port = Arc::new(Mutex::new(RootPort::new(bus)?));
        self.insert(place, port.clone())?;
        self.behind.push(Behind {
            port,
            bus,
            slots: BTreeMap::new(),
        });
        Ok(())
    }

    /// The functions of the bus that the guest knows by this number. The root bus keeps its own, and of two ports with one number the first has it.
    fn slots(&mut self, bus: u8) -> Option<&mut BTreeMap<u8, Slot>> {
        if bus == 0 {
            return Some(&mut self.root);
        }
        let mut behind = self.behind.iter_mut();
        let found = behind.find(|behind| lock(&behind.port).secondary() == bus);
        found.map(|behind| &mut behind.slots)
    }

    /// Reads configuration space: `data` is 1 to 4 bytes within one dword. Where no function is, it reads as ones.
    pub fn read_config(&mut self, place: Place, offset: u16, data: &mut [u8]) {
        let Some(slots) = self.slots(place.bus()) else {
            return data.fill(0xff);
        };
        let Some(slot) = slots.get(&place.devfn()) else {
            return data.fill(0xff);
        };
        lock(&slot.function).read_config(offset, data);
        let several = || {
            slots
                .range(place.first().devfn()..=place.last().devfn())
                .count()
                > 1
        };
        if let Some(byte) = HEADER_TYPE.checked_sub(offset)
            && let Some(header) = data.get_mut(usize::from(byte))
            && several()
        {
            *header |= SEVERAL_FUNCTIONS;
        }
    }

    /// Writes configuration space, as for reads, and moves what the function decodes.
    pub fn write_config(&mut self, place: Place, offset: u16, data: &[u8]) {
        let memory = Arc::clone(&self.memory);
        let slots = self.slots(place.bus());
        if let Some(slot) = slots.and_then(|slots| slots.get_mut(&place.devfn())) {
            lock(&slot.function).write_config(offset, data);
            slot.remap(&memory);
        }
    }

    /// Resets every function and gives the registers their first addresses again.
    pub fn reset(&mut self) {
        let root = self.root.iter_mut().map(|(devfn, slot)| (0, *devfn, slot));
        let behind = self.behind.iter_mut().flat_map(|behind| {
            let bus = behind.bus;
            let slots = behind.slots.iter_mut();
            slots.map(move |(devfn, slot)| (bus, *devfn, slot))
        });
        for (bus, devfn, slot) in root.chain(behind) {
            let place = Place::at(bus, devfn);
            lock(&slot.function).reset();
            slot.remap(&self.memory);
            if place != Place::at(0, 0) {
                place_first_bar(place, &slot.function);
            }
        }
    }
}

impl Slot {
    fn new(function: SharedFunction) -> Self {
        Self {
            function,
            wanted: Vec::new(),
            granted: Vec::new(),
        }
    }

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

/// Writes the address that the machine's layout keeps for `place` into the function's first register. A root port has none.
fn place_first_bar(place: Place, function: &SharedFunction) {
    let base = layout::pci_bar(place);
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

    /// The place and register that the address port selects: `None` unless it is enabled.
    fn selected(&self) -> Option<(Place, u16)> {
        let [register, devfn, bus, flags] = self.address;
        let enabled = flags & 1 << 7 != 0;
        enabled.then_some((Place::at(bus, devfn), u16::from(register & 0xfc)))
    }
}

impl BusDevice for PciPorts {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        match (offset, self.selected()) {
            (0, _) if data.len() == 4 => data.copy_from_slice(&self.address),
            (4..8, Some((place, register))) if offset as usize + data.len() <= 8 => {
                lock(&self.bus).read_config(place, register + (offset - 4) as u16, data);
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
            (4..8, Some((place, register))) if offset as usize + data.len() <= 8 => {
                lock(&self.bus).write_config(place, register + (offset - 4) as u16, data);
            }
            _ => {}
        }
    }
}

/// Configuration space in memory (ECAM): 1 MiB for each bus.
pub struct PciEcam {
    bus: Arc<Mutex<PciBus>>,
}

impl PciEcam {
    /// A window onto `bus`.
    pub fn new(bus: Arc<Mutex<PciBus>>) -> Self {
        Self { bus }
    }
}

/// The place and register at `offset` of the window: `None` beyond the last bus that there can be.
fn ecam_target(offset: u64) -> Option<(Place, u16)> {
    let bus = u8::try_from(offset / layout::PCI_ECAM_BUS).ok()?;
    Some((
        Place::at(bus, (offset >> 12) as u8),
        (offset & 0xfff) as u16,
    ))
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
                Some((place, register)) => lock(&self.bus).read_config(place, register, piece),
                None => piece.fill(0xff),
            }
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for (at, start, len) in dwords(offset, data.len()) {
            if let (Some((place, register)), Some(piece)) =
                (ecam_target(at), data.get(start..start + len))
            {
                lock(&self.bus).write_config(place, register, piece);
            }
        }
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
