//! One KVM guest in one small, sandboxed process.

pub mod bus;
pub mod config;
pub mod devices;
pub mod interrupt;
pub mod layout;
pub mod pci;
