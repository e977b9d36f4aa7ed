//! Which fields a running guest is compared in, and what changing each does, per driver.
//!
//! One row a field, in three tables: the guest's own, a disk's, an interface's. A test holds the tables to the type: a field that no row covers and that is not
//! listed as without effect fails it.

use serde::Deserialize as _;
use serde_json::Value;

use crate::desired::Wanted;
use crate::resolve::Driver;
use crate::resolve::domain::{Domain, InterfaceSource};
use crate::units::Bytes;

use crate::plan::difference;
use crate::plan::step::{Difference, Disruption};

use Disruption::{Live, Restart};

/// How a value is shown.
#[derive(Clone, Copy)]
enum Show {
    Plain,
    Size,
    /// What an interface is connected to: the network, or the bridge.
    Source,
    Seconds,
}

/// One field: where it is in the resolved type, which element states it, what changing it does, and what a person is told.
struct Row {
    pointer: &'static str,
    element: &'static str,
    builtin: Disruption,
    qemu: Disruption,
    show: Show,
    note: &'static str,
}

const fn live(pointer: &'static str, element: &'static str, note: &'static str) -> Row {
    Row {
        pointer,
        element,
        builtin: Live,
        qemu: Live,
        show: Show::Plain,
        note,
    }
}

const fn restart(pointer: &'static str, element: &'static str, note: &'static str) -> Row {
    Row {
        pointer,
        element,
        builtin: Restart,
        qemu: Restart,
        show: Show::Plain,
        note,
    }
}

const fn size(row: Row) -> Row {
    Row {
        show: Show::Size,
        ..row
    }
}

const BUILT_IN: &str = "a guest is built with it when it starts";
const WEIGHT: &str = "the weight is written to the running guest's control group";
const LIMIT: &str = "the limit is written to the running guest's control group";

/// Fields of the guest itself.
const GUEST: &[Row] = &[
    restart("/name", "name", "the monitor is started with the name"),
    restart(
        "/driver",
        "policy/driver",
        "another monitor has to run the guest",
    ),
    restart("/emulated", "@type", "the processor is another"),
    restart("/machine/arch", "os/type/@arch", BUILT_IN),
    restart("/machine/machine", "os/type/@machine", BUILT_IN),
    restart("/machine/emulator", "devices/emulator", BUILT_IN),
    restart("/machine/acpi", "features/acpi", BUILT_IN),
    restart("/machine/sysinfo", "sysinfo", BUILT_IN),
    size(restart("/memory/maximum", "memory", BUILT_IN)),
    size(live(
        "/memory/current",
        "currentMemory",
        "the guest's balloon is told",
    )),
    restart("/memory/hugepages", "memoryBacking/hugepages", BUILT_IN),
    restart("/memory/locked", "memoryBacking/locked", BUILT_IN),
    restart("/memory/shared", "memoryBacking/access", BUILT_IN),
    restart("/memory/immediate", "memoryBacking/allocation", BUILT_IN),
    restart(
        "/memory/threads",
        "memoryBacking/allocation/@threads",
        BUILT_IN,
    ),
    restart("/memory/unmerged", "memoryBacking/nosharepages", BUILT_IN),
    restart("/memory/nodes", "numatune", BUILT_IN),
    restart("/memory/cells", "cpu/numa", BUILT_IN),
    restart("/vcpus/maximum", "vcpu", BUILT_IN),
    restart("/vcpus/current", "vcpu/@current", BUILT_IN),
    restart("/vcpus/topology", "cpu/topology", BUILT_IN),
    restart("/cpu", "cpu", BUILT_IN),
    restart("/boot", "os", "a guest boots once"),
    restart("/chardevs", "devices/console", BUILT_IN),
    restart("/extras", "devices", BUILT_IN),
    restart("/rng", "devices/rng", BUILT_IN),
    restart("/balloon", "devices/memballoon", BUILT_IN),
    restart("/balloon_address", "devices/memballoon/address", BUILT_IN),
    restart("/balloon_options", "devices/memballoon", BUILT_IN),
    restart("/clock", "clock", BUILT_IN),
    live(
        "/events/on_poweroff",
        "on_poweroff",
        "it is looked at when the guest ends",
    ),
    restart(
        "/events/on_reboot",
        "on_reboot",
        "the monitor is started with it",
    ),
    restart(
        "/events/on_crash",
        "on_crash",
        "the monitor is started with it",
    ),
    live("/tuning/shares", "cputune/shares", WEIGHT),
    live("/tuning/period", "cputune/period", LIMIT),
    live("/tuning/quota", "cputune/quota", LIMIT),
    live(
        "/tuning/cpuset",
        "vcpu/@cpuset",
        "the running guest's control group is moved",
    ),
    restart(
        "/pins",
        "cputune",
        "the monitor's threads are put there when they start",
    ),
    live(
        "/tuning/mems",
        "numatune/memory/@nodeset",
        "the running guest's control group is moved",
    ),
    size(live("/tuning/memory_max", "memtune/hard_limit", LIMIT)),
    size(live("/tuning/memory_high", "memtune/soft_limit", LIMIT)),
    size(live(
        "/tuning/memory_swap_max",
        "memtune/swap_hard_limit",
        LIMIT,
    )),
    live("/tuning/io_weight", "blkiotune/weight", WEIGHT),
    live(
        "/lifecycle/wanted",
        "policy/state",
        "the guest is brought into the state",
    ),
    Row {
        show: Show::Seconds,
        ..live(
            "/lifecycle/shutdown_timeout",
            "policy/shutdown-timeout",
            "it is looked at when the guest shuts down",
        )
    },
    restart(
        "/qemu_arguments",
        "qemu:commandline",
        "QEMU is started with them",
    ),
];

/// Fields of a disk, found again by its target.
const DISK: &[Row] = &[
    restart("/bus", "target/@bus", BUILT_IN),
    restart("/device", "@device", BUILT_IN),
    restart("/path", "source", BUILT_IN),
    restart("/format", "driver/@type", BUILT_IN),
    restart("/readonly", "readonly", BUILT_IN),
    restart("/shareable", "shareable", BUILT_IN),
    restart("/cache", "driver/@cache", BUILT_IN),
    restart("/io", "driver/@io", BUILT_IN),
    restart("/discard", "driver/@discard", BUILT_IN),
    restart("/serial", "serial", BUILT_IN),
    restart("/detect_zeroes", "driver/@detect_zeroes", BUILT_IN),
    restart("/queues", "driver/@queues", BUILT_IN),
    restart("/queue_size", "driver/@queue_size", BUILT_IN),
    restart("/error_policy", "driver/@error_policy", BUILT_IN),
    restart("/rerror_policy", "driver/@rerror_policy", BUILT_IN),
    live(
        "/limits",
        "iotune",
        "the running guest's disk is put under the limits",
    ),
    restart("/boot_order", "boot/@order", "a guest boots once"),
    restart("/address", "address", BUILT_IN),
];

/// Fields of an interface, found again by its place.
const INTERFACE: &[Row] = &[
    restart("/mac", "mac/@address", BUILT_IN),
    Row {
        show: Show::Source,
        ..live("/source", "source", "the tap is put into the other bridge")
    },
    restart("/tap", "target/@dev", "the monitor has the tap open"),
    restart("/model", "model/@type", BUILT_IN),
    restart("/mtu", "mtu/@size", BUILT_IN),
    live("/link_up", "link/@state", "the tap is set up or down"),
    live(
        "/filter",
        "filterref",
        "the packet rules are exchanged in one transaction",
    ),
    live("/bandwidth", "bandwidth", "the tap's queue is exchanged"),
    restart("/boot_order", "boot/@order", "a guest boots once"),
    restart("/queues", "driver/@queues", BUILT_IN),
    restart("/offloads", "driver", BUILT_IN),
    restart("/rx_queue_size", "driver/@rx_queue_size", BUILT_IN),
    restart("/tx_queue_size", "driver/@tx_queue_size", BUILT_IN),
    restart("/vhost", "driver/@name", BUILT_IN),
    restart("/address", "address", BUILT_IN),
];

/// Fields whose change has no effect on a running guest: who it is, names that only planning uses, sentences.
#[cfg(test)]
const WITHOUT_EFFECT: &[&str] = &[
    "/uuid",
    "/driver_why",
    "/disks/volume",
    "/disks/target",
    "/interfaces/index",
];

/// A difference, with the sentence that says how it is made.
pub(super) struct Found {
    pub difference: Difference,
    pub note: &'static str,
}

/// What of a running guest differs from what is wanted.
pub(super) fn differences(runs: &Domain, wanted: &Domain, stated: &Wanted) -> Vec<Found> {
    let (Ok(before), Ok(after)) = (serde_json::to_value(runs), serde_json::to_value(wanted)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut compare = |rows: &'static [Row], at: &str, before: &Value, after: &Value| {
        for row in rows {
            let (old, new) = (before.pointer(row.pointer), after.pointer(row.pointer));
            if old != new && !(at.is_empty() && follows(row.element, runs, wanted)) {
                let rebuilt = row.pointer == "/source" && !can_move(old, new);
                let disruption = match runs.driver {
                    _ if rebuilt => Restart,
                    // More than the guest was built with.
                    _ if row.pointer == "/memory/current"
                        && wanted.memory.current > runs.memory.maximum =>
                    {
                        Restart
                    }
                    Driver::Builtin => row.builtin,
                    Driver::Qemu => row.qemu,
                };
                let path = if at.is_empty() {
                    row.element.to_owned()
                } else {
                    format!("{at}/{}", row.element)
                };
                found.push(Found {
                    difference: difference::one(
                        stated,
                        &path,
                        old.and_then(|value| show(row.show, value)),
                        new.and_then(|value| show(row.show, value)),
                        disruption,
                    ),
                    note: if rebuilt { BUILT_IN } else { row.note },
                });
            }
        }
    };
    compare(GUEST, "", &before, &after);
    let mut lists = Vec::new();
    for (list, rows) in [("disks", DISK), ("interfaces", INTERFACE)] {
        for (at, old, new) in pairs(list, &before, &after) {
            match (old, new) {
                (Some(old), Some(new)) => compare(rows, &at, old, new),
                (old, new) => lists.push((at, old.map(name), new.map(name))),
            }
        }
    }
    found.extend(lists.into_iter().map(|(at, old, new)| Found {
        difference: difference::one(stated, &at, old, new, Restart),
        note: "a device comes or goes when the guest starts",
    }));
    found
}

/// Whether the tap of an interface can move from one source to the other while the guest runs.
fn can_move(old: Option<&Value>, new: Option<&Value>) -> bool {
    let source = |value: Option<&Value>| InterfaceSource::deserialize(value?).ok();
    let moves = |old, new| super::surroundings::can_move(&old, &new);
    source(old)
        .zip(source(new))
        .is_some_and(|(old, new)| moves(old, new))
}

/// Whether a value that nobody stated merely follows another that has changed: all of the memory, all of the processors.
fn follows(field: &str, runs: &Domain, wanted: &Domain) -> bool {
    match field {
        "currentMemory" => [runs, wanted]
            .iter()
            .all(|guest| guest.memory.current == guest.memory.maximum),
        "vcpu/@current" => [runs, wanted]
            .iter()
            .all(|guest| guest.vcpus.current == guest.vcpus.maximum),
        _ => false,
    }
}

/// Where an interface is in its definition, counted as the schema does: the first has no number, the next is the second.
pub(super) fn interface_path(index: usize) -> String {
    path_of("interface", index)
}

fn path_of(element: &str, index: usize) -> String {
    match index {
        0 => format!("devices/{element}"),
        n => format!("devices/{element}[{}]", n + 1),
    }
}

/// Items of a list in both guests: disks by their target, interfaces by their place.
fn pairs<'v>(
    list: &str,
    before: &'v Value,
    after: &'v Value,
) -> Vec<(String, Option<&'v Value>, Option<&'v Value>)> {
    let items = |of: &'v Value| {
        of.get(list)
            .and_then(Value::as_array)
            .map_or(&[][..], |v| v)
    };
    let (old, new) = (items(before), items(after));
    let element = if list == "disks" { "disk" } else { "interface" };
    let same = |a: &Value, b: &Value| match list {
        "disks" => a.get("target") == b.get("target"),
        _ => a.get("index") == b.get("index"),
    };
    let mut pairs = Vec::new();
    for (index, item) in new.iter().enumerate() {
        let before = old.iter().find(|other| same(item, other));
        pairs.push((path_of(element, index), before, Some(item)));
    }
    for item in old {
        if !new.iter().any(|other| same(item, other)) {
            pairs.push((format!("devices/{element}"), Some(item), None));
        }
    }
    pairs
}

/// A device in a word or two.
fn name(device: &Value) -> String {
    let text = |key| device.get(key).and_then(Value::as_str).unwrap_or_default();
    match device.get("target") {
        Some(_) => format!("{} {}", text("target"), text("path"))
            .trim()
            .to_owned(),
        None => format!("interface on {}", text("tap")),
    }
}

fn show(how: Show, value: &Value) -> Option<String> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    match (how, value) {
        (_, Value::Null) => None,
        (Show::Source, _) if text("/network/name").is_some() => Some(format!(
            "network {} on {}",
            text("/network/name").unwrap_or_default(),
            text("/network/bridge").unwrap_or_default()
        )),
        (Show::Seconds, _) => Some(format!("{} s", value.pointer("/secs")?)),
        (Show::Size, Value::Number(number)) => Some(
            number
                .as_u64()
                .map_or_else(|| number.to_string(), |n| Bytes(n).to_string()),
        ),
        (_, Value::String(text)) => Some(text.clone()),
        (_, Value::Bool(true)) => Some("yes".to_owned()),
        (_, Value::Bool(false)) => Some("no".to_owned()),
        (_, Value::Array(list)) if list.is_empty() => None,
        (_, Value::Array(list)) => {
            let parts: Vec<String> = list.iter().filter_map(|v| show(how, v)).collect();
            Some(parts.join(", "))
        }
        (_, Value::Object(map)) => {
            let parts: Vec<String> = map
                .iter()
                .filter_map(|(key, value)| Some(format!("{key} {}", show(how, value)?)))
                .collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        }
        (_, Value::Number(number)) => Some(number.to_string()),
    }
}

/// What runs, with everything of `wanted` that changes live.
pub(super) fn live_part(runs: &Domain, wanted: &Domain) -> Domain {
    let mut target = runs.clone();
    target.tuning = wanted.tuning.clone();
    target.lifecycle = wanted.lifecycle.clone();
    target.events.on_poweroff = wanted.events.on_poweroff;
    if !follows("currentMemory", runs, wanted) {
        target.memory.current = wanted.memory.current.min(runs.memory.maximum);
    }
    for disk in &mut target.disks {
        let mut others = wanted.disks.iter();
        if let Some(other) = others.find(|other| other.target == disk.target) {
            disk.limits = other.limits.clone();
        }
    }
    for interface in &mut target.interfaces {
        let same = wanted
            .interfaces
            .iter()
            .find(|other| other.index == interface.index);
        if let Some(other) = same {
            if super::surroundings::can_move(&interface.source, &other.source) {
                interface.source = other.source.clone();
            }
            interface.filter = other.filter.clone();
            interface.bandwidth = other.bandwidth.clone();
            interface.link_up = other.link_up;
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of a serialised guest, lists by their name alone, down to where a row stands.
    fn uncovered(at: &str, value: &Value, rows: &[Row], list: &str, out: &mut Vec<String>) {
        for (key, value) in value.as_object().into_iter().flatten() {
            let pointer = format!("{at}/{key}");
            let full = format!("{list}{pointer}");
            if rows.iter().any(|row| row.pointer == pointer)
                || WITHOUT_EFFECT.contains(&full.as_str())
            {
                continue;
            }
            match (key.as_str(), value) {
                ("disks", _) if list.is_empty() => uncovered("", &value[0], DISK, "/disks", out),
                ("interfaces", _) if list.is_empty() => {
                    uncovered("", &value[0], INTERFACE, "/interfaces", out);
                }
                (_, Value::Object(_)) => uncovered(&pointer, value, rows, list, out),
                _ => out.push(full),
            }
        }
    }

    #[test]
    fn every_field_of_a_guest_has_a_row_or_is_known_to_have_no_effect() {
        let domain = crate::plan::tests::make::domain("web");
        let value = serde_json::to_value(&domain).unwrap();
        let mut out = Vec::new();
        uncovered("", &value, GUEST, "", &mut out);
        assert_eq!(out, Vec::<String>::new());
    }
}
