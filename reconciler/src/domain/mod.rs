//! Guests' drivers: who starts a guest, finds it again, changes it and stops it.
//!
//! Every guest has a directory of its own under the runtime directory, named by its UUID: `launch.json` (what it was started as, a [`Launch`]), `pid` (process and
//! start time), `control` (the monitor's socket), `console` (the serial console), `state` (the monitor's last words). The directory is what makes a guest
//! findable after the agent has died; it is written before the process starts and removed after everything else of the guest is gone.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::resolve::domain::Domain;

/// What a guest is started as. Written into its directory, read back as the truth of what runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The guest, resolved.
    pub domain: Domain,
    /// The definition in libvirt's XML as it was at the start: what hooks get on standard input.
    pub xml: String,
    /// Distinguishes two starts of one guest: changes with each launch.
    pub generation: Uuid,
}
