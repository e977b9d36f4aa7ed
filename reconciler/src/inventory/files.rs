//! The files and directories that definitions name.
//!
//! In: an [`Interest`]. Out: owner, group, mode, size and image header of each that is there. What can go wrong: a path that cannot be looked at, for another reason than that
//! nothing is there. A file whose header cannot be read is there, and is no image.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{File, Interest};
use crate::host::{ObserveError, image};
use crate::resolve::storage::Permissions;
use crate::units::Bytes;

/// What was found of an interest: directories, then files.
pub type Found = (BTreeMap<PathBuf, Permissions>, BTreeMap<PathBuf, File>);

/// Looks at every path. Blocks: call it on a blocking thread.
///
/// # Errors
/// A path that cannot be looked at.
pub fn observe(interest: &Interest) -> Result<Found, ObserveError> {
    let mut directories = BTreeMap::new();
    for path in &interest.directories {
        if let Some(found) = stat(path)?.filter(Metadata::is_dir) {
            directories.insert(path.clone(), permissions(&found));
        }
    }
    let mut files = BTreeMap::new();
    for path in &interest.files {
        if let Some(found) = stat(path)? {
            files.insert(path.clone(), file(path, &found));
        }
    }
    Ok((directories, files))
}

fn stat(path: &Path) -> Result<Option<Metadata>, ObserveError> {
    match path.metadata() {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(ObserveError {
            what: "files",
            why: format!("{}: {error}", path.display()),
        }),
    }
}

fn permissions(found: &Metadata) -> Permissions {
    Permissions {
        owner: Some(found.uid()),
        group: Some(found.gid()),
        mode: Some(found.mode() & 0o7777),
    }
}

fn file(path: &Path, found: &Metadata) -> File {
    let kind = found.file_type();
    let mut opened = (kind.is_file() || kind.is_block_device())
        .then(|| {
            // Never waits, whatever took the path's place meanwhile.
            let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
            std::fs::OpenOptions::new()
                .read(true)
                .custom_flags(flags.bits().cast_signed())
                .open(path)
        })
        .and_then(Result::ok);
    let image = opened.as_mut().map(|file| image::read(file, path));
    // A block device has no length of its own on the file system: its end tells.
    let end = opened
        .filter(|_| kind.is_block_device())
        .map(|mut file| file.seek(SeekFrom::End(0)));
    File {
        permissions: permissions(found),
        size: Bytes(end.and_then(Result::ok).unwrap_or(found.len())),
        image: image.and_then(Result::ok).flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_absent_and_what_is_there_is_described() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("disk"), [0; 1024]).unwrap();
        let interest = Interest {
            directories: [folder.path().to_owned(), path("gone"), path("disk")].into(),
            files: [path("disk"), path("gone"), path("disk/below")].into(),
        };
        let (directories, files) = observe(&interest).unwrap();
        assert_eq!(directories.len(), 1);
        assert_eq!(files.len(), 1);
        let disk = &files[&path("disk")];
        assert_eq!(disk.size, Bytes::kib(1));
        assert_eq!(disk.image.as_ref().map(|i| i.capacity), Some(Bytes::kib(1)));
    }

    #[test]
    fn a_block_device_is_as_long_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, [0; 8192]).unwrap();
        let losetup = |words: &[&std::ffi::OsStr]| {
            let done = std::process::Command::new("/sbin/losetup")
                .args(words)
                .output();
            done.ok().filter(|done| done.status.success())
        };
        let made = losetup(&["--find".as_ref(), "--show".as_ref(), path.as_ref()]);
        let Some(made) = made else {
            eprintln!("skipped: cannot make a loop device");
            return;
        };
        let device = PathBuf::from(String::from_utf8_lossy(&made.stdout).trim());
        let interest = Interest {
            directories: Default::default(),
            files: [device.clone()].into(),
        };
        let found = observe(&interest);
        assert!(losetup(&["--detach".as_ref(), device.as_ref()]).is_some());
        assert_eq!(found.unwrap().1[&device].size, Bytes::kib(8));
    }

    #[test]
    fn ten_thousand_files_take_a_fraction_of_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let files = (0..10_000).map(|n| {
            let path = folder.path().join(n.to_string());
            std::fs::write(&path, b"x").unwrap();
            path
        });
        let interest = Interest {
            directories: Default::default(),
            files: files.collect(),
        };
        let started = std::time::Instant::now();
        assert_eq!(observe(&interest).unwrap().1.len(), 10_000);
        eprintln!("10,000 files observed in {:?}", started.elapsed());
        assert!(started.elapsed().as_millis() < 2000);
    }
}
