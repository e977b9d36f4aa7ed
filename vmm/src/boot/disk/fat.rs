//! FAT12, FAT16 and FAT32 with long names, read only (Microsoft's FAT specification, 1.03).
//!
//! In comes a part of a disk; out goes a [`FileSystem`], nothing if this is no FAT, or what is wrong with it. It is our own since the crates there are also write,
//! and follow a chain of clusters that leads back to itself for ever: here a file takes as many clusters as its length says, and a directory as many as its limit.

use std::collections::HashSet;

use super::filesystem::{Contents, FileError, FileSystem, MOST_NAMES};
use super::partitions::{u16_at, u32_at};
use super::window::Window;

/// Bytes of one directory, at most: what the specification allows.
const MOST_DIRECTORY: u64 = 65536 * 32;
/// Directories on a path, at most.
const MOST_DEPTH: usize = 64;
const LONG_NAME: u8 = 0x0f;
const DIRECTORY: u8 = 0x10;
const VOLUME_LABEL: u8 = 0x08;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

/// An open file system.
pub(super) struct Volume {
    window: Window,
    width: Width,
    /// First byte of the table of clusters.
    table: u64,
    /// First byte and length of the root directory of FAT12 and FAT16.
    root: (u64, u64),
    /// First cluster of the root directory of FAT32.
    root_cluster: u32,
    /// First byte of cluster 2.
    data: u64,
    /// Bytes of a cluster.
    cluster: u64,
    /// Clusters, the first of which has the number 2.
    clusters: u32,
    uuid: String,
    label: String,
}

/// Opens the file system whose first bytes are `head`.
///
/// # Errors
/// In words: what is damaged.
pub(super) fn open(window: &Window, head: &[u8]) -> Result<Option<Volume>, String> {
    let byte = |at: usize| u64::from(head.get(at).copied().unwrap_or(0));
    let sector = u64::from(u16_at(head, 11));
    let per_cluster = byte(13);
    let marked = u16_at(head, 510) == 0xaa55 && matches!(byte(0), 0xeb | 0xe9);
    let sane = matches!(sector, 512 | 1024 | 2048 | 4096)
        && per_cluster.is_power_of_two()
        && matches!(byte(16), 1 | 2)
        && u16_at(head, 14) > 0;
    if !marked || !sane {
        return Ok(None);
    }
    let either = |short: usize, long: usize| match u16_at(head, short) {
        0 => u64::from(u32_at(head, long)),
        value => value.into(),
    };
    let total = either(19, 32) * sector;
    let table = u64::from(u16_at(head, 14)) * sector;
    let table_len = either(22, 36) * sector;
    let root_at = table + table_len * byte(16);
    let root_len = u64::from(u16_at(head, 17)) * 32;
    let data = root_at + root_len.next_multiple_of(sector);
    let cluster = per_cluster * sector;
    if total > window.len() || data >= total {
        return Err("it is larger than its partition or disk".into());
    }
    let clusters = u32::try_from((total - data) / cluster).unwrap_or(u32::MAX);
    let (width, extended) = match clusters {
        _ if u16_at(head, 22) == 0 => (Width::ThirtyTwo, 64),
        0..4085 => (Width::Twelve, 36),
        _ => (Width::Sixteen, 36),
    };
    let serial = u32_at(head, extended + 3);
    let label = head.get(extended + 7..extended + 18).unwrap_or_default();
    Ok(Some(Volume {
        window: window.part(0, total),
        width,
        table,
        root: (root_at, root_len),
        root_cluster: u32_at(head, 44) & 0x0fff_ffff,
        data,
        cluster,
        clusters,
        uuid: format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff),
        label: String::from_utf8_lossy(label).trim_end().to_owned(),
    }))
}

/// What a directory says of a file.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    directory: bool,
    cluster: u32,
    len: u32,
}

impl Volume {
    /// The cluster that follows another; `None` at the end of a chain, and where it leads out of the file system.
    fn next(&self, cluster: u32) -> Result<Option<u32>, FileError> {
        let mut bytes = [0; 4];
        let next = match self.width {
            Width::Twelve => {
                let at = self.table + u64::from(cluster) + u64::from(cluster / 2);
                let pair = bytes.get_mut(..2).unwrap_or_default();
                self.window.read(at, pair)?;
                let both = u32::from(u16_at(pair, 0));
                if cluster.is_multiple_of(2) {
                    both & 0xfff
                } else {
                    both >> 4
                }
            }
            Width::Sixteen => {
                let pair = bytes.get_mut(..2).unwrap_or_default();
                self.window
                    .read(self.table + u64::from(cluster) * 2, pair)?;
                u16_at(pair, 0).into()
            }
            Width::ThirtyTwo => {
                self.window
                    .read(self.table + u64::from(cluster) * 4, &mut bytes)?;
                u32_at(&bytes, 0) & 0x0fff_ffff
            }
        };
        Ok(self.place(next).map(|_| next))
    }

    /// First byte of a cluster, if there is one of this number.
    fn place(&self, cluster: u32) -> Option<u64> {
        let index = cluster.checked_sub(2)?;
        (index < self.clusters).then(|| self.data + u64::from(index) * self.cluster)
    }

    /// The bytes of a directory that begins at this cluster.
    fn chain(&self, first: u32) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        let mut seen = HashSet::new();
        let mut next = Some(first);
        while let Some(cluster) = next {
            let at = self
                .place(cluster)
                .ok_or_else(|| damaged("a directory begins outside the file system"))?;
            let end = bytes.len();
            if !seen.insert(cluster) || end as u64 + self.cluster > MOST_DIRECTORY {
                return Err(damaged("a directory has no end"));
            }
            bytes.resize(end + usize::try_from(self.cluster).unwrap_or(0), 0);
            self.window
                .read(at, bytes.get_mut(end..).unwrap_or_default())?;
            next = self.next(cluster)?;
        }
        Ok(bytes)
    }

    /// What is in a directory; `None` is the root.
    fn entries(&self, directory: Option<&Entry>) -> Result<Vec<Entry>, FileError> {
        let bytes = match (directory, self.width) {
            (Some(entry), _) if entry.cluster != 0 => self.chain(entry.cluster)?,
            (_, Width::ThirtyTwo) => self.chain(self.root_cluster)?,
            _ => {
                let mut bytes = vec![0; usize::try_from(self.root.1).unwrap_or(0)];
                self.window.read(self.root.0, &mut bytes)?;
                bytes
            }
        };
        Ok(read_entries(&bytes))
    }

    /// What a path names; `None` is the root.
    fn find(&self, path: &str) -> Result<Option<Entry>, FileError> {
        let mut at: Option<Entry> = None;
        let mut trail = Vec::new();
        for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
            if name == ".." {
                at = trail.pop().flatten();
                continue;
            }
            if at.as_ref().is_some_and(|entry| !entry.directory) || trail.len() >= MOST_DEPTH {
                return Err(FileError::Missing);
            }
            let wanted = name.to_lowercase();
            let found = self.entries(at.as_ref())?.into_iter();
            let found = found
                .into_iter()
                .find(|entry| entry.name.to_lowercase() == wanted);
            trail.push(at);
            at = Some(found.ok_or(FileError::Missing)?);
        }
        Ok(at)
    }
}

fn damaged(what: &str) -> FileError {
    FileError::Unreadable(what.into())
}

/// The files that a directory lists.
fn read_entries(bytes: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut long = LongName::default();
    for entry in bytes.as_chunks::<32>().0 {
        let attributes = entry[11];
        match entry[0] {
            0 => break,
            0xe5 => long = LongName::default(),
            _ if attributes & 0x3f == LONG_NAME => long.add(entry),
            _ if attributes & VOLUME_LABEL != 0 => long = LongName::default(),
            _ if found.len() >= MOST_NAMES => break,
            _ => {
                let short = short_name(entry);
                let name = std::mem::take(&mut long).finish(entry).unwrap_or(short);
                let high = u32::from(u16_at(entry, 20));
                found.push(Entry {
                    name,
                    directory: attributes & DIRECTORY != 0,
                    cluster: (high << 16 | u32::from(u16_at(entry, 26))) & 0x0fff_ffff,
                    len: u32_at(entry, 28),
                });
            }
        }
    }
    found
}

/// A name in eight and three characters.
fn short_name(entry: &[u8; 32]) -> String {
    const LOWER_BASE: u8 = 0x08;
    const LOWER_EXTENSION: u8 = 0x10;
    let part = |bytes: &[u8], lower: bool| {
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        if lower { text.to_lowercase() } else { text }
    };
    let base = part(&entry[..8], entry[12] & LOWER_BASE != 0);
    let extension = part(&entry[8..11], entry[12] & LOWER_EXTENSION != 0);
    if extension.is_empty() {
        base
    } else {
        format!("{base}.{extension}")
    }
}

/// A long name, which stands before its file's entry in pieces of 13 characters, the last first.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    checksum: u8,
    /// The number of the piece that was read last.
    piece: u8,
}

impl LongName {
    fn add(&mut self, entry: &[u8; 32]) {
        const LAST: u8 = 0x40;
        let number = entry[0] & 0x3f;
        if entry[0] & LAST != 0 {
            *self = Self {
                units: Vec::new(),
                checksum: entry[13],
                piece: number,
            };
        } else if self.piece != number + 1 || self.checksum != entry[13] {
            *self = Self::default();
            return;
        } else {
            self.piece = number;
        }
        let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
        let piece = places.map(|at| u16_at(entry, at));
        self.units.splice(0..0, piece);
    }

    /// The name, if all pieces are there and belong to this entry.
    fn finish(self, entry: &[u8; 32]) -> Option<String> {
        let sum = entry[..11]
            .iter()
            .fold(0_u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
        if self.piece != 1 || sum != self.checksum {
            return None;
        }
        let name = self.units.split(|&unit| unit == 0).next()?;
        Some(String::from_utf16_lossy(name))
    }
}

impl FileSystem for Volume {
    fn kind(&self) -> &'static str {
        "FAT"
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn open(&self, path: &str) -> Result<Box<dyn Contents + '_>, FileError> {
        match self.find(path)? {
            Some(entry) if !entry.directory => Ok(Box::new(Open {
                volume: self,
                len: entry.len,
                done: 0,
                cluster: Some(entry.cluster),
            })),
            _ => Err(FileError::Kind("file")),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<String>, FileError> {
        let directory = self.find(path)?;
        if directory.as_ref().is_some_and(|entry| !entry.directory) {
            return Err(FileError::Kind("directory"));
        }
        let entries = self.entries(directory.as_ref())?.into_iter();
        Ok(entries.map(|entry| entry.name).collect())
    }
}

/// A file that is being read.
struct Open<'a> {
    volume: &'a Volume,
    len: u32,
    done: u32,
    /// The cluster that holds the next byte.
    cluster: Option<u32>,
}

impl Contents for Open<'_> {
    fn len(&self) -> u64 {
        self.len.into()
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, FileError> {
        let size = self.volume.cluster;
        let wanted = u64::from(self.len - self.done).min(into.len() as u64);
        if wanted == 0 {
            return Ok(0);
        }
        let too_short = || damaged("a file has fewer clusters than its length needs");
        let first = self.cluster.ok_or_else(too_short)?;
        let within = u64::from(self.done) % size;
        let at = self.volume.place(first).ok_or_else(too_short)? + within;
        // Clusters that follow one another are read in one go.
        let (mut here, mut run) = (first, size - within);
        let mut next = self.volume.next(here)?;
        while run < wanted && next == Some(here + 1) {
            here += 1;
            run += size;
            next = self.volume.next(here)?;
        }
        let n = usize::try_from(run.min(wanted)).unwrap_or(0);
        self.volume
            .window
            .read(at, into.get_mut(..n).unwrap_or_default())?;
        self.cluster = if n as u64 == run { next } else { Some(here) };
        self.done += u32::try_from(n).unwrap_or(0);
        Ok(n)
    }
}
