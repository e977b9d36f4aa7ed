//! The host behind one narrow trait.
//!
//! Everything that vireo does to a host is an [`Effect`]; everything it knows of one is an [`Inventory`]. The real host ([`real`]) turns effects into system calls,
//! netlink messages and processes by way of thin typed wrappers, one a file; the simulated host keeps an inventory as data, fails on demand and crashes between
//! any two effects. The same controller runs on both.

pub mod addresses;
pub mod cgroup;
pub mod command;
pub mod directory;
pub mod dnsmasq;
pub mod doctor;
pub mod facts;
pub mod hooks;
pub mod image;
pub mod links;
mod macvtap;
pub mod netlink;
pub mod nft;
pub mod paths;
pub mod process;
pub mod real;
mod reattach;
pub mod rows;
pub mod simulated;
mod sysctl;
mod tap;
pub mod tc;
#[cfg(test)]
pub(crate) mod testing;
pub mod volume;
pub mod watch;

use std::future::Future;

use crate::execute::effect::{Effect, EffectError};
use crate::inventory::{HostFacts, Interest, Inventory};
use crate::ledger::Ledger;

/// A host that can be looked at and changed.
pub trait Host: Send + Sync + 'static {
    /// What the host can do. Probed once; cheap afterwards.
    ///
    /// # Errors
    /// When it cannot be found out.
    fn facts(&self) -> impl Future<Output = Result<HostFacts, ObserveError>> + Send;

    /// What we own of it.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    fn ledger(&self) -> impl Future<Output = Result<Ledger, ObserveError>> + Send;

    /// Looks at everything that plans need.
    ///
    /// # Errors
    /// When any collector cannot look: an incomplete inventory is never returned.
    fn observe(
        &self,
        interest: &Interest,
    ) -> impl Future<Output = Result<Inventory, ObserveError>> + Send;

    /// Does one thing. Idempotent: doing what is already done succeeds and changes nothing.
    ///
    /// # Errors
    /// What was tried on what, and why it failed; whether another try can help.
    fn perform(&self, effect: &Effect) -> impl Future<Output = Result<(), EffectError>> + Send;
}

/// A collector could not look.
#[derive(Debug, thiserror::Error)]
#[error("cannot observe {what}: {why}")]
pub struct ObserveError {
    /// What was to be looked at.
    pub what: &'static str,
    /// Why it could not be.
    pub why: String,
}

/// Does blocking work off the threads that others wait on.
///
/// # Errors
/// The work's own; that it ended without a result.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EffectError> + Send + 'static,
) -> Result<T, EffectError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(EffectError::passing(format!(
                "the work ended early: {error}"
            )))
        })
}
