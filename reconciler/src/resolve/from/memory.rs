//! Domains: memory, what it is made of, where on the host it lies, and the guest's cells.
//!
//! Source: libvirt's domain format, "Memory Backing", "NUMA Node Tuning" and "Guest NUMA topology".

use std::collections::BTreeSet;

use vireo_schema::Rule;
use vireo_schema::domain as stated;
use vireo_schema::domain::Placement;
use vireo_schema::domain::cpu::{MemAccess, NumaCell};
use vireo_schema::domain::tune::{AllocationMode, HugePage, MemorySourceType, NumaMode};
use vireo_schema::scalar::CpuSet;

use super::{Resolving, Surroundings};
use crate::resolve::domain::{Cell, HostNodes, Memory, NodeMode, Vcpus};
use crate::units::Bytes;

/// The distance of a cell to itself, and to others where none is stated.
const DISTANCES: (u8, u8) = (10, 20);

/// All of the memory.
pub(super) fn memory(
    at: &mut Resolving<'_>,
    domain: &stated::Domain,
    around: &Surroundings,
    vcpus: &Vcpus,
) -> Option<Memory> {
    let cells = cells(domain, vcpus.maximum);
    let maximum = amount(at, domain, &cells)?;
    check_cells(at, &cells);
    check_source(at, domain);
    check_placement(at, domain);
    check_nodes(at, domain, around);
    let current = domain.current_memory.as_ref();
    let current = current.and_then(|memory| memory.value.as_ref());
    let current = current.map(|value| Bytes(value.bytes().0));
    let backing = domain.memory_backing.as_ref();
    let allocation = backing.and_then(|backing| backing.allocation.as_ref());
    let first = cells.iter().find(|cell| cell.size.0 > 0);
    Some(Memory {
        maximum,
        current: current.unwrap_or(maximum).min(maximum),
        hugepages: first.map_or_else(|| hugepages(at, domain), |cell| cell.hugepages),
        shared: first.map_or_else(|| is_shared(domain, None), |cell| cell.shared),
        locked: backing.is_some_and(|backing| backing.locked),
        immediate: allocation.and_then(|stated| stated.mode) == Some(AllocationMode::Immediate),
        threads: allocation.and_then(|stated| stated.threads),
        unmerged: backing.is_some_and(|backing| backing.nosharepages),
        nodes: whole(domain).and_then(|(mode, nodes)| host_nodes(mode, nodes)),
        cells,
    })
}

/// The nodes that the control group is left, where the mode is `restrictive`: those of the guest, and those that its cells are taken from. All that the host has are no
/// restriction.
pub(super) fn restricted_to(domain: &stated::Domain, around: &Surroundings) -> Option<String> {
    let (mode, nodes) = whole(domain)?;
    if mode != NumaMode::Restrictive {
        return None;
    }
    let tune = domain.numatune.as_ref()?;
    let of_cells = tune
        .memnodes
        .iter()
        .filter_map(|node| node.nodeset.as_ref());
    let all: BTreeSet<u32> = of_cells
        .chain([nodes])
        .flat_map(CpuSet::cpus)
        .copied()
        .collect();
    let known = around.facts.memory_nodes.as_ref();
    let list: Vec<_> = all.iter().map(u32::to_string).collect();
    (!known.is_some_and(|known| known.is_subset(&all))).then(|| list.join(","))
}

/// Why the builtin driver cannot make the memory that a definition asks for.
pub(super) fn builtin_obstacle(domain: &stated::Domain) -> Option<(String, String)> {
    let vcpus = domain.vcpu.as_ref().and_then(|vcpu| vcpu.value);
    let cells = cells(domain, vcpus.unwrap_or(1));
    let first = cells.iter().find(|cell| cell.size.0 > 0)?;
    let memory = Memory {
        hugepages: first.hugepages,
        shared: first.shared,
        cells: cells.clone(),
        ..Memory::default()
    };
    let why = "it asks for cells of different kinds of memory, which builtin does not make";
    memory
        .is_mixed()
        .then(|| ("cpu/numa".to_owned(), why.to_owned()))
}

/// How much there is. Cells have all of it between them.
fn amount(at: &mut Resolving<'_>, domain: &stated::Domain, cells: &[Cell]) -> Option<Bytes> {
    let stated = domain.memory_bytes().map(|memory| Bytes(memory.0));
    let stated = stated.filter(|memory| memory.0 > 0);
    let sum = cells
        .iter()
        .fold(0_u64, |sum, cell| sum.saturating_add(cell.size.0));
    let sum = Some(Bytes(sum)).filter(|_| sum > 0);
    match (stated, sum) {
        (None, None) => {
            at.refuse(
                Rule::Missing,
                "memory",
                "the guest has no memory",
                "add <memory unit='MiB'>…</memory>, or `memory: 512 MiB`",
            );
            None
        }
        (Some(stated), Some(sum)) if stated != sum => {
            at.refuse(
                Rule::Contradiction,
                "memory",
                format!("the guest has {stated} of memory, and its NUMA cells have {sum} together"),
                format!(
                    "make it <memory unit='KiB'>{}</memory>, or change the cells",
                    sum.0 / 1024
                ),
            );
            None
        }
        (stated, sum) => stated.or(sum),
    }
}

/// The cells by number. That numbers are of cells, and that each is there once, was checked when the definition was read.
fn cells(domain: &stated::Domain, vcpus: u32) -> Vec<Cell> {
    let numa = domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref());
    let stated = numa.map_or(&[][..], |numa| &numa.cells);
    let mut cells = vec![Cell::default(); stated.len()];
    let mut free: BTreeSet<u32> = (0..vcpus).collect();
    for (number, one) in numbered(stated) {
        let Some(cell) = cells.get_mut(number) else {
            continue;
        };
        cell.size = one.memory_bytes().map_or(Bytes(0), |size| Bytes(size.0));
        cell.vcpus = one.cpus.iter().flat_map(CpuSet::cpus).copied().collect();
        cell.vcpus.retain(|vcpu| free.remove(vcpu));
        cell.hugepages = pages(domain, number);
        cell.shared = is_shared(domain, one.mem_access);
        cell.nodes = own_nodes(domain, number);
    }
    if let Some(first) = cells.first_mut() {
        first.vcpus.extend(free);
        first.vcpus.sort_unstable();
    }
    measure(stated, &mut cells);
    cells
}

/// Cells with their numbers: stated, or their place.
fn numbered(stated: &[NumaCell]) -> impl Iterator<Item = (usize, &NumaCell)> {
    let cells = stated.iter().enumerate();
    cells.map(|(place, cell)| (cell.id.map_or(place, |id| id as usize), cell))
}

/// Writes down how far cells are from each other. What is stated one way holds the other way where nothing is stated of that.
fn measure(stated: &[NumaCell], cells: &mut [Cell]) {
    let mut far = std::collections::BTreeMap::new();
    for (from, cell) in numbered(stated) {
        let siblings = cell.distances.iter().flat_map(|all| &all.siblings);
        for sibling in siblings {
            let distance = sibling
                .value
                .and_then(|value| u8::try_from(value.get()).ok());
            if let (Some(to), Some(distance)) = (sibling.id, distance) {
                far.insert((from, to as usize), distance);
            }
        }
    }
    if far.is_empty() {
        return;
    }
    let count = cells.len();
    for (from, cell) in cells.iter_mut().enumerate() {
        let distance = |to: usize| {
            let usual = if from == to { DISTANCES.0 } else { DISTANCES.1 };
            let stated = far.get(&(from, to)).or_else(|| far.get(&(to, from)));
            stated.copied().unwrap_or(usual)
        };
        cell.distances = (0..count).map(distance).collect();
    }
}

/// Cells are whole pages.
fn check_cells(at: &mut Resolving<'_>, cells: &[Cell]) {
    let odd = cells
        .iter()
        .position(|cell| !cell.size.0.is_multiple_of(4096));
    if let Some((number, cell)) = odd.and_then(|number| Some((number, cells.get(number)?))) {
        at.refuse(
            Rule::Range,
            "cpu/numa",
            format!("cell {number} has {}, which is not whole pages", cell.size),
            "a multiple of 4 KiB is",
        );
    }
}

/// The size of pages of a guest without cells.
fn hugepages(at: &mut Resolving<'_>, domain: &stated::Domain) -> Option<Option<Bytes>> {
    let stated = domain.memory_backing.as_ref();
    let stated = stated.and_then(|backing| backing.hugepages.as_ref())?;
    if stated.pages.len() > 1 {
        at.refuse(
            Rule::Unsupported,
            "memoryBacking/hugepages/page[2]",
            "pages of several sizes are for guests with several NUMA cells",
            "name one size",
        );
    }
    pages(domain, 0)
}

/// The size of a cell's pages: that stated for it, else that stated for no cell.
fn pages(domain: &stated::Domain, cell: usize) -> Option<Option<Bytes>> {
    let backing = domain.memory_backing.as_ref()?;
    let pages = &backing.hugepages.as_ref()?.pages;
    if pages.is_empty() {
        return Some(None);
    }
    let is_of = |page: &&HugePage| {
        let nodes = page.nodeset.as_ref();
        nodes.is_some_and(|nodes| nodes.cpus().iter().any(|node| *node as usize == cell))
    };
    let general = || pages.iter().find(|page| page.nodeset.is_none());
    let page = pages.iter().find(is_of).or_else(general)?;
    let unit = page.unit.as_ref().map_or(1024, stated::cpu::Unit::bytes);
    Some(page.size.map(|size| Bytes(size.saturating_mul(unit))))
}

/// Whether others can map a cell's memory: what the cell says, else what is said of all, else what its source is made for.
fn is_shared(domain: &stated::Domain, own: Option<MemAccess>) -> bool {
    let backing = domain.memory_backing.as_ref();
    let access = backing.and_then(|backing| backing.access.as_ref()?.mode);
    let source = backing.and_then(|backing| backing.source.as_ref()?.kind);
    match own.or(access) {
        Some(access) => access == MemAccess::Shared,
        None => source == Some(MemorySourceType::Memfd),
    }
}

fn check_source(at: &mut Resolving<'_>, domain: &stated::Domain) {
    let backing = domain.memory_backing.as_ref();
    let source = backing.and_then(|backing| backing.source.as_ref()?.kind);
    if source == Some(MemorySourceType::File) {
        at.refuse(
            Rule::Unsupported,
            "memoryBacking/source/@type",
            "memory in a file of the host's is not something vireo can do",
            "type='memfd' is: a file that has no name",
        );
    }
}

/// Choosing nodes by measurement is what a daemon of its own does.
fn check_placement(at: &mut Resolving<'_>, domain: &stated::Domain) {
    let memory = domain
        .numatune
        .as_ref()
        .and_then(|tune| tune.memory.as_ref());
    if memory.and_then(|memory| memory.placement) == Some(Placement::Auto) {
        at.refuse(
            Rule::Unsupported,
            "numatune/memory/@placement",
            "choosing nodes by measurement is not something vireo can do",
            "placement='static' is, with a nodeset",
        );
    }
}

/// The mode and the nodes of all memory.
fn whole(domain: &stated::Domain) -> Option<(NumaMode, &CpuSet)> {
    let memory = domain.numatune.as_ref()?.memory.as_ref()?;
    Some((
        memory.mode.unwrap_or(NumaMode::Strict),
        memory.nodeset.as_ref()?,
    ))
}

/// Where a cell's memory is taken from, if that is stated of it.
fn own_nodes(domain: &stated::Domain, cell: usize) -> Option<HostNodes> {
    let mut stated = domain.numatune.as_ref()?.memnodes.iter();
    let of = |id: u32| id as usize == cell;
    let node = stated.find(|node| node.cellid.is_some_and(of))?;
    let mode = match node.mode.unwrap_or(NumaMode::Strict) {
        NumaMode::Restrictive => NumaMode::Strict,
        other => other,
    };
    host_nodes(mode, node.nodeset.as_ref()?)
}

fn host_nodes(mode: NumaMode, nodes: &CpuSet) -> Option<HostNodes> {
    Some(HostNodes {
        mode: match mode {
            NumaMode::Strict => NodeMode::Strict,
            NumaMode::Preferred => NodeMode::Preferred,
            NumaMode::Interleave => NodeMode::Interleave,
            NumaMode::Restrictive => return None,
        },
        nodes: nodes.cpus().iter().copied().collect(),
    })
}

/// Refuses nodes that the host does not have.
fn check_nodes(at: &mut Resolving<'_>, domain: &stated::Domain, around: &Surroundings) {
    let (Some(known), Some(tune)) = (&around.facts.memory_nodes, &domain.numatune) else {
        return;
    };
    let whole = tune
        .memory
        .iter()
        .map(|memory| ("memory".to_owned(), &memory.nodeset));
    let cells = (1..).zip(&tune.memnodes).map(|(n, node)| {
        let name = if n == 1 {
            "memnode".to_owned()
        } else {
            format!("memnode[{n}]")
        };
        (name, &node.nodeset)
    });
    for (name, nodes) in whole.chain(cells) {
        let mut nodes = nodes.iter().flat_map(CpuSet::cpus);
        let Some(strange) = nodes.find(|node| !known.contains(node)) else {
            continue;
        };
        let list: Vec<_> = known.iter().map(u32::to_string).collect();
        at.refuse(
            Rule::Range,
            &format!("numatune/{name}/@nodeset"),
            format!("this host has no node {strange} with memory"),
            format!(
                "it has {} (see /sys/devices/system/node/has_memory)",
                list.join(", ")
            ),
        );
    }
}
