//! Domains: the driver, the machine, and its tuning. Devices are in [`super::devices`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use vireo_schema::domain::cpu::CpuMode;
use vireo_schema::domain::os::{ClockOffset, Firmware};
use vireo_schema::domain::{self as stated, DomainType, LifecycleAction};

use super::devices;
use super::{Resolving, Surroundings, support};
use crate::plan::step::Refusal;
use crate::resolve::domain::{
    Action, Boot, Clock, Cpu, Domain, Events, Lifecycle, Machine, Memory, Tuning, Vcpus,
};
use crate::resolve::{Driver, WantedState};
use crate::units::Bytes;

/// A domain's definition, completed.
///
/// # Errors
/// Everything that it asks for and that its driver cannot do, and references to what is not there.
pub(crate) fn domain(
    mut at: Resolving<'_>,
    domain: &stated::Domain,
    around: &Surroundings,
) -> Result<Domain, Vec<Refusal>> {
    let found = match choose_driver(&mut at, domain, around) {
        Some((driver, why)) => {
            at.refuse_uncovered(support::domain(driver), &format!("driver {driver}"));
            complete(&mut at, domain, around, driver, why)
        }
        None => None,
    };
    at.finish(found)
}

/// Who runs the guest, and why.
fn choose_driver(
    at: &mut Resolving<'_>,
    domain: &stated::Domain,
    around: &Surroundings,
) -> Option<(Driver, String)> {
    let emulated = match domain.kind.unwrap_or(DomainType::Kvm) {
        DomainType::Kvm => false,
        DomainType::Qemu => true,
        other => {
            let message = format!(
                "a domain of type '{}' is not something vireo can run",
                other.as_str()
            );
            at.refuse(
                "unsupported",
                "@type",
                message,
                "type='kvm' and type='qemu' are",
            );
            return None;
        }
    };
    let pinned = at.located.policy.driver;
    let obstacle = builtin_obstacle(at, domain, around);
    match (pinned, emulated, obstacle) {
        (Some(vireo_schema::Driver::Builtin), true, _) => {
            at.refuse(
                "contradiction",
                "@type",
                "driver builtin cannot emulate a processor",
                "use type='kvm', or take driver out of the policy",
            );
            None
        }
        (Some(vireo_schema::Driver::Builtin), false, Some(obstacle)) => {
            at.refuse(
                "unsupported",
                &obstacle.path,
                format!(
                    "driver builtin, which the policy pins, cannot do this: {}",
                    obstacle.why
                ),
                "take it out, or let the policy say driver qemu",
            );
            None
        }
        (Some(vireo_schema::Driver::Qemu), ..) => {
            Some((Driver::Qemu, "the policy says so".to_owned()))
        }
        (_, true, _) => Some((Driver::Qemu, "type='qemu' is software emulation".to_owned())),
        (_, false, Some(obstacle)) => Some((Driver::Qemu, obstacle.why)),
        (pinned, false, None) => {
            let why = if pinned.is_some() {
                "the policy says so"
            } else {
                "it can do all that the definition asks"
            };
            Some((Driver::Builtin, why.to_owned()))
        }
    }
}

/// Why the builtin driver cannot run a guest.
struct Obstacle {
    path: String,
    why: String,
}

fn builtin_obstacle(
    at: &Resolving<'_>,
    domain: &stated::Domain,
    around: &Surroundings,
) -> Option<Obstacle> {
    let obstacle = |path: &str, why: &str| {
        Some(Obstacle {
            path: path.to_owned(),
            why: why.to_owned(),
        })
    };
    if let Some(limits) = &around.facts.kvm_limits {
        return obstacle("@type", limits);
    }
    if let Some(one) = at
        .stated
        .iter()
        .find(|one| !support::domain(Driver::Builtin).cover(&one.shape))
    {
        let words = super::in_words(&one.path);
        return obstacle(
            &one.path,
            &format!("it asks for {words}, which builtin does not have"),
        );
    }
    if domain
        .os
        .as_ref()
        .and_then(|os| os.kernel.as_ref())
        .is_none()
    {
        return obstacle("os", "it boots by firmware, and builtin boots a <kernel>");
    }
    if let Some(mode) = domain.cpu.as_ref().and_then(|cpu| cpu.mode)
        && !matches!(
            mode,
            CpuMode::HostPassthrough | CpuMode::HostModel | CpuMode::Maximum
        )
    {
        return obstacle(
            "cpu/@mode",
            "it asks for a named processor model, and builtin shows the host's",
        );
    }
    let devices = domain.devices.as_ref()?;
    devices::builtin_obstacle(devices).map(|(path, why)| Obstacle { path, why })
}

fn complete(
    at: &mut Resolving<'_>,
    domain: &stated::Domain,
    around: &Surroundings,
    driver: Driver,
    mut driver_why: String,
) -> Option<Domain> {
    let memory = memory(at, domain)?;
    let vcpus = vcpus(at, domain)?;
    let boot = boot(at, domain)?;
    let events = events(at, domain)?;
    let clock = clock(at, domain)?;
    check_labels(at, domain);
    check_arch(at, domain);
    let devices = devices::devices(at, domain, around);
    if at
        .stated
        .iter()
        .any(|one| one.shape.ends_with("/address/@slot"))
    {
        driver_why.push_str("; QEMU places its devices itself, stated addresses tell it nothing");
    }
    let policy = &at.located.policy;
    Some(Domain {
        uuid: at.id.uuid,
        name: at.id.name.clone(),
        driver,
        driver_why,
        emulated: domain.kind == Some(DomainType::Qemu),
        machine: machine(domain),
        memory,
        cpu: cpu(domain),
        boot,
        disks: devices.disks,
        interfaces: devices.interfaces,
        chardevs: devices.chardevs,
        extras: devices.extras,
        rng: devices.rng,
        balloon: devices.balloon,
        clock,
        events,
        tuning: tuning(domain, vcpus.current),
        vcpus,
        lifecycle: Lifecycle {
            wanted: match policy.wanted_state() {
                vireo_schema::WantedState::Running => WantedState::Running,
                vireo_schema::WantedState::Stopped => WantedState::Stopped,
                vireo_schema::WantedState::Paused => WantedState::Paused,
            },
            shutdown_timeout: policy.shutdown_deadline(),
        },
        qemu_arguments: domain
            .qemu_commandline
            .iter()
            .flat_map(|line| &line.args)
            .filter_map(|arg| arg.value.as_ref().map(|value| value.0.clone()))
            .collect(),
    })
}

fn memory(at: &mut Resolving<'_>, domain: &stated::Domain) -> Option<Memory> {
    let maximum = domain
        .memory
        .as_ref()
        .and_then(|memory| memory.value.as_ref())
        .map(|value| Bytes(value.bytes().0));
    let Some(maximum) = maximum.filter(|maximum| maximum.0 > 0) else {
        at.refuse(
            "missing",
            "memory",
            "the guest has no memory",
            "add <memory unit='MiB'>…</memory>, or `memory: 512 MiB`",
        );
        return None;
    };
    let current = domain
        .current_memory
        .as_ref()
        .and_then(|memory| memory.value.as_ref())
        .map(|value| Bytes(value.bytes().0));
    let backing = domain.memory_backing.as_ref();
    let pages = backing.and_then(|backing| backing.hugepages.as_ref());
    if pages.is_some_and(|pages| pages.pages.len() > 1) {
        at.refuse(
            "unsupported",
            "memoryBacking/hugepages/page[2]",
            "pages of several sizes are not something vireo can do",
            "name one size",
        );
    }
    let size = |page: &stated::tune::HugePage| {
        Some(Bytes(page.size?.saturating_mul(
            page.unit.as_ref().map_or(1024, stated::cpu::Unit::bytes),
        )))
    };
    Some(Memory {
        maximum,
        current: current.unwrap_or(maximum).min(maximum),
        hugepages: pages.map(|pages| pages.pages.first().and_then(size)),
        locked: backing.is_some_and(|backing| backing.locked),
    })
}

fn vcpus(at: &mut Resolving<'_>, domain: &stated::Domain) -> Option<Vcpus> {
    let stated = domain.vcpu.as_ref();
    let maximum = stated.and_then(|vcpu| vcpu.value).unwrap_or(1);
    let current = stated.and_then(|vcpu| vcpu.current).unwrap_or(maximum);
    if maximum == 0 || current == 0 || current > maximum {
        at.refuse(
            "range",
            "vcpu",
            format!("{current} of {maximum} processors cannot be"),
            "at least one, and current at most the maximum",
        );
        return None;
    }
    let topology = domain
        .cpu
        .as_ref()
        .and_then(|cpu| cpu.topology.as_ref())
        .map(|topology| {
            [
                topology.sockets,
                topology.dies,
                topology.cores,
                topology.threads,
            ]
            .map(|count| count.unwrap_or(1))
        });
    Some(Vcpus {
        maximum,
        current,
        topology,
    })
}

fn cpu(domain: &stated::Domain) -> Cpu {
    let Some(cpu) = &domain.cpu else {
        return Cpu::default();
    };
    let model = cpu.model.as_ref().and_then(|model| model.value.clone());
    let feature = |feature: &stated::cpu::CpuFeature| {
        let policy = feature.policy.map_or("require", |policy| policy.as_str());
        feature.name.clone().map(|name| (name, policy.to_owned()))
    };
    Cpu {
        mode: cpu
            .mode
            .map(|mode| mode.as_str().to_owned())
            .or_else(|| model.is_some().then(|| "custom".to_owned())),
        model,
        features: cpu.features.iter().filter_map(feature).collect(),
    }
}

fn machine(domain: &stated::Domain) -> Machine {
    let kind = domain.os.as_ref().and_then(|os| os.kind.as_ref());
    let mut sysinfo = BTreeMap::new();
    for info in &domain.sysinfos {
        let boards = info.base_boards.first();
        for (block, name) in [
            (info.bios.as_ref(), "bios"),
            (info.system.as_ref(), "system"),
            (boards, "baseBoard"),
            (info.chassis.as_ref(), "chassis"),
        ] {
            for entry in block.iter().flat_map(|block| &block.entries) {
                if let (Some(key), Some(value)) = (&entry.name, &entry.value) {
                    sysinfo.insert(format!("{name}.{key}"), value.0.clone());
                }
            }
        }
    }
    Machine {
        arch: kind
            .and_then(|kind| kind.arch.clone())
            .unwrap_or_else(|| "x86_64".to_owned()),
        machine: kind.and_then(|kind| kind.machine.clone()),
        emulator: domain
            .devices
            .as_ref()
            .and_then(|devices| devices.emulator.clone())
            .map(PathBuf::from),
        acpi: domain
            .features
            .as_ref()
            .is_none_or(|features| features.acpi),
        sysinfo,
    }
}

fn boot(at: &mut Resolving<'_>, domain: &stated::Domain) -> Option<Boot> {
    let Some(os) = &domain.os else {
        return Some(Boot::Firmware {
            efi: false,
            loader: None,
            nvram: None,
            order: Vec::new(),
        });
    };
    for (path, file) in [("os/kernel", &os.kernel), ("os/initrd", &os.initrd)] {
        if let Some(file) = file
            .as_ref()
            .filter(|file| !super::storage::is_plain(file.as_ref()))
        {
            at.refuse(
                "bad-path",
                path,
                format!("`{file}` is not an absolute path without '..'"),
                "such as /var/lib/vireo/boot/vmlinuz",
            );
            return None;
        }
    }
    if let Some(kernel) = &os.kernel {
        return Some(Boot::Kernel {
            kernel: kernel.into(),
            initrd: os.initrd.as_ref().map(PathBuf::from),
            cmdline: os
                .cmdline
                .as_ref()
                .map(|cmdline| cmdline.0.clone())
                .unwrap_or_default(),
        });
    }
    if os.initrd.is_some() || os.cmdline.is_some() {
        let path = if os.initrd.is_some() {
            "os/initrd"
        } else {
            "os/cmdline"
        };
        at.refuse(
            "contradiction",
            path,
            "there is no <kernel> that it could belong to",
            "add <kernel>, or take it out",
        );
        return None;
    }
    let path = |text: &Option<vireo_schema::scalar::Text>| {
        text.as_ref().map(|text| PathBuf::from(&text.0))
    };
    Some(Boot::Firmware {
        efi: os.firmware == Some(Firmware::Efi),
        loader: os.loader.as_ref().and_then(|loader| path(&loader.value)),
        nvram: os.nvram.as_ref().and_then(|nvram| path(&nvram.value)),
        order: os
            .boots
            .iter()
            .filter_map(|boot| boot.dev.map(|dev| dev.as_str().to_owned()))
            .collect(),
    })
}

fn clock(at: &mut Resolving<'_>, domain: &stated::Domain) -> Option<Clock> {
    match domain
        .clock
        .as_ref()
        .and_then(|clock| clock.offset)
        .unwrap_or(ClockOffset::Utc)
    {
        ClockOffset::Utc => Some(Clock::Utc),
        ClockOffset::Localtime => Some(Clock::Localtime),
        other => {
            at.refuse(
                "unsupported",
                "clock/@offset",
                format!(
                    "a clock with offset '{}' is not something vireo can do",
                    other.as_str()
                ),
                "utc and localtime are",
            );
            None
        }
    }
}

fn events(at: &mut Resolving<'_>, domain: &stated::Domain) -> Option<Events> {
    let mut action = |path: &str, stated: Option<LifecycleAction>, default: Action| match stated {
        None => Some(default),
        Some(LifecycleAction::Destroy) => Some(Action::Destroy),
        Some(LifecycleAction::Restart) => Some(Action::Restart),
        Some(LifecycleAction::Preserve) => Some(Action::Preserve),
        Some(other) => {
            at.refuse(
                "unsupported",
                path,
                format!(
                    "'{}' is not something vireo can do when a guest ends",
                    other.as_str()
                ),
                "destroy, restart and preserve are",
            );
            None
        }
    };
    let on_poweroff = action("on_poweroff", domain.on_poweroff, Action::Destroy);
    let on_reboot = action("on_reboot", domain.on_reboot, Action::Restart);
    let on_crash = action("on_crash", domain.on_crash, Action::Destroy);
    Some(Events {
        on_poweroff: on_poweroff?,
        on_reboot: on_reboot?,
        on_crash: on_crash?,
    })
}

fn tuning(domain: &stated::Domain, vcpus: u32) -> Tuning {
    let cpu = domain.cputune.as_ref();
    let memory = domain.memtune.as_ref();
    let limit = |limit: Option<&stated::tune::Limit>| {
        limit
            .and_then(|limit| limit.value.as_ref())
            .map(|value| Bytes(value.bytes().0))
    };
    // One group holds the whole guest: what each vcpu may use is multiplied, what all of them may use is not.
    let each = cpu
        .and_then(|cpu| cpu.quota)
        .map(|quota| quota.saturating_mul(i64::from(vcpus)));
    Tuning {
        shares: cpu.and_then(|cpu| cpu.shares),
        period: cpu.and_then(|cpu| cpu.global_period.or(cpu.period)),
        quota: cpu
            .and_then(|cpu| cpu.global_quota)
            .or(each)
            .filter(|quota| *quota > 0),
        cpuset: domain
            .vcpu
            .as_ref()
            .and_then(|vcpu| vcpu.cpuset.as_ref())
            .map(vireo_schema::scalar::CpuSet::list),
        memory_max: limit(memory.and_then(|memory| memory.hard_limit.as_ref())),
        memory_high: limit(memory.and_then(|memory| memory.soft_limit.as_ref())),
        memory_swap_max: limit(memory.and_then(|memory| memory.swap_hard_limit.as_ref())),
        io_weight: domain
            .blkiotune
            .as_ref()
            .and_then(|blkio| blkio.weight)
            .map(u64::from),
    }
}

/// Security labels are refused unless they say that there is none.
fn check_labels(at: &mut Resolving<'_>, _: &stated::Domain) {
    let labelled: Vec<String> = at
        .stated
        .iter()
        .filter(|one| one.shape == "seclabel/@type" && one.value.as_deref() != Some("none"))
        .map(|one| one.path.clone())
        .collect();
    for path in labelled {
        at.refuse(
            "unsupported",
            &path,
            "security labels are not something vireo can do",
            "<seclabel type='none'/> is accepted",
        );
    }
}

fn check_arch(at: &mut Resolving<'_>, domain: &stated::Domain) {
    let arch = domain
        .os
        .as_ref()
        .and_then(|os| os.kind.as_ref())
        .and_then(|kind| kind.arch.as_deref());
    if let Some(arch) = arch.filter(|arch| *arch != "x86_64") {
        at.refuse(
            "unsupported",
            "os/type/@arch",
            format!("guests of architecture {arch} are not something vireo can run"),
            "x86_64 is",
        );
    }
}
