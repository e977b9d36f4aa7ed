//! What we keep in nftables, as data: chains with a digest, verdict-map elements, and the operations that change them.
//!
//! In: [`NftOp`]s, in any order. Out: the text of one `nft -f` transaction ([`render`]), which the kernel applies whole or not at all. Every
//! operation is idempotent: applied to a table that already has its result, it changes nothing that a packet could notice.
//!
//! ## How the host shows what it has
//!
//! The kernel does not update a chain's own comment after the chain exists, and `nft` before 1.0.7 does not list it. So each rule carries
//! the comment `vireo:DIGEST:N/COUNT TEXT`: the digest of its chain's rules, its place, and a text for people. [`intact_digest`] reads the
//! comments of a listed chain, in order: a rule that was taken out, added, moved or changed from outside leaves no intact digest, and the
//! chain is written again. An empty chain is written as a single `return`, so that it has a digest too.
//!
//! ## What must stay true
//!
//! - A map element, once there, keeps its verdict: `nft` refuses to add a key again with another verdict, and to delete one that is absent.
//!   Entry chains therefore have names that depend on the interface alone, and what changes is their content. Where an element with another
//!   verdict is observed, delete that one (with the verdict observed) and set ours, in the same transaction.
//! - A chain that others jump to is deleted in the transaction that rewrites or deletes those others, or later.
//!
//! Rule texts are built by this crate from checked values. A plan read back from a file is checked again on the way in.

mod name;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use self::name::{ChainName, IfName, MapName, NAME_MAX, NameError, RuleText};

/// Longest comment of a rule, in bytes: the kernel's and `nft`'s limit is 128 with its final zero.
pub const COMMENT_MAX: usize = 127;

/// An nftables address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Frames crossing a bridge.
    Bridge,
    /// IPv4 and IPv6 packets.
    Inet,
    /// IPv4 packets.
    Ip,
    /// IPv6 packets.
    Ip6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Bridge => "bridge",
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        })
    }
}

/// A table: family and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The table's family.
    pub family: Family,
    /// Its name within the family.
    pub name: ChainName,
}

impl TableName {
    /// `bridge vireo`: packet filters of guests.
    pub fn filters() -> TableName {
        TableName {
            family: Family::Bridge,
            name: ChainName::fixed("vireo"),
        }
    }

    /// `inet vireo_net`: forwarding and address translation of networks.
    pub fn networks() -> TableName {
        TableName {
            family: Family::Inet,
            name: ChainName::fixed("vireo_net"),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// The digest of a chain's rules: 16 hexadecimal digits, the first 64 bits of a SHA-256. It tells a changed chain from an unchanged
/// one; it does not defend against anybody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(String);

impl Digest {
    /// The digest of some text.
    pub fn of(text: &str) -> Digest {
        let hash = Sha256::digest(text.as_bytes());
        let mut hex = String::with_capacity(16);
        for byte in hash.iter().take(8) {
            let _ = write!(hex, "{byte:02x}");
        }
        Digest(hex)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One rule: what it does, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Matches and verdict, in nft's syntax, without comment.
    pub text: RuleText,
    /// Where the rule comes from, for a person who lists the rules. Quotes and control characters are replaced when it is written, and
    /// what does not fit is cut.
    pub note: String,
}

/// A regular chain's rules and their digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    rules: Vec<Rule>,
    digest: Digest,
}

impl Chain {
    /// A chain of these rules. No rules at all become one `return`, which is what an empty chain does.
    pub fn new(mut rules: Vec<Rule>) -> Chain {
        if rules.is_empty() {
            rules.push(Rule {
                text: RuleText::built("return"),
                note: String::new(),
            });
        }
        let mut text = String::new();
        for rule in &rules {
            let _ = writeln!(text, "{} # {}", rule.text, rule.note);
        }
        let digest = Digest::of(&text);
        Chain { rules, digest }
    }

    /// The rules, in order; at least one.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The digest that a host showing exactly these rules reports.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The comment of the rule at `index` (from 0).
    fn comment(&self, index: usize, note: &str) -> String {
        let mut comment = format!("vireo:{}:{}/{}", self.digest, index + 1, self.rules.len());
        if !note.is_empty() {
            comment.push(' ');
            comment.extend(note.chars().map(|c| match c {
                '"' => '\'',
                c if c.is_control() => ' ',
                c => c,
            }));
        }
        let mut end = comment.len().min(COMMENT_MAX);
        while !comment.is_char_boundary(end) {
            end -= 1;
        }
        comment.truncate(end);
        comment
    }
}

/// The digest of a chain as the host lists it, from its rules' comments in order; `None` when any rule is missing, added, moved or not ours,
/// which means that the chain must be written again.
pub fn intact_digest<'a>(comments: impl IntoIterator<Item = Option<&'a str>>) -> Option<Digest> {
    let mut seen: Option<(&str, usize)> = None;
    let mut count = 0;
    for (index, comment) in comments.into_iter().enumerate() {
        let mark = comment?.strip_prefix("vireo:")?;
        let mark = mark.split(' ').next()?;
        let (digest, place) = mark.split_once(':')?;
        let (number, total) = place.split_once('/')?;
        let (number, total): (usize, usize) = (number.parse().ok()?, total.parse().ok()?);
        if number != index + 1 || *seen.get_or_insert((digest, total)) != (digest, total) {
            return None;
        }
        count = number;
    }
    let (digest, total) = seen?;
    (count == total).then(|| Digest(digest.to_owned()))
}

/// What happens to a packet: ours end a map element or a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Passes this hook's chain.
    Accept,
    /// Is dropped.
    Drop,
    /// Goes through the chain and comes back.
    Jump(ChainName),
    /// Goes through the chain and does not come back.
    Goto(ChainName),
}

impl Verdict {
    /// The chain that it leads to.
    pub fn target(&self) -> Option<&ChainName> {
        match self {
            Verdict::Accept | Verdict::Drop => None,
            Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// One element of a verdict map keyed by interface name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MapElement {
    /// The map.
    pub map: MapName,
    /// The interface.
    pub key: IfName,
    /// What happens to its packets.
    pub verdict: Verdict,
}

/// A chain at a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseChain {
    /// `filter` or `nat`.
    pub kind: ChainKind,
    /// Where packets are seen.
    pub hook: Hook,
    /// When, among the chains of one hook: lower is earlier.
    pub priority: i32,
    /// Its rules. The policy is always accept.
    pub chain: Chain,
}

/// The type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of each connection.
    Nat,
}

/// A netfilter hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// As a packet arrives, before it is known where it goes.
    Prerouting,
    /// What passes through.
    Forward,
    /// As a packet leaves, once for each port that it leaves by.
    Postrouting,
}

/// The part of a table that does not depend on any guest or network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skeleton {
    /// The table.
    pub table: TableName,
    /// Verdict maps keyed by interface name.
    pub maps: BTreeSet<MapName>,
    /// Base chains by name.
    pub bases: BTreeMap<ChainName, BaseChain>,
}

impl Skeleton {
    /// What a host that has exactly this skeleton shows.
    pub fn digest(&self) -> Digest {
        skeleton_digest(
            self.maps.iter().map(MapName::as_str),
            self.bases.iter().map(|(name, base)| {
                let place = (base.kind, base.hook, base.priority);
                (name.as_str(), place, &base.chain.digest)
            }),
        )
    }
}

/// The digest of a skeleton from its maps' names and its base chains: name, place and the digest of the rules; both in alphabetical order.
pub fn skeleton_digest<'a>(
    maps: impl IntoIterator<Item = &'a str>,
    bases: impl IntoIterator<Item = (&'a str, (ChainKind, Hook, i32), &'a Digest)>,
) -> Digest {
    let mut text = String::new();
    for map in maps {
        let _ = writeln!(text, "map {map}");
    }
    for (name, (kind, hook, priority), digest) in bases {
        let _ = writeln!(text, "chain {name} {kind:?} {hook:?} {priority} {digest}");
    }
    Digest::of(&text)
}

/// One change to our tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NftOp {
    /// The table, its maps and its base chains exist and hold what they should. Elements and regular chains stay as they are.
    EnsureSkeleton(Skeleton),
    /// The chain exists and holds exactly these rules.
    ReplaceChain {
        /// In this table.
        table: TableName,
        /// The chain.
        name: ChainName,
        /// Its rules.
        chain: Chain,
    },
    /// The chain does not exist. Nothing may lead to it once the transaction is through.
    DeleteChain {
        /// In this table.
        table: TableName,
        /// The chain.
        name: ChainName,
    },
    /// The element is in its map. If one with another verdict is there, delete that one in the same transaction.
    SetElement {
        /// In this table.
        table: TableName,
        /// The element.
        element: MapElement,
    },
    /// The element, with the verdict that was observed, is not in its map.
    DeleteElement {
        /// In this table.
        table: TableName,
        /// The element.
        element: MapElement,
    },
    /// The table, and all in it, does not exist.
    DeleteTable {
        /// The table.
        table: TableName,
    },
}

/// The operations as one transaction for `nft -f -`. The order of `ops` does not matter, but that of two contradicting ones (the later
/// write of one chain wins): tables go first, then maps and chains come to be, then rules, then elements go and come, then chains go.
pub fn render(ops: &[NftOp]) -> String {
    let mut script = Script::default();
    for op in ops {
        script.take(op);
    }
    script.text()
}

/// The phases of a transaction, each a list of lines.
#[derive(Default)]
struct Script {
    tables_gone: Vec<String>,
    declared: Vec<String>,
    chains: BTreeSet<(TableName, ChainName)>,
    rules: Vec<String>,
    elements_gone: Vec<String>,
    elements: Vec<String>,
    flushed: Vec<String>,
    chains_gone: Vec<String>,
}

impl Script {
    fn take(&mut self, op: &NftOp) {
        match op {
            NftOp::DeleteTable { table } => {
                // `delete` alone fails on a table that is already gone.
                self.tables_gone.push(format!("add table {table}"));
                self.tables_gone.push(format!("delete table {table}"));
            }
            NftOp::EnsureSkeleton(skeleton) => self.skeleton(skeleton),
            NftOp::ReplaceChain { table, name, chain } => {
                self.chains.insert((table.clone(), name.clone()));
                self.fill(table, name, chain);
            }
            NftOp::DeleteChain { table, name } => {
                self.chains.insert((table.clone(), name.clone()));
                self.flushed.push(format!("flush chain {table} {name}"));
                self.chains_gone
                    .push(format!("delete chain {table} {name}"));
            }
            NftOp::SetElement { table, element } => {
                self.target(table, element);
                self.elements.push(add_element(table, element));
            }
            NftOp::DeleteElement { table, element } => {
                self.target(table, element);
                self.elements_gone.push(add_element(table, element));
                self.elements_gone.push(format!(
                    "delete element {table} {} {{ {} }}",
                    element.map,
                    element.key.quoted()
                ));
            }
        }
    }

    fn skeleton(&mut self, skeleton: &Skeleton) {
        let table = &skeleton.table;
        self.declared.push(format!("add table {table}"));
        for map in &skeleton.maps {
            self.declared.push(format!(
                "add map {table} {map} {{ type ifname : verdict; }}"
            ));
        }
        for (name, base) in &skeleton.bases {
            let kind = match base.kind {
                ChainKind::Filter => "filter",
                ChainKind::Nat => "nat",
            };
            let hook = match base.hook {
                Hook::Prerouting => "prerouting",
                Hook::Forward => "forward",
                Hook::Postrouting => "postrouting",
            };
            self.declared.push(format!(
                "add chain {table} {name} {{ type {kind} hook {hook} priority {}; policy accept; }}",
                base.priority
            ));
            self.fill(table, name, &base.chain);
        }
    }

    fn fill(&mut self, table: &TableName, name: &ChainName, chain: &Chain) {
        self.rules.push(format!("flush chain {table} {name}"));
        for (index, rule) in chain.rules.iter().enumerate() {
            self.rules.push(format!(
                "add rule {table} {name} {} comment \"{}\"",
                rule.text,
                chain.comment(index, &rule.note)
            ));
        }
    }

    /// An element can only be written while its target exists.
    fn target(&mut self, table: &TableName, element: &MapElement) {
        if let Some(chain) = element.verdict.target() {
            self.chains.insert((table.clone(), chain.clone()));
        }
    }

    fn text(self) -> String {
        let chains = self
            .chains
            .iter()
            .map(|(table, chain)| format!("add chain {table} {chain}"));
        let mut text = String::new();
        for line in self
            .tables_gone
            .into_iter()
            .chain(self.declared)
            .chain(chains)
            .chain(self.rules)
            .chain(self.elements_gone)
            .chain(self.elements)
            .chain(self.flushed)
            .chain(self.chains_gone)
        {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

fn add_element(table: &TableName, element: &MapElement) -> String {
    format!(
        "add element {table} {} {{ {} : {} }}",
        element.map,
        element.key.quoted(),
        element.verdict
    )
}

#[cfg(test)]
mod tests;
