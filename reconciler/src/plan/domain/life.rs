//! The effects of a guest's start and end, in libvirt's order.
//!
//! ```text
//! start   qemu prepare · network port-created · control group · taps (down) · packet rules · limits · taps up · qemu start · the process · qemu started
//! end     shutdown · qemu stopped · network port-deleted · taps · packet rules · control group · qemu release · the directory
//! ```
//!
//! The packet rules are in place before a tap is up, so that no frame passes unfiltered. The directory goes last: while it is there, an end that was cut
//! short is found and carried through.

use uuid::Uuid;

use crate::desired::{Resolved, Wanted};
use crate::domain::Launch;
use crate::execute::effect::{Effect, Hook};
use crate::inventory::{Guest, GuestState, LinkKind};
use crate::object::{Kind, ObjectId};
use crate::resolve::WantedState;
use crate::resolve::domain::{Domain, Interface, InterfaceSource};

use crate::plan::context::Context;
use crate::plan::draft::Work;
use crate::plan::network::network_hook;
use crate::plan::rules::{self, RulesError};

use super::surroundings;

/// Distinguishes this start from the one before. Derived, so that planning twice gives the same.
pub(super) fn generation(domain: &Domain, before: Option<Uuid>) -> Uuid {
    Uuid::new_v5(
        &before.unwrap_or(domain.uuid),
        format!("launch of {}", domain.uuid).as_bytes(),
    )
}

/// Everything from nothing to a running guest, and how to take it back.
pub(super) fn start(
    context: &Context<'_>,
    wanted: &Wanted,
    domain: &Domain,
    generation: Uuid,
    work: &mut Work,
) -> Result<(), RulesError> {
    let launch = Launch {
        domain: domain.clone(),
        xml: wanted.xml.clone(),
        generation,
    };
    let qemu = |operation: &str| Effect::RunHook(qemu_hook(&launch, operation, "begin", "-", true));
    work.also(qemu("prepare"));
    work.effects
        .extend(ports(context, &launch, "port-created", "begin", true));
    work.also(Effect::SetCgroup {
        guest: domain.uuid,
        tuning: domain.tuning.clone(),
    });
    let around = surroundings::of(context, domain, true)?;
    work.effects.extend(around.made(context));
    work.also(qemu("start"));
    work.also(Effect::StartGuest(Box::new(launch.clone())));
    work.also(qemu("started"));
    if domain.lifecycle.wanted == WantedState::Paused {
        work.also(Effect::PauseGuest {
            guest: domain.uuid,
            driver: domain.driver,
        });
    }
    work.undo = undo(context, &launch);
    Ok(())
}

/// Takes back a start that failed on its way.
fn undo(context: &Context<'_>, launch: &Launch) -> Vec<Effect> {
    let guest = launch.domain.uuid;
    let mut effects = vec![
        Effect::ShutdownGuest {
            guest,
            driver: launch.domain.driver,
            timeout: std::time::Duration::ZERO,
        },
        Effect::RunHook(qemu_hook(launch, "stopped", "end", "-", false)),
    ];
    effects.extend(ports(context, launch, "port-deleted", "begin", false));
    for interface in taps(&launch.domain) {
        effects.push(Effect::DeleteLink {
            link: interface.tap.clone(),
            owner: guest,
        });
    }
    effects.push(Effect::RemoveCgroup { guest });
    effects.push(Effect::RunHook(qemu_hook(
        launch, "release", "end", "failed", false,
    )));
    effects.push(Effect::ReleaseGuest { guest });
    effects
}

/// From a running guest to nothing. Taps of `next`, which starts right after, stay.
pub(super) fn stop(context: &Context<'_>, launch: &Launch, next: Option<&Domain>) -> Vec<Effect> {
    let mut effects = vec![Effect::ShutdownGuest {
        guest: launch.domain.uuid,
        driver: launch.domain.driver,
        timeout: launch.domain.lifecycle.shutdown_timeout,
    }];
    effects.extend(end(context, launch, "shutdown", next));
    effects
}

/// From a guest whose process is gone to nothing. Taps of `next`, which starts right after, stay.
pub(super) fn after_end(
    context: &Context<'_>,
    guest: &Guest,
    next: Option<&Domain>,
) -> Vec<Effect> {
    let reason = match &guest.state {
        GuestState::Ended { reason } | GuestState::Preserved { reason, .. }
            if reason == "power-off" =>
        {
            "shutdown"
        }
        GuestState::Ended { .. } | GuestState::Preserved { .. } => "crashed",
        GuestState::Running { .. } | GuestState::Paused { .. } => "destroyed",
    };
    end(context, &guest.launch, reason, next)
}

fn end(context: &Context<'_>, launch: &Launch, reason: &str, next: Option<&Domain>) -> Vec<Effect> {
    let guest = launch.domain.uuid;
    let mut effects = vec![Effect::RunHook(qemu_hook(
        launch, "stopped", "end", "-", false,
    ))];
    effects.extend(ports(context, launch, "port-deleted", "begin", false));
    effects.extend(remains(context, guest, next));
    effects.push(Effect::RunHook(qemu_hook(
        launch, "release", "end", reason, false,
    )));
    effects.push(Effect::ReleaseGuest { guest });
    effects
}

/// Removes what surrounds a guest that does not run: links, packet rules, control group. What `next` uses as well stays; a link of another kind under the same name does not.
pub(super) fn remains(context: &Context<'_>, guest: Uuid, next: Option<&Domain>) -> Vec<Effect> {
    let is_tap = |link: &str| {
        context
            .inventory
            .links
            .get(link)
            .map(|link| link.kind == LinkKind::Tap)
    };
    let stays = |link: &str| {
        let same = |i: &Interface| i.tap == link && is_tap(link) == Some(i.source.is_tap());
        next.is_some_and(|next| taps(next).any(same))
    };
    let links = context
        .links_of(guest)
        .iter()
        .filter(|link| !stays(link))
        .map(|link| Effect::DeleteLink {
            link: (*link).to_owned(),
            owner: guest,
        });
    let mut effects: Vec<Effect> = links.collect();
    if next.is_none() {
        effects.extend(rules::guest_gone(context, guest));
        if context.inventory.cgroups.contains_key(&guest) {
            effects.push(Effect::RemoveCgroup { guest });
        }
    }
    effects
}

/// Interfaces that have a link on the host: a tap, or a macvtap.
pub(super) fn taps(domain: &Domain) -> impl Iterator<Item = &Interface> {
    domain
        .interfaces
        .iter()
        .filter(|interface| interface.source.has_link())
}

/// A call of the qemu hook. Source: libvirt's "Hooks for specific system management".
pub(super) fn qemu_hook(
    launch: &Launch,
    operation: &str,
    sub_operation: &str,
    extra: &str,
    may_refuse: bool,
) -> Hook {
    Hook {
        script: "qemu".to_owned(),
        object: launch.domain.name.clone(),
        operation: operation.to_owned(),
        sub_operation: sub_operation.to_owned(),
        extra: extra.to_owned(),
        input: launch.xml.clone(),
        may_refuse,
    }
}

/// Calls of the network hook, one for each interface on a network that is known.
fn ports(
    context: &Context<'_>,
    launch: &Launch,
    operation: &str,
    sub_operation: &str,
    may_refuse: bool,
) -> Vec<Effect> {
    let mut effects = Vec::new();
    for interface in &launch.domain.interfaces {
        let InterfaceSource::Network { uuid, name, bridge } = &interface.source else {
            continue;
        };
        let object = ObjectId::new(Kind::Network, *uuid, name);
        let wanted = context.desired.objects.get(&object);
        let xml = match wanted {
            Some(wanted) if matches!(wanted.resolved, Resolved::Network(_)) => &wanted.xml,
            _ => match context.ledger.get(&object) {
                Some(entry) => &entry.definition,
                None => continue,
            },
        };
        let input = format!("{}\n{}", xml.trim_end(), port(launch, interface, bridge));
        effects.push(Effect::RunHook(network_hook(
            name,
            &input,
            operation,
            sub_operation,
            may_refuse,
        )));
    }
    effects
}

/// The `<networkport>` of an interface.
fn port(launch: &Launch, interface: &Interface, bridge: &str) -> String {
    let id = Uuid::new_v5(
        &launch.domain.uuid,
        format!("port {}", interface.index).as_bytes(),
    );
    let escaped = |text: &str| {
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('\'', "&apos;")
    };
    format!(
        "<networkport>\n  <uuid>{id}</uuid>\n  <owner>\n    <name>{}</name>\n    <uuid>{}</uuid>\n  </owner>\n  <mac address='{}'/>\n  <plug type='network' bridge='{}'/>\n</networkport>",
        escaped(&launch.domain.name),
        launch.domain.uuid,
        mac(&interface.mac),
        escaped(bridge)
    )
}

/// `52:54:00:00:00:01`.
fn mac(bytes: &[u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
