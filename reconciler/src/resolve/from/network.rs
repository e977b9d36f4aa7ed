//! Networks.

use ipnet::IpNet;
use vireo_schema::Rule;
use vireo_schema::network as stated;
use vireo_schema::network::{ForwardMode, LeaseUnit};

use super::Resolving;
use super::support;
use crate::plan::step::Refusal;
use crate::resolve::derived_link;
use crate::resolve::network::{
    Bridge, DhcpHost, DhcpRange, Dnsmasq, Forward, Forwarder, Network, Route, Srv,
};

/// libvirt's range of source ports. Source: libvirt's network format, `<nat>`.
const PORTS: (u16, u16) = (1024, 65535);

/// A network's definition, completed.
///
/// # Errors
/// Everything that it asks for and that cannot be done.
pub(crate) fn network(
    mut at: Resolving<'_>,
    network: &stated::Network,
) -> Result<Network, Vec<Refusal>> {
    at.refuse_uncovered(support::network(), "a network of vireo's");
    let found = complete(&mut at, network);
    at.finish(found)
}

fn complete(at: &mut Resolving<'_>, network: &stated::Network) -> Option<Network> {
    let forward = forward(at, network.forward.as_ref())?;
    let bridge = bridge(at, network, &forward)?;
    let mut addresses = Vec::new();
    let mut routes = Vec::new();
    for (number, ip) in network.ips.iter().enumerate() {
        let path = format!("ip[{}]", number + 1);
        match ip
            .address
            .zip(ip.prefix_len())
            .and_then(|(address, prefix)| IpNet::new(address, prefix).ok())
        {
            Some(address) => addresses.push(address),
            None => at.refuse(
                Rule::Missing,
                &path,
                "an <ip> has no address",
                "state address and netmask or prefix",
            ),
        }
    }
    for (number, route) in network.routes.iter().enumerate() {
        let to = route
            .address
            .zip(route.prefix_len())
            .and_then(|(address, prefix)| IpNet::new(address, prefix).ok());
        let metric = route
            .metric
            .as_ref()
            .map(|metric| u32::try_from(metric.get()));
        match (to, route.gateway, metric.transpose()) {
            (Some(to), Some(via), Ok(metric)) => routes.push(Route {
                to: to.trunc(),
                via,
                metric,
            }),
            _ => at.refuse(
                Rule::Missing,
                &format!("route[{}]", number + 1),
                "a <route> lacks its address, gateway or a metric that fits",
                "state address, prefix and gateway",
            ),
        }
    }
    if forward == Forward::Bridge && !(addresses.is_empty() && routes.is_empty()) {
        at.refuse(
            Rule::Contradiction,
            "ip",
            "a network on an existing bridge has no addresses of its own",
            "take out <ip> and <route>",
        );
    }
    let dnsmasq = dnsmasq(network, &addresses, &forward);
    Some(Network {
        uuid: at.id.uuid,
        name: at.id.name.clone(),
        forward,
        bridge,
        addresses,
        routes,
        dnsmasq,
    })
}

fn forward(at: &mut Resolving<'_>, forward: Option<&stated::Forward>) -> Option<Forward> {
    let Some(forward) = forward else {
        return Some(Forward::Isolated);
    };
    let dev = forward.dev.clone().or_else(|| {
        forward
            .interfaces
            .first()
            .and_then(|first| first.dev.clone())
    });
    match forward.mode.unwrap_or(ForwardMode::Nat) {
        ForwardMode::Nat => {
            let nat = forward.nat.as_ref();
            let ports = nat
                .and_then(|nat| nat.ports.first())
                .and_then(|range| range.start.zip(range.end));
            let addresses = nat
                .and_then(|nat| nat.addresses.first())
                .and_then(|range| range.start.zip(range.end));
            let ipv6 = nat.and_then(|nat| nat.ipv6).is_some_and(|yes| yes.is_yes());
            Some(Forward::Nat {
                dev,
                addresses,
                ports: ports.unwrap_or(PORTS),
                ipv6,
            })
        }
        ForwardMode::Route => Some(Forward::Route { dev }),
        ForwardMode::Open if dev.is_some() => {
            at.refuse(
                Rule::Contradiction,
                "forward/@dev",
                "an open network cannot be tied to a link: it has no rules",
                "take out dev, or use mode='route'",
            );
            None
        }
        ForwardMode::Open => Some(Forward::Open),
        ForwardMode::Bridge if forward.dev.is_some() || !forward.interfaces.is_empty() => {
            at.refuse(
                Rule::Unsupported,
                "forward",
                "a macvtap network (mode='bridge' with a link) is not something vireo can do",
                "make a bridge on the host, and name it in <bridge>",
            );
            None
        }
        ForwardMode::Bridge => Some(Forward::Bridge),
        other => {
            let message = format!(
                "forward mode '{}' is not something vireo can do",
                other.as_str()
            );
            at.refuse(
                Rule::Unsupported,
                "forward/@mode",
                message,
                "known are nat, route, open and bridge; without <forward> the network is isolated",
            );
            None
        }
    }
}

fn bridge(at: &mut Resolving<'_>, network: &stated::Network, forward: &Forward) -> Option<Bridge> {
    let bridge = network.bridge.as_ref();
    let name = bridge.and_then(|bridge| bridge.name.clone());
    let name = match (name, forward) {
        (Some(name), _) => name,
        (None, Forward::Bridge) => {
            at.refuse(
                Rule::Missing,
                "forward",
                "a network on an existing bridge does not say which",
                "add <bridge name='…'/>",
            );
            return None;
        }
        (None, _) => derived_link("virbr", at.id.uuid, None),
    };
    if !is_link_name(&name) {
        at.refuse(
            Rule::BadName,
            "bridge/@name",
            format!("`{name}` cannot be the name of a link"),
            "1 to 15 bytes without '/' and white space",
        );
        return None;
    }
    let stated_mac = network.mac.as_ref().and_then(|mac| mac.address);
    Some(Bridge {
        name,
        mac: stated_mac
            .unwrap_or_else(|| vireo_schema::derived_mac(at.id.uuid, 0))
            .0,
        stp: bridge
            .and_then(|bridge| bridge.stp)
            .is_none_or(|stp| stp.is_on()),
        delay: bridge.and_then(|bridge| bridge.delay).unwrap_or(0),
        mtu: network.mtu.as_ref().and_then(|mtu| mtu.size),
    })
}

/// Whether the kernel takes this as a link's name. Source: `dev_valid_name` in net/core/dev.c.
pub(super) fn is_link_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

fn dnsmasq(network: &stated::Network, addresses: &[IpNet], forward: &Forward) -> Option<Dnsmasq> {
    if addresses.is_empty() || *forward == Forward::Bridge {
        return None;
    }
    let dns = network.dns.as_ref();
    let domain = network.domain.as_ref();
    let dhcps = || network.ips.iter().filter_map(|ip| ip.dhcp.as_ref());
    let ranges = dhcps().flat_map(|dhcp| &dhcp.ranges).filter_map(|range| {
        let (start, end) = range.start.zip(range.end)?;
        Some(DhcpRange {
            start,
            end,
            lease_seconds: range.lease.as_ref().and_then(lease),
        })
    });
    let hosts = dhcps().flat_map(|dhcp| &dhcp.hosts).filter_map(|host| {
        Some(DhcpHost {
            mac: host.mac.map(|mac| mac.0),
            id: host.id.clone(),
            name: host.name.clone(),
            ip: host.ip?,
            lease_seconds: host.lease.as_ref().and_then(lease),
        })
    });
    let bootp = dhcps()
        .flat_map(|dhcp| &dhcp.bootps)
        .find_map(|bootp| Some((bootp.file.clone()?, bootp.server.clone())));
    Some(Dnsmasq {
        ranges: ranges.collect(),
        hosts: hosts.collect(),
        domain: domain.and_then(|domain| domain.name.clone()),
        domain_local_only: domain
            .and_then(|domain| domain.local_only)
            .is_some_and(|yes| yes.is_yes()),
        dns: dns
            .and_then(|dns| dns.enable)
            .is_none_or(|yes| yes.is_yes()),
        bootp,
        tftp_root: network
            .ips
            .iter()
            .find_map(|ip| ip.tftp.as_ref()?.root.clone()),
        options: network
            .dnsmasq_options
            .iter()
            .flat_map(|options| &options.options)
            .filter_map(|option| option.value.clone())
            .collect(),
        ..names(dns)
    })
}

/// What dnsmasq answers to names.
fn names(dns: Option<&stated::Dns>) -> Dnsmasq {
    let Some(dns) = dns else {
        return Dnsmasq::default();
    };
    let host = |host: &stated::DnsHost| Some((host.ip?, host.hostnames.clone()));
    let srv = |srv: &stated::Srv| {
        Some(Srv {
            service: srv.service.clone()?,
            protocol: srv.protocol.clone()?,
            domain: srv.domain.clone(),
            target: srv.target.clone(),
            port: srv.port,
            priority: srv.priority,
            weight: srv.weight,
        })
    };
    let txt = |txt: &stated::Txt| {
        let value = txt.value.as_ref().map(|value| value.0.clone());
        Some((txt.name.clone()?, value.unwrap_or_default()))
    };
    Dnsmasq {
        dns_hosts: dns.hosts.iter().filter_map(host).collect(),
        forwarders: dns
            .forwarders
            .iter()
            .map(|one| Forwarder {
                domain: one.domain.clone(),
                address: one.addr,
                port: one.port,
            })
            .collect(),
        txt: dns.txts.iter().filter_map(txt).collect(),
        srv: dns.srvs.iter().filter_map(srv).collect(),
        ..Dnsmasq::default()
    }
}

/// A lease time in seconds; the unit is minutes where it is not stated. Source: libvirt's network format, `<lease>`.
fn lease(lease: &stated::DhcpLease) -> Option<u64> {
    let factor = match lease.unit.unwrap_or(LeaseUnit::Minutes) {
        LeaseUnit::Seconds => 1,
        LeaseUnit::Minutes => 60,
        LeaseUnit::Hours => 3600,
    };
    lease.expiry.map(|expiry| u64::from(expiry) * factor)
}
