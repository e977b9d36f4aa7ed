//! From exec to the guest's init, and the memory that a monitor takes beyond its guest's: vireo-vmm, QEMU microvm, QEMU q35, one kernel and initrd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vireo_tests::lab::{Outcome, ensure};

use crate::{beyond_guest, binary, guest_images, median, row, seconds};

const GUEST_MIB: u64 = 256;
const TURNS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, PartialEq)]
enum Monitor {
    Vireo,
    Microvm,
    Q35,
}

const MONITORS: [(Monitor, &str); 3] = [
    (Monitor::Vireo, "vireo-vmm"),
    (Monitor::Microvm, "QEMU microvm"),
    (Monitor::Q35, "QEMU q35"),
];

pub fn bench() -> Outcome {
    let bench = Bench::new()?;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (times, (monitor, name)) in times.iter_mut().zip(MONITORS) {
            let time = bench
                .to_init(monitor)
                .map_err(|failure| failure.during(name))?;
            eprintln!("  boot {name}: {}", seconds(time));
            times.push(time);
        }
    }
    let mut medians = Vec::new();
    for times in &mut times {
        medians.push(median(times)?);
    }
    let microvm = medians.get(1).copied().unwrap_or_default();
    for ((_, name), time) in MONITORS.iter().zip(&medians) {
        let ratio = time.as_secs_f64() / microvm.as_secs_f64();
        row(
            "exec to init, 1 vcpu, Debian's cloud kernel",
            name,
            &seconds(*time),
            &format!("{ratio:.2} of microvm"),
        );
    }
    for (monitor, name) in MONITORS {
        let kib = bench
            .overhead(monitor)
            .map_err(|failure| failure.during(name))?;
        row(
            "resident beyond the guest's memory",
            name,
            &format!("{:.1} MiB", kib as f64 / 1024.0),
            "all mappings but the guest's; shared pages counted whole",
        );
    }
    Ok(())
}

struct Bench {
    vireo: PathBuf,
    work: PathBuf,
}

/// A monitor and where its guest's console goes; ended when dropped.
struct Running {
    child: Child,
    console: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bench {
    fn new() -> Outcome<Self> {
        let vireo = binary("vireo-vmm")?;
        let work = guest_images()?;
        Ok(Self { vireo, work })
    }

    fn start(&self, monitor: Monitor, cmdline: &str) -> Outcome<Running> {
        let console = self.work.join("console");
        let _ = fs::remove_file(&console);
        let mut command = match monitor {
            Monitor::Vireo => self.vireo_command(&console, cmdline)?,
            Monitor::Microvm => self.qemu_command("microvm", &console, cmdline),
            Monitor::Q35 => self.qemu_command("q35", &console, cmdline),
        };
        let log = fs::File::create(self.work.join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Running { child, console })
    }

    fn vireo_command(&self, console: &Path, cmdline: &str) -> Outcome<Command> {
        let path = |name: &str| self.work.join(name);
        let config = serde_json::json!({
            "name": "bench",
            "uuid": "7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1",
            "memory": {"size": GUEST_MIB << 20},
            "vcpus": {"count": 1},
            "boot": {"kernel": self.work.join("vmlinuz"), "initrd": self.work.join("initrd"), "cmdline": cmdline},
            "serial": {"pty": false, "log": console},
            "control": path("control"),
            "state": path("state"),
        });
        fs::write(path("guest.json"), config.to_string())?;
        let _ = fs::remove_file(path("control"));
        let mut command = Command::new(&self.vireo);
        command.arg("--config").arg(path("guest.json"));
        Ok(command)
    }

    fn qemu_command(&self, machine: &str, console: &Path, cmdline: &str) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args([
                "-M",
                machine,
                "-accel",
                "kvm",
                "-cpu",
                "host",
                "-smp",
                "1",
                "-m",
                &GUEST_MIB.to_string(),
            ])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-kernel")
            .arg(self.work.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.work.join("initrd"))
            .args(["-append", cmdline]);
        command
    }

    fn wait(&self, running: &mut Running, word: &str) -> Outcome {
        let start = Instant::now();
        loop {
            if fs::read(&running.console)
                .is_ok_and(|text| text.windows(word.len()).any(|w| w == word.as_bytes()))
            {
                return Ok(());
            }
            let ended = running.child.try_wait()?;
            ensure(ended.is_none() && start.elapsed() < PATIENCE, || {
                let log = fs::read_to_string(self.work.join("log")).unwrap_or_default();
                format!(
                    "no {word:?} on the console after {:?}; monitor: {ended:?} {log}",
                    start.elapsed()
                )
            })?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn to_init(&self, monitor: Monitor) -> Outcome<Duration> {
        let start = Instant::now();
        let mut running = self.start(monitor, "console=ttyS0 quiet")?;
        self.wait(&mut running, "GUEST INIT")?;
        Ok(start.elapsed())
    }

    /// Resident memory of the monitor but for the mapping that is the guest's, in KiB, once the guest is idle.
    fn overhead(&self, monitor: Monitor) -> Outcome<u64> {
        let mut running = self.start(monitor, "console=ttyS0 quiet")?;
        self.wait(&mut running, "GUEST READY")?;
        std::thread::sleep(Duration::from_secs(2));
        beyond_guest(running.child.id(), GUEST_MIB, "Rss:")
    }
}
