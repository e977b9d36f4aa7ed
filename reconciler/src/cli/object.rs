//! The object that a command line names.

use std::collections::BTreeSet;

use miette::bail;

use crate::controller::Look;
use crate::object::{Kind, ObjectId};

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
