//! Network interfaces.

use std::collections::BTreeMap;

use vireo_schema::Rule;
use vireo_schema::domain::devices::Devices;
use vireo_schema::domain::interface::{
    self, InterfaceSourceMode, InterfaceType, LinkState, NetDriverName,
};
use vireo_schema::scalar::OnOff;

use super::super::network::is_link_name;
use super::super::{Resolving, Surroundings};
use super::{address, nth};
use crate::compile::filter::lower;
use crate::object::Kind;
use crate::resolve::derived_link;
use crate::resolve::domain::{Bandwidth, DirectMode, FilterRef, Interface, InterfaceSource, Rate};

/// An interface, completed.
pub(super) fn interface_at(
    at: &mut Resolving<'_>,
    devices: &Devices,
    number: usize,
    around: &Surroundings,
) -> Option<Interface> {
    let stated = devices.interfaces.get(number)?;
    let path = nth("interface", number);
    // All that an interface refers to is looked up, so that whatever is missing of it is told at once.
    let source = source(at, stated, &path, around);
    let filter = filter(at, stated, &path, around);
    let named = stated.target.as_ref();
    let named = named.and_then(|target| target.kept_name().map(str::to_owned));
    if let Some(name) = named.as_ref().filter(|name| !is_link_name(name)) {
        at.refuse(
            Rule::BadName,
            &format!("{path}/target/@dev"),
            format!("`{name}` cannot be the name of a link"),
            "1 to 15 bytes without '/' and white space",
        );
        return None;
    }
    refuse_scripts(at, stated, &path);
    let (source, filter) = (source?, filter?);
    match source {
        InterfaceSource::User => refuse_without_link(at, stated, &path),
        InterfaceSource::Direct { .. } => refuse_without_tap(at, stated, &path),
        _ => {}
    }
    let mac = stated.mac.as_ref().and_then(|mac| mac.address);
    let bandwidth = stated.bandwidth.as_ref();
    Some(Interface {
        index: number,
        mac: mac
            .unwrap_or_else(|| vireo_schema::derived_mac(at.id.uuid, number))
            .0,
        source,
        tap: named.unwrap_or_else(|| derived_link("vn", at.id.uuid, Some(number))),
        model: stated
            .model
            .as_ref()
            .and_then(|model| model.kind.clone())
            .unwrap_or_else(|| "virtio".to_owned()),
        mtu: stated.mtu.as_ref().and_then(|mtu| mtu.size),
        link_up: stated.link.as_ref().and_then(|link| link.state) != Some(LinkState::Down),
        filter,
        bandwidth: Bandwidth {
            inbound: bandwidth.and_then(|bandwidth| rate(bandwidth.inbound.as_ref())),
            outbound: bandwidth.and_then(|bandwidth| rate(bandwidth.outbound.as_ref())),
        },
        boot_order: stated.boot.as_ref().and_then(|boot| boot.order),
        queues: stated.driver.as_ref().and_then(|driver| driver.queues),
        offloads: offloads(stated),
        rx_queue_size: stated
            .driver
            .as_ref()
            .and_then(|driver| driver.rx_queue_size),
        tx_queue_size: stated
            .driver
            .as_ref()
            .and_then(|driver| driver.tx_queue_size),
        vhost: vhost(at, stated, &path),
        address: address(at, &path, stated.address.as_ref()),
    })
}

fn source(
    at: &mut Resolving<'_>,
    stated: &interface::Interface,
    path: &str,
    around: &Surroundings,
) -> Option<InterfaceSource> {
    let source = stated.source.as_ref();
    if let Some(source) = source.filter(|_| stated.kind != Some(InterfaceType::Direct)) {
        let asked = [
            ("dev", source.dev.is_some()),
            ("mode", source.mode.is_some()),
        ];
        for (name, _) in asked.into_iter().filter(|(_, stated)| *stated) {
            at.refuse(
                Rule::Contradiction,
                &format!("{path}/source/@{name}"),
                format!("<source {name}> is of interfaces of type 'direct' alone"),
                "take it out",
            );
        }
    }
    match stated.kind {
        Some(InterfaceType::Network) => {
            let name = source
                .and_then(|source| source.network.clone())
                .unwrap_or_default();
            let Some(network) = around.networks.get(&name) else {
                let (message, help) = around.lack(Kind::Network, &name, around.networks.keys());
                at.refuse(
                    Rule::UnknownReference,
                    &format!("{path}/source/@network"),
                    message,
                    help,
                );
                return None;
            };
            Some(InterfaceSource::Network {
                uuid: network.uuid,
                name,
                bridge: network.bridge.name.clone(),
            })
        }
        Some(InterfaceType::Bridge) => match source.and_then(|source| source.bridge.clone()) {
            Some(bridge) if is_link_name(&bridge) => Some(InterfaceSource::Bridge { bridge }),
            _ => {
                at.refuse(
                    Rule::Missing,
                    path,
                    "the interface does not say which bridge it is in",
                    "<source bridge='…'/>, or `bridge: …`",
                );
                None
            }
        },
        Some(InterfaceType::Ethernet) => Some(InterfaceSource::Ethernet),
        Some(InterfaceType::Direct) => direct(at, stated, path),
        Some(InterfaceType::User) => Some(InterfaceSource::User),
        other => {
            let word = other.map_or("(none)", |other| other.as_str());
            at.refuse(
                Rule::Unsupported,
                &format!("{path}/@type"),
                format!("an interface of type '{word}' is not something vireo can do"),
                "network, bridge, direct, ethernet and user are",
            );
            None
        }
    }
}

/// A device of the host's, shared.
fn direct(
    at: &mut Resolving<'_>,
    stated: &interface::Interface,
    path: &str,
) -> Option<InterfaceSource> {
    let source = stated.source.as_ref();
    let device = source.and_then(|source| source.dev.clone());
    let Some(device) = device.filter(|device| is_link_name(device)) else {
        at.refuse(
            Rule::Missing,
            path,
            "the interface does not say which device of the host it shares",
            "<source dev='…' mode='bridge'/>",
        );
        return None;
    };
    let mode = match source.and_then(|source| source.mode) {
        None | Some(InterfaceSourceMode::Vepa) => DirectMode::Vepa,
        Some(InterfaceSourceMode::Bridge) => DirectMode::Bridge,
        Some(InterfaceSourceMode::Private) => DirectMode::Private,
        Some(InterfaceSourceMode::Passthrough) => DirectMode::Passthrough,
        Some(other) => {
            at.refuse(
                Rule::Contradiction,
                &format!("{path}/source/@mode"),
                format!("a device is not shared in mode '{}'", other.as_str()),
                "bridge, vepa, private and passthrough are ways to do so",
            );
            return None;
        }
    };
    Some(InterfaceSource::Direct { device, mode })
}

fn filter(
    at: &mut Resolving<'_>,
    stated: &interface::Interface,
    path: &str,
    around: &Surroundings,
) -> Option<Option<FilterRef>> {
    let Some(reference) = &stated.filterref else {
        return Some(None);
    };
    let name = reference
        .filter
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    if !around.filters.contains_key(&name) {
        let (message, help) = around.lack(Kind::NwFilter, &name, around.filters.keys());
        at.refuse(
            Rule::UnknownReference,
            &format!("{path}/filterref/@filter"),
            message,
            help,
        );
        return None;
    }
    let parameters = lower::reference(reference).parameters;
    Some(Some(FilterRef {
        filter: name,
        parameters,
    }))
}

fn rate(rate: Option<&vireo_schema::common::Rate>) -> Option<Rate> {
    let rate = rate?;
    Some(Rate {
        average: rate.average?,
        peak: rate.peak,
        burst: rate.burst,
    })
}

/// What is stated of work that one side may leave to the other. The sides are libvirt's: `host` is what the guest may leave to the host.
fn offloads(stated: &interface::Interface) -> BTreeMap<String, bool> {
    let driver = stated.driver.as_ref();
    let sides = [
        ("host", driver.and_then(|driver| driver.host.as_ref())),
        ("guest", driver.and_then(|driver| driver.guest.as_ref())),
    ];
    let sides = sides.into_iter().filter_map(|(side, of)| Some((side, of?)));
    let switches = sides.flat_map(|(side, of)| {
        [
            ("csum", of.csum),
            ("gso", of.gso),
            ("tso4", of.tso4),
            ("tso6", of.tso6),
            ("ecn", of.ecn),
            ("ufo", of.ufo),
            ("mrg-rxbuf", of.mrg_rxbuf),
        ]
        .map(|(name, switch)| (format!("{side}-{name}"), switch))
    });
    switches
        .filter_map(|(name, switch)| Some((name, switch? == OnOff::On)))
        .collect()
}

/// Whether the kernel moves the packets: `None` is as the host can.
fn vhost(at: &mut Resolving<'_>, stated: &interface::Interface, path: &str) -> Option<bool> {
    match stated.driver.as_ref()?.name? {
        NetDriverName::Vhost => Some(true),
        NetDriverName::Qemu => Some(false),
        other => {
            at.refuse(
                Rule::Unsupported,
                &format!("{path}/driver/@name"),
                format!(
                    "an interface of driver '{}' is not something vireo can do",
                    other.as_str()
                ),
                "vhost and qemu are",
            );
            None
        }
    }
}

/// Programs for an interface are not run; one whose path is empty says that none is.
fn refuse_scripts(at: &mut Resolving<'_>, stated: &interface::Interface, path: &str) {
    let scripts = [
        ("script", &stated.script),
        ("downscript", &stated.downscript),
    ];
    for (element, script) in scripts {
        if script.as_ref().is_some_and(|script| script.path.is_some()) {
            at.refuse(
                Rule::Unsupported,
                &format!("{path}/{element}/@path"),
                format!("<{element}> of an interface is not something vireo can do"),
                "take it out; a hook script is told of guests that start and end",
            );
        }
    }
}

/// Packets of a shared device pass by what is done to those of a tap.
fn refuse_without_tap(at: &mut Resolving<'_>, stated: &interface::Interface, path: &str) {
    let asked = [
        ("filterref", stated.filterref.is_some()),
        ("bandwidth", stated.bandwidth.is_some()),
    ];
    for (element, _) in asked.into_iter().filter(|(_, stated)| *stated) {
        at.refuse(
            Rule::Unsupported,
            &format!("{path}/{element}"),
            format!("<{element}> of an interface of type 'direct' is not something vireo can do"),
            "take it out, or connect the interface to a network or a bridge",
        );
    }
}

/// What is done to a link cannot be done to an interface that has none.
fn refuse_without_link(at: &mut Resolving<'_>, stated: &interface::Interface, path: &str) {
    let asked = [
        ("filterref", stated.filterref.is_some()),
        ("bandwidth", stated.bandwidth.is_some()),
        ("mtu", stated.mtu.is_some()),
        ("link/@state", stated.link.is_some()),
        ("target/@dev", stated.target.is_some()),
        (
            "driver/@queues",
            stated
                .driver
                .as_ref()
                .is_some_and(|driver| driver.queues.is_some()),
        ),
        (
            "driver/@name",
            stated
                .driver
                .as_ref()
                .is_some_and(|driver| driver.name.is_some()),
        ),
    ];
    for (element, _) in asked.into_iter().filter(|(_, stated)| *stated) {
        at.refuse(
            Rule::Contradiction,
            &format!("{path}/{element}"),
            "a user-mode interface has no link on the host that this could be done to",
            "take it out, or connect the interface to a network or a bridge",
        );
    }
}
