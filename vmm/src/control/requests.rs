//! What clients ask of the owner: changes of the machine and its devices, and how they are.
//!
//! In comes a [`Request`]; out goes its answer, or the [`Failure`] that the client is told.

use std::time::Duration;

use serde_json::{Value, json};

use super::life::{Life, Wish};
use super::wire::{Code, EventKind, Failure, PortStatus, Request, Stats, Status};
use super::{End, Owner, failure};
use crate::devices::virtio::console::PortState;
use crate::machine::{BalloonError, ResizeError};

impl Owner<'_> {
    /// Does what a client asks; gives the answer, and the end if it is that.
    pub(super) fn request(&mut self, request: &Request) -> Result<(Value, Option<End>), Failure> {
        let wish = match *request {
            Request::Status { .. } => return object(&self.status()).map(|v| (v, None)),
            Request::Stats { .. } => return object(&self.stats()).map(|v| (v, None)),
            Request::Events { .. } => return Ok((json!({}), None)),
            Request::Pause { .. } => Wish::Pause,
            Request::Resume { .. } => Wish::Resume,
            Request::PowerButton { .. } => Wish::PowerButton,
            Request::Reset { .. } => Wish::Reset,
            Request::Quit { .. } => Wish::Quit,
            Request::Nmi { .. } => Wish::Nmi,
            Request::Balloon { .. }
            | Request::Link { .. }
            | Request::Limits { .. }
            | Request::Resize { .. } => Wish::Device,
        };
        let action = self
            .life
            .admit(wish)
            .map_err(|refusal| failure(Code::Refused, &refusal))?;
        self.change(request)?;
        let end = self.act(action, "a client asked the monitor to end".into())?;
        if wish == Wish::Reset {
            self.event(EventKind::Reset, Some("a client asked for it".into()));
        }
        Ok((json!({}), end))
    }

    /// Changes the device that a request is about, if it is about one.
    fn change(&mut self, request: &Request) -> Result<(), Failure> {
        match request {
            Request::Balloon { target, .. } => {
                let done = self.machine.set_balloon(*target);
                done.map_err(|error| match error {
                    BalloonError::None => failure(Code::NoBalloon, &error),
                    BalloonError::TooLarge { .. } => failure(Code::BadRequest, &error),
                })
            }
            Request::Link {
                interface, state, ..
            } => {
                let done = self.machine.set_link(interface, *state);
                if done.map_err(|error| failure(Code::NoInterface, &error))? {
                    let word = if state.is_up() { "up" } else { "down" };
                    self.event(EventKind::Link, Some(format!("{interface} is {word}")));
                }
                Ok(())
            }
            Request::Resize { disk, capacity, .. } => {
                let done = self.machine.grow_disk(disk, *capacity);
                done.map_err(|error| {
                    let code = match error {
                        ResizeError::NoDisk(_) => Code::NoDisk,
                        ResizeError::Disk { .. } => Code::Refused,
                    };
                    failure(code, &error)
                })
            }
            Request::Limits { disk, limits, .. } => {
                if let Some(problem) = limits.check().first() {
                    return Err(Failure {
                        code: Code::BadRequest,
                        message: problem.to_string(),
                    });
                }
                let done = self.machine.set_limits(disk, limits);
                if done.map_err(|error| failure(Code::NoDisk, &error))? {
                    self.event(EventKind::Limits, Some(disk.clone()));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn status(&self) -> Status {
        Status {
            name: self.guest.name.clone(),
            uuid: self.guest.uuid.clone(),
            pid: self.journal.pid(),
            state: self.life.word().into(),
            reason: match self.life {
                Life::Preserved(reason) => Some(reason),
                Life::Running | Life::Paused => None,
            },
            stopped: self.stopped.clone(),
            console: self.console.pty().map(Into::into),
            ports: self.machine.ports().into_iter().map(port_status).collect(),
            vcpus: self.guest.vcpus.count,
            memory: self.guest.memory.size,
            seq: self.journal.seq(),
            sandbox: self.layers.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    fn stats(&self) -> Stats {
        let cpu = process_time();
        Stats {
            uptime_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            resets: self.resets,
            cpu_time_us: u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX),
            rtc_ahead_s: self.machine.clock_ahead(),
            balloon: self.machine.balloon(),
            disks: self.machine.disks(),
        }
    }
}

/// Processor time that the whole process has used. (rustix would open `/proc` here, which the sandbox forbids.)
fn process_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is valid for the call. A failure leaves zeroes.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn port_status(port: PortState) -> PortStatus {
    PortStatus {
        id: port.id,
        pty: port.pty,
        host: port.host,
        guest: port.guest,
    }
}

fn object(value: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| failure(Code::Failed, &error))
}
