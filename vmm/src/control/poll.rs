//! Waiting for many things at once: epoll with names in the place of numbers.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::console::Port;

/// What became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The machine has something to say.
    Notices,
    /// The process was told to end.
    Signals,
    /// Somebody connects to the control socket.
    Listener,
    /// The guest wrote to its console.
    Fresh,
    /// The guest has read its keystrokes.
    Wanted,
    /// Somebody connects to the console's socket.
    ConsoleListener,
    /// Somebody typed, or hung up.
    Typing(Port),
    /// A client wrote, reads again, or hung up.
    Client(u32),
}

const CLIENTS: u64 = 1 << 32;

impl Source {
    fn number(self) -> u64 {
        match self {
            Self::Notices => 0,
            Self::Signals => 1,
            Self::Listener => 2,
            Self::Fresh => 3,
            Self::Wanted => 4,
            Self::ConsoleListener => 5,
            Self::Typing(Port::Pty) => 6,
            Self::Typing(Port::Peer) => 7,
            Self::Client(number) => CLIENTS | u64::from(number),
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Notices,
            1 => Self::Signals,
            2 => Self::Listener,
            3 => Self::Fresh,
            4 => Self::Wanted,
            5 => Self::ConsoleListener,
            6 => Self::Typing(Port::Pty),
            7 => Self::Typing(Port::Peer),
            n if n & CLIENTS != 0 => Self::Client(n as u32),
            _ => return None,
        })
    }
}

/// A set of descriptors to wait for. Descriptors that are closed leave it by themselves.
#[derive(Debug)]
pub struct Poll(Epoll);

impl Poll {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        Epoll::new().map(Self)
    }

    fn control(
        &self,
        operation: ControlOperation,
        descriptor: RawFd,
        source: Source,
        events: EventSet,
    ) -> io::Result<()> {
        self.0.ctl(
            operation,
            descriptor,
            EpollEvent::new(events, source.number()),
        )
    }

    /// Waits for `descriptor` to be readable.
    pub fn watch(&self, descriptor: RawFd, source: Source) -> io::Result<()> {
        self.control(ControlOperation::Add, descriptor, source, EventSet::IN)
    }

    /// Waits for it to be writable as well, or no longer.
    pub fn also_writable(&self, descriptor: RawFd, source: Source, also: bool) -> io::Result<()> {
        let events = if also {
            EventSet::IN | EventSet::OUT
        } else {
            EventSet::IN
        };
        self.control(ControlOperation::Modify, descriptor, source, events)
    }

    /// Does not wait for it for now, or again.
    pub fn hold(&self, descriptor: RawFd, source: Source, hold: bool) -> io::Result<()> {
        let events = if hold {
            EventSet::empty()
        } else {
            EventSet::IN
        };
        self.control(ControlOperation::Modify, descriptor, source, events)
    }

    /// Waits for it no longer.
    pub fn forget(&self, descriptor: RawFd) {
        // One that is not in the set, or closed, needs no forgetting.
        let _ = self
            .0
            .ctl(ControlOperation::Delete, descriptor, EpollEvent::default());
    }

    /// Waits until something is ready, or for `limit` rounded up to milliseconds.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<Vec<Source>> {
        let limit = limit.map_or(-1, |d| {
            i32::try_from(d.as_millis()).map_or(i32::MAX, |ms| ms.saturating_add(1))
        });
        let mut events = [EpollEvent::default(); 16];
        let n = match self.0.wait(limit, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        Ok(events
            .iter()
            .take(n)
            .filter_map(|e| Source::from_number(e.data()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_known_by_its_number() {
        let sources = [
            Source::Notices,
            Source::Signals,
            Source::Listener,
            Source::Fresh,
            Source::Wanted,
            Source::ConsoleListener,
            Source::Typing(Port::Pty),
            Source::Typing(Port::Peer),
            Source::Client(0),
            Source::Client(u32::MAX),
        ];
        for source in sources {
            assert_eq!(Source::from_number(source.number()), Some(source));
        }
    }
}
