//! Volumes of directory pools: one image file each.
//!
//! In: a resolved volume. Out: the image under its name, whole and on disk, or nothing. What can go wrong: the name is taken, the file system is full or refuses, `qemu-img` is
//! missing or refuses.
//!
//! An image is made under a temporary name in its pool's directory and renamed without replacing, so that a name only ever stands for a whole image and no file is
//! written over. All of it happens relative to the open directory, by names without a slash, and no symbolic link at such a name is followed: nothing
//! outside the pool can be made, changed or deleted through it. The path to the directory itself may lead through links of the operator's.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{blocking, command, directory, image};
use crate::execute::effect::EffectError;
use crate::inventory::Image;
use crate::resolve::storage::{ImageFormat, Volume};
use crate::units::Bytes;

/// Allocating a large image takes a while on a slow disk.
const LIMIT: Duration = Duration::from_secs(600);

/// Written at once where the file system cannot allocate.
const CHUNK: usize = 1 << 20;

/// A file's place: its open directory and its name in it.
struct Place {
    folder: OwnedFd,
    name: String,
    path: PathBuf,
}

impl Place {
    fn of(path: &Path, doing: &str) -> Result<Self, EffectError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
        else {
            return Err(EffectError::refused(format!(
                "cannot {doing}: not the path of a file"
            )));
        };
        if !path.is_absolute()
            || path
                .components()
                .any(|c| c == std::path::Component::ParentDir)
        {
            return Err(EffectError::refused(format!(
                "cannot {doing}: not an absolute path without '..'"
            )));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder =
            rustix::fs::open(parent, flags, Mode::empty()).map_err(|error| failed(doing, error))?;
        Ok(Self {
            folder,
            name: name.to_owned(),
            path: path.to_owned(),
        })
    }

    /// The image under the name; `None` if there is nothing.
    fn image(&self, doing: &str) -> Result<Option<Image>, EffectError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file: File =
            match rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(None),
                other => other.map_err(|error| failed(doing, error))?.into(),
            };
        let regular = file.metadata().is_ok_and(|m| m.is_file());
        match image::read(&mut file, &self.path) {
            Ok(Some(image)) if regular => Ok(Some(image)),
            Ok(_) => Err(EffectError::refused(format!(
                "cannot {doing}: what has its name is not an image"
            ))),
            Err(error) => Err(directory::failed(doing, &error)),
        }
    }

    fn remove(&self, name: &str) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.folder, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    fn sync(&self) -> Result<(), Errno> {
        rustix::fs::fsync(&self.folder)
    }
}

/// Makes a volume's image. One that is there as stated is left alone; anything else with its name is refused.
///
/// # Errors
/// The name is taken by something else; the image cannot be made.
pub async fn create(volume: &Volume) -> Result<(), EffectError> {
    let doing = format!("make volume {}", volume.path.display());
    if volume.path.file_name().and_then(|n| n.to_str()) != Some(volume.name.as_str()) {
        return Err(EffectError::refused(format!(
            "cannot {doing}: '{}' is not a file's name",
            volume.name
        )));
    }
    let temporary = format!(".vireo-{}.new", volume.uuid);
    let (place, found) = blocking({
        let (path, doing, temporary) = (volume.path.clone(), doing.clone(), temporary.clone());
        move || {
            let place = Place::of(&path, &doing)?;
            place.remove(&temporary).map_err(|e| failed(&doing, e))?;
            let found = place.image(&doing)?;
            Ok((place, found))
        }
    })
    .await?;
    if let Some(found) = found {
        return same(volume, &found, &doing);
    }
    let parent = volume.path.parent().unwrap_or(Path::new("/"));
    if volume.format == ImageFormat::Qcow2 {
        let arguments = qcow2_arguments(volume, &parent.join(&temporary));
        command::run("qemu-img", &arguments, "", LIMIT)
            .await
            .map_err(|error| error.during(&doing))?;
    }
    let volume = volume.clone();
    blocking(move || {
        let finished = finish(&volume, &place, &temporary, &doing);
        if finished.is_err() {
            let _ = place.remove(&temporary);
        }
        finished
    })
    .await
}

/// An image that is there already is ours if it is what was to be made.
fn same(volume: &Volume, found: &Image, doing: &str) -> Result<(), EffectError> {
    let capacity = volume.capacity.unwrap_or(found.capacity);
    let backing = volume.backing.as_ref().map(|b| &b.path);
    if found.format == volume.format
        && found.capacity == round_up(capacity)
        && found.backing.as_ref() == backing
    {
        return Ok(());
    }
    Err(EffectError::refused(format!(
        "cannot {doing}: there is a {} image of {} with that name, and it is not written over",
        found.format, found.capacity
    ))
    .with_help("move the file away, or give the volume another name"))
}

/// Images are whole sectors.
pub fn round_up(capacity: Bytes) -> Bytes {
    Bytes(capacity.0.saturating_add(511) / 512 * 512)
}

fn qcow2_arguments(volume: &Volume, path: &Path) -> Vec<std::ffi::OsString> {
    let mut options = Vec::new();
    if let Some(compat) = &volume.compat {
        options.push(format!("compat={}", compat.replace(',', ",,")));
    }
    let all = volume
        .allocation
        .zip(volume.capacity)
        .is_some_and(|(allocation, capacity)| allocation >= capacity);
    if all && volume.backing.is_none() && volume.capacity != Some(Bytes(0)) {
        options.push("preallocation=falloc".to_owned());
    }
    let mut arguments: Vec<std::ffi::OsString> =
        ["create", "-q", "-f", "qcow2"].map(Into::into).to_vec();
    if !options.is_empty() {
        arguments.extend(["-o".into(), options.join(",").into()]);
    }
    if let Some(backing) = &volume.backing {
        arguments.extend([
            "-b".into(),
            backing.path.clone().into_os_string(),
            "-F".into(),
            backing.format.to_string().into(),
        ]);
    }
    arguments.push("--".into());
    arguments.push(path.into());
    if let Some(capacity) = volume.capacity {
        arguments.push(round_up(capacity).0.to_string().into());
    }
    arguments
}

/// Makes a raw image, or takes the qcow2 image that was made; sets its permissions, puts it on disk and gives it its name.
fn finish(volume: &Volume, place: &Place, temporary: &str, doing: &str) -> Result<(), EffectError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let refused = |error: Errno| failed(doing, error);
    let file: File = match volume.format {
        ImageFormat::Qcow2 => rustix::fs::openat(&place.folder, temporary, flags, Mode::empty()),
        ImageFormat::Raw => {
            let flags = flags | OFlags::CREATE | OFlags::EXCL;
            rustix::fs::openat(&place.folder, temporary, flags, Mode::RUSR | Mode::WUSR)
        }
    }
    .map_err(refused)?
    .into();
    if volume.format == ImageFormat::Raw {
        fill_raw(volume, &file, doing)?;
    }
    let mut permissions = volume.permissions.clone();
    permissions.mode.get_or_insert(0o600);
    directory::apply(&file, &permissions)
        .and_then(|()| file.sync_all())
        .map_err(|error| directory::failed(doing, &error))?;
    publish(place, temporary).map_err(|error| match error {
        Errno::EXIST => EffectError::passing(format!(
            "cannot {doing}: something took its name meanwhile, and is not written over"
        )),
        other => failed(doing, other),
    })?;
    place.sync().map_err(refused)
}

/// Gives the image its name, if nothing has it.
fn publish(place: &Place, temporary: &str) -> Result<(), Errno> {
    let (folder, name) = (&place.folder, place.name.as_str());
    match rustix::fs::renameat_with(folder, temporary, folder, name, RenameFlags::NOREPLACE) {
        // A file system without that operation has links.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(folder, temporary, folder, name, AtFlags::empty())?;
            place.remove(temporary)
        }
        other => other,
    }
}

/// Gives a raw image its size, and the space that is stated: all of it where nothing is. Source: libvirt's volume format, `<allocation>`.
fn fill_raw(volume: &Volume, file: &File, doing: &str) -> Result<(), EffectError> {
    let Some(capacity) = volume.capacity.filter(|_| volume.backing.is_none()) else {
        return Err(EffectError::refused(format!(
            "cannot {doing}: a raw image has a capacity, and no backing file"
        )));
    };
    let capacity = round_up(capacity).0;
    let allocation = volume.allocation.map_or(capacity, |a| a.0.min(capacity));
    let filled = file
        .set_len(capacity)
        .and_then(|()| allocate(file, allocation));
    filled.map_err(|error| directory::failed(doing, &error))
}

fn allocate(file: &File, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
        // A file system that cannot allocate can be written to.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeroes(file, length),
        other => Ok(other?),
    }
}

fn write_zeroes(mut file: &File, length: u64) -> io::Result<()> {
    let zeroes = vec![0; CHUNK];
    let mut left = length;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        file.write_all(zeroes.get(..now).unwrap_or(&zeroes))?;
        left -= now as u64;
    }
    Ok(())
}

/// Makes an image larger. One that is that large already is left alone; a larger one is refused.
///
/// # Errors
/// There is no image; it is larger; a guest has it open; it cannot grow.
pub async fn grow(path: &Path, capacity: Bytes) -> Result<(), EffectError> {
    let doing = format!("grow {} to {capacity}", path.display());
    let wanted = round_up(capacity);
    let found = blocking({
        let (path, doing) = (path.to_owned(), doing.clone());
        move || {
            let place = Place::of(&path, &doing)?;
            let Some(found) = place.image(&doing)? else {
                return Err(EffectError::refused(format!(
                    "cannot {doing}: there is no such file"
                )));
            };
            if found.capacity > wanted {
                return Err(EffectError::refused(format!(
                    "cannot {doing}: it is {}, and making it smaller would lose data",
                    found.capacity
                )));
            }
            if found.format == ImageFormat::Raw && found.capacity < wanted {
                grow_raw(&place, wanted, &doing)?;
            }
            Ok(found)
        }
    })
    .await?;
    if found.format == ImageFormat::Raw || found.capacity == wanted {
        return Ok(());
    }
    let size = wanted.0.to_string();
    let arguments: [&std::ffi::OsStr; 7] = [
        "resize".as_ref(),
        "-q".as_ref(),
        "-f".as_ref(),
        "qcow2".as_ref(),
        "--".as_ref(),
        path.as_os_str(),
        size.as_ref(),
    ];
    let run = command::run("qemu-img", &arguments, "", LIMIT).await;
    run.map(drop).map_err(|error| {
        let locked = error.to_string().contains("lock");
        let mut failed = error.during(&doing);
        if locked {
            failed.retry = true;
            failed =
                failed.with_help("a guest has the image open: it grows once the guest is stopped");
        }
        failed
    })
}

fn grow_raw(place: &Place, wanted: Bytes, doing: &str) -> Result<(), EffectError> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: File = rustix::fs::openat(&place.folder, &place.name, flags, Mode::empty())
        .map_err(|error| failed(doing, error))?
        .into();
    file.set_len(wanted.0)
        .and_then(|()| file.sync_all())
        .map_err(|error| directory::failed(doing, &error))
}

/// Deletes a volume's file. Absent is fine; what is not a plain file is refused.
///
/// # Errors
/// It is not a plain file; the file system refuses.
pub fn delete(path: &Path) -> Result<(), EffectError> {
    let doing = format!("delete volume {}", path.display());
    if path.parent().is_some_and(|parent| !parent.exists()) {
        return Ok(());
    }
    let place = Place::of(path, &doing)?;
    let found = match rustix::fs::statat(&place.folder, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(|error| failed(&doing, error))?,
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(EffectError::refused(format!(
            "cannot {doing}: it is not a plain file"
        )));
    }
    place
        .remove(&place.name)
        .and_then(|()| place.sync())
        .map_err(|error| failed(&doing, error))
}

fn failed(doing: &str, error: Errno) -> EffectError {
    directory::failed(doing, &io::Error::from(error))
}

#[cfg(test)]
mod tests;
