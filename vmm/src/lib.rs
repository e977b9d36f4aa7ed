//! One KVM guest in one small, sandboxed process.

pub mod acpi;
pub mod boot;
pub mod bus;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod core_dump;
pub mod cpuid;
pub mod devices;
pub mod interrupt;
pub mod ioctl;
pub mod layout;
pub mod log;
pub mod machine;
pub mod memory;
pub mod notice;
pub mod pci;
pub mod pin;
pub mod reference;
pub mod sandbox;
pub mod smbios;
pub mod vcpu;
