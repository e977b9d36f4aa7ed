//! Random histories on the simulated host.
//!
//! `VIREO_SIMULATIONS` says how many (2,000 by default), `VIREO_SEED` where they begin: a failure prints the seed that repeats it.

use std::sync::atomic::{AtomicU64, Ordering};

use vireo_tests::simulation;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn whatever_happens_the_host_becomes_as_defined_and_nothing_is_disturbed_without_leave() {
    let first = number("VIREO_SEED", 0);
    let end = first + number("VIREO_SIMULATIONS", 2_000);
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let findings: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| work(&next, end)))
            .collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().filter_map(join).collect()
    });
    if let Some(finding) = findings.iter().min_by_key(|finding| finding.seed) {
        panic!(
            "{finding}\nrepeat it with VIREO_SEED={} VIREO_SIMULATIONS=1",
            finding.seed
        );
    }
    println!("{} histories, nothing found", end - first);
}

/// Takes seeds until one finds something.
fn work(next: &AtomicU64, end: u64) -> Option<Box<simulation::Finding>> {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return None;
        }
        if let Err(finding) = simulation::run(seed) {
            next.store(end, Ordering::Relaxed);
            return Some(finding);
        }
    }
}
