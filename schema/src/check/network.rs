//! Rules on networks.

use super::devices::is_link_name;
use super::one::Report;
use crate::network::{Family, Forward, ForwardAddress, ForwardMode, Network, NetworkIp};
use crate::rule::Rule;
use crate::scalar::Number;
use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

/// Every rule on networks.
pub(crate) fn check(network: &Network, r: &mut Report<'_>) {
    if let Some(name) = network
        .bridge
        .as_ref()
        .and_then(|bridge| bridge.name.as_deref())
        && !is_link_name(name.trim_end_matches("%d"))
    {
        r.add(
            Rule::LinkName,
            "bridge/@name",
            format!(
                "`{name}` is no name of a link: 1 to 15 bytes without `/`, `:` and white space"
            ),
            None,
        );
    }
    if network
        .mtu
        .as_ref()
        .and_then(|mtu| mtu.size)
        .is_some_and(|size| !(68..=65535).contains(&size))
    {
        r.add(
            Rule::MtuRange,
            "mtu/@size",
            "the largest packet is 68 to 65535 bytes",
            None,
        );
    }
    if let Some(forward) = &network.forward {
        self::forward(network, forward, r);
    }
    for (i, ip) in network.ips.iter().enumerate() {
        self::ip(ip, &format!("ip[{}]", i + 1), r);
    }
    one_dhcp_a_family(network, r);
    groups(network, r);
}

fn forward(network: &Network, forward: &Forward, r: &mut Report<'_>) {
    let mode = forward.mode.unwrap_or(ForwardMode::Nat);
    let ours = matches!(
        mode,
        ForwardMode::Nat | ForwardMode::Route | ForwardMode::Open
    );
    if mode == ForwardMode::Open && (forward.dev.is_some() || !forward.interfaces.is_empty()) {
        r.report(
            Rule::ForwardMode,
            "forward/@dev",
            "an open network has no rules, so none that are bound to a device",
        );
    }
    if !ours && !network.ips.is_empty() {
        r.report(
            Rule::ForwardMode,
            "ip[1]",
            format!("a network with mode='{mode}' has no addresses of its own"),
        );
    }
    if mode != ForwardMode::Nat && forward.nat.is_some() {
        r.report(
            Rule::ForwardMode,
            "forward/nat",
            format!("a network with mode='{mode}' does not translate addresses"),
        );
    }
    let mut devices = HashSet::new();
    for (i, interface) in forward.interfaces.iter().enumerate() {
        if interface
            .dev
            .as_deref()
            .is_some_and(|dev| !devices.insert(dev))
        {
            r.report(
                Rule::DuplicateForwardDevice,
                &format!("forward/interface[{}]", i + 1),
                "the device is stated twice",
            );
        }
    }
    let mut addresses = HashSet::new();
    let numbers = |address: &ForwardAddress| {
        [address.domain, address.bus, address.slot, address.function]
            .map(|number| number.map_or(0, Number::get))
    };
    for (i, address) in forward.addresses.iter().enumerate() {
        if !addresses.insert(numbers(address)) {
            r.report(
                Rule::DuplicateForwardDevice,
                &format!("forward/address[{}]", i + 1),
                "the device is stated twice",
            );
        }
    }
    if forward.pfs.len() > 1 {
        r.report(
            Rule::PhysicalFunctions,
            "forward/pf[2]",
            "a network has one physical function",
        );
    }
    if let Some(nat) = &forward.nat {
        for (i, ports) in nat.ports.iter().enumerate() {
            if ports.start > ports.end {
                r.report(
                    Rule::PortRange,
                    &format!("forward/nat/port[{}]", i + 1),
                    "the first port is above the last",
                );
            }
        }
        for (i, range) in nat.addresses.iter().enumerate() {
            if range.start > range.end {
                r.report(
                    Rule::NatRange,
                    &format!("forward/nat/address[{}]", i + 1),
                    "the first address is above the last",
                );
            }
        }
    }
}

fn ip(ip: &NetworkIp, path: &str, r: &mut Report<'_>) {
    let Some(address) = ip.address else {
        r.report(
            Rule::NetworkAddress,
            path,
            "the network's address is not stated",
        );
        return;
    };
    family(ip.family, address, &format!("{path}/@family"), r);
    if ip.netmask.is_some() && ip.prefix.is_some() {
        r.report(
            Rule::NetworkSize,
            &format!("{path}/@prefix"),
            "the network's size is stated twice, as `netmask` and as `prefix`",
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
            &format!("{path}/@{name}"),
            "this is no size of a network with that address",
            None,
        );
        return;
    };
    let Some(dhcp) = &ip.dhcp else { return };
    for (i, range) in dhcp.ranges.iter().enumerate() {
        let (Some(start), Some(end)) = (range.start, range.end) else {
            continue;
        };
        let at = format!("{path}/dhcp/range[{}]", i + 1);
        if start > end {
            r.report(
                Rule::DhcpRangeOrder,
                &at,
                "the first address is above the last",
            );
        } else if !subnet.contains(&start) || !subnet.contains(&end) {
            r.report(
                Rule::DhcpRangeOutsideNetwork,
                &at,
                format!("the range is not within {}", subnet.trunc()),
            );
        }
    }
    let mut addresses = BTreeSet::new();
    for (i, host) in dhcp.hosts.iter().enumerate() {
        let at = format!("{path}/dhcp/host[{}]", i + 1);
        if host.mac.is_none() && host.id.is_none() && host.name.is_none() {
            r.report(
                Rule::DhcpHost,
                &at,
                "a fixed address needs `mac`, `id` or `name`",
            );
        }
        let Some(fixed) = host.ip else { continue };
        if !subnet.contains(&fixed) {
            r.report(
                Rule::DhcpHostOutsideNetwork,
                &format!("{at}/@ip"),
                format!("the address is not within {}", subnet.trunc()),
            );
        }
        if !addresses.insert(fixed) {
            r.report(
                Rule::DuplicateDhcpHost,
                &format!("{at}/@ip"),
                "two guests have this address",
            );
        }
    }
}

fn family(stated: Option<Family>, address: IpAddr, path: &str, r: &mut Report<'_>) {
    let fits = match stated {
        None => true,
        Some(Family::Ipv4) => address.is_ipv4(),
        Some(Family::Ipv6) => address.is_ipv6(),
    };
    if !fits {
        r.report(
            Rule::IpFamily,
            path,
            format!("{address} is of the other family"),
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
                &format!("ip[{}]/dhcp", i + 1),
                "a network gives addresses of each family from one place only",
            );
        }
    }
}

fn groups(network: &Network, r: &mut Report<'_>) {
    let mut names = HashSet::new();
    let mut default = false;
    for (i, group) in network.portgroups.iter().enumerate() {
        if group
            .name
            .as_deref()
            .is_some_and(|name| !names.insert(name))
        {
            r.report(
                Rule::DuplicatePortgroup,
                &format!("portgroup[{}]/@name", i + 1),
                "two port groups have one name",
            );
        }
        if group.default.is_some_and(crate::scalar::YesNo::is_yes)
            && std::mem::replace(&mut default, true)
        {
            r.report(
                Rule::DefaultPortgroup,
                &format!("portgroup[{}]/@default", i + 1),
                "two port groups are the default",
            );
        }
    }
}
