//! Links with their addresses, routes and bandwidth limits.
//!
//! In: three dumps (links, addresses, routes) and what [`crate::host::tc`] reads back. Out: every link by name. The devices that queue what guests send are part of
//! their taps' limits and are left out, but for one whose tap is gone: that is a link to be removed.

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;

use super::Link;
use crate::host::netlink::{NetlinkError, NetlinkSocket};
use crate::host::rows::{AddressRow, LinkRow, RouteRow};
use crate::host::tc;
use crate::resolve::domain::Bandwidth;

/// Looks at every link. Blocks: call it on a blocking thread.
///
/// # Errors
/// The kernel cannot be asked.
pub fn observe() -> Result<BTreeMap<String, Link>, NetlinkError> {
    let mut socket = NetlinkSocket::route()?;
    let links = socket.links()?;
    let addresses = socket.addresses()?;
    let routes = socket.routes()?;
    let limits = tc::observe(&mut socket, &links)?;
    Ok(assemble(&links, addresses, routes, limits))
}

fn assemble(
    rows: &[LinkRow],
    addresses: Vec<AddressRow>,
    routes: Vec<RouteRow>,
    mut limits: HashMap<u32, Bandwidth>,
) -> BTreeMap<String, Link> {
    let names: HashMap<u32, &str> = rows.iter().map(|r| (r.index, r.name.as_str())).collect();
    let helpers: BTreeMap<String, &str> = rows
        .iter()
        .map(|row| (tc::helper_name(&row.name), row.name.as_str()))
        .collect();
    let mut links: BTreeMap<String, Link> = rows
        .iter()
        .filter(|row| !(row.kind_word == "ifb" && helpers.contains_key(&row.name)))
        .map(|row| {
            let limits = limits.remove(&row.index).unwrap_or_default();
            (row.name.clone(), link(row, &names, limits))
        })
        .collect();
    for AddressRow { link, address } in addresses {
        if !is_link_local(&address)
            && let Some(link) = names.get(&link).and_then(|name| links.get_mut(*name))
        {
            link.addresses.insert(address);
        }
    }
    for row in routes {
        if row.is_static()
            && let Some(route) = row.route
            && let Some(link) = names.get(&row.link).and_then(|name| links.get_mut(*name))
        {
            link.routes.insert(route);
        }
    }
    links
}

fn link(row: &LinkRow, names: &HashMap<u32, &str>, bandwidth: Bandwidth) -> Link {
    Link {
        kind: row.kind,
        owner: row.owner(),
        master: row
            .master
            .and_then(|master| names.get(&master))
            .map(|name| (*name).to_owned()),
        up: row.up,
        mac: row.mac,
        mtu: row.mtu,
        addresses: Default::default(),
        routes: Default::default(),
        stp: row.stp,
        delay: row.delay,
        bandwidth,
    }
}

fn is_link_local(address: &IpNet) -> bool {
    match address {
        IpNet::V4(_) => false,
        IpNet::V6(net) => net.addr().is_unicast_link_local(),
    }
}
