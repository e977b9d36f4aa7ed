//! One KVM guest in one process.
