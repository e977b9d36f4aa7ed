//! Doorbells: how a guest's notification of a queue reaches the queue's worker.

use std::io;
use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

/// How a guest's notification reaches an eventfd without leaving the kernel.
pub trait Doorbells: Send + Sync {
    /// From now on a write to guest physical `address` signals `event`.
    fn connect(&self, address: u64, event: &EventFd) -> io::Result<()>;
    /// Undoes [`Doorbells::connect`].
    fn disconnect(&self, address: u64, event: &EventFd) -> io::Result<()>;
}

/// Doorbells by KVM's ioeventfd.
pub struct KvmDoorbells(Arc<VmFd>);

impl KvmDoorbells {
    /// Doorbells of the machine `vm`.
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self(vm)
    }
}

impl Doorbells for KvmDoorbells {
    fn connect(&self, address: u64, event: &EventFd) -> io::Result<()> {
        self.0
            .register_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch)
            .map_err(io::Error::from)
    }

    fn disconnect(&self, address: u64, event: &EventFd) -> io::Result<()> {
        self.0
            .unregister_ioevent(event, &IoEventAddress::Mmio(address), NoDatamatch)
            .map_err(io::Error::from)
    }
}
