//! `vireo nmi`: a non-maskable interrupt for a guest that does not answer any more.

use clap::Args;

use super::complaint::plain;
use super::{Common, DONE, object};

/// Gives a guest's processors a non-maskable interrupt, as the button of that name on a machine does.
///
/// What follows is the guest's: Linux tells where its processors are, or dumps itself where it is set up for that (kernel.unknown_nmi_panic and kdump). Nothing on the
/// host changes, so neither an agent nor leave is needed. A guest that is paused gets it when it runs again.
#[derive(Debug, Args)]
pub struct Nmi {
    /// The guest's name or UUID
    guest: String,
}

impl Nmi {
    /// Exit status: 0 the interrupt is given, 1 there is no such guest, it does not run, or its monitor refuses.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        let host = common.host()?;
        let (guest, driver) = object::running(&host, &self.guest).await?;
        let given = host.guests().inject_nmi(guest, driver).await;
        given.map_err(|error| plain(&error))?;
        Ok(DONE)
    }
}
