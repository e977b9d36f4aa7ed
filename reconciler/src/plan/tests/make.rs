//! Objects to plan with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

use crate::compile::filter::ir::Filter;
use crate::desired::{Desired, Fields, Policy, Resolved, Wanted};
use crate::object::{Kind, ObjectId};
use crate::plan::step::Location;
use crate::resolve::domain::*;
use crate::resolve::limits::Limits;
use crate::resolve::network::{Bridge, DhcpRange, Dnsmasq, Forward, Network};
use crate::resolve::storage::{ImageFormat, Permissions, Pool, Volume};
use crate::resolve::{Driver, WantedState, derived_link};
use crate::units::Bytes;

pub fn uuid(kind: Kind, name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{kind}/{name}").as_bytes())
}

pub fn id(kind: Kind, name: &str) -> ObjectId {
    ObjectId::new(kind, uuid(kind, name), name)
}

/// A guest with one disk, one interface on network `default`, and a kernel.
pub fn domain(name: &str) -> Domain {
    let uuid = uuid(Kind::Domain, name);
    Domain {
        uuid,
        name: name.to_owned(),
        driver: Driver::Builtin,
        driver_why: "the builtin driver can do all of it".to_owned(),
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
            current: Bytes::mib(512),
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
            initrd: None,
            cmdline: "console=ttyS0".to_owned(),
        },
        disks: vec![disk("vda", "/images/web.qcow2", Some("images/web.qcow2"))],
        interfaces: vec![interface(uuid, 0)],
        chardevs: Vec::new(),
        extras: Vec::new(),
        rng: None,
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

pub fn disk(target: &str, path: &str, volume: Option<&str>) -> Disk {
    Disk {
        target: target.to_owned(),
        bus: "virtio".to_owned(),
        device: "disk".to_owned(),
        path: Some(PathBuf::from(path)),
        volume: volume.map(str::to_owned),
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

pub fn interface(owner: Uuid, index: usize) -> Interface {
    Interface {
        index,
        mac: [0x52, 0x54, 0, owner.as_bytes()[0], owner.as_bytes()[1], 1],
        source: InterfaceSource::Network {
            uuid: uuid(Kind::Network, "default"),
            name: "default".to_owned(),
            bridge: "virbr0".to_owned(),
        },
        tap: derived_link("vif", owner, Some(index)),
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
    }
}

pub fn network(name: &str, bridge: &str) -> Network {
    Network {
        uuid: uuid(Kind::Network, name),
        name: name.to_owned(),
        forward: Forward::Nat {
            dev: None,
            addresses: None,
            ports: (1024, 65535),
            ipv6: false,
        },
        bridge: Bridge {
            name: bridge.to_owned(),
            mac: [0x52, 0x54, 0, 0, 0, 9],
            stp: true,
            delay: 0,
            mtu: None,
        },
        addresses: vec!["192.168.122.1/24".parse().unwrap()],
        routes: Vec::new(),
        dnsmasq: Some(Dnsmasq {
            ranges: vec![DhcpRange {
                start: "192.168.122.2".parse().unwrap(),
                end: "192.168.122.254".parse().unwrap(),
                lease_seconds: None,
            }],
            dns: true,
            ..Dnsmasq::default()
        }),
    }
}

pub fn pool(name: &str) -> Pool {
    Pool {
        uuid: uuid(Kind::Pool, name),
        name: name.to_owned(),
        path: PathBuf::from("/").join(name),
        permissions: Permissions::default(),
    }
}

pub fn volume(pool: &str, name: &str) -> Volume {
    Volume {
        uuid: uuid(Kind::Volume, &format!("{pool}/{name}")),
        pool: pool.to_owned(),
        pool_uuid: uuid(Kind::Pool, pool),
        name: name.to_owned(),
        path: PathBuf::from("/").join(pool).join(name),
        capacity: Some(Bytes::gib(10)),
        allocation: None,
        format: ImageFormat::Qcow2,
        backing: None,
        compat: None,
        permissions: Permissions::default(),
        delete_with_definition: false,
    }
}

/// A filter that drops ICMP.
pub fn filter(name: &str) -> Filter {
    use crate::compile::filter::ir::{
        Action, Direction, Entry, Protocol, ProtocolMatch, Rule, Transport, Version,
    };
    Filter {
        name: name.to_owned(),
        chain: "root".to_owned(),
        priority: None,
        entries: vec![Entry::Rule(Rule {
            action: Action::Drop,
            direction: Direction::Inout,
            priority: 500,
            statematch: true,
            matches: vec![ProtocolMatch {
                protocol: Protocol::Transport(Transport::Icmp, Version::V4),
                negated: false,
                attributes: BTreeMap::new(),
            }],
        })],
    }
}

/// What is resolved, as a file `NAME.xml` would state it: the text says all of it, so that another definition is another text.
pub fn wanted(resolved: Resolved) -> Wanted {
    let (kind, name) = match &resolved {
        Resolved::Network(x) => (Kind::Network, x.name.clone()),
        Resolved::Pool(x) => (Kind::Pool, x.name.clone()),
        Resolved::Volume(x) => (Kind::Volume, format!("{}/{}", x.pool, x.name)),
        Resolved::NwFilter(x) => (Kind::NwFilter, x.name.clone()),
        Resolved::Domain(x) => (Kind::Domain, x.name.clone()),
    };
    let file = PathBuf::from(format!("{}.xml", name.replace('/', "-")));
    Wanted {
        id: id(kind, &name),
        location: Location {
            file: file.clone(),
            line: 1,
            column: 1,
        },
        file,
        fields: Fields::default(),
        xml: serde_json::to_string_pretty(&resolved).unwrap(),
        policy: Policy::default(),
        resolved,
        previous: None,
    }
}

/// Everything that is wanted, with what the domains' references add.
pub fn desired(objects: impl IntoIterator<Item = Resolved>) -> Desired {
    let objects = objects
        .into_iter()
        .map(wanted)
        .map(|wanted| (wanted.id.clone(), wanted))
        .collect();
    Desired {
        objects,
        ..Desired::default()
    }
}

/// A network, a pool, a volume and a guest.
pub fn small() -> Vec<Resolved> {
    vec![
        Resolved::Network(Box::new(network("default", "virbr0"))),
        Resolved::Pool(Box::new(pool("images"))),
        Resolved::Volume(Box::new(volume("images", "web.qcow2"))),
        Resolved::Domain(Box::new(domain("web"))),
    ]
}
