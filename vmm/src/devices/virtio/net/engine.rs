//! What moves frames between a port and a pair of queues, where the kernel does not.
//!
//! In come frames of the port and of the guest; out they go on the other side, each whole, through one buffer each way: the guest cannot change a header between the check and the
//! kernel's use of it. What finds no room in the guest waits, and the rest behind it in the port.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use super::super::ring::{Chain, Ring};
use super::super::worker::Handler;
use super::{HEADER, LinkControl, MOST_FRAME, NUM_BUFFERS, Port};

/// Frames moved one way before the other way has its turn.
const TURN: usize = 64;

/// What the worker of a pair works on.
pub(super) struct Engine {
    /// Where the guest's frames go.
    port: Arc<dyn Port>,
    /// Where frames for the guest come from: its own, those of pairs that are not used, or nowhere.
    pub sources: Vec<Arc<dyn Port>>,
    /// The source whose turn is first.
    first: usize,
    link: LinkControl,
    again: Arc<EventFd>,
    merge: bool,
    rings: Option<Rings>,
    /// A frame on its way to the guest, and its length: 0 when there is none.
    incoming: Box<[u8]>,
    waiting: usize,
    outgoing: Box<[u8]>,
}

/// A pair of queues.
pub(super) struct Rings {
    pub receive: Ring,
    pub transmit: Ring,
}

impl Engine {
    /// An engine that has nothing to do.
    pub fn new(port: Arc<dyn Port>, link: LinkControl, again: Arc<EventFd>) -> Self {
        Self {
            port,
            sources: Vec::new(),
            first: 0,
            link,
            again,
            merge: false,
            rings: None,
            incoming: Box::default(),
            waiting: 0,
            outgoing: Box::default(),
        }
    }

    /// Serves a pair of queues, whose guest takes frames in several buffers with `merge`.
    pub fn begin(&mut self, rings: Rings, merge: bool) {
        self.merge = merge;
        self.incoming = vec![0; MOST_FRAME].into();
        self.outgoing = vec![0; MOST_FRAME].into();
        self.waiting = 0;
        self.rings = Some(rings);
    }

    /// Serves nobody, and keeps no frame.
    pub fn end(&mut self) {
        self.rings = None;
        self.incoming = Box::default();
        self.outgoing = Box::default();
        self.waiting = 0;
    }

    /// Drops the frame that waits for room in the guest.
    pub fn drop_waiting(&mut self) {
        self.waiting = 0;
    }
}

impl Handler for Engine {
    fn ready(&mut self, _token: u32) {
        let Some(mut rings) = self.rings.take() else {
            return;
        };
        let more_in = self.receive(&mut rings.receive);
        let more_out = self.transmit(&mut rings.transmit);
        self.rings = Some(rings);
        // Edges are told once: what this turn left undone is asked for again, after whatever else waits for this thread.
        if (more_in || more_out)
            && let Err(error) = self.again.write(1)
        {
            tracing::warn!(%error, "a network device could not go on");
        }
    }
}

impl Engine {
    /// Moves frames to the guest; says whether there may be more now.
    fn receive(&mut self, ring: &mut Ring) -> bool {
        let mut moved = 0;
        let mut empty = 0;
        let more = loop {
            if moved == TURN {
                break true;
            }
            if self.waiting == 0 {
                if empty == self.sources.len() {
                    break false;
                }
                let source = (self.first + empty) % self.sources.len();
                let Some(port) = self.sources.get(source) else {
                    break false;
                };
                match port.receive(&mut self.incoming) {
                    Ok(len) => self.waiting = len,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        if error.kind() != io::ErrorKind::WouldBlock {
                            tracing::debug!(%error, "could not take a frame from the tap");
                        }
                        empty += 1;
                        continue;
                    }
                }
            }
            // A pulled cable loses what it is given, rather than keep it for later.
            if self.waiting < HEADER || !self.link.is_up() {
                self.waiting = 0;
                moved += 1;
                continue;
            }
            if !self.deliver(ring) {
                // The frame stays; the guest's next kick brings its room.
                break false;
            }
            self.waiting = 0;
            moved += 1;
        };
        self.first = self.first.wrapping_add(1);
        if moved > 0 {
            ring.notify();
        }
        more
    }

    /// Puts the waiting frame into the guest's buffers: `false` if there is not enough room yet.
    fn deliver(&mut self, ring: &mut Ring) -> bool {
        let mut chains: Vec<Chain> = Vec::new();
        let mut room = 0;
        // The ring holds its size in chains at most, and a broken one none: this ends.
        while room < self.waiting as u64 {
            if let Some(chain) = ring.pop() {
                room += chain.writable.len();
                chains.push(chain);
                if !self.merge {
                    break;
                }
            } else if !ring.listen() {
                // Only now put them back: the guest is to notify when it adds to these, not for these.
                chains.iter().for_each(|_| ring.unpop());
                return false;
            }
        }
        let count = u16::try_from(chains.len()).unwrap_or(u16::MAX);
        if let Some(place) = self.incoming.get_mut(NUM_BUFFERS..HEADER) {
            place.copy_from_slice(&count.to_le_bytes());
        }
        let mut rest = self.incoming.get(..self.waiting).unwrap_or_default();
        for chain in chains {
            // A frame too long for the one buffer that the guest gave it is cut off, and useless to it; that is what it asked for.
            let written = chain.writable.write(ring.memory(), rest);
            rest = rest.get(written..).unwrap_or_default();
            ring.push(chain.head, written as u32);
        }
        true
    }

    /// Moves frames from the guest; says whether there may be more now.
    fn transmit(&mut self, ring: &mut Ring) -> bool {
        let mut moved = 0;
        let more = loop {
            if moved == TURN {
                break true;
            }
            match ring.pop() {
                Some(chain) => {
                    self.send(ring, &chain);
                    ring.push(chain.head, 0);
                    moved += 1;
                }
                None if ring.listen() => {}
                None => break false,
            }
        };
        if moved > 0 {
            ring.notify();
        }
        more
    }

    fn send(&mut self, ring: &Ring, chain: &Chain) {
        if chain.readable.len() > MOST_FRAME as u64 {
            tracing::debug!(
                len = chain.readable.len(),
                "dropped a guest's frame: too long"
            );
            return;
        }
        let len = chain.readable.read(ring.memory(), &mut self.outgoing);
        if len <= HEADER {
            tracing::debug!(len, "dropped a guest's frame: shorter than its header");
            return;
        }
        if !self.link.is_up() {
            return;
        }
        // The kernel checks the header, and refuses what it says if it is impossible; a full or absent link loses frames.
        if let Err(error) = self.port.send(self.outgoing.get(..len).unwrap_or_default()) {
            tracing::debug!(%error, "dropped a guest's frame");
        }
    }
}
