//! Elements that networks and domains share.

use crate::scalar::{OnOff, YesNo};
use uuid::Uuid;

choice! {
    /// How tagged frames are treated as untagged.
    pub enum NativeMode { Tagged = "tagged", Untagged = "untagged" }
}

choice! {
    /// How ports of a switch are told of guests.
    pub enum VirtualPortType {
        /// IEEE 802.1Qbg.
        Qbg = "802.1Qbg",
        /// IEEE 802.1Qbh.
        Qbh = "802.1Qbh",
        /// Open vSwitch.
        OpenVSwitch = "openvswitch",
        /// MidoNet.
        MidoNet = "midonet",
    }
}

element! {
    /// VLAN tags.
    pub struct Vlan {
        /// Whether several tags may pass.
        attr "trunk" trunk: YesNo,
        /// The tags.
        list "tag" tags: VlanTag,
    }
}

element! {
    /// One VLAN tag.
    pub struct VlanTag main "id" must ["id"] {
        /// Its number, 0 to 4095.
        attr "id" id: crate::scalar::Within<0, 4095>,
        /// Whether frames without a tag belong to it.
        attr "nativeMode" native_mode: NativeMode,
    }
}

element! {
    /// A guest.
    pub struct Owner must ["name", "uuid"] {
        /// Its name.
        leaf "name" name: String,
        /// Its identity.
        leaf "uuid" uuid: Uuid,
    }
}

element! {
    /// Limits of what is carried, from the guest's view.
    pub struct Bandwidth {
        /// The class of the queueing discipline, in output of libvirt.
        attr "classID" class_id: u32,
        /// Towards the guest.
        child "inbound" inbound: Rate,
        /// From the guest.
        child "outbound" outbound: Rate,
    }
}

element! {
    /// A limit of one direction.
    pub struct Rate main "average" {
        /// The average in KiB a second.
        attr "average" average: u64,
        /// The most at once, in KiB a second.
        attr "peak" peak: u64,
        /// What may come at peak speed, in KiB.
        attr "burst" burst: u64,
        /// What is guaranteed, in KiB a second (towards guests only).
        attr "floor" floor: u64,
    }
}

element! {
    /// How ports of a switch are told of guests.
    pub struct VirtualPort main "type" {
        /// The way.
        attr "type" kind: VirtualPortType,
        /// Its parameters.
        child "parameters" parameters: VirtualPortParameters,
    }
}

element! {
    /// What is told.
    pub struct VirtualPortParameters {
        /// The manager of the port profile (802.1Qbg).
        attr "managerid" managerid: crate::nwfilter::value::Bits<0xff>,
        /// The profile's type (802.1Qbg).
        attr "typeid" typeid: crate::scalar::Number,
        /// The type's version (802.1Qbg).
        attr "typeidversion" typeidversion: crate::nwfilter::value::Bits<0xff>,
        /// The instance.
        attr "instanceid" instanceid: Uuid,
        /// The profile (802.1Qbh, Open vSwitch).
        attr "profileid" profileid: crate::scalar::Text,
        /// The interface (Open vSwitch, MidoNet).
        attr "interfaceid" interfaceid: Uuid,
    }
}

choice! {
    /// How requests travel.
    pub enum HostTransport { Tcp = "tcp", Unix = "unix", Rdma = "rdma" }
}

element! {
    /// A server of storage.
    pub struct StorageHost main "name" {
        /// Its name or address.
        attr "name" name: String,
        /// Its port.
        attr "port" port: u16,
        /// How requests travel.
        attr "transport" transport: HostTransport,
        /// Its socket, for `unix`.
        attr "socket" socket: String,
    }
}

choice! {
    /// A manner of proving who one is.
    pub enum AuthType { Chap = "chap", Ceph = "ceph", Iscsi = "iscsi" }
}

element! {
    /// Who one is, towards a server.
    pub struct Auth {
        /// The manner.
        attr "type" kind: AuthType,
        /// The name.
        attr "username" username: String,
        /// The secret that holds the password.
        child "secret" secret: AuthSecret,
    }
}

element! {
    /// A secret by identity or by use.
    pub struct AuthSecret {
        /// What it is used for.
        attr "type" kind: crate::secret::UsageType,
        /// Its identity.
        attr "uuid" uuid: Uuid,
        /// Its use.
        attr "usage" usage: String,
    }
}

element! {
    /// Something that is on or off.
    pub struct State main "state" {
        /// Which.
        attr "state" state: OnOff,
    }
}

element! {
    /// Something that is wanted or not.
    pub struct Enabled main "enabled" {
        /// Which.
        attr "enabled" enabled: YesNo,
    }
}
