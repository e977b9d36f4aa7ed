//! The panic device: a byte by which the guest's kernel tells that it has broken down.
//!
//! In come accesses of one register, at a port that ACPI names or in the memory of a PCI function; out goes a notice of a crash. A kernel that has
//! another one loaded to look after its crash says so instead, and is left to it. Source: the kernel's drivers/misc/pvpanic and
//! include/uapi/misc/pvpanic.h.

use crate::bus::BusDevice;
use crate::notice::{Notice, Notifier};
use crate::pci::{BARS, Bar, BarRange, ConfigSpace, Identity, PciFunction};

/// The kernel panicked.
const PANICKED: u8 = 1;
/// The kernel panicked, and starts the kernel that it had loaded for this.
const CRASH_LOADED: u8 = 1 << 1;
/// What a guest may tell.
const EVENTS: u8 = PANICKED | CRASH_LOADED;

/// Red Hat's number for the device on PCI.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0011,
    class: 0x08_80_00,
    revision: 1,
    subsystem: (0x1af4, 0x1100),
};

/// The register, as it is at a port.
pub struct Pvpanic(Notifier);

impl Pvpanic {
    /// A device that tells by `notifier`.
    pub fn new(notifier: Notifier) -> Self {
        Self(notifier)
    }
}

impl BusDevice for Pvpanic {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (0, Some(first)) = (offset, data.first_mut()) {
            *first = EVENTS;
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let (0, &[told]) = (offset, data) else {
            return;
        };
        if told & PANICKED != 0 {
            self.0
                .send(Notice::Crash("its kernel told of a panic".into()));
        } else if told & CRASH_LOADED != 0 {
            tracing::info!("the guest's kernel panicked and starts the one it loaded for this");
        }
    }
}

/// The register as a PCI function.
pub struct PvpanicPci {
    config: ConfigSpace,
    register: Pvpanic,
}

impl PvpanicPci {
    /// A device that tells by `notifier`.
    pub fn new(notifier: Notifier) -> Self {
        let mut bars = [None; BARS];
        bars[0] = Some(Bar { len: 16 });
        Self {
            config: ConfigSpace::new(IDENTITY, bars),
            register: Pvpanic::new(notifier),
        }
    }
}

impl PciFunction for PvpanicPci {
    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
    }

    fn ranges(&self) -> Vec<BarRange> {
        self.config.ranges()
    }

    fn mapped(&mut self, _bar: usize, _base: Option<u64>) {}

    fn read_bar(&mut self, _bar: usize, offset: u64, data: &mut [u8]) {
        self.register.read(offset, data);
    }

    fn write_bar(&mut self, _bar: usize, offset: u64, data: &[u8]) {
        self.register.write(offset, data);
    }

    fn reset(&mut self) {
        self.config.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::channel;

    #[test]
    fn a_panic_is_a_crash_and_nothing_else_is() {
        let (notifier, notices) = channel().unwrap();
        let mut device = Pvpanic::new(notifier);
        for told in 0..=0xff {
            device.write(0, &[told]);
            let crashed = matches!(notices.drain()[..], [Notice::Crash(_)]);
            assert_eq!(crashed, told & PANICKED != 0, "{told:#x}");
        }
        device.write(1, &[PANICKED]);
        device.write(0, &[PANICKED, 0]);
        assert!(notices.drain().is_empty());
    }

    #[test]
    fn both_forms_say_what_they_can_be_told() {
        let (notifier, notices) = channel().unwrap();
        let mut byte = [0];
        Pvpanic::new(notifier.clone()).read(0, &mut byte);
        assert_eq!(byte, [3]);
        let mut function = PvpanicPci::new(notifier);
        function.read_bar(0, 0, &mut byte);
        assert_eq!(byte, [3]);
        function.write_bar(0, 0, &[PANICKED]);
        assert_eq!(notices.drain().len(), 1);
    }
}
