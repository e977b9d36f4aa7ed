//! What happened to the guest, kept for those who ask later: the newest events in memory, and the state file.
//!
//! In come events and changes of state; out go numbered events and one line of JSON a change in a file that outlives the process. The file is opened
//! once and only ever appended to, until it is so long that it begins anew: a guest that reboots without end fills no disk.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::life::{Life, Reason};
use super::wire::{Event, EventKind};
use crate::sandbox::last_words;

/// Events that are kept.
const KEPT: usize = 256;
/// Length at which the state file begins anew, in bytes.
const FILE_LIMIT: u64 = 64 << 10;

/// A line of the state file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Line<'a> {
    state: &'a str,
    pid: u32,
    seq: u64,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

/// Events and the state file.
#[derive(Debug)]
pub struct Journal {
    events: VecDeque<Event>,
    seq: u64,
    file: File,
    length: u64,
    pid: u32,
}

impl Journal {
    /// Opens the state file, emptied, readable by its owner's group.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o640).open(path)?;
        file.set_len(0)?;
        Ok(Self {
            events: VecDeque::new(),
            seq: 0,
            file,
            length: 0,
            pid: pid(),
        })
    }

    /// The process's number as the host knows it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The state file, for last words.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Number of the last event.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Notes an event.
    pub fn event(&mut self, event: EventKind, message: Option<String>) -> Event {
        self.seq += 1;
        last_words::event(self.seq);
        let event = Event {
            event,
            seq: self.seq,
            time: now(),
            message,
        };
        self.events.push_back(event.clone());
        if self.events.len() > KEPT {
            self.events.pop_front();
        }
        event
    }

    /// The kept events after number `seq`.
    pub fn after(&self, seq: u64) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.seq > seq)
    }

    /// Writes that the monitor is making the machine.
    pub fn starting(&mut self) {
        self.line("starting", None, None);
    }

    /// Writes the guest's state, and why it is paused if nobody asked for that.
    pub fn state(&mut self, life: Life, stopped: Option<&str>) {
        let reason = match life {
            Life::Preserved(reason) => Some(reason),
            Life::Running | Life::Paused => None,
        };
        self.line(life.word(), reason, stopped);
    }

    /// Writes the last words.
    pub fn ended(&mut self, reason: Reason, message: &str) {
        self.line("ended", Some(reason), Some(message));
    }

    fn line(&mut self, state: &str, reason: Option<Reason>, message: Option<&str>) {
        let line = Line {
            state,
            pid: self.pid,
            seq: self.seq,
            time: now(),
            reason,
            message,
        };
        let Ok(mut text) = serde_json::to_vec(&line) else {
            return;
        };
        text.push(b'\n');
        if let Err(error) = self.append(&text) {
            tracing::warn!(%error, state, "could not write the state file");
        }
    }

    /// One write a line, so that a reader sees whole lines.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if self.length > FILE_LIMIT {
            self.file.set_len(0)?;
            self.length = 0;
        }
        self.file.write_all(text)?;
        self.length += text.len() as u64;
        Ok(())
    }
}

/// The process's number as the mounted `/proc` has it: in a namespace of processes of its own the number that the process has for itself is 1.
fn pid() -> u32 {
    let shown = std::fs::read_link("/proc/self").ok();
    let shown = shown.and_then(|link| link.to_str()?.parse().ok());
    shown.unwrap_or_else(std::process::id)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_last_line_says_how_the_guest_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut journal = Journal::open(&path).unwrap();
        journal.starting();
        journal.event(EventKind::Started, None);
        journal.state(Life::Running, None);
        journal.ended(Reason::PowerOff, "the guest powered off");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        let states: Vec<&str> = lines.iter().filter_map(|l| l["state"].as_str()).collect();
        assert_eq!(states, ["starting", "running", "ended"]);
        assert_eq!(
            (&lines[2]["reason"], &lines[2]["seq"]),
            (&"power-off".into(), &1.into())
        );
    }

    #[test]
    fn a_guest_that_reboots_without_end_fills_neither_disk_nor_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut journal = Journal::open(&path).unwrap();
        for _ in 0..5000 {
            journal.event(EventKind::Reset, None);
            journal.state(Life::Running, None);
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= FILE_LIMIT + 1024);
        assert_eq!(journal.after(0).count(), KEPT);
        assert_eq!(
            journal.after(4998).map(|e| e.seq).collect::<Vec<_>>(),
            [4999, 5000]
        );
    }
}
