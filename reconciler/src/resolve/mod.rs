//! A definition, completed: what will really be on the host.
//!
//! In: one decoded definition, the others it refers to, and the host's facts. Out: the plain types of this folder, every default made, every name derived, every
//! reference replaced by what it stands for. Planners compare these with the inventory; drivers build guests from them. What can go wrong: a reference to
//! nothing, a value no driver can serve; each becomes a problem with file, line and column, and the object is left out of the desired state.
//!
//! Nothing here is random or remembered: names that a definition leaves out are derived from its UUID, so that resolving twice gives the same.

pub mod domain;
pub mod from;
pub mod limits;
pub mod memory;
pub mod network;
pub mod storage;
pub mod tuning;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Which implementation runs a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// `vireo-vmm`, one small process a guest.
    Builtin,
    /// QEMU through QMP.
    Qemu,
}

impl std::fmt::Display for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Driver::Builtin => "builtin",
            Driver::Qemu => "qemu",
        })
    }
}

/// The path of the nth device of a kind, from 0, as the schema counts: the first has no number.
pub fn nth_device(element: &str, number: usize) -> String {
    match number {
        0 => format!("devices/{element}"),
        n => format!("devices/{element}[{}]", n + 1),
    }
}

/// What state a guest is wanted in (policy `state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WantedState {
    /// Runs, and is started again when it ends.
    #[default]
    Running,
    /// Is defined, and does not run.
    Stopped,
    /// Runs with its processors halted.
    Paused,
}

/// The name of a link that nobody named: a prefix and eight hexadecimal digits of the owner's UUID, then an index; at most 15 bytes (`IFNAMSIZ` - 1).
pub fn derived_link(prefix: &str, owner: Uuid, index: Option<usize>) -> String {
    let digest = owner.as_u128();
    let folded =
        (digest >> 96) as u32 ^ (digest >> 64) as u32 ^ (digest >> 32) as u32 ^ digest as u32;
    match index {
        Some(index) => format!("{prefix}{folded:08x}-{index}"),
        None => format!("{prefix}{folded:08x}"),
    }
}
