//! Where vireo keeps what.

use std::path::{Path, PathBuf};

/// vireo's directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What must outlast a reboot: the ledger.
    pub state: PathBuf,
    /// What runs: one directory a guest, one a network.
    pub runtime: PathBuf,
    /// Hook scripts.
    pub hooks: PathBuf,
}

impl Default for Paths {
    /// The directories of an installed vireo.
    fn default() -> Self {
        Self {
            state: PathBuf::from("/var/lib/vireo"),
            runtime: PathBuf::from("/run/vireo"),
            hooks: PathBuf::from("/etc/vireo/hooks"),
        }
    }
}

impl Paths {
    /// All three below one directory.
    pub fn under(folder: &Path) -> Self {
        Self {
            state: folder.join("state"),
            runtime: folder.join("runtime"),
            hooks: folder.join("hooks"),
        }
    }
}
