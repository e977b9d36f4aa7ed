//! Putting the lab's host back to how it booted. By force: it ends every guest, link, table and control group there is.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::command::run;
use super::failure::{Failure, Outcome, ensure};
use super::wait::eventually;
use super::{ROOT, kernel};

/// The programs that scenarios leave behind.
const PROGRAMS: [&str; 5] = ["vireo", "vireo-vmm", "qemu-system-x86_64", "dnsmasq", "nft"];

/// Empties the host.
pub fn everything() -> Outcome {
    processes()?;
    links()?;
    run("nft", ["flush", "ruleset"])?.exits(0)?;
    cgroups(Path::new("/sys/fs/cgroup/vireo"))?;
    disks()?;
    match fs::remove_dir_all(ROOT) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::from(error).during(format!("could not empty {ROOT}")))
        }
        _ => Ok(()),
    }
}

fn processes() -> Outcome {
    let (_, _) = eventually(Duration::from_secs(20), "every process has ended", || {
        let mut left = Vec::new();
        for name in PROGRAMS {
            left.extend(kernel::processes(name)?);
        }
        for process in &left {
            run("kill", ["-9", &process.pid.to_string()])?;
        }
        ensure(left.is_empty(), || format!("{left:?} are left"))
    })?;
    Ok(())
}

fn links() -> Outcome {
    for name in kernel::links()? {
        if name != "lo" {
            // A link may have gone with the one it hung on.
            run("ip", ["link", "delete", "dev", &name])?;
        }
    }
    let left = kernel::links()?;
    ensure(left == ["lo"], || format!("links are left: {left:?}"))
}

/// What scenarios mounted, and the disks that they made of files.
fn disks() -> Outcome {
    for line in fs::read_to_string("/proc/self/mounts")?.lines() {
        let place = line.split(' ').nth(1).unwrap_or_default();
        if Path::new(place).starts_with(ROOT) {
            run("umount", ["--lazy", place])?.exits(0)?;
        }
    }
    if Path::new("/sys/class/misc/device-mapper").exists() {
        run("dmsetup", ["remove_all", "--noudevsync"])?.exits(0)?;
    }
    run("losetup", ["--detach-all"])?.exits(0)?;
    Ok(())
}

fn cgroups(group: &Path) -> Outcome {
    if !group.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(group)?.flatten() {
        if entry.path().is_dir() {
            cgroups(&entry.path())?;
        }
    }
    eventually(Duration::from_secs(5), "the control group is empty", || {
        Ok(fs::remove_dir(group)?)
    })?;
    Ok(())
}
