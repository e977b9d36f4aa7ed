//! `vireo apply`: make the host as the definitions say, once.

use std::time::Duration;

use clap::Args;
use miette::{IntoDiagnostic as _, bail};
use tokio_util::sync::CancellationToken;

use super::complaint::plain;
use super::consent;
use super::output::{self, coloured};
use super::{Common, DONE, Format, PROBLEM};
use crate::api::client::{Client, ClientError};
use crate::controller::{Look, look};
use crate::execute::executor::{Executor, Progress};
use crate::ledger::store::{Lock, LockError};
use crate::plan::render::{self, Style};
use crate::plan::step::{Plan, Verb};
use crate::status::{Outcome, Report};

/// How often the host is looked at again after a round of steps: what one round makes possible, the next does.
const ROUNDS: usize = 5;

/// Shows the plan, asks, and carries it out. Waits until every step has ended.
///
/// With an agent running, asks the agent to do it and waits for it.
#[derive(Debug, Args)]
pub struct Apply {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Carry out a plan that removes much, named by its digest (`vireo plan` prints it; the first 12 digits are enough)
    #[arg(long, value_name = "DIGEST")]
    confirm: Option<String>,
    /// How long to wait for an agent, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    wait: u64,
}

impl Apply {
    /// Exit status: 0 the host is as defined, 1 something failed, is refused or waits for confirmation.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        match Lock::take(&common.state_dir) {
            Ok(lock) => self.alone(common, lock).await,
            Err(LockError::Held { .. }) => self.through_the_agent(common).await,
            Err(error) => Err(plain(&error)),
        }
    }

    async fn alone(self, common: &Common, _lock: Lock) -> miette::Result<u8> {
        let host = common.host()?;
        let source = common.source();
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone())?;
        let executor = Executor::new(host.clone(), stop.clone());
        let first = look(&*host, &source).await.map_err(|error| plain(&error))?;
        let Some(mut plan) = self.consented(common, &first)? else {
            return Ok(PROBLEM);
        };
        let first_failed = self.shown_problem(&first);
        let mut reports: Vec<Report> = Vec::new();
        let mut last = first;
        for _ in 0..ROUNDS {
            if plan.steps.is_empty() || stop.is_cancelled() {
                break;
            }
            let ended = execute(&executor, &plan, common).await;
            let failed = ended.iter().any(|report| !report.outcome.succeeded());
            reports.extend(ended);
            last = look(&*host, &source).await.map_err(|error| plain(&error))?;
            if failed {
                break;
            }
            plan = last.plan.clone();
            // Leave to remove was given for the plan that was shown, not for what follows from it.
            plan.leave_out(|step| matches!(step.verb, Verb::Delete | Verb::Release));
        }
        self.finish(
            common,
            &reports,
            &last,
            first_failed || !plan.steps.is_empty(),
        )
    }

    /// The plan that may be carried out: shown and agreed to. `None` when it was declined.
    fn consented(&self, common: &Common, look: &Look) -> miette::Result<Option<Plan>> {
        let mut plan = look.plan.clone();
        if common.output == Format::Text {
            eprint!(
                "{}",
                render::plan(
                    &plan,
                    Style {
                        colour: coloured(common.color, &std::io::stderr())
                    }
                )
            );
        }
        if plan.steps.is_empty() {
            return Ok(Some(plan));
        }
        if let Some(why) = plan.confirm.clone() {
            let digest = plan.digest();
            match &self.confirm {
                Some(given) if given.len() >= 12 && digest.starts_with(given.as_str()) => {}
                Some(_) => bail!(
                    help = format!(
                        "the plan's digest is now {}; look at it again",
                        &digest[..12]
                    ),
                    "the plan is not the one that was confirmed"
                ),
                None => {
                    eprintln!("not removing anything: {why}");
                    eprintln!("if that is meant: vireo apply --confirm {}", &digest[..12]);
                    plan.leave_out(|step| matches!(step.verb, Verb::Delete | Verb::Release));
                }
            }
        }
        if plan.steps.is_empty() || self.yes || self.confirm.is_some() {
            return Ok(Some(plan));
        }
        Ok(consent::asked("apply")?.then_some(plan))
    }

    fn shown_problem(&self, look: &Look) -> bool {
        !look.plan.refusals.is_empty() || (look.plan.confirm.is_some() && self.confirm.is_none())
    }

    fn finish(
        &self,
        common: &Common,
        reports: &[Report],
        last: &Look,
        problem: bool,
    ) -> miette::Result<u8> {
        output::print(common.output, &reports, || summary(reports, last))?;
        let failed = reports.iter().any(|report| !report.outcome.succeeded());
        Ok(if failed || problem { PROBLEM } else { DONE })
    }

    async fn through_the_agent(self, common: &Common) -> miette::Result<u8> {
        let client = Client::new(&common.socket());
        let before = match client.status().await {
            Ok(status) => status,
            Err(ClientError::Absent { .. }) => bail!(
                help = "wait until it has ended and try again",
                "another vireo is changing this host, and it is no agent that could be asked"
            ),
            Err(error) => return Err(plain(&error)),
        };
        if let Some(digest) = &self.confirm {
            let full = before.plan.digest();
            let digest = if digest.len() >= 12 && full.starts_with(digest.as_str()) {
                &full
            } else {
                digest
            };
            client
                .confirm(digest)
                .await
                .map_err(|error| plain(&error))?;
        }
        eprintln!(
            "an agent runs (pid {}); asking it and waiting until it has settled",
            before.pid
        );
        let status = client
            .pass(self.wait)
            .await
            .map_err(|error| plain(&error))?;
        output::print(common.output, &status, || {
            let mut text = render::plan(
                &status.plan,
                Style {
                    colour: coloured(common.color, &std::io::stdout()),
                },
            );
            if let Some(error) = &status.error {
                text.push_str(&format!("the agent cannot work: {error}\n"));
            } else if !status.settled {
                text.push_str("the agent is still at work; see `vireo status`\n");
            }
            text
        })?;
        let fine = status.settled
            && status.plan.steps.is_empty()
            && status.plan.refusals.is_empty()
            && status.error.is_none();
        Ok(if fine { DONE } else { PROBLEM })
    }
}

/// Runs a plan, telling on standard error what begins and ends.
pub(super) async fn execute(
    executor: &Executor<impl crate::host::Host>,
    plan: &Plan,
    common: &Common,
) -> Vec<Report> {
    let bar = indicatif::ProgressBar::new(plan.steps.len() as u64);
    let style = indicatif::ProgressStyle::with_template("{spinner} {pos}/{len} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(120));
    if common.output != Format::Text {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let reports = executor
        .execute(plan, |progress| match progress {
            Progress::Begin(step) => bar.set_message(format!("{} {}", step.verb, step.object)),
            Progress::End(report) => {
                bar.inc(1);
                if common.output == Format::Text {
                    bar.suspend(|| eprintln!("{}", line(report)));
                }
            }
        })
        .await;
    bar.finish_and_clear();
    reports
}

/// One ended step on one line.
pub(super) fn line(report: &Report) -> String {
    let took = report.took.as_secs_f64();
    let (what, detail) = match &report.outcome {
        Outcome::Created => ("created", format!("in {took:.2} s")),
        Outcome::Updated => ("changed", format!("in {took:.2} s")),
        Outcome::Deleted => ("deleted", format!("in {took:.2} s")),
        Outcome::Released => ("released", "left on the host, no longer kept".to_owned()),
        Outcome::Failed(error) => {
            let help = error.help.as_ref().map(|help| format!("\n      {help}"));
            ("FAILED", format!("{error}{}", help.unwrap_or_default()))
        }
        Outcome::Skipped { need } => ("skipped", format!("needs {need}, which failed")),
        Outcome::Cancelled => ("not begun", "told to stop".to_owned()),
    };
    format!("  {:<32} {what:<9} {detail}", report.object.to_string())
}

fn summary(reports: &[Report], last: &Look) -> String {
    if reports.is_empty() {
        let count = last.plan.unchanged;
        return match last.plan.pending.len() {
            0 => format!("Nothing to do: {count} objects are as defined.\n"),
            waiting => format!(
                "Nothing done: {count} objects are as defined, {waiting} changes wait for leave.\n"
            ),
        };
    }
    let count = |wanted: fn(&Outcome) -> bool| {
        reports
            .iter()
            .filter(|report| wanted(&report.outcome))
            .count()
    };
    let done = count(Outcome::succeeded);
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    let left = reports.len() - done - failed;
    match (failed, left) {
        (0, 0) => format!("{done} done.\n"),
        _ => format!(
            "{done} done, {failed} failed, {left} not begun. `vireo why OBJECT` tells more.\n"
        ),
    }
}

/// Lets steps at work end, and begins no other, on an interrupt.
pub(super) fn stop_on_signal(stop: CancellationToken) -> miette::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).into_diagnostic()?;
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        eprintln!("stopping after the steps at work");
        stop.cancel();
    });
    Ok(())
}
