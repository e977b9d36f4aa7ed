//! The owner of the machine: one thread that takes requests, notices and keystrokes, and makes every change.
//!
//! In come requests of clients on the control socket ([`wire`]), notices from the machine, signals, and keystrokes for the console; out go answers,
//! events, and the state file ([`journal`]). Which request is allowed when is decided by [`life`], which is pure; this module only carries it
//! out, one thing after the other, so nothing needs to be locked against anything else.
//!
//! Nothing here waits for a client. The thread blocks in one place, `epoll_wait`, and otherwise only for the vcpus to come to rest.

mod clients;
mod journal;
mod life;
mod poll;
mod requests;
pub mod wire;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use serde_json::json;
use thiserror::Error;

use crate::bus::lock;
use crate::clock::Course;
use crate::config::Guest;
use crate::console::{Console, Port};
use crate::core_dump::CoreFile;
use crate::machine::{Machine, MachineError};
use crate::notice::{Notice, Notices};
use crate::sandbox::{Layers, last_words};
use clients::Client;
use life::{Action, Policy};
use poll::{Poll, Source};
use wire::{Answer, Code, EventKind, Failure, Request};

pub use journal::Journal;
pub use life::{Life, Reason};

/// Most clients at a time.
const CLIENT_LIMIT: usize = 16;

/// How long what the guest says is gathered: it says one byte at a time.
const PUMP_DELAY: Duration = Duration::from_millis(4);

/// Why the owner could not do its work.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Waiting for events failed.
    #[error("could not wait for events")]
    Poll(#[source] io::Error),
    /// What the guest boots could not be loaded.
    #[error(transparent)]
    Load(MachineError),
}

/// How the guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// In a word.
    pub reason: Reason,
    /// In a sentence.
    pub message: String,
}

/// Everything the owner has.
pub struct Owner<'a> {
    guest: &'a Guest,
    machine: Machine,
    console: Console,
    notices: Notices,
    listener: UnixListener,
    signals: RawFd,
    layers: Option<Layers>,
    core: Option<CoreFile>,
    clock: Course,
    journal: &'a mut Journal,
    poll: Poll,
    clients: BTreeMap<u32, Client>,
    next_client: u32,
    life: Life,
    /// Why the guest was paused although nobody asked for it.
    stopped: Option<String>,
    began: Instant,
    resets: u64,
    typing_held: bool,
    /// When what the guest said goes to the console.
    pump_at: Option<Instant>,
}

/// What an owner is made from.
pub struct Estate {
    /// The machine, started and at rest.
    pub machine: Machine,
    /// Its console.
    pub console: Console,
    /// What it says.
    pub notices: Notices,
    /// Where clients connect.
    pub listener: UnixListener,
    /// Readable when the process is told to end (a signalfd).
    pub signals: RawFd,
    /// What holds the monitor.
    pub layers: Option<Layers>,
    /// Where a core dump goes.
    pub core: Option<CoreFile>,
    /// What becomes of its clock.
    pub clock: Course,
}

impl<'a> Owner<'a> {
    /// Takes the machine over.
    pub fn new(
        guest: &'a Guest,
        estate: Estate,
        journal: &'a mut Journal,
    ) -> Result<Self, ControlError> {
        let Estate {
            machine,
            console,
            notices,
            listener,
            signals,
            layers,
            core,
            clock,
        } = estate;
        let poll = Poll::new().map_err(ControlError::Poll)?;
        let owner = Self {
            guest,
            machine,
            console,
            notices,
            listener,
            signals,
            layers,
            core,
            clock,
            journal,
            poll,
            clients: BTreeMap::new(),
            next_client: 0,
            life: Life::Paused,
            stopped: None,
            began: Instant::now(),
            resets: 0,
            typing_held: false,
            pump_at: None,
        };
        owner.watch_everything().map_err(ControlError::Poll)?;
        Ok(owner)
    }

    fn watch_everything(&self) -> io::Result<()> {
        let wanted = self.console.wanted();
        let fixed = [
            (Some(self.notices.as_raw_fd()), Source::Notices),
            (Some(self.listener.as_raw_fd()), Source::Listener),
            (Some(self.signals), Source::Signals),
            (Some(self.console.fresh()), Source::Fresh),
            (Some(wanted.as_raw_fd()), Source::Wanted),
            (self.console.listener(), Source::ConsoleListener),
            (
                self.console.descriptor(Port::Pty),
                Source::Typing(Port::Pty),
            ),
        ];
        for (descriptor, source) in fixed {
            if let Some(descriptor) = descriptor {
                self.poll.watch(descriptor, source)?;
            }
        }
        Ok(())
    }

    /// Lets the guest run, and serves until it has ended.
    pub fn serve(mut self) -> Result<End, ControlError> {
        let held = match &self.layers {
            Some(layers) => layers.to_string(),
            None => "not held by anything".to_owned(),
        };
        tracing::info!("the monitor is {held}");
        self.event(EventKind::Contained, Some(held));
        self.machine.load().map_err(ControlError::Load)?;
        self.machine.run();
        self.event(EventKind::Started, None);
        self.enter(Life::Running);
        self.began = Instant::now();
        let end = loop {
            if let Some(end) = self.turn()? {
                break end;
            }
        };
        self.machine.pause();
        self.follow_clock();
        self.clock.finish();
        if end.reason == Reason::Quit {
            self.event(EventKind::Quit, None);
        }
        Ok(end)
    }

    /// Waits once, and handles what there is.
    fn turn(&mut self) -> Result<Option<End>, ControlError> {
        let now = Instant::now();
        if self.pump_at.is_some_and(|at| at <= now) {
            self.pump_at = None;
            self.console.pump();
        }
        self.clock.settle(now);
        let next = [self.pump_at, self.clock.due()].into_iter().flatten().min();
        let limit = next.map(|at| at.saturating_duration_since(now));
        for source in self.poll.wait(limit).map_err(ControlError::Poll)? {
            let end = match source {
                Source::Notices => self.notices(),
                Source::Signals => Some(End {
                    reason: Reason::Quit,
                    message: "the monitor was told to end by a signal".into(),
                }),
                Source::Client(number) => self.client(number),
                Source::Listener => {
                    self.accept();
                    None
                }
                Source::Fresh => {
                    self.console.noticed();
                    self.pump_at
                        .get_or_insert_with(|| Instant::now() + PUMP_DELAY);
                    None
                }
                Source::Wanted => {
                    let _ = self.console.wanted().read();
                    self.hold_typing(false);
                    None
                }
                Source::ConsoleListener => {
                    if self.console.accept()
                        && let Some(peer) = self.console.descriptor(Port::Peer)
                    {
                        let _ = self.poll.watch(peer, Source::Typing(Port::Peer));
                        self.hold_typing(false);
                    }
                    None
                }
                Source::Typing(port) => {
                    self.typed(port);
                    None
                }
            };
            if end.is_some() {
                return Ok(end);
            }
        }
        Ok(None)
    }

    // --- the machine ---

    fn notices(&mut self) -> Option<End> {
        let mut notices = self.notices.drain();
        notices.extend(self.machine.disk_failure().map(Notice::Disk));
        for notice in notices {
            if notice == Notice::Clock {
                self.follow_clock();
                continue;
            }
            let action = self.life.after(&notice, Policy::from(self.guest));
            if action == Action::Nothing {
                continue;
            }
            tracing::info!(%notice, ?action);
            let message = notice.to_string();
            let kind = match notice {
                Notice::PowerOff => EventKind::PowerOff,
                Notice::Reset => EventKind::Reset,
                Notice::Watchdog => EventKind::Watchdog,
                Notice::Clock => EventKind::RtcChange,
                Notice::Disk(_) => EventKind::IoError,
                Notice::Crash(_) => EventKind::Crash,
                Notice::Failed(_) => EventKind::Error,
            };
            self.event(kind, Some(message.clone()));
            if action == Action::Pause {
                self.stopped = Some(message.clone());
            }
            if matches!(notice, Notice::Crash(_) | Notice::Failed(_)) {
                self.dump();
            }
            match self.act(action, message.clone()) {
                Ok(Some(end)) => return Some(end),
                Ok(None) => {}
                Err(failure) => {
                    return Some(End {
                        reason: Reason::Error,
                        message: failure.message,
                    });
                }
            }
            if matches!(action, Action::Reset { .. }) {
                // Whatever else the old guest said is of no account.
                break;
            }
        }
        None
    }

    /// Keeps what the guest made of its clock, and tells of it.
    fn follow_clock(&mut self) {
        let ahead = self.machine.clock_ahead();
        if self.clock.follow(ahead) {
            let message = format!("the guest's clock is {ahead} s ahead of universal time");
            self.event(EventKind::RtcChange, Some(message));
        }
    }

    /// Writes a core dump, if one was configured. Clients wait for as long as the disk takes.
    fn dump(&mut self) {
        let Some(core) = &mut self.core else {
            return;
        };
        self.machine.pause();
        let path = core.path().display().to_string();
        let message = match self.machine.dump(core) {
            Ok(len) => format!("wrote a core dump of {len} bytes to {path}"),
            Err(error) => format!("could not write a core dump to {path}: {error}"),
        };
        tracing::info!("{message}");
        self.event(EventKind::CoreDump, Some(message));
    }

    /// Carries out what [`life`] decided.
    fn act(&mut self, action: Action, message: String) -> Result<Option<End>, Failure> {
        match action {
            // What becomes of a device is in the request: see `change`.
            Action::Nothing | Action::Device | Action::Tell => {}
            Action::Dump => {
                self.dump();
                self.machine.run();
            }
            Action::InjectNmi => {
                let done = self.machine.inject_nmi();
                done.map_err(|error| failure(Code::Failed, &error))?;
                self.event(EventKind::Nmi, None);
            }
            Action::Pause => {
                self.machine.pause();
                self.event(EventKind::Paused, None);
                self.enter(Life::Paused);
            }
            Action::Run => {
                self.machine.run();
                self.event(EventKind::Resumed, None);
                self.enter(Life::Running);
            }
            Action::PressPowerButton => {
                self.machine.press_power_button();
                self.event(EventKind::PowerButton, None);
            }
            Action::Reset { run } => self.reset(run)?,
            Action::Preserve(reason) => {
                self.machine.pause();
                self.event(EventKind::Preserved, Some(message));
                self.enter(Life::Preserved(reason));
            }
            Action::End(reason) => return Ok(Some(End { reason, message })),
        }
        Ok(None)
    }

    fn reset(&mut self, run: bool) -> Result<(), Failure> {
        self.machine.pause();
        self.follow_clock();
        // What else the old guest said no longer counts.
        drop(self.notices.drain());
        self.machine
            .reset()
            .map_err(|error| failure(Code::Failed, &error))?;
        self.clock.restarted(self.machine.clock_ahead());
        self.resets += 1;
        self.began = Instant::now();
        self.stopped = None;
        if run {
            self.machine.run();
        }
        self.enter(if run { Life::Running } else { Life::Paused });
        Ok(())
    }

    fn enter(&mut self, life: Life) {
        if life != Life::Paused {
            self.stopped = None;
        }
        self.life = life;
        self.journal.state(life, self.stopped.as_deref());
    }

    fn event(&mut self, kind: EventKind, message: Option<String>) {
        let event = self.journal.event(kind, message);
        for client in self.clients.values_mut().filter(|c| c.listens) {
            client.send(&event);
        }
        self.tend_clients();
    }

    // --- clients ---

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        let Ok(mut client) = Client::new(stream) else {
            return;
        };
        if self.clients.len() >= CLIENT_LIMIT && !self.make_room() {
            let message = format!("there are {CLIENT_LIMIT} clients already");
            client.dismiss(&Answer::unasked(Code::Busy, message));
            return;
        }
        let number = self.next_client;
        self.next_client = number.wrapping_add(1);
        if self
            .poll
            .watch(client.descriptor(), Source::Client(number))
            .is_ok()
        {
            self.clients.insert(number, client);
        }
    }

    /// Dismisses the client that has been silent for longest, if any has for too long.
    fn make_room(&mut self) -> bool {
        let now = Instant::now();
        let silent = self
            .clients
            .values_mut()
            .filter_map(|client| Some((client.silent_for(now)?, client)))
            .max_by_key(|(silent, _)| *silent);
        let Some((_, client)) = silent else {
            return false;
        };
        let message = "another wanted the place of one that said nothing; connect again";
        client.dismiss(&Answer::unasked(Code::Busy, message.into()));
        self.tend_clients();
        true
    }

    fn client(&mut self, number: u32) -> Option<End> {
        let client = self.clients.get_mut(&number)?;
        client.flush();
        let lines = client.receive();
        let mut end = None;
        for line in lines {
            let answer = match Request::parse(&line) {
                Ok(Request::Events { id, after }) => {
                    self.listen(number, id, after);
                    continue;
                }
                Ok(request) => match self.request(&request) {
                    Ok((ok, ended)) => {
                        end = end.or(ended);
                        Answer::Ok {
                            id: request.id(),
                            ok,
                        }
                    }
                    Err(error) => Answer::Error {
                        id: Some(request.id()),
                        error,
                    },
                },
                Err(answer) => answer,
            };
            if let Some(client) = self.clients.get_mut(&number) {
                client.send(&answer);
            }
            if end.is_some() {
                break;
            }
        }
        self.tend_clients();
        end
    }

    fn listen(&mut self, number: u32, id: u64, after: u64) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        if !client.listens {
            client.listens = true;
            last_words::tell(client.descriptor());
        }
        client.send(&Answer::Ok {
            id,
            ok: json!({ "seq": self.journal.seq() }),
        });
        for event in self.journal.after(after) {
            client.send(event);
        }
    }

    /// Forgets clients that are gone, and waits for those that have not read everything.
    fn tend_clients(&mut self) {
        self.clients.retain(|&number, client| {
            let source = Source::Client(number);
            let kept = !client.is_gone()
                && self
                    .poll
                    .also_writable(client.descriptor(), source, client.backlog())
                    .is_ok();
            if !kept {
                self.poll.forget(client.descriptor());
                last_words::forget(client.descriptor());
            }
            kept
        });
    }

    // --- the console ---

    fn typed(&mut self, port: Port) {
        let mut buffer = [0; 512];
        let room = lock(self.machine.serial()).room().min(buffer.len());
        let Some(buffer) = buffer.get_mut(..room).filter(|b| !b.is_empty()) else {
            if self.typing_held && port == Port::Peer {
                // What wakes us although we do not wait for keystrokes is that the peer hung up.
                self.console.hang_up();
            }
            // The guest is not reading: whoever types waits until it does.
            return self.hold_typing(true);
        };
        let n = self.console.read(port, buffer);
        if let Some(typed) = buffer.get(..n).filter(|t| !t.is_empty()) {
            lock(self.machine.serial()).input(typed);
        }
    }

    fn hold_typing(&mut self, hold: bool) {
        if self.typing_held == hold {
            return;
        }
        self.typing_held = hold;
        for port in [Port::Pty, Port::Peer] {
            if let Some(descriptor) = self.console.descriptor(port) {
                let _ = self.poll.hold(descriptor, Source::Typing(port), hold);
            }
        }
    }
}

fn failure(code: Code, error: &dyn std::error::Error) -> Failure {
    Failure {
        code,
        message: chain(error),
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
