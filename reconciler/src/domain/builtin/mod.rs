//! The builtin driver: `vireo-vmm`, one small process a guest.
//!
//! In: a [`Launch`]. Out: `config.json` in the guest's directory and a command line of two words; afterwards one short conversation over the control socket for
//! each question. The monitor writes its life into `state`, a line of JSON at each change, which still speaks when the process is gone.

mod clock;
mod config;
mod guards;
mod interfaces;
mod memory;
mod pci;
mod pins;
pub(crate) mod places;
mod ports;
pub(crate) mod processors;

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::line::{Line, LineError};
use super::{
    Driver, DriverError, GuestDir, Invocation, LastWords, Launch, Objection, Request, Vitals,
    find_program,
};
use crate::inventory::GuestDisk;
use crate::resolve::domain::Domain;
use crate::units::Bytes;

/// The monitor's program.
const PROGRAM: &str = "vireo-vmm";
/// The variable that names another one.
const VARIABLE: &str = "VIREO_VMM";
/// How long one conversation may take.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// The builtin driver.
#[derive(Debug, Clone, Copy)]
pub struct Builtin;

impl Driver for Builtin {
    fn prepare(&self, launch: &Launch, dir: &GuestDir) -> Result<Invocation, DriverError> {
        let program =
            find_program(PROGRAM, Some(VARIABLE)).ok_or_else(|| DriverError::NotInstalled {
                program: PROGRAM.to_owned(),
                help: format!("install it beside vireo or in PATH, or name it in {VARIABLE}"),
            })?;
        let config = config::translate(&launch.domain, dir)?;
        interfaces::find_vhost(&launch.domain)?;
        let outlasting = [config::core(&launch.domain, dir), config.keeps_clock_in()];
        for path in outlasting.into_iter().flatten() {
            make_folder_of(path)?;
        }
        let written = serde_json::to_vec_pretty(&config)
            .map_err(std::io::Error::from)
            .and_then(|text| dir.write("config.json", &text));
        let path = dir.file("config.json");
        written.map_err(|source| DriverError::Write {
            path: path.clone(),
            source,
        })?;
        Ok(Invocation {
            program,
            arguments: vec!["--config".into(), path.into()],
            alone: true,
        })
    }

    async fn vitals(&self, dir: &GuestDir) -> Result<Vitals, DriverError> {
        let mut monitor = Conversation::with(dir, "ask how the guest does").await?;
        let status = monitor.ask(json!({"do": "status"})).await?;
        let stats = monitor.ask(json!({"do": "stats"})).await?;
        let state = status.get("state").and_then(Value::as_str);
        let reason = status.get("reason").and_then(Value::as_str);
        Ok(Vitals {
            paused: state == Some("paused"),
            stopped: text(&status, "stopped"),
            preserved: (state == Some("preserved")).then(|| reason.unwrap_or("its end").to_owned()),
            balloon: stats
                .pointer("/balloon/target")
                .and_then(Value::as_u64)
                .map(Bytes),
            disks: disks(&stats),
            memory: reported(&stats),
        })
    }

    async fn ask(&self, dir: &GuestDir, request: Request) -> Result<(), DriverError> {
        let message = match &request {
            Request::PowerButton => json!({"do": "power-button"}),
            Request::Pause => json!({"do": "pause"}),
            Request::Resume => json!({"do": "resume"}),
            Request::Nmi => json!({"do": "nmi"}),
            Request::Balloon(size) => json!({"do": "balloon", "target": size.0}),
            Request::Link(interface, up) => json!({
                "do": "link",
                "interface": interfaces::interface_name(*interface),
                "state": if *up { "up" } else { "down" },
            }),
            Request::Grow(disk, size) => {
                json!({"do": "resize", "disk": disk, "capacity": size.0})
            }
            Request::Limits(disk, limits) => {
                json!({"do": "limits", "disk": disk, "limits": limits})
            }
            Request::Quit => json!({"do": "quit"}),
        };
        let mut monitor = Conversation::with(dir, request.what()).await?;
        match monitor.ask(message).await {
            Ok(_) if let Request::Grow(disk, size) = &request => {
                monitor.see_grown(disk, *size).await
            }
            // It may be gone before its answer is.
            Err(DriverError::NoAnswer {
                source: LineError::Closed | LineError::Broken(_),
                ..
            }) if request == Request::Quit => Ok(()),
            other => other.map(drop),
        }
    }

    fn last_words(&self, dir: &GuestDir) -> LastWords {
        understand(&dir.tail("state", 64 * 1024))
    }
}

/// Makes the folder of a file that outlasts the guest's directory.
fn make_folder_of(file: &Path) -> Result<(), DriverError> {
    let Some(folder) = file.parent() else {
        return Ok(());
    };
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.map_err(|source| DriverError::Write {
        path: folder.to_owned(),
        source,
    })
}

/// What the guest reported of its memory, with how much of it the balloon leaves.
fn reported(stats: &Value) -> BTreeMap<String, u64> {
    let Some(balloon) = stats.get("balloon") else {
        return BTreeMap::new();
    };
    let number = |name: &str, key: &str| {
        let value = balloon.get(key).and_then(Value::as_u64)?;
        Some((name.to_owned(), value))
    };
    let own = [
        number("actual", "actual"),
        number("last-update", "reported-at"),
    ];
    let reported = balloon.get("reported").and_then(Value::as_object);
    let reported = reported.into_iter().flatten();
    let reported = reported.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
    own.into_iter().flatten().chain(reported).collect()
}

/// What of the guest the monitor does not do: the first that is found.
pub fn objections(domain: &Domain) -> Vec<Objection> {
    let dir = GuestDir::new(Path::new("/"), domain.uuid);
    let error = config::translate(domain, &dir).err();
    error
        .map(|error| Objection::new("", &error))
        .into_iter()
        .collect()
}

/// What the monitor is told of a guest.
#[cfg(test)]
pub fn told(domain: &Domain, dir: &GuestDir) -> impl std::fmt::Debug + use<> {
    config::translate(domain, dir)
}

/// A conversation with a monitor: each question gets its answer before the next one.
struct Conversation {
    line: Line,
    what: &'static str,
    asked: u64,
}

impl Conversation {
    async fn with(dir: &GuestDir, what: &'static str) -> Result<Self, DriverError> {
        let line = Line::connect(&dir.control(), TIME_LIMIT).await;
        let line = line.map_err(|source| DriverError::NoAnswer { what, source })?;
        Ok(Self {
            line,
            what,
            asked: 0,
        })
    }

    /// Waits until a disk is as large as was asked for. Its worker may be busy with the guest's requests.
    async fn see_grown(&mut self, disk: &str, size: Bytes) -> Result<(), DriverError> {
        let refused = |message: &str| DriverError::Refused {
            what: "make a disk larger",
            message: message.to_owned(),
        };
        let (pause, looks) = LOOKS;
        for _ in 0..looks {
            let stats = self.ask(json!({"do": "stats"})).await?;
            let told = stats.get("disks").and_then(Value::as_array);
            let of = |told: &&Value| told.get("id").and_then(Value::as_str) == Some(disk);
            let told = told.into_iter().flatten().find(of);
            let told = told.ok_or_else(|| refused("it tells of no such disk"))?;
            if told.get("capacity").and_then(Value::as_u64) >= Some(size.0) {
                return Ok(());
            }
            if let Some(problem) = told.get("problem").and_then(Value::as_str) {
                return Err(refused(problem));
            }
            tokio::time::sleep(pause).await;
        }
        Err(refused("the disk is busy and not larger yet"))
    }

    async fn ask(&mut self, mut request: Value) -> Result<Value, DriverError> {
        let what = self.what;
        let no_answer = |source| DriverError::NoAnswer { what, source };
        self.asked += 1;
        if let Some(request) = request.as_object_mut() {
            request.insert("id".to_owned(), self.asked.into());
        }
        self.line.send(&request).await.map_err(no_answer)?;
        loop {
            let mut answer = self.line.receive().await.map_err(no_answer)?;
            // An answer without a number is to a line that was not understood; what has neither is an event.
            if answer
                .get("id")
                .and_then(Value::as_u64)
                .is_some_and(|id| id != self.asked)
            {
                continue;
            }
            if let Some(error) = answer.get("error") {
                let message = error.get("message").and_then(Value::as_str);
                return Err(DriverError::Refused {
                    what,
                    message: message.map_or_else(|| error.to_string(), str::to_owned),
                });
            }
            if let Some(result) = answer.get_mut("ok") {
                return Ok(result.take());
            }
        }
    }
}

/// How the disks are, by what the monitor counts; one that it tells differently is left out.
fn disks(stats: &Value) -> BTreeMap<String, GuestDisk> {
    let disks = stats.get("disks").and_then(Value::as_array);
    let disks = disks.into_iter().flatten();
    disks
        .filter_map(|disk| {
            let target = disk.get("id")?.as_str()?.to_owned();
            Some((target, GuestDisk::deserialize(disk).ok()?))
        })
        .collect()
}

/// How often it is looked whether a disk is larger by now, and how many times.
const LOOKS: (Duration, u32) = (Duration::from_millis(20), 100);

fn text(object: &Value, key: &str) -> Option<String> {
    object.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// What the lines of `state` come to.
fn understand(state: &str) -> LastWords {
    let mut words = LastWords::default();
    for line in state.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let state = text(&line, "state");
        words.paused = state.as_deref() == Some("paused");
        let ended = state.as_deref() == Some("ended");
        let message = text(&line, "message");
        words.stopped = message.clone().filter(|_| words.paused);
        words.reason = text(&line, "reason").filter(|_| ended);
        words.message = message.filter(|_| ended);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_reports_of_its_memory_is_read_from_its_monitors_answer() {
        let stats = json!({"balloon": {
            "target": 5, "actual": 7, "reported": {"usable": 3, "odd": "x"}, "reported-at": 9,
        }});
        let told = reported(&stats);
        let told: Vec<_> = told
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        assert_eq!(told, [("actual", 7), ("last-update", 9), ("usable", 3)]);
        assert!(reported(&json!({"uptime-ms": 5})).is_empty());
    }

    #[test]
    fn the_last_line_that_is_whole_says_how_it_is() {
        let lines = concat!(
            r#"{"state":"running","pid":7,"seq":1}"#,
            "\n",
            r#"{"state":"paused","seq":2}"#,
            "\n",
        );
        assert!(understand(lines).paused);
        assert_eq!(understand(lines).reason, None);
        assert_eq!(understand(lines).stopped, None);
        let stopped = format!(
            "{lines}{}\n",
            r#"{"state":"paused","message":"disk vda could not write: x","seq":3}"#
        );
        let why = understand(&stopped).stopped;
        assert_eq!(why.as_deref(), Some("disk vda could not write: x"));
        assert_eq!(understand(&format!("{stopped}{lines}")).stopped, None);
        let ended = format!(
            "{lines}{}\n{{\"sta",
            r#"{"state":"ended","reason":"power-off","seq":3}"#
        );
        assert_eq!(understand(&ended).reason.as_deref(), Some("power-off"));
        assert!(!understand(&ended).paused);
        assert_eq!(understand(""), LastWords::default());
    }
}
