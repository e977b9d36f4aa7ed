//! What every planner looks up: the three inputs, and indexes over them that are built once a plan.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;

use uuid::Uuid;

use crate::compile::filter::ir::Filter;
use crate::desired::{Desired, Resolved, Wanted};
use crate::inventory::{GuestState, Inventory, LinkKind};
use crate::ledger::{Entry, Ledger};
use crate::object::{Kind, ObjectId};
use crate::resolve::domain::{Domain, InterfaceSource};

use super::rules::{Frame, Kept};

/// The inputs of a plan, indexed.
pub(super) struct Context<'a> {
    pub desired: &'a Desired,
    pub inventory: &'a Inventory,
    pub ledger: &'a Ledger,
    by_name: HashMap<(Kind, &'a str), &'a ObjectId>,
    links: HashMap<Uuid, Vec<&'a str>>,
    on_network: HashMap<Uuid, Vec<&'a str>>,
    on_image: HashMap<&'a Path, Vec<&'a str>>,
    volumes: HashSet<&'a Path>,
    bridges: HashSet<&'a str>,
    /// Every wanted filter, as the compiler takes them.
    pub filters: BTreeMap<String, Filter>,
    /// Filters whose definition has changed since it was last applied.
    pub changed_filters: BTreeSet<&'a str>,
    /// What the objects planned so far want in our tables.
    pub kept: RefCell<Kept>,
    pub filter_frame: Frame,
    pub network_frame: Frame,
    /// The guest whose restart is asked for.
    pub restart: Option<Uuid>,
}

impl<'a> Context<'a> {
    pub fn new(desired: &'a Desired, inventory: &'a Inventory, ledger: &'a Ledger) -> Self {
        let by_name = desired
            .objects
            .keys()
            .map(|id| ((id.kind, id.name.as_str()), id))
            .collect();
        let mut links: HashMap<Uuid, Vec<&str>> = HashMap::new();
        for (name, link) in &inventory.links {
            if let Some(owner) = link.owner {
                links.entry(owner).or_default().push(name);
            }
        }
        let mut on_network: HashMap<Uuid, Vec<&str>> = HashMap::new();
        let mut on_image: HashMap<&Path, Vec<&str>> = HashMap::new();
        for guest in inventory.guests.values() {
            if matches!(guest.state, GuestState::Ended { .. }) {
                continue;
            }
            let domain = &guest.launch.domain;
            for interface in &domain.interfaces {
                if let InterfaceSource::Network { uuid, .. } = &interface.source {
                    on_network.entry(*uuid).or_default().push(&domain.name);
                }
            }
            for path in domain.disks.iter().filter_map(|disk| disk.path.as_deref()) {
                on_image.entry(path).or_default().push(&domain.name);
            }
        }
        let mut context = Self {
            desired,
            inventory,
            ledger,
            by_name,
            links,
            on_network,
            on_image,
            volumes: HashSet::new(),
            bridges: HashSet::new(),
            filters: BTreeMap::new(),
            changed_filters: BTreeSet::new(),
            kept: RefCell::default(),
            filter_frame: Frame::filters(),
            network_frame: Frame::networks(),
            restart: None,
        };
        context.note_wanted();
        context
    }

    /// Indexes what is wanted.
    fn note_wanted(&mut self) {
        for wanted in self.desired.objects.values() {
            match &wanted.resolved {
                Resolved::Network(network) => {
                    self.bridges.insert(&network.bridge.name);
                }
                Resolved::Volume(volume) => {
                    self.volumes.insert(&volume.path);
                }
                Resolved::NwFilter(filter) => {
                    self.filters
                        .insert(filter.name.clone(), filter.as_ref().clone());
                    let changed = |entry: &Entry| entry.made && entry.definition != wanted.xml;
                    if self.ledger.get(&wanted.id).is_some_and(changed) && !wanted.policy.suspend {
                        self.changed_filters.insert(&filter.name);
                    }
                }
                Resolved::Pool(_) | Resolved::Domain(_) => {}
            }
        }
    }

    /// The wanted object of that kind and name.
    pub fn named(&self, kind: Kind, name: &str) -> Option<&'a ObjectId> {
        self.by_name.get(&(kind, name)).copied()
    }

    /// Links that are marked as the object's.
    pub fn links_of(&self, owner: Uuid) -> &[&'a str] {
        self.links.get(&owner).map_or(&[], Vec::as_slice)
    }

    /// Bridges that are marked as the network's.
    pub fn bridges_of(&self, network: Uuid) -> impl Iterator<Item = &'a str> {
        self.links_of(network).iter().copied().filter(|name| {
            self.inventory
                .links
                .get(*name)
                .is_some_and(|link| link.kind == LinkKind::Bridge)
        })
    }

    /// Names of guests whose process runs and is connected to the network.
    pub fn guests_on_network(&self, network: Uuid) -> &[&'a str] {
        self.on_network.get(&network).map_or(&[], Vec::as_slice)
    }

    /// Names of guests whose process runs and has the image open.
    pub fn guests_on_image(&self, image: &Path) -> &[&'a str] {
        self.on_image.get(image).map_or(&[], Vec::as_slice)
    }

    /// The wanted network that a domain's interface names.
    pub fn network(&self, uuid: Uuid) -> Option<&'a Wanted> {
        self.desired
            .objects
            .get(&ObjectId::new(Kind::Network, uuid, ""))
    }

    /// Whose a link is, in words: for refusals.
    pub fn owner_in_words(&self, owner: Option<Uuid>) -> String {
        let Some(owner) = owner else {
            return "not marked as vireo's".to_owned();
        };
        let known = self.desired.objects.keys().find(|id| id.uuid == owner);
        match known {
            Some(id) => format!("marked as that of {id}"),
            None => format!("marked as that of {owner}, which is in no definition"),
        }
    }

    /// Whether a wanted volume has its image there.
    pub fn is_volume(&self, path: &Path) -> bool {
        self.volumes.contains(path)
    }

    /// Whether a wanted network has that bridge.
    pub fn is_wanted_bridge(&self, name: &str) -> bool {
        self.bridges.contains(name)
    }

    /// Names of wanted guests with a disk on the image.
    pub fn wanted_users_of(&self, path: &Path) -> Vec<&'a str> {
        let uses = |domain: &Domain| {
            let mut disks = domain.disks.iter();
            disks.any(|disk| disk.path.as_deref() == Some(path))
        };
        self.desired
            .objects
            .values()
            .filter_map(|wanted| match &wanted.resolved {
                Resolved::Domain(domain) if uses(domain) => Some(domain.name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// What a domain needs: networks, volumes, filters, and what its policy names.
    pub fn needs_of(&self, wanted: &Wanted, domain: &Domain) -> Vec<ObjectId> {
        let networks = domain.interfaces.iter().filter_map(|i| match &i.source {
            InterfaceSource::Network { uuid, name, .. } => {
                Some(ObjectId::new(Kind::Network, *uuid, name))
            }
            _ => None,
        });
        let volumes = domain
            .disks
            .iter()
            .filter_map(|disk| self.named(Kind::Volume, disk.volume.as_deref()?).cloned());
        let filters = domain.interfaces.iter().filter_map(|i| {
            self.named(Kind::NwFilter, &i.filter.as_ref()?.filter)
                .cloned()
        });
        let mut needs: Vec<ObjectId> = networks
            .chain(volumes)
            .chain(filters)
            .chain(wanted.policy.depends_on.iter().cloned())
            .collect();
        needs.sort();
        needs.dedup();
        needs
    }
}

/// Names as a person lists them: `web`, `web and db`, `web, db and 7 more`.
pub(super) fn list(names: &[&str]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} and {two}"),
        [one, two, three] => format!("{one}, {two} and {three}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
    }
}
