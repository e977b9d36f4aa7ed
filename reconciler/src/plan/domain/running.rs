//! A guest that runs and should: changed live, restarted, repaired, or left to wait.

use std::borrow::Cow;

use crate::desired::Wanted;
use crate::domain::Launch;
use crate::execute::effect::Effect;
use crate::inventory::{Guest, GuestState};
use crate::resolve::domain::{Boot, Domain};
use crate::resolve::storage::ImageFormat;
use crate::resolve::{Driver, WantedState};
use crate::units::Bytes;

use crate::plan::context::Context;
use crate::plan::draft::{Found, Page, Work, refusal};
use crate::plan::step::{Difference, Disruption, Held, Pending, Step, Verb};
use crate::plan::summary;

use super::{fields, life, surroundings};

/// Plans a guest whose process runs.
pub(super) fn plan(
    context: &Context<'_>,
    wanted: &Wanted,
    domain: &Domain,
    page: &Page<'_>,
    guest: &Guest,
) -> Found {
    let runs = &guest.launch.domain;
    let preferred = domain;
    let domain = &*under_its_driver(runs, preferred, wanted);
    let (live, mut heavy) = split(runs, domain, wanted);
    heavy.extend(surroundings::lost(context, runs, wanted));
    if context.restart == Some(domain.uuid) {
        return restart(context, wanted, preferred, page, guest, live, heavy);
    }
    if let GuestState::Preserved { reason, .. } = &guest.state {
        return preserved(context, wanted, page, guest, reason);
    }
    let allowed = wanted.policy.disruption;
    if !heavy.is_empty() && allowed >= Disruption::Restart {
        return restart(context, wanted, preferred, page, guest, live, heavy);
    }
    if domain.driver != preferred.driver {
        let text = format!(
            "it runs under driver {}, and will under {} when it next starts: {}",
            domain.driver, preferred.driver, preferred.driver_why
        );
        context.kept.borrow_mut().notes.insert((domain.uuid, text));
    }
    let target = goes_on_as(runs, domain, heavy.is_empty());
    let mut work = Work::default();
    if let Err(error) = adjust(context, &target, guest, &mut work) {
        return Found::refused(refusal(wanted, error.rule, error.message, ""));
    }
    if target != *runs {
        work.also(Effect::RecordLaunch(Box::new(Launch {
            domain: target,
            xml: if heavy.is_empty() {
                wanted.xml.clone()
            } else {
                guest.launch.xml.clone()
            },
            generation: guest.launch.generation,
        })));
    }
    let pending = (!heavy.is_empty()).then(|| wait(wanted, &heavy));
    Found {
        held: stopped(wanted, &guest.state, domain).into_iter().collect(),
        step: step(context, wanted, domain, page, work, live, pending.is_some()),
        pending,
        ..Found::default()
    }
}

/// A guest that is to run and was paused although nobody asked for it. As under libvirt, it goes on when somebody says that it may: what is wrong on the host is still
/// wrong until then, and a guest that a watchdog stopped is there to be looked at.
fn stopped(wanted: &Wanted, state: &GuestState, domain: &Domain) -> Option<Held> {
    let GuestState::Paused { why: Some(why), .. } = state else {
        return None;
    };
    (domain.lifecycle.wanted == WantedState::Running).then(|| Held {
        object: wanted.id.clone(),
        why: format!(
            "it was paused: {why}; `vireo resume {}` lets it go on",
            domain.name
        ),
    })
}

/// A guest that has ended and whose process is kept for a look stays as it was, changed definition or not: its surroundings alone are kept in order.
fn preserved(
    context: &Context<'_>,
    wanted: &Wanted,
    page: &Page<'_>,
    guest: &Guest,
    reason: &str,
) -> Found {
    let runs = &guest.launch.domain;
    let mut work = Work::default();
    match surroundings::of(context, runs, false) {
        Ok(around) => around.repair(context, &mut work),
        Err(error) => return Found::refused(refusal(wanted, error.rule, error.message, "")),
    }
    Found {
        step: (!work.is_empty())
            .then(|| step(context, wanted, runs, page, work, Vec::new(), true))
            .flatten(),
        held: vec![Held {
            object: wanted.id.clone(),
            why: format!(
                "it has ended ({reason}), and its process is kept for a look as its definition says; `vireo restart {}` starts it again",
                runs.name
            ),
        }],
        ..Found::default()
    }
}

/// The guest as the driver that runs it makes it, where another is only preferred. Which of two drivers runs what both can do is chosen when it starts: a monitor that has
/// learnt something is no reason to stop a guest.
fn under_its_driver<'d>(runs: &Domain, domain: &'d Domain, wanted: &Wanted) -> Cow<'d, Domain> {
    let is_choice = wanted.policy.driver.is_none() && !runs.emulated;
    if !is_choice || (runs.driver, domain.driver) != (Driver::Qemu, Driver::Builtin) {
        return Cow::Borrowed(domain);
    }
    let mut same = domain.clone();
    same.driver = runs.driver;
    if boots_first_disk(&runs.boot)
        && matches!(&domain.boot, Boot::Disk { cmdline, .. } if cmdline.is_empty())
    {
        same.boot.clone_from(&runs.boot);
    }
    Cow::Owned(same)
}

/// Whether it is the usual firmware with nothing said but that it boots a disk: what without it is booting what the disk names.
fn boots_first_disk(boot: &Boot) -> bool {
    let Boot::Firmware {
        efi: false,
        loader: None,
        flash: false,
        nvram: None,
        template: None,
        order,
    } = boot
    else {
        return false;
    };
    order.iter().all(|device| device == "hd")
}

/// What a guest is to be that is not restarted.
fn goes_on_as(runs: &Domain, domain: &Domain, all_live: bool) -> Domain {
    if all_live {
        Domain {
            driver_why: runs.driver_why.clone(),
            ..domain.clone()
        }
    } else {
        fields::live_part(runs, domain)
    }
}

/// What a wanted guest is to be when this plan is through, if it runs now and is neither stopped nor restarted.
pub(in crate::plan) fn target(
    context: &Context<'_>,
    wanted: &Wanted,
    domain: &Domain,
) -> Option<Domain> {
    let guest = context.inventory.guests.get(&domain.uuid)?;
    let ended = matches!(guest.state, GuestState::Ended { .. });
    if ended || wanted.policy.suspend || domain.lifecycle.wanted == WantedState::Stopped {
        return None;
    }
    if context.restart == Some(domain.uuid) {
        return None;
    }
    let runs = &guest.launch.domain;
    if matches!(guest.state, GuestState::Preserved { .. }) {
        return Some(runs.clone());
    }
    let domain = &*under_its_driver(runs, domain, wanted);
    let (_, mut heavy) = split(runs, domain, wanted);
    heavy.extend(surroundings::lost(context, runs, wanted));
    let restarts = !heavy.is_empty() && wanted.policy.disruption >= Disruption::Restart;
    (!restarts).then(|| goes_on_as(runs, domain, heavy.is_empty()))
}

/// Differences that change live, and those that do not.
fn split(
    runs: &Domain,
    domain: &Domain,
    wanted: &Wanted,
) -> (Vec<fields::Found>, Vec<fields::Found>) {
    if runs == domain {
        return (Vec::new(), Vec::new());
    }
    fields::differences(runs, domain, wanted)
        .into_iter()
        .partition(|found| found.difference.disruption == Disruption::Live)
}

/// Brings what runs, and what is around it, to the target.
fn adjust(
    context: &Context<'_>,
    target: &Domain,
    guest: &Guest,
    work: &mut Work,
) -> Result<(), crate::plan::rules::RulesError> {
    let runs = &guest.launch.domain;
    surroundings::of(context, target, false)?.repair(context, work);
    // Monitors count in pages.
    let asked = guest.balloon.unwrap_or(runs.memory.current);
    if target.balloon && target.memory.current.0.abs_diff(asked.0) >= 4096 {
        let reason = if target.memory.current == runs.memory.current {
            format!("its balloon leaves it {asked}")
        } else {
            String::new()
        };
        work.act(
            reason,
            Effect::SetBalloon {
                guest: target.uuid,
                driver: target.driver,
                size: target.memory.current,
            },
        );
    }
    limits(target, guest, work);
    growth(context, target, guest, work);
    match (&guest.state, target.lifecycle.wanted) {
        (GuestState::Running { .. }, WantedState::Paused) => work.act(
            "its policy wants it paused",
            Effect::PauseGuest {
                guest: target.uuid,
                driver: target.driver,
            },
        ),
        (GuestState::Paused { why: None, .. }, WantedState::Running) => work.act(
            "it is paused, and its policy wants it running",
            Effect::ResumeGuest {
                guest: target.uuid,
                driver: target.driver,
            },
        ),
        _ => {}
    }
    Ok(())
}

/// Tells the guest of raw images that have been made larger below it. What a volume's own step makes larger is told by that.
fn growth(context: &Context<'_>, target: &Domain, guest: &Guest, work: &mut Work) {
    for disk in &target.disks {
        let Some((told, path)) = guest.disks.get(&disk.target).zip(disk.path.as_ref()) else {
            continue;
        };
        let Some(file) = context.inventory.files.get(path) else {
            continue;
        };
        let has = Bytes(file.size.0 / SECTOR * SECTOR);
        if disk.format != ImageFormat::Raw || disk.readonly || has <= told.capacity {
            continue;
        }
        work.act(
            format!("the image of disk {} has grown to {has}", disk.target),
            Effect::GrowDisk {
                guest: target.uuid,
                driver: target.driver,
                disk: disk.target.clone(),
                path: path.clone(),
                capacity: has,
            },
        );
    }
}

/// Bytes that the size of a disk is counted in.
const SECTOR: u64 = 512;

/// Brings the disks under the limits of the target. Of a monitor that does not tell its limits, those are believed that it was told last.
fn limits(target: &Domain, guest: &Guest, work: &mut Work) {
    for disk in &target.disks {
        let mut before = guest.launch.domain.disks.iter();
        let Some(before) = before.find(|before| before.target == disk.target) else {
            continue;
        };
        let told = guest.disks.get(&disk.target).map(|told| &told.limits);
        let now = told.unwrap_or(&before.limits);
        if now.limit_the_same_as(&disk.limits) {
            continue;
        }
        let reason = if before.limits == disk.limits {
            format!("the limits of disk {} are others", disk.target)
        } else {
            String::new()
        };
        work.act(
            reason,
            Effect::SetDiskLimits {
                guest: target.uuid,
                driver: target.driver,
                disk: disk.target.clone(),
                limits: Box::new(disk.limits.clone()),
            },
        );
    }
}

fn wait(wanted: &Wanted, heavy: &[fields::Found]) -> Pending {
    let allowed = wanted.policy.disruption;
    let notes = notes(heavy);
    let why = if allowed == Disruption::NextBoot {
        format!(
            "{notes}; it takes effect when the guest next starts, as its policy says: `vireo restart {}` would do it now",
            wanted.id.name
        )
    } else {
        format!(
            "{notes}; allow it with `policy: {{disruption: restart}}`, or run `vireo restart {}`",
            wanted.id.name
        )
    };
    Pending {
        object: wanted.id.clone(),
        needs: Disruption::Restart,
        allowed,
        differences: take(heavy),
        why,
    }
}

fn notes(found: &[fields::Found]) -> String {
    let mut notes: Vec<&str> = found.iter().map(|found| found.note).collect();
    notes.dedup();
    notes.join("; ")
}

fn take(found: &[fields::Found]) -> Vec<Difference> {
    found.iter().map(|found| found.difference.clone()).collect()
}

/// The step of a guest that goes on running.
fn step(
    context: &Context<'_>,
    wanted: &Wanted,
    domain: &Domain,
    page: &Page<'_>,
    work: Work,
    live: Vec<fields::Found>,
    waits: bool,
) -> Option<Step> {
    // While something waits, the definition counts as applied only in as far as its live part is.
    let after = page.after().filter(|_| !waits || !live.is_empty());
    if work.is_empty() && after.is_none() {
        return None;
    }
    let verb = if live.is_empty() && !work.is_empty() && !page.is_changed() {
        Verb::Repair
    } else {
        Verb::Change
    };
    let why = match (live.is_empty(), work.reasons.is_empty()) {
        (false, _) => notes(&live),
        (true, false) => work.reasons.join("; "),
        (true, true) if page.old().is_none() => {
            "it runs and is marked as ours: its page in the ledger is written again".to_owned()
        }
        (true, true) => page.reason(),
    };
    Some(Step {
        object: wanted.id.clone(),
        verb,
        disruption: Disruption::Live,
        summary: summary::domain(domain),
        why,
        differences: take(&live),
        needs: context.needs_of(wanted, domain),
        effects: page
            .before()
            .into_iter()
            .chain(work.effects)
            .chain(after)
            .collect(),
        undo: Vec::new(),
    })
}

fn restart(
    context: &Context<'_>,
    wanted: &Wanted,
    domain: &Domain,
    page: &Page<'_>,
    guest: &Guest,
    live: Vec<fields::Found>,
    heavy: Vec<fields::Found>,
) -> Found {
    let obstacles = super::obstacles(context, wanted, domain);
    if !obstacles.is_empty() {
        return Found {
            refusals: obstacles,
            ..Found::default()
        };
    }
    let mut work = Work::default();
    work.effects
        .extend(life::stop(context, &guest.launch, Some(domain)));
    let generation = life::generation(domain, Some(guest.launch.generation));
    if let Err(error) = life::start(context, wanted, domain, generation, &mut work) {
        return Found::refused(refusal(wanted, error.rule, error.message, ""));
    }
    let mut differences = take(&heavy);
    differences.extend(take(&live));
    Found::step(Some(Step {
        object: wanted.id.clone(),
        verb: Verb::Restart,
        disruption: Disruption::Restart,
        summary: summary::domain(domain),
        why: if context.restart == Some(domain.uuid) {
            "its restart is asked for".to_owned()
        } else {
            format!("{}, and its policy allows a restart", notes(&heavy))
        },
        differences,
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
