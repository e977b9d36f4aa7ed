//! PCI: a root bus of 32 slots, and root ports with a bus of one slot behind each.
//!
//! In come the guest's accesses of configuration space and of the memory that base address registers decode; out go calls of
//! [`PciFunction`]. Everything a guest writes here is hostile: offsets and widths are bounded before a function sees them, unknown
//! registers read as zero, writes to them vanish.

mod bus;
mod config;
mod host_bridge;
mod msix;
mod place;
mod root_port;

pub use bus::{InsertError, PciBus, PciEcam, PciPorts};
pub use config::{Bar, CapabilityError, ConfigSpace, Identity};
pub use host_bridge::HostBridge;
pub use msix::Msix;
pub use place::{Place, PlaceError};
pub use root_port::RootPort;

/// Number of slots on a bus.
pub const SLOTS: usize = 32;
/// Number of base address registers of a function.
pub const BARS: usize = 6;

/// Where one base address register decodes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarRange {
    /// Number of the register, 0 to 5.
    pub bar: usize,
    /// First guest physical address.
    pub base: u64,
    /// Length in bytes, a power of two.
    pub len: u64,
}

/// One function of one device.
pub trait PciFunction: Send {
    /// Reads `data.len()` bytes (1, 2 or 4, never across a dword) of configuration space at `offset` (below 4096).
    fn read_config(&mut self, offset: u16, data: &mut [u8]);
    /// Writes `data` (as for reads) to configuration space at `offset`.
    fn write_config(&mut self, offset: u16, data: &[u8]);
    /// The memory ranges decoded now: none while the guest has memory decoding off.
    fn ranges(&self) -> Vec<BarRange>;
    /// Tells the function where its register `bar` came to answer; `None` when it no longer does.
    fn mapped(&mut self, bar: usize, base: Option<u64>);
    /// Reads `data.len()` bytes (at most 8, within the range) at `offset` of what register `bar` decodes.
    fn read_bar(&mut self, bar: usize, offset: u64, data: &mut [u8]);
    /// Writes `data` (as for reads) at `offset` of what register `bar` decodes.
    fn write_bar(&mut self, bar: usize, offset: u64, data: &[u8]);
    /// Puts the function back to how it was at power on.
    fn reset(&mut self);
}
