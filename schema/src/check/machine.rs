//! Rules on a guest as a whole: what it is called, when it ends, where it stands on the host; and what machine it has, for the rules of the files beside this one.

use super::one::Report;
use crate::domain::os::OsType;
use crate::domain::{Domain, DomainType, IdRange, LifecycleAction};
use crate::rule::Rule;
use std::collections::HashSet;

/// Every rule on the machine.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    identity(domain, r);
    super::memory::check(domain, r);
    super::cpu::check(domain, r);
    super::numa::check(domain, r);
    super::threads::check(domain, r);
    if let Some(cputune) = &domain.cputune {
        super::tune::check(domain, cputune, r);
    }
    super::os::check(domain, r);
    super::features::check(domain, r);
    super::clock::check(domain, r);
    super::security::check(domain, r);
    super::memory_devices::check(domain, r);
    users(domain, r);
    counters(domain, r);
    arguments(domain, r);
    throttling(domain, r);
    lifecycle(domain, r);
}

/// The number of NUMA cells.
pub(super) fn cell_count(domain: &Domain) -> usize {
    domain
        .cpu
        .as_ref()
        .and_then(|cpu| cpu.numa.as_ref())
        .map_or(0, |numa| numa.cells.len())
}

/// The processor's family, if it is stated: that of the host is not known here.
pub(super) fn stated_arch(domain: &Domain) -> Option<&str> {
    domain.os.as_ref()?.kind.as_ref()?.arch.as_deref()
}

/// The processor's family; x86_64 where not stated.
pub(crate) fn arch(domain: &Domain) -> &str {
    stated_arch(domain).unwrap_or("x86_64")
}

/// The machine's name; empty where not stated.
pub(crate) fn machine(domain: &Domain) -> &str {
    domain
        .os
        .as_ref()
        .and_then(|os| os.kind.as_ref()?.machine.as_deref())
        .unwrap_or("")
}

/// Whether a family of processors is Intel's.
pub(super) fn is_x86(arch: &str) -> bool {
    matches!(arch, "x86_64" | "i686")
}

/// Whether the guest has a whole machine, which is so where nothing is said.
pub(crate) fn is_hvm(domain: &Domain) -> bool {
    let kind = domain.os.as_ref().and_then(|os| os.kind.as_ref()?.value);
    kind.is_none_or(|kind| kind == OsType::Hvm)
}

/// Whether the machine is QEMU's Q35.
pub(crate) fn is_q35(domain: &Domain) -> bool {
    let machine = machine(domain);
    machine == "q35" || machine.starts_with("pc-q35")
}

/// Whether the machine is QEMU's i440FX.
pub(crate) fn is_i440fx(domain: &Domain) -> bool {
    let machine = machine(domain);
    machine == "pc"
        || machine.starts_with("pc-i440fx")
        || machine.starts_with("pc-0.")
        || machine.starts_with("pc-1.")
}

/// Whether the machine has nothing of old PCs: no IDE controller and no floppy controller.
pub(super) fn is_modern(domain: &Domain) -> bool {
    let machine = machine(domain);
    machine.starts_with("pseries")
        || machine == "virt"
        || machine.starts_with("virt-")
        || stated_arch(domain).is_some_and(|arch| arch.starts_with("s390"))
}

/// Whether the machine is POWER's of PAPR.
pub(super) fn is_pseries(domain: &Domain) -> bool {
    arch(domain).starts_with("ppc64") && machine(domain).starts_with("pseries")
}

/// Whether the machine is, as far as it is stated, none of ARM's `virt`.
pub(super) fn is_no_arm_virt(domain: &Domain) -> bool {
    let arm = |arch: &str| matches!(arch, "aarch64" | "armv7l" | "armv6l");
    let virt =
        |machine: &str| machine.is_empty() || machine == "virt" || machine.starts_with("virt-");
    stated_arch(domain).is_some_and(|arch| !arm(arch)) || !virt(machine(domain))
}

/// Whether a guest is run by QEMU or, as vireo does, by a monitor that takes the same definitions.
pub(crate) fn is_qemu(domain: &Domain) -> bool {
    matches!(
        domain.kind,
        None | Some(DomainType::Kvm | DomainType::Qemu | DomainType::Kqemu | DomainType::Hvf)
    )
}

fn identity(domain: &Domain, r: &mut Report<'_>) {
    super::network::one_line(domain.title.as_ref(), r);
    let genid = domain.genid.as_ref().and_then(|genid| genid.value.as_ref());
    let genid = genid.map_or("", |value| value.0.trim());
    if !genid.is_empty() && genid.parse::<uuid::Uuid>().is_err() {
        r.report(
            Rule::GenId,
            "genid",
            format!("`{genid}` is no uuid; leave it empty to have one made"),
        );
    }
    let appid = domain
        .resource
        .as_ref()
        .and_then(|resource| resource.fibrechannel.as_ref()?.appid.as_deref());
    let prints = |text: &str| text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if appid.is_some_and(|appid| appid.len() > 128 || !prints(appid)) {
        r.report(
            Rule::FibreChannelId,
            "resource/fibrechannel/@appid",
            "the identity is 1 to 128 letters that can be printed",
        );
    }
}

/// Numbers of users and groups go together, and root is one of them.
fn users(domain: &Domain, r: &mut Report<'_>) {
    let Some(map) = &domain.idmap else { return };
    if map.uids.is_empty() != map.gids.is_empty() {
        r.report(
            Rule::IdMap,
            "idmap",
            "<uid> and <gid> are stated both or not at all",
        );
    }
    for (name, ranges) in [("uid", &map.uids), ("gid", &map.gids)] {
        let root = |range: &IdRange| range.start == Some(0);
        if !ranges.is_empty() && !ranges.iter().any(root) {
            r.report(
                Rule::IdMap,
                format_args!("idmap/{name}[1]"),
                "the container's root is nobody outside: a range must start='0'",
            );
        }
    }
}

fn counters(domain: &Domain, r: &mut Report<'_>) {
    let mut seen = HashSet::new();
    for (i, event) in domain.perf.iter().flat_map(|perf| &perf.events).enumerate() {
        if event.name.is_some_and(|name| !seen.insert(name)) {
            r.report(
                Rule::DuplicatePerfEvent,
                format_args!("perf/event[{}]/@name", i + 1),
                "the event is stated twice",
            );
        }
    }
}

/// The environment that QEMU is handed: names as a shell takes them.
fn arguments(domain: &Domain, r: &mut Report<'_>) {
    let envs = domain.qemu_commandline.iter().flat_map(|line| &line.envs);
    for (i, env) in envs.enumerate() {
        let name = env.name.as_deref().unwrap_or_default();
        let odd = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        if name.starts_with(|c: char| c.is_ascii_digit()) || name.contains(odd) {
            r.report(
                Rule::EnvironmentName,
                format_args!("qemu:commandline/qemu:env[{}]/@name", i + 1),
                format!("`{name}` is no name of a variable: letters, digits and _, no digit first"),
            );
        }
    }
}

fn throttling(domain: &Domain, r: &mut Report<'_>) {
    let mut names = HashSet::new();
    let groups = domain
        .throttlegroups
        .iter()
        .flat_map(|groups| &groups.groups);
    for (i, group) in groups.enumerate() {
        let path = format_args!("throttlegroups/throttlegroup[{}]", i + 1);
        match group.group_name.as_deref() {
            None => r.report(Rule::ThrottleGroup, path, "the group has no <group_name>"),
            Some(name) if !names.insert(name) => r.report(
                Rule::ThrottleGroup,
                format_args!("{path}/group_name"),
                format!("two groups are called {name}"),
            ),
            Some(_) => {}
        }
    }
}

fn lifecycle(domain: &Domain, r: &mut Report<'_>) {
    if domain.on_poweroff == Some(LifecycleAction::Restart)
        && domain.on_reboot == Some(LifecycleAction::Destroy)
    {
        r.add(
            Rule::Lifecycle,
            "on_poweroff",
            "a guest cannot restart on power-off and stay off on reboot",
            Some("take <on_reboot>restart</on_reboot>, or <on_poweroff>destroy</on_poweroff>"),
        );
    }
    for (name, action) in [
        ("on_poweroff", domain.on_poweroff),
        ("on_reboot", domain.on_reboot),
        ("on_crash", domain.on_crash),
    ] {
        if is_qemu(domain) && action == Some(LifecycleAction::RenameRestart) {
            r.report(
                Rule::Lifecycle,
                name,
                "rename-restart is not for guests of KVM and QEMU",
            );
        }
        let dumps = matches!(
            action,
            Some(LifecycleAction::CoredumpDestroy | LifecycleAction::CoredumpRestart)
        );
        if dumps && name != "on_crash" {
            r.report(
                Rule::Lifecycle,
                name,
                "memory is written to a file when a guest crashes, not otherwise",
            );
        }
    }
}
