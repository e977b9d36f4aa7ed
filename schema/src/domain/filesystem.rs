//! File systems of the host's that a guest sees.

use super::IdMap;
use super::disk::VirtioModel;
use crate::scalar::OnOff;

choice! {
    /// What a file system lies on.
    pub enum FilesystemType {
        Mount = "mount",
        Block = "block",
        File = "file",
        Template = "template",
        Ram = "ram",
        Bind = "bind",
        Volume = "volume",
    }
}

choice! {
    /// Whose rights hold.
    pub enum AccessMode { Passthrough = "passthrough", Mapped = "mapped", Squash = "squash" }
}

choice! {
    /// What becomes of links between devices.
    pub enum Multidevs { Default = "default", Remap = "remap", Forbid = "forbid", Warn = "warn" }
}

device! {
    /// A file system of the host's.
    Filesystem [] {
        /// What it lies on.
        attr "type" kind: FilesystemType,
        /// Whose rights hold.
        attr "accessmode" accessmode: AccessMode,
        /// The mode of files made.
        attr "fmode" fmode: crate::pool::Mode,
        /// The mode of directories made.
        attr "dmode" dmode: crate::pool::Mode,
        /// What becomes of links between devices.
        attr "multidevs" multidevs: Multidevs,
        /// The form of virtio.
        attr "model" model: VirtioModel,
        /// How the host serves it.
        child "driver" driver: FilesystemDriver,
        /// The program that serves it.
        child "binary" binary: VirtiofsBinary,
        /// Numbers of users as the guest sees them.
        child "idmap" idmap: IdMap,
        /// What it lies on.
        child "source" source: FilesystemSource,
        /// Where the guest sees it.
        child "target" target: FilesystemTarget,
        /// Whether the guest cannot write it.
        flag "readonly" readonly: bool,
        /// The most it may hold.
        child "space_hard_limit" space_hard_limit: super::memory::ShmemSize,
        /// What it should hold.
        child "space_soft_limit" space_soft_limit: super::memory::ShmemSize,
        /// Its place in the order of boot.
        child "boot" boot: super::address::BootOrder,
    }
}

choice! {
    /// What serves a file system.
    pub enum FilesystemDriverType { Path = "path", Handle = "handle", Loop = "loop", Nbd = "nbd", Ploop = "ploop", Virtiofs = "virtiofs", Mtp = "mtp" }
}

choice! {
    /// When what is written reaches the host's disk.
    pub enum WritePolicy { Immediate = "immediate" }
}

virtio_driver! {
    /// How the host serves a file system.
    FilesystemDriver [main "type"] {
        /// What serves it.
        attr "type" kind: FilesystemDriverType,
        /// The format.
        attr "format" format: super::disk::ImageFormatName,
        /// When what is written reaches the host's disk.
        attr "wrpolicy" wrpolicy: WritePolicy,
        /// The size of its queue.
        attr "queue" queue: u32,
    }
}

element! {
    /// The program that serves a file system.
    pub struct VirtiofsBinary {
        /// Its path.
        attr "path" path: String,
        /// Whether extended attributes are served.
        attr "xattr" xattr: OnOff,
        /// What is kept.
        child "cache" cache: VirtiofsCache,
        /// How it is kept in.
        child "sandbox" sandbox: VirtiofsSandbox,
        /// Whether locks are served.
        child "lock" lock: VirtiofsLock,
        /// Its workers.
        child "thread_pool" thread_pool: ThreadPool,
        /// Files it may hold open.
        child "openfiles" openfiles: OpenFiles,
    }
}

choice! {
    /// What is kept.
    pub enum VirtiofsCacheMode { None = "none", Always = "always" }
}

element! {
    /// What is kept.
    pub struct VirtiofsCache main "mode" {
        /// Which.
        attr "mode" mode: VirtiofsCacheMode,
    }
}

choice! {
    /// How a program is kept in.
    pub enum VirtiofsSandboxMode { Namespace = "namespace", Chroot = "chroot" }
}

element! {
    /// How a program is kept in.
    pub struct VirtiofsSandbox main "mode" {
        /// Which way.
        attr "mode" mode: VirtiofsSandboxMode,
    }
}

element! {
    /// Whether locks are served.
    pub struct VirtiofsLock {
        /// Of POSIX.
        attr "posix" posix: OnOff,
        /// Of BSD.
        attr "flock" flock: OnOff,
    }
}

element! {
    /// Workers.
    pub struct ThreadPool main "size" {
        /// How many.
        attr "size" size: u32,
    }
}

element! {
    /// Files that may be held open.
    pub struct OpenFiles main "max" {
        /// How many.
        attr "max" max: u64,
    }
}

element! {
    /// What a file system lies on.
    pub struct FilesystemSource {
        /// A directory.
        attr "dir" dir: String,
        /// A block device.
        attr "dev" dev: String,
        /// A file.
        attr "file" file: String,
        /// A template's name.
        attr "name" name: String,
        /// A size of memory.
        attr "usage" usage: u64,
        /// The unit of that.
        attr "units" units: super::cpu::Unit,
        /// A pool.
        attr "pool" pool: String,
        /// Its volume.
        attr "volume" volume: String,
        /// The socket of a program that serves it.
        attr "socket" socket: String,
    }
}

element! {
    /// Where a guest sees a file system.
    pub struct FilesystemTarget main "dir" must ["dir"] {
        /// Its name there.
        attr "dir" dir: String,
    }
}
