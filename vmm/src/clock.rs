//! The course of the guest's battery-backed clock: what it shows at power on, and what of the guest's own setting outlives its process.
//!
//! In come the configuration, once, while the process has one thread, and how far the clock is ahead each time that the guest has set it; out go the
//! [`Origin`] that the clock begins with, and one line in a file that stays open ([`kept`]). What can go wrong is a zone that the host does not know, or a file that cannot be
//! opened. A line that does not read as one is no line: the file is in a guest's monitor's hands.

mod kept;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use self::kept::{Kept, Line};
use crate::config::{Clock, ClockBasis, ClockOffset};

/// Where the host keeps its time zones.
const ZONES: &str = "/usr/share/zoneinfo";

/// Why the guest has no clock.
#[derive(Debug, Error)]
pub enum ClockError {
    /// The host does not know the zone.
    #[error("this host does not know the time zone {name} (there is no {path})")]
    Zone {
        /// Its name.
        name: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// The file that keeps what the guest sets could not be opened.
    #[error("could not open {path}, which keeps what the guest makes of its clock")]
    Keep {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What the clock begins with, as seconds that it is ahead of universal time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Nothing, at each power on again.
    Utc,
    /// The process's zone, at each power on again.
    Local,
    /// So many at first. What the guest makes of them stays over a reset.
    Ahead(i64),
}

impl Origin {
    /// How far the clock is ahead at power on; `before` is how far it was before a reset.
    pub fn at_power_on(self, before: Option<i64>) -> i64 {
        match self {
            Self::Utc => 0,
            Self::Local => zone_now(),
            Self::Ahead(first) => before.unwrap_or(first),
        }
    }
}

/// The clock's course.
#[derive(Debug)]
pub struct Course {
    origin: Origin,
    configured: i64,
    /// How far the basis is ahead of universal time.
    basis: i64,
    kept: Option<Kept>,
    /// What was last told.
    ahead: i64,
}

impl Course {
    /// Finds out what the clock begins with. To be called while the process has one thread: a time zone is the whole process's.
    ///
    /// # Errors
    /// See [`ClockError`].
    pub fn begin(clock: &Clock) -> Result<Self, ClockError> {
        if let Some(zone) = &clock.timezone {
            enter_zone(zone)?;
        }
        let configured = clock.adjustment.unwrap_or(0);
        let basis = match clock.basis {
            Some(ClockBasis::Localtime) => zone_now(),
            Some(ClockBasis::Utc) | None => 0,
        };
        let mut kept = None;
        let mut adjustment = configured;
        if let Some(path) = &clock.keep {
            let (file, line) = Kept::open(path).map_err(|source| ClockError::Keep {
                path: path.clone(),
                source,
            })?;
            let possible = |line: &Line| line.adjustment.unsigned_abs() <= Clock::FARTHEST;
            let line = line.filter(|line| line.configured == configured && possible(line));
            adjustment = line.map_or(configured, |line| line.adjustment);
            kept = Some(file);
        }
        let origin = match clock.offset {
            ClockOffset::Utc => Origin::Utc,
            ClockOffset::Localtime | ClockOffset::Timezone => Origin::Local,
            ClockOffset::Variable => Origin::Ahead(adjustment.saturating_add(basis)),
            ClockOffset::Absolute => {
                let start = clock.start.unwrap_or(0).min(Clock::FARTHEST);
                Origin::Ahead((start as i64).saturating_sub(now()))
            }
        };
        Ok(Self {
            origin,
            configured,
            basis,
            kept,
            ahead: origin.at_power_on(None),
        })
    }

    /// What the clock begins with.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The machine is at power on again, and its clock `ahead` of universal time.
    pub fn restarted(&mut self, ahead: i64) {
        self.ahead = ahead;
    }

    /// The clock is `ahead` of universal time. Keeps it for the next start where it is to be kept; says whether it is news.
    pub fn follow(&mut self, ahead: i64) -> bool {
        if self.ahead == ahead {
            return false;
        }
        self.ahead = ahead;
        let line = Line {
            configured: self.configured,
            adjustment: ahead.saturating_sub(self.basis),
        };
        if let Some(kept) = &mut self.kept {
            complain(kept.write(line, Instant::now()));
        }
        true
    }

    /// When there is something to bring to the disk.
    pub fn due(&self) -> Option<Instant> {
        self.kept.as_ref().and_then(Kept::due)
    }

    /// Brings to the disk what is due by `now`.
    pub fn settle(&mut self, now: Instant) {
        if let Some(kept) = &mut self.kept {
            complain(kept.settle(now));
        }
    }

    /// Brings everything to the disk: the monitor ends.
    pub fn finish(&mut self) {
        if let Some(kept) = &mut self.kept {
            complain(kept.finish());
        }
    }
}

fn complain(kept: io::Result<()>) {
    if let Err(error) = kept {
        tracing::warn!(%error, "could not keep what the guest made of its clock");
    }
}

/// The host's universal time, in seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// Makes a zone the process's own.
fn enter_zone(name: &str) -> Result<(), ClockError> {
    let path = Path::new(ZONES).join(name);
    if !path.is_file() {
        let name = name.to_owned();
        return Err(ClockError::Zone { name, path });
    }
    // SAFETY: the process has one thread (see `Course::begin`), so nobody else reads the environment.
    unsafe { std::env::set_var("TZ", path) };
    Ok(())
}

/// How far the process's zone is ahead of universal time now, in seconds. The zone is read once: later calls open nothing.
fn zone_now() -> i64 {
    let now: libc::time_t = now();
    let mut broken_down = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid for the call; `tm` of zeroes is a valid value whatever the function does.
    unsafe {
        libc::localtime_r(&now, broken_down.as_mut_ptr());
        broken_down.assume_init().tm_gmtoff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(adjustment: i64, keep: &Path) -> Clock {
        Clock {
            offset: ClockOffset::Variable,
            adjustment: Some(adjustment),
            keep: Some(keep.to_owned()),
            ..Clock::default()
        }
    }

    #[test]
    fn what_the_guest_makes_of_a_variable_clock_is_there_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let keep = dir.path().join("clock");
        let mut course = Course::begin(&variable(3600, &keep)).unwrap();
        assert_eq!(course.origin(), Origin::Ahead(3600));
        assert!(course.follow(-1_000_000_000_000));
        assert!(course.follow(7200));
        assert!(!course.follow(7200), "told once");
        let next = Course::begin(&variable(3600, &keep)).unwrap();
        assert_eq!(next.origin(), Origin::Ahead(7200));
    }

    #[test]
    fn another_adjustment_in_the_configuration_goes_before_what_the_guest_made() {
        let dir = tempfile::tempdir().unwrap();
        let keep = dir.path().join("clock");
        Course::begin(&variable(0, &keep)).unwrap().follow(7200);
        let next = Course::begin(&variable(60, &keep)).unwrap();
        assert_eq!(next.origin(), Origin::Ahead(60));
    }

    #[test]
    fn a_file_that_says_anything_else_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let keep = dir.path().join("clock");
        let far = format!("{{\"configured\":5,\"adjustment\":{}}}", i64::MIN);
        for text in ["", "{}", "\0\0", "[5, 7]x", &far, &"9".repeat(10_000)] {
            std::fs::write(&keep, text).unwrap();
            let course = Course::begin(&variable(5, &keep)).unwrap();
            assert_eq!(course.origin(), Origin::Ahead(5), "{text:.20}");
        }
    }

    #[test]
    fn a_reset_shows_the_hosts_time_again_unless_the_clock_is_the_guests() {
        assert_eq!(Origin::Utc.at_power_on(Some(7)), 0);
        assert_eq!(Origin::Ahead(3).at_power_on(Some(7)), 7);
        assert_eq!(Origin::Ahead(3).at_power_on(None), 3);
    }

    #[test]
    fn an_absolute_clock_begins_where_it_was_told() {
        let clock = Clock {
            offset: ClockOffset::Absolute,
            start: Some(1_000_000_000),
            ..Clock::default()
        };
        let Origin::Ahead(ahead) = Course::begin(&clock).unwrap().origin() else {
            panic!("it follows the host");
        };
        assert!((now() + ahead).abs_diff(1_000_000_000) <= 2);
    }

    #[test]
    fn a_zone_that_the_host_does_not_know_is_named() {
        let clock = Clock {
            offset: ClockOffset::Timezone,
            timezone: Some("Mars/Olympus".to_owned()),
            ..Clock::default()
        };
        let error = Course::begin(&clock).unwrap_err().to_string();
        assert!(
            error.contains("does not know the time zone Mars/Olympus"),
            "{error}"
        );
    }
}
