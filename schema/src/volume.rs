//! Volumes: the types behind `<volume>`.

use crate::pool::{Extent, Format, Permissions, SizeElement};
use crate::scalar::{Name, Number, Text};
use uuid::Uuid;

choice! {
    /// What a volume is on the host.
    pub enum VolumeType { File = "file", Block = "block", Dir = "dir", Network = "network", Netdir = "netdir", Ploop = "ploop" }
}

element! {
    /// A volume.
    pub struct Volume must ["name"]
        short ["backing" => ["backingStore/path"], "format" => ["target/format/@type"]]
    {
        /// What it is on the host, in output of libvirt.
        attr "type" kind: VolumeType,
        /// The pool it lies in. XML says it in the policy, as libvirt's format has no place for it.
        attr "vireo:pool" = "pool" pool: Name,
        /// The volume's name.
        leaf "name" name: Name,
        /// Its key, in output of libvirt.
        leaf "key" key: String,
        /// The size a guest sees; bytes where no unit is given.
        child "capacity" capacity: SizeElement,
        /// The space taken at once; all of it where not stated.
        child "allocation" allocation: SizeElement,
        /// The space it takes, in output of libvirt.
        child "physical" physical: SizeElement,
        /// The device parts it is on, in output of libvirt.
        child "source" source: VolumeSource,
        /// What it is like.
        child "target" target: VolumeTarget,
        /// What it is a difference to.
        child "backingStore" backing_store: BackingStore,
    }
}

element! {
    /// The device parts a volume is on.
    pub struct VolumeSource {
        /// Each device.
        list "device" devices: VolumeDevice,
    }
}

element! {
    /// A device a volume is on.
    pub struct VolumeDevice {
        /// Its path.
        attr "path" path: String,
        /// Its parts.
        list "extent" extents: Extent,
    }
}

element! {
    /// What a volume is like.
    pub struct VolumeTarget {
        /// Its path, in output of libvirt.
        leaf "path" path: String,
        /// Its format; raw where not stated.
        child "format" format: Format,
        /// Who may use it.
        child "permissions" permissions: Permissions,
        /// When it was used, in output of libvirt.
        child "timestamps" timestamps: Timestamps,
        /// The lowest version of QEMU's format (`0.10`, `1.1`).
        leaf "compat" compat: String,
        /// Whether copy-on-write is left off on btrfs.
        flag "nocow" nocow: bool,
        /// The size of a cluster.
        child "clusterSize" cluster_size: SizeElement,
        /// What the format can do beyond the ordinary.
        child "features" features: VolumeFeatures,
        /// How it is encrypted.
        child "encryption" encryption: VolumeEncryption,
    }
}

element! {
    /// What a format can do beyond the ordinary.
    pub struct VolumeFeatures {
        /// Counts of references are written late.
        flag "lazy_refcounts" lazy_refcounts: bool,
        /// Clusters have parts.
        flag "extended_l2" extended_l2: bool,
    }
}

element! {
    /// When a volume was used, in seconds since 1970.
    pub struct Timestamps {
        /// Read.
        leaf "atime" atime: String,
        /// Made.
        leaf "btime" btime: String,
        /// Its attributes changed.
        leaf "ctime" ctime: String,
        /// Written.
        leaf "mtime" mtime: String,
    }
}

element! {
    /// What a volume is a difference to.
    pub struct BackingStore main "path" must ["path"] {
        /// Its path.
        leaf "path" path: String,
        /// Its format.
        child "format" format: Format,
        /// Who may use it.
        child "permissions" permissions: Permissions,
        /// When it was used.
        child "timestamps" timestamps: Timestamps,
    }
}

choice! {
    /// A format of encryption.
    pub enum EncryptionFormat {
        /// Whatever the volume's format takes by itself.
        Default = "default",
        /// QEMU's old one.
        Qcow = "qcow",
        /// LUKS.
        Luks = "luks",
        /// LUKS 2.
        Luks2 = "luks2",
        /// Any version of LUKS.
        LuksAny = "luks-any",
    }
}

choice! {
    /// What does the encryption.
    pub enum EncryptionEngine { Qemu = "qemu", Librbd = "librbd" }
}

choice! {
    /// What a secret of an encryption is.
    pub enum EncryptionSecretType { Passphrase = "passphrase" }
}

element! {
    /// How something is encrypted.
    pub struct VolumeEncryption must ["format"] {
        /// The format.
        attr "format" format: EncryptionFormat,
        /// What does it.
        attr "engine" engine: EncryptionEngine,
        /// The secrets.
        list "secret" secrets: EncryptionSecret,
        /// The cipher.
        child "cipher" cipher: Cipher,
        /// How the initial vector is made.
        child "ivgen" ivgen: IvGen,
    }
}

element! {
    /// A secret of an encryption.
    pub struct EncryptionSecret must ["type"] {
        /// What it is.
        attr "type" kind: EncryptionSecretType,
        /// Its identity.
        attr "uuid" uuid: Uuid,
        /// Its use.
        attr "usage" usage: String,
    }
}

element! {
    /// A cipher.
    pub struct Cipher must ["name", "size"] {
        /// Its name, such as `aes`.
        attr "name" name: String,
        /// The size of its key in bits.
        attr "size" size: Number,
        /// Its mode, such as `cbc`.
        attr "mode" mode: String,
        /// Its hash, such as `sha256`.
        attr "hash" hash: String,
    }
}

element! {
    /// How the initial vector is made.
    pub struct IvGen must ["name"] {
        /// The way, such as `plain64`.
        attr "name" name: String,
        /// Its hash.
        attr "hash" hash: Text,
    }
}

impl Volume {
    /// `pool/name`, or the name alone where no pool is stated.
    pub fn full_name(&self) -> Option<String> {
        let name = self.name.as_ref()?;
        Some(
            self.pool
                .as_ref()
                .map_or_else(|| name.to_string(), |pool| format!("{pool}/{name}")),
        )
    }
}
