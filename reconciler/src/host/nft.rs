//! nftables: transactions through `nft`, looks through netlink.
//!
//! In: the text of a transaction from [`crate::compile::nft::render`]. Out: it is applied whole, or not at all and `nft`'s message says why.
//!
//! To look at a table, its rules are not decoded: what tells whether a chain is ours and unchanged is in its rules' comments, which the kernel keeps as they
//! were written. So a look costs the kernel's four lists (chains, rules, maps, elements), whatever the rules say and whichever version of `nft` is there.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::io::Errno;

use super::command;
use super::netlink::{
    NetlinkError, NetlinkSocket, Request, attribute_list, attributes, be32_at, push_attribute, text,
};
use crate::compile::nft::{
    ChainKind, ChainName, Family, Hook, IfName, MapElement, MapName, NftOp, TableName, Verdict,
    intact_digest, render, skeleton_digest,
};
use crate::execute::effect::EffectError;
use crate::inventory::Table;

/// A transaction of ten thousand rules takes well under a second; the rest is for a busy host.
const LIMIT: Duration = Duration::from_secs(60);

/// How often a look is repeated when a transaction comes between its lists.
const TRIES: u32 = 20;

/// Applies operations as one transaction.
///
/// # Errors
/// `nft` is missing or refuses the transaction; then nothing of it is applied.
pub async fn apply(ops: &[NftOp]) -> Result<(), EffectError> {
    if ops.is_empty() {
        return Ok(());
    }
    let script = render(ops);
    command::run("nft", &["-f", "-"], &script, LIMIT)
        .await
        .map(|_| ())
        .map_err(|error| {
            let busy = error.to_string().contains("Device or resource busy");
            let mut failed = error.during("apply packet filter rules");
            failed.retry |= busy;
            failed
        })
}

/// Messages of the nftables subsystem. Source: linux/netfilter/nf_tables.h.
const SUBSYSTEM: u16 = 10 << 8;
const GETCHAIN: u16 = SUBSYSTEM | 4;
const GETRULE: u16 = SUBSYSTEM | 7;
const GETSET: u16 = SUBSYSTEM | 10;
const GETSETELEM: u16 = SUBSYSTEM | 13;
const GETGEN: u16 = SUBSYSTEM | 16;
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const SET_ANONYMOUS: u32 = 0x1;
const SET_MAP: u32 = 0x8;

/// What the kernel has of these tables; those that it does not have are absent. Blocks: call it on a blocking thread.
///
/// # Errors
/// The kernel cannot be asked.
pub fn observe(names: &[TableName]) -> Result<BTreeMap<TableName, Table>, NetlinkError> {
    let mut socket = match NetlinkSocket::netfilter() {
        Ok(socket) => socket,
        // A kernel without netfilter has no tables.
        Err(error) if error.is(Errno::PROTONOSUPPORT) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    for _ in 0..TRIES {
        let before = match generation(&mut socket) {
            // Neither has one without nftables.
            Err(error) if error.is(Errno::INVAL) => return Ok(BTreeMap::new()),
            other => other?,
        };
        let mut tables = BTreeMap::new();
        for name in names {
            if let Some(table) = table(&mut socket, name)? {
                tables.insert(name.clone(), table);
            }
        }
        if generation(&mut socket)? == before {
            return Ok(tables);
        }
    }
    Err(NetlinkError::Unsteady)
}

/// A number that changes with each transaction.
fn generation(socket: &mut NetlinkSocket) -> Result<Option<u32>, NetlinkError> {
    let found = socket.look(request(GETGEN, 0, &[]), |payload| {
        Some(
            attributes(payload.get(4..)?)
                .get(&1)
                .and_then(|v| be32_at(v, 0)),
        )
    })?;
    Ok(found.flatten())
}

/// A chain as it is listed.
struct ChainRow {
    name: String,
    /// Type, hook and priority of a base chain; `None` inside for one of a kind that we do not make.
    base: Option<Option<(ChainKind, Hook, i32)>>,
}

fn table(socket: &mut NetlinkSocket, name: &TableName) -> Result<Option<Table>, NetlinkError> {
    let family = family_number(name.family);
    let here = |payload: &[u8]| payload.first() == Some(&family);
    let ours = name.name.as_str();
    let by_table = request(GETRULE, family, &[(1, ours)]);

    if !exists(socket, family, ours)? {
        return Ok(None);
    }
    let chains = socket.dump(request(GETCHAIN, family, &[]), |payload| {
        let all = attributes(payload.get(4..)?);
        let of_ours = here(payload) && all.get(&1).and_then(|v| text(v)).as_deref() == Some(ours);
        Some(of_ours.then(|| chain_row(name.family, &all)).flatten())
    })?;
    let rules = socket.dump(by_table, |payload| {
        let all = attributes(payload.get(4..)?);
        let chain = all.get(&2).and_then(|v| text(v))?;
        Some((chain, all.get(&7).and_then(|v| comment(v))))
    })?;
    let mut comments: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    for (chain, comment) in rules {
        comments.entry(chain).or_default().push(comment);
    }
    let maps = maps(socket, family, ours)?;

    let mut table = Table::default();
    let mut bases = Vec::new();
    let mut bases_intact = true;
    for row in chains.into_iter().flatten() {
        let comments = comments.remove(&row.name).unwrap_or_default();
        let digest = intact_digest(comments.iter().map(Option::as_deref));
        match (row.base, digest) {
            (None, digest) => {
                // A name that we could not have given is not one of our chains: it is left out, as nothing of ours refers to it.
                if let Ok(name) = ChainName::new(row.name) {
                    table
                        .chains
                        .insert(name, digest.map(|d| d.as_str().to_owned()));
                }
            }
            (Some(Some(place)), Some(digest)) => bases.push((row.name, place, digest)),
            (Some(_), _) => bases_intact = false,
        }
    }
    bases.sort_by(|a, b| a.0.cmp(&b.0));
    if bases_intact && !bases.is_empty() {
        let digest = skeleton_digest(
            maps.iter().map(String::as_str),
            bases
                .iter()
                .map(|(name, place, d)| (name.as_str(), *place, d)),
        );
        table.skeleton = Some(digest.as_str().to_owned());
    }
    for map in maps {
        table.elements.extend(elements(socket, family, ours, &map)?);
    }
    Ok(Some(table))
}

/// Whether there is a table of that name.
fn exists(socket: &mut NetlinkSocket, family: u8, table: &str) -> Result<bool, NetlinkError> {
    const GETTABLE: u16 = SUBSYSTEM | 1;
    match socket.look(request(GETTABLE, family, &[(1, table)]), |_| Some(())) {
        Ok(found) => Ok(found.is_some()),
        Err(error) if error.is(Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn chain_row(family: Family, all: &BTreeMap<u16, &[u8]>) -> Option<ChainRow> {
    let name = all.get(&3).and_then(|v| text(v))?;
    let base = all.get(&4).map(|hook| {
        let hook = attributes(hook);
        let number = hook.get(&1).and_then(|v| be32_at(v, 0))?;
        let priority = hook.get(&2).and_then(|v| be32_at(v, 0))?.cast_signed();
        let kind = match all.get(&7).and_then(|v| text(v))?.as_str() {
            "filter" => ChainKind::Filter,
            "nat" => ChainKind::Nat,
            _ => return None,
        };
        Some((kind, hook_of(family, number)?, priority))
    });
    Some(ChainRow { name, base })
}

/// Netfilter's hook numbers, the same for every family that we use.
fn hook_of(_family: Family, number: u32) -> Option<Hook> {
    match number {
        0 => Some(Hook::Prerouting),
        2 => Some(Hook::Forward),
        4 => Some(Hook::Postrouting),
        _ => None,
    }
}

/// The comment in a rule's user data: records of type, length and value; a comment is of type 0.
fn comment(data: &[u8]) -> Option<String> {
    let mut rest = data;
    while let [kind, length, tail @ ..] = rest {
        let length = usize::from(*length);
        if *kind == 0 {
            return text(tail.get(..length)?);
        }
        rest = tail.get(length..)?;
    }
    None
}

/// The named maps of a table, in alphabetical order.
fn maps(socket: &mut NetlinkSocket, family: u8, table: &str) -> Result<Vec<String>, NetlinkError> {
    let sets = socket.dump(request(GETSET, family, &[(1, table)]), |payload| {
        let all = attributes(payload.get(4..)?);
        let flags = all.get(&3).and_then(|v| be32_at(v, 0)).unwrap_or(0);
        let named_map = flags & SET_MAP != 0 && flags & SET_ANONYMOUS == 0;
        Some(all.get(&2).and_then(|v| text(v)).filter(|_| named_map))
    });
    let mut maps: Vec<String> = match sets {
        Err(error) if error.is(Errno::NOENT) => Vec::new(),
        other => other?.into_iter().flatten().collect(),
    };
    maps.sort();
    Ok(maps)
}

/// The elements of a verdict map.
fn elements(
    socket: &mut NetlinkSocket,
    family: u8,
    table: &str,
    map: &str,
) -> Result<Vec<MapElement>, NetlinkError> {
    let asked = request(GETSETELEM, family, &[(1, table), (2, map)]);
    // A name that we could not have given is not one of our maps.
    let Ok(name) = MapName::new(map) else {
        return Ok(Vec::new());
    };
    let parts = socket.dump(asked, |payload| {
        let all = attributes(payload.get(4..)?);
        let list = all.get(&3).copied().unwrap_or(&[]);
        let found: Vec<_> = attribute_list(list)
            .filter_map(|(_, element)| map_element(&name, element))
            .collect();
        Some(found)
    })?;
    Ok(parts.into_iter().flatten().collect())
}

/// One element; `None` for one that we could not have made, which nothing of ours collides with.
fn map_element(map: &MapName, element: &[u8]) -> Option<MapElement> {
    let element = attributes(element);
    let key = attributes(element.get(&1)?);
    let key = IfName::new(text(key.get(&1)?)?).ok()?;
    let data = attributes(element.get(&2)?);
    let verdict = attributes(data.get(&2)?);
    let chain = || ChainName::new(text(verdict.get(&2)?)?).ok();
    let verdict = match be32_at(verdict.get(&1)?, 0)?.cast_signed() {
        NF_DROP => Verdict::Drop,
        NF_ACCEPT => Verdict::Accept,
        NFT_JUMP => Verdict::Jump(chain()?),
        NFT_GOTO => Verdict::Goto(chain()?),
        _ => return None,
    };
    Some(MapElement {
        map: map.clone(),
        key,
        verdict,
    })
}

/// A request of the nftables subsystem with attributes that are names.
fn request(kind: u16, family: u8, names: &[(u16, &str)]) -> Request {
    let mut payload = vec![family, 0, 0, 0];
    for (attribute, name) in names {
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        push_attribute(&mut payload, *attribute, &value);
    }
    Request { kind, payload }
}

/// `NFPROTO_*`. Source: linux/netfilter.h.
const fn family_number(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Bridge => 7,
        Family::Ip6 => 10,
    }
}

#[cfg(test)]
mod tests;
