//! A definition as a person would have written it, from one that libvirt has completed.
//!
//! In: the tree of a document that libvirt wrote (`virsh dumpxml`, or a file of its configuration directory). Out: the same without what libvirt made up by itself and would make up again: what only
//! describes the running guest, devices that every guest of the kind has, addresses, and values that are the default. What a person may have chosen stays, where it cannot be told from
//! what was made up: hardware addresses, the machine's version, identities. Nothing can go wrong: what is not known is left alone.

use crate::tree::Element;

/// Which of the things that could have been chosen are kept.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keep {
    /// Addresses of devices on their buses: a guest that names its network cards by them needs them.
    pub addresses: bool,
}

/// Takes out of a document's tree what libvirt allocated.
pub fn tidy(root: &mut Element<'_>, keep: Keep) {
    match root.name.as_ref() {
        "domain" => domain(root, keep),
        "network" => network(root),
        "pool" => {
            drop_children(root, &["capacity", "allocation", "available"]);
            drop_children_if(root, "source", |source| source.is_bare());
        }
        "volume" => {
            drop_children(root, &["key", "physical"]);
            round(root, &["capacity", "allocation"], "bytes");
        }
        _ => {}
    }
}

fn domain(root: &mut Element<'_>, keep: Keep) {
    drop_attributes(root, &["id"]);
    round(root, &["memory", "currentMemory", "maxMemory"], "KiB");
    let memory = root.child("memory").and_then(size);
    root.children.retain(|child| match child.name.as_ref() {
        "currentMemory" => memory.is_none() || size(child) != memory,
        "resource" => child
            .child("partition")
            .is_none_or(|partition| partition.trimmed() != "/machine"),
        "on_poweroff" | "on_crash" => child.trimmed() != "destroy",
        "on_reboot" => child.trimmed() != "restart",
        // Labels that libvirt makes anew at each start.
        "seclabel" => !is(child, "type", "dynamic"),
        _ => true,
    });
    for child in &mut root.children {
        match child.name.as_ref() {
            "vcpu" if is(child, "placement", "static") => drop_attributes(child, &["placement"]),
            "os" => os(child),
            "devices" => devices(child, keep),
            _ => {}
        }
    }
}

fn os(os: &mut Element<'_>) {
    let boots = os.children_named("boot").count();
    os.children
        .retain(|child| child.name != "boot" || boots > 1 || !is(child, "dev", "hd"));
}

/// Programs that stand for the host's own emulator.
const EMULATORS: &[&str] = &[
    "/usr/bin/qemu-system-x86_64",
    "/usr/bin/kvm",
    "/usr/bin/qemu-kvm",
    "/usr/bin/kvm-spice",
    "/usr/libexec/qemu-kvm",
];

fn devices(devices: &mut Element<'_>, keep: Keep) {
    for device in &mut devices.children {
        drop_children(device, &["alias"]);
        if !keep.addresses {
            // The guest's: an address of the host's stands in the source.
            drop_children(device, &["address"]);
        }
    }
    let serial = devices.child("serial").is_some();
    let displays = devices.child("graphics").is_some();
    devices
        .children
        .retain(|device| !made_up(device, keep, serial, displays));
    for device in &mut devices.children {
        match device.name.as_ref() {
            "disk" => disk(device),
            "interface" => interface(device),
            "serial" | "console" | "parallel" | "channel" => chardev(device),
            "graphics" => graphics(device),
            "video" => drop_children_if(device, "driver", |driver| driver.is_bare()),
            _ => {}
        }
    }
}

/// Whether libvirt gives every guest this device that has not got one.
fn made_up(device: &Element<'_>, keep: Keep, serial: bool, displays: bool) -> bool {
    let only = |names: &[&str]| {
        device
            .children
            .iter()
            .all(|child| names.contains(&child.name.as_ref()))
    };
    match device.name.as_ref() {
        "emulator" => EMULATORS.contains(&device.trimmed()),
        "controller" => !keep.addresses && controller(device),
        "input" => {
            only(&[])
                && is(device, "bus", "ps2")
                && (is(device, "type", "mouse") || is(device, "type", "keyboard"))
        }
        "audio" => is(device, "type", "none") || (is(device, "type", "spice") && displays),
        "memballoon" => is(device, "model", "virtio") && only(&[]),
        "watchdog" => is(device, "model", "itco") && is(device, "action", "reset") && only(&[]),
        // The first serial port shows as a console too.
        "console" => {
            serial
                && device
                    .child("target")
                    .is_none_or(|target| is(target, "type", "serial"))
        }
        _ => false,
    }
}

/// A controller that is there because a device needs it or because the machine has it.
fn controller(controller: &Element<'_>) -> bool {
    let chosen = controller
        .children
        .iter()
        .any(|child| !matches!(child.name.as_ref(), "model" | "target" | "master"));
    let usual = |attribute: &str| matches!(attribute, "type" | "index" | "model" | "ports");
    if chosen || !controller.attributes.iter().all(|a| usual(&a.name)) {
        return false;
    }
    let model = controller.attribute("model").map(|a| a.value.as_ref());
    let kind = controller.attribute("type").map(|a| a.value.as_ref());
    match (kind, model) {
        (Some("pci"), Some(model)) => matches!(
            model,
            "pci-root"
                | "pcie-root"
                | "pcie-root-port"
                | "pcie-to-pci-bridge"
                | "dmi-to-pci-bridge"
                | "pci-bridge"
        ),
        (Some("usb"), Some(model)) => {
            model == "qemu-xhci" || model.starts_with("ich9-") || model == "piix3-uhci"
        }
        (Some("usb" | "sata" | "ide" | "fdc" | "virtio-serial" | "ccid"), None) => true,
        _ => false,
    }
}

fn disk(disk: &mut Element<'_>) {
    for child in &mut disk.children {
        match child.name.as_ref() {
            "source" => drop_attributes(child, &["index"]),
            "driver" if is(child, "name", "qemu") => drop_attributes(child, &["name"]),
            "target" => drop_attributes(child, &["tray"]),
            _ => {}
        }
    }
    // Of a running guest libvirt tells what it found below the image: it would look again.
    disk.children.retain(|child| match child.name.as_ref() {
        "backingStore" => child.attribute("index").is_none() && !child.is_bare(),
        "privateData" => false,
        "driver" => !child.is_bare(),
        _ => true,
    });
    if is(disk, "device", "disk") {
        drop_attributes(disk, &["device"]);
    }
}

fn interface(interface: &mut Element<'_>) {
    interface.children.retain(|child| {
        let name = child.attribute("dev").map_or("", |a| a.value.as_ref());
        let made =
            name.starts_with("vnet") || name.starts_with("macvtap") || name.starts_with("macvlan");
        child.name != "target" || !made
    });
    for child in &mut interface.children {
        if child.name == "source" {
            drop_attributes(child, &["portid"]);
            // Of a network's interface the bridge is the network's business.
            if child.attribute("network").is_some() {
                drop_attributes(child, &["bridge"]);
            }
        }
    }
}

fn chardev(chardev: &mut Element<'_>) {
    drop_attributes(chardev, &["tty"]);
    if is(chardev, "type", "pty") {
        drop_children(chardev, &["source"]);
    }
    for child in &mut chardev.children {
        if child.name == "target" {
            drop_attributes(child, &["state"]);
        }
        // A channel's own socket: libvirt's directory, named after the guest.
        if child.name == "source" {
            let path = child.attribute("path").map_or("", |a| a.value.as_ref());
            if path.starts_with("/var/lib/libvirt/qemu/channel/")
                || path.starts_with("/run/libvirt/qemu/channel/")
            {
                drop_attributes(child, &["path"]);
            }
        }
    }
    drop_children_if(chardev, "source", |source| {
        source.is_bare()
            || (is(source, "mode", "bind")
                && source.attributes.len() == 1
                && source.children.is_empty())
    });
}

fn graphics(graphics: &mut Element<'_>) {
    if is(graphics, "autoport", "yes") {
        drop_attributes(graphics, &["port", "tlsPort", "websocket"]);
    }
    let listen = graphics.attribute("listen").map(|a| a.value.to_string());
    graphics.children.retain(|child| {
        let same = child.attribute("address").map(|a| a.value.to_string()) == listen;
        child.name != "listen" || !is(child, "type", "address") || !same || listen.is_none()
    });
}

fn network(network: &mut Element<'_>) {
    drop_attributes(network, &["connections"]);
    drop_children(network, &["mac"]);
    for child in &mut network.children {
        if child.name == "bridge" {
            for (attribute, usual) in [("stp", "on"), ("delay", "0")] {
                if is(child, attribute, usual) {
                    drop_attributes(child, &[attribute]);
                }
            }
        }
        if child.name == "forward" {
            // What libvirt writes beside every nat, and does by itself.
            drop_children_if(child, "nat", |nat| {
                nat.attributes.is_empty()
                    && nat.children.iter().all(|port| {
                        port.name == "port" && is(port, "start", "1024") && is(port, "end", "65535")
                    })
            });
        }
    }
}

fn is(element: &Element<'_>, attribute: &str, value: &str) -> bool {
    element
        .attribute(attribute)
        .is_some_and(|found| found.value == value)
}

fn drop_attributes(element: &mut Element<'_>, names: &[&str]) {
    element
        .attributes
        .retain(|attribute| !names.contains(&attribute.name.as_ref()));
}

fn drop_children(element: &mut Element<'_>, names: &[&str]) {
    element
        .children
        .retain(|child| !names.contains(&child.name.as_ref()));
}

fn drop_children_if(element: &mut Element<'_>, name: &str, what: impl Fn(&Element<'_>) -> bool) {
    element
        .children
        .retain(|child| child.name != name || !what(child));
}

/// Says sizes in the largest unit that does so in whole numbers.
fn round(root: &mut Element<'_>, names: &[&str], usual: &str) {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let sizes = root.children.iter_mut();
    for child in sizes.filter(|child| names.contains(&child.name.as_ref())) {
        let unit = child
            .attribute("unit")
            .map_or_else(|| usual.to_owned(), |unit| unit.value.to_string());
        let Some(mut index) = UNITS.iter().position(|known| *known == unit) else {
            continue;
        };
        let Ok(mut number) = child.trimmed().parse::<u64>() else {
            continue;
        };
        while number >= 1024 && number % 1024 == 0 && index + 1 < UNITS.len() {
            (number, index) = (number / 1024, index + 1);
        }
        child.text = Some(number.to_string().into());
        drop_attributes(child, &["unit"]);
        let span = child.text_span;
        child.set("unit", UNITS.get(index).copied().unwrap_or("bytes"), span);
    }
}

/// A size as it is written, with its unit.
fn size(element: &Element<'_>) -> Option<(String, String)> {
    let unit = element
        .attribute("unit")
        .map_or_else(|| "KiB".to_owned(), |a| a.value.to_string());
    (!element.trimmed().is_empty()).then(|| (element.trimmed().to_owned(), unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml;

    fn tidied(text: &str) -> String {
        let mut tree = xml::read(text, 0).unwrap();
        tidy(&mut tree, Keep::default());
        xml::write(&tree)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace("> <", "><")
    }

    #[test]
    fn what_only_a_running_guest_has_goes() {
        let text = "<domain type='kvm' id='3'><name>a</name><devices>\
            <interface type='network'><source network='default' portid='1-2' bridge='virbr0'/><target dev='vnet4'/><alias name='net0'/></interface>\
            <console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/><target type='virtio' port='0'/></console>\
            </devices><seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+64055</label></seclabel></domain>";
        assert_eq!(
            tidied(text),
            "<domain type='kvm'><name>a</name><devices><interface type='network'><source network='default'/></interface>\
             <console type='pty'><target type='virtio' port='0'/></console></devices></domain>"
        );
    }

    #[test]
    fn devices_that_every_guest_has_go_and_chosen_ones_stay() {
        let text = "<domain><devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='pci' index='1' model='pcie-root-port'>\
            <model name='pcie-root-port'/><target chassis='1' port='0x10'/></controller><controller type='scsi' index='0' model='virtio-scsi'/>\
            <input type='mouse' bus='ps2'/><input type='tablet' bus='usb'/><memballoon model='none'/></devices></domain>";
        assert_eq!(
            tidied(text),
            "<domain><devices><controller type='scsi' index='0' model='virtio-scsi'/><input type='tablet' bus='usb'/><memballoon model='none'/></devices></domain>"
        );
    }

    #[test]
    fn addresses_of_the_guest_go_and_those_of_the_host_stay() {
        let text = "<domain><devices><hostdev mode='subsystem' type='pci'><source><address domain='0' bus='4' slot='0' function='0'/></source>\
            <address type='pci' slot='0x05'/></hostdev></devices></domain>";
        assert_eq!(
            tidied(text),
            "<domain><devices><hostdev mode='subsystem' type='pci'><source><address domain='0' bus='4' slot='0' function='0'/></source></hostdev></devices></domain>"
        );
    }

    #[test]
    fn a_current_memory_that_is_less_than_the_whole_stays() {
        let text = "<domain><memory unit='KiB'>4</memory><currentMemory unit='KiB'>2</currentMemory></domain>";
        assert_eq!(tidied(text), text);
    }

    #[test]
    fn sizes_are_said_in_the_largest_unit_that_fits() {
        let text = "<domain><memory unit='KiB'>2097152</memory><currentMemory>1572864</currentMemory></domain>";
        assert_eq!(
            tidied(text),
            "<domain><memory unit='GiB'>2</memory><currentMemory unit='MiB'>1536</currentMemory></domain>"
        );
        assert_eq!(
            tidied("<volume><capacity>0</capacity></volume>"),
            "<volume><capacity unit='bytes'>0</capacity></volume>"
        );
    }
}
