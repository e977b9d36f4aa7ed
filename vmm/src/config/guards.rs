//! Devices by which a guest tells how it does: the panic device and the watchdog.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pci::Place;

/// A device by which the guest's kernel tells that it panicked. What follows is what `on-crash` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Panic {
    /// Where it is.
    #[serde(default)]
    pub model: PanicModel,
    /// PCI slot of bus 0, or `BUS:SLOT.FUNCTION` as `lspci` shows it, for the model on PCI; the first free slot if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Place>,
}

/// Where a panic device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PanicModel {
    /// At a port, found through ACPI.
    #[default]
    Isa,
    /// On PCI.
    Pci,
}

/// A watchdog: an Intel 6300ESB's, on PCI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Watchdog {
    /// What follows when the guest has not fed it in time.
    #[serde(default)]
    pub action: WatchdogAction,
    /// PCI slot of bus 0, or `BUS:SLOT.FUNCTION` as `lspci` shows it; the first free slot if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Place>,
}

/// What follows when the guest has not fed its watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WatchdogAction {
    /// What `on-reboot` says, as if the guest had asked for a reset.
    #[default]
    Reset,
    /// The power button is pressed.
    Shutdown,
    /// What `on-poweroff` says, as if the guest had turned itself off.
    Poweroff,
    /// The guest is paused.
    Pause,
    /// The guest's memory is written to the file of `core`, and it runs on.
    Dump,
    /// It is told, and nothing done.
    None,
    /// Every processor gets a non-maskable interrupt.
    InjectNmi,
}
