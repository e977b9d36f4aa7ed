//! One line for people about each object.

use ipnet::IpNet;

use crate::compile::filter::ir::{Entry, Filter};
use crate::resolve::domain::Domain;
use crate::resolve::network::{DhcpRange, Forward, Network};
use crate::resolve::storage::{Pool, Volume};

/// `nat 192.168.122.0/24 on virbr0, dhcp .2 to .254`.
pub(super) fn network(network: &Network) -> String {
    let mode = match &network.forward {
        Forward::Isolated => "isolated",
        Forward::Nat { .. } => "nat",
        Forward::Route { .. } => "route",
        Forward::Open => "open",
        Forward::Bridge => return format!("the host's bridge {}", network.bridge.name),
    };
    let subnets: Vec<String> = network
        .addresses
        .iter()
        .map(|address| address.trunc().to_string())
        .collect();
    let mut text = match subnets.is_empty() {
        true => format!("{mode} on {}", network.bridge.name),
        false => format!(
            "{mode} {} on {}",
            subnets.join(" and "),
            network.bridge.name
        ),
    };
    for range in network.dnsmasq.iter().flat_map(|dnsmasq| &dnsmasq.ranges) {
        text.push_str(&format!(", dhcp {}", dhcp(range, &network.addresses)));
    }
    text
}

/// A range, without the part that it shares with its subnet where that is whole bytes.
fn dhcp(range: &DhcpRange, addresses: &[IpNet]) -> String {
    let short = addresses
        .iter()
        .any(|net| net.contains(&range.start) && net.prefix_len() == 24 && range.start.is_ipv4());
    let tail = |address: &std::net::IpAddr| match (short, address) {
        (true, std::net::IpAddr::V4(v4)) => format!(".{}", v4.octets()[3]),
        _ => address.to_string(),
    };
    format!("{} to {}", tail(&range.start), tail(&range.end))
}

/// `dir /var/lib/vireo/images`.
pub(super) fn pool(pool: &Pool) -> String {
    format!("dir {}", pool.path.display())
}

/// `10 GiB`, or `the size of its backing file`.
pub(super) fn capacity(volume: &Volume) -> String {
    volume
        .capacity
        .map_or_else(|| "size of its backing".to_owned(), |size| size.to_string())
}

/// `10 GiB qcow2 over debian.qcow2`.
pub(super) fn volume(volume: &Volume) -> String {
    let mut text = match volume.capacity {
        Some(capacity) => format!("{capacity} {}", volume.format),
        None => volume.format.to_string(),
    };
    if let Some(backing) = &volume.backing {
        let name = backing.path.file_name().unwrap_or(backing.path.as_os_str());
        text.push_str(&format!(" over {}", name.to_string_lossy()));
    }
    text
}

/// `2 vcpus, 512 MiB, driver builtin`.
pub(super) fn domain(domain: &Domain) -> String {
    let vcpus = match domain.vcpus.current {
        1 => "1 vcpu".to_owned(),
        n => format!("{n} vcpus"),
    };
    let how = if domain.emulated { ", emulated" } else { "" };
    format!(
        "{vcpus}, {}, driver {}{how}",
        domain.memory.current, domain.driver
    )
}

/// `3 rules in chain ipv4, over no-mac-spoofing`.
pub(super) fn filter(filter: &Filter) -> String {
    let rules = filter
        .entries
        .iter()
        .filter(|entry| matches!(entry, Entry::Rule(_)))
        .count();
    let references: Vec<&str> = filter
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Reference(reference) => Some(reference.filter.as_str()),
            Entry::Rule(_) => None,
        })
        .collect();
    let mut text = match rules {
        0 => String::new(),
        1 => format!("1 rule in chain {}", filter.chain),
        n => format!("{n} rules in chain {}", filter.chain),
    };
    if !references.is_empty() {
        let comma = if text.is_empty() { "" } else { ", " };
        text.push_str(&format!(
            "{comma}over {}",
            super::context::list(&references)
        ));
    }
    text
}
