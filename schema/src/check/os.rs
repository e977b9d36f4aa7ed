//! Rules on what a guest boots, and on what its firmware tells it.

use super::machine::{is_no_arm_virt, is_q35, is_qemu, is_x86, machine, stated_arch};
use super::one::Report;
use crate::domain::Domain;
use crate::domain::os::{
    Firmware, FirmwareFeatureName, Loader, LoaderType, Os, OsType, SmbiosMode, SysInfo, SysInfoType,
};
use crate::rule::Rule;
use crate::scalar::{OnOff, YesNo};
use std::fmt::Arguments;

/// Every rule on booting.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    if let Some(os) = &domain.os {
        if is_qemu(domain) {
            emulated(domain, os, r);
        }
        firmware(os, r);
        features(os, r);
    }
    for (i, sysinfo) in domain.sysinfos.iter().enumerate() {
        tables(domain, sysinfo, i + 1, r);
        entries(sysinfo, format_args!("{}", numbered(i + 1)), r);
    }
}

fn numbered(number: usize) -> String {
    if number > 1 {
        format!("sysinfo[{number}]")
    } else {
        "sysinfo".to_owned()
    }
}

/// Whether what is loaded is UEFI, as far as it is stated.
fn is_uefi(os: &Os) -> bool {
    let pflash = |loader: &Loader| loader.kind == Some(LoaderType::Pflash);
    os.firmware == Some(Firmware::Efi) || os.loader.as_ref().is_some_and(pflash)
}

fn emulated(domain: &Domain, os: &Os, r: &mut Report<'_>) {
    let kind = os.kind.as_ref().and_then(|kind| kind.value);
    if let Some(kind) = kind.filter(|kind| *kind != OsType::Hvm) {
        r.report(
            Rule::OsType,
            "os/type",
            format!("a guest of KVM or QEMU has a whole machine: hvm, not {kind}"),
        );
    }
    let acpi = domain
        .features
        .as_ref()
        .is_some_and(|features| features.acpi);
    let arch = stated_arch(domain);
    if arch.is_some_and(is_x86) && is_uefi(os) && !acpi {
        r.add(
            Rule::UefiAcpi,
            "os",
            "UEFI needs ACPI on x86",
            Some("state <features><acpi/></features>"),
        );
    }
    if arch == Some("aarch64") && acpi && !is_uefi(os) && !is_no_arm_virt(domain) {
        r.add(
            Rule::UefiAcpi,
            "features/acpi",
            "ACPI needs UEFI on ARM",
            Some("state <os firmware='efi'>, or leave <acpi/> out"),
        );
    }
    let loader = os.loader.as_ref();
    if loader.and_then(|loader| loader.secure) == Some(YesNo::Yes) {
        secure_boot(domain, os, r);
    }
    let speaks = os.bios.as_ref().and_then(|bios| bios.useserial) == Some(YesNo::Yes);
    let port = domain
        .devices
        .as_ref()
        .is_some_and(|devices| !devices.serials.is_empty() || !devices.consoles.is_empty());
    if speaks && !port {
        r.add(
            Rule::BiosSerial,
            "os/bios/@useserial",
            "the firmware is to speak on a serial port, and the guest has none",
            Some("add <serial type='pty'/>"),
        );
    }
    smbios(domain, os, r);
}

fn smbios(domain: &Domain, os: &Os, r: &mut Report<'_>) {
    let tables = |sysinfo: &SysInfo| sysinfo.kind == Some(SysInfoType::Smbios);
    let mode = os.smbios.as_ref().and_then(|smbios| smbios.mode);
    if mode == Some(SmbiosMode::Sysinfo) && !domain.sysinfos.iter().any(tables) {
        r.report(
            Rule::SmbiosSource,
            "os/smbios/@mode",
            "there is no <sysinfo type='smbios'> to take the tables from",
        );
    }
}

fn firmware(os: &Os, r: &mut Report<'_>) {
    let loader = os.loader.as_ref();
    let path = loader
        .and_then(|loader| loader.value.as_ref())
        .map_or("", |path| path.0.trim());
    let stateless = loader.and_then(|loader| loader.stateless);
    let stated = loader.is_some() || os.nvram.is_some();
    if stated && path.is_empty() && os.firmware.is_none() {
        r.add(
            Rule::LoaderPath,
            "os/loader",
            "the loader has no path",
            Some("state its path, or let it be chosen with <os firmware='efi'>"),
        );
    }
    let rom = loader.is_some_and(|loader| {
        !matches!(loader.kind, Some(LoaderType::Pflash)) && os.firmware.is_none()
    });
    if (os.firmware == Some(Firmware::Bios) || rom) && stateless == Some(YesNo::No) {
        r.report(
            Rule::LoaderStateless,
            "os/loader/@stateless",
            "a BIOS keeps no variables: it cannot be other than stateless",
        );
    }
    if stateless == Some(YesNo::Yes) && os.nvram.is_some() {
        r.report(
            Rule::LoaderStateless,
            "os/nvram",
            "firmware that is stateless keeps no variables",
        );
    }
    if os.firmware == Some(Firmware::Bios) && os.nvram.is_some() {
        r.report(
            Rule::LoaderStateless,
            "os/nvram",
            "a BIOS keeps no variables",
        );
    }
    let formats = (
        loader.and_then(|loader| loader.format.as_deref()),
        os.nvram.as_ref().and_then(|nvram| nvram.format.as_deref()),
    );
    if let (Some(code), Some(variables)) = formats
        && code != variables
    {
        r.report(
            Rule::FirmwareFormat,
            "os/nvram/@format",
            format!("the firmware's format is {code}, its variables' {variables}"),
        );
    }
    for (path, format) in [
        ("os/loader/@format", formats.0),
        ("os/nvram/@format", formats.1),
    ] {
        if let Some(format) = format.filter(|format| !matches!(*format, "raw" | "qcow2")) {
            r.report(
                Rule::FirmwareFormat,
                path,
                format!("`{format}` is no format of firmware: raw or qcow2"),
            );
        }
    }
}

/// Features choose a firmware, where one is to be chosen.
fn features(os: &Os, r: &mut Report<'_>) {
    let Some(wanted) = &os.firmware_features else {
        return;
    };
    let chosen = os.firmware.is_some() || wanted.kind.is_some();
    if !wanted.features.is_empty() && !chosen {
        r.report(
            Rule::FirmwareFeature,
            "os/firmware",
            "features are for firmware that is chosen: state <os firmware='efi'>",
        );
    }
    let has = |name: FirmwareFeatureName, is: YesNo| {
        let mut features = wanted.features.iter();
        features.any(|feature| feature.name == Some(name) && feature.enabled == Some(is))
    };
    if has(FirmwareFeatureName::EnrolledKeys, YesNo::Yes)
        && has(FirmwareFeatureName::SecureBoot, YesNo::No)
    {
        r.report(
            Rule::FirmwareFeature,
            "os/firmware",
            "enrolled-keys needs secure-boot, which is stated as 'no'",
        );
    }
}

fn tables(domain: &Domain, sysinfo: &SysInfo, number: usize, r: &mut Report<'_>) {
    let path = numbered(number);
    for (i, entry) in sysinfo
        .bios
        .iter()
        .flat_map(|block| &block.entries)
        .enumerate()
    {
        let value = entry.value.as_ref().map_or("", |value| value.0.as_str());
        if entry.name.as_deref() == Some("date") && !is_date(value) {
            r.add(
                Rule::SysinfoDate,
                format_args!("{path}/bios/entry[{}]", i + 1),
                format!("`{value}` is not a date such as 12/31/2026"),
                None,
            );
        }
    }
    for (i, entry) in sysinfo
        .system
        .iter()
        .flat_map(|block| &block.entries)
        .enumerate()
    {
        if entry.name.as_deref() != Some("uuid") {
            continue;
        }
        let stated = entry
            .value
            .as_ref()
            .and_then(|value| value.0.trim().parse::<uuid::Uuid>().ok());
        if stated.is_none() || domain.uuid.is_some_and(|uuid| stated != Some(uuid)) {
            r.report(
                Rule::SysinfoUuid,
                format_args!("{path}/system/entry[{}]", i + 1),
                "the uuid in the firmware's tables is not the guest's",
            );
        }
    }
}

fn is_date(text: &str) -> bool {
    let mut parts = text.split('/').map(str::parse::<u32>);
    let (Some(Ok(month)), Some(Ok(day)), Some(Ok(year)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (year < 100 || (1900..10_000).contains(&year))
}

/// Entries handed through QEMU's device, under names that users may choose.
fn entries(sysinfo: &SysInfo, path: Arguments<'_>, r: &mut Report<'_>) {
    for (i, entry) in sysinfo.entries.iter().enumerate() {
        let at = format_args!("{path}/entry[{}]", i + 1);
        let name = entry.name.as_deref().unwrap_or_default();
        if !name.starts_with("opt/") {
            r.report(
                Rule::FirmwareEntry,
                at,
                "an entry's `name` begins with opt/",
            );
        }
        let valued = entry
            .value
            .as_ref()
            .is_some_and(|value| !value.0.is_empty());
        if !valued && entry.file.is_none() {
            r.report(
                Rule::FirmwareEntry,
                at,
                "an entry has a value, or a `file` with one",
            );
        }
    }
}

/// What keeps a guest from its firmware's variables is a matter of one machine.
fn secure_boot(domain: &Domain, os: &Os, r: &mut Report<'_>) {
    let smm = domain
        .features
        .as_ref()
        .and_then(|features| features.smm.as_ref()?.state);
    let kind = os.firmware_features.as_ref().and_then(|wanted| wanted.kind);
    // Where firmware is chosen, so is what it needs.
    let chosen = os.firmware.is_some() || kind.is_some();
    let complaint = if !machine(domain).is_empty() && !is_q35(domain) {
        "secure boot needs the machine q35"
    } else if stated_arch(domain).is_some_and(|arch| !is_x86(arch)) {
        "protected memory for firmware is x86's"
    } else if smm == Some(OnOff::Off) {
        "secure boot needs system management mode, which is switched off (features/smm)"
    } else if smm.is_none() && !chosen {
        "secure boot needs system management mode: add <smm state='on'/> to <features>"
    } else {
        return;
    };
    r.report(Rule::SecureBoot, "os/loader/@secure", complaint);
}
