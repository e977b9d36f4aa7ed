//! Rules on devices other than disks.

use super::machine::machine;
use super::one::Report;
use crate::domain::address::AddressType;
use crate::domain::controller::{ControllerModel, ControllerType};
use crate::domain::disk::DiskBus;
use crate::domain::filesystem::FilesystemDriverType;
use crate::domain::graphics::{Graphics, ListenType};
use crate::domain::hostdev::{Hostdev, HostdevType};
use crate::domain::interface::{Interface, InterfaceType};
use crate::domain::memory::ShmemModelName;
use crate::domain::misc::{InputBus, IommuModel};
use crate::domain::{Devices, Domain, DomainType};
use crate::rule::Rule;
use crate::scalar::{Number, OnOff};
use std::collections::{BTreeSet, HashSet};

/// Every rule on devices other than disks.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    let Some(devices) = &domain.devices else {
        return;
    };
    // Elsewhere a bridge is called as its maker pleases, such as `VM Network`.
    let has_links = !matches!(
        domain.kind,
        Some(
            DomainType::Vmware
                | DomainType::Hyperv
                | DomainType::Vbox
                | DomainType::Hvf
                | DomainType::Vz
                | DomainType::Parallels
                | DomainType::Phyp
        )
    );
    for (i, interface) in devices.interfaces.iter().enumerate() {
        let path = format!("devices/interface[{}]", i + 1);
        self::interface(interface, &path, r);
        if has_links {
            link_names(interface, &path, r);
        }
    }
    super::chardevs::check(domain, devices, r);
    for (i, graphics) in devices.graphics.iter().enumerate() {
        display(graphics, &format!("devices/graphics[{}]", i + 1), r);
    }
    hostdevs(devices, r);
    usb(devices, r);
    memory(domain, devices, r);
    others(domain, devices, r);
    boot_order(domain, devices, r);
}

/// Whether the kernel takes it as a link's name.
pub(crate) fn is_link_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

/// Names of links are names that the kernel takes, on hosts that have Linux's links.
fn link_names(interface: &Interface, path: &str, r: &mut Report<'_>) {
    let source = interface.source.as_ref();
    let names = [
        (
            source.and_then(|source| source.bridge.as_deref()),
            "source/@bridge",
        ),
        (
            interface
                .target
                .as_ref()
                .and_then(|target| target.dev.as_deref()),
            "target/@dev",
        ),
    ];
    for (name, at) in names {
        if let Some(name) = name
            && !is_link_name(name)
        {
            r.add(
                Rule::LinkName,
                &format!("{path}/{at}"),
                format!(
                    "`{name}` is no name of a link: 1 to 15 bytes without `/`, `:` and white space"
                ),
                None,
            );
        }
    }
}

fn interface(interface: &Interface, path: &str, r: &mut Report<'_>) {
    let source = interface.source.as_ref();
    let lacks = match interface.kind {
        Some(InterfaceType::Network) => source
            .is_none_or(|source| source.network.is_none())
            .then_some("`network`"),
        Some(InterfaceType::Bridge) => source
            .is_none_or(|source| source.bridge.is_none())
            .then_some("`bridge`"),
        Some(InterfaceType::Direct | InterfaceType::Vdpa) => source
            .is_none_or(|source| source.dev.is_none())
            .then_some("`dev`"),
        Some(InterfaceType::Hostdev) => source
            .is_none_or(|source| source.address.is_none() && source.vendor.is_none())
            .then_some("<address>"),
        Some(InterfaceType::Internal) => source
            .is_none_or(|source| source.name.is_none())
            .then_some("`name`"),
        None => {
            r.add(Rule::InterfaceType, path, "the interface has no type", Some("state what it is attached to, such as type='network'; in YAML `network: default`"));
            None
        }
        _ => None,
    };
    if let Some(lacks) = lacks {
        r.report(
            Rule::InterfaceSource,
            &format!("{path}/source"),
            format!("an interface of this type needs a source with {lacks}"),
        );
    }
    if interface
        .mac
        .as_ref()
        .and_then(|mac| mac.address)
        .is_some_and(crate::scalar::MacAddr::is_multicast)
    {
        r.add(
            Rule::MulticastMac,
            &format!("{path}/mac/@address"),
            "the address is a group's: the first octet must be even",
            None,
        );
    }
    let mtu = interface.mtu.as_ref().and_then(|mtu| mtu.size);
    if mtu.is_some_and(|mtu| !(68..=65535).contains(&mtu)) {
        r.add(
            Rule::MtuRange,
            &format!("{path}/mtu/@size"),
            "the largest packet is 68 to 65535 bytes",
            None,
        );
    }
}

fn display(graphics: &Graphics, path: &str, r: &mut Report<'_>) {
    for (i, listen) in graphics.listens.iter().enumerate() {
        if listen.kind == Some(ListenType::Network) && listen.network.is_none() {
            r.report(
                Rule::GraphicsListen,
                &format!("{path}/listen[{}]", i + 1),
                "a listener of type network needs `network`",
            );
        }
    }
    let address = graphics
        .listens
        .iter()
        .find(|listen| listen.kind == Some(ListenType::Address))
        .and_then(|listen| listen.address.as_deref());
    if let (Some(old), Some(new)) = (graphics.listen.as_deref(), address)
        && old != new
    {
        r.report(
            Rule::GraphicsListen,
            &format!("{path}/@listen"),
            format!("the attribute says {old}, the element {new}"),
        );
    }
}

fn hostdevs(devices: &Devices, r: &mut Report<'_>) {
    let mut mediated = HashSet::new();
    let mut early = 0;
    for (i, hostdev) in devices.hostdevs.iter().enumerate() {
        let path = format!("devices/hostdev[{}]", i + 1);
        one_hostdev(hostdev, &path, r);
        let address = hostdev
            .source
            .as_ref()
            .and_then(|source| source.address.as_ref());
        let uuid = address
            .and_then(|address| address.uuid)
            .filter(|_| hostdev.kind == Some(HostdevType::Mdev));
        if uuid.is_some_and(|uuid| !mediated.insert(uuid)) {
            r.report(
                Rule::DuplicateHostdev,
                &format!("{path}/source/address/@uuid"),
                "the device is handed over twice",
            );
        }
        if hostdev.ramfb == Some(OnOff::On) {
            early += 1;
            if early > 1 {
                r.report(
                    Rule::DuplicateRamfb,
                    &format!("{path}/@ramfb"),
                    "only one device shows something before its driver runs",
                );
            }
        }
    }
}

fn one_hostdev(hostdev: &Hostdev, path: &str, r: &mut Report<'_>) {
    let source = hostdev.source.as_ref();
    let address = source.and_then(|source| source.address.as_ref());
    match hostdev.kind {
        Some(HostdevType::Pci) if address.is_none() => r.report(
            Rule::HostdevSource,
            &format!("{path}/source"),
            "a PCI device needs a source with <address>",
        ),
        Some(HostdevType::Mdev) if address.is_none_or(|address| address.uuid.is_none()) => {
            r.report(
                Rule::HostdevSource,
                &format!("{path}/source"),
                "a mediated device needs a source with <address uuid='…'/>",
            );
        }
        Some(HostdevType::Usb)
            if address.is_none() && source.is_none_or(|source| source.vendor.is_none()) =>
        {
            r.report(
                Rule::HostdevSource,
                &format!("{path}/source"),
                "a USB device needs a source with <vendor> and <product>, or <address>",
            );
        }
        Some(HostdevType::ScsiHost) if hostdev.boot.is_some() => r.report(
            Rule::HostdevBoot,
            &format!("{path}/boot"),
            "a guest cannot boot from a SCSI host",
        ),
        None => r.report(Rule::HostdevType, path, "the device has no type"),
        _ => {}
    }
    if hostdev.sgio.is_some() && hostdev.kind != Some(HostdevType::Scsi) {
        r.report(
            Rule::HostdevSgio,
            &format!("{path}/@sgio"),
            "commands are filtered for SCSI devices only",
        );
    }
    let place = hostdev.address.as_ref().and_then(|address| address.kind);
    if hostdev.kind == Some(HostdevType::Mdev)
        && matches!(place, Some(AddressType::Drive | AddressType::Usb))
    {
        r.add(
            Rule::AddressType,
            &format!("{path}/address/@type"),
            "a mediated device has no such address",
            None,
        );
    }
}

/// The controller that is none, the ports there are, and hubs on the way to a device.
fn usb(devices: &Devices, r: &mut Report<'_>) {
    let usb = || {
        devices
            .controllers
            .iter()
            .enumerate()
            .filter(|(_, controller)| controller.kind == Some(ControllerType::Usb))
    };
    for (i, controller) in usb() {
        let most = if matches!(
            controller.model,
            Some(ControllerModel::QemuXhci | ControllerModel::NecXhci)
        ) {
            15
        } else {
            i32::MAX
        };
        if controller.ports.is_some_and(|ports| ports > most) {
            r.add(
                Rule::UsbPorts,
                &format!("devices/controller[{}]/@ports", i + 1),
                format!("this controller has at most {most} ports"),
                None,
            );
        }
    }
    if usb().any(|(_, controller)| controller.model == Some(ControllerModel::None)) {
        if let Some((i, _)) =
            usb().find(|(_, controller)| controller.model != Some(ControllerModel::None))
        {
            r.report(
                Rule::UsbNone,
                &format!("devices/controller[{}]", i + 1),
                "another USB controller is of model none: the guest has no USB",
            );
        }
        let inputs = devices
            .inputs
            .iter()
            .position(|input| input.bus == Some(InputBus::Usb))
            .map(|i| format!("devices/input[{}]/@bus", i + 1));
        let disk = |disk: &crate::domain::disk::Disk| {
            disk.target.as_ref().and_then(|target| target.bus) == Some(DiskBus::Usb)
        };
        let disks = devices
            .disks
            .iter()
            .position(disk)
            .map(|i| format!("devices/disk[{}]/target/@bus", i + 1));
        let hubs = (!devices.hubs.is_empty()).then(|| "devices/hub[1]".to_owned());
        let redirs = (!devices.redirdevs.is_empty()).then(|| "devices/redirdev[1]".to_owned());
        for path in [inputs, disks, hubs, redirs].into_iter().flatten() {
            r.report(
                Rule::UsbNone,
                &path,
                "the guest has no USB: its controller is of model none",
            );
        }
    }
    let port = |address: &crate::domain::address::Address| -> Option<(u64, String)> {
        let usb = address.kind == Some(AddressType::Usb);
        usb.then(|| address.port.clone())
            .flatten()
            .map(|port| (address.bus.map_or(0, Number::get), port))
    };
    let hubs: HashSet<(u64, String)> = devices
        .hubs
        .iter()
        .filter_map(|hub| port(hub.address.as_ref()?))
        .collect();
    let mut places: Vec<(String, (u64, String))> = Vec::new();
    for (i, hub) in devices.hubs.iter().enumerate() {
        places.extend(
            hub.address
                .as_ref()
                .and_then(port)
                .map(|place| (format!("devices/hub[{}]", i + 1), place)),
        );
    }
    for (i, input) in devices.inputs.iter().enumerate() {
        places.extend(
            input
                .address
                .as_ref()
                .and_then(port)
                .map(|place| (format!("devices/input[{}]", i + 1), place)),
        );
    }
    for (path, (bus, port)) in places {
        let Some((hub, last)) = port.rsplit_once('.') else {
            continue;
        };
        if !hubs.contains(&(bus, hub.to_owned())) {
            r.add(
                Rule::UsbHub,
                &format!("{path}/address/@port"),
                format!("there is no hub at port {hub} of bus {bus}"),
                None,
            );
        } else if last
            .parse::<u8>()
            .map_or(true, |last| !(1..=8).contains(&last))
        {
            r.add(
                Rule::UsbHub,
                &format!("{path}/address/@port"),
                "a hub's ports are 1 to 8",
                None,
            );
        }
    }
}

/// Memory devices lie apart and in cells that there are; shared memory has what its model needs.
fn memory(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (i, device) in devices.memory_devices.iter().enumerate() {
        let path = format!("devices/memory[{}]", i + 1);
        let Some(target) = &device.target else {
            continue;
        };
        let cells = domain
            .cpu
            .as_ref()
            .and_then(|cpu| cpu.numa.as_ref())
            .map_or(0, |numa| numa.cells.len());
        if target.node.is_some_and(|node| node as usize >= cells) {
            r.report(
                Rule::MemoryNode,
                &format!("{path}/target/node"),
                "the guest has no such NUMA cell",
            );
        }
        let size = |size: &Option<crate::domain::CurrentMemory>| {
            size.as_ref()
                .and_then(|size| size.value.as_ref())
                .map(|size| size.bytes().0)
        };
        if let (Some(requested), Some(size)) = (size(&target.requested), size(&target.size))
            && requested > size
        {
            r.report(
                Rule::MemoryRequested,
                &format!("{path}/target/requested"),
                "more memory is requested than the device has",
            );
        }
        let base = target
            .address
            .as_ref()
            .and_then(|address| address.base)
            .map(Number::get);
        if let (Some(base), Some(size)) = (base, size(&target.size)) {
            let end = base.saturating_add(size);
            if ranges
                .iter()
                .any(|(first, last)| base < *last && *first < end)
            {
                r.add(
                    Rule::MemoryOverlap,
                    &format!("{path}/target/address/@base"),
                    "the memory overlaps with another device's",
                    None,
                );
            }
            ranges.push((base, end));
        }
    }
    for (i, shmem) in devices.shmems.iter().enumerate() {
        let path = format!("devices/shmem[{}]", i + 1);
        let model = shmem.model.as_ref().and_then(|model| model.kind);
        if shmem.msi.is_some() && shmem.server.is_none() {
            r.report(
                Rule::ShmemServer,
                &format!("{path}/msi"),
                "interrupts need a <server>",
            );
        }
        if model == Some(ShmemModelName::IvshmemPlain) && shmem.server.is_some() {
            r.report(
                Rule::ShmemServer,
                &format!("{path}/server"),
                "ivshmem-plain has no server; ivshmem-doorbell has",
            );
        }
        if model == Some(ShmemModelName::IvshmemDoorbell) && shmem.server.is_none() {
            r.report(
                Rule::ShmemServer,
                &path,
                "ivshmem-doorbell needs a <server>",
            );
        }
    }
}

fn others(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    for (i, tpm) in devices.tpms.iter().enumerate() {
        if tpm.backend.is_none() {
            r.report(
                Rule::TpmBackend,
                &format!("devices/tpm[{}]", i + 1),
                "the TPM has no <backend>",
            );
        }
    }
    for (i, filesystem) in devices.filesystems.iter().enumerate() {
        let virtiofs = filesystem.driver.as_ref().and_then(|driver| driver.kind)
            == Some(FilesystemDriverType::Virtiofs);
        if virtiofs && filesystem.readonly {
            r.report(
                Rule::Virtiofs,
                &format!("devices/filesystem[{}]/readonly", i + 1),
                "virtiofs cannot be read-only",
            );
        }
    }
    for (i, input) in devices.inputs.iter().enumerate() {
        let path = format!("devices/input[{}]/@model", i + 1);
        if input.model.is_some() && input.bus != Some(InputBus::Virtio) {
            r.report(
                Rule::InputModel,
                &path,
                "the model is of virtio, the device's bus is not",
            );
        } else if matches!(
            input.model,
            Some(
                crate::domain::disk::VirtioModel::Transitional
                    | crate::domain::disk::VirtioModel::NonTransitional
            )
        ) && input.kind != Some(crate::domain::misc::InputType::Passthrough)
        {
            r.report(
                Rule::InputModel,
                &path,
                "only input that is handed through has this form of virtio",
            );
        }
    }
    let wrong = match devices.iommu.as_ref().and_then(|iommu| iommu.model) {
        Some(IommuModel::Intel) => !is_q35(domain),
        Some(IommuModel::Virtio) => is_i440fx(domain),
        Some(IommuModel::Smmuv3) => !machine(domain).starts_with("virt"),
        _ => false,
    };
    if wrong && !machine(domain).is_empty() {
        r.report(
            Rule::IommuMachine,
            "devices/iommu/@model",
            format!("the machine `{}` cannot have it", machine(domain)),
        );
    }
    let mut names = BTreeSet::new();
    for (i, interface) in devices.interfaces.iter().enumerate() {
        let name = interface
            .target
            .as_ref()
            .and_then(|target| target.dev.as_deref());
        if name.is_some_and(|name| !name.contains('%') && !names.insert(name)) {
            r.report(
                Rule::DuplicateTap,
                &format!("devices/interface[{}]/target/@dev", i + 1),
                "two interfaces have one device on the host",
            );
        }
    }
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

/// An order is said once, and not beside the list of kinds to boot from.
fn boot_order(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let list = domain.os.as_ref().is_some_and(|os| !os.boots.is_empty());
    let disks = devices
        .disks
        .iter()
        .enumerate()
        .map(|(i, d)| (format!("devices/disk[{}]/boot", i + 1), &d.boot));
    let interfaces = devices
        .interfaces
        .iter()
        .enumerate()
        .map(|(i, d)| (format!("devices/interface[{}]/boot", i + 1), &d.boot));
    let hostdevs = devices
        .hostdevs
        .iter()
        .enumerate()
        .map(|(i, d)| (format!("devices/hostdev[{}]/boot", i + 1), &d.boot));
    let mut seen = BTreeSet::new();
    for (path, boot) in disks.chain(interfaces).chain(hostdevs) {
        let Some(order) = boot.as_ref().map(|boot| boot.order) else {
            continue;
        };
        match order {
            None => r.report(
                Rule::BootOrder,
                &path,
                "the place in the order of boot has no number",
            ),
            Some(0) => r.add(
                Rule::BootOrder,
                &path,
                "the order of boot begins at 1",
                None,
            ),
            Some(order) if !seen.insert(order) => r.report(
                Rule::BootOrderTwice,
                &path,
                format!("two devices are number {order} in the order of boot"),
            ),
            Some(_) if list => r.report(
                Rule::BootOrderBesideOsBoot,
                &path,
                "devices have an order of boot, and <os> has a list of kinds too: keep one",
            ),
            Some(_) => {}
        }
    }
}
