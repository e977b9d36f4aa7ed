//! Rules on controllers: each number once, the models of each type, and what may be said of a PCI bus and put on it.

use super::addresses::places;
use super::machine::{cell_count, is_i440fx, is_modern, is_q35, is_qemu};
use super::one::Report;
use super::tune::threads;
use crate::domain::address::AddressType;
use crate::domain::controller::{Controller, ControllerDriver, ControllerModel, ControllerType};
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::Number;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Arguments;

/// Every rule on controllers but USB's.
pub(crate) fn check(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let qemu = is_qemu(domain);
    let threads = threads(domain);
    let mut seen = HashMap::new();
    let mut ports = 0;
    for (i, controller) in devices.controllers.iter().enumerate() {
        let path = format_args!("devices/controller[{}]", i + 1);
        if let (Some(kind), Some(index)) = (controller.kind, controller.index)
            && controller.master.is_none()
            && seen
                .insert((kind, index, companion(controller)), i)
                .is_some()
        {
            r.report(
                Rule::DuplicateController,
                format_args!("{path}/@index"),
                format!("two {kind} controllers are number {index}"),
            );
        }
        model(controller, path, r);
        for (name, number) in [("ports", controller.ports), ("vectors", controller.vectors)] {
            if number.is_some_and(|number| number < 0) {
                r.report(
                    Rule::BadValue,
                    format_args!("{path}/@{name}"),
                    format!("`{name}` is a number from 0"),
                );
            }
        }
        if controller.kind == Some(ControllerType::Pci) {
            pci(domain, controller, path, r);
            numbers(controller, path, r);
            if qemu && !is_power(domain) {
                told(domain, controller, path, r);
            }
        }
        if qemu {
            driven(controller, &threads, path, r);
            ide(domain, controller, path, r);
        }
        if controller.model == Some(ControllerModel::PcieRootPort) {
            ports += 1;
            if ports == 240 {
                r.report(
                    Rule::RootPorts,
                    path,
                    "more root ports than the root bus has places",
                );
            }
        }
    }
    if qemu {
        super::pci_buses::check(domain, devices, r);
        super::chassis::check(devices, r);
        serial_ports(devices, r);
    }
}

/// Whether the machine is POWER's, which has several root buses.
fn is_power(domain: &Domain) -> bool {
    super::machine::arch(domain).starts_with("ppc")
}

/// USB companions share a number: they are told apart by their model.
fn companion(controller: &Controller) -> Option<ControllerModel> {
    controller
        .model
        .filter(|_| controller.kind == Some(ControllerType::Usb))
}

/// The types of controllers that a model is of.
fn types(model: ControllerModel) -> &'static [ControllerType] {
    use ControllerModel as M;
    match model {
        M::Piix3Uhci
        | M::Piix4Uhci
        | M::Ehci
        | M::Ich9Ehci1
        | M::Ich9Uhci1
        | M::Ich9Uhci2
        | M::Ich9Uhci3
        | M::Vt82c686bUhci
        | M::PciOhci
        | M::NecXhci
        | M::QusbOne
        | M::QusbTwo
        | M::QemuXhci
        | M::None => &[ControllerType::Usb],
        M::Auto
        | M::Buslogic
        | M::Lsilogic
        | M::Lsisas1068
        | M::Vmpvscsi
        | M::IbmVscsi
        | M::VirtioScsi
        | M::Lsisas1078
        | M::Ncr53c90
        | M::Dc390
        | M::Am53c974 => &[ControllerType::Scsi],
        M::VirtioTransitional | M::VirtioNonTransitional => {
            &[ControllerType::Scsi, ControllerType::VirtioSerial]
        }
        M::Virtio => &[ControllerType::VirtioSerial],
        M::PciRoot
        | M::PcieRoot
        | M::PciBridge
        | M::DmiToPciBridge
        | M::PcieToPciBridge
        | M::PcieRootPort
        | M::PcieSwitchUpstreamPort
        | M::PcieSwitchDownstreamPort
        | M::PciExpanderBus
        | M::PcieExpanderBus => &[ControllerType::Pci],
        M::Piix3 | M::Piix4 | M::Ich6 => &[ControllerType::Ide],
        M::Nvme => &[ControllerType::Nvme],
    }
}

fn model(controller: &Controller, path: Arguments<'_>, r: &mut Report<'_>) {
    let place = controller.address.as_ref().and_then(|address| address.kind);
    if let Some(
        place @ (AddressType::Drive
        | AddressType::VirtioSerial
        | AddressType::Ccid
        | AddressType::Dimm
        | AddressType::Mdev),
    ) = place
    {
        r.report(
            Rule::AddressType,
            format_args!("{path}/address/@type"),
            format!("a controller has no {place} address: it makes the bus"),
        );
    }
    if let (Some(kind), Some(model)) = (controller.kind, controller.model)
        && !types(model).contains(&kind)
    {
        r.report(
            Rule::ControllerModel,
            format_args!("{path}/@model"),
            format!("{model} is no model of {kind} controllers"),
        );
    }
}

fn pci(domain: &Domain, controller: &Controller, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(model) = controller.model else {
        return;
    };
    let root = matches!(model, ControllerModel::PciRoot | ControllerModel::PcieRoot);
    if root && controller.address.is_some() {
        r.add(
            Rule::RootBusAddress,
            format_args!("{path}/address"),
            "the root bus has no address",
            None,
        );
    }
    let node = controller.target.as_ref().and_then(|target| target.node);
    if let Some(node) = node.filter(|node| *node as usize >= cell_count(domain)) {
        r.report(
            Rule::PciOption,
            format_args!("{path}/target/node"),
            format!("the guest has no NUMA cell {node}"),
        );
    }
    let wrong = match model {
        ControllerModel::PcieRoot
        | ControllerModel::PcieExpanderBus
        | ControllerModel::PcieRootPort
        | ControllerModel::DmiToPciBridge => is_i440fx(domain),
        ControllerModel::PciRoot | ControllerModel::PciExpanderBus => is_q35(domain),
        _ => false,
    };
    if wrong {
        r.report(
            Rule::ControllerMachine,
            format_args!("{path}/@model"),
            format!(
                "a machine `{}` has no {model}",
                super::machine::machine(domain)
            ),
        );
    }
    let on_root = matches!(
        model,
        ControllerModel::PciExpanderBus | ControllerModel::PcieExpanderBus
    );
    let bus = controller
        .address
        .as_ref()
        .and_then(|address| address.bus)
        .map_or(0, Number::get);
    if on_root && bus != 0 {
        r.add(
            Rule::AddressBus,
            format_args!("{path}/address/@bus"),
            format!("a {model} is on the root bus, which is number 0"),
            None,
        );
    }
}

/// What the numbers of a PCI controller may be.
fn numbers(controller: &Controller, path: Arguments<'_>, r: &mut Report<'_>) {
    let index = controller.index.unwrap_or(0);
    if index > 255 {
        r.report(
            Rule::PciNumber,
            format_args!("{path}/@index"),
            "PCI buses are numbered 0 to 255",
        );
    }
    let Some(target) = &controller.target else {
        return;
    };
    let ranges = [
        ("index", target.index, 0, 30),
        ("chassisNr", target.chassis_nr, 1, 255),
        ("chassis", target.chassis, 0, 255),
        ("port", target.port, 0, 255),
        ("busNr", target.bus_nr, 1, 254),
    ];
    for (name, number, least, most) in ranges {
        if number.is_some_and(|number| !(least..=most).contains(&number.get())) {
            r.report(
                Rule::PciNumber,
                format_args!("{path}/target/@{name}"),
                format!("`{name}` is {least} to {most}"),
            );
        }
    }
    if let Some(first) = target.index.map(|number| number.get() == 0)
        && controller.index.is_some()
        && first != (index == 0)
    {
        r.report(
            Rule::PciNumber,
            format_args!("{path}/target/@index"),
            "host bridge 0 is controller 0, and no other is",
        );
    }
    if controller.index == Some(0) && target.node.is_some() {
        r.report(
            Rule::PciOption,
            format_args!("{path}/target/node"),
            "the first bus is in no NUMA cell",
        );
    }
}

/// What is told of a PCI controller of that model, on machines with one root bus.
fn told(domain: &Domain, controller: &Controller, path: Arguments<'_>, r: &mut Report<'_>) {
    use ControllerModel as M;
    let Some(model) = controller.model else {
        return;
    };
    let root = matches!(model, M::PciRoot | M::PcieRoot);
    if let Some(index) = controller.index
        && root != (index == 0)
    {
        let message = if root {
            format!("the root bus is number 0, not {index}")
        } else {
            format!("number 0 is the root bus, not a {model}")
        };
        r.report(Rule::PciNumber, format_args!("{path}/@index"), message);
    }
    let windowed = match model {
        M::PciRoot => !is_q35(domain),
        M::PcieRoot => !is_i440fx(domain),
        _ => false,
    };
    if controller.pcihole64.is_some() && !windowed {
        r.report(
            Rule::PciOption,
            format_args!("{path}/pcihole64"),
            format!("the window above 4 GiB is the root bus's, not a {model}'s"),
        );
    }
    let names: &[&str] = match model {
        M::PciBridge => &["pci-bridge"],
        M::DmiToPciBridge => &["i82801b11-bridge"],
        M::PcieToPciBridge => &["pcie-pci-bridge"],
        M::PcieRootPort => &["pcie-root-port", "ioh3420"],
        M::PcieSwitchUpstreamPort => &["x3130-upstream"],
        M::PcieSwitchDownstreamPort => &["xio3130-downstream"],
        M::PciExpanderBus => &["pxb"],
        M::PcieExpanderBus => &["pxb-pcie"],
        _ => &[],
    };
    let device = controller.device.as_ref();
    if let Some(name) = device.and_then(|device| device.name.as_deref())
        && !names.contains(&name)
    {
        let help = (!names.is_empty()).then(|| format!("take {}", names.join(" or ")));
        r.add(
            Rule::PciOption,
            format_args!("{path}/model/@name"),
            format!("no {model} is called `{name}`"),
            help.as_deref(),
        );
    }
    let Some(target) = &controller.target else {
        return;
    };
    let expander = matches!(model, M::PciExpanderBus | M::PcieExpanderBus);
    let port = matches!(model, M::PcieRootPort | M::PcieSwitchDownstreamPort);
    let stated = [
        ("@index", target.index.is_some(), false),
        ("@busNr", target.bus_nr.is_some(), expander),
        ("node", target.node.is_some() && !root, expander),
        (
            "@chassisNr",
            target.chassis_nr.is_some(),
            model == M::PciBridge,
        ),
        ("@chassis", target.chassis.is_some(), port),
        ("@port", target.port.is_some(), port),
        (
            "@hotplug",
            target.hotplug.is_some(),
            port || model == M::PciRoot,
        ),
    ];
    for (name, stated, taken) in stated {
        if stated && !taken {
            r.report(
                Rule::PciOption,
                format_args!("{path}/target/{name}"),
                format!("a {model} has no `{}`", name.trim_start_matches('@')),
            );
        }
    }
}

/// Queues and threads are of virtio-scsi, and threads are the guest's.
fn driven(
    controller: &Controller,
    threads: &BTreeSet<u32>,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    if controller.model == Some(ControllerModel::Buslogic) {
        r.add(
            Rule::ControllerModel,
            format_args!("{path}/@model"),
            "QEMU has no such SCSI controller",
            Some("take model='virtio-scsi'"),
        );
    }
    let none = ControllerDriver::default();
    let driver = controller.driver.as_ref().unwrap_or(&none);
    let virtio = matches!(
        controller.model,
        None | Some(
            ControllerModel::VirtioScsi
                | ControllerModel::VirtioTransitional
                | ControllerModel::VirtioNonTransitional
        )
    );
    let set = |number: Option<u32>| number.is_some_and(|number| number > 0);
    let thread = driver.iothread.filter(|id| *id > 0);
    if controller.kind != Some(ControllerType::Scsi) || !virtio {
        let stated = [
            ("queues", set(driver.queues)),
            ("cmd_per_lun", set(driver.cmd_per_lun)),
            ("max_sectors", set(driver.max_sectors)),
            ("ioeventfd", driver.ioeventfd.is_some()),
            ("iothread", thread.is_some()),
        ];
        super::virtio::refuse(stated, path, "virtio-scsi controllers", None, r);
        return;
    }
    let listed = driver.iothreads.iter().flat_map(|list| &list.iothreads);
    let places = listed
        .enumerate()
        .filter_map(|(i, thread)| Some((format!("iothreads/iothread[{}]/@id", i + 1), thread.id?)));
    for (at, id) in thread
        .map(|id| ("@iothread".to_owned(), id))
        .into_iter()
        .chain(places)
    {
        if !threads.contains(&id) {
            r.report(
                Rule::UnknownIothread,
                format_args!("{path}/driver/{at}"),
                format!("the guest has no thread {id} for input and output"),
            );
        }
    }
}

/// IDE is part of old machines: they have one, others none.
fn ide(domain: &Domain, controller: &Controller, path: Arguments<'_>, r: &mut Report<'_>) {
    if controller.kind != Some(ControllerType::Ide) {
        return;
    }
    let more = is_i440fx(domain) && controller.index.is_some_and(|index| index > 0);
    if is_q35(domain) || is_modern(domain) || more {
        let message = if more {
            "the machine has one IDE controller, which is number 0".to_owned()
        } else {
            format!(
                "a machine `{}` has no IDE controller",
                super::machine::machine(domain)
            )
        };
        r.add(
            Rule::ControllerMachine,
            path,
            message,
            Some("take SATA or SCSI instead"),
        );
    }
}

/// Ports of virtio's serial buses, each taken once and within what its controller has.
fn serial_ports(devices: &Devices, r: &mut Report<'_>) {
    let sizes: HashMap<u64, u64> = devices
        .controllers
        .iter()
        .filter(|controller| controller.kind == Some(ControllerType::VirtioSerial))
        .filter_map(|controller| {
            let ports = u64::try_from(controller.ports?).ok()?;
            Some((u64::from(controller.index?), ports))
        })
        .collect();
    let mut taken = HashMap::new();
    for (path, address) in places(devices) {
        let port = address.port.as_deref().and_then(|port| port.parse().ok());
        let Some(port @ 1u64..) = port.filter(|_| address.kind == Some(AddressType::VirtioSerial))
        else {
            continue;
        };
        let controller = address.controller.map_or(0, Number::get);
        let at = format_args!("{path}/address/@port");
        if sizes.get(&controller).is_some_and(|size| port >= *size) {
            r.report(
                Rule::AddressRange,
                at,
                format!("virtio-serial controller {controller} has no port {port}"),
            );
        }
        if let Some(other) = taken.insert((controller, port), path) {
            r.report(Rule::AddressInUse, at, format!("{other} has this port"));
        }
    }
}
