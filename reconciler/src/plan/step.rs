//! A plan as data: steps, refusals, changes that wait, and a digest that binds a confirmation to exactly this plan.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::execute::effect::Effect;
use crate::object::ObjectId;

/// The worst that a change does, from harmless to irreversible. Source: the third law of the house, "nothing is disturbed without leave".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Disruption {
    /// Nobody notices.
    #[default]
    Live,
    /// Takes effect when the guest next starts; nothing happens now.
    NextBoot,
    /// The guest is stopped and started.
    Restart,
    /// The object is removed and made anew.
    Recreate,
    /// Data is lost.
    DataLoss,
}

impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Live => "live",
            Self::NextBoot => "next-boot",
            Self::Restart => "restart",
            Self::Recreate => "recreate",
            Self::DataLoss => "data-loss",
        })
    }
}

/// What a step does to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Makes what is not there, as wanted for the first time.
    Create,
    /// Changes what is there to what is now wanted.
    Change,
    /// Puts back what something else has damaged: the definition has not changed.
    Repair,
    /// Starts a guest that is defined and not running.
    Start,
    /// Stops a guest.
    Stop,
    /// Stops and starts a guest, to make a change take effect.
    Restart,
    /// Removes what is no longer wanted.
    Delete,
    /// Stops keeping it, and leaves it on the host (`retain: keep`).
    Release,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Repair => "repair",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Delete => "delete",
            Self::Release => "release",
        })
    }
}

/// A place in a definition's file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// File.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One difference between what is and what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The field, as a path of elements: `cputune/shares`.
    pub field: String,
    /// Where it is stated, if it is.
    pub location: Option<Location>,
    /// What is, as one or more lines to show behind `-`; `None` where there is nothing.
    pub before: Option<String>,
    /// What is wanted, as one or more lines to show behind `+`; `None` where it goes.
    pub after: Option<String>,
    /// The worst that making it so does.
    pub disruption: Disruption,
}

/// One object's part of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Which object.
    pub object: ObjectId,
    /// What is done to it.
    pub verb: Verb,
    /// The worst effect.
    pub disruption: Disruption,
    /// One line for people: `2 vcpus, 512 MiB, driver builtin`.
    pub summary: String,
    /// Why, in a sentence an operator would write.
    pub why: String,
    /// The differences that caused it.
    pub differences: Vec<Difference>,
    /// Objects whose steps in this plan must have succeeded before.
    pub needs: Vec<ObjectId>,
    /// What is done, in order. The first that fails ends the step.
    pub effects: Vec<Effect>,
    /// What is done after a failure in `effects`, to leave nothing half made: hooks' `release end`, taps.
    pub undo: Vec<Effect>,
}

/// A change that is known and not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Which object.
    pub object: ObjectId,
    /// What it needs.
    pub needs: Disruption,
    /// What is allowed.
    pub allowed: Disruption,
    /// The differences that wait.
    pub differences: Vec<Difference>,
    /// Why it waits and what would let it go on.
    pub why: String,
}

/// Something that will not be done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which object, where one is known.
    pub object: Option<ObjectId>,
    /// Where it is stated.
    pub location: Option<Location>,
    /// What is wrong.
    pub message: String,
    /// What would be accepted.
    pub help: Option<String>,
    /// Name of the rule, one of [`vireo_schema::Rule`]: `unknown-reference`.
    pub rule: String,
}

/// An object kept at its last good definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which object.
    pub object: ObjectId,
    /// Why: `web.xml no longer parses`.
    pub why: String,
}

/// Something to know about an object that is as it should be, or will be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    /// Which object.
    pub object: ObjectId,
    /// What: `interface 0 waits for its address: until a lease shows it, only DHCP passes`.
    pub text: String,
}

/// What will be done, what will not, and why.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In an order that satisfies every step's `needs`.
    pub steps: Vec<Step>,
    /// Changes that wait for leave.
    pub pending: Vec<Pending>,
    /// What is refused.
    pub refusals: Vec<Refusal>,
    /// Objects held at their last good definition.
    pub held: Vec<Held>,
    /// Why the whole plan waits for a confirmation, if it does: `would remove 5 of 8 objects`.
    pub confirm: Option<String>,
    /// Objects that are as they should be.
    pub unchanged: usize,
    /// What is done otherwise than a definition's author may think.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

impl Plan {
    /// Takes out the steps that `out` names, and those that need one of them.
    pub fn leave_out(&mut self, mut out: impl FnMut(&Step) -> bool) {
        let mut gone = BTreeSet::new();
        self.steps.retain(|step| {
            let leave = out(step) || step.needs.iter().any(|need| gone.contains(need));
            if leave {
                gone.insert(step.object.clone());
            }
            !leave
        });
    }

    /// What binds a confirmation to exactly this plan: the first 16 hexadecimal digits of the SHA-256 of its JSON.
    pub fn digest(&self) -> String {
        // Every map in a plan is ordered and has keys that JSON can hold, so that equal plans give equal text.
        let json = serde_json::to_vec(self).unwrap_or_default();
        let mut text = String::with_capacity(16);
        for byte in Sha256::digest(&json).iter().take(8) {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Whether there is nothing to do, nothing waits, and nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.pending.is_empty() && self.refusals.is_empty()
    }
}
