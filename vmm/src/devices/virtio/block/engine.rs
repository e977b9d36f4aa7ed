//! What the worker of a disk does: takes requests from the queue, lets each go when the limits allow, and answers it.
//!
//! In come kicks, the timer of those that wait, and changes from outside; out go accesses of the image and answers. A request that may not go yet waits here, reads
//! apart from writes; a guest that offers more than its queue holds is left with the rest until some are answered.
//!
//! Where the host fails a request and the disk's policy has the guest paused for it, the request is held as far as it came, and the disk does nothing else until it is told to
//! try again. What is held was never answered: whoever ends or resets the guest meanwhile loses no more than by pulling the plug.
//!
//! Where there is an io_uring, reads, writes and flushes go on side by side in it, as far as the image's files hold their data as it is. All else, and whatever does not come out of it
//! whole, is done here one after the other: so there is one place where a request fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vm_memory::GuestMemoryMmap;

use super::super::VirtioInterrupt;
use super::super::ring::Buffers;
use super::super::worker::{Handler, Timer};
use super::beside::Beside;
use super::control::Shared;
use super::policy::{Access, Policies, Verdict};
use super::request::{Header, Lane, Line, Request};
use super::throttle::Direction;
use super::uring::Uring;
use super::{
    ID, Image, MOST_DISCARD, MOST_RANGES, MOST_ZEROES, PIECE, SECTOR, T_DISCARD, T_FLUSH, T_GET_ID,
    T_IN, T_OUT, T_WRITE_ZEROES, UNMAP,
};
use crate::config::DetectZeroes;
use crate::notice::Notifier;

/// Longest that the timer is set to: it is looked at again then.
const FAR: Duration = Duration::from_secs(3600);

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// Why a request does not go on.
pub(super) enum Halt {
    /// It has ended so.
    Ended(Status),
    /// The host failed it, and it waits until it is tried again.
    Waits(String),
}

/// What the worker works on.
pub(super) struct Engine {
    pub image: Image,
    /// Where requests go on side by side.
    pub uring: Option<Uring<Request>>,
    /// Which do.
    pub beside: Beside,
    /// Requests of this turn so far, and turns in a row that had but one while nothing was under way.
    pub turn: u32,
    pub lonely: u32,
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
    pub policies: Policies,
    /// The requests that the host failed and that wait to be tried again.
    pub held: Vec<Request>,
    /// Who is woken when one is held.
    pub notifier: Option<Notifier>,
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
        self.land(&mut lanes);
        let rested = self.begin_turn();
        if self.shared.is_to_retry() {
            self.retry(&mut lanes);
        }
        self.release(&mut lanes, Direction::Read);
        self.release(&mut lanes, Direction::Write);
        // Queues take turns. A guest that adds requests as fast as they are served keeps only its own disk's worker busy.
        let mut more = true;
        while std::mem::take(&mut more) {
            for lane in 0..lanes.len() {
                more |= self.serve(&mut lanes, lane);
            }
            let was_full = self.is_full();
            self.depart(&mut lanes);
            more |= was_full && !self.is_full();
        }
        lanes.iter_mut().for_each(Lane::announce);
        self.lanes = lanes;
        self.end_turn(rested);
        self.arm();
    }
}

impl Engine {
    /// Forgets the queues and what waits, once nothing moves in the guest's memory any more.
    pub(super) fn stop(&mut self) {
        if let Some(uring) = &mut self.uring {
            uring.wait();
            while uring.done().is_some() {}
        }
        self.lanes.clear();
        self.held.clear();
        self.shared.failed(None);
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
            if !self.held.is_empty() || self.is_full() || self.waits() >= most {
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
            return self.start(lanes, request);
        };
        if self.line(direction).requests.is_empty() {
            let now = Instant::now();
            let due = self.admit(now, direction, bytes);
            if due <= now {
                return self.start(lanes, request);
            }
            self.line(direction).due = Some(due);
        }
        self.line(direction).requests.push_back(request);
    }

    /// Lets those go whose time has come.
    fn release(&mut self, lanes: &mut [Lane], direction: Direction) {
        while self.held.is_empty() {
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
                self.start(lanes, request);
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
        let due = [self.reads.due, self.writes.due].into_iter().flatten();
        let due = due.min().filter(|_| self.held.is_empty());
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

    /// Tries again what is held, until the host fails it again.
    fn retry(&mut self, lanes: &mut [Lane]) {
        for request in std::mem::take(&mut self.held) {
            match self.held.is_empty() {
                true => self.finish(lanes, request),
                false => self.held.push(request),
            }
        }
    }

    /// Does a request, or what is left of it, and gives it back to the guest, unless it has to wait.
    pub(super) fn finish(&mut self, lanes: &mut [Lane], mut request: Request) {
        let Some(lane) = lanes.get_mut(request.lane) else {
            return;
        };
        if request.status.is_empty() {
            return lane.give_back(request.head, Err("has no room for the status of a request"));
        }
        let memory = lane.ring.memory();
        let status = match self.perform(memory, &mut request) {
            Ok(()) => Status::Ok,
            Err(Halt::Ended(status)) => status,
            Err(Halt::Waits(how)) => return self.hold(request, how),
        };
        self.answer(lanes, request, status);
    }

    /// Gives a request back to the guest.
    pub(super) fn answer(&mut self, lanes: &mut [Lane], request: Request, status: Status) {
        let Some(lane) = lanes.get_mut(request.lane) else {
            return;
        };
        request.status.write(lane.ring.memory(), &[status as u8]);
        // A chain has less than 4 GiB, so the number fits.
        let written = u32::try_from(request.answered + 1).unwrap_or(u32::MAX);
        lane.give_back(request.head, Ok(written));
    }

    /// Keeps a request until it is tried again, and tells why.
    fn hold(&mut self, request: Request, how: String) {
        self.held.push(request);
        self.shared.failed(Some(how));
        if let Some(notifier) = &self.notifier {
            notifier.wake();
        }
    }

    fn perform(&mut self, memory: &GuestMemoryMmap, request: &mut Request) -> Result<(), Halt> {
        let Some(header) = &mut request.header else {
            return Err(Halt::Ended(Status::IoError));
        };
        match header.kind {
            T_IN => self.read(memory, header, &mut request.to, &mut request.answered),
            T_OUT => self.write(memory, header, &mut request.from),
            T_FLUSH => self.flush(),
            T_GET_ID => {
                request.answered = request.to.write(memory, &self.id) as u64;
                Ok(())
            }
            // It was not offered, and a driver that asks all the same is told so.
            T_DISCARD if !self.unmap => Err(Halt::Ended(Status::Unsupported)),
            T_DISCARD | T_WRITE_ZEROES => {
                self.change_ranges(memory, header.kind, &mut request.from)
            }
            _ => Err(Halt::Ended(Status::Unsupported)),
        }
    }

    /// The byte at which `len` bytes from `sector` begin, if all of them are on the disk and whole sectors.
    pub(super) fn place(&self, sector: u64, len: u64) -> Result<u64, Halt> {
        // The guest chooses both numbers: neither their sum nor the position in bytes may wrap around to inside the disk.
        let end = sector.checked_add(len / SECTOR);
        let fits = len.is_multiple_of(SECTOR) && end.is_some_and(|end| end <= self.capacity);
        fits.then(|| sector * SECTOR)
            .ok_or(Halt::Ended(Status::IoError))
    }

    fn read(
        &mut self,
        memory: &GuestMemoryMmap,
        header: &mut Header,
        to: &mut Buffers,
        answered: &mut u64,
    ) -> Result<(), Halt> {
        let mut at = self.place(header.sector, to.len())?;
        while !to.is_empty() {
            let piece = to.take(PIECE);
            let done = self.attempt(Access::Read, |engine| {
                engine.image.read(at, &piece.slices(memory))
            });
            match done {
                Ok(true) => {}
                Ok(false) => piece.clear(memory),
                Err(halt) => {
                    to.put_back(piece);
                    return Err(halt);
                }
            }
            at += piece.len();
            header.sector += piece.len() / SECTOR;
            *answered += piece.len();
        }
        Ok(())
    }

    fn write(
        &mut self,
        memory: &GuestMemoryMmap,
        header: &mut Header,
        from: &mut Buffers,
    ) -> Result<(), Halt> {
        if self.readonly {
            return Err(Halt::Ended(Status::IoError));
        }
        let mut at = self.place(header.sector, from.len())?;
        while !from.is_empty() {
            let piece = from.take(PIECE);
            let done = if self.detect_zeroes != DetectZeroes::Off && piece.is_zero(memory) {
                self.rest();
                self.attempt(Access::WriteZeroes, |engine| {
                    let unmap = engine.unmap && engine.detect_zeroes == DetectZeroes::Unmap;
                    engine.image.write_zeroes(at, piece.len(), unmap)
                })
            } else {
                self.attempt(Access::Write, |engine| {
                    engine.image.write(at, &piece.slices(memory))
                })
            };
            if let Err(halt) = done {
                from.put_back(piece);
                return Err(halt);
            }
            at += piece.len();
            header.sector += piece.len() / SECTOR;
        }
        self.settle()
    }

    /// Discards or zeroes each range that the request lists.
    fn change_ranges(
        &mut self,
        memory: &GuestMemoryMmap,
        kind: u32,
        from: &mut Buffers,
    ) -> Result<(), Halt> {
        let whole = from.len().is_multiple_of(16)
            && !from.is_empty()
            && from.len() / 16 <= MOST_RANGES.into();
        if self.readonly || !whole {
            return Err(Halt::Ended(Status::IoError));
        }
        while !from.is_empty() {
            let range = from.take(16);
            let mut done = self.change_range(memory, kind, &range);
            if from.is_empty() {
                done = done.and_then(|()| self.settle());
            }
            if let Err(halt) = done {
                from.put_back(range);
                return Err(halt);
            }
        }
        Ok(())
    }

    /// Discards or zeroes a range. The guest may change what it says of it until it is done.
    fn change_range(
        &mut self,
        memory: &GuestMemoryMmap,
        kind: u32,
        range: &Buffers,
    ) -> Result<(), Halt> {
        let (most, known) = if kind == T_DISCARD {
            (MOST_DISCARD, 0)
        } else {
            (MOST_ZEROES, UNMAP)
        };
        let mut bytes = [0; 16];
        range.read(memory, &mut bytes);
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = bytes;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes(flags);
        if flags & !known != 0 {
            return Err(Halt::Ended(Status::Unsupported));
        }
        let len = u64::from(sectors) * SECTOR;
        let at = self.place(sector, len)?;
        if sectors > most {
            return Err(Halt::Ended(Status::IoError));
        }
        self.rest();
        let done = if kind == T_DISCARD {
            self.attempt(Access::Discard, |engine| engine.image.discard(at, len))
        } else {
            // What is given back moves no data, zeroes may have to be written.
            let now = Instant::now();
            self.shared
                .throttle(|throttle| throttle.charge(now, Direction::Write, len));
            self.attempt(Access::WriteZeroes, |engine| {
                let unmap = engine.unmap && flags & UNMAP != 0;
                engine.image.write_zeroes(at, len, unmap)
            })
        };
        done.map(drop)
    }

    /// Puts what was written on the disk, if every write is to be.
    fn settle(&mut self) -> Result<(), Halt> {
        if self.writethrough {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Halt> {
        self.attempt(Access::Flush, |engine| engine.image.flush())
            .map(drop)
    }

    /// Has the image do something; says whether it did it. Where not, that is to be ignored.
    fn attempt(
        &mut self,
        access: Access,
        act: impl FnOnce(&mut Self) -> std::io::Result<()>,
    ) -> Result<bool, Halt> {
        let Err(error) = act(self) else {
            return Ok(true);
        };
        let verdict = self.policies.judge(access, &error);
        let what = access.words();
        tracing::warn!(what, %error, ?verdict, "the host failed a disk");
        match verdict {
            Verdict::Report => Err(Halt::Ended(Status::IoError)),
            Verdict::Wait => Err(Halt::Waits(format!("could not {what}: {error}"))),
            Verdict::Ignore => Ok(false),
        }
    }
}
