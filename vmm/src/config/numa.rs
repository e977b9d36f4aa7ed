//! Non-uniform memory: the guest's own cells, and the host's nodes that its memory is taken from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Problems;
use super::{Bytes, Memory, Vcpus};

/// Most cells of a guest.
pub const MOST_CELLS: usize = 64;
/// The distance of a cell to itself (ACPI 6.5, section 5.2.17).
pub const HERE: u8 = 10;
/// The distance to other cells, where none is stated.
pub const ELSEWHERE: u8 = 20;
/// Most nodes that a kernel of the host knows (`CONFIG_NODES_SHIFT` is at most 10).
pub const MOST_NODES: u32 = 1024;

/// A cell: memory with the processors that are near it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cell {
    /// How much of the memory, in the order of the cells from the lowest address: a multiple of its pages. A cell may have none.
    pub size: Bytes,
    /// The numbers of its vcpus. Each vcpu is in one cell; a cell may have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vcpus: Vec<u32>,
    /// How far it is to each cell: 10 to itself, more to the others, 255 to those out of reach. 20 to all others if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distances: Vec<u8>,
    /// The host's nodes that its memory is taken from; as for all of the memory if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostNodes>,
}

/// The host's nodes that memory is taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostNodes {
    /// How strictly.
    pub mode: NodeMode,
    /// Their numbers, at least one, below 1024.
    pub nodes: Vec<u32>,
}

/// How strictly memory is taken from nodes (set_mempolicy(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NodeMode {
    /// From none else. With huge pages, the start fails where these nodes have too few free.
    Strict,
    /// From these while they have any. More than one wants Linux 5.15.
    Preferred,
    /// Page by page from one after the other.
    Interleave,
}

impl Memory {
    /// Whether pages may be taken from these nodes and no others.
    pub(crate) fn is_strict(&self) -> bool {
        let cells = self.cells.iter().filter_map(|cell| cell.host.as_ref());
        let mut all = self.host.iter().chain(cells);
        all.any(|host| host.mode == NodeMode::Strict)
    }
}

/// Everything wrong with cells and nodes.
pub(super) fn check(memory: &Memory, vcpus: &Vcpus, p: &mut Problems) {
    if let Some(host) = &memory.host {
        check_nodes("memory.host", host, p);
    }
    let cells = &memory.cells;
    if cells.is_empty() {
        return;
    }
    p.require(
        "memory.cells",
        cells.len() <= MOST_CELLS,
        format!("at most {MOST_CELLS} cells are possible"),
    );
    let mut sizes = cells.iter().map(|cell| cell.size.0);
    let sum = sizes.try_fold(0_u64, u64::checked_add);
    p.require(
        "memory.cells",
        sum == Some(memory.size.0),
        format!("together they do not have the memory's {}", memory.size),
    );
    let mut times = vec![0_u32; vcpus.count.min(crate::layout::MAX_VCPUS) as usize];
    for (number, cell) in cells.iter().enumerate() {
        check_cell(memory, number, cell, p);
        for vcpu in &cell.vcpus {
            match times.get_mut(*vcpu as usize) {
                Some(times) => *times = times.saturating_add(1),
                None => p.require(
                    format!("memory.cells[{number}].vcpus"),
                    false,
                    format!("there is no vcpu {vcpu}"),
                ),
            }
        }
    }
    p.require(
        "memory.cells",
        times.iter().all(|times| *times == 1),
        "each vcpu is wanted in one cell",
    );
}

fn check_cell(memory: &Memory, number: usize, cell: &Cell, p: &mut Problems) {
    let field = |name: &str| format!("memory.cells[{number}].{name}");
    let page = memory.page();
    p.require(
        field("size"),
        page.0 > 0 && cell.size.0.is_multiple_of(page.0),
        format!("{} is not a multiple of {page}", cell.size),
    );
    let mut far = cell.distances.iter().enumerate();
    let sound = cell.distances.len() == memory.cells.len()
        && far.all(|(to, far)| *far >= HERE && (to == number) == (*far == HERE));
    p.require(
        field("distances"),
        cell.distances.is_empty() || sound,
        "one for each cell is wanted: 10 to itself, 11 to 255 to the others",
    );
    if let Some(host) = &cell.host {
        check_nodes(&field("host"), host, p);
    }
}

fn check_nodes(field: &str, host: &HostNodes, p: &mut Problems) {
    let known = host.nodes.iter().all(|node| *node < MOST_NODES);
    let count = host.nodes.len();
    p.require(
        format!("{field}.nodes"),
        known && (1..=MOST_NODES as usize).contains(&count),
        format!("at least one is wanted, each below {MOST_NODES}"),
    );
}
