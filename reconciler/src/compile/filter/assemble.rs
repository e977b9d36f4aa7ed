//! Rule instances to chains: layers, directions, priorities, connection state, verdicts.
//!
//! ## Order
//!
//! In the Ethernet layer each chain's rules stand by priority, and root's rules and its jumps into other chains stand in one list by priority, a
//! jump before the rules of its own priority. A chain is entered by the frames of the protocol that its name begins with. The IP layer has one
//! list. What is equal keeps the order in which the documents give it.
//!
//! ## Connections
//!
//! An IP-layer accept follows connections unless it says otherwise: the rule's own direction may open them, the other may answer.
//!
//! | rule | in its direction | against it |
//! | --- | --- | --- |
//! | accept | new or established, original | established, reply |
//! | accept of an ICMP type | new or established | |
//! | accept, `statematch='false'` | any | any, mirrored |
//! | accept, `inout` | any | any, mirrored |
//! | `state='…'` on a match | in those states | |
//! | drop, reject, return, continue | any | |

use std::collections::{BTreeMap, BTreeSet};

use super::error::{FilterError, Problem};
use super::expand::{self, Placed};
use super::ir::{Action, Direction, Protocol, Transport};
use super::matching::{self, Chosen};
use super::value;
use super::{Binding, Compiled, Features, Learn, LearnMethod, map_name};
use crate::compile::nft::{Chain, ChainName, IfName, MapElement, Rule, RuleText, Verdict};

/// Which way frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    FromGuest,
    ToGuest,
}

/// Which base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    Ethernet,
    Ip,
}

impl Layer {
    /// The base chain's priority; the module above says why.
    pub(super) fn priority(self) -> i32 {
        match self {
            Layer::Ethernet => -300,
            Layer::Ip => -150,
        }
    }
}

/// The chains below root: what their names begin with, which frames enter them, and their priority when none is stated.
const CHAINS: &[(&str, &str, i16)] = &[
    ("mac", "", -800),
    ("stp", "ether daddr 01:80:c2:00:00:00 ", -810),
    ("vlan", "ether type 8021q ", -750),
    ("ipv4", "ether type ip ", -700),
    ("ipv6", "ether type ip6 ", -600),
    ("arp", "ether type arp ", -500),
    ("rarp", "ether type 0x8035 ", -400),
];

/// Rules with their priorities, before they are sorted.
type Ranked = Vec<(i16, Rule)>;

/// A chain below root.
struct Sub {
    priority: i16,
    guard: &'static str,
    rules: Ranked,
}

/// Everything of one side.
#[derive(Default)]
struct SideRules<'a> {
    root: Ranked,
    subs: BTreeMap<&'a str, Sub>,
    ip: Ranked,
}

/// The chains of all placed rules.
pub(super) fn assemble<'a>(
    placed: &[Placed<'a>],
    interface: &IfName,
    features: Features,
) -> Result<Compiled, FilterError> {
    let mut compiled = empty();
    for side in [Side::FromGuest, Side::ToGuest] {
        let mut rules: SideRules<'a> = SideRules::default();
        for placed in placed {
            check_mix(placed)?;
            let instances = expand::instances(placed).map_err(|p| placed.error(p))?;
            for chosen in &instances {
                let instance = Instance {
                    placed,
                    chosen,
                    side,
                    features,
                };
                instance
                    .add(&mut rules, &mut compiled.notes)
                    .map_err(|p| placed.error(p))?;
            }
        }
        finish(rules, side, interface, &mut compiled);
    }
    Ok(compiled)
}

fn empty() -> Compiled {
    Compiled {
        chains: BTreeMap::new(),
        elements: BTreeSet::new(),
        waits: None,
        notes: BTreeSet::new(),
    }
}

/// Elements of one rule are all of one protocol, but that `<mac>` goes with any of the Ethernet layer.
fn check_mix(placed: &Placed) -> Result<(), FilterError> {
    let mut one = None;
    for node in &placed.rule.matches {
        let kind = node.protocol;
        if kind == Protocol::Mac && one.is_none_or(|one: Protocol| !one.is_ip_layer()) {
            one = one.or(Some(kind));
            continue;
        }
        match one {
            None => one = Some(kind),
            Some(first) if first == kind => {}
            Some(Protocol::Mac) if !kind.is_ip_layer() => one = Some(kind),
            Some(first) => {
                return Err(placed.error(Problem::Unsupported {
                    what: format!("<{}> beside <{}> in one rule", kind.name(), first.name()),
                    why: "all elements of a rule must match, and no packet is of two protocols; write two rules",
                }));
            }
        }
    }
    Ok(())
}

/// One instance of one rule on one side.
struct Instance<'a, 'c> {
    placed: &'c Placed<'a>,
    chosen: &'c Chosen,
    side: Side,
    features: Features,
}

impl<'a> Instance<'a, '_> {
    fn add(&self, rules: &mut SideRules<'a>, notes: &mut BTreeSet<String>) -> Result<(), Problem> {
        let rule = self.placed.rule;
        if rule.matches.iter().any(|node| node.protocol.is_ip_layer()) {
            if let Some(text) = self.ip_layer(notes)? {
                rules.ip.push((rule.priority, text));
            }
            return Ok(());
        }
        let Some(swapped) = self.orientation() else {
            return Ok(());
        };
        let text = self.ethernet_layer(swapped, notes)?;
        let filter = self.placed.filter;
        let target = if filter.chain == "root" {
            &mut rules.root
        } else {
            let (guard, usual) = chain_kind(&filter.chain)?;
            let sub = rules.subs.entry(&filter.chain).or_insert(Sub {
                priority: usual,
                guard,
                rules: Vec::new(),
            });
            if let Some(stated) = filter.priority {
                sub.priority = stated;
            }
            &mut sub.rules
        };
        target.push((rule.priority, text));
        Ok(())
    }

    /// Whether the rule is for this side, and if so, whether it is mirrored there.
    fn orientation(&self) -> Option<bool> {
        match (self.placed.rule.direction, self.side) {
            (Direction::Out, Side::FromGuest)
            | (Direction::In | Direction::Inout, Side::ToGuest) => Some(false),
            (Direction::Inout, Side::FromGuest) => Some(true),
            (Direction::Out, Side::ToGuest) | (Direction::In, Side::FromGuest) => None,
        }
    }

    fn ethernet_layer(&self, swapped: bool, notes: &mut BTreeSet<String>) -> Result<Rule, Problem> {
        let mut parts = self.expressions(swapped, true)?;
        parts.push(
            match self.placed.rule.action {
                Action::Accept => "accept",
                Action::Drop => "drop",
                Action::Reject => {
                    notes.insert(format!(
                        "nwfilter {}: reject is drop in the Ethernet layer",
                        self.placed.filter.name
                    ));
                    "drop"
                }
                Action::Return => "return",
                Action::Continue => "continue",
            }
            .to_owned(),
        );
        self.rule(&parts)
    }

    fn ip_layer(&self, notes: &mut BTreeSet<String>) -> Result<Option<Rule>, Problem> {
        let Some((swapped, state)) = self.state()? else {
            return Ok(None);
        };
        let by_connection = state
            .as_deref()
            .is_some_and(|state| state.contains("reply"));
        let mut parts = self.expressions(swapped, !by_connection)?;
        if let Some(state) = state {
            if !self.features.bridge_ct {
                return Err(Problem::MissingFeature {
                    what: "following connections".to_owned(),
                    feature: "connection tracking for bridges (nf_conntrack_bridge)",
                });
            }
            parts.push(state);
        }
        parts.push(self.ip_verdict(notes).to_owned());
        self.rule(&parts).map(Some)
    }

    /// Whether the rule is for this side; if so, whether it is mirrored there, and the states it is limited to.
    fn state(&self) -> Result<Option<(bool, Option<String>)>, Problem> {
        let rule = self.placed.rule;
        let mut stated: Option<Vec<&'static str>> = None;
        for node in &rule.matches {
            if let Some(text) = matching::plain(node, self.chosen, "state")? {
                let states = value::states(&text).ok_or_else(|| Problem::WrongType {
                    attribute: "state".to_owned(),
                    value: text.clone(),
                    variable: None,
                    wanted: "NONE, or a list of NEW, ESTABLISHED, RELATED and INVALID",
                })?;
                stated = Some(states);
            }
        }
        let own = self.orientation();
        if let Some(states) = stated.filter(|_| rule.statematch) {
            let state = (!states.is_empty()).then(|| format!("ct state {}", states.join(",")));
            return Ok(own.map(|swapped| (swapped, state)));
        }
        if rule.action != Action::Accept || rule.direction == Direction::Inout {
            return Ok(own.map(|swapped| (swapped, None)));
        }
        // What goes against the rule's direction is the mirror of what goes along with it.
        if !rule.statematch {
            return Ok(Some((own.is_none(), None)));
        }
        if self.icmp_type_given() {
            return Ok(own.map(|swapped| (swapped, Some("ct state established,new".to_owned()))));
        }
        Ok(Some(match own {
            Some(swapped) => (
                swapped,
                Some("ct state established,new ct direction original".to_owned()),
            ),
            None => (
                true,
                Some("ct state established ct direction reply".to_owned()),
            ),
        }))
    }

    fn icmp_type_given(&self) -> bool {
        self.placed.rule.matches.iter().any(|node| {
            matches!(node.protocol, Protocol::Transport(Transport::Icmp, _))
                && node.attributes.contains_key("type")
        })
    }

    fn ip_verdict(&self, notes: &mut BTreeSet<String>) -> &'static str {
        let name = &self.placed.filter.name;
        match (self.placed.rule.action, self.side) {
            (Action::Accept, _) => "accept",
            (Action::Drop, _) => "drop",
            (Action::Return, _) => "return",
            (Action::Continue, _) => "continue",
            (Action::Reject, Side::FromGuest) if self.features.bridge_reject => "reject",
            (Action::Reject, Side::FromGuest) => {
                notes.insert(format!(
                    "nwfilter {name}: reject is drop, since the kernel lacks nft_reject_bridge"
                ));
                "drop"
            }
            (Action::Reject, Side::ToGuest) => {
                notes.insert(format!(
                    "nwfilter {name}: reject is drop for packets to the guest, since the kernel rejects only as a frame arrives"
                ));
                "drop"
            }
        }
    }

    fn expressions(&self, swapped: bool, macs: bool) -> Result<Vec<String>, Problem> {
        let mut parts = Vec::new();
        for node in &self.placed.rule.matches {
            for part in matching::expressions(node, self.chosen, swapped, macs)? {
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
        }
        Ok(parts)
    }

    /// The rule, noted with where it comes from and what its author says about it.
    fn rule(&self, parts: &[String]) -> Result<Rule, Problem> {
        let mut note = format!("{}#{}", self.placed.filter.name, self.placed.entry + 1);
        for node in &self.placed.rule.matches {
            if let Some(comment) = matching::plain(node, self.chosen, "comment")? {
                note.push(' ');
                note.push_str(&comment);
            }
        }
        Ok(Rule {
            text: RuleText::built(parts.join(" ")),
            note,
        })
    }
}

/// The frames that enter a chain, and its usual priority.
fn chain_kind(name: &str) -> Result<(&'static str, i16), Problem> {
    CHAINS
        .iter()
        .find(|(prefix, _, _)| name.starts_with(prefix))
        .map(|(_, guard, priority)| (*guard, *priority))
        .ok_or_else(|| Problem::UnknownChain(name.to_owned()))
}

/// Sorts, names and links the chains of one side.
fn finish(rules: SideRules, side: Side, interface: &IfName, compiled: &mut Compiled) {
    // A jump stands before the rules of its own priority.
    let mut root: Vec<(i16, bool, Rule)> = Vec::new();
    for (name, mut sub) in rules.subs {
        let chain = sorted(&mut sub.rules);
        // Leaves room for the digest, whatever length a chain's name has.
        let short: String = name.chars().take(64).collect();
        let target = ChainName::compose(&short, chain.digest().as_str());
        let jump = Rule {
            text: RuleText::built(format!("{}jump {target}", sub.guard)),
            note: name.to_owned(),
        };
        root.push((sub.priority, false, jump));
        compiled.chains.insert(target, chain);
    }
    root.extend(
        rules
            .root
            .into_iter()
            .map(|(priority, rule)| (priority, true, rule)),
    );
    root.sort_by_key(|(priority, is_rule, _)| (*priority, *is_rule));
    let root: Vec<Rule> = root.into_iter().map(|(_, _, rule)| rule).collect();
    enter(root, side, Layer::Ethernet, interface, compiled);
    let mut ip = rules.ip;
    ip.sort_by_key(|(priority, _)| *priority);
    let ip = ip.into_iter().map(|(_, rule)| rule).collect();
    enter(ip, side, Layer::Ip, interface, compiled);
}

fn sorted(rules: &mut Ranked) -> Chain {
    rules.sort_by_key(|(priority, _)| *priority);
    Chain::new(rules.drain(..).map(|(_, rule)| rule).collect())
}

/// Adds an entry chain and the element that leads to it.
fn enter(rules: Vec<Rule>, side: Side, layer: Layer, interface: &IfName, compiled: &mut Compiled) {
    if rules.is_empty() {
        return;
    }
    let prefix = match (side, layer) {
        (Side::FromGuest, Layer::Ethernet) => "from-eth",
        (Side::FromGuest, Layer::Ip) => "from-ip",
        (Side::ToGuest, Layer::Ethernet) => "to-eth",
        (Side::ToGuest, Layer::Ip) => "to-ip",
    };
    let name = ChainName::compose(prefix, &interface.in_chain_name());
    compiled.elements.insert(MapElement {
        map: map_name(side, layer),
        key: interface.clone(),
        verdict: Verdict::Goto(name.clone()),
    });
    compiled.chains.insert(name, Chain::new(rules));
}

/// The chains of a binding whose guest has no known address yet: DHCP passes, from servers that the parameters name if they do.
pub(super) fn waiting(binding: &Binding, method: LearnMethod) -> Result<Compiled, FilterError> {
    let rule = |text: String| Rule {
        text: RuleText::built(text),
        note: "waits for an address".to_owned(),
    };
    let mac = value::mac_text(binding.mac);
    let mut from = vec![rule(format!("ether saddr != {mac} drop"))];
    from.push(rule(
        "ether type ip ip protocol 17 th sport 68 th dport 67 accept".to_owned(),
    ));
    from.push(rule("drop".to_owned()));
    let mut to = Vec::new();
    match binding.reference.parameters.get("DHCPSERVER") {
        None => to.push(rule(
            "ether type ip ip protocol 17 th sport 67 th dport 68 accept".to_owned(),
        )),
        Some(servers) => {
            for server in servers {
                let address = value::Network::host(server, false)
                    .and_then(value::Network::single)
                    .ok_or_else(|| wrong_server(binding, server))?;
                to.push(rule(format!(
                    "ether type ip ip saddr {address} ip protocol 17 th sport 67 th dport 68 accept"
                )));
            }
        }
    }
    to.push(rule("drop".to_owned()));
    let mut compiled = empty();
    enter(
        from,
        Side::FromGuest,
        Layer::Ethernet,
        &binding.interface,
        &mut compiled,
    );
    enter(
        to,
        Side::ToGuest,
        Layer::Ethernet,
        &binding.interface,
        &mut compiled,
    );
    compiled.waits = Some(Learn {
        variable: "IP".to_owned(),
        method,
    });
    Ok(compiled)
}

fn wrong_server(binding: &Binding, server: &str) -> FilterError {
    let problem = Problem::WrongType {
        attribute: "DHCPSERVER".to_owned(),
        value: server.to_owned(),
        variable: None,
        wanted: "an IPv4 address",
    };
    FilterError::new(&binding.reference.filter, None, problem)
}
