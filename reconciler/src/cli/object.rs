//! The object that a command line names.

use std::collections::BTreeSet;

use miette::bail;
use uuid::Uuid;

use super::complaint::plain;
use crate::controller::Look;
use crate::host::Host as _;
use crate::host::real::RealHost;
use crate::inventory::{Guest, GuestState, Interest};
use crate::object::{Kind, ObjectId};
use crate::resolve::Driver;

/// The guest of this name or UUID that runs, paused or not, and who runs it.
pub(super) async fn running(host: &RealHost, said: &str) -> miette::Result<(Uuid, Driver)> {
    let (uuid, guest) = guest(host, said).await?;
    Ok((uuid, guest.launch.domain.driver))
}

/// The guest of this name or UUID that runs, paused or not.
pub(super) async fn guest(host: &RealHost, said: &str) -> miette::Result<(Uuid, Guest)> {
    let inventory = host.observe(&Interest::default()).await;
    let inventory = inventory.map_err(|error| plain(&error))?;
    let found = inventory
        .guests
        .into_iter()
        .find(|(uuid, guest)| said == guest.launch.domain.name || said == uuid.to_string());
    match found {
        Some(found) if !matches!(found.1.state, GuestState::Ended { .. }) => Ok(found),
        Some(_) => bail!(
            help = format!("`vireo why {said}` tells more"),
            "guest {said} does not run"
        ),
        None => bail!(
            help = "`vireo get domain` lists guests",
            "there is no guest {said}"
        ),
    }
}

/// The one object of these kinds (of any, where none is named) that NAME, KIND/NAME or a UUID stands for, wanted or owned.
pub(super) fn find(look: &Look, said: &str, kinds: &[Kind]) -> miette::Result<ObjectId> {
    let owned = look.ledger.entries.values().map(|entry| &entry.object);
    let all: BTreeSet<&ObjectId> = look.desired.objects.keys().chain(owned).collect();
    let is = |object: &&ObjectId| {
        (kinds.is_empty() || kinds.contains(&object.kind))
            && (said == object.name
                || said == object.uuid.to_string()
                || said == format!("{}/{}", object.kind, object.name))
    };
    let found: Vec<&ObjectId> = all.into_iter().filter(is).collect();
    match found.as_slice() {
        [] => {
            let what = match kinds {
                [one] => one.to_string(),
                _ => "object".to_owned(),
            };
            bail!(
                help = "`vireo get all` lists every object",
                "there is no {what} {said}"
            )
        }
        [one] => Ok((*one).clone()),
        many => {
            let names: Vec<String> = many
                .iter()
                .map(|o| format!("{}/{} ({})", o.kind, o.name, o.uuid))
                .collect();
            bail!(
                help = format!("say one of {}", names.join(", ")),
                "{said} names several objects"
            )
        }
    }
}
