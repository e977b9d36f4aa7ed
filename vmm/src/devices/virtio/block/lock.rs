//! Locks on disk images: no image is written by two guests that do not know of each other, nor below an overlay that relies on it.
//!
//! In come an image and how it will be used; out goes a [`Lock`] that lasts until it is dropped, at the latest with the process, or an error when another
//! process's use does not go with this one. The bytes are those that QEMU locks (`block/file-posix.c`), so that a guest of either monitor keeps the other's
//! off its images. Locks belong to open files (`F_OFD_SETLK`), not to the process: two disks of one guest are kept apart like those of two guests.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Byte that is locked by whoever does what bit 0 stands for; the other bits follow.
const DOES: i64 = 100;
/// Byte that is locked by whoever cannot bear that others do what bit 0 stands for; the other bits follow.
const FORBIDS: i64 = 200;

/// Reads, and expects to find what it wrote.
const READ: i64 = 0;
/// Changes what is there.
const WRITE: i64 = 1;
/// Writes what is there already.
const WRITE_UNCHANGED: i64 = 2;
/// Changes the length.
const RESIZE: i64 = 3;

/// How an image is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// Written, and nobody else has it open.
    Writes,
    /// Written, and others that also share it do so too.
    Shares,
    /// Read; what others write may show.
    Reads,
    /// Read as the layer below an overlay, which relies on it to stay as it is.
    Relies,
}

impl Usage {
    /// What a disk does with its image.
    pub(super) fn of_disk(readonly: bool, shareable: bool) -> Self {
        match (readonly, shareable) {
            (true, _) => Self::Reads,
            (false, true) => Self::Shares,
            (false, false) => Self::Writes,
        }
    }

    fn does(self) -> &'static [i64] {
        match self {
            Self::Writes => &[READ, WRITE, WRITE_UNCHANGED, RESIZE],
            Self::Shares => &[READ, WRITE],
            Self::Reads | Self::Relies => &[READ],
        }
    }

    fn forbids(self) -> &'static [i64] {
        match self {
            Self::Writes => &[READ, WRITE, WRITE_UNCHANGED, RESIZE],
            Self::Relies => &[WRITE, RESIZE],
            Self::Shares | Self::Reads => &[],
        }
    }
}

/// A lock on an image, for as long as it lives.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Length of the locked file in bytes; 0 for a block device.
    pub(super) fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    /// Whether `file` is the locked one.
    pub(super) fn is_on(&self, file: &File) -> io::Result<bool> {
        let of = |file: &File| file.metadata().map(|it| (it.dev(), it.ino()));
        Ok(of(&self.0)? == of(file)?)
    }

    /// Locks the image at `path`. Where its file system knows no locks, which is told, there is none.
    ///
    /// # Errors
    /// The image cannot be opened, or another process has it open in a way that does not go with `usage`.
    pub(super) fn take(path: &Path, usage: Usage) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)?;
        match lock(&file, usage) {
            Err(error) if is_unsupported(&error) => {
                tracing::warn!(path = %path.display(), %error, "the image cannot be locked: nothing keeps others from writing it");
            }
            done => done?,
        }
        Ok(Self(file))
    }
}

/// Says first what it does and forbids, and looks afterwards: of two that come at once one at least sees the other.
fn lock(file: &File, usage: Usage) -> io::Result<()> {
    for bit in usage.does() {
        hold(file, DOES + bit)?;
    }
    for bit in usage.forbids() {
        hold(file, FORBIDS + bit)?;
    }
    let forbidden = usage.does().iter().map(|bit| FORBIDS + bit);
    let done = usage.forbids().iter().map(|bit| DOES + bit);
    for byte in forbidden.chain(done) {
        if is_held_by_another(file, byte)? {
            let message = match usage {
                Usage::Writes => {
                    "another process has it open, and a disk that is neither read-only nor shareable is nobody else's"
                }
                Usage::Shares => "another process has it open and does not share it",
                Usage::Reads => "another process writes it, and does not share it",
                Usage::Relies => {
                    "another process writes it, and an overlay relies on its backing file to stay as it is"
                }
            };
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
    }
    Ok(())
}

/// Holds a byte together with whoever else wants to.
fn hold(file: &File, byte: i64) -> io::Result<()> {
    control(file, libc::F_OFD_SETLK, libc::F_RDLCK, byte).map(drop)
}

/// Whether another open file holds a byte.
fn is_held_by_another(file: &File, byte: i64) -> io::Result<bool> {
    let found = control(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte)?;
    Ok(libc::c_int::from(found) != libc::F_UNLCK)
}

/// `fcntl` on one byte's lock; gives the kind of lock that the kernel leaves in the answer.
fn control(
    file: &File,
    command: libc::c_int,
    kind: libc::c_int,
    byte: i64,
) -> io::Result<libc::c_short> {
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: these commands read and write one `flock` at the pointer, which is to a live local.
    if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(lock.l_type)
}

fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [libc::ENOLCK, libc::EOPNOTSUPP, libc::ENOSYS, libc::EINVAL];
    error
        .raw_os_error()
        .is_some_and(|number| unsupported.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Usage::{Reads, Relies, Shares, Writes};

    #[test]
    fn an_image_has_only_uses_that_go_together() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let together = [
            (Shares, Shares),
            (Shares, Reads),
            (Reads, Reads),
            (Reads, Relies),
            (Relies, Relies),
        ];
        for first in [Writes, Shares, Reads, Relies] {
            for second in [Writes, Shares, Reads, Relies] {
                let held = Lock::take(image.path(), first).unwrap();
                let also = Lock::take(image.path(), second);
                let expected =
                    together.contains(&(first, second)) || together.contains(&(second, first));
                assert_eq!(also.is_ok(), expected, "{first:?} and {second:?}");
                drop(held);
            }
        }
    }

    #[test]
    fn a_lock_ends_with_its_holder_and_a_refused_one_leaves_nothing() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let held = Lock::take(image.path(), Writes).unwrap();
        let error = Lock::take(image.path(), Writes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        drop(held);
        Lock::take(image.path(), Writes).unwrap();
    }
}
