//! The monitor as a whole: the program itself, with guests of a few instructions, on this machine's KVM.
//!
//! Skipped with a reason where there is no KVM.

mod abuse;
mod cycles;
mod disk;
mod guest;
mod storms;

use std::os::unix::net::UnixStream;
use std::time::Duration;

use guest::{Guest, Program, kvm};
use serde_json::json;

#[test]
fn a_guest_speaks_and_powers_off() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(&Program::new().say("hello\n").power_off(), "");
    let status = guest.wait();
    assert!(status.success(), "{status:?} {}", guest.errors());
    assert_eq!(guest.log(), "hello\n");
    let last = guest.last_words();
    assert_eq!(
        (&last["state"], &last["reason"]),
        (&json!("ended"), &json!("power-off"))
    );
}

#[test]
fn a_reset_keeps_the_process_the_console_and_the_clients() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(&Program::new().say("up\n").rest(), "");
    guest.hear("up\n");
    let mut client = guest.client();
    let before = client.ask("status");
    client.ask("reset");
    guest.hear("up\nup\n");
    let after = client.ask("status");
    assert_eq!(
        (&after["pid"], &after["console"]),
        (&before["pid"], &before["console"])
    );
    assert_eq!(client.ask("stats")["resets"], 1);
    client.ask("quit");
    assert!(guest.wait().success());
}

#[test]
fn a_guest_that_asks_for_a_reset_gets_what_was_configured() {
    let Some(()) = kvm() else { return };
    let program = Program::new().say("up\n").reset();
    let mut guest = Guest::start(&program, "on-reboot: destroy");
    assert!(guest.wait().success());
    assert_eq!(guest.last_words()["reason"], "reset");
    assert_eq!(guest.log(), "up\n");

    let mut guest = Guest::start(&program, "on-reboot: restart");
    guest.hear("up\nup\nup\n");
    guest.terminate();
    assert!(guest.wait().success());
}

#[test]
fn the_keyboard_controller_resets_too() {
    let Some(()) = kvm() else { return };
    let program = Program::new().out8(0x64, 0xfe).rest();
    let mut guest = Guest::start(&program, "on-reboot: destroy");
    assert!(guest.wait().success());
    assert_eq!(guest.last_words()["reason"], "reset");
}

#[test]
fn a_guest_does_not_run_on_behind_its_own_end() {
    let Some(()) = kvm() else { return };
    let up = || Program::new().say("up\n");
    for (way, ended) in [
        ("the reset register", up().out8(0x60c, 1)),
        ("the keyboard controller", up().out8(0x64, 0xfe)),
        ("soft off", up().out16(0x604, 1 << 13 | 5 << 10)),
    ] {
        let mut guest = Guest::start(
            &ended.say("and on, and on, and on, and on, and on").count(),
            "on-reboot: destroy",
        );
        let status = guest.wait();
        assert!(status.success(), "{way}: {status:?} {}", guest.errors());
        assert_eq!(guest.log(), "up\n", "{way}");
    }
}

#[test]
fn a_guest_that_ended_by_itself_runs_again_when_it_is_reset() {
    let Some(()) = kvm() else { return };
    let program = Program::new().say("up\n").reset();
    let mut guest = Guest::start(&program, "on-reboot: preserve");
    guest.hear("up\n");
    let mut client = guest.client();
    client.ask("reset");
    guest.hear("up\nup\n");
    client.ask("quit");
    assert!(guest.wait().success());
}

#[test]
fn a_crash_is_told_apart_from_an_end() {
    let Some(()) = kvm() else { return };
    let program = Program::new().say("x").crash();
    let mut guest = Guest::start(&program, "");
    assert_eq!(guest.wait().code(), Some(3));
    assert_eq!(guest.last_words()["reason"], "crash");
    let message = guest.last_words()["message"].to_string();
    if message.contains("this host's processor does not keep") {
        eprintln!("skipped in part: the registers of a triple fault are lost on this processor");
        return;
    }
    // An undefined instruction after one `out`, with the first four GiB mapped and no interrupt table.
    for wanted in [
        "triple fault on vcpu 0 in 64-bit mode, rip 0x100007 (0f 0b 00",
        "rsp 0x8ff0, cr0 0x80000011, cr2 0x0, cr3 0x9000, cr4 0x20, efer 0x500",
    ] {
        assert!(message.contains(wanted), "{message}");
    }
    assert!(message.contains("this is early boot"), "{message}");
}

#[test]
fn a_panic_that_the_guest_tells_of_is_a_crash() {
    let Some(()) = kvm() else { return };
    let program = Program::new().say("x").out8(0x505, 1).rest();
    let mut guest = Guest::start(&program, "panic: {}");
    assert_eq!(guest.wait().code(), Some(3));
    let last = guest.last_words();
    assert_eq!(last["reason"], "crash");
    let message = "the guest crashed: its kernel told of a panic";
    assert_eq!(last["message"], message);

    let mut guest = Guest::start(&program, "panic: {}\non-crash: preserve");
    guest.until("preserved", |g| g.last_words()["state"] == "preserved");
    let mut client = guest.client();
    client.ask("quit");
    assert!(guest.wait().success());
}

#[test]
fn ports_and_sockets_are_served_from_inside_the_sandbox() {
    use std::io::Read;
    let Some(()) = kvm() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let more = format!(
        "ports: [{{id: agent, name: org.example, socket: {}}}, {{id: hvc, console: true, pty: true}}]\n\
         vsock: {{cid: 3, socket: {}}}\nwatchdog: {{}}",
        path("agent").display(),
        path("vsock").display()
    );
    let mut guest = Guest::start(&Program::new().say("up").rest(), &more);
    guest.hear("up");
    let mut client = guest.client();
    let mut there = |wanted: bool| {
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while client.ask("status")["ports"][0]["host"] != wanted {
            assert!(std::time::Instant::now() < end, "{wanted}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let peer = UnixStream::connect(path("agent")).unwrap();
    there(true);
    drop(peer);
    there(false);
    let mut nobody = UnixStream::connect(path("vsock")).unwrap();
    assert_eq!(nobody.read(&mut [0]).unwrap(), 0, "no driver is there");
    let status = client.ask("status");
    assert!(status["ports"][1]["pty"].is_string(), "{status}");
    client.ask("quit");
    assert!(guest.wait().success());
}

#[test]
fn a_crash_leaves_a_core_dump_before_what_was_configured_follows() {
    let Some(()) = kvm() else { return };
    let dir = tempfile::tempdir().unwrap();
    let core = dir.path().join("core");
    let more = format!(
        "core: {}\nvcpus: {{count: 2}}\non-crash: preserve",
        core.display()
    );
    let mut guest = Guest::start(&Program::new().say("x").crash(), &more);
    guest.until("preserved", |g| g.last_words()["state"] == "preserved");
    let dump = std::fs::read(&core).unwrap();
    assert!(dump.starts_with(b"\x7fELF\x02\x01\x01"));
    // The guest's memory is the last 16 MiB; its code begins with the `out` and ends with the instruction that nobody knows.
    let code = dump.len() - (16 << 20) + (1 << 20);
    assert_eq!(dump[code + 7..code + 9], [0x0f, 0x0b]);
    let mut client = guest.client();
    client.request(json!({"do": "events"}));
    let kinds: Vec<_> = (0..5).map(|_| client.event()["event"].clone()).collect();
    assert_eq!(
        kinds,
        ["contained", "started", "crash", "core-dump", "preserved"]
    );
    client.ask("quit");
    assert!(guest.wait().success());
}

#[test]
fn sixty_four_vcpus_in_sockets_dies_cores_and_threads_start_and_end() {
    let Some(()) = kvm() else { return };
    // Identifiers have gaps: three cores take the room of four.
    let more = "vcpus: {count: 64, topology: {sockets: 4, dies: 2, cores: 4, threads: 2}}";
    let gaps = "vcpus: {count: 60, topology: {sockets: 5, dies: 2, cores: 3, threads: 2}}";
    for more in [more, gaps] {
        let mut guest = Guest::start(&Program::new().say("up\n").power_off(), more);
        let status = guest.wait();
        assert!(status.success(), "{status:?} {}", guest.errors());
        assert_eq!(guest.log(), "up\n");
    }
}

#[test]
fn a_preserved_guest_can_only_be_reset_or_ended() {
    let Some(()) = kvm() else { return };
    let program = Program::new().say("up\n").power_off();
    let mut guest = Guest::start(&program, "on-poweroff: preserve");
    let mut client = guest.client();
    guest.until("preserved", |g| g.last_words()["state"] == "preserved");
    assert_eq!(client.ask("status")["reason"], "power-off");
    for request in ["pause", "resume", "power-button"] {
        let refusal = client.refused(json!({"do": request}));
        assert_eq!(refusal["code"], "refused", "{request}");
    }
    client.ask("reset");
    guest.hear("up\nup\n");
    client.ask("quit");
    assert!(guest.wait().success());
}

#[test]
fn a_paused_guest_stands_still() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(&Program::new().count(), "vcpus: {count: 2}");
    let mut client = guest.client();
    guest.until("counting", |g| g.log().len() > 10);
    client.ask("pause");
    client.ask("pause");
    // What was said before the pause is gathered for a few milliseconds on its way to the log.
    std::thread::sleep(Duration::from_millis(250));
    let before = guest.log().len();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(guest.log().len(), before);
    client.ask("resume");
    guest.until("counting on", |g| g.log().len() > before);
    client.ask("quit");
    assert!(guest.wait().success());
}

#[test]
fn the_power_button_interrupts_a_guest_that_listens() {
    let Some(()) = kvm() else { return };
    let program = Program::new()
        .enable_power_button()
        .say("ready\n")
        .power_off_on_button();
    let mut guest = Guest::start(&program, "");
    guest.hear("ready\n");
    guest.client().ask("power-button");
    assert!(guest.wait().success());
    assert_eq!(guest.last_words()["reason"], "power-off");
}

#[test]
fn events_come_to_all_who_listen_and_late_ones_miss_nothing() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(&Program::new().say("up\n").rest(), "");
    let mut first = guest.client();
    first.ask("events");
    let contained = first.event();
    assert_eq!(contained["event"], "contained");
    assert!(
        contained["message"]
            .as_str()
            .unwrap()
            .contains("no capabilities")
    );
    assert_eq!(first.event()["event"], "started");
    let mut other = guest.client();
    other.ask("pause");
    other.ask("resume");
    assert_eq!(first.event()["event"], "paused");
    let resumed = first.event();
    assert_eq!(
        (&resumed["event"], &resumed["seq"]),
        (&json!("resumed"), &json!(4))
    );
    let mut late = guest.client();
    late.request(json!({"do": "events", "after": 3}));
    assert_eq!(late.event(), resumed);
    other.ask("quit");
    assert_eq!(first.event()["event"], "quit");
    assert!(guest.wait().success());
}

#[test]
fn keystrokes_reach_the_guest_through_the_terminal() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(&Program::new().say("ready\n").echo(), "");
    guest.hear("ready\n");
    let link = guest.path("console");
    std::io::Write::write_all(
        &mut std::fs::OpenOptions::new().write(true).open(link).unwrap(),
        b"hello",
    )
    .unwrap();
    guest.hear("ready\nhello");
    guest.terminate();
    assert!(guest.wait().success());
    assert_eq!(guest.last_words()["reason"], "quit");
}

#[test]
fn string_instructions_come_out_whole() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(
        &Program::new().say_at_once("a whole line\n").power_off(),
        "",
    );
    assert!(guest.wait().success());
    assert_eq!(guest.log(), "a whole line\n");
}

#[test]
fn a_guest_with_the_pvh_note_begins_in_32_bit_mode() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(&Program::pvh().say("pvh\n").power_off(), "");
    let status = guest.wait();
    assert!(status.success(), "{status:?} {}", guest.errors());
    assert_eq!(guest.log(), "pvh\n");
}

#[test]
fn what_cannot_start_says_why_and_leaves_it_in_the_state_file() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start_with_kernel(b"#!/bin/sh\n", "");
    assert_eq!(guest.wait().code(), Some(1));
    let wanted = "is neither a bzImage nor a 64-bit ELF executable";
    assert!(guest.errors().contains(wanted), "{}", guest.errors());
    let last = guest.last_words();
    assert_eq!(
        (&last["state"], &last["reason"]),
        (&json!("ended"), &json!("error"))
    );
    assert!(last["message"].as_str().unwrap().contains(wanted));
}

#[test]
fn devices_of_the_configuration_are_on_the_bus() {
    let Some(()) = kvm() else { return };
    let ports = "root-ports: [{bus: 1, slot: '00:02.0'}, {bus: 4, slot: '00:02.1'}]";
    for (slot, at, found) in [
        ("5", (0, 5, 0), true),
        ("6", (0, 5, 0), false),
        ("'04:00.0'", (4, 0, 0), true),
        ("'04:00.0'", (1, 0, 0), false),
        ("'00:1f.0'", (0, 31, 0), true),
    ] {
        let (bus, slot_of, function) = at;
        let program = Program::new().power_off_if_virtio(bus, slot_of, function);
        let mut guest = Guest::start(&program, &format!("{ports}\nrng: {{slot: {slot}}}"));
        let wanted = if found { 0 } else { 3 };
        let code = guest.wait().code();
        assert_eq!(code, Some(wanted), "{slot} {at:?} {}", guest.errors());
    }
}

/// The lines of `/proc/PID/task/*/status` that begin with a word, one a thread.
fn of_every_thread(pid: u32, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(word));
        found.push(line.unwrap_or("absent").trim().to_owned());
    }
    found
}

#[test]
fn every_thread_of_the_monitor_is_contained() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(
        &Program::new().say("up\n").rest(),
        "vcpus: {count: 2}\nrng: {}",
    );
    guest.hear("up\n");
    let status = guest.client().ask("status");
    let pid = u32::try_from(status["pid"].as_u64().unwrap()).unwrap();
    for (word, wanted) in [
        ("CapEff:", "0000000000000000"),
        ("CapPrm:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
    ] {
        let found = of_every_thread(pid, word);
        // The owner, two vcpus, one worker for the entropy device; newer kernels add a thread of their own.
        assert!(found.len() >= 4, "{found:?}");
        assert!(
            found.iter().all(|value| value == wanted),
            "{word} {found:?}"
        );
    }
    let held = status["sandbox"]["held"].to_string();
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped in part: only root has a user to give each guest");
        return;
    }
    assert!(held.contains("\"user\""), "{status}");
    for user in of_every_thread(pid, "Uid:") {
        assert!(
            user.split_whitespace()
                .all(|id| id.parse::<u32>().unwrap() >= 0x7000_0000),
            "{user}"
        );
    }
    for namespace in ["mnt", "net", "ipc"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let link = task.unwrap().path().join("ns").join(namespace);
            assert_ne!(std::fs::read_link(link).unwrap(), own, "{namespace}");
        }
    }
    let root = std::fs::read_dir(format!("/proc/{pid}/root")).unwrap();
    assert_eq!(root.count(), 0);
    assert_eq!(
        std::fs::read_to_string(format!("/proc/{pid}/mounts"))
            .unwrap()
            .lines()
            .count(),
        1
    );
}

#[test]
fn the_first_process_of_a_namespace_is_found_by_its_number_outside() {
    let Some(()) = kvm() else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root makes namespaces of processes");
        return;
    }
    let prefix = ["unshare", "--pid", "--fork", "--kill-child"];
    let mut guest = Guest::start_under(
        &prefix,
        &Program::new().say("up\n").rest(),
        "sandbox: strict",
    );
    guest.hear("up\n");
    let mut client = guest.client();
    let status = client.ask("status");
    assert_eq!(status["sandbox"]["missing"], json!([]));
    let pid = status["pid"].as_u64().unwrap();
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!((command.trim(), pid == 1), ("vireo-vmm", false));
    // The one signal that a first process may not miss.
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(guest.wait().success());
    assert_eq!(guest.last_words()["reason"], "quit");
}

#[test]
fn a_strict_configuration_starts_only_where_every_layer_is_there() {
    let Some(()) = kvm() else { return };
    // Nobody has made a namespace of processes for this one.
    let mut guest = Guest::start(&Program::new().power_off(), "sandbox: strict");
    assert_eq!(guest.wait().code(), Some(1));
    let message = guest.last_words()["message"].to_string();
    assert!(
        message.contains("own processes (it was not started as the first process"),
        "{message}"
    );
}

#[test]
fn its_help_tells_the_keys_of_its_configuration_and_its_schema_is_json() {
    let print = |word: &str| {
        let program = env!("CARGO_BIN_EXE_vireo-vmm");
        let output = std::process::Command::new(program).arg(word).output();
        let output = output.expect("the monitor's program is there");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    };
    let help = print("--help");
    assert!(help.contains("  memory*: "), "{help}");
    assert!(help.contains("{\"do\":\"pause\""), "{help}");
    assert!(!print("-h").contains("memory*"));
    let schema: serde_json::Value = serde_json::from_str(&print("--schema")).expect("it is JSON");
    assert!(schema.pointer("/properties/memory").is_some(), "{schema}");
}
