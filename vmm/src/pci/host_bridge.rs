//! The function in slot 0: a host bridge that has an identity and nothing else.
//!
//! Guests look for one to believe that there is a PCI bus at all.

use super::{BarRange, ConfigSpace, Identity, PciFunction};

/// Red Hat's number for a host bridge over ECAM; guests attach no quirks to it.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    class: 0x06_00_00,
    revision: 0,
    subsystem: (0x1af4, 0x1100),
};

/// The host bridge.
#[derive(Debug)]
pub struct HostBridge(ConfigSpace);

impl HostBridge {
    /// A host bridge.
    pub fn new() -> Self {
        Self(ConfigSpace::new(IDENTITY, [None; super::BARS]))
    }
}

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl PciFunction for HostBridge {
    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.0.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) {
        self.0.write(offset, data);
    }

    fn ranges(&self) -> Vec<BarRange> {
        self.0.ranges()
    }

    fn mapped(&mut self, _bar: usize, _base: Option<u64>) {}

    fn read_bar(&mut self, _bar: usize, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write_bar(&mut self, _bar: usize, _offset: u64, _data: &[u8]) {}

    fn reset(&mut self) {
        self.0.reset();
    }
}
