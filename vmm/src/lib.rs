//! One KVM guest in one small, sandboxed process.

pub mod config;
pub mod layout;
