//! Virtio console (virtio 1.2, section 5.3) with several ports: consoles, and channels that programs find by their names.
//!
//! In come what the guest says on each port and whether it has it open; out go the bytes to the port's other end on the host ([`host::End`]), bytes from
//! there, and whether somebody is there. A port holds at most [`CHUNK`] bytes each way: a peer that does not read makes its own port wait and no
//! other, a peer that is not there loses what is said, and a terminal or console loses what it has no room for. Control messages are made from
//! what each port has still to be told, so that a guest that asks without end and takes no answer costs nothing.
//!
//! ```text
//! queues: 0, 1 port 0 (to the guest, from the guest); 2, 3 control; 4, 5 port 1; 6, 7 port 2; …
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::ring::Ring;
use super::worker::{Handler, Watch, Worker};
use super::{ActivateError, Activation, DeviceType, VirtioDevice, read_config_bytes};
use crate::bus::lock;
use crate::config::{Port as Spec, port_numbers};

pub mod host;
mod port;

use host::{End, EndError};
use port::{Port, Untold};

/// Bytes of a port under way, each way.
const CHUNK: usize = 16 << 10;
/// Pieces that a port moves before others get their turn.
const TURN: usize = 32;

const F_MULTIPORT: u64 = 1 << 1;

/// Events of control messages (virtio 1.2, section 5.3.6.2).
const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// Queues of the control messages.
const CONTROL: [u16; 2] = [2, 3];

/// What woke the worker: the control queue, what was left undone, or a port by its place and a kind.
const TOKEN_CONTROL: u32 = 0;
const TOKEN_AGAIN: u32 = 1;
const TOKEN_PORTS: u32 = 2;
/// Kinds: something to move, somebody calls.
const KINDS: u32 = 2;

/// How a port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortState {
    /// Its name for messages.
    pub id: String,
    /// Its pseudo-terminal.
    pub pty: Option<PathBuf>,
    /// Somebody is there on the host.
    pub host: bool,
    /// A program in the guest has it open.
    pub guest: bool,
}

/// The console.
pub struct Console {
    engine: Arc<Mutex<Engine>>,
    worker: Arc<Worker>,
    sizes: Vec<u16>,
    watches: Vec<Watch>,
    /// Of the ends that listen, for the console's whole life.
    _listeners: Vec<Watch>,
}

/// The handle by which the machine looks at the ports.
#[derive(Clone)]
pub struct PortsControl(Weak<Mutex<Engine>>);

struct Engine {
    ports: Vec<Port>,
    control: [Option<Ring>; 2],
    /// Wakes the worker for what a turn left undone.
    again: Arc<EventFd>,
    worker: Weak<Worker>,
    me: Weak<Mutex<Engine>>,
}

impl Console {
    /// Opens the other ends of all ports. Links to terminals are left in `links`. `worker` serves this device alone.
    ///
    /// # Errors
    /// An end that cannot be opened.
    pub fn new(specs: &[Spec], links: &Path, worker: Arc<Worker>) -> Result<Self, EndError> {
        let mut ports = Vec::new();
        // The first console is port 0, as guests without a driver for several ports expect; nothing else may be.
        let numbers = port_numbers(specs);
        let last = numbers.iter().copied().max().unwrap_or(0);
        for (spec, number) in specs.iter().zip(numbers) {
            ports.push(Port {
                id: spec.id.clone(),
                number,
                name: spec.name.clone(),
                console: spec.console,
                end: End::open(spec, links)?,
                peer: None,
                untold: Untold::default(),
                ready: false,
                guest_open: false,
                rings: [None, None],
                sending: None,
                outgoing: Vec::new(),
            });
        }
        let failed = |source| EndError::Event { source };
        let again = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map_err(failed)?;
        let engine = Arc::new_cyclic(|me| {
            Mutex::new(Engine {
                ports,
                control: [None, None],
                again: Arc::new(again),
                worker: Arc::downgrade(&worker),
                me: me.clone(),
            })
        });
        let listeners = lock(&engine).watch_ends().map_err(failed)?;
        Ok(Self {
            engine,
            worker,
            // Also of numbers that no port has.
            sizes: vec![64; 2 * (last as usize + 2)],
            watches: Vec::new(),
            _listeners: listeners,
        })
    }

    /// The handle for the machine.
    pub fn control(&self) -> PortsControl {
        PortsControl(Arc::downgrade(&self.engine))
    }

    fn watch(&mut self, ring: &Ring, token: u32) -> Result<(), ActivateError> {
        let handler = self.engine.clone();
        let watch = self
            .worker
            .watch(ring.kick(), EventSet::IN, handler, token)
            .map_err(|source| ActivateError::Io {
                what: "watch a queue of the console",
                source,
            })?;
        self.watches.push(watch);
        Ok(())
    }
}

impl Drop for Console {
    /// Ends what keeps the engine alive.
    fn drop(&mut self) {
        let mut engine = lock(&self.engine);
        engine.ports.iter_mut().for_each(|port| port.peer = None);
    }
}

impl PortsControl {
    /// How each port is.
    pub fn state(&self) -> Vec<PortState> {
        let Some(engine) = self.0.upgrade() else {
            return Vec::new();
        };
        let engine = lock(&engine);
        let state = |port: &Port| PortState {
            id: port.id.clone(),
            pty: port.end.pty().map(Path::to_owned),
            host: port.end.is_there(),
            guest: port.guest_open,
        };
        engine.ports.iter().map(state).collect()
    }
}

/// The port's number and direction (0 to the guest, 1 from it) that a queue has.
fn place_of(queue: u16) -> (u32, usize) {
    let number = if queue < 2 { 0 } else { (queue - 2) / 2 };
    (number.into(), usize::from(queue % 2))
}

impl VirtioDevice for Console {
    fn device_type(&self) -> DeviceType {
        DeviceType::Console
    }

    fn features(&self) -> u64 {
        F_MULTIPORT
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.sizes
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let most = (self.sizes.len() / 2 - 1) as u32;
        let mut config = [0; 12];
        config[4..8].copy_from_slice(&most.to_le_bytes());
        read_config_bytes(&config, offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let engine = Arc::clone(&self.engine);
        let mut engine = lock(&engine);
        let several = activation.features & F_MULTIPORT != 0;
        for queue in activation.queues {
            let index = queue.index;
            let memory = activation.memory.clone();
            let ring = Ring::new(queue, memory, Arc::clone(&activation.interrupt));
            if let Some(direction) = CONTROL.iter().position(|control| *control == index) {
                if several && let Some(place) = engine.control.get_mut(direction) {
                    self.watch(&ring, TOKEN_CONTROL)?;
                    *place = Some(ring);
                }
                continue;
            }
            let (number, direction) = place_of(index);
            if number > 0 && !several {
                continue;
            }
            let mut ports = engine.ports.iter_mut().zip(0_u32..);
            if let Some((port, at)) = ports.find(|(port, _)| port.number == number)
                && let Some(place) = port.rings.get_mut(direction)
            {
                self.watch(&ring, TOKEN_PORTS + at * KINDS)?;
                *place = Some(ring);
                // A driver that knows one port says nothing of it.
                port.guest_open |= !several;
            }
        }
        let again = self
            .worker
            .watch(
                engine.again.clone(),
                EventSet::IN,
                self.engine.clone(),
                TOKEN_AGAIN,
            )
            .map_err(|source| ActivateError::Io {
                what: "watch the console",
                source,
            })?;
        self.watches.push(again);
        Ok(())
    }

    fn reset(&mut self) {
        self.watches.clear();
        let mut engine = lock(&self.engine);
        engine.control = [None, None];
        for port in &mut engine.ports {
            port.rings = [None, None];
            port.untold = Untold::default();
            (port.ready, port.guest_open) = (false, false);
            port.sending = None;
            port.outgoing.clear();
        }
    }
}

impl Handler for Engine {
    fn ready(&mut self, token: u32) {
        let more = match token.checked_sub(TOKEN_PORTS) {
            None if token == TOKEN_CONTROL => self.obey(),
            None => (0..self.ports.len()).fold(false, |more, at| self.tend(at) | more),
            Some(place) => {
                let at = (place / KINDS) as usize;
                if place % KINDS == 1 {
                    self.answer_call(at);
                }
                self.tend(at)
            }
        };
        self.tell();
        // Edges are told once: what this turn left undone is asked for again, after whatever else waits for this thread.
        if more && let Err(error) = self.again.write(1) {
            tracing::warn!(%error, "the console could not go on");
        }
    }
}

impl Engine {
    /// Looks at every end: who listens, for good; who is there already, until it goes.
    fn watch_ends(&mut self) -> io::Result<Vec<Watch>> {
        let mut listeners = Vec::new();
        for at in 0..self.ports.len() {
            let token = TOKEN_PORTS + at as u32 * KINDS;
            let listener = self.ports.get(at).and_then(|port| port.end.listener());
            if let (Some(listener), Some(me), Some(worker)) =
                (listener, self.me.upgrade(), self.worker.upgrade())
            {
                listeners.push(worker.watch(listener, EventSet::IN, me, token + 1)?);
            }
            self.watch_peer(at)?;
        }
        Ok(listeners)
    }

    fn watch_peer(&mut self, at: usize) -> io::Result<()> {
        let (Some(port), Some(me), Some(worker)) = (
            self.ports.get_mut(at),
            self.me.upgrade(),
            self.worker.upgrade(),
        ) else {
            return Ok(());
        };
        port.peer = match port.end.peer() {
            Some(peer) => {
                let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP;
                let token = TOKEN_PORTS + at as u32 * KINDS;
                Some(worker.watch(peer, events, me, token)?)
            }
            None => None,
        };
        Ok(())
    }

    /// Takes whoever calls, if nobody is there yet.
    fn answer_call(&mut self, at: usize) {
        let Some(port) = self.ports.get_mut(at) else {
            return;
        };
        port.look_for_the_peer();
        // Edges are told once: all calls there are.
        while let Some(new) = port.end.accept() {
            if new {
                port.untold.open = true;
            }
        }
        if port.peer.is_none()
            && let Err(error) = self.watch_peer(at)
        {
            tracing::warn!(%error, "could not look at a peer of the console");
        }
    }

    /// Moves what a port has, both ways; says whether there may be more now.
    fn tend(&mut self, at: usize) -> bool {
        let Some(port) = self.ports.get_mut(at) else {
            return false;
        };
        port.look_for_the_peer();
        let more_out = port.send();
        let more_in = port.receive();
        more_out || more_in
    }

    /// Does what the guest's control messages say; says whether there may be more now.
    fn obey(&mut self) -> bool {
        let [_, from_guest] = &mut self.control;
        let Some(mut ring) = from_guest.take() else {
            return false;
        };
        let mut messages = Vec::new();
        let mut more = true;
        for _ in 0..TURN {
            let Some(chain) = ring.pop() else {
                if ring.listen() {
                    continue;
                }
                more = false;
                break;
            };
            let mut message = [0; 8];
            if chain.readable.read(ring.memory(), &mut message) == message.len() {
                messages.push(message);
            }
            ring.push(chain.head, 0);
        }
        ring.notify();
        self.control[1] = Some(ring);
        for [a, b, c, d, e0, e1, v0, v1] in messages {
            let number = u32::from_le_bytes([a, b, c, d]);
            let value = u16::from_le_bytes([v0, v1]);
            more |= self.obey_one(number, u16::from_le_bytes([e0, e1]), value == 1);
        }
        more
    }

    fn obey_one(&mut self, number: u32, event: u16, yes: bool) -> bool {
        if event == DEVICE_READY {
            for port in &mut self.ports {
                port.untold.add |= yes;
            }
            return false;
        }
        let mut ports = self.ports.iter_mut();
        let Some(at) = ports.position(|port| port.number == number) else {
            return false;
        };
        let Some(port) = self.ports.get_mut(at) else {
            return false;
        };
        match event {
            PORT_READY => {
                port.ready = yes;
                port.untold.console = yes && port.console;
                port.untold.name = yes && port.name.is_some();
                port.untold.open = yes && port.end.is_there();
                false
            }
            PORT_OPEN => {
                port.guest_open = yes;
                self.tend(at)
            }
            _ => false,
        }
    }

    /// Tells the guest what it has room for of what it does not know yet.
    fn tell(&mut self) {
        let Some(mut ring) = self.control[0].take() else {
            return;
        };
        let mut told = false;
        while let Some((port, message)) = self.ports.iter_mut().find_map(Port::next_message) {
            let chain = match ring.pop() {
                Some(chain) => chain,
                None if ring.listen() => continue,
                None => break,
            };
            let written = chain.writable.write(ring.memory(), &message);
            ring.push(chain.head, written as u32);
            port.told();
            told = true;
        }
        if told {
            ring.notify();
        }
        self.control[0] = Some(ring);
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
