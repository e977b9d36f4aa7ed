//! Ports of networks: the types behind `<networkport>`, libvirt's note of one guest's connection to a network.
//!
//! <https://libvirt.org/formatnetworkport.html>

use crate::common::{Bandwidth, Owner, VirtualPort, Vlan};
use crate::domain::address::Address;
use crate::domain::hostdev::HostdevDriverName;
use crate::network::{MacTableManager, NetworkMac, PortOptions};
use crate::scalar::YesNo;
use uuid::Uuid;

choice! {
    /// What a port is plugged into.
    pub enum PlugType {
        /// A bridge that a network makes.
        Network = "network",
        /// A bridge that was there before.
        Bridge = "bridge",
        /// A device of the host's.
        Direct = "direct",
        /// A PCI device of the host's, as a whole.
        HostdevPci = "hostdev-pci",
    }
}

choice! {
    /// How guests on one device reach each other.
    pub enum PlugMode { Bridge = "bridge", Passthrough = "passthrough", Private = "private", Vepa = "vepa" }
}

element! {
    /// A port of a network.
    pub struct NetworkPort must ["uuid", "owner", "mac"] {
        /// The port's identity.
        leaf "uuid" uuid: Uuid,
        /// The guest.
        child "owner" owner: Owner,
        /// The guest's Ethernet address.
        child "mac" mac: NetworkMac,
        /// The network's class of guests that it belongs to.
        leaf "group" group: String,
        /// Whether the guest's own filters of what it receives are trusted.
        child "rxfilters" rxfilters: RxFilters,
        /// How ports of a switch are told of the guest.
        child "virtualport" virtualport: VirtualPort,
        /// Limits of what is carried.
        child "bandwidth" bandwidth: Bandwidth,
        /// Its VLAN tags.
        child "vlan" vlan: Vlan,
        /// Whether it is kept from the other ports.
        child "port" port: PortOptions,
        /// What it is plugged into.
        child "plug" plug: Plug,
    }
}

element! {
    /// Whether a guest's own filters of what it receives are trusted.
    pub struct RxFilters main "trustGuest" must ["trustGuest"] {
        /// If so.
        attr "trustGuest" trust_guest: YesNo,
    }
}

element! {
    /// What a port is plugged into.
    pub struct Plug must ["type"] {
        /// The kind of thing.
        attr "type" kind: PlugType,
        /// The bridge.
        attr "bridge" bridge: String,
        /// Who keeps the bridge's table of addresses.
        attr "macTableManager" mac_table_manager: MacTableManager,
        /// The device.
        attr "dev" dev: String,
        /// How guests on the device reach each other.
        attr "mode" mode: PlugMode,
        /// Whether the PCI device is taken from the host when used.
        attr "managed" managed: YesNo,
        /// How the PCI device is driven.
        child "driver" driver: PlugDriver,
        /// The PCI device.
        child "address" address: Address,
    }
}

element! {
    /// How a PCI device is driven.
    pub struct PlugDriver main "name" {
        /// The driver.
        attr "name" name: HostdevDriverName,
        /// The kernel driver's own name.
        attr "model" model: String,
    }
}
