//! Directories, and the owner, group and mode of files.
//!
//! In: a path and what is stated of it. Out: it is so; what is not stated stays as it is. What can go wrong: something else is there, or the file system refuses.
//! Everything here blocks.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};

use crate::execute::effect::EffectError;
use crate::resolve::storage::Permissions;

/// Makes a directory with its parents, or sets an existing one's owner, group and mode. A path that leads to a directory through a link of the operator's is one.
///
/// # Errors
/// Something else is there; the file system refuses.
pub fn ensure(path: &Path, permissions: &Permissions) -> Result<(), EffectError> {
    let doing = format!("make directory {}", path.display());
    if !path.is_absolute() {
        return Err(EffectError::refused(format!(
            "cannot {doing}: not an absolute path"
        )));
    }
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o755).create(path) {
        return Err(failed(&doing, &error));
    }
    let directory =
        open(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| failed(&doing, &e))?;
    apply(&directory, permissions).map_err(|e| failed(&doing, &e))
}

/// Sets a file's owner, group and mode. A symbolic link is refused: what it leads to is not the file that was meant.
///
/// # Errors
/// There is no such file; it is a link; the file system refuses.
pub fn set_permissions(path: &Path, permissions: &Permissions) -> Result<(), EffectError> {
    let doing = format!("set the permissions of {}", path.display());
    let file = open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)
        .map_err(|error| failed(&doing, &error))?;
    apply(&file, permissions).map_err(|error| failed(&doing, &error))
}

/// Gives an open file what is stated of it.
///
/// # Errors
/// The file system's.
pub fn apply(file: &File, stated: &Permissions) -> io::Result<()> {
    let found = file.metadata()?;
    let owner = stated.owner.filter(|owner| *owner != found.uid());
    let group = stated.group.filter(|group| *group != found.gid());
    if owner.is_some() || group.is_some() {
        rustix::fs::fchown(file, owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
    }
    // A change of owner clears bits of the mode: it comes second.
    let mode = stated.mode.map(|mode| mode & 0o7777);
    if let Some(mode) = mode.filter(|mode| {
        *mode
            != file
                .metadata()
                .map_or(0, |m| m.permissions().mode() & 0o7777)
    }) {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// What a file system's refusal means for an effect.
pub fn failed(doing: &str, error: &io::Error) -> EffectError {
    let message = format!("cannot {doing}: {error}");
    match error.kind() {
        io::ErrorKind::PermissionDenied => EffectError::refused(message)
            .with_help("run vireo as root, or let its user write there"),
        io::ErrorKind::ReadOnlyFilesystem => {
            EffectError::refused(message).with_help("mount the file system writable")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            EffectError::passing(message).with_help("make room on the file system")
        }
        io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::InvalidFilename => EffectError::refused(message),
        _ => EffectError::passing(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(mode: u32) -> Permissions {
        Permissions {
            owner: None,
            group: None,
            mode: Some(mode),
        }
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_directory_is_made_with_its_parents_and_keeps_what_is_not_stated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/c");
        ensure(&path, &permissions(0o711)).unwrap();
        assert_eq!(mode(&path), 0o711);
        ensure(&path, &Permissions::default()).unwrap();
        assert_eq!(mode(&path), 0o711);
        ensure(&path, &permissions(0o2770)).unwrap();
        assert_eq!(mode(&path), 0o2770);
    }

    #[test]
    fn a_file_where_a_directory_should_be_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "kept").unwrap();
        assert!(!ensure(&path, &Permissions::default()).unwrap_err().retry);
        assert_eq!(std::fs::read(&path).unwrap(), b"kept");
    }

    #[test]
    fn permissions_do_not_reach_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        std::fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let before = mode(&target);
        assert!(set_permissions(&link, &permissions(0o777)).is_err());
        assert_eq!(mode(&target), before);
        set_permissions(&target, &permissions(0o640)).unwrap();
        assert_eq!(mode(&target), 0o640);
    }
}
