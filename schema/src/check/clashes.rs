//! Rules between definitions on what there can be but once on a host: hardware addresses, taps, addresses of networks; and filters that lead back to themselves.

use super::across::{Problems, makes_bridge};
use crate::definition::Definition;
use crate::diagnostic::Diagnostic;
use crate::document::Located;
use crate::domain::interface::{Interface, InterfaceTarget, InterfaceType};
use crate::nwfilter::{Entry, NwFilter};
use crate::policy::WantedState;
use crate::rule::Rule;
use crate::scalar::MacAddr;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;

/// What to do about one MAC address in two places.
const OWN_MAC: &str = "leave it out of one of them, and it gets its own";

/// What to do about one tap in two places.
const OWN_TAP: &str = "leave its name out of one of them, and it gets its own";

/// What to do about networks that overlap.
const OTHER_ADDRESSES: &str = "give one of them other addresses";

/// Two interfaces with one MAC address. A pair that is bonded in the guest (`<teaming>`) has one on purpose, and one guest defined twice is told as that.
pub(super) fn macs(all: &[&Located], problems: &mut Problems) {
    let mut first: HashMap<MacAddr, (&Located, usize)> = HashMap::new();
    for located in all {
        let Definition::Domain(domain) = &located.definition else {
            continue;
        };
        for (number, interface) in domain.interfaces().iter().enumerate() {
            let Some(mac) = interface.mac.as_ref().and_then(|mac| mac.address) else {
                continue;
            };
            let Some((other, at)) = first.get(&mac) else {
                first.insert(mac, (located, number));
                continue;
            };
            let one_guest = std::ptr::eq(*other, *located);
            if one_guest && interface.teaming.is_some()
                || !one_guest && other.name() == located.name()
            {
                continue;
            }
            let place = |number: usize| format!("devices/interface[{}]/mac/@address", number + 1);
            let message = |other: &Located| match one_guest {
                true => format!("another interface of this guest has the address {mac}"),
                false => format!(
                    "an interface of domain {} has the address {mac} too",
                    other.name()
                ),
            };
            clash(
                (Rule::DuplicateMac, OWN_MAC),
                (located, &place(number), message(other)),
                (other, &place(*at)),
                problems,
            );
            if !one_guest {
                clash(
                    (Rule::DuplicateMac, OWN_MAC),
                    (other, &place(*at), message(located)),
                    (located, &place(number)),
                    problems,
                );
            }
        }
    }
}

/// Two guests whose interfaces have one device on the host. A guest that is wanted stopped has none; one guest defined twice is told as that.
pub(super) fn taps(all: &[&Located], problems: &mut Problems) {
    let mut first: HashMap<&str, (&Located, usize)> = HashMap::new();
    for located in all {
        let Definition::Domain(domain) = &located.definition else {
            continue;
        };
        if is_stopped(located) {
            continue;
        }
        for (number, interface) in domain.interfaces().iter().enumerate() {
            let target = interface.target.as_ref().filter(|_| has_link(interface));
            let Some(tap) = target.and_then(InterfaceTarget::kept_name) else {
                continue;
            };
            let (other, at) = *first.entry(tap).or_insert((located, number));
            if tap.contains('%') || other.name() == located.name() {
                continue;
            }
            let place = |number: usize| format!("devices/interface[{}]/target/@dev", number + 1);
            let message = |of: &Located| {
                format!(
                    "an interface of domain {} has the device {tap} too",
                    of.name()
                )
            };
            clash(
                (Rule::DuplicateTap, OWN_TAP),
                (located, &place(number), message(other)),
                (other, &place(at)),
                problems,
            );
            clash(
                (Rule::DuplicateTap, OWN_TAP),
                (other, &place(at), message(located)),
                (located, &place(number)),
                problems,
            );
        }
    }
}

/// Whether a link of the host's is made for it, or is there for it.
fn has_link(interface: &Interface) -> bool {
    matches!(
        interface.kind,
        Some(
            InterfaceType::Network
                | InterfaceType::Bridge
                | InterfaceType::Ethernet
                | InterfaceType::Direct
        )
    )
}

/// Whether a guest is wanted stopped, and so has nothing of the host's.
pub(super) fn is_stopped(located: &Located) -> bool {
    located.policy.state == Some(WantedState::Stopped)
}

/// Two networks that vireo or libvirt would make with addresses in common: packets for one would go to the other.
pub(super) fn subnets(all: &[&Located], problems: &mut Problems) {
    let mut subnets: Vec<(IpNet, &Located, usize)> = Vec::new();
    for located in all {
        let Definition::Network(network) = &located.definition else {
            continue;
        };
        if !makes_bridge(network) {
            continue;
        }
        for (number, ip) in network.ips.iter().enumerate() {
            let Some(address) = ip.address else { continue };
            let prefix = match (ip.prefix, ip.netmask) {
                (Some(prefix), _) => Some(prefix),
                (None, Some(mask)) => ipnet::ip_mask_to_prefix(mask).ok(),
                (None, None) => classful(address),
            };
            let net = prefix.and_then(|prefix| IpNet::new(address, prefix).ok());
            subnets.extend(net.map(|net| (net.trunc(), *located, number)));
        }
    }
    // In this order a subnet comes right after what contains it, with nothing but what that contains between them.
    subnets.sort_by_key(|(net, _, _)| (net.network(), net.prefix_len()));
    let mut around: Option<(IpNet, &Located, usize)> = None;
    for (net, located, number) in subnets {
        if let Some((outer, other, at)) = around
            && outer.contains(&net)
        {
            // One network defined twice is told as that.
            if !std::ptr::eq(other, located) && other.name() != located.name() {
                let place = |number: usize| format!("ip[{}]/@address", number + 1);
                let message = |of: &Located, theirs: IpNet| {
                    format!(
                        "network {} has {theirs}, which has addresses of this one",
                        of.name()
                    )
                };
                clash(
                    (Rule::OverlappingNetworks, OTHER_ADDRESSES),
                    (located, &place(number), message(other, outer)),
                    (other, &place(at)),
                    problems,
                );
                clash(
                    (Rule::OverlappingNetworks, OTHER_ADDRESSES),
                    (other, &place(at), message(located, net)),
                    (located, &place(number)),
                    problems,
                );
            }
            continue;
        }
        around = Some((net, located, number));
    }
}

/// The network of an IPv4 address that states no size, by its class.
fn classful(address: IpAddr) -> Option<u8> {
    let IpAddr::V4(address) = address else {
        return None;
    };
    match address.octets() {
        [0..=127, ..] => Some(8),
        [128..=191, ..] => Some(16),
        [192..=223, ..] => Some(24),
        _ => None,
    }
}

/// Filters that lead back to themselves through others; each loop is told where it is closed.
pub(super) fn loops(all: &[&Located], problems: &mut Problems) {
    let filters: HashMap<&str, (&Located, &NwFilter)> = all
        .iter()
        .filter_map(|located| match &located.definition {
            Definition::NwFilter(filter) => {
                Some((filter.name.as_ref()?.as_str(), (*located, &**filter)))
            }
            _ => None,
        })
        .collect();
    // Depth first: a filter is on the path, done, or not yet met.
    let mut done: HashMap<&str, bool> = HashMap::new();
    for located in all {
        let Definition::NwFilter(filter) = &located.definition else {
            continue;
        };
        let Some(name) = filter.name.as_ref().map(|name| name.as_str()) else {
            continue;
        };
        if done.contains_key(name) {
            continue;
        }
        done.insert(name, false);
        let mut path: Vec<(&str, usize)> = vec![(name, 0)];
        while let Some((name, next)) = path.last_mut() {
            let (name, number) = (*name, *next);
            *next += 1;
            let Some((located, filter)) = filters.get(name) else {
                path.pop();
                continue;
            };
            let Some(target) = references(filter).nth(number) else {
                done.insert(name, true);
                path.pop();
                continue;
            };
            match done.get(target) {
                Some(true) => {}
                // The plainest loop is found in the filter alone.
                Some(false) if target != name => {
                    let through: Vec<&str> = path
                        .iter()
                        .map(|(name, _)| *name)
                        .skip_while(|name| *name != target)
                        .collect();
                    let at = format!("filterref[{}]/@filter", number + 1);
                    let span = located.spans.nearest(&at);
                    let message = format!(
                        "the filters lead back to themselves: {} and again {target}",
                        through.join(", ")
                    );
                    let problem =
                        Diagnostic::new(Rule::FilterLoop, span, message).at(format!("filter/{at}"));
                    problems.push((located.source.clone(), problem));
                }
                Some(false) => {}
                None => {
                    done.insert(target, false);
                    path.push((target, 0));
                }
            }
        }
    }
}

fn references(filter: &NwFilter) -> impl Iterator<Item = &str> {
    filter.entries.iter().filter_map(|entry| match entry {
        Entry::FilterRef(reference) => Some(reference.filter.as_ref()?.as_str()),
        Entry::Rule(_) => None,
    })
}

/// Tells that something of one definition clashes with something of another.
pub(super) fn clash(
    (rule, remedy): (Rule, &str),
    (here, place, message): (&Located, &str, String),
    (other, at): (&Located, &str),
    problems: &mut Problems,
) {
    let position = other.source.position(other.spans.nearest(at).start);
    let help = format!(
        "the other is at {}:{}:{}: {remedy}",
        other.source.path.display(),
        position.line,
        position.column
    );
    let problem = Diagnostic::new(rule, here.spans.nearest(place), message).with_help(help);
    let path = format!("{}/{place}", here.kind().root());
    problems.push((here.source.clone(), problem.at(path)));
}
