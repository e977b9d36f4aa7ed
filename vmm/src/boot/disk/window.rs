//! A disk's bytes, and parts of them.
//!
//! In come positions; out come bytes of the guest's own image, through whatever serves it to the guest. Nothing is ever written. A part never reaches beyond
//! itself, and all reading of one boot is so much and no more: what a stranger wrote may lead in circles, but not for ever. It is bytes that are counted, not seconds: a
//! slow host boots as well as a quick one.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// What serves a disk.
pub trait DiskBytes: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;
    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `into` from position `at`.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

/// Bytes that are read and kept for the next small reads, which follow one another.
const KEPT: u64 = 64 << 10;
/// Reads of fewer bytes are small, and count as this many.
const SMALL: usize = 4096;

struct Shared {
    bytes: Arc<dyn DiskBytes>,
    /// Bytes that may still be read.
    left: Cell<u64>,
    kept: RefCell<Kept>,
}

#[derive(Default)]
struct Kept {
    at: u64,
    bytes: Vec<u8>,
}

/// A part of a disk.
#[derive(Clone)]
pub(super) struct Window {
    shared: Rc<Shared>,
    start: u64,
    len: u64,
}

impl Window {
    /// The whole disk, of which this many bytes may be read, the same ones again included.
    pub fn whole(bytes: Arc<dyn DiskBytes>, most: u64) -> Self {
        let len = bytes.len();
        let shared = Shared {
            bytes,
            left: Cell::new(most),
            kept: RefCell::default(),
        };
        Self {
            shared: Rc::new(shared),
            start: 0,
            len,
        }
    }

    /// A part of this part; what would lie beyond it is cut off.
    pub fn part(&self, start: u64, len: u64) -> Self {
        let start = start.min(self.len);
        Self {
            shared: Rc::clone(&self.shared),
            start: self.start + start,
            len: len.min(self.len - start),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills `into` from position `at`.
    pub fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it leads beyond the end of its partition or disk",
            ));
        }
        self.shared.spend(into.len().max(SMALL))?;
        let at = self.start + at;
        if into.len() < SMALL {
            self.shared.read_small(at, into)
        } else {
            self.shared.bytes.read(at, into)
        }
    }
}

impl Shared {
    /// Takes so many bytes from what may be read.
    fn spend(&self, bytes: usize) -> io::Result<()> {
        let left = self.left.get().checked_sub(bytes as u64);
        self.left.set(left.unwrap_or(0));
        left.map(drop).ok_or_else(|| {
            let why = "it leads to more reading than any boot needs";
            io::Error::new(io::ErrorKind::QuotaExceeded, why)
        })
    }

    fn read_small(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let mut kept = self.kept.borrow_mut();
        if let Some(bytes) = kept.get(at, into.len()) {
            into.copy_from_slice(bytes);
            return Ok(());
        }
        let begin = at & !(SMALL as u64 - 1);
        let len = KEPT.min(self.bytes.len().saturating_sub(begin));
        let mut bytes = std::mem::take(&mut kept.bytes);
        bytes.resize(usize::try_from(len).unwrap_or(0), 0);
        self.spend(bytes.len())?;
        self.bytes.read(begin, &mut bytes)?;
        *kept = Kept { at: begin, bytes };
        let bytes = kept
            .get(at, into.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

impl Kept {
    fn get(&self, at: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.at)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeroes;

    impl DiskBytes for Zeroes {
        fn len(&self) -> u64 {
            1 << 40
        }

        fn read(&self, _at: u64, into: &mut [u8]) -> io::Result<()> {
            into.fill(0);
            Ok(())
        }
    }

    #[test]
    fn reading_ends_after_so_many_bytes_however_they_are_read() {
        let most = 1 << 20;
        for (size, stride) in [(1 << 16, 1 << 16), (4096, 4096), (8, 0), (8, 1 << 30)] {
            let window = Window::whole(Arc::new(Zeroes), most);
            let mut into = vec![0; size];
            let reads = (0..).take_while(|n| window.read(n * stride, &mut into).is_ok());
            let reads = reads.count();
            assert!((1..=256).contains(&reads), "{size} bytes: {reads} times");
            let parted = window.part(0, 100).read(0, &mut [0]).unwrap_err();
            assert_eq!(parted.kind(), io::ErrorKind::QuotaExceeded);
        }
    }
}
