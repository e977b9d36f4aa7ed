//! PCI and what is plugged into it.
//!
//! In come the configuration and the buses; out goes a PCI bus with a device in each slot that was stated or is free. What can go wrong is a
//! device's own opening, and says which device.

use std::sync::{Arc, Mutex};

use thiserror::Error;

use crate::bus::{Bus, BusError, lock};
use crate::layout;
use crate::pci::{PciBus, PciEcam, PciPorts};

/// Why a device is not there.
#[derive(Debug, Error)]
pub enum PlugError {
    /// Two devices want one address.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What is plugged in.
pub(super) struct Plugged {
    pci: Arc<Mutex<PciBus>>,
}

/// Makes the PCI bus and all devices on it.
pub(super) fn plug(ports: &Bus, mmio: &Arc<Bus>) -> Result<Plugged, PlugError> {
    let pci = Arc::new(Mutex::new(PciBus::new(Arc::clone(mmio))));
    let (range, device) = (layout::PORT_PCI, PciPorts::new(Arc::clone(&pci)));
    ports.insert(
        range.start.into(),
        range.len() as u64,
        Arc::new(Mutex::new(device)),
    )?;
    let (range, device) = (layout::PCI_ECAM, PciEcam::new(Arc::clone(&pci)));
    mmio.insert(
        range.start,
        range.end - range.start,
        Arc::new(Mutex::new(device)),
    )?;
    Ok(Plugged { pci })
}

impl Plugged {
    /// Puts every device back to power on. None touches the guest's memory afterwards until the guest sets it up again.
    pub fn reset(&self) {
        lock(&self.pci).reset();
    }
}
