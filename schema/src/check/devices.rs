//! Rules on devices other than disks.

use super::one::Report;
use crate::domain::address::AddressType;
use crate::domain::memory::ShmemModelName;
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::Hex;
use std::collections::BTreeSet;

/// Every rule on devices other than disks.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    let Some(devices) = &domain.devices else {
        return;
    };
    super::interfaces::check(domain, r);
    super::chardevs::check(domain, devices, r);
    super::displays::check(domain, devices, r);
    super::display_ports::check(domain, r);
    super::hostdevs::check(domain, devices, r);
    super::usb::check(domain, devices, r);
    super::controllers::check(domain, devices, r);
    memory(domain, devices, r);
    super::filesystems::check(domain, devices, r);
    super::peripherals::check(domain, devices, r);
    boot_order(domain, devices, r);
}

/// Whether the kernel takes it as a link's name.
pub(crate) fn is_link_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

/// Memory devices lie apart and in cells that there are; shared memory has what its model needs.
fn memory(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (i, device) in devices.memory_devices.iter().enumerate() {
        let path = format_args!("devices/memory[{}]", i + 1);
        let Some(target) = &device.target else {
            continue;
        };
        let cells = domain
            .cpu
            .as_ref()
            .and_then(|cpu| cpu.numa.as_ref())
            .map_or(0, |numa| numa.cells.len());
        if target.node.is_some_and(|node| node as usize >= cells) {
            r.report(
                Rule::MemoryNode,
                format_args!("{path}/target/node"),
                "the guest has no such NUMA cell",
            );
        }
        let size = |size: &Option<crate::domain::CurrentMemory>| {
            size.as_ref()
                .and_then(|size| size.value.as_ref())
                .map(|size| size.bytes().0)
        };
        if let (Some(requested), Some(size)) = (size(&target.requested), size(&target.size))
            && requested > size
        {
            r.report(
                Rule::MemoryRequested,
                format_args!("{path}/target/requested"),
                "more memory is requested than the device has",
            );
        }
        let base = target
            .address
            .as_ref()
            .and_then(|address| address.base)
            .map(Hex::get);
        if let (Some(base), Some(size)) = (base, size(&target.size)) {
            let end = base.saturating_add(size);
            if ranges
                .iter()
                .any(|(first, last)| base < *last && *first < end)
            {
                r.add(
                    Rule::MemoryOverlap,
                    format_args!("{path}/target/address/@base"),
                    "the memory overlaps with another device's",
                    None,
                );
            }
            ranges.push((base, end));
        }
    }
    for (i, shmem) in devices.shmems.iter().enumerate() {
        let path = format_args!("devices/shmem[{}]", i + 1);
        let model = shmem.model.as_ref().and_then(|model| model.kind);
        if shmem.msi.is_some() && shmem.server.is_none() {
            r.report(
                Rule::ShmemServer,
                format_args!("{path}/msi"),
                "interrupts need a <server>",
            );
        }
        let size = shmem.size.as_ref().and_then(|size| size.value.as_ref());
        let bytes = size.map_or(0, |size| size.bytes().0);
        if bytes > 0 && (bytes < 1 << 20 || !bytes.is_power_of_two()) {
            r.report(
                Rule::ShmemSize,
                format_args!("{path}/size"),
                "shared memory is a power of two, at least 1 MiB",
            );
        }
        let place = shmem.address.as_ref().and_then(|address| address.kind);
        if let Some(place) = place.filter(|place| *place != AddressType::Pci) {
            r.report(
                Rule::AddressType,
                format_args!("{path}/address/@type"),
                format!("shared memory is a PCI device, and has no {place} address"),
            );
        }
        if model == Some(ShmemModelName::IvshmemPlain) && shmem.server.is_some() {
            r.report(
                Rule::ShmemServer,
                format_args!("{path}/server"),
                "ivshmem-plain has no server; ivshmem-doorbell has",
            );
        }
        if model == Some(ShmemModelName::IvshmemDoorbell) && shmem.server.is_none() {
            r.report(Rule::ShmemServer, path, "ivshmem-doorbell needs a <server>");
        }
    }
}

/// An order is said once, and not beside the list of kinds to boot from.
fn boot_order(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let list = domain.os.as_ref().is_some_and(|os| !os.boots.is_empty());
    let disks = devices
        .disks
        .iter()
        .enumerate()
        .map(|(i, d)| (format!("devices/disk[{}]/boot", i + 1), &d.boot));
    let interfaces = devices
        .interfaces
        .iter()
        .enumerate()
        .map(|(i, d)| (format!("devices/interface[{}]/boot", i + 1), &d.boot));
    let hostdevs = devices
        .hostdevs
        .iter()
        .enumerate()
        .map(|(i, d)| (format!("devices/hostdev[{}]/boot", i + 1), &d.boot));
    let redirdevs = devices
        .redirdevs
        .iter()
        .enumerate()
        .map(|(i, d)| (format!("devices/redirdev[{}]/boot", i + 1), &d.boot));
    let filesystems = devices
        .filesystems
        .iter()
        .enumerate()
        .map(|(i, d)| (format!("devices/filesystem[{}]/boot", i + 1), &d.boot));
    let mut seen = BTreeSet::new();
    let all = disks.chain(interfaces).chain(hostdevs);
    for (path, boot) in all.chain(redirdevs).chain(filesystems) {
        let Some(order) = boot.as_ref().map(|boot| boot.order) else {
            continue;
        };
        match order {
            None => r.report(
                Rule::BootOrder,
                path,
                "the place in the order of boot has no number",
            ),
            Some(0) => r.add(Rule::BootOrder, path, "the order of boot begins at 1", None),
            Some(order) if !seen.insert(order) => r.report(
                Rule::BootOrderTwice,
                path,
                format!("two devices are number {order} in the order of boot"),
            ),
            Some(_) if list => r.report(
                Rule::BootOrderBesideOsBoot,
                path,
                "devices have an order of boot, and <os> has a list of kinds too: keep one",
            ),
            Some(_) => {}
        }
    }
}
