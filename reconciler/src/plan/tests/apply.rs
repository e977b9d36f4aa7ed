//! A host just good enough to hold planning to its rule: what effects do to an inventory and a ledger.

use std::collections::BTreeMap;

use crate::compile::nft::NftOp;
use crate::execute::effect::Effect;
use crate::inventory::{
    DnsmasqProcess, File, Guest, GuestDisk, GuestState, Image, Inventory, Link, LinkKind,
};
use crate::ledger::Ledger;
use crate::plan::step::Plan;
use crate::resolve::domain::{Bandwidth, Domain};
use crate::units::Bytes;

/// Does all that a plan says, in its order.
pub fn all(plan: &Plan, host: &mut Inventory, ledger: &mut Ledger) {
    for effect in plan.steps.iter().flat_map(|step| &step.effects) {
        one(effect, host, ledger);
    }
}

fn link(kind: LinkKind, owner: uuid::Uuid) -> Link {
    Link {
        kind,
        owner: Some(owner),
        master: None,
        up: false,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        addresses: Default::default(),
        routes: Default::default(),
        stp: false,
        delay: 0,
        bandwidth: Bandwidth::default(),
    }
}

fn one(effect: &Effect, host: &mut Inventory, ledger: &mut Ledger) {
    match effect.clone() {
        Effect::Record(entry) => ledger.record(*entry),
        Effect::Forget(object) => ledger.forget(&object),
        Effect::EnsureBridge { bridge, owner } => {
            let link = host
                .links
                .entry(bridge.name)
                .or_insert_with(|| link(LinkKind::Bridge, owner));
            assert_eq!(link.owner, Some(owner));
            (link.mac, link.stp) = (bridge.mac, bridge.stp);
            link.delay = if bridge.stp {
                bridge.delay.clamp(2, 30)
            } else {
                bridge.delay
            };
            link.mtu = bridge.mtu.unwrap_or(link.mtu);
        }
        Effect::AddAddress { link, address } => {
            host.links.get_mut(&link).unwrap().addresses.insert(address);
        }
        Effect::RemoveAddress { link, address } => {
            host.links
                .get_mut(&link)
                .unwrap()
                .addresses
                .remove(&address);
        }
        Effect::AddRoute { link, route } => {
            host.links.get_mut(&link).unwrap().routes.insert(route);
        }
        Effect::RemoveRoute { link, route } => {
            host.links.get_mut(&link).unwrap().routes.remove(&route);
        }
        Effect::SetLink { link, up } => host.links.get_mut(&link).unwrap().up = up,
        Effect::EnsureTap {
            tap, owner, bridge, ..
        } => {
            if let Some(bridge) = &bridge {
                assert!(
                    host.links.contains_key(bridge),
                    "no bridge {bridge} for {tap}"
                );
            }
            let link = host
                .links
                .entry(tap)
                .or_insert_with(|| link(LinkKind::Tap, owner));
            link.master = bridge;
        }
        Effect::EnsureMacvtap(macvtap) => {
            assert!(host.links.contains_key(&macvtap.device));
            host.links
                .entry(macvtap.name)
                .or_insert_with(|| link(LinkKind::Macvtap, macvtap.owner));
        }
        Effect::DeleteLink { link, owner } => {
            if let Some(gone) = host.links.remove(&link) {
                assert_eq!(gone.owner, Some(owner));
            }
            for other in host.links.values_mut() {
                other.master.take_if(|master| *master == link);
            }
        }
        Effect::EnableForwarding { ipv6: false } => host.host.ip_forward = true,
        Effect::EnableForwarding { ipv6: true } => host.host.ip6_forward = true,
        Effect::Nft(ops) => nft(&ops, host),
        Effect::SetBandwidth { link, bandwidth } => {
            host.links.get_mut(&link).unwrap().bandwidth = bandwidth;
        }
        Effect::EnsureDnsmasq {
            network, digest, ..
        } => {
            host.dnsmasq
                .insert(network, DnsmasqProcess { pid: 1, digest });
        }
        Effect::StopDnsmasq { network } => {
            host.dnsmasq.remove(&network);
        }
        Effect::EnsureDirectory { path, permissions } => {
            host.directories.insert(path, permissions);
        }
        Effect::CreateVolume(volume) => {
            let file = File {
                permissions: volume.permissions.clone(),
                size: Bytes::kib(196),
                image: Some(Image {
                    format: volume.format,
                    capacity: volume.capacity.unwrap_or_default(),
                    backing: volume.backing.map(|backing| backing.path),
                }),
            };
            assert!(host.files.insert(volume.path, file).is_none());
        }
        Effect::GrowVolume { path, capacity } => {
            let file = host.files.get_mut(&path).unwrap();
            file.image.as_mut().unwrap().capacity = capacity;
        }
        Effect::SetPermissions { path, permissions } => {
            host.files.get_mut(&path).unwrap().permissions = permissions;
        }
        Effect::DeleteVolume { path } => {
            host.files.remove(&path);
        }
        Effect::RunHook(_) => {}
        Effect::SetCgroup { guest, tuning } => {
            host.cgroups.insert(guest, tuning);
        }
        Effect::RemoveCgroup { guest } => {
            host.cgroups.remove(&guest);
        }
        Effect::StartGuest(launch) => {
            let guest = Guest {
                balloon: None,
                disks: disks(host, &launch.domain),
                memory: BTreeMap::new(),
                state: GuestState::Running { pid: 2 },
                launch,
            };
            host.guests.insert(guest.launch.domain.uuid, guest);
        }
        Effect::ShutdownGuest { guest, .. } => set_state(
            host,
            guest,
            GuestState::Ended {
                reason: "power-off".to_owned(),
            },
        ),
        Effect::PauseGuest { guest, .. } => {
            set_state(host, guest, GuestState::Paused { pid: 2, why: None });
        }
        Effect::ResumeGuest { guest, .. } => {
            set_state(host, guest, GuestState::Running { pid: 2 });
        }
        Effect::SetGuestLink { .. } => {}
        Effect::SetBalloon { guest, size, .. } => {
            host.guests.get_mut(&guest).unwrap().balloon = Some(size);
        }
        Effect::SetDiskLimits {
            guest,
            disk,
            limits,
            ..
        } => {
            let guest = host.guests.get_mut(&guest).unwrap();
            if let Some(disk) = guest.disks.get_mut(&disk) {
                disk.limits = *limits;
            }
        }
        Effect::GrowDisk {
            guest,
            disk,
            path,
            capacity,
            ..
        } => {
            let file = host.files.get_mut(&path).unwrap();
            file.image.as_mut().unwrap().capacity = capacity;
            let guest = host.guests.get_mut(&guest).unwrap();
            let disk = guest.disks.get_mut(&disk);
            disk.into_iter().for_each(|disk| disk.capacity = capacity);
        }
        Effect::RecordLaunch(launch) => {
            let uuid = launch.domain.uuid;
            host.guests.get_mut(&uuid).unwrap().launch = launch;
        }
        Effect::ReleaseGuest { guest } => {
            host.guests.remove(&guest);
        }
        #[expect(
            unreachable_patterns,
            reason = "a new effect needs a line here only where planning looks at what it does"
        )]
        _ => {}
    }
}

fn set_state(host: &mut Inventory, guest: uuid::Uuid, state: GuestState) {
    if let Some(guest) = host.guests.get_mut(&guest) {
        guest.state = state;
    }
}

/// One transaction, which the kernel refuses where this panics.
fn nft(ops: &[NftOp], host: &mut Inventory) {
    for op in ops {
        match op {
            NftOp::EnsureSkeleton(skeleton) => {
                let table = host.tables.entry(skeleton.table.clone()).or_default();
                table.skeleton = Some(skeleton.digest().as_str().to_owned());
            }
            NftOp::ReplaceChain { table, name, chain } => {
                let table = host.tables.get_mut(table).unwrap();
                let digest = chain.digest().as_str().to_owned();
                table.chains.insert(name.clone(), Some(digest));
            }
            NftOp::DeleteElement { table, element } => {
                host.tables.get_mut(table).unwrap().elements.remove(element);
            }
            NftOp::SetElement { .. } | NftOp::DeleteChain { .. } | NftOp::DeleteTable { .. } => {}
        }
    }
    for op in ops {
        if let NftOp::SetElement { table, element } = op {
            let table = host.tables.get_mut(table).unwrap();
            let same = |other: &&crate::compile::nft::MapElement| {
                other.map == element.map && other.key == element.key && *other != element
            };
            assert!(!table.elements.iter().any(|other| same(&other)));
            assert!(
                element
                    .verdict
                    .target()
                    .is_none_or(|t| table.chains.contains_key(t))
            );
            table.elements.insert(element.clone());
        }
    }
    for op in ops {
        if let NftOp::DeleteChain { table, name } = op {
            let table = host.tables.get_mut(table).unwrap();
            let leads = |e: &crate::compile::nft::MapElement| e.verdict.target() == Some(name);
            assert!(!table.elements.iter().any(leads), "{name} is in use");
            table.chains.remove(name);
        }
    }
}

/// What a guest's monitor tells of its disks: those that have an image.
fn disks(host: &Inventory, domain: &Domain) -> BTreeMap<String, GuestDisk> {
    let disks = domain.disks.iter();
    let told = disks.filter_map(|disk| {
        let file = &host.files[disk.path.as_ref()?];
        let image = file.image.as_ref();
        let state = GuestDisk {
            capacity: image.map_or(file.size, |image| image.capacity),
            limits: disk.limits.clone(),
        };
        Some((disk.target.clone(), state))
    });
    told.collect()
}
