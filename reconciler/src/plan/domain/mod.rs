//! Guests.
//!
//! What runs is compared with what is wanted, field by field ([`fields`]); what may change live is changed live, what may not waits or restarts the guest, as its
//! policy allows ([`running`]). Whatever should run and does not is started ([`start`]). What surrounds a guest on the host (taps, rules, limits, control group) is
//! compared with what it should be, whoever changed it.

mod fields;
mod life;
mod running;
mod surroundings;

use std::borrow::Cow;

use vireo_schema::Rule;

use uuid::Uuid;

use crate::desired::Wanted;
use crate::execute::effect::Effect;
use crate::inventory::{Guest, GuestState};
use crate::resolve::WantedState;
use crate::resolve::domain::{Boot, Domain, InterfaceSource};

use super::context::Context;
use super::draft::{Found, Page, Says, Work, finish, refusal};
use super::step::{Disruption, Refusal, Step, Verb};
use super::{difference, summary};

pub(super) use running::target;

/// What is left of a guest without a directory is removed.
pub(super) fn remains(context: &Context<'_>, guest: Uuid) -> Vec<Effect> {
    life::remains(context, guest, None)
}

/// A guest whose process is gone is cleared away.
pub(super) fn after_end(context: &Context<'_>, guest: &Guest) -> Vec<Effect> {
    life::after_end(context, guest, None)
}

/// A guest is shut down and cleared away.
pub(super) fn stop_for_good(context: &Context<'_>, guest: &Guest) -> Vec<Effect> {
    life::stop(context, &guest.launch, None)
}

/// The guest with its interfaces in the bridges that its networks have: a network whose change waits keeps its bridge, and its guests in it.
fn connected<'d>(context: &Context<'_>, domain: &'d Domain) -> Cow<'d, Domain> {
    let mut domain = Cow::Borrowed(domain);
    for index in 0..domain.interfaces.len() {
        let InterfaceSource::Network { uuid, bridge, .. } = &domain.interfaces[index].source else {
            continue;
        };
        if let Some(kept) = super::network::kept(context, *uuid)
            && kept.bridge.name != *bridge
            && let InterfaceSource::Network { bridge, .. } =
                &mut domain.to_mut().interfaces[index].source
        {
            bridge.clone_from(&kept.bridge.name);
        }
    }
    domain
}

/// Plans one guest.
pub(super) fn plan(context: &Context<'_>, wanted: &Wanted, domain: &Domain) -> Found {
    let domain = &*connected(context, domain);
    let page = Page::open(context.ledger, wanted);
    let guest = context.inventory.guests.get(&domain.uuid);
    let runs = guest.is_some_and(|guest| !matches!(guest.state, GuestState::Ended { .. }));
    match (guest, runs, domain.lifecycle.wanted) {
        (Some(guest), true, WantedState::Stopped) => {
            Found::step(Some(stop(context, wanted, &page, guest)))
        }
        (Some(guest), true, _) => running::plan(context, wanted, domain, &page, guest),
        (guest, _, WantedState::Stopped) => {
            Found::step(stopped(context, wanted, domain, &page, guest))
        }
        (guest, _, _) => start(context, wanted, domain, &page, guest),
    }
}

/// A guest that should run and does not.
fn start(
    context: &Context<'_>,
    wanted: &Wanted,
    domain: &Domain,
    page: &Page<'_>,
    before: Option<&Guest>,
) -> Found {
    let obstacles = obstacles(context, wanted, domain);
    if !obstacles.is_empty() {
        return Found {
            refusals: obstacles,
            ..Found::default()
        };
    }
    let mut work = Work::default();
    work.effects.extend(match before {
        Some(guest) => life::after_end(context, guest, Some(domain)),
        None => life::remains(context, domain.uuid, Some(domain)),
    });
    let generation = life::generation(domain, before.map(|guest| guest.launch.generation));
    if let Err(error) = life::start(context, wanted, domain, generation, &mut work) {
        return Found::refused(refusal(wanted, error.rule, error.message, ""));
    }
    let why = match before.map(|guest| &guest.state) {
        Some(GuestState::Ended { reason }) => ended(reason),
        _ if page.is_new() => "it is defined, and has never run here".to_owned(),
        _ => "it does not run, and its policy wants it running".to_owned(),
    };
    let verb = if page.is_new() {
        Verb::Create
    } else {
        Verb::Start
    };
    Found::step(Some(Step {
        object: wanted.id.clone(),
        verb,
        disruption: Disruption::Live,
        summary: summary::domain(domain),
        why: format!("{why}; {}", domain.driver_why),
        differences: Vec::new(),
        needs: context.needs_of(wanted, domain),
        effects: page
            .before()
            .into_iter()
            .chain(work.effects)
            .chain(page.after())
            .collect(),
        undo: work.undo,
    }))
}

/// Why a guest that ended is started again.
fn ended(reason: &str) -> String {
    match reason {
        "power-off" => "it powered itself off, and its policy wants it running (`state: stopped` would leave it off)".to_owned(),
        "killed" => "its process was killed, and its policy wants it running".to_owned(),
        "crash" => "it crashed, and its policy wants it running".to_owned(),
        other => format!("it ended ({other}), and its policy wants it running"),
    }
}

/// A guest that runs and should not.
fn stop(context: &Context<'_>, wanted: &Wanted, page: &Page<'_>, guest: &Guest) -> Step {
    let mut effects: Vec<_> = page.before().into_iter().collect();
    effects.extend(life::stop(context, &guest.launch, None));
    effects.extend(page.after());
    Step {
        object: wanted.id.clone(),
        verb: Verb::Stop,
        disruption: Disruption::Restart,
        summary: summary::domain(&guest.launch.domain),
        why: format!(
            "its policy wants it stopped: it is asked to shut down, and ended after {} s",
            guest.launch.domain.lifecycle.shutdown_timeout.as_secs()
        ),
        differences: Vec::new(),
        needs: Vec::new(),
        effects,
        undo: Vec::new(),
    }
}

/// A guest that does not run and should not: what an earlier life left is removed.
fn stopped(
    context: &Context<'_>,
    wanted: &Wanted,
    domain: &Domain,
    page: &Page<'_>,
    guest: Option<&Guest>,
) -> Option<Step> {
    let mut work = Work::default();
    let remains = match guest {
        Some(guest) => life::after_end(context, guest, None),
        None => life::remains(context, domain.uuid, None),
    };
    for effect in remains {
        work.act("what its last run left is removed", effect);
    }
    let says = Says {
        summary: format!("{}, stopped", summary::domain(domain)),
        create: "it is defined, and its policy wants it stopped".to_owned(),
        differences: if page.is_new() {
            Vec::new()
        } else {
            difference::of_definition(wanted, page.old())
        },
        ..Says::default()
    };
    finish(page, work, says)
}

/// Everything that would make the guest's start fail, and can be seen now.
fn obstacles(context: &Context<'_>, wanted: &Wanted, domain: &Domain) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let files = &context.inventory.files;
    let mut missing = |what: String, path: &std::path::Path| {
        if !files.contains_key(path) && !context.is_volume(path) {
            refusals.push(refusal(
                wanted,
                Rule::MissingFile,
                format!("{what} {} does not exist", path.display()),
                "put the file there, or state a volume to have it made",
            ));
        }
    };
    for disk in &domain.disks {
        if let Some(path) = &disk.path {
            missing(format!("the image of disk {}", disk.target), path);
        }
    }
    match &domain.boot {
        Boot::Kernel { kernel, initrd, .. } => {
            missing("kernel".to_owned(), kernel);
            if let Some(initrd) = initrd {
                missing("initrd".to_owned(), initrd);
            }
        }
        Boot::Disk { .. } => {}
        Boot::Firmware {
            loader, template, ..
        } => {
            if let Some(loader) = loader {
                missing("loader".to_owned(), loader);
            }
            if let Some(template) = template {
                missing("template".to_owned(), template);
            }
        }
    }
    if let Some(emulator) = &domain.machine.emulator
        && !files.contains_key(emulator)
    {
        refusals.push(refusal(
            wanted,
            Rule::MissingFile,
            format!("emulator {} does not exist", emulator.display()),
            "install it there, or leave <emulator> out to take the one in PATH",
        ));
    }
    refusals.extend(link_obstacles(context, wanted, domain));
    refusals
}

fn link_obstacles<'w>(
    context: &'w Context<'_>,
    wanted: &'w Wanted,
    domain: &'w Domain,
) -> impl Iterator<Item = Refusal> + 'w {
    domain.interfaces.iter().filter_map(move |interface| {
        let links = &context.inventory.links;
        if let InterfaceSource::Bridge { bridge } = &interface.source
            && !links.contains_key(bridge)
            && !context.is_wanted_bridge(bridge)
        {
            return Some(refusal(
                wanted,
                Rule::MissingBridge,
                format!(
                    "bridge {bridge} of interface {} does not exist",
                    interface.index
                ),
                "make the bridge, or connect the interface to a network",
            ));
        }
        if let InterfaceSource::Direct { device, .. } = &interface.source
            && !links.contains_key(device)
        {
            return Some(refusal(
                wanted,
                Rule::MissingBridge,
                format!(
                    "device {device} of interface {} does not exist",
                    interface.index
                ),
                "name a device that the host has (`ip link`), or connect the interface to a network",
            ));
        }
        let link = links.get(&interface.tap)?;
        (link.owner != Some(domain.uuid) && interface.source.has_link()).then(|| {
            refusal(
                wanted,
                Rule::NotOurs,
                format!(
                    "link {} exists and is {}",
                    interface.tap,
                    context.owner_in_words(link.owner)
                ),
                "remove the link, or give the interface another <target dev=…/>",
            )
        })
    })
}
