//! One port: what it has still to tell the guest, and the bytes under way between the guest and the port's other end.

use std::io;

use super::host::End;
use super::{CHUNK, CONSOLE_PORT, PORT_ADD, PORT_NAME, PORT_OPEN, TURN};
use crate::devices::virtio::ring::{Chain, Ring};
use crate::devices::virtio::worker::Watch;

/// What the guest has still to be told of a port.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Untold {
    pub(super) add: bool,
    pub(super) console: bool,
    pub(super) name: bool,
    pub(super) open: bool,
}

/// A port of the console.
pub(super) struct Port {
    pub(super) id: String,
    /// Its number on the device.
    pub(super) number: u32,
    pub(super) name: Option<String>,
    pub(super) console: bool,
    pub(super) end: End,
    /// Keeps the worker looking at the peer.
    pub(super) peer: Option<Watch>,
    pub(super) untold: Untold,
    /// The guest has said that it has a driver for the port.
    pub(super) ready: bool,
    pub(super) guest_open: bool,
    /// To the guest, and from it.
    pub(super) rings: [Option<Ring>; 2],
    /// The guest's buffer that is being sent, what is left of it, and what of that has been taken out.
    pub(super) sending: Option<Chain>,
    pub(super) outgoing: Vec<u8>,
}

impl Port {
    /// What the guest is to be told next.
    pub(super) fn next_message(&mut self) -> Option<(&mut Self, Vec<u8>)> {
        let here = self.end.is_there();
        let (event, value, rest) = match self.untold {
            Untold { add: true, .. } => (PORT_ADD, true, None),
            _ if !self.ready => return None,
            Untold { console: true, .. } => (CONSOLE_PORT, true, None),
            Untold { name: true, .. } => (PORT_NAME, true, self.name.as_ref()),
            Untold { open: true, .. } => (PORT_OPEN, here, None),
            _ => return None,
        };
        let mut message = self.number.to_le_bytes().to_vec();
        message.extend(event.to_le_bytes());
        message.extend(u16::from(value).to_le_bytes());
        message.extend(rest.iter().flat_map(|name| name.bytes()));
        Some((self, message))
    }

    /// The guest has been told what [`Port::next_message`] gave.
    pub(super) fn told(&mut self) {
        let untold = &mut self.untold;
        let first = [
            &mut untold.add,
            &mut untold.console,
            &mut untold.name,
            &mut untold.open,
        ];
        if let Some(first) = first.into_iter().find(|one| **one) {
            *first = false;
        }
    }

    /// Notices that the peer has gone, also while nothing is to be moved.
    pub(super) fn look_for_the_peer(&mut self) {
        if self.peer.is_some() && self.end.peer_has_gone() {
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        self.peer = None;
        self.end.hang_up();
        self.untold.open = true;
    }

    /// Moves what the guest says to the other end; says whether there may be more now.
    pub(super) fn send(&mut self) -> bool {
        let [_, from_guest] = &mut self.rings;
        let Some(mut ring) = from_guest.take() else {
            return false;
        };
        let mut turns = 0;
        let mut pushed = false;
        let more = loop {
            if turns == TURN {
                break true;
            }
            turns += 1;
            if !self.write_out() {
                break false;
            }
            if self.sending.is_none() {
                self.sending = ring.pop();
            }
            let Some(chain) = &mut self.sending else {
                if ring.listen() {
                    continue;
                }
                break false;
            };
            let piece = chain.readable.take(CHUNK as u64);
            self.outgoing.resize(piece.len() as usize, 0);
            piece.read(ring.memory(), &mut self.outgoing);
            self.end.note(&self.outgoing);
            if chain.readable.is_empty() {
                ring.push(chain.head, 0);
                self.sending = None;
                pushed = true;
            }
        };
        if pushed {
            ring.notify();
        }
        self.rings[1] = Some(ring);
        more
    }

    /// Writes what has been taken from the guest; says whether there is room for more.
    fn write_out(&mut self) -> bool {
        while !self.outgoing.is_empty() {
            match self.end.write(&self.outgoing) {
                Ok(n) if n > 0 => drop(self.outgoing.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A terminal that nobody looks at is always full.
                    if !self.console && self.end.pty().is_none() {
                        return false;
                    }
                    self.outgoing.clear();
                }
                _ => {
                    self.hang_up();
                    self.outgoing.clear();
                }
            }
        }
        true
    }

    /// Moves what the other end says to the guest; says whether there may be more now.
    pub(super) fn receive(&mut self) -> bool {
        if !self.guest_open || self.end.peer().is_none() {
            return false;
        }
        let [to_guest, _] = &mut self.rings;
        let Some(mut ring) = to_guest.take() else {
            return false;
        };
        let mut turns = 0;
        let more = loop {
            if turns == TURN {
                break true;
            }
            turns += 1;
            let chain = match ring.pop() {
                Some(chain) => chain,
                None if ring.listen() => continue,
                None => break false,
            };
            let mut data = [0; 4096];
            let most = (chain.writable.len() as usize).min(data.len());
            match self.end.read(data.get_mut(..most).unwrap_or_default()) {
                Ok(n) if n > 0 || most == 0 => {
                    let data = data.get(..n).unwrap_or_default();
                    let written = chain.writable.write(ring.memory(), data);
                    ring.push(chain.head, written as u32);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    ring.unpop();
                    continue;
                }
                _ => self.hang_up(),
            }
            ring.unpop();
            break false;
        };
        ring.notify();
        self.rings[0] = Some(ring);
        more
    }
}
