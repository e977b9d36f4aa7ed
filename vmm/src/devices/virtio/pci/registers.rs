//! What a driver finds before it knows the device: who it is, and the capabilities that say where in the one register everything lies.

use crate::devices::virtio::DeviceType;
use crate::pci::{CapabilityError, ConfigSpace, Identity};

/// Vendor of all virtio devices.
const VENDOR: u16 = 0x1af4;
/// Device numbers of the modern interface are this plus the device type.
const FIRST_DEVICE: u16 = 0x1040;
/// Board identity; means nothing in the modern interface.
const SUBSYSTEM: u16 = 0x1100;

/// The one register, and where things are in it.
pub(super) const BAR_LEN: u32 = 0x8000;
pub(super) const COMMON: u64 = 0x0000;
pub(super) const COMMON_LEN: u64 = 56;
pub(super) const ISR: u64 = 0x1000;
pub(super) const DEVICE: u64 = 0x2000;
const DEVICE_LEN: u64 = 0x1000;
pub(super) const NOTIFY: u64 = 0x3000;
pub(super) const MSIX_TABLE: u64 = 0x4000;
pub(super) const MSIX_PBA: u64 = 0x6000;
/// Bytes between the notification addresses of two queues.
pub(super) const NOTIFY_STRIDE: u64 = 4;

pub(super) const CAP_VENDOR: u8 = 0x09;
pub(super) const CAP_MSIX: u8 = 0x11;
pub(super) const CFG_COMMON: u8 = 1;
pub(super) const CFG_NOTIFY: u8 = 2;
pub(super) const CFG_ISR: u8 = 3;
pub(super) const CFG_DEVICE: u8 = 4;
pub(super) const CFG_PCI: u8 = 5;

/// Who the device is.
pub(super) fn identity(device: DeviceType) -> Identity {
    let class = match device {
        DeviceType::Net => 0x02_00_00,
        DeviceType::Block => 0x01_80_00,
        DeviceType::Console => 0x07_80_00,
        DeviceType::Rng | DeviceType::Balloon | DeviceType::Vsock => 0x00_ff_00,
    };
    Identity {
        vendor: VENDOR,
        device: FIRST_DEVICE + device as u16,
        class,
        revision: 1,
        subsystem: (VENDOR, SUBSYSTEM),
    }
}

/// Adds the capabilities that say where things are in the register; returns the offset of the one for access through configuration space.
pub(super) fn add_virtio_capabilities(
    config: &mut ConfigSpace,
    queues: u64,
) -> Result<u8, CapabilityError> {
    let body = |kind: u8, offset: u64, len: u64, extra: &[u8]| {
        let mut body = vec![(16 + extra.len()) as u8, kind, 0, 0, 0, 0];
        body.extend((offset as u32).to_le_bytes());
        body.extend((len as u32).to_le_bytes());
        body.extend(extra);
        body
    };
    config.add_capability(CAP_VENDOR, &body(CFG_COMMON, COMMON, COMMON_LEN, &[]), &[])?;
    config.add_capability(CAP_VENDOR, &body(CFG_ISR, ISR, 1, &[]), &[])?;
    config.add_capability(CAP_VENDOR, &body(CFG_DEVICE, DEVICE, DEVICE_LEN, &[]), &[])?;
    let stride = (NOTIFY_STRIDE as u32).to_le_bytes();
    config.add_capability(
        CAP_VENDOR,
        &body(CFG_NOTIFY, NOTIFY, queues * NOTIFY_STRIDE, &stride),
        &[],
    )?;
    // The guest writes bar, offset, length and data here.
    let mut writable = [0xff; 18];
    writable[..2].fill(0);
    writable[3..6].fill(0);
    config.add_capability(CAP_VENDOR, &body(CFG_PCI, 0, 0, &[0; 4]), &writable)
}
