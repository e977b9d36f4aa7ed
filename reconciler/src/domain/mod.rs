//! Guests' drivers: who starts a guest, finds it again, changes it and stops it.
//!
//! Every guest has a directory of its own under the runtime directory, named by its UUID (see [`directory`]). The directory is what makes a guest findable after
//! the agent has died; it is written before the process starts and removed after everything else of the guest is gone. [`Guests`] is the one way in: it does what
//! the guests' effects say, and looks at all of them. A [`Driver`] knows only what is its own: how its monitor is started, asked and understood.
//!
//! ```text
//!              directory, lock, launch.json          process, in its cgroup             monitor answers
//!   (nothing) ─────────────────────────────► starting ───────────────────► starting ──────────────────► running ◄──► paused
//!                                                                              │                            │           │
//!                                               released ◄──── ended ◄─────────┴────────────────────────────┴───────────┘
//! ```

pub mod builtin;
pub mod console;
pub mod directory;
mod fields;
mod guests;
pub mod line;
pub mod qemu;
#[cfg(test)]
mod testing;
mod vsock;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::directory::GuestDir;
pub use self::guests::{Guests, GuestsError};
use crate::inventory::GuestDisk;
use crate::resolve::domain::Domain;
use crate::resolve::limits::Limits;
use crate::units::Bytes;

/// What a guest is started as. Written into its directory, read back as the truth of what runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The guest, resolved.
    pub domain: Domain,
    /// The definition in libvirt's XML as it was at the start: what hooks get on standard input.
    pub xml: String,
    /// Distinguishes two starts of one guest: changes with each launch.
    pub generation: Uuid,
}

/// What a driver knows of its monitor.
pub trait Driver {
    /// Writes what the monitor reads into the guest's directory, and says how to run it.
    ///
    /// # Errors
    /// The monitor is not on this host, or cannot do what the definition asks.
    fn prepare(&self, launch: &Launch, dir: &GuestDir) -> Result<Invocation, DriverError>;

    /// Asks the monitor how the guest does.
    ///
    /// # Errors
    /// It does not answer, or not within its time.
    fn vitals(&self, dir: &GuestDir) -> impl Future<Output = Result<Vitals, DriverError>> + Send;

    /// Asks the monitor for something, and waits until it is accepted.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    fn ask(
        &self,
        dir: &GuestDir,
        request: Request,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// What the monitor wrote of the guest's life: whether it was last paused, and how it ended.
    fn last_words(&self, dir: &GuestDir) -> LastWords;
}

/// How to run a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Arguments, without the program's name. No secret is among them: every process of the host can read them.
    pub arguments: Vec<OsString>,
    /// It needs to see no other process of the host.
    pub alone: bool,
}

/// How a guest does, as its monitor says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Its processors are halted.
    pub paused: bool,
    /// Why they are, if nobody asked for it: a disk's error, or its watchdog.
    pub stopped: Option<String>,
    /// How it ended, if it has and its process is kept for a look.
    pub preserved: Option<String>,
    /// What the guest has been asked to keep of its memory, where the monitor tells.
    pub balloon: Option<Bytes>,
    /// How its disks are, by target, where the monitor tells.
    pub disks: BTreeMap<String, GuestDisk>,
    /// What the guest last reported of its memory, by name: bytes, or counts of events. Its own word.
    pub memory: BTreeMap<String, u64>,
}

/// What may be asked of a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Press the power button: the guest shuts down if it will.
    PowerButton,
    /// Halt the processors.
    Pause,
    /// Let the processors run.
    Resume,
    /// Give the processors a non-maskable interrupt: what follows is the guest's.
    Nmi,
    /// Leave the guest so much memory.
    Balloon(Bytes),
    /// Put the cable of an interface in, or pull it. The interface by its place in the definition, from 0.
    Link(usize, bool),
    /// Put the disk with this target, and the others of its group, under these limits.
    Limits(String, Box<Limits>),
    /// Make the disk with this target so large, its image and what the guest sees.
    Grow(String, Bytes),
    /// End the guest and the monitor at once, images in order.
    Quit,
}

impl Request {
    /// What is tried, for messages.
    const fn what(&self) -> &'static str {
        match self {
            Self::PowerButton => "press the power button",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Nmi => "inject an nmi",
            Self::Balloon(_) => "set the balloon",
            Self::Link(..) => "set a link",
            Self::Grow(..) => "make a disk larger",
            Self::Limits(..) => "limit a disk",
            Self::Quit => "end",
        }
    }
}

/// What a monitor wrote before it ended, or has written so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastWords {
    /// The processors are halted.
    pub paused: bool,
    /// Why they are, if nobody asked for it.
    pub stopped: Option<String>,
    /// How it ended: `power-off`, `reset`, `crash`, `quit`, `error`. `None` if it did not say.
    pub reason: Option<String>,
    /// What it had to say about that.
    pub message: Option<String>,
}

/// A driver that cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The monitor is not installed.
    #[error("cannot find {program}")]
    NotInstalled {
        /// Its name.
        program: String,
        /// Where it was looked for, or how to get it.
        help: String,
    },
    /// The definition asks for what this driver does not do.
    #[error("driver {driver} cannot do {what}")]
    Unsupported {
        /// Which driver.
        driver: crate::resolve::Driver,
        /// What is asked.
        what: String,
    },
    /// A file of the guest's directory cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The monitor cannot be talked to.
    #[error("cannot {what}: its monitor does not answer")]
    NoAnswer {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: line::LineError,
    },
    /// The monitor says no.
    #[error("cannot {what}: the monitor says: {message}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Its words.
        message: String,
    },
}

/// Something of a guest that its driver does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// The path, in the definition, of the element that asks for it.
    pub path: String,
    /// What it is, in the driver's words.
    pub what: String,
}

impl Objection {
    /// What a driver says about that element.
    pub fn new(path: impl Into<String>, error: &DriverError) -> Self {
        Self {
            path: path.into(),
            what: error.to_string(),
        }
    }
}

/// Everything of a guest that its driver does not do, on any host. Pure, so that it is known when the guest is planned.
pub fn objections(domain: &Domain) -> Vec<Objection> {
    match domain.driver {
        crate::resolve::Driver::Builtin => builtin::objections(domain),
        crate::resolve::Driver::Qemu => qemu::objections(domain),
    }
}

/// An error and everything that caused it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Finds a program: where a variable of the environment says, beside our own executable, or in `PATH`.
pub fn find_program(name: &str, variable: Option<&str>) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if let Some(stated) = variable.and_then(std::env::var_os) {
        return Some(PathBuf::from(stated)).filter(is_program);
    }
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|us| Some(us.parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<_> = std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .collect();
    beside.into_iter().chain(in_path).find(is_program)
}
