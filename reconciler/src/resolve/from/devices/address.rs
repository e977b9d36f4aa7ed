//! Where devices sit in the guest.

use vireo_schema::Rule;
use vireo_schema::domain::address::{Address as Stated, AddressType};
use vireo_schema::scalar::{Number, OnOff};

use super::Resolving;
use crate::resolve::domain::Address;

/// The place that a device's `<address>` states. `device` is the device's path. One on PCI without numbers, or of zeroes, is libvirt's word for any place.
pub(super) fn address(
    at: &mut Resolving<'_>,
    device: &str,
    stated: Option<&Stated>,
) -> Option<Address> {
    let stated = stated?;
    let whole = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let number = |number: Option<Number>| number.map_or(0, |number| whole(number.get()));
    let kind = stated.kind?;
    let found = match kind {
        AddressType::Pci
            if [stated.domain, stated.bus, stated.slot, stated.function]
                .iter()
                .all(|it| number(*it) == 0) =>
        {
            return None;
        }
        AddressType::Pci if number(stated.domain) == 0 => Address::Pci {
            bus: number(stated.bus),
            slot: number(stated.slot),
            function: number(stated.function),
            multifunction: stated.multifunction == Some(OnOff::On),
        },
        AddressType::Drive => Address::Drive {
            controller: number(stated.controller),
            bus: number(stated.bus),
            target: number(stated.target),
            unit: number(stated.unit),
        },
        AddressType::VirtioSerial => Address::VirtioSerial {
            controller: number(stated.controller),
            port: number(port(stated)),
        },
        AddressType::Usb => Address::Usb {
            bus: number(stated.bus),
            port: stated.port.clone(),
        },
        AddressType::Isa => Address::Isa {
            iobase: stated.iobase.map(|port| whole(port.get())),
            irq: stated.irq.map(|irq| whole(irq.get())),
        },
        other => {
            at.refuse(
                Rule::Unsupported,
                &format!("{device}/address"),
                format!(
                    "an address of type '{}' there is not something vireo can do",
                    other.as_str()
                ),
                "pci (in domain 0), drive, virtio-serial, usb and isa are",
            );
            return None;
        }
    };
    Some(found)
}

fn port(stated: &Stated) -> Option<Number> {
    use vireo_schema::scalar::Scalar as _;
    stated
        .port
        .as_deref()
        .and_then(|port| Number::parse(port).ok())
}
