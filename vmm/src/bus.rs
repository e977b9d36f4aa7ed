//! Address spaces: which device answers at which port or physical address.
//!
//! In come a vcpu's port and MMIO accesses, which carry whatever address and width the guest chose; out go calls of
//! [`BusDevice`] with an offset inside the device's own range. One [`Bus`] serves the ports, another the memory-mapped
//! addresses. Ranges never overlap: what would is refused by [`Bus::insert`]. An access that no range wholly holds is answered
//! with `false` (and all ones on a read), never with a panic, since a guest may try any address.
//!
//! The map itself is behind a lock of its own that is released before a device is called, so a device may change the map: this
//! is how a guest moves a PCI base address register.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use thiserror::Error;

/// Something that answers reads and writes of its own address range.
///
/// `offset` counts from the beginning of the range. `data` is never empty and `offset + data.len()` lies within the range, but the
/// width and alignment are the guest's choice: an implementation answers what it does not know with zeroes and ignores what it cannot
/// take.
pub trait BusDevice: Send {
    /// Reads `data.len()` bytes at `offset`.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// Writes `data` at `offset`.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// A device as several vcpus share it.
pub type SharedDevice = Arc<Mutex<dyn BusDevice>>;

/// Why a range was not taken into a [`Bus`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BusError {
    /// The range has no bytes.
    #[error("range at {base:#x} is empty")]
    Empty {
        /// First address of the refused range.
        base: u64,
    },
    /// The range would end beyond the last 64-bit address.
    #[error("range of {len:#x} bytes at {base:#x} runs past the end of the address space")]
    TooLong {
        /// First address of the refused range.
        base: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// Some address of the range already belongs to another device.
    #[error(
        "range of {len:#x} bytes at {base:#x} overlaps the one of {other_len:#x} bytes at {other:#x}"
    )]
    Overlap {
        /// First address of the refused range.
        base: u64,
        /// Its length in bytes.
        len: u64,
        /// First address of the range that is already there.
        other: u64,
        /// Its length in bytes.
        other_len: u64,
    },
}

struct Range {
    len: u64,
    device: SharedDevice,
}

/// A map from address ranges to devices, shared by all vcpus.
#[derive(Default)]
pub struct Bus {
    ranges: RwLock<BTreeMap<u64, Range>>,
}

impl Bus {
    /// An empty address space.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the `len` bytes from `base` to `device`. Fails when the range is empty, too long, or not free.
    pub fn insert(&self, base: u64, len: u64, device: SharedDevice) -> Result<(), BusError> {
        if len == 0 {
            return Err(BusError::Empty { base });
        }
        let last = base
            .checked_add(len - 1)
            .ok_or(BusError::TooLong { base, len })?;
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((&other, range)) = ranges.range(..=last).next_back()
            && other + (range.len - 1) >= base
        {
            return Err(BusError::Overlap {
                base,
                len,
                other,
                other_len: range.len,
            });
        }
        ranges.insert(base, Range { len, device });
        Ok(())
    }

    /// Takes away the range that begins at `base`; says whether there was one.
    pub fn remove(&self, base: u64) -> bool {
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        ranges.remove(&base).is_some()
    }

    /// Reads at `addr`. Says whether a device answered; if none did, `data` is all ones, as an empty bus floats.
    pub fn read(&self, addr: u64, data: &mut [u8]) -> bool {
        match self.find(addr, data.len()) {
            Some((offset, device)) => {
                lock(&device).read(offset, data);
                true
            }
            None => {
                data.fill(0xff);
                false
            }
        }
    }

    /// Writes at `addr`. Says whether a device took it.
    pub fn write(&self, addr: u64, data: &[u8]) -> bool {
        match self.find(addr, data.len()) {
            Some((offset, device)) => {
                lock(&device).write(offset, data);
                true
            }
            None => false,
        }
    }

    /// The device whose range holds all `len` bytes at `addr`, and the offset of `addr` in it.
    fn find(&self, addr: u64, len: usize) -> Option<(u64, SharedDevice)> {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let (&base, range) = ranges.range(..=addr).next_back()?;
        let offset = addr - base;
        // An access that begins in a device and ends beyond it would make the device answer for bytes that are not its own.
        let fits = len > 0
            && u64::try_from(len)
                .is_ok_and(|len| offset.checked_add(len).is_some_and(|end| end <= range.len));
        fits.then(|| (offset, Arc::clone(&range.device)))
    }
}

/// Locks a shared value, also after a thread that held it panicked: a device's registers stay usable plain data.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Echo(Vec<(u64, Vec<u8>)>);

    impl BusDevice for Echo {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }
        fn write(&mut self, offset: u64, data: &[u8]) {
            self.0.push((offset, data.to_vec()));
        }
    }

    fn device() -> Arc<Mutex<Echo>> {
        Arc::new(Mutex::new(Echo(Vec::new())))
    }

    #[test]
    fn an_access_reaches_the_device_with_its_own_offset() {
        let bus = Bus::new();
        let (low, high) = (device(), device());
        bus.insert(0x100, 0x10, low.clone()).unwrap();
        bus.insert(0x110, 0x10, high.clone()).unwrap();
        assert!(bus.write(0x112, &[7, 8]));
        assert_eq!(lock(&high).0, [(2, vec![7, 8])]);
        assert!(lock(&low).0.is_empty());
        let mut data = [0; 2];
        assert!(bus.read(0x103, &mut data));
        assert_eq!(data, [3, 3]);
    }

    #[test]
    fn nobody_home_reads_as_ones() {
        let bus = Bus::new();
        bus.insert(0x100, 0x10, device()).unwrap();
        for addr in [0, 0xff, 0x10f, 0x110, u64::MAX] {
            let mut data = [0; 4];
            assert!(!bus.read(addr, &mut data), "{addr:#x}");
            assert_eq!(data, [0xff; 4]);
            assert!(!bus.write(addr, &[1, 2, 3, 4]));
        }
    }

    #[test]
    fn overlaps_are_refused_and_change_nothing() {
        let bus = Bus::new();
        bus.insert(0x100, 0x10, device()).unwrap();
        for (base, len) in [
            (0x100, 0x10),
            (0xf8, 0x10),
            (0x10f, 1),
            (0, 0x1000),
            (0x104, 4),
        ] {
            assert!(
                matches!(
                    bus.insert(base, len, device()),
                    Err(BusError::Overlap { .. })
                ),
                "{base:#x}+{len:#x}"
            );
        }
        assert_eq!(bus.insert(5, 0, device()), Err(BusError::Empty { base: 5 }));
        assert!(matches!(
            bus.insert(u64::MAX, 2, device()),
            Err(BusError::TooLong { .. })
        ));
        bus.insert(u64::MAX, 1, device()).unwrap();
        bus.insert(0xff, 1, device()).unwrap();
    }

    #[test]
    fn a_device_may_move_its_own_range_while_it_is_called() {
        struct Mover(Arc<Bus>);
        impl BusDevice for Mover {
            fn read(&mut self, _: u64, _: &mut [u8]) {}
            fn write(&mut self, _: u64, _: &[u8]) {
                self.0.remove(0x100);
                self.0.insert(0x200, 4, device()).unwrap();
            }
        }
        let bus = Arc::new(Bus::new());
        bus.insert(0x100, 4, Arc::new(Mutex::new(Mover(Arc::clone(&bus)))))
            .unwrap();
        assert!(bus.write(0x100, &[1]));
        assert!(!bus.write(0x100, &[1]));
        assert!(bus.write(0x200, &[1]));
    }

    proptest! {
        #[test]
        fn no_two_ranges_ever_hold_one_address(ranges in prop::collection::vec((0u64..64, 1u64..16), 1..20)) {
            let bus = Bus::new();
            let mut taken = [false; 128];
            for (base, len) in ranges {
                let cells = &mut taken[base as usize..(base + len) as usize];
                let free = cells.iter().all(|cell| !cell);
                prop_assert_eq!(bus.insert(base, len, device()).is_ok(), free);
                if free {
                    cells.fill(true);
                }
            }
            for (addr, cell) in taken.iter().enumerate() {
                prop_assert_eq!(bus.read(addr as u64, &mut [0]), *cell);
            }
        }
    }
}
