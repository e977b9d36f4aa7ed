//! The keyboard controller's one command that guests without ACPI still use: reset.
//!
//! In come accesses of ports 0x60 to 0x64, out goes a notice that the guest wants a reset.

use std::convert::Infallible;

use vm_superio::{I8042Device, Trigger};

use crate::bus::BusDevice;
use crate::notice::{Notice, Notifier};

struct OnReset(Notifier);

impl Trigger for OnReset {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.send(Notice::Reset);
        Ok(())
    }
}

/// The keyboard controller.
pub struct I8042(I8042Device<OnReset>);

impl I8042 {
    /// A controller without a keyboard.
    pub fn new(notifier: Notifier) -> Self {
        Self(I8042Device::new(OnReset(notifier)))
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let ([byte], Ok(offset)) = (data, u8::try_from(offset)) {
            *byte = self.0.read(offset);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (&[byte], Ok(offset)) = (data, u8::try_from(offset)) {
            // Its error type has no values.
            let _ = self.0.write(offset, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::channel;

    #[test]
    fn only_the_reset_command_asks_for_a_reset() {
        let (notifier, notices) = channel().unwrap();
        let mut device = I8042::new(notifier);
        for command in 0..=0xff {
            device.write(4, &[command]);
            assert_eq!(notices.drain().len(), usize::from(command == 0xfe));
        }
    }
}
