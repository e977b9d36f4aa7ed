//! Addresses and static routes of links, and forwarding between them.
//!
//! In: a link of ours, and what it should have. Out: that it has. What can go wrong: the link is not there, the kernel refuses. Everything here blocks: call it on a
//! blocking thread.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::{AddressMessageBuilder, RouteMessageBuilder};
use rustix::io::Errno;

use super::links::{change, failed, owned, present};
use super::netlink::NetlinkSocket;
use super::sysctl;
use crate::execute::effect::EffectError;
use crate::resolve::network::Route;

/// Adds an address, usable at once: nobody else is asked whether it has it already.
///
/// # Errors
/// There is no such link, or it is not ours; the kernel refuses.
pub fn add_address(
    socket: &mut NetlinkSocket,
    link: &str,
    address: IpNet,
) -> Result<(), EffectError> {
    let doing = format!("add address {address} to {link}");
    let found = present(socket, link, &doing)?;
    let message = match address {
        IpNet::V4(net) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(found.index)
            .address(net.addr(), net.prefix_len())
            .build(),
        IpNet::V6(net) => {
            sysctl::set(sysctl::ipv6(link, "disable_ipv6"), "0")?;
            let mut message = AddressMessageBuilder::<std::net::Ipv6Addr>::new()
                .index(found.index)
                .address(net.addr(), net.prefix_len())
                .build();
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
            message
        }
    };
    change(
        socket,
        &doing,
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Removes an address. Absent is fine.
///
/// # Errors
/// The link is not ours; the kernel refuses.
pub fn remove_address(
    socket: &mut NetlinkSocket,
    link: &str,
    address: IpNet,
) -> Result<(), EffectError> {
    let doing = format!("remove address {address} from {link}");
    let Some(found) = owned(socket, link, &doing)? else {
        return Ok(());
    };
    let message = match address {
        IpNet::V4(net) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(found.index)
            .address(net.addr(), net.prefix_len())
            .build(),
        IpNet::V6(net) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
            .index(found.index)
            .address(net.addr(), net.prefix_len())
            .build(),
    };
    match socket.change(RouteNetlinkMessage::DelAddress(message), 0) {
        Err(error) if error.is(Errno::ADDRNOTAVAIL) => Ok(()),
        other => other.map_err(|error| failed(&doing, &error)),
    }
}

/// Turns forwarding on, for IPv4 or IPv6.
///
/// # Errors
/// The setting cannot be written; IPv6 forwarding would make the host drop routes that it learned from a router.
pub fn enable_forwarding(socket: &mut NetlinkSocket, ipv6: bool) -> Result<(), EffectError> {
    if !ipv6 {
        return sysctl::enable_forwarding(false, &[]);
    }
    let doing = "turn IPv6 forwarding on";
    let routes = socket.routes().map_err(|error| failed(doing, &error))?;
    let links = socket.links().map_err(|error| failed(doing, &error))?;
    let advertised: Vec<String> = links
        .into_iter()
        .filter(|link| {
            routes
                .iter()
                .any(|route| route.is_advertised() && route.link == link.index)
        })
        .map(|link| link.name)
        .collect();
    sysctl::enable_forwarding(true, &advertised)
}

/// Adds a static route.
///
/// # Errors
/// There is no such link, or it is not ours; address and next hop are of different families; the kernel refuses.
pub fn add_route(socket: &mut NetlinkSocket, link: &str, route: &Route) -> Result<(), EffectError> {
    let doing = format!("add route to {} via {} on {link}", route.to, route.via);
    let found = present(socket, link, &doing)?;
    let message = route_message(found.index, route, &doing)?;
    change(
        socket,
        &doing,
        RouteNetlinkMessage::NewRoute(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// Removes a static route. Absent is fine.
///
/// # Errors
/// The link is not ours; the kernel refuses.
pub fn remove_route(
    socket: &mut NetlinkSocket,
    link: &str,
    route: &Route,
) -> Result<(), EffectError> {
    let doing = format!("remove route to {} via {} on {link}", route.to, route.via);
    let Some(found) = owned(socket, link, &doing)? else {
        return Ok(());
    };
    let message = route_message(found.index, route, &doing)?;
    match socket.change(RouteNetlinkMessage::DelRoute(message), 0) {
        Err(error) if error.is(Errno::SRCH) => Ok(()),
        other => other.map_err(|error| failed(&doing, &error)),
    }
}

fn route_message(
    link: u32,
    route: &Route,
    doing: &str,
) -> Result<netlink_packet_route::route::RouteMessage, EffectError> {
    let mut message = match (route.to, route.via) {
        (IpNet::V4(to), IpAddr::V4(via)) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .gateway(via)
            .output_interface(link)
            .build(),
        (IpNet::V6(to), IpAddr::V6(via)) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(to.network(), to.prefix_len())
            .gateway(via)
            .output_interface(link)
            .build(),
        _ => {
            return Err(EffectError::refused(format!(
                "cannot {doing}: the destination and the next hop are of different families"
            )));
        }
    };
    if let Some(metric) = route.metric {
        message
            .attributes
            .push(netlink_packet_route::route::RouteAttribute::Priority(
                metric,
            ));
    }
    Ok(message)
}
