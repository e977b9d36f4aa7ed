//! Network interfaces as they are configured.
//!
//! Which field is wrong, and what would be accepted, is in the [`Problems`] that [`check`] leaves.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Problems;
use crate::pci::Place;

/// A virtio network device on a tap or a macvtap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Interface {
    /// Its name in requests and messages; no other device has it.
    pub id: String,
    /// The tap's name, 1 to 15 bytes, or a macvtap's. A tap that is absent is made.
    pub tap: String,
    /// The guest's address.
    pub mac: Mac,
    /// Whether its cable is in at the start; a request `link` changes it later.
    #[serde(default, skip_serializing_if = "LinkState::is_up")]
    pub link: LinkState,
    /// The largest packet that the guest is told to send, in bytes without the Ethernet header. The guest decides if
    /// left out, which comes to 1500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = Interface::LEAST_MTU))]
    pub mtu: Option<u16>,
    /// What is left to neither side although both could: everything may be, if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Offload>,
    /// Buffers that the queue to the guest holds, a power of two: 256 if left out.
    #[schemars(range(min = Interface::LEAST_QUEUE_SIZE, max = Interface::MOST_QUEUE_SIZE))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_queue_size: Option<u16>,
    /// The same of the queue from the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = Interface::LEAST_QUEUE_SIZE, max = Interface::MOST_QUEUE_SIZE))]
    pub tx_queue_size: Option<u16>,
    /// Pairs of queues, each with a thread and a queue of the tap: one if left out. With more than one the tap is one of several queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = Interface::MOST_PAIRS))]
    pub queues: Option<u16>,
    /// Whether the kernel moves the frames (vhost-net): where it can, if left out. If `true`, the guest does not start where the host has no `/dev/vhost-net`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost: Option<bool>,
    /// PCI slot of bus 0, or `BUS:SLOT.FUNCTION` as `lspci` shows it; the first free slot if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Place>,
}

impl Interface {
    /// The least packet that every IPv4 link carries whole (RFC 791); Linux takes no network device with less.
    pub const LEAST_MTU: u16 = 68;
    /// Most pairs of queues: a PCI device has 63 interrupts for its queues, of which one is for commands.
    pub const MOST_PAIRS: u16 = 31;
    /// The shortest queue. Source: libvirt's domain format, "Setting NIC driver-specific options".
    pub const LEAST_QUEUE_SIZE: u16 = 256;
    /// The longest queue.
    pub const MOST_QUEUE_SIZE: u16 = 1024;
}

/// Work on frames that one side may leave to the other (virtio 1.2, section 5.1.3). `Host…` is what the guest leaves to the host, `Guest…` the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Offload {
    /// Checksums.
    HostCsum,
    /// TCP segments over IPv4.
    HostTso4,
    /// TCP segments over IPv6.
    HostTso6,
    /// TCP segments with congestion bits.
    HostEcn,
    /// Checksums.
    GuestCsum,
    /// TCP segments over IPv4.
    GuestTso4,
    /// TCP segments over IPv6.
    GuestTso6,
    /// TCP segments with congestion bits.
    GuestEcn,
    /// Buffers of the guest that are joined for a long frame.
    MrgRxbuf,
}

/// Whether an interface's cable is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Frames pass.
    #[default]
    Up,
    /// The guest sees a link without carrier, and no frame passes either way.
    Down,
}

impl LinkState {
    /// Whether frames pass.
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }
}

/// A unicast Ethernet address, written `52:54:00:12:34:56`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// Text that is not a unicast Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// Not six pairs of hexadecimal digits.
    #[error(
        "{0:?} is not an Ethernet address: six pairs of hexadecimal digits with colons are wanted"
    )]
    Syntax(String),
    /// A multicast or zero address, which no interface can have.
    #[error("{0:?} cannot be an interface's address: it is multicast or zero")]
    NotUnicast(String),
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let syntax = || MacError::Syntax(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(syntax)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(syntax());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| syntax())?;
        }
        if parts.next().is_some() {
            return Err(syntax());
        }
        if octets[0] & 1 == 1 || octets == [0; 6] {
            return Err(MacError::NotUnicast(text.to_owned()));
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Self, MacError> {
        text.parse()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

pub(super) fn check<'a>(interfaces: &'a [Interface], ids: &mut HashSet<&'a str>, p: &mut Problems) {
    let mut taps = HashSet::new();
    for (i, interface) in interfaces.iter().enumerate() {
        p.id(format!("interfaces[{i}].id"), &interface.id, ids);
        let tap = interface.tap.as_str();
        let sound = (1..=15).contains(&tap.len())
            && tap
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b'/' && b != b'%')
            && tap != "."
            && tap != "..";
        let field = format!("interfaces[{i}].tap");
        p.require(
            &field,
            sound,
            format!("{tap:?} cannot be a link's name of 1 to 15 characters"),
        );
        p.require(
            &field,
            taps.insert(tap),
            format!("{tap:?} is used by two interfaces"),
        );
        if let Some(mtu) = interface.mtu {
            let least = Interface::LEAST_MTU;
            p.require(
                format!("interfaces[{i}].mtu"),
                mtu >= least,
                format!("{mtu} is less than {least}"),
            );
        }
        let (least, most) = (Interface::LEAST_QUEUE_SIZE, Interface::MOST_QUEUE_SIZE);
        for (name, size) in [
            ("rx-queue-size", interface.rx_queue_size),
            ("tx-queue-size", interface.tx_queue_size),
        ] {
            let fits = |size: u16| size.is_power_of_two() && (least..=most).contains(&size);
            p.require(
                format!("interfaces[{i}].{name}"),
                size.is_none_or(fits),
                format!("a power of two from {least} to {most} is wanted"),
            );
        }
        if let Some(queues) = interface.queues {
            let field = format!("interfaces[{i}].queues");
            p.require(
                field,
                (1..=Interface::MOST_PAIRS).contains(&queues),
                format!("1 to {} pairs are possible", Interface::MOST_PAIRS),
            );
        }
    }
}
