//! `vireo console`: attach to a guest's serial console.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

use clap::Args;
use miette::bail;

use super::complaint::plain;
use super::{Common, DONE, object};
use crate::domain::console::{Farewell, attach};

/// Attaches this terminal to a guest's serial console. Leave with Ctrl-].
#[derive(Debug, Args)]
pub struct Console {
    /// The guest's name or UUID
    guest: String,
}

impl Console {
    /// Exit status: 0 left, 1 there is no such guest or it does not run.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        let host = common.host()?;
        let uuid = object::running(&host, &self.guest).await?.0;
        let Some(path) = host.guests().console(uuid) else {
            bail!(
                help = "its log is in the guest's directory",
                "guest {} has no console to attach to",
                self.guest
            )
        };
        if std::io::stderr().is_terminal() {
            eprintln!("console of {}; leave with Ctrl-]", self.guest);
        }
        let (input, output) = (std::io::stdin(), std::io::stdout());
        let farewell = attach(&path, input.as_fd(), output.as_fd())
            .await
            .map_err(|error| plain(&error))?;
        match farewell {
            Farewell::Left => eprintln!(),
            Farewell::GuestEnded => eprintln!("\nthe guest has ended"),
        }
        Ok(DONE)
    }
}
