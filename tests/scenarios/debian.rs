//! Debian's own kernels, and a Debian installed on a disk, through a guest's whole life: with 1, 2 and 4 processors it comes to the network, boots again when it asks
//! and when it is told to, and shuts down. What its kernel warns of is held against what the same kernel warns of under QEMU. Each kernel is a scenario of its own.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Failure, Guest, Lab, Outcome, ensure, eventually, kernel, run as program};

pub const DISK: Scenario = Scenario {
    name: "debian",
    about: "a Debian disk with systemd, on 1, 2 and 4 processors, from its own boot configuration",
    time_limit: TIME_LIMIT,
    run: |host| run(host, &INSTALLED),
};

pub const CLOUD: Scenario = Scenario {
    name: "debian-cloud",
    about: "Debian's kernel for clouds on 1, 2 and 4 processors",
    time_limit: TIME_LIMIT,
    run: |host| run(host, &CLOUD_KERNEL),
};

pub const GENERIC: Scenario = Scenario {
    name: "debian-generic",
    about: "Debian's usual kernel on 1, 2 and 4 processors",
    time_limit: TIME_LIMIT,
    run: |host| run(host, &GENERIC_KERNEL),
};

const TIME_LIMIT: Duration = Duration::from_secs(3300);

/// How long an emulated guest may take to answer on the network.
const PATIENCE: Duration = Duration::from_secs(420);
const ADDRESS: &str = "10.73.0.10";
const MAC: &str = "52:54:00:73:00:10";
/// What is booted.
#[derive(Clone, Copy)]
struct Install {
    guest: &'static str,
    memory: &'static str,
    boot: Boot,
    /// Makes the guest boot again, from inside.
    reboot: &'static str,
}

#[derive(Clone, Copy)]
enum Boot {
    /// A kernel and an initrd of the host's, with this ending.
    Files(&'static str),
    /// What the disk's own configuration names.
    Disk,
}

const INSTALLED: Install = Install {
    guest: "debian",
    memory: "512 MiB",
    boot: Boot::Disk,
    reboot: "systemctl --no-block reboot",
};

const CLOUD_KERNEL: Install = Install {
    guest: "cloud",
    memory: "192 MiB",
    boot: Boot::Files(""),
    reboot: "(sleep 1; reboot -f) >/dev/null 2>&1 &",
};

const GENERIC_KERNEL: Install = Install {
    guest: "generic",
    memory: "256 MiB",
    boot: Boot::Files("-full"),
    reboot: "(sleep 1; reboot -f) >/dev/null 2>&1 &",
};

fn run(host: &Lab, install: &Install) -> Outcome {
    let network = format!(
        "network: lab\nforward: {{mode: nat}}\nips:\n- address: 10.73.0.1\n  prefix: 24\n  dhcp:\n    \
         ranges: [{{start: {ADDRESS}, end: 10.73.0.99}}]\n    hosts: [{{mac: '{MAC}', ip: {ADDRESS}}}]\n"
    );
    host.write("lab.yaml", &network)?;
    let guest = host.guest(install.guest, ADDRESS);
    let mut warned = BTreeSet::new();
    for cpus in [1, 2, 4] {
        warned.extend(life(host, install, &guest, cpus)?);
    }
    let known = host.step("what its kernel warns of under QEMU", || {
        define(host, install, 2, "running", "qemu")?;
        host.vireo("apply --yes")?.exits(0)?;
        guest.comes_up(PATIENCE)?;
        warnings(&guest)
    })?;
    stop(host, install, 2, "qemu")?;
    let news: Vec<_> = warned.difference(&known).collect();
    ensure(news.is_empty(), || {
        format!("under vireo-vmm, and not under QEMU, its kernel says {news:#?}")
    })?;
    host.say(&format!(
        "         {} warnings, each also under QEMU, which has {}",
        warned.len(),
        known.len()
    ));
    Ok(())
}

/// One guest from its first start to its end; the warnings of its kernel.
fn life(host: &Lab, install: &Install, guest: &Guest, cpus: u32) -> Outcome<BTreeSet<String>> {
    let name = install.guest;
    define(host, install, cpus, "running", "builtin")?;
    host.step(
        &format!("{name}, {cpus} vcpus: it comes to the network"),
        || {
            host.vireo("apply --yes")?.exits(0)?;
            guest.comes_up(PATIENCE)
        },
    )?;
    let warned = host.step("it has its processors, and all of it is up", || {
        let count = guest.run("nproc")?.1;
        ensure(count.trim() == cpus.to_string(), || {
            format!("it has {count} processors")
        })?;
        if matches!(install.boot, Boot::Disk) {
            eventually(PATIENCE, "systemd is done", || {
                let state = guest
                    .run("systemctl is-system-running; systemctl --failed")?
                    .1;
                ensure(state.starts_with("running"), || state.clone())
            })?;
        }
        warnings(guest)
    })?;
    host.step("it boots again when it asks", || {
        boots_again(guest, || guest.run(install.reboot).map(drop))
    })?;
    host.step("it boots again when it is told to", || {
        boots_again(guest, || {
            host.vireo(&format!("restart --yes {name}"))?
                .exits(0)
                .map(drop)
        })
    })?;
    stop(host, install, cpus, "builtin")?;
    Ok(warned)
}

fn boots_again(guest: &Guest, told: impl FnOnce() -> Outcome) -> Outcome {
    let before = guest.who()?.boot;
    told()?;
    eventually(PATIENCE, "it answers after another boot", || {
        let now = guest.who()?.boot;
        ensure(now != before, || "it has not booted again".into())
    })?;
    Ok(())
}

/// Asks it to shut down, which it does by itself.
fn stop(host: &Lab, install: &Install, cpus: u32, driver: &str) -> Outcome {
    host.step(
        &format!("it shuts down when it is asked ({driver})"),
        || {
            define(host, install, cpus, "stopped", driver)?;
            host.vireo("apply --yes")?
                .exits(0)?
                .does_not_say("forced")?;
            for monitor in ["vireo-vmm", "qemu-system-x86_64"] {
                let left = kernel::processes(monitor)?;
                ensure(left.is_empty(), || format!("{left:?} still run"))?;
            }
            host.remove("guest.yaml")?;
            host.vireo("apply --yes")?.exits(0)
        },
    )?;
    Ok(())
}

fn define(host: &Lab, install: &Install, cpus: u32, state: &str, driver: &str) -> Outcome {
    let boot = match install.boot {
        // What a disk boots is the builtin driver's to find; under QEMU the same kernel is named.
        Boot::Disk if driver == "builtin" => {
            format!(
                "disks: [{{file: {}, format: qcow2}}]",
                disk(host)?.display()
            )
        }
        Boot::Disk => {
            let boot = host.path("boot");
            format!(
                "kernel: {0}/debian-vmlinuz\ninitrd: {0}/debian-initrd\ncmdline: root=LABEL=root ro console=ttyS0\ndisks: [{{file: {1}, format: qcow2}}]",
                boot.display(),
                disk(host)?.display()
            )
        }
        Boot::Files(ending) => format!(
            "kernel: {0}/vmlinuz{ending}\ninitrd: {0}/initrd{ending}\ncmdline: console=ttyS0 vireo.name={1} vireo.shell",
            host.path("boot").display(),
            install.guest
        ),
    };
    host.write(
        "guest.yaml",
        &format!(
            "domain: {}\nmemory: {}\nvcpu: {cpus}\n{boot}\ninterfaces: [{{network: lab, mac: '{MAC}'}}]\n\
             policy: {{state: {state}, driver: {driver}, shutdown-timeout: 300}}\n",
            install.guest, install.memory
        ),
    )
}

/// The installed disk under a layer of its own, which takes what the guest writes.
fn disk(host: &Lab) -> Outcome<PathBuf> {
    let layer = host.path("images/debian.qcow2");
    if layer.exists() {
        return Ok(layer);
    }
    let made = host.images().join("debian");
    let installed = made.join("disk.raw").canonicalize().map_err(|_| {
        Failure::new("there is no installed Debian: run tests/lab/build-debian, outside the lab")
    })?;
    for file in ["vmlinuz", "initrd"] {
        std::fs::copy(made.join(file), host.path(&format!("boot/debian-{file}")))?;
    }
    let (installed, layer_text) = (installed.display().to_string(), layer.display().to_string());
    let words = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        &installed,
        &layer_text,
    ];
    program("qemu-img", words)?.exits(0)?;
    Ok(layer)
}

/// What the kernel's log has at warning or worse, numbers left out, and what is not the monitor's doing.
fn warnings(guest: &Guest) -> Outcome<BTreeSet<String>> {
    // Busybox's dmesg has no --level: <4> and less, as the kernel writes them.
    let (_, log) = guest.run("dmesg -r")?;
    let lines = log.lines().filter_map(|line| {
        let (level, text) = line.strip_prefix('<')?.split_once('>')?;
        let level: u32 = level.parse().ok()?;
        let text = text.split_once("] ").map_or(text, |(_, text)| text);
        let counts = level % 8 <= 4 && !OTHERS.iter().any(|other| text.starts_with(other));
        counts.then(|| without_numbers(text))
    });
    Ok(lines.collect())
}

/// Beginnings of what the kernel says of other things than its machine: in each trace the machine's name, and bytes of code, in which are addresses that are others at
/// every boot; how two of its clocks agree, and how long an interrupt took, which in an emulated lab is how busy the lab is.
const OTHERS: [&str; 4] = [
    "Hardware name: ",
    "Code: ",
    "clocksource: ",
    "hrtimer: interrupt took ",
];

fn without_numbers(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let is_number = word.chars().any(|c| c.is_ascii_digit());
        if is_number { "#" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}
