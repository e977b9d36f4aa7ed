//! Processes: started so that they outlive us, and found again without mistaking a reused number.
//!
//! In: a program with its arguments, the control group it is to live in, and a lock file that it holds for as long as it lives. Out: an [`Identity`] (number and
//! start time), and a [`Handle`] (a pidfd) through which alone it is signalled and waited for. What can go wrong: the program is not there, the kernel refuses
//! the group; each is an error of `spawn`, and then no process is left.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

/// One process, for as long as the host is up: a number is used again, a number with a start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process.
    pub pid: u32,
    /// When it started, in clock ticks since the host's boot. Source: proc(5), `/proc/PID/stat`, field 22.
    pub started: u64,
}

impl Identity {
    /// The process that has this number now. `None` if there is none, or only its remains (a zombie).
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, a parenthesis too: fields are counted from the last one.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X" | "x")).then_some(Self { pid, started })
    }

    /// Whether this very process still runs.
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// Whether a process has a file open: the same file, not only the same name.
pub fn has_open(pid: u32, file: &Path) -> bool {
    let Ok(wanted) = fs::metadata(file) else {
        return false;
    };
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    entries.flatten().any(|entry| {
        fs::metadata(entry.path())
            .is_ok_and(|open| (open.dev(), open.ino()) == (wanted.dev(), wanted.ino()))
    })
}

/// A process held by its descriptor: what is sent through it can reach no other.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
}

impl Handle {
    /// Takes hold of a process. `None` if it is gone.
    ///
    /// # Errors
    /// The kernel's, other than that there is no such process.
    pub fn open(identity: Identity) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(identity.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            // The number is looked at again once it is held: what it names can change no more.
            Ok(fd) => Ok(identity.alive().then_some(Self { fd })),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a signal. A process that has ended since is no error.
    ///
    /// # Errors
    /// The kernel's: no permission.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process has ended, at most so long. Returns whether it has. May be cancelled at any time.
    ///
    /// # Errors
    /// The kernel's: no descriptors left.
    pub async fn ended_within(&self, limit: Duration) -> io::Result<bool> {
        let fd = watch(self.fd.as_fd(), Interest::READABLE)?;
        match tokio::time::timeout(limit, fd.readable()).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }
}

/// Puts a descriptor under the runtime's eye.
///
/// # Errors
/// The kernel's: what is a file cannot be waited for (EPERM).
pub fn watch(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the descriptor is borrowed for as long as it is registered, so that it stays open, and the same file, until it is taken off again.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}

/// A process to start that is to outlive us.
#[derive(Debug)]
pub struct Detached {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// Its working directory.
    pub directory: PathBuf,
    /// Where what it writes to standard output and error goes.
    pub log: File,
    /// A locked file that it keeps open until its end, and writes its number into before its first instruction.
    pub lock: OwnedFd,
    /// `cgroup.procs` files, open for writing, of the groups that it is to be in before its first instruction.
    pub groups: Vec<OwnedFd>,
    /// It sees no other process of the host, and can name none: it is the first of a namespace of its own, where we may make one. Its number for us, and
    /// for everybody else on the host, is an ordinary one.
    pub alone: bool,
}

impl Detached {
    /// Starts it: in a session of its own, with nothing on standard input, no descriptor of ours but the lock, and a cleared out-of-memory score. Its exit
    /// status is collected in the background for as long as we live.
    ///
    /// # Errors
    /// The program cannot be run, or the kernel refuses a group; then there is no process.
    pub fn spawn(self) -> io::Result<Identity> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(self.log.try_clone()?)
            .stderr(self.log)
            .kill_on_drop(false);
        before_exec(&mut command, self.lock, self.groups, inheritable()?);
        let child = if self.alone {
            spawn_alone(&mut command)?
        } else {
            command.spawn()?
        };
        // Forget the closure's descriptors: the lock is the process's now, and its alone.
        drop(command);
        let identity = child.id().and_then(Identity::of);
        reap(self.program, child);
        identity.ok_or_else(|| io::Error::other("it ended at once"))
    }
}

/// Spawns from a thread that makes a namespace of processes first: what a thread's children are in is that thread's own business, so no other child of ours
/// is concerned. Without the privilege to make one, the process starts beside all others.
fn spawn_alone(command: &mut Command) -> io::Result<Child> {
    let runtime = tokio::runtime::Handle::current();
    thread::scope(|scope| {
        let spawn = || {
            let _context = runtime.enter();
            // SAFETY: the descriptor table is not among the flags, which is what could take descriptors from other threads.
            if let Err(error) = unsafe { unshare_unsafe(UnshareFlags::NEWPID) } {
                tracing::debug!(%error, "the process gets no namespace of processes");
            }
            command.spawn()
        };
        let thread = thread::Builder::new().name("spawn".to_owned());
        let spawned = thread.spawn_scoped(scope, spawn)?.join();
        spawned.unwrap_or_else(|_| Err(io::Error::other("the thread that starts it ended")))
    })
}

/// Collects an exit status, so that nothing is left of an ended process while we live.
fn reap(program: PathBuf, mut child: Child) {
    tokio::spawn(async move {
        match child.wait().await {
            Ok(status) => {
                tracing::debug!(program = %program.display(), pid = ?child.id(), %status, "a process ended");
            }
            Err(error) => {
                tracing::warn!(program = %program.display(), %error, "cannot collect a process's exit status");
            }
        }
    });
}

/// Our descriptors that a program we start would inherit: those that somebody gave us without the flag that closes them.
fn inheritable() -> io::Result<Vec<RawFd>> {
    let mut fds = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")) else {
            continue;
        };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        if fd > 2 && flags.is_some_and(|flags| flags & OFlags::CLOEXEC.bits() == 0) {
            fds.push(fd);
        }
    }
    Ok(fds)
}

/// Arranges what the new process does between its birth and the program's first instruction.
fn before_exec(command: &mut Command, lock: OwnedFd, groups: Vec<OwnedFd>, close: Vec<RawFd>) {
    let prepare = move || -> io::Result<()> {
        rustix::process::setsid()?;
        for group in &groups {
            // "0" is whoever writes it.
            rustix::io::write(group, b"0")?;
        }
        for &fd in &close {
            if fd != lock.as_raw_fd() {
                // SAFETY: the descriptor was open in the parent and this child is a copy of it with one thread; borrowing it to set a flag neither closes
                // nor keeps it, and a number that is not open is answered with EBADF.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
            }
        }
        // Ours may be protected from the out-of-memory killer; a guest's is not. Best effort: the kernel refuses it to the unprivileged.
        if let Ok(score) = rustix::fs::open(
            c"/proc/self/oom_score_adj",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            let _ = rustix::io::write(score, b"0");
        }
        // As it is known to whoever mounted /proc, which is us: in a namespace of its own its number for itself is 1.
        let mut room = [0; 16];
        let number = rustix::fs::readlinkat_raw(rustix::fs::CWD, c"/proc/self", &mut room[..])?;
        let number = room.get(..number).unwrap_or_default();
        rustix::fs::ftruncate(&lock, 0)?;
        rustix::io::pwrite(&lock, number, 0)?;
        rustix::io::fcntl_setfd(&lock, FdFlags::empty())?;
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made (through rustix, which calls the kernel directly), on memory that was allocated before;
    // nothing is allocated, no lock is taken, and an error is returned as a number.
    unsafe {
        command.pre_exec(prepare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn spawned(alone: bool) -> (tempfile::TempDir, Identity) {
        let dir = tempfile::tempdir().unwrap();
        let lock = File::create(dir.path().join("lock")).unwrap();
        let detached = Detached {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), "echo $$; read line < fifo".into()],
            directory: dir.path().to_owned(),
            log: File::create(dir.path().join("log")).unwrap(),
            lock: lock.into(),
            groups: Vec::new(),
            alone,
        };
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let identity = detached.spawn().unwrap();
        for _ in 0..500 {
            if fs::read_to_string(dir.path().join("log")).is_ok_and(|said| said.ends_with('\n')) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (dir, identity)
    }

    #[tokio::test]
    async fn a_process_that_is_alone_is_found_by_its_number_outside() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root makes namespaces of processes");
            return;
        }
        for alone in [false, true] {
            let (dir, identity) = spawned(alone).await;
            let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
            assert_eq!(read("lock"), identity.pid.to_string());
            assert!(has_open(identity.pid, &dir.path().join("lock")));
            assert_eq!(read("log").trim() == "1", alone, "{}", read("log"));
            assert!(identity.alive());
            let handle = Handle::open(identity).unwrap().unwrap();
            handle.signal(Signal::KILL).unwrap();
            assert!(handle.ended_within(Duration::from_secs(10)).await.unwrap());
        }
    }

    #[test]
    fn a_number_with_another_start_time_is_another_process() {
        let me = Identity::of(std::process::id()).unwrap();
        assert!(me.alive());
        let other = Identity {
            started: me.started + 1,
            ..me
        };
        assert!(!other.alive());
        assert!(Handle::open(other).unwrap().is_none());
        assert!(Handle::open(me).unwrap().is_some());
    }
}
