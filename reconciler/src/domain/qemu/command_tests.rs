use std::collections::BTreeMap;

use vireo_schema::domain::disk::{CacheMode, DiskIo};

use super::*;
use crate::domain::testing;
use crate::resolve::Driver;
use crate::resolve::domain::{Backend, Chardev, Extra};
use crate::units::Bytes;

fn guest() -> Domain {
    let mut domain = testing::domain();
    domain.driver = Driver::Qemu;
    domain
}

fn extra(class: &str, fields: &[(&str, &str)]) -> Extra {
    let fields = fields
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Extra {
        class: class.to_owned(),
        fields: fields.collect(),
        address: None,
    }
}

fn built(domain: &Domain) -> Result<CommandLine, DriverError> {
    let dir = GuestDir::new(Path::new("/run/vireo/guests"), domain.uuid);
    build(domain, &dir, &Host::complete(domain))
}

/// One option a line, as a person would read it.
fn shown(domain: &Domain) -> String {
    let mut text = String::new();
    for argument in built(domain).unwrap().arguments {
        let option = argument.starts_with('-');
        text.push_str(if option && !text.is_empty() {
            "\n"
        } else if text.is_empty() {
            ""
        } else {
            " "
        });
        text.push_str(&argument);
    }
    text
}

#[test]
fn a_kernel_with_the_usual_devices() {
    insta::assert_snapshot!(shown(&guest()));
}

#[test]
fn a_guest_with_cells_of_different_kinds_of_memory() {
    use crate::resolve::domain::{Cell, HostNodes, NodeMode};
    let mut domain = guest();
    (domain.vcpus.maximum, domain.memory.immediate) = (4, true);
    domain.memory.nodes = Some(HostNodes {
        mode: NodeMode::Interleave,
        nodes: vec![0, 1],
    });
    let cell = |vcpus: &[u32], distances: &[u8], hugepages, shared| Cell {
        size: Bytes::mib(256),
        vcpus: vcpus.to_vec(),
        distances: distances.to_vec(),
        hugepages,
        shared,
        nodes: None,
    };
    let mut second = cell(&[2], &[21, 10, 20], Some(Some(Bytes::mib(2))), true);
    second.nodes = Some(HostNodes {
        mode: NodeMode::Preferred,
        nodes: vec![1],
    });
    domain.memory.cells = vec![
        cell(&[0, 1, 3], &[10, 21, 20], None, false),
        second,
        Cell {
            distances: vec![20, 20, 10],
            ..Cell::default()
        },
    ];
    insta::assert_snapshot!(shown(&domain));
}

#[test]
fn an_old_desktop_with_firmware() {
    let mut domain = guest();
    domain.machine.machine = Some("pc-i440fx-7.2".to_owned());
    domain.machine.sysinfo =
        BTreeMap::from([("system.manufacturer".to_owned(), "A, B & C".to_owned())]);
    domain.cpu.mode = Some("custom".to_owned());
    domain.cpu.model = Some("Haswell-noTSX".to_owned());
    domain.cpu.features = vec![("vmx".to_owned(), "disable".to_owned())];
    domain.boot = Boot::Firmware {
        efi: false,
        loader: None,
        flash: false,
        nvram: None,
        template: None,
        order: vec!["cdrom".to_owned(), "hd".to_owned(), "network".to_owned()],
    };
    let mut cdrom = testing::disk("hdc", "ide");
    cdrom.device = "cdrom".to_owned();
    cdrom.path = None;
    let mut disk = testing::disk("hda", "ide");
    disk.cache = Some(CacheMode::None);
    disk.io = Some(DiskIo::Native);
    disk.serial = Some("WD-1".to_owned());
    domain.disks = vec![
        disk,
        cdrom,
        testing::disk("sda", "scsi"),
        testing::disk("sdb", "sata"),
    ];
    domain.interfaces[0].model = "e1000".to_owned();
    domain.chardevs.push(Chardev {
        class: "channel".to_owned(),
        backend: Backend::Unix(None),
        target: "virtio".to_owned(),
        name: Some("org.qemu.guest_agent.0".to_owned()),
        port: None,
        log: None,
        address: None,
    });
    domain.extras = vec![
        extra(
            "controller",
            &[
                ("type", "usb"),
                ("index", "0"),
                ("model", "ich9-uhci1"),
                ("master.startport", "0"),
            ],
        ),
        extra(
            "controller",
            &[("type", "usb"), ("index", "0"), ("model", "ich9-ehci1")],
        ),
        extra(
            "controller",
            &[("type", "pci"), ("index", "0"), ("model", "pci-root")],
        ),
        extra("input", &[("type", "tablet"), ("bus", "usb")]),
        extra("input", &[("type", "keyboard"), ("bus", "ps2")]),
        extra(
            "graphics",
            &[
                ("type", "vnc"),
                ("port", "-1"),
                ("autoport", "yes"),
                ("passwd", "tiger"),
            ],
        ),
        extra("sound", &[("model", "ich6")]),
        extra(
            "video",
            &[
                ("model.type", "cirrus"),
                ("model.vram", "9216"),
                ("model.heads", "1"),
            ],
        ),
        extra("watchdog", &[("model", "i6300esb"), ("action", "reset")]),
    ];
    insta::assert_snapshot!(shown(&domain));
}

#[test]
fn a_secret_is_in_a_file_and_not_in_the_arguments() {
    let mut domain = guest();
    domain.extras = vec![extra("graphics", &[("type", "vnc"), ("passwd", "tiger")])];
    let line = built(&domain).unwrap();
    assert!(
        !line
            .arguments
            .iter()
            .any(|argument| argument.contains("tiger"))
    );
    assert_eq!(line.secrets, [("password0".to_owned(), "tiger".to_owned())]);
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let refused = |extra: Extra| {
        let mut domain = guest();
        domain.extras = vec![extra];
        built(&domain).unwrap_err().to_string()
    };
    assert_eq!(refused(extra("tpm", &[])), "driver qemu cannot do <tpm>");
    assert_eq!(
        refused(extra(
            "video",
            &[("model.type", "vga"), ("model.blob", "on")]
        )),
        "driver qemu cannot do <video> with model.blob='on'"
    );
    let mut domain = guest();
    domain.machine.machine = Some("q35".to_owned());
    domain.disks = vec![testing::disk("hda", "ide")];
    assert_eq!(
        built(&domain).unwrap_err().to_string(),
        "driver qemu cannot do disk hda on bus ide"
    );
}

#[test]
fn a_comma_in_a_name_starts_no_option() {
    let mut domain = guest();
    domain.name = "a,debug-threads=on".to_owned();
    let line = built(&domain).unwrap();
    assert_eq!(
        line.arguments[1],
        "guest=a,,debug-threads=on,process=a,,debug-threads=on"
    );
}

#[test]
fn what_an_interface_leaves_to_neither_side_is_said_in_qemus_words() {
    let mut domain = guest();
    for (name, told) in [
        ("host-csum", "csum"),
        ("host-gso", "gso"),
        ("host-mrg-rxbuf", "mrg_rxbuf"),
        ("host-tso4", "host_tso4"),
        ("guest-csum", "guest_csum"),
        ("guest-ufo", "guest_ufo"),
    ] {
        domain.interfaces[0].offloads = BTreeMap::from([(name.to_owned(), false)]);
        let shown = shown(&domain);
        assert!(shown.contains(&format!("\"{told}\":false")), "{shown}");
    }
    domain.interfaces[0].model = "e1000".to_owned();
    assert!(built(&domain).is_err());
}
