//! When an object may be tried again.
//!
//! A failed object waits: one second, then twice as long each time up to five minutes, give or take a quarter, so that a hundred failing objects do not knock together.
//! What only a change can cure waits for a change. An object that is put right again and again, and does not stay so, is treated as failing: somebody else changes
//! it, or its guest ends as soon as it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::execute::effect::EffectError;
use crate::object::ObjectId;
use crate::plan::step::{Plan, Step};
use crate::status::{Failure, Outcome, Report};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// This many equal steps in a row, each within [`SETTLED`] of the one before, are a fight.
const FIGHT: u32 = 6;

/// After this long without a step an object is settled, and what it did before is forgotten.
const SETTLED: Duration = Duration::from_secs(60);

/// What is remembered of the objects that gave trouble. Lost with the agent, which costs one early attempt.
#[derive(Debug, Default)]
pub struct Retries {
    failed: BTreeMap<ObjectId, Failed>,
    repeated: BTreeMap<ObjectId, Repeated>,
}

#[derive(Debug)]
struct Failed {
    attempts: u32,
    error: EffectError,
    /// What was tried: another step than this is tried at once.
    step: [u8; 32],
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Repeated {
    step: [u8; 32],
    times: u32,
    last: Instant,
}

impl Retries {
    /// Takes those steps out of the plan whose object has to wait, and those that need them.
    pub fn hold_back(&mut self, plan: &mut Plan, now: Instant) {
        self.failed
            .retain(|object, _| plan.steps.iter().any(|step| step.object == *object));
        self.repeated
            .retain(|_, repeated| now.duration_since(repeated.last) < SETTLED);
        plan.leave_out(|step| {
            self.failed.get(&step.object).is_some_and(|failed| {
                failed.step == fingerprint(step) && failed.not_before.is_none_or(|time| time > now)
            })
        });
    }

    /// Learns from how steps ended.
    pub fn learn(&mut self, plan: &Plan, reports: &[Report], now: Instant) {
        for report in reports {
            let Some(step) = plan.steps.iter().find(|step| step.object == report.object) else {
                continue;
            };
            match &report.outcome {
                Outcome::Failed(error) => self.fail(step, error.clone(), now),
                Outcome::Skipped { .. } | Outcome::Cancelled => {}
                _ => {
                    self.failed.remove(&report.object);
                    self.repeat(step, now);
                }
            }
        }
    }

    /// What is failing, for people.
    pub fn failures(&self, now: Instant) -> Vec<Failure> {
        let failure = |(object, failed): (&ObjectId, &Failed)| Failure {
            object: object.clone(),
            attempts: failed.attempts,
            error: failed.error.clone(),
            retry_in: failed
                .not_before
                .map(|time| time.saturating_duration_since(now)),
        };
        self.failed.iter().map(failure).collect()
    }

    /// The next moment at which something may be tried again.
    pub fn next(&self) -> Option<Instant> {
        self.failed
            .values()
            .filter_map(|failed| failed.not_before)
            .min()
    }

    fn fail(&mut self, step: &Step, error: EffectError, now: Instant) {
        let before = self.failed.remove(&step.object);
        let fingerprint = fingerprint(step);
        let attempts = before
            .filter(|before| before.step == fingerprint)
            .map_or(1, |before| before.attempts + 1);
        let not_before = error.retry.then(|| now + wait(&step.object, attempts));
        self.failed.insert(
            step.object.clone(),
            Failed {
                attempts,
                error,
                step: fingerprint,
                not_before,
            },
        );
    }

    fn repeat(&mut self, step: &Step, now: Instant) {
        let fingerprint = fingerprint(step);
        let times = match self.repeated.get(&step.object) {
            Some(before) if before.step == fingerprint => before.times + 1,
            _ => 1,
        };
        self.repeated.insert(
            step.object.clone(),
            Repeated {
                step: fingerprint,
                times,
                last: now,
            },
        );
        if times >= FIGHT {
            let message = format!(
                "was put right {times} times within minutes and does not stay so ({})",
                step.why
            );
            self.fail(step, EffectError::passing(message), now);
            if let Some(failed) = self.failed.get_mut(&step.object) {
                failed.attempts = times - FIGHT + 1;
                failed.not_before = Some(now + wait(&step.object, failed.attempts + 2));
            }
        }
    }
}

/// What a step does, whatever process numbers and such are in its sentences.
fn fingerprint(step: &Step) -> [u8; 32] {
    // Effects are plain data; what serde could not write would merely be told apart from nothing.
    let text = serde_json::to_vec(&(&step.object, step.verb, &step.summary, step.effects.len()))
        .unwrap_or_default();
    Sha256::digest(text).into()
}

/// Exponential, with a quarter of jitter either way that depends on the object and the attempt alone.
fn wait(object: &ObjectId, attempts: u32) -> Duration {
    let full = FIRST
        .saturating_mul(1 << attempts.saturating_sub(1).min(16))
        .min(LONGEST);
    let mixed = object
        .uuid
        .as_u128()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(u128::from(attempts) << 57);
    let part = ((mixed >> 64) % 512) as u32;
    full * 3 / 4 + full * part / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;
    use crate::plan::step::{Disruption, Verb};
    use uuid::Uuid;

    fn step(summary: &str) -> Step {
        Step {
            object: ObjectId::new(Kind::Domain, Uuid::from_u128(1), "web"),
            verb: Verb::Create,
            disruption: Disruption::Live,
            summary: summary.to_owned(),
            why: "it is wanted".to_owned(),
            differences: Vec::new(),
            needs: Vec::new(),
            effects: Vec::new(),
            undo: Vec::new(),
        }
    }

    fn plan(summary: &str) -> Plan {
        Plan {
            steps: vec![step(summary)],
            ..Plan::default()
        }
    }

    fn report(outcome: Outcome) -> Vec<Report> {
        let step = step("");
        vec![Report {
            object: step.object,
            verb: step.verb,
            outcome,
            why: step.why,
            took: Duration::ZERO,
        }]
    }

    fn held(retries: &mut Retries, summary: &str, now: Instant) -> bool {
        let mut plan = plan(summary);
        retries.hold_back(&mut plan, now);
        plan.steps.is_empty()
    }

    #[test]
    fn waits_double_up_to_five_minutes_give_or_take_a_quarter() {
        let object = ObjectId::new(Kind::Domain, Uuid::from_u128(0x1234_5678), "web");
        for attempts in 1..40 {
            let nominal = FIRST
                .saturating_mul(1 << (attempts - 1).min(16))
                .min(LONGEST);
            let actual = wait(&object, attempts);
            assert!(
                actual >= nominal * 3 / 4 && actual <= nominal * 5 / 4,
                "{attempts}: {actual:?}"
            );
        }
    }

    #[test]
    fn a_failed_object_waits_and_is_then_tried_again() {
        let mut retries = Retries::default();
        let now = Instant::now();
        retries.learn(
            &plan("a"),
            &report(Outcome::Failed(EffectError::passing("no"))),
            now,
        );
        assert!(held(&mut retries, "a", now));
        assert!(!held(&mut retries, "a", now + Duration::from_secs(2)));
    }

    #[test]
    fn a_changed_step_is_tried_at_once() {
        let mut retries = Retries::default();
        let now = Instant::now();
        retries.learn(
            &plan("a"),
            &report(Outcome::Failed(EffectError::lasting("no", "change it"))),
            now,
        );
        assert!(held(&mut retries, "a", now + Duration::from_secs(3600)));
        assert!(!held(&mut retries, "b", now));
    }

    #[test]
    fn what_does_not_stay_put_right_is_a_failure() {
        let mut retries = Retries::default();
        let now = Instant::now();
        for _ in 0..FIGHT {
            assert!(!held(&mut retries, "a", now));
            retries.learn(&plan("a"), &report(Outcome::Updated), now);
        }
        assert!(held(&mut retries, "a", now));
        assert_eq!(retries.failures(now).len(), 1);
    }

    #[test]
    fn what_is_settled_is_no_fight() {
        let mut retries = Retries::default();
        let mut now = Instant::now();
        for _ in 0..2 * FIGHT {
            assert!(!held(&mut retries, "a", now));
            retries.learn(&plan("a"), &report(Outcome::Updated), now);
            now += SETTLED;
        }
        assert!(retries.failures(now).is_empty());
    }
}
