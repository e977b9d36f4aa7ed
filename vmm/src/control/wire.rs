//! What goes over the control socket: one JSON object a line.
//!
//! ```text
//! ► {"id":1,"do":"status"}                  ◄ {"id":1,"ok":{"state":"running",…}}
//! ► {"id":2,"do":"balloon","target":1<<28}  ◄ {"id":2,"error":{"code":"no-balloon","message":"…"}}
//! ► {"id":3,"do":"events","after":7}        ◄ {"id":3,"ok":{"seq":9}}
//!                                           ◄ {"event":"paused","seq":8,"time":1795234676123}
//! ```
//!
//! In come bounded lines, out go [`Request`]s or an error that says what is wrong with the line, with the request's number where it has one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::life::Reason;
use crate::config::{Bytes, Limits, LinkState};
use crate::sandbox::Layers;

/// A request. `id` is the client's own number and comes back in the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How the guest is. Answered with a [`Status`].
    Status {
        /// The request's number.
        id: u64,
    },
    /// Let the vcpus rest.
    Pause {
        /// The request's number.
        id: u64,
    },
    /// Let the vcpus run again.
    Resume {
        /// The request's number.
        id: u64,
    },
    /// Press the power button; the guest decides what follows.
    PowerButton {
        /// The request's number.
        id: u64,
    },
    /// Put the machine back to power on.
    Reset {
        /// The request's number.
        id: u64,
    },
    /// End the guest and the monitor.
    Quit {
        /// The request's number.
        id: u64,
    },
    /// Give every processor a non-maskable interrupt, as the button of that name does: the guest's kernel decides what follows, such as a dump of its own. A guest that is
    /// paused gets it when it runs again.
    Nmi {
        /// The request's number.
        id: u64,
    },
    /// Set how much memory the guest keeps.
    Balloon {
        /// The request's number.
        id: u64,
        /// At most the guest's memory.
        target: Bytes,
    },
    /// Pull an interface's cable, or put it in.
    Link {
        /// The request's number.
        id: u64,
        /// The interface's name.
        interface: String,
        /// How the guest is to find its link.
        state: LinkState,
    },
    /// Put a disk, and the others of its group, under these limits.
    Limits {
        /// The request's number.
        id: u64,
        /// The disk's name.
        disk: String,
        /// All of its limits: what is left out has none.
        limits: Box<Limits>,
    },
    /// Make a disk larger: its image, and what the guest sees of it. The answer says that it is being done; [`DiskStats`] tells what came of it.
    Resize {
        /// The request's number.
        id: u64,
        /// The disk's name.
        disk: String,
        /// Whole sectors of 512 bytes, and no less than it has.
        capacity: Bytes,
    },
    /// Counters. Answered with [`Stats`].
    Stats {
        /// The request's number.
        id: u64,
    },
    /// Send all events after this number, those to come too.
    Events {
        /// The request's number.
        id: u64,
        /// The last number that the client has seen; 0 for all that are kept.
        #[serde(default)]
        after: u64,
    },
}

impl Request {
    /// The request's number.
    pub fn id(&self) -> u64 {
        match *self {
            Self::Status { id }
            | Self::Pause { id }
            | Self::Resume { id }
            | Self::PowerButton { id }
            | Self::Reset { id }
            | Self::Quit { id }
            | Self::Nmi { id }
            | Self::Balloon { id, .. }
            | Self::Link { id, .. }
            | Self::Limits { id, .. }
            | Self::Resize { id, .. }
            | Self::Stats { id }
            | Self::Events { id, .. } => id,
        }
    }

    /// Reads one line.
    pub fn parse(line: &[u8]) -> Result<Self, Answer> {
        serde_json::from_slice(line).map_err(|error| {
            let value: Option<Value> = serde_json::from_slice(line).ok();
            let id = value.and_then(|v| v.get("id").and_then(Value::as_u64));
            Answer::Error {
                id,
                error: Failure {
                    code: Code::BadRequest,
                    message: error.to_string(),
                },
            }
        })
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// It was not done.
    Error {
        /// The request's number, if it had one.
        id: Option<u64>,
        /// Why.
        error: Failure,
    },
    /// It was done.
    Ok {
        /// The request's number.
        id: u64,
        /// What there is to say: an object, empty for most requests.
        ok: Value,
    },
}

impl Answer {
    /// What a client is told that is no answer to any request of its own.
    pub fn unasked(code: Code, message: String) -> Self {
        Self::Error {
            id: None,
            error: Failure { code, message },
        }
    }
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

/// Why a request was not done, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The line is not a request.
    BadRequest,
    /// The line is longer than any request.
    TooLong,
    /// There are too many clients.
    Busy,
    /// The guest's state does not allow it.
    Refused,
    /// The guest has no balloon.
    NoBalloon,
    /// The guest has no interface of this name.
    NoInterface,
    /// The guest has no disk of this name.
    NoDisk,
    /// It was tried and went wrong.
    Failed,
}

/// How the guest is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    /// The guest's name.
    pub name: String,
    /// The guest's UUID.
    pub uuid: String,
    /// The monitor's process.
    pub pid: u32,
    /// `running`, `paused` or `preserved`.
    pub state: String,
    /// How a preserved guest ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Why a guest is paused although nobody asked for it: the host failed a disk, or the watchdog was not fed. `resume` lets it go on, and a disk try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// The console's pseudo-terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<PathBuf>,
    /// The ports of the virtio console.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortStatus>,
    /// Number of vcpus.
    pub vcpus: u32,
    /// Size of the memory.
    pub memory: Bytes,
    /// Number of the last event.
    pub seq: u64,
    /// What holds the monitor, and what does not; nothing does with `--no-sandbox`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Layers>,
    /// The monitor's version.
    pub version: String,
}

/// How a port of the virtio console is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PortStatus {
    /// Its name in the configuration.
    pub id: String,
    /// Its pseudo-terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pty: Option<PathBuf>,
    /// Somebody is there on the host.
    pub host: bool,
    /// A program in the guest has it open.
    pub guest: bool,
}

/// Counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stats {
    /// Milliseconds since the machine was last at power on.
    pub uptime_ms: u64,
    /// How often it was reset.
    pub resets: u64,
    /// Processor time of the whole process, in microseconds.
    pub cpu_time_us: u64,
    /// Seconds that the guest's battery-backed clock is ahead of universal time.
    pub rtc_ahead_s: i64,
    /// How much memory the guest has been asked to keep, and how much it has given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balloon: Option<BalloonStats>,
    /// The disks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskStats>,
}

/// How a disk is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStats {
    /// Its name in the configuration.
    pub id: String,
    /// What the guest sees of it.
    pub capacity: Bytes,
    /// What its requests may come to.
    pub limits: Limits,
    /// Why it could not be made larger when that was last tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How the host failed a request that waits for `resume`, which tries it again; the disk does nothing else meanwhile. A reset forgets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The balloon's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BalloonStats {
    /// What the guest has been asked to keep.
    pub target: Bytes,
    /// What it has now.
    pub actual: Bytes,
    /// The guest's last report of its memory, by [`names`](crate::devices::virtio::balloon::NAMES): bytes, or counts of events since its boot. What it says is its own
    /// word. Empty if it makes none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reported: BTreeMap<String, u64>,
    /// When it made the report: seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<u64>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What.
    pub event: EventKind,
    /// Ascending without gaps from 1.
    pub seq: u64,
    /// When: milliseconds since 1970.
    pub time: u64,
    /// More, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// The monitor has given up what it does not need; the message says what holds it and what does not.
    Contained,
    /// The guest began to run, for the first time.
    Started,
    /// Its vcpus rest.
    Paused,
    /// Its vcpus run again.
    Resumed,
    /// Its power button was pressed.
    PowerButton,
    /// Its processors got a non-maskable interrupt.
    Nmi,
    /// It turned itself off.
    PowerOff,
    /// It was, or wants to be, put back to power on.
    Reset,
    /// It did not feed its watchdog in time.
    Watchdog,
    /// The host failed a request of a disk for which the guest is to be paused; the message says which and how. `paused` follows.
    IoError,
    /// It broke down.
    Crash,
    /// The monitor or the host cannot go on with it.
    Error,
    /// A thread of the monitor made a system call that its sandbox forbids; the message names it. The monitor has ended.
    Violation,
    /// A cable was pulled or put in; the message says which.
    Link,
    /// The limits of a disk's requests are others; the message says of which.
    Limits,
    /// It set its clock; the message says how far that is ahead of universal time.
    RtcChange,
    /// Its memory was written to a core file, or could not be; the message says which.
    CoreDump,
    /// It ended and is kept as it was.
    Preserved,
    /// The monitor was told to end.
    Quit,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_read_as_documented() {
        let parse = |text: &str| Request::parse(text.as_bytes());
        assert_eq!(
            parse(r#"{"id":1,"do":"power-button"}"#),
            Ok(Request::PowerButton { id: 1 })
        );
        assert_eq!(
            parse(r#"{"do":"balloon","target":4096,"id":2}"#),
            Ok(Request::Balloon {
                id: 2,
                target: Bytes(4096)
            })
        );
        assert_eq!(
            parse(r#"{"id":2,"do":"link","interface":"net0","state":"down"}"#),
            Ok(Request::Link {
                id: 2,
                interface: "net0".into(),
                state: LinkState::Down
            })
        );
        let read =
            parse(r#"{"id":2,"do":"limits","disk":"vda","limits":{"total-bytes":{"rate":9}}}"#);
        let Ok(Request::Limits { disk, limits, .. }) = read else {
            panic!("{read:?}");
        };
        assert_eq!(
            (disk.as_str(), limits.total_bytes.map(|l| l.rate)),
            ("vda", Some(9))
        );
        assert_eq!(parse(r#"{"id":4,"do":"nmi"}"#), Ok(Request::Nmi { id: 4 }));
        assert_eq!(
            parse(r#"{"id":3,"do":"events"}"#),
            Ok(Request::Events { id: 3, after: 0 })
        );
    }

    #[test]
    fn a_bad_request_is_answered_with_its_number() {
        for (line, number) in [
            (r#"{"id":7,"do":"fly"}"#, Some(7)),
            (r#"{"id":7,"do":"pause","fast":true}"#, Some(7)),
            (r#"{"id":7,"do":"balloon"}"#, Some(7)),
            ("{", None),
            ("\u{0}", None),
        ] {
            match Request::parse(line.as_bytes()) {
                Err(Answer::Error { id, error }) => {
                    assert_eq!((id, error.code), (number, Code::BadRequest), "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(&line);
        }
    }
}
