//! Rules on a guest's memory: how much, what it may grow to, what it is made of.

use super::machine::{arch, cell_count, is_qemu};
use super::one::Report;
use crate::domain::tune::{AllocationMode, MemorySourceType};
use crate::domain::{CurrentMemory, Domain};
use crate::rule::Rule;
use crate::scalar::{Bytes, CpuSet};
use std::collections::{BTreeSet, HashSet};

/// libvirt counts bytes in 63 bits.
const MOST: u64 = i64::MAX as u64;

/// Every rule on memory.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    amount(domain, r);
    growth(domain, r);
    large_pages(domain, r);
    limits(domain, r);
}

fn amount(domain: &Domain, r: &mut Report<'_>) {
    let stated = domain.memory_bytes().unwrap_or(Bytes(0));
    if cell_count(domain) == 0 && stated == Bytes(0) {
        let path = if domain.memory.is_some() {
            "memory"
        } else {
            ""
        };
        r.add(
            Rule::NoMemory,
            path,
            "the guest has no memory",
            Some("state <memory unit='MiB'>512</memory>, in YAML `memory: 512 MiB`"),
        );
    }
    // For QEMU, memory is rounded up to whole MiB first.
    let most = if is_qemu(domain) {
        MOST & !0xf_ffff
    } else {
        MOST
    };
    let now = domain
        .current_memory
        .as_ref()
        .and_then(|now| now.value.as_ref());
    let max = domain
        .max_memory
        .as_ref()
        .and_then(|max| max.value.as_ref());
    let sizes = [
        ("memory", stated.0, most),
        ("currentMemory", now.map_or(0, |now| now.bytes().0), MOST),
        ("maxMemory", max.map_or(0, |max| max.bytes().0), MOST),
    ];
    for (path, bytes, most) in sizes {
        if bytes > most {
            r.report(Rule::MemorySize, path, "no guest has 8 EiB of memory");
        }
    }
}

/// The sizes of memory devices together; saturates.
fn devices(domain: &Domain) -> u64 {
    let size = |size: &CurrentMemory| Some(size.value.as_ref()?.bytes().0);
    domain
        .devices
        .iter()
        .flat_map(|devices| &devices.memory_devices)
        .filter_map(|device| size(device.target.as_ref()?.size.as_ref()?))
        .fold(0, u64::saturating_add)
}

fn growth(domain: &Domain, r: &mut Report<'_>) {
    let stated = domain.memory_bytes().map(|bytes| bytes.0);
    let devices = devices(domain);
    let cells = domain
        .cpu
        .iter()
        .flat_map(|cpu| &cpu.numa)
        .flat_map(|numa| &numa.cells)
        .filter_map(|cell| Some(cell.memory_bytes()?.0))
        .fold(0, u64::saturating_add);
    if cell_count(domain) == 0 && devices > 0 && stated.is_some_and(|stated| devices >= stated) {
        r.report(
            Rule::MemoryDevicesTotal,
            "memory",
            "the guest's memory, which includes its memory devices, is no more than theirs",
        );
    }
    let Some(max) = &domain.max_memory else {
        return;
    };
    let most = max.value.as_ref().map_or(0, |value| value.bytes().0);
    if most == 0 {
        r.report(
            Rule::MaxMemory,
            "maxMemory",
            "the size that memory may grow to is not stated",
        );
    }
    let total = cells.saturating_add(devices);
    let begins = match (cell_count(domain), stated) {
        (0, stated) => stated.unwrap_or(0),
        (_, None) => total,
        (_, Some(stated)) => stated.min(total),
    };
    if most > 0 && most < begins {
        r.report(
            Rule::MaxMemory,
            "maxMemory",
            format!(
                "the guest begins with {}, which is above what it may grow to",
                Bytes(begins)
            ),
        );
    }
    if is_qemu(domain) && cell_count(domain) == 0 && !arch(domain).starts_with("ppc") {
        r.add(
            Rule::MaxMemoryWithoutNuma,
            "maxMemory",
            "memory can be added only to a guest with NUMA cells",
            Some("state <cpu><numa><cell …/></numa></cpu>"),
        );
    }
}

fn large_pages(domain: &Domain, r: &mut Report<'_>) {
    let Some(backing) = &domain.memory_backing else {
        return;
    };
    let Some(pages) = &backing.hugepages else {
        return;
    };
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    let mut general = false;
    for (i, page) in pages.pages.iter().enumerate() {
        let path = format_args!("memoryBacking/hugepages/page[{}]", i + 1);
        let nodes = page.nodeset.as_ref().map(CpuSet::cpus);
        let last = nodes.and_then(|nodes| nodes.last().copied()).unwrap_or(0) as usize;
        if last > 0 && last >= cell_count(domain) {
            r.report(
                Rule::HugepageCell,
                format_args!("{path}/@nodeset"),
                format!("the guest has no NUMA cell {last}"),
            );
        }
        // Without cells, cell 0 is the guest as a whole.
        let nodes = nodes.filter(|_| cell_count(domain) > 0 || last > 0);
        let overlap = match nodes {
            Some(nodes) => {
                let overlap = !taken.is_disjoint(nodes);
                taken.extend(nodes);
                overlap
            }
            None => std::mem::replace(&mut general, true),
        };
        if overlap {
            r.report(
                Rule::HugepageOverlap,
                path,
                "memory has pages of one size, and another is stated for it already",
            );
        }
    }
    if !is_qemu(domain) {
        return;
    }
    let late = backing
        .allocation
        .as_ref()
        .and_then(|allocation| allocation.mode);
    if late == Some(AllocationMode::Ondemand) {
        r.report(
            Rule::HugepageConflict,
            "memoryBacking/allocation/@mode",
            "huge pages are taken at the start, not on demand",
        );
    }
    let source = backing.source.as_ref().and_then(|source| source.kind);
    if source == Some(MemorySourceType::Anonymous) {
        r.report(
            Rule::HugepageConflict,
            "memoryBacking/source/@type",
            "anonymous memory has no huge pages; a file or a memfd has",
        );
    }
}

fn limits(domain: &Domain, r: &mut Report<'_>) {
    let guarantee = domain
        .memtune
        .as_ref()
        .and_then(|tune| tune.min_guarantee.as_ref());
    if guarantee.is_some() && is_qemu(domain) {
        r.report(
            Rule::MinGuarantee,
            "memtune/min_guarantee",
            "guests of KVM and QEMU are guaranteed no memory",
        );
    }
    let mut paths = HashSet::new();
    let devices = domain.blkiotune.iter().flat_map(|tune| &tune.devices);
    for (i, device) in devices.enumerate() {
        if device
            .path
            .as_deref()
            .is_some_and(|path| !paths.insert(path))
        {
            r.report(
                Rule::DuplicateBlkioDevice,
                format_args!("blkiotune/device[{}]/path", i + 1),
                "the device's limits are stated twice",
            );
        }
    }
}
