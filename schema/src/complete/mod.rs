//! A guest's definition as libvirt completes it for QEMU on x86: defaults, implied devices and controllers, places on buses.
//!
//! In: a [`Domain`] as stated. Out: the same with everything that libvirt would add when it is defined, so that what a definition leaves out can be seen, compared with
//! `virsh dumpxml`, or written down for good. What was stated is never changed. Places are given on machines whose buses are known here (i440FX and Q35); on others only
//! the defaults are added that do not depend on the machine. What depends on the host (firmware images, its processor) is left as it is.
//!
//! Sources: libvirt's domain format (`formatdomain`, the defaults it names for each element, "Device addresses") and `pci-addresses` (which devices go where).

mod controllers;
mod devices;
pub(crate) mod drives;
mod order;
mod pci;
pub mod targets;

use crate::check::{is_i440fx, is_q35};
use crate::domain::cpu::{Cpu, CpuCheck, CpuFallback, CpuMatch, CpuMode, CpuModel};
use crate::domain::os::{Boot, BootDevice, Clock, ClockOffset, OsType};
use crate::domain::{CurrentMemory, Devices, Domain, DomainType, LifecycleAction, Placement};

/// The chip set of a machine, which has the first buses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chipset {
    /// Conventional PCI, with IDE and USB beside the ISA bridge (`pc`).
    I440fx,
    /// PCI Express, with SATA and ISA in slot 31 (`q35`).
    Q35,
}

impl Chipset {
    fn of(domain: &Domain) -> Option<Self> {
        let emulated = matches!(
            domain.kind,
            Some(DomainType::Kvm | DomainType::Qemu | DomainType::Hvf)
        );
        match emulated {
            true if is_q35(domain) => Some(Self::Q35),
            true if is_i440fx(domain) => Some(Self::I440fx),
            _ => None,
        }
    }
}

/// Guests with more devices than this are given no places: PCI has no room for them.
const DEVICES_MAX: usize = 8192;

/// The definition with what libvirt adds to it.
pub fn complete(stated: &Domain) -> Domain {
    let mut domain = targets::with_targets(stated).into_owned();
    life(&mut domain);
    let many = stated
        .devices
        .as_ref()
        .is_some_and(|devices| count(devices) > DEVICES_MAX);
    if let Some(chipset) = Chipset::of(stated).filter(|_| !many) {
        processor(&mut domain);
        devices::imply(&mut domain, chipset);
        drives::place(domain.devices.get_or_insert_default());
        controllers::imply(&mut domain, chipset);
        pci::place(domain.devices.get_or_insert_default(), chipset);
    }
    domain
}

fn count(devices: &Devices) -> usize {
    [
        devices.disks.len(),
        devices.interfaces.len(),
        devices.controllers.len(),
        devices.filesystems.len(),
        devices.smartcards.len(),
        devices.serials.len(),
        devices.consoles.len(),
        devices.channels.len(),
        devices.inputs.len(),
        devices.sounds.len(),
        devices.videos.len(),
        devices.hostdevs.len(),
        devices.rngs.len(),
        devices.watchdogs.len(),
        devices.panics.len(),
        devices.shmems.len(),
        devices.cryptos.len(),
    ]
    .iter()
    .sum()
}

/// What does not depend on the machine: memory, processors, boot, clock, what follows the ends of a guest's life.
fn life(domain: &mut Domain) {
    if domain.current_memory.is_none() {
        let memory = domain
            .memory
            .as_ref()
            .and_then(|memory| memory.value.clone());
        domain.current_memory = memory.map(|value| CurrentMemory {
            value: Some(value),
            ..CurrentMemory::default()
        });
    }
    let vcpu = domain.vcpu.get_or_insert_default();
    vcpu.value.get_or_insert(1);
    vcpu.placement.get_or_insert(Placement::Static);
    let devices = domain.devices.as_ref();
    let ordered = devices.is_some_and(|devices| {
        devices.disks.iter().any(|disk| disk.boot.is_some())
            || devices
                .interfaces
                .iter()
                .any(|interface| interface.boot.is_some())
            || devices
                .hostdevs
                .iter()
                .any(|hostdev| hostdev.boot.is_some())
            || devices
                .redirdevs
                .iter()
                .any(|redirdev| redirdev.boot.is_some())
            || devices
                .filesystems
                .iter()
                .any(|filesystem| filesystem.boot.is_some())
    });
    if let Some(os) = &mut domain.os {
        let hvm = os.kind.as_ref().and_then(|kind| kind.value) == Some(OsType::Hvm);
        if hvm && os.boots.is_empty() && !ordered {
            os.boots.push(Boot {
                dev: Some(BootDevice::Hd),
                ..Boot::default()
            });
        }
    }
    let clock = domain.clock.get_or_insert_with(Clock::default);
    clock.offset.get_or_insert(ClockOffset::Utc);
    domain.on_poweroff.get_or_insert(LifecycleAction::Destroy);
    domain.on_reboot.get_or_insert(LifecycleAction::Restart);
    domain.on_crash.get_or_insert(LifecycleAction::Destroy);
}

/// The processor: QEMU's plainest where none is named.
fn processor(domain: &mut Domain) {
    let cpu = domain.cpu.get_or_insert_with(Cpu::default);
    if cpu.mode.is_none() && cpu.model.is_none() && cpu.matches.is_none() {
        cpu.mode = Some(CpuMode::Custom);
        cpu.matches = Some(CpuMatch::Exact);
        cpu.check.get_or_insert(CpuCheck::None);
        cpu.model = Some(CpuModel {
            value: Some("qemu64".to_owned()),
            fallback: Some(CpuFallback::Forbid),
            ..CpuModel::default()
        });
    }
    match cpu.mode {
        Some(CpuMode::HostPassthrough | CpuMode::Maximum) => {
            cpu.check.get_or_insert(CpuCheck::None);
            cpu.migratable.get_or_insert(crate::scalar::OnOff::On);
        }
        Some(CpuMode::HostModel) => {
            cpu.check.get_or_insert(CpuCheck::Partial);
        }
        _ => {
            cpu.mode.get_or_insert(CpuMode::Custom);
            cpu.matches.get_or_insert(CpuMatch::Exact);
            let check = match cpu.model {
                Some(_) => CpuCheck::Partial,
                None => CpuCheck::None,
            };
            cpu.check.get_or_insert(check);
            if let Some(model) = &mut cpu.model {
                model.fallback.get_or_insert(CpuFallback::Allow);
            }
        }
    }
    if let Some(topology) = &mut cpu.topology {
        topology.dies.get_or_insert(1);
        topology.clusters.get_or_insert(1);
    }
}
