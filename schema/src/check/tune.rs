//! Rules on the places and shares of processors.

use super::one::Report;
use crate::domain::Domain;
use crate::domain::tune::{CacheType, CpuTune, Scheduler};
use crate::rule::Rule;
use crate::scalar::CpuSet;
use std::collections::BTreeSet;

/// Every rule on `<cputune>`.
pub(crate) fn check(domain: &Domain, tune: &CpuTune, r: &mut Report<'_>) {
    if tune
        .shares
        .is_some_and(|shares| shares > 0 && !(2..=262_144).contains(&shares))
    {
        r.report(
            Rule::CpuShares,
            "cputune/shares",
            "a weight is 2 to 262144; most guests have 1024",
        );
    }
    scheduling(domain, tune, r);
    shares(tune, r);
}

/// The numbers of the guest's threads for input and output: those stated, then the first free ones.
pub(crate) fn threads(domain: &Domain) -> BTreeSet<u32> {
    let ids = domain
        .iothreadids
        .iter()
        .flat_map(|ids| &ids.iothreads)
        .filter_map(|thread| thread.id);
    let mut threads: BTreeSet<u32> = ids.collect();
    let count = domain.iothreads.unwrap_or(0).min(1024);
    let mut next = 1;
    while (threads.len() as u32) < count {
        threads.insert(next);
        next += 1;
    }
    threads
}

fn scheduling(domain: &Domain, tune: &CpuTune, r: &mut Report<'_>) {
    let threads = threads(domain);
    let mut seen = BTreeSet::new();
    for (i, sched) in tune.iothreadscheds.iter().enumerate() {
        for id in sched.iothreads.iter().flat_map(CpuSet::cpus) {
            let path = format_args!("cputune/iothreadsched[{}]/@iothreads", i + 1);
            if !threads.contains(id) {
                r.report(
                    Rule::UnknownIothread,
                    path,
                    format!("the guest has no thread {id} for input and output"),
                );
            } else if !seen.insert(*id) {
                r.report(
                    Rule::ScheduledTwice,
                    path,
                    format!("thread {id} is scheduled twice"),
                );
            }
        }
    }
    for (i, pin) in tune.iothreadpins.iter().enumerate() {
        if pin.iothread.is_some_and(|id| !threads.contains(&id)) {
            r.report(
                Rule::UnknownIothread,
                format_args!("cputune/iothreadpin[{}]/@iothread", i + 1),
                "the guest has no such thread for input and output",
            );
        }
    }
    vcpus(domain, tune, r);
    priorities(tune, r);
    let mut pinned = BTreeSet::new();
    for (i, pin) in tune.iothreadpins.iter().enumerate() {
        if pin.iothread.is_some_and(|thread| !pinned.insert(thread)) {
            r.report(
                Rule::PinnedTwice,
                format_args!("cputune/iothreadpin[{}]/@iothread", i + 1),
                "the thread is placed twice",
            );
        }
    }
    let mut pinned = BTreeSet::new();
    for (i, pin) in tune.vcpupins.iter().enumerate() {
        if pin.vcpu.is_some_and(|vcpu| !pinned.insert(vcpu)) {
            r.report(
                Rule::PinnedTwice,
                format_args!("cputune/vcpupin[{}]/@vcpu", i + 1),
                "the processor is placed twice",
            );
        }
    }
    let periods = [
        ("period", tune.period),
        ("global_period", tune.global_period),
        ("emulator_period", tune.emulator_period),
        ("iothread_period", tune.iothread_period),
    ];
    for (name, period) in periods {
        if period.is_some_and(|period| period > 0 && !(1_000..=1_000_000).contains(&period)) {
            r.add(
                Rule::CpuPeriod,
                format_args!("cputune/{name}"),
                "a period is 1000 to 1000000 microseconds",
                None,
            );
        }
    }
    let quotas = [
        ("quota", tune.quota),
        ("global_quota", tune.global_quota),
        ("emulator_quota", tune.emulator_quota),
        ("iothread_quota", tune.iothread_quota),
    ];
    for (name, quota) in quotas {
        if quota.is_some_and(|quota| quota > 0 && !(1_000..=17_592_186_044_415).contains(&quota)) {
            r.add(
                Rule::CpuQuota,
                format_args!("cputune/{name}"),
                "a quota is at least 1000 microseconds; 0 or less is no limit",
                None,
            );
        }
    }
}

fn vcpus(domain: &Domain, tune: &CpuTune, r: &mut Report<'_>) {
    let most = super::cpu::most(domain);
    let mut seen = BTreeSet::new();
    for (i, sched) in tune.vcpuscheds.iter().enumerate() {
        let path = format_args!("cputune/vcpusched[{}]/@vcpus", i + 1);
        for vcpu in sched.vcpus.iter().flat_map(CpuSet::cpus) {
            if *vcpu >= most {
                r.report(
                    Rule::VcpuId,
                    path,
                    format!(
                        "the guest has no processor {vcpu}: they are numbered 0 to {}",
                        most.saturating_sub(1)
                    ),
                );
            } else if !seen.insert(*vcpu) {
                r.report(
                    Rule::ScheduledTwice,
                    path,
                    format!("processor {vcpu} is scheduled twice"),
                );
            }
        }
    }
}

/// What runs before all else says how far before.
fn priorities(tune: &CpuTune, r: &mut Report<'_>) {
    let vcpus = tune.vcpuscheds.iter().enumerate();
    let vcpus = vcpus.map(|(i, s)| (format!("vcpusched[{}]", i + 1), s.scheduler, s.priority));
    let threads = tune.iothreadscheds.iter().enumerate();
    let threads =
        threads.map(|(i, s)| (format!("iothreadsched[{}]", i + 1), s.scheduler, s.priority));
    let emulator = tune.emulatorsched.iter();
    let emulator = emulator.map(|s| ("emulatorsched".to_owned(), s.scheduler, s.priority));
    for (path, scheduler, priority) in vcpus.chain(threads).chain(emulator) {
        let Some(scheduler @ (Scheduler::Fifo | Scheduler::Rr)) = scheduler else {
            continue;
        };
        if priority.is_none() {
            r.report(
                Rule::SchedulerPriority,
                format_args!("cputune/{path}"),
                format!("{scheduler} needs a `priority`, 1 to 99"),
            );
        }
    }
}

/// Shares of caches and of memory's speed are given to groups of processors, which are equal or apart.
fn shares(tune: &CpuTune, r: &mut Report<'_>) {
    let mut groups: Vec<&CpuSet> = Vec::new();
    for (i, group) in tune.cachetunes.iter().enumerate() {
        let path = format_args!("cputune/cachetune[{}]", i + 1);
        let Some(vcpus) = &group.vcpus else { continue };
        if groups.iter().any(|other| overlaps(other, vcpus)) {
            r.report(
                Rule::CachetuneOverlap,
                format_args!("{path}/@vcpus"),
                "a processor is in two groups",
            );
        }
        groups.push(vcpus);
        let mut seen: Vec<(u32, u32, CacheType)> = Vec::new();
        for (j, cache) in group.caches.iter().enumerate() {
            let (Some(id), Some(level), Some(kind)) = (cache.id, cache.level, cache.kind) else {
                continue;
            };
            let collides = |other: &(u32, u32, CacheType)| {
                other.0 == id
                    && other.1 == level
                    && (other.2 == kind || other.2 == CacheType::Both || kind == CacheType::Both)
            };
            if seen.iter().any(collides) {
                r.report(
                    Rule::DuplicateCacheShare,
                    format_args!("{path}/cache[{}]", j + 1),
                    "a share of this cache is stated already",
                );
            }
            seen.push((id, level, kind));
        }
        for (j, monitor) in group.monitors.iter().enumerate() {
            if monitor.level.is_some_and(|level| level != 3) {
                r.report(
                    Rule::CacheMonitor,
                    format_args!("{path}/monitor[{}]/@level", j + 1),
                    "only the cache of level 3 is measured",
                );
            }
            if monitor
                .vcpus
                .as_ref()
                .is_some_and(|inner| !inner.cpus().is_subset(vcpus.cpus()))
            {
                r.report(
                    Rule::CacheMonitor,
                    format_args!("{path}/monitor[{}]/@vcpus", j + 1),
                    "a processor that is measured is not in the group",
                );
            }
        }
    }
    let caches = groups.clone();
    let mut speeds: Vec<&CpuSet> = Vec::new();
    for (i, group) in tune.memorytunes.iter().enumerate() {
        let path = format_args!("cputune/memorytune[{}]", i + 1);
        let Some(vcpus) = &group.vcpus else { continue };
        let clash = speeds.iter().any(|other| overlaps(other, vcpus))
            || caches
                .iter()
                .any(|other| overlaps(other, vcpus) && *other != vcpus);
        if clash {
            r.report(
                Rule::MemorytuneOverlap,
                format_args!("{path}/@vcpus"),
                "a processor is in two groups that are not equal",
            );
        }
        speeds.push(vcpus);
        let mut nodes = BTreeSet::new();
        for (j, node) in group.nodes.iter().enumerate() {
            if node.bandwidth.is_some_and(|share| share > 100) {
                r.report(
                    Rule::MemoryShare,
                    format_args!("{path}/node[{}]/@bandwidth", j + 1),
                    "a share is at most 100 per cent",
                );
            }
            if node.id.is_some_and(|id| !nodes.insert(id)) {
                r.report(
                    Rule::DuplicateMemoryShare,
                    format_args!("{path}/node[{}]/@id", j + 1),
                    "a share of this node is stated already",
                );
            }
        }
    }
}

fn overlaps(a: &CpuSet, b: &CpuSet) -> bool {
    !a.cpus().is_disjoint(b.cpus())
}
