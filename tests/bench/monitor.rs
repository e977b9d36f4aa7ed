//! The monitors that are measured beside one another, each with the same machine: vireo-vmm, QEMU microvm, QEMU q35.
//!
//! QEMU has what libvirt would give it: the host's processor, virtio devices, and the kernel's vhost-net for interfaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vireo_tests::lab::{Outcome, ensure};

use crate::{binary, guest_images};

/// Memory of a guest.
pub const GUEST_MIB: u64 = 256;
const PATIENCE: Duration = Duration::from_secs(300);

/// What runs the guest.
#[derive(Clone, Copy, PartialEq)]
pub enum Monitor {
    Vireo,
    Microvm,
    Q35,
}

/// All of them, with their names in tables.
pub const MONITORS: [(Monitor, &str); 3] = [
    (Monitor::Vireo, "vireo-vmm"),
    (Monitor::Microvm, "QEMU microvm"),
    (Monitor::Q35, "QEMU q35"),
];

/// What a guest has beside a processor, its memory and the serial port.
#[derive(Default)]
pub struct Machine<'a> {
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// Images of disks, with their formats.
    pub disks: &'a [(PathBuf, &'a str)],
    /// A tap, which is there.
    pub tap: Option<&'a str>,
}

/// Where guests are started.
pub struct Monitors {
    vireo: PathBuf,
    work: PathBuf,
}

/// A monitor; ended when dropped.
pub struct Running {
    child: Child,
    console: PathBuf,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Monitors {
    /// Lays out what guests boot.
    pub fn new() -> Outcome<Self> {
        let vireo = binary("vireo-vmm")?;
        let work = guest_images()?;
        Ok(Self { vireo, work })
    }

    /// A directory in the lab's own memory.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Starts a guest: one at a time of each monitor.
    pub fn start(&self, monitor: Monitor, machine: &Machine<'_>) -> Outcome<Running> {
        let place = self.work.join(match monitor {
            Monitor::Vireo => "vireo",
            Monitor::Microvm => "microvm",
            Monitor::Q35 => "q35",
        });
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place)?;
        let console = place.join("console");
        let mut command = match monitor {
            Monitor::Vireo => self.vireo_command(machine, &place, &console)?,
            Monitor::Microvm => self.qemu_command("microvm", "device", machine, &console),
            Monitor::Q35 => self.qemu_command("q35", "pci", machine, &console),
        };
        let path = place.join("log");
        let log = fs::File::create(&path)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Running {
            child,
            console,
            log: path,
        })
    }

    fn vireo_command(
        &self,
        machine: &Machine<'_>,
        place: &Path,
        console: &Path,
    ) -> Outcome<Command> {
        let disk = |(number, (path, format)): (usize, &(PathBuf, &str))| serde_json::json!({"id": format!("disk{number}"), "path": path, "format": format});
        let disks: Vec<_> = machine.disks.iter().enumerate().map(disk).collect();
        let interface =
            |tap: &str| serde_json::json!({"id": "net0", "tap": tap, "mac": "52:54:00:00:00:01"});
        let interfaces: Vec<_> = machine.tap.into_iter().map(interface).collect();
        let config = serde_json::json!({
            "name": "bench",
            "uuid": "7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1",
            "memory": {"size": GUEST_MIB << 20},
            "vcpus": {"count": 1},
            "boot": {
                "kernel": self.work.join("vmlinuz"),
                "initrd": self.work.join("initrd"),
                "cmdline": machine.cmdline,
            },
            "disks": disks,
            "interfaces": interfaces,
            "serial": {"pty": false, "log": console},
            "control": place.join("control"),
            "state": place.join("state"),
        });
        let path = place.join("guest.json");
        fs::write(&path, config.to_string())?;
        let mut command = Command::new(&self.vireo);
        command.arg("--config").arg(path);
        Ok(command)
    }

    /// `bus` ends the names of virtio devices: each machine has them on its own bus.
    fn qemu_command(
        &self,
        kind: &str,
        bus: &str,
        machine: &Machine<'_>,
        console: &Path,
    ) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-M", kind, "-accel", "kvm", "-cpu", "host", "-smp", "1"])
            .args(["-m", &GUEST_MIB.to_string()])
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-no-reboot", "-global", "virtio-mmio.force-legacy=false"])
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-kernel")
            .arg(self.work.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.work.join("initrd"))
            .args(["-append", machine.cmdline]);
        for (number, (path, format)) in machine.disks.iter().enumerate() {
            let path = path.display();
            command
                .arg("-drive")
                .arg(format!("file={path},format={format},if=none,id=d{number}"))
                .arg("-device")
                .arg(format!("virtio-blk-{bus},drive=d{number}"));
        }
        if let Some(tap) = machine.tap {
            command
                .arg("-netdev")
                .arg(format!(
                    "tap,id=n0,ifname={tap},script=no,downscript=no,vhost=on"
                ))
                .arg("-device")
                .arg(format!("virtio-net-{bus},netdev=n0,mac=52:54:00:00:00:01"));
        }
        command
    }
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until this is on the guest's console.
    pub fn says(&mut self, word: &str) -> Outcome {
        let start = Instant::now();
        loop {
            if fs::read(&self.console)
                .is_ok_and(|text| text.windows(word.len()).any(|w| w == word.as_bytes()))
            {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            ensure(ended.is_none() && start.elapsed() < PATIENCE, || {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let console = fs::read_to_string(&self.console).unwrap_or_default();
                format!(
                    "no {word:?} on the console after {:?}; monitor: {ended:?} {log}\nconsole: {console}",
                    start.elapsed()
                )
            })?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
