//! What the monitor says of itself, on its error stream: a guest can make it speak, and does not fill the host's disk by that.
//!
//! In come whole lines, out go as many as the allowance has room for: [`BURST`] bytes at once, and [`REFILL`] bytes a second over time. Lines that are left out are
//! counted, and the next line that is written says how many.

use std::io::{self, Write};
use std::time::Instant;

/// Bytes that may be written at once: some thousand lines.
const BURST: u64 = 256 << 10;
/// Bytes that may be written each second after that: some 5 MiB a day.
const REFILL: u64 = 64;

/// A writer of lines, bounded.
#[derive(Debug)]
pub struct Bounded<W> {
    inner: W,
    left: u64,
    filled: Instant,
    omitted: u64,
}

impl<W: Write> Bounded<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            left: BURST,
            filled: Instant::now(),
            omitted: 0,
        }
    }

    fn line(&mut self, line: &[u8], now: Instant) -> io::Result<()> {
        // Whole seconds, so that the fractions are not lost when lines come thick and fast.
        let seconds = now.saturating_duration_since(self.filled).as_secs();
        if seconds > 0 {
            self.left = self
                .left
                .saturating_add(seconds.saturating_mul(REFILL))
                .min(BURST);
            self.filled = now;
        }
        let notice = match self.omitted {
            0 => String::new(),
            n => format!("{n} lines were left out: too many in too short a time\n"),
        };
        let Some(left) = self.left.checked_sub((line.len() + notice.len()) as u64) else {
            self.omitted += 1;
            return Ok(());
        };
        (self.left, self.omitted) = (left, 0);
        self.inner.write_all(notice.as_bytes())?;
        self.inner.write_all(line)
    }
}

impl<W: Write> Write for Bounded<W> {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line, Instant::now())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_off_and_what_is_left_out_is_told() {
        let mut log = Bounded::new(Vec::new());
        let start = Instant::now();
        for _ in 0..100_000 {
            log.line(b"the guest did it again\n", start).unwrap();
        }
        let burst = log.inner.len() as u64;
        assert!((BURST - 23..=BURST).contains(&burst));
        let written = burst / 23;
        log.line(b"an hour later\n", start + Duration::from_secs(3600))
            .unwrap();
        let text = String::from_utf8(log.inner.split_off(burst as usize)).unwrap();
        let omitted = 100_000 - written;
        assert_eq!(
            text,
            format!("{omitted} lines were left out: too many in too short a time\nan hour later\n")
        );
    }

    #[test]
    fn over_a_day_a_flood_writes_less_than_six_mebibytes() {
        let mut log = Bounded::new(Vec::new());
        let start = Instant::now();
        for tenth in 0..864_000 {
            log.line(
                b"the guest did it again\n",
                start + Duration::from_millis(tenth * 100),
            )
            .unwrap();
        }
        assert!(log.inner.len() < 6 << 20, "{}", log.inner.len());
        assert!(log.inner.len() > 5 << 20, "{}", log.inner.len());
    }
}
