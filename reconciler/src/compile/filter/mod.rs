//! Packet filters of one guest interface to chains of nftables' bridge family.
//!
//! In: all filters by name ([`lower`] makes them from the schema's), and a [`Binding`] (interface, MAC address, reference, addresses known). Out: [`Compiled`]: chains by name, the
//! verdict-map elements that lead the interface's frames into them, whether the binding waits for an address, and notes on what the kernel
//! cannot do as written. What can go wrong is in [`FilterError`], with the filter and the entry in it.
//!
//! ## Where frames are seen
//!
//! ```text
//!            prerouting                                  postrouting
//! guest A ──► -300 Ethernet ─► -200 conntrack ─► -150 IP ──► bridge ──► -300 Ethernet ─► -150 IP ──► guest B
//!                                                              │ ▲
//!                                                              ▼ │
//!                                                              host
//! ```
//!
//! A frame from a guest passes the bridge's `prerouting` once, whether it goes to the host, to another guest, or to many ports. A frame to a
//! guest passes `postrouting` once for each port it leaves by, whether it came from the host or through the bridge. `forward` alone would miss
//! the host; `forward` with `input` and `output` would see a broadcast once for each port and again for the host. Two frames escape both hooks
//! and need the port's BPDU guard: spanning-tree units sent to, and made by, a bridge that itself runs spanning tree.
//!
//! The Ethernet layer comes before connection tracking, so that a forged frame leaves no connection behind; the IP layer comes after it. Its
//! priority is not 0, because br_netfilter, where it is loaded, steals packets at 0 and hands them on to hooks above 0 only.
//!
//! An accept ends its layer only: the next base chain, and the other guest's own filter, still see the packet. This is why the layers are base
//! chains and not one.
//!
//! ## Names
//!
//! `from-eth-vnet0`, `from-ip-vnet0`, `to-eth-vnet0`, `to-ip-vnet0` are the four entries of an interface, as far as they hold anything.
//! Chains of the Ethernet layer below root (`mac`, `arp-ip`, `ipv4`…) are named after their content, so that interfaces with equal rules share
//! them, and an edit makes new ones instead of changing one under other interfaces' feet.

mod assemble;
mod error;
mod expand;
pub mod ir;
pub mod lower;
mod matching;
mod value;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

pub use error::{FilterError, Problem};
pub use expand::{INSTANCES_MAX, REACHED_MAX};

use super::nft::{
    BaseChain, Chain, ChainKind, ChainName, Hook, IfName, MapElement, MapName, Rule, RuleText,
    Skeleton, TableName,
};
use assemble::{Layer, Side};
use ir::{Filter, Parameters, Reference};

/// What the host's kernel can do in the bridge family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// Connection tracking (nf_conntrack_bridge).
    pub bridge_ct: bool,
    /// Telling the sender (nft_reject_bridge).
    pub bridge_reject: bool,
}

impl Features {
    /// A kernel with everything.
    pub const ALL: Features = Features {
        bridge_ct: true,
        bridge_reject: true,
    };
}

/// One guest interface with a filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The tap.
    pub interface: IfName,
    /// The guest's MAC address: the variable `MAC`.
    pub mac: [u8; 6],
    /// The filter, with the interface's parameters.
    pub reference: Reference,
    /// IPv4 addresses that the guest was seen to have: the variable `IP` where the parameters do not give it.
    pub learned: Vec<Ipv4Addr>,
}

/// How a guest's address may become known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LearnMethod {
    /// From the first packet that shows one, or a lease; one address.
    Any,
    /// From DHCP leases; several addresses, until they expire.
    Dhcp,
}

/// A binding that waits for an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learn {
    /// The variable without a value: `IP`.
    pub variable: String,
    /// How it may be learned.
    pub method: LearnMethod,
}

/// What a binding comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// Every chain that the binding needs. Two bindings with a chain of one name have the same chain.
    pub chains: BTreeMap<ChainName, Chain>,
    /// The elements that lead into the entries. An entry that would hold nothing has none.
    pub elements: BTreeSet<MapElement>,
    /// Set while an address is awaited: the chains then let DHCP through, and nothing else.
    pub waits: Option<Learn>,
    /// What is done otherwise than written, for the operator.
    pub notes: BTreeSet<String>,
}

/// The table `bridge vireo` with its maps and base chains, before any binding.
pub fn skeleton() -> Skeleton {
    let mut bases = BTreeMap::new();
    let mut maps = BTreeSet::new();
    for side in [Side::FromGuest, Side::ToGuest] {
        for layer in [Layer::Ethernet, Layer::Ip] {
            let map = map_name(side, layer);
            let (hook, key) = match side {
                Side::FromGuest => (Hook::Prerouting, "iifname"),
                Side::ToGuest => (Hook::Postrouting, "oifname"),
            };
            let rule = Rule {
                text: RuleText::built(format!("{key} vmap @{map}")),
                note: String::new(),
            };
            let base = BaseChain {
                kind: ChainKind::Filter,
                hook,
                priority: layer.priority(),
                chain: Chain::new(vec![rule]),
            };
            bases.insert(ChainName::compose("base", map.as_str()), base);
            maps.insert(map);
        }
    }
    Skeleton {
        table: TableName::filters(),
        maps,
        bases,
    }
}

fn map_name(side: Side, layer: Layer) -> MapName {
    MapName::fixed(match (side, layer) {
        (Side::FromGuest, Layer::Ethernet) => "from_guest_eth",
        (Side::FromGuest, Layer::Ip) => "from_guest_ip",
        (Side::ToGuest, Layer::Ethernet) => "to_guest_eth",
        (Side::ToGuest, Layer::Ip) => "to_guest_ip",
    })
}

/// The chains of one binding.
pub fn compile(
    filters: &BTreeMap<String, Filter>,
    binding: &Binding,
    features: Features,
) -> Result<Compiled, FilterError> {
    let (values, method) = given(binding)?;
    let placed = expand::reach(filters, &binding.reference, values)?;
    let lacking = placed.iter().find_map(|placed| {
        expand::variables(placed.rule)
            .into_iter()
            .find(|variable| !placed.values.contains_key(&variable.name))
            .filter(|variable| variable.name != "IP" || method.is_none())
            .map(|variable| placed.error(Problem::Unset(variable.name.clone())))
    });
    if let Some(error) = lacking {
        return Err(error);
    }
    let awaited = placed.iter().any(|placed| {
        expand::variables(placed.rule)
            .into_iter()
            .any(|variable| !placed.values.contains_key(&variable.name))
    });
    match method {
        Some(method) if awaited => assemble::waiting(binding, method),
        _ => assemble::assemble(&placed, &binding.interface, features),
    }
}

/// The variables of a binding, and how an address may be learned; `None` for not at all.
fn given(binding: &Binding) -> Result<(Parameters, Option<LearnMethod>), FilterError> {
    let mut values = binding.reference.parameters.clone();
    let at = |problem| FilterError::new(&binding.reference.filter, None, problem);
    let learning = values.remove("CTRL_IP_LEARNING").unwrap_or_default();
    let method = match learning.first().map(String::as_str) {
        None | Some("any") => Some(LearnMethod::Any),
        Some("dhcp") => Some(LearnMethod::Dhcp),
        Some("none") => None,
        Some(other) => {
            return Err(at(Problem::WrongType {
                attribute: "CTRL_IP_LEARNING".to_owned(),
                value: other.to_owned(),
                variable: None,
                wanted: "any, dhcp or none",
            }));
        }
    };
    values
        .entry("MAC".to_owned())
        .or_insert_with(|| vec![value::mac_text(binding.mac)]);
    if method.is_some() && !values.contains_key("IP") && !binding.learned.is_empty() {
        let count = if method == Some(LearnMethod::Any) {
            1
        } else {
            usize::MAX
        };
        let learned = binding.learned.iter().take(count).map(Ipv4Addr::to_string);
        values.insert("IP".to_owned(), learned.collect());
    }
    Ok((values, method))
}

#[cfg(test)]
mod tests;
