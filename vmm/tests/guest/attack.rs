//! A guest that attacks its machine in every way that instructions allow, under the real monitor with every device.
//!
//! Each boot begins with an honest driver, which must be served whatever the last boot did, then attacks, and resets. The guest may crash, hang, and be stopped by its
//! monitor with an error; then the host goes on with it. The monitor may not panic, hang, be ended by its sandbox, or grow. Five seconds, or `VIREO_ATTACK_SECONDS`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::{Monitor, kvm, raw_disk, tap};
use tempfile::TempDir;

/// Longest that the monitor may take to answer; a shared machine may be busy with something else.
const PROMPT: Duration = Duration::from_secs(10);
/// A guest that has not booted again after this long hangs, and is reset.
const HANGS: Duration = Duration::from_secs(4);
/// Most that the monitor may have beside the guest's 32 MiB, in KiB.
const MOST_KIB: u64 = 16 << 10;
/// Most of the monitor's log.
const MOST_LOG: u64 = 1 << 20;

/// What has been seen.
#[derive(Debug, Default)]
struct Seen {
    /// Boots in which an honest driver was served.
    boots: usize,
    /// Attacks that the guest lived through.
    survived: usize,
    /// Hangs that the host ended by a reset.
    hangs: u32,
    /// Monitors that ended with an error, as they may where the host's KVM cannot go on.
    stops: Vec<String>,
}

impl Seen {
    /// Adds what the last monitor's guest said.
    fn count(&mut self, monitor: &Monitor) {
        let (honest, survived) = boots(monitor);
        self.boots += honest;
        self.survived += survived;
    }
}

/// One question, on a connection of its own.
fn ask(monitor: &Monitor, what: &str) -> Option<String> {
    let mut stream = UnixStream::connect(monitor.dir.path().join("control")).ok()?;
    stream.set_read_timeout(Some(PROMPT)).unwrap();
    writeln!(stream, "{{\"id\":1,\"do\":\"{what}\"}}").ok()?;
    let mut answer = String::new();
    let began = Instant::now();
    let read = BufReader::new(stream).read_line(&mut answer);
    assert!(
        began.elapsed() < PROMPT,
        "the monitor does not answer: {read:?} {}",
        monitor.read("errors")
    );
    read.is_ok_and(|n| n > 0).then_some(answer)
}

/// KiB that the monitor has, with the guest's memory.
fn resident(monitor: &Monitor) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", monitor.child.id()));
    let status = status.unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// How many boots were honest, and how many attacks the guest lived through.
fn boots(monitor: &Monitor) -> (usize, usize) {
    let bytes = fs::read(monitor.dir.path().join("log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("FAIL "), "{text}");
    let count = |words: &str| text.matches(words).count();
    (count("ok honest"), count("ok attack"))
}

/// Why it ended, which must not be a bug.
fn end(monitor: &mut Monitor) -> String {
    let status = monitor.child.wait().unwrap();
    let ran = monitor.wait();
    let context = format!("{status:?} {} {}", ran.last_words, ran.errors);
    assert!(matches!(status.code(), Some(0 | 1 | 3)), "{context}");
    assert!(ran.last_words.contains("\"ended\""), "{context}");
    for bug in ["a bug", "panicked", "on the sandbox's list"] {
        assert!(
            !ran.last_words.contains(bug) && !ran.errors.contains(bug),
            "{context}"
        );
    }
    ran.last_words
}

fn attack(more: &str, prefix: &[&str], seconds: u64) -> Seen {
    let start = || Monitor::start("test=honest,attack end=reboot", more, prefix);
    let mut seen = Seen::default();
    let mut monitor = start();
    let over = Instant::now() + Duration::from_secs(seconds);
    let (mut last, mut since) = (0, Instant::now());
    // However busy the machine is: an honest driver must have been served after an attack.
    while Instant::now() < over || seen.boots + last < 3 {
        std::thread::sleep(Duration::from_millis(50));
        if monitor.child.try_wait().unwrap().is_some() {
            seen.stops.push(end(&mut monitor));
            seen.count(&monitor);
            monitor = start();
            (last, since) = (0, Instant::now());
            assert!(seen.stops.len() < 1000, "{seen:?}");
            continue;
        }
        ask(&monitor, "status");
        assert!(
            resident(&monitor) < (32 << 10) + MOST_KIB,
            "{} KiB",
            resident(&monitor)
        );
        let log = fs::metadata(monitor.dir.path().join("errors"))
            .unwrap()
            .len();
        assert!(log < MOST_LOG, "{log} bytes in the log");
        let (now, _) = boots(&monitor);
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > HANGS {
            seen.hangs += 1;
            ask(&monitor, "reset");
            since = Instant::now();
        }
    }
    seen.count(&monitor);
    if ask(&monitor, "quit").is_some() {
        end(&mut monitor);
    }
    seen
}

#[test]
fn whatever_a_guest_does_to_its_machine_the_monitor_serves_on() {
    if !kvm() {
        return;
    }
    let stated = std::env::var("VIREO_ATTACK_SECONDS");
    let seconds = stated.map_or(5, |seconds| seconds.parse().expect("a number of seconds"));
    let dir = TempDir::new().unwrap();
    let raw = raw_disk(&dir);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut more = format!(
        "disks: [{{id: vda, path: {}, format: raw, discard: unmap}}]\nrng: {{}}\nballoon: {{}}\nwatchdog: {{}}\npanic: {{}}\n\
         ports: [{{id: agent, socket: {}}}, {{id: hvc, console: true, pty: true}}]\nvsock: {{cid: 3, socket: {}}}\n\
         on-poweroff: restart\non-crash: restart",
        raw.display(),
        path("agent"),
        path("vsock"),
    );
    let namespace = tap::Namespace::new();
    if namespace.is_some() {
        more += "\ninterfaces: [{id: net0, tap: vtest0, mac: '52:54:00:12:34:56'}]";
    }
    let prefix = namespace.as_ref().map(tap::Namespace::prefix);
    let seen = attack(&more, &prefix.unwrap_or_default(), seconds);
    eprintln!(
        "{} boots, {} attacks lived through, {} hangs, {} stops by error",
        seen.boots,
        seen.survived,
        seen.hangs,
        seen.stops.len()
    );
    assert!(seen.survived > 0, "no attack came to its end: {seen:?}");
    let mut stops: Vec<_> = seen
        .stops
        .iter()
        .filter_map(|stop| stop.split_once("\"message\""))
        .collect();
    stops.dedup_by_key(|stop| stop.1.get(..40));
    stops.iter().for_each(|stop| eprintln!("    {}", stop.1));
}
