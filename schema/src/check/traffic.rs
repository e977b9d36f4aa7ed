//! Rules that interfaces and networks share: VLANs, rates, ports of switches, routes.

use super::one::Report;
use crate::common::{Bandwidth, VirtualPort, VirtualPortType, Vlan};
use crate::network::{Family, Route};
use crate::rule::Rule;
use crate::scalar::YesNo;
use ipnet::IpNet;
use std::fmt::Arguments;
use std::net::IpAddr;

/// Tags of VLANs: at least one, several only on a trunk, one that goes untagged.
pub(crate) fn vlan(vlan: &Vlan, path: Arguments<'_>, r: &mut Report<'_>) {
    if vlan.tags.is_empty() {
        r.add(
            Rule::VlanTags,
            path,
            "<vlan> has no tag",
            Some("add <tag id='42'/>"),
        );
    }
    if vlan.tags.len() > 1 && vlan.trunk == Some(YesNo::No) {
        r.report(
            Rule::VlanTags,
            format_args!("{path}/@trunk"),
            "several tags need trunk='yes'",
        );
    }
    let mut native = vlan
        .tags
        .iter()
        .enumerate()
        .filter(|(_, tag)| tag.native_mode.is_some());
    if let Some((i, _)) = native.nth(1) {
        r.report(
            Rule::VlanTags,
            format_args!("{path}/tag[{}]/@nativeMode", i + 1),
            "another tag is the native one already",
        );
    }
    if vlan.tags.iter().any(|tag| tag.native_mode.is_some()) && vlan.trunk == Some(YesNo::No) {
        r.report(
            Rule::VlanTags,
            format_args!("{path}/@trunk"),
            "a native VLAN needs trunk='yes'",
        );
    }
}

/// Rates: an average with its bursts; a floor only where a network shares what it has.
pub(crate) fn bandwidth(
    bandwidth: &Bandwidth,
    path: Arguments<'_>,
    floor: bool,
    r: &mut Report<'_>,
) {
    for (name, rate) in [
        ("inbound", &bandwidth.inbound),
        ("outbound", &bandwidth.outbound),
    ] {
        let Some(rate) = rate else { continue };
        let at = format_args!("{path}/{name}");
        if rate.average.is_none() && rate.floor.is_none() {
            r.add(
                Rule::BandwidthAverage,
                at,
                format!("<{name}> has no `average`"),
                Some("state the rate in KiB/s, such as average='1024'; peak and burst come on top of it"),
            );
        } else if rate.average.is_none() && (rate.peak.is_some() || rate.burst.is_some()) {
            r.report(
                Rule::BandwidthAverage,
                at,
                "`peak` and `burst` need `average`",
            );
        }
        if rate.floor.is_some() && (!floor || name == "outbound") {
            let message = if name == "outbound" {
                "a floor is for <inbound> only"
            } else {
                "a floor is for interfaces of type='network', whose network shares what it has"
            };
            r.report(Rule::BandwidthFloor, format_args!("{at}/@floor"), message);
        }
    }
}

/// What the port of a switch is told: nothing that its type does not know, and, where `whole`, all that it needs.
pub(crate) fn port(port: &VirtualPort, path: Arguments<'_>, whole: bool, r: &mut Report<'_>) {
    let none = crate::common::VirtualPortParameters::default();
    let told = port.parameters.as_ref().unwrap_or(&none);
    let stated = [
        ("managerid", told.managerid.is_some()),
        ("typeid", told.typeid.is_some()),
        ("typeidversion", told.typeidversion.is_some()),
        ("instanceid", told.instanceid.is_some()),
        ("profileid", told.profileid.is_some()),
        ("interfaceid", told.interfaceid.is_some()),
    ];
    let (needed, taken): (&[&str], &[&str]) = match port.kind {
        None => {
            if whole {
                r.report(Rule::VirtualPort, path, "<virtualport> has no type");
            }
            return;
        }
        Some(VirtualPortType::Qbg) => (
            &["managerid", "typeid", "typeidversion"],
            &["managerid", "typeid", "typeidversion", "instanceid"],
        ),
        Some(VirtualPortType::Qbh) => (&["profileid"], &["profileid"]),
        Some(VirtualPortType::OpenVSwitch) => (&[], &["profileid", "interfaceid"]),
        Some(VirtualPortType::MidoNet) => (&["interfaceid"], &["interfaceid"]),
    };
    let kind = port.kind.map_or("", |kind| kind.as_str());
    if told.typeid.is_some_and(|typeid| typeid.get() > 0xff_ffff) {
        r.report(
            Rule::VirtualPort,
            format_args!("{path}/parameters/@typeid"),
            "`typeid` is at most 0xffffff",
        );
    }
    for (name, stated) in stated {
        if stated && !taken.contains(&name) {
            r.report(
                Rule::VirtualPort,
                format_args!("{path}/parameters/@{name}"),
                format!("a port of type {kind} takes no `{name}`"),
            );
        }
        if !stated && whole && needed.contains(&name) {
            r.report(
                Rule::VirtualPort,
                path,
                format!("a port of type {kind} needs `{name}` in <parameters>"),
            );
        }
    }
}

/// An address is of the family that is stated beside it.
pub(crate) fn family(
    stated: Option<Family>,
    address: IpAddr,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    let fits = match stated {
        None => true,
        Some(Family::Ipv4) => address.is_ipv4(),
        Some(Family::Ipv6) => address.is_ipv6(),
    };
    if !fits {
        r.report(
            Rule::IpFamily,
            format_args!("{path}/@family"),
            format!("{address} is of the other family"),
        );
    }
}

/// An address with the number of its leading bits.
pub(crate) fn address(
    family: Option<Family>,
    address: Option<IpAddr>,
    prefix: Option<u8>,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    let Some(address) = address else { return };
    self::family(family, address, path, r);
    let most = if address.is_ipv4() { 32 } else { 128 };
    if prefix.is_some_and(|prefix| prefix > most) {
        r.report(
            Rule::NetworkSize,
            format_args!("{path}/@prefix"),
            format!("{address} has {most} bits"),
        );
    }
}

/// A route leads to a network, whose size is said once, through a gateway of the same family, which is stated where it is IPv6.
pub(crate) fn route(route: &Route, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(address) = route.address else { return };
    family(route.family, address, path, r);
    if route.family.is_none() && address.is_ipv6() {
        r.add(
            Rule::IpFamily,
            path,
            "a route is of IPv4 where it does not say otherwise",
            Some("add family='ipv6'"),
        );
    }
    let size = route
        .prefix_len()
        .and_then(|prefix| IpNet::new(address, prefix).ok());
    let sized = route.netmask.is_some() || route.prefix.is_some_and(|prefix| prefix > 0);
    if route.netmask.is_some() && (route.prefix.is_some() || address.is_ipv6()) {
        r.report(
            Rule::RouteAddress,
            format_args!("{path}/@netmask"),
            "the size is stated as `prefix` or, of IPv4, as `netmask`: once",
        );
    } else if let Some(net) = size {
        if sized && net.network() != address {
            r.report(
                Rule::RouteAddress,
                format_args!("{path}/@address"),
                format!("a route leads to a network, such as {}", net.trunc()),
            );
        }
    } else {
        r.report(
            Rule::RouteAddress,
            path,
            "this is no size of a network with that address",
        );
    }
    if route.metric.is_some_and(|metric| metric.get() == 0) {
        r.report(
            Rule::RouteMetric,
            format_args!("{path}/@metric"),
            "a metric is at least 1",
        );
    }
    if let Some(gateway) = route.gateway
        && gateway.is_ipv4() != address.is_ipv4()
    {
        r.report(
            Rule::RouteGateway,
            format_args!("{path}/@gateway"),
            format!("{gateway} is of the other family than {address}"),
        );
    }
}
