//! The panic device, the watchdog and the socket device in the words of `vireo-vmm`.

use std::path::PathBuf;

use serde::Serialize;

use super::pci::Slot;
use crate::domain::fields::Fields;
use crate::domain::{DriverError, GuestDir};
use crate::resolve::Driver;
use crate::resolve::domain::Domain;

/// Devices that the definition states as plain records.
#[derive(Debug, Default, Serialize)]
pub struct Guards {
    #[serde(skip_serializing_if = "Option::is_none")]
    panic: Option<PanicConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    watchdog: Option<WatchdogConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vsock: Option<VsockConfig>,
}

#[derive(Debug, Serialize)]
struct VsockConfig {
    cid: u32,
    socket: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<Slot>,
}

#[derive(Debug, Serialize)]
struct PanicConfig {
    model: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<Slot>,
}

#[derive(Debug, Serialize)]
struct WatchdogConfig {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<Slot>,
}

/// What the monitor's watchdog can do, by libvirt's words.
const ACTIONS: [(&str, &str); 7] = [
    ("reset", "reset"),
    ("shutdown", "shutdown"),
    ("poweroff", "poweroff"),
    ("pause", "pause"),
    ("dump", "dump"),
    ("none", "none"),
    ("inject-nmi", "inject-nmi"),
];

/// Those that the definition states, in the slots of the panic device, the watchdog and the socket device.
///
/// # Errors
/// One that the monitor does not have.
pub fn guards(
    domain: &Domain,
    dir: &GuestDir,
    slots: [Option<Slot>; 3],
) -> Result<Guards, DriverError> {
    let [panic, watchdog, vsock] = slots;
    let mut guards = Guards::default();
    for extra in &domain.extras {
        let fields = Fields::of(Driver::Builtin, extra);
        match extra.class.as_str() {
            "panic" => {
                let model = fields.word("model", "isa", &[("isa", "isa"), ("pvpanic", "pci")])?;
                guards.panic = Some(PanicConfig {
                    model,
                    slot: panic.clone(),
                });
            }
            // The chipset's, which builtin has not.
            "watchdog" if fields.get("model") == Some("itco") => continue,
            "watchdog" => {
                fields.word("model", "", &[("i6300esb", "")])?;
                let action = fields.word("action", "reset", &ACTIONS)?;
                guards.watchdog = Some(WatchdogConfig {
                    action,
                    slot: watchdog.clone(),
                });
            }
            "vsock" => {
                guards.vsock = Some(VsockConfig {
                    cid: crate::domain::vsock::cid(&fields, domain.uuid)?,
                    socket: dir.file("vsock.socket"),
                    slot: vsock.clone(),
                });
            }
            _ => continue,
        }
        fields.done()?;
    }
    Ok(guards)
}

/// Whether the watchdog is to write a core dump.
pub fn watchdog_dumps(domain: &Domain) -> bool {
    domain.extras.iter().any(|extra| {
        let action = extra.fields.get("action");
        extra.class == "watchdog" && action.is_some_and(|action| action == "dump")
    })
}
