//! How devices interrupt the guest: messages ([`Msi`]) from PCI devices, and wires ([`IrqLine`]) from the few old ones.
//!
//! Devices hold these traits and never KVM itself, so that each is tested whole without a hypervisor. The message's address and data come
//! from tables that the guest writes; KVM decodes them as an interrupt controller would, and a message that names no CPU is lost
//! without harm. Errors are the kernel's; devices log them and go on.

use std::io;
use std::sync::{Arc, Mutex};

use kvm_bindings::kvm_msi;
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::EventFd;

use crate::bus::lock;

/// A way to deliver message-signalled interrupts.
pub trait Msi: Send + Sync {
    /// Delivers the message `data` to the guest physical `address`, as a PCI device writing there would.
    fn signal(&self, address: u64, data: u32) -> io::Result<()>;
}

/// One interrupt wire.
pub trait IrqLine: Send + Sync {
    /// Raises or lowers the wire.
    fn set(&self, high: bool) -> io::Result<()>;

    /// Raises and lowers the wire: one edge.
    fn pulse(&self) -> io::Result<()> {
        self.set(true)?;
        self.set(false)
    }
}

/// Messages through the in-kernel interrupt controller, by `KVM_SIGNAL_MSI`.
///
/// One system call a message, as many as an irqfd would cost, without routes to keep equal to the guest's tables.
pub struct KvmMsi(Arc<VmFd>);

impl KvmMsi {
    /// Delivers into the machine `vm`, which must have its interrupt controllers in the kernel.
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self(vm)
    }
}

impl Msi for KvmMsi {
    fn signal(&self, address: u64, data: u32) -> io::Result<()> {
        let message = kvm_msi {
            address_lo: address as u32,
            address_hi: (address >> 32) as u32,
            data,
            ..Default::default()
        };
        self.0
            .signal_msi(message)
            .map(|_| ())
            .map_err(io::Error::from)
    }
}

/// A level-triggered wire of the in-kernel interrupt controllers, by `KVM_IRQ_LINE`.
pub struct KvmIrqLine {
    vm: Arc<VmFd>,
    gsi: u32,
}

impl KvmIrqLine {
    /// The wire with global system interrupt number `gsi` of the machine `vm`.
    pub fn new(vm: Arc<VmFd>, gsi: u32) -> Self {
        Self { vm, gsi }
    }
}

impl IrqLine for KvmIrqLine {
    fn set(&self, high: bool) -> io::Result<()> {
        self.vm
            .set_irq_line(self.gsi, high)
            .map_err(io::Error::from)
    }
}

/// An edge-triggered wire: an eventfd that KVM watches (irqfd). Each rise is one interrupt, falls mean nothing.
pub struct KvmIrqFd(EventFd);

impl KvmIrqFd {
    /// Connects an eventfd to global system interrupt `gsi` of `vm`.
    pub fn new(vm: &VmFd, gsi: u32) -> io::Result<Self> {
        let event = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        vm.register_irqfd(&event, gsi)?;
        Ok(Self(event))
    }
}

impl IrqLine for KvmIrqFd {
    fn set(&self, high: bool) -> io::Result<()> {
        if high { self.0.write(1) } else { Ok(()) }
    }
}

/// Interrupts that go nowhere but into a list: what tests look at.
#[derive(Default)]
pub struct Recorder {
    messages: Mutex<Vec<(u64, u32)>>,
    levels: Mutex<Vec<bool>>,
}

impl Recorder {
    /// An empty record.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The messages (address, data) since the last call, oldest first.
    pub fn take_messages(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut lock(&self.messages))
    }

    /// What the wire was set to since the last call, oldest first.
    pub fn take_levels(&self) -> Vec<bool> {
        std::mem::take(&mut lock(&self.levels))
    }
}

impl Msi for Recorder {
    fn signal(&self, address: u64, data: u32) -> io::Result<()> {
        lock(&self.messages).push((address, data));
        Ok(())
    }
}

impl IrqLine for Recorder {
    fn set(&self, high: bool) -> io::Result<()> {
        lock(&self.levels).push(high);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_is_a_rise_and_a_fall() {
        let line = Recorder::new();
        line.pulse().unwrap();
        assert_eq!(line.take_levels(), [true, false]);
        assert!(line.take_levels().is_empty());
    }
}
