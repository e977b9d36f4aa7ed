//! `vireo resume`: lets a guest go on that was paused although nobody asked for it.

use std::time::Duration;

use clap::Args;
use miette::bail;

use super::complaint::plain;
use super::{Common, DONE, object};
use crate::inventory::GuestState;

/// How often it is looked whether the guest goes on, and after how long each time.
const LOOKS: (u32, Duration) = (10, Duration::from_millis(50));

/// Lets a guest go on that was paused because the host failed its disk, or by its watchdog.
///
/// `vireo status` tells why it was paused. What the host failed is tried again first; where it fails again, the guest is paused again, and this says so. Neither an agent
/// nor leave is needed. A guest that is paused as its policy says goes on when the policy's state is running.
#[derive(Debug, Args)]
pub struct Resume {
    /// The guest's name or UUID
    guest: String,
}

impl Resume {
    /// Exit status: 0 the guest goes on, 1 there is no such guest, nothing paused it, or it was paused again.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        let host = common.host()?;
        let said = &self.guest;
        let (uuid, guest) = object::guest(&host, said).await?;
        match guest.state {
            GuestState::Paused { why: Some(_), .. } => {}
            GuestState::Paused { why: None, .. } => bail!(
                help = "`state: running` in its policy lets it run",
                "guest {said} is paused because somebody wanted it so"
            ),
            _ => bail!(
                help = format!("`vireo why {said}` tells more"),
                "guest {said} is not paused"
            ),
        }
        let driver = guest.launch.domain.driver;
        let resumed = host.guests().resume(uuid, driver).await;
        resumed.map_err(|error| plain(&error))?;
        let (looks, pause) = LOOKS;
        for _ in 0..looks {
            tokio::time::sleep(pause).await;
            let why = host.guests().why_paused(uuid, driver).await;
            if let Some(why) = why.map_err(|error| plain(&error))? {
                bail!(
                    help = "mend that on the host and try again",
                    "guest {said} was paused again: {why}"
                );
            }
        }
        Ok(DONE)
    }
}
