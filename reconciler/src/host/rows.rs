//! What the kernel's routing tables list, as rows: links, addresses, routes.
//!
//! In: the payloads of a dump. Out: the few fields that vireo looks at. A field that is absent has the value that the kernel means by leaving it out.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::RouteMessage;
use uuid::Uuid;

use super::netlink::{NetlinkError, NetlinkSocket, address, attributes, text, u32_at};
use crate::inventory::LinkKind;
use crate::resolve::network::Route;

/// What every alias of a link of ours begins with; the owner's UUID follows.
pub const MARK: &str = "vireo:";

/// `IFF_UP`. Source: linux/if.h.
const IFF_UP: u32 = 0x1;
/// `IFF_LOWER_UP`: something is plugged in.
const IFF_LOWER_UP: u32 = 0x1_0000;
/// `IFF_TAP`, as `IFLA_TUN_TYPE` shows it.
const IFF_TAP: u8 = 2;
/// The kernel counts bridge timers in hundredths of a second (`USER_HZ`).
pub const USER_HZ: u32 = 100;
/// `RT_TABLE_MAIN`.
const MAIN_TABLE: u32 = 254;
/// `RTPROT_STATIC`.
const PROTO_STATIC: u8 = 4;
/// `RTPROT_RA`: learned from a router's advertisement.
const PROTO_RA: u8 = 9;
/// What the kernel writes for an IPv6 route without a metric (`IP6_RT_PRIO_USER`).
const IPV6_METRIC: u32 = 1024;

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRow {
    /// Number.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// The kernel's word for it (`bridge`, `tun`, `ifb`, `veth`); empty for hardware.
    pub kind_word: String,
    /// Alias.
    pub alias: Option<String>,
    /// Number of the bridge it is in.
    pub master: Option<u32>,
    /// Number of the device that it is a share of.
    pub lower: Option<u32>,
    /// How it shares that (`enum macvlan_mode`): 0 for all but macvtaps.
    pub mode: u32,
    /// Administratively up.
    pub up: bool,
    /// Something is plugged in: a tap that a process has open.
    pub carrier: bool,
    /// Hardware address; zero where it has none of six bytes.
    pub mac: [u8; 6],
    /// Bytes.
    pub mtu: u32,
    /// A bridge's spanning tree protocol.
    pub stp: bool,
    /// A bridge's forward delay, seconds.
    pub delay: u32,
    /// A tap with several queues.
    pub multi_queue: bool,
}

impl LinkRow {
    /// Whose it is, by its mark.
    pub fn owner(&self) -> Option<Uuid> {
        self.alias.as_deref()?.strip_prefix(MARK)?.parse().ok()
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let index = u32_at(payload, 4)?;
        let flags = u32_at(payload, 8)?;
        let all = attributes(payload.get(16..)?);
        let info = all.get(&18).map(|v| attributes(v)).unwrap_or_default();
        let kind_word = info.get(&1).and_then(|v| text(v)).unwrap_or_default();
        let data = info.get(&2).map(|v| attributes(v)).unwrap_or_default();
        let byte = |kind: u16| data.get(&kind).and_then(|v| v.first().copied());
        let kind = match kind_word.as_str() {
            "bridge" => LinkKind::Bridge,
            "tun" if byte(3) == Some(IFF_TAP) => LinkKind::Tap,
            "macvtap" => LinkKind::Macvtap,
            _ => LinkKind::Other,
        };
        let number = |kind: u16| data.get(&kind).and_then(|v| u32_at(v, 0)).unwrap_or(0);
        Some(Self {
            index,
            name: all.get(&3).and_then(|v| text(v))?,
            kind,
            alias: all.get(&20).and_then(|v| text(v)).filter(|a| !a.is_empty()),
            master: all.get(&10).and_then(|v| u32_at(v, 0)).filter(|m| *m != 0),
            lower: all.get(&5).and_then(|v| u32_at(v, 0)).filter(|l| *l != 0),
            mode: if kind == LinkKind::Macvtap {
                number(1)
            } else {
                0
            },
            up: flags & IFF_UP != 0,
            carrier: flags & IFF_LOWER_UP != 0,
            mac: all
                .get(&1)
                .and_then(|v| (*v).try_into().ok())
                .unwrap_or_default(),
            mtu: all.get(&4).and_then(|v| u32_at(v, 0)).unwrap_or(0),
            stp: kind == LinkKind::Bridge && number(5) != 0,
            delay: if kind == LinkKind::Bridge {
                number(1) / USER_HZ
            } else {
                0
            },
            multi_queue: kind == LinkKind::Tap && byte(7) == Some(1),
            kind_word,
        })
    }
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRow {
    /// The link's number.
    pub link: u32,
    /// Address with its prefix.
    pub address: IpNet,
}

impl AddressRow {
    fn read(payload: &[u8]) -> Option<Option<Self>> {
        let prefix = *payload.get(1)?;
        let link = u32_at(payload, 4)?;
        let all = attributes(payload.get(8..)?);
        // A point-to-point address has its own end in IFA_LOCAL.
        let ours = all.get(&2).or(all.get(&1)).and_then(|v| address(v));
        Some(
            ours.and_then(|ip| IpNet::new(ip, prefix).ok())
                .map(|address| Self { link, address }),
        )
    }
}

/// A unicast route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRow {
    /// The link's number.
    pub link: u32,
    /// Who made it: `RTPROT_*`.
    pub protocol: u8,
    /// Destination, next hop, metric; `None` where there is no next hop.
    pub route: Option<Route>,
}

impl RouteRow {
    /// An operator, or vireo, made it.
    pub fn is_static(&self) -> bool {
        self.protocol == PROTO_STATIC
    }

    /// A router's advertisement made it.
    pub fn is_advertised(&self) -> bool {
        self.protocol == PROTO_RA
    }

    fn read(payload: &[u8]) -> Option<Option<Self>> {
        let family = *payload.first()?;
        let prefix = *payload.get(1)?;
        let all = attributes(payload.get(12..)?);
        let table = all
            .get(&15)
            .and_then(|v| u32_at(v, 0))
            .unwrap_or_else(|| payload.get(4).map_or(0, |t| u32::from(*t)));
        let Some(link) = all.get(&4).and_then(|v| u32_at(v, 0)) else {
            return Some(None);
        };
        if table != MAIN_TABLE {
            return Some(None);
        }
        let everywhere = if family == 2 {
            IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
        };
        let to = all.get(&1).and_then(|v| address(v)).unwrap_or(everywhere);
        let metric = all
            .get(&6)
            .and_then(|v| u32_at(v, 0))
            .filter(|m| to.is_ipv4() || *m != IPV6_METRIC);
        let route = all
            .get(&5)
            .and_then(|v| address(v))
            .zip(IpNet::new(to, prefix).ok())
            .map(|(via, to)| Route { to, via, metric });
        Some(Some(Self {
            link,
            protocol: *payload.get(5)?,
            route,
        }))
    }
}

impl NetlinkSocket {
    /// Every link.
    ///
    /// # Errors
    /// See [`NetlinkSocket::dump`].
    pub fn links(&mut self) -> Result<Vec<LinkRow>, NetlinkError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        self.dump(RouteNetlinkMessage::GetLink(message), LinkRow::read)
    }

    /// The link of that name.
    ///
    /// # Errors
    /// See [`NetlinkSocket::look`].
    pub fn link(&mut self, name: &str) -> Result<Option<LinkRow>, NetlinkError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        self.look(RouteNetlinkMessage::GetLink(message), LinkRow::read)
    }

    /// Every address.
    ///
    /// # Errors
    /// See [`NetlinkSocket::dump`].
    pub fn addresses(&mut self) -> Result<Vec<AddressRow>, NetlinkError> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let rows = self.dump(message, AddressRow::read)?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Every route of the main table that leads through one link.
    ///
    /// # Errors
    /// See [`NetlinkSocket::dump`].
    pub fn routes(&mut self) -> Result<Vec<RouteRow>, NetlinkError> {
        let message = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let rows = self.dump(message, RouteRow::read)?;
        Ok(rows.into_iter().flatten().collect())
    }
}
