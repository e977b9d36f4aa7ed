//! Signals in masses, and guests that never come out by themselves.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::guest::{Guest, Program, kvm};

/// Longest that the owner may take for what needs the guest to stop; it takes microseconds, on a machine that is busy with something else too.
const PROMPT: Duration = Duration::from_secs(5);

#[test]
fn signals_that_mean_nothing_to_the_monitor_harm_nobody() {
    let Some(()) = kvm() else { return };
    let more = "vcpus: {count: 2}\nrng: {}\nports: [{id: hvc, console: true, pty: true}]";
    let mut guest = Guest::start(&Program::new().count(), more);
    guest.until("counting", |g| g.log().len() > 10);
    let mut client = guest.client();
    // The last but one brings vcpus out of the kernel, and the last is what a listener that hung up causes.
    let signals = [
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGXFSZ,
        libc::SIGWINCH,
        libc::SIGURG,
        libc::SIGCONT,
        libc::SIGRTMIN(),
        libc::SIGPIPE,
    ];
    for _ in 0..20 {
        for signal in signals {
            (0..20).for_each(|_| guest.signal(signal));
        }
        assert_eq!(client.ask("status")["state"], "running");
    }
    let said = guest.log().len();
    guest.until("counting on", |g| g.log().len() > said);
    client.ask("reset");
    client.ask("quit");
    assert!(guest.wait().success(), "{}", guest.errors());
}

#[test]
fn a_vcpus_thread_that_is_signalled_goes_on() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(&Program::new().count(), "");
    guest.until("counting", |g| g.log().len() > 10);
    let tasks = fs::read_dir(format!("/proc/{}/task", guest.pid())).unwrap();
    let tasks: Vec<i32> = tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect();
    let pid = i32::try_from(guest.pid()).unwrap();
    for _ in 0..200 {
        for task in &tasks {
            // SAFETY: the call takes three numbers, and the process is our child.
            unsafe { libc::syscall(libc::SYS_tgkill, pid, *task, libc::SIGRTMIN()) };
        }
    }
    let said = guest.log().len();
    guest.until("counting on", |g| g.log().len() > said);
    guest.terminate();
    assert!(guest.wait().success());
}

#[test]
fn told_to_end_a_thousand_times_it_ends_once_and_well() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(&Program::new().count(), "");
    guest.until("counting", |g| g.log().len() > 10);
    drop(guest.client());
    for _ in 0..333 {
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            guest.signal(signal);
        }
    }
    assert!(guest.wait().success());
    let last = guest.last_words();
    assert_eq!(
        (&last["state"], &last["reason"]),
        (&json!("ended"), &json!("quit"))
    );
    let state = fs::read_to_string(guest.path("state")).unwrap();
    assert_eq!(state.matches("\"ended\"").count(), 1, "{state}");
}

#[test]
fn a_guest_that_runs_on_the_spot_is_stopped_reset_and_ended_at_once() {
    let Some(()) = kvm() else { return };
    let program = Program::new().say("up\n").spin();
    let mut guest = Guest::start(&program, "");
    guest.hear("up\n");
    let mut client = guest.client();
    for request in [
        "pause",
        "resume",
        "power-button",
        "reset",
        "pause",
        "resume",
    ]
    .repeat(10)
    {
        let began = Instant::now();
        client.ask(request);
        assert!(began.elapsed() < PROMPT, "{request}");
    }
    let began = Instant::now();
    client.ask("quit");
    assert!(guest.wait().success());
    assert!(began.elapsed() < PROMPT);

    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let mut guest = Guest::start(&program, "");
        guest.hear("up\n");
        drop(guest.client());
        let began = Instant::now();
        guest.signal(signal);
        assert_eq!(guest.wait().success(), signal == libc::SIGTERM);
        assert!(began.elapsed() < PROMPT);
    }
}

#[test]
fn a_guest_that_resets_itself_without_end_is_still_heard_and_ended() {
    let Some(()) = kvm() else { return };
    let mut guest = Guest::start(&Program::new().out8(0x64, 0xfe).rest(), "");
    let mut client = guest.client();
    let mut resets = || client.ask("stats")["resets"].as_u64().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while resets() < 50 {
        assert!(Instant::now() < end);
    }
    guest.terminate();
    assert!(guest.wait().success());
    assert!(fs::metadata(guest.path("state")).unwrap().len() < 128 << 10);
}
