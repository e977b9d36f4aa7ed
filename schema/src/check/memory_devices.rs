//! Rules on memory devices: what each kind needs, and what the guest has room for.

use super::machine::{arch, is_qemu, is_x86, stated_arch};
use super::one::Report;
use crate::domain::cpu::MemAccess;
use crate::domain::memory::{MemoryDevice, MemoryModel, MemoryTarget};
use crate::domain::{CurrentMemory, Domain};
use crate::rule::Rule;
use crate::scalar::{Bytes, YesNo};
use std::fmt::Arguments;

/// Every rule on memory devices but those on where they lie.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    let devices = domain
        .devices
        .iter()
        .flat_map(|devices| &devices.memory_devices);
    let mut plugged = 0_u32;
    for (i, device) in devices.enumerate() {
        let path = format_args!("devices/memory[{}]", i + 1);
        let none = MemoryTarget::default();
        let target = device.target.as_ref().unwrap_or(&none);
        if bytes(target.size.as_ref()).is_none() {
            r.report(
                Rule::MemoryTarget,
                path,
                "the device's size is not stated: <target><size>",
            );
        }
        kind(domain, device, target, path, r);
        let slotted = matches!(device.model, Some(MemoryModel::Dimm | MemoryModel::Nvdimm));
        if slotted && is_qemu(domain) {
            plugged += 1;
            room(domain, target, plugged, path, r);
        }
    }
}

fn bytes(size: Option<&CurrentMemory>) -> Option<u64> {
    Some(size?.value.as_ref()?.bytes().0)
}

/// A module is plugged into a slot, and belongs to a cell.
fn room(
    domain: &Domain,
    target: &MemoryTarget,
    plugged: u32,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    let Some(max) = &domain.max_memory else {
        return r.add(
            Rule::MemorySlots,
            path,
            "there is no slot for the device",
            Some("state <maxMemory slots='…'>"),
        );
    };
    let slots = max.slots.unwrap_or(0);
    if plugged > slots {
        r.report(
            Rule::MemorySlots,
            path,
            format!("the device is number {plugged}, and <maxMemory> has {slots} slots"),
        );
    }
    if target.node.is_none() && super::machine::cell_count(domain) > 0 {
        r.report(
            Rule::MemoryTarget,
            path,
            "the NUMA cell is not stated: <target><node>",
        );
    }
}

fn kind(
    domain: &Domain,
    device: &MemoryDevice,
    target: &MemoryTarget,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    let persistent = matches!(
        device.model,
        Some(MemoryModel::Nvdimm | MemoryModel::VirtioPmem)
    );
    let file = device
        .source
        .as_ref()
        .is_some_and(|source| source.path.is_some());
    if persistent && !file {
        r.report(
            Rule::MemorySource,
            path,
            "the file that keeps what is written is not stated: <source><path>",
        );
    }
    if persistent && device.discard == Some(YesNo::Yes) {
        r.report(
            Rule::MemorySource,
            format_args!("{path}/@discard"),
            "what is written stays: it cannot be dropped at the end",
        );
    }
    match device.model {
        Some(MemoryModel::Nvdimm) => label(domain, device, target, path, r),
        Some(MemoryModel::VirtioPmem) => {
            if device.access != Some(MemAccess::Shared) {
                r.report(
                    Rule::MemorySource,
                    path,
                    "virtio-pmem needs access='shared'",
                );
            }
            if target.node.is_some() {
                r.report(
                    Rule::MemoryTarget,
                    format_args!("{path}/target/node"),
                    "virtio-pmem is in no NUMA cell",
                );
            }
        }
        Some(MemoryModel::VirtioMem) => blocks(domain, target, path, r),
        Some(MemoryModel::SgxEpc) if device.address.is_some() => r.report(
            Rule::MemoryTarget,
            format_args!("{path}/address"),
            "sgx-epc has no address",
        ),
        _ => {}
    }
}

fn label(
    domain: &Domain,
    device: &MemoryDevice,
    target: &MemoryTarget,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    let power = arch(domain).starts_with("ppc64");
    if device.uuid.is_some() && !power {
        r.report(
            Rule::MemoryLabel,
            format_args!("{path}/uuid"),
            "only POWER's NVDIMMs have an identity",
        );
    }
    let label = target
        .label
        .as_ref()
        .and_then(|label| bytes(label.size.as_ref()));
    let size = bytes(target.size.as_ref());
    let complaint = match (label, size) {
        (None, _) if power => "POWER's NVDIMMs need <label><size>",
        (Some(label), _) if Bytes(label) < Bytes::kib(128) => "a label is at least 128 KiB",
        (Some(label), Some(size)) if label >= size => "the label takes the whole device",
        _ => return,
    };
    r.report(
        Rule::MemoryLabel,
        format_args!("{path}/target/label"),
        complaint,
    );
}

/// Memory that is given and taken in blocks.
fn blocks(domain: &Domain, target: &MemoryTarget, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(block) = bytes(target.block.as_ref()) else {
        return;
    };
    let at = format_args!("{path}/target/block");
    if !block.is_power_of_two() {
        return r.report(Rule::MemoryBlock, at, "a block is a power of two");
    }
    if Bytes(block) < Bytes::mib(2) && stated_arch(domain).is_some_and(is_x86) {
        r.report(Rule::MemoryBlock, at, "a block is at least 2 MiB");
    }
    let wholes = [
        ("requested", bytes(target.requested.as_ref())),
        (
            "address/@base",
            target
                .address
                .as_ref()
                .and_then(|address| Some(address.base?.get())),
        ),
    ];
    for (name, bytes) in wholes {
        if bytes.is_some_and(|bytes| bytes % block != 0) {
            r.report(
                Rule::MemoryBlock,
                format_args!("{path}/target/{name}"),
                format!("this is no multiple of a block, {}", Bytes(block)),
            );
        }
    }
}
