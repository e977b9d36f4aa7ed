//! Virtio socket device (virtio 1.2, section 5.10): streams between programs in the guest and programs on the host, through unix sockets.
//!
//! In come the guest's packets and what programs of the host do; out go packets and bytes. Who wants to reach port 5000 of the guest connects to the
//! device's socket and writes `CONNECT 5000`; the answer is `OK` with the port that was given to this end, or the end of the connection. A program in
//! the guest that connects to port 5000 of the host (address 2) reaches whoever listens on the unix socket of the same name followed by `_5000`.
//!
//! Nothing that the guest does makes this grow: [`MOST`] connections, [`BUFFER`] bytes each towards the host, which is the credit that the guest gets
//! (section 5.10.6.3); towards the guest nothing is kept, since a packet is only made when there is a buffer for it. What is to be told of a
//! connection is a few flags, not a queue.
//!
//! The kernel's own device (vhost-vsock) is not used: its addresses are one space for the whole host, and it reaches sockets of a kind that few programs know.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use rustix::event::{PollFd, PollFlags};
use rustix::net::{Shutdown, SocketFlags};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::ring::{Chain, Ring};
use super::worker::{Handler, Watch, Worker};
use super::{ActivateError, Activation, DeviceType, VirtioDevice, read_config_bytes};
use crate::bus::lock;

mod packet;
mod stream;

use packet::{HEADER, Header, Op};
use stream::Stream;

/// The host's address.
const HOST: u64 = 2;
/// Most connections, those that have not said yet where to among them.
const MOST: usize = 256;
/// Bytes towards the host that are kept for a connection: the guest's credit.
const BUFFER: u32 = 64 << 10;
/// Most bytes in a packet to the guest.
const PACKET: usize = 16 << 10;
/// Longest first line of a connection from the host.
const LINE: usize = 32;
/// Packets that the guest sent to nobody and that it has still to be told of; a guest that takes no answers misses some.
const REFUSALS: usize = 128;
/// Packets that are moved before others get their turn.
const TURN: usize = 64;
/// Ports of this end of connections from the host begin here.
const FIRST_PORT: u32 = 1 << 30;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

const TOKEN_QUEUE: u32 = 0;
const TOKEN_AGAIN: u32 = 1;
const TOKEN_LISTENER: u32 = 2;
const FIRST_STREAM: u32 = 3;

/// A device as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The guest's address, from 3.
    pub cid: u32,
    /// The unix socket that programs of the host connect to.
    pub socket: PathBuf,
    /// What its name begins with where the worker looks for those that the guest connects to.
    pub calls: PathBuf,
}

/// The device.
pub struct Vsock {
    cid: u32,
    engine: Arc<Mutex<Engine>>,
    worker: Arc<Worker>,
    watches: Vec<Watch>,
    _listener: Watch,
}

/// Ports of a connection: the host's, the guest's.
type Ends = (u32, u32);

struct Engine {
    cid: u32,
    calls: PathBuf,
    listener: Arc<UnixListener>,
    rings: Option<[Ring; 2]>,
    /// By token.
    streams: HashMap<u32, Stream>,
    tokens: HashMap<Ends, u32>,
    /// Streams that may have something for the guest, in the order of their turns.
    turns: VecDeque<u32>,
    refusals: VecDeque<Ends>,
    next_token: u32,
    next_port: u32,
    again: Arc<EventFd>,
    worker: Weak<Worker>,
    me: Weak<Mutex<Engine>>,
}

impl Vsock {
    /// Listens on the socket. `worker` serves this device alone.
    ///
    /// # Errors
    /// The socket cannot be made, or the process has no descriptor left.
    pub fn new(spec: &Spec, worker: Arc<Worker>) -> io::Result<Self> {
        let listener = Arc::new(crate::console::listen(&spec.socket)?);
        let again = Arc::new(EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?);
        let engine = Arc::new_cyclic(|me| {
            Mutex::new(Engine {
                cid: spec.cid,
                calls: spec.calls.clone(),
                listener: Arc::clone(&listener),
                rings: None,
                streams: HashMap::new(),
                tokens: HashMap::new(),
                turns: VecDeque::new(),
                refusals: VecDeque::new(),
                next_token: FIRST_STREAM,
                next_port: FIRST_PORT,
                again,
                worker: Arc::downgrade(&worker),
                me: me.clone(),
            })
        });
        let watch = worker.watch(listener, EventSet::IN, engine.clone(), TOKEN_LISTENER)?;
        Ok(Self {
            cid: spec.cid,
            engine,
            worker,
            watches: Vec::new(),
            _listener: watch,
        })
    }
}

impl Drop for Vsock {
    /// Ends what keeps the engine alive.
    fn drop(&mut self) {
        lock(&self.engine).forget_all();
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> DeviceType {
        DeviceType::Vsock
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[128, 128, 16]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config_bytes(&u64::from(self.cid).to_le_bytes(), offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let mut rings = [None, None];
        for queue in activation.queues {
            // The third one is for events, of which there are none: a guest never moves.
            if let Some(place) = rings.get_mut(usize::from(queue.index)) {
                let memory = activation.memory.clone();
                *place = Some(Ring::new(queue, memory, Arc::clone(&activation.interrupt)));
            }
        }
        let [receive, transmit] = rings;
        let receive = receive.ok_or(ActivateError::MissingQueue(RECEIVE))?;
        let transmit = transmit.ok_or(ActivateError::MissingQueue(TRANSMIT))?;
        let again = {
            let mut engine = lock(&self.engine);
            let kicks = [receive.kick(), transmit.kick()];
            engine.rings = Some([receive, transmit]);
            [
                (Arc::clone(&engine.again), TOKEN_AGAIN),
                (Arc::clone(&kicks[0]), TOKEN_QUEUE),
                (Arc::clone(&kicks[1]), TOKEN_QUEUE),
            ]
        };
        for (event, token) in again {
            let watch = self
                .worker
                .watch(event, EventSet::IN, self.engine.clone(), token);
            let failed = |source| ActivateError::Io {
                what: "watch the queues of the socket device",
                source,
            };
            self.watches.push(watch.map_err(failed)?);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.watches.clear();
        let mut engine = lock(&self.engine);
        engine.rings = None;
        engine.forget_all();
    }
}

impl Handler for Engine {
    fn ready(&mut self, token: u32) {
        match token {
            TOKEN_QUEUE | TOKEN_AGAIN => {}
            TOKEN_LISTENER => self.accept(),
            token => self.look_at(token),
        }
        let Some([mut receive, mut transmit]) = self.rings.take() else {
            return;
        };
        let more_out = self.take(&mut transmit);
        let more_in = self.give(&mut receive);
        self.rings = Some([receive, transmit]);
        // Edges are told once: what this turn left undone is asked for again, after whatever else waits for this thread.
        if (more_out || more_in)
            && let Err(error) = self.again.write(1)
        {
            tracing::warn!(%error, "the socket device could not go on");
        }
    }
}

impl Engine {
    fn forget_all(&mut self) {
        self.streams.clear();
        self.tokens.clear();
        self.turns.clear();
        self.refusals.clear();
    }

    /// Takes every program that connects. Without a driver in the guest there is nobody to reach.
    fn accept(&mut self) {
        while let Ok((caller, _)) = self.listener.accept() {
            if self.rings.is_some() && self.streams.len() < MOST {
                let made = caller
                    .set_nonblocking(true)
                    .and_then(|()| self.add(caller.into(), None));
                if let Err(error) = made {
                    tracing::warn!(%error, "could not take a connection of the socket device");
                }
            }
        }
    }

    /// Adds a connection, and looks at it from now on.
    fn add(&mut self, descriptor: OwnedFd, ends: Option<Ends>) -> io::Result<u32> {
        let (Some(worker), Some(me)) = (self.worker.upgrade(), self.me.upgrade()) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let mut token = self.next_token;
        while token < FIRST_STREAM || self.streams.contains_key(&token) {
            token = token.wrapping_add(1);
        }
        self.next_token = token.wrapping_add(1);
        let file = Arc::new(File::from(descriptor));
        let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP;
        let watch = worker.watch(file.clone(), events, me, token)?;
        self.streams.insert(token, Stream::new(file, watch, ends));
        if let Some(ends) = ends {
            self.tokens.insert(ends, token);
        }
        Ok(token)
    }

    fn remove(&mut self, token: u32) {
        if let Some(stream) = self.streams.remove(&token)
            && let Some(ends) = stream.ends
        {
            self.tokens.remove(&ends);
        }
    }

    fn take_turn(&mut self, token: u32) {
        if let Some(stream) = self.streams.get_mut(&token)
            && !std::mem::replace(&mut stream.waits, true)
        {
            self.turns.push_back(token);
        }
    }

    /// Something happened at a connection's end on the host.
    fn look_at(&mut self, token: u32) {
        let Some(stream) = self.streams.get_mut(&token) else {
            return;
        };
        stream.readable = true;
        if stream.ends.is_none() {
            match stream.greeting() {
                Ok(None) => return,
                Ok(Some(guest_port)) => {
                    let mut ends = (self.next_port, guest_port);
                    while self.tokens.contains_key(&ends) {
                        ends.0 = ends.0.wrapping_add(1).max(FIRST_PORT);
                    }
                    self.next_port = ends.0.wrapping_add(1).max(FIRST_PORT);
                    stream.ends = Some(ends);
                    stream.untold.request = true;
                    self.tokens.insert(ends, token);
                }
                Err(_) => return self.remove(token),
            }
        }
        stream.flush();
        self.take_turn(token);
    }

    // --- from the guest ---

    /// Takes packets from the guest; says whether there may be more now.
    fn take(&mut self, ring: &mut Ring) -> bool {
        let mut taken = 0;
        let more = loop {
            if taken == TURN {
                break true;
            }
            let mut chain = match ring.pop() {
                Some(chain) => chain,
                None if ring.listen() => continue,
                None => break false,
            };
            taken += 1;
            self.take_packet(ring, &mut chain);
            ring.push(chain.head, 0);
        };
        if taken > 0 {
            ring.notify();
        }
        more
    }

    fn take_packet(&mut self, ring: &Ring, chain: &mut Chain) {
        let mut bytes = [0; HEADER];
        let front = chain.readable.take(HEADER as u64);
        if front.read(ring.memory(), &mut bytes) < HEADER {
            return;
        }
        let header = Header::from(bytes);
        if header.source != u64::from(self.cid) || header.destination != HOST {
            return;
        }
        let ends = (header.destination_port, header.source_port);
        let token = self.tokens.get(&ends).copied();
        let known = token.and_then(|token| Some((token, self.streams.get_mut(&token)?)));
        let Some((token, stream)) = known.filter(|_| header.is_stream()) else {
            return self.take_from_nobody(&header, ends);
        };
        stream.credit(&header);
        let goes_on = match header.op {
            Op::Response => stream.answered(ends.0),
            Op::Data => {
                let room = stream.room().min(header.len);
                let mut data = vec![0; room as usize];
                let whole = chain.readable.read(ring.memory(), &mut data) == header.len as usize;
                // Beyond its credit, or shorter than it says.
                whole && stream.send(&data)
            }
            Op::Shutdown => {
                stream.shut_by_guest(header.flags);
                true
            }
            Op::CreditUpdate => true,
            Op::CreditRequest => {
                stream.untold.credit = true;
                true
            }
            Op::Reset => return self.remove(token),
            Op::Request | Op::Unknown => false,
        };
        if goes_on {
            stream.flush();
            self.take_turn(token);
        } else {
            self.remove(token);
            self.refuse(ends);
        }
    }

    /// A packet of no connection: a new one, or a mistake.
    fn take_from_nobody(&mut self, header: &Header, ends: Ends) {
        match header.op {
            Op::Reset => {}
            Op::Request if header.is_stream() && self.streams.len() < MOST => {
                match self.call(ends) {
                    Ok(token) => {
                        if let Some(stream) = self.streams.get_mut(&token) {
                            stream.credit(header);
                            stream.established = true;
                            stream.untold.response = true;
                        }
                        self.take_turn(token);
                    }
                    Err(error) => {
                        tracing::debug!(port = ends.0, %error, "nobody listens for the guest");
                        self.refuse(ends);
                    }
                }
            }
            _ => self.refuse(ends),
        }
    }

    /// Connects to whoever listens for the guest on a port of the host's. A unix socket answers at once or not at all.
    fn call(&mut self, ends: Ends) -> io::Result<u32> {
        let mut name = self.calls.clone().into_os_string();
        name.push(format!("_{}", ends.0));
        let address = rustix::net::SocketAddrUnix::new(&name)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            flags,
            None,
        )?;
        rustix::net::connect(&socket, &address)?;
        self.add(UnixStream::from(socket).into(), Some(ends))
    }

    fn refuse(&mut self, ends: Ends) {
        if self.refusals.len() < REFUSALS {
            self.refusals.push_back(ends);
        }
    }

    // --- to the guest ---

    /// Gives the guest packets, as long as it has room; says whether there may be more now.
    fn give(&mut self, ring: &mut Ring) -> bool {
        let mut given = 0;
        let more = loop {
            if given == TURN {
                break true;
            }
            if self.refusals.is_empty() && self.turns.is_empty() {
                break false;
            }
            let chain = match ring.pop() {
                Some(chain) => chain,
                None if ring.listen() => continue,
                None => break false,
            };
            let most = chain.writable.len().saturating_sub(HEADER as u64);
            let most = usize::try_from(most).unwrap_or(PACKET).min(PACKET);
            let Some(packet) = self.next_packet(most) else {
                ring.unpop();
                continue;
            };
            given += 1;
            let written = chain.writable.write(ring.memory(), &packet);
            ring.push(chain.head, written as u32);
        };
        if given > 0 {
            ring.notify();
        }
        more
    }

    /// The next packet with at most so much data: from whoever's turn it is and who has one.
    fn next_packet(&mut self, most: usize) -> Option<Vec<u8>> {
        if let Some(ends) = self.refusals.pop_front() {
            return Some(self.packet(ends, Op::Reset, 0, &[], None));
        }
        while let Some(token) = self.turns.pop_front() {
            let Some(stream) = self.streams.get_mut(&token) else {
                continue;
            };
            stream.waits = false;
            let Some(ends) = stream.ends else { continue };
            let Some((op, flags, data)) = stream.next(most) else {
                continue;
            };
            let credit = stream.tell_credit();
            if op == Op::Reset {
                self.remove(token);
            } else {
                self.take_turn(token);
            }
            return Some(self.packet(ends, op, flags, &data, Some(credit)));
        }
        None
    }

    fn packet(&self, ends: Ends, op: Op, flags: u32, data: &[u8], credit: Option<u32>) -> Vec<u8> {
        let header = Header {
            source: HOST,
            destination: self.cid.into(),
            source_port: ends.0,
            destination_port: ends.1,
            len: data.len() as u32,
            kind: packet::STREAM,
            op,
            flags,
            buffer: credit.map_or(0, |_| BUFFER),
            forwarded: credit.unwrap_or(0),
        };
        let mut bytes = header.bytes().to_vec();
        bytes.extend(data);
        bytes
    }
}

#[cfg(test)]
#[path = "vsock_tests.rs"]
mod tests;
