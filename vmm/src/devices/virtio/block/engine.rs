//! What the worker of a disk does: takes requests from the queue, lets each go when the limits allow, and answers it.
//!
//! In come kicks, the timer of those that wait, and changes from outside; out go accesses of the image and answers. A request that may not go yet waits here, reads
//! apart from writes; a guest that offers more than its queue holds is left with the rest until some are answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vm_memory::GuestMemoryMmap;

use super::super::VirtioInterrupt;
use super::super::ring::{Buffers, Chain, Ring};
use super::super::worker::{Handler, Timer};
use super::control::Shared;
use super::throttle::Direction;
use super::{
    ID, Image, MOST_DISCARD, MOST_RANGES, MOST_ZEROES, PIECE, SECTOR, T_DISCARD, T_FLUSH, T_GET_ID,
    T_IN, T_OUT, T_WRITE_ZEROES, UNMAP,
};
use crate::config::DetectZeroes;

/// Longest that the timer is set to: it is looked at again then.
const FAR: Duration = Duration::from_secs(3600);

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// What the worker works on.
pub(super) struct Engine {
    pub image: Image,
    /// Sectors that the guest may reach.
    pub capacity: u64,
    pub readonly: bool,
    /// Space that the guest does not need is given back.
    pub unmap: bool,
    pub detect_zeroes: DetectZeroes,
    /// Each write of this activation is flushed before it is answered.
    pub writethrough: bool,
    pub id: [u8; ID],
    /// The queues that the guest set up.
    pub lanes: Vec<Lane>,
    /// How the guest is told, while it drives the device.
    pub interrupt: Option<Arc<dyn VirtioInterrupt>>,
    /// What of the disk changes from outside.
    pub shared: Arc<Shared>,
    /// When the next of those that wait may go.
    pub timer: Arc<Timer>,
    pub reads: Line,
    pub writes: Line,
}

/// A queue, and how many of its answers the guest has not been interrupted about.
pub(super) struct Lane {
    ring: Ring,
    unannounced: usize,
}

impl Lane {
    pub(super) fn new(ring: Ring) -> Self {
        Self {
            ring,
            unannounced: 0,
        }
    }

    pub(super) fn index(&self) -> u16 {
        self.ring.index()
    }

    /// Gives a request back. The guest is interrupted at the end of the turn, or by the ring's size at the latest.
    fn give_back(&mut self, head: u16, done: Result<u32, &'static str>) {
        match done {
            Ok(written) => self.ring.push(head, written),
            Err(why) => self.ring.refuse(head, why),
        }
        self.unannounced += 1;
        if self.unannounced >= usize::from(self.ring.size()) {
            self.announce();
        }
    }

    fn announce(&mut self) {
        if std::mem::take(&mut self.unannounced) > 0 {
            self.ring.notify();
        }
    }
}

/// Requests of one direction that wait for their turn, in order. The first has its place under the limits, and may go at that time.
#[derive(Default)]
pub(super) struct Line {
    requests: VecDeque<Request>,
    due: Option<Instant>,
}

/// The fixed part of a request.
#[derive(Debug, Clone, Copy)]
struct Header {
    kind: u32,
    sector: u64,
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
struct Request {
    /// The place of its queue among those that the guest set up.
    lane: usize,
    header: Option<Header>,
    /// What follows the header, and room for the answer.
    chain: Chain,
}

impl Request {
    fn take(lane: usize, memory: &GuestMemoryMmap, mut chain: Chain) -> Self {
        Self {
            lane,
            header: Header::take(memory, &mut chain.readable),
            chain,
        }
    }

    /// Which limits it is under, and how many bytes it moves; `None` for what moves no data.
    fn weight(&self) -> Option<(Direction, u64)> {
        match self.header?.kind {
            T_IN => Some((Direction::Read, self.chain.writable.len().saturating_sub(1))),
            T_OUT => Some((Direction::Write, self.chain.readable.len())),
            // How much is written is known when the ranges have been read.
            T_DISCARD | T_WRITE_ZEROES => Some((Direction::Write, 0)),
            _ => None,
        }
    }
}

impl Handler for Engine {
    fn ready(&mut self, _token: u32) {
        if self.shared.has_changed() {
            // Places under the old limits are none under the new ones.
            self.reads.due = None;
            self.writes.due = None;
        }
        if let Some(bytes) = self.shared.wanted() {
            self.grow(bytes);
        }
        let mut lanes = std::mem::take(&mut self.lanes);
        self.release(&mut lanes, Direction::Read);
        self.release(&mut lanes, Direction::Write);
        // Queues take turns. A guest that adds requests as fast as they are served keeps only its own disk's worker busy.
        let mut more = true;
        while std::mem::take(&mut more) {
            for lane in 0..lanes.len() {
                more |= self.serve(&mut lanes, lane);
            }
        }
        lanes.iter_mut().for_each(Lane::announce);
        self.lanes = lanes;
        self.arm();
    }
}

impl Engine {
    /// Forgets the queues and what waits.
    pub(super) fn stop(&mut self) {
        self.lanes.clear();
        self.interrupt = None;
        self.reads = Line::default();
        self.writes = Line::default();
        self.arm();
    }

    /// How many requests wait.
    pub(super) fn waits(&self) -> usize {
        self.reads.requests.len() + self.writes.requests.len()
    }

    /// Makes the disk larger, and tells the guest. What of the image cannot be made larger stays as it is, and is told to whoever asks.
    fn grow(&mut self, bytes: u64) {
        let grown = self.image.grow(bytes);
        if let Err(error) = &grown {
            tracing::warn!(%error, bytes, "could not make a disk larger");
        }
        let before = std::mem::replace(&mut self.capacity, self.image.len() / SECTOR);
        let problem = grown.err().map(|error| error.to_string());
        self.shared.grown(self.capacity * SECTOR, problem);
        if self.capacity != before
            && let Some(interrupt) = &self.interrupt
        {
            interrupt.config_changed();
        }
    }

    fn line(&mut self, direction: Direction) -> &mut Line {
        match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
        }
    }

    /// Takes what the guest offers in one queue, once around the ring at most; says whether there may be more.
    fn serve(&mut self, lanes: &mut [Lane], at: usize) -> bool {
        // More than the queues hold can only wait where a guest breaks the rules: it is looked at again when one is answered.
        let most: usize = lanes.iter().map(|lane| usize::from(lane.ring.size())).sum();
        let Some(turn) = lanes.get(at).map(|lane| lane.ring.size()) else {
            return false;
        };
        for _ in 0..turn {
            if self.waits() >= most {
                return false;
            }
            let Some(ring) = lanes.get_mut(at).map(|lane| &mut lane.ring) else {
                return false;
            };
            match ring.pop() {
                Some(chain) => {
                    let request = Request::take(at, ring.memory(), chain);
                    self.go_or_wait(lanes, request);
                }
                None => return ring.listen(),
            }
        }
        true
    }

    fn go_or_wait(&mut self, lanes: &mut [Lane], request: Request) {
        let Some((direction, bytes)) = request.weight() else {
            return self.finish(lanes, request);
        };
        if self.line(direction).requests.is_empty() {
            let now = Instant::now();
            let due = self.admit(now, direction, bytes);
            if due <= now {
                return self.finish(lanes, request);
            }
            self.line(direction).due = Some(due);
        }
        self.line(direction).requests.push_back(request);
    }

    /// Lets those go whose time has come.
    fn release(&mut self, lanes: &mut [Lane], direction: Direction) {
        loop {
            let line = self.line(direction);
            let Some((_, bytes)) = line.requests.front().and_then(Request::weight) else {
                return;
            };
            let now = Instant::now();
            let due = match line.due {
                Some(due) => due,
                None => self.admit(now, direction, bytes),
            };
            let line = self.line(direction);
            line.due = Some(due).filter(|due| *due > now);
            if line.due.is_some() {
                return;
            }
            if let Some(request) = line.requests.pop_front() {
                self.finish(lanes, request);
            }
        }
    }

    /// When a request may go.
    fn admit(&self, now: Instant, direction: Direction, bytes: u64) -> Instant {
        let wait = self
            .shared
            .throttle(|throttle| throttle.admit(now, direction, bytes));
        // So late that no clock shows it is as good as never; other limits may bring it nearer.
        now.checked_add(wait).unwrap_or(now + FAR)
    }

    /// Sets the timer to the first of those that wait.
    fn arm(&self) {
        let due = [self.reads.due, self.writes.due]
            .into_iter()
            .flatten()
            .min();
        let set = match due {
            // A timer that is set to nothing does not run.
            Some(due) => {
                let left = due.saturating_duration_since(Instant::now());
                self.timer.arm(left.clamp(Duration::from_micros(1), FAR))
            }
            None => self.timer.disarm(),
        };
        if let Err(error) = set {
            tracing::error!(%error, "could not set the timer of a disk's limits");
        }
    }

    /// Does one request, and gives it back to the guest.
    fn finish(&mut self, lanes: &mut [Lane], request: Request) {
        let (at, head) = (request.lane, request.chain.head);
        if let Some(lane) = lanes.get_mut(at) {
            let done = self.answer(lane.ring.memory(), request);
            lane.give_back(head, done);
        }
    }

    /// Does one request and writes its status; returns how many bytes of answer there are.
    fn answer(&mut self, memory: &GuestMemoryMmap, request: Request) -> Result<u32, &'static str> {
        let Request {
            header, mut chain, ..
        } = request;
        let room = chain
            .writable
            .len()
            .checked_sub(1)
            .ok_or("has no room for the status of a request")?;
        let mut data = chain.writable.take(room);
        let (status, written) = match header {
            Some(header) => self.perform(memory, &header, &mut chain.readable, &mut data),
            None => (Status::IoError, 0),
        };
        chain.writable.write(memory, &[status as u8]);
        // A chain has less than 4 GiB, so the number fits.
        Ok(u32::try_from(written + 1).unwrap_or(u32::MAX))
    }

    fn perform(
        &mut self,
        memory: &GuestMemoryMmap,
        header: &Header,
        from: &mut Buffers,
        to: &mut Buffers,
    ) -> (Status, u64) {
        match header.kind {
            T_IN => self.read(memory, header.sector, to),
            T_OUT => (self.write(memory, header.sector, from), 0),
            T_FLUSH => (self.done("flush", |engine| engine.image.flush()), 0),
            T_GET_ID => (Status::Ok, to.write(memory, &self.id) as u64),
            // It was not offered, and a driver that asks all the same is told so.
            T_DISCARD if !self.unmap => (Status::Unsupported, 0),
            T_DISCARD | T_WRITE_ZEROES => (self.change_ranges(memory, header.kind, from), 0),
            _ => (Status::Unsupported, 0),
        }
    }

    /// The byte at which `len` bytes from `sector` begin, if all of them are on the disk and whole sectors.
    fn place(&self, sector: u64, len: u64) -> Option<u64> {
        // The guest chooses both numbers: neither their sum nor the position in bytes may wrap around to inside the disk.
        let end = sector.checked_add(len / SECTOR)?;
        (len.is_multiple_of(SECTOR) && end <= self.capacity).then(|| sector * SECTOR)
    }

    fn read(&mut self, memory: &GuestMemoryMmap, sector: u64, to: &mut Buffers) -> (Status, u64) {
        let Some(mut at) = self.place(sector, to.len()) else {
            return (Status::IoError, 0);
        };
        let mut done = 0;
        while !to.is_empty() {
            let piece = to.take(PIECE);
            let status = self.done("read", |engine| {
                engine.image.read(at, &piece.slices(memory))
            });
            if status != Status::Ok {
                return (status, done);
            }
            at += piece.len();
            done += piece.len();
        }
        (Status::Ok, done)
    }

    fn write(&mut self, memory: &GuestMemoryMmap, sector: u64, from: &mut Buffers) -> Status {
        let Some(mut at) = self.place(sector, from.len()).filter(|_| !self.readonly) else {
            return Status::IoError;
        };
        while !from.is_empty() {
            let piece = from.take(PIECE);
            let status = if self.detect_zeroes != DetectZeroes::Off && piece.is_zero(memory) {
                self.done("write zeroes", |engine| {
                    let unmap = engine.unmap && engine.detect_zeroes == DetectZeroes::Unmap;
                    engine.image.write_zeroes(at, piece.len(), unmap)
                })
            } else {
                self.done("write", |engine| {
                    engine.image.write(at, &piece.slices(memory))
                })
            };
            if status != Status::Ok {
                return status;
            }
            at += piece.len();
        }
        self.settle()
    }

    /// Discards or zeroes each range that the request lists.
    fn change_ranges(&mut self, memory: &GuestMemoryMmap, kind: u32, from: &mut Buffers) -> Status {
        let whole = from.len().is_multiple_of(16)
            && !from.is_empty()
            && from.len() / 16 <= MOST_RANGES.into();
        if self.readonly || !whole {
            return Status::IoError;
        }
        let (most, known) = if kind == T_DISCARD {
            (MOST_DISCARD, 0)
        } else {
            (MOST_ZEROES, UNMAP)
        };
        while !from.is_empty() {
            let mut bytes = [0; 16];
            from.take(16).read(memory, &mut bytes);
            let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = bytes;
            let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
            let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
            let flags = u32::from_le_bytes(flags);
            if flags & !known != 0 {
                return Status::Unsupported;
            }
            let len = u64::from(sectors) * SECTOR;
            let Some(at) = self.place(sector, len).filter(|_| sectors <= most) else {
                return Status::IoError;
            };
            let status = match kind {
                T_DISCARD => self.done("discard", |engine| engine.image.discard(at, len)),
                _ => {
                    // What is given back moves no data, zeroes may have to be written.
                    let now = Instant::now();
                    self.shared
                        .throttle(|throttle| throttle.charge(now, Direction::Write, len));
                    self.done("write zeroes", |engine| {
                        let unmap = engine.unmap && flags & UNMAP != 0;
                        engine.image.write_zeroes(at, len, unmap)
                    })
                }
            };
            if status != Status::Ok {
                return status;
            }
        }
        self.settle()
    }

    /// Puts what was written on the disk, if every write is to be.
    fn settle(&mut self) -> Status {
        if self.writethrough {
            self.done("flush", |engine| engine.image.flush())
        } else {
            Status::Ok
        }
    }

    fn done(&mut self, what: &str, act: impl FnOnce(&mut Self) -> std::io::Result<()>) -> Status {
        match act(self) {
            Ok(()) => Status::Ok,
            Err(error) => {
                tracing::warn!(what, %error, "a disk's image failed; the guest gets an error");
                Status::IoError
            }
        }
    }
}
