//! Where file systems may be on a disk: the partitions of a GPT (UEFI 2.10, section 5) or an MBR with its extended partition, or the whole disk.
//!
//! In comes a disk; out go at most [`MOST`] partitions, each inside the disk. A table is a stranger's: entries that lie outside the disk are left
//! out, a chain of extended partitions only ever leads forward, and nothing else is believed of it. What goes wrong is the disk's own refusal to be read.

use std::io;

use super::window::Window;

/// Partitions that are looked at, at most: more than the tables that installers write have room for.
pub(super) const MOST: usize = 128;
/// The unit of an MBR's positions.
const SECTOR: u64 = 512;
/// Largest entry of a GPT that is believed.
const MOST_ENTRY: u32 = 4096;

/// What a table says that a partition is for, as far as that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The EFI system partition.
    Esp,
    /// The extended boot loader partition (XBOOTLDR).
    Xbootldr,
    /// Anything else.
    Other,
}

/// The table in which a partition is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// A GPT.
    Gpt,
    /// An MBR.
    Msdos,
    /// None: the file system begins where the disk does.
    None,
}

/// One partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    pub table: Table,
    /// Its number, from 1, as the guest's kernel counts; 0 for a whole disk.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    pub purpose: Purpose,
}

/// The disk's partitions in the order of their numbers; the whole disk if it has no table.
pub(super) fn find(disk: &Window) -> io::Result<Vec<Partition>> {
    let whole = Partition {
        table: Table::None,
        number: 0,
        start: 0,
        len: disk.len(),
        purpose: Purpose::Other,
    };
    let mut mbr = [0; SECTOR as usize];
    if disk.len() < mbr.len() as u64 {
        return Ok(vec![whole]);
    }
    disk.read(0, &mut mbr)?;
    let mut found = if primary(&mbr).any(|entry| entry.kind == PROTECTIVE) || is_gpt(disk, SECTOR) {
        gpt(disk)?
    } else {
        msdos(disk, &mbr)?
    };
    if found.is_empty() {
        found.push(whole);
    }
    Ok(found)
}

// --- GPT -----------------------------------------------------------------------------------------------------------------

/// Type of the EFI system partition, c12a7328-f81f-11d2-ba4b-00a0c93ec93b, as it is stored.
const ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];
/// Type of the extended boot loader partition, bc13c2ff-59e6-4262-a352-b275fd6f7172, as it is stored.
const XBOOTLDR: [u8; 16] = [
    0xff, 0xc2, 0x13, 0xbc, 0xe6, 0x59, 0x62, 0x42, 0xa3, 0x52, 0xb2, 0x75, 0xfd, 0x6f, 0x71, 0x72,
];

fn is_gpt(disk: &Window, at: u64) -> bool {
    let mut signature = [0; 8];
    disk.read(at, &mut signature).is_ok() && &signature == b"EFI PART"
}

/// The entries of the first table that is there: behind the protective MBR in sectors of 512 bytes or of 4 KiB, or the copy at the disk's end.
fn gpt(disk: &Window) -> io::Result<Vec<Partition>> {
    let last = |sector: u64| (disk.len() / sector).saturating_sub(1) * sector;
    let places = [
        (SECTOR, SECTOR),
        (4096, 4096),
        (last(SECTOR), SECTOR),
        (last(4096), 4096),
    ];
    let Some((at, sector)) = places.into_iter().find(|&(at, _)| is_gpt(disk, at)) else {
        return Ok(Vec::new());
    };
    let mut header = [0; 92];
    disk.read(at, &mut header)?;
    let table = u64_at(&header, 72).checked_mul(sector);
    let (count, size) = (u32_at(&header, 80), u32_at(&header, 84));
    let Some(table) = table.filter(|_| (128..=MOST_ENTRY).contains(&size)) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for n in 0..count.min(MOST as u32) {
        let mut entry = [0; 48];
        let place = table.checked_add(u64::from(n) * u64::from(size));
        let Some(place) = place.filter(|&place| place < disk.len()) else {
            break;
        };
        disk.read(place, &mut entry)?;
        let (first, last) = (u64_at(&entry, 32), u64_at(&entry, 40));
        let kind = entry.get(..16).unwrap_or_default();
        if kind.iter().all(|&byte| byte == 0) {
            continue;
        }
        let range = first.checked_mul(sector).zip(
            last.checked_sub(first)
                .and_then(|sectors| sectors.checked_add(1)?.checked_mul(sector)),
        );
        let Some((start, len)) = range else { continue };
        let purpose = match kind {
            kind if kind == ESP => Purpose::Esp,
            kind if kind == XBOOTLDR => Purpose::Xbootldr,
            _ => Purpose::Other,
        };
        add(&mut found, disk, (Table::Gpt, n + 1, start, len, purpose));
    }
    Ok(found)
}

// --- MBR -----------------------------------------------------------------------------------------------------------------

/// The type of the one entry that stands before a GPT.
const PROTECTIVE: u8 = 0xee;
/// Types of extended partitions.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

struct MbrEntry {
    kind: u8,
    /// In sectors.
    first: u64,
    count: u64,
}

impl MbrEntry {
    fn purpose(&self) -> Purpose {
        match self.kind {
            0xef => Purpose::Esp,
            0xea => Purpose::Xbootldr,
            _ => Purpose::Other,
        }
    }
}

/// The four entries of a sector, if it has the signature.
fn primary(sector: &[u8; SECTOR as usize]) -> impl Iterator<Item = MbrEntry> {
    let signed = sector.ends_with(&[0x55, 0xaa]);
    let entries = sector.get(446..510).filter(|_| signed).unwrap_or_default();
    entries.chunks_exact(16).map(|entry| MbrEntry {
        kind: entry.get(4).copied().unwrap_or(0),
        first: u32_at(entry, 8).into(),
        count: u32_at(entry, 12).into(),
    })
}

fn msdos(disk: &Window, mbr: &[u8; SECTOR as usize]) -> io::Result<Vec<Partition>> {
    let mut found = Vec::new();
    let mut extended = None;
    for (number, entry) in (1..).zip(primary(mbr)) {
        if EXTENDED.contains(&entry.kind) {
            extended = extended.or(Some(entry.first));
        } else if entry.kind != 0 {
            let (start, len) = (entry.first * SECTOR, entry.count * SECTOR);
            add(
                &mut found,
                disk,
                (Table::Msdos, number, start, len, entry.purpose()),
            );
        }
    }
    let Some(base) = extended else {
        return Ok(found);
    };
    // Each logical partition is behind a sector that lists it and the next such sector. Only a sector further on is followed, so that the chain ends.
    let (mut at, mut number) = (base, 5);
    while found.len() < MOST && at * SECTOR < disk.len() {
        let mut sector = [0; SECTOR as usize];
        disk.read(at * SECTOR, &mut sector)?;
        let entries: Vec<MbrEntry> = primary(&sector).take(2).collect();
        let [logical, next] = entries.as_slice() else {
            break;
        };
        if logical.kind != 0 {
            let (start, len) = ((at + logical.first) * SECTOR, logical.count * SECTOR);
            add(
                &mut found,
                disk,
                (Table::Msdos, number, start, len, logical.purpose()),
            );
            number += 1;
        }
        let forward = base + next.first;
        if !EXTENDED.contains(&next.kind) || forward <= at {
            break;
        }
        at = forward;
    }
    Ok(found)
}

/// Keeps a partition that lies in the disk.
fn add(
    found: &mut Vec<Partition>,
    disk: &Window,
    (table, number, start, len, purpose): (Table, u32, u64, u64, Purpose),
) {
    let inside = start.checked_add(len).is_some_and(|end| end <= disk.len());
    if inside && start > 0 && len > 0 && found.len() < MOST {
        found.push(Partition {
            table,
            number,
            start,
            len,
            purpose,
        });
    }
}

// --- numbers -------------------------------------------------------------------------------------------------------------

/// A little-endian number at a place; zero beyond the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.copied().map_or(0, u16::from_le_bytes)
}

/// See [`u16_at`].
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.copied().map_or(0, u32::from_le_bytes)
}

/// See [`u16_at`].
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.copied().map_or(0, u64::from_le_bytes)
}
