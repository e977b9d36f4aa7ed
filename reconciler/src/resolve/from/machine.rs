//! Domains: processors, and what they boot.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vireo_schema::Rule;
use vireo_schema::domain as stated;
use vireo_schema::domain::cpu::{CpuCheck, CpuMatch};
use vireo_schema::domain::os::{Firmware, LoaderType, SmbiosMode, SysInfoType};
use vireo_schema::scalar::{OnOff, YesNo};

use super::Resolving;
use crate::resolve::domain::{Boot, Cpu, Disk, Machine, Vcpus};

pub(super) fn vcpus(at: &mut Resolving<'_>, domain: &stated::Domain) -> Option<Vcpus> {
    let stated = domain.vcpu.as_ref();
    let maximum = stated.and_then(|vcpu| vcpu.value).unwrap_or(1);
    let current = stated.and_then(|vcpu| vcpu.current).unwrap_or(maximum);
    if maximum == 0 || current == 0 || current > maximum {
        at.refuse(
            Rule::Range,
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

/// The processor that the guest sees.
pub(super) fn cpu(at: &mut Resolving<'_>, domain: &stated::Domain) -> Cpu {
    let Some(cpu) = &domain.cpu else {
        return Cpu::default();
    };
    if cpu
        .matches
        .is_some_and(|matches| matches != CpuMatch::Exact)
    {
        at.refuse(
            Rule::Unsupported,
            "cpu/@match",
            "a processor that is only measured against the host's is not something vireo can make",
            "match='exact' is",
        );
    }
    let model = cpu.model.as_ref().and_then(|model| model.value.clone());
    let mode = cpu.mode.map(|mode| mode.as_str().to_owned());
    if let (Some(mode), Some(_)) = (mode.as_ref().filter(|mode| *mode != "custom"), &model) {
        at.refuse(
            Rule::Contradiction,
            "cpu/model",
            format!("a processor of mode '{mode}' has the host's model, not a named one"),
            "take the model out, or say mode='custom'",
        );
    }
    let mut features = Vec::new();
    for feature in &cpu.features {
        let policy = feature.policy.map_or("require", |policy| policy.as_str());
        if policy == "forbid" {
            at.refuse(
                Rule::Unsupported,
                "cpu/feature/@policy",
                "refusing a host for what its processor has is not something vireo can do",
                "policy='disable' keeps it from the guest",
            );
        }
        features.extend(feature.name.clone().map(|name| (name, policy.to_owned())));
    }
    Cpu {
        mode: mode.or_else(|| model.is_some().then(|| "custom".to_owned())),
        model,
        features,
        exact: cpu.check == Some(CpuCheck::Full),
        migratable: cpu.migratable.map(|migratable| migratable == OnOff::On),
    }
}

/// What kind of machine.
pub(super) fn machine(at: &mut Resolving<'_>, domain: &stated::Domain) -> Machine {
    let kind = domain.os.as_ref().and_then(|os| os.kind.as_ref());
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
        sysinfo: sysinfo(at, domain),
    }
}

/// What firmware tells of the machine: shown where `<smbios mode='sysinfo'/>` asks for it. Source: libvirt's domain format, "SMBIOS System Information".
fn sysinfo(at: &mut Resolving<'_>, domain: &stated::Domain) -> BTreeMap<String, String> {
    let mode = domain
        .os
        .as_ref()
        .and_then(|os| os.smbios.as_ref())
        .and_then(|smbios| smbios.mode);
    let mut found = BTreeMap::new();
    if mode == Some(SmbiosMode::Host) {
        at.refuse(
            Rule::Unsupported,
            "os/smbios/@mode",
            "showing the host's own tables is not something vireo can do",
            "mode='sysinfo' is, with a <sysinfo>",
        );
    }
    for (number, info) in domain.sysinfos.iter().enumerate() {
        let path = match number {
            0 => "sysinfo".to_owned(),
            n => format!("sysinfo[{}]", n + 1),
        };
        if info.kind != Some(SysInfoType::Smbios) {
            let help = "type='smbios' is";
            at.refuse(
                Rule::Unsupported,
                &path,
                "entries of that kind are not something vireo can do",
                help,
            );
        }
        if info.base_boards.len() > 1 {
            let path = format!("{path}/baseBoard[2]");
            at.refuse(
                Rule::Unsupported,
                &path,
                "several boards are not something vireo can do",
                "one is",
            );
        }
        if mode != Some(SmbiosMode::Sysinfo) {
            continue;
        }
        let blocks = [
            (info.bios.as_ref(), "bios"),
            (info.system.as_ref(), "system"),
            (info.base_boards.first(), "baseBoard"),
            (info.chassis.as_ref(), "chassis"),
        ];
        for (block, name) in blocks {
            for entry in block.iter().flat_map(|block| &block.entries) {
                if let (Some(key), Some(value)) = (&entry.name, &entry.value) {
                    found.insert(format!("{name}.{key}"), value.0.clone());
                }
            }
        }
        let texts = info.oem_strings.iter().flat_map(|texts| &texts.entries);
        for (number, text) in texts.enumerate() {
            found.insert(format!("oemStrings.{number:03}"), text.0.clone());
        }
    }
    found
}

pub(super) fn boot(at: &mut Resolving<'_>, domain: &stated::Domain) -> Option<Boot> {
    let Some(os) = &domain.os else {
        return Some(Boot::Firmware {
            efi: false,
            loader: None,
            flash: false,
            nvram: None,
            template: None,
            order: Vec::new(),
        });
    };
    for (path, file) in [("os/kernel", &os.kernel), ("os/initrd", &os.initrd)] {
        if let Some(file) = file
            .as_ref()
            .filter(|file| !super::storage::is_plain(file.as_ref()))
        {
            at.refuse(
                Rule::BadPath,
                path,
                format!("`{file}` is not an absolute path without '..'"),
                "such as /var/lib/vireo/boot/vmlinuz",
            );
            return None;
        }
    }
    if os.kernel.is_some() && (os.loader.is_some() || os.nvram.is_some() || os.firmware.is_some()) {
        at.refuse(
            Rule::Contradiction,
            "os",
            "firmware and a kernel of the host's at once are not something vireo can boot",
            "take out <kernel>, or the firmware",
        );
        return None;
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
            Rule::Contradiction,
            path,
            "there is no <kernel> that it could belong to",
            "add <kernel>, or take it out",
        );
        return None;
    }
    firmware(at, os)
}

/// Booting from the first of the disks: by `<boot order>` where it is stated, in their order where not.
pub(super) fn disk_boot(
    at: &mut Resolving<'_>,
    domain: &stated::Domain,
    disks: &[Disk],
) -> Option<Boot> {
    let os = domain.os.as_ref();
    if os.is_some_and(|os| os.initrd.is_some()) {
        at.refuse(
            Rule::Contradiction,
            "os/initrd",
            "there is no <kernel> that it could belong to",
            "add <kernel>, or take it out: a disk's own boot configuration names its own",
        );
        return None;
    }
    let first = disks
        .iter()
        .min_by_key(|disk| disk.boot_order.unwrap_or(u32::MAX))?;
    let cmdline = os.and_then(|os| os.cmdline.as_ref());
    Some(Boot::Disk {
        target: first.target.clone(),
        cmdline: cmdline.map(|cmdline| cmdline.0.clone()).unwrap_or_default(),
    })
}

fn firmware(at: &mut Resolving<'_>, os: &stated::os::Os) -> Option<Boot> {
    let loader = os.loader.as_ref();
    let flash = loader.and_then(|loader| loader.kind) == Some(LoaderType::Pflash);
    if let Some(loader) = loader {
        // Flash that the guest may write would be one for all guests.
        if flash && loader.readonly == Some(YesNo::No) {
            at.refuse(
                Rule::Unsupported,
                "os/loader/@readonly",
                "a loader that the guest writes is not something vireo can do",
                "readonly='yes' is; variables are in <nvram>",
            );
        }
        if loader.secure == Some(YesNo::Yes) {
            at.refuse(
                Rule::Unsupported,
                "os/loader/@secure",
                "memory that only firmware may write is not something vireo can do",
                "secure='no' is",
            );
        }
    }
    let path = |text: &Option<vireo_schema::scalar::Text>| {
        text.as_ref().map(|text| PathBuf::from(&text.0))
    };
    let nvram = os.nvram.as_ref();
    let found = (
        loader.and_then(|loader| path(&loader.value)),
        nvram.and_then(|nvram| path(&nvram.value)),
        nvram
            .and_then(|nvram| nvram.template.clone())
            .map(PathBuf::from),
    );
    for (element, path) in [
        ("os/loader", &found.0),
        ("os/nvram", &found.1),
        ("os/nvram/@template", &found.2),
    ] {
        if let Some(path) = path.as_ref().filter(|path| !super::storage::is_plain(path)) {
            let message = format!("`{}` is not an absolute path without '..'", path.display());
            at.refuse(
                Rule::BadPath,
                element,
                message,
                "such as /usr/share/OVMF/OVMF_CODE.fd",
            );
            return None;
        }
    }
    let (loader, nvram, template) = found;
    Some(Boot::Firmware {
        efi: os.firmware == Some(Firmware::Efi),
        loader,
        flash,
        nvram,
        template,
        order: os
            .boots
            .iter()
            .filter_map(|boot| boot.dev.map(|dev| dev.as_str().to_owned()))
            .collect(),
    })
}
