use proptest::prelude::*;

use std::path::Path;

use super::*;

const SMALLEST: &str = r#"{
    "name": "web", "uuid": "7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1",
    "memory": {"size": 67108864}, "vcpus": {"count": 1},
    "boot": {"kernel": "/boot/vmlinuz"},
    "control": "/run/g/control", "state": "/run/g/state"
}"#;

const WHOLE: &str = "
name: web
uuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1
memory: {size: 536870912, hugepages: true}
vcpus: {count: 2}
boot: {kernel: /boot/vmlinuz, initrd: /boot/initrd.img, cmdline: console=ttyS0}
disks:
  - {id: vda, path: /images/web.qcow2, format: qcow2, serial: ABC, cache: none, slot: 3}
  - {id: vdb, path: /images/data.raw, format: raw, readonly: true}
interfaces: [{id: net0, tap: vnet0, mac: '52:54:00:12:34:56', queues: 1}]
rng: {}
balloon: {target: 268435456}
panic: {model: pci, slot: 4}
watchdog: {action: inject-nmi}
serial: {pty: true, log: /var/log/web.log, log-limit: 65536, socket: /run/g/serial}
control: /run/g/control
state: /run/g/state
on-poweroff: preserve
on-reboot: destroy
on-crash: restart
user: 107
group: 107
clock: {offset: localtime}
";

fn smallest() -> Guest {
    Guest::parse(SMALLEST).expect("the smallest configuration is sound")
}

fn fields(guest: &Guest) -> Vec<String> {
    guest.check().into_iter().map(|p| p.field).collect()
}

#[test]
fn what_is_left_out_has_a_default() {
    let guest = smallest();
    assert_eq!(
        (guest.on_poweroff, guest.on_reboot, guest.on_crash),
        (Then::Destroy, Then::Restart, Then::Destroy)
    );
    assert_eq!(guest.serial.log_limit, Bytes(2 * layout::MIB));
    assert_eq!(guest.clock.offset, ClockOffset::Utc);
    assert!(guest.disks.is_empty() && guest.interfaces.is_empty() && guest.rng.is_none());
}

#[test]
fn yaml_and_json_say_the_same() {
    let guest = Guest::parse(WHOLE).expect("sound");
    let json = serde_json::to_string(&guest).expect("can be written");
    assert_eq!(Guest::parse(&json).expect("can be read again"), guest);
    assert_eq!(
        guest.rng.as_ref().map(|r| r.source.as_path()),
        Some(Path::new("/dev/urandom"))
    );
    assert_eq!(
        guest.interfaces[0].mac,
        Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])
    );
}

#[test]
fn an_unknown_field_is_named_with_what_would_be_accepted() {
    let text = SMALLEST.replace("\"vcpus\"", "\"cpus\": 1, \"vcpus\"");
    let message = Guest::parse(&text).expect_err("unknown").to_string();
    assert!(message.contains("unknown field `cpus`"), "{message}");
    assert!(message.contains("`vcpus`"), "{message}");
}

#[test]
fn every_problem_is_reported_at_once() {
    let mut guest = smallest();
    guest.memory.size = Bytes(5_000_001);
    guest.vcpus.count = 0;
    guest.boot.kernel = Some("vmlinuz".into());
    guest.boot.cmdline = "x".repeat(3000);
    assert_eq!(
        fields(&guest),
        ["memory.size", "vcpus.count", "boot.cmdline", "boot.kernel"]
    );
}

#[test]
fn two_devices_never_share_a_name_a_tap_or_a_slot() {
    let mut guest = Guest::parse(WHOLE).expect("sound");
    guest.disks[1].id = "vda".into();
    guest.disks[1].slot = Some(Place::slot_of_root(3));
    let mut second = guest.interfaces[0].clone();
    second.id = "net1".into();
    guest.interfaces.push(second);
    assert_eq!(
        fields(&guest),
        ["disks[1].id", "interfaces[1].tap", "disks[1].slot"]
    );
}

#[test]
fn more_devices_than_slots_are_refused() {
    let mut guest = smallest();
    let disk = |i: usize| Disk {
        id: format!("d{i}"),
        path: "/d".into(),
        format: DiskFormat::Raw,
        readonly: false,
        shareable: false,
        discard: Discard::Unmap,
        detect_zeroes: DetectZeroes::Off,
        queues: None,
        queue_size: None,
        error_policy: ErrorPolicy::Stop,
        rerror_policy: ReadErrorPolicy::Ignore,
        limits: Limits::default(),
        serial: None,
        cache: Cache::default(),
        io: None,
        slot: None,
    };
    guest.disks = (0..31).map(disk).collect();
    assert!(fields(&guest).is_empty());
    guest.disks.push(disk(31));
    assert_eq!(fields(&guest), ["disks, interfaces"]);
    // A root port takes a slot, and has another.
    guest.disks.pop();
    guest.root_ports = vec![RootPort {
        bus: 1,
        slot: Place::slot_of_root(2),
    }];
    assert_eq!(fields(&guest), ["disks, interfaces"]);
    guest.disks[7].slot = Some(Place::new(1, 0, 0));
    assert!(fields(&guest).is_empty());
}

#[test]
fn a_place_is_one_that_the_machine_has_and_that_a_guest_can_find() {
    let placed = |ports: &str, places: &[&str]| {
        let disk = |(i, slot): (usize, &&str)| {
            format!("{{id: d{i}, path: /d, format: raw, slot: '{slot}'}}")
        };
        let disks: Vec<_> = places.iter().enumerate().map(disk).collect();
        let text = format!(
            "name: web\nuuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1\nmemory: {{size: 67108864}}\nvcpus: {{count: 1}}\n\
             boot: {{kernel: /boot/vmlinuz}}\ncontrol: /run/g/control\nstate: /run/g/state\n\
             root-ports: [{ports}]\ndisks: [{}]\n",
            disks.join(", ")
        );
        match Guest::parse(&text) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    let ports = "{bus: 1, slot: '00:02.0'}, {bus: 9, slot: '00:02.1'}";
    assert_eq!(
        placed(
            ports,
            &["01:00.0", "09:00.0", "09:00.1", "00:05.0", "00:05.7"]
        ),
        ""
    );
    for (ports, place, wanted) in [
        (ports, "02:00.0", "disks[0].slot: no root port has bus 0x2"),
        (
            ports,
            "01:01.0",
            "disks[0].slot: 01:01.0: the bus behind a root port has slot 0 alone",
        ),
        (
            ports,
            "00:00.1",
            "disks[0].slot: slot 0 of bus 0 is the host bridge's",
        ),
        (
            ports,
            "00:02.0",
            "disks[0].slot: 00:02.0 is used by two devices: see root-ports[0].slot",
        ),
        (
            ports,
            "00:07.1",
            "disks[0].slot: 00:07.1: a guest looks for it only where function 0",
        ),
        (
            "{bus: 1, slot: '00:02.1'}",
            "01:00.0",
            "root-ports[0].slot: 00:02.1: a guest looks",
        ),
        (
            "{bus: 0, slot: 2}",
            "00:03.0",
            "root-ports[0].bus: bus 0 is there twice",
        ),
        (
            "{bus: 1, slot: 2}, {bus: 2, slot: '01:00.0'}",
            "02:00.0",
            "root-ports[1].slot: 01:00.0 is not on bus 0",
        ),
    ] {
        let problems = placed(ports, &[place]);
        assert!(problems.contains(wanted), "{place}: {problems}");
    }
}

#[test]
fn an_address_that_no_interface_can_have_is_refused() {
    for text in ["01:00:00:00:00:00", "00:00:00:00:00:00"] {
        assert!(
            matches!(text.parse::<Mac>(), Err(MacError::NotUnicast(_))),
            "{text}"
        );
    }
    for text in [
        "",
        "52:54:00:12:34",
        "52:54:00:12:34:56:78",
        "52:54:00:12:34:5",
        "52:54:00:12:34:+5",
        "5254.0012.3456",
    ] {
        assert!(
            matches!(text.parse::<Mac>(), Err(MacError::Syntax(_))),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_or_read_never_a_panic(text in "\\PC*") {
        let _ = Guest::parse(&text);
    }

    #[test]
    fn an_address_reads_back_as_written(mut octets: [u8; 6]) {
        octets[0] = octets[0] & 0xfe | 2;
        prop_assert_eq!(Mac(octets).to_string().parse(), Ok(Mac(octets)));
    }
}

#[test]
fn a_processor_must_have_a_known_model_known_features_and_room() {
    let problems = |more: &str| {
        let text = format!(
            "name: x\nuuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1\nmemory: {{size: 67108864}}\nboot: {{kernel: /x}}\n\
             control: /control\nstate: /state\n{more}\n"
        );
        match Guest::parse(&text) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    for sound in [
        "vcpus: {count: 3, topology: {sockets: 2, cores: 2}}",
        "vcpus: {count: 1}\ncpu: {mode: custom, model: Haswell-noTSX-IBRS}",
        "vcpus: {count: 1}\ncpu: {features: [{name: sse4_1, policy: require}]}",
    ] {
        assert_eq!(problems(sound), "", "{sound}");
    }
    for (wrong, field) in [
        (
            "vcpus: {count: 5, topology: {sockets: 2, cores: 2}}",
            "room for 4",
        ),
        (
            "vcpus: {count: 1, topology: {sockets: 1, cores: 0}}",
            "at least 1",
        ),
        (
            "vcpus: {count: 1, topology: {sockets: 65536, cores: 65536}}",
            "at most 1024",
        ),
        (
            "vcpus: {count: 240, topology: {sockets: 80, cores: 3}}",
            "identifier 318",
        ),
        ("vcpus: {count: 1}\ncpu: {mode: custom}", "cpu.model"),
        ("vcpus: {count: 1}\ncpu: {model: Haswell}", "cpu.model"),
        (
            "vcpus: {count: 1}\ncpu: {mode: custom, model: Pentium}",
            "is not among x86-64-v1",
        ),
        (
            "vcpus: {count: 1}\ncpu: {features: [{name: warp, policy: force}]}",
            "cpu.features[0].name",
        ),
    ] {
        assert!(
            problems(wrong).contains(field),
            "{wrong}: {}",
            problems(wrong)
        );
    }
}

#[test]
fn a_panic_device_at_a_port_has_no_slot_and_a_watchdog_that_dumps_has_a_file() {
    let mut guest = smallest();
    guest.panic = Some(Panic {
        model: PanicModel::Isa,
        slot: Some(Place::slot_of_root(4)),
    });
    guest.watchdog = Some(Watchdog {
        action: WatchdogAction::Dump,
        slot: None,
    });
    assert_eq!(fields(&guest), ["panic.slot", "watchdog.action"]);
    guest.panic = None;
    guest.core = Some("/var/core".into());
    assert!(fields(&guest).is_empty());
}

#[test]
fn a_guest_boots_a_kernel_or_one_of_its_disks_and_not_both() {
    let boot = |boot: &str| {
        let text = WHOLE.replace(
            "boot: {kernel: /boot/vmlinuz, initrd: /boot/initrd.img, cmdline: console=ttyS0}",
            &format!("boot: {boot}"),
        );
        assert_ne!(text, WHOLE);
        Guest::parse(&text).map_or_else(|error| error.to_string(), |_| "sound".into())
    };
    assert_eq!(boot("{disk: vdb}"), "sound");
    assert_eq!(boot("{disk: vda, cmdline: quiet}"), "sound");
    for neither in ["{}", "{kernel: /k, disk: vda}"] {
        let found = boot(neither);
        assert!(
            found.contains("a kernel is wanted, or a disk to boot from, and not both"),
            "{found}"
        );
    }
    assert!(boot("{disk: vda, initrd: /i}").contains("boot.initrd: it belongs to a kernel"));
    assert!(boot("{disk: sda}").contains("boot.disk: no disk has the id \"sda\""));
}

#[test]
fn limits_that_no_disk_can_keep_are_refused_by_their_field() {
    let problems = |limits: &str| {
        let text = WHOLE.replace("cache: none", &format!("limits: {{{limits}}}"));
        match Guest::parse(&text) {
            Err(ConfigError::Invalid(problems)) => {
                problems.into_iter().map(|p| p.field).collect::<Vec<_>>()
            }
            other => other.map(|_| Vec::new()).expect("it parses"),
        }
    };
    for sound in [
        "total-bytes: {rate: 1}",
        "read-requests: {rate: 10, max: 10, length: 1}, request-size: 4096, group: a",
        "write-bytes: {rate: 10, max: 20, length: 60}",
        "write-bytes: {rate: 1000000000000000}",
    ] {
        assert!(problems(sound).is_empty(), "{sound}");
    }
    for (wrong, field) in [
        ("total-bytes: {rate: 0}", "total-bytes"),
        ("total-bytes: {rate: 1000000000000001}", "total-bytes"),
        ("read-bytes: {rate: 10, max: 9}", "read-bytes"),
        ("write-bytes: {rate: 10, max: 20, length: 0}", "write-bytes"),
        ("total-requests: {rate: 10, length: 2}", "total-requests"),
        (
            "read-requests: {rate: 1, max: 1000000000000, length: 1001}",
            "read-requests",
        ),
        (
            "write-requests: {rate: 1, max: 2, length: 18446744073709551615}",
            "write-requests",
        ),
        ("request-size: 0", "request-size"),
        ("group: ''", "group"),
    ] {
        assert_eq!(problems(wrong), [format!("disks[0].limits.{field}")]);
    }
}

#[test]
fn disks_of_one_group_state_one_limit() {
    let mut guest = Guest::parse(WHOLE).expect("sound");
    let limits = |rate| Limits {
        total_bytes: Some(Limit {
            rate,
            max: None,
            length: None,
        }),
        group: Some("slow".into()),
        ..Limits::default()
    };
    guest.disks[0].limits = limits(1000);
    guest.disks[1].limits = limits(1000);
    assert!(guest.check().is_empty());
    guest.disks[1].limits = limits(2000);
    assert_eq!(fields(&guest), ["disks[1].limits.group"]);
}

#[test]
fn a_disk_has_as_many_queues_as_interrupts_and_each_holds_a_power_of_two() {
    let mut guest = Guest::parse(WHOLE).expect("sound");
    for (queues, size, wrong) in [
        (Some(1), Some(2), 0),
        (Some(63), Some(1024), 0),
        (Some(0), None, 1),
        (Some(64), None, 1),
        (None, Some(0), 1),
        (None, Some(1), 1),
        (None, Some(100), 1),
        (Some(65535), Some(2048), 2),
    ] {
        (guest.disks[0].queues, guest.disks[0].queue_size) = (queues, size);
        assert_eq!(fields(&guest).len(), wrong, "{queues:?} {size:?}");
    }
}

#[test]
fn an_interfaces_queues_hold_a_power_of_two() {
    let mut guest = Guest::parse(WHOLE).expect("sound");
    for (rx, tx, wrong) in [
        (Some(256), Some(1024), 0),
        (Some(512), None, 0),
        (Some(128), None, 1),
        (None, Some(2048), 1),
        (Some(0), Some(300), 2),
    ] {
        let interface = &mut guest.interfaces[0];
        (interface.rx_queue_size, interface.tx_queue_size) = (rx, tx);
        assert_eq!(fields(&guest).len(), wrong, "{rx:?} {tx:?}");
    }
}

#[test]
fn an_interface_has_as_many_pairs_as_interrupts() {
    let mut guest = Guest::parse(WHOLE).expect("sound");
    for (queues, wrong) in [
        (None, 0),
        (Some(1), 0),
        (Some(31), 0),
        (Some(0), 1),
        (Some(32), 1),
    ] {
        guest.interfaces[0].queues = queues;
        assert_eq!(fields(&guest).len(), wrong, "{queues:?}");
    }
}

#[test]
fn a_clock_has_what_its_offset_wants_and_nothing_of_another() {
    let problems = |clock: &str| -> Vec<String> {
        let text = WHOLE.replace("{offset: localtime}", clock);
        match Guest::parse(&text) {
            Ok(_) => Vec::new(),
            Err(ConfigError::Invalid(problems)) => problems.into_iter().map(|p| p.field).collect(),
            Err(error) => panic!("{error}"),
        }
    };
    for clock in [
        "{offset: timezone, timezone: America/Argentina/Buenos_Aires}",
        "{offset: variable, basis: localtime, adjustment: -253402300799, keep: /x}",
        "{offset: absolute, start: 253402300799, kvmclock: false, tsc-khz: 2000000, pit: discard}",
    ] {
        assert_eq!(problems(clock), Vec::<String>::new(), "{clock}");
    }
    for (clock, field) in [
        ("{timezone: Europe/Berlin}", "clock.timezone"),
        ("{offset: timezone}", "clock.timezone"),
        (
            "{offset: timezone, timezone: ../../etc/passwd}",
            "clock.timezone",
        ),
        (
            "{offset: timezone, timezone: /etc/passwd}",
            "clock.timezone",
        ),
        ("{offset: absolute}", "clock.start"),
        ("{offset: absolute, start: 253402300800}", "clock.start"),
        ("{offset: utc, start: 1}", "clock.start"),
        ("{adjustment: 5}", "clock.adjustment"),
        (
            "{offset: variable, adjustment: -9223372036854775808}",
            "clock.adjustment",
        ),
        ("{offset: variable, keep: clock}", "clock.keep"),
        ("{tsc-khz: 0}", "clock.tsc-khz"),
    ] {
        assert_eq!(problems(clock), [field], "{clock}");
    }
}

#[test]
fn ports_have_the_numbers_that_they_state_and_the_others_what_is_free() {
    let numbers = |ports: &str| {
        let text = format!(
            "name: web\nuuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1\nmemory: {{size: 67108864}}\nvcpus: {{count: 1}}\n\
             boot: {{kernel: /boot/vmlinuz}}\ncontrol: /run/g/control\nstate: /run/g/state\nports: [{ports}]\n"
        );
        let guest = Guest::parse(&text).map_err(|error| error.to_string())?;
        Ok::<_, String>(port_numbers(&guest.ports))
    };
    let found = numbers(
        "{id: a}, {id: b, console: true}, {id: c, number: 1}, {id: d}, {id: e, console: true}",
    );
    assert_eq!(found, Ok(vec![2, 0, 1, 3, 4]));
    for (ports, wanted) in [
        (
            "{id: a, number: 0}",
            "ports[0].number: 1 to 29 are possible, and 0 for a console",
        ),
        ("{id: a, number: 30}", "ports[0].number: 1 to 29"),
        (
            "{id: a, number: 2}, {id: b, number: 2}",
            "ports[1].number: 2 is the number of two ports",
        ),
    ] {
        let problems = numbers(ports).unwrap_err();
        assert!(problems.contains(wanted), "{ports}: {problems}");
    }
}

#[test]
fn cells_have_all_of_the_memory_and_every_vcpu_once() {
    let problems = |memory: &str| -> Vec<String> {
        let whole = "memory: {size: 536870912, hugepages: true}";
        let text = WHOLE.replace(whole, &format!("memory: {{size: 536870912, {memory}}}"));
        match Guest::parse(&text) {
            Ok(_) => Vec::new(),
            Err(ConfigError::Invalid(problems)) => problems.into_iter().map(|p| p.field).collect(),
            Err(error) => panic!("{error}"),
        }
    };
    for memory in [
        "shared: true, host: {mode: interleave, nodes: [0, 3]}",
        "host: {mode: preferred, nodes: [0, 1]}",
        "cells: [{size: 268435456, vcpus: [1]}, {size: 268435456, vcpus: [0], host: {mode: strict, nodes: [1]}}]",
        "cells: [{size: 536870912, distances: [10, 255]}, {size: 0, vcpus: [0, 1], distances: [11, 10]}]",
    ] {
        assert_eq!(problems(memory), Vec::<String>::new(), "{memory}");
    }
    for (memory, field) in [
        ("cells: [{size: 536870912, vcpus: [0]}]", "memory.cells"),
        (
            "cells: [{size: 536870912, vcpus: [0, 1, 1]}]",
            "memory.cells",
        ),
        ("cells: [{size: 268435456, vcpus: [0, 1]}]", "memory.cells"),
        (
            "cells: [{size: 18446744073709551615, vcpus: [0, 1]}, {size: 2}]",
            "memory.cells",
        ),
        (
            "cells: [{size: 536866816, vcpus: [0, 1]}, {size: 4096}], hugepages: true",
            "memory.cells[0].size",
        ),
        (
            "cells: [{size: 536870912, vcpus: [0, 1, 7]}]",
            "memory.cells[0].vcpus",
        ),
        (
            "cells: [{size: 536870912, vcpus: [0, 1], distances: [11]}]",
            "memory.cells[0].distances",
        ),
        (
            "cells: [{size: 536870912, vcpus: [0, 1], distances: [10, 20]}]",
            "memory.cells[0].distances",
        ),
        ("host: {mode: strict, nodes: []}", "memory.host.nodes"),
        ("host: {mode: strict, nodes: [1024]}", "memory.host.nodes"),
    ] {
        let found = problems(memory);
        assert_eq!(found.first().map(String::as_str), Some(field), "{memory}");
    }
}

#[test]
fn pins_name_what_the_guest_has_once_and_processors_that_can_be_named() {
    let mut guest = smallest();
    guest.vcpus.count = 2;
    guest.disks = serde_yaml::from_str("[{id: vda, path: /x, format: raw}]").unwrap();
    let refused = |pins: Pins| {
        let mut guest = guest.clone();
        guest.pins = pins;
        let fields = guest.check().into_iter().map(|problem| problem.field);
        fields.collect::<Vec<_>>()
    };
    let vcpu = |vcpu, cpus: &[u32]| VcpuPin {
        vcpu,
        cpus: cpus.to_vec(),
    };
    let disk = |disk: &str, cpus: &[u32]| DiskPin {
        disk: disk.into(),
        cpus: cpus.to_vec(),
    };
    let sound = Pins {
        emulator: vec![0, 1023],
        vcpus: vec![vcpu(1, &[3])],
        disks: vec![disk("vda", &[1])],
    };
    assert_eq!(refused(sound), Vec::<String>::new());
    let odd = Pins {
        emulator: vec![1024],
        vcpus: vec![vcpu(0, &[]), vcpu(0, &[1]), vcpu(2, &[1])],
        disks: vec![disk("vda", &[5000]), disk("vda", &[1]), disk("none", &[1])],
    };
    assert_eq!(
        refused(odd),
        [
            "pins.emulator",
            "pins.vcpus[0].cpus",
            "pins.disks[0].cpus",
            "pins.vcpus[1].vcpu",
            "pins.vcpus[2].vcpu",
            "pins.disks[1].disk",
            "pins.disks[2].disk",
        ]
    );
}
