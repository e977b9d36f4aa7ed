//! Rules on file systems of the host's, and on the memory that devices served by other processes need.

use super::machine::is_qemu;
use super::one::Report;
use crate::domain::cpu::MemAccess;
use crate::domain::disk::DiskType;
use crate::domain::filesystem::{AccessMode, Filesystem, FilesystemDriverType, FilesystemType};
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use std::collections::HashMap;
use std::fmt::Arguments;

/// Every rule on file systems, and on memory that is shared with who serves a device.
pub(crate) fn check(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let qemu = is_qemu(domain);
    let mut targets: HashMap<&str, bool> = HashMap::new();
    for (i, filesystem) in devices.filesystems.iter().enumerate() {
        let path = format_args!("devices/filesystem[{}]", i + 1);
        let virtiofs = driver_of(filesystem) == Some(FilesystemDriverType::Virtiofs);
        let dir = filesystem
            .target
            .as_ref()
            .and_then(|target| target.dir.as_deref());
        if let Some(dir) = dir {
            let other = targets.insert(dir, virtiofs);
            if other.is_some_and(|other| other || virtiofs) {
                r.report(
                    Rule::DuplicateTarget,
                    format_args!("{path}/target/@dir"),
                    format!("two file systems are `{dir}`"),
                );
            }
        }
        if filesystem.boot.is_some() && !virtiofs {
            r.report(
                Rule::FilesystemOption,
                format_args!("{path}/boot"),
                "a guest boots from a file system of virtiofs only",
            );
        }
        if virtiofs {
            self::virtiofs(filesystem, path, r);
        }
        if qemu {
            shown(filesystem, virtiofs, path, r);
        }
    }
    if qemu && !is_shared(domain) {
        needs_sharing(devices, r);
    }
}

fn driver_of(filesystem: &Filesystem) -> Option<FilesystemDriverType> {
    filesystem.driver.as_ref().and_then(|driver| driver.kind)
}

/// What virtiofs does not do.
fn virtiofs(filesystem: &Filesystem, path: Arguments<'_>, r: &mut Report<'_>) {
    if filesystem.readonly {
        r.report(
            Rule::Virtiofs,
            format_args!("{path}/readonly"),
            "virtiofs cannot be read-only",
        );
    }
    let driver = filesystem.driver.as_ref();
    let others = filesystem
        .accessmode
        .is_some_and(|mode| mode != AccessMode::Passthrough);
    let stated = [
        ("@accessmode", others),
        ("@model", filesystem.model.is_some()),
        ("@multidevs", filesystem.multidevs.is_some()),
        ("@fmode", filesystem.fmode.is_some()),
        ("@dmode", filesystem.dmode.is_some()),
        (
            "driver/@wrpolicy",
            driver.is_some_and(|driver| driver.wrpolicy.is_some()),
        ),
        (
            "driver/@format",
            driver.is_some_and(|driver| driver.format.is_some()),
        ),
    ];
    for (name, _) in stated.iter().filter(|(_, stated)| *stated) {
        let bare = name.rsplit('@').next().unwrap_or(name);
        r.report(
            Rule::Virtiofs,
            format_args!("{path}/{name}"),
            format!("virtiofs does not know this `{bare}`"),
        );
    }
}

/// What QEMU shows a guest.
fn shown(filesystem: &Filesystem, virtiofs: bool, path: Arguments<'_>, r: &mut Report<'_>) {
    let other = filesystem
        .kind
        .filter(|kind| *kind != FilesystemType::Mount);
    if let Some(kind) = other {
        r.report(
            Rule::FilesystemOption,
            format_args!("{path}/@type"),
            format!("QEMU shows folders, type='mount', and this is {kind}"),
        );
    }
    let driver = driver_of(filesystem);
    if let Some(
        kind @ (FilesystemDriverType::Loop
        | FilesystemDriverType::Nbd
        | FilesystemDriverType::Ploop),
    ) = driver
    {
        r.report(
            Rule::FilesystemOption,
            format_args!("{path}/driver/@type"),
            format!("the driver {kind} is for containers"),
        );
    }
    for (name, stated) in [
        ("space_hard_limit", filesystem.space_hard_limit.is_some()),
        ("space_soft_limit", filesystem.space_soft_limit.is_some()),
    ] {
        if stated {
            r.report(
                Rule::FilesystemOption,
                format_args!("{path}/{name}"),
                "QEMU does not limit what a folder holds",
            );
        }
    }
    let moded = filesystem.fmode.is_some() || filesystem.dmode.is_some();
    if moded && !virtiofs && filesystem.accessmode != Some(AccessMode::Mapped) {
        r.report(
            Rule::FilesystemOption,
            format_args!("{path}/@accessmode"),
            "`fmode` and `dmode` go with accessmode='mapped'",
        );
    }
    let sandbox = filesystem
        .binary
        .as_ref()
        .is_some_and(|binary| binary.sandbox.is_some());
    if sandbox && !virtiofs {
        r.report(
            Rule::FilesystemOption,
            format_args!("{path}/binary/sandbox"),
            "the program that is kept in is virtiofs's",
        );
    }
}

/// Whether other processes may see all of a guest's memory.
fn is_shared(domain: &Domain) -> bool {
    let own = domain
        .memory_backing
        .as_ref()
        .and_then(|backing| backing.access.as_ref()?.mode);
    let cells = domain
        .cpu
        .as_ref()
        .and_then(|cpu| cpu.numa.as_ref())
        .map_or(&[][..], |numa| &numa.cells);
    if cells.is_empty() {
        return own == Some(MemAccess::Shared);
    }
    cells
        .iter()
        .all(|cell| cell.mem_access.or(own) == Some(MemAccess::Shared))
}

/// Devices that another process serves in the guest's own memory.
fn needs_sharing(devices: &Devices, r: &mut Report<'_>) {
    let disks = devices
        .disks
        .iter()
        .position(|disk| matches!(disk.kind, Some(DiskType::VhostUser | DiskType::VhostVdpa)))
        .map(|i| format!("devices/disk[{}]/@type", i + 1));
    let filesystems = devices
        .filesystems
        .iter()
        .position(|filesystem| driver_of(filesystem) == Some(FilesystemDriverType::Virtiofs))
        .map(|i| format!("devices/filesystem[{}]/driver/@type", i + 1));
    for path in [disks, filesystems].into_iter().flatten() {
        r.add(
            Rule::SharedMemory,
            path,
            "another process serves the device in the guest's memory, which is not shared with it",
            Some("add <memoryBacking><access mode='shared'/></memoryBacking>"),
        );
    }
}
