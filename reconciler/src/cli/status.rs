//! `vireo status`: how every object does.

use clap::Args;
use serde::Serialize;

use super::complaint::plain;
use super::output::{self, coloured};
use super::{Common, DONE, PROBLEM};
use crate::api::client::{Client, ClientError};
use crate::controller::look;
use crate::status::{self as state, Condition, ObjectStatus};

/// Tells each object's condition and why. Asks the agent, which knows what failed and when it tries again; without one, looks for itself.
#[derive(Debug, Args)]
pub struct Status {
    /// Wait until nothing is at work, at most this many seconds, before telling
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Answer {
    agent: Option<u32>,
    settled: bool,
    error: Option<String>,
    objects: Vec<ObjectStatus>,
}

impl Status {
    /// Exit status: 0 every object is as defined or on its way, 1 something is degraded or held.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        let answer = self.ask(common).await?;
        let bad = |status: &ObjectStatus| {
            matches!(status.condition, Condition::Degraded | Condition::Held)
        };
        let problem = answer.error.is_some() || answer.objects.iter().any(bad);
        let colour = coloured(common.color, &std::io::stdout());
        output::print(common.output, &answer, || text(&answer, colour))?;
        Ok(if problem { PROBLEM } else { DONE })
    }

    async fn ask(&self, common: &Common) -> miette::Result<Answer> {
        let client = Client::new(&common.socket());
        let status = match self.wait {
            Some(wait) => client.pass(wait).await,
            None => client.status().await,
        };
        match status {
            Ok(status) => Ok(Answer {
                agent: Some(status.pid),
                settled: status.settled,
                error: status.error,
                objects: status.objects,
            }),
            Err(ClientError::Absent { .. }) => {
                let look = look(&*common.host()?, &common.source())
                    .await
                    .map_err(|error| plain(&error))?;
                Ok(Answer {
                    agent: None,
                    settled: look.plan.steps.is_empty(),
                    error: None,
                    objects: state::of(&look.desired, &look.inventory, &look.plan, &[]),
                })
            }
            Err(error) => Err(plain(&error)),
        }
    }
}

fn text(answer: &Answer, colour: bool) -> String {
    let row = |status: &ObjectStatus| {
        vec![
            status.object.kind.to_string(),
            status.object.name.clone(),
            status.condition.to_string(),
            status.message.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = answer.objects.iter().map(row).collect();
    let mut text = output::table(&["KIND", "NAME", "CONDITION", "MESSAGE"], &rows);
    if colour {
        text = paint(&text);
    }
    if let Some(error) = &answer.error {
        text.push_str(&format!("\nThe last pass could not look: {error}\n"));
    }
    text.push_str(&match (answer.agent, answer.settled) {
        (Some(pid), true) => format!("\nAn agent keeps it so (pid {pid}); nothing is at work.\n"),
        (Some(pid), false) => format!("\nAn agent is at work (pid {pid}).\n"),
        (None, _) => "\nNo agent runs: what is shown is how the host is now. `vireo run` keeps it as defined.\n".to_owned(),
    });
    text
}

/// Colours the words for conditions, each where it stands as a column.
fn paint(text: &str) -> String {
    let colours = [
        (Condition::Ready, 32),
        (Condition::Progressing, 36),
        (Condition::Pending, 33),
        (Condition::Held, 33),
        (Condition::Degraded, 31),
        (Condition::Suspended, 90),
    ];
    let mut painted = text.to_owned();
    for (condition, code) in colours {
        painted = painted.replace(
            &format!("  {condition}"),
            &format!("  \x1b[{code}m{condition}\x1b[0m"),
        );
    }
    painted
}
