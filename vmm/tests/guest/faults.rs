//! A host that fails under a guest: disks that are full, that give errors, that are destroyed; a tap that is deleted. The guest is told what a real device would tell it, and
//! the monitor goes on.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Monitor, PATIENCE, disk, kvm, raw_disk, run, tap};
use tempfile::TempDir;

/// Whether the program is there and can do this; says so if not.
fn can(program: &str, words: &[&str]) -> bool {
    let done = Command::new(program).args(words).output();
    let well = done.as_ref().is_ok_and(|done| done.status.success());
    if !well {
        eprintln!("skipped: {program} {words:?}: {done:?}");
    }
    well
}

/// Waits until the guest has said this.
fn hear(monitor: &mut Monitor, words: &str) {
    let end = Instant::now() + PATIENCE;
    while !monitor.read("log").contains(words) {
        let ended = monitor.child.try_wait().unwrap();
        let said = (monitor.read("log"), monitor.read("errors"));
        assert!(ended.is_none() && Instant::now() < end, "{words}: {said:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asks the monitor for something, and gives its answer.
fn ask(monitor: &Monitor, what: &str) -> String {
    let mut stream = UnixStream::connect(monitor.dir.path().join("control")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    writeln!(stream, "{{\"id\":1,\"do\":\"{what}\"}}").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

/// A file system of one megabyte, which only those see who enter it.
struct SmallFilesystem {
    place: TempDir,
    keeper: Child,
}

impl SmallFilesystem {
    /// Makes it, with what the command makes in it.
    fn new(make: &str) -> Option<Self> {
        let mount = "mount -t tmpfs -o size=1m none";
        let place = TempDir::new().unwrap();
        let path = place.path().display().to_string();
        if !can(
            "unshare",
            &["--mount", "sh", "-c", &format!("{mount} {path}")],
        ) {
            return None;
        }
        let script = format!(
            "{mount} \"$0\" && cd \"$0\" && {make} >/dev/null && echo made && cd / && exec sleep 600"
        );
        let mut keeper = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script, &path])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let out = keeper.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        let made = Self { place, keeper };
        if said != "made\n" {
            eprintln!("skipped: {make} failed");
            return None;
        }
        Some(made)
    }

    /// Words before a command that is to see it.
    fn prefix(&self) -> Vec<&'static str> {
        // Leaked: a few bytes in a test.
        let target = self.keeper.id().to_string().leak();
        vec!["nsenter", "--mount", "--target", target]
    }

    /// Runs a command that sees it.
    fn run(&self, words: &[&str]) -> std::process::Output {
        let prefix = self.prefix();
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]).args(words).output().unwrap()
    }

    /// Gives it so much room, as `mount` is told.
    fn resize(&self, size: &str) {
        let path = self.place.path().display().to_string();
        let done = self.run(&["mount", "-o", &format!("remount,size={size}"), &path]);
        assert!(done.status.success(), "{done:?}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }
}

impl Drop for SmallFilesystem {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

#[test]
fn a_full_host_disk_is_an_error_to_the_guest_and_loses_nothing_that_was_taken() {
    if !kvm() {
        return;
    }
    let Some(small) = SmallFilesystem::new("truncate -s 8M disk") else {
        return;
    };
    for cache in ["writeback", "writethrough"] {
        let more = format!(", cache: {cache}, error-policy: report");
        let more = disk(&small.path("disk"), "raw", &more);
        let ran = Monitor::start("test=fill,fill", &more, &small.prefix()).wait();
        ran.assert_ok(&["fill", "fill"]);
        assert!(
            ran.errors.contains("No space left on device"),
            "{}",
            ran.errors
        );
    }
}

#[test]
fn a_full_host_disk_under_a_qcow2_image_leaves_it_whole() {
    if !kvm() {
        return;
    }
    let Some(small) = SmallFilesystem::new("qemu-img create -f qcow2 disk 8M") else {
        return;
    };
    let more = disk(&small.path("disk"), "qcow2", ", error-policy: report");
    let ran = Monitor::start("test=fill", &more, &small.prefix()).wait();
    ran.assert_ok(&["fill"]);
    assert!(
        ran.errors.contains("No space left on device"),
        "{}",
        ran.errors
    );
    assert_whole(&small);
}

/// The image is whole, but that space that nobody uses may be left over (3): no cluster is used twice, and none that is used is free.
fn assert_whole(small: &SmallFilesystem) {
    let path = small.path("disk").display().to_string();
    let checked = small.run(&["qemu-img", "check", "-f", "qcow2", &path]);
    assert!(matches!(checked.status.code(), Some(0 | 3)), "{checked:?}");
}

/// Waits until the guest is paused for its disk, which says this.
fn wait_for_stop(monitor: &mut Monitor, wanted: &str) {
    let end = Instant::now() + PATIENCE;
    let is_paused = |state: &str| {
        let last = state.lines().last();
        last.is_some_and(|line| line.contains("\"paused\"") && line.contains(wanted))
    };
    while !is_paused(&monitor.read("state")) {
        let ended = monitor.child.try_wait().unwrap();
        let said = ["log", "errors", "state"].map(|file| monitor.read(file));
        assert!(ended.is_none() && Instant::now() < end, "{said:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    let status = ask(monitor, "status");
    assert!(status.contains(wanted), "{status}");
}

/// What a full disk says.
const FULL: &str = "disk vda could not write: No space left on device";

#[test]
fn a_guest_on_a_full_host_disk_is_paused_and_goes_on_where_it_was_once_there_is_space() {
    let policies = ["", ", error-policy: enospace", ", error-policy: stop"];
    for (policy, format) in policies.into_iter().zip(["raw", "qcow2", "raw"]) {
        if !kvm() {
            return;
        }
        let make = match format {
            "raw" => "truncate -s 8M disk",
            _ => "qemu-img create -f qcow2 disk 8M",
        };
        let Some(small) = SmallFilesystem::new(make) else {
            return;
        };
        let more = disk(&small.path("disk"), format, policy);
        let mut monitor = Monitor::start("test=pack", &more, &small.prefix());
        let wanted = "No space left on device";
        wait_for_stop(&mut monitor, wanted);
        let stats = ask(&monitor, "stats");
        assert!(stats.contains("\"failure\":\"could not"), "{stats}");
        let refused = ask(&monitor, "power-button");
        assert!(refused.contains("resume it first"), "{refused}");
        // Nothing has changed, and so the same follows; with some more room it comes further.
        let pauses = |monitor: &Monitor| monitor.read("state").matches("\"paused\"").count();
        for (times, room) in [(2, "1m"), (3, "2m")] {
            small.resize(room);
            ask(&monitor, "resume");
            let end = Instant::now() + PATIENCE;
            while pauses(&monitor) < times && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
            }
            wait_for_stop(&mut monitor, wanted);
        }
        small.resize("32m");
        ask(&monitor, "resume");
        let ran = monitor.wait();
        ran.assert_ok(&["pack"]);
        if format == "qcow2" {
            assert_whole(&small);
        }
    }
}

#[test]
fn a_guest_whose_disks_errors_are_ignored_is_told_of_none() {
    if !kvm() {
        return;
    }
    if let Some(small) = SmallFilesystem::new("truncate -s 8M disk") {
        let more = disk(&small.path("disk"), "raw", ", error-policy: ignore");
        let ran = Monitor::start("test=fill", &more, &small.prefix()).wait();
        // What that test takes for a disk that has room for everything.
        let lie = ran.console.contains("FAIL fill all was taken");
        assert!(lie, "{} {}", ran.console, ran.errors);
    }
}

#[test]
fn a_guest_that_was_paused_for_its_disk_is_reset_or_ended_like_any_other() {
    if !kvm() {
        return;
    }
    let Some(small) = SmallFilesystem::new("truncate -s 8M disk") else {
        return;
    };
    let more = disk(&small.path("disk"), "raw", "");
    let mut monitor = Monitor::start("test=pack", &more, &small.prefix());
    wait_for_stop(&mut monitor, FULL);
    let quit = ask(&monitor, "quit");
    assert!(quit.contains("\"ok\""), "{quit}");
    let ran = monitor.wait();
    assert!(ran.last_words.contains("\"quit\""), "{}", ran.last_words);

    let mut monitor = Monitor::start("test=pack", &more, &small.prefix());
    wait_for_stop(&mut monitor, FULL);
    ask(&monitor, "reset");
    let (status, stats) = (ask(&monitor, "status"), ask(&monitor, "stats"));
    assert!(status.contains("\"paused\""), "{status}");
    assert!(!status.contains("\"stopped\""), "{status}");
    assert!(!stats.contains("\"failure\""), "{stats}");
    small.resize("32m");
    ask(&monitor, "resume");
    let ran = monitor.wait();
    ran.assert_ok(&["pack"]);
    assert_eq!(ran.console.matches("packing").count(), 2, "it began anew");
}

#[test]
fn a_limit_of_file_sizes_is_an_error_to_the_guest_and_ends_nobody() {
    if !kvm() || !can("prlimit", &["--version"]) {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk");
    File::create(&path).unwrap().set_len(8 << 20).unwrap();
    let more = disk(&path, "raw", "");
    let ran = Monitor::start("test=fill", &more, &["prlimit", "--fsize=131072"]).wait();
    ran.assert_ok(&["fill"]);
    assert!(ran.console.contains("took 32 blocks"), "{}", ran.console);
}

/// What is made to fail, and what the guest is to see.
const FAILURES: [(&str, &str); 4] = [
    ("preadv,preadv2,pread64:error=EIO", "read 1 write 0 flush 0"),
    (
        "pwritev,pwritev2,pwrite64:error=EIO",
        "read 0 write 1 flush 0",
    ),
    ("fdatasync,fsync:error=EIO", "read 0 write 0 flush 1"),
    (
        "pwritev,pwritev2,pwrite64:error=EDQUOT",
        "read 0 write 1 flush 0",
    ),
];

#[test]
fn a_failing_disk_is_an_error_to_the_guest_and_what_works_goes_on() {
    if !kvm() || !can("strace", &["-f", "-qq", "-o", "/dev/null", "true"]) {
        return;
    }
    for (failure, wanted) in FAILURES {
        let dir = TempDir::new().unwrap();
        let path = raw_disk(&dir);
        let shown = path.display().to_string();
        let inject = format!("inject={failure}");
        // What strace does to a call the sandbox would take for a call of another number; and it sees no access that an io_uring makes.
        let mut prefix = vec!["strace", "-f", "-qq", "-o", "/dev/null", "-P", &shown];
        prefix.extend(["-e", &inject, "sh", "-c", "exec \"$@\" --no-sandbox", "sh"]);
        let disk = disk(&path, "raw", ", io: threads");
        let ran = Monitor::start("test=probe,probe", &disk, &prefix).wait();
        ran.assert_ok(&["probe", "probe"]);
        assert_eq!(
            ran.console.matches(wanted).count(),
            2,
            "{failure}: {} {}",
            ran.console,
            ran.errors
        );
    }
}

#[test]
fn a_file_that_is_cut_off_underneath_reads_as_zeroes_and_is_written_on() {
    if !kvm() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = raw_disk(&dir);
    let mut monitor = Monitor::start("test=shrink", &disk(&path, "raw", ""), &[]);
    hear(&mut monitor, "reading");
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    let ran = monitor.wait();
    ran.assert_ok(&["shrink"]);
    for wanted in ["status 0 zeroes true", "write 0"] {
        assert!(ran.console.contains(wanted), "{}", ran.console);
    }
    assert_eq!(fs::read(&path).unwrap()[5 * 512..], [0x5a; 512]);
}

/// Runs a guest that reads and writes all over a qcow2 disk, while the host does this to the file.
fn wreck(harm: impl Fn(&File, u64)) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk.qcow2");
    let shown = path.display().to_string();
    if !kvm() || !can("qemu-img", &["create", "-q", "-f", "qcow2", &shown, "32M"]) {
        return;
    }
    let mut monitor = Monitor::start("test=wreck", &disk(&path, "qcow2", ""), &[]);
    hear(&mut monitor, "begin");
    let file = File::options().write(true).open(&path).unwrap();
    let mut turn = 0;
    while monitor.child.try_wait().unwrap().is_none() && turn < 20_000 {
        harm(&file, turn);
        turn += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    let ran = monitor.wait();
    ran.assert_ok(&["wreck"]);
    assert!(!ran.errors.contains("bug"), "{}", ran.errors);
}

#[test]
fn an_image_that_is_overwritten_underneath_harms_nobody_but_its_guest() {
    wreck(|file, turn| {
        let mut random = fastrand::Rng::with_seed(turn);
        let junk: Vec<u8> = (0..512).map(|_| random.u8(..)).collect();
        let end = file.metadata().map_or(0, |metadata| metadata.len());
        // Headers and tables are at the front, more often hit than data.
        let at = random.u64(..end.max(1)) >> random.u32(0..8);
        let _ = file.write_all_at(&junk, at);
    });
}

#[test]
fn an_image_that_is_cut_off_underneath_harms_nobody_but_its_guest() {
    wreck(|file, turn| {
        let _ = file.set_len((turn * 65_536) % (1 << 20));
    });
}

/// Processor time of a process, in hundredths of a second.
fn busy(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    fields[11..13]
        .iter()
        .map(|field| field.parse::<u64>().unwrap())
        .sum()
}

#[test]
fn a_tap_that_is_deleted_is_a_dead_cable_and_costs_no_time() {
    if !kvm() {
        return;
    }
    let Some(namespace) = tap::Namespace::new() else {
        return;
    };
    let more = "interfaces: [{id: net0, tap: vtest0, mac: '52:54:00:12:34:56'}]";
    let mut monitor = Monitor::start("test=pour end=rest", more, &namespace.prefix());
    hear(&mut monitor, "pouring");
    let [nsenter, rest @ ..] = &namespace.prefix()[..] else {
        unreachable!()
    };
    let deleted = Command::new(nsenter)
        .args(rest)
        .args(["ip", "link", "delete", "vtest0"])
        .output()
        .unwrap();
    assert!(deleted.status.success(), "{deleted:?}");
    let poured = "pouring\nok pour\n";
    // Booted again, it has a dead cable as before.
    for boots in 1..=2 {
        hear(&mut monitor, &poured.repeat(boots));
        let before = busy(monitor.child.id());
        std::thread::sleep(Duration::from_secs(1));
        let spent = busy(monitor.child.id()) - before;
        assert!(spent < 30, "{spent} hundredths of a second at rest");
        ask(&monitor, if boots == 1 { "reset" } else { "quit" });
    }
    assert!(monitor.child.wait().unwrap().success());
}

#[test]
fn a_guest_without_a_fault_is_told_of_none() {
    if kvm() {
        let dir = TempDir::new().unwrap();
        let ran = run("test=probe", &disk(Path::new(&raw_disk(&dir)), "raw", ""));
        ran.assert_ok(&["probe"]);
        assert!(
            ran.console.contains("read 0 write 0 flush 0"),
            "{}",
            ran.console
        );
    }
}
