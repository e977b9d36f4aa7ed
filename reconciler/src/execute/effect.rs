//! Effects: the only things that vireo does to a host.
//!
//! Each is plain data, complete (nothing is left to choose) and idempotent, so that a crash between any two leaves a state from which the next plan converges.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::compile::nft::NftOp;
use crate::domain::Launch;
use crate::ledger::Entry;
use crate::object::ObjectId;
use crate::resolve::Driver;
use crate::resolve::domain::{Bandwidth, DirectMode, Tuning};
use crate::resolve::limits::Limits;
use crate::resolve::network::{Bridge, Route};
use crate::resolve::storage::{Permissions, Volume};
use crate::units::Bytes;

/// A guest's share of a device of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Macvtap {
    /// Its name.
    pub name: String,
    /// The guest.
    pub owner: Uuid,
    /// The device's name.
    pub device: String,
    /// How the device is shared.
    pub mode: DirectMode,
    /// The guest's address: the device takes in what is for it.
    pub mac: [u8; 6],
    /// MTU in bytes; `None` is the device's.
    pub mtu: Option<u32>,
}

/// One thing done to the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Writes an object's ledger entry.
    Record(Box<Entry>),
    /// Removes an object's ledger entry.
    Forget(ObjectId),

    /// Makes a bridge (marked as the owner's, down) or sets an existing one of ours to these attributes. Refused on a link that is not the owner's.
    EnsureBridge {
        /// Attributes.
        bridge: Bridge,
        /// The network.
        owner: Uuid,
    },
    /// Adds an address to a link.
    AddAddress {
        /// Link.
        link: String,
        /// Address and prefix.
        address: IpNet,
    },
    /// Removes an address from a link.
    RemoveAddress {
        /// Link.
        link: String,
        /// Address and prefix.
        address: IpNet,
    },
    /// Adds a static route through a link.
    AddRoute {
        /// Link.
        link: String,
        /// Route.
        route: Route,
    },
    /// Removes a static route through a link.
    RemoveRoute {
        /// Link.
        link: String,
        /// Route.
        route: Route,
    },
    /// Sets a link up or down.
    SetLink {
        /// Link.
        link: String,
        /// Administrative state.
        up: bool,
    },
    /// Makes a persistent tap (marked as the owner's, down) or brings an existing one of ours to these attributes; puts it into the bridge.
    EnsureTap {
        /// Tap.
        tap: String,
        /// The guest.
        owner: Uuid,
        /// The bridge it goes into, if any.
        bridge: Option<String>,
        /// MTU in bytes; `None` is the bridge's.
        mtu: Option<u32>,
        /// Several queues.
        multi_queue: bool,
    },
    /// Makes a guest's share of a device of the host's (marked as the guest's, down), or brings one to these attributes; of another device, it is made anew.
    EnsureMacvtap(Macvtap),
    /// Deletes a link of the owner's. Absent is fine; somebody else's is refused.
    DeleteLink {
        /// Link.
        link: String,
        /// Whose it must be.
        owner: Uuid,
    },
    /// Turns forwarding on, for IPv4 or IPv6. Never turned off again: others may rely on it.
    EnableForwarding {
        /// IPv6 instead of IPv4.
        ipv6: bool,
    },
    /// One atomic nftables transaction.
    Nft(Vec<NftOp>),
    /// Sets (or with both directions `None`, removes) the limits of a link through tc.
    SetBandwidth {
        /// Link.
        link: String,
        /// Limits.
        bandwidth: Bandwidth,
    },

    /// Starts a network's dnsmasq with these files (by name, written to its directory under the runtime directory), replacing one that runs with others.
    EnsureDnsmasq {
        /// The network.
        network: Uuid,
        /// The bridge it serves.
        bridge: String,
        /// Contents by file name; `dnsmasq.conf` is the one it is started with.
        files: BTreeMap<String, String>,
        /// Digest of the files.
        digest: String,
    },
    /// Stops a network's dnsmasq and removes its directory.
    StopDnsmasq {
        /// The network.
        network: Uuid,
    },

    /// Makes a directory, with its parents, or sets its permissions.
    EnsureDirectory {
        /// Absolute path.
        path: PathBuf,
        /// Owner, group, mode.
        permissions: Permissions,
    },
    /// Makes a volume's image under a temporary name and renames it into place. An existing file is never written over.
    CreateVolume(Box<Volume>),
    /// Makes an image larger, in place. Never smaller.
    GrowVolume {
        /// Image.
        path: PathBuf,
        /// New capacity.
        capacity: Bytes,
    },
    /// Sets a file's owner, group and mode.
    SetPermissions {
        /// File.
        path: PathBuf,
        /// Owner, group, mode.
        permissions: Permissions,
    },
    /// Deletes a volume's file. Only ever planned with leave to lose data.
    DeleteVolume {
        /// Image.
        path: PathBuf,
    },

    /// Runs the hook scripts of one kind with libvirt's arguments.
    RunHook(Hook),

    /// Makes a guest's control group, or sets the values of an existing one; values that are `None` are set back to the kernel's default.
    SetCgroup {
        /// The guest.
        guest: Uuid,
        /// Values.
        tuning: Tuning,
    },
    /// Removes a guest's control group, ending any process left in it.
    RemoveCgroup {
        /// The guest.
        guest: Uuid,
    },
    /// Writes the guest's directory and starts its process inside its control group. A guest whose process runs is left alone: starting twice is one guest.
    StartGuest(Box<Launch>),
    /// Asks the guest to shut down (ACPI), waits, then ends its process.
    ShutdownGuest {
        /// The guest.
        guest: Uuid,
        /// Who runs it.
        driver: Driver,
        /// How long to wait; zero ends it at once.
        timeout: Duration,
    },
    /// Halts the guest's processors.
    PauseGuest {
        /// The guest.
        guest: Uuid,
        /// Who runs it.
        driver: Driver,
    },
    /// Lets the guest's processors run.
    ResumeGuest {
        /// The guest.
        guest: Uuid,
        /// Who runs it.
        driver: Driver,
    },
    /// Tells a running guest whether the cable of an interface is in.
    SetGuestLink {
        /// The guest.
        guest: Uuid,
        /// Who runs it.
        driver: Driver,
        /// The interface's place in the definition, from 0.
        interface: usize,
        /// It is in.
        up: bool,
    },
    /// Sets what the balloon leaves the guest.
    SetBalloon {
        /// The guest.
        guest: Uuid,
        /// Who runs it.
        driver: Driver,
        /// Memory left to the guest.
        size: Bytes,
    },
    /// Puts a disk of a running guest, and the others of its group, under these limits.
    SetDiskLimits {
        /// The guest.
        guest: Uuid,
        /// Who runs it.
        driver: Driver,
        /// The disk's target.
        disk: String,
        /// Limits.
        limits: Box<Limits>,
    },
    /// Makes a disk of a running guest larger, its image and what the guest sees of it, through the monitor that has it open. Never smaller.
    GrowDisk {
        /// The guest.
        guest: Uuid,
        /// Who runs it.
        driver: Driver,
        /// The disk's target.
        disk: String,
        /// Its image.
        path: PathBuf,
        /// New capacity.
        capacity: Bytes,
    },
    /// Rewrites `launch.json` of a running guest after a live change, so that it says what runs.
    RecordLaunch(Box<Launch>),
    /// Removes the directory of a guest whose process is gone.
    ReleaseGuest {
        /// The guest.
        guest: Uuid,
    },
}

/// One call of the hook scripts. Source: libvirt's "Hooks for specific system management".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// `qemu`, `network` or `daemon`.
    pub script: String,
    /// First argument: the object's name, or `-`.
    pub object: String,
    /// Second argument: `prepare`, `start`, `started`, `stopped`, `release`, …
    pub operation: String,
    /// Third argument: `begin`, `end`, `-`, …
    pub sub_operation: String,
    /// Fourth argument: `-` if none.
    pub extra: String,
    /// Standard input: the definition.
    pub input: String,
    /// A script that fails stops the step.
    pub may_refuse: bool,
}

/// An effect that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct EffectError {
    /// What was tried on what, and why it failed.
    pub message: String,
    /// What the operator can do about it, where that is known.
    pub help: Option<String>,
    /// Whether another try can help without a change of the definitions.
    pub retry: bool,
}

impl EffectError {
    /// An error that another try may cure.
    pub fn passing(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            retry: true,
        }
    }

    /// An error that only a change of the definitions or of the host cures; `help` says which.
    pub fn lasting(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Some(help.into()),
            retry: false,
        }
    }

    /// An error that no other try cures, where what cures it is not known.
    pub fn refused(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            retry: false,
        }
    }

    /// The same error, with what the operator can do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A step's task that panicked or was aborted.
    pub(super) fn from_task(error: &tokio::task::JoinError) -> Self {
        Self::passing(format!("the step's task ended early: {error}"))
    }
}
