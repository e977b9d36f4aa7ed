//! Virtual networks: the types behind `<network>`.

use crate::common::{Bandwidth, VirtualPort, Vlan};
use crate::domain::address::AddressType;
use crate::scalar::{MacAddr, Name, Number, OnOff, Scalar, ScalarInfo, Text, YesNo};
use crate::tree::Foreign;
use std::borrow::Cow;
use std::net::IpAddr;
use uuid::Uuid;

choice! {
    /// How a network reaches the outside.
    pub enum ForwardMode {
        /// With network address translation.
        Nat = "nat",
        /// Routed, without translation.
        Route = "route",
        /// Without any rules of vireo's.
        Open = "open",
        /// An existing bridge, or direct attachment in bridge mode.
        Bridge = "bridge",
        /// Direct attachment, guests apart.
        Private = "private",
        /// Direct attachment, guests joined by an outer switch.
        Vepa = "vepa",
        /// Direct attachment, one guest a device.
        Passthrough = "passthrough",
        /// A pool of virtual functions given to guests.
        Hostdev = "hostdev",
    }
}

choice! {
    /// Who keeps the bridge's table of addresses.
    pub enum MacTableManager { Kernel = "kernel", Libvirt = "libvirt" }
}

choice! {
    /// The firewall zone's manner of the driver of a host device.
    pub enum PassthroughDriver { Kvm = "kvm", Vfio = "vfio" }
}

choice! {
    /// A family of addresses.
    pub enum Family { Ipv4 = "ipv4", Ipv6 = "ipv6" }
}

choice! {
    /// The unit of a lease's length.
    pub enum LeaseUnit { Seconds = "seconds", Minutes = "minutes", Hours = "hours" }
}

element! {
    /// A virtual network.
    pub struct Network must ["name"] {
        /// Whether guests may speak IPv6 among each other without any address of the network's.
        attr "ipv6" ipv6: YesNo,
        /// Whether filters trust what guests ask of their devices.
        attr "trustGuestRxFilters" trust_guest_rx_filters: YesNo,
        /// Number of connected guests, in output of libvirt.
        attr "connections" connections: u32,
        /// The network's name.
        leaf "name" name: Name,
        /// The network's identity.
        leaf "uuid" uuid: Uuid,
        /// One line about it.
        leaf "title" title: Text,
        /// More about it.
        leaf "description" description: Text,
        /// What belongs to other applications.
        tree "metadata" metadata: Foreign,
        /// How it reaches the outside; without it the network is isolated.
        child "forward" forward: Forward,
        /// Its bridge.
        child "bridge" bridge: Bridge,
        /// Its largest packet.
        child "mtu" mtu: Mtu,
        /// The address of its bridge.
        child "mac" mac: NetworkMac,
        /// Its domain of names.
        child "domain" domain: DnsDomain,
        /// Its name server.
        child "dns" dns: Dns,
        /// Its VLAN tags.
        child "vlan" vlan: Vlan,
        /// Limits of what it carries.
        child "bandwidth" bandwidth: Bandwidth,
        /// Whether guests are kept from each other.
        child "port" port: PortOptions,
        /// Its addresses.
        list "ip" ips: NetworkIp,
        /// Routes through it.
        list "route" routes: Route,
        /// How ports of a switch are told of guests.
        child "virtualport" virtualport: VirtualPort,
        /// Classes of guests.
        list "portgroup" portgroups: PortGroup,
        /// Options handed to dnsmasq as they are.
        child "dnsmasq:options" dnsmasq_options: DnsmasqOptions,
    }
}

element! {
    /// How a network reaches the outside.
    pub struct Forward main "mode" {
        /// The way; nat where not stated.
        blank "mode" mode: ForwardMode,
        /// The only outer device.
        blank "dev" dev: String,
        /// Whether devices are taken from the host when used.
        attr "managed" managed: YesNo,
        /// What is translated.
        child "nat" nat: Nat,
        /// The physical function whose virtual functions are used.
        list "pf" pfs: ForwardDevice,
        /// Outer devices.
        list "interface" interfaces: ForwardDevice,
        /// Host devices by address.
        list "address" addresses: ForwardAddress,
        /// How host devices are driven.
        child "driver" driver: ForwardDriver,
    }
}

element! {
    /// How host devices are driven.
    pub struct ForwardDriver main "name" {
        /// The driver.
        attr "name" name: PassthroughDriver,
        /// The kernel driver's own name.
        attr "model" model: String,
    }
}

element! {
    /// An outer device.
    pub struct ForwardDevice main "dev" {
        /// Its name.
        attr "dev" dev: String,
        /// Guests that use it, in output of libvirt.
        attr "connections" connections: u32,
    }
}

element! {
    /// A host device by address.
    pub struct ForwardAddress {
        /// Its bus, which is PCI.
        attr "type" kind: AddressType,
        /// The domain.
        attr "domain" domain: Number,
        /// The bus's number.
        attr "bus" bus: Number,
        /// The slot.
        attr "slot" slot: Number,
        /// The function.
        attr "function" function: Number,
        /// Whether other functions share the slot.
        attr "multifunction" multifunction: OnOff,
        /// Guests that use it, in output of libvirt.
        attr "connections" connections: u32,
    }
}

element! {
    /// What network address translation uses.
    pub struct Nat {
        /// Whether IPv6 is translated too.
        attr "ipv6" ipv6: YesNo,
        /// Outer addresses.
        list "address" addresses: AddressRange,
        /// Outer ports.
        list "port" ports: PortRange,
    }
}

element! {
    /// A range of addresses.
    pub struct AddressRange must ["start", "end"] {
        /// The first.
        attr "start" start: IpAddr,
        /// The last.
        attr "end" end: IpAddr,
    }
}

element! {
    /// A range of ports.
    pub struct PortRange must ["start", "end"] {
        /// The first.
        attr "start" start: u16,
        /// The last.
        attr "end" end: u16,
    }
}

/// Whether a bridge spans a tree: `on`, for which libvirt takes `yes` too, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanningTree(OnOff);

impl SpanningTree {
    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self.0.is_on()
    }
}

impl Scalar for SpanningTree {
    const INFO: ScalarInfo = OnOff::INFO;

    /// libvirt reads whatever is not `off` as `on`, `no` too: of that, what means it.
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "yes" => Ok(Self(OnOff::On)),
            text => OnOff::parse(text).map(Self),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.0.as_str())
    }
}

element! {
    /// A network's bridge.
    pub struct Bridge main "name" {
        /// Its name; chosen (`virbr0`, …) where not stated.
        blank "name" name: String,
        /// Spanning tree; on where not stated.
        blank "stp" stp: SpanningTree,
        /// Seconds a port waits before it forwards; 0 where not stated.
        blank "delay" delay: u32,
        /// Who keeps its table of addresses.
        blank "macTableManager" mac_table_manager: MacTableManager,
        /// The zone of firewalld it belongs to.
        blank "zone" zone: String,
    }
}

element! {
    /// A largest packet.
    pub struct Mtu main "size" must ["size"] {
        /// In bytes.
        blank "size" size: u32,
    }
}

element! {
    /// The address of a bridge.
    pub struct NetworkMac main "address" must ["address"] {
        /// The address.
        blank "address" address: MacAddr,
    }
}

element! {
    /// A domain of names.
    pub struct DnsDomain main "name" must ["name"] {
        /// Its name.
        blank "name" name: String,
        /// Whether names in it are answered here alone, never asked outside.
        attr "localOnly" local_only: YesNo,
        /// Whether guests register their host names.
        attr "register" register: YesNo,
    }
}

element! {
    /// Whether guests are kept from each other.
    pub struct PortOptions {
        /// If so.
        attr "isolated" isolated: YesNo,
    }
}

element! {
    /// A network's name server.
    pub struct Dns {
        /// Whether there is one; yes where not stated.
        attr "enable" enable: YesNo,
        /// Whether names without a dot are asked outside.
        attr "forwardPlainNames" forward_plain_names: YesNo,
        /// Servers to ask.
        list "forwarder" forwarders: Forwarder,
        /// Text records.
        list "txt" txts: Txt,
        /// Service records.
        list "srv" srvs: Srv,
        /// Fixed names.
        list "host" hosts: DnsHost,
    }
}

element! {
    /// A server to ask, for all names or for one domain.
    pub struct Forwarder main "addr" {
        /// The server.
        attr "addr" addr: IpAddr,
        /// Its port; 53 where not stated.
        attr "port" port: u16,
        /// The domain it is asked for.
        attr "domain" domain: String,
    }
}

element! {
    /// A text record.
    pub struct Txt must ["name"] {
        /// Its name.
        attr "name" name: String,
        /// Its text.
        attr "value" value: Text,
    }
}

element! {
    /// A service record.
    pub struct Srv must ["service", "protocol"] {
        /// The service.
        attr "service" service: String,
        /// Its protocol.
        attr "protocol" protocol: String,
        /// The domain it is in.
        attr "domain" domain: String,
        /// Where it is found.
        attr "target" target: String,
        /// On which port.
        attr "port" port: u16,
        /// Lower is asked first.
        attr "priority" priority: u16,
        /// Share among those of the same priority.
        attr "weight" weight: u16,
    }
}

element! {
    /// Names of one address.
    pub struct DnsHost must ["ip"] {
        /// The address.
        attr "ip" ip: IpAddr,
        /// Its names.
        leaves "hostname" hostnames: String,
    }
}

element! {
    /// An address of a network's, with what is served there.
    pub struct NetworkIp {
        /// The family; by the address where not stated.
        attr "family" family: Family,
        /// The address of the bridge.
        attr "address" address: IpAddr,
        /// The network's size as a mask (IPv4).
        attr "netmask" netmask: IpAddr,
        /// The network's size in bits.
        attr "prefix" prefix: u8,
        /// Whether reverse lookups are answered here alone.
        attr "localPtr" local_ptr: YesNo,
        /// Files for guests that boot from the network.
        child "tftp" tftp: Tftp,
        /// Addresses for guests.
        child "dhcp" dhcp: Dhcp,
    }
}

element! {
    /// Files for guests that boot from the network.
    pub struct Tftp main "root" {
        /// Their directory.
        attr "root" root: String,
    }
}

element! {
    /// Addresses for guests.
    pub struct Dhcp {
        /// Ranges to give from.
        list "range" ranges: DhcpRange,
        /// Fixed addresses.
        list "host" hosts: DhcpHost,
        /// What guests boot from the network.
        list "bootp" bootps: Bootp,
    }
}

element! {
    /// A range to give addresses from.
    pub struct DhcpRange must ["start", "end"] {
        /// The first.
        attr "start" start: IpAddr,
        /// The last.
        attr "end" end: IpAddr,
        /// How long they are given for.
        child "lease" lease: DhcpLease,
    }
}

element! {
    /// How long an address is given for.
    pub struct DhcpLease main "expiry" {
        /// How long; 0 is for ever.
        attr "expiry" expiry: u32,
        /// In which unit; minutes where not stated.
        attr "unit" unit: LeaseUnit,
    }
}

element! {
    /// A fixed address of one guest.
    pub struct DhcpHost {
        /// The guest's Ethernet address.
        attr "mac" mac: MacAddr,
        /// The guest's identifier (IPv6), or client identifier.
        attr "id" id: String,
        /// The guest's name.
        attr "name" name: String,
        /// The address.
        attr "ip" ip: IpAddr,
        /// How long it is given for.
        child "lease" lease: DhcpLease,
    }
}

element! {
    /// What guests boot from the network.
    pub struct Bootp must ["file"] {
        /// The file.
        attr "file" file: String,
        /// The server that has it.
        attr "server" server: String,
    }
}

element! {
    /// A route through the network.
    pub struct Route must ["address", "gateway"] {
        /// The family; by the address where not stated.
        attr "family" family: Family,
        /// The network it leads to.
        attr "address" address: IpAddr,
        /// Its size as a mask (IPv4).
        attr "netmask" netmask: IpAddr,
        /// Its size in bits.
        attr "prefix" prefix: u8,
        /// The next hop.
        attr "gateway" gateway: IpAddr,
        /// Its cost; 1 where not stated.
        attr "metric" metric: Number,
    }
}

element! {
    /// A class of guests.
    pub struct PortGroup must ["name"] {
        /// Its name.
        attr "name" name: String,
        /// Whether it holds for guests that name none.
        attr "default" default: YesNo,
        /// Whether filters trust what guests ask of their devices.
        attr "trustGuestRxFilters" trust_guest_rx_filters: YesNo,
        /// VLAN tags.
        child "vlan" vlan: Vlan,
        /// How ports of a switch are told.
        child "virtualport" virtualport: VirtualPort,
        /// Limits of what each guest sends and gets.
        child "bandwidth" bandwidth: Bandwidth,
        /// Whether guests are kept from each other.
        child "port" port: PortOptions,
    }
}

element! {
    /// Options handed to dnsmasq as they are.
    pub struct DnsmasqOptions {
        /// Lines of its configuration.
        list "dnsmasq:option" options: DnsmasqOption,
    }
}

element! {
    /// A line of dnsmasq's configuration.
    pub struct DnsmasqOption main "value" must ["value"] {
        /// The line.
        attr "value" value: String,
    }
}

impl NetworkIp {
    /// The prefix length: stated, from the mask, or that of the address's class (64 for IPv6); `None` for a mask with holes or a prefix too long.
    pub fn prefix_len(&self) -> Option<u8> {
        prefix_len(self.address?, self.netmask, self.prefix)
    }

    /// The network, if there is an address and its size is sound.
    pub fn subnet(&self) -> Option<ipnet::IpNet> {
        ipnet::IpNet::new(self.address?, self.prefix_len()?).ok()
    }
}

impl Route {
    /// The prefix length, as [`NetworkIp::prefix_len`].
    pub fn prefix_len(&self) -> Option<u8> {
        prefix_len(self.address?, self.netmask, self.prefix)
    }
}

fn prefix_len(address: IpAddr, netmask: Option<IpAddr>, prefix: Option<u8>) -> Option<u8> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    if let Some(mask) = netmask {
        return ipnet::ip_mask_to_prefix(mask)
            .ok()
            .filter(|_| mask.is_ipv4() == address.is_ipv4());
    }
    match (prefix, address) {
        (Some(prefix), _) => (prefix <= most).then_some(prefix),
        (None, IpAddr::V6(_)) => Some(64),
        (None, IpAddr::V4(v4)) => Some(match v4.octets() {
            [0..=127, ..] => 8,
            [128..=191, ..] => 16,
            _ => 24,
        }),
    }
}
