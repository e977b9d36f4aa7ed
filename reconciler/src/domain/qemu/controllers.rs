//! Controllers: the buses that devices are on. Those that the definition states, and those that its devices need.

use serde_json::{Value, json};

use super::command::is_q35;
use super::place::{self, pci};
use super::unsupported;
use crate::domain::DriverError;
use crate::domain::fields::Fields;
use crate::resolve::Driver;
use crate::resolve::domain::{Address, Chardev, Domain, Extra};

/// A stated controller, or `None` for one that the machine has anyway.
///
/// # Errors
/// One that this driver, or the machine, does not have.
pub fn stated(domain: &Domain, extra: &Extra) -> Result<Option<Value>, DriverError> {
    let fields = Fields::of(Driver::Qemu, extra);
    let index = index(&fields)?;
    let device = match fields.get("type").unwrap_or_default() {
        "usb" => usb(domain, &fields, index)?,
        "pci" => bridge(domain, &fields, index)?,
        "scsi" => Some(json!({"driver": scsi(&fields)?, "id": format!("scsi{index}")})),
        "virtio-serial" => {
            Some(json!({"driver": "virtio-serial-pci", "id": format!("virtio-serial{index}")}))
        }
        "sata" if index > 0 || !is_q35(domain) => {
            Some(json!({"driver": "ahci", "id": format!("sata{index}")}))
        }
        "fdc" if index == 0 && is_q35(domain) => Some(json!({"driver": "isa-fdc", "id": "fdc0"})),
        "sata" => built_in(extra, 0x1f, 2)?,
        "ide" if index == 0 && !is_q35(domain) => built_in(extra, 1, 1)?,
        "fdc" if index == 0 => None,
        other => return Err(fields.refuse("type", other)),
    };
    fields.done()?;
    match device {
        Some(device) if device.get("driver") == Some(&"isa-fdc".into()) => {
            place::isa(device, extra.address.as_ref()).map(Some)
        }
        Some(device) => pci(domain, device, extra.address.as_ref()).map(Some),
        None => Ok(None),
    }
}

fn index(fields: &Fields<'_>) -> Result<u32, DriverError> {
    let stated = fields.get("index").unwrap_or("0");
    stated.parse().map_err(|_| fields.refuse("index", stated))
}

/// A controller that is part of the machine's chips, and sits where they do.
fn built_in(extra: &Extra, slot: u32, function: u32) -> Result<Option<Value>, DriverError> {
    match &extra.address {
        None => Ok(None),
        Some(Address::Pci {
            bus: 0,
            slot: stated,
            function: of,
            ..
        }) if (*stated, *of) == (slot, function) => Ok(None),
        Some(_) => Err(unsupported(format!(
            "the machine's own controller elsewhere than at slot {slot:#x}, function {function}"
        ))),
    }
}

/// PCI bridges and ports. The roots are the machine's.
fn bridge(domain: &Domain, fields: &Fields<'_>, index: u32) -> Result<Option<Value>, DriverError> {
    let models = [
        ("pci-root", ""),
        ("pcie-root", ""),
        ("pcie-root-port", "pcie-root-port"),
        ("pcie-to-pci-bridge", "pcie-pci-bridge"),
        ("dmi-to-pci-bridge", "i82801b11-bridge"),
        ("pci-bridge", "pci-bridge"),
    ];
    let driver = fields.word("model", "", &models)?;
    let express = fields
        .get("model")
        .is_some_and(|model| model.starts_with("pcie") || model == "dmi-to-pci-bridge");
    if express && !is_q35(domain) {
        return Err(unsupported("PCI Express on a machine that is not q35"));
    }
    if driver.is_empty() {
        return match (index, fields.get("model")) {
            (0, _) => Ok(None),
            (_, model) => Err(fields.refuse("model", model.unwrap_or(""))),
        };
    }
    if index == 0 {
        return Err(fields.refuse("index", "0"));
    }
    let id = format!("pci.{index}");
    Ok(Some(match driver {
        "pcie-root-port" => {
            json!({"driver": driver, "id": id, "bus": place::root(domain), "chassis": index})
        }
        "pci-bridge" => json!({"driver": driver, "id": id, "chassis_nr": index}),
        _ => json!({"driver": driver, "id": id}),
    }))
}

fn scsi(fields: &Fields<'_>) -> Result<&'static str, DriverError> {
    let models = [
        ("virtio-scsi", "virtio-scsi-pci"),
        ("lsilogic", "lsi"),
        ("auto", "lsi"),
        ("lsisas1068", "mptsas1068"),
        ("vmpvscsi", "pvscsi"),
    ];
    fields.word("model", "lsi", &models)
}

/// The model of the SCSI controller with that index, in QEMU's words.
pub fn scsi_model(domain: &Domain, index: u32) -> &'static str {
    let stated = domain.extras.iter().find(|extra| {
        let field = |name: &str| extra.fields.get(name).map(String::as_str);
        extra.class == "controller"
            && field("type") == Some("scsi")
            && field("index").unwrap_or("0") == index.to_string()
    });
    stated
        .and_then(|extra| scsi(&Fields::of(Driver::Qemu, extra)).ok())
        .unwrap_or("lsi")
}

/// The USB controller that the machine gets without saying.
fn usual_usb(domain: &Domain) -> &'static str {
    if is_q35(domain) {
        "qemu-xhci"
    } else {
        "piix3-usb-uhci"
    }
}

/// Whether it is one of several USB controllers on the same ports: it comes after the one that it accompanies.
pub fn is_companion(extra: &Extra) -> bool {
    let model = extra.fields.get("model");
    model.is_some_and(|model| model.starts_with("ich9-uhci"))
}

/// A USB controller, or a companion of one.
fn usb(domain: &Domain, fields: &Fields<'_>, index: u32) -> Result<Option<Value>, DriverError> {
    let models = [
        ("piix3-uhci", "piix3-usb-uhci"),
        ("piix4-uhci", "piix4-usb-uhci"),
        ("pci-ohci", "pci-ohci"),
        ("ehci", "usb-ehci"),
        ("ich9-ehci1", "ich9-usb-ehci1"),
        ("ich9-uhci1", "ich9-usb-uhci1"),
        ("ich9-uhci2", "ich9-usb-uhci2"),
        ("ich9-uhci3", "ich9-usb-uhci3"),
        ("qemu-xhci", "qemu-xhci"),
        ("nec-xhci", "nec-usb-xhci"),
        ("none", ""),
    ];
    let driver = fields.word("model", usual_usb(domain), &models)?;
    if !driver.starts_with("ich9-usb-uhci") {
        return Ok(
            (!driver.is_empty()).then(|| json!({"driver": driver, "id": format!("usb{index}")}))
        );
    }
    let port = fields.get("master.startport").unwrap_or("0");
    let port: u32 = port
        .parse()
        .map_err(|_| fields.refuse("master.startport", port))?;
    Ok(Some(json!({
        "driver": driver, "masterbus": format!("usb{index}.0"), "firstport": port,
    })))
}

/// Controllers that the guest's devices need and that neither the definition nor the machine has.
pub fn needed(domain: &Domain) -> Vec<Value> {
    let has = |kind: &str, index: u32| {
        domain.extras.iter().any(|extra| {
            let field = |name: &str| extra.fields.get(name).map(String::as_str);
            extra.class == "controller"
                && field("type") == Some(kind)
                && field("index").unwrap_or("0") == index.to_string()
        })
    };
    let on = |bus: &'static str| domain.disks.iter().filter(move |disk| disk.bus == bus);
    let controller = |address: &Option<Address>| match address {
        Some(Address::Drive { controller, .. } | Address::VirtioSerial { controller, .. }) => {
            *controller
        }
        Some(Address::Usb { bus, .. }) => *bus,
        _ => 0,
    };
    let on_usb = |extra: &&Extra| {
        let bus = extra.fields.get("bus");
        let tablet = extra.class == "input"
            && bus.is_none()
            && extra
                .fields
                .get("type")
                .is_some_and(|kind| kind == "tablet");
        extra.class == "redirdev" || tablet || bus.is_some_and(|bus| bus == "usb")
    };
    let on_virtio =
        |chardev: &&Chardev| chardev.class != "serial" && chardev.target.starts_with("virtio");
    let usb_ports = domain
        .chardevs
        .iter()
        .filter(|chardev| chardev.target == "usb-serial");
    let usb = (on("usb").map(|disk| &disk.address))
        .chain(
            domain
                .extras
                .iter()
                .filter(on_usb)
                .map(|extra| &extra.address),
        )
        .chain(usb_ports.map(|chardev| &chardev.address));
    let serial = domain
        .chardevs
        .iter()
        .filter(on_virtio)
        .map(|chardev| &chardev.address);
    let mut wanted: Vec<(&str, u32, &str, &str)> = Vec::new();
    let usual_usb = usual_usb(domain);
    wanted.extend(usb.map(|address| ("usb", controller(address), usual_usb, "usb")));
    wanted.extend(on("scsi").map(|disk| ("scsi", controller(&disk.address), "lsi", "scsi")));
    wanted.extend(on("sata").map(|disk| ("sata", controller(&disk.address), "ahci", "sata")));
    wanted.extend(on("fdc").map(|_| ("fdc", 0, "isa-fdc", "fdc")));
    wanted.extend(serial.map(|address| {
        (
            "virtio-serial",
            controller(address),
            "virtio-serial-pci",
            "virtio-serial",
        )
    }));
    wanted.retain(|(kind, index, ..)| {
        let built_in = match *kind {
            "sata" => *index == 0 && is_q35(domain),
            "fdc" => !is_q35(domain),
            _ => false,
        };
        !built_in && !has(kind, *index)
    });
    wanted.sort_unstable();
    wanted.dedup();
    wanted
        .into_iter()
        .map(|(_, index, driver, id)| json!({"driver": driver, "id": format!("{id}{index}")}))
        .collect()
}
