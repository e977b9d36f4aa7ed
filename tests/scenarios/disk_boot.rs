//! A guest without a kernel of the host's: it boots what the GRUB configuration on its disk names, and after an upgrade what that names then.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Lab, Outcome, Process, ensure, eventually, kernel, run as program};

pub const SCENARIO: Scenario = Scenario {
    name: "disk-boot",
    about: "a guest without a kernel boots what its disk's GRUB configuration names, and follows its upgrades",
    time_limit: Duration::from_secs(600),
    run,
};

/// How long an emulated guest may take to its init.
const PATIENCE: Duration = Duration::from_secs(180);
/// Where the only partition begins, in bytes.
const PARTITION: u64 = 1 << 20;
/// The disk's length in bytes.
const DISK: u64 = 48 << 20;
const UUID: &str = "0a0a0a0a-0b0b-4c0c-8d0d-0e0e0e0e0e0e";

fn run(host: &Lab) -> Outcome {
    let image = host.path("images").join("guest.raw");
    install(host, &image, "first")?;
    write(host, &image, "running")?;
    host.step("the plan says what is booted", || {
        host.vireo("plan")?
            .exits(2)?
            .says("boots what its disk's boot configuration names")
    })?;
    host.step(
        "the guest comes to its init by its disk's first entry",
        || {
            host.vireo("apply --yes")?.exits(0)?;
            comes_to_init("first")
        },
    )?;
    host.step("applying again changes nothing", || {
        host.vireo("apply --yes")?.exits(0)?.says("nothing to do")
    })?;
    host.step("it is stopped, and its disk gets another default", || {
        write(host, &image, "stopped")?;
        host.vireo("apply --yes")?.exits(0)?;
        let left = kernel::processes("vireo-vmm")?;
        ensure(left.is_empty(), || format!("{left:?} still run"))?;
        install(host, &image, "second")
    })?;
    host.step("started again, it boots the other entry", || {
        write(host, &image, "running")?;
        host.vireo("apply --yes")?.exits(0)?;
        comes_to_init("second")
    })
}

/// Makes the disk: an MBR with one partition, in it ext4 with kernel, initrd and a configuration that boots the entry `default`.
fn install(host: &Lab, image: &Path, default: &str) -> Outcome {
    let root = host.path("root");
    fs::create_dir_all(root.join("boot/grub"))?;
    for file in ["vmlinuz", "initrd"] {
        fs::copy(host.path("boot").join(file), root.join("boot").join(file))?;
    }
    let mut text = format!("set default=\"{default}\"\n");
    for entry in ["first", "second"] {
        text += &format!(
            "menuentry 'Entry {entry}' --id {entry} {{\n  search --no-floppy --fs-uuid --set=root {UUID}\n  \
             linux /boot/vmlinuz vireo.name={entry} panic=-1\n  initrd /boot/initrd\n}}\n"
        );
    }
    fs::write(root.join("boot/grub/grub.cfg"), text)?;
    let disk = File::create(image)?;
    disk.set_len(DISK)?;
    let mut entry = [0; 16];
    entry[4] = 0x83;
    entry[8..12].copy_from_slice(&u32::try_from(PARTITION / 512)?.to_le_bytes());
    entry[12..16].copy_from_slice(&u32::try_from((DISK - PARTITION) / 512)?.to_le_bytes());
    disk.write_all_at(&entry, 446)?;
    disk.write_all_at(&[0x55, 0xaa], 510)?;
    let words = [
        "-q",
        "-F",
        "-t",
        "ext4",
        "-U",
        UUID,
        "-E",
        &format!("offset={PARTITION}"),
        "-d",
        &root.display().to_string(),
        &image.display().to_string(),
        &format!("{}k", (DISK - PARTITION) >> 10),
    ];
    program("mke2fs", words)?.exits(0)?;
    Ok(())
}

fn write(host: &Lab, image: &Path, state: &str) -> Outcome {
    host.write(
        "guest.yaml",
        &format!(
            "domain: guest\nmemory: 192 MiB\nvcpu: 1\npolicy: {{state: {state}}}\ndisks: [{{file: {}}}]\n",
            image.display()
        ),
    )
}

/// Waits until the guest's init speaks on its serial console, which nobody but the monitor put on its command line, and was given this entry's argument.
fn comes_to_init(entry: &str) -> Outcome {
    eventually(PATIENCE, "the guest's init speaks", || {
        let process = only_monitor()?;
        let log = console(&process)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let wanted = format!("vireo.name={entry} panic=-1 console=ttyS0");
        // What an earlier boot left in the log is above.
        let last = text.rsplit("Linux version").next().unwrap_or_default();
        ensure(
            last.contains(&wanted) && last.contains("GUEST INIT"),
            || {
                let begin = last.len().saturating_sub(400);
                format!(
                    "the console of {process:?} has: {}",
                    last.get(begin..).unwrap_or_default()
                )
            },
        )
    })?;
    Ok(())
}

fn only_monitor() -> Outcome<Process> {
    let mut found = kernel::processes("vireo-vmm")?;
    let count = found.len();
    match (found.pop(), count) {
        (Some(process), 1) => Ok(process),
        (_, count) => Err(vireo_tests::lab::Failure::new(format!(
            "{count} monitors run"
        ))),
    }
}

/// The file to which the monitor writes what its guest says.
fn console(process: &Process) -> Outcome<PathBuf> {
    for descriptor in fs::read_dir(format!("/proc/{}/fd", process.pid))? {
        let Ok(path) = fs::read_link(descriptor?.path()) else {
            continue;
        };
        if path.ends_with("console.log") {
            return Ok(path);
        }
    }
    Err(vireo_tests::lab::Failure::new(
        "the monitor has no log of the console open",
    ))
}
