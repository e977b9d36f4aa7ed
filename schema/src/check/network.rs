//! Rules on networks.

use super::across::makes_bridge;
use super::devices::is_link_name;
use super::one::Report;
use super::traffic;
use crate::domain::address::AddressType;
use crate::network::{Bridge, Forward, ForwardAddress, ForwardMode, Nat, Network};
use crate::rule::Rule;
use crate::scalar::{Number, Text};
use std::collections::HashSet;

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
    one_line(network.title.as_ref(), r);
    let mac = network.mac.as_ref().and_then(|mac| mac.address);
    if mac.is_some_and(crate::scalar::MacAddr::is_multicast) {
        r.report(
            Rule::MulticastMac,
            "mac/@address",
            "the address is a group's: the first octet must be even",
        );
    }
    if let Some(forward) = &network.forward {
        self::forward(network, forward, r);
    }
    super::network_ip::check(network, r);
    if let Some(dns) = &network.dns {
        super::dns::check(dns, r);
    }
    if let Some(bandwidth) = &network.bandwidth {
        traffic::bandwidth(bandwidth, format_args!("bandwidth"), false, r);
    }
    if let Some(vlan) = &network.vlan {
        traffic::vlan(vlan, format_args!("vlan"), r);
    }
    if let Some(port) = &network.virtualport {
        traffic::port(port, format_args!("virtualport"), false, r);
        if port.kind.is_none() {
            r.report(
                Rule::VirtualPort,
                "virtualport",
                "a network's <virtualport> needs `type`: 802.1Qbg, 802.1Qbh, openvswitch or midonet",
            );
        }
    }
    groups(network, r);
}

/// What a network's mode does not do; none of it is done silently otherwise.
fn forward(network: &Network, forward: &Forward, r: &mut Report<'_>) {
    let mode = forward.mode.unwrap_or(ForwardMode::Nat);
    let ours = makes_bridge(network);
    if mode == ForwardMode::Open && (forward.dev.is_some() || !forward.interfaces.is_empty()) {
        r.report(
            Rule::ForwardMode,
            "forward/@dev",
            "an open network has no rules, so none that are bound to a device",
        );
    }
    if ours && network.ips.is_empty() {
        r.add(
            Rule::NetworkAddress,
            "forward",
            format!("a network with mode='{mode}' needs an address"),
            Some("state <ip address='192.168.100.1' prefix='24'/>, or leave <forward> out for a network of guests alone"),
        );
    }
    if mode != ForwardMode::Nat && forward.nat.is_some() {
        r.report(
            Rule::ForwardMode,
            "forward/nat",
            format!("a network with mode='{mode}' does not translate addresses"),
        );
    }
    if !ours {
        foreign(network, forward, mode, r);
    }
    devices(forward, ours, r);
    if let Some(nat) = &forward.nat {
        self::nat(nat, r);
    }
}

/// What has no place in a network whose bridge or devices are not made for it.
fn foreign(network: &Network, forward: &Forward, mode: ForwardMode, r: &mut Report<'_>) {
    let none = Bridge::default();
    let bridge = network.bridge.as_ref().unwrap_or(&none);
    let attached = mode != ForwardMode::Bridge;
    let dns = network
        .dns
        .as_ref()
        .is_some_and(|dns| !dns.txts.is_empty() || !dns.hosts.is_empty() || !dns.srvs.is_empty());
    let stated = [
        ("ip[1]", !network.ips.is_empty(), "addresses of its own"),
        ("mtu", network.mtu.is_some(), "largest packet of its own"),
        (
            "bridge/@stp",
            bridge.stp.is_some(),
            "spanning tree of its own",
        ),
        (
            "bridge/@delay",
            bridge.delay.is_some_and(|delay| delay > 0),
            "delay of its own",
        ),
        ("bridge/@zone", bridge.zone.is_some(), "zone of its own"),
        ("bridge/@name", attached && bridge.name.is_some(), "bridge"),
        (
            "bridge/@macTableManager",
            attached && bridge.mac_table_manager.is_some(),
            "bridge",
        ),
        ("mac", attached && network.mac.is_some(), "bridge"),
        (
            "domain",
            attached && network.domain.is_some(),
            "name server",
        ),
        ("dns", attached && dns, "name server"),
    ];
    for (path, is, what) in stated {
        if is {
            r.report(
                Rule::ForwardMode,
                path,
                format!("a network with mode='{mode}' has no {what}"),
            );
        }
    }
    let outer = forward.dev.is_some() || !forward.interfaces.is_empty() || !forward.pfs.is_empty();
    if !attached && bridge.name.is_some() && outer {
        r.report(
            Rule::ForwardMode,
            "forward",
            "guests join a bridge, or are attached to devices: leave out <bridge name='…'/> or the devices",
        );
    }
}

/// The devices that a network reaches the outside through.
fn devices(forward: &Forward, ours: bool, r: &mut Report<'_>) {
    let mut seen = HashSet::new();
    for (i, interface) in forward.interfaces.iter().enumerate() {
        let path = format_args!("forward/interface[{}]", i + 1);
        match interface.dev.as_deref() {
            None => r.report(
                Rule::ForwardDevice,
                path,
                "the device is not named: state `dev`",
            ),
            Some(dev) if !seen.insert(dev) => r.report(
                Rule::DuplicateForwardDevice,
                path,
                format!("{dev} is stated twice"),
            ),
            Some(dev) => {
                let first = forward
                    .dev
                    .as_deref()
                    .filter(|first| i == 0 && *first != dev);
                if let Some(first) = first {
                    r.report(
                        Rule::ForwardDevice,
                        path,
                        format!("the first device is {dev} here and {first} in <forward dev='…'>"),
                    );
                }
            }
        }
    }
    if ours && forward.interfaces.len() > 1 {
        r.report(
            Rule::ForwardDevice,
            "forward/interface[2]",
            "packets are forwarded through one device, or through all where none is stated",
        );
    }
    let mut addresses = HashSet::new();
    let numbers = |address: &ForwardAddress| {
        [address.domain, address.bus, address.slot, address.function]
            .map(|number| number.map_or(0, Number::get))
    };
    for (i, address) in forward.addresses.iter().enumerate() {
        let path = format_args!("forward/address[{}]", i + 1);
        if address.kind != Some(AddressType::Pci) {
            r.report(
                Rule::ForwardDevice,
                path,
                "a device of the host's is stated with type='pci'",
            );
        } else if !addresses.insert(numbers(address)) {
            r.report(
                Rule::DuplicateForwardDevice,
                path,
                "the device is stated twice",
            );
        }
    }
    if let Some(unnamed) = forward.pfs.iter().position(|pf| pf.dev.is_none()) {
        r.report(
            Rule::ForwardDevice,
            format_args!("forward/pf[{}]", unnamed + 1),
            "the device is not named: state `dev`",
        );
    }
    if forward.pfs.len() > 1 {
        r.report(
            Rule::PhysicalFunctions,
            "forward/pf[2]",
            "a network has one physical function",
        );
    }
    let kinds = [
        forward.dev.is_some() || !forward.interfaces.is_empty(),
        !forward.addresses.is_empty(),
        !forward.pfs.is_empty(),
    ];
    if kinds.iter().filter(|stated| **stated).count() > 1 {
        r.report(
            Rule::ForwardDevice,
            "forward",
            "devices are stated in one way: by name (`dev`, <interface>), as <address>, or as <pf>",
        );
    }
}

fn nat(nat: &Nat, r: &mut Report<'_>) {
    for (what, path, number) in [
        ("range of ports", "forward/nat/port[2]", nat.ports.len()),
        (
            "range of addresses",
            "forward/nat/address[2]",
            nat.addresses.len(),
        ),
    ] {
        if number > 1 {
            r.report(
                Rule::NatRange,
                path,
                format!("addresses are translated to one {what}"),
            );
        }
    }
    for (i, ports) in nat.ports.iter().enumerate() {
        if ports.start > ports.end {
            r.report(
                Rule::PortRange,
                format_args!("forward/nat/port[{}]", i + 1),
                "the first port is above the last",
            );
        }
    }
    for (i, range) in nat.addresses.iter().enumerate() {
        let (Some(start), Some(end)) = (range.start, range.end) else {
            continue;
        };
        let path = format_args!("forward/nat/address[{}]", i + 1);
        if start.is_ipv6() || end.is_ipv6() {
            r.report(
                Rule::NatRange,
                path,
                "the addresses to translate to are IPv4's",
            );
        } else if start > end {
            r.add(
                Rule::NatRange,
                path,
                "the first address is above the last",
                Some("`start` is the lower one: swap them"),
            );
        }
    }
}

/// A title is one line, as lists show it.
pub(super) fn one_line(title: Option<&Text>, r: &mut Report<'_>) {
    if title.is_some_and(|title| title.0.contains('\n')) {
        r.add(
            Rule::Title,
            "title",
            "the title has more than one line",
            Some("put the rest into <description>"),
        );
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
                format_args!("portgroup[{}]/@name", i + 1),
                "two port groups have one name",
            );
        }
        let path = format_args!("portgroup[{}]", i + 1);
        if let Some(bandwidth) = &group.bandwidth {
            traffic::bandwidth(bandwidth, format_args!("{path}/bandwidth"), false, r);
        }
        if let Some(vlan) = &group.vlan {
            traffic::vlan(vlan, format_args!("{path}/vlan"), r);
        }
        if let Some(port) = &group.virtualport {
            traffic::port(port, format_args!("{path}/virtualport"), false, r);
        }
        if group.default.is_some_and(crate::scalar::YesNo::is_yes)
            && std::mem::replace(&mut default, true)
        {
            r.report(
                Rule::DefaultPortgroup,
                format_args!("portgroup[{}]/@default", i + 1),
                "two port groups are the default",
            );
        }
    }
}
