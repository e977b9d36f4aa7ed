//! What each effect does to the simulated world.
//!
//! The rules are the real host's: what is not ours is refused, what is already so stays, what is missing is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::path::PathBuf;

use uuid::Uuid;

use super::World;
use crate::compile::nft::NftOp;
use crate::domain::Launch;
use crate::execute::effect::{Effect, EffectError, Macvtap};
use crate::inventory::{
    DnsmasqProcess, File, Guest, GuestDisk, GuestState, Image, Link, LinkKind, Table,
};
use crate::resolve::domain::{Bandwidth, Domain};
use crate::resolve::network::Bridge;
use crate::resolve::storage::{ImageFormat, Permissions, Volume};
use crate::units::Bytes;

type Done = Result<(), EffectError>;

fn missing(what: &str, name: impl std::fmt::Display) -> EffectError {
    EffectError::passing(format!("there is no {what} {name}"))
}

fn not_ours(link: &str) -> EffectError {
    EffectError::lasting(
        format!("link {link} exists and is not ours"),
        "rename it or choose another name",
    )
}

impl World {
    /// Does one effect.
    ///
    /// # Errors
    /// As the real host's.
    pub fn apply(&mut self, effect: &Effect) -> Done {
        self.act(effect)?;
        self.journal.push(effect.clone());
        Ok(())
    }

    fn act(&mut self, effect: &Effect) -> Done {
        match effect {
            Effect::Record(entry) => self.ledger.record((**entry).clone()),
            Effect::Forget(object) => self.ledger.forget(object),
            Effect::EnsureBridge { bridge, owner } => return self.ensure_bridge(bridge, *owner),
            Effect::AddAddress { link, address } => {
                self.link(link)?.addresses.insert(*address);
            }
            Effect::RemoveAddress { link, address } => {
                self.link(link)?.addresses.remove(address);
            }
            Effect::AddRoute { link, route } => {
                self.link(link)?.routes.insert(route.clone());
            }
            Effect::RemoveRoute { link, route } => {
                self.link(link)?.routes.remove(route);
            }
            Effect::SetLink { link, up } => self.link(link)?.up = *up,
            Effect::EnsureTap {
                tap,
                owner,
                bridge,
                mtu,
                ..
            } => {
                return self.ensure_tap(tap, *owner, bridge.as_deref(), *mtu);
            }
            Effect::EnsureMacvtap(macvtap) => return self.ensure_macvtap(macvtap),
            Effect::DeleteLink { link, owner } => return self.delete_link(link, *owner),
            Effect::EnableForwarding { ipv6: false } => self.inventory.host.ip_forward = true,
            Effect::EnableForwarding { ipv6: true } => self.inventory.host.ip6_forward = true,
            Effect::Nft(ops) => return self.nft(ops),
            Effect::SetBandwidth { link, bandwidth } => {
                self.link(link)?.bandwidth = bandwidth.clone()
            }
            Effect::EnsureDnsmasq {
                network,
                bridge,
                digest,
                ..
            } => {
                self.link(bridge)?;
                let pid = self.pid();
                let running = DnsmasqProcess {
                    pid,
                    digest: digest.clone(),
                };
                self.inventory.dnsmasq.insert(*network, running);
            }
            Effect::StopDnsmasq { network } => {
                self.inventory.dnsmasq.remove(network);
            }
            Effect::EnsureDirectory { path, permissions } => {
                let present = self
                    .inventory
                    .directories
                    .entry(path.clone())
                    .or_insert(default_permissions());
                set_permissions(present, permissions);
            }
            Effect::CreateVolume(volume) => return self.create_volume(volume),
            Effect::GrowVolume { path, capacity } => return self.grow_volume(path, *capacity),
            Effect::SetPermissions { path, permissions } => {
                let file = self
                    .inventory
                    .files
                    .get_mut(path)
                    .ok_or_else(|| missing("file", path.display()))?;
                set_permissions(&mut file.permissions, permissions);
            }
            Effect::DeleteVolume { path } => {
                self.inventory.files.remove(path);
            }
            Effect::RunHook(_) => {}
            Effect::SetCgroup { guest, tuning } => {
                self.inventory.cgroups.insert(*guest, tuning.clone());
            }
            Effect::RemoveCgroup { guest } => {
                self.end(*guest, "killed");
                self.inventory.cgroups.remove(guest);
            }
            Effect::StartGuest(launch) => return self.start(launch),
            Effect::ShutdownGuest { guest, .. } => self.end(*guest, "power-off"),
            Effect::PauseGuest { guest, .. } => {
                return self.set_state(*guest, |pid| GuestState::Paused { pid, why: None });
            }
            Effect::ResumeGuest { guest, .. } => {
                return self.set_state(*guest, |pid| GuestState::Running { pid });
            }
            Effect::SetGuestLink { guest, .. } => return self.running(*guest).map(drop),
            Effect::SetBalloon { guest, size, .. } => {
                self.running(*guest)?.balloon = Some(*size);
            }
            Effect::SetDiskLimits {
                guest,
                disk,
                limits,
                ..
            } => {
                let guest = self.running(*guest)?;
                if let Some(disk) = guest.disks.get_mut(disk) {
                    disk.limits = (**limits).clone();
                }
            }
            Effect::GrowDisk {
                guest,
                disk,
                path,
                capacity,
                ..
            } => {
                self.running(*guest)?;
                self.grow_volume(path, *capacity)?;
                let disk = self.running(*guest)?.disks.get_mut(disk);
                disk.into_iter().for_each(|disk| disk.capacity = *capacity);
            }
            Effect::RecordLaunch(launch) => {
                self.running(launch.domain.uuid)?.launch = launch.clone()
            }
            Effect::ReleaseGuest { guest } => return self.release(*guest),
        }
        Ok(())
    }

    fn pid(&mut self) -> u32 {
        self.next_pid += 1;
        1000 + self.next_pid
    }

    fn link(&mut self, name: &str) -> Result<&mut Link, EffectError> {
        let link = self
            .inventory
            .links
            .get_mut(name)
            .ok_or_else(|| missing("link", name))?;
        if link.owner.is_none() {
            self.violations
                .push(format!("an effect changes link {name}, which is not ours"));
            return Err(not_ours(name));
        }
        Ok(link)
    }

    fn ensure_bridge(&mut self, bridge: &Bridge, owner: Uuid) -> Done {
        let mut link = match self.inventory.links.remove(&bridge.name) {
            Some(link) if link.owner == Some(owner) && link.kind == LinkKind::Bridge => link,
            Some(link) => {
                self.inventory.links.insert(bridge.name.clone(), link);
                return Err(not_ours(&bridge.name));
            }
            None => new_link(LinkKind::Bridge, owner),
        };
        link.mac = bridge.mac;
        link.stp = bridge.stp;
        link.delay = bridge.delay;
        link.mtu = bridge.mtu.unwrap_or(link.mtu);
        self.inventory.links.insert(bridge.name.clone(), link);
        Ok(())
    }

    fn ensure_tap(
        &mut self,
        tap: &str,
        owner: Uuid,
        bridge: Option<&str>,
        mtu: Option<u32>,
    ) -> Done {
        let bridge_mtu = match bridge {
            Some(name) => Some(
                self.inventory
                    .links
                    .get(name)
                    .ok_or_else(|| missing("bridge", name))?
                    .mtu,
            ),
            None => None,
        };
        let mut link = match self.inventory.links.get(tap) {
            Some(link) if link.owner == Some(owner) && link.kind == LinkKind::Tap => link.clone(),
            Some(_) => return Err(not_ours(tap)),
            None => new_link(LinkKind::Tap, owner),
        };
        link.master = bridge.map(str::to_owned);
        link.mtu = mtu.or(bridge_mtu).unwrap_or(link.mtu);
        self.inventory.links.insert(tap.to_owned(), link);
        Ok(())
    }

    fn ensure_macvtap(&mut self, wanted: &Macvtap) -> Done {
        let lower = self.link(&wanted.device)?.mtu;
        let mut link = match self.inventory.links.get(&wanted.name) {
            Some(link) if link.owner == Some(wanted.owner) => link.clone(),
            Some(_) => return Err(not_ours(&wanted.name)),
            None => new_link(LinkKind::Macvtap, wanted.owner),
        };
        link.mtu = wanted.mtu.unwrap_or(lower);
        self.inventory.links.insert(wanted.name.clone(), link);
        Ok(())
    }

    fn delete_link(&mut self, name: &str, owner: Uuid) -> Done {
        match self.inventory.links.get(name) {
            None => return Ok(()),
            Some(link) if link.owner == Some(owner) => {}
            Some(_) => return Err(not_ours(name)),
        }
        self.inventory.links.remove(name);
        for link in self.inventory.links.values_mut() {
            if link.master.as_deref() == Some(name) {
                link.master = None;
            }
        }
        Ok(())
    }

    /// All of the operations or none, in the phases of [`crate::compile::nft::render`].
    fn nft(&mut self, ops: &[NftOp]) -> Done {
        let mut tables = self.inventory.tables.clone();
        for op in ops {
            if let NftOp::DeleteTable { table } = op {
                tables.remove(table);
            }
        }
        for op in ops {
            match op {
                NftOp::EnsureSkeleton(skeleton) => {
                    let table = tables.entry(skeleton.table.clone()).or_default();
                    table.skeleton = Some(skeleton.digest().as_str().to_owned());
                }
                NftOp::ReplaceChain { table, name, chain } => {
                    let table = tables.entry(table.clone()).or_default();
                    let digest = chain.digest().as_str().to_owned();
                    table.chains.insert(name.clone(), Some(digest));
                }
                _ => {}
            }
        }
        for op in ops {
            if let NftOp::DeleteElement { table, element } = op {
                let table = tables
                    .get_mut(table)
                    .ok_or_else(|| missing("table", table))?;
                if !table.elements.remove(element) {
                    return Err(missing("map element", element.key.as_str()));
                }
            }
        }
        for op in ops {
            if let NftOp::SetElement { table, element } = op {
                let table = tables
                    .get_mut(table)
                    .ok_or_else(|| missing("table", table))?;
                set_element(table, element)?;
            }
        }
        for op in ops {
            if let NftOp::DeleteChain { table, name } = op {
                let table = tables
                    .get_mut(table)
                    .ok_or_else(|| missing("table", table))?;
                if table
                    .elements
                    .iter()
                    .any(|element| element.verdict.target() == Some(name))
                {
                    return Err(EffectError::passing(format!("chain {name} is in use")));
                }
                table.chains.remove(name);
            }
        }
        self.inventory.tables = tables;
        Ok(())
    }

    fn create_volume(&mut self, volume: &Volume) -> Done {
        if self.inventory.files.contains_key(&volume.path) {
            let path = volume.path.display();
            self.violations
                .push(format!("an effect would write over {path}"));
            return Err(EffectError::lasting(
                format!("{path} exists"),
                "move it away",
            ));
        }
        let below = match &volume.backing {
            Some(backing) => {
                let file = self.inventory.files.get(&backing.path);
                let file = file.ok_or_else(|| missing("backing file", backing.path.display()))?;
                file.image
                    .as_ref()
                    .map_or(file.size, |image| image.capacity)
            }
            None => Bytes(0),
        };
        let capacity = volume.capacity.unwrap_or(below);
        let mut permissions = default_permissions();
        set_permissions(&mut permissions, &volume.permissions);
        let image = Image {
            format: volume.format,
            capacity,
            backing: volume.backing.as_ref().map(|backing| backing.path.clone()),
        };
        let size = if volume.format == ImageFormat::Raw {
            capacity
        } else {
            Bytes::kib(192)
        };
        self.inventory.files.insert(
            volume.path.clone(),
            File {
                permissions,
                size,
                image: Some(image),
            },
        );
        Ok(())
    }

    fn grow_volume(&mut self, path: &Path, capacity: Bytes) -> Done {
        let file = self
            .inventory
            .files
            .get_mut(path)
            .ok_or_else(|| missing("file", path.display()))?;
        let image = file
            .image
            .as_mut()
            .ok_or_else(|| missing("image", path.display()))?;
        if image.capacity > capacity {
            self.violations
                .push(format!("an effect would shrink {}", path.display()));
            return Err(EffectError::lasting(
                format!("{} is larger", path.display()),
                "grow it only",
            ));
        }
        image.capacity = capacity;
        Ok(())
    }

    fn start(&mut self, launch: &Launch) -> Done {
        let domain = &launch.domain;
        if let Some(guest) = self.inventory.guests.get(&domain.uuid)
            && !matches!(guest.state, GuestState::Ended { .. })
        {
            return Ok(());
        }
        if !self.inventory.cgroups.contains_key(&domain.uuid) {
            return Err(missing("control group of guest", &domain.name));
        }
        for interface in &domain.interfaces {
            if interface.source.has_link() && !self.inventory.links.contains_key(&interface.tap) {
                return Err(missing("tap", &interface.tap));
            }
        }
        for disk in &domain.disks {
            let path = disk.path.as_ref();
            if let Some(path) = path.filter(|path| !self.inventory.files.contains_key(*path)) {
                return Err(missing("image", path.display()));
            }
        }
        let pid = self.pid();
        *self.starts.entry(domain.uuid).or_default() += 1;
        let guest = Guest {
            launch: Box::new(launch.clone()),
            state: GuestState::Running { pid },
            balloon: domain.balloon.then_some(domain.memory.current),
            disks: disks_of(domain, &self.inventory.files),
            memory: BTreeMap::new(),
        };
        self.inventory.guests.insert(domain.uuid, guest);
        Ok(())
    }

    /// Ends a guest's process, if it runs.
    pub fn end(&mut self, guest: Uuid, reason: &str) {
        if let Some(guest) = self.inventory.guests.get_mut(&guest)
            && !matches!(guest.state, GuestState::Ended { .. })
        {
            guest.state = GuestState::Ended {
                reason: reason.to_owned(),
            };
            guest.balloon = None;
            guest.disks.clear();
        }
    }

    fn running(&mut self, guest: Uuid) -> Result<&mut Guest, EffectError> {
        self.inventory
            .guests
            .get_mut(&guest)
            .filter(|guest| !matches!(guest.state, GuestState::Ended { .. }))
            .ok_or_else(|| missing("running guest", guest))
    }

    fn set_state(&mut self, guest: Uuid, state: impl FnOnce(u32) -> GuestState) -> Done {
        let guest = self.running(guest)?;
        if let GuestState::Running { pid } | GuestState::Paused { pid, .. } = guest.state {
            guest.state = state(pid);
        }
        Ok(())
    }

    fn release(&mut self, guest: Uuid) -> Done {
        if self.running(guest).is_ok() {
            self.violations
                .push(format!("an effect forgets guest {guest}, which runs"));
            return Err(EffectError::passing(format!("guest {guest} still runs")));
        }
        self.inventory.guests.remove(&guest);
        Ok(())
    }
}

fn set_element(table: &mut Table, element: &crate::compile::nft::MapElement) -> Done {
    if table.skeleton.is_none() {
        return Err(missing("map", element.map.as_str()));
    }
    if let Some(chain) = element
        .verdict
        .target()
        .filter(|chain| !table.chains.contains_key(*chain))
    {
        return Err(missing("chain", chain));
    }
    let clash = |present: &&crate::compile::nft::MapElement| {
        present.map == element.map
            && present.key == element.key
            && present.verdict != element.verdict
    };
    if let Some(present) = table.elements.iter().find(clash) {
        return Err(EffectError::passing(format!(
            "{} has another verdict",
            present.key
        )));
    }
    table.elements.insert(element.clone());
    Ok(())
}

fn new_link(kind: LinkKind, owner: Uuid) -> Link {
    Link {
        kind,
        owner: Some(owner),
        master: None,
        up: false,
        mac: [0; 6],
        mtu: 1500,
        addresses: BTreeSet::new(),
        routes: BTreeSet::new(),
        stp: false,
        delay: 0,
        bandwidth: Bandwidth::default(),
    }
}

fn default_permissions() -> Permissions {
    Permissions {
        owner: Some(0),
        group: Some(0),
        mode: Some(0o644),
    }
}

fn set_permissions(present: &mut Permissions, wanted: &Permissions) {
    present.owner = wanted.owner.or(present.owner);
    present.group = wanted.group.or(present.group);
    present.mode = wanted.mode.or(present.mode);
}

/// What the monitor of a guest that starts tells of its disks.
fn disks_of(domain: &Domain, files: &BTreeMap<PathBuf, File>) -> BTreeMap<String, GuestDisk> {
    let disks = domain.disks.iter();
    disks
        .filter_map(|disk| {
            let file = files.get(disk.path.as_ref()?)?;
            let image = file.image.as_ref();
            let capacity = image.map_or(file.size, |image| image.capacity);
            let limits = disk.limits.clone();
            Some((disk.target.clone(), GuestDisk { capacity, limits }))
        })
        .collect()
}
