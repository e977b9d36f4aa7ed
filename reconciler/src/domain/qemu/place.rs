//! Where devices sit: stated addresses in QEMU's words.
//!
//! A device whose address is stated comes before those that QEMU places itself, so that it finds its place free ([`order`]).

use serde_json::{Value, json};

use super::command::is_q35;
use super::unsupported;
use crate::domain::DriverError;
use crate::resolve::domain::{Address, Domain};

/// The root bus of the machine.
pub fn root(domain: &Domain) -> &'static str {
    if is_q35(domain) { "pcie.0" } else { "pci.0" }
}

fn put(device: &mut Value, key: &str, value: Value) {
    if let Some(device) = device.as_object_mut() {
        device.insert(key.to_owned(), value);
    }
}

/// An address that the device, by what it is, cannot have.
fn elsewhere(device: &Value, address: &Address) -> DriverError {
    let driver = device.get("driver").and_then(Value::as_str).unwrap_or("");
    let kind = match address {
        Address::Pci { .. } => "pci",
        Address::Drive { .. } => "drive",
        Address::VirtioSerial { .. } => "virtio-serial",
        Address::Usb { .. } => "usb",
        Address::Isa { .. } => "isa",
    };
    unsupported(format!("a {driver} at that address of type {kind}"))
}

/// Puts a PCI device where its address says, if it has one.
///
/// # Errors
/// The address is not on PCI, or on a bus that the definition has not.
pub fn pci(
    domain: &Domain,
    mut device: Value,
    address: Option<&Address>,
) -> Result<Value, DriverError> {
    let Some(address) = address else {
        return Ok(device);
    };
    let Address::Pci {
        bus,
        slot,
        function,
        multifunction,
    } = address
    else {
        return Err(elsewhere(&device, address));
    };
    let name = match bus {
        0 => root(domain).to_owned(),
        n if has_bus(domain, *n) => format!("pci.{n}"),
        n => {
            return Err(unsupported(format!(
                "a PCI address on bus {n}, which no <controller type='pci' index='{n}'> makes"
            )));
        }
    };
    put(&mut device, "bus", name.into());
    put(
        &mut device,
        "addr",
        format!("{slot:#x}.{function:#x}").into(),
    );
    if *multifunction {
        put(&mut device, "multifunction", true.into());
    }
    Ok(device)
}

fn has_bus(domain: &Domain, number: u32) -> bool {
    domain.extras.iter().any(|extra| {
        let field = |name: &str| extra.fields.get(name).map(String::as_str);
        extra.class == "controller"
            && field("type") == Some("pci")
            && field("index") == Some(number.to_string().as_str())
    })
}

/// Puts a USB device on the controller that its address names, or on the first.
///
/// # Errors
/// The address is not on USB.
pub fn usb(mut device: Value, address: Option<&Address>) -> Result<Value, DriverError> {
    let (bus, port) = match address {
        None => (0, None),
        Some(Address::Usb { bus, port }) => (*bus, port.clone()),
        Some(other) => return Err(elsewhere(&device, other)),
    };
    put(&mut device, "bus", format!("usb{bus}.0").into());
    put(&mut device, "port", json!(port));
    Ok(device)
}

/// Gives an ISA device the ports and the interrupt that its address names.
///
/// # Errors
/// The address is not on ISA.
pub fn isa(mut device: Value, address: Option<&Address>) -> Result<Value, DriverError> {
    match address {
        None => {}
        Some(Address::Isa { iobase, irq }) => {
            put(&mut device, "iobase", json!(iobase));
            put(&mut device, "irq", json!(irq));
        }
        Some(other) => return Err(elsewhere(&device, other)),
    }
    Ok(device)
}

/// Puts a port on the virtio serial controller that its address names, or on the first.
///
/// # Errors
/// The address is not on such a controller.
pub fn virtio_serial(mut device: Value, address: Option<&Address>) -> Result<Value, DriverError> {
    match address {
        None => {}
        Some(Address::VirtioSerial { controller, port }) => {
            let bus = format!("virtio-serial{controller}.0");
            put(&mut device, "bus", bus.into());
            // Port 0 is libvirt's word for any.
            put(
                &mut device,
                "nr",
                json!(Some(*port).filter(|&port| port > 0)),
            );
        }
        Some(other) => return Err(elsewhere(&device, other)),
    }
    Ok(device)
}

/// A drive's place: controller, bus, target, unit. Without an address the name of its target counts units.
///
/// # Errors
/// The address is not that of a drive.
pub fn drive(device: &Value, address: Option<&Address>) -> Result<Option<[u32; 4]>, DriverError> {
    match address {
        None => Ok(None),
        Some(Address::Drive {
            controller,
            bus,
            target,
            unit,
        }) => Ok(Some([*controller, *bus, *target, *unit])),
        Some(other) => Err(elsewhere(device, other)),
    }
}

/// Devices in the order in which they find their places free and their buses there: those placed on the root bus, bridges that QEMU places, those placed
/// behind bridges, all others.
pub fn order(devices: &mut [Value]) {
    devices.sort_by_key(|device| {
        let text = |key: &str| device.get(key).and_then(Value::as_str);
        let is_bridge = text("id").is_some_and(|id| id.starts_with("pci."));
        match (text("addr"), text("bus")) {
            (Some(_), Some("pci.0" | "pcie.0")) => 0,
            (None, _) if is_bridge => 1,
            (Some(_), _) => 2,
            (None, _) => 3,
        }
    });
}
