//! Rules on what a disk is to the guest: its name, marks, bus, blocks and limits, and the threads that serve it.

use super::limits::limited;
use super::machine::{is_modern, is_q35, is_qemu, machine};
use super::one::Report;
use super::tune::threads;
use crate::complete::targets::known_bus as bus_of;
use crate::domain::Domain;
use crate::domain::disk::{
    CacheMode, Disk, DiskBus, DiskDevice, DiskDriver, DiskIo, DiskSnapshot, DiskType,
    ImageFormatName,
};
use crate::domain::storage::StartupPolicy;
use crate::rule::Rule;
use crate::scalar::{OnOff, Text, YesNo};
use std::collections::{BTreeSet, HashSet};
use std::fmt::Arguments;

/// Prefixes of disks' names.
const PREFIXES: [&str; 6] = ["hd", "sd", "vd", "xvd", "ubd", "fd"];

/// Every rule on disks as the guest sees them.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    let qemu = is_qemu(domain);
    let threads = threads(domain);
    for (i, disk) in domain.disks().iter().enumerate() {
        let path = format_args!("devices/disk[{}]", i + 1);
        name(disk, path, qemu, r);
        bus(disk, path, r);
        marks(disk, path, r);
        startup(disk, path, r);
        image(disk, path, r);
        if disk.kind == Some(DiskType::VhostUser) {
            vhost_user(disk, path, r);
        }
        if qemu {
            frontend(disk, path, r);
            missing_bus(domain, disk, path, r);
            served(disk, &threads, path, r);
            transient(disk, path, r);
        }
    }
    super::limits::check(domain, r);
}

/// Whether its medium can be taken out.
pub(crate) fn ejects(disk: &Disk) -> bool {
    matches!(disk.device, Some(DiskDevice::Cdrom | DiskDevice::Floppy))
}

fn format_of(disk: &Disk) -> Option<ImageFormatName> {
    disk.driver.as_ref().and_then(|driver| driver.kind)
}

fn name(disk: &Disk, path: Arguments<'_>, qemu: bool, r: &mut Report<'_>) {
    let Some(dev) = disk
        .target
        .as_ref()
        .and_then(|target| target.dev.as_deref())
    else {
        return;
    };
    let dev = dev.strip_prefix("ioemu:").unwrap_or(dev);
    let at = format_args!("{path}/target/@dev");
    if disk.device == Some(DiskDevice::Floppy) && !dev.starts_with("fd") {
        let message = format!("`{dev}` is no name of a floppy drive");
        r.add(Rule::DiskName, at, message, Some("name it fda or fdb"));
        return;
    }
    if dev.starts_with("nvme") {
        return;
    }
    let rest = PREFIXES.iter().find_map(|prefix| dev.strip_prefix(prefix));
    let help = "name it by its bus: vda for virtio, sda for scsi, sata and usb, hda for ide";
    match rest {
        None if qemu || !ejects(disk) => {
            let message = format!("`{dev}` is no name of a disk");
            r.add(Rule::DiskName, at, message, Some(help));
        }
        Some(rest) if qemu => {
            let digits = rest.trim_start_matches(|c: char| c.is_ascii_lowercase());
            if !matches!(digits, "" | "0") {
                let message = format!("`{dev}` is no name of a whole disk");
                r.add(Rule::DiskName, at, message, Some(help));
            }
        }
        _ => {}
    }
}

/// What only some buses and devices have.
fn bus(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    let target = disk.target.as_ref();
    if target.is_some_and(|target| target.tray.is_some()) && !ejects(disk) {
        r.report(
            Rule::DiskTray,
            format_args!("{path}/target/@tray"),
            "only a drive of CDs or floppies has a tray",
        );
    }
    let Some(bus) = bus_of(disk) else { return };
    let told = target.is_some_and(|target| target.removable.is_some());
    let whole = matches!(disk.device, None | Some(DiskDevice::Disk));
    if told && !(bus == DiskBus::Usb || bus == DiskBus::Scsi && whole) {
        r.report(
            Rule::DiskRemovable,
            format_args!("{path}/target/@removable"),
            format!("a {bus} device is not told to be removable: disks on usb and scsi are"),
        );
    }
    let Some(driver) = disk.driver.as_ref().filter(|_| bus != DiskBus::Virtio) else {
        return;
    };
    let own = [
        ("event_idx", driver.event_idx.is_some()),
        ("ioeventfd", driver.ioeventfd.is_some()),
        ("queues", driver.queues.is_some_and(|queues| queues > 0)),
        ("queue_size", driver.queue_size.is_some_and(|size| size > 0)),
    ];
    super::virtio::refuse(
        own.into_iter().chain(driver.virtio_options()),
        path,
        format_args!("virtio, and the disk is on the {bus} bus"),
        Some("leave it out, or put the disk on bus='virtio'"),
        r,
    );
}

/// Names that a disk tells of itself.
fn marks(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    if let Some(wwn) = disk.wwn.as_deref()
        && !is_wwn(wwn)
    {
        let message = format!("`{wwn}` is no world wide name: 16 hexadecimal digits");
        r.report(Rule::DiskWwn, format_args!("{path}/wwn"), message);
    }
    for (name, text, most) in [("vendor", &disk.vendor, 8), ("product", &disk.product, 16)] {
        let Some(text) = text.as_ref().map(|text| text.0.as_str()) else {
            continue;
        };
        if text.len() > most || text.chars().any(|c| !(' '..='~').contains(&c)) {
            r.report(
                Rule::DiskVendor,
                format_args!("{path}/{name}"),
                format!("`{text}` is not at most {most} printable ASCII characters"),
            );
        }
    }
}

/// Whether it is a world wide name: 16 hexadecimal digits, which may stand after `0x`.
pub(crate) fn is_wwn(text: &str) -> bool {
    let text = text.strip_prefix("0x").unwrap_or(text);
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether what happens without a medium can be chosen.
fn startup(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(policy) = disk
        .source
        .as_ref()
        .and_then(|source| source.startup_policy)
    else {
        return;
    };
    let at = format_args!("{path}/source/@startupPolicy");
    let kind = disk.kind.unwrap_or(DiskType::File);
    if !matches!(
        kind,
        DiskType::File | DiskType::Block | DiskType::Dir | DiskType::Volume
    ) {
        r.report(
            Rule::StartupPolicy,
            at,
            format!("a disk of type {kind} must be there: the policy is for files, devices and volumes of the host's"),
        );
    } else if policy == StartupPolicy::Requisite && !ejects(disk) {
        r.add(
            Rule::StartupPolicy,
            at,
            "`requisite` is for drives of CDs and floppies",
            Some("take `mandatory` or `optional`"),
        );
    }
}

/// What only some formats can.
fn image(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    // A volume's own format may be told by its pool.
    let kind = disk.kind.unwrap_or(DiskType::File);
    let told = format_of(disk);
    let format = told.or((kind == DiskType::Volume).then_some(ImageFormatName::Qcow2));
    let driver = disk.driver.as_ref();
    if driver.and_then(|driver| driver.discard_no_unref) == Some(OnOff::On) {
        let at = format_args!("{path}/driver/@discard_no_unref");
        if format != Some(ImageFormatName::Qcow2) {
            r.report(Rule::Qcow2Only, at, "only qcow2 keeps discarded clusters");
        } else if disk.readonly {
            r.report(
                Rule::Qcow2Only,
                at,
                "nothing is discarded of a disk that is read-only",
            );
        }
    }
    if driver.is_some_and(|driver| driver.metadata_cache.is_some())
        && format != Some(ImageFormatName::Qcow2)
    {
        r.report(
            Rule::Qcow2Only,
            format_args!("{path}/driver/metadata_cache"),
            "only qcow2 has tables to keep",
        );
    }
    if kind == DiskType::Dir && told.is_some_and(|format| format != ImageFormatName::Fat) {
        r.report(
            Rule::FatDisk,
            format_args!("{path}/driver/@type"),
            "a directory is shown as a disk of format fat",
        );
    }
    if told == Some(ImageFormatName::Fat) && !matches!(kind, DiskType::Dir | DiskType::Volume) {
        r.add(
            Rule::FatDisk,
            format_args!("{path}/driver/@type"),
            "`fat` is what a directory is shown as",
            Some("a file with a FAT file system in it is `raw`"),
        );
    }
}

/// What a disk that another process serves leaves to that process.
fn vhost_user(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    if let Some(bus) = bus_of(disk).filter(|bus| *bus != DiskBus::Virtio) {
        r.report(
            Rule::VhostUserDisk,
            format_args!("{path}/target/@bus"),
            format!("a disk of type vhostuser is on the virtio bus, not on {bus}"),
        );
    }
    let none = DiskDriver::default();
    let driver = disk.driver.as_ref().unwrap_or(&none);
    let cached = driver
        .cache
        .is_some_and(|cache| cache != CacheMode::Default);
    let encrypted = disk.encryption.is_some()
        || disk
            .source
            .as_ref()
            .is_some_and(|source| source.encryption.is_some());
    let stated = [
        ("driver/@cache", cached),
        ("driver/@error_policy", driver.error_policy.is_some()),
        ("driver/@rerror_policy", driver.rerror_policy.is_some()),
        ("driver/@io", driver.io.is_some()),
        ("driver/@ioeventfd", driver.ioeventfd.is_some()),
        ("driver/@copy_on_read", driver.copy_on_read.is_some()),
        ("driver/@discard", driver.discard.is_some()),
        ("driver/@iothread", driver.iothread.is_some_and(|id| id > 0)),
        ("driver/@detect_zeroes", driver.detect_zeroes.is_some()),
        ("driver/metadata_cache", driver.metadata_cache.is_some()),
        (
            "iotune",
            disk.iotune
                .as_ref()
                .is_some_and(|tune| limited(tune) || tune.group_name.is_some()),
        ),
        ("encryption", encrypted),
        ("readonly", disk.readonly),
        ("shareable", disk.shareable),
        ("transient", disk.transient.is_some()),
        ("serial", disk.serial.is_some()),
        ("wwn", disk.wwn.is_some()),
        ("vendor", disk.vendor.is_some()),
        ("product", disk.product.is_some()),
        (
            "@snapshot",
            disk.snapshot.is_some_and(|kept| kept != DiskSnapshot::No),
        ),
        ("auth", disk.auth.is_some()),
        ("geometry", disk.geometry.is_some()),
        ("blockio", disk.blockio.is_some()),
        (
            "backingStore",
            disk.backing_store
                .as_ref()
                .is_some_and(|store| store.kind.is_some()),
        ),
    ];
    for (name, _) in stated.iter().filter(|(_, stated)| *stated) {
        let bare = name.rsplit(['/', '@']).next().unwrap_or(name);
        r.report(
            Rule::VhostUserDisk,
            format_args!("{path}/{name}"),
            format!("`{bare}` cannot be told to the process that serves the disk"),
        );
    }
}

/// Whether QEMU has such a drive on such a bus.
fn frontend(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    let bus = bus_of(disk);
    let lun = disk.device == Some(DiskDevice::Lun);
    geometry(disk, bus, path, r);
    if let Some(serial) = disk.serial.as_ref().map(|Text(serial)| serial.trim()) {
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ' ' | '.' | '+');
        if !serial.chars().all(sound) {
            let message = format!("`{serial}` has other characters than letters, digits and -_.+");
            r.report(Rule::DiskSerial, format_args!("{path}/serial"), message);
        } else if bus == Some(DiskBus::Sd) || lun && bus == Some(DiskBus::Scsi) {
            r.report(
                Rule::DiskSerial,
                format_args!("{path}/serial"),
                "the device has a serial number of its own",
            );
        }
    }
    let bare = disk.device == Some(DiskDevice::Cdrom) && disk.source.is_some();
    if bare && let Some(bus @ (DiskBus::Virtio | DiskBus::Sd)) = bus {
        r.add(
            Rule::CdromBus,
            format_args!("{path}/target/@bus"),
            format!("a drive of CDs cannot be on the {bus} bus"),
            Some("take bus='sata' or bus='scsi', or device='disk' with <readonly/>"),
        );
    }
    if disk.wwn.is_some()
        && bus.is_some_and(|bus| !matches!(bus, DiskBus::Ide | DiskBus::Scsi | DiskBus::Sata))
    {
        r.report(
            Rule::DiskWwn,
            format_args!("{path}/wwn"),
            "only disks on scsi, sata and ide have a world wide name",
        );
    }
    if lun {
        passed_through(disk, bus, path, r);
    }
    let rotates = disk.target.as_ref().and_then(|t| t.rotation_rate);
    let turns = bus.is_none_or(|bus| matches!(bus, DiskBus::Scsi | DiskBus::Ide | DiskBus::Sata));
    if rotates.is_some_and(|rate| rate > 0)
        && (!turns || !matches!(disk.device, None | Some(DiskDevice::Disk)))
    {
        r.report(
            Rule::RotationRate,
            format_args!("{path}/target/@rotation_rate"),
            "only disks on scsi, ide and sata tell how fast they turn",
        );
    }
    if disk.readonly
        && matches!(disk.device, None | Some(DiskDevice::Disk))
        && let Some(bus @ (DiskBus::Ide | DiskBus::Sata)) = bus
    {
        r.add(
            Rule::ReadonlyBus,
            format_args!("{path}/readonly"),
            format!("a disk on the {bus} bus cannot be read-only"),
            Some("take bus='virtio' or bus='scsi', or device='cdrom'"),
        );
    }
    cached(disk, path, r);
}

/// How the host's kernel is asked, and what it may keep.
fn cached(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(driver) = &disk.driver else { return };
    let direct = matches!(driver.cache, Some(CacheMode::None | CacheMode::Directsync));
    if driver.io == Some(DiskIo::Native) && !direct {
        r.add(
            Rule::NativeIo,
            format_args!("{path}/driver/@io"),
            "io='native' goes past the host's cache",
            Some("add cache='none' or cache='directsync'"),
        );
    }
    if disk.kind == Some(DiskType::VhostVdpa) && !direct {
        r.add(
            Rule::NativeIo,
            format_args!("{path}/driver/@cache"),
            "a disk of type vhostvdpa goes past the host's cache",
            Some("add cache='none' or cache='directsync'"),
        );
    }
    if driver.name.as_deref().is_some_and(|name| name != "qemu") {
        r.report(
            Rule::DiskDriver,
            format_args!("{path}/driver/@name"),
            "the driver of this guest's disks is called qemu",
        );
    }
    let grows = matches!(
        driver.kind,
        Some(
            ImageFormatName::Qcow2
                | ImageFormatName::Qcow
                | ImageFormatName::Qed
                | ImageFormatName::Vmdk
                | ImageFormatName::Vdi
                | ImageFormatName::Vpc
        )
    );
    if disk.shareable && !disk.readonly && grows {
        r.add(
            Rule::SharedFormat,
            format_args!("{path}/shareable"),
            "two guests that write to an image of this format destroy it",
            Some("share disks of format raw"),
        );
    }
}

fn geometry(disk: &Disk, bus: Option<DiskBus>, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(geometry) = &disk.geometry else {
        return;
    };
    let set = |number: Option<u32>| number.is_some_and(|number| number > 0);
    if !(set(geometry.cyls) && set(geometry.heads) && set(geometry.secs)) {
        return;
    }
    let at = format_args!("{path}/geometry");
    if let Some(bus @ (DiskBus::Usb | DiskBus::Sd)) = bus {
        r.report(
            Rule::DiskGeometry,
            at,
            format!("disks on the {bus} bus have no geometry"),
        );
    } else if geometry.trans.is_some() && bus.is_some_and(|bus| bus != DiskBus::Ide) {
        r.report(
            Rule::DiskGeometry,
            format_args!("{at}/@trans"),
            "only disks on ide have their geometry translated",
        );
    }
}

/// What a device that is handed through does not let be said of it.
fn passed_through(disk: &Disk, bus: Option<DiskBus>, path: Arguments<'_>, r: &mut Report<'_>) {
    if let Some(bus) = bus.filter(|bus| !matches!(bus, DiskBus::Virtio | DiskBus::Scsi)) {
        r.report(
            Rule::LunDisk,
            format_args!("{path}/target/@bus"),
            format!("device='lun' cannot be on the {bus} bus, but on scsi"),
        );
    }
    let stated = [
        ("wwn", disk.wwn.is_some()),
        ("vendor", disk.vendor.is_some()),
        ("product", disk.product.is_some()),
    ];
    for (name, _) in stated.iter().filter(|(_, stated)| *stated) {
        r.report(
            Rule::LunDisk,
            format_args!("{path}/{name}"),
            format!("device='lun' has its own {name}"),
        );
    }
}

/// Threads that serve a disk are the guest's, each named once, and serve each queue once.
fn served(disk: &Disk, threads: &BTreeSet<u32>, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(driver) = &disk.driver else { return };
    let one = driver.iothread.filter(|id| *id > 0);
    if one.is_none() && driver.iothreads.is_none() {
        return;
    }
    if let Some(bus) = bus_of(disk).filter(|bus| *bus != DiskBus::Virtio) {
        r.add(
            Rule::DiskIothread,
            format_args!("{path}/driver"),
            format!("a disk on the {bus} bus is not served by a thread of its own"),
            Some("put it on virtio, or give the thread to its scsi controller"),
        );
        return;
    }
    if one.is_some() && driver.iothreads.is_some() {
        r.report(
            Rule::DiskIothread,
            format_args!("{path}/driver/iothreads"),
            "the disk has a thread and a list of threads: keep one of the two",
        );
    }
    if let Some(id) = one.filter(|id| !threads.contains(id)) {
        r.add(
            Rule::UnknownIothread,
            format_args!("{path}/driver/@iothread"),
            format!("the guest has no thread {id} for input and output"),
            Some("raise <iothreads>, or add the thread to <iothreadids>"),
        );
    }
    let list = driver
        .iothreads
        .as_ref()
        .map_or(&[][..], |list| &list.iothreads);
    let count = driver.queues.unwrap_or(0);
    let mapped = list.first().is_some_and(|first| !first.queues.is_empty());
    let (mut seen, mut queues) = (HashSet::new(), HashSet::new());
    for (i, thread) in list.iter().enumerate() {
        let at = format_args!("{path}/driver/iothreads/iothread[{}]", i + 1);
        let id = thread.id.unwrap_or(0);
        if !threads.contains(&id) {
            r.report(
                Rule::UnknownIothread,
                format_args!("{at}/@id"),
                format!("the guest has no thread {id} for input and output"),
            );
        } else if !seen.insert(id) {
            r.report(
                Rule::DiskIothread,
                format_args!("{at}/@id"),
                format!("thread {id} stands twice"),
            );
        }
        if thread.queues.is_empty() == mapped {
            r.report(
                Rule::DiskIothread,
                at,
                "queues are stated for all threads or for none",
            );
        }
        for (j, queue) in thread.queues.iter().enumerate() {
            let number = queue.id.unwrap_or(0);
            let wrong = if number >= count {
                format!("there is no queue {number}: the disk has {count}")
            } else if !queues.insert(number) {
                format!("queue {number} is served twice")
            } else {
                continue;
            };
            let at = format_args!("{at}/queue[{}]/@id", j + 1);
            r.report(Rule::DiskIothread, at, wrong);
        }
    }
    if mapped && queues.len() < count as usize {
        r.report(
            Rule::DiskIothread,
            format_args!("{path}/driver/iothreads"),
            format!(
                "the disk has {count} queues, and {} are served",
                queues.len()
            ),
        );
    }
}

/// Changes that are dropped are kept beside a file of the guest's own.
fn transient(disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(transient) = &disk.transient else {
        return;
    };
    let at = format_args!("{path}/transient");
    let kind = disk.kind.unwrap_or(DiskType::File);
    let wrong = if kind != DiskType::File {
        Some("only changes to files can be dropped, and the disk is of another type")
    } else if disk.readonly {
        Some("a disk that is read-only has no changes to drop")
    } else if !matches!(disk.device, None | Some(DiskDevice::Disk)) {
        Some("only changes to disks can be dropped")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        r.report(Rule::TransientDisk, at, wrong);
    }
    if transient.share_backing == Some(YesNo::Yes)
        && let Some(bus) = bus_of(disk)
        && !matches!(bus, DiskBus::Usb | DiskBus::Virtio | DiskBus::Scsi)
    {
        r.report(
            Rule::TransientDisk,
            format_args!("{at}/@shareBacking"),
            format!("what is below a disk on the {bus} bus cannot be shared"),
        );
    }
}

/// Old PCs' buses, on machines that do not have them.
fn missing_bus(domain: &Domain, disk: &Disk, path: Arguments<'_>, r: &mut Report<'_>) {
    let modern = is_modern(domain);
    let (what, instead) = match bus_of(disk) {
        Some(DiskBus::Ide) if modern => ("IDE controller", "take bus='virtio' or bus='scsi'"),
        Some(DiskBus::Ide) if is_q35(domain) => ("IDE controller", "take bus='sata'"),
        Some(DiskBus::Fdc) if modern => ("floppy drives", "take a drive of CDs on bus='scsi'"),
        _ => return,
    };
    let name = match machine(domain) {
        "" => super::machine::arch(domain),
        name => name,
    };
    r.add(
        Rule::ControllerMachine,
        format_args!("{path}/target/@bus"),
        format!("a machine `{name}` has no {what}"),
        Some(instead),
    );
}
