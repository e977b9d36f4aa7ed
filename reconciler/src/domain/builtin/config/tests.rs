mod places;

use vireo_schema::domain::disk;

use super::*;
use crate::domain::testing;
use crate::resolve::domain::Interface;

#[test]
fn the_monitor_reads_what_the_driver_writes() {
    let mut domain = testing::domain();
    domain.memory.hugepages = Some(None);
    domain.chardevs[0].backend = Backend::Unix(None);
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), domain.uuid);
    domain.balloon_options.period = Some(5);
    domain.balloon_options.autodeflate = true;
    domain.balloon_options.free_page_reporting = Some(false);
    let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
    let read = vireo_vmm::config::Guest::parse(&text).unwrap();
    let balloon = read.balloon.as_ref().unwrap();
    assert!(balloon.deflate_on_oom && !balloon.free_page_reporting);
    assert_eq!(balloon.period, Some(5));
    assert_eq!(read.name, "web");
    assert_eq!(read.disks.len(), 1);
    assert_eq!(read.interfaces.len(), 1);
    assert_eq!(read.on_poweroff, vireo_vmm::config::Then::Destroy);
    assert_eq!(
        read.balloon.unwrap().target.unwrap().0,
        domain.memory.current.0
    );
    assert!(read.serial.socket.is_some() && read.serial.pty);
}

#[test]
fn cells_reach_the_monitor_with_the_processors_that_are_there() {
    use crate::resolve::domain::{Cell, HostNodes, NodeMode};
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    domain.vcpus.maximum = 4;
    let on = |mode, nodes: &[u32]| {
        let nodes = nodes.to_vec();
        Some(HostNodes { mode, nodes })
    };
    let cell = |vcpus: &[u32], distances: &[u8], nodes| Cell {
        size: Bytes::mib(256),
        vcpus: vcpus.to_vec(),
        distances: distances.to_vec(),
        hugepages: Some(None),
        shared: true,
        nodes,
    };
    domain.memory.hugepages = Some(None);
    (domain.memory.shared, domain.memory.immediate) = (true, true);
    domain.memory.nodes = on(NodeMode::Interleave, &[0, 1]);
    domain.memory.cells = vec![
        cell(&[0, 2, 3], &[10, 21], None),
        cell(&[1], &[21, 10], on(NodeMode::Preferred, &[1])),
    ];
    let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
    let memory = vireo_vmm::config::Guest::parse(&text).unwrap().memory;
    assert!(memory.hugepages && memory.shared && memory.preallocated);
    let host = memory.host.unwrap();
    assert_eq!(host.mode, vireo_vmm::config::NodeMode::Interleave);
    assert_eq!(host.nodes, [0, 1]);
    let [first, second] = &memory.cells[..] else {
        panic!("not two cells");
    };
    assert_eq!((&first.vcpus[..], &second.vcpus[..]), (&[0][..], &[1][..]));
    assert_eq!(second.distances, [21, 10]);
    assert_eq!(second.host.as_ref().unwrap().nodes, [1]);
    domain.memory.cells[1].shared = false;
    let refused = translate(&domain, &dir).unwrap_err().to_string();
    assert!(refused.contains("cells of different kinds"), "{refused}");
}

#[test]
fn a_disk_to_boot_from_reaches_the_monitor() {
    let mut domain = testing::domain();
    domain.boot = Boot::Disk {
        target: "vda".to_owned(),
        cmdline: "quiet".to_owned(),
    };
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), domain.uuid);
    let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
    let boot = vireo_vmm::config::Guest::parse(&text).unwrap().boot;
    assert_eq!((boot.kernel, boot.disk.as_deref()), (None, Some("vda")));
    assert_eq!(boot.cmdline, "quiet");
}

#[test]
fn a_disk_reaches_the_monitor_with_what_others_and_the_host_may_do_to_it() {
    use vireo_vmm::config::Discard;
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    for (shareable, discard, read) in [
        (false, None, Discard::Unmap),
        (true, Some(disk::Discard::Unmap), Discard::Unmap),
        (true, Some(disk::Discard::Ignore), Discard::Ignore),
    ] {
        domain.disks[0].shareable = shareable;
        domain.disks[0].discard = discard;
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let guest = vireo_vmm::config::Guest::parse(&text).unwrap();
        assert_eq!(guest.disks[0].shareable, shareable);
        assert_eq!(guest.disks[0].discard, read);
    }
}

#[test]
fn a_disk_reaches_the_monitor_with_its_queues_or_is_refused_with_what_is_possible() {
    use vireo_vmm::config::DetectZeroes;
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    domain.disks[0].detect_zeroes = Some(disk::DetectZeroes::Unmap);
    for (queues, size, possible) in [
        (Some(1), Some(2), true),
        (Some(63), Some(1024), true),
        (Some(0), None, false),
        (Some(64), None, false),
        (None, Some(1), false),
        (None, Some(200), false),
        (None, Some(2048), false),
    ] {
        (domain.disks[0].queues, domain.disks[0].queue_size) = (queues, size);
        let told = translate(&domain, &dir);
        assert_eq!(told.is_ok(), possible, "{queues:?} {size:?}");
        let Ok(told) = told else { continue };
        let text = serde_json::to_string(&told).unwrap();
        let disk = vireo_vmm::config::Guest::parse(&text)
            .unwrap()
            .disks
            .remove(0);
        assert_eq!(disk.detect_zeroes, DetectZeroes::Unmap);
        assert_eq!(disk.queues.map(u32::from), queues);
        assert_eq!(disk.queue_size.map(u32::from), size);
    }
}

#[test]
fn what_follows_a_disks_errors_reaches_the_monitor() {
    use disk::{ErrorPolicy as Other, ReadErrorPolicy as Read};
    use vireo_vmm::config::{ErrorPolicy as E, ReadErrorPolicy as R};
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    for (others, reads, policies) in [
        (None, None, (E::Enospace, R::Report)),
        (Some(Other::Report), None, (E::Report, R::Report)),
        (Some(Other::Stop), Some(Read::Ignore), (E::Stop, R::Ignore)),
        (Some(Other::Ignore), Some(Read::Stop), (E::Ignore, R::Stop)),
    ] {
        let disk = &mut domain.disks[0];
        (disk.error_policy, disk.rerror_policy) = (others, reads);
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let disk = &vireo_vmm::config::Guest::parse(&text).unwrap().disks[0];
        assert_eq!(
            (disk.error_policy, disk.rerror_policy),
            policies,
            "{others:?} {reads:?}"
        );
    }
}

#[test]
fn how_an_image_is_accessed_reaches_the_monitor() {
    use vireo_schema::domain::disk::DiskIo as Stated;
    use vireo_vmm::config::DiskIo;
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    for (stated, io) in [
        (None, None),
        (Some(Stated::Threads), Some(DiskIo::Threads)),
        (Some(Stated::IoUring), Some(DiskIo::IoUring)),
        // It was left out by leave.
        (Some(Stated::Native), None),
    ] {
        domain.disks[0].io = stated;
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let guest = vireo_vmm::config::Guest::parse(&text).unwrap();
        assert_eq!(guest.disks[0].io, io, "{stated:?}");
    }
}

#[test]
fn where_threads_run_reaches_the_monitor() {
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    let told = |domain: &crate::resolve::domain::Domain| {
        let text = serde_json::to_string(&translate(domain, &dir).unwrap()).unwrap();
        vireo_vmm::config::Guest::parse(&text).unwrap().pins
    };
    assert_eq!(told(&domain), vireo_vmm::config::Pins::default());
    let target = domain.disks[0].target.clone();
    domain.pins.emulator = Some([0, 2].into());
    domain.pins.vcpus.insert(0, [1].into());
    domain.pins.disks.insert(target.clone(), [3].into());
    let pins = told(&domain);
    assert_eq!(pins.emulator, [0, 2]);
    assert_eq!(pins.vcpu(0), Some(&[1][..]));
    assert_eq!(pins.disk(&target), Some(&[3][..]));
}

#[test]
fn what_an_interface_leaves_to_neither_side_reaches_the_monitor() {
    use vireo_vmm::config::Offload as O;
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let told = |switch: &str, on: bool| {
        let mut domain = testing::domain();
        domain.interfaces[0].offloads.insert(switch.to_owned(), on);
        let config = translate(&domain, &dir).ok()?;
        let text = serde_json::to_string(&config).unwrap();
        let mut read = vireo_vmm::config::Guest::parse(&text).unwrap();
        Some(read.interfaces.remove(0).without)
    };
    for (switch, missing) in [
        ("host-csum", &[O::HostCsum][..]),
        ("host-gso", &[O::HostTso4, O::HostTso6]),
        ("host-tso4", &[O::HostTso4]),
        ("host-tso6", &[O::HostTso6]),
        ("host-ecn", &[O::HostEcn]),
        ("host-mrg-rxbuf", &[O::MrgRxbuf]),
        ("guest-csum", &[O::GuestCsum]),
        ("guest-tso4", &[O::GuestTso4]),
        ("guest-tso6", &[O::GuestTso6]),
        ("guest-ecn", &[O::GuestEcn]),
    ] {
        assert_eq!(told(switch, false).as_deref(), Some(missing), "{switch}");
        assert_eq!(told(switch, true), Some(Vec::new()), "{switch}");
    }
    for switch in ["host-ufo", "guest-ufo"] {
        assert_eq!(told(switch, false), Some(Vec::new()));
        assert_eq!(
            told(switch, true),
            None,
            "{switch} is never left to anybody"
        );
    }
    assert_eq!(told("guest-gso", true), None);
}

#[test]
fn an_interfaces_queues_are_as_long_as_the_monitor_can_make_them_or_refused() {
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    for (queues, possible) in [(1, true), (31, true), (0, false), (32, false)] {
        let mut domain = testing::domain();
        domain.interfaces[0].queues = Some(queues);
        assert_eq!(translate(&domain, &dir).is_ok(), possible, "{queues}");
    }
    for (size, possible) in [
        (256, true),
        (1024, true),
        (128, false),
        (300, false),
        (2048, false),
    ] {
        let mut domain = testing::domain();
        domain.interfaces[0].rx_queue_size = Some(size);
        assert_eq!(translate(&domain, &dir).is_ok(), possible, "{size}");
        domain.interfaces[0].rx_queue_size = None;
        domain.interfaces[0].tx_queue_size = Some(size);
        assert_eq!(translate(&domain, &dir).is_ok(), possible, "{size}");
    }
}

#[test]
fn an_interface_reaches_the_monitor_with_its_link_and_its_largest_packet() {
    use vireo_vmm::config::LinkState;
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    for (up, mtu, state) in [
        (true, None, LinkState::Up),
        (false, Some(9000), LinkState::Down),
        (true, Some(65535), LinkState::Up),
    ] {
        domain.interfaces[0].link_up = up;
        domain.interfaces[0].mtu = mtu;
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let read = vireo_vmm::config::Guest::parse(&text).unwrap();
        assert_eq!(read.interfaces[0].link, state);
        assert_eq!(read.interfaces[0].mtu.map(u32::from), mtu);
    }
}

#[test]
fn who_moves_an_interfaces_packets_reaches_the_monitor_as_it_is_stated() {
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    for vhost in [None, Some(true), Some(false)] {
        domain.interfaces[0].vhost = vhost;
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let read = vireo_vmm::config::Guest::parse(&text).unwrap();
        assert_eq!(read.interfaces[0].vhost, vhost);
    }
}

#[test]
fn a_panic_device_and_a_watchdog_reach_the_monitor_with_what_follows() {
    use vireo_vmm::config::{PanicModel, WatchdogAction};
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    let extra = |class: &str, fields: &[(&str, &str)]| crate::resolve::domain::Extra {
        class: class.to_owned(),
        fields: fields
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        address: None,
    };
    for (word, action) in [
        ("reset", WatchdogAction::Reset),
        ("shutdown", WatchdogAction::Shutdown),
        ("poweroff", WatchdogAction::Poweroff),
        ("pause", WatchdogAction::Pause),
        ("dump", WatchdogAction::Dump),
        ("none", WatchdogAction::None),
        ("inject-nmi", WatchdogAction::InjectNmi),
    ] {
        domain.extras = vec![
            extra("panic", &[("model", "pvpanic")]),
            extra("watchdog", &[("model", "i6300esb"), ("action", word)]),
            extra("vsock", &[("cid.auto", "no"), ("cid.address", "7")]),
        ];
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let read = vireo_vmm::config::Guest::parse(&text).unwrap();
        assert_eq!(read.panic.unwrap().model, PanicModel::Pci);
        assert_eq!(read.watchdog.unwrap().action, action);
        assert_eq!(read.core.is_some(), word == "dump");
        assert_eq!(read.vsock.unwrap().cid, 7);
    }
}

#[test]
fn consoles_and_channels_reach_the_monitor_with_their_names_and_other_ends() {
    use crate::resolve::domain::Chardev;
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    let chardev = |class: &str, name: Option<&str>, backend| Chardev {
        class: class.to_owned(),
        backend,
        target: "virtio".to_owned(),
        name: name.map(str::to_owned),
        port: None,
        log: None,
        address: None,
    };
    let backends = [
        Backend::Unix(None),
        Backend::UnixCall("/run/peer".into()),
        Backend::Tcp("127.0.0.1".to_owned(), "4555".to_owned(), true),
        Backend::File("/var/log/x".into()),
        Backend::Null,
    ];
    domain.chardevs.push(chardev("console", None, Backend::Pty));
    let channel = |backend| chardev("channel", Some("org.qemu.guest_agent.0"), backend);
    domain.chardevs.extend(backends.map(channel));
    let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
    let read = vireo_vmm::config::Guest::parse(&text).unwrap();
    let [console, bound, calling, tcp, file, null] = &read.ports[..] else {
        panic!("{:?}", read.ports);
    };
    assert!(console.console && console.pty && console.name.is_none());
    assert_eq!(bound.name.as_deref(), Some("org.qemu.guest_agent.0"));
    assert!(bound.socket.is_some() && !bound.connect);
    assert!(calling.connect && calling.socket.as_deref() == Some("/run/peer".as_ref()));
    assert_eq!(tcp.tcp.as_deref(), Some("127.0.0.1:4555"));
    assert_eq!(file.log.as_deref(), Some("/var/log/x".as_ref()));
    assert!(null.log.is_none() && null.socket.is_none() && !null.pty);
    domain.chardevs = vec![channel(Backend::SpiceVmc)];
    assert!(translate(&domain, &dir).is_err());
}

#[test]
fn what_the_machine_says_of_itself_reaches_the_monitor_word_for_word() {
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    for (table, names) in SMBIOS {
        for name in names {
            let value = if *name == "release" { "1.2" } else { name };
            let key = format!("{table}.{name}");
            domain.machine.sysinfo.insert(key, value.to_owned());
        }
    }
    let uuid = domain.uuid.to_string();
    let sysinfo = &mut domain.machine.sysinfo;
    sysinfo.insert("system.uuid".to_owned(), uuid);
    sysinfo.insert("oemStrings.000".to_owned(), "first".to_owned());
    sysinfo.insert("oemStrings.001".to_owned(), "second".to_owned());
    let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
    let read = vireo_vmm::config::Guest::parse(&text)
        .unwrap()
        .smbios
        .unwrap();
    let names: Vec<&str> = read.strings.keys().map(String::as_str).collect();
    let mut known = vireo_vmm::smbios::NAMES;
    known.sort_unstable();
    assert_eq!(names, known);
    assert_eq!(read.oem_strings, ["first", "second"]);
    for (key, value) in [
        ("system.uuid", "00000000-0000-0000-0000-000000000001"),
        ("bios.release", "one"),
        ("bios.colour", "blue"),
        ("system.serial", ""),
    ] {
        let mut domain = domain.clone();
        let sysinfo = &mut domain.machine.sysinfo;
        sysinfo.insert(key.to_owned(), value.to_owned());
        assert!(translate(&domain, &dir).is_err(), "{key} {value}");
    }
}

#[test]
fn the_processor_reaches_the_monitor_as_it_was_asked_for() {
    let mut domain = testing::domain();
    domain.vcpus.maximum = 8;
    domain.vcpus.current = 8;
    domain.vcpus.topology = Some([2, 1, 2, 2]);
    domain.cpu.model = Some("Haswell-noTSX".to_owned());
    domain.cpu.features = vec![("pcid".to_owned(), "optional".to_owned())];
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), domain.uuid);
    for mode in [None, Some("custom"), Some("host-model"), Some("maximum")] {
        domain.cpu.mode = mode.map(str::to_owned);
        let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
        let read = vireo_vmm::config::Guest::parse(&text).unwrap();
        assert_eq!(read.vcpus.topology.unwrap().threads, 2);
        assert_eq!(read.cpu.features[0].name, "pcid");
        let custom = matches!(mode, None | Some("custom"));
        assert_eq!(read.cpu.model.is_some(), custom, "{mode:?}");
    }
}

#[test]
fn a_crash_that_is_to_leave_a_core_dump_names_its_file() {
    let mut domain = testing::domain();
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), domain.uuid)
        .with_state(Path::new("/var/lib/vireo"));
    domain.events.on_crash = Action::CoredumpRestart;
    let text = serde_json::to_string(&translate(&domain, &dir).unwrap()).unwrap();
    let read = vireo_vmm::config::Guest::parse(&text).unwrap();
    assert_eq!(read.on_crash, vireo_vmm::config::Then::Restart);
    let wanted = PathBuf::from(format!("/var/lib/vireo/cores/{}", domain.uuid));
    assert_eq!(read.core, Some(wanted));
}

#[test]
fn clock_and_timers_reach_the_monitor() {
    use crate::resolve::domain::{Clock, ClockBasis, Extra};
    use vireo_vmm::config::{ClockOffset, LostTicks};
    let dir = GuestDir::new(Path::new("/run/vireo/guests"), uuid::Uuid::nil())
        .with_state(Path::new("/var/lib/vireo"));
    let mut domain = testing::domain();
    let read = |domain: &Domain| {
        let text = serde_json::to_string(&translate(domain, &dir).unwrap()).unwrap();
        vireo_vmm::config::Guest::parse(&text).unwrap().clock
    };
    domain.clock = Clock::Variable {
        basis: ClockBasis::Localtime,
        adjustment: -5,
    };
    let variable = read(&domain);
    let keep = PathBuf::from(format!("/var/lib/vireo/clocks/{}", uuid::Uuid::nil()));
    assert_eq!((variable.adjustment, variable.keep), (Some(-5), Some(keep)));
    domain.clock = Clock::Timezone("Europe/Berlin".to_owned());
    assert_eq!(read(&domain).timezone.as_deref(), Some("Europe/Berlin"));
    domain.clock = Clock::Absolute(7);
    let timer = |fields: &[(&str, &str)]| Extra {
        class: "timer".to_owned(),
        fields: fields
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        address: None,
    };
    domain.extras = vec![
        timer(&[("name", "pit"), ("tickpolicy", "discard")]),
        timer(&[
            ("name", "rtc"),
            ("tickpolicy", "catchup"),
            ("track", "wall"),
        ]),
        timer(&[("name", "hpet"), ("present", "no")]),
        timer(&[("name", "kvmclock"), ("present", "no")]),
        timer(&[
            ("name", "tsc"),
            ("frequency", "2400000000"),
            ("mode", "auto"),
        ]),
    ];
    let clock = read(&domain);
    assert_eq!(
        (clock.offset, clock.start),
        (ClockOffset::Absolute, Some(7))
    );
    assert_eq!((clock.pit, clock.kvmclock), (LostTicks::Discard, false));
    assert_eq!(clock.tsc_khz, Some(2_400_000));
    for odd in [
        timer(&[("name", "hpet"), ("present", "yes")]),
        timer(&[("name", "pit"), ("tickpolicy", "merge")]),
        timer(&[("name", "pit"), ("present", "no")]),
        timer(&[("name", "tsc"), ("frequency", "999")]),
    ] {
        domain.extras = vec![odd];
        assert!(translate(&domain, &dir).is_err(), "{:?}", domain.extras);
    }
}

#[test]
fn what_the_monitor_does_not_do_is_refused_by_name() {
    let dir = GuestDir::new(std::path::Path::new("/run/vireo/guests"), uuid::Uuid::nil());
    let mut domain = testing::domain();
    domain.disks[0].bus = "ide".to_owned();
    let error = translate(&domain, &dir).unwrap_err();
    assert_eq!(
        error.to_string(),
        "driver builtin cannot do disk vda on bus ide"
    );
    let refused = |change: fn(&mut Interface)| {
        let mut domain = testing::domain();
        change(&mut domain.interfaces[0]);
        translate(&domain, &dir).unwrap_err().to_string()
    };
    let said = refused(|interface| interface.queues = Some(40));
    assert!(said.contains("40 pairs of queues"), "{said}");
    for mtu in [67, 65536] {
        let mut domain = testing::domain();
        domain.interfaces[0].mtu = Some(mtu);
        let said = translate(&domain, &dir).unwrap_err().to_string();
        assert!(said.contains(&format!("an MTU of {mtu} ")), "{said}");
    }
}
