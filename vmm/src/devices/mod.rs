//! The devices of the machine.

pub mod i8042;
pub mod pm;
pub mod pvpanic;
pub mod rtc;
pub mod serial;
pub mod virtio;
pub mod watchdog;
