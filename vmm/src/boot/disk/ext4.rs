//! ext4 (and ext2, ext3), by the crate `ext4-view`.
//!
//! In comes a part of a disk whose superblock has the mark; out goes a [`FileSystem`]. The journal of a guest that was not shut down is taken into account, in
//! memory. Before the crate sees them, the superblock's numbers are held against the partition's size, and a symbolic link's length against the longest path:
//! the crate turns them into memory.

use std::error::Error;

use ext4_view::{Ext4, Ext4Error, Ext4Read, File};

use super::filesystem::{Contents, FileError, FileSystem, MOST_NAMES};
use super::partitions::u32_at;
use super::window::Window;

/// The mark, at byte 0x38 of the superblock, which begins at byte 1024.
pub(super) const MAGIC: u16 = 0xef53;
/// Blocks are 1 KiB shifted by this number at most: 64 KiB.
const MOST_BLOCK_SHIFT: u32 = 6;
/// Block groups, at most: a file system of 128 TiB in blocks of 4 KiB.
const MOST_GROUPS: u64 = 1 << 20;
/// Bytes of one directory, at most.
const MOST_DIRECTORY: u64 = 4 << 20;

/// Bytes of a path, at most: Linux's PATH_MAX.
const MOST_PATH: u64 = 4096;
/// Symbolic links on the way to one file, at most: as many as Linux follows.
const MOST_LINKS: u32 = 40;
/// Names on the way to one file, at most, those of followed links with them.
const MOST_STEPS: usize = 256;

/// An open file system.
pub(super) struct Volume {
    fs: Ext4,
    uuid: String,
    label: String,
}

/// Opens the file system whose first bytes are `head`.
///
/// # Errors
/// In words: what is damaged, or what is not known.
pub(super) fn open(window: &Window, head: &[u8]) -> Result<Volume, String> {
    let superblock = head.get(1024..).unwrap_or_default();
    let shift = u32_at(superblock, 0x18);
    if shift > MOST_BLOCK_SHIFT {
        return Err(format!("blocks of 1 KiB shifted by {shift} bits"));
    }
    const IS_64BIT: u32 = 0x80;
    let high = match u32_at(superblock, 0x60) & IS_64BIT {
        0 => 0,
        _ => u64::from(u32_at(superblock, 0x150)),
    };
    let blocks = high << 32 | u64::from(u32_at(superblock, 0x4));
    let fits = blocks
        .checked_mul(1024 << shift)
        .is_some_and(|len| len <= window.len());
    if !fits {
        return Err("it is larger than its partition or disk".into());
    }
    let group = u64::from(u32_at(superblock, 0x20)).max(1);
    if blocks / group > MOST_GROUPS {
        return Err(format!("{} groups of blocks", blocks / group));
    }
    let fs = Ext4::load(Box::new(Reader(window.clone()))).map_err(|error| told(&error))?;
    Ok(Volume {
        uuid: fs.uuid().to_string(),
        label: String::from_utf8_lossy(fs.label().as_bytes()).into_owned(),
        fs,
    })
}

struct Reader(Window);

impl Ext4Read for Reader {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Ok(self.0.read(start_byte, dst)?)
    }
}

/// An error with its cause, in one line.
fn told(error: &Ext4Error) -> String {
    match error {
        Ext4Error::Io(cause) => cause.to_string(),
        error => error.to_string(),
    }
}

impl From<Ext4Error> for FileError {
    fn from(error: Ext4Error) -> Self {
        match error {
            Ext4Error::NotFound | Ext4Error::NotADirectory => Self::Missing,
            Ext4Error::IsADirectory | Ext4Error::IsASpecialFile => Self::Kind("file"),
            error => Self::Unreadable(told(&error)),
        }
    }
}

impl Volume {
    /// The path without symbolic links of what `path` leads to. The crate would follow them as well, and take a link's length on trust.
    fn follow(&self, path: &str) -> Result<String, FileError> {
        let mut there: Vec<String> = Vec::new();
        let mut ahead: Vec<String> = names_backwards(path);
        let mut links = 0;
        for _ in 0..MOST_STEPS {
            let Some(name) = ahead.pop() else {
                return Ok(format!("/{}", there.join("/")));
            };
            if name == ".." {
                there.pop();
                continue;
            }
            there.push(name);
            let place = format!("/{}", there.join("/"));
            let about = self.fs.symlink_metadata(place.as_str())?;
            if !about.is_symlink() {
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(FileError::Unreadable("too many symbolic links".into()));
            }
            if about.len() > MOST_PATH {
                let (len, limit) = (about.len(), MOST_PATH);
                return Err(FileError::TooLarge { len, limit });
            }
            let target = self.fs.read_link(place.as_str())?;
            let target = std::str::from_utf8(target.as_ref())
                .map_err(|_| FileError::Unreadable(format!("{place} leads to no UTF-8")))?;
            match target.starts_with('/') {
                true => there.clear(),
                false => drop(there.pop()),
            }
            ahead.extend(names_backwards(target));
        }
        Err(FileError::Unreadable("its path is too long".into()))
    }
}

/// The names of a path, the first one last.
fn names_backwards(path: &str) -> Vec<String> {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names.rev().map(str::to_owned).collect()
}

impl FileSystem for Volume {
    fn kind(&self) -> &'static str {
        "ext4"
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn open(&self, path: &str) -> Result<Box<dyn Contents + '_>, FileError> {
        Ok(Box::new(Open(self.fs.open(self.follow(path)?.as_str())?)))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        let path = self.follow(path)?;
        let path = path.as_str();
        let about = self.fs.metadata(path)?;
        if !about.is_dir() {
            return Err(FileError::Kind("directory"));
        }
        if about.len() > MOST_DIRECTORY {
            let (len, limit) = (about.len(), MOST_DIRECTORY);
            return Err(FileError::TooLarge { len, limit });
        }
        let mut names = Vec::new();
        for entry in self.fs.read_dir(path)?.take(MOST_NAMES) {
            // A name that is not UTF-8 is none that a boot configuration has.
            if let Ok(name) = entry?.file_name().as_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }
}

/// A file that is read from its beginning to its end and nowhere else: going back in a damaged one is where the crate would trust its length.
struct Open(File);

impl Contents for Open {
    fn len(&self) -> u64 {
        self.0.metadata().len()
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, FileError> {
        Ok(self.0.read_bytes(into)?)
    }
}
