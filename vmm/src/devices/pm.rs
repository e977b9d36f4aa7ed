//! ACPI's fixed hardware: the power button, power off, the reset register and the power management timer.
//!
//! In come the guest's accesses of the ports that the FADT names, and the owner's wish to press the button; out go the system control
//! interrupt and notices that the guest powered off or wants a reset. Registers are described in ACPI 6.5, section 4.8.3.

use std::sync::Arc;
use std::time::Instant;

use crate::bus::BusDevice;
use crate::interrupt::IrqLine;
use crate::layout::{
    PORT_PM_TIMER, PORT_PM1_CONTROL, PORT_PM1_EVENT, PORT_RESET, RESET_VALUE, SLEEP_TYPE_S5,
};
use crate::notice::{Notice, Notifier};

/// First port of the device and how many it has.
pub const PORTS: std::ops::Range<u16> = PORT_PM1_EVENT.start..PORT_RESET.end;

/// `PWRBTN_STS` and `PWRBTN_EN`.
const POWER_BUTTON: u16 = 1 << 8;
/// Status bits that exist here; the guest clears them by writing ones.
const STATUS_BITS: u16 = POWER_BUTTON;
/// `SCI_EN`: always on, there is no other mode.
const SCI_ENABLED: u16 = 1;
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE: u16 = 7 << 10;
/// The timer's rate in hertz.
const TIMER_HZ: u128 = 3_579_545;

/// The fixed hardware.
pub struct PowerManagement {
    status: u16,
    enable: u16,
    control: u16,
    started: Instant,
    sci: Arc<dyn IrqLine>,
    notifier: Notifier,
}

impl PowerManagement {
    /// The hardware as it is at power on, with its interrupt line.
    pub fn new(sci: Arc<dyn IrqLine>, notifier: Notifier) -> Self {
        Self {
            status: 0,
            enable: 0,
            control: 0,
            started: Instant::now(),
            sci,
            notifier,
        }
    }

    /// Presses the power button. The guest decides what follows; one without ACPI does not notice.
    pub fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
        self.drive();
    }

    /// Back to power on.
    pub fn reset(&mut self) {
        (self.status, self.enable, self.control) = (0, 0, 0);
        self.drive();
    }

    fn drive(&self) {
        if let Err(error) = self.sci.set(self.status & self.enable != 0) {
            tracing::warn!(%error, "could not set the power management interrupt");
        }
    }

    fn timer(&self) -> u32 {
        // The timer wraps; the guest counts differences.
        (self.started.elapsed().as_nanos() * TIMER_HZ / 1_000_000_000) as u32
    }

    fn write_control(&mut self, value: u16) {
        self.control = value & (SLEEP_TYPE | 2);
        if value & SLEEP_ENABLE != 0 && (value & SLEEP_TYPE) >> 10 == SLEEP_TYPE_S5 {
            self.notifier.send(Notice::PowerOff);
        }
    }
}

/// A register's place among the ports.
const fn at(port: u16) -> u64 {
    (port - PORTS.start) as u64
}

const STATUS: u64 = at(PORT_PM1_EVENT.start);
const ENABLE: u64 = at(PORT_PM1_EVENT.start + 2);
const CONTROL: u64 = at(PORT_PM1_CONTROL.start);
const TIMER: u64 = at(PORT_PM_TIMER.start);
const RESET: u64 = at(PORT_RESET.start);

impl BusDevice for PowerManagement {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let value = match offset {
            STATUS => u32::from(self.status) | u32::from(self.enable) << 16,
            ENABLE => self.enable.into(),
            CONTROL => (self.control | SCI_ENABLED).into(),
            TIMER => self.timer(),
            _ => return,
        };
        for (byte, value) in data.iter_mut().zip(value.to_le_bytes()) {
            *byte = value;
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut bytes = [0; 4];
        for (byte, value) in bytes.iter_mut().zip(data) {
            *byte = *value;
        }
        let value = u32::from_le_bytes(bytes);
        let low = value as u16;
        match offset {
            STATUS => {
                self.status &= !(low & STATUS_BITS);
                if data.len() >= 4 {
                    self.enable = (value >> 16) as u16;
                }
                self.drive();
            }
            ENABLE => {
                self.enable = low;
                self.drive();
            }
            CONTROL => self.write_control(low),
            RESET if low as u8 == RESET_VALUE => self.notifier.send(Notice::Reset),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interrupt::Recorder;
    use crate::notice::{Notices, channel};

    fn device() -> (PowerManagement, Arc<Recorder>, Notices) {
        let line = Recorder::new();
        let (notifier, notices) = channel().unwrap();
        (PowerManagement::new(line.clone(), notifier), line, notices)
    }

    #[test]
    fn the_button_interrupts_until_the_guest_has_seen_it() {
        let (mut pm, line, _) = device();
        pm.press_power_button();
        assert_eq!(line.take_levels(), [false]);
        pm.write(ENABLE, &POWER_BUTTON.to_le_bytes());
        assert_eq!(line.take_levels(), [true]);
        pm.write(STATUS, &POWER_BUTTON.to_le_bytes());
        assert_eq!(line.take_levels(), [false]);
    }

    #[test]
    fn only_soft_off_ends_the_guest() {
        let (mut pm, _, notices) = device();
        for state in 0..8 {
            pm.write(CONTROL, &(state << 10 | SLEEP_ENABLE).to_le_bytes());
            let off = notices.drain() == [Notice::PowerOff];
            assert_eq!(off, state == SLEEP_TYPE_S5);
        }
        pm.write(CONTROL, &(SLEEP_TYPE_S5 << 10).to_le_bytes());
        assert!(notices.drain().is_empty());
    }

    #[test]
    fn the_reset_register_asks_for_a_reset() {
        let (mut pm, _, notices) = device();
        pm.write(RESET, &[0]);
        assert!(notices.drain().is_empty());
        pm.write(RESET, &[RESET_VALUE]);
        assert_eq!(notices.drain(), [Notice::Reset]);
    }

    proptest! {
        #[test]
        fn no_access_panics(offset in 0u64..16, data in prop::collection::vec(any::<u8>(), 1..9)) {
            let (mut pm, _, _) = device();
            pm.write(offset, &data);
            pm.read(offset, &mut data.clone());
        }
    }
}
