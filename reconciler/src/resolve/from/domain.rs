//! Domains: the driver, the machine, and its tuning. Devices are in [`super::devices`].

use vireo_schema::Rule;
use vireo_schema::domain::cpu::CpuMode;
use vireo_schema::domain::os::BootDevice;
use vireo_schema::domain::{self as stated, DomainType, LifecycleAction, Placement};

use vireo_schema::scalar::{OnOff, YesNo};

use super::clock::{clock, timer_obstacle};
use super::machine::{boot, cpu, disk_boot, machine, vcpus};
use super::{Resolving, Surroundings, devices, memory, pins, support};
use crate::domain::builtin::processors;
use crate::plan::step::Refusal;
use crate::resolve::domain::{Action, Domain, Events, Lifecycle, Tuning};
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
    if let Some(domain) = &found {
        for objection in crate::domain::objections(domain) {
            at.refuse(
                Rule::Unsupported,
                &objection.path,
                objection.what,
                "take it out; nothing that is asked for is ignored",
            );
        }
    }
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
                Rule::Unsupported,
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
                Rule::Contradiction,
                "@type",
                "driver builtin cannot emulate a processor",
                "use type='kvm', or take driver out of the policy",
            );
            None
        }
        (Some(vireo_schema::Driver::Builtin), false, Some(obstacle)) => {
            at.refuse(
                Rule::Unsupported,
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
            let why = if names_kernel(domain) {
                why.to_owned()
            } else {
                format!("{why}, and it boots what its disk's boot configuration names")
            };
            Some((Driver::Builtin, why + &left_out(domain)))
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
    if let Some((path, why)) = machine_obstacle(at, domain) {
        return obstacle(path, &why);
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
    if let Some((path, why)) = emulator_obstacle(at, domain).or_else(|| power_obstacle(domain)) {
        return obstacle(path, &why);
    }
    if let Some((path, why)) = io_obstacle(at, domain) {
        return obstacle(&path, &why);
    }
    if let Some((path, why)) = boot_obstacle(domain) {
        return Some(Obstacle { path, why });
    }
    if let Some((path, why)) = domain.cpu.as_ref().and_then(processor_obstacle) {
        return obstacle(path, &why);
    }
    let others = timer_obstacle(domain).or_else(|| memory::builtin_obstacle(domain));
    if let Some((path, why)) = others {
        return Some(Obstacle { path, why });
    }
    if domain
        .features
        .as_ref()
        .is_some_and(|features| !features.acpi)
    {
        return obstacle(
            "features",
            "it asks for a machine without ACPI, which builtin cannot make",
        );
    }
    let devices = domain.devices.as_ref()?;
    devices::builtin_obstacle(devices).map(|(path, why)| Obstacle { path, why })
}

fn names_kernel(domain: &stated::Domain) -> bool {
    domain.os.as_ref().is_some_and(|os| os.kernel.is_some())
}

/// Whether the policy says that what libvirt wrote down for QEMU is meant for the builtin driver.
fn is_pinned(at: &Resolving<'_>) -> bool {
    at.located.policy.driver == Some(vireo_schema::Driver::Builtin)
}

fn lacks(what: &str) -> String {
    format!("it asks for <{what}>, which builtin does not have")
}

/// Why the builtin driver's machine is not the one that a definition asks for. QEMU's, which libvirt writes into every definition, are asked for unless the policy
/// says builtin: then it is a PC with PCI that is meant.
fn machine_obstacle(at: &Resolving<'_>, domain: &stated::Domain) -> Option<(&'static str, String)> {
    let kind = domain.os.as_ref().and_then(|os| os.kind.as_ref());
    let machine = kind.and_then(|kind| kind.machine.as_deref())?;
    let is_pc = machine.starts_with("pc") || machine == "q35";
    (!is_pinned(at) || !is_pc).then(|| ("os/type/@machine", lacks("type machine")))
}

/// The same of QEMU's program.
fn emulator_obstacle(
    at: &Resolving<'_>,
    domain: &stated::Domain,
) -> Option<(&'static str, String)> {
    let devices = domain.devices.as_ref()?;
    let is_meant = devices.emulator.is_some() && !is_pinned(at);
    is_meant.then(|| ("devices/emulator", lacks("emulator")))
}

/// The same of the way to reach an image that only QEMU has.
fn io_obstacle(at: &Resolving<'_>, domain: &stated::Domain) -> Option<(String, String)> {
    let mut ways = devices::ways_of_qemu(domain.devices.as_ref()?);
    let (number, way, _) = ways.next().filter(|_| !is_pinned(at))?;
    let path = crate::resolve::nth_device("disk", number);
    Some((
        format!("{path}/driver/@io"),
        lacks(&format!("driver io='{way}'")),
    ))
}

/// VMware's port and states of sleep may be stated as what is not there.
fn power_obstacle(domain: &stated::Domain) -> Option<(&'static str, String)> {
    let features = domain.features.as_ref();
    let vmport = features.and_then(|features| features.vmport.as_ref());
    if vmport.is_some_and(|vmport| vmport.state != Some(OnOff::Off)) {
        return Some(("features/vmport", lacks("vmport")));
    }
    let pm = domain.pm.as_ref()?;
    let sleeps = [
        ("pm/suspend-to-mem", &pm.suspend_to_mem),
        ("pm/suspend-to-disk", &pm.suspend_to_disk),
    ];
    let is_on = |sleep: &Option<vireo_schema::common::Enabled>| {
        let sleep = sleep.as_ref();
        sleep.is_some_and(|sleep| sleep.enabled == Some(YesNo::Yes))
    };
    let (path, _) = sleeps.into_iter().find(|(_, sleep)| is_on(sleep))?;
    Some((path, "it is to sleep, and builtin has no sleep".to_owned()))
}

/// What a guest that libvirt wrote down for QEMU does without under builtin, in words that go on a sentence; empty where there is nothing.
fn left_out(domain: &stated::Domain) -> String {
    let kind = domain.os.as_ref().and_then(|os| os.kind.as_ref());
    let machine = kind.and_then(|kind| kind.machine.as_deref());
    let devices = domain.devices.as_ref();
    let emulator = devices.and_then(|it| it.emulator.as_ref());
    let qemus = machine.map(|machine| format!("machine {machine}"));
    let qemus = qemus.into_iter().chain(emulator.cloned());
    let all: Vec<String> = qemus
        .chain(devices.into_iter().flat_map(devices::left_out))
        .collect();
    match all.is_empty() {
        true => String::new(),
        false => format!(
            "; without what is QEMU's and nothing here uses: {}",
            all.join(", ")
        ),
    }
}

/// Why the builtin driver cannot boot what a definition says, beside firmware, which none of its rows covers.
fn boot_obstacle(domain: &stated::Domain) -> Option<(String, String)> {
    let order = domain.os.iter().flat_map(|os| &os.boots);
    let mut devices = (1..).zip(order.filter_map(|boot| boot.dev));
    if let Some((number, device)) = devices.find(|(_, device)| *device != BootDevice::Hd) {
        let why = format!(
            "it boots from {}, and builtin boots a <kernel> or from a disk",
            device.as_str()
        );
        let path = match number {
            1 => "os/boot".to_owned(),
            number => format!("os/boot[{number}]"),
        };
        return Some((path, why));
    }
    let disks = domain
        .devices
        .as_ref()
        .map_or(0, |devices| devices.disks.len());
    if !names_kernel(domain) && disks == 0 {
        let why = "it has neither a <kernel> nor a disk with a boot configuration of its own";
        return Some(("os".to_owned(), why.to_owned()));
    }
    None
}

/// Why the builtin driver cannot show the processor that a definition asks for, as far as that can be told without the host's.
fn processor_obstacle(cpu: &stated::cpu::Cpu) -> Option<(&'static str, String)> {
    let model = cpu.model.as_ref().and_then(|model| model.value.as_deref());
    let custom = matches!(cpu.mode, None | Some(CpuMode::Custom));
    match model {
        Some(model) if custom && !processors::knows_model(model) => {
            let why =
                format!("it asks for the processor model {model}, which builtin does not know");
            return Some(("cpu/model", why));
        }
        None if cpu.mode == Some(CpuMode::Custom) => {
            return Some((
                "cpu",
                "it asks for a processor model and names none".to_owned(),
            ));
        }
        _ => {}
    }
    let features = cpu
        .features
        .iter()
        .filter_map(|feature| feature.name.as_deref());
    let unknown = features
        .into_iter()
        .find(|name| !processors::knows_feature(name))?;
    let why = format!("it asks for the processor feature {unknown}, which builtin does not know");
    Some(("cpu/feature", why))
}

fn complete(
    at: &mut Resolving<'_>,
    domain: &stated::Domain,
    around: &Surroundings,
    driver: Driver,
    driver_why: String,
) -> Option<Domain> {
    let vcpus = vcpus(at, domain)?;
    let memory = memory::memory(at, domain, around, &vcpus)?;
    // Which disk is first is known once the disks are.
    let from_disk = driver == Driver::Builtin && !names_kernel(domain);
    let named = match from_disk {
        true => None,
        false => Some(boot(at, domain)?),
    };
    let events = events(at, domain)?;
    let clock = clock(at, domain, driver)?;
    check_labels(at, domain);
    check_arch(at, domain);
    check_placement(at, domain);
    let cpu = cpu(at, domain);
    let mut machine = machine(at, domain);
    if driver == Driver::Builtin {
        // QEMU's, which the policy says are not meant: another version of them is no change.
        (machine.machine, machine.emulator) = (None, None);
    }
    let mut tuning = tuning(at, domain, around, vcpus.current);
    let devices = devices::devices(at, domain, around);
    let pins = pins::pins(domain, vcpus.current, &devices.disks);
    if let Some(cpuset) = &mut tuning.cpuset {
        pins::widen(cpuset, domain, &pins);
    }
    let boot = named.or_else(|| disk_boot(at, domain, &devices.disks))?;
    if memory.current < memory.maximum && !devices.balloon {
        at.refuse(
            Rule::Contradiction,
            "currentMemory",
            "a guest without a balloon cannot be left less than its memory",
            "make it equal to <memory>, or let the guest have <memballoon model='virtio'/>",
        );
    }
    let policy = &at.located.policy;
    Some(Domain {
        uuid: at.id.uuid,
        name: at.id.name.clone(),
        driver,
        driver_why,
        emulated: domain.kind == Some(DomainType::Qemu),
        machine,
        memory,
        cpu,
        boot,
        disks: devices.disks,
        interfaces: devices.interfaces,
        chardevs: devices.chardevs,
        extras: devices.extras,
        rng: devices.rng,
        balloon: devices.balloon,
        balloon_address: devices.balloon_address,
        balloon_options: devices.balloon_options,
        clock,
        events,
        tuning,
        pins,
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

fn events(at: &mut Resolving<'_>, domain: &stated::Domain) -> Option<Events> {
    let mut action = |path: &str, stated: Option<LifecycleAction>, default: Action| match stated {
        None => Some(default),
        Some(LifecycleAction::Destroy) => Some(Action::Destroy),
        Some(LifecycleAction::Restart) => Some(Action::Restart),
        Some(LifecycleAction::Preserve) => Some(Action::Preserve),
        Some(LifecycleAction::CoredumpDestroy) if path == "on_crash" => {
            Some(Action::CoredumpDestroy)
        }
        Some(LifecycleAction::CoredumpRestart) if path == "on_crash" => {
            Some(Action::CoredumpRestart)
        }
        Some(other) => {
            at.refuse(
                Rule::Unsupported,
                path,
                format!(
                    "'{}' is not something vireo can do when a guest ends",
                    other.as_str()
                ),
                "destroy, restart and preserve are, and for on_crash coredump-destroy and coredump-restart",
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

fn tuning(
    at: &mut Resolving<'_>,
    domain: &stated::Domain,
    around: &Surroundings,
    vcpus: u32,
) -> Tuning {
    let cpu = domain.cputune.as_ref();
    if let Some(cpu) = cpu {
        let periods = cpu.period.zip(cpu.global_period);
        if cpu.quota.zip(cpu.global_quota).is_some() || periods.is_some_and(|(a, b)| a != b) {
            at.refuse(
                Rule::Contradiction,
                "cputune",
                "one control group holds the whole guest: it has one limit, for all processors or for each",
                "state <global_period> and <global_quota>, or <period> and <quota>",
            );
        }
    }
    let limits = domain.memtune.as_ref();
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
        mems: memory::restricted_to(domain, around),
        memory_max: limit(limits.and_then(|limits| limits.hard_limit.as_ref())),
        memory_high: limit(limits.and_then(|limits| limits.soft_limit.as_ref())),
        memory_swap_max: limit(limits.and_then(|limits| limits.swap_hard_limit.as_ref())),
        io_weight: domain
            .blkiotune
            .as_ref()
            .and_then(|blkio| blkio.weight)
            .map(u64::from),
    }
}

/// Placing by measurement is what a daemon of its own does.
fn check_placement(at: &mut Resolving<'_>, domain: &stated::Domain) {
    let placement = domain.vcpu.as_ref().and_then(|vcpu| vcpu.placement);
    if placement.is_some_and(|placement| placement != Placement::Static) {
        at.refuse(
            Rule::Unsupported,
            "vcpu/@placement",
            "choosing processors by measurement is not something vireo can do",
            "placement='static' is, with a cpuset",
        );
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
            Rule::Unsupported,
            &path,
            "security labels are not something vireo can do",
            "<seclabel type='none'/> is accepted",
        );
    }
}

fn check_arch(at: &mut Resolving<'_>, domain: &stated::Domain) {
    let kind = domain.os.as_ref().and_then(|os| os.kind.as_ref());
    if let Some(word) = kind
        .and_then(|kind| kind.value.as_ref())
        .map(|word| word.as_str())
        .filter(|word| *word != "hvm")
    {
        at.refuse(
            Rule::Unsupported,
            "os/type",
            format!("guests of type {word} are not something vireo can run"),
            "hvm is",
        );
    }
    let arch = kind.and_then(|kind| kind.arch.as_deref());
    if let Some(arch) = arch.filter(|arch| *arch != "x86_64") {
        at.refuse(
            Rule::Unsupported,
            "os/type/@arch",
            format!("guests of architecture {arch} are not something vireo can run"),
            "x86_64 is",
        );
    }
}
