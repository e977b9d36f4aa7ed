//! Which requests go on side by side, and what becomes of them.
//!
//! In come requests that may go; out go accesses of an io_uring, and answers as they come back. Whatever cannot go this way, or does not come back whole, is the engine's to do.

use vm_memory::GuestMemoryMmap;

use super::super::ring::Buffers;
use super::engine::{Engine, Status};
use super::request::{Lane, Request};
use super::uring::{Op, Uring};
use super::{T_FLUSH, T_IN, T_OUT};
use crate::config::DetectZeroes;

/// Turns in a row after which a request that comes alone is taken for one of a guest that waits for each: the disk's thread is the sooner done with it.
const LONELY: u32 = 16;

/// Which requests go on side by side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside {
    pub reads: bool,
    pub writes: bool,
    /// Also what has nothing else beside it.
    pub lone: bool,
}

impl Engine {
    /// Whether nothing is under way as a turn begins.
    pub(super) fn begin_turn(&mut self) -> bool {
        self.turn = 0;
        self.uring
            .as_ref()
            .is_none_or(|uring| uring.under_way() == 0)
    }

    /// Draws the lesson of a turn.
    pub(super) fn end_turn(&mut self, rested: bool) {
        match (self.turn, rested) {
            (0, _) => {}
            (1, true) => self.lonely = self.lonely.saturating_add(1),
            _ => self.lonely = 0,
        }
    }

    /// Sends a request on its way beside others, or does it.
    pub(super) fn start(&mut self, lanes: &mut [Lane], request: Request) {
        self.turn += 1;
        let memory = lanes.get(request.lane).map(|lane| lane.ring.memory());
        let op = memory.and_then(|memory| self.op(memory, &request));
        let (Some(uring), Some(memory), Some((file, op))) = (&mut self.uring, memory, op) else {
            return self.finish(lanes, request);
        };
        let buffers = match op {
            Op::Read(_) => request.to.clone(),
            Op::Write { .. } => request.from.clone(),
            Op::Flush => Buffers::default(),
        };
        if let Err(request) = uring.push(file, op, &buffers, memory, request) {
            self.finish(lanes, request);
        }
    }

    /// What of which file a request comes to, if it can go on beside others: then nothing is wrong with it.
    fn op(&self, memory: &GuestMemoryMmap, request: &Request) -> Option<(u32, Op)> {
        let uring = self.uring.as_ref()?;
        let is_alone = self.turn == 1 && uring.under_way() == 0;
        if is_alone && !self.beside.lone && self.lonely >= LONELY {
            return None;
        }
        let header = request.header.filter(|_| !request.status.is_empty())?;
        let Beside { reads, writes, .. } = self.beside;
        let by_file = self.image.is_flushed_by_its_file();
        // What is written through is on the disk when all that leads to it is.
        let writes = match self.writethrough {
            true => by_file,
            false => writes,
        };
        let (buffers, writes) = match header.kind {
            T_IN if reads => (&request.to, false),
            T_OUT if writes && !self.readonly => (&request.from, true),
            T_FLUSH if by_file => return Some((0, Op::Flush)),
            _ => return None,
        };
        let len = buffers.len();
        let at = self.place(header.sector, len).ok().filter(|_| len > 0)?;
        if writes && self.detect_zeroes != DetectZeroes::Off && buffers.is_zero(memory) {
            return None;
        }
        let place = self.image.place(at, len, writes)?;
        let op = match writes {
            true => Op::Write {
                at: place.at,
                durable: self.writethrough,
            },
            false => Op::Read(place.at),
        };
        let aligned = self.image.is_aligned(place.at, buffers, memory);
        aligned.then_some((place.file, op))
    }

    /// Begins what was sent, and answers what has come back.
    pub(super) fn depart(&mut self, lanes: &mut [Lane]) {
        let Some(uring) = &mut self.uring else {
            return;
        };
        if let Err(error) = uring.submit() {
            tracing::error!(%error, "the kernel takes no more requests of a disk: they are done one after the other from now on");
            let back = self.uring.take().map(Uring::abandon);
            for (request, whole) in back.into_iter().flatten() {
                self.landed(lanes, request, whole);
            }
        }
        self.land(lanes);
    }

    /// Answers what has come back.
    pub(super) fn land(&mut self, lanes: &mut [Lane]) {
        while let Some((request, whole)) = self.uring.as_mut().and_then(Uring::done) {
            self.landed(lanes, request, whole);
        }
    }

    /// Answers a request that has come back. What was not done whole is done again: so it fails, or waits, as any does.
    fn landed(&mut self, lanes: &mut [Lane], mut request: Request, whole: bool) {
        if !whole {
            return self.finish(lanes, request);
        }
        if request.header.is_some_and(|header| header.kind == T_IN) {
            request.answered = request.to.len();
        }
        self.answer(lanes, request, Status::Ok);
    }

    /// Waits until nothing is under way, where the image may use space that it gets back for something else: that must not be read or written any more then.
    pub(super) fn rest(&mut self) {
        if let Some(uring) = &mut self.uring
            && self.image.reuses_space()
        {
            // What it does not take is not under way.
            let _ = uring.submit();
            uring.wait();
        }
    }

    /// Whether no more can go on side by side.
    pub(super) fn is_full(&self) -> bool {
        self.uring.as_ref().is_some_and(|uring| !uring.has_room())
    }
}
