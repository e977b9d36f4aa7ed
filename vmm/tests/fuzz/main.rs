//! A guest that does anything: random accesses to ports, configuration space and registers, and rings full of nonsense, against every device.
//!
//! Each device is on a PCI bus of its own, as the machine puts it there. What must hold, whatever the guest does: no thread panics, no access takes long, and
//! after a reset the device serves an honest driver again. Histories are made from a seed, which a failure prints. Each test lasts two seconds, or
//! `VIREO_FUZZ_SECONDS`; `VIREO_FUZZ_SEED` begins with a certain history.

mod driver;
mod machine;

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use driver::Guest;
use machine::{Kind, Machine};

/// Accesses of one history; then the device must serve again.
const HISTORY: u32 = 400;
/// Longest that one access may keep a processor busy. Devices answer in microseconds; the kernel takes its time to give queues back, and an emulated processor
/// counts as busy while its host does something else.
const LONGEST: Duration = Duration::from_secs(5);
const LONGEST_BY_KERNEL: Duration = Duration::from_secs(60);
/// Longest that one access may take: a machine that is busy with something else may not come to it for a while.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Panics of devices' threads count as well.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.store(true, Ordering::SeqCst);
            print(info);
        }));
    });
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// How long this thread has had a processor. Source: Linux, Documentation/scheduler/sched-stats.rst, the first number.
fn busy_so_far() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}

fn fuzz(kind: Kind) {
    count_panics();
    let end = Instant::now() + Duration::from_secs(number("VIREO_FUZZ_SECONDS").unwrap_or(2));
    let mut seed = number("VIREO_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut histories = 0;
    let longest = match kind {
        Kind::KernelNet => LONGEST_BY_KERNEL,
        _ => LONGEST,
    };
    while Instant::now() < end || histories == 0 {
        let mut guest = Guest::new(Machine::new(kind), seed);
        for step in 0..HISTORY {
            let (began, busy) = (Instant::now(), busy_so_far());
            guest.step();
            let took = began.elapsed();
            if took > longest {
                let busy = busy_so_far().saturating_sub(busy);
                assert!(
                    took < LONGEST_WAIT && busy < longest,
                    "{kind:?} seed {seed} step {step} took {took:?}, {busy:?} of it busy"
                );
            }
            assert!(
                !PANICKED.load(Ordering::SeqCst),
                "{kind:?} seed {seed} step {step}"
            );
        }
        guest.machine.reset();
        if kind == Kind::BadBlock {
            guest.has_a_request_fail();
        }
        if let Err(why) = guest.honest(kind) {
            let failure = guest.machine.failure();
            panic!("{kind:?} seed {seed}: after a reset {why} {failure:?}");
        }
        drop(guest);
        assert!(!PANICKED.load(Ordering::SeqCst), "{kind:?} seed {seed}");
        histories += 1;
        seed = seed.wrapping_add(1);
    }
    eprintln!(
        "{kind:?}: {histories} histories up to seed {}",
        seed.wrapping_sub(1)
    );
}

#[test]
fn the_entropy_device_survives_any_guest() {
    fuzz(Kind::Rng);
}

#[test]
fn the_balloon_survives_any_guest() {
    fuzz(Kind::Balloon);
}

#[test]
fn a_raw_disk_survives_any_guest() {
    fuzz(Kind::Block);
}

#[test]
fn a_disk_under_limits_survives_any_guest() {
    fuzz(Kind::SlowBlock);
}

#[test]
fn a_disk_that_its_host_fails_survives_any_guest() {
    fuzz(Kind::BadBlock);
}

#[test]
fn a_network_interface_survives_any_guest() {
    fuzz(Kind::Net);
}

#[test]
fn an_interface_of_several_pairs_survives_any_guest() {
    fuzz(Kind::ManyNet);
}

/// The kernel's own device is needed, and a network namespace to have a tap in.
#[test]
fn an_interface_that_the_kernel_serves_survives_any_guest() {
    if let Err(error) = std::fs::File::open("/dev/vhost-net") {
        eprintln!("skipped: cannot open /dev/vhost-net: {error}");
        return;
    }
    // SAFETY: the call changes only where this thread, and what it starts, looks for networks.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        eprintln!("skipped: cannot make a network namespace");
        return;
    }
    fuzz(Kind::KernelNet);
}

#[test]
fn the_watchdog_survives_any_guest() {
    fuzz(Kind::Watchdog);
}

#[test]
fn the_panic_device_survives_any_guest() {
    fuzz(Kind::Panic);
}

#[test]
fn the_console_survives_any_guest() {
    fuzz(Kind::Console);
}

#[test]
fn the_socket_device_survives_any_guest() {
    fuzz(Kind::Vsock);
}
