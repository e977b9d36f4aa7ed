//! A guest's directory: everything by which it is found again.
//!
//! ```text
//! RUNTIME/guests/<uuid>/      0700
//!     launch.json             what it was started as; written before its process starts
//!     lock                    held by its process for as long as that lives; the process writes its number into it before its first instruction
//!     pid                     its process's number and start time
//!     control                 its monitor's socket
//!     console, console.log    its serial console (a link to the terminal), and what that said
//!     state, events.out       what its monitor says of its life (builtin, qemu)
//!     log                     what its monitor complains of
//! ```
//!
//! Whoever holds the lock is the guest. It is taken before the process is made and inherited by it, so there is no instant at which a guest runs and the lock is
//! free: starting twice gives one guest even when the one that starts it is killed in between. Looking never takes the lock, so that one who looks cannot be
//! mistaken for a guest.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use uuid::Uuid;

use super::Launch;
use crate::host::process::{self, Identity};

/// A guest's directory, whether it exists or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestDir {
    path: PathBuf,
    /// The guest's core dump: beside the others', where it outlasts the directory.
    core: PathBuf,
    /// What it made of its clock, likewise.
    clock: PathBuf,
}

impl GuestDir {
    /// The directory of a guest under `RUNTIME/guests`.
    pub fn new(guests: &Path, guest: Uuid) -> Self {
        let path = guests.join(guest.to_string());
        Self {
            core: path.join("core"),
            clock: path.join("clock"),
            path,
        }
    }

    /// The same, with what outlasts the directory in the state directory. Core dumps are as large as the guests' memory, and the runtime directory is in the host's.
    #[must_use]
    pub fn with_state(mut self, state: &Path) -> Self {
        if let Some(guest) = self.path.file_name() {
            self.core = state.join("cores").join(guest);
            self.clock = state.join("clocks").join(guest);
        }
        self
    }

    /// Where the guest's core dump goes, if it is to leave one when it crashes.
    pub fn core(&self) -> &Path {
        &self.core
    }

    /// What keeps what the guest makes of its clock, if that is variable. It stays when the guest ends, and goes with its definition.
    pub fn clock(&self) -> &Path {
        &self.clock
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The monitor's socket.
    pub fn control(&self) -> PathBuf {
        self.file("control")
    }

    /// The link to the serial console's terminal.
    pub fn console(&self) -> PathBuf {
        self.file("console")
    }

    /// What the monitor complains of.
    pub fn log(&self) -> PathBuf {
        self.file("log")
    }

    /// Makes the directory, with its parents, readable by nobody else.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
    }

    /// Takes the lock. `None` if somebody holds it: the guest, or for a moment one that starts it.
    ///
    /// # Errors
    /// The file system's.
    pub fn lock(&self) -> io::Result<Option<OwnedFd>> {
        let fd = rustix::fs::open(
            self.file("lock"),
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::RUSR | Mode::WUSR,
        )?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(fd)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The guest's process, if it lives.
    pub fn process(&self) -> Option<Identity> {
        let recorded = fs::read(self.file("pid")).ok();
        let recorded = recorded.and_then(|text| serde_json::from_slice::<Identity>(&text).ok());
        if let Some(identity) = recorded.filter(|identity| identity.alive()) {
            return Some(identity);
        }
        // Whoever started it was killed before it could write the file: the process has left its number in the lock, and is it if it holds that file.
        let lock = self.file("lock");
        let pid = fs::read_to_string(&lock).ok()?.trim().parse().ok()?;
        let identity = Identity::of(pid)?;
        process::has_open(pid, &lock).then_some(identity)
    }

    /// Writes down the process's number and start time.
    ///
    /// # Errors
    /// The file system's.
    pub fn record_process(&self, identity: Identity) -> io::Result<()> {
        self.write_json("pid", &identity)
    }

    /// Writes down what the guest is started as.
    ///
    /// # Errors
    /// The file system's.
    pub fn record_launch(&self, launch: &Launch) -> io::Result<()> {
        self.write_json("launch.json", launch)
    }

    /// What the guest was started as. `None` if its directory was made and nothing has been started in it.
    ///
    /// # Errors
    /// A file that cannot be read or is not a launch.
    pub fn launch(&self) -> io::Result<Option<Launch>> {
        let path = self.file("launch.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            io::Error::other(format!(
                "{} does not say what the guest was started as: {error}",
                path.display()
            ))
        })
    }

    /// Writes a file so that it is there whole or not at all.
    fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.write(name, &serde_json::to_vec_pretty(value)?)
    }

    /// Writes a file so that it is there whole or not at all, readable by nobody else.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let temporary = self.file(&format!(".{name}.new"));
        let fd = rustix::fs::open(
            &temporary,
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )?;
        let mut file = File::from(fd);
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, self.file(name))?;
        File::open(&self.path)?.sync_all()
    }

    /// Opens the monitor's log, emptied: it speaks of one process.
    ///
    /// # Errors
    /// The file system's.
    pub fn open_log(&self) -> io::Result<File> {
        let fd = rustix::fs::open(
            self.log(),
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )?;
        Ok(File::from(fd))
    }

    /// The end of a file, at most `most` bytes of it, in lines that are whole but perhaps for the last. Empty if there is none.
    pub fn tail(&self, name: &str, most: u64) -> String {
        read_tail(&self.file(name), most).unwrap_or_default()
    }

    /// Removes what an earlier process of this guest left, so that nothing of it is taken for the next one's.
    ///
    /// # Errors
    /// The file system's.
    pub fn sweep(&self, names: &[&str]) -> io::Result<()> {
        for name in names {
            match fs::remove_file(self.file(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the directory with all that is in it. Absent is fine.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn read_tail(path: &Path, most: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(most);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.split_once('\n') {
        Some((_, whole)) if skipped > 0 => whole.to_owned(),
        _ => text,
    })
}
