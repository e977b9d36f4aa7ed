//! The qemu driver: QEMU, for firmware, displays, old buses, and hosts whose KVM cannot run an ordinary kernel.
//!
//! In: a [`Launch`]. Out: a command line (no shell, no secret in it; see [`command`]), and short conversations over QMP. QEMU serves one conversation at a time,
//! so none is kept open; what happens in between is in the file of [`events`]. QEMU 6.2 or later is needed, for devices in JSON.

mod chardevs;
mod clock;
mod command;
mod controllers;
mod devices;
mod disks;
mod events;
mod graphics;
mod limits;
mod machine;
mod memory;
mod place;
mod qmp;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::qmp::Qmp;
use super::{
    Driver, DriverError, GuestDir, Invocation, LastWords, Launch, Objection, Request, Vitals,
};
use crate::resolve::domain::Domain;

/// Everything of the guest that QEMU is not told here, and so cannot do.
pub fn objections(domain: &Domain) -> Vec<Objection> {
    command::objections(domain)
}

/// What the driver does not do, by name.
fn unsupported(what: impl Into<String>) -> DriverError {
    DriverError::Unsupported {
        driver: crate::resolve::Driver::Qemu,
        what: what.into(),
    }
}

/// What QEMU is told of a guest.
#[cfg(test)]
pub fn told(domain: &Domain, dir: &GuestDir) -> impl std::fmt::Debug + use<> {
    command::build(domain, dir, &command::Host::complete(domain))
}

/// The qemu driver.
#[derive(Debug, Clone, Copy)]
pub struct Qemu;

impl Driver for Qemu {
    fn prepare(&self, launch: &Launch, dir: &GuestDir) -> Result<Invocation, DriverError> {
        let domain = &launch.domain;
        let program = command::program(domain)?;
        let command = command::build(domain, dir, &command::Host::of(domain))?;
        make_variables(&command)?;
        let files = command
            .secrets
            .iter()
            .map(|(name, secret)| (name.as_str(), secret.as_bytes()));
        let events = [("events.in", events::INPUT), ("events.out", b"")];
        for (name, contents) in events.into_iter().chain(files) {
            dir.write(name, contents)
                .map_err(|source| DriverError::Write {
                    path: dir.file(name),
                    source,
                })?;
        }
        Ok(Invocation {
            program,
            arguments: command.arguments.into_iter().map(Into::into).collect(),
            alone: false,
        })
    }

    async fn vitals(&self, dir: &GuestDir) -> Result<Vitals, DriverError> {
        let mut qmp = Qmp::connect(&dir.control(), "ask how the guest does").await?;
        let status = qmp.execute("query-status", None).await?;
        link_console(dir, &mut qmp).await?;
        let blocks = qmp.execute("query-block", None).await?;
        let status = status.get("status").and_then(Value::as_str);
        let preserved = match status {
            Some("guest-panicked") => Some("crash"),
            Some("shutdown") => Some("power-off"),
            _ => None,
        };
        let stopped = match status {
            Some("io-error") => {
                let said = self.last_words(dir).stopped;
                Some(said.unwrap_or_else(|| "the host failed a disk".to_owned()))
            }
            Some("watchdog") => Some(events::WATCHDOG.to_owned()),
            _ => None,
        };
        Ok(Vitals {
            paused: stopped.is_some()
                || matches!(status, Some("paused" | "prelaunch" | "suspended")),
            stopped,
            preserved: preserved.map(str::to_owned),
            balloon: None,
            disks: disks::told(&blocks),
            memory: BTreeMap::new(),
        })
    }

    async fn ask(&self, dir: &GuestDir, request: Request) -> Result<(), DriverError> {
        let what = request.what();
        let mut qmp = Qmp::connect(&dir.control(), what).await?;
        let (command, arguments) = match request {
            Request::PowerButton => ("system_powerdown", None),
            Request::Pause => ("stop", None),
            Request::Resume => ("cont", None),
            Request::Nmi => ("inject-nmi", None),
            Request::Balloon(size) => ("balloon", Some(json!({"value": size.0}))),
            Request::Link(interface, up) => (
                "set_link",
                Some(json!({"name": format!("nic{interface}"), "up": up})),
            ),
            Request::Grow(disk, size) => (
                "block_resize",
                Some(json!({"node-name": command::node_name(&disk), "size": size.0})),
            ),
            Request::Limits(disk, limits) => {
                let blocks = qmp.execute("query-block", None).await?;
                let device = disks::device(&blocks, &disk);
                let device = device.ok_or_else(|| DriverError::Refused {
                    what,
                    message: format!("QEMU tells of no disk {disk}"),
                })?;
                let arguments = limits::arguments(device, &disk, &limits);
                ("block_set_io_throttle", Some(arguments))
            }
            Request::Quit => return qmp.quit().await,
        };
        qmp.execute(command, arguments).await.map(drop)
    }

    fn last_words(&self, dir: &GuestDir) -> LastWords {
        events::understand(&dir.tail("events.out", 64 * 1024))
    }
}

/// Makes the file that firmware keeps its variables in, unless it is there.
fn make_variables(command: &command::CommandLine) -> Result<(), DriverError> {
    let Some((template, variables)) = command.copy.as_ref().filter(|(_, file)| !file.exists())
    else {
        return Ok(());
    };
    let copied = std::fs::copy(template, variables);
    copied.map(drop).map_err(|source| DriverError::Write {
        path: variables.clone(),
        source,
    })
}

/// Links the first serial port's terminal into the guest's directory: only QEMU knows its name.
async fn link_console(dir: &GuestDir, qmp: &mut Qmp) -> Result<(), DriverError> {
    let console = dir.console();
    if console.is_symlink() {
        return Ok(());
    }
    let chardevs = qmp.execute("query-chardev", None).await?;
    let terminal = chardevs
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|chardev| {
            let label = chardev.get("label").and_then(Value::as_str)?;
            let file = chardev.get("filename").and_then(Value::as_str)?;
            file.strip_prefix("pty:")
                .filter(|_| label == command::CONSOLE)
        });
    if let Some(terminal) = terminal {
        match std::os::unix::fs::symlink(terminal, &console) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(DriverError::Write {
                    path: console,
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(())
}
