//! Wake-ups from the kernel's own events, so that damage is noticed when it happens and not when somebody looks.
//!
//! In: the processes and directories to keep an eye on, told anew after each look ([`Watch::aim`]). Out: a [`Wake`] whenever something of a kind may have changed: links, addresses and
//! routes, queues, our packet filter tables, processes of ours that end, values of control groups, files of pools. What can go wrong: the kernel drops events
//! when too many come at once, which is itself told ([`Wake::Everything`]); a source that cannot be opened is an error at the start.
//!
//! Our own changes cause events like anybody's: the look that follows finds nothing to do. A burst of events is not a burst of wakes: while a wake waits to be
//! taken, another of its kind adds nothing. Between two wakes the controller lets things settle.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::fs::inotify::{self, WatchFlags};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};
use tokio::io::Interest as Readiness;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::cgroup::Cgroups;
use super::netlink::{attributes, text, u16_at, u32_at};
use crate::compile::nft::TableName;
use crate::inventory::{GuestState, Interest, Inventory};

/// What may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wake {
    /// Links, addresses or routes.
    Links,
    /// Qdiscs, classes or their filters.
    Queues,
    /// Our packet filter tables.
    Tables,
    /// A process of ours ended.
    Processes,
    /// Values of our control groups, or the groups themselves.
    Groups,
    /// Files in the directories that are watched.
    Files,
    /// Events were lost.
    Everything,
}

impl Wake {
    const ALL: [Self; 7] = [
        Self::Links,
        Self::Queues,
        Self::Tables,
        Self::Processes,
        Self::Groups,
        Self::Files,
        Self::Everything,
    ];
}

/// What to keep an eye on, besides the kernel's tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Processes whose end matters.
    pub processes: BTreeSet<u32>,
    /// Control groups' directories.
    pub groups: BTreeSet<PathBuf>,
    /// Directories whose files matter.
    pub directories: BTreeSet<PathBuf>,
}

impl Targets {
    /// What an inventory shows of ours: guests and dnsmasq processes, control groups, and the directories of the files that definitions name.
    pub fn of(inventory: &Inventory, interest: &Interest, cgroups: &Cgroups) -> Self {
        let guests = inventory.guests.values().filter_map(|g| match g.state {
            GuestState::Running { pid }
            | GuestState::Paused { pid, .. }
            | GuestState::Preserved { pid, .. } => Some(pid),
            GuestState::Ended { .. } => None,
        });
        let servers = inventory.dnsmasq.values().map(|process| process.pid);
        let folders = interest.files.iter().filter_map(|f| f.parent());
        // A group that goes is told of by its parent.
        let groups: BTreeSet<PathBuf> = inventory
            .cgroups
            .keys()
            .flat_map(|guest| cgroups.paths(*guest))
            .flat_map(|group| [group.parent().map(Path::to_owned), Some(group)])
            .flatten()
            .collect();
        Self {
            processes: guests.chain(servers).collect(),
            groups,
            directories: folders
                .chain(interest.directories.iter().map(PathBuf::as_path))
                .map(Path::to_owned)
                .collect(),
        }
    }
}

/// The running watch. It ends when this is dropped.
pub struct Watch {
    pending: Arc<Pending>,
    targets: watch::Sender<Targets>,
    _tasks: JoinSet<()>,
}

/// Kinds that have changed since they were last taken: one bit each.
#[derive(Default)]
struct Pending {
    kinds: AtomicU8,
    notify: Notify,
}

impl Pending {
    fn wake(&self, kind: Wake) {
        self.kinds.fetch_or(1 << kind as u8, Ordering::SeqCst);
        self.notify.notify_one();
    }
}

impl Watch {
    /// Starts watching the kernel's tables. To be called within a tokio runtime, in the network namespace to watch.
    ///
    /// # Errors
    /// A socket to the kernel cannot be opened.
    pub fn start() -> io::Result<Self> {
        let pending = Arc::new(Pending::default());
        let (targets, aimed) = watch::channel(Targets::default());
        let mut tasks = JoinSet::new();
        let route = subscribe(None, &ROUTE_GROUPS)?;
        tasks.spawn(listen(route, pending.clone(), route_event));
        match subscribe(Some(netlink::NETFILTER), &[NFTABLES_GROUP]) {
            Ok(netfilter) => {
                tasks.spawn(listen(netfilter, pending.clone(), table_event));
            }
            // A kernel without netfilter has no tables to damage.
            Err(error) if error.raw_os_error() == Some(Errno::PROTONOSUPPORT.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let files = readable(inotify::init(
            inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK,
        )?)?;
        tasks.spawn(watch_files(files, aimed.clone(), pending.clone()));
        tasks.spawn(watch_processes(aimed, pending.clone()));
        Ok(Self {
            pending,
            targets,
            _tasks: tasks,
        })
    }

    /// Says what to keep an eye on from now on.
    pub fn aim(&self, targets: Targets) {
        self.targets.send_if_modified(|present| {
            let differs = *present != targets;
            *present = targets;
            differs
        });
    }

    /// Waits until something may have changed; returns every kind that may have. May be cancelled without losing any.
    pub async fn next(&self) -> BTreeSet<Wake> {
        loop {
            let kinds = self.pending.kinds.swap(0, Ordering::SeqCst);
            if kinds != 0 {
                return Wake::ALL
                    .into_iter()
                    .filter(|kind| kinds & (1 << *kind as u8) != 0)
                    .collect();
            }
            self.pending.notify.notified().await;
        }
    }
}

/// Multicast groups of routing netlink. Source: linux/rtnetlink.h: link, tc, IPv4 address and route, IPv6 address and route, IPv4 and IPv6 settings.
const ROUTE_GROUPS: [u32; 8] = [1, 4, 5, 7, 9, 11, 24, 25];
/// `NFNLGRP_NFTABLES`. Source: linux/netfilter/nfnetlink.h.
const NFTABLES_GROUP: u32 = 7;

/// A socket that gets a protocol's events; routing netlink, which has the number 0, is `None`.
fn subscribe(
    protocol: Option<rustix::net::Protocol>,
    groups: &[u32],
) -> io::Result<AsyncFd<OwnedFd>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        protocol,
    )?;
    let mask = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, mask))?;
    readable(socket)
}

/// Puts a descriptor under the runtime's eye.
fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is registered, so that it stays open, and the same file, until it is taken off again.
    unsafe { AsyncFd::register_with_interest(fd, Readiness::READABLE) }.map_err(Into::into)
}

/// Reads a socket's messages for ever, and wakes for those that mean something.
async fn listen(
    socket: AsyncFd<OwnedFd>,
    pending: Arc<Pending>,
    meaning: fn(u16, &[u8]) -> Option<Wake>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(mut ready) = socket.readable().await else {
            return;
        };
        let received = ready.try_io(|fd| {
            rustix::net::recv(fd.as_fd(), buffer.as_mut_slice(), RecvFlags::DONTWAIT)
                .map(|(_, length)| length)
                .map_err(io::Error::from)
        });
        match received {
            // Not readable after all.
            Err(_) => {}
            Ok(Ok(length)) => {
                let mut rest = buffer.get(..length).unwrap_or(&buffer);
                while let Some((kind, payload)) = next_message(&mut rest) {
                    if let Some(wake) = meaning(kind, payload) {
                        pending.wake(wake);
                    }
                }
            }
            // ENOBUFS: more came than we took. Whatever else it is must not become a busy loop.
            Ok(Err(error)) => {
                tracing::debug!(%error, "events of the kernel were lost");
                pending.wake(Wake::Everything);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn next_message<'a>(rest: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = usize::try_from(u32_at(rest, 0)?).ok()?;
    let kind = u16_at(rest, 4)?;
    let payload = rest.get(16..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Some((kind, payload))
}

/// `RTM_*` from `RTM_NEWLINK` to `RTM_DELROUTE`, from `RTM_NEWQDISC` to `RTM_DELTFILTER`, and `RTM_NEWNETCONF`: whether packets are forwarded.
fn route_event(kind: u16, _payload: &[u8]) -> Option<Wake> {
    match kind {
        16..=27 | 80..=81 => Some(Wake::Links),
        36..=47 => Some(Wake::Queues),
        _ => None,
    }
}

/// Every message of nftables but that of a new generation names its table first.
fn table_event(kind: u16, payload: &[u8]) -> Option<Wake> {
    const NEW_GENERATION: u16 = 15;
    if kind & 0xff == NEW_GENERATION {
        return None;
    }
    let all = attributes(payload.get(4..)?);
    let table = all.get(&1).and_then(|v| text(v))?;
    [TableName::filters(), TableName::networks()]
        .iter()
        .any(|ours| ours.name.as_str() == table)
        .then_some(Wake::Tables)
}

/// Waits for the end of each process that is aimed at.
async fn watch_processes(mut aimed: watch::Receiver<Targets>, pending: Arc<Pending>) {
    let mut waiting: BTreeMap<u32, tokio::task::AbortHandle> = BTreeMap::new();
    let mut ends = JoinSet::new();
    loop {
        let wanted = aimed.borrow_and_update().processes.clone();
        waiting.retain(|pid, task| {
            let keep = wanted.contains(pid);
            if !keep {
                task.abort();
            }
            keep
        });
        for pid in wanted {
            waiting
                .entry(pid)
                .or_insert_with(|| ends.spawn(async move { (pid, end_of(pid).await) }));
        }
        tokio::select! {
            // Both are safe to cancel: a change stays marked, an ended task stays in the set.
            changed = aimed.changed() => if changed.is_err() { return },
            Some(ended) = ends.join_next(), if !ends.is_empty() => if let Ok((pid, result)) = ended {
                if let Err(error) = result {
                    tracing::debug!(pid, %error, "cannot wait for a process");
                }
                // It stays among those waited for until the next aim leaves it out: one end, one wake.
                pending.wake(Wake::Processes);
            },
        }
    }
}

async fn end_of(pid: u32) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(());
    };
    let handle = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(()),
        other => readable(other?)?,
    };
    handle.readable().await.map(drop)
}

/// What of a control group's directory matters: writes to its files. Source: inotify(7); the kernel's own files tell of writes as others do.
const GROUP_EVENTS: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What of a pool's directory matters: files that come and go, not what guests write into them.
const FOLDER_EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Watches the directories that are aimed at.
async fn watch_files(
    files: AsyncFd<OwnedFd>,
    mut aimed: watch::Receiver<Targets>,
    pending: Arc<Pending>,
) {
    let mut watched = Watched::default();
    loop {
        let targets = aimed.borrow_and_update().clone();
        watched.turn_to(files.get_ref(), &targets);
        loop {
            tokio::select! {
                // Both are safe to cancel: nothing is read before it is handled.
                changed = aimed.changed() => {
                    if changed.is_err() { return }
                    break;
                }
                ready = files.readable() => {
                    let Ok(mut ready) = ready else { return };
                    if let Ok(Err(error)) = ready.try_io(|fd| watched.read(fd.get_ref(), &pending)) {
                        tracing::debug!(%error, "events of files were lost");
                        pending.wake(Wake::Everything);
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }
}

/// The directories that are watched, by the kernel's number for each watch.
#[derive(Default)]
struct Watched {
    by_path: BTreeMap<PathBuf, i32>,
    kinds: BTreeMap<i32, Wake>,
}

impl Watched {
    fn turn_to(&mut self, fd: &OwnedFd, targets: &Targets) {
        let gone: Vec<PathBuf> = self
            .by_path
            .keys()
            .filter(|path| !targets.groups.contains(*path) && !targets.directories.contains(*path))
            .cloned()
            .collect();
        for path in gone {
            if let Some(number) = self.by_path.remove(&path) {
                self.kinds.remove(&number);
                // Gone by itself when its directory is.
                let _ = inotify::remove_watch(fd, number);
            }
        }
        let groups = targets
            .groups
            .iter()
            .map(|p| (p, GROUP_EVENTS, Wake::Groups));
        let folders = targets
            .directories
            .iter()
            .map(|p| (p, FOLDER_EVENTS, Wake::Files));
        for (path, events, kind) in groups.chain(folders) {
            if self.by_path.contains_key(path) {
                continue;
            }
            match inotify::add_watch(fd, path.as_path(), events) {
                Ok(number) => {
                    self.by_path.insert(path.clone(), number);
                    self.kinds.insert(number, kind);
                }
                // One that is not there yet is tried again with the next aim.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "cannot watch a directory");
                }
            }
        }
    }

    /// Reads what there is, and wakes. A watch that the kernel took off is forgotten, so that a directory made anew is watched anew.
    fn read(&mut self, fd: &OwnedFd, pending: &Pending) -> io::Result<()> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 8 << 10];
        let mut reader = inotify::Reader::new(fd, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let (number, events) = (event.wd(), event.events());
            if events.contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                pending.wake(Wake::Everything);
            }
            if let Some(kind) = self.kinds.get(&number) {
                pending.wake(*kind);
            }
            if events.contains(inotify::ReadFlags::IGNORED) {
                self.kinds.remove(&number);
                self.by_path.retain(|_, watched| *watched != number);
            }
        }
    }
}

#[cfg(test)]
mod tests;
