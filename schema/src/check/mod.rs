//! What is wrong between fields of one definition, and between definitions.
//!
//! In: decoded definitions. Out: diagnostics. Shape and single values were judged before; here are rules that need more than one field, a file for each subject.

mod across;
mod addresses;
mod chardevs;
mod clashes;
mod controllers;
mod devices;
mod disks;
mod displays;
mod dns;
mod drives;
mod filesystems;
mod filter;
mod hostdevs;
mod interfaces;
mod limits;
mod machine;
mod network;
mod network_ip;
mod one;
mod peripherals;
mod record;
mod references;
mod shared;
mod sources;
mod storage;
mod traffic;
mod tune;
mod usb;

pub use across::check;
pub(crate) use addresses::places;
pub(crate) use devices::{is_i440fx, is_q35};
pub(crate) use one::one;
pub use record::not_kept;
pub use references::{Reference, Target, references};
