//! A virtual network as it will really be.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Identity.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// How it reaches the outside.
    pub forward: Forward,
    /// The bridge its guests are on. Ours, unless `forward` is [`Forward::Bridge`].
    pub bridge: Bridge,
    /// The host's addresses on the bridge, each with its prefix, as stated (host part kept).
    pub addresses: Vec<IpNet>,
    /// Static routes through the bridge: destination and gateway, with an optional metric.
    pub routes: Vec<Route>,
    /// DNS and DHCP, served by one dnsmasq. `None` for networks without a bridge of ours or without an address.
    pub dnsmasq: Option<Dnsmasq>,
}

/// `<forward>`. Source: libvirt's network format, "Connectivity".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum Forward {
    /// No `<forward>`: guests reach each other and the host only.
    Isolated,
    /// Masquerading.
    Nat {
        /// Leaves only through this link, where stated.
        dev: Option<String>,
        /// Source addresses to use, first and last; `None` is the outgoing link's own.
        addresses: Option<(IpAddr, IpAddr)>,
        /// Source ports for TCP and UDP; libvirt's default is 1024-65535.
        ports: (u16, u16),
        /// `<nat ipv6='yes'>`: masquerade IPv6 too, instead of routing it.
        ipv6: bool,
    },
    /// Routed without translation.
    Route {
        /// Leaves only through this link, where stated.
        dev: Option<String>,
    },
    /// Routed, and no rules of ours.
    Open,
    /// An existing bridge of the host: nothing is made for this network.
    Bridge,
}

/// The bridge of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The link's name, stated or derived; at most 15 bytes.
    pub name: String,
    /// The link's hardware address, stated or derived.
    pub mac: [u8; 6],
    /// Spanning tree protocol; libvirt's default is on.
    pub stp: bool,
    /// Forward delay in seconds; libvirt's default is 0.
    pub delay: u32,
    /// MTU in bytes, where stated.
    pub mtu: Option<u32>,
}

impl Bridge {
    /// The forward delay that the kernel shows for this bridge, in seconds: with the spanning tree protocol on it takes no less than 2 and no more than 30.
    pub fn effective_delay(&self) -> u32 {
        if self.stp {
            self.delay.clamp(2, 30)
        } else {
            self.delay
        }
    }
}

/// `<route>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub to: IpNet,
    /// Next hop, inside the network.
    pub via: IpAddr,
    /// Lower is preferred.
    pub metric: Option<u32>,
}

/// What dnsmasq is told; becomes its configuration files in `compile::dnsmasq`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dnsmasq {
    /// DHCP ranges: first and last address, lease time in seconds where stated.
    pub ranges: Vec<DhcpRange>,
    /// Fixed leases.
    pub hosts: Vec<DhcpHost>,
    /// `<domain name=… localOnly=…>`.
    pub domain: Option<String>,
    /// Names of this domain are never forwarded.
    pub domain_local_only: bool,
    /// `<dns enable='no'>` turns DNS off (port 0).
    pub dns: bool,
    /// `<dns><host>`: address and names.
    pub dns_hosts: Vec<(IpAddr, Vec<String>)>,
    /// `<forwarder>`, in order.
    pub forwarders: Vec<Forwarder>,
    /// `<txt>`: name and value.
    pub txt: Vec<(String, String)>,
    /// `<srv>`.
    pub srv: Vec<Srv>,
    /// `<bootp>`: file and server.
    pub bootp: Option<(String, Option<String>)>,
    /// `<tftp root=…>`.
    pub tftp_root: Option<String>,
    /// `<dnsmasq:option value=…>`, appended as they are.
    pub options: Vec<String>,
}

/// A DHCP range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpRange {
    /// First address.
    pub start: IpAddr,
    /// Last address.
    pub end: IpAddr,
    /// Lease time in seconds; `None` is dnsmasq's default of an hour, 0 is for ever.
    pub lease_seconds: Option<u64>,
}

/// A fixed lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpHost {
    /// Hardware address (IPv4) …
    pub mac: Option<[u8; 6]>,
    /// … or DUID (IPv6).
    pub id: Option<String>,
    /// Host name given to the client.
    pub name: Option<String>,
    /// The address.
    pub ip: IpAddr,
    /// Lease time in seconds.
    pub lease_seconds: Option<u64>,
}

/// A server that names are asked of, for all names or for a domain's; without an address, the host's own servers are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarder {
    /// The domain.
    pub domain: Option<String>,
    /// The server.
    pub address: Option<IpAddr>,
    /// Its port; 53 where not stated.
    pub port: Option<u16>,
}

/// `<srv>`. Source: RFC 2782.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Srv {
    /// Service name, without the underscore.
    pub service: String,
    /// Protocol name, without the underscore.
    pub protocol: String,
    /// Domain it is served for.
    pub domain: Option<String>,
    /// Host that serves it.
    pub target: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Lower is preferred.
    pub priority: Option<u16>,
    /// Share among equals.
    pub weight: Option<u16>,
}
