//! How devices interrupt the guest: messages ([`Msi`]) from PCI devices, and wires ([`IrqLine`]) from the few old ones.
//!
//! Devices hold these traits and never KVM itself, so that each is tested whole without a hypervisor. The message's address and data come
//! from tables that the guest writes; KVM decodes them as an interrupt controller would, and a message that names no CPU is lost
//! without harm. Errors are the kernel's; devices log them and go on.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
    kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_irqchip, kvm_irq_routing_msi, kvm_msi,
};
use kvm_ioctls::{Cap, VmFd};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::lock;

/// A way to deliver message-signalled interrupts.
pub trait Msi: Send + Sync {
    /// Delivers the message `data` to the guest physical `address`, as a PCI device writing there would.
    fn signal(&self, address: u64, data: u32) -> io::Result<()>;

    /// A wire from an eventfd; none where the host has none, or no more.
    fn wire(&self, _call: &Arc<EventFd>) -> Option<Box<dyn MsiWire>> {
        None
    }
}

/// What delivers a message at each write to an eventfd, without the monitor, as long as it is connected. It begins without one, and ends with its drop.
pub trait MsiWire: Send {
    /// Delivers this message (address, data) from now on; `None` leaves the events to whoever else watches the eventfd.
    fn connect(&mut self, message: Option<(u64, u32)>) -> io::Result<()>;
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
/// For a device of ours that is one system call a message, as many as an irqfd would cost, without routes to keep equal to the guest's tables. What the kernel serves
/// signals by an irqfd ([`Msi::wire`]), which needs one.
pub struct KvmMsi(Arc<Routes>);

impl KvmMsi {
    /// Delivers into the machine `vm`, which must have its interrupt controllers in the kernel.
    pub fn new(vm: Arc<VmFd>) -> Self {
        Self(Arc::new(Routes {
            // Asked here: the sandbox lets nobody ask later.
            able: vm.check_extension(Cap::IrqRouting),
            vm,
            messages: Mutex::default(),
        }))
    }
}

/// Where the machine's global system interrupts lead. The kernel takes the whole table at once.
struct Routes {
    vm: Arc<VmFd>,
    /// The kernel takes routes.
    able: bool,
    /// Of the interrupts that wires have, which come after those of the chips.
    messages: Mutex<BTreeMap<u32, Option<(u64, u32)>>>,
}

impl Routes {
    /// Interrupts of the chips: as many as the I/O APIC has pins.
    const CHIPS: u32 = 24;
    /// What the kernel takes (`KVM_MAX_IRQ_ROUTES`), less those of the chips, of which the older ones have two.
    const MOST: usize = 4096 - 40;

    /// A number that no wire has.
    fn allocate(&self) -> Option<u32> {
        let mut messages = lock(&self.messages);
        if messages.len() >= Self::MOST {
            return None;
        }
        let gsi = (Self::CHIPS..).find(|gsi| !messages.contains_key(gsi))?;
        messages.insert(gsi, None);
        Some(gsi)
    }

    fn lead(&self, gsi: u32, message: (u64, u32)) -> io::Result<()> {
        let mut messages = lock(&self.messages);
        messages.insert(gsi, Some(message));
        let mut entries = chips();
        entries.extend(messages.iter().filter_map(|(gsi, message)| {
            let (address, data) = (*message)?;
            Some(kvm_irq_routing_entry {
                gsi: *gsi,
                type_: KVM_IRQ_ROUTING_MSI,
                u: kvm_irq_routing_entry__bindgen_ty_1 {
                    msi: kvm_irq_routing_msi {
                        address_lo: address as u32,
                        address_hi: (address >> 32) as u32,
                        data,
                        ..Default::default()
                    },
                },
                ..Default::default()
            })
        }));
        let routing = KvmIrqRouting::from_entries(&entries).map_err(io::Error::other)?;
        self.vm.set_gsi_routing(&routing)?;
        Ok(())
    }
}

/// Routes of the chips' interrupts, as the kernel has them at first (its arch/x86/kvm/irq_comm.c): to the I/O APIC, and the first sixteen to the older pair of
/// controllers too.
fn chips() -> Vec<kvm_irq_routing_entry> {
    let entry = |gsi, irqchip, pin| kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 {
            irqchip: kvm_irq_routing_irqchip { irqchip, pin },
        },
        ..Default::default()
    };
    let apic = (0..Routes::CHIPS).map(|gsi| entry(gsi, KVM_IRQCHIP_IOAPIC, gsi));
    let old = (0..16).map(|gsi| match gsi {
        0..8 => entry(gsi, KVM_IRQCHIP_PIC_MASTER, gsi),
        _ => entry(gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8),
    });
    apic.chain(old).collect()
}

/// A wire by an irqfd.
struct KvmWire {
    routes: Arc<Routes>,
    call: Arc<EventFd>,
    gsi: u32,
    connected: bool,
}

impl MsiWire for KvmWire {
    fn connect(&mut self, message: Option<(u64, u32)>) -> io::Result<()> {
        match message {
            Some(message) => {
                self.routes.lead(self.gsi, message)?;
                if !self.connected {
                    self.routes.vm.register_irqfd(&self.call, self.gsi)?;
                    self.connected = true;
                }
            }
            None if self.connected => {
                self.routes.vm.unregister_irqfd(&self.call, self.gsi)?;
                self.connected = false;
            }
            None => {}
        }
        Ok(())
    }
}

impl Drop for KvmWire {
    fn drop(&mut self) {
        if let Err(error) = self.connect(None) {
            tracing::warn!(%error, "could not take an interrupt's wire away");
        }
        lock(&self.routes.messages).remove(&self.gsi);
    }
}

/// Delivers one message into the machine `vm`.
pub fn signal(vm: &VmFd, address: u64, data: u32) -> io::Result<()> {
    let message = kvm_msi {
        address_lo: address as u32,
        address_hi: (address >> 32) as u32,
        data,
        ..Default::default()
    };
    vm.signal_msi(message).map(drop).map_err(io::Error::from)
}

impl Msi for KvmMsi {
    fn signal(&self, address: u64, data: u32) -> io::Result<()> {
        signal(&self.0.vm, address, data)
    }

    fn wire(&self, call: &Arc<EventFd>) -> Option<Box<dyn MsiWire>> {
        if !self.0.able {
            return None;
        }
        Some(Box::new(KvmWire {
            gsi: self.0.allocate()?,
            routes: Arc::clone(&self.0),
            call: Arc::clone(call),
            connected: false,
        }))
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

/// What wires deliver now, in the order in which they were made.
type Wires = Arc<Mutex<Vec<Option<(u64, u32)>>>>;

/// Interrupts that go nowhere but into a list: what tests look at.
#[derive(Default)]
pub struct Recorder {
    messages: Mutex<Vec<(u64, u32)>>,
    levels: Mutex<Vec<bool>>,
    wires: Wires,
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

    /// What each wire delivers now, oldest first.
    pub fn wires(&self) -> Vec<Option<(u64, u32)>> {
        lock(&self.wires).clone()
    }
}

impl Msi for Recorder {
    fn signal(&self, address: u64, data: u32) -> io::Result<()> {
        lock(&self.messages).push((address, data));
        Ok(())
    }

    fn wire(&self, _call: &Arc<EventFd>) -> Option<Box<dyn MsiWire>> {
        let mut wires = lock(&self.wires);
        wires.push(None);
        Some(Box::new(RecordedWire {
            place: wires.len() - 1,
            wires: Arc::clone(&self.wires),
        }))
    }
}

/// A wire of a [`Recorder`].
struct RecordedWire {
    place: usize,
    wires: Wires,
}

impl MsiWire for RecordedWire {
    fn connect(&mut self, message: Option<(u64, u32)>) -> io::Result<()> {
        if let Some(place) = lock(&self.wires).get_mut(self.place) {
            *place = message;
        }
        Ok(())
    }
}

impl Drop for RecordedWire {
    fn drop(&mut self) {
        // It is in a list of the recorder's own.
        let _ = self.connect(None);
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
