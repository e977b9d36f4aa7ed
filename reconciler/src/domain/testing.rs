//! A guest to test with.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::resolve::domain::{
    Action, Backend, BalloonOptions, Bandwidth, Boot, Chardev, Clock, Cpu, Disk, Domain, Events,
    Interface, InterfaceSource, Lifecycle, Machine, Memory, Rng, Tuning, Vcpus,
};
use crate::resolve::limits::Limits;
use crate::resolve::storage::ImageFormat;
use crate::resolve::{Driver, WantedState};
use crate::units::Bytes;

/// A usual guest: a kernel, a disk, an interface, a console.
pub fn domain() -> Domain {
    Domain {
        uuid: Uuid::from_u128(0x7b3f_0f9c_5f0e_4d5a_9a54_0c8a_d6c7_d0a1),
        name: "web".to_owned(),
        driver: Driver::Builtin,
        driver_why: String::new(),
        emulated: false,
        machine: Machine {
            arch: "x86_64".to_owned(),
            machine: None,
            emulator: None,
            acpi: true,
            sysinfo: BTreeMap::new(),
        },
        memory: Memory {
            maximum: Bytes::mib(512),
            current: Bytes::mib(256),
            hugepages: None,
            locked: false,
            ..Memory::default()
        },
        vcpus: Vcpus {
            maximum: 2,
            current: 2,
            topology: None,
        },
        cpu: Cpu::default(),
        boot: Boot::Kernel {
            kernel: "/boot/vmlinuz".into(),
            initrd: Some("/boot/initrd.img".into()),
            cmdline: "console=ttyS0 root=/dev/vda".to_owned(),
        },
        disks: vec![disk("vda", "virtio")],
        interfaces: vec![Interface {
            index: 0,
            mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            source: InterfaceSource::Bridge {
                bridge: "virbr0".to_owned(),
            },
            tap: "vnet0".to_owned(),
            model: "virtio".to_owned(),
            mtu: None,
            link_up: true,
            filter: None,
            bandwidth: Bandwidth::default(),
            boot_order: None,
            queues: None,
            offloads: BTreeMap::new(),
            rx_queue_size: None,
            tx_queue_size: None,
            vhost: None,
            address: None,
        }],
        chardevs: vec![Chardev {
            class: "serial".to_owned(),
            backend: Backend::Pty,
            target: "isa-serial".to_owned(),
            name: None,
            port: None,
            log: None,
            address: None,
        }],
        extras: Vec::new(),
        rng: Some(Rng {
            source: "/dev/urandom".into(),
            address: None,
        }),
        balloon: true,
        balloon_address: None,
        balloon_options: BalloonOptions::default(),
        clock: Clock::Utc,
        events: Events {
            on_poweroff: Action::Destroy,
            on_reboot: Action::Restart,
            on_crash: Action::Destroy,
        },
        tuning: Tuning::default(),
        pins: crate::resolve::domain::Pins::default(),
        lifecycle: Lifecycle {
            wanted: WantedState::Running,
            shutdown_timeout: Duration::from_secs(60),
        },
        qemu_arguments: Vec::new(),
    }
}

/// A disk with an image.
pub fn disk(target: &str, bus: &str) -> Disk {
    Disk {
        target: target.to_owned(),
        bus: bus.to_owned(),
        device: "disk".to_owned(),
        path: Some(format!("/var/lib/vireo/images/{target}.qcow2").into()),
        volume: None,
        format: ImageFormat::Qcow2,
        readonly: false,
        shareable: false,
        cache: None,
        io: None,
        discard: None,
        serial: None,
        detect_zeroes: None,
        queues: None,
        queue_size: None,
        error_policy: None,
        rerror_policy: None,
        limits: Limits::default(),
        boot_order: None,
        address: None,
    }
}
