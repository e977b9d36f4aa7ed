//! From exec to a tiny guest's first word on its serial port, and the memory that a monitor takes beyond its guest's: vireo-vmm and QEMU microvm, on any /dev/kvm.
//!
//! The guest is the monitor's test guest, which speaks after some thousand instructions: what is measured is the monitor, and the kernel's part in making a machine.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use vireo_tests::lab::{Failure, Outcome, ensure};

use crate::{beyond_guest, median, row};

const GUEST_MIB: u64 = 256;
const TURNS: usize = 25;
const PATIENCE: Duration = Duration::from_secs(20);
const CMDLINE: &str = "test=boot end=rest";

#[derive(Clone, Copy, PartialEq)]
enum Monitor {
    Vireo,
    Microvm,
}

const MONITORS: [(Monitor, &str); 2] = [
    (Monitor::Vireo, "vireo-vmm"),
    (Monitor::Microvm, "QEMU microvm"),
];

struct Bench {
    vireo: PathBuf,
    kernel: PathBuf,
    work: PathBuf,
}

/// What one start showed.
struct Sample {
    first_word: Duration,
    kib: u64,
}

/// `words`: the monitor, the test guest, and a directory to work in.
pub fn bench(words: &[String]) -> Outcome {
    let [vireo, kernel, work] = words else {
        return Err(Failure::new("first-word MONITOR KERNEL DIRECTORY"));
    };
    let bench = Bench {
        vireo: vireo.into(),
        kernel: kernel.into(),
        work: work.into(),
    };
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (samples, (monitor, name)) in samples.iter_mut().zip(MONITORS) {
            let sample = bench.start(monitor);
            samples.push(sample.map_err(|failure| failure.during(name))?);
        }
    }
    for (samples, (_, name)) in samples.iter().zip(MONITORS) {
        let mut times: Vec<_> = samples.iter().map(|s| s.first_word.as_secs_f64()).collect();
        let middle = median(&mut times)? * 1e3;
        let least = times.first().copied().unwrap_or_default() * 1e3;
        row(
            "exec to a tiny guest's first word, 1 vcpu",
            name,
            &format!("{middle:.1} ms"),
            &format!("the least of {TURNS}: {least:.1} ms"),
        );
    }
    for (samples, (_, name)) in samples.iter().zip(MONITORS) {
        let mut sizes: Vec<_> = samples.iter().map(|s| s.kib).collect();
        row(
            "memory beyond the guest's (PSS)",
            name,
            &format!("{:.1} MiB", median(&mut sizes)? as f64 / 1024.0),
            "all mappings but the guest's; shared pages by their share",
        );
    }
    Ok(())
}

/// Ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    fn start(&self, monitor: Monitor) -> Outcome<Sample> {
        let console = self.work.join("console");
        let made = Command::new("mkfifo").arg(&console).status()?;
        ensure(made.success(), || {
            format!("could not make the pipe {console:?}")
        })?;
        let sample = self.sample(monitor, &console);
        fs::remove_file(&console)?;
        sample
    }

    fn sample(&self, monitor: Monitor, console: &Path) -> Outcome<Sample> {
        // Open for both, so that neither end waits for the other.
        let mut pipe = File::options().read(true).write(true).open(console)?;
        let (tell, told) = mpsc::channel();
        let mut command = match monitor {
            Monitor::Vireo => self.vireo_command(console)?,
            Monitor::Microvm => self.microvm_command(console),
        };
        let log = File::create(self.work.join("log"))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        std::thread::spawn(move || {
            let read = pipe.read(&mut [0]);
            // Nobody waits for it any more once the patience is at its end.
            let _ = tell.send(read.map(|_| Instant::now()));
        });
        let began = Instant::now();
        let running = Running(command.spawn()?);
        let Ok(spoke) = told.recv_timeout(PATIENCE) else {
            // Lets the reader end.
            fs::write(console, "\n")?;
            let log = fs::read_to_string(self.work.join("log")).unwrap_or_default();
            return Err(Failure::new(format!("no word after {PATIENCE:?}: {log}")));
        };
        let first_word = spoke?.saturating_duration_since(began);
        std::thread::sleep(Duration::from_millis(100));
        let kib = beyond_guest(running.0.id(), GUEST_MIB, "Pss:")?;
        Ok(Sample { first_word, kib })
    }

    fn vireo_command(&self, console: &Path) -> Outcome<Command> {
        let path = |name: &str| self.work.join(name);
        let config = serde_json::json!({
            "name": "bench",
            "uuid": "7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1",
            "memory": {"size": GUEST_MIB << 20},
            "vcpus": {"count": 1},
            "boot": {"kernel": self.kernel, "cmdline": CMDLINE},
            "serial": {"log": console},
            "control": path("control"),
            "state": path("state"),
        });
        fs::write(path("guest.json"), config.to_string())?;
        let mut command = Command::new(&self.vireo);
        command.arg("--config").arg(path("guest.json"));
        Ok(command)
    }

    fn microvm_command(&self, console: &Path) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        // Not the host's processor: a KVM that emulates refuses it.
        command
            .args(["-M", "microvm", "-accel", "kvm", "-cpu", "qemu64"])
            .args(["-smp", "1", "-m", &GUEST_MIB.to_string()])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-kernel")
            .arg(&self.kernel)
            .args(["-append", CMDLINE]);
        command
    }
}
