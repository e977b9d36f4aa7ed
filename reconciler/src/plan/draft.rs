//! A step in the making: its effects, each with the reason for it, and the ledger entries around them.

use crate::desired::{Resolved, Wanted};
use crate::execute::effect::Effect;
use crate::ledger::{Entry, Holds, Ledger};
use crate::object::ObjectId;
use vireo_schema::Rule;

use super::step::{Difference, Disruption, Held, Pending, Refusal, Step, Verb};

/// What a planner found about one object. Nothing at all means that the object is as it should be.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub step: Option<Step>,
    pub pending: Option<Pending>,
    pub refusals: Vec<Refusal>,
    pub held: Vec<Held>,
}

impl Found {
    pub fn is_nothing(&self) -> bool {
        self.step.is_none()
            && self.pending.is_none()
            && self.refusals.is_empty()
            && self.held.is_empty()
    }

    /// Only refusals.
    pub fn refused(refusal: Refusal) -> Self {
        Self {
            refusals: vec![refusal],
            ..Self::default()
        }
    }

    /// A step, or nothing.
    pub fn step(step: Option<Step>) -> Self {
        Self {
            step,
            ..Self::default()
        }
    }
}

/// A refusal of a wanted object, at the place where it is stated.
pub(super) fn refusal(wanted: &Wanted, rule: Rule, message: String, help: &str) -> Refusal {
    Refusal {
        object: Some(wanted.id.clone()),
        location: Some(wanted.location.clone()),
        message,
        help: (!help.is_empty()).then(|| help.to_owned()),
        rule: rule.to_string(),
    }
}

/// What an object that is fully made holds on the host under names that its definition could change.
pub(super) fn holds(resolved: &Resolved) -> Holds {
    match resolved {
        Resolved::Pool(pool) => Holds {
            path: Some(pool.path.clone()),
            permissions: pool.permissions.clone(),
        },
        Resolved::Volume(volume) => Holds {
            path: Some(volume.path.clone()),
            permissions: volume.permissions.clone(),
        },
        Resolved::Network(_) | Resolved::NwFilter(_) | Resolved::Domain(_) => Holds::default(),
    }
}

/// The ledger's page of one object: what it says, and what it is to say once the object is as wanted.
#[derive(Debug)]
pub(super) struct Page<'a> {
    old: Option<&'a Entry>,
    new: Entry,
}

impl<'a> Page<'a> {
    pub fn open(ledger: &'a Ledger, wanted: &Wanted) -> Self {
        Self {
            old: ledger.get(&wanted.id),
            new: Entry {
                object: wanted.id.clone(),
                file: wanted.file.clone(),
                definition: wanted.xml.clone(),
                holds: holds(&wanted.resolved),
                made: true,
            },
        }
    }

    /// The entry as the ledger has it.
    pub const fn old(&self) -> Option<&'a Entry> {
        self.old
    }

    /// The object has never been made whole.
    pub fn is_new(&self) -> bool {
        !self.old.is_some_and(|entry| entry.made)
    }

    /// The definition is another than that which was last applied.
    pub fn is_changed(&self) -> bool {
        self.old
            .is_none_or(|entry| entry.definition != self.new.definition)
    }

    /// Written before the first effect: the object is ours from here on.
    pub fn before(&self) -> Option<Effect> {
        self.old.is_none().then(|| {
            Effect::Record(Box::new(Entry {
                made: false,
                ..self.new.clone()
            }))
        })
    }

    /// Written after the last effect: this definition has been applied.
    pub fn after(&self) -> Option<Effect> {
        (self.old != Some(&self.new)).then(|| Effect::Record(Box::new(self.new.clone())))
    }

    /// Why an entry that needs no effect on the host is written all the same.
    pub fn reason(&self) -> String {
        match self.old {
            Some(entry) if entry.definition == self.new.definition => format!(
                "stated by {} now; nothing changes on the host",
                self.new.file.display()
            ),
            _ => "nothing changes on the host".to_owned(),
        }
    }
}

/// Effects with their reasons.
#[derive(Debug, Default)]
pub(super) struct Work {
    pub reasons: Vec<String>,
    pub effects: Vec<Effect>,
    pub undo: Vec<Effect>,
}

impl Work {
    /// Plans an effect, for this reason.
    pub fn act(&mut self, reason: impl Into<String>, effect: Effect) {
        self.because(reason);
        self.effects.push(effect);
    }

    /// Gives a reason for effects that follow; an empty one is none.
    pub fn because(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if !reason.is_empty() && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// Plans an effect that the reasons so far already explain.
    pub fn also(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }
}

/// What a step says beside its effects.
#[derive(Debug, Default)]
pub(super) struct Says {
    pub summary: String,
    pub differences: Vec<Difference>,
    pub needs: Vec<ObjectId>,
    /// The sentence of a step that makes the object for the first time.
    pub create: String,
}

/// The step that does this work and keeps the page, or `None` when there is neither.
///
/// The verb follows from the ledger: what was never made is created, what is stated otherwise than before is changed, and what differs although nothing is
/// stated otherwise has been damaged.
pub(super) fn finish(page: &Page<'_>, work: Work, says: Says) -> Option<Step> {
    let after = page.after();
    if work.is_empty() && after.is_none() {
        return None;
    }
    let verb = match (page.is_new(), page.is_changed() || work.is_empty()) {
        (true, _) => Verb::Create,
        (false, true) => Verb::Change,
        (false, false) => Verb::Repair,
    };
    let why = match verb {
        Verb::Create if !says.create.is_empty() => says.create,
        _ if work.reasons.is_empty() => page.reason(),
        _ => work.reasons.join("; "),
    };
    let disruption = says
        .differences
        .iter()
        .map(|difference| difference.disruption)
        .max()
        .unwrap_or(Disruption::Live);
    Some(Step {
        object: page.new.object.clone(),
        verb,
        disruption,
        summary: says.summary,
        why,
        differences: says.differences,
        needs: says.needs,
        effects: page
            .before()
            .into_iter()
            .chain(work.effects)
            .chain(after)
            .collect(),
        undo: work.undo,
    })
}
