//! Namespaces of the monitor's own: an empty root directory, a network without links, its own message objects.
//!
//! They are made once, by a thread that ends, while everything else goes on opening what the guest needs where it is on the host; what is
//! left are descriptors. Each thread enters them when it gives up its privileges. So the order in which devices are opened and their threads
//! started does not matter.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::SandboxError;
use super::layers::{Layer, Layers};

/// Descriptors of the namespaces that could be made.
#[derive(Debug)]
pub(super) struct Enclosure(Vec<(LinkNameSpaceType, OwnedFd)>);

/// The mount namespace comes last: from its empty root the others' descriptors could not be opened.
const KINDS: [(Layer, UnshareFlags, &str, LinkNameSpaceType); 3] = [
    (
        Layer::Ipc,
        UnshareFlags::NEWIPC,
        "/proc/thread-self/ns/ipc",
        LinkNameSpaceType::InterProcessCommunication,
    ),
    (
        Layer::Network,
        UnshareFlags::NEWNET,
        "/proc/thread-self/ns/net",
        LinkNameSpaceType::Network,
    ),
    (
        Layer::Root,
        UnshareFlags::NEWNS,
        "/proc/thread-self/ns/mnt",
        LinkNameSpaceType::Mount,
    ),
];

/// Namespaces that a thread is making, while the process goes on with something else.
#[derive(Debug)]
pub(super) struct Making(thread::JoinHandle<[Made; 3]>);

type Made = (Layer, LinkNameSpaceType, io::Result<OwnedFd>);

impl Making {
    /// Begins to make what this host lets the process make.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn begin() -> io::Result<Self> {
        thread::Builder::new()
            .name("enclosure".into())
            .stack_size(128 << 10)
            .spawn(|| KINDS.map(|(layer, flag, link, kind)| (layer, kind, namespace(flag, link))))
            .map(Self)
    }

    /// Waits until all is made, and notes each.
    ///
    /// # Errors
    /// The thread ended before.
    pub(super) fn wait(self, layers: &mut Layers) -> io::Result<Enclosure> {
        let made = self
            .0
            .join()
            .map_err(|_| io::Error::other("the thread that makes namespaces ended"))?;
        let mut enclosure = Enclosure(Vec::new());
        for (layer, kind, outcome) in made {
            layers.note(
                layer,
                outcome
                    .map(|fd| enclosure.0.push((kind, fd)))
                    .map_err(|error| reason(&error)),
            );
        }
        Ok(enclosure)
    }
}

impl Enclosure {
    /// No namespaces.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    /// Moves the calling thread inside.
    pub(super) fn enter(&self) -> rustix::io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        leave(UnshareFlags::FS)?;
        self.move_into(|_| true)
    }

    /// Moves the calling thread inside, but into a directory of the host instead of an empty one: that is all of the host that it sees, and where names are looked for.
    /// Where there is no mount namespace, it only stays there.
    pub(super) fn enter_at(&self, place: &fs::File) -> rustix::io::Result<()> {
        leave(UnshareFlags::FS)?;
        rustix::process::fchdir(place)?;
        if self.0.iter().any(|(kind, _)| *kind == Self::ROOT) {
            // The thread's working directory is then that of the copy, which can be mounted.
            leave(UnshareFlags::NEWNS)?;
            root_here()?;
        }
        self.move_into(|kind| kind != Self::ROOT)
    }

    const ROOT: LinkNameSpaceType = LinkNameSpaceType::Mount;

    fn move_into(&self, wanted: impl Fn(LinkNameSpaceType) -> bool) -> rustix::io::Result<()> {
        let wanted = self.0.iter().filter(|(kind, _)| wanted(*kind));
        for (kind, fd) in wanted {
            rustix::thread::move_into_link_name_space(fd.as_fd(), Some(*kind))?;
        }
        Ok(())
    }
}

/// Lets a process without privileges make namespaces, by making one of users first, in which it stays who it is. One that has capabilities
/// keeps them, since it may need them for what it has yet to open. A host that forbids it is no error: what cannot be made then says so.
///
/// # Errors
/// The namespace is there but cannot be used.
pub(super) fn become_able() -> Result<(), SandboxError> {
    let capable = rustix::thread::capabilities(None).is_ok_and(|sets| !sets.effective.is_empty());
    if capable || rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if leave(UnshareFlags::NEWUSER).is_err() {
        return Ok(());
    }
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    let files = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ];
    for (path, text) in files {
        fs::write(path, text).map_err(|source| SandboxError::Refused {
            what: "keep its user in a namespace of its own",
            source,
        })?;
    }
    Ok(())
}

fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "only root, or a user whom the kernel lets make user namespaces, can make one".into()
    } else {
        format!("the kernel made none: {error}")
    }
}

/// Leaves what the thread shares with others.
fn leave(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the descriptor table is never among the flags, which is what could take descriptors from other threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Moves the calling thread into a new namespace and gives its descriptor.
fn namespace(flag: UnshareFlags, link: &str) -> io::Result<OwnedFd> {
    leave(flag)?;
    let fd = rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    if flag == UnshareFlags::NEWNS {
        empty_root()?;
    }
    Ok(fd)
}

/// A directory that is on every host with KVM, to put a new root on for a moment.
const PLACE: &str = "/dev";

/// Replaces the root of the thread's own mount namespace by a directory that is empty, read-only and closed to all but root.
fn empty_root() -> rustix::io::Result<()> {
    private()?;
    rustix::mount::mount("none", PLACE, "tmpfs", nothing(), c"mode=0,size=4k")?;
    replace_root()
}

/// Replaces the root of the thread's own mount namespace by its working directory, in which nothing can be written or run.
fn root_here() -> rustix::io::Result<()> {
    private()?;
    // With what is mounted in it: a user namespace may not uncover what that hides.
    rustix::mount::mount_bind_recursive(".", PLACE)?;
    rustix::mount::mount_remount(PLACE, MountFlags::BIND | nothing(), c"")?;
    replace_root()
}

fn nothing() -> MountFlags {
    MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC
}

/// What is mounted on the host later does not appear in the thread's own mount namespace, nor what happens there on the host.
fn private() -> rustix::io::Result<()> {
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
}

/// Makes what is mounted on [`PLACE`] the root of the thread's own mount namespace.
fn replace_root() -> rustix::io::Result<()> {
    rustix::process::chdir(PLACE)?;
    // The old root goes on top of the new one, and then away with everything on it.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}
