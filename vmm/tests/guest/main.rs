//! The devices as a guest sees them: the test guest under the monitor, on this machine's KVM.
//!
//! The test guest (`testguest/`) is built with the Rust compiler that is there. Skipped with a reason where there is no KVM, and the
//! network test where no private network namespace can be made.

mod attack;
mod clock;
mod faults;
mod pins;
mod tap;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use imago::qcow2::Qcow2;
use imago::{
    FormatAccess, FormatCreateBuilder, FormatDriverBuilder, PermissiveImplicitOpenGate, Storage,
    StorageCreateOptions, file,
};
use tempfile::TempDir;

/// Longest wait for a guest; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
const SECTORS: u64 = 128;

/// Whether there is a KVM to test with; says so if not.
fn kvm() -> bool {
    let opened = File::options().read(true).write(true).open("/dev/kvm");
    if let Err(error) = &opened {
        eprintln!("skipped: cannot open /dev/kvm: {error}");
    }
    opened.is_ok()
}

/// The test guest, built once a run.
fn kernel() -> &'static Path {
    static KERNEL: OnceLock<PathBuf> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("testguest");
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("testguest/build");
        let status = Command::new(build).arg(&out).status().unwrap();
        assert!(status.success(), "the test guest does not build");
        out
    })
}

/// A monitor's end: what the guest said, and what the state file says last.
struct Ran {
    console: String,
    last_words: String,
    errors: String,
}

impl Ran {
    /// The guest ran these tests, all went well, and it powered off.
    fn assert_ok(&self, tests: &[&str]) {
        let verdicts: Vec<_> = self
            .console
            .lines()
            .filter(|line| line.starts_with("ok ") || line.starts_with("FAIL "))
            .collect();
        let expected: Vec<_> = tests.iter().map(|test| format!("ok {test}")).collect();
        assert_eq!(
            verdicts, expected,
            "console: {}\nerrors: {}",
            self.console, self.errors
        );
        assert!(
            self.last_words.contains("power-off"),
            "{} {}",
            self.last_words,
            self.errors
        );
    }
}

/// A monitor that runs the test guest.
struct Monitor {
    dir: TempDir,
    child: std::process::Child,
}

impl Monitor {
    /// Starts it with a command line for the guest and more lines of configuration. `prefix` is what to run it under.
    fn start(cmdline: &str, more: &str, prefix: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let vcpus = if more.contains("vcpus: {") {
            ""
        } else {
            "vcpus: {count: 1}"
        };
        let memory = match more.contains("memory: {") {
            true => "",
            false => "memory: {size: 33554432}",
        };
        let config = format!(
            "name: test\nuuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1\n{memory}\n{vcpus}\n\
             boot: {{kernel: {}, cmdline: '{cmdline}'}}\nserial: {{log: {}}}\ncontrol: {}\nstate: {}\n{more}\n",
            kernel().display(),
            path("log"),
            path("control"),
            path("state"),
        );
        fs::write(path("config"), config).unwrap();
        let errors = File::create(path("errors")).unwrap();
        let words: Vec<_> = prefix
            .iter()
            .copied()
            .chain([env!("CARGO_BIN_EXE_vireo-vmm")])
            .collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .arg("--config")
            .arg(path("config"));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        Self { dir, child }
    }

    /// Waits until it ends.
    fn wait(&mut self) -> Ran {
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                panic!(
                    "the guest does not end: {:?} {:?}",
                    self.read("log"),
                    self.read("errors")
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let last_words = self
            .read("state")
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned();
        Ran {
            console: self.read("log"),
            last_words,
            errors: self.read("errors"),
        }
    }

    /// Waits until the guest has said something so many times.
    fn wait_for(&mut self, words: &str, times: usize) {
        let end = Instant::now() + PATIENCE;
        while self.read("log").matches(words).count() < times {
            let ended = self.child.try_wait().unwrap().is_some();
            let said = format!("{} {}", self.read("log"), self.read("errors"));
            assert!(!ended && Instant::now() < end, "{said}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(cmdline: &str, more: &str) -> Ran {
    Monitor::start(cmdline, more, &[]).wait()
}

/// What the disks of these tests hold: each sector is full of its own number.
fn pattern() -> Vec<u8> {
    (0..SECTORS)
        .flat_map(|sector| [sector as u8; 512])
        .collect()
}

/// What the guest leaves on them.
fn pattern_after() -> Vec<u8> {
    let mut bytes = pattern();
    bytes[5 * 512..6 * 512].fill(0xa5);
    bytes
}

fn raw_disk(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("disk.raw");
    fs::write(&path, pattern()).unwrap();
    path
}

/// Whether the kernel gives this process an io_uring; said if not.
fn uring() -> bool {
    let given = io_uring::IoUring::new(1);
    if let Err(error) = &given {
        eprintln!("skipped: this kernel gives no io_uring: {error}");
    }
    given.is_ok()
}

fn disk(path: &Path, format: &str, more: &str) -> String {
    format!(
        "disks: [{{id: vda, path: {}, format: {format}{more}}}]",
        path.display()
    )
}

#[test]
fn the_guest_boots_finds_the_bus_and_powers_off() {
    if kvm() {
        let ran = run("test=boot,scan", "");
        ran.assert_ok(&["boot", "scan"]);
        assert!(ran.console.contains("slot 0 1b36:0008"), "{}", ran.console);
    }
}

#[test]
fn the_guest_sees_the_processor_that_was_asked_for() {
    if !kvm() {
        return;
    }
    let more = "vcpus: {count: 4, topology: {sockets: 1, cores: 2, threads: 2}}\n\
                cpu: {mode: custom, model: x86-64-v1, features: [{name: pse36, policy: disable}]}";
    let ran = run("test=processor", more);
    ran.assert_ok(&["processor"]);
    for line in [
        // "Virt", as the processor keeps it.
        "name begins 74726956",
        "signature f61",
        "level 0 bits 1 vcpus 2",
        "level 1 bits 2 vcpus 4",
    ] {
        assert!(ran.console.contains(line), "{line}: {}", ran.console);
    }
}

#[test]
fn a_host_that_cannot_give_the_processor_says_what_it_lacks() {
    if !kvm() {
        return;
    }
    // No host has both: one was Intel's alone, the other AMD's. QEMU emulates neither.
    let more = "cpu: {features: [{name: tbm, policy: require}, {name: avx512pf, policy: require}]}";
    let ran = run("test=boot", more);
    let wanted = "this host's kvm lacks avx512pf, tbm, which the guest's processor needs";
    assert!(ran.last_words.contains(wanted), "{}", ran.last_words);
}

#[test]
fn the_guest_gets_random_bytes_but_only_by_the_rules() {
    if kvm() {
        run("test=rng,version,rng", "rng: {}").assert_ok(&["rng", "version", "rng"]);
    }
}

#[test]
fn the_guest_reads_and_writes_a_raw_disk() {
    if !kvm() {
        return;
    }
    for more in [
        ", cache: writeback",
        ", cache: writethrough",
        ", io: threads",
        ", io: io-uring",
    ] {
        let dir = TempDir::new().unwrap();
        let path = raw_disk(&dir);
        if more.contains("uring") && !uring() {
            continue;
        }
        run("test=block", &disk(&path, "raw", more)).assert_ok(&["block"]);
        assert!(
            fs::read(&path).unwrap() == pattern_after(),
            "{more}: the host sees something else"
        );
    }
}

#[test]
fn the_guest_reads_through_qcow2_and_writes_on_top() {
    if !kvm() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let base = raw_disk(&dir);
    let top = dir.path().join("top.qcow2");
    let created = file::File::create_open(StorageCreateOptions::new().filename(&top)).unwrap();
    let builder = Qcow2::<file::File>::create_builder(created).size(SECTORS * 512);
    builder
        .backing("disk.raw".into(), "raw".into())
        .create()
        .unwrap();

    let more = if uring() { ", io: io-uring" } else { "" };
    run("test=block,block", &disk(&top, "qcow2", more)).assert_ok(&["block", "block"]);
    assert!(
        fs::read(&base).unwrap() == pattern(),
        "the backing file was written"
    );
    let image = Qcow2::<file::File>::builder_path(&top);
    let image = FormatAccess::new(image.open(PermissiveImplicitOpenGate::default()).unwrap());
    let mut seen = vec![0; pattern().len()];
    image.read(&mut seen, 0).unwrap();
    assert!(
        seen == pattern_after(),
        "the host sees something else in the qcow2 image"
    );
}

#[test]
fn a_readonly_disk_refuses_the_guests_writes() {
    if !kvm() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = raw_disk(&dir);
    run("test=readonly", &disk(&path, "raw", ", readonly: true")).assert_ok(&["readonly"]);
    assert!(
        fs::read(&path).unwrap() == pattern(),
        "a read-only disk was written"
    );
}

#[test]
fn a_malformed_request_harms_neither_monitor_nor_disk() {
    if !kvm() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = raw_disk(&dir);
    run("test=malformed,block", &disk(&path, "raw", "")).assert_ok(&["malformed", "block"]);
    assert!(fs::read(&path).unwrap() == pattern_after());
}

#[test]
fn the_balloon_takes_pages_and_gives_them_back() {
    if kvm() {
        run("test=balloon", "balloon: {}").assert_ok(&["balloon"]);
    }
}

#[test]
fn a_guest_is_asked_for_reports_of_its_memory() {
    if kvm() {
        run("test=report", "balloon: {period: 1}").assert_ok(&["report"]);
    }
}

#[test]
fn a_non_maskable_interrupt_that_a_client_asks_for_reaches_the_guest_once() {
    use std::io::{BufRead, BufReader, Write};
    if !kvm() {
        return;
    }
    let mut monitor = Monitor::start("test=nmi", "", &[]);
    monitor.wait_for("listening", 1);
    let control = monitor.dir.path().join("control");
    let mut client = std::os::unix::net::UnixStream::connect(control).unwrap();
    client.write_all(b"{\"id\":1,\"do\":\"nmi\"}\n").unwrap();
    let mut answer = String::new();
    BufReader::new(client).read_line(&mut answer).unwrap();
    assert_eq!(answer.trim(), r#"{"id":1,"ok":{}}"#);
    monitor.wait().assert_ok(&["nmi"]);
}

#[test]
fn shared_memory_in_cells_is_given_up_and_zero_after_a_reset_like_any_other() {
    if !kvm() {
        return;
    }
    for host in ["", ", host: {mode: preferred, nodes: [0]}"] {
        let memory = format!(
            "memory: {{size: 33554432, shared: true{host}, cells: [{{size: 16777216, vcpus: [0]}}, {{size: 16777216}}]}}"
        );
        let monitor = &mut Monitor::start(
            "test=balloon end=reboot",
            &format!("{memory}\nballoon: {{}}"),
            &[],
        );
        monitor.wait_for("ok balloon", 2);
        assert!(
            !monitor.read("log").contains("FAIL"),
            "{}",
            monitor.read("log")
        );
    }
}

#[test]
fn a_reset_machine_has_fresh_devices() {
    if !kvm() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let path = raw_disk(&dir);
    let more = format!("{}\nrng: {{}}", disk(&path, "raw", ""));
    let mut monitor = Monitor::start("test=block,rng end=reboot", &more, &[]);
    monitor.wait_for("ok rng", 3);
    assert!(
        !monitor.read("log").contains("FAIL"),
        "{}",
        monitor.read("log")
    );
}

#[test]
fn frames_pass_both_ways_between_guest_and_tap() {
    if !kvm() {
        return;
    }
    let Some(namespace) = tap::Namespace::new() else {
        return;
    };
    pass_frames(&namespace, "");
    if Path::new("/dev/vhost-net").exists() {
        pass_frames(&namespace, ", vhost: true");
    }
}

#[test]
fn a_guest_that_knows_one_pair_gets_all_frames_of_a_tap_of_several_queues() {
    if !kvm() {
        return;
    }
    if let Some(namespace) = tap::Namespace::new() {
        pass_frames(&namespace, ", queues: 4");
    }
}

#[test]
fn a_host_without_vhost_net_is_told_of_where_a_guest_is_to_have_it_and_nowhere_else() {
    if !kvm() {
        return;
    }
    if Path::new("/dev/vhost-net").exists() {
        eprintln!("skipped: this host has /dev/vhost-net");
        return;
    }
    if let Some(namespace) = tap::Namespace::new() {
        let more = "interfaces: [{id: net0, tap: vtest0, mac: '52:54:00:12:34:56', vhost: true}]";
        let ran = Monitor::start("test=net", more, &namespace.prefix()).wait();
        let said = "could not have the kernel's vhost-net serve tap vtest0";
        assert!(ran.errors.contains(said), "{}", ran.errors);
        assert_eq!(ran.console, "");
    }
}

fn pass_frames(namespace: &tap::Namespace, more: &str) {
    let more = format!("interfaces: [{{id: net0, tap: vtest0, mac: '52:54:00:12:34:56'{more}}}]");
    let pong = namespace.answer_ping("vtest0", PATIENCE);
    let ran = Monitor::start("test=net", &more, &namespace.prefix()).wait();
    assert_eq!(
        pong.address(),
        Ok([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        "{} {}",
        ran.console,
        ran.errors
    );
    ran.assert_ok(&["net"]);
}
