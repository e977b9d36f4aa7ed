//! A guest's memory as it will really be: how much, what it is made of, where on the host it lies, and the cells that the guest sees of it.

use serde::{Deserialize, Serialize};

use crate::units::Bytes;

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// `<memory>`: what the guest is built with.
    pub maximum: Bytes,
    /// `<currentMemory>`: what the balloon leaves it. Changes live.
    pub current: Bytes,
    /// `<memoryBacking><hugepages>`: page size, `None` in `Some` for the host's default. Of a guest with cells, what its first cell has.
    pub hugepages: Option<Option<Bytes>>,
    /// `<locked/>`.
    pub locked: bool,
    /// It is a memory file that other processes can map: `<access mode='shared'/>`, or `<source type='memfd'/>` unless the access is private. Of a guest with cells, what
    /// its first cell has.
    #[serde(default)]
    pub shared: bool,
    /// `<allocation mode='immediate'/>`: it is taken from the host at the start.
    #[serde(default)]
    pub immediate: bool,
    /// `<allocation threads>`: how many threads take it.
    #[serde(default)]
    pub threads: Option<u32>,
    /// `<nosharepages/>`: pages that are equal stay apart.
    #[serde(default)]
    pub unmerged: bool,
    /// `<numatune><memory>`: where it is taken from. Not the mode `restrictive`, which is the control group's.
    #[serde(default)]
    pub nodes: Option<HostNodes>,
    /// `<cpu><numa>`: the cells that the guest sees, by number; none where all is equally near.
    #[serde(default)]
    pub cells: Vec<Cell>,
}

/// A cell: memory with the processors that are near it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// How much memory; may be none.
    pub size: Bytes,
    /// Numbers of its processors, of as many as there may ever be. Those that are stated for no cell are in the first.
    pub vcpus: Vec<u32>,
    /// How far it is to each cell, by number, where any distance is stated: 10 to itself, 11 to 254 to others, 255 to those out of reach.
    pub distances: Vec<u8>,
    /// As [`Memory::hugepages`].
    pub hugepages: Option<Option<Bytes>>,
    /// As [`Memory::shared`], or what `memAccess` says.
    pub shared: bool,
    /// `<memnode>`: where it is taken from, where that is not as for all memory.
    pub nodes: Option<HostNodes>,
}

/// The host's nodes that memory is taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNodes {
    /// How strictly.
    pub mode: NodeMode,
    /// Their numbers, at least one.
    pub nodes: Vec<u32>,
}

/// How strictly memory is taken from nodes. Source: libvirt's domain format, "NUMA Node Tuning"; set_mempolicy(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeMode {
    /// From none else. Of a cell, also `restrictive`.
    Strict,
    /// From these while they have any.
    Preferred,
    /// Page by page from one after the other.
    Interleave,
}

impl Memory {
    /// Whether a cell's memory is made of something else than another's.
    pub fn is_mixed(&self) -> bool {
        let mut cells = self.cells.iter().filter(|cell| cell.size.0 > 0);
        cells.any(|cell| (cell.hugepages, cell.shared) != (self.hugepages, self.shared))
    }
}
