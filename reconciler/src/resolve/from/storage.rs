//! Pools and volumes.

use std::path::{Component, Path, PathBuf};

use vireo_schema::pool::{self as stated, PoolType};
use vireo_schema::{Kind, Retain, Rule};

use super::{Resolving, Surroundings, support};
use crate::plan::step::Refusal;
use crate::resolve::storage::{Backing, ImageFormat, Permissions, Pool, Volume};
use crate::units::Bytes;

/// A pool's definition, completed.
///
/// # Errors
/// Everything that it asks for and that cannot be done.
pub(crate) fn pool(mut at: Resolving<'_>, pool: &stated::Pool) -> Result<Pool, Vec<Refusal>> {
    let kind = pool.kind.unwrap_or(PoolType::Dir);
    if kind != PoolType::Dir {
        let message = format!(
            "a pool of type '{}' is not something vireo can do",
            kind.as_str()
        );
        at.refuse(
            Rule::Unsupported,
            "@type",
            message,
            "a directory is: type='dir'; mount the storage on the host and name the directory",
        );
        return at.finish(None);
    }
    at.refuse_uncovered(support::pool(), "a directory pool");
    let path = pool
        .target
        .as_ref()
        .and_then(|target| target.path.clone())
        .map(PathBuf::from);
    let permissions = pool
        .target
        .as_ref()
        .and_then(|target| target.permissions.as_ref());
    let found = match path {
        Some(path) if is_plain(&path) => Some(Pool {
            uuid: at.id.uuid,
            name: at.id.name.clone(),
            path,
            permissions: permissions_of(permissions),
        }),
        Some(path) => {
            let message = format!("`{}` is not an absolute path without '..'", path.display());
            at.refuse(
                Rule::BadPath,
                "target/path",
                message,
                "such as /var/lib/vireo/images",
            );
            None
        }
        None => {
            at.refuse(
                Rule::Missing,
                "target",
                "the pool does not say which directory it is",
                "add <target><path>…</path></target>",
            );
            None
        }
    };
    at.finish(found)
}

/// A volume's definition, completed.
///
/// # Errors
/// Everything that it asks for and that cannot be done, and a pool that is not there.
pub(crate) fn volume(
    mut at: Resolving<'_>,
    volume: &vireo_schema::Volume,
    around: &Surroundings,
) -> Result<Volume, Vec<Refusal>> {
    at.refuse_uncovered(support::volume(), "a volume of a directory pool");
    let found = complete(&mut at, volume, around);
    at.finish(found)
}

fn complete(
    at: &mut Resolving<'_>,
    volume: &vireo_schema::Volume,
    around: &Surroundings,
) -> Option<Volume> {
    let policy = &at.located.policy;
    let pool = volume
        .pool
        .as_ref()
        .or(policy.pool.as_ref())
        .map(ToString::to_string);
    let name = volume.name.as_ref().map(ToString::to_string)?;
    let Some(pool) = pool else {
        at.refuse(Rule::Missing, "name", format!("volume {name} does not say which pool it is in"), "in YAML write `volume: POOL/NAME`; in XML add <vireo:policy xmlns:vireo='urn:vireo:policy:1' pool='…'/>");
        return None;
    };
    let Some(pool) = around.pools.get(&pool) else {
        let (message, help) = around.lack(crate::object::Kind::Pool, &pool, around.pools.keys());
        at.refuse(Rule::UnknownReference, "@vireo:pool", message, help);
        return None;
    };
    if name.contains('/') || name == "." || name == ".." || name.starts_with('.') {
        at.refuse(
            Rule::BadName,
            "name",
            format!("`{name}` cannot be a file in a pool"),
            "a name without '/' that does not begin with '.'",
        );
        return None;
    }
    let target = volume.target.as_ref();
    let stated_format = target
        .and_then(|target| target.format.as_ref())
        .and_then(|format| format.kind.clone());
    let format = format(at, "target/format/@type", stated_format.as_deref())?;
    let size = |element: &Option<stated::SizeElement>| {
        element
            .as_ref()
            .and_then(|element| element.value.as_ref())
            .map(|value| Bytes(value.bytes().0))
    };
    let capacity = size(&volume.capacity);
    let backing = backing(at, volume, around, &pool.path);
    if capacity.is_none() && backing.is_none() {
        at.refuse(
            Rule::Missing,
            "name",
            format!("volume {name} does not say how large it is"),
            "add <capacity unit='GiB'>…</capacity>",
        );
        return None;
    }
    if backing.is_some() && format == ImageFormat::Raw {
        at.refuse(
            Rule::Contradiction,
            "backingStore",
            "a raw volume cannot be a layer over another image",
            "use format qcow2",
        );
        return None;
    }
    Some(Volume {
        uuid: at.id.uuid,
        pool: pool.name.clone(),
        pool_uuid: pool.uuid,
        path: pool.path.join(&name),
        name,
        capacity,
        allocation: size(&volume.allocation),
        format,
        backing,
        compat: target.and_then(|target| target.compat.clone()),
        permissions: permissions_of(target.and_then(|target| target.permissions.as_ref())),
        delete_with_definition: policy.retention(Kind::Volume) == Retain::Delete,
    })
}

fn backing(
    at: &mut Resolving<'_>,
    volume: &vireo_schema::Volume,
    around: &Surroundings,
    pool: &Path,
) -> Option<Backing> {
    let stated = volume.backing_store.as_ref()?;
    // An empty <backingStore/> says that there is none.
    let text = stated.path.clone()?;
    // A plain name is a file of the same pool, `pool/volume` a volume, all else a path.
    let named = around
        .volumes
        .get(&text)
        .map(|volume| (volume.path.clone(), volume.format));
    let (path, known) = match named {
        Some((path, format)) => (path, Some(format)),
        None if text.contains('/') => (PathBuf::from(&text), None),
        None => (pool.join(&text), None),
    };
    if !is_plain(&path) {
        at.refuse(
            Rule::BadPath,
            "backingStore/path",
            format!("`{text}` is not an absolute path without '..', nor a volume"),
            "such as /var/lib/vireo/images/debian.qcow2",
        );
        return None;
    }
    let known = known.or_else(|| {
        around
            .volumes
            .values()
            .find(|volume| volume.path == path)
            .map(|volume| volume.format)
    });
    let stated_format = stated
        .format
        .as_ref()
        .and_then(|format| format.kind.as_deref());
    let format = match (stated_format, known) {
        (None, Some(known)) => known,
        (None, None) => {
            at.refuse(Rule::Missing, "backingStore", format!("the format of the backing file {text} is not stated"), "add <format type='qcow2'/> or <format type='raw'/>: guessing it from its content would let a guest choose");
            return None;
        }
        (stated, _) => format(at, "backingStore/format/@type", stated)?,
    };
    Some(Backing { path, format })
}

fn format(at: &mut Resolving<'_>, path: &str, word: Option<&str>) -> Option<ImageFormat> {
    match word.unwrap_or("raw") {
        "raw" => Some(ImageFormat::Raw),
        "qcow2" => Some(ImageFormat::Qcow2),
        other => {
            at.refuse(
                Rule::Unsupported,
                path,
                format!("images of format '{other}' are not something vireo can make"),
                "raw and qcow2 are; convert others with qemu-img",
            );
            None
        }
    }
}

fn permissions_of(stated: Option<&stated::Permissions>) -> Permissions {
    let number = |owner: &Option<stated::Owner>| {
        owner
            .as_ref()
            .and_then(|owner| u32::try_from(owner.get()).ok())
    };
    Permissions {
        owner: stated.and_then(|stated| number(&stated.owner)),
        group: stated.and_then(|stated| number(&stated.group)),
        mode: stated
            .and_then(|stated| stated.mode.as_ref())
            .map(|mode| mode.bits()),
    }
}

/// Whether a path is absolute and goes nowhere but down.
pub(super) fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}
