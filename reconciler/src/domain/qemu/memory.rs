//! Memory: what it is made of, where it lies, and the guest's cells.
//!
//! Source: QEMU's "Invocation", `-object memory-backend-…` and `-numa`.

use serde_json::{Value, json};

use super::command::CommandLine;
use super::unsupported;
use crate::domain::DriverError;
use crate::resolve::domain::{Domain, HostNodes, Memory, NodeMode};
use crate::units::Bytes;

/// Adds the memory; gives what the machine is told of it.
///
/// # Errors
/// Nodes that QEMU would not keep to.
pub fn memory(line: &mut CommandLine, domain: &Domain) -> Result<String, DriverError> {
    let memory = &domain.memory;
    let size = memory.maximum.0.next_multiple_of(1024);
    line.option("-m", format!("size={}k", size / 1024));
    if memory.locked {
        line.option("-overcommit", "mem-lock=on");
    }
    let mut machine = match memory.unmerged {
        true => ",mem-merge=off".to_owned(),
        false => String::new(),
    };
    if memory.threads.is_some() && !memory.immediate {
        return Err(unsupported(
            "threads that take memory which is not taken at once",
        ));
    }
    if !memory.cells.is_empty() {
        cells(line, memory)?;
        return Ok(machine);
    }
    let plain = !memory.shared && !memory.immediate && memory.nodes.is_none();
    if memory.hugepages.is_some() || !plain {
        let kind = (memory.hugepages, memory.shared);
        let backend = backend("memory0", Bytes(size), kind, memory, memory.nodes.as_ref())?;
        line.json("-object", backend);
        machine.push_str(",memory-backend=memory0");
    }
    Ok(machine)
}

fn cells(line: &mut CommandLine, memory: &Memory) -> Result<(), DriverError> {
    for (number, cell) in memory.cells.iter().enumerate() {
        let mut node = format!("node,nodeid={number}");
        for vcpus in ranges(&cell.vcpus) {
            node.push_str(&format!(",cpus={vcpus}"));
        }
        if cell.size.0 > 0 {
            let id = format!("memory{number}");
            let nodes = cell.nodes.as_ref().or(memory.nodes.as_ref());
            let kind = (cell.hugepages, cell.shared);
            line.json("-object", backend(&id, cell.size, kind, memory, nodes)?);
            node.push_str(&format!(",memdev={id}"));
        }
        line.option("-numa", node);
    }
    for (from, cell) in memory.cells.iter().enumerate() {
        for (to, far) in cell.distances.iter().enumerate() {
            line.option("-numa", format!("dist,src={from},dst={to},val={far}"));
        }
    }
    Ok(())
}

/// An object that memory is taken from: pages that are large or not, shared or not.
fn backend(
    id: &str,
    size: Bytes,
    (hugepages, shared): (Option<Option<Bytes>>, bool),
    memory: &Memory,
    nodes: Option<&HostNodes>,
) -> Result<Value, DriverError> {
    let file = hugepages.is_some() || shared;
    let kind = if file {
        "memory-backend-memfd"
    } else {
        "memory-backend-ram"
    };
    let page = hugepages.flatten().map(|page| page.0);
    let at_once = memory.immediate || hugepages.is_some();
    let mut object = json!({
        "qom-type": kind, "id": id, "size": size.0, "prealloc": at_once, "prealloc-threads": memory.threads, "hugetlbsize": page,
    });
    if file {
        object["share"] = shared.into();
        object["hugetlb"] = hugepages.is_some().into();
    }
    if let Some(nodes) = nodes {
        if nodes.mode == NodeMode::Preferred && nodes.nodes.len() > 1 {
            return Err(unsupported("memory preferably from more than one node"));
        }
        object["host-nodes"] = nodes.nodes.clone().into();
        object["policy"] = match nodes.mode {
            NodeMode::Strict => "bind",
            NodeMode::Preferred => "preferred",
            NodeMode::Interleave => "interleave",
        }
        .into();
    }
    Ok(object)
}

/// Numbers in ascending order as ranges: `0-1` and `3`.
fn ranges(numbers: &[u32]) -> Vec<String> {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match found.last_mut() {
            Some((_, last)) if last.saturating_add(1) == number => *last = number,
            _ => found.push((number, number)),
        }
    }
    let ranges = found.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    ranges.collect()
}
