//! Where the threads of a guest's monitor run.
//!
//! In: the definition, and the disks that came of it. Out: pins as libvirt means them: what is pinned runs there, and what is not runs on `<vcpu cpuset>`. The guest's one
//! control group has room for all of them. Source: libvirt's domain format, "CPU Tuning".

use std::collections::BTreeSet;

use vireo_schema::domain as stated;
use vireo_schema::scalar::CpuSet;

use crate::resolve::domain::{Disk, Pins};

/// The pins; none where none is stated, since the control group then says all.
pub(super) fn pins(domain: &stated::Domain, vcpus: u32, disks: &[Disk]) -> Pins {
    let Some(tune) = &domain.cputune else {
        return Pins::default();
    };
    let set = |set: Option<&CpuSet>| set.map(|set| set.cpus().clone());
    let of_all = set(domain.vcpu.as_ref().and_then(|vcpu| vcpu.cpuset.as_ref()));
    let emulator = tune.emulatorpin.as_ref();
    if tune.vcpupins.is_empty() && tune.iothreadpins.is_empty() && emulator.is_none() {
        return Pins::default();
    }
    let vcpu = |number: u32| {
        let pin = tune.vcpupins.iter().find(|pin| pin.vcpu == Some(number));
        let cpus = set(pin.and_then(|pin| pin.cpuset.as_ref())).or_else(|| of_all.clone())?;
        Some((number, cpus))
    };
    let disk = |(stated, disk): (&stated::disk::Disk, &Disk)| {
        let thread = stated.driver.as_ref()?.iothread?;
        let mut pins = tune.iothreadpins.iter();
        let pin = pins.find(|pin| pin.iothread == Some(thread));
        let cpus = set(pin.and_then(|pin| pin.cpuset.as_ref())).or_else(|| of_all.clone())?;
        Some((disk.target.clone(), cpus))
    };
    let stated = domain.devices.iter().flat_map(|devices| &devices.disks);
    Pins {
        emulator: set(emulator.and_then(|pin| pin.cpuset.as_ref())).or_else(|| of_all.clone()),
        vcpus: (0..vcpus).filter_map(vcpu).collect(),
        disks: stated.zip(disks).filter_map(disk).collect(),
    }
}

/// Makes the list of the control group's processors, which are those of `<vcpu cpuset>`, hold all that threads are pinned to.
pub(super) fn widen(list: &mut String, domain: &stated::Domain, pins: &Pins) {
    let vcpu = domain.vcpu.as_ref();
    let Some(set) = vcpu.and_then(|vcpu| vcpu.cpuset.as_ref()) else {
        return;
    };
    let pinned = pins.emulator.iter().chain(pins.vcpus.values());
    let all: BTreeSet<u32> = pinned
        .chain(pins.disks.values())
        .flatten()
        .copied()
        .collect();
    if !all.is_subset(set.cpus()) {
        let all = all.union(set.cpus()).map(u32::to_string);
        *list = all.collect::<Vec<_>>().join(",");
    }
}
