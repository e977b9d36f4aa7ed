//! What the host shows now, as plain data.
//!
//! In: the kernel, the processes, the runtime directory and the files that [`Interest`] names. Out: an [`Inventory`] that serde can write, so that a plan can be
//! made from it anywhere. One collector a kind fills it (the files of this folder); the simulated host keeps one as its whole truth. What can go wrong: a
//! collector that cannot look is an error of that collector, never an empty inventory: a list that is incomplete must not look like things that are gone.

pub mod cgroups;
pub mod files;
pub mod guests;
pub mod links;
pub mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::compile::nft::{ChainName, MapElement, TableName};
use crate::domain::Launch;
use crate::resolve::domain::{Bandwidth, Tuning};
use crate::resolve::limits::Limits;
use crate::resolve::network::Route;
use crate::resolve::storage::{ImageFormat, Permissions};
use crate::units::Bytes;

/// What a plan needs to know of files, which cannot all be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interest {
    /// Pools' directories.
    pub directories: BTreeSet<PathBuf>,
    /// Volumes', kernels' and images' files.
    pub files: BTreeSet<PathBuf>,
}

/// The host as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// What the host can do.
    pub host: HostFacts,
    /// Every link, ours or not, by name.
    pub links: BTreeMap<String, Link>,
    /// Our nftables tables.
    #[serde(with = "crate::pairs")]
    pub tables: BTreeMap<TableName, Table>,
    /// Running dnsmasq processes of ours, by network.
    pub dnsmasq: BTreeMap<Uuid, DnsmasqProcess>,
    /// DHCP leases of our networks: hardware address to addresses.
    #[serde(with = "crate::pairs")]
    pub leases: BTreeMap<[u8; 6], BTreeSet<IpAddr>>,
    /// Guests that have a directory under the runtime directory.
    pub guests: BTreeMap<Uuid, Guest>,
    /// Our control groups, by guest.
    pub cgroups: BTreeMap<Uuid, Tuning>,
    /// Directories named by the interest; absent ones are absent here.
    pub directories: BTreeMap<PathBuf, Permissions>,
    /// Files named by the interest; absent ones are absent here.
    pub files: BTreeMap<PathBuf, File>,
}

/// What the host can do, found by probing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Online processors.
    pub cpus: u32,
    /// Total memory.
    pub memory: Bytes,
    /// Numbers of the NUMA nodes that have memory; `None` where nobody has looked.
    #[serde(default)]
    pub memory_nodes: Option<BTreeSet<u32>>,
    /// `/dev/kvm` can be opened.
    pub kvm: bool,
    /// Why KVM here cannot run an ordinary kernel, if it cannot (`kvm_pvm`).
    pub kvm_limits: Option<String>,
    /// Which control group hierarchy carries the controllers.
    pub cgroup: CgroupVersion,
    /// Controllers that can be used.
    pub cgroup_controllers: BTreeSet<String>,
    /// The kernel tracks connections in the bridge family.
    pub bridge_ct: bool,
    /// The kernel can reject in the bridge family.
    pub bridge_reject: bool,
    /// Tools found, by name, with their path (`qemu-system-x86_64`, `qemu-img`, `nft`, `dnsmasq`, `vireo-vmm`).
    pub tools: BTreeMap<String, PathBuf>,
    /// The runtime directory, which configurations of what runs there name.
    pub runtime: PathBuf,
    /// IPv4 forwarding is on.
    pub ip_forward: bool,
    /// IPv6 forwarding is on.
    pub ip6_forward: bool,
}

impl Default for HostFacts {
    fn default() -> Self {
        Self {
            cpus: 1,
            memory: Bytes(0),
            memory_nodes: None,
            kvm: false,
            kvm_limits: None,
            cgroup: CgroupVersion::None,
            cgroup_controllers: BTreeSet::new(),
            bridge_ct: false,
            bridge_reject: false,
            tools: BTreeMap::new(),
            runtime: PathBuf::from("/run/vireo"),
            ip_forward: false,
            ip6_forward: false,
        }
    }
}

/// A control group hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupVersion {
    /// Neither has the controllers.
    None,
    /// One hierarchy a controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A network link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// Whose it is: read from its alias (`vireo:<uuid>`). `None` is not ours.
    pub owner: Option<Uuid>,
    /// The bridge it is in.
    pub master: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// Hardware address.
    pub mac: [u8; 6],
    /// MTU in bytes.
    pub mtu: u32,
    /// Addresses with their prefix (link-local IPv6 left out).
    pub addresses: BTreeSet<IpNet>,
    /// Static routes through it that we may own (proto static, not from the kernel).
    pub routes: BTreeSet<Route>,
    /// A bridge's spanning tree protocol.
    pub stp: bool,
    /// A bridge's forward delay in seconds.
    pub delay: u32,
    /// The bandwidth limits that its qdiscs and filters show, read back.
    pub bandwidth: Bandwidth,
}

/// What a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A bridge.
    Bridge,
    /// A tap.
    Tap,
    /// A guest's share of a device.
    Macvtap,
    /// Anything else.
    Other,
}

/// One of our nftables tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The digest of its base chains and maps as `compile::nft::Skeleton::digest` has it; `None` where a base chain's rules are not those that were written.
    pub skeleton: Option<String>,
    /// Every chain but the skeleton's, with the digest that its comment claims; `None` where the comment is missing or the rules are not those that
    /// were written under that digest.
    pub chains: BTreeMap<ChainName, Option<String>>,
    /// Elements of the table's verdict maps, each with the verdict that it has.
    pub elements: BTreeSet<MapElement>,
}

/// A dnsmasq of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsmasqProcess {
    /// Process.
    pub pid: u32,
    /// Digest of the configuration that it was started with.
    pub digest: String,
}

/// A guest that has a directory under the runtime directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// What it was started as.
    pub launch: Box<Launch>,
    /// How it does.
    pub state: GuestState,
    /// What the guest has been asked to keep of its memory; `None` where its monitor does not tell (QEMU tells only how far the guest has come).
    pub balloon: Option<Bytes>,
    /// How its disks are, by target; those that its monitor does not tell of are not there.
    #[serde(default)]
    pub disks: BTreeMap<String, GuestDisk>,
    /// What the guest last reported of its memory, by name: bytes, or counts of events. Its own word; nothing is planned by it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub memory: BTreeMap<String, u64>,
}

/// How a disk of a running guest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestDisk {
    /// What the guest sees of it.
    pub capacity: Bytes,
    /// What its requests may come to.
    pub limits: Limits,
}

/// How a guest does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestState {
    /// The process runs, and so does the guest.
    Running {
        /// Process.
        pid: u32,
    },
    /// The process runs, the processors are halted.
    Paused {
        /// Process.
        pid: u32,
        /// Why, if nobody asked for it: the host failed a disk whose policy stops the guest then, or its watchdog was not fed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// The guest has ended, and its process is kept for a look, as `on_crash` or `on_poweroff` says.
    Preserved {
        /// Process.
        pid: u32,
        /// How it ended: `crash`, `power-off`.
        reason: String,
    },
    /// The process is gone; its directory is left.
    Ended {
        /// How, in the monitor's last words (`power-off`, `crash`, `quit`), or `killed` without any.
        reason: String,
    },
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Owner, group, mode.
    pub permissions: Permissions,
    /// Its size on the file system, or the length of a block device.
    pub size: Bytes,
    /// What its header says.
    pub image: Option<Image>,
}

/// An image's header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Format.
    pub format: ImageFormat,
    /// What a guest sees as the size.
    pub capacity: Bytes,
    /// The backing file, made absolute.
    pub backing: Option<PathBuf>,
}
