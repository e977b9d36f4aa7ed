//! Network interfaces in the words of `vireo-vmm`.

use std::path::Path;

use serde::Serialize;

use super::config::unsupported;
use super::pci::Slot;
use crate::domain::DriverError;
use crate::resolve::domain::{Domain, Interface};

/// How many pairs of queues an interface can have.
const PAIRS: std::ops::RangeInclusive<u32> = 1..=31;

/// How many buffers a queue of an interface can hold.
const NET_QUEUE_SIZE: std::ops::RangeInclusive<u32> = 256..=1024;

/// The largest packets that the monitor can tell a guest of, in bytes.
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;

/// What has the kernel move packets.
const VHOST: &str = "/dev/vhost-net";

/// An interface.
#[derive(Debug, Serialize)]
pub struct InterfaceConfig {
    id: String,
    tap: String,
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queues: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without: Vec<&'static str>,
    #[serde(rename = "rx-queue-size", skip_serializing_if = "Option::is_none")]
    rx_queue_size: Option<u32>,
    #[serde(rename = "tx-queue-size", skip_serializing_if = "Option::is_none")]
    tx_queue_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vhost: Option<bool>,
    slot: Slot,
}

/// What the monitor calls the interface at this place of the definition.
pub fn interface_name(index: usize) -> String {
    format!("net{index}")
}

fn mac([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// An interface of a definition.
///
/// # Errors
/// What the monitor does not do.
pub fn interface(interface: &Interface, slot: Slot) -> Result<InterfaceConfig, DriverError> {
    let name = interface_name(interface.index);
    if let Some(queues) = interface.queues.filter(|queues| !PAIRS.contains(queues)) {
        let (least, most) = (PAIRS.start(), PAIRS.end());
        let what =
            format!("{queues} pairs of queues of interface {name}: {least} to {most} are possible");
        return Err(unsupported(what));
    }
    if let Some(mtu) = interface.mtu.filter(|mtu| !MTU.contains(mtu)) {
        let (least, most) = (MTU.start(), MTU.end());
        let what = format!("an MTU of {mtu} on interface {name}: {least} to {most} are possible");
        return Err(unsupported(what));
    }
    Ok(InterfaceConfig {
        id: name,
        tap: interface.tap.clone(),
        mac: mac(interface.mac),
        link: (!interface.link_up).then_some("down"),
        mtu: interface.mtu,
        queues: interface.queues,
        without: without(interface)?,
        rx_queue_size: queue_size(interface, "to", interface.rx_queue_size)?,
        tx_queue_size: queue_size(interface, "from", interface.tx_queue_size)?,
        vhost: interface.vhost,
        slot,
    })
}

/// Looks for what moves the packets of interfaces that state it.
///
/// # Errors
/// The host does not have it.
pub fn find_vhost(domain: &Domain) -> Result<(), DriverError> {
    let stated = domain.interfaces.iter().any(|one| one.vhost == Some(true));
    match stated && !Path::new(VHOST).exists() {
        true => Err(DriverError::NotInstalled {
            program: VHOST.to_owned(),
            help: "load the module vhost_net, or leave <driver name='vhost'/> out".to_owned(),
        }),
        false => Ok(()),
    }
}

/// What of the work on frames is not left to the other side. All of it is where nothing is said, but fragments of UDP, which the monitor never leaves to anybody.
fn without(interface: &Interface) -> Result<Vec<&'static str>, DriverError> {
    const SWITCHES: [(&str, &[&str]); 11] = [
        ("guest-csum", &["guest-csum"]),
        ("guest-ecn", &["guest-ecn"]),
        ("guest-tso4", &["guest-tso4"]),
        ("guest-tso6", &["guest-tso6"]),
        ("host-csum", &["host-csum"]),
        ("host-ecn", &["host-ecn"]),
        ("host-gso", &["host-tso4", "host-tso6"]),
        ("host-mrg-rxbuf", &["mrg-rxbuf"]),
        ("host-tso4", &["host-tso4"]),
        ("host-tso6", &["host-tso6"]),
        ("ufo", &[]),
    ];
    let mut without = Vec::new();
    for (name, on) in &interface.offloads {
        let name = if name.ends_with("-ufo") { "ufo" } else { name };
        let known = SWITCHES.iter().find(|(known, _)| *known == name);
        match (known, on) {
            (Some(("ufo", _)), false) => {}
            (Some((name, _)), true) if *name != "ufo" => {}
            (Some((_, missing)), false) => without.extend(*missing),
            _ => {
                let interface = interface_name(interface.index);
                return Err(unsupported(format!("{name} of interface {interface}")));
            }
        }
    }
    Ok(without)
}

/// The size of the queue to or from the guest.
fn queue_size(
    interface: &Interface,
    direction: &str,
    size: Option<u32>,
) -> Result<Option<u32>, DriverError> {
    let fits = |size: u32| size.is_power_of_two() && NET_QUEUE_SIZE.contains(&size);
    match size.filter(|size| !fits(*size)) {
        None => Ok(size),
        Some(size) => Err(unsupported(format!(
            "a queue of {size} buffers {direction} the guest on interface {}: powers of two from {} to {} are possible",
            interface_name(interface.index),
            NET_QUEUE_SIZE.start(),
            NET_QUEUE_SIZE.end()
        ))),
    }
}
