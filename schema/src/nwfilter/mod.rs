//! Packet filters: the types behind `<filter>`.
//!
//! A filter's entries keep their order, as do the conditions of a rule. A value of a condition is a literal or a variable; see [`value`].

pub mod binding;
pub mod protocol;
pub mod value;

pub use binding::NwFilterBinding;
pub use protocol::Protocol;
pub use value::{Reference, Var};

use crate::scalar::{Name, Within};
use uuid::Uuid;

/// The priority of a filter or rule: lower comes first.
pub type Priority = Within<-1000, 1000>;

choice! {
    /// What becomes of a packet.
    pub enum Action {
        /// It is dropped.
        Drop = "drop",
        /// It passes this filter.
        Accept = "accept",
        /// It is dropped and the sender told.
        Reject = "reject",
        /// The chain is left.
        Return = "return",
        /// The next rule decides.
        Continue = "continue",
    }
}

choice! {
    /// From the guest's view.
    pub enum Direction { In = "in", Out = "out", InOut = "inout" }
}

/// Whether a rule follows connections: `true`, `false`, `1` or `0`, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateMatch(bool);

impl StateMatch {
    /// Whether it does.
    pub fn is_on(self) -> bool {
        self.0
    }
}

impl crate::scalar::Scalar for StateMatch {
    const INFO: crate::scalar::ScalarInfo = crate::scalar::ScalarInfo {
        words: &["true", "1", "false", "0"],
        ..crate::scalar::ScalarInfo::new("one of its words", crate::scalar::Form::Text)
    };

    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Self(true)),
            "false" | "0" => Ok(Self(false)),
            _ => Err(String::new()),
        }
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        std::borrow::Cow::Borrowed(if self.0 { "true" } else { "false" })
    }
}

element! {
    /// A packet filter.
    pub struct NwFilter must ["name"] {
        /// The filter's name.
        attr "name" name: Name,
        /// The chain it adds to: a known one (`root`, `mac`, `vlan`, `stp`, `arp`, `rarp`, `ipv4`, `ipv6`) or a name that begins with one, such as `ipv4-web`; root where not stated.
        attr "chain" chain: Chain,
        /// The chain's priority, -1000 to 1000.
        attr "priority" priority: Priority,
        /// The filter's identity.
        leaf "uuid" uuid: Uuid,
        /// Its rules and references in their order.
        many "entries" entries: Entry,
    }
}

union! {
    /// What a filter is made of.
    pub enum Entry {
        /// Another filter, put in here.
        FilterRef "filterref": FilterRef,
        /// A rule.
        Rule "rule": Rule,
    }
}

element! {
    /// A filter used elsewhere, with values for its variables.
    pub struct FilterRef main "filter" must ["filter"] {
        /// The filter's name.
        attr "filter" filter: Name,
        /// Values of variables; several of one name are a list.
        list "parameter" parameters: Parameter,
    }
}

element! {
    /// A value of a variable.
    pub struct Parameter must ["name", "value"] {
        /// The variable's name.
        attr "name" name: value::VariableName,
        /// The value.
        attr "value" value: String,
    }
}

element! {
    /// A rule: all of its conditions must hold.
    pub struct Rule must ["action", "direction"] {
        /// What becomes of the packet.
        attr "action" action: Action,
        /// Which way it goes, from the guest's view.
        attr "direction" direction: Direction,
        /// Lower comes first; 500 where not stated.
        attr "priority" priority: Priority,
        /// Whether connections are followed; yes where not stated.
        attr "statematch" statematch: StateMatch,
        /// What the packet must be like.
        many "protocols" protocols: Protocol,
    }
}

/// The name of a filter's chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(String);

/// The chains that libvirt knows, with the priority a filter of theirs has where none is stated.
pub const CHAINS: &[(&str, i64)] = &[
    ("root", 0),
    ("mac", -800),
    ("stp", -810),
    ("vlan", -750),
    ("arp", -500),
    ("rarp", -400),
    ("ipv4", -700),
    ("ipv6", -600),
];

impl Chain {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The known chain it is or begins with.
    pub fn prefix(&self) -> &'static str {
        known_chain(&self.0).map_or("root", |(known, _)| known)
    }

    /// The priority where none is stated.
    pub fn default_priority(&self) -> i64 {
        known_chain(&self.0).map_or(0, |(_, priority)| priority)
    }
}

fn known_chain(name: &str) -> Option<(&'static str, i64)> {
    CHAINS
        .iter()
        .copied()
        .find(|(known, _)| name == *known || *known != "root" && name.starts_with(known))
}

impl crate::scalar::Scalar for Chain {
    const INFO: crate::scalar::ScalarInfo = crate::scalar::ScalarInfo::new(
        "root, or a name of at most 12 letters, digits and _ - . : that begins with mac, stp, vlan, arp, rarp, ipv4 or ipv6",
        crate::scalar::Form::Text,
    ).matching("^(root|(mac|stp|vlan|arp|rarp|ipv4|ipv6)[a-zA-Z0-9_.:-]{0,9})$");

    fn parse(text: &str) -> Result<Self, String> {
        /// What a chain's name leaves of ebtables' own beside an interface's.
        const MOST: usize = 12;
        let sound = text.len() <= MOST
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'));
        if sound && known_chain(text).is_some() {
            Ok(Self(text.to_owned()))
        } else {
            Err(String::new())
        }
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        std::borrow::Cow::Borrowed(&self.0)
    }
}

impl NwFilter {
    /// Its chain's name; `root` where not stated.
    pub fn chain_name(&self) -> &str {
        self.chain.as_ref().map_or("root", Chain::as_str)
    }

    /// Its chain's priority: stated, or the known chain's.
    pub fn chain_priority(&self) -> i64 {
        self.priority.map_or_else(
            || self.chain.as_ref().map_or(0, Chain::default_priority),
            Within::get,
        )
    }
}
