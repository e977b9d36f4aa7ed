//! Where the monitor's threads run, in its words.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::resolve::domain::{Domain, Pins};

#[derive(Debug, Serialize)]
pub(super) struct PinsConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    emulator: Option<BTreeSet<u32>>,
    vcpus: Vec<VcpuPin>,
    disks: Vec<DiskPin>,
}

#[derive(Debug, Serialize)]
struct VcpuPin {
    vcpu: u32,
    cpus: BTreeSet<u32>,
}

#[derive(Debug, Serialize)]
struct DiskPin {
    disk: String,
    cpus: BTreeSet<u32>,
}

pub(super) fn pins(domain: &Domain) -> Option<PinsConfig> {
    let pins = &domain.pins;
    if *pins == Pins::default() {
        return None;
    }
    let vcpus = pins.vcpus.iter().map(|(vcpu, cpus)| VcpuPin {
        vcpu: *vcpu,
        cpus: cpus.clone(),
    });
    let disks = pins.disks.iter().map(|(disk, cpus)| DiskPin {
        disk: disk.clone(),
        cpus: cpus.clone(),
    });
    Some(PinsConfig {
        emulator: pins.emulator.clone(),
        vcpus: vcpus.collect(),
        disks: disks.collect(),
    })
}
