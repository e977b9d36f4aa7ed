//! How many pairs of queues the guest uses, as it says by the queue of commands (virtio 1.2, sections 5.1.6.5 and 5.1.6.5.6).
//!
//! In come commands; out go answers, and which engine takes frames from which port. The kernel spreads frames over all queues of the tap: those of pairs that
//! the guest does not use are taken by the first, so that the tap's queues need not be detached and attached. Where the kernel serves the pairs, each has its own queue
//! alone, and those that are not used are detached.

use std::io;
use std::sync::{Arc, Mutex};

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::super::ring::{Chain, Ring};
use super::super::worker::{Handler, Watch, Worker};
use super::engine::Engine;
use super::vhost::Vhost;
use super::{Port, TOKEN_PORT};
use crate::bus::lock;

/// The largest size of the queue of commands.
pub(super) const QUEUE_SIZE: u16 = 64;

/// Class of commands about pairs of queues, and the one that there is: how many are used.
const PAIRS_SET: [u8; 2] = [4, 0];
const OK: u8 = 0;
const ERROR: u8 = 1;

/// A pair of queues: its port, and who serves it.
#[derive(Clone)]
pub(super) struct Line {
    pub port: Arc<dyn Port>,
    pub worker: Arc<Worker>,
    /// Has the worker look at everything again.
    pub again: Arc<EventFd>,
    pub engine: Arc<Mutex<Engine>>,
    /// Who serves it instead of the engine, if the kernel does.
    pub vhost: Option<Arc<Vhost>>,
}

/// Who serves which port.
pub(super) struct Steering {
    lines: Vec<Line>,
    commands: Option<Ring>,
    /// Pairs that the guest has set up.
    usable: usize,
    /// The first engine's, on ports of pairs that are not used.
    unused: Vec<Watch>,
}

impl Steering {
    pub(super) fn new(lines: Vec<Line>) -> Self {
        Self {
            lines,
            commands: None,
            usable: 0,
            unused: Vec::new(),
        }
    }

    /// Begins with one pair of those that can be used.
    pub(super) fn begin(&mut self, commands: Option<Ring>, usable: usize) -> io::Result<()> {
        self.commands = commands;
        self.usable = usable;
        self.steer(1)
    }

    /// No pair is used.
    pub(super) fn end(&mut self) {
        self.commands = None;
        self.usable = 0;
        self.unused.clear();
        for line in &self.lines {
            lock(&line.engine).sources.clear();
            if let Some(vhost) = &line.vhost {
                vhost.end();
            }
        }
    }

    /// Uses this many pairs.
    fn steer(&mut self, pairs: usize) -> io::Result<()> {
        let mut by_kernel = false;
        for (index, line) in self.lines.iter().enumerate() {
            if let Some(vhost) = &line.vhost {
                vhost.set_used(index < pairs)?;
                by_kernel = true;
            }
        }
        if by_kernel {
            return Ok(());
        }
        let ports = |lines: &[Line]| {
            lines
                .iter()
                .map(|line| line.port.clone())
                .collect::<Vec<_>>()
        };
        let unused = ports(self.lines.get(pairs..).unwrap_or_default());
        self.unused.clear();
        for (index, line) in self.lines.iter().enumerate() {
            let mut engine = lock(&line.engine);
            engine.sources.clear();
            if index < pairs {
                engine.sources.push(line.port.clone());
            } else {
                // What it had for the guest is lost, as on any wire that is moved.
                engine.drop_waiting();
            }
            if index == 0 {
                engine.sources.extend(unused.iter().cloned());
            }
        }
        if let Some(first) = self.lines.first() {
            for port in unused {
                let engine = first.engine.clone();
                let watch = first.worker.watch(port, EventSet::IN, engine, TOKEN_PORT)?;
                self.unused.push(watch);
            }
        }
        // Edges are told once, and may have been told to whoever served the port before.
        self.lines.iter().try_for_each(|line| line.again.write(1))
    }

    fn obey(&mut self, memory: &GuestMemoryMmap, chain: &Chain) -> Result<u32, &'static str> {
        if chain.writable.is_empty() {
            return Err("has no room for the answer to a command");
        }
        let mut command = [0; 4];
        let len = chain.readable.read(memory, &mut command);
        let [class, kind, low, high] = command;
        let pairs = usize::from(u16::from_le_bytes([low, high]));
        let known = len == command.len() && [class, kind] == PAIRS_SET;
        let answer = if known && (1..=self.usable).contains(&pairs) {
            match self.steer(pairs) {
                Ok(()) => OK,
                Err(error) => {
                    tracing::warn!(%error, pairs, "could not use several pairs of queues");
                    ERROR
                }
            }
        } else {
            ERROR
        };
        Ok(chain.writable.write(memory, &[answer]) as u32)
    }
}

impl Handler for Steering {
    fn ready(&mut self, _token: u32) {
        if let Some(mut commands) = self.commands.take() {
            commands.serve(|memory, chain| self.obey(memory, &chain));
            self.commands = Some(commands);
        }
    }
}
