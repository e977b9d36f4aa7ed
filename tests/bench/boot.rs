//! From exec to the guest's init, and the memory that a monitor takes beyond its guest's: vireo-vmm, QEMU microvm, QEMU q35, one kernel and initrd.

use std::time::{Duration, Instant};

use vireo_tests::lab::Outcome;

use crate::monitor::{GUEST_MIB, MONITORS, Machine, Monitor, Monitors};
use crate::{beyond_guest, median, row, seconds};

const TURNS: usize = 5;
const MACHINE: Machine<'_> = Machine {
    cmdline: "console=ttyS0 quiet",
    disks: &[],
    tap: None,
};

pub fn bench() -> Outcome {
    let monitors = Monitors::new()?;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (times, (monitor, name)) in times.iter_mut().zip(MONITORS) {
            let time = to_init(&monitors, monitor).map_err(|failure| failure.during(name))?;
            eprintln!("  boot {name}: {}", seconds(time));
            times.push(time);
        }
    }
    let mut medians = Vec::new();
    for times in &mut times {
        medians.push(median(times)?);
    }
    let microvm = medians.get(1).copied().unwrap_or_default();
    for ((_, name), time) in MONITORS.iter().zip(&medians) {
        let ratio = time.as_secs_f64() / microvm.as_secs_f64();
        row(
            "exec to init, 1 vcpu, Debian's cloud kernel",
            name,
            &seconds(*time),
            &format!("{ratio:.2} of microvm"),
        );
    }
    for (monitor, name) in MONITORS {
        let kib = overhead(&monitors, monitor).map_err(|failure| failure.during(name))?;
        row(
            "resident beyond the guest's memory",
            name,
            &format!("{:.1} MiB", kib as f64 / 1024.0),
            "all mappings but the guest's; shared pages counted whole",
        );
    }
    Ok(())
}

fn to_init(monitors: &Monitors, monitor: Monitor) -> Outcome<Duration> {
    let start = Instant::now();
    let mut running = monitors.start(monitor, &MACHINE)?;
    running.says("GUEST INIT")?;
    Ok(start.elapsed())
}

/// Resident memory of the monitor but for the mapping that is the guest's, in KiB, once the guest is idle.
fn overhead(monitors: &Monitors, monitor: Monitor) -> Outcome<u64> {
    let mut running = monitors.start(monitor, &MACHINE)?;
    running.says("GUEST READY")?;
    std::thread::sleep(Duration::from_secs(2));
    beyond_guest(running.pid(), GUEST_MIB, "Rss:")
}
