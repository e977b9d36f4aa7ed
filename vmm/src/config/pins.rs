//! Which of the host's processors the monitor's threads run on.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Guest;
use super::check::Problems;

/// Numbers of the host's processors are below this: what one call of sched_setaffinity(2) can say.
pub const MOST_CPUS: u32 = 1024;

/// Which of the host's processors threads run on. The start fails where none of a thread's is there, or open to the monitor's control group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pins {
    /// For all threads that are not vcpus and not named here; where the monitor was started if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emulator: Vec<u32>,
    /// For vcpus; the others run where the monitor was started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vcpus: Vec<VcpuPin>,
    /// For the threads of disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskPin>,
}

/// Where a vcpu runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VcpuPin {
    /// Its number.
    pub vcpu: u32,
    /// The host's processors, at least one, below 1024.
    pub cpus: Vec<u32>,
}

/// Where the thread of a disk runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskPin {
    /// The disk's `id`.
    pub disk: String,
    /// The host's processors, at least one, below 1024.
    pub cpus: Vec<u32>,
}

impl Pins {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Where a vcpu is to run, if that is said.
    pub fn vcpu(&self, number: u32) -> Option<&[u32]> {
        let mut pins = self.vcpus.iter();
        pins.find_map(|pin| (pin.vcpu == number).then_some(&*pin.cpus))
    }

    /// Where the thread of a disk is to run, if that is said.
    pub fn disk(&self, id: &str) -> Option<&[u32]> {
        let mut pins = self.disks.iter();
        pins.find_map(|pin| (pin.disk == id).then_some(&*pin.cpus))
    }
}

pub(super) fn check(guest: &Guest, p: &mut Problems) {
    let pins = &guest.pins;
    let mut numbers = |field: String, cpus: &[u32], may_be_empty: bool| {
        p.require(
            field,
            (may_be_empty || !cpus.is_empty()) && cpus.iter().all(|cpu| *cpu < MOST_CPUS),
            format!("numbers of processors are wanted, below {MOST_CPUS}"),
        );
    };
    numbers("pins.emulator".into(), &pins.emulator, true);
    for (i, pin) in pins.vcpus.iter().enumerate() {
        numbers(format!("pins.vcpus[{i}].cpus"), &pin.cpus, false);
    }
    for (i, pin) in pins.disks.iter().enumerate() {
        numbers(format!("pins.disks[{i}].cpus"), &pin.cpus, false);
    }
    let mut seen = HashSet::new();
    for (i, pin) in pins.vcpus.iter().enumerate() {
        p.require(
            format!("pins.vcpus[{i}].vcpu"),
            pin.vcpu < guest.vcpus.count && seen.insert(pin.vcpu),
            "the number of one of its vcpus is wanted, once",
        );
    }
    let mut seen = HashSet::new();
    for (i, pin) in pins.disks.iter().enumerate() {
        let known = guest.disks.iter().any(|disk| disk.id == pin.disk);
        p.require(
            format!("pins.disks[{i}].disk"),
            known && seen.insert(&pin.disk),
            "the id of one of its disks is wanted, once",
        );
    }
}
