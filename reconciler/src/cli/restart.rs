//! `vireo restart`: leave, given once, to stop and start a guest.

use clap::Args;
use miette::bail;
use tokio_util::sync::CancellationToken;

use super::apply::{execute, line, stop_on_signal};
use super::complaint::plain;
use super::output::{self, coloured};
use super::{Common, DONE, Format, PROBLEM, consent, object};
use crate::api::client::{Client, ClientError};
use crate::controller::{Look, look};
use crate::execute::executor::Executor;
use crate::ledger::store::{Lock, LockError};
use crate::object::{Kind, ObjectId};
use crate::plan;
use crate::plan::render::{self, Style};
use crate::plan::step::Plan;
use crate::status::Report;

/// Shuts a guest down, forces it when its time is over, and starts it again as it is defined now: changes that wait for a restart take effect.
///
/// With an agent running, asks the agent to do it and waits for it.
#[derive(Debug, Args)]
pub struct Restart {
    /// The guest: NAME, domain/NAME or UUID
    domain: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// How long to wait for an agent, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    wait: u64,
}

impl Restart {
    /// Exit status: 0 the guest runs anew, 1 it does not.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        let (reports, told) = match Lock::take(&common.state_dir) {
            Ok(lock) => (self.alone(common, lock).await?, true),
            Err(LockError::Held { .. }) => (self.through_the_agent(common).await?, false),
            Err(error) => return Err(plain(&error)),
        };
        let Some(reports) = reports else {
            return Ok(PROBLEM);
        };
        // What was done here was told while it was done.
        let lines = reports.iter().filter(|_| !told).map(line);
        output::print(common.output, &reports, || {
            lines.map(|line| format!("{line}\n")).collect()
        })?;
        let fine = reports.iter().all(|report| report.outcome.succeeded());
        Ok(if fine { DONE } else { PROBLEM })
    }

    async fn alone(&self, common: &Common, _lock: Lock) -> miette::Result<Option<Vec<Report>>> {
        let host = common.host()?;
        let look = look(&*host, &common.source())
            .await
            .map_err(|error| plain(&error))?;
        let (_, plan) = self.planned(&look)?;
        if !self.consented(common, &plan)? {
            return Ok(None);
        }
        let stop = CancellationToken::new();
        stop_on_signal(stop.clone())?;
        let executor = Executor::new(host, stop);
        Ok(Some(execute(&executor, &plan, common).await))
    }

    async fn through_the_agent(&self, common: &Common) -> miette::Result<Option<Vec<Report>>> {
        let look = look(&*common.host()?, &common.source())
            .await
            .map_err(|error| plain(&error))?;
        let (guest, plan) = self.planned(&look)?;
        if !self.consented(common, &plan)? {
            return Ok(None);
        }
        let client = Client::new(&common.socket());
        match client.restart(guest.uuid, self.wait).await {
            Ok(report) => Ok(Some(vec![report])),
            Err(ClientError::Absent { .. }) => bail!(
                help = "wait until it has ended and try again",
                "another vireo is changing this host, and it is no agent that could be asked"
            ),
            Err(error) => Err(plain(&error)),
        }
    }

    /// The guest, and the plan that restarts it.
    fn planned(&self, look: &Look) -> miette::Result<(ObjectId, Plan)> {
        let guest = object::find(look, &self.domain, &[Kind::Domain])?;
        let plan = plan::restart(&look.desired, &look.inventory, &look.ledger, &guest)
            .map_err(|error| plain(&error))?;
        Ok((guest, plan))
    }

    fn consented(&self, common: &Common, plan: &Plan) -> miette::Result<bool> {
        if common.output == Format::Text {
            let colour = coloured(common.color, &std::io::stderr());
            eprint!("{}", render::plan(plan, Style { colour }));
        }
        if self.yes {
            return Ok(true);
        }
        consent::asked("restart")
    }
}
