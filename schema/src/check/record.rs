//! Rules on records: what libvirt notes of guests that run, which is read and written here, and kept by nobody.

use super::one::Report;
use super::traffic;
use crate::checkpoint::{CheckpointPlace, DomainCheckpoint};
use crate::definition::Kind;
use crate::document::Located;
use crate::networkport::{NetworkPort, Plug, PlugType};
use crate::policy::Policy;
use crate::rule::Rule;
use crate::scalar::YesNo;
use crate::snapshot::{
    DomainSnapshot, MemorySnapshot, MomentName, SnapshotDisk, SnapshotDisks, SnapshotPlace,
    SnapshotState,
};
use std::collections::HashSet;
use std::fmt::Arguments;

/// Why a document of this kind cannot be part of what a host is kept equal to, and what to do instead; `None` for what can.
pub fn not_kept(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::DomainSnapshot => Some((
            "a snapshot is not something that vireo can keep",
            "it tells of a moment that is over: move it out of the directory, and to have the guest as it was then, define the guest inside of it in a file of its own",
        )),
        Kind::DomainCheckpoint => Some((
            "a checkpoint is not something that vireo can keep",
            "it tells of a moment that is over: move it out of the directory, and leave it to the program that makes backups",
        )),
        Kind::NetworkPort => Some((
            "a port is not something that vireo can keep",
            "it comes and goes with its guest: move it out of the directory, and state the interface in the guest's definition",
        )),
        Kind::NwFilterBinding => Some((
            "a filter's binding is not something that vireo can keep",
            "it comes and goes with its guest: move it out of the directory, and name the filter in the guest's interface, <filterref filter='…'/>",
        )),
        Kind::Domain
        | Kind::Network
        | Kind::Pool
        | Kind::Volume
        | Kind::NwFilter
        | Kind::Secret => None,
    }
}

/// A record has nothing that could be wanted otherwise.
pub(crate) fn policy(located: &Located, r: &mut Report<'_>) {
    if located.kind().is_record() && located.policy != Policy::default() {
        r.report(
            Rule::RecordConflict,
            "policy",
            "what libvirt noted takes no policy",
        );
    }
}

/// Every rule on snapshots. The guest inside is not judged: it was what it was.
pub(crate) fn snapshot(snapshot: &DomainSnapshot, r: &mut Report<'_>) {
    file_name(snapshot.name.as_ref(), r);
    let off = matches!(
        snapshot.state,
        Some(SnapshotState::Shutoff | SnapshotState::DiskSnapshot)
    );
    let kept = snapshot
        .memory
        .as_ref()
        .is_some_and(|memory| memory.snapshot != Some(MemorySnapshot::No));
    if let Some(state) = snapshot.state.filter(|_| off && kept) {
        r.add(
            Rule::RecordConflict,
            "memory",
            format!("there is no memory to keep of a guest in state {state}"),
            Some("take <memory snapshot='no'/>"),
        );
    }
    if let Some(memory) = &snapshot.memory {
        let external = memory.snapshot.unwrap_or(MemorySnapshot::External);
        match (external == MemorySnapshot::External, &memory.file) {
            (true, None) => r.report(
                Rule::RecordSource,
                "memory",
                "memory that is kept externally needs `file`",
            ),
            (false, Some(_)) => r.report(
                Rule::RecordConflict,
                "memory/@file",
                format!("memory that is kept `{external}` takes no file"),
            ),
            (true, Some(file)) if !file.starts_with('/') => r.report(
                Rule::RecordSource,
                "memory/@file",
                format!("`{file}` is no absolute path"),
            ),
            _ => {}
        }
    }
    for (at, disks) in [
        ("disks", &snapshot.disks),
        ("revertDisks", &snapshot.revert_disks),
    ] {
        if let Some(disks) = disks {
            each_disk(at, disks, r);
        }
    }
}

/// Records lie in files of their names.
fn file_name(name: Option<&MomentName>, r: &mut Report<'_>) {
    let name = name.map_or("", MomentName::as_str);
    if name.starts_with('.') {
        r.report(
            Rule::RecordName,
            "name",
            format!("`{name}` begins with a dot, and the name becomes that of a file"),
        );
    }
}

/// Every rule on checkpoints. The guest inside is not judged: it was what it was.
pub(crate) fn checkpoint(point: &DomainCheckpoint, r: &mut Report<'_>) {
    file_name(point.name.as_ref(), r);
    let Some(disks) = &point.disks else { return };
    let mut names = HashSet::new();
    for (i, disk) in disks.disks.iter().enumerate() {
        let path = format_args!("disks/disk[{}]", i + 1);
        once(path, disk.name.as_ref(), &mut names, r);
        let none = disk.checkpoint == Some(CheckpointPlace::No);
        for (name, stated) in [
            ("bitmap", disk.bitmap.is_some()),
            ("size", disk.size.is_some()),
        ] {
            if none && stated {
                r.report(
                    Rule::RecordConflict,
                    format_args!("{path}/@{name}"),
                    format!(
                        "nothing tells what was written to the disk, and so there is no {name}"
                    ),
                );
            }
        }
    }
}

/// Each disk is named once.
fn once<'a, N: std::hash::Hash + Eq + std::fmt::Display>(
    path: Arguments<'_>,
    name: Option<&'a N>,
    names: &mut HashSet<&'a N>,
    r: &mut Report<'_>,
) {
    if let Some(name) = name
        && !names.insert(name)
    {
        r.report(
            Rule::RecordConflict,
            format_args!("{path}/@name"),
            format!("disk {name} stands twice"),
        );
    }
}

fn each_disk(at: &str, disks: &SnapshotDisks, r: &mut Report<'_>) {
    let mut names = HashSet::new();
    for (number, disk) in disks.disks.iter().enumerate() {
        let path = format_args!("{at}/disk[{}]", number + 1);
        once(path, disk.name.as_ref(), &mut names, r);
        one_disk(path, disk, r);
    }
}

fn one_disk(path: Arguments<'_>, disk: &SnapshotDisk, r: &mut Report<'_>) {
    let place = disk.snapshot.unwrap_or(SnapshotPlace::External);
    let has_image = disk.source.is_some() || disk.driver.is_some() || disk.kind.is_some();
    if place != SnapshotPlace::External && has_image {
        let message = format!("a disk whose state is kept `{place}` has no new image");
        return r.report(Rule::RecordConflict, path, message);
    }
    let Some(source) = &disk.source else { return };
    let kind = disk.kind.map_or("file", |kind| kind.as_str());
    let places = [
        ("file", source.file.is_some()),
        ("block", source.dev.is_some()),
        ("network", source.protocol.is_some()),
        ("dir", source.dir.is_some()),
        ("volume", source.volume.is_some() || source.pool.is_some()),
    ];
    for (other, _) in places.iter().filter(|(of, stated)| *stated && *of != kind) {
        let message = format!("an image of type {kind} takes nothing of type {other}");
        r.report(Rule::RecordConflict, format_args!("{path}/source"), message);
    }
    if matches!(kind, "block" | "network") && !places.contains(&(kind, true)) {
        let message = format!("an image of type {kind} needs its place in <source>");
        r.report(Rule::RecordSource, format_args!("{path}/source"), message);
    }
    if source.startup_policy.is_some() {
        let at = format_args!("{path}/source/@startupPolicy");
        r.report(
            Rule::RecordConflict,
            at,
            "a new image is made, and cannot be missing at start",
        );
    }
    let mut models = HashSet::new();
    for (i, label) in source.seclabels.iter().enumerate() {
        let at = format_args!("{path}/source/seclabel[{}]", i + 1);
        if !models.insert(label.model.as_deref()) {
            r.report(
                Rule::RecordConflict,
                at,
                "two labels are of one model, or of none",
            );
        }
        if label.label.is_some() && label.relabel == Some(YesNo::No) {
            r.report(
                Rule::RecordConflict,
                at,
                "a label is stated, and relabel='no' says that none is set",
            );
        }
    }
    if kind == "network" && !source.seclabels.is_empty() {
        let at = format_args!("{path}/source/seclabel");
        r.report(
            Rule::RecordConflict,
            at,
            "what lies on a server is not labelled",
        );
    }
}

/// Every rule on ports: what each kind of plug needs, and takes.
pub(crate) fn port(port: &NetworkPort, r: &mut Report<'_>) {
    if let Some(vlan) = &port.vlan {
        traffic::vlan(vlan, format_args!("vlan"), r);
    }
    if let Some(bandwidth) = &port.bandwidth {
        traffic::bandwidth(bandwidth, format_args!("bandwidth"), true, r);
    }
    if let Some(switch) = &port.virtualport {
        traffic::port(switch, format_args!("virtualport"), true, r);
    }
    let Some(plug) = &port.plug else { return };
    let Some(kind) = plug.kind else { return };
    for (name, stated) in plugged(plug) {
        let (needed, taken) = match kind {
            PlugType::Network | PlugType::Bridge => (
                name == "@bridge",
                matches!(name, "@bridge" | "@macTableManager"),
            ),
            PlugType::Direct => {
                let takes = matches!(name, "@dev" | "@mode");
                (takes, takes)
            }
            PlugType::HostdevPci => (
                name == "address",
                matches!(name, "address" | "driver" | "@managed"),
            ),
        };
        let shown = name.trim_start_matches('@');
        if needed && !stated {
            r.report(
                Rule::RecordSource,
                "plug",
                format!("a plug of type {kind} needs `{shown}`"),
            );
        }
        if stated && !taken {
            let message = format!("a plug of type {kind} takes no `{shown}`");
            r.report(Rule::RecordConflict, format_args!("plug/{name}"), message);
        }
    }
}

fn plugged(plug: &Plug) -> [(&'static str, bool); 7] {
    [
        ("@bridge", plug.bridge.is_some()),
        ("@macTableManager", plug.mac_table_manager.is_some()),
        ("@dev", plug.dev.is_some()),
        ("@mode", plug.mode.is_some()),
        ("@managed", plug.managed.is_some()),
        ("driver", plug.driver.is_some()),
        ("address", plug.address.is_some()),
    ]
}
