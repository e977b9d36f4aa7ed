//! Rules on what a guest's machine has beyond the ordinary.

use super::machine::{arch, is_no_arm_virt, is_q35, is_qemu, is_x86, machine, stated_arch};
use super::one::Report;
use crate::domain::cpu::CpuMode;
use crate::domain::features::{Features, Hyperv, KvmFeatures};
use crate::domain::{Domain, DomainType};
use crate::rule::Rule;
use crate::scalar::OnOff;

/// Every rule on features.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    let Some(features) = &domain.features else {
        return;
    };
    tseg(domain, features, r);
    keyboard(domain, features, r);
    if let Some(hyperv) = &features.hyperv {
        self::hyperv(hyperv, r);
    }
    if let Some(kvm) = &features.kvm {
        self::kvm(domain, kvm, r);
    }
    if is_qemu(domain) {
        of_other_machines(domain, features, r);
    }
}

fn tseg(domain: &Domain, features: &Features, r: &mut Report<'_>) {
    let Some(smm) = features
        .smm
        .as_ref()
        .filter(|smm| smm.state != Some(OnOff::Off))
    else {
        return;
    };
    let Some(tseg) = &smm.tseg else { return };
    if tseg
        .value
        .as_ref()
        .is_some_and(|size| size.bytes().0 % (1 << 20) != 0)
    {
        r.report(
            Rule::TsegSize,
            "features/smm/tseg",
            "the memory of system management mode comes in whole MiB",
        );
    }
    if is_qemu(domain) && !machine(domain).is_empty() && !is_q35(domain) {
        r.report(
            Rule::OtherMachine,
            "features/smm/tseg",
            format!(
                "the memory of system management mode is chosen of the machine q35, not of {}",
                machine(domain)
            ),
        );
    }
}

fn keyboard(domain: &Domain, features: &Features, r: &mut Report<'_>) {
    let off = features
        .ps2
        .as_ref()
        .is_some_and(|ps2| ps2.state == Some(OnOff::Off));
    for (i, input) in domain
        .devices
        .iter()
        .flat_map(|devices| &devices.inputs)
        .enumerate()
    {
        if off && input.bus == Some(crate::domain::misc::InputBus::Ps2) {
            r.report(
                Rule::Ps2Off,
                format_args!("devices/input[{}]/@bus", i + 1),
                "the PS/2 controller is switched off",
            );
        }
    }
}

fn hyperv(hyperv: &Hyperv, r: &mut Report<'_>) {
    /// The least number of tries that Hyper-V's interface takes.
    const TRIES: u32 = 0xfff;
    if let Some(spinlocks) = &hyperv.spinlocks
        && spinlocks.retries.is_some_and(|retries| retries < TRIES)
        && spinlocks.state != Some(OnOff::Off)
    {
        r.report(
            Rule::Hyperv,
            "features/hyperv/spinlocks/@retries",
            format!("a guest tells of waiting after at least {TRIES} tries"),
        );
    }
    let Some(vendor) = hyperv
        .vendor_id
        .as_ref()
        .filter(|v| v.state != Some(OnOff::Off))
    else {
        return;
    };
    let complaint = match vendor.value.as_ref().map(|value| value.0.as_str()) {
        None => "the maker's name is not stated: `value`",
        Some(name) if name.len() > 12 => "a maker's name has at most 12 letters",
        Some(name) if name.contains(',') => "a maker's name has no comma",
        Some(_) => return,
    };
    r.report(Rule::Hyperv, "features/hyperv/vendor_id", complaint);
}

fn kvm(domain: &Domain, kvm: &KvmFeatures, r: &mut Report<'_>) {
    let on = |state: Option<OnOff>| state == Some(OnOff::On);
    if let Some(ring) = &kvm.dirty_ring
        && on(ring.state)
    {
        let sound = |size: u32| size.is_power_of_two() && (1024..=65_536).contains(&size);
        if !ring.size.is_some_and(sound) {
            r.report(
                Rule::DirtyRing,
                "features/kvm/dirty-ring/@size",
                "a ring's `size` is a power of two from 1024 to 65536",
            );
        }
    }
    let dedicated = kvm.hint_dedicated.as_ref().and_then(|hint| hint.state);
    let mode = domain.cpu.as_ref().and_then(|cpu| cpu.mode);
    if on(dedicated) && !matches!(mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum)) {
        r.report(
            Rule::HintDedicated,
            "features/kvm/hint-dedicated",
            "processors that are the guest's alone are the host's own (cpu mode='host-passthrough')",
        );
    }
}

/// Features that only one family of machines has.
fn of_other_machines(domain: &Domain, features: &Features, r: &mut Report<'_>) {
    let power = [
        ("hpt", features.hpt.is_some()),
        ("htm", features.htm.is_some()),
        ("nested-hv", features.nested_hv.is_some()),
        ("ccf-assist", features.ccf_assist.is_some()),
        ("cfpc", features.cfpc.is_some()),
        ("sbbc", features.sbbc.is_some()),
        ("ibs", features.ibs.is_some()),
    ];
    for (name, stated) in power {
        if stated && !arch(domain).starts_with("ppc") {
            r.report(
                Rule::OtherMachine,
                format_args!("features/{name}"),
                format!(
                    "this feature is of POWER's machines, and the guest's is {}",
                    arch(domain)
                ),
            );
        }
    }
    let x86 = [
        ("ioapic", features.ioapic.is_some()),
        ("pvspinlock", features.pvspinlock.is_some()),
        (
            "apic/@eoi",
            features
                .apic
                .as_ref()
                .is_some_and(|apic| apic.eoi.is_some()),
        ),
    ];
    let other = stated_arch(domain).filter(|arch| !is_x86(arch));
    if let Some(other) = other {
        for (name, _) in x86.iter().filter(|(_, stated)| *stated) {
            r.report(
                Rule::OtherMachine,
                format_args!("features/{name}"),
                format!("this feature is of x86's machines, and the guest's is {other}"),
            );
        }
    }
    let arm = [
        ("gic", features.gic.is_some()),
        (
            "ras",
            features.ras.as_ref().is_some_and(|ras| ras.state.is_some()),
        ),
    ];
    for (name, stated) in arm {
        if stated && is_no_arm_virt(domain) {
            r.report(
                Rule::OtherMachine,
                format_args!("features/{name}"),
                format!(
                    "this feature is of ARM's machine virt, and the guest's is {} of {}",
                    machine(domain),
                    arch(domain)
                ),
            );
        }
    }
    let translated = domain.kind == Some(DomainType::Qemu);
    if features.tcg.is_some() && !translated {
        r.report(
            Rule::OtherMachine,
            "features/tcg",
            "instructions are translated where <domain type='qemu'>",
        );
    }
    let counting = features.pmu.as_ref().and_then(|pmu| pmu.state);
    if counting == Some(OnOff::Off) && arch(domain).starts_with("ppc64") {
        r.report(
            Rule::OtherMachine,
            "features/pmu/@state",
            "POWER's processors always count events",
        );
    }
}
