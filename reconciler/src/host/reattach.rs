//! A tap that was made again, given back to the monitor that had the old one open.
//!
//! Whoever deletes a running guest's tap leaves the monitor with a descriptor that leads nowhere. The kernel lets such a descriptor be attached again (`tun_chr_ioctl` in
//! drivers/net/tun.c: TUNSETIFF is refused only while one is attached), and lets us borrow it (pidfd_getfd(2)), so that neither monitor needs to know: for both it is as if
//! the cable had been pulled and put back. In: the monitor's process and the names of its guest's taps, in order. Out: the tap attached, or not if the monitor lacks none.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use super::process::Identity;
use super::tap::{Attachment, attach};

/// Attaches the tap to the first descriptors of the process that have lost their own, as many as it has queues, counted as the guest's interfaces are: of `taps`, those that the process still
/// has open are passed over, and so are those that other descriptors are for. `false` where the process has no such descriptor.
///
/// # Errors
/// The process is gone, or the kernel refuses.
pub fn reattach(
    monitor: Identity,
    taps: &[(&str, usize)],
    tap: &str,
    attachment: Attachment,
) -> io::Result<bool> {
    let open = tun_descriptors(monitor.pid)?;
    // Of one that is there, a monitor may have laid some queues aside.
    let attached = |name: &str| open.iter().any(|(_, held)| held == name);
    let lost = taps.iter().filter(|(name, _)| !attached(name));
    let lost = lost.flat_map(|(name, queues)| std::iter::repeat_n(*name, *queues));
    let free = open
        .iter()
        .filter(|(_, held)| held.is_empty())
        .map(|(number, _)| *number);
    let descriptors = lost.zip(free).filter(|(name, _)| *name == tap);
    let descriptors: Vec<_> = descriptors.map(|(_, number)| number).collect();
    if descriptors.is_empty() {
        return Ok(false);
    }
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let pid = i32::try_from(monitor.pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .ok_or_else(gone)?;
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    // The number may have passed to another process before the handle was opened; afterwards it cannot.
    if !monitor.alive() {
        return Err(gone());
    }
    for descriptor in descriptors {
        let borrowed = File::from(rustix::process::pidfd_getfd(
            &handle,
            descriptor,
            PidfdGetfdFlags::empty(),
        )?);
        attach(&borrowed, tap, attachment)?;
    }
    Ok(true)
}

/// The process's descriptors of `/dev/net/tun`, in order of number, each with the link it is attached to; empty for none.
fn tun_descriptors(pid: u32) -> io::Result<Vec<(i32, String)>> {
    let mut found = Vec::new();
    for item in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let item = item?;
        let number = item.file_name().to_string_lossy().parse::<i32>();
        let (Ok(number), Ok(target)) = (number, fs::read_link(item.path())) else {
            continue;
        };
        if target != Path::new("/dev/net/tun") {
            continue;
        }
        let told = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
        let link = told
            .lines()
            .find_map(|line| line.strip_prefix("iff:"))
            .unwrap_or_default();
        found.push((number, link.trim().to_owned()));
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::Command;

    use super::*;
    use crate::host::tap::NewTap;
    use crate::host::testing::in_namespace;

    const PLAIN: Attachment = Attachment {
        multi_queue: false,
        header: 10,
    };

    fn ip(arguments: &str) {
        assert!(
            Command::new("ip")
                .args(arguments.split(' '))
                .status()
                .unwrap()
                .success(),
            "{arguments}"
        );
    }

    #[test]
    fn a_tap_that_is_made_again_carries_frames_to_whoever_had_the_old_one_open() {
        in_namespace!(a_tap_that_is_made_again_carries_frames_to_whoever_had_the_old_one_open);
        NewTap::create("t0", false).unwrap().persist().unwrap();
        let mut held = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .unwrap();
        attach(&held, "t0", PLAIN).unwrap();
        let me = Identity::of(std::process::id()).unwrap();
        assert!(!reattach(me, &[("t0", 1)], "t0", PLAIN).unwrap());
        ip("link delete t0");
        NewTap::create("t0", false).unwrap().persist().unwrap();
        assert!(reattach(me, &[("t0", 1)], "t0", PLAIN).unwrap());
        ip("link set t0 up");
        // The kernel greets its neighbours on a link that comes up.
        ip("address add 10.9.0.1/24 dev t0");
        let _ = Command::new("ping")
            .args(["-c", "1", "-W", "1", "10.9.0.2"])
            .output();
        let mut frame = [0; 2048];
        assert!(held.read(&mut frame).unwrap() > 10);
    }

    #[test]
    fn a_tap_of_several_queues_is_given_back_with_all_of_them() {
        in_namespace!(a_tap_of_several_queues_is_given_back_with_all_of_them);
        let several = Attachment {
            multi_queue: true,
            ..PLAIN
        };
        let make = || NewTap::create("t0", true).unwrap().persist().unwrap();
        make();
        let mut options = File::options();
        options.read(true).write(true);
        let held: Vec<File> = (0..3)
            .map(|_| options.open("/dev/net/tun").unwrap())
            .collect();
        for file in &held {
            attach(file, "t0", several).unwrap();
        }
        let me = Identity::of(std::process::id()).unwrap();
        ip("link delete t0");
        make();
        assert!(reattach(me, &[("t0", 3)], "t0", several).unwrap());
        let open = tun_descriptors(me.pid).unwrap();
        assert_eq!(open.iter().filter(|(_, link)| link == "t0").count(), 3);
        assert!(!reattach(me, &[("t0", 3)], "t0", several).unwrap());
    }
}
