//! Guests: every directory under the runtime directory in which one was started, and how that one does.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Guest, GuestState, Inventory};
use crate::domain::Guests;
use crate::host::ObserveError;

/// Looks at every guest. Monitors are asked side by side, each within its time limit, so that one that hangs costs no more than itself.
///
/// # Errors
/// A directory that cannot be listed, or that does not say what was started in it.
pub async fn collect(guests: &Guests) -> Result<BTreeMap<Uuid, Guest>, ObserveError> {
    guests.observe().await.map_err(|error| ObserveError {
        what: "guests",
        why: crate::domain::with_causes(&error),
    })
}

/// The processes of guests that run, by guest: what to wait for to notice that one has ended.
pub fn watch_list(inventory: &Inventory) -> BTreeMap<Uuid, u32> {
    let running = inventory.guests.iter().filter_map(|(&uuid, guest)| {
        let pid = match guest.state {
            GuestState::Running { pid }
            | GuestState::Paused { pid, .. }
            | GuestState::Preserved { pid, .. } => pid,
            GuestState::Ended { .. } => return None,
        };
        Some((uuid, pid))
    });
    running.collect()
}
