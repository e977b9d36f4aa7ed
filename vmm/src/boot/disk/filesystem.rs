//! The file systems that a boot configuration may be in, behind one narrow trait; and the names of those that are not read.
//!
//! In comes a part of a disk; out goes a [`FileSystem`], or why there is none. Everything that is read has a limit that the caller states.

use std::io;

use thiserror::Error;

use super::partitions::{u16_at, u32_at};
use super::window::Window;
use super::{ext4, fat};

/// Names in one directory, at most.
pub(super) const MOST_NAMES: usize = 4096;

/// Why a file or a directory is not read.
#[derive(Debug, Error)]
pub(super) enum FileError {
    /// There is no such file.
    #[error("is not there")]
    Missing,
    /// It is something else than what is wanted.
    #[error("is not a {0}")]
    Kind(&'static str),
    /// It is longer than its limit.
    #[error("has {len} bytes, more than the {limit} that are read")]
    TooLarge { len: u64, limit: u64 },
    /// The file system is damaged, or the disk cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// An open file, from its beginning.
pub(super) trait Contents {
    /// Its length in bytes.
    fn len(&self) -> u64;
    /// Reads on: at most as much as fits; nothing at the end.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, FileError>;
}

/// A file system that is only read. Paths are absolute.
pub(super) trait FileSystem {
    /// What it is called.
    fn kind(&self) -> &'static str;
    /// Its UUID, as `search --fs-uuid` writes it.
    fn uuid(&self) -> &str;
    /// Its label.
    fn label(&self) -> &str;
    /// Opens a regular file; symbolic links are followed, to a limit.
    fn open(&self, path: &str) -> Result<Box<dyn Contents + '_>, FileError>;
    /// The names in a directory, at most [`MOST_NAMES`], in no order.
    fn list(&self, path: &str) -> Result<Vec<String>, FileError>;

    /// A whole file of at most `limit` bytes.
    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>, FileError> {
        let mut file = self.open(path)?;
        let len = file.len();
        if len > limit {
            return Err(FileError::TooLarge { len, limit });
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = bytes.get_mut(filled..) {
            match file.read(rest)? {
                0 => return Err(FileError::Unreadable("it ends too early".into())),
                n => filled += n,
            }
        }
        Ok(bytes)
    }
}

/// What is in a partition.
pub(super) enum Found {
    /// A file system that is read.
    Readable(Box<dyn FileSystem>),
    /// One that is not, or something else: its name.
    Foreign(&'static str),
    /// One that is damaged or that uses what is not known: its name and what is wrong.
    Refused(&'static str, String),
    /// Nothing that is known.
    Nothing,
}

/// Looks what is in a part of a disk.
pub(super) fn probe(window: &Window) -> io::Result<Found> {
    let mut head = [0; 4096];
    let len = head.len().min(usize::try_from(window.len()).unwrap_or(0));
    let head = head.get_mut(..len).unwrap_or_default();
    window.read(0, head)?;
    if u16_at(head, 1024 + 0x38) == ext4::MAGIC {
        return Ok(match ext4::open(window, head) {
            Ok(found) => Found::Readable(Box::new(found)),
            Err(why) => Found::Refused("ext4", why),
        });
    }
    if let Some(name) = foreign(window, head) {
        return Ok(Found::Foreign(name));
    }
    Ok(match fat::open(window, head) {
        Ok(Some(found)) => Found::Readable(Box::new(found)),
        Ok(None) => Found::Nothing,
        Err(why) => Found::Refused("FAT", why),
    })
}

/// What has another mark than those of the file systems that are read.
fn foreign(window: &Window, head: &[u8]) -> Option<&'static str> {
    let has = |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
    let far = |at: u64, mark: &[u8]| {
        let mut bytes = [0; 8];
        let bytes = bytes.get_mut(..mark.len());
        bytes.is_some_and(|bytes| window.read(at, bytes).is_ok() && bytes == mark)
    };
    let marks: [(&str, bool); 11] = [
        (
            "a qcow2 image while its definition says raw",
            has(0, b"QFI\xfb"),
        ),
        ("XFS", has(0, b"XFSB")),
        ("LUKS", has(0, b"LUKS\xba\xbe")),
        ("LVM", has(512, b"LABELONE")),
        ("NTFS", has(3, b"NTFS    ")),
        ("exFAT", has(3, b"EXFAT   ")),
        ("squashfs", has(0, b"hsqs")),
        ("swap", has(4086, b"SWAPSPACE2")),
        ("F2FS", u32_at(head, 1024) == 0xf2f5_2010),
        ("btrfs", far(0x1_0040, b"_BHRfS_M")),
        ("ISO 9660", far(0x8001, b"CD001")),
    ];
    let (name, _) = marks.into_iter().find(|(_, there)| *there)?;
    Some(name)
}
