//! A plan as text for people.
//!
//! In: a [`Plan`]. Out: one line an object (what it is, what is done, a summary), below it the differences with their place, why, and what it waits for; at the end one
//! sentence that counts. With colour, verbs and differences are marked by ANSI escapes; without, the text is the same byte for byte otherwise.

use std::fmt::Write as _;

use crate::object::{Kind, ObjectId};

use super::step::{Difference, Disruption, Held, Pending, Plan, Refusal, Step, Verb};

const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";
const DIM: &str = "2";

/// How a plan is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// With ANSI colours.
    pub colour: bool,
}

/// The whole plan.
pub fn plan(plan: &Plan, style: Style) -> String {
    let objects = plan
        .steps
        .iter()
        .map(|step| &step.object)
        .chain(plan.pending.iter().map(|pending| &pending.object));
    let width = objects.map(|o| o.to_string().len()).max().unwrap_or(0);
    let mut text = Text {
        out: String::new(),
        style,
        width,
    };
    for refusal in &plan.refusals {
        text.refusal(refusal);
    }
    for held in &plan.held {
        text.held(held);
    }
    for step in &plan.steps {
        text.step(step);
        text.notes(plan, &step.object);
    }
    for pending in &plan.pending {
        text.pending(pending);
    }
    if !text.out.is_empty() {
        text.out.push('\n');
    }
    text.out.push_str(&closing(plan));
    text.out.push('\n');
    if let Some(why) = &plan.confirm {
        let _ = writeln!(
            text.out,
            "This waits for your word, because {why}: `vireo apply --confirm {}`",
            plan.digest()
        );
    }
    text.out
}

/// One object's part of the plan, for `vireo why`; empty when the plan has nothing to say of it.
pub fn object(plan: &Plan, object: &ObjectId, style: Style) -> String {
    let mut text = Text {
        out: String::new(),
        style,
        width: object.to_string().len(),
    };
    let about = |other: &Option<ObjectId>| other.as_ref() == Some(object);
    plan.refusals
        .iter()
        .filter(|refusal| about(&refusal.object))
        .for_each(|refusal| text.refusal(refusal));
    plan.held
        .iter()
        .filter(|held| held.object == *object)
        .for_each(|held| text.held(held));
    plan.steps
        .iter()
        .filter(|step| step.object == *object)
        .for_each(|step| text.step(step));
    plan.pending
        .iter()
        .filter(|pending| pending.object == *object)
        .for_each(|pending| text.pending(pending));
    text.notes(plan, object);
    text.out
}

struct Text {
    out: String,
    style: Style,
    width: usize,
}

impl Text {
    fn paint(&self, colour: &str, text: &str) -> String {
        if self.style.colour {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn head(&mut self, object: &ObjectId, word: &str, colour: &str, rest: &str) {
        let name = format!("{:<width$}", object.to_string(), width = self.width);
        let word = self.paint(colour, &format!("{word:<8}"));
        let line = format!("{name}  {word}  {rest}");
        self.line(0, line.trim_end());
    }

    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.out, "{}{text}", "    ".repeat(depth));
    }

    fn step(&mut self, step: &Step) {
        let colour = match step.verb {
            Verb::Create | Verb::Start => GREEN,
            Verb::Change | Verb::Repair => YELLOW,
            Verb::Stop | Verb::Restart | Verb::Delete | Verb::Release => RED,
        };
        let rest = if step.verb == Verb::Change {
            step.disruption.to_string()
        } else {
            step.summary.clone()
        };
        self.head(&step.object, &step.verb.to_string(), colour, &rest);
        self.differences(&step.differences);
        if step.verb != Verb::Create || step.object.kind == Kind::Domain {
            let why = self.paint(DIM, &step.why);
            self.line(1, &why);
        }
        if !step.needs.is_empty() {
            let needs: Vec<String> = step.needs.iter().map(ToString::to_string).collect();
            self.line(1, &format!("after {}", needs.join(", ")));
        }
    }

    fn notes(&mut self, plan: &Plan, object: &ObjectId) {
        for note in plan.notes.iter().filter(|note| note.object == *object) {
            self.line(1, &format!("note: {}", note.text));
        }
    }

    fn pending(&mut self, pending: &Pending) {
        let rest = format!("needs {}, allowed: {}", pending.needs, pending.allowed);
        self.head(&pending.object, "pending", YELLOW, &rest);
        self.differences(&pending.differences);
        let why = self.paint(DIM, &pending.why);
        self.line(1, &why);
    }

    fn refusal(&mut self, refusal: &Refusal) {
        let what = match &refusal.object {
            Some(object) => format!("{object}  "),
            None => String::new(),
        };
        let word = self.paint(RED, "refused");
        self.line(0, &format!("{what}{word}  {}", refusal.message));
        if let Some(at) = &refusal.location {
            let at = format!("{}:{}:{}", at.file.display(), at.line, at.column);
            self.line(1, &format!("at {at}"));
        }
        if let Some(help) = &refusal.help {
            self.line(1, &format!("help: {help}"));
        }
    }

    fn held(&mut self, held: &Held) {
        let word = self.paint(YELLOW, "held");
        self.line(0, &format!("{}  {word}  {}", held.object, held.why));
    }

    fn differences(&mut self, differences: &[Difference]) {
        for difference in differences {
            let place = match &difference.location {
                Some(location) => {
                    let name = location.file.file_name().unwrap_or_default();
                    format!("{}:{}", name.to_string_lossy(), location.line)
                }
                None => difference.field.clone(),
            };
            let mut margin = place.clone();
            let sides = [
                ("-", RED, &difference.before),
                ("+", GREEN, &difference.after),
            ];
            for (mark, colour, side) in sides {
                for line in side.iter().flat_map(|text| text.lines()) {
                    let side = self.paint(colour, &format!("{mark} {line}"));
                    self.line(1, &format!("{margin}  {side}"));
                    margin = " ".repeat(place.chars().count());
                }
            }
        }
    }
}

/// `4 to create, 1 to change, 1 waits for leave. Nothing will be stopped or removed.`
fn closing(plan: &Plan) -> String {
    let count = |verb| plan.steps.iter().filter(|step| step.verb == verb).count();
    let verbs = [
        (Verb::Create, "to create"),
        (Verb::Change, "to change live"),
        (Verb::Repair, "to repair"),
        (Verb::Start, "to start"),
        (Verb::Stop, "to stop"),
        (Verb::Restart, "to restart"),
        (Verb::Delete, "to delete"),
        (Verb::Release, "to release"),
    ];
    let mut parts: Vec<String> = verbs
        .into_iter()
        .map(|(verb, words)| (count(verb), words))
        .filter(|(n, _)| *n > 0)
        .map(|(n, words)| format!("{n} {words}"))
        .collect();
    let disturbing = |step: &&Step| step.verb == Verb::Change && step.disruption > Disruption::Live;
    if plan.steps.iter().any(|step| disturbing(&step)) {
        parts.iter_mut().for_each(|part| {
            if let Some(short) = part.strip_suffix(" live") {
                *part = short.to_owned();
            }
        });
    }
    match plan.pending.len() {
        0 => {}
        1 => parts.push("1 waits for leave".to_owned()),
        n => parts.push(format!("{n} wait for leave")),
    }
    match plan.refusals.len() {
        0 => {}
        1 => parts.push("1 refused".to_owned()),
        n => parts.push(format!("{n} refused")),
    }
    if plan.steps.is_empty() && parts.is_empty() {
        let objects = match plan.unchanged {
            1 => "1 object is".to_owned(),
            n => format!("{n} objects are"),
        };
        return format!("Nothing to do: {objects} as wanted.");
    }
    let stops = [Verb::Stop, Verb::Restart, Verb::Delete]
        .into_iter()
        .any(|verb| count(verb) > 0);
    let tail = if plan.steps.is_empty() {
        " Nothing will be done."
    } else if stops {
        ""
    } else {
        " Nothing will be stopped or removed."
    };
    format!("{}.{tail}", parts.join(", "))
}
