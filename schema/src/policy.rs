//! What libvirt's format cannot say: how an object is wanted, and what may be done to it.
//!
//! In XML it is `<vireo:policy xmlns:vireo='urn:vireo:policy:1' …/>` inside of `<metadata>` (directly inside of the root where libvirt's format has no metadata); in YAML the
//! key `policy`. All of it is optional; the methods say what holds where nothing is stated.

use crate::definition::Kind;
use crate::scalar::{Form, Name, Scalar, ScalarInfo, YesNo};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

choice! {
    /// The run state an object is wanted in.
    pub enum WantedState {
        /// It runs (a network or pool is up).
        Running = "running",
        /// It is defined, but does not run.
        Stopped = "stopped",
        /// A guest that holds its memory and does not execute.
        Paused = "paused",
    }
}

choice! {
    /// How much a change disturbs; later is worse.
    pub enum Disruption {
        /// Nothing stops.
        Live = "live",
        /// Takes effect when the object next starts.
        NextBoot = "next-boot",
        /// The object must be stopped and started.
        Restart = "restart",
        /// The object must be removed and made anew; its data stays.
        Recreate = "recreate",
        /// Data would be lost.
        DataLoss = "data-loss",
    }
}

choice! {
    /// What happens to an object's data when its definition goes.
    pub enum Retain {
        /// The data stays.
        Keep = "keep",
        /// The data is deleted too.
        Delete = "delete",
    }
}

choice! {
    /// What runs a guest.
    pub enum Driver {
        /// vireo's own monitor.
        Builtin = "builtin",
        /// QEMU.
        Qemu = "qemu",
    }
}

/// Another object by kind and name: `network/default`, `volume/images/web.qcow2`.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name; a volume's is `pool/name`.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl FromStr for ObjectRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').ok_or_else(|| {
            format!("has `{text}`, which is not `kind/name`, such as network/default")
        })?;
        if name.is_empty() {
            return Err(format!("has `{text}`, which lacks the name after `/`"));
        }
        Ok(Self {
            kind: kind
                .parse()
                .map_err(|_| format!("has the unknown kind `{kind}`"))?,
            name: name.to_owned(),
        })
    }
}

/// A list of objects, written with white space between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectRefs(pub Vec<ObjectRef>);

impl Scalar for ObjectRefs {
    const INFO: ScalarInfo = ScalarInfo::new(
        "objects such as network/default, with spaces between them",
        Form::Joined(" "),
    )
    .matching("/");

    fn parse(text: &str) -> Result<Self, String> {
        let refs: Vec<ObjectRef> = text
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        if refs.is_empty() {
            Err("is empty".into())
        } else {
            Ok(Self(refs))
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(
            self.0
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
        )
    }
}

element! {
    /// How an object is wanted, and what may be done to it.
    pub struct Policy {
        /// The run state wanted; running where not stated.
        attr "state" state: WantedState,
        /// The worst that a change may do; live where not stated.
        attr "disruption" disruption: Disruption,
        /// Objects that must be ready before this one, beyond those that it refers to.
        attr "depends-on" depends_on: ObjectRefs,
        /// Whether vireo leaves this object alone for now, changes waiting.
        attr "suspend" suspend: YesNo,
        /// Whether this object is never removed.
        attr "protect" protect: YesNo,
        /// What happens to the data when the definition goes; volumes and pools keep it where not stated.
        attr "retain" retain: Retain,
        /// What runs a guest; chosen by what the guest needs where not stated.
        attr "driver" driver: Driver,
        /// The pool that a volume lies in.
        attr "pool" pool: Name,
        /// How long a guest may take to shut down before it is forced off.
        attr "shutdown-timeout" shutdown_timeout: Duration,
    }
}

impl Policy {
    /// The run state wanted.
    pub fn wanted_state(&self) -> WantedState {
        self.state.unwrap_or(WantedState::Running)
    }

    /// The worst that a change may do.
    pub fn allowed(&self) -> Disruption {
        self.disruption.unwrap_or(Disruption::Live)
    }

    /// Whether vireo leaves the object alone.
    pub fn is_suspended(&self) -> bool {
        self.suspend.is_some_and(YesNo::is_yes)
    }

    /// Whether the object is never removed.
    pub fn is_protected(&self) -> bool {
        self.protect.is_some_and(YesNo::is_yes)
    }

    /// What happens to the data when the definition goes.
    pub fn retention(&self, kind: Kind) -> Retain {
        let default = if matches!(kind, Kind::Volume | Kind::Pool) {
            Retain::Keep
        } else {
            Retain::Delete
        };
        self.retain.unwrap_or(default)
    }

    /// The objects that must be ready first, as stated.
    pub fn needs(&self) -> &[ObjectRef] {
        self.depends_on.as_ref().map_or(&[], |refs| &refs.0)
    }

    /// How long a guest may take to shut down; 60 seconds where not stated.
    pub fn shutdown_deadline(&self) -> Duration {
        self.shutdown_timeout.unwrap_or(Duration::from_secs(60))
    }
}
