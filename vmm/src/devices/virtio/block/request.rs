//! A disk's requests, and where they stand: in the queue that they came from, or in line under the disk's limits.

use std::collections::VecDeque;
use std::time::Instant;

use vm_memory::GuestMemoryMmap;

use super::super::ring::{Buffers, Chain, Ring};
use super::throttle::Direction;
use super::{T_DISCARD, T_IN, T_OUT, T_WRITE_ZEROES};

/// A queue, and how many of its answers the guest has not been interrupted about.
pub(super) struct Lane {
    pub ring: Ring,
    unannounced: usize,
}

impl Lane {
    pub fn new(ring: Ring) -> Self {
        Self {
            ring,
            unannounced: 0,
        }
    }

    pub fn index(&self) -> u16 {
        self.ring.index()
    }

    /// Gives a request back. The guest is interrupted at the end of the turn, or by the ring's size at the latest.
    pub fn give_back(&mut self, head: u16, done: Result<u32, &'static str>) {
        match done {
            Ok(written) => self.ring.push(head, written),
            Err(why) => self.ring.refuse(head, why),
        }
        self.unannounced += 1;
        if self.unannounced >= usize::from(self.ring.size()) {
            self.announce();
        }
    }

    pub fn announce(&mut self) {
        if std::mem::take(&mut self.unannounced) > 0 {
            self.ring.notify();
        }
    }
}

/// Requests of one direction that wait for their turn, in order. The first has its place under the limits, and may go at that time.
#[derive(Default)]
pub(super) struct Line {
    pub requests: VecDeque<Request>,
    pub due: Option<Instant>,
}

/// The fixed part of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub kind: u32,
    pub sector: u64,
}

impl Header {
    fn take(memory: &GuestMemoryMmap, readable: &mut Buffers) -> Option<Self> {
        let mut bytes = [0; 16];
        if readable.take(16).read(memory, &mut bytes) < bytes.len() {
            return None;
        }
        let [a, b, c, d, _, _, _, _, sector @ ..] = bytes;
        Some(Self {
            kind: u32::from_le_bytes([a, b, c, d]),
            sector: u64::from_le_bytes(sector),
        })
    }
}

/// A request whose header has been read: what the guest writes there later is of no account.
pub(super) struct Request {
    /// The place of its queue among those that the guest set up.
    pub lane: usize,
    /// What it is given back by.
    pub head: u16,
    /// What is to be done next; its sector moves on with what has been done.
    pub header: Option<Header>,
    /// What follows the header and has not been done yet.
    pub from: Buffers,
    /// Room for the data of the answer that has not been filled yet.
    pub to: Buffers,
    /// Room for the status: a byte, or none where the guest left none.
    pub status: Buffers,
    /// Bytes of data that are in the answer.
    pub answered: u64,
}

impl Request {
    pub fn take(lane: usize, memory: &GuestMemoryMmap, mut chain: Chain) -> Self {
        let header = Header::take(memory, &mut chain.readable);
        let room = chain.writable.len().saturating_sub(1);
        Self {
            lane,
            head: chain.head,
            header,
            from: chain.readable,
            to: chain.writable.take(room),
            status: chain.writable,
            answered: 0,
        }
    }

    /// Which limits it is under, and how many bytes it moves; `None` for what moves no data.
    pub fn weight(&self) -> Option<(Direction, u64)> {
        match self.header?.kind {
            T_IN => Some((Direction::Read, self.to.len())),
            T_OUT => Some((Direction::Write, self.from.len())),
            // How much is written is known when the ranges have been read.
            T_DISCARD | T_WRITE_ZEROES => Some((Direction::Write, 0)),
            _ => None,
        }
    }
}
