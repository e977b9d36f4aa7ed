//! How objects do: the outcome of the last attempt, and the condition that follows.
//!
//! One result type feeds the log, the events, the API and the command line, so that they never disagree.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::desired::Desired;
use crate::execute::effect::EffectError;
use crate::inventory::Inventory;
use crate::object::{Kind, ObjectId};
use crate::plan::step::{Plan, Verb};

/// What came of one object in one pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was not there, and is now.
    Created,
    /// It was changed or repaired.
    Updated,
    /// It is gone from the host.
    Deleted,
    /// It is no longer kept, and still on the host.
    Released,
    /// An effect failed.
    Failed(EffectError),
    /// Something it needs failed first.
    Skipped {
        /// What failed.
        need: ObjectId,
    },
    /// The agent was told to stop before it began.
    Cancelled,
}

impl Outcome {
    /// The outcome of a step that succeeded.
    pub fn done(verb: Verb) -> Self {
        match verb {
            Verb::Create => Self::Created,
            Verb::Delete => Self::Deleted,
            Verb::Release => Self::Released,
            Verb::Change | Verb::Repair | Verb::Start | Verb::Stop | Verb::Restart => Self::Updated,
        }
    }

    /// Whether the object is now as the plan wanted it.
    pub fn succeeded(&self) -> bool {
        matches!(
            self,
            Self::Created | Self::Updated | Self::Deleted | Self::Released
        )
    }
}

/// One step's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which object.
    pub object: ObjectId,
    /// What was to be done.
    pub verb: Verb,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it was to be done.
    pub why: String,
    /// How long it took.
    pub took: Duration,
}

/// The few words for how an object does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// The host is as the definition says.
    Ready,
    /// A step is planned or at work.
    Progressing,
    /// A change waits for leave.
    Pending,
    /// Kept at its last good definition.
    Held,
    /// Something failed or is refused.
    Degraded,
    /// Not reconciled, as its policy says.
    Suspended,
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Pending => "Pending",
            Self::Held => "Held",
            Self::Degraded => "Degraded",
            Self::Suspended => "Suspended",
        })
    }
}

/// A failure that is remembered until the object succeeds or its definition changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which object.
    pub object: ObjectId,
    /// How often in a row.
    pub attempts: u32,
    /// The last error.
    pub error: EffectError,
    /// How long until the next attempt; `None` when only a change can help.
    pub retry_in: Option<Duration>,
}

/// How one object does, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectStatus {
    /// Which object.
    pub object: ObjectId,
    /// The word.
    pub condition: Condition,
    /// The sentence.
    pub message: String,
    /// What a running guest last reported of its memory, by name: bytes, or counts of events since its boot. Its own word.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub memory: BTreeMap<String, u64>,
}

/// How every object does: the desired ones, and those that are still to be removed.
///
/// What running guests report is taken from the inventory. A failure outweighs a refusal, a refusal a hold, a hold a pending change, and all of them a step.
pub fn of(
    desired: &Desired,
    inventory: &Inventory,
    plan: &Plan,
    failures: &[Failure],
) -> Vec<ObjectStatus> {
    let mut statuses = BTreeMap::new();
    let mut say = |object: &ObjectId, condition, message: &str| {
        statuses.insert(object.clone(), (condition, message.to_owned()));
    };
    for (id, wanted) in &desired.objects {
        if wanted.policy.suspend {
            say(id, Condition::Suspended, "its policy says suspend");
        } else {
            say(id, Condition::Ready, "as defined");
        }
    }
    for step in &plan.steps {
        say(
            &step.object,
            Condition::Progressing,
            &format!("{}: {}", step.verb, step.why),
        );
    }
    for pending in &plan.pending {
        say(&pending.object, Condition::Pending, &pending.why);
    }
    for held in &plan.held {
        say(&held.object, Condition::Held, &held.why);
    }
    for refusal in &plan.refusals {
        if let Some(object) = &refusal.object {
            say(object, Condition::Degraded, &refusal.message);
        }
    }
    for failure in failures {
        let next = match failure.retry_in {
            Some(wait) => format!(
                "attempt {} in {} s",
                failure.attempts + 1,
                wait.as_secs().max(1)
            ),
            None => "waits for a change".to_owned(),
        };
        say(
            &failure.object,
            Condition::Degraded,
            &format!("{}; {next}", failure.error),
        );
    }
    statuses
        .into_iter()
        .map(|(object, (condition, message))| ObjectStatus {
            memory: match inventory.guests.get(&object.uuid) {
                Some(guest) if object.kind == Kind::Domain => guest.memory.clone(),
                _ => BTreeMap::new(),
            },
            object,
            condition,
            message,
        })
        .collect()
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
