//! A guest's PCI in the words of `vireo-vmm`: its root ports, and the slot of each device.

use serde::Serialize;

use super::config::unsupported;
use super::places::{self, Controller, Device, Place, What};
use crate::domain::DriverError;
use crate::resolve::domain::{Address, Domain, Extra};
use crate::resolve::nth_device;

/// Where a device is, in the monitor's words: `01:00.0`.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Slot(String);

/// A root port.
#[derive(Debug, Serialize)]
pub struct RootPortConfig {
    bus: u32,
    slot: Slot,
}

/// Where everything is.
#[derive(Debug, Default)]
pub struct Pci {
    /// Root ports.
    pub root_ports: Vec<RootPortConfig>,
    /// Disks, in their order.
    pub disks: Vec<Slot>,
    /// Interfaces, in their order.
    pub interfaces: Vec<Slot>,
    /// The random number device.
    pub rng: Option<Slot>,
    /// The balloon.
    pub balloon: Option<Slot>,
    /// The panic device, if it is one on PCI.
    pub panic: Option<Slot>,
    /// The watchdog.
    pub watchdog: Option<Slot>,
    /// The virtio console.
    pub console: Option<Slot>,
    /// The socket device.
    pub vsock: Option<Slot>,
}

/// Where a guest's devices are.
///
/// # Errors
/// A place that the monitor does not have.
pub fn pci(domain: &Domain) -> Result<Pci, DriverError> {
    let devices = devices(domain)?;
    let layout =
        places::lay_out(&controllers(domain)?, &devices).map_err(|lack| unsupported(lack.what))?;
    let slot = |place: &Place| Slot(place.to_string());
    let ports = layout.ports.iter().map(|(place, bus)| RootPortConfig {
        bus: *bus,
        slot: slot(place),
    });
    let mut pci = Pci {
        root_ports: ports.collect(),
        ..Pci::default()
    };
    for (device, place) in devices.iter().zip(&layout.devices) {
        let slot = slot(place);
        match device.what {
            What::Disk(_) => pci.disks.push(slot),
            What::Interface(_) => pci.interfaces.push(slot),
            What::Rng => pci.rng = Some(slot),
            What::Balloon => pci.balloon = Some(slot),
            What::Panic => pci.panic = Some(slot),
            What::Watchdog => pci.watchdog = Some(slot),
            What::Console => pci.console = Some(slot),
            What::Vsock => pci.vsock = Some(slot),
        }
    }
    Ok(pci)
}

/// What a stated address comes to; all zeroes is libvirt's word for any.
fn place(address: Option<&Address>) -> Result<Option<Place>, DriverError> {
    match address {
        None => Ok(None),
        Some(Address::Pci {
            bus: 0,
            slot: 0,
            function: 0,
            ..
        }) => Ok(None),
        Some(Address::Pci {
            bus,
            slot,
            function,
            ..
        }) => Ok(Some(Place {
            bus: *bus,
            slot: *slot,
            function: *function,
        })),
        Some(_) => Err(unsupported("a device of PCI at an address of another bus")),
    }
}

fn devices(domain: &Domain) -> Result<Vec<Device>, DriverError> {
    let mut found = Vec::new();
    let mut add = |path: String, what, address: Option<&Address>| {
        let place = place(address)?;
        found.push(Device { path, what, place });
        Ok::<(), DriverError>(())
    };
    for (number, disk) in domain.disks.iter().enumerate() {
        let what = What::Disk(places::disk_number(&disk.target));
        add(nth_device("disk", number), what, disk.address.as_ref())?;
    }
    for (number, interface) in domain.interfaces.iter().enumerate() {
        let path = nth_device("interface", number);
        add(path, What::Interface(number), interface.address.as_ref())?;
    }
    if let Some(rng) = &domain.rng {
        add(nth_device("rng", 0), What::Rng, rng.address.as_ref())?;
    }
    if domain.balloon {
        let path = nth_device("memballoon", 0);
        add(path, What::Balloon, domain.balloon_address.as_ref())?;
    }
    let one = |class: &str, key: &str, values: &[&str]| {
        let mut extras = domain.extras.iter();
        extras.find(|extra| {
            let value = extra.fields.get(key).map_or("", String::as_str);
            extra.class == class && (values.is_empty() || values.contains(&value))
        })
    };
    let guards = [
        (one("panic", "model", &["pvpanic"]), What::Panic),
        (one("watchdog", "model", &["i6300esb", ""]), What::Watchdog),
        (one("vsock", "", &[]), What::Vsock),
    ];
    for (extra, what) in guards {
        if let Some(extra) = extra {
            add(nth_device(&extra.class, 0), what, extra.address.as_ref())?;
        }
    }
    if domain.chardevs.iter().any(|it| it.class != "serial") {
        let device = one("controller", "type", &["virtio-serial"]);
        let address = device.and_then(|it| it.address.as_ref());
        add(nth_device("controller", 0), What::Console, address)?;
    }
    Ok(found)
}

fn controllers(domain: &Domain) -> Result<Vec<Controller>, DriverError> {
    let field = |extra: &Extra, name: &str| extra.fields.get(name).cloned().unwrap_or_default();
    let controllers = domain.extras.iter().filter(|it| it.class == "controller");
    let pci = controllers
        .enumerate()
        .filter(|(_, it)| field(it, "type") == "pci");
    pci.map(|(number, extra)| {
        Ok(Controller {
            path: nth_device("controller", number),
            index: field(extra, "index").parse().unwrap_or(0),
            model: field(extra, "model"),
            place: place(extra.address.as_ref())?,
        })
    })
    .collect()
}
