//! Memory in the words of `vireo-vmm`.

use serde::Serialize;

use super::config::unsupported;
use crate::domain::DriverError;
use crate::resolve::domain::{Cell, Domain, HostNodes, Memory, NodeMode};
use crate::units::Bytes;

/// Most cells that the monitor tells a guest of.
const MOST_CELLS: usize = 64;
/// The page sizes that it takes reserved pages of.
const HUGE: [Bytes; 2] = [Bytes::mib(2), Bytes::mib(1024)];

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemoryConfig {
    size: Bytes,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hugepages: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    page_size: Option<Bytes>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    locked: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    preallocated: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shared: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<HostConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cells: Vec<CellConfig>,
}

#[derive(Debug, Serialize)]
struct HostConfig {
    mode: NodeMode,
    nodes: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct CellConfig {
    size: Bytes,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vcpus: Vec<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    distances: Vec<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<HostConfig>,
}

/// The memory of a definition.
///
/// # Errors
/// Memory that the monitor does not make.
pub fn memory(domain: &Domain) -> Result<MemoryConfig, DriverError> {
    let memory = &domain.memory;
    check(memory)?;
    let vcpus = domain.vcpus.current;
    Ok(MemoryConfig {
        size: memory.maximum,
        hugepages: memory.hugepages.is_some(),
        page_size: memory.hugepages.flatten(),
        locked: memory.locked,
        preallocated: memory.immediate,
        shared: memory.shared,
        host: memory.nodes.as_ref().map(host),
        cells: memory.cells.iter().map(|one| cell(one, vcpus)).collect(),
    })
}

fn check(memory: &Memory) -> Result<(), DriverError> {
    let page = match memory.hugepages {
        None => Bytes::kib(4),
        Some(None) => Bytes::mib(2),
        Some(Some(size)) if HUGE.contains(&size) => size,
        Some(Some(size)) => {
            let what = format!("huge pages of {size}: it takes those of 2 MiB and of 1 GiB");
            return Err(unsupported(what));
        }
    };
    if memory.threads.is_some() {
        return Err(unsupported("taking memory by several threads"));
    }
    if memory.is_mixed() {
        return Err(unsupported("cells of different kinds of memory"));
    }
    let count = memory.cells.len();
    if count > MOST_CELLS {
        let what = format!("{count} NUMA cells: it makes {MOST_CELLS} at most");
        return Err(unsupported(what));
    }
    let mut cells = memory.cells.iter();
    match cells.find(|cell| !cell.size.0.is_multiple_of(page.0)) {
        Some(cell) => {
            let what = format!("a NUMA cell of {} made of pages of {page}", cell.size);
            Err(unsupported(what))
        }
        None => Ok(()),
    }
}

/// A cell, with the processors that are there.
fn cell(cell: &Cell, vcpus: u32) -> CellConfig {
    let there = cell.vcpus.iter().copied().filter(|vcpu| *vcpu < vcpus);
    CellConfig {
        size: cell.size,
        vcpus: there.collect(),
        distances: cell.distances.clone(),
        host: cell.nodes.as_ref().map(host),
    }
}

fn host(nodes: &HostNodes) -> HostConfig {
    HostConfig {
        mode: nodes.mode,
        nodes: nodes.nodes.clone(),
    }
}
