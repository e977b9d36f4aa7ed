//! Rules on a guest's machine: memory, processors, cells, firmware, places of memory.

use super::one::Report;
use crate::domain::cpu::{CacheMode, Cpu, CpuMode, MaxPhysAddrMode};
use crate::domain::os::{Firmware, LoaderType, Os, SysInfo};
use crate::domain::tune::NumaTune;
use crate::domain::{Domain, DomainType, LifecycleAction, Placement};
use crate::rule::Rule;
use crate::scalar::{Bytes, CpuSet, OnOff, YesNo};
use std::collections::BTreeSet;

/// Every rule on the machine.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    memory(domain, r);
    processors(domain, r);
    if let Some(cpu) = &domain.cpu {
        model(cpu, r);
        cells(domain, cpu, r);
    }
    if let Some(numatune) = &domain.numatune {
        numa_places(domain, numatune, r);
    }
    if let Some(cputune) = &domain.cputune {
        super::tune::check(domain, cputune, r);
    }
    if let Some(os) = &domain.os {
        firmware(os, r);
    }
    for (i, sysinfo) in domain.sysinfos.iter().enumerate() {
        tables(domain, sysinfo, i + 1, r);
    }
    features(domain, r);
    lifecycle(domain, r);
}

fn cell_count(domain: &Domain) -> usize {
    domain
        .cpu
        .as_ref()
        .and_then(|cpu| cpu.numa.as_ref())
        .map_or(0, |numa| numa.cells.len())
}

/// The processor's family; that of the host is not known here.
pub(crate) fn arch(domain: &Domain) -> &str {
    domain
        .os
        .as_ref()
        .and_then(|os| os.kind.as_ref()?.arch.as_deref())
        .unwrap_or("x86_64")
}

/// The machine's name; empty where not stated.
pub(crate) fn machine(domain: &Domain) -> &str {
    domain
        .os
        .as_ref()
        .and_then(|os| os.kind.as_ref()?.machine.as_deref())
        .unwrap_or("")
}

fn memory(domain: &Domain, r: &mut Report<'_>) {
    let stated = domain.memory_bytes().unwrap_or(Bytes(0));
    if cell_count(domain) == 0 && stated == Bytes(0) {
        let path = if domain.memory.is_some() {
            "memory"
        } else {
            ""
        };
        r.add(
            Rule::NoMemory,
            path,
            "the guest has no memory",
            Some("state <memory unit='MiB'>512</memory>, in YAML `memory: 512 MiB`"),
        );
    }
    let max = domain
        .max_memory
        .as_ref()
        .and_then(|max| max.value.as_ref());
    if max.is_some_and(|max| max.bytes() < stated) {
        r.report(
            Rule::MaxMemory,
            "maxMemory",
            "the memory that the guest may grow to is less than the memory it begins with",
        );
    }
    let slots = domain.max_memory.as_ref().and_then(|max| max.slots);
    if slots.is_some() && cell_count(domain) == 0 && !arch(domain).starts_with("ppc") {
        r.add(
            Rule::MaxMemoryWithoutNuma,
            "maxMemory",
            "memory can be added only to a guest with NUMA cells",
            Some("state <cpu><numa><cell …/></numa></cpu>"),
        );
    }
    let pages = domain
        .memory_backing
        .as_ref()
        .and_then(|backing| backing.hugepages.as_ref());
    for (i, page) in pages.iter().flat_map(|pages| &pages.pages).enumerate() {
        let last = page
            .nodeset
            .as_ref()
            .and_then(|nodes| nodes.cpus().last().copied())
            .unwrap_or(0) as usize;
        if last > 0 && last >= cell_count(domain) {
            r.report(
                Rule::HugepageCell,
                &format!("memoryBacking/hugepages/page[{}]/@nodeset", i + 1),
                format!("the guest has no NUMA cell {last}"),
            );
        }
    }
}

fn processors(domain: &Domain, r: &mut Report<'_>) {
    let Some(vcpu) = &domain.vcpu else { return };
    let most = vcpu.value.unwrap_or(1);
    if most == 0 {
        r.add(
            Rule::VcpuCount,
            "vcpu",
            "a guest needs at least one processor",
            None,
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
    let topology = domain.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
    if let Some(t) = topology {
        let product = [t.sockets, t.dies, t.clusters, t.cores, t.threads]
            .iter()
            .map(|n| u64::from(n.unwrap_or(1)))
            .try_fold(1_u64, u64::checked_mul);
        if product != Some(u64::from(most)) {
            r.report(
                Rule::TopologyProduct,
                "cpu/topology",
                format!("the topology's product is not the number of processors, which is {most}"),
            );
        }
    }
    for (i, state) in domain
        .vcpus
        .iter()
        .flat_map(|vcpus| &vcpus.vcpus)
        .enumerate()
    {
        if state.id.is_some_and(|id| id >= most) {
            r.report(
                Rule::VcpuId,
                &format!("vcpus/vcpu[{}]/@id", i + 1),
                format!(
                    "the guest's processors are numbered 0 to {}",
                    most.saturating_sub(1)
                ),
            );
        }
    }
}

fn model(cpu: &Cpu, r: &mut Report<'_>) {
    if let Some(cache) = &cpu.cache {
        let level = cache.level.map(crate::scalar::Within::get);
        match cache.mode {
            Some(CacheMode::Emulate) if level.is_some_and(|level| level != 3) => {
                r.report(
                    Rule::CpuCache,
                    "cpu/cache",
                    "only the cache of level 3 can be emulated",
                );
            }
            Some(CacheMode::Passthrough | CacheMode::Disable) if level.is_some() => {
                r.report(
                    Rule::CpuCache,
                    "cpu/cache/@level",
                    "this mode concerns all levels: leave the level out",
                );
            }
            Some(CacheMode::Passthrough)
                if !matches!(cpu.mode, Some(CpuMode::HostPassthrough | CpuMode::Maximum)) =>
            {
                r.report(Rule::CpuCache, "cpu/cache/@mode", "the host's caches can be shown only with the host's own processor (mode='host-passthrough')");
            }
            _ => {}
        }
    }
    if let Some(bits) = &cpu.maxphysaddr
        && bits.mode == Some(MaxPhysAddrMode::Passthrough)
        && bits.bits.is_some()
    {
        r.report(
            Rule::CpuAddressWidth,
            "cpu/maxphysaddr/@bits",
            "the width is the host's in this mode: leave `bits` out, or set `limit`",
        );
    }
    let mut seen = BTreeSet::new();
    for (i, feature) in cpu.features.iter().enumerate() {
        if feature
            .name
            .as_deref()
            .is_some_and(|name| !seen.insert(name))
        {
            r.report(
                Rule::DuplicateCpuFeature,
                &format!("cpu/feature[{}]", i + 1),
                "the feature is stated twice",
            );
        }
    }
}

fn cells(domain: &Domain, cpu: &Cpu, r: &mut Report<'_>) {
    let Some(numa) = &cpu.numa else { return };
    let most = domain
        .vcpu
        .as_ref()
        .and_then(|vcpu| vcpu.value)
        .unwrap_or(1);
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (i, cell) in numa.cells.iter().enumerate() {
        let path = format!("cpu/numa/cell[{}]", i + 1);
        if cell.id.is_some_and(|id| !ids.insert(id)) {
            r.report(
                Rule::DuplicateNumaCell,
                &format!("{path}/@id"),
                "two cells have one number",
            );
        }
        if cell.id.is_some_and(|id| id as usize >= numa.cells.len()) {
            r.report(
                Rule::NumaCellNumber,
                &format!("{path}/@id"),
                format!("cells are numbered 0 to {}", numa.cells.len() - 1),
            );
        }
        if cell.memory.is_none() {
            r.report(Rule::NumaCellMemory, &path, "the cell has no memory");
        }
        for cpu in cell.cpus.iter().flat_map(CpuSet::cpus) {
            if !taken.insert(*cpu) {
                r.report(
                    Rule::NumaCellCpus,
                    &format!("{path}/@cpus"),
                    format!("processor {cpu} is in two cells"),
                );
                break;
            }
        }
    }
    if taken.len() > most as usize {
        r.report(
            Rule::NumaCellCpus,
            "cpu/numa",
            format!(
                "the cells hold {} processors, the guest has {most}",
                taken.len()
            ),
        );
    }
}

fn numa_places(domain: &Domain, tune: &NumaTune, r: &mut Report<'_>) {
    let memory = tune.memory.as_ref();
    if memory.is_some_and(|memory| {
        memory.placement == Some(Placement::Static) && memory.nodeset.is_none()
    }) {
        r.report(
            Rule::NumatuneNodeset,
            "numatune/memory",
            "placement='static' needs a nodeset",
        );
    }
    let auto = memory.is_some_and(|memory| memory.placement == Some(Placement::Auto));
    let mut seen = BTreeSet::new();
    for (i, node) in tune.memnodes.iter().enumerate() {
        let path = format!("numatune/memnode[{}]", i + 1);
        if auto {
            r.report(
                Rule::NumatunePlacement,
                &path,
                "places of single cells cannot be stated where placement='auto'",
            );
        }
        let Some(cell) = node.cellid else { continue };
        if cell as usize >= cell_count(domain) {
            r.report(
                Rule::NumatuneCell,
                &format!("{path}/@cellid"),
                format!("the guest has no NUMA cell {cell}"),
            );
        }
        if !seen.insert(cell) {
            r.report(
                Rule::DuplicateNumatuneCell,
                &format!("{path}/@cellid"),
                format!("cell {cell} is placed twice"),
            );
        }
    }
}

fn firmware(os: &Os, r: &mut Report<'_>) {
    let loader = os.loader.as_ref();
    let path = loader
        .and_then(|loader| loader.value.as_ref())
        .map_or("", |path| path.0.trim());
    let stateless = loader.and_then(|loader| loader.stateless);
    if loader.is_some() && path.is_empty() && os.firmware.is_none() {
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
}

fn tables(domain: &Domain, sysinfo: &SysInfo, number: usize, r: &mut Report<'_>) {
    let path = if number > 1 {
        format!("sysinfo[{number}]")
    } else {
        "sysinfo".to_owned()
    };
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
                &format!("{path}/bios/entry[{}]", i + 1),
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
                &format!("{path}/system/entry[{}]", i + 1),
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

fn features(domain: &Domain, r: &mut Report<'_>) {
    let Some(features) = &domain.features else {
        return;
    };
    let tseg = features
        .smm
        .as_ref()
        .and_then(|smm| smm.tseg.as_ref()?.value.as_ref());
    if tseg.is_some_and(|size| size.bytes().0 % (1 << 20) != 0) {
        r.add(
            Rule::TsegSize,
            "features/smm/tseg",
            "the memory of system management mode comes in whole MiB",
            None,
        );
    }
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
                &format!("devices/input[{}]/@bus", i + 1),
                "the PS/2 controller is switched off",
            );
        }
    }
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
                &format!("features/{name}"),
                format!(
                    "this feature is of POWER's machines, and the guest's is {}",
                    arch(domain)
                ),
            );
        }
    }
}

fn lifecycle(domain: &Domain, r: &mut Report<'_>) {
    if domain.on_poweroff == Some(LifecycleAction::Restart)
        && domain.on_reboot == Some(LifecycleAction::Destroy)
    {
        r.report(
            Rule::Lifecycle,
            "on_poweroff",
            "a guest cannot restart on power-off and stay off on reboot",
        );
    }
    let emulated = matches!(
        domain.kind,
        None | Some(DomainType::Kvm | DomainType::Qemu | DomainType::Hvf)
    );
    for (name, action) in [
        ("on_poweroff", domain.on_poweroff),
        ("on_reboot", domain.on_reboot),
        ("on_crash", domain.on_crash),
    ] {
        if emulated && action == Some(LifecycleAction::RenameRestart) {
            r.report(
                Rule::Lifecycle,
                name,
                "rename-restart is not for guests of KVM and QEMU",
            );
        }
    }
}
