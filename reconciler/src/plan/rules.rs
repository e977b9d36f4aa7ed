//! What networks and guests want in our nftables tables, compiled, and the operations that lead there.
//!
//! The rules of a guest's interface belong to the guest's step, with one exception: while a filter that the interface reaches has changed, they belong to the
//! filter's step, so that one edit is one transaction over all interfaces that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use vireo_schema::Rule;

use uuid::Uuid;

use crate::compile::filter::ir::{Entry, Filter, Reference};
use crate::compile::filter::{self, Binding, Features};
use crate::compile::nft::{ChainName, Digest, IfName, MapElement, NftOp, Skeleton, TableName};
use crate::compile::{dnsmasq as dnsmasq_files, network as network_rules};
use crate::execute::effect::Effect;
use crate::inventory::Table;
use crate::resolve::domain::{Domain, Interface};
use crate::resolve::network::Network;

use super::context::Context;
use super::tables::{self, Rules};

/// Why an object's rules or files cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RulesError {
    /// The refusal's rule.
    pub rule: Rule,
    /// What is wrong.
    pub message: String,
}

/// What the objects planned so far keep in our tables.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Networks and guests whose rules are known.
    pub owners: BTreeSet<Uuid>,
    pub chains: BTreeSet<(TableName, ChainName)>,
    pub elements: BTreeSet<(TableName, MapElement)>,
    /// What guests' filters do otherwise than written, by guest.
    pub notes: BTreeSet<(Uuid, String)>,
}

impl Kept {
    fn note(&mut self, owner: Uuid, table: &TableName, rules: &Rules) {
        self.owners.insert(owner);
        let chains = rules.chains.keys().cloned();
        self.chains
            .extend(chains.map(|chain| (table.clone(), chain)));
        let elements = rules.elements.iter().cloned();
        self.elements
            .extend(elements.map(|element| (table.clone(), element)));
    }
}

/// A skeleton with its digest, made once a plan.
#[derive(Debug)]
pub(super) struct Frame {
    skeleton: Skeleton,
    digest: Digest,
}

impl Frame {
    fn new(skeleton: Skeleton) -> Self {
        Self {
            digest: skeleton.digest(),
            skeleton,
        }
    }

    /// Of the table of guests' filters.
    pub fn filters() -> Self {
        Self::new(filter::skeleton())
    }

    /// Of the table of networks.
    pub fn networks() -> Self {
        Self::new(network_rules::skeleton())
    }
}

/// The operations that make `want` true in a skeleton's table, the skeleton first where the host shows another.
fn ops(context: &Context<'_>, frame: &Frame, want: &Rules, keys: &BTreeSet<IfName>) -> Vec<NftOp> {
    let skeleton = &frame.skeleton;
    let nothing = Table::default();
    let observed = context.inventory.tables.get(&skeleton.table);
    let observed = observed.unwrap_or(&nothing);
    let mut ops = tables::make_true(&skeleton.table, observed, want, keys);
    let intact = observed.skeleton.as_deref() == Some(frame.digest.as_str());
    if !intact && !want.is_empty() {
        ops.insert(0, NftOp::EnsureSkeleton(skeleton.clone()));
    }
    ops
}

/// The operations for one network's rules. `keys` are its bridges, those that go included.
pub(super) fn network_ops(
    context: &Context<'_>,
    network: &Network,
    keys: &BTreeSet<IfName>,
) -> Result<Vec<NftOp>, RulesError> {
    let compiled = network_rules::compile(network).map_err(|error| RulesError {
        rule: Rule::NetworkRules,
        message: error.to_string(),
    })?;
    let want = Rules {
        chains: compiled.chains,
        elements: compiled.elements,
    };
    let mut kept = context.kept.borrow_mut();
    kept.note(network.uuid, &TableName::networks(), &want);
    Ok(ops(context, &context.network_frame, &want, keys))
}

/// A file set and its digest.
type Files = (BTreeMap<String, String>, String);

/// The files of a network's dnsmasq, where it has one.
pub(super) fn dnsmasq(
    context: &Context<'_>,
    network: &Network,
) -> Result<Option<Files>, RulesError> {
    let Some(dnsmasq) = &network.dnsmasq else {
        return Ok(None);
    };
    let runtime = &context.inventory.host.runtime;
    let directory = runtime.join("networks").join(network.uuid.to_string());
    let leases = directory.join("leases");
    let files = dnsmasq_files::compile(network, dnsmasq, &directory, &leases);
    let files = files.map_err(|error| RulesError {
        rule: Rule::Dnsmasq,
        message: error.to_string(),
    })?;
    Ok(Some((files.files, files.digest.as_str().to_owned())))
}

/// Removes the rules of a network: elements with its bridges for keys, and the chains that they lead to.
pub(super) fn network_gone(
    context: &Context<'_>,
    bridge: Option<&str>,
    bridges: &[&str],
) -> Option<Effect> {
    let keys = bridge.into_iter().chain(bridges.iter().copied());
    gone(context, &TableName::networks(), keys)
}

/// Removes the rules of a guest: elements with its taps for keys, and the chains that they lead to.
pub(super) fn guest_gone(context: &Context<'_>, guest: Uuid) -> Option<Effect> {
    let launched = context.inventory.guests.get(&guest);
    let taps = launched
        .into_iter()
        .flat_map(|guest| &guest.launch.domain.interfaces)
        .map(|interface| interface.tap.as_str());
    let keys = taps.chain(context.links_of(guest).iter().copied());
    gone(context, &TableName::filters(), keys)
}

fn gone<'k>(
    context: &Context<'_>,
    table: &TableName,
    keys: impl Iterator<Item = &'k str>,
) -> Option<Effect> {
    let keys: BTreeSet<&str> = keys.collect();
    let observed = context.inventory.tables.get(table)?;
    let mut ops = Vec::new();
    for element in &observed.elements {
        if !keys.contains(element.key.as_str()) {
            continue;
        }
        ops.push(NftOp::DeleteElement {
            table: table.clone(),
            element: element.clone(),
        });
        if let Some(chain) = element.verdict.target() {
            ops.push(NftOp::DeleteChain {
                table: table.clone(),
                name: chain.clone(),
            });
        }
    }
    (!ops.is_empty()).then_some(Effect::Nft(ops))
}

/// The operations for a guest's interfaces. Of a guest that runs (`starts` is false), interfaces that a changed filter's step takes care of are left out.
pub(super) fn guest_ops(
    context: &Context<'_>,
    domain: &Domain,
    starts: bool,
) -> Result<Vec<NftOp>, RulesError> {
    let table = TableName::filters();
    let mut want = Rules::default();
    let mut keys = BTreeSet::new();
    for interface in with_tap(domain) {
        let name = tap(interface)?;
        let (rules, notes) = interface_rules(context, interface, &name)?;
        let mut kept = context.kept.borrow_mut();
        kept.note(domain.uuid, &table, &rules);
        let notes = notes.into_iter().map(|note| (domain.uuid, note));
        kept.notes.extend(notes);
        if starts || written_by(context, interface).is_none() {
            want.extend(rules);
            keys.insert(name);
        }
    }
    context.kept.borrow_mut().owners.insert(domain.uuid);
    Ok(ops(context, &context.filter_frame, &want, &keys))
}

/// The operations of a changed filter: for all interfaces of these guests whose rules it writes. An interface whose rules cannot be made is left as it is; its
/// guest's own plan says why.
pub(super) fn filter_ops(
    context: &Context<'_>,
    filter: &str,
    domains: &[Domain],
) -> (Vec<NftOp>, usize) {
    let mut want = Rules::default();
    let mut keys = BTreeSet::new();
    for interface in domains.iter().flat_map(with_tap) {
        if written_by(context, interface) != Some(filter) {
            continue;
        }
        let rules =
            tap(interface).and_then(|name| Ok((interface_rules(context, interface, &name)?, name)));
        if let Ok(((rules, _), name)) = rules {
            want.extend(rules);
            keys.insert(name);
        }
    }
    (
        ops(context, &context.filter_frame, &want, &keys),
        keys.len(),
    )
}

fn with_tap(domain: &Domain) -> impl Iterator<Item = &Interface> {
    domain
        .interfaces
        .iter()
        .filter(|interface| interface.source.is_tap())
}

fn tap(interface: &Interface) -> Result<IfName, RulesError> {
    IfName::new(&interface.tap).map_err(|error| RulesError {
        rule: Rule::LinkName,
        message: error.to_string(),
    })
}

/// What one interface wants in the filters' table, and what of it is otherwise than written.
fn interface_rules(
    context: &Context<'_>,
    interface: &Interface,
    name: &IfName,
) -> Result<(Rules, Vec<String>), RulesError> {
    let Some(reference) = &interface.filter else {
        return Ok((Rules::default(), Vec::new()));
    };
    let host = &context.inventory.host;
    let binding = Binding {
        interface: name.clone(),
        mac: interface.mac,
        reference: Reference {
            filter: reference.filter.clone(),
            parameters: reference.parameters.clone(),
        },
        learned: learned(context, interface.mac),
    };
    let features = Features {
        bridge_ct: host.bridge_ct,
        bridge_reject: host.bridge_reject,
    };
    let compiled =
        filter::compile(&context.filters, &binding, features).map_err(|error| RulesError {
            rule: Rule::NwFilter,
            message: format!("interface {}: {error}", interface.index),
        })?;
    let waits = compiled.waits.map(|learn| {
        format!(
            "waits for its address ({}): until a DHCP lease shows it, nothing but DHCP passes",
            learn.variable
        )
    });
    let notes = waits
        .into_iter()
        .chain(compiled.notes)
        .map(|note| format!("interface {}: {note}", interface.index));
    let notes = notes.collect();
    let rules = Rules {
        chains: compiled.chains,
        elements: compiled.elements,
    };
    Ok((rules, notes))
}

/// IPv4 addresses that DHCP gave to the interface.
fn learned(context: &Context<'_>, mac: [u8; 6]) -> Vec<Ipv4Addr> {
    let leases = context.inventory.leases.get(&mac);
    leases
        .into_iter()
        .flatten()
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
        .collect()
}

/// The changed filter whose step writes the interface's rules: the first by name among those that the interface reaches.
fn written_by<'c>(context: &'c Context<'_>, interface: &Interface) -> Option<&'c str> {
    let reference = interface.filter.as_ref()?;
    if context.changed_filters.is_empty() {
        return None;
    }
    let reached = reached(&context.filters, &reference.filter);
    let mut changed = context.changed_filters.iter().copied();
    changed.find(|name| reached.contains(name))
}

/// The filters that one leads to, itself included.
fn reached<'f>(filters: &'f BTreeMap<String, Filter>, from: &'f str) -> BTreeSet<&'f str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        if !reached.insert(name) {
            continue;
        }
        let entries = filters.get(name).map(|filter| filter.entries.iter());
        open.extend(
            entries
                .into_iter()
                .flatten()
                .filter_map(|entry| match entry {
                    Entry::Reference(reference) => Some(reference.filter.as_str()),
                    Entry::Rule(_) => None,
                }),
        );
    }
    reached
}
