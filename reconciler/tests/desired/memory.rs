//! A guest's memory: its cells, where on the host it lies, which driver makes it, and what is refused where.

use std::collections::BTreeSet;

use vireo_reconciler::desired::Desired;
use vireo_reconciler::inventory::HostFacts;
use vireo_reconciler::ledger::Ledger;
use vireo_reconciler::resolve::Driver;
use vireo_reconciler::resolve::domain::{Domain, NodeMode};
use vireo_reconciler::units::Bytes;

use super::{build, documents, domain, facts};

/// What is said of what is refused, at which line and column.
type Refused = (String, u32, u32);

const KERNEL: &str = "<os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os>";

fn guest(text: &str) -> String {
    format!("<domain type='kvm'>\n<name>web</name>\n{text}\n{KERNEL}\n</domain>")
}

fn outcome(desired: &Desired) -> Result<Domain, Vec<Refused>> {
    if desired.problems.is_empty() {
        return Ok(domain(desired, "web").clone());
    }
    let problems = desired.problems.iter().map(|problem| {
        let place = problem.location.clone().unwrap();
        (problem.message.clone(), place.line, place.column)
    });
    Err(problems.collect())
}

fn with(text: &str) -> Result<Domain, Vec<Refused>> {
    outcome(&build(&[("web.xml", &guest(text))], &Ledger::default()))
}

#[test]
fn every_processor_is_in_a_cell_and_a_distance_holds_both_ways() {
    let web = with(
        "<vcpu>6</vcpu><cpu><numa>\
         <cell id='1' cpus='1,3' memory='64' unit='MiB'/>\
         <cell id='0' cpus='0' memory='32' unit='MiB'><distances><sibling id='1' value='31'/></distances></cell>\
         <cell id='2' memory='0'/></numa></cpu>",
    );
    let web = web.unwrap();
    assert_eq!(web.driver, Driver::Builtin, "{}", web.driver_why);
    assert_eq!(web.memory.maximum, Bytes::mib(96));
    let cells: Vec<_> = web
        .memory
        .cells
        .into_iter()
        .map(|cell| (cell.size, cell.vcpus, cell.distances))
        .collect();
    assert_eq!(
        cells,
        [
            (Bytes::mib(32), vec![0, 2, 4, 5], vec![10, 31, 20]),
            (Bytes::mib(64), vec![1, 3], vec![31, 10, 20]),
            (Bytes(0), vec![], vec![20, 20, 10]),
        ]
    );
}

#[test]
fn memory_lies_where_numatune_says_cell_by_cell() {
    let web = with(
        "<vcpu>2</vcpu><numatune><memory mode='interleave' nodeset='0-2,^1'/><memnode cellid='1' nodeset='3'/></numatune>\
         <cpu><numa><cell cpus='0' memory='32' unit='MiB'/><cell cpus='1' memory='32' unit='MiB'/></numa></cpu>",
    );
    let memory = web.unwrap().memory;
    let all = memory.nodes.unwrap();
    assert_eq!((all.mode, all.nodes), (NodeMode::Interleave, vec![0, 2]));
    assert_eq!(memory.cells[0].nodes, None);
    let own = memory.cells[1].nodes.clone().unwrap();
    assert_eq!((own.mode, own.nodes), (NodeMode::Strict, vec![3]));
}

#[test]
fn a_restriction_is_the_control_groups_and_leaves_it_the_nodes_of_all_cells() {
    let web = with(
        "<vcpu>2</vcpu><numatune><memory mode='restrictive' nodeset='2'/><memnode cellid='1' mode='restrictive' nodeset='0'/></numatune>\
         <cpu><numa><cell cpus='0' memory='32' unit='MiB'/><cell cpus='1' memory='32' unit='MiB'/></numa></cpu>",
    );
    let web = web.unwrap();
    assert_eq!(web.memory.nodes, None);
    assert_eq!(web.tuning.mems.as_deref(), Some("0,2"));
    assert_eq!(
        web.memory.cells[1].nodes.clone().unwrap().mode,
        NodeMode::Strict
    );
}

#[test]
fn memory_is_shared_where_it_says_so_or_is_made_for_it() {
    let cells = "<cpu><numa><cell memory='64' unit='MiB'/></numa></cpu>";
    let own = cells.replace("unit", "memAccess='private' unit");
    for (backing, cells, shared) in [
        ("", cells, false),
        ("<access mode='shared'/>", cells, true),
        ("<access mode='shared'/>", own.as_str(), false),
        ("<source type='memfd'/>", cells, true),
        (
            "<source type='memfd'/><access mode='private'/>",
            cells,
            false,
        ),
        ("<source type='anonymous'/>", cells, false),
        (
            "<access mode='shared'/>",
            "<memory unit='MiB'>64</memory>",
            true,
        ),
    ] {
        let web = with(&format!("<memoryBacking>{backing}</memoryBacking>{cells}")).unwrap();
        assert_eq!(web.memory.shared, shared, "{backing} {cells}");
        assert_eq!(web.driver, Driver::Builtin);
    }
}

#[test]
fn cells_of_different_kinds_of_memory_take_qemu() {
    let web = with(
        "<memoryBacking><hugepages><page size='2' unit='MiB' nodeset='1'/></hugepages></memoryBacking>\
         <vcpu>2</vcpu><cpu><numa><cell cpus='0' memory='32' unit='MiB'/><cell cpus='1' memory='32' unit='MiB'/></numa></cpu>",
    );
    let web = web.unwrap();
    assert_eq!(web.driver, Driver::Qemu);
    assert!(
        web.driver_why
            .contains("cells of different kinds of memory")
    );
    assert_eq!(web.memory.cells[0].hugepages, None);
    assert_eq!(web.memory.cells[1].hugepages, Some(Some(Bytes::mib(2))));
}

#[test]
fn memory_that_cannot_be_is_refused_where_it_stands() {
    let memory = "<memory unit='MiB'>64</memory>";
    for (text, wanted, column) in [
        (
            "<memory unit='MiB'>64</memory><cpu><numa><cell memory='32' unit='MiB'/></numa></cpu>"
                .to_owned(),
            "the guest has 64 MiB of memory, and its NUMA cells have 32 MiB together",
            1,
        ),
        (
            "<cpu><numa><cell memory='33'/></numa></cpu>".to_owned(),
            "cell 0 has 33 KiB, which is not whole pages",
            6,
        ),
        (
            format!("<memoryBacking><source type='file'/></memoryBacking>{memory}"),
            "memory in a file of the host's is not something vireo can do",
            30,
        ),
        (
            format!("<numatune><memory placement='auto'/></numatune>{memory}"),
            "choosing nodes by measurement is not something vireo can do",
            30,
        ),
    ] {
        let refused = with(&text).unwrap_err();
        let (message, line, at) = &refused[0];
        assert!(message.contains(wanted), "{message}");
        assert_eq!((*line, *at), (3, column), "{text}");
    }
}

#[test]
fn a_node_that_the_host_does_not_have_is_refused_with_those_that_it_has() {
    let host = HostFacts {
        memory_nodes: Some(BTreeSet::from([0, 2])),
        ..facts()
    };
    let on = |nodes: &str| {
        let text = format!(
            "<memory unit='MiB'>64</memory>\n<numatune><memory mode='strict' nodeset='{nodes}'/></numatune>"
        );
        let documents = documents(&[("web.xml", &guest(&text))]);
        Desired::build(&documents, &Ledger::default(), &host)
    };
    assert!(outcome(&on("0,2")).is_ok());
    let restricted = |nodes: &str| {
        let text = guest(&format!(
            "<memory unit='MiB'>64</memory><numatune><memory mode='restrictive' nodeset='{nodes}'/></numatune>"
        ));
        let documents = documents(&[("web.xml", &text)]);
        let desired = Desired::build(&documents, &Ledger::default(), &host);
        domain(&desired, "web").tuning.mems.clone()
    };
    assert_eq!(restricted("2").as_deref(), Some("2"));
    assert_eq!(restricted("0,2"), None, "that is every node");
    let desired = on("0-2");
    let refused = &desired.problems[0];
    assert_eq!(refused.message, "this host has no node 1 with memory");
    assert!(refused.help.as_ref().unwrap().starts_with("it has 0, 2"));
    assert_eq!(refused.location.as_ref().unwrap().line, 4);
}
