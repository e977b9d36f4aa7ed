//! Network interfaces.

use super::address::{Address, BootOrder};
use super::storage::Reconnect;
use crate::common::{Bandwidth, VirtualPort, Vlan};
use crate::network::{Mtu, PortOptions};
use crate::nwfilter::FilterRef;
use crate::scalar::{Form, MacAddr, OnOff, Scalar, ScalarInfo, Text, YesNo};
use std::borrow::Cow;
use std::net::IpAddr;

choice! {
    /// What an interface is attached to.
    pub enum InterfaceType {
        /// A network of libvirt's.
        Network = "network",
        /// A bridge of the host's.
        Bridge = "bridge",
        /// A stack inside of the emulator.
        User = "user",
        /// A device that somebody else makes or connects.
        Ethernet = "ethernet",
        /// A process that speaks vhost-user.
        VhostUser = "vhostuser",
        /// A server of another emulator's.
        Server = "server",
        /// A client of another emulator's.
        Client = "client",
        /// A group of emulators.
        Mcast = "mcast",
        /// Another emulator through UDP.
        Udp = "udp",
        /// A network that is there for guests only.
        Internal = "internal",
        /// A device of the host's, directly.
        Direct = "direct",
        /// A device of the host's, handed over.
        Hostdev = "hostdev",
        /// A device of the kernel's vDPA.
        Vdpa = "vdpa",
        /// Nothing.
        Null = "null",
        /// A virtual distributed switch.
        Vds = "vds",
    }
}

choice! {
    /// Whether the cable is in.
    pub enum LinkState { Up = "up", Down = "down" }
}

device! {
    /// A network interface.
    Interface [short [
        "network" => ["source/@network"] with [("@type", "network")],
        "bridge" => ["source/@bridge"] with [("@type", "bridge")],
        "filter" => ["filterref/@filter"],
    ]] {
        /// What it is attached to.
        attr "type" kind: InterfaceType,
        /// Whether a device of the host's is taken from it when used.
        attr "managed" managed: YesNo,
        /// Whether filters trust what the guest asks of it.
        attr "trustGuestRxFilters" trust_guest_rx_filters: YesNo,
        /// Its Ethernet address; derived where not stated.
        child "mac" mac: InterfaceMac,
        /// What it is attached to.
        child "source" source: InterfaceSource,
        /// How ports of a switch are told.
        child "virtualport" virtualport: VirtualPort,
        /// The device that the guest sees; virtio where not stated.
        child "model" model: InterfaceModel,
        /// How the host drives it.
        child "driver" driver: InterfaceDriver,
        /// What serves a stack outside of the kernel.
        child "backend" backend: InterfaceBackend,
        /// The Xen guest that serves it.
        child "backenddomain" backenddomain: super::storage::NamedThing,
        /// The packet filter it goes through.
        child "filterref" filterref: FilterRef,
        /// Limits of what it carries.
        child "bandwidth" bandwidth: Bandwidth,
        /// VLAN tags.
        child "vlan" vlan: Vlan,
        /// Whether the guest is kept from others.
        child "port" port: PortOptions,
        /// Whether the cable is in.
        child "link" link: Link,
        /// Its largest packet.
        child "mtu" mtu: Mtu,
        /// When interrupts are gathered.
        child "coalesce" coalesce: Coalesce,
        /// The device on the host.
        child "target" target: InterfaceTarget,
        /// The device in a container.
        child "guest" guest: InterfaceTarget,
        /// Details of the host's side.
        child "tune" tune: InterfaceTune,
        /// A program that brings it up.
        child "script" script: Script,
        /// A program that takes it down.
        child "downscript" downscript: Script,
        /// Addresses of the guest's side.
        list "ip" ips: InterfaceIp,
        /// Routes of the guest's side.
        list "route" routes: crate::network::Route,
        /// Ports handed to the guest.
        list "portForward" = "portForwards" port_forwards: PortForward,
        /// Its place in the order of boot.
        child "boot" boot: BootOrder,
        /// Its program for booting from the network.
        child "rom" rom: Rom,
        /// Another interface that stands in for this one.
        child "teaming" teaming: Teaming,
    }
}

element! {
    /// A program that is run for an interface.
    pub struct Script main "path" {
        /// Its path; nothing is run where nothing is in it.
        blank "path" path: String,
    }
}

choice! {
    /// What kind of address it is.
    pub enum MacType { Generated = "generated", Static = "static" }
}

element! {
    /// An interface's Ethernet address.
    pub struct InterfaceMac main "address" must ["address"] {
        /// The address.
        attr "address" address: MacAddr,
        /// Whether it was chosen.
        attr "type" kind: MacType,
        /// Whether it is judged.
        attr "check" check: YesNo,
        /// What the guest changed it to, in output of libvirt.
        attr "currentAddress" current_address: MacAddr,
    }
}

/// A port of a network by its uuid, or of a virtual distributed switch by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortId {
    /// A network's.
    Network(uuid::Uuid),
    /// A switch's.
    Switch(u32),
}

impl Scalar for PortId {
    const INFO: ScalarInfo = ScalarInfo::new("a port's uuid, or its number", Form::Text)
        .matching("^(\\s*[+]?[0-9]+|[ -]*([0-9a-fA-F]{2}[ -]*){16})$");

    fn parse(text: &str) -> Result<Self, String> {
        let number = u32::parse(text).map(Self::Switch);
        number.or_else(|_| uuid::Uuid::parse(text).map(Self::Network))
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(match self {
            Self::Network(uuid) => uuid.to_string(),
            Self::Switch(number) => number.to_string(),
        })
    }
}

element! {
    /// What an interface is attached to; which of it is used depends on the interface's type.
    pub struct InterfaceSource {
        /// A network's name.
        attr "network" network: String,
        /// A class of guests of that network.
        attr "portgroup" portgroup: String,
        /// A port's identity, in output of libvirt; a port's number on a virtual distributed switch.
        attr "portid" portid: PortId,
        /// A bridge of the host's.
        attr "bridge" bridge: String,
        /// A device of the host's.
        attr "dev" dev: String,
        /// How that is shared, or who opens a socket.
        attr "mode" mode: InterfaceSourceMode,
        /// A way to reach a process.
        attr "type" kind: super::storage::SourceType,
        /// A socket's path.
        attr "path" path: String,
        /// An address.
        attr "address" = "ip-address" ip_address: IpAddr,
        /// A port.
        attr "port" port: u16,
        /// A name on an internal network.
        attr "name" name: String,
        /// A group of file descriptors handed over.
        attr "fdgroup" fdgroup: String,
        /// A virtual distributed switch.
        attr "switchid" switchid: String,
        /// A group of its ports.
        attr "portgroupid" portgroupid: String,
        /// A connection to it.
        attr "connectionid" connectionid: String,
        /// The own end of a connection.
        child "local" local: LocalEnd,
        /// The maker of a USB device.
        child "vendor" vendor: super::hostdev::IdElement,
        /// What it is.
        child "product" product: super::hostdev::IdElement,
        /// A device of the host's by address.
        child "address" address: Address,
        /// When a lost connection is tried again.
        child "reconnect" reconnect: Reconnect,
        /// Addresses of the host's side.
        list "ip" ips: InterfaceIp,
        /// Routes of the host's side.
        list "route" routes: crate::network::Route,
    }
}

choice! {
    /// How a device is shared, or who opens a socket.
    pub enum InterfaceSourceMode {
        Vepa = "vepa",
        Bridge = "bridge",
        Private = "private",
        Passthrough = "passthrough",
        Server = "server",
        Client = "client",
    }
}

element! {
    /// The own end of a connection.
    pub struct LocalEnd {
        /// Its address.
        attr "address" address: IpAddr,
        /// Its port.
        attr "port" port: u16,
    }
}

element! {
    /// The device that the guest sees.
    pub struct InterfaceModel main "type" must ["type"] {
        /// Its name, such as `virtio`.
        attr "type" kind: String,
    }
}

choice! {
    /// What moves packets.
    pub enum NetDriverName { Qemu = "qemu", Vhost = "vhost", Vfio = "vfio", Kvm = "kvm", Xen = "xen" }
}

choice! {
    /// When packets are sent.
    pub enum TxMode { Iothread = "iothread", Timer = "timer" }
}

virtio_driver! {
    /// How the host drives an interface.
    InterfaceDriver [main "name"] {
        /// What moves packets.
        attr "name" name: NetDriverName,
        /// The kernel's driver of a device handed over.
        attr "model" model: String,
        /// Whether a device handed over goes through the kernel's iommufd.
        attr "iommufd" iommufd: YesNo,
        /// When packets are sent.
        attr "txmode" txmode: TxMode,
        /// Whether the guest's notifications are taken by the kernel.
        attr "ioeventfd" ioeventfd: OnOff,
        /// Whether notifications are sent when asked for only.
        attr "event_idx" event_idx: OnOff,
        /// The number of pairs of queues.
        attr "queues" queues: u32,
        /// The size of a queue towards the guest.
        attr "rx_queue_size" rx_queue_size: u32,
        /// The size of a queue from the guest.
        attr "tx_queue_size" tx_queue_size: u32,
        /// Whether the device spreads packets over queues.
        attr "rss" rss: OnOff,
        /// Whether it tells how.
        attr "rss_hash_report" rss_hash_report: OnOff,
        /// What the host may do.
        child "host" host: Offloads,
        /// What the guest may do.
        child "guest" guest: Offloads,
    }
}

element! {
    /// Work that one side may leave to the other.
    pub struct Offloads {
        /// Checksums.
        attr "csum" csum: OnOff,
        /// Segmentation of all kinds.
        attr "gso" gso: OnOff,
        /// Segmentation of TCP over IPv4.
        attr "tso4" tso4: OnOff,
        /// Segmentation of TCP over IPv6.
        attr "tso6" tso6: OnOff,
        /// Notice of congestion.
        attr "ecn" ecn: OnOff,
        /// Fragmentation of UDP.
        attr "ufo" ufo: OnOff,
        /// Buffers that are joined.
        attr "mrg_rxbuf" mrg_rxbuf: OnOff,
    }
}

choice! {
    /// What serves a stack outside of the kernel.
    pub enum BackendType { Default = "default", Passt = "passt" }
}

element! {
    /// What serves a stack outside of the kernel.
    pub struct InterfaceBackend {
        /// The program.
        attr "type" kind: BackendType,
        /// The path of the tun device.
        attr "tap" tap: String,
        /// The path of the vhost device.
        attr "vhost" vhost: String,
        /// Where the program writes its log.
        attr "logFile" log_file: String,
        /// The host's name for the guest.
        attr "hostname" hostname: String,
        /// The guest's full name.
        attr "fqdn" fqdn: String,
    }
}

element! {
    /// Whether a cable is in.
    pub struct Link main "state" must ["state"] {
        /// Whether.
        blank "state" state: LinkState,
    }
}

element! {
    /// When interrupts are gathered.
    pub struct Coalesce {
        /// Towards the guest.
        child "rx" rx: CoalesceRx,
    }
}

element! {
    /// When interrupts towards the guest are gathered.
    pub struct CoalesceRx {
        /// By packets.
        child "frames" frames: CoalesceFrames,
    }
}

element! {
    /// How many packets are gathered.
    pub struct CoalesceFrames main "max" {
        /// The most.
        attr "max" max: u32,
    }
}

element! {
    /// A device.
    pub struct InterfaceTarget main "dev" {
        /// Its name.
        attr "dev" dev: String,
        /// Whether it is made by vireo.
        attr "managed" managed: YesNo,
        /// Its name inside.
        attr "actual" actual: String,
    }
}

impl InterfaceTarget {
    /// The device's name, unless it is one that libvirt gives by itself: of a device that it makes, it drops those.
    /// Source: libvirt's domain format, "Overriding the target element".
    pub fn kept_name(&self) -> Option<&str> {
        let given = ["vnet", "vif", "macvtap", "macvlan"];
        let made = self.managed != Some(YesNo::No);
        let dropped = |name: &&str| made && given.iter().any(|prefix| name.starts_with(prefix));
        self.dev.as_deref().filter(|name| !dropped(name))
    }
}

element! {
    /// Details of the host's side.
    pub struct InterfaceTune {
        /// The buffer for sending, in bytes.
        leaf "sndbuf" sndbuf: u64,
    }
}

element! {
    /// An address.
    pub struct InterfaceIp main "address" must ["address"] {
        /// The address.
        attr "address" address: IpAddr,
        /// Its family; by the address where not stated.
        attr "family" family: crate::network::Family,
        /// The network's size in bits.
        attr "prefix" prefix: u8,
        /// The other end of a link between two.
        attr "peer" peer: IpAddr,
    }
}

choice! {
    /// What is handed over.
    pub enum PortForwardProtocol { Tcp = "tcp", Udp = "udp" }
}

element! {
    /// Ports handed to a guest.
    pub struct PortForward must ["proto"] {
        /// Of which protocol.
        attr "proto" proto: PortForwardProtocol,
        /// At which address of the host's.
        attr "address" address: IpAddr,
        /// At which device of the host's.
        attr "dev" dev: String,
        /// Which.
        list "range" ranges: PortForwardRange,
    }
}

element! {
    /// A range of ports handed to a guest.
    pub struct PortForwardRange must ["start"] {
        /// The first outside.
        attr "start" start: u16,
        /// The last outside.
        attr "end" end: u16,
        /// The first inside.
        attr "to" to: u16,
        /// Whether it is left out instead.
        attr "exclude" exclude: YesNo,
    }
}

element! {
    /// A device's program.
    pub struct Rom {
        /// Whether there is one.
        attr "enabled" enabled: YesNo,
        /// Whether the guest sees it.
        attr "bar" bar: OnOff,
        /// Its path.
        attr "file" file: Text,
    }
}

choice! {
    /// A side of a pair.
    pub enum TeamingType { Persistent = "persistent", Transient = "transient" }
}

element! {
    /// Another interface that stands in for this one.
    pub struct Teaming must ["type"] {
        /// Which side this is.
        attr "type" kind: TeamingType,
        /// The name of the other.
        attr "persistent" persistent: String,
    }
}
