//! What is in no file any more: removed, released, or protected.
//!
//! Guests are shut down before they go. Pools and volumes are left on the host, unless their last definition says that the data goes with it. Whatever is
//! protected, or held because a file is broken, does not come here.

use crate::desired::Departed;
use crate::execute::effect::Effect;
use crate::inventory::GuestState;
use crate::object::{Kind, ObjectId};
use vireo_schema::Rule;

use super::context::{Context, list};
use super::domain;
use super::draft::Found;
use super::network::network_hook;
use super::rules;
use super::step::{Disruption, Held, Refusal, Step, Verb};

/// Plans the removal of one object.
pub(super) fn plan(context: &Context<'_>, object: &ObjectId, departed: &Departed) -> Found {
    if departed.protect || departed.suspend {
        let why = if departed.protect {
            "it is in no file any more, and its policy protects it"
        } else {
            "it is in no file any more, and its policy suspends it"
        };
        return Found {
            held: vec![Held {
                object: object.clone(),
                why: why.to_owned(),
            }],
            ..Found::default()
        };
    }
    match object.kind {
        Kind::Domain => Found::step(Some(guest(context, object))),
        Kind::Network => Found::step(Some(network(context, object, departed))),
        Kind::Volume => volume(context, object, departed),
        Kind::Pool | Kind::NwFilter | Kind::Secret => Found::step(Some(release(context, object))),
    }
}

fn step(object: &ObjectId, verb: Verb, effects: Vec<Effect>) -> Step {
    Step {
        object: object.clone(),
        verb,
        disruption: Disruption::Recreate,
        summary: String::new(),
        why: "it is in no file any more".to_owned(),
        differences: Vec::new(),
        needs: Vec::new(),
        effects: effects
            .into_iter()
            .chain([Effect::Forget(object.clone())])
            .collect(),
        undo: Vec::new(),
    }
}

fn guest(context: &Context<'_>, object: &ObjectId) -> Step {
    let Some(guest) = context.inventory.guests.get(&object.uuid) else {
        let effects = domain::remains(context, object.uuid);
        return Step {
            summary: "not running".to_owned(),
            ..step(object, Verb::Delete, effects)
        };
    };
    let timeout = guest.launch.domain.lifecycle.shutdown_timeout.as_secs();
    let (effects, summary) = match guest.state {
        GuestState::Ended { .. } => (
            domain::after_end(context, guest),
            "its process has ended".to_owned(),
        ),
        _ => (
            domain::stop_for_good(context, guest),
            format!("it is asked to shut down, and ended after {timeout} s"),
        ),
    };
    Step {
        summary,
        ..step(object, Verb::Delete, effects)
    }
}

fn network(context: &Context<'_>, object: &ObjectId, departed: &Departed) -> Step {
    let mut effects = Vec::new();
    if context.inventory.dnsmasq.contains_key(&object.uuid) {
        effects.push(Effect::StopDnsmasq {
            network: object.uuid,
        });
    }
    let mut bridges: Vec<&str> = context.bridges_of(object.uuid).collect();
    effects.extend(rules::network_gone(
        context,
        departed.bridge.as_deref(),
        &bridges,
    ));
    for bridge in &bridges {
        effects.push(Effect::DeleteLink {
            link: (*bridge).to_owned(),
            owner: object.uuid,
        });
    }
    let had_bridge = departed.bridge.is_some() || !bridges.is_empty();
    if had_bridge && let Some(entry) = context.ledger.get(object) {
        effects.push(Effect::RunHook(network_hook(
            &object.name,
            &entry.definition,
            "stopped",
            "end",
            false,
        )));
    }
    bridges.sort_unstable();
    Step {
        summary: if bridges.is_empty() {
            "nothing of it is on the host".to_owned()
        } else {
            format!("bridge {} goes", list(&bridges))
        },
        needs: users(context, object),
        ..step(object, Verb::Delete, effects)
    }
}

/// Guests that are connected to a network, whose own steps must be done before it goes.
fn users(context: &Context<'_>, network: &ObjectId) -> Vec<ObjectId> {
    context
        .inventory
        .guests
        .values()
        .map(|guest| &guest.launch.domain)
        .filter(|domain| {
            domain.interfaces.iter().any(|interface| {
                matches!(&interface.source, crate::resolve::domain::InterfaceSource::Network { uuid, .. } if *uuid == network.uuid)
            })
        })
        .map(|domain| ObjectId::new(Kind::Domain, domain.uuid, &domain.name))
        .collect()
}

fn volume(context: &Context<'_>, object: &ObjectId, departed: &Departed) -> Found {
    let path = context
        .ledger
        .get(object)
        .and_then(|entry| entry.holds.path.clone());
    let Some(path) = path.filter(|_| departed.delete_data) else {
        return Found::step(Some(release(context, object)));
    };
    let users = context.wanted_users_of(&path);
    if !users.is_empty() {
        return Found::refused(Refusal {
            object: Some(object.clone()),
            location: None,
            message: format!(
                "volume {} is in no file any more and would be deleted, and {} uses {}",
                object.name,
                list(&users),
                path.display()
            ),
            help: Some("take the disk out of the guest first, or put the volume back".to_owned()),
            rule: Rule::InUse.to_string(),
        });
    }
    let needs = context
        .inventory
        .guests
        .values()
        .map(|guest| &guest.launch.domain)
        .filter(|domain| {
            let mut disks = domain.disks.iter();
            disks.any(|disk| disk.path.as_ref() == Some(&path))
        })
        .map(|domain| ObjectId::new(Kind::Domain, domain.uuid, &domain.name))
        .collect();
    Found::step(Some(Step {
        disruption: Disruption::DataLoss,
        summary: format!("{} is deleted", path.display()),
        why: "it is in no file any more, and its last definition says that its data goes with it"
            .to_owned(),
        needs,
        ..step(object, Verb::Delete, vec![Effect::DeleteVolume { path }])
    }))
}

/// Something of which nothing is removed from the host.
fn release(context: &Context<'_>, object: &ObjectId) -> Step {
    let path = context
        .ledger
        .get(object)
        .and_then(|entry| entry.holds.path.clone());
    let (verb, summary) = match path {
        Some(path) => (Verb::Release, format!("{} stays", path.display())),
        None => (Verb::Delete, String::new()),
    };
    // What is in a pool goes before the pool; what uses a filter before the filter.
    let needs = context
        .desired
        .departed
        .keys()
        .filter(|other| match object.kind {
            Kind::Pool => other.kind == Kind::Volume,
            Kind::NwFilter | Kind::Volume => other.kind == Kind::Domain,
            _ => false,
        })
        .cloned()
        .collect();
    Step {
        disruption: Disruption::Live,
        summary,
        needs,
        ..step(object, verb, Vec::new())
    }
}
