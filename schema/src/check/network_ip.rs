//! Rules on a network's addresses: sizes, what DHCP gives, and routes.

use super::one::Report;
use super::traffic;
use crate::network::{Dhcp, DhcpHost, DhcpLease, LeaseUnit, Network, NetworkIp, Route};
use crate::rule::Rule;
use ipnet::IpNet;
use std::collections::HashMap;
use std::fmt::Arguments;
use std::net::IpAddr;

/// The most addresses that a range of DHCP may have.
const RANGE: u128 = 65_536;

/// Every rule on addresses and routes.
pub(super) fn check(network: &Network, r: &mut Report<'_>) {
    for (i, ip) in network.ips.iter().enumerate() {
        self::ip(ip, format_args!("ip[{}]", i + 1), r);
    }
    one_dhcp_a_family(network, r);
    let subnets: Vec<IpNet> = network.ips.iter().filter_map(NetworkIp::subnet).collect();
    for (i, route) in network.routes.iter().enumerate() {
        self::route(route, &subnets, format_args!("route[{}]", i + 1), r);
    }
}

fn ip(ip: &NetworkIp, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(address) = ip.address else {
        r.report(
            Rule::NetworkAddress,
            path,
            "the network's address is not stated",
        );
        return;
    };
    traffic::family(ip.family, address, path, r);
    if ip.netmask.is_some() && ip.prefix.is_some() {
        r.report(
            Rule::NetworkSize,
            format_args!("{path}/@prefix"),
            "the network's size is stated twice, as `netmask` and as `prefix`",
        );
    }
    if address.is_ipv6() && ip.netmask.is_some() {
        r.report(
            Rule::NetworkSize,
            format_args!("{path}/@netmask"),
            "the size of an IPv6 network is stated as `prefix`",
        );
        return;
    }
    if address.is_ipv6() && ip.tftp.is_some() {
        r.report(
            Rule::TftpFamily,
            format_args!("{path}/tftp"),
            "files to boot from are served over IPv4 only",
        );
    }
    let Some(subnet) = ip.subnet() else {
        let name = if ip.netmask.is_some() {
            "netmask"
        } else {
            "prefix"
        };
        r.add(
            Rule::NetworkSize,
            format_args!("{path}/@{name}"),
            "this is no size of a network with that address",
            None,
        );
        return;
    };
    if let Some(dhcp) = &ip.dhcp {
        ranges(dhcp, subnet, path, r);
        hosts(dhcp, subnet, path, r);
    }
}

fn ranges(dhcp: &Dhcp, subnet: IpNet, path: Arguments<'_>, r: &mut Report<'_>) {
    for (i, range) in dhcp.ranges.iter().enumerate() {
        let (Some(start), Some(end)) = (range.start, range.end) else {
            continue;
        };
        let at = format_args!("{path}/dhcp/range[{}]", i + 1);
        lease(range.lease.as_ref(), at, r);
        if start > end {
            r.add(
                Rule::DhcpRangeOrder,
                at,
                "the first address is above the last",
                Some("`start` is the lower one: swap them"),
            );
        } else if !subnet.contains(&start) || !subnet.contains(&end) {
            r.report(
                Rule::DhcpRangeOutsideNetwork,
                at,
                format!("the range is not within {}", subnet.trunc()),
            );
        } else if start.is_ipv4() && start == subnet.network() {
            r.report(
                Rule::DhcpRangeSize,
                format_args!("{at}/@start"),
                format!("{start} is the address of the network itself"),
            );
        } else if end.is_ipv4() && end == subnet.broadcast() {
            r.report(
                Rule::DhcpRangeSize,
                format_args!("{at}/@end"),
                format!("{end} is the network's address for all, which no guest can have"),
            );
        } else if between(start, end).is_none_or(|number| number >= RANGE) {
            r.report(
                Rule::DhcpRangeSize,
                at,
                format!("the range has more than {RANGE} addresses"),
            );
        }
    }
}

/// The addresses from one to the other, but one.
fn between(start: IpAddr, end: IpAddr) -> Option<u128> {
    match (start, end) {
        (IpAddr::V4(start), IpAddr::V4(end)) => {
            u128::from(end.to_bits()).checked_sub(start.to_bits().into())
        }
        (IpAddr::V6(start), IpAddr::V6(end)) => end.to_bits().checked_sub(start.to_bits()),
        _ => None,
    }
}

fn hosts(dhcp: &Dhcp, subnet: IpNet, path: Arguments<'_>, r: &mut Report<'_>) {
    let mut addresses = HashMap::new();
    for (i, host) in dhcp.hosts.iter().enumerate() {
        let at = format_args!("{path}/dhcp/host[{}]", i + 1);
        lease(host.lease.as_ref(), at, r);
        whose(host, subnet.addr().is_ipv6(), at, r);
        let Some(fixed) = host.ip else {
            r.report(Rule::DhcpHost, at, "the entry has no address: state `ip`");
            continue;
        };
        if !subnet.contains(&fixed) {
            r.report(
                Rule::DhcpHostOutsideNetwork,
                format_args!("{at}/@ip"),
                format!("the address is not within {}", subnet.trunc()),
            );
        }
        if let Some(first) = addresses.insert(fixed, i + 1) {
            r.report(
                Rule::DuplicateDhcpHost,
                format_args!("{at}/@ip"),
                format!("entry {first} has this address too"),
            );
        }
    }
}

/// By what DHCP knows a guest: of IPv6 there is no MAC.
fn whose(host: &DhcpHost, v6: bool, at: Arguments<'_>, r: &mut Report<'_>) {
    let known = if v6 {
        host.id.is_some()
    } else {
        host.mac.is_some()
    };
    if !known && host.name.is_none() {
        let by = if v6 { "id" } else { "mac" };
        r.report(
            Rule::DhcpHost,
            at,
            format!("it is not said whose address it is: state `{by}` or `name`"),
        );
    }
    if let Some(name) = host.name.as_deref()
        && !name.starts_with(|c: char| c.is_ascii_alphabetic())
    {
        r.report(
            Rule::DhcpHost,
            format_args!("{at}/@name"),
            format!("`{name}` is no name of a host: it begins with a letter"),
        );
    }
    if v6 && host.mac.is_some() {
        r.report(
            Rule::DhcpHost,
            format_args!("{at}/@mac"),
            "DHCP of IPv6 does not know guests by their MAC: state `id` or `name`",
        );
    } else if host.mac.is_some_and(crate::scalar::MacAddr::is_multicast) {
        r.report(
            Rule::MulticastMac,
            format_args!("{at}/@mac"),
            "the address is a group's: the first octet must be even",
        );
    }
    let odd = |c: char| !c.is_ascii_hexdigit() && c != ':';
    if host.id.as_deref().is_some_and(|id| id.contains(odd)) {
        r.report(
            Rule::DhcpHost,
            format_args!("{at}/@id"),
            "an identifier is hexadecimal digits with colons between them",
        );
    }
}

/// dnsmasq gives no address for less than two minutes.
fn lease(lease: Option<&DhcpLease>, at: Arguments<'_>, r: &mut Report<'_>) {
    let Some(lease) = lease else { return };
    let Some(expiry) = lease.expiry else {
        return r.report(
            Rule::DhcpLease,
            format_args!("{at}/lease"),
            "the lease has no length: state `expiry`",
        );
    };
    let least = match lease.unit.unwrap_or(LeaseUnit::Minutes) {
        LeaseUnit::Seconds => 120,
        LeaseUnit::Minutes => 2,
        LeaseUnit::Hours => 1,
    };
    if expiry > 0 && expiry < least {
        r.report(
            Rule::DhcpLease,
            format_args!("{at}/lease/@expiry"),
            "an address is given for at least two minutes; 0 is for ever",
        );
    }
}

fn route(route: &Route, subnets: &[IpNet], path: Arguments<'_>, r: &mut Report<'_>) {
    traffic::route(route, path, r);
    let (Some(address), Some(gateway)) = (route.address, route.gateway) else {
        return;
    };
    let reached = subnets.iter().any(|subnet| subnet.contains(&gateway));
    if gateway.is_ipv4() == address.is_ipv4() && !reached {
        r.add(
            Rule::RouteGateway,
            format_args!("{path}/@gateway"),
            format!("{gateway} is in no network that <ip> states"),
            Some("a gateway is a neighbour: take an address in one of the network's <ip>"),
        );
    }
}

fn one_dhcp_a_family(network: &Network, r: &mut Report<'_>) {
    let mut seen = [false, false];
    for (i, ip) in network.ips.iter().enumerate() {
        let (Some(address), Some(_)) = (ip.address, &ip.dhcp) else {
            continue;
        };
        let [v4, v6] = &mut seen;
        let taken = if address.is_ipv4() { v4 } else { v6 };
        if std::mem::replace(taken, true) {
            r.report(
                Rule::DhcpTwice,
                format_args!("ip[{}]/dhcp", i + 1),
                "a network gives addresses of each family from one place only",
            );
        }
    }
}
