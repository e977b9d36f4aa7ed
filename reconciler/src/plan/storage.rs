//! Pools (directories) and volumes (image files).
//!
//! A volume is never made twice and never written over: what was made once and is gone is data loss, which is reported and left to a person; a file that is there
//! and not ours is somebody's data. What would lose data waits for leave, and even then while a running guest has the image open.

use crate::desired::{Resolved, Wanted};
use crate::execute::effect::Effect;
use crate::inventory::{File, Guest, GuestState};
use crate::object::{Kind, ObjectId};
use crate::resolve::WantedState;
use crate::resolve::domain::Disk;
use crate::resolve::storage::{ImageFormat, Permissions, Pool, Volume};
use vireo_schema::Rule;

use super::context::{Context, list};
use super::draft::{Found, Page, Says, Work, finish, refusal};
use super::step::{Difference, Disruption, Pending};
use super::{difference, summary};

/// Plans one pool.
pub(super) fn plan_pool(context: &Context<'_>, wanted: &Wanted, pool: &Pool) -> Found {
    let page = Page::open(context.ledger, wanted);
    let mut work = Work::default();
    match context.inventory.directories.get(&pool.path) {
        None => work.act(
            format!("directory {} is not there", pool.path.display()),
            Effect::EnsureDirectory {
                path: pool.path.clone(),
                permissions: pool.permissions.clone(),
            },
        ),
        Some(observed) if !satisfied(&pool.permissions, observed) => work.act(
            format!("{} has another owner, group or mode", pool.path.display()),
            Effect::EnsureDirectory {
                path: pool.path.clone(),
                permissions: pool.permissions.clone(),
            },
        ),
        Some(_) => {}
    }
    let says = Says {
        summary: summary::pool(pool),
        create: "it is defined, and vireo does not keep it yet".to_owned(),
        differences: difference::of_definition(wanted, page.old()),
        ..Says::default()
    };
    Found::step(finish(&page, work, says))
}

/// Whether what is observed has every permission that is stated.
fn satisfied(wanted: &Permissions, observed: &Permissions) -> bool {
    let same = |wanted: Option<u32>, observed: Option<u32>| wanted.is_none() || wanted == observed;
    same(wanted.owner, observed.owner)
        && same(wanted.group, observed.group)
        && same(wanted.mode, observed.mode)
}

/// Plans one volume.
pub(super) fn plan_volume(context: &Context<'_>, wanted: &Wanted, volume: &Volume) -> Found {
    let page = Page::open(context.ledger, wanted);
    let file = context.inventory.files.get(&volume.path);
    let Some(entry) = page.old() else {
        return match file {
            None => create(wanted, volume, &page),
            Some(_) => exists(wanted, volume),
        };
    };
    if let Some(old) = &entry.holds.path
        && *old != volume.path
        && entry.made
        && (file.is_none() || context.inventory.files.contains_key(old))
    {
        return moved(wanted, volume, old);
    }
    match file {
        None if entry.made => lost(wanted, volume),
        None => create(wanted, volume, &page),
        Some(file) => keep(context, wanted, volume, &page, file),
    }
}

fn create(wanted: &Wanted, volume: &Volume, page: &Page<'_>) -> Found {
    let mut work = Work::default();
    work.also(Effect::CreateVolume(Box::new(volume.clone())));
    Found::step(finish(page, work, says(wanted, volume, page)))
}

fn says(wanted: &Wanted, volume: &Volume, page: &Page<'_>) -> Says {
    Says {
        summary: summary::volume(volume),
        create: "it is defined, and its pool does not hold it".to_owned(),
        differences: if page.is_new() {
            Vec::new()
        } else {
            difference::of_definition(wanted, page.old())
        },
        needs: vec![ObjectId::new(Kind::Pool, volume.pool_uuid, &volume.pool)],
    }
}

fn exists(wanted: &Wanted, volume: &Volume) -> Found {
    Found::refused(refusal(
        wanted,
        Rule::Exists,
        format!(
            "{} exists already and is not one of vireo's volumes: it is left as it is",
            volume.path.display()
        ),
        "move the file away, or give the volume another name; a guest can use the file as it is with <source file=…/>",
    ))
}

fn moved(wanted: &Wanted, volume: &Volume, old: &std::path::Path) -> Found {
    Found::refused(refusal(
        wanted,
        Rule::WouldMove,
        format!(
            "volume {} would be {} and is {}: vireo does not move data",
            wanted.id.name,
            volume.path.display(),
            old.display()
        ),
        "move the file there by hand while no guest uses it, or put the path back",
    ))
}

fn lost(wanted: &Wanted, volume: &Volume) -> Found {
    Found::refused(refusal(
        wanted,
        Rule::DataLoss,
        format!(
            "{} was made once and is gone: its data is lost, and an empty volume is not put in its place",
            volume.path.display()
        ),
        "put the file back from a backup; or remove the definition, apply, and state it again for an empty volume",
    ))
}

/// A volume whose file is there.
fn keep(
    context: &Context<'_>,
    wanted: &Wanted,
    volume: &Volume,
    page: &Page<'_>,
    file: &File,
) -> Found {
    if let Some(difference) = incompatible(wanted, volume, file) {
        return replace(context, wanted, volume, page, difference);
    }
    let mut work = Work::default();
    let mut found = Found::default();
    match growth(wanted, volume, file) {
        Growth::None => {}
        Growth::Smaller(refusal) => found.refusals.push(*refusal),
        Growth::Larger(difference) => {
            let users = context.guests_on_image(&volume.path);
            if users.is_empty() {
                work.act(
                    format!("it grows to {}", summary::capacity(volume)),
                    Effect::GrowVolume {
                        path: volume.path.clone(),
                        capacity: volume.capacity.unwrap_or_default(),
                    },
                );
            } else if let Some((guest, disk)) = grower(context, volume) {
                let runs = &guest.launch.domain;
                work.act(
                    format!(
                        "it grows to {} as disk {} of {}, which is told",
                        summary::capacity(volume),
                        disk.target,
                        runs.name
                    ),
                    Effect::GrowDisk {
                        guest: runs.uuid,
                        driver: runs.driver,
                        disk: disk.target.clone(),
                        path: volume.path.clone(),
                        capacity: volume.capacity.unwrap_or_default(),
                    },
                );
            } else {
                found.pending = Some(grows_later(wanted, users, *difference));
            }
        }
    }
    if !satisfied(&volume.permissions, &file.permissions) {
        work.act(
            "its owner, group or mode is another",
            Effect::SetPermissions {
                path: volume.path.clone(),
                permissions: volume.permissions.clone(),
            },
        );
    }
    // A definition that still waits or is refused in part is not recorded as applied.
    if found.is_nothing() || !work.is_empty() {
        found.step = finish(page, work, says(wanted, volume, page));
    }
    if !found.refusals.is_empty() || found.pending.is_some() {
        found.step.iter_mut().for_each(forget_definition);
    }
    found
}

/// Leaves the ledger's definition as it is: the step does only a part of what is stated.
fn forget_definition(step: &mut super::step::Step) {
    step.differences.clear();
    step.effects
        .retain(|effect| !matches!(effect, Effect::Record(_)));
}

enum Growth {
    None,
    Larger(Box<Difference>),
    Smaller(Box<super::step::Refusal>),
}

fn growth(wanted: &Wanted, volume: &Volume, file: &File) -> Growth {
    let there = match (volume.format, &file.image) {
        (ImageFormat::Raw, _) => file.size,
        (_, Some(image)) => image.capacity,
        (_, None) => return Growth::None,
    };
    let Some(capacity) = volume.capacity else {
        return Growth::None;
    };
    if capacity > there {
        return Growth::Larger(Box::new(difference::one(
            wanted,
            "capacity",
            Some(there.to_string()),
            Some(capacity.to_string()),
            Disruption::NextBoot,
        )));
    }
    if capacity < there {
        return Growth::Smaller(Box::new(refusal(
            wanted,
            Rule::WouldShrink,
            format!(
                "volume {} has {there} and is stated with {capacity}: making it smaller would cut off data",
                wanted.id.name
            ),
            "state the capacity that it has, or make a new volume and copy what is needed",
        )));
    }
    Growth::None
}

/// The guest that can make an image larger which it has open, and its disk: the only one that has it, may write it, and goes on running.
fn grower<'c>(context: &Context<'c>, volume: &Volume) -> Option<(&'c Guest, &'c Disk)> {
    let guests = context.inventory.guests.values();
    let mut running = guests.filter(|guest| {
        let state = &guest.state;
        matches!(
            state,
            GuestState::Running { .. } | GuestState::Paused { .. }
        )
    });
    let has = |disk: &&Disk| disk.path.as_ref() == Some(&volume.path);
    let [_] = context.guests_on_image(&volume.path) else {
        return None;
    };
    let (guest, disk) = running.find_map(|guest| {
        let disk = guest.launch.domain.disks.iter().find(has)?;
        (!disk.readonly && disk.format == volume.format).then_some((guest, disk))
    })?;
    let id = ObjectId::new(Kind::Domain, guest.launch.domain.uuid, "");
    let wanted = context.desired.objects.get(&id)?;
    let goes_on = matches!(&wanted.resolved, Resolved::Domain(domain) if domain.lifecycle.wanted != WantedState::Stopped);
    (goes_on && !wanted.policy.suspend).then_some((guest, disk))
}

fn grows_later(wanted: &Wanted, users: &[&str], difference: Difference) -> Pending {
    Pending {
        object: wanted.id.clone(),
        needs: Disruption::NextBoot,
        allowed: wanted.policy.disruption,
        differences: vec![difference],
        why: format!(
            "{} has the image open: it grows before the guest next starts",
            list(users)
        ),
    }
}

/// What of an existing image cannot be changed in place. The header of a raw image is the guest's to write: it says nothing.
fn incompatible(wanted: &Wanted, volume: &Volume, file: &File) -> Option<Difference> {
    let before = match wanted.previous.as_deref() {
        Some(Resolved::Volume(before)) => before.format,
        _ if volume.format == ImageFormat::Raw => ImageFormat::Raw,
        _ => file.image.as_ref()?.format,
    };
    let (field, before, after) = if before != volume.format {
        (
            "target/format",
            Some(before.to_string()),
            Some(volume.format.to_string()),
        )
    } else if volume.format == ImageFormat::Raw {
        return None;
    } else {
        let image = file.image.as_ref()?;
        let stated = volume.backing.as_ref().map(|backing| &backing.path);
        if image.backing.as_ref() == stated {
            return None;
        }
        let text = |path: Option<&std::path::PathBuf>| path.map(|path| path.display().to_string());
        (
            "backingStore/path",
            text(image.backing.as_ref()),
            text(stated),
        )
    };
    Some(difference::one(
        wanted,
        field,
        before,
        after,
        Disruption::DataLoss,
    ))
}

/// A volume that can only be made anew.
fn replace(
    context: &Context<'_>,
    wanted: &Wanted,
    volume: &Volume,
    page: &Page<'_>,
    difference: Difference,
) -> Found {
    let users = context.guests_on_image(&volume.path);
    let allowed = wanted.policy.disruption;
    if allowed < Disruption::DataLoss || !users.is_empty() {
        let why = if allowed < Disruption::DataLoss {
            "it can only be made anew, empty; allow that with `policy: {disruption: data-loss}`"
                .to_owned()
        } else {
            format!("it can only be made anew, and {} has it open", list(users))
        };
        return Found {
            pending: Some(Pending {
                object: wanted.id.clone(),
                needs: Disruption::DataLoss,
                allowed,
                differences: vec![difference],
                why,
            }),
            ..Found::default()
        };
    }
    let mut work = Work::default();
    work.act(
        "its policy lets its data go: it is made anew, empty",
        Effect::DeleteVolume {
            path: volume.path.clone(),
        },
    );
    work.also(Effect::CreateVolume(Box::new(volume.clone())));
    let says = Says {
        differences: vec![difference],
        ..says(wanted, volume, page)
    };
    Found::step(finish(page, work, says))
}
