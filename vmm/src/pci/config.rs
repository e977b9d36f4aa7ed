//! The 256 bytes of a configuration header, of a device (type 0) or a bridge (type 1), and its capabilities.
//!
//! In come reads and writes of any bytes; which bits a write changes is decided by a mask of the same size, so that read-only registers,
//! the sizing of base address registers and capability fields all follow from one rule. Bytes beyond the header (the extended
//! space of ECAM) read as zero: there are no extended capabilities.

use thiserror::Error;

use super::{BARS, BarRange};

/// Bytes of configuration space that exist.
const SIZE: usize = 256;
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const HEADER_TYPE: usize = 0x0e;
const FIRST_BAR: usize = 0x10;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
/// Where the first capability goes: the end of the header.
const FIRST_CAPABILITY: usize = 0x40;

/// Command register: the function answers in memory space.
const COMMAND_MEMORY: u16 = 1 << 1;
/// Command register: what a guest may set. Memory decoding, bus mastering, parity and SERR reporting, INTx off.
const COMMAND_WRITABLE: u16 = COMMAND_MEMORY | 1 << 2 | 1 << 6 | 1 << 8 | 1 << 10;
/// Status register: there is a list of capabilities.
const STATUS_CAPABILITIES: u16 = 1 << 4;

/// What a function says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor, as the PCI-SIG numbers them.
    pub vendor: u16,
    /// Device, as the vendor numbers them.
    pub device: u16,
    /// Class, subclass and programming interface, in the low 24 bits.
    pub class: u32,
    /// Revision of the device.
    pub revision: u8,
    /// Vendor and device of the board.
    pub subsystem: (u16, u16),
}

/// A 32-bit memory base address register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Length in bytes: a power of two, at least 16.
    pub len: u32,
}

/// Why a capability was not taken.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("capability {id:#x} of {len} bytes does not fit into configuration space")]
pub struct CapabilityError {
    /// The capability's identifier.
    pub id: u8,
    /// Its length in bytes with the two of its header.
    pub len: usize,
}

/// Configuration space of one function.
#[derive(Debug, Clone)]
pub struct ConfigSpace {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    bars: [Option<Bar>; BARS],
    /// Offset of the byte that links to the next capability.
    last_link: usize,
    /// First byte that no capability has taken.
    free: usize,
}

impl ConfigSpace {
    /// The header of a function with the base address registers `bars`.
    pub fn new(identity: Identity, bars: [Option<Bar>; BARS]) -> Self {
        let mut config = Self::any(identity, bars);
        config.put(0x2c, &identity.subsystem.0.to_le_bytes());
        config.put(0x2e, &identity.subsystem.1.to_le_bytes());
        for (bar, at) in bars.iter().zip((FIRST_BAR..).step_by(4)) {
            if let Some(Bar { len }) = bar {
                // The address bits below the length stay zero: a guest that writes all ones reads the length back.
                let mask = !(len.next_power_of_two().max(16) - 1);
                config.writable[at..at + 4].copy_from_slice(&mask.to_le_bytes());
            }
        }
        config
    }

    /// The header of a bridge that forwards memory, and neither ports nor prefetchable memory, and has no register of its own.
    pub fn bridge(identity: Identity) -> Self {
        /// Whether errors are passed on: parity, and system errors.
        const BRIDGE_CONTROL: u8 = 0b11;
        let mut config = Self::any(identity, [None; BARS]);
        config.put(HEADER_TYPE, &[1]);
        // Bus numbers: primary, secondary, subordinate; then the window's base and limit, in pieces of a mebibyte.
        config.writable[0x18..0x1b].fill(0xff);
        config.writable[0x20..0x24].copy_from_slice(&[0xf0, 0xff, 0xf0, 0xff]);
        config.writable[0x3e] = BRIDGE_CONTROL;
        config
    }

    /// What headers of both types have.
    fn any(identity: Identity, bars: [Option<Bar>; BARS]) -> Self {
        let mut config = Self {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            bars,
            last_link: CAPABILITIES,
            free: FIRST_CAPABILITY,
        };
        config.put(0x00, &identity.vendor.to_le_bytes());
        config.put(0x02, &identity.device.to_le_bytes());
        config.put(0x08, &[identity.revision]);
        config.put(0x09, &identity.class.to_le_bytes()[..3]);
        config.writable[COMMAND..STATUS].copy_from_slice(&COMMAND_WRITABLE.to_le_bytes());
        config.writable[INTERRUPT_LINE] = 0xff;
        config
    }

    /// Appends a capability: its two header bytes, then `body`, of whose bits the guest may write those set in `writable` (which may be
    /// shorter). Returns the offset of its header.
    pub fn add_capability(
        &mut self,
        id: u8,
        body: &[u8],
        writable: &[u8],
    ) -> Result<u8, CapabilityError> {
        let at = self.free;
        let end = at + 2 + body.len();
        let too_long = CapabilityError {
            id,
            len: 2 + body.len(),
        };
        if end > SIZE {
            return Err(too_long);
        }
        let offset = u8::try_from(at).map_err(|_| too_long)?;
        self.bytes[self.last_link] = offset;
        self.put(at, &[id, 0]);
        self.put(at + 2, body);
        for (mask, bits) in self.writable[at + 2..end].iter_mut().zip(writable) {
            *mask = *bits;
        }
        self.put(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        self.last_link = at + 1;
        self.free = end.next_multiple_of(4);
        Ok(offset)
    }

    /// Reads at `offset`; bytes that do not exist are zero.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (at, byte) in (usize::from(offset)..).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }

    /// Writes at `offset` what the guest may write there.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        for (at, value) in (usize::from(offset)..).zip(data) {
            if let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = (*byte & !mask) | (value & mask);
            }
        }
    }

    /// The 16 bits at `offset`, which are zero beyond the end.
    pub fn u16_at(&self, offset: u16) -> u16 {
        let mut data = [0; 2];
        self.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    /// The 32 bits at `offset`, which are zero beyond the end.
    pub fn u32_at(&self, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// The memory the function decodes now: nothing while the guest has decoding off.
    pub fn ranges(&self) -> Vec<BarRange> {
        if self.u16_at(COMMAND as u16) & COMMAND_MEMORY == 0 {
            return Vec::new();
        }
        let registers = self
            .bars
            .iter()
            .enumerate()
            .zip((FIRST_BAR as u16..).step_by(4));
        registers
            .filter_map(|((bar, known), at)| {
                let len = u64::from((*known)?.len);
                Some(BarRange {
                    bar,
                    base: u64::from(self.u32_at(at) & !0xf),
                    len,
                })
            })
            .collect()
    }

    /// Clears every bit that the guest can write.
    pub fn reset(&mut self) {
        for (byte, mask) in self.bytes.iter_mut().zip(&self.writable) {
            *byte &= !mask;
        }
    }

    /// Writes bytes whatever the mask; for constants inside the space.
    fn put(&mut self, at: usize, data: &[u8]) {
        for (byte, value) in self.bytes[at..].iter_mut().zip(data) {
            *byte = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space() -> ConfigSpace {
        let identity = Identity {
            vendor: 0x1af4,
            device: 0x1042,
            class: 0x01_80_00,
            revision: 1,
            subsystem: (0x1af4, 0x1100),
        };
        ConfigSpace::new(
            identity,
            [Some(Bar { len: 0x8000 }), None, None, None, None, None],
        )
    }

    #[test]
    fn identity_is_read_only() {
        let mut config = space();
        config.write(0, &[0xff; 4]);
        config.write(8, &[0xff; 4]);
        assert_eq!(config.u32_at(0), 0x1042_1af4);
        assert_eq!(config.u32_at(8), 0x0180_0001);
        assert_eq!(config.u32_at(0x2c), 0x1100_1af4);
    }

    #[test]
    fn all_ones_in_a_bar_read_back_as_its_size() {
        let mut config = space();
        config.write(0x10, &[0xff; 4]);
        assert_eq!(config.u32_at(0x10), 0xffff_8000);
        config.write(0x14, &[0xff; 4]);
        assert_eq!(config.u32_at(0x14), 0, "a register that does not exist");
    }

    #[test]
    fn memory_is_decoded_only_when_the_command_register_says_so() {
        let mut config = space();
        config.write(0x10, &0xc010_0000u32.to_le_bytes());
        assert!(config.ranges().is_empty());
        config.write(4, &[2, 0]);
        assert_eq!(
            config.ranges(),
            [BarRange {
                bar: 0,
                base: 0xc010_0000,
                len: 0x8000
            }]
        );
        config.reset();
        assert!(config.ranges().is_empty());
    }

    #[test]
    fn capabilities_form_a_list_and_stop_where_the_space_ends() {
        let mut config = space();
        assert_eq!(config.u16_at(6), 0);
        let first = config.add_capability(0x11, &[0; 10], &[]).unwrap();
        let second = config.add_capability(9, &[1, 2, 3], &[0xf0]).unwrap();
        assert_eq!((first, second), (0x40, 0x4c));
        assert_eq!(config.u16_at(6), 0x10);
        assert_eq!(config.u16_at(0x34), 0x40);
        assert_eq!(config.u16_at(0x40), 0x4c11);
        assert_eq!(config.u32_at(0x4c), 0x0201_0009);
        config.write(0x4e, &[0xff; 2]);
        assert_eq!(config.u32_at(0x4c), 0x02f1_0009);
        assert!(config.add_capability(9, &[0; 0xb0], &[]).is_err());
    }

    proptest! {
        #[test]
        fn no_access_panics_and_reset_undoes_all_writes(writes in prop::collection::vec((any::<u16>(), any::<[u8; 4]>()), 0..40)) {
            let mut config = space();
            let fresh = config.bytes;
            for (offset, data) in writes {
                config.write(offset, &data);
                config.read(offset, &mut [0; 4]);
                let _ = config.ranges();
            }
            config.reset();
            prop_assert_eq!(config.bytes, fresh);
        }
    }
}
