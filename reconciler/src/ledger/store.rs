//! The ledger on disk: one JSON file an entry under `STATE/ledger/`.
//!
//! Every change is written under a temporary name, synced, renamed into place, and the directory synced: after a crash each entry is either the old one or the
//! new one. A file that cannot be read or understood is an error that names it, never an absent entry: an object whose entry is unreadable must not look unowned.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::FlockOperation;

use super::{Entry, Ledger, key};
use crate::object::ObjectId;

/// The largest entry that is read, in bytes. A definition is at most 16 MiB of text; JSON escapes may double it.
const ENTRY_MAX: u64 = 64 << 20;

/// The ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not a ledger entry.
    #[error(
        "{path} is not a ledger entry; if it cannot be restored, move it away and adopt the object anew"
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file is larger than any entry.
    #[error("{path} is {size} bytes long, which no ledger entry is")]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its length.
        size: u64,
    },
}

/// The ledger's directory.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The ledger under a state directory. Nothing is read or made yet.
    pub fn new(state: &Path) -> Self {
        Self {
            directory: state.join("ledger"),
        }
    }

    /// Reads every entry. A directory that does not exist is an empty ledger.
    ///
    /// # Errors
    /// When the directory or any entry cannot be read or understood.
    pub fn load(&self) -> Result<Ledger, LedgerError> {
        let listing = match fs::read_dir(&self.directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ledger::default()),
            Err(error) => return Err(io_error("read", &self.directory)(error)),
        };
        let mut paths = Vec::new();
        for item in listing {
            let path = item.map_err(io_error("read", &self.directory))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                paths.push(path);
            }
        }
        let entries: Vec<Entry> = paths
            .par_iter()
            .map(|path| read_entry(path))
            .collect::<Result<_, _>>()?;
        let mut ledger = Ledger::default();
        for entry in entries {
            ledger.record(entry);
        }
        Ok(ledger)
    }

    /// Writes an entry; an equal one is left alone.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn record(&self, entry: &Entry) -> Result<(), LedgerError> {
        let path = self.path(&entry.object);
        if let Ok(present) = read_entry(&path)
            && present == *entry
        {
            return Ok(());
        }
        fs::create_dir_all(&self.directory).map_err(io_error("make", &self.directory))?;
        let text = serde_json::to_vec_pretty(entry).map_err(|source| LedgerError::Malformed {
            path: path.clone(),
            source,
        })?;
        write_durably(&path, &text)
    }

    /// Removes an entry; an absent one is fine.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn forget(&self, object: &ObjectId) -> Result<(), LedgerError> {
        let path = self.path(object);
        match fs::remove_file(&path) {
            Ok(()) => sync_directory(&self.directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &path)(error)),
        }
    }

    fn path(&self, object: &ObjectId) -> PathBuf {
        self.directory.join(format!("{}.json", key(object)))
    }
}

fn read_entry(path: &Path) -> Result<Entry, LedgerError> {
    let size = fs::metadata(path).map_err(io_error("read", path))?.len();
    if size > ENTRY_MAX {
        return Err(LedgerError::TooLarge {
            path: path.to_owned(),
            size,
        });
    }
    let text = fs::read(path).map_err(io_error("read", path))?;
    serde_json::from_slice(&text).map_err(|source| LedgerError::Malformed {
        path: path.to_owned(),
        source,
    })
}

/// Replaces a file's content so that a crash leaves the old or the new, readable by its owner only.
///
/// # Errors
/// When the file system refuses.
pub fn write_durably(path: &Path, content: &[u8]) -> Result<(), LedgerError> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(io_error("write", &temporary))?;
    file.write_all(content)
        .map_err(io_error("write", &temporary))?;
    file.sync_all().map_err(io_error("sync", &temporary))?;
    fs::rename(&temporary, path).map_err(io_error("rename into place", path))?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn sync_directory(directory: &Path) -> Result<(), LedgerError> {
    File::open(directory)
        .and_then(|handle| handle.sync_all())
        .map_err(io_error("sync", directory))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError + use<> {
    let path = path.to_owned();
    move |source| LedgerError::Io {
        action,
        path,
        source,
    }
}

/// The right to change the host: a lock on the state directory, held by the agent or by one `vireo apply`.
///
/// The kernel releases it when its holder ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The right to change the host could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another vireo holds {path}: an agent (`vireo run`) or a `vireo apply` is at work")]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Lock {
    /// Takes the lock of a state directory, which is made when absent, without waiting.
    ///
    /// # Errors
    /// When another process holds it, or the file system refuses.
    pub fn take(state: &Path) -> Result<Self, LockError> {
        fs::create_dir_all(state).map_err(io_error("make", state))?;
        let path = state.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held { path }),
            Err(errno) => Err(io_error("lock", &path)(errno.into()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Holds;
    use crate::object::Kind;
    use uuid::Uuid;

    fn entry(name: &str) -> Entry {
        Entry {
            object: ObjectId::new(Kind::Network, Uuid::from_u128(7), name),
            file: PathBuf::from("/etc/vireo/desired/net.xml"),
            definition: "<network/>".to_owned(),
            holds: Holds::default(),
            made: true,
        }
    }

    #[test]
    fn what_is_recorded_is_loaded_again() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        store.record(&entry("default")).unwrap();
        let ledger = store.load().unwrap();
        assert_eq!(
            ledger.get(&entry("default").object),
            Some(&entry("default"))
        );
    }

    #[test]
    fn forgetting_twice_is_fine() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        store.record(&entry("default")).unwrap();
        store.forget(&entry("default").object).unwrap();
        store.forget(&entry("default").object).unwrap();
        assert_eq!(store.load().unwrap(), Ledger::default());
    }

    #[test]
    fn a_half_written_entry_of_a_crash_is_not_read() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        store.record(&entry("default")).unwrap();
        fs::write(state.path().join("ledger/network-x.new"), "{\"obj").unwrap();
        assert_eq!(store.load().unwrap().entries.len(), 1);
    }

    #[test]
    fn an_unreadable_entry_is_an_error_and_not_an_absence() {
        let state = tempfile::tempdir().unwrap();
        let store = Store::new(state.path());
        store.record(&entry("default")).unwrap();
        fs::write(state.path().join("ledger/domain-x.json"), "{").unwrap();
        assert!(matches!(store.load(), Err(LedgerError::Malformed { .. })));
    }

    #[test]
    fn one_process_at_a_time_may_change_the_host() {
        let state = tempfile::tempdir().unwrap();
        let held = Lock::take(state.path()).unwrap();
        assert!(matches!(
            Lock::take(state.path()),
            Err(LockError::Held { .. })
        ));
        drop(held);
        Lock::take(state.path()).unwrap();
    }
}
