//! A virtual network to nftables rules: what may pass its bridge's border, and what leaves under the host's address.
//!
//! In: a [`Network`] as it will be. Out: [`Compiled`]: its chains, and the elements that lead packets of its bridge into them. Networks on a bridge
//! of the host's own, and open ones, have none. What can go wrong: a name that cannot be written in a rule.
//!
//! ## Layout
//!
//! One table, `inet vireo_net`, for both IP versions: a packet is looked up once by its interface, and a network is one chain a purpose, not two.
//!
//! | hook | looked up by | chain | which |
//! | --- | --- | --- | --- |
//! | forward, priority 0 | outgoing link | `to-BRIDGE` | returns what may come in, rejects the rest |
//! | forward, priority 0 | incoming link | `from-BRIDGE` | accepts what may go out, rejects the rest |
//! | postrouting, priority 100 | incoming link | `nat-BRIDGE` | translates addresses |
//!
//! A packet from one network to another must pass both. What may come in is therefore returned, not accepted, so that the rules of where it comes
//! from are asked too: an isolated network stays isolated from a routed one.
//!
//! Nothing is opened on the host itself: DHCP and DNS to the bridge are a matter of the host's own input rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::nft::{
    BaseChain, Chain, ChainKind, ChainName, Hook, IfName, MapElement, MapName, NameError, Rule,
    RuleText, Skeleton, TableName, Verdict,
};
use crate::resolve::network::{Forward, Network};

/// What a network comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Its chains.
    pub chains: BTreeMap<ChainName, Chain>,
    /// The elements that lead into them.
    pub elements: BTreeSet<MapElement>,
}

/// A network that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The bridge, or the link it leaves by, has a name that no rule can hold.
    #[error("network {network}: {source}")]
    Link {
        /// The network.
        network: String,
        /// The name.
        source: NameError,
    },
    /// A range of addresses to leave under that is none.
    #[error("network {network}: nat addresses {first} to {last} are not a range of one IP version")]
    NatRange {
        /// The network.
        network: String,
        /// First address.
        first: IpAddr,
        /// Last address.
        last: IpAddr,
    },
}

/// What a network does at a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    To,
    From,
    Nat,
}

impl Purpose {
    const ALL: [Purpose; 3] = [Purpose::To, Purpose::From, Purpose::Nat];

    fn map(self) -> MapName {
        MapName::fixed(match self {
            Purpose::To => "to_network",
            Purpose::From => "from_network",
            Purpose::Nat => "nat_network",
        })
    }

    fn prefix(self) -> &'static str {
        match self {
            Purpose::To => "to",
            Purpose::From => "from",
            Purpose::Nat => "nat",
        }
    }

    fn lookup(self) -> Rule {
        let key = match self {
            Purpose::To => "oifname",
            Purpose::From | Purpose::Nat => "iifname",
        };
        Rule {
            text: RuleText::built(format!("{key} vmap @{}", self.map())),
            note: String::new(),
        }
    }
}

/// The table `inet vireo_net` with its maps and base chains, before any network.
pub fn skeleton() -> Skeleton {
    let base = |kind, hook, priority, purposes: &[Purpose]| BaseChain {
        kind,
        hook,
        priority,
        chain: Chain::new(purposes.iter().map(|purpose| purpose.lookup()).collect()),
    };
    let forward = base(
        ChainKind::Filter,
        Hook::Forward,
        0,
        &[Purpose::To, Purpose::From],
    );
    let nat = base(ChainKind::Nat, Hook::Postrouting, 100, &[Purpose::Nat]);
    Skeleton {
        table: TableName::networks(),
        maps: Purpose::ALL.into_iter().map(Purpose::map).collect(),
        bases: BTreeMap::from([
            (ChainName::compose("base", "forward"), forward),
            (ChainName::compose("base", "nat"), nat),
        ]),
    }
}

/// The rules of one network.
pub fn compile(network: &Network) -> Result<Compiled, NetworkError> {
    let link = |name: &str| {
        IfName::new(name).map_err(|source| NetworkError::Link {
            network: network.name.clone(),
            source,
        })
    };
    let dev = match &network.forward {
        Forward::Open | Forward::Bridge => return Ok(Compiled::default()),
        Forward::Isolated => None,
        Forward::Nat { dev, .. } | Forward::Route { dev } => {
            dev.as_deref().map(link).transpose()?
        }
    };
    let mut rules = Rules {
        network,
        bridge: link(&network.bridge.name)?,
        dev,
        out: Compiled::default(),
    };
    rules.forward();
    rules.nat()?;
    Ok(rules.out)
}

/// One network being compiled.
struct Rules<'a> {
    network: &'a Network,
    bridge: IfName,
    dev: Option<IfName>,
    out: Compiled,
}

impl Rules<'_> {
    /// The subnets whose packets may cross the border.
    fn subnets(&self) -> Vec<IpNet> {
        let mut subnets: Vec<IpNet> = self.network.addresses.iter().map(IpNet::trunc).collect();
        subnets.sort_unstable();
        subnets.dedup();
        subnets
    }

    /// Whether packets of this subnet leave under another address.
    fn translated(&self, subnet: &IpNet) -> bool {
        match &self.network.forward {
            Forward::Nat { ipv6, .. } => subnet.addr().is_ipv4() || *ipv6,
            _ => false,
        }
    }

    fn forward(&mut self) {
        let bridge = self.bridge.quoted();
        let (mut to, mut from) = (Vec::new(), Vec::new());
        to.push((format!("iifname {bridge} accept"), "among guests"));
        let isolated = self.network.forward == Forward::Isolated;
        for subnet in self.subnets().iter().filter(|_| !isolated) {
            let (came_by, leaves_by) = match &self.dev {
                None => (String::new(), String::new()),
                Some(dev) => (
                    format!("iifname {} ", dev.quoted()),
                    format!("oifname {} ", dev.quoted()),
                ),
            };
            let ip = keyword(subnet);
            to.push(if self.translated(subnet) {
                (
                    format!("{came_by}{ip} daddr {subnet} ct state established,related return"),
                    "answers",
                )
            } else {
                (format!("{came_by}{ip} daddr {subnet} return"), "routed in")
            });
            from.push((
                format!("{leaves_by}{ip} saddr {subnet} accept"),
                "from the subnet",
            ));
        }
        to.push(("reject".to_owned(), "anything else in"));
        from.push(("reject".to_owned(), "anything else out"));
        self.add(Purpose::To, to);
        self.add(Purpose::From, from);
    }

    fn nat(&mut self) -> Result<(), NetworkError> {
        let Forward::Nat {
            addresses, ports, ..
        } = &self.network.forward
        else {
            return Ok(());
        };
        if let Some((first, last)) = *addresses
            && (first.is_ipv4() != last.is_ipv4() || first > last)
        {
            return Err(NetworkError::NatRange {
                network: self.network.name.clone(),
                first,
                last,
            });
        }
        let mut rules = Vec::new();
        for subnet in self.subnets() {
            if !self.translated(&subnet) {
                continue;
            }
            let v6 = subnet.addr().is_ipv6();
            let ip = keyword(&subnet);
            let own: &[&str] = if v6 {
                &["ff02::/16"]
            } else {
                &["224.0.0.0/24", "255.255.255.255"]
            };
            for group in own {
                rules.push((
                    format!("{ip} saddr {subnet} {ip} daddr {group} return"),
                    "stays on the link",
                ));
            }
            let leaves_by = self
                .dev
                .as_ref()
                .map(|dev| format!("oifname {} ", dev.quoted()))
                .unwrap_or_default();
            let outward = format!("{leaves_by}{ip} saddr {subnet} {ip} daddr != {subnet}");
            for protocol in ["tcp", "udp"] {
                let verb = translation(v6, *addresses, Some(*ports));
                rules.push((
                    format!("meta l4proto {protocol} {outward} {verb}"),
                    "under the host's address",
                ));
            }
            let verb = translation(v6, *addresses, None);
            rules.push((format!("{outward} {verb}"), "under the host's address"));
        }
        if !rules.is_empty() {
            self.add(Purpose::Nat, rules);
        }
        Ok(())
    }

    fn add(&mut self, purpose: Purpose, rules: Vec<(String, &str)>) {
        let name = ChainName::compose(purpose.prefix(), &self.bridge.in_chain_name());
        let rules = rules.into_iter().map(|(text, why)| Rule {
            text: RuleText::built(text),
            note: format!("{} {why}", self.network.name),
        });
        self.out
            .chains
            .insert(name.clone(), Chain::new(rules.collect()));
        self.out.elements.insert(MapElement {
            map: purpose.map(),
            key: self.bridge.clone(),
            // The chain of what comes in returns, so that the one of what goes out is asked.
            verdict: match purpose {
                Purpose::To => Verdict::Jump(name),
                Purpose::From | Purpose::Nat => Verdict::Goto(name),
            },
        });
    }
}

/// How addresses of one version are translated. Addresses of the other version say nothing about it: it takes the outgoing link's own.
fn translation(v6: bool, range: Option<(IpAddr, IpAddr)>, ports: Option<(u16, u16)>) -> String {
    let ports = ports
        .map(|(low, high)| format!(":{low}-{high}"))
        .unwrap_or_default();
    // An IPv6 address beside a port stands in brackets.
    let written = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    match range.filter(|(first, _)| first.is_ipv6() == v6) {
        None if ports.is_empty() => "masquerade".to_owned(),
        None => format!("masquerade to {ports}"),
        Some((first, last)) => {
            let ip = if v6 { "ip6" } else { "ip" };
            let mut to = written(first);
            if last != first {
                to = format!("{to}-{}", written(last));
            }
            format!("snat {ip} to {to}{ports}")
        }
    }
}

fn keyword(subnet: &IpNet) -> &'static str {
    if subnet.addr().is_ipv6() { "ip6" } else { "ip" }
}

#[cfg(test)]
mod tests;
