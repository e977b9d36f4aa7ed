//! Rules on the smaller devices: input, watchdogs, TPMs, units that translate addresses, sockets, memory that is shared.

use super::machine::{arch, is_hvm, is_i440fx, is_q35, is_qemu, is_x86, machine, stated_arch};
use super::one::Report;
use crate::domain::address::AddressType;
use crate::domain::chardev::CharMode;
use crate::domain::disk::VirtioModel;
use crate::domain::features::IoApicDriver;
use crate::domain::memory::{BalloonModel, ShmemModelName};
use crate::domain::misc::{
    Input, InputBus, InputType, Iommu, IommuModel, PanicModel, RedirFilter, Tpm, TpmBackendType,
    TpmModel, TpmSourceType, TpmVersion, Watchdog, WatchdogAction, WatchdogModel,
};
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::OnOff;
use std::collections::HashSet;
use std::fmt::Arguments;

/// Every rule on the smaller devices.
pub(crate) fn check(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let qemu = is_qemu(domain);
    for (i, input) in devices.inputs.iter().enumerate() {
        self::input(domain, input, format_args!("devices/input[{}]", i + 1), r);
    }
    if let Some(iommu) = &devices.iommu {
        self::iommu(domain, iommu, r);
    }
    for (i, tpm) in devices.tpms.iter().enumerate() {
        self::tpm(domain, tpm, format_args!("devices/tpm[{}]", i + 1), r);
    }
    for (i, shmem) in devices.shmems.iter().enumerate() {
        let path = format_args!("devices/shmem[{}]", i + 1);
        let name = shmem.name.as_deref().unwrap_or_default();
        if name.contains('/') || matches!(name, "." | "..") {
            r.report(
                Rule::ShmemName,
                format_args!("{path}/@name"),
                format!("`{name}` is no name of a file without a folder"),
            );
        }
        let model = shmem.model.as_ref().and_then(|model| model.kind);
        if qemu && model == Some(ShmemModelName::Ivshmem) {
            r.add(
                Rule::ShmemServer,
                format_args!("{path}/model/@type"),
                "QEMU no longer has ivshmem",
                Some("take ivshmem-plain, or ivshmem-doorbell with a <server>"),
            );
        }
    }
    let cid = devices.vsock.as_ref().and_then(|vsock| vsock.cid.as_ref());
    if cid.is_some_and(|cid| matches!(cid.address, Some(1 | 2))) {
        r.report(
            Rule::VsockCid,
            "devices/vsock/cid/@address",
            "addresses of guests begin at 3: 1 and 2 are the host's",
        );
    }
    if let Some(filter) = &devices.redirfilter {
        redirected(filter, r);
    }
    if qemu {
        watchdogs(domain, &devices.watchdogs, r);
        panics(domain, devices, r);
        tpms(&devices.tpms, r);
        let xen = devices
            .memballoon
            .as_ref()
            .is_some_and(|balloon| balloon.model == Some(BalloonModel::Xen));
        if xen {
            r.report(
                Rule::BalloonModel,
                "devices/memballoon/@model",
                "QEMU's balloon is of model virtio, or none",
            );
        }
        let place = devices
            .nvram
            .as_ref()
            .and_then(|nvram| nvram.address.as_ref());
        let place = place.and_then(|address| address.kind);
        if let Some(place) = place.filter(|place| *place != AddressType::SpaprVio) {
            r.report(
                Rule::AddressType,
                "devices/nvram/address/@type",
                format!("memory that stays has a spapr-vio address, not {place}"),
            );
        }
        if devices.nvram.is_some() && !machine(domain).starts_with("pseries") {
            r.report(
                Rule::OtherMachine,
                "devices/nvram",
                "memory that stays is a device of POWER's machines; firmware's variables are <nvram> of <os>",
            );
        }
    }
}

/// What is put in over which bus.
fn input(domain: &Domain, input: &Input, path: Arguments<'_>, r: &mut Report<'_>) {
    let at = format_args!("{path}/@bus");
    let simple = matches!(input.kind, Some(InputType::Mouse | InputType::Keyboard));
    let kind = input.kind.map_or("", |kind| kind.as_str());
    if is_hvm(domain) {
        match input.bus {
            Some(InputBus::Ps2) if !simple => r.report(
                Rule::InputBus,
                at,
                format!("a {kind} is not on ps2: a mouse and a keyboard are"),
            ),
            Some(InputBus::Xen) => r.report(
                Rule::InputBus,
                at,
                "the bus xen is of guests that know they are",
            ),
            _ => {}
        }
    }
    let source = input.source.as_ref();
    match input.kind {
        Some(InputType::Passthrough) => {
            if input.bus.is_some_and(|bus| bus != InputBus::Virtio) {
                r.report(
                    Rule::InputBus,
                    at,
                    "what is handed through is on bus='virtio'",
                );
            }
            if source.is_none_or(|source| source.evdev.is_none()) {
                r.report(
                    Rule::InputSource,
                    path,
                    "what is handed through has a <source evdev='/dev/input/…'/>",
                );
            }
        }
        Some(InputType::Evdev) => {
            if input.bus.is_some_and(|bus| bus != InputBus::None) {
                r.report(Rule::InputBus, at, "input of type evdev is on no bus");
            }
            if source.is_none_or(|source| source.dev.is_none()) {
                r.report(
                    Rule::InputSource,
                    path,
                    "input of type evdev has a <source dev='/dev/input/…'/>",
                );
            }
        }
        _ if source.is_some_and(|source| source.evdev.is_some()) => r.report(
            Rule::InputSource,
            format_args!("{path}/source/@evdev"),
            "a device of the host's is handed through with type='passthrough'",
        ),
        _ => {}
    }
    let at = format_args!("{path}/@model");
    if input.model.is_some() && input.bus.is_some_and(|bus| bus != InputBus::Virtio) {
        r.report(
            Rule::InputModel,
            at,
            "the model is of virtio, the device's bus is not",
        );
    } else if matches!(
        input.model,
        Some(VirtioModel::Transitional | VirtioModel::NonTransitional)
    ) && input.kind != Some(InputType::Passthrough)
    {
        r.report(
            Rule::InputModel,
            at,
            "only input that is handed through has this form of virtio",
        );
    }
}

/// Units that translate addresses go with the machine, and each has its own ways.
fn iommu(domain: &Domain, iommu: &Iommu, r: &mut Report<'_>) {
    let path = "devices/iommu";
    let wrong = match iommu.model {
        Some(IommuModel::Intel) => !is_q35(domain),
        Some(IommuModel::Virtio) => is_i440fx(domain),
        Some(IommuModel::Smmuv3) => !machine(domain).starts_with("virt"),
        _ => false,
    };
    if wrong && !machine(domain).is_empty() {
        r.report(
            Rule::IommuMachine,
            format_args!("{path}/@model"),
            format!("the machine `{}` cannot have it", machine(domain)),
        );
    }
    let own = matches!(iommu.model, Some(IommuModel::Smmuv3 | IommuModel::Virtio));
    let placed = iommu.address.as_ref().and_then(|address| address.kind);
    if placed.is_some() && matches!(iommu.model, Some(IommuModel::Smmuv3 | IommuModel::Intel)) {
        r.report(
            Rule::AddressType,
            format_args!("{path}/address"),
            "the unit is part of the machine and has no address",
        );
    }
    if iommu.model == Some(IommuModel::Virtio) && is_qemu(domain) {
        virtio_iommu(domain, iommu, r);
    }
    let Some(driver) = &iommu.driver else { return };
    let stated = [
        ("intremap", driver.intremap.is_some()),
        ("caching_mode", driver.caching_mode.is_some()),
        ("eim", driver.eim.is_some()),
        ("iotlb", driver.iotlb.is_some()),
        ("aw_bits", driver.aw_bits.is_some_and(|bits| bits > 0)),
    ];
    for (name, _) in stated.iter().filter(|(_, stated)| *stated && own) {
        r.report(
            Rule::IommuOption,
            format_args!("{path}/driver/@{name}"),
            format!("`{name}` is of units that x86 has"),
        );
    }
    let features = domain.features.as_ref();
    let split =
        features.and_then(|features| features.ioapic.as_ref()?.driver) == Some(IoApicDriver::Qemu);
    if own {
        return;
    }
    if driver.intremap == Some(OnOff::On) && !split && iommu.model == Some(IommuModel::Intel) {
        r.add(
            Rule::IommuOption,
            format_args!("{path}/driver/@intremap"),
            "interrupts are translated only if the emulator makes the I/O APIC",
            Some("add <ioapic driver='qemu'/> to <features>"),
        );
    }
    if driver.eim == Some(OnOff::On) && driver.intremap != Some(OnOff::On) {
        r.add(
            Rule::IommuOption,
            format_args!("{path}/driver/@eim"),
            "interrupts go to far processors only if they are translated",
            Some("add intremap='on'"),
        );
    }
}

fn tpm(domain: &Domain, tpm: &Tpm, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(backend) = &tpm.backend else {
        r.report(Rule::TpmBackend, path, "the TPM has no <backend>");
        return;
    };
    let old = backend.version == Some(TpmVersion::V12);
    if backend.kind == Some(TpmBackendType::Emulator) && old {
        if backend.active_pcr_banks.is_some() {
            r.report(
                Rule::TpmVersion,
                format_args!("{path}/backend/active_pcr_banks"),
                "banks are chosen of a TPM of version 2.0",
            );
        }
        let without = matches!(tpm.model, Some(TpmModel::Crb | TpmModel::Spapr));
        if is_qemu(domain) && (without || arch(domain) == "aarch64") {
            r.add(
                Rule::TpmVersion,
                format_args!("{path}/backend/@version"),
                "such a TPM is not of version 1.2",
                Some("take version='2.0'"),
            );
        }
    }
    if backend.kind == Some(TpmBackendType::External) {
        let source = backend.source.as_ref();
        let reached = source.is_some_and(|source| {
            source.kind == Some(TpmSourceType::Unix)
                && source.path.is_some()
                && !matches!(source.mode, Some(CharMode::Bind | CharMode::Server))
        });
        if !reached {
            r.add(
                Rule::TpmBackend,
                format_args!("{path}/backend/source"),
                "a TPM outside is reached through a socket",
                Some("add <source type='unix' mode='connect' path='/run/…'/>"),
            );
        }
    }
    if is_qemu(domain) {
        tpm_machine(domain, tpm, path, r);
    }
    if tpm.model == Some(TpmModel::SpaprProxy)
        && backend.kind != Some(TpmBackendType::Passthrough)
        && is_qemu(domain)
    {
        r.report(
            Rule::TpmBackend,
            format_args!("{path}/backend/@type"),
            "a proxy of a TPM hands through one of the host's: type='passthrough'",
        );
    }
}

/// A guest has one TPM, and on POWER one proxy beside it.
fn tpms(tpms: &[Tpm], r: &mut Report<'_>) {
    let (mut whole, mut proxies) = (0, 0);
    for (i, tpm) in tpms.iter().enumerate() {
        let count = if tpm.model == Some(TpmModel::SpaprProxy) {
            &mut proxies
        } else {
            &mut whole
        };
        *count += 1;
        if *count == 2 {
            r.report(
                Rule::DuplicateTpm,
                format_args!("devices/tpm[{}]", i + 1),
                "a guest has one TPM",
            );
        }
    }
}

/// Watchdogs go with the machine, and all do the same.
fn watchdogs(domain: &Domain, watchdogs: &[Watchdog], r: &mut Report<'_>) {
    let does = |watchdog: &Watchdog| watchdog.action.unwrap_or(WatchdogAction::Reset);
    for (i, watchdog) in watchdogs.iter().enumerate() {
        let path = format_args!("devices/watchdog[{}]", i + 1);
        if watchdogs
            .first()
            .is_some_and(|first| does(first) != does(watchdog))
        {
            r.report(
                Rule::WatchdogAction,
                format_args!("{path}/@action"),
                "all watchdogs of a guest do the same",
            );
        }
        let Some(model) = watchdog.model else {
            continue;
        };
        let wrong = match model {
            WatchdogModel::Ib700 => is_q35(domain),
            WatchdogModel::Itco => is_i440fx(domain),
            WatchdogModel::Diag288 => !arch(domain).starts_with("s390"),
            WatchdogModel::I6300esb => false,
        };
        if wrong {
            r.report(
                Rule::OtherMachine,
                format_args!("{path}/@model"),
                format!("a watchdog of model {model} is of another family of machines"),
            );
        }
        let place = watchdog.address.as_ref().and_then(|address| address.kind);
        if let Some(place) = place
            && !(model == WatchdogModel::I6300esb && place == AddressType::Pci)
        {
            r.report(
                Rule::AddressType,
                format_args!("{path}/address/@type"),
                format!("a watchdog of model {model} has no {place} address"),
            );
        }
    }
}

/// Devices that tell of panics go with the machine; those that are no devices have no place.
fn panics(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let arch = arch(domain);
    let x86 = arch == "x86_64" || arch == "i686";
    let mut seen = HashSet::new();
    for (i, panic) in devices.panics.iter().enumerate() {
        let path = format_args!("devices/panic[{}]", i + 1);
        let usual = x86.then_some(PanicModel::Isa);
        if let Some(model) = panic.model.or(usual)
            && !seen.insert(model)
        {
            let stated = panic.model.is_some();
            let given = if stated {
                ""
            } else {
                ", which it is where none is stated"
            };
            r.add(
                Rule::DuplicatePanic,
                path,
                format!("another panic device is of model {model}{given}"),
                Some("keep one of them"),
            );
        }
        let Some(model) = panic.model else { continue };
        let (fits, place) = match model {
            PanicModel::Isa => (true, Some(AddressType::Isa)),
            PanicModel::Hyperv => (x86, None),
            PanicModel::Pseries => (arch.starts_with("ppc"), None),
            PanicModel::S390 => (arch.starts_with("s390"), None),
            PanicModel::Pvpanic => (true, Some(AddressType::Pci)),
        };
        if !fits {
            r.report(
                Rule::OtherMachine,
                format_args!("{path}/@model"),
                format!("panics of model {model} are of another family of machines"),
            );
        }
        let stated = panic.address.as_ref().and_then(|address| address.kind);
        if let Some(stated) = stated.filter(|stated| Some(*stated) != place) {
            r.report(
                Rule::AddressType,
                format_args!("{path}/address/@type"),
                format!("a device of model {model} has no {stated} address"),
            );
        }
    }
}

/// Numbers of USB devices that may be handed over; -1 for any.
fn redirected(filter: &RedirFilter, r: &mut Report<'_>) {
    for (i, rule) in filter.usbdevs.iter().enumerate() {
        let path = format_args!("devices/redirfilter/usbdev[{}]", i + 1);
        let numbers = [
            ("class", &rule.class, 0xff),
            ("vendor", &rule.vendor, 0xffff),
            ("product", &rule.product, 0xffff),
        ];
        for (name, text, most) in numbers {
            let Some(text) = text.as_deref().filter(|text| *text != "-1") else {
                continue;
            };
            let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            };
            if number.is_none_or(|number| number > most) {
                r.report(
                    Rule::RedirFilter,
                    format_args!("{path}/@{name}"),
                    format!("`{text}` is no {name} of USB devices: 0 to {most:#x}, or -1 for any"),
                );
            }
        }
        let Some(text) = rule.version.as_deref().filter(|text| *text != "-1") else {
            continue;
        };
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let sound = text
            .split_once('.')
            .is_some_and(|(major, minor)| digits(major) && digits(minor) && minor.len() <= 2);
        if !sound {
            r.report(
                Rule::RedirFilter,
                format_args!("{path}/@version"),
                format!("`{text}` is no version such as 2.00"),
            );
        }
    }
}

/// Virtio's unit is a PCI device on the root bus, of which ACPI's tables tell.
fn virtio_iommu(domain: &Domain, iommu: &Iommu, r: &mut Report<'_>) {
    let features = domain.features.as_ref();
    if !features.is_some_and(|features| features.acpi) {
        r.add(
            Rule::IommuMachine,
            "devices/iommu/@model",
            "the guest finds the unit in ACPI's tables, and has none",
            Some("add <acpi/> to <features>"),
        );
    }
    let Some(address) = &iommu.address else {
        return;
    };
    if let Some(kind) = address.kind.filter(|kind| *kind != AddressType::Pci) {
        r.report(
            Rule::AddressType,
            "devices/iommu/address/@type",
            format!("the unit has a pci address, not {kind}"),
        );
    } else if address.bus.is_some_and(|bus| bus.get() != 0) {
        r.report(
            Rule::AddressBus,
            "devices/iommu/address/@bus",
            "the unit is on the root bus, which is number 0",
        );
    }
}

/// TPMs of one family of machines.
fn tpm_machine(domain: &Domain, tpm: &Tpm, path: Arguments<'_>, r: &mut Report<'_>) {
    let (Some(model), Some(arch)) = (tpm.model, stated_arch(domain)) else {
        return;
    };
    let fits = match model {
        TpmModel::Crb => is_x86(arch),
        TpmModel::Tis => !arch.starts_with("ppc") && !arch.starts_with("s390"),
        TpmModel::Spapr | TpmModel::SpaprProxy => arch.starts_with("ppc64"),
    };
    if !fits {
        r.add(
            Rule::OtherMachine,
            format_args!("{path}/@model"),
            format!("a TPM of model {model} is of another family of machines than {arch}"),
            Some("take tpm-crb or tpm-tis on x86, tpm-tis on ARM, tpm-spapr on POWER"),
        );
    }
}
