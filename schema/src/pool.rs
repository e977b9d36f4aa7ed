//! Storage pools: the types behind `<pool>`.

use crate::common::{Auth, StorageHost};
use crate::scalar::{ByteSize, Name, Text, YesNo};
use uuid::Uuid;

choice! {
    /// What a pool is made of.
    pub enum PoolType {
        /// A directory.
        Dir = "dir",
        /// A file system on a block device.
        Fs = "fs",
        /// A file system of a server.
        Netfs = "netfs",
        /// A volume group of LVM.
        Logical = "logical",
        /// A partitioned disk.
        Disk = "disk",
        /// An iSCSI target, through the kernel.
        Iscsi = "iscsi",
        /// An iSCSI target, directly.
        IscsiDirect = "iscsi-direct",
        /// A SCSI host adapter.
        Scsi = "scsi",
        /// Multipath devices.
        Mpath = "mpath",
        /// A pool of Ceph's block devices.
        Rbd = "rbd",
        /// Sheepdog.
        Sheepdog = "sheepdog",
        /// A volume of Gluster.
        Gluster = "gluster",
        /// A pool of ZFS.
        Zfs = "zfs",
        /// Virtuozzo storage.
        Vstorage = "vstorage",
    }
}

choice! {
    /// The kind of a SCSI adapter.
    pub enum AdapterType { ScsiHost = "scsi_host", FcHost = "fc_host" }
}

choice! {
    /// How the space that volumes take is counted.
    pub enum RefreshAllocation { Default = "default", Capacity = "capacity" }
}

element! {
    /// A storage pool.
    pub struct Pool must ["type"] {
        /// What it is made of.
        attr "type" kind: PoolType,
        /// The pool's name; the source's name where not stated.
        leaf "name" name: Name,
        /// The pool's identity.
        leaf "uuid" uuid: Uuid,
        /// Its size, in output of libvirt.
        child "capacity" capacity: SizeElement,
        /// What is taken, in output of libvirt.
        child "allocation" allocation: SizeElement,
        /// What is free, in output of libvirt.
        child "available" available: SizeElement,
        /// What it can do.
        child "features" features: PoolFeatures,
        /// Where it comes from.
        child "source" source: PoolSource,
        /// Where it appears on the host.
        child "target" target: PoolTarget,
        /// How it finds its volumes.
        child "refresh" refresh: Refresh,
        /// Options of its mount.
        child "fs:mount_opts" mount_opts: MountOpts,
        /// Options of its connection.
        child "rbd:config_opts" config_opts: ConfigOpts,
    }
}

element! {
    /// A size.
    pub struct SizeElement {
        /// The size, in bytes where no unit is given.
        sized "value" value: ByteSize,
    }
}

element! {
    /// What a pool can do.
    pub struct PoolFeatures {
        /// Copy on write.
        child "cow" cow: Cow,
    }
}

element! {
    /// Copy on write.
    pub struct Cow main "state" {
        /// Whether files are made with it.
        attr "state" state: YesNo,
    }
}

element! {
    /// Where a pool comes from.
    pub struct PoolSource {
        /// Servers.
        list "host" hosts: StorageHost,
        /// Devices.
        list "device" devices: PoolDevice,
        /// The directory.
        child "dir" dir: PoolDir,
        /// The SCSI adapter.
        child "adapter" adapter: Adapter,
        /// The source's own name.
        leaf "name" name: String,
        /// Who one is towards the server.
        child "auth" auth: Auth,
        /// The name one has as an initiator.
        child "initiator" initiator: Initiator,
        /// Its format.
        child "format" format: Format,
        /// The protocol's version.
        child "protocol" protocol: Protocol,
        /// Who made it.
        child "vendor" vendor: Named,
        /// What it is.
        child "product" product: Named,
    }
}

element! {
    /// A device a pool is on.
    pub struct PoolDevice main "path" must ["path"] {
        /// Its path.
        attr "path" path: String,
        /// Whether its partitions have `p` before their number.
        attr "part_separator" part_separator: YesNo,
        /// What is free, in output of libvirt.
        list "freeExtent" = "freeExtents" free_extents: Extent,
    }
}

element! {
    /// A part of a device, in bytes.
    pub struct Extent {
        /// Its first.
        attr "start" start: u64,
        /// Its last.
        attr "end" end: u64,
    }
}

element! {
    /// A directory.
    pub struct PoolDir main "path" must ["path"] {
        /// Its path.
        attr "path" path: String,
    }
}

element! {
    /// A SCSI adapter.
    pub struct Adapter main "name" {
        /// Its kind.
        attr "type" kind: AdapterType,
        /// Its name, such as `host0`.
        attr "name" name: String,
        /// Its parent.
        attr "parent" parent: String,
        /// Its parent's node name.
        attr "parent_wwnn" parent_wwnn: String,
        /// Its parent's port name.
        attr "parent_wwpn" parent_wwpn: String,
        /// Its parent's fabric.
        attr "parent_fabric_wwn" parent_fabric_wwn: String,
        /// Whether vireo may remove it.
        attr "managed" managed: YesNo,
        /// Its node name.
        attr "wwnn" wwnn: String,
        /// Its port name.
        attr "wwpn" wwpn: String,
        /// Its parent by address.
        child "parentaddr" parentaddr: ParentAddr,
    }
}

element! {
    /// An adapter's parent by address.
    pub struct ParentAddr {
        /// Its own number.
        attr "unique_id" unique_id: u32,
        /// Its address.
        child "address" address: crate::domain::address::Address,
    }
}

element! {
    /// The name one has as an initiator.
    pub struct Initiator {
        /// The qualified name.
        child "iqn" iqn: Named,
    }
}

element! {
    /// A name.
    pub struct Named main "name" must ["name"] {
        /// The name.
        attr "name" name: String,
    }
}

element! {
    /// A format.
    pub struct Format main "type" must ["type"] {
        /// Its word; which are known depends on the pool.
        blank "type" kind: String,
    }
}

element! {
    /// A protocol's version.
    pub struct Protocol main "ver" must ["ver"] {
        /// The version.
        attr "ver" version: String,
    }
}

element! {
    /// Where a pool appears on the host.
    pub struct PoolTarget main "path" {
        /// The directory.
        leaf "path" path: String,
        /// Who may use it.
        child "permissions" permissions: Permissions,
    }
}

element! {
    /// Who may use a file.
    pub struct Permissions {
        /// The mode in octal.
        leaf "mode" mode: Mode,
        /// The owner's number; -1 leaves it.
        leaf "owner" owner: Owner,
        /// The group's number; -1 leaves it.
        leaf "group" group: Owner,
        /// The security label.
        leaf "label" label: Text,
    }
}

/// A number of a user or group; -1 for none.
pub type Owner = crate::scalar::Within<-1, 4_294_967_295>;

/// A file's mode.
#[derive(Debug, Clone)]
pub struct Mode {
    bits: u32,
    text: String,
}

impl Mode {
    /// The bits, 0 to 07777.
    pub fn bits(&self) -> u32 {
        self.bits
    }
}

impl PartialEq for Mode {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

impl crate::scalar::Scalar for Mode {
    const INFO: crate::scalar::ScalarInfo =
        crate::scalar::ScalarInfo::new("a mode in octal such as 0711", crate::scalar::Form::Text)
            .matching("^\\s*[0-7]{1,6}$");

    fn parse(text: &str) -> Result<Self, String> {
        let text = crate::scalar::behind_space(text)?;
        if text.is_empty() || text.len() > 6 || !text.chars().all(|c| ('0'..='7').contains(&c)) {
            return Err(String::new());
        }
        let bits = u32::from_str_radix(text, 8).map_err(|_| String::new())?;
        if bits > 0o7777 {
            return Err("is above 07777".into());
        }
        Ok(Self {
            bits,
            text: text.to_owned(),
        })
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        std::borrow::Cow::Borrowed(&self.text)
    }
}

element! {
    /// How a pool finds its volumes.
    pub struct Refresh {
        /// What is read of each.
        child "volume" volume: RefreshVolume,
    }
}

element! {
    /// What is read of each volume.
    pub struct RefreshVolume {
        /// How the space it takes is counted.
        attr "allocation" allocation: RefreshAllocation,
    }
}

element! {
    /// Options of a mount.
    pub struct MountOpts {
        /// Each of them.
        list "fs:option" options: Named,
    }
}

element! {
    /// Options of a connection to Ceph.
    pub struct ConfigOpts {
        /// Each of them.
        list "rbd:option" options: ConfigOption,
    }
}

element! {
    /// One option.
    pub struct ConfigOption must ["name", "value"] {
        /// Its name.
        attr "name" name: String,
        /// Its value.
        attr "value" value: Text,
    }
}
