//! The machine: memory, processors, clock, what firmware tells of it, and what it boots.

use serde_json::json;

use super::clock::Timers;
use super::command::{CommandLine, Host, escape, text};
use super::memory::memory;
use super::unsupported;
use crate::domain::{DriverError, GuestDir};
use crate::resolve::domain::{Boot, Clock, Domain};

/// Where distributions install the firmware for UEFI: code and the template of its variables.
pub const OVMF: [(&str, &str); 4] = [
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/OVMF/OVMF_CODE.fd",
        "/usr/share/OVMF/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
];

/// Memory, processors' number, the clock, and what the guest boots.
///
/// # Errors
/// There is no firmware for it.
pub fn machine(
    line: &mut CommandLine,
    domain: &Domain,
    dir: &GuestDir,
    host: &Host,
    timers: &Timers,
) -> Result<(), DriverError> {
    let stated = &domain.machine;
    let accel = if host.kvm { "kvm" } else { "tcg" };
    let mut machine = format!(
        "{},accel={accel}",
        escape(stated.machine.as_deref().unwrap_or("pc"))
    );
    if !stated.acpi {
        machine.push_str(",acpi=off");
    }
    machine.push_str(&timers.machine);
    line.append(timers.line.clone());
    machine.push_str(&memory(line, domain)?);
    firmware(line, domain, dir, host, &mut machine)?;
    line.option("-machine", machine);
    let vcpus = &domain.vcpus;
    let mut smp = format!("cpus={},maxcpus={}", vcpus.current, vcpus.maximum);
    if let Some([sockets, dies, cores, threads]) = vcpus.topology {
        smp.push_str(&format!(
            ",sockets={sockets},dies={dies},cores={cores},threads={threads}"
        ));
    }
    line.option("-smp", smp);
    let base = match domain.clock {
        Clock::Utc => "utc",
        Clock::Localtime => "localtime",
        Clock::Timezone(_) | Clock::Variable { .. } | Clock::Absolute(_) => {
            return Err(unsupported("a clock that is neither utc nor localtime"));
        }
    };
    line.option("-rtc", format!("base={base}{}", timers.rtc));
    Ok(())
}

/// The processor that the guest sees.
///
/// # Errors
/// One that this driver does not do.
pub fn cpu(domain: &Domain, host: &Host, timers: &Timers) -> Result<String, DriverError> {
    let hosts = if host.kvm { "host" } else { "max" };
    let cpu = &domain.cpu;
    let mut text = match cpu.mode.as_deref() {
        None if cpu.model.is_none() => "max".to_owned(),
        Some("maximum") => "max".to_owned(),
        Some("host-passthrough" | "host-model") => hosts.to_owned(),
        None | Some("custom") => escape(cpu.model.as_deref().unwrap_or("qemu64")),
        Some(other) => return Err(unsupported(format!("<cpu mode='{other}'>"))),
    };
    for (feature, policy) in &cpu.features {
        let switch = if policy == "disable" { "off" } else { "on" };
        text.push_str(&format!(",{}={switch}", escape(feature)));
    }
    if let Some(migratable) = cpu.migratable {
        if !text.starts_with("host") && !text.starts_with("max") {
            return Err(unsupported("<cpu migratable> of a named model"));
        }
        let switch = if migratable { "on" } else { "off" };
        text.push_str(&format!(",migratable={switch}"));
    }
    let any = |policy: &str| cpu.features.iter().any(|(_, stated)| stated == policy);
    let must = cpu.exact || any("require");
    if must && any("optional") {
        return Err(unsupported(
            "a processor of which some is required and some optional",
        ));
    }
    // Emulation has what it has, and tells what it lacks in its log.
    if must && (host.kvm || cpu.exact) {
        text.push_str(",enforce=on");
    }
    text.push_str(&timers.cpu);
    Ok(text)
}

/// SMBIOS strings: `system.manufacturer` and such, with libvirt's names.
///
/// # Errors
/// A table that this driver does not write.
pub fn smbios(line: &mut CommandLine, domain: &Domain) -> Result<(), DriverError> {
    let tables = [
        ("bios", 0),
        ("system", 1),
        ("baseBoard", 2),
        ("chassis", 3),
        ("oemStrings", 11),
    ];
    if let Some(odd) = domain.machine.sysinfo.keys().find(|key| {
        !tables.iter().any(|(table, _)| {
            key.strip_prefix(table)
                .is_some_and(|rest| rest.starts_with('.'))
        })
    }) {
        return Err(unsupported(format!("<sysinfo> with {odd}")));
    }
    for (table, number) in tables {
        let entries = domain.machine.sysinfo.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix(table)?.strip_prefix('.')?;
            let name = if number == 11 { "value" } else { name };
            Some(format!(",{}={}", escape(name), escape(value)))
        });
        let entries: String = entries.collect();
        if !entries.is_empty() {
            line.option("-smbios", format!("type={number}{entries}"));
        }
    }
    Ok(())
}

/// What the guest boots: a kernel, or firmware.
fn firmware(
    line: &mut CommandLine,
    domain: &Domain,
    dir: &GuestDir,
    host: &Host,
    machine: &mut String,
) -> Result<(), DriverError> {
    let (efi, loader, flash, nvram, template) = match &domain.boot {
        Boot::Kernel {
            kernel,
            initrd,
            cmdline,
        } => {
            line.option("-kernel", text(kernel));
            if let Some(initrd) = initrd {
                line.option("-initrd", text(initrd));
            }
            if !cmdline.is_empty() {
                line.option("-append", cmdline.clone());
            }
            return Ok(());
        }
        Boot::Disk { .. } => {
            return Err(unsupported(
                "looking into a disk for what to boot: its firmware does that",
            ));
        }
        Boot::Firmware {
            efi,
            loader,
            flash,
            nvram,
            template,
            ..
        } => (*efi, loader, *flash, nvram, template),
    };
    line.option("-boot", "strict=on");
    if !efi && !flash && nvram.is_none() {
        if let Some(loader) = loader {
            line.option("-bios", text(loader));
        }
        return Ok(());
    }
    let not_installed = || DriverError::NotInstalled {
        program: "the firmware for UEFI".to_owned(),
        help: "install OVMF (Debian: ovmf), or name it by <loader> and <nvram>".to_owned(),
    };
    let installed = host.firmware.as_ref();
    let code = loader.as_ref().or(installed.map(|(code, _)| code));
    let code = text(code.ok_or_else(not_installed)?);
    // Variables of a guest whose definition names no file for them live as long as its directory.
    let variables = nvram.clone().unwrap_or_else(|| dir.file("nvram"));
    let template = template.as_ref().or(installed.map(|(_, vars)| vars));
    line.copy = template.map(|template| (template.clone(), variables.clone()));
    for (node, path, readonly) in [
        ("pflash0", code, true),
        ("pflash1", text(&variables), false),
    ] {
        line.json("-blockdev", json!({
            "node-name": node, "driver": "raw", "read-only": readonly, "file": {"driver": "file", "filename": path},
        }));
        machine.push_str(&format!(",{node}={node}"));
    }
    Ok(())
}
