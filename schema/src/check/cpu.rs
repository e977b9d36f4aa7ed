//! Rules on a guest's processors: their number, each of them, their model.

use super::machine::{is_i440fx, is_pseries, is_q35, is_qemu, is_x86, stated_arch};
use super::one::Report;
use crate::domain::cpu::{
    CacheMode, Cpu, CpuCache, CpuMode, MaxPhysAddr, MaxPhysAddrMode, Topology,
};
use crate::domain::{Domain, VcpuState};
use crate::rule::Rule;
use crate::scalar::{OnOff, YesNo};
use std::collections::BTreeSet;
use std::fmt::Arguments;

/// Letters of a maker's name, as the processor tells it.
const VENDOR: usize = 12;

/// Every rule on processors.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    number(domain, r);
    far(domain, r);
    each(domain, r);
    if let Some(cpu) = &domain.cpu {
        model(cpu, r);
        if let Some(topology) = &cpu.topology {
            self::topology(domain, topology, r);
        }
        if let Some(cache) = &cpu.cache {
            self::cache(domain, cpu, cache, r);
        }
        if let Some(width) = &cpu.maxphysaddr {
            self::width(domain, cpu, width, r);
        }
    }
}

/// The most processors there may be.
pub(super) fn most(domain: &Domain) -> u32 {
    domain
        .vcpu
        .as_ref()
        .and_then(|vcpu| vcpu.value)
        .unwrap_or(1)
}

fn number(domain: &Domain, r: &mut Report<'_>) {
    let Some(vcpu) = &domain.vcpu else { return };
    let most = most(domain);
    if most == 0 {
        r.report(
            Rule::VcpuCount,
            "vcpu",
            "a guest needs at least one processor",
        );
    }
    if vcpu
        .current
        .is_some_and(|current| current > most || current == 0)
    {
        r.report(
            Rule::VcpuCurrent,
            "vcpu/@current",
            format!("the number of processors there are now is not between 1 and {most}"),
        );
    }
}

/// Interrupt controllers of PCs number processors in eight bits, but for a unit that translates interrupts.
fn far(domain: &Domain, r: &mut Report<'_>) {
    const NEAR: u32 = 255;
    if most(domain) <= NEAR || !is_qemu(domain) {
        return;
    }
    let driver = domain
        .devices
        .as_ref()
        .and_then(|devices| devices.iommu.as_ref()?.driver.as_ref());
    let reached = driver
        .is_some_and(|driver| driver.eim == Some(OnOff::On) || driver.xtsup == Some(OnOff::On));
    if is_i440fx(domain) {
        r.add(
            Rule::FarProcessors,
            "vcpu",
            format!("this machine has at most {NEAR} processors"),
            Some("take machine='q35'"),
        );
    } else if is_q35(domain) && !reached {
        r.add(
            Rule::FarProcessors,
            "vcpu",
            format!("interrupts reach {NEAR} processors, and more if they are translated"),
            Some("add <iommu model='intel'><driver intremap='on' eim='on'/></iommu>, and <ioapic driver='qemu'/> to <features>"),
        );
    }
}

fn topology(domain: &Domain, t: &Topology, r: &mut Report<'_>) {
    let most = most(domain);
    let counts = [
        ("sockets", t.sockets, true),
        ("dies", t.dies, false),
        ("clusters", t.clusters, false),
        ("cores", t.cores, true),
        ("threads", t.threads, true),
    ];
    for (name, count, needed) in counts {
        if count == Some(0) || count.is_none() && needed {
            r.report(
                Rule::TopologyCount,
                format_args!("cpu/topology/@{name}"),
                format!("the topology needs `{name}`, at least 1"),
            );
        }
    }
    let product = counts
        .iter()
        .map(|(_, count, _)| u64::from(count.unwrap_or(1)))
        .try_fold(1_u64, u64::checked_mul);
    if domain.vcpu.is_some() && product != Some(u64::from(most)) {
        let product = product.map_or("more than can be counted".to_owned(), |n| n.to_string());
        r.report(
            Rule::TopologyProduct,
            "cpu/topology",
            format!("the topology makes {product} processors, and <vcpu> says {most}"),
        );
    }
    let threads = t
        .threads
        .filter(|threads| *threads > 1 && is_pseries(domain));
    let now = domain.vcpu.as_ref().and_then(|vcpu| vcpu.current);
    if let (Some(threads), Some(now)) = (threads, now)
        && now % threads != 0
    {
        r.report(
            Rule::VcpuCurrent,
            "vcpu/@current",
            format!("this machine's processors come in whole cores, of {threads} threads"),
        );
    }
}

/// Each processor; the first one is always there.
fn each(domain: &Domain, r: &mut Report<'_>) {
    let most = most(domain);
    let mut orders = BTreeSet::new();
    let states = domain.vcpus.iter().flat_map(|vcpus| &vcpus.vcpus);
    for (i, state) in states.enumerate() {
        let path = format_args!("vcpus/vcpu[{}]", i + 1);
        if state.id.is_some_and(|id| id >= most) {
            r.report(
                Rule::VcpuId,
                format_args!("{path}/@id"),
                format!(
                    "the guest's processors are numbered 0 to {}",
                    most.saturating_sub(1)
                ),
            );
        }
        if state.enabled.is_none() {
            r.report(
                Rule::VcpuState,
                path,
                "it is not said whether the processor is there: state `enabled`",
            );
        }
        if is_qemu(domain) {
            plugging(state, path, r);
        }
        let single = stated_arch(domain).is_some_and(is_x86);
        if single
            && state
                .order
                .is_some_and(|order| order > 0 && !orders.insert(order))
        {
            r.report(
                Rule::VcpuState,
                format_args!("{path}/@order"),
                "another processor has this place in the order",
            );
        }
    }
}

fn plugging(state: &VcpuState, path: Arguments<'_>, r: &mut Report<'_>) {
    let off = state.enabled == Some(YesNo::No);
    let first = state.id == Some(0);
    let complaint = if first && off {
        "processor 0 is always there: take enabled='yes'"
    } else if first && state.hotpluggable == Some(YesNo::Yes) {
        "processor 0 cannot be taken away"
    } else if first && state.order.is_some_and(|order| order > 1) {
        "processor 0 is the first in the order"
    } else if off && state.hotpluggable == Some(YesNo::No) {
        "a processor that is not there, and cannot be added, is none"
    } else {
        return;
    };
    r.report(Rule::VcpuState, path, complaint);
}

/// Whether the processor is the host's own, as far as it goes.
fn is_hosts(cpu: &Cpu) -> bool {
    matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum))
}

fn model(cpu: &Cpu, r: &mut Report<'_>) {
    let custom = matches!(cpu.mode, None | Some(CpuMode::Custom));
    let named = cpu
        .model
        .as_ref()
        .is_some_and(|model| model.value.is_some());
    if cpu.migratable.is_some() && !is_hosts(cpu) {
        r.report(
            Rule::CpuMigratable,
            "cpu/@migratable",
            "only the host's own processor can be held to what moves (mode='host-passthrough' or 'maximum')",
        );
    }
    if cpu.vendor.is_some() && !named {
        r.report(
            Rule::CpuModel,
            "cpu/vendor",
            "a maker is stated, and no <model> of theirs",
        );
    }
    if custom && !named && !cpu.features.is_empty() {
        r.add(
            Rule::CpuModel,
            "cpu/feature[1]",
            "features are stated, and no <model> that they add to",
            Some("state <model>, or a mode such as mode='host-model'"),
        );
    }
    let vendor = cpu
        .model
        .as_ref()
        .and_then(|model| model.vendor_id.as_deref());
    let vendor = vendor.filter(|_| !is_hosts(cpu));
    if vendor.is_some_and(|vendor| vendor.len() != VENDOR || vendor.contains(',')) {
        r.report(
            Rule::CpuVendor,
            "cpu/model/@vendor_id",
            format!("a maker's name has {VENDOR} letters, and no comma"),
        );
    }
    let mut seen = BTreeSet::new();
    for (i, feature) in cpu.features.iter().enumerate() {
        let Some(name) = feature.name.as_deref() else {
            continue;
        };
        if !seen.insert(name) {
            r.report(
                Rule::DuplicateCpuFeature,
                format_args!("cpu/feature[{}]", i + 1),
                format!("{name} is stated twice"),
            );
        }
    }
}

fn cache(domain: &Domain, cpu: &Cpu, cache: &CpuCache, r: &mut Report<'_>) {
    let level = cache.level.map(crate::scalar::Within::get);
    let complaint = match cache.mode {
        None => (
            "cpu/cache",
            "the cache's `mode` is not stated: emulate, passthrough or disable",
        ),
        Some(CacheMode::Emulate) if level != Some(3) => {
            ("cpu/cache", "only the cache of level 3 can be emulated")
        }
        Some(CacheMode::Passthrough | CacheMode::Disable) if level.is_some() => (
            "cpu/cache/@level",
            "this mode concerns all levels: leave the level out",
        ),
        Some(CacheMode::Passthrough) if !is_hosts(cpu) => (
            "cpu/cache/@mode",
            "the host's caches can be shown only with the host's own processor (mode='host-passthrough')",
        ),
        _ if is_qemu(domain) && stated_arch(domain).is_some_and(|arch| !is_x86(arch)) => {
            ("cpu/cache", "caches are chosen of x86's processors only")
        }
        _ => return,
    };
    r.report(Rule::CpuCache, complaint.0, complaint.1);
}

fn width(domain: &Domain, cpu: &Cpu, width: &MaxPhysAddr, r: &mut Report<'_>) {
    let complaint = match width.mode {
        Some(MaxPhysAddrMode::Passthrough) if width.bits.is_some() => (
            "cpu/maxphysaddr/@bits",
            "the width is the host's in this mode: leave `bits` out, or set `limit`",
        ),
        Some(MaxPhysAddrMode::Passthrough) if !is_hosts(cpu) && is_qemu(domain) => (
            "cpu/maxphysaddr/@mode",
            "the host's width goes with the host's own processor (mode='host-passthrough' or 'maximum')",
        ),
        _ if is_qemu(domain) && stated_arch(domain).is_some_and(|arch| !is_x86(arch)) => (
            "cpu/maxphysaddr",
            "the width of addresses is chosen of x86's processors only",
        ),
        _ => return,
    };
    r.report(Rule::CpuAddressWidth, complaint.0, complaint.1);
}
