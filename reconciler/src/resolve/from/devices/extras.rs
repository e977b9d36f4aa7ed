//! Devices, timers and power management that drivers get as plain records.

use std::collections::BTreeMap;

use vireo_schema::domain::Domain as Stated;
use vireo_schema::domain::address::Address as StatedAddress;
use vireo_schema::element::Element as _;
use vireo_schema::tree::Element;

use super::super::Resolving;
use super::super::support::EXTRAS;
use super::{address, nth};
use crate::resolve::domain::Extra;

/// Each of them as a record of its attributes by dotted path. A name or a place in ACPI's tables is nothing that a guest is given.
pub(super) fn extras(at: &mut Resolving<'_>, domain: &Stated) -> Vec<Extra> {
    let tree = domain.encode("domain");
    let devices = tree
        .children_named("devices")
        .flat_map(|devices| &devices.children)
        .filter(|child| EXTRAS.contains(&&*child.name));
    let timers = tree
        .children_named("clock")
        .flat_map(|clock| &clock.children);
    let power = tree.children.iter().filter(|child| child.name == "pm");
    let mut extras: Vec<Extra> = Vec::new();
    for element in devices.chain(timers).chain(power) {
        let mut fields = BTreeMap::new();
        flatten(element, "", &mut fields);
        let same = extras
            .iter()
            .filter(|extra| extra.class == *element.name)
            .count();
        let path = nth(&element.name, same);
        extras.push(Extra {
            class: element.name.to_string(),
            fields,
            address: address(at, &path, place(domain, &element.name, same)),
        });
    }
    extras
}

/// The stated address of the nth device of a class.
fn place<'d>(domain: &'d Stated, class: &str, number: usize) -> Option<&'d StatedAddress> {
    let devices = domain.devices.as_ref()?;
    match class {
        "video" => devices.videos.get(number)?.address.as_ref(),
        "input" => devices.inputs.get(number)?.address.as_ref(),
        "sound" => devices.sounds.get(number)?.address.as_ref(),
        "controller" => devices.controllers.get(number)?.address.as_ref(),
        "redirdev" => devices.redirdevs.get(number)?.address.as_ref(),
        "watchdog" => devices.watchdogs.get(number)?.address.as_ref(),
        "vsock" => devices.vsock.as_ref()?.address.as_ref(),
        "panic" => devices.panics.get(number)?.address.as_ref(),
        _ => None,
    }
}

/// A child that is there several times is counted, so that none stands for another.
fn flatten(element: &Element<'_>, prefix: &str, fields: &mut BTreeMap<String, String>) {
    for attribute in &element.attributes {
        fields.insert(
            format!("{prefix}{}", attribute.name),
            attribute.value.to_string(),
        );
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for child in element
        .children
        .iter()
        .filter(|child| child.name != "address" && child.name != "alias")
    {
        let count = seen.entry(&child.name).or_default();
        *count += 1;
        let name = match *count {
            1 => child.name.to_string(),
            n => format!("{}[{n}]", child.name),
        };
        flatten(child, &format!("{prefix}{name}."), fields);
    }
}
