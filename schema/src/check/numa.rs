//! Rules on NUMA: the guest's cells, how far and fast they are, and where on the host their memory lies.

use super::cpu::most;
use super::machine::cell_count;
use super::one::Report;
use crate::domain::cpu::{Cpu, Interconnects, Numa, NumaCell};
use crate::domain::tune::{NumaMode, NumaTune};
use crate::domain::{Domain, Placement};
use crate::rule::Rule;
use crate::scalar::CpuSet;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Arguments;

/// The distance of a cell to itself, by ACPI.
const LOCAL: i64 = 10;

/// Every rule on NUMA.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    if let Some(Cpu {
        numa: Some(numa), ..
    }) = &domain.cpu
    {
        cells(domain, numa, r);
        if let Some(interconnects) = &numa.interconnects {
            speeds(numa, interconnects, r);
        }
    }
    if let Some(numatune) = &domain.numatune {
        places(domain, numatune, r);
    }
}

fn cells(domain: &Domain, numa: &Numa, r: &mut Report<'_>) {
    let most = most(domain);
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    if numa.cells.is_empty() {
        r.report(Rule::NumaCellNumber, "cpu/numa", "there is no <cell>");
    }
    for (i, cell) in numa.cells.iter().enumerate() {
        let path = format_args!("cpu/numa/cell[{}]", i + 1);
        if cell.id.is_some_and(|id| !ids.insert(id)) {
            r.report(
                Rule::DuplicateNumaCell,
                format_args!("{path}/@id"),
                "two cells have one number",
            );
        }
        if cell.id.is_some_and(|id| id as usize >= numa.cells.len()) {
            r.report(
                Rule::NumaCellNumber,
                format_args!("{path}/@id"),
                format!("cells are numbered 0 to {}", numa.cells.len() - 1),
            );
        }
        if cell.memory.is_none() {
            r.report(Rule::NumaCellMemory, path, "the cell has no memory");
        }
        for cpu in cell.cpus.iter().flat_map(CpuSet::cpus) {
            if !taken.insert(*cpu) {
                r.report(
                    Rule::NumaCellCpus,
                    format_args!("{path}/@cpus"),
                    format!("processor {cpu} is in two cells"),
                );
                break;
            }
        }
        let last = cell.cpus.as_ref().and_then(|cpus| cpus.cpus().last());
        if let Some(last) = last.filter(|last| **last >= most) {
            r.report(
                Rule::NumaCellCpus,
                format_args!("{path}/@cpus"),
                format!(
                    "there is no processor {last}: the guest's are numbered 0 to {}",
                    most.saturating_sub(1)
                ),
            );
        }
        distances(cell, i, numa.cells.len(), path, r);
        caches(cell, path, r);
    }
}

fn distances(cell: &NumaCell, i: usize, count: usize, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(distances) = &cell.distances else {
        return;
    };
    if distances.siblings.is_empty() {
        r.report(
            Rule::NumaDistance,
            format_args!("{path}/distances"),
            "there is no <sibling>",
        );
    }
    let own = cell.id.map_or(i, |id| id as usize);
    for (j, sibling) in distances.siblings.iter().enumerate() {
        let (Some(id), Some(value)) = (sibling.id, sibling.value) else {
            continue;
        };
        let at = format_args!("{path}/distances/sibling[{}]", j + 1);
        if id as usize >= count {
            r.report(
                Rule::NumaDistance,
                format_args!("{at}/@id"),
                format!("the guest has no NUMA cell {id}"),
            );
        } else if (id as usize == own) != (value.get() == LOCAL) {
            r.report(
                Rule::NumaDistance,
                format_args!("{at}/@value"),
                format!("a cell is {LOCAL} from itself, and farther from others"),
            );
        }
    }
}

fn caches(cell: &NumaCell, path: Arguments<'_>, r: &mut Report<'_>) {
    let mut levels = BTreeSet::new();
    for (j, cache) in cell.caches.iter().enumerate() {
        let at = format_args!("{path}/cache[{}]", j + 1);
        let stated = [
            ("level", cache.level.is_some()),
            ("associativity", cache.associativity.is_some()),
            ("policy", cache.policy.is_some()),
            (
                "size",
                cache.size.as_ref().is_some_and(|size| size.value.is_some()),
            ),
            (
                "line",
                cache.line.as_ref().is_some_and(|line| line.value.is_some()),
            ),
        ];
        if let Some((lacks, _)) = stated.iter().find(|(_, is)| !is) {
            r.report(
                Rule::NumaCache,
                at,
                format!("the cache's {lacks} is not stated"),
            );
        }
        let Some(level) = cache.level else { continue };
        if !(1..=3).contains(&level) {
            r.report(
                Rule::NumaCache,
                format_args!("{at}/@level"),
                "a level is 1 to 3",
            );
        } else if !levels.insert(level) {
            r.report(
                Rule::NumaCache,
                format_args!("{at}/@level"),
                format!("the cell's cache of level {level} is stated already"),
            );
        }
    }
}

/// What is said of the way from one cell to another.
struct Way<'n> {
    path: String,
    initiator: Option<u32>,
    target: Option<u32>,
    cache: u32,
    kind: Option<&'n str>,
    valued: bool,
}

fn speeds(numa: &Numa, interconnects: &Interconnects, r: &mut Report<'_>) {
    let latencies = interconnects
        .latencies
        .iter()
        .enumerate()
        .map(|(i, l)| Way {
            path: format!("cpu/numa/interconnects/latency[{}]", i + 1),
            initiator: l.initiator,
            target: l.target,
            cache: l.cache.unwrap_or(0),
            kind: l.kind.map(|kind| kind.as_str()),
            valued: l.value.is_some(),
        });
    let bandwidths = interconnects
        .bandwidths
        .iter()
        .enumerate()
        .map(|(i, b)| Way {
            path: format!("cpu/numa/interconnects/bandwidth[{}]", i + 1),
            initiator: b.initiator,
            target: b.target,
            cache: b.cache.unwrap_or(0),
            kind: b.kind.map(|kind| kind.as_str()),
            valued: b.value.is_some(),
        });
    let cells: HashMap<usize, &NumaCell> = numa
        .cells
        .iter()
        .enumerate()
        .map(|(i, cell)| (cell.id.map_or(i, |id| id as usize), cell))
        .collect();
    for ways in [latencies.collect::<Vec<_>>(), bandwidths.collect()] {
        let mut seen = HashSet::new();
        for way in &ways {
            self::way(&cells, way, r);
            if !seen.insert((way.initiator, way.target, way.cache, way.kind)) {
                r.report(
                    Rule::NumaInterconnect,
                    &way.path,
                    "the same is stated of this way already",
                );
            }
        }
    }
}

fn way(cells: &HashMap<usize, &NumaCell>, way: &Way<'_>, r: &mut Report<'_>) {
    let (Some(initiator), Some(target), Some(_), true) =
        (way.initiator, way.target, way.kind, way.valued)
    else {
        return r.report(
            Rule::NumaInterconnect,
            &way.path,
            "a way between cells needs `initiator`, `target`, `type` and `value`",
        );
    };
    let cell = |id: u32| cells.get(&(id as usize));
    let complaint = match (cell(initiator), cell(target)) {
        (None, _) => (
            "initiator",
            format!("the guest has no NUMA cell {initiator}"),
        ),
        (_, None) => ("target", format!("the guest has no NUMA cell {target}")),
        (Some(from), _) if from.cpus.is_none() => (
            "initiator",
            format!("cell {initiator} has no processors that could ask for memory"),
        ),
        (_, Some(to)) if way.cache > 0 && to.caches.iter().all(|c| c.level != Some(way.cache)) => (
            "cache",
            format!("cell {target} has no <cache> of level {}", way.cache),
        ),
        _ => return,
    };
    let (name, message) = complaint;
    r.report(
        Rule::NumaInterconnect,
        format_args!("{}/@{name}", way.path),
        message,
    );
}

fn places(domain: &Domain, tune: &NumaTune, r: &mut Report<'_>) {
    let memory = tune.memory.as_ref();
    let vcpus_auto = domain
        .vcpu
        .as_ref()
        .is_some_and(|vcpu| vcpu.placement == Some(Placement::Auto));
    let unplaced = |memory: &crate::domain::tune::NumaMemory| {
        memory.placement.is_none() && memory.nodeset.is_none()
    };
    let nowhere = memory.is_some_and(|memory| {
        memory.nodeset.is_none()
            && (memory.placement == Some(Placement::Static)
                || unplaced(memory) && memory.mode.is_some() && !vcpus_auto)
    });
    if nowhere {
        r.report(
            Rule::NumatuneNodeset,
            "numatune/memory",
            "it is not said on which nodes of the host: state `nodeset`, or placement='auto'",
        );
    }
    let auto = match memory {
        Some(memory) => memory.placement == Some(Placement::Auto) || unplaced(memory) && vcpus_auto,
        None => vcpus_auto,
    };
    let restrictive = memory.is_some_and(|memory| memory.mode == Some(NumaMode::Restrictive));
    let mut seen = BTreeSet::new();
    for (i, node) in tune.memnodes.iter().enumerate() {
        let path = format_args!("numatune/memnode[{}]", i + 1);
        if auto {
            r.report(
                Rule::NumatunePlacement,
                path,
                "places of single cells cannot be stated where placement='auto'",
            );
        }
        if node.nodeset.is_none() {
            r.report(
                Rule::NumatuneNodeset,
                path,
                "it is not said on which nodes of the host: state `nodeset`",
            );
        }
        if restrictive && node.mode != Some(NumaMode::Restrictive) {
            r.report(
                Rule::NumatuneMode,
                path,
                "a cell's mode is restrictive where that of <memory> is",
            );
        }
        let Some(cell) = node.cellid else { continue };
        if cell as usize >= cell_count(domain) {
            r.report(
                Rule::NumatuneCell,
                format_args!("{path}/@cellid"),
                format!("the guest has no NUMA cell {cell}"),
            );
        }
        if !seen.insert(cell) {
            r.report(
                Rule::DuplicateNumatuneCell,
                format_args!("{path}/@cellid"),
                format!("cell {cell} is placed twice"),
            );
        }
    }
}
