//! Packet filters as the compiler takes them: libvirt's words, values still as text or variables.
//!
//! A value is typed when it is used, because only then is a variable's value known, and a literal and a variable are held to the same rules.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Values by variable name; each variable has one or more.
pub type Parameters = BTreeMap<String, Vec<String>>;

/// Priority of a rule that states none.
pub const RULE_PRIORITY: i16 = 500;

/// One filter: a `<filter>` document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Its name, by which others refer to it.
    pub name: String,
    /// The chain its Ethernet-layer rules stand in: `root`, or a name that begins with a protocol's.
    pub chain: String,
    /// The chain's priority, -1000 to 1000, where stated.
    pub priority: Option<i16>,
    /// Rules and references, in the order of the document.
    pub entries: Vec<Entry>,
}

/// A child of a filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// `<rule>`.
    Rule(Rule),
    /// `<filterref>`.
    Reference(Reference),
}

/// A reference to a filter, from an interface or from another filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The filter's name.
    pub filter: String,
    /// Values for its variables. What the place that refers gives wins over what a filter in between gives.
    pub parameters: Parameters,
}

/// What happens to a packet that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Passes this layer.
    Accept,
    /// Vanishes.
    Drop,
    /// Vanishes, and the sender is told where that can be done.
    Reject,
    /// Leaves this chain.
    Return,
    /// Goes on with the next rule.
    Continue,
}

/// Which way a packet goes, seen from the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// To the guest.
    In,
    /// From the guest.
    Out,
    /// Both. The rule is written as for packets to the guest; from the guest, sources and destinations change places.
    Inout,
}

/// One `<rule>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What is done.
    pub action: Action,
    /// Which way the packet goes.
    pub direction: Direction,
    /// -1000 to 1000; lower is earlier.
    pub priority: i16,
    /// Whether an IP-layer accept follows connections (the default).
    pub statematch: bool,
    /// What must match, all of it. Nothing at all matches every frame.
    pub matches: Vec<ProtocolMatch>,
}

/// One protocol element of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolMatch {
    /// The element's name.
    pub protocol: Protocol,
    /// `match='no'`: each attribute must differ.
    pub negated: bool,
    /// Attributes by libvirt's names.
    pub attributes: BTreeMap<String, Value>,
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// As it is.
    Text(String),
    /// To be looked up.
    Variable(Variable),
}

/// A variable where a value could stand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Which of its values.
    pub access: Access,
}

/// Which of a variable's values is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Access {
    /// `$V[@n]`: each in turn. Variables with the same number are walked side by side, those with different numbers in every combination.
    Each(u16),
    /// `$V[n]`: one of them, counted from 0.
    Index(usize),
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.access {
            Access::Each(0) => write!(f, "${}", self.name),
            Access::Each(number) => write!(f, "${}[@{number}]", self.name),
            Access::Index(index) => write!(f, "${}[{index}]", self.name),
        }
    }
}

impl Value {
    /// Reads `$NAME`, `$NAME[@n]`, `$NAME[n]`; anything that does not begin with `$` is a literal. What begins with `$`
    /// and is no variable stays a literal, which no attribute will take.
    pub fn parse(text: &str) -> Value {
        Variable::parse(text).map_or_else(|| Value::Text(text.to_owned()), Value::Variable)
    }
}

impl Variable {
    fn parse(text: &str) -> Option<Variable> {
        let rest = text.strip_prefix('$')?;
        let (name, access) = match rest.split_once('[') {
            None => (rest, Access::Each(0)),
            Some((name, inside)) => {
                let inside = inside.strip_suffix(']')?;
                let access = match inside.strip_prefix('@') {
                    Some(number) => Access::Each(number.parse().ok()?),
                    None => Access::Index(inside.parse().ok()?),
                };
                (name, access)
            }
        };
        let fit = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        fit.then(|| Variable {
            name: name.to_owned(),
            access,
        })
    }
}

/// The protocol elements of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Ethernet layer: any frame.
    Mac,
    /// Ethernet layer: 802.1Q frames.
    Vlan,
    /// Ethernet layer: bridge protocol data units.
    Stp,
    /// Ethernet layer.
    Arp,
    /// Ethernet layer.
    Rarp,
    /// Ethernet layer: IPv4.
    Ip,
    /// Ethernet layer: IPv6.
    Ipv6,
    /// IP layer.
    Transport(Transport, Version),
}

/// Protocols of the IP layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// `tcp`
    Tcp,
    /// `udp`
    Udp,
    /// `udplite`
    Udplite,
    /// `sctp`
    Sctp,
    /// `icmp`, `icmpv6`
    Icmp,
    /// `igmp`
    Igmp,
    /// `esp`
    Esp,
    /// `ah`
    Ah,
    /// `all`
    All,
}

/// IP versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Protocol {
    /// Every protocol element with its name.
    pub const NAMES: &[(&str, Protocol)] = &[
        ("mac", Protocol::Mac),
        ("vlan", Protocol::Vlan),
        ("stp", Protocol::Stp),
        ("arp", Protocol::Arp),
        ("rarp", Protocol::Rarp),
        ("ip", Protocol::Ip),
        ("ipv6", Protocol::Ipv6),
        ("tcp", Protocol::Transport(Transport::Tcp, Version::V4)),
        ("udp", Protocol::Transport(Transport::Udp, Version::V4)),
        (
            "udplite",
            Protocol::Transport(Transport::Udplite, Version::V4),
        ),
        ("sctp", Protocol::Transport(Transport::Sctp, Version::V4)),
        ("icmp", Protocol::Transport(Transport::Icmp, Version::V4)),
        ("igmp", Protocol::Transport(Transport::Igmp, Version::V4)),
        ("esp", Protocol::Transport(Transport::Esp, Version::V4)),
        ("ah", Protocol::Transport(Transport::Ah, Version::V4)),
        ("all", Protocol::Transport(Transport::All, Version::V4)),
        ("tcp-ipv6", Protocol::Transport(Transport::Tcp, Version::V6)),
        ("udp-ipv6", Protocol::Transport(Transport::Udp, Version::V6)),
        (
            "udplite-ipv6",
            Protocol::Transport(Transport::Udplite, Version::V6),
        ),
        (
            "sctp-ipv6",
            Protocol::Transport(Transport::Sctp, Version::V6),
        ),
        ("icmpv6", Protocol::Transport(Transport::Icmp, Version::V6)),
        ("esp-ipv6", Protocol::Transport(Transport::Esp, Version::V6)),
        ("ah-ipv6", Protocol::Transport(Transport::Ah, Version::V6)),
        ("all-ipv6", Protocol::Transport(Transport::All, Version::V6)),
    ];

    /// The protocol of an element's name.
    pub fn named(name: &str) -> Option<Protocol> {
        Self::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, protocol)| *protocol)
    }

    /// The element's name.
    pub fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, known)| *known == self)
            .map_or("unknown", |(name, _)| *name)
    }

    /// Whether it belongs to the IP layer, which comes after the Ethernet layer.
    pub fn is_ip_layer(self) -> bool {
        matches!(self, Protocol::Transport(..))
    }
}
