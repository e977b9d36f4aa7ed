//! Disks and drives.

use std::path::PathBuf;

use vireo_schema::Rule;
use vireo_schema::complete::targets::bus;
use vireo_schema::domain::disk::{
    self, CacheMode, DetectZeroes, Discard, DiskDevice, DiskDriver, DiskType, ErrorPolicy,
    ImageFormatName, ReadErrorPolicy,
};

use super::super::storage::is_plain;
use super::super::{Resolving, Surroundings};
use super::{address, limits, nth};
use crate::object::Kind;
use crate::resolve::domain::Disk;
use crate::resolve::storage::ImageFormat;

/// A disk of that number and name in the guest, completed.
pub(super) fn disk_at(
    at: &mut Resolving<'_>,
    (number, stated): (usize, &disk::Disk),
    target: String,
    around: &Surroundings,
) -> Option<Disk> {
    let path = nth("disk", number);
    let (image, volume, known) = image(at, stated, &path, around)?;
    let driver = stated.driver.as_ref();
    let format = match driver.and_then(|driver| driver.kind) {
        None => known.unwrap_or(ImageFormat::Raw),
        Some(ImageFormatName::Raw) => ImageFormat::Raw,
        Some(ImageFormatName::Qcow2) => ImageFormat::Qcow2,
        Some(other) => {
            let message = format!(
                "a disk with an image of format '{}' is not something vireo can do",
                other.as_str()
            );
            at.refuse(
                Rule::Unsupported,
                &format!("{path}/driver/@type"),
                message,
                "raw and qcow2 are; convert others with qemu-img",
            );
            return None;
        }
    };
    if let (Some(known), true) = (
        known.filter(|known| *known != format),
        driver.is_some_and(|driver| driver.kind.is_some()),
    ) {
        at.refuse(
            Rule::Contradiction,
            &format!("{path}/driver/@type"),
            format!("the volume is {known}, not {format}"),
            "take it out, or make it agree with the volume's definition",
        );
    }
    if let Some(name) = driver
        .and_then(|driver| driver.name.as_deref())
        .filter(|name| *name != "qemu")
    {
        at.refuse(
            Rule::Unsupported,
            &format!("{path}/driver/@name"),
            format!("a disk of driver '{name}' is not something vireo can do"),
            "qemu is, and is what it is without a name",
        );
    }
    let device = stated.device.unwrap_or(DiskDevice::Disk);
    Some(Disk {
        target,
        bus: bus(stated).as_str().to_owned(),
        device: device.as_str().to_owned(),
        path: image,
        volume,
        format,
        readonly: stated.readonly || device == DiskDevice::Cdrom,
        shareable: stated.shareable,
        cache: driver
            .and_then(|driver| driver.cache)
            .filter(|cache| *cache != CacheMode::Default),
        io: driver.and_then(|driver| driver.io),
        discard: driver.and_then(|driver| driver.discard),
        serial: stated.serial.as_ref().map(|serial| serial.0.clone()),
        detect_zeroes: detect_zeroes(stated),
        queues: driver.and_then(|driver| driver.queues),
        queue_size: driver.and_then(|driver| driver.queue_size),
        error_policy: driver
            .and_then(|driver| driver.error_policy)
            .filter(|policy| *policy != ErrorPolicy::Enospace),
        rerror_policy: driver.and_then(read_error_policy),
        limits: limits::limits(at, stated.iotune.as_ref(), &path),
        boot_order: stated.boot.as_ref().and_then(|boot| boot.order),
        address: address(at, &path, stated.address.as_ref()),
    })
}

/// What becomes of zeroes. Source: libvirt's domain format, "Hard drives, floppy disks, CDROMs": `unmap` without discards is `on`.
fn detect_zeroes(stated: &disk::Disk) -> Option<DetectZeroes> {
    let driver = stated.driver.as_ref()?;
    match (driver.detect_zeroes?, driver.discard) {
        (DetectZeroes::Off, _) => None,
        (DetectZeroes::Unmap, Some(Discard::Unmap)) => Some(DetectZeroes::Unmap),
        (DetectZeroes::On | DetectZeroes::Unmap, _) => Some(DetectZeroes::On),
    }
}

/// What follows when the host fails a read, where it is not the default. Source: libvirt's domain format, "Hard drives, floppy disks, CDROMs": what is said of all errors
/// holds for reads too, but for enospace.
fn read_error_policy(driver: &DiskDriver) -> Option<ReadErrorPolicy> {
    let of_all = match driver.error_policy {
        Some(ErrorPolicy::Stop) => Some(ReadErrorPolicy::Stop),
        Some(ErrorPolicy::Ignore) => Some(ReadErrorPolicy::Ignore),
        Some(ErrorPolicy::Report | ErrorPolicy::Enospace) | None => None,
    };
    let policy = driver.rerror_policy.or(of_all);
    policy.filter(|policy| *policy != ReadErrorPolicy::Report)
}

/// What a disk's source stands for: the image's path, the volume, and the format where the volume's definition says it.
type Image = (Option<PathBuf>, Option<String>, Option<ImageFormat>);

fn image(
    at: &mut Resolving<'_>,
    stated: &disk::Disk,
    path: &str,
    around: &Surroundings,
) -> Option<Image> {
    let source = stated.source.as_ref();
    let kind = stated.kind.unwrap_or(DiskType::File);
    let named = match kind {
        DiskType::File => source.and_then(|source| source.file.clone()),
        DiskType::Block => source.and_then(|source| source.dev.clone()),
        DiskType::Volume => {
            let pool_and_name =
                source.and_then(|source| source.pool.clone().zip(source.volume.clone()));
            let Some((pool, name)) = pool_and_name else {
                at.refuse(
                    Rule::Missing,
                    path,
                    "the disk does not say which volume it is",
                    "<source pool='…' volume='…'/>, or `volume: POOL/NAME`",
                );
                return None;
            };
            let name = format!("{pool}/{name}");
            let Some(volume) = around.volumes.get(&name) else {
                let (message, help) = around.lack(Kind::Volume, &name, around.volumes.keys());
                at.refuse(
                    Rule::UnknownReference,
                    &format!("{path}/source"),
                    message,
                    help,
                );
                return None;
            };
            return Some((Some(volume.path.clone()), Some(name), Some(volume.format)));
        }
        other => {
            let message = format!(
                "a disk of type '{}' is not something vireo can do",
                other.as_str()
            );
            at.refuse(
                Rule::Unsupported,
                &format!("{path}/@type"),
                message,
                "file, block and volume are",
            );
            return None;
        }
    };
    let drive = matches!(stated.device, Some(DiskDevice::Cdrom | DiskDevice::Floppy));
    let Some(named) = named.map(PathBuf::from) else {
        if !drive {
            at.refuse(
                Rule::Missing,
                path,
                "the disk has no image",
                "<source file='…'/>, or `file: …`; only a cdrom or a floppy drive may be empty",
            );
            return None;
        }
        return Some((None, None, None));
    };
    if !is_plain(&named) {
        let message = format!("`{}` is not an absolute path without '..'", named.display());
        at.refuse(
            Rule::BadPath,
            &format!("{path}/source"),
            message,
            "such as /var/lib/vireo/images/web.qcow2",
        );
        return None;
    }
    let volume = around
        .volumes
        .iter()
        .find(|(_, volume)| volume.path == named);
    let (volume, format) = volume
        .map(|(name, volume)| (name.clone(), volume.format))
        .unzip();
    Some((Some(named), volume, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_follow_what_is_said_of_all_errors_unless_something_is_said_of_them() {
        use ReadErrorPolicy as R;
        for (all, reads, wanted) in [
            (None, None, None),
            (Some(ErrorPolicy::Report), None, None),
            (Some(ErrorPolicy::Enospace), None, None),
            (Some(ErrorPolicy::Stop), None, Some(R::Stop)),
            (Some(ErrorPolicy::Ignore), None, Some(R::Ignore)),
            (Some(ErrorPolicy::Stop), Some(R::Report), None),
            (Some(ErrorPolicy::Ignore), Some(R::Stop), Some(R::Stop)),
            (None, Some(R::Ignore), Some(R::Ignore)),
        ] {
            let driver = DiskDriver {
                error_policy: all,
                rerror_policy: reads,
                ..DiskDriver::default()
            };
            assert_eq!(read_error_policy(&driver), wanted, "{all:?} {reads:?}");
        }
    }
}
