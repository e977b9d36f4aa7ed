//! `vireo plan`: what would be done, and why.

use clap::Args;

use super::complaint::plain;
use super::output::{self, coloured};
use super::{CHANGES, Common, DONE, PROBLEM};
use crate::controller::look;
use crate::plan::render::{self, Style};

/// Shows every change with its difference, its worst effect and its reason. Changes nothing and needs no agent.
#[derive(Debug, Args)]
pub struct Plan {}

impl Plan {
    /// Exit status: 0 nothing to do, 2 changes, 1 a problem.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        let look = look(&*common.host()?, &common.source())
            .await
            .map_err(|error| plain(&error))?;
        let plan = &look.plan;
        output::print(common.output, plan, || {
            let colour = coloured(common.color, &std::io::stdout());
            render::plan(plan, Style { colour })
        })?;
        let status = if !plan.refusals.is_empty() {
            PROBLEM
        } else if plan.steps.is_empty() {
            DONE
        } else {
            CHANGES
        };
        // The process ends here: its memory goes with it, and thousands of objects need not be taken apart first.
        std::mem::forget(look);
        Ok(status)
    }
}
