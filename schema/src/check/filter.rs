//! Rules on packet filters.

use super::one::Report;
use crate::nwfilter::protocol::{
    ArpMatch, IpMatch, Ipv6Match, MacMatch, Protocol, StpMatch, U16, VlanMatch,
};
use crate::nwfilter::value::{IpProtocols, Mac, Named, Var};
use crate::nwfilter::{Entry, NwFilter};
use crate::rule::Rule;
use std::collections::HashMap;
use std::fmt::Arguments;

/// Protocols with ports: TCP, UDP, DCCP, SCTP.
const WITH_PORTS: [u16; 4] = [6, 17, 33, 132];

/// Every rule on packet filters.
pub(crate) fn check(filter: &NwFilter, r: &mut Report<'_>) {
    let references = filter.entries.iter().filter_map(|entry| match entry {
        Entry::FilterRef(reference) => Some(reference),
        Entry::Rule(_) => None,
    });
    for (i, reference) in references.enumerate() {
        if reference.filter.is_some() && reference.filter == filter.name {
            r.report(
                Rule::FilterLoop,
                format_args!("filterref[{}]/@filter", i + 1),
                "the filter refers to itself",
            );
        }
    }
    let rules = filter.entries.iter().filter_map(|entry| match entry {
        Entry::FilterRef(_) => None,
        Entry::Rule(rule) => Some(rule),
    });
    for (i, rule) in rules.enumerate() {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for protocol in &rule.protocols {
            let name = protocol.element_name();
            let number = counts.entry(name).or_default();
            *number += 1;
            let path = format_args!("rule[{}]/{name}[{number}]", i + 1);
            masks(protocol, path, r);
            match protocol {
                Protocol::Ip(ip) => ports(ip_ports(ip), ip.protocol.as_ref(), path, r),
                Protocol::Ipv6(ip) => ports(ipv6_ports(ip), ip.protocol.as_ref(), path, r),
                _ => {}
            }
        }
    }
}

type Ports<'f> = [(&'static str, &'f Option<U16>); 4];

fn ip_ports(ip: &IpMatch) -> Ports<'_> {
    [
        ("srcportstart", &ip.srcportstart),
        ("srcportend", &ip.srcportend),
        ("dstportstart", &ip.dstportstart),
        ("dstportend", &ip.dstportend),
    ]
}

fn ipv6_ports(ip: &Ipv6Match) -> Ports<'_> {
    [
        ("srcportstart", &ip.srcportstart),
        ("srcportend", &ip.srcportend),
        ("dstportstart", &ip.dstportstart),
        ("dstportend", &ip.dstportend),
    ]
}

/// Where a packet's ports are follows from its protocol.
fn ports(
    ports: Ports<'_>,
    protocol: Option<&Var<Named<IpProtocols>>>,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    let Some((name, _)) = ports.iter().find(|(_, port)| port.is_some()) else {
        return;
    };
    let has_ports = match protocol {
        None => false,
        Some(Var::Variable(_)) => true,
        Some(Var::Literal(protocol)) => WITH_PORTS.contains(&protocol.number),
    };
    if !has_ports {
        r.add(
            Rule::FilterPorts,
            format_args!("{path}/@{name}"),
            "a port is stated, and no protocol that has ports",
            Some("state protocol='tcp', 'udp', 'sctp' or '33' (DCCP) beside it"),
        );
    }
}

/// A mask of Ethernet addresses is ones and then zeros.
fn masks(protocol: &Protocol, path: Arguments<'_>, r: &mut Report<'_>) {
    for (name, mask) in ethernet_masks(protocol) {
        let Some(mask) = mask.as_ref().and_then(Var::literal) else {
            continue;
        };
        let bits = mask
            .0
            .iter()
            .fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
        let holes = bits.count_ones() + bits.trailing_zeros().min(48) != 48;
        if holes {
            r.report(
                Rule::MacMask,
                format_args!("{path}/@{name}"),
                format!("the mask {mask} has ones after zeros"),
            );
        }
    }
}

type Masks<'f> = Vec<(&'static str, &'f Option<Mac>)>;

fn ethernet_masks(protocol: &Protocol) -> Masks<'_> {
    match protocol {
        Protocol::Mac(MacMatch {
            srcmacmask: src,
            dstmacmask: dst,
            ..
        })
        | Protocol::Vlan(VlanMatch {
            srcmacmask: src,
            dstmacmask: dst,
            ..
        })
        | Protocol::Arp(ArpMatch {
            srcmacmask: src,
            dstmacmask: dst,
            ..
        })
        | Protocol::Rarp(ArpMatch {
            srcmacmask: src,
            dstmacmask: dst,
            ..
        })
        | Protocol::Ip(IpMatch {
            srcmacmask: src,
            dstmacmask: dst,
            ..
        })
        | Protocol::Ipv6(Ipv6Match {
            srcmacmask: src,
            dstmacmask: dst,
            ..
        }) => {
            vec![("srcmacmask", src), ("dstmacmask", dst)]
        }
        Protocol::Stp(StpMatch {
            srcmacmask,
            root_address_mask,
            sender_address_mask,
            ..
        }) => vec![
            ("srcmacmask", srcmacmask),
            ("root-address-mask", root_address_mask),
            ("sender-address-mask", sender_address_mask),
        ],
        _ => Vec::new(),
    }
}
