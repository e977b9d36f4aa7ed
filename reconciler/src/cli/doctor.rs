//! `vireo doctor`: what this host can and cannot do, and how to fix it.

use clap::Args;

use super::output::{self, coloured};
use super::{Common, DONE, PROBLEM};
use crate::host::doctor::{Check, Verdict, doctor};

/// Probes the host: KVM, control groups, nftables, traffic control, tools. Says of each lack which features it costs, and how to mend it.
#[derive(Debug, Args)]
pub struct Doctor {}

impl Doctor {
    /// Exit status: 0 everything vireo cannot do without is there, 1 something is broken.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        let checks = doctor(&common.paths()).await;
        let colour = coloured(common.color, &std::io::stdout());
        output::print(common.output, &checks, || {
            checks.iter().map(|check| line(check, colour)).collect()
        })?;
        Ok(
            if checks.iter().any(|check| check.verdict == Verdict::Broken) {
                PROBLEM
            } else {
                DONE
            },
        )
    }
}

fn line(check: &Check, colour: bool) -> String {
    let (word, code) = match check.verdict {
        Verdict::Ok => ("ok", 32),
        Verdict::Lacking => ("lacking", 33),
        Verdict::Broken => ("BROKEN", 31),
    };
    let word = format!("{word:<8}");
    let word = if colour {
        format!("\x1b[{code}m{word}\x1b[0m")
    } else {
        word
    };
    let mut text = format!("{word} {}: {}\n", check.name, check.found);
    for (label, told) in [("costs", &check.costs), ("to fix", &check.fix)] {
        if !told.is_empty() {
            text.push_str(&format!("         {label}: {told}\n"));
        }
    }
    text
}
