//! What a disk's data lies on: files, devices, volumes, servers.

use super::address::Address;
use super::chardev::CharMode;
use super::security::DeviceSecLabel;
use crate::scalar::YesNo;
use crate::volume::VolumeEncryption;

pub use crate::common::{Auth, StorageHost as Host};

choice! {
    /// What happens at start when a source is missing.
    pub enum StartupPolicy { Mandatory = "mandatory", Requisite = "requisite", Optional = "optional" }
}

choice! {
    /// How a server is spoken to.
    pub enum NetworkProtocol {
        Nbd = "nbd",
        Iscsi = "iscsi",
        Rbd = "rbd",
        Sheepdog = "sheepdog",
        Gluster = "gluster",
        Vxhs = "vxhs",
        Nfs = "nfs",
        Http = "http",
        Https = "https",
        Ftp = "ftp",
        Ftps = "ftps",
        Tftp = "tftp",
        Ssh = "ssh",
    }
}

choice! {
    /// Where the driver of an iSCSI volume runs.
    pub enum VolumeSourceMode { Host = "host", Direct = "direct" }
}

choice! {
    /// How something beyond the guest's process is reached.
    pub enum SourceType { Pci = "pci", Unix = "unix" }
}

element! {
    /// What a disk's data lies on; which of it is used depends on the disk's type. Some programs write an empty path for an empty drive, which is as good as none.
    pub struct DiskSource {
        /// A file.
        blank "file" file: String,
        /// A block device.
        blank "dev" dev: String,
        /// A directory shown as a file system.
        blank "dir" dir: String,
        /// A server's protocol.
        attr "protocol" protocol: NetworkProtocol,
        /// The name on the server.
        attr "name" name: String,
        /// What is asked of a server beside the name.
        attr "query" query: String,
        /// The pool of a volume.
        attr "pool" pool: String,
        /// The volume.
        attr "volume" volume: String,
        /// Where the driver of an iSCSI volume runs.
        attr "mode" mode: VolumeSourceMode,
        /// A namespace of an NVMe device.
        attr "namespace" namespace: u32,
        /// Whether an NVMe device is taken from the host when used.
        attr "managed" managed: YesNo,
        /// How a process beside is reached.
        attr "type" kind: SourceType,
        /// Its socket.
        attr "path" path: String,
        /// Whether the connection is encrypted.
        attr "tls" tls: YesNo,
        /// The name that the server's certificate must have.
        attr "tlsHostname" tls_hostname: String,
        /// What happens at start when it is missing.
        attr "startupPolicy" startup_policy: StartupPolicy,
        /// Its number in a chain, in output of libvirt.
        attr "index" index: u32,
        /// A group of file descriptors handed over.
        attr "fdgroup" fdgroup: String,
        /// Servers.
        list "host" hosts: Host,
        /// The snapshot on a server.
        child "snapshot" snapshot: NamedThing,
        /// The configuration of a client.
        child "config" config: ConfigFile,
        /// Who one is towards a server.
        child "auth" auth: Auth,
        /// How it is encrypted.
        child "encryption" encryption: VolumeEncryption,
        /// Whether a device is one's own for a time.
        child "reservations" reservations: Reservations,
        /// The name one has as an initiator.
        child "initiator" initiator: crate::pool::Initiator,
        /// The address of an NVMe device.
        child "address" address: Address,
        /// Parts of a file.
        child "slices" slices: Slices,
        /// Whether a server's certificate is judged.
        child "ssl" ssl: Ssl,
        /// Cookies for a server.
        child "cookies" cookies: Cookies,
        /// Bytes read ahead.
        child "readahead" readahead: Readahead,
        /// Seconds to wait for a server.
        child "timeout" timeout: Timeout,
        /// When a lost connection is tried again.
        child "reconnect" reconnect: Reconnect,
        /// Keys of known servers.
        child "knownHosts" known_hosts: PathThing,
        /// Who one is towards a server of files.
        child "identity" identity: Identity,
        /// How data written is kept apart.
        child "dataStore" data_store: Box<DataStore>,
        /// Labels of its own.
        list "seclabel" seclabels: DeviceSecLabel,
    }
}

element! {
    /// Where the data of a qcow2 file lies.
    pub struct DataStore must ["type"] {
        /// What it lies on.
        attr "type" kind: super::disk::DiskType,
        /// Its format.
        child "format" format: super::disk::ImageFormat,
        /// Where.
        child "source" source: Box<DiskSource>,
    }
}

element! {
    /// Something with a name.
    pub struct NamedThing main "name" {
        /// The name.
        attr "name" name: String,
    }
}

element! {
    /// Something with a path.
    pub struct PathThing main "path" {
        /// The path.
        attr "path" path: String,
    }
}

element! {
    /// The configuration of a client.
    pub struct ConfigFile main "file" {
        /// Its path.
        attr "file" file: String,
    }
}

element! {
    /// Whether a device is one's own for a time.
    pub struct Reservations {
        /// Whether the agent runs the helper.
        attr "managed" managed: YesNo,
        /// Whether it is used at all.
        attr "enabled" enabled: YesNo,
        /// How the helper is reached.
        child "source" source: ReservationSource,
    }
}

element! {
    /// How a helper is reached.
    pub struct ReservationSource {
        /// The way.
        attr "type" kind: SourceType,
        /// Its socket.
        attr "path" path: String,
        /// Who opens it.
        attr "mode" mode: CharMode,
        /// When a lost connection is tried again.
        child "reconnect" reconnect: Reconnect,
    }
}

element! {
    /// Parts of a file.
    pub struct Slices {
        /// The parts.
        list "slice" slices: Slice,
    }
}

choice! {
    /// What a slice is of.
    pub enum SliceType { Storage = "storage" }
}

element! {
    /// A part of a file.
    pub struct Slice must ["type", "offset", "size"] {
        /// What it is of.
        attr "type" kind: SliceType,
        /// Where it begins, in bytes.
        attr "offset" offset: u64,
        /// Its length in bytes.
        attr "size" size: u64,
    }
}

element! {
    /// Whether a server's certificate is judged.
    pub struct Ssl main "verify" {
        /// If so.
        attr "verify" verify: YesNo,
    }
}

element! {
    /// Cookies for a server.
    pub struct Cookies {
        /// The cookies.
        list "cookie" cookies: Cookie,
    }
}

element! {
    /// A cookie.
    pub struct Cookie must ["name"] {
        /// Its value.
        text "value" value: String,
        /// Its name.
        attr "name" name: String,
    }
}

element! {
    /// Bytes read ahead.
    pub struct Readahead main "size" {
        /// How many.
        attr "size" size: u64,
    }
}

element! {
    /// How long a server is waited for.
    pub struct Timeout main "seconds" {
        /// In seconds.
        attr "seconds" seconds: u64,
    }
}

element! {
    /// When a lost connection is tried again.
    pub struct Reconnect {
        /// Whether it is.
        attr "enabled" enabled: YesNo,
        /// After how many seconds.
        attr "timeout" timeout: u32,
        /// With how many seconds between.
        attr "delay" delay: u32,
    }
}

element! {
    /// Who one is towards a server of files.
    pub struct Identity {
        /// The user.
        attr "user" user: String,
        /// The group.
        attr "group" group: String,
        /// The user's name.
        attr "username" username: String,
        /// A key's file.
        attr "keyfile" keyfile: String,
        /// The agent's socket.
        attr "agentsock" agentsock: String,
    }
}
