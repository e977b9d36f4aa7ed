//! The world before the agent came, and what people and accidents do to it behind the agent's back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use vireo_reconciler::host::simulated::World;
use vireo_reconciler::inventory::{CgroupVersion, File, HostFacts, Inventory, Link, LinkKind};
use vireo_reconciler::resolve::domain::Bandwidth;
use vireo_reconciler::resolve::storage::Permissions;
use vireo_reconciler::units::Bytes;

use super::auditor::Auditor;

/// A host with KVM and all tools, a network card, a bridge of somebody else's, and a kernel to boot.
pub fn first_world() -> World {
    let tools = [
        "qemu-system-x86_64",
        "qemu-img",
        "nft",
        "dnsmasq",
        "vireo-vmm",
        "tc",
    ];
    let host = HostFacts {
        cpus: 8,
        memory: Bytes::gib(64),
        kvm: true,
        cgroup: CgroupVersion::V2,
        cgroup_controllers: ["cpu", "cpuset", "io", "memory", "pids"]
            .map(str::to_owned)
            .into(),
        bridge_ct: true,
        bridge_reject: true,
        tools: tools
            .map(|tool| (tool.to_owned(), PathBuf::from(format!("/usr/bin/{tool}"))))
            .into(),
        ..HostFacts::default()
    };
    let links = BTreeMap::from([
        ("eth0".to_owned(), foreign(LinkKind::Other)),
        ("docker0".to_owned(), foreign(LinkKind::Bridge)),
        ("tap9".to_owned(), foreign(LinkKind::Tap)),
    ]);
    let kernel = File {
        permissions: Permissions {
            owner: Some(0),
            group: Some(0),
            mode: Some(0o644),
        },
        size: Bytes::mib(8),
        image: None,
    };
    let files = BTreeMap::from([
        (PathBuf::from("/boot/vmlinuz"), kernel.clone()),
        (PathBuf::from("/images/somebody-elses.qcow2"), kernel),
    ]);
    World {
        inventory: Inventory {
            host,
            links,
            files,
            ..Inventory::default()
        },
        ..World::default()
    }
}

/// A link that is not ours.
pub fn foreign(kind: LinkKind) -> Link {
    Link {
        kind,
        owner: None,
        master: None,
        up: true,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        addresses: BTreeSet::new(),
        routes: BTreeSet::new(),
        stp: false,
        delay: 0,
        bandwidth: Bandwidth::default(),
    }
}

/// Does one random damage; told in a sentence.
pub fn strike(world: &mut World, rng: &mut fastrand::Rng, auditor: &Mutex<Auditor>) -> String {
    let ours: Vec<String> = world
        .inventory
        .links
        .iter()
        .filter(|(_, link)| link.owner.is_some())
        .map(|(name, _)| name.clone())
        .collect();
    match rng.u32(0..13) {
        0..3 => kill_guest(world, rng),
        3 => delete_link(world, rng, &ours),
        4 => change_link(world, rng, &ours),
        5 => {
            let tables: Vec<_> = world.inventory.tables.keys().cloned().collect();
            let Some(name) = rng.choice(&tables) else {
                return "there is no table to delete".to_owned();
            };
            world.inventory.tables.remove(name);
            format!("table {name} is deleted")
        }
        6 => tear_chain(world, rng),
        7 => {
            let uuids: Vec<_> = world.inventory.cgroups.keys().copied().collect();
            let Some(uuid) = rng.choice(&uuids) else {
                return "there is no control group to change".to_owned();
            };
            if let Some(tuning) = world.inventory.cgroups.get_mut(uuid) {
                tuning.shares = Some(17);
            }
            format!("the shares of {uuid} are changed")
        }
        8 => {
            let uuids: Vec<_> = world.inventory.dnsmasq.keys().copied().collect();
            let Some(uuid) = rng.choice(&uuids) else {
                return "there is no dnsmasq to kill".to_owned();
            };
            world.inventory.dnsmasq.remove(uuid);
            format!("the dnsmasq of {uuid} is killed")
        }
        9 => {
            world.inventory.host.ip_forward = false;
            "forwarding is turned off".to_owned()
        }
        10 => {
            let mut guests: Vec<_> = world.inventory.guests.values_mut().collect();
            let Some(guest) = rng.choice(&mut guests) else {
                return "there is no balloon to change".to_owned();
            };
            guest.balloon = guest.balloon.map(|_| Bytes::mib(16));
            format!("the balloon of {} is changed", guest.launch.domain.name)
        }
        11 => limit_disk(world, rng),
        _ => lose_volume(world, rng, auditor),
    }
}

fn limit_disk(world: &mut World, rng: &mut fastrand::Rng) -> String {
    let guests = world.inventory.guests.values_mut();
    let mut disks: Vec<_> = guests.flat_map(|guest| guest.disks.iter_mut()).collect();
    let Some((name, disk)) = rng.choice(&mut disks) else {
        return "there is no disk to limit".to_owned();
    };
    disk.limits.request_size = Some(rng.u64(1..100));
    format!("the limits of a disk {name} are changed")
}

fn kill_guest(world: &mut World, rng: &mut fastrand::Rng) -> String {
    let uuids: Vec<_> = world.inventory.guests.keys().copied().collect();
    let Some(uuid) = rng.choice(uuids) else {
        return "there is no guest to kill".to_owned();
    };
    let reason = ["killed", "power-off", "crash"][rng.usize(0..3)];
    world.end(uuid, reason);
    format!("guest {uuid} ends: {reason}")
}

fn delete_link(world: &mut World, rng: &mut fastrand::Rng, ours: &[String]) -> String {
    let Some(name) = rng.choice(ours) else {
        return "there is no link to delete".to_owned();
    };
    world.inventory.links.remove(name);
    for link in world.inventory.links.values_mut() {
        if link.master.as_ref() == Some(name) {
            link.master = None;
        }
    }
    format!("link {name} is deleted")
}

fn change_link(world: &mut World, rng: &mut fastrand::Rng, ours: &[String]) -> String {
    let Some(name) = rng.choice(ours) else {
        return "there is no link to change".to_owned();
    };
    let Some(link) = world.inventory.links.get_mut(name) else {
        return String::new();
    };
    match rng.u32(0..4) {
        0 => link.up = !link.up,
        1 => link.master = None,
        2 => link.bandwidth = Bandwidth::default(),
        _ => link.addresses.clear(),
    }
    format!("link {name} is changed")
}

fn tear_chain(world: &mut World, rng: &mut fastrand::Rng) -> String {
    let mut chains: Vec<_> = world
        .inventory
        .tables
        .values_mut()
        .flat_map(|table| table.chains.iter_mut())
        .collect();
    let count = chains.len();
    if count == 0 {
        return "there is no chain to tear".to_owned();
    }
    let (name, digest) = chains.swap_remove(rng.usize(0..count));
    *digest = None;
    format!("rules are taken out of chain {name}")
}

/// Only the file of a volume that no running guest has open.
fn lose_volume(world: &mut World, rng: &mut fastrand::Rng, auditor: &Mutex<Auditor>) -> String {
    let paths: Vec<PathBuf> = world
        .inventory
        .files
        .keys()
        .filter(|path| path.starts_with("/images"))
        .cloned()
        .collect();
    let made = |path: &&PathBuf| {
        world
            .ledger
            .entries
            .values()
            .any(|entry| entry.made && entry.holds.path.as_ref() == Some(*path))
    };
    let paths: Vec<&PathBuf> = paths.iter().filter(made).collect();
    let Some(path) = rng.choice(&paths) else {
        return "there is no volume to lose".to_owned();
    };
    world.inventory.files.remove(*path);
    auditor
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .lost
        .insert((*path).clone());
    format!("{} is deleted by somebody", path.display())
}
