//! `vireo why`: explain one object.

use clap::Args;
use serde::Serialize;

use super::complaint::plain;
use super::output::{self, coloured};
use super::{Common, DONE, object};
use crate::api::client::Client;
use crate::controller::look;
use crate::object::ObjectId;
use crate::plan::render::{self, Style};
use crate::plan::step::{Held, Pending, Plan, Refusal, Step};
use crate::status::{self, ObjectStatus, Report};

/// Tells where an object is defined, how it does, what is planned for it and why, what waits for leave, and what was done lately.
#[derive(Debug, Args)]
pub struct Why {
    /// The object: NAME, KIND/NAME or UUID
    object: String,
}

#[derive(Serialize)]
struct Answer {
    object: ObjectId,
    defined: Option<String>,
    status: Option<ObjectStatus>,
    steps: Vec<Step>,
    pending: Vec<Pending>,
    refusals: Vec<Refusal>,
    held: Vec<Held>,
    history: Vec<Report>,
}

impl Why {
    /// Exit status: 0 explained, 1 there is no such object.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        let look = look(&*common.host()?, &common.source())
            .await
            .map_err(|error| plain(&error))?;
        let agent = Client::new(&common.socket()).status().await.ok();
        let object = object::find(&look, &self.object, &[])?;
        let own = status::of(&look.desired, &look.inventory, &look.plan, &[]);
        let statuses = agent.as_ref().map_or(&own, |agent| &agent.objects);
        let history = agent.iter().flat_map(|agent| &agent.history);
        let plan = &look.plan;
        let answer = Answer {
            defined: look
                .desired
                .objects
                .get(&object)
                .map(|wanted| wanted.location.to_string()),
            status: statuses
                .iter()
                .find(|status| status.object == object)
                .cloned(),
            steps: plan
                .steps
                .iter()
                .filter(|step| step.object == object)
                .cloned()
                .collect(),
            pending: plan
                .pending
                .iter()
                .filter(|pending| pending.object == object)
                .cloned()
                .collect(),
            refusals: plan
                .refusals
                .iter()
                .filter(|refusal| refusal.object.as_ref() == Some(&object))
                .cloned()
                .collect(),
            held: plan
                .held
                .iter()
                .filter(|held| held.object == object)
                .cloned()
                .collect(),
            history: history
                .filter(|report| report.object == object)
                .cloned()
                .collect(),
            object,
        };
        let colour = coloured(common.color, &std::io::stdout());
        output::print(common.output, &answer, || text(&answer, plan, colour))?;
        Ok(DONE)
    }
}

fn text(answer: &Answer, plan: &Plan, colour: bool) -> String {
    let mut text = format!("{} (uuid {})\n", answer.object, answer.object.uuid);
    match &answer.defined {
        Some(place) => text.push_str(&format!("  defined in {place}\n")),
        None => text
            .push_str("  in no definition any more; what is known of it comes from the ledger\n"),
    }
    if let Some(status) = &answer.status {
        text.push_str(&format!("  {}: {}\n", status.condition, status.message));
    }
    let planned = render::object(plan, &answer.object, Style { colour });
    if !planned.is_empty() {
        text.push('\n');
        text.push_str(&planned);
    }
    if !answer.history.is_empty() {
        text.push_str("\nLately:\n");
    }
    for report in &answer.history {
        let outcome = match &report.outcome {
            status::Outcome::Failed(error) => format!("failed: {error}"),
            status::Outcome::Skipped { need } => format!("not begun: {need} failed"),
            other => format!("{other:?}").to_lowercase(),
        };
        text.push_str(&format!("  {} ({}): {outcome}\n", report.verb, report.why));
    }
    text
}
