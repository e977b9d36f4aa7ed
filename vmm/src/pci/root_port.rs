//! A root port of PCI Express: a bridge from the root bus to a bus with one slot (PCI Express 6.0, sections 7.5.1.3 and 7.5.3).
//!
//! At power on its registers say what firmware would have made of them: which bus is behind it, and the memory where that bus's device is. A guest may number
//! its buses anew, and is followed. The window is the guest's own note: what is behind the port answers where its own registers say. There is no hot plug, so
//! that there are no interrupts either.

use super::config::{CapabilityError, ConfigSpace, Identity};
use super::{BarRange, PciFunction, Place};
use crate::layout;

/// Red Hat's number for a root port that no chipset has; guests attach no quirks to it.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x000c,
    class: 0x06_04_00,
    revision: 0,
    subsystem: (0, 0),
};

const PRIMARY: u16 = 0x18;
const SECONDARY: u16 = 0x19;
const MEMORY_BASE: u16 = 0x20;

const CAP_EXPRESS: u8 = 0x10;

/// A root port.
#[derive(Debug)]
pub struct RootPort {
    config: ConfigSpace,
    bus: u8,
}

impl RootPort {
    /// A port with bus `bus` behind it.
    ///
    /// # Errors
    /// None that a guest or a configuration could cause: the capability fits.
    pub fn new(bus: u8) -> Result<Self, CapabilityError> {
        let mut config = ConfigSpace::bridge(IDENTITY);
        let (body, writable) = express(bus);
        config.add_capability(CAP_EXPRESS, &body, &writable)?;
        let mut port = Self { config, bus };
        port.power_on();
        Ok(port)
    }

    /// The bus that the guest now has behind the port; 0 is none.
    pub fn secondary(&self) -> u8 {
        self.config.u16_at(SECONDARY) as u8
    }

    fn power_on(&mut self) {
        let bus = self.bus;
        self.config.write(PRIMARY, &[0, bus, bus]);
        let window = (layout::pci_bar(Place::new(bus, 0, 0)) >> 16) as u16;
        // Base and limit: the window's size is their granularity.
        let [low, high] = window.to_le_bytes();
        self.config.write(MEMORY_BASE, &[low, high, low, high]);
    }
}

/// The capability of PCI Express without its header, and what of it a guest may write.
fn express(bus: u8) -> ([u8; 58], [u8; 8]) {
    /// Second version of the capability, of a root port without a slot to plug into.
    const ROOT_PORT: u16 = 4 << 4 | 2;
    /// Errors are told by their roles.
    const DEVICE: u32 = 1 << 15;
    /// One lane of 2.5 GT/s.
    const LINK: u16 = 1 << 4 | 1;
    const SPEEDS: u32 = 1 << 1;
    let mut body = [0; 58];
    let mut put =
        |at: usize, bytes: &[u8]| body[at - 2..at - 2 + bytes.len()].copy_from_slice(bytes);
    put(0x02, &ROOT_PORT.to_le_bytes());
    put(0x04, &DEVICE.to_le_bytes());
    put(
        0x0c,
        &(u32::from(LINK) | u32::from(bus) << 24).to_le_bytes(),
    );
    put(0x12, &LINK.to_le_bytes());
    put(0x2c, &SPEEDS.to_le_bytes());
    // Device control: which errors are told of, and the sizes of packets.
    let mut writable = [0; 8];
    writable[6..].copy_from_slice(&0x70ef_u16.to_le_bytes());
    (body, writable)
}

impl PciFunction for RootPort {
    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
    }

    fn ranges(&self) -> Vec<BarRange> {
        Vec::new()
    }

    fn mapped(&mut self, _bar: usize, _base: Option<u64>) {}

    fn read_bar(&mut self, _bar: usize, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write_bar(&mut self, _bar: usize, _offset: u64, _data: &[u8]) {}

    fn reset(&mut self) {
        self.config.reset();
        self.power_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read32(port: &mut RootPort, offset: u16) -> u32 {
        let mut data = [0; 4];
        port.read_config(offset, &mut data);
        u32::from_le_bytes(data)
    }

    #[test]
    fn a_port_is_as_firmware_would_leave_it_at_power_on_and_after_a_reset() {
        let mut port = RootPort::new(3).unwrap();
        for _ in 0..2 {
            assert_eq!(read32(&mut port, 0x18), 0x0003_0300);
            // One mebibyte at the place of the device behind it.
            let base = layout::pci_bar(Place::new(3, 0, 0)) as u32;
            assert_eq!(read32(&mut port, 0x20), base >> 16 | base & 0xfff0_0000);
            port.write_config(0x18, &[9; 4]);
            assert_eq!(port.secondary(), 9);
            port.write_config(0x20, &[0xff; 4]);
            port.reset();
        }
    }

    #[test]
    fn what_a_port_is_a_guest_cannot_change() {
        let mut port = RootPort::new(3).unwrap();
        let whole = |port: &mut RootPort| (0..64).map(|n| read32(port, n * 4)).collect::<Vec<_>>();
        let before = whole(&mut port);
        for register in 0..64 {
            port.write_config(register * 4, &[0xff; 4]);
        }
        let after = whole(&mut port);
        let changed = before
            .iter()
            .zip(&after)
            .zip(0..)
            .filter(|((a, b), _)| a != b);
        let changed: Vec<u32> = changed.map(|(_, n)| n * 4).collect();
        // Command, bus numbers, the window, interrupt line and bridge control, device control.
        assert_eq!(changed, [0x04, 0x18, 0x20, 0x3c, 0x48]);
        assert_eq!(before[3] >> 16 & 0xff, 1, "a bridge's header");
        assert_eq!(before[16] & 0xff, u32::from(CAP_EXPRESS));
    }
}
