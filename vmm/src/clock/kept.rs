//! What is kept of a clock for the next start: one line, in a file that stays open.
//!
//! The sandbox leaves the monitor neither names nor directories, so no new file can take the old one's place. Instead the file has two slots, each in a block of its own, and
//! lines have a number and a checksum. A line goes into the slot that does not have the last one that is known to be on the disk: one that was torn has a wrong checksum, and the
//! one before it still counts. What can go wrong is the file system's; then the last line on the disk is what is found.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Distance of the slots, in bytes: a block of every usual file system.
const SLOT: u64 = 4096;
/// Length of a line, in bytes: always the same, so that a new one covers an old one whole.
const LINE: usize = 192;
/// Time between two lines that are brought to the disk: a guest may set its clock as often as it likes, and the host's disks are everybody's.
const PAUSE: Duration = Duration::from_secs(1);

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The adjustment that was configured: under another one, what the guest made of it counts no longer.
    pub configured: i64,
    /// What the guest made of it.
    pub adjustment: i64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Numbered {
    number: u64,
    #[serde(flatten)]
    line: Line,
    check: u64,
}

impl Numbered {
    /// FNV-1a over the numbers: enough to tell a line that was written whole.
    fn sum(number: u64, line: Line) -> u64 {
        let numbers = [
            number.to_le_bytes(),
            line.configured.to_le_bytes(),
            line.adjustment.to_le_bytes(),
        ];
        numbers
            .iter()
            .flatten()
            .fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
                (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            })
    }
}

/// The file.
#[derive(Debug)]
pub struct Kept {
    file: File,
    /// Number of the last line; the slot is its lowest bit.
    number: u64,
    /// The last line may not be on the disk yet: it is brought there at this time.
    due: Option<Instant>,
    synced: Option<Instant>,
}

impl Kept {
    /// Opens the file, which is made if it is not there; gives what it says.
    pub fn open(path: &Path) -> io::Result<(Self, Option<Line>)> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let last = last(&mut file);
        // Its name has to be there as well after the host's end.
        file.set_len(2 * SLOT)?;
        file.sync_all()?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        let kept = Self {
            file,
            number: last.map_or(0, |last| last.number),
            due: None,
            synced: None,
        };
        Ok((kept, last.map(|last| last.line)))
    }

    /// Keeps a line. It is on the disk when this returns, or once it was due.
    pub fn write(&mut self, line: Line, now: Instant) -> io::Result<()> {
        if self.due.is_none() {
            self.number = self.number.wrapping_add(1);
        }
        let numbered = Numbered {
            number: self.number,
            line,
            check: Numbered::sum(self.number, line),
        };
        let mut text = serde_json::to_vec(&numbered)?;
        text.resize(LINE - 1, b' ');
        text.push(b'\n');
        let next = self.synced.map_or(now, |synced| synced + PAUSE);
        self.due.get_or_insert(next);
        self.file.seek(SeekFrom::Start(self.number % 2 * SLOT))?;
        self.file.write_all(&text)?;
        self.settle(now)
    }

    /// When there is a line to bring to the disk.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Brings the last line to the disk if that is due by `now`.
    pub fn settle(&mut self, now: Instant) -> io::Result<()> {
        if self.due.is_none_or(|due| due > now) {
            return Ok(());
        }
        // Whether or not it works, the next try has time.
        self.due = Some(now + PAUSE);
        self.file.sync_data()?;
        (self.due, self.synced) = (None, Some(now));
        Ok(())
    }

    /// Brings the last line to the disk.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.due {
            Some(due) => self.settle(due),
            None => Ok(()),
        }
    }
}

/// The last line that was written whole.
fn last(file: &mut File) -> Option<Numbered> {
    let found = (0..2).filter_map(|slot| read(file, slot));
    found.max_by_key(|found| found.number)
}

fn read(file: &mut File, slot: u64) -> Option<Numbered> {
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(slot * SLOT)).ok()?;
    file.take(LINE as u64).read_to_end(&mut text).ok()?;
    let found: Numbered = serde_json::from_slice(&text).ok()?;
    let whole = Numbered::sum(found.number, found.line) == found.check;
    (whole && found.number % 2 == slot).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn line(adjustment: i64) -> Line {
        Line {
            configured: 0,
            adjustment,
        }
    }

    fn found(path: &Path) -> Option<i64> {
        let mut file = File::open(path).unwrap();
        last(&mut file).map(|found| found.line.adjustment)
    }

    #[test]
    fn a_line_that_was_torn_anywhere_leaves_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        let mut kept = Kept::open(&path).unwrap().0;
        for adjustment in [-7, 1_234_567] {
            kept.write(line(adjustment), Instant::now()).unwrap();
            kept.finish().unwrap();
        }
        let before = std::fs::read(&path).unwrap();
        kept.write(line(-86_400), Instant::now()).unwrap();
        kept.finish().unwrap();
        let after = std::fs::read(&path).unwrap();
        let start = usize::try_from(kept.number % 2 * SLOT).unwrap();
        let mut new = 0;
        for cut in 0..=LINE {
            // Its beginning came to the disk, or its end.
            for (first, second) in [(&after, &before), (&before, &after)] {
                let mut torn = before.clone();
                torn[start..start + cut].copy_from_slice(&first[start..start + cut]);
                torn[start + cut..start + LINE].copy_from_slice(&second[start + cut..start + LINE]);
                std::fs::write(&path, &torn).unwrap();
                match found(&path) {
                    Some(1_234_567) => {}
                    Some(-86_400) => new += 1,
                    other => panic!("cut at {cut}: {other:?}"),
                }
            }
        }
        assert!(new >= 2, "a whole line counts");
    }

    #[test]
    fn what_is_on_the_disk_stays_until_its_successor_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        let mut kept = Kept::open(&path).unwrap().0;
        let now = Instant::now();
        kept.write(line(1), now).unwrap();
        assert_eq!(kept.due(), None, "the first is brought there at once");
        for adjustment in 2..20 {
            kept.write(line(adjustment), now).unwrap();
            assert_eq!(kept.due(), Some(now + PAUSE), "another one so soon waits");
            assert_eq!(found(&path), Some(adjustment));
        }
        let lost = kept.number % 2 * SLOT;
        kept.file.write_all_at(&[0; LINE], lost).unwrap();
        assert_eq!(found(&path), Some(1));
        kept.write(line(20), now).unwrap();
        kept.settle(now + PAUSE).unwrap();
        assert_eq!((kept.due(), found(&path)), (None, Some(20)));
    }

    #[test]
    fn numbers_go_on_after_a_slot_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        for adjustment in 1..6 {
            let (mut kept, before) = Kept::open(&path).unwrap();
            assert_eq!(before.map_or(0, |line| line.adjustment), adjustment - 1);
            kept.write(line(adjustment), Instant::now()).unwrap();
            let other = (kept.number + 1) % 2 * SLOT;
            kept.file.write_all_at(b"{", other).unwrap();
        }
    }
}
