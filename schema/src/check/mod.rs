//! What is wrong between fields of one definition, and between definitions.
//!
//! In: decoded definitions. Out: diagnostics. Shape and single values were judged before; here are rules that need more than one field, a file for each subject.

mod across;
mod addresses;
mod builtin;
mod chardevs;
mod chassis;
mod clashes;
mod clock;
mod controllers;
mod cpu;
mod devices;
mod disks;
mod display_ports;
mod displays;
mod dns;
mod drive_places;
mod drives;
mod features;
mod filesystems;
mod filter;
mod hostdevs;
mod interfaces;
mod limits;
mod machine;
mod memory;
mod memory_devices;
mod network;
mod network_ip;
mod numa;
mod one;
mod os;
mod path;
mod pci_buses;
mod peripherals;
mod record;
mod references;
mod security;
mod sources;
mod storage;
mod threads;
mod traffic;
mod tune;
mod usb;
mod virtio;

pub use across::check;
pub(crate) use addresses::places;
pub(crate) use machine::{is_i440fx, is_q35};
pub(crate) use one::one;
pub use record::not_kept;
pub use references::{Reference, Target, references};
