//! Where the devices of guests that were made elsewhere are: where those guests know them.

use super::*;

/// The guest that a dumped definition is, for the monitor's own parser.
fn dumped(text: &str) -> vireo_vmm::config::Guest {
    use crate::desired::{Desired, Resolved};
    use crate::inventory::HostFacts;
    use crate::ledger::Ledger;
    let network = "<network><name>default</name><bridge name='virbr0'/></network>";
    let files = [("net.xml", network), ("debian.xml", text)];
    let documents = files.map(|(path, text)| {
        let source = std::sync::Arc::new(vireo_schema::Source::new(path, text));
        vireo_schema::read(&source)
    });
    let facts = HostFacts {
        kvm: true,
        ..HostFacts::default()
    };
    let desired = Desired::build(&documents, &Ledger::default(), &facts);
    assert_eq!(desired.problems, []);
    let mut objects = desired.objects.values();
    let domain = objects.find_map(|wanted| match &wanted.resolved {
        Resolved::Domain(domain) => Some(domain),
        _ => None,
    });
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let config = translate(domain.unwrap(), &dir).unwrap();
    vireo_vmm::config::Guest::parse(&serde_json::to_string(&config).unwrap()).unwrap()
}

const DUMPED: &str = include_str!("../../../../../tests/plans/virsh-dumpxml/after/debian.xml");

/// Where the monitor puts everything.
fn places(guest: &vireo_vmm::config::Guest) -> Vec<String> {
    let single = [
        guest.disks.first().and_then(|it| it.slot),
        guest.interfaces.first().and_then(|it| it.slot),
        guest.rng.as_ref().and_then(|it| it.slot),
        guest.balloon.as_ref().and_then(|it| it.slot),
        guest.ports_slot,
    ];
    let single = single.into_iter().flatten();
    single.map(|place| place.to_string()).collect()
}

#[test]
fn what_virt_install_leaves_of_a_guest_is_where_the_guest_knows_it() {
    let guest = dumped(DUMPED);
    let wanted = ["04:00.0", "01:00.0", "06:00.0", "05:00.0", "03:00.0"];
    assert_eq!(places(&guest), wanted);
    let ports = guest.root_ports.iter();
    let ports: Vec<_> = ports.map(|it| format!("{} {}", it.bus, it.slot)).collect();
    assert_eq!(
        (ports.len(), &*ports[0], &*ports[13]),
        (14, "1 00:02.0", "14 00:03.5")
    );
    assert_eq!(guest.ports[0].number, Some(1));
    assert!(guest.watchdog.is_none());
    assert_eq!(guest.boot.disk.as_deref(), Some("vda"));
}

#[test]
fn what_is_added_to_or_taken_from_a_guest_moves_nothing_else() {
    let guest = dumped(DUMPED);
    let rng = DUMPED.find("<rng").unwrap()..DUMPED.find("</rng>").unwrap() + 6;
    let mut without = DUMPED.to_owned();
    without.replace_range(rng, "");
    let mut wanted = places(&guest);
    wanted.remove(2);
    assert_eq!(places(&dumped(&without)), wanted);
    // As a person would add them.
    let more = "<vsock/><disk><source file='/more'/><target dev='vdb'/></disk>\n  </devices>";
    let added = dumped(&DUMPED.replace("</devices>", more));
    assert_eq!(places(&added), places(&guest));
    let slot = |slot: Option<vireo_vmm::pci::Place>| slot.unwrap().to_string();
    // Behind a root port: what is on bus 0 would be the first disk.
    assert_eq!(slot(added.disks[1].slot), "ea:00.0");
    assert_eq!(slot(added.vsock.unwrap().slot), "00:1c.0");
}

#[test]
fn every_device_is_in_the_slot_that_the_definition_states() {
    use crate::resolve::domain::{Address, Chardev, Extra};
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    let at = |slot| {
        Some(Address::Pci {
            bus: 0,
            slot,
            function: 0,
            multifunction: false,
        })
    };
    domain.disks[0].address = at(31);
    domain.interfaces[0].address = at(2);
    domain.rng.as_mut().unwrap().address = at(3);
    domain.balloon_address = at(4);
    let extra = |class: &str, fields: &[(&str, &str)], slot| Extra {
        class: class.to_owned(),
        fields: fields
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        address: at(slot),
    };
    domain.extras = vec![
        extra("panic", &[("model", "pvpanic")], 5),
        extra("watchdog", &[("model", "i6300esb")], 6),
        extra("vsock", &[("cid.auto", "no"), ("cid.address", "7")], 7),
        extra("controller", &[("type", "virtio-serial")], 8),
        // Nothing is on it.
        extra("controller", &[("type", "usb")], 31),
    ];
    domain.chardevs.push(Chardev {
        class: "console".to_owned(),
        backend: Backend::Pty,
        target: "virtio".to_owned(),
        name: None,
        port: None,
        log: None,
        address: None,
    });
    let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
    let read = vireo_vmm::config::Guest::parse(&text).unwrap();
    assert_eq!(
        places(&read),
        ["00:1f.0", "00:02.0", "00:03.0", "00:04.0", "00:08.0"]
    );
    let guards = [
        read.panic.unwrap().slot,
        read.watchdog.unwrap().slot,
        read.vsock.unwrap().slot,
    ];
    assert_eq!(
        guards,
        [5, 6, 7].map(|slot| Some(vireo_vmm::pci::Place::slot_of_root(slot)))
    );
    for (bus, slot, function) in [(1, 2, 0), (0, 32, 0), (0, 9, 1), (0, 2, 0)] {
        domain.balloon_address = Some(Address::Pci {
            bus,
            slot,
            function,
            multifunction: false,
        });
        assert!(translate(&domain, &dir).is_err(), "{bus} {slot} {function}");
    }
}
