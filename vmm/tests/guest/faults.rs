//! A host that fails under a guest: disks that are full, that give errors, that are destroyed; a tap that is deleted. The guest is told what a real device would tell it, and
//! the monitor goes on.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
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
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut said).unwrap();
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
        let more = disk(&small.path("disk"), "raw", &format!(", cache: {cache}"));
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
    let more = disk(&small.path("disk"), "qcow2", "");
    let ran = Monitor::start("test=fill", &more, &small.prefix()).wait();
    ran.assert_ok(&["fill"]);
    assert!(
        ran.errors.contains("No space left on device"),
        "{}",
        ran.errors
    );
    let [nsenter, rest @ ..] = &small.prefix()[..] else {
        unreachable!()
    };
    let mut check = Command::new(nsenter);
    check.args(rest).args(["qemu-img", "check", "-f", "qcow2"]);
    let checked = check.arg(small.path("disk")).output().unwrap();
    // Space that nobody uses may be left over (3); no cluster is used twice, and none that is used is free.
    assert!(matches!(checked.status.code(), Some(0 | 3)), "{checked:?}");
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
        // What strace does to a call the sandbox would take for a call of another number.
        let mut prefix = vec!["strace", "-f", "-qq", "-o", "/dev/null", "-P", &shown];
        prefix.extend(["-e", &inject, "sh", "-c", "exec \"$@\" --no-sandbox", "sh"]);
        let ran = Monitor::start("test=probe,probe", &disk(&path, "raw", ""), &prefix).wait();
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
    hear(&mut monitor, "ok pour");
    let before = busy(monitor.child.id());
    std::thread::sleep(Duration::from_secs(1));
    let spent = busy(monitor.child.id()) - before;
    assert!(spent < 30, "{spent} hundredths of a second at rest");
    // Booted again, it has an interface that does not work, and all else.
    let control = monitor.dir.path().join("control");
    let asked = |what: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&control).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Write::write_all(
            &mut stream,
            format!("{{\"id\":1,\"do\":\"{what}\"}}\n").as_bytes(),
        )
        .unwrap();
        let mut answer = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut answer).unwrap();
        assert!(answer.contains("\"ok\""), "{answer}");
    };
    asked("reset");
    hear(&mut monitor, "FAIL pour");
    asked("quit");
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
