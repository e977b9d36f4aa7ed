//! Guests that boot what their disk's own configuration names.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::guest::{Client, Guest, Program, kvm};

/// A disk of 8 MiB with an ext4 file system: two programs as kernels, and a configuration that boots this one of them.
fn image(dir: &Path, default: &str) -> Option<PathBuf> {
    let root = dir.join("root");
    fs::create_dir_all(root.join("boot/grub")).unwrap();
    for name in ["old", "new"] {
        let program = Program::new().say(name).say("\n").rest();
        fs::write(root.join("boot").join(name), program.elf()).unwrap();
    }
    let text = format!(
        "set default={default}\nmenuentry Old --id old {{ linux /boot/old }}\nmenuentry New --id new {{ linux /boot/new }}\n"
    );
    fs::write(root.join("boot/grub/grub.cfg"), text).unwrap();
    let image = dir.join(format!("{default}.raw"));
    File::create(&image).unwrap().set_len(8 << 20).unwrap();
    run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-d",
            &shown(&root),
            &shown(&image),
        ],
    )
    .then_some(image)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Whether the program is there and did it.
fn run(program: &str, words: &[&str]) -> bool {
    let path = "/usr/sbin:/sbin:/usr/bin:/bin";
    let done = Command::new(program).env("PATH", path).args(words).output();
    let well = done.as_ref().is_ok_and(|done| done.status.success());
    if !well {
        eprintln!("skipped: {program} is not there, or it failed: {done:?}");
    }
    well
}

fn boots_from(image: &Path, format: &str) -> String {
    format!(
        "boot: {{disk: vda}}\ndisks: [{{id: vda, path: {}, format: {format}}}]",
        image.display()
    )
}

#[test]
fn a_reset_boots_what_the_disk_says_by_then() {
    let Some(()) = kvm() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (Some(old), Some(new)) = (image(dir.path(), "old"), image(dir.path(), "new")) else {
        return;
    };
    let mut guest = Guest::start(&Program::new(), &boots_from(&old, "raw"));
    guest.hear("old\n");
    // As an upgrade inside the guest would: the bytes change under the same open file.
    let upgraded = fs::read(new).unwrap();
    let disk = File::options().write(true).open(&old).unwrap();
    disk.write_all_at(&upgraded, 0).unwrap();
    let mut client = guest.client();
    client.ask("reset");
    guest.hear("old\nnew\n");
    let said = guest.errors();
    assert!(
        said.contains("entry \"New\" of /boot/grub/grub.cfg: /boot/new"),
        "{said}"
    );
    client.ask("quit");
    let status = guest.wait();
    assert!(status.success(), "{status:?} {}", guest.errors());
}

#[test]
fn a_qcow2_disk_boots_too() {
    let Some(()) = kvm() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(raw) = image(dir.path(), "new") else {
        return;
    };
    let image = dir.path().join("disk.qcow2");
    if !run(
        "qemu-img",
        &["convert", "-O", "qcow2", &shown(&raw), &shown(&image)],
    ) {
        return;
    }
    let mut guest = Guest::start(&Program::new(), &boots_from(&image, "qcow2"));
    guest.hear("new\n");
    guest.terminate();
    assert!(guest.wait().success());
}

#[test]
fn a_disk_that_boots_nothing_ends_the_start_with_what_was_looked_for() {
    let Some(()) = kvm() else { return };
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.raw");
    File::create(&empty).unwrap().set_len(1 << 20).unwrap();
    let mut guest = Guest::start(&Program::new(), &boots_from(&empty, "raw"));
    assert_eq!(guest.wait().code(), Some(1));
    let message = guest.last_words()["message"].to_string();
    for wanted in [
        "disk vda boots nothing by its own configuration",
        "looked for grub.cfg",
        "name a kernel, or let the guest boot by firmware",
    ] {
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn limits_change_while_the_guest_runs_for_all_disks_of_a_group() {
    let Some(()) = kvm() else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = |id: &str| {
        let path = dir.path().join(id);
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        format!("{{id: {id}, path: {}, format: raw}}", path.display())
    };
    let disks = format!("disks: [{}, {}]", disk("vda"), disk("vdb"));
    let mut guest = Guest::start(&Program::new().say("up\n").rest(), &disks);
    guest.hear("up\n");
    let mut client = guest.client();
    let limits = |client: &mut Client| {
        let disks = client.ask("stats")["disks"].clone();
        [disks[0]["limits"].clone(), disks[1]["limits"].clone()]
    };
    assert_eq!(limits(&mut client), [json!({}), json!({})]);
    let slow = json!({"total-bytes": {"rate": 1000, "max": 2000}, "group": "slow"});
    let put = |disk: &str, limits: &Value| json!({"do": "limits", "disk": disk, "limits": limits});
    client.request(put("vda", &slow));
    assert_eq!(limits(&mut client), [slow.clone(), json!({})]);
    client.request(put("vdb", &slow));
    let slower = json!({"read-requests": {"rate": 1}, "group": "slow"});
    client.request(put("vda", &slower));
    assert_eq!(limits(&mut client), [slower.clone(), slower.clone()]);
    client.request(put("vdb", &json!({})));
    assert_eq!(limits(&mut client), [slower, json!({})]);
    let wrong = json!({"read-requests": {"rate": 2, "max": 1}});
    for (disk, limits, code) in [("vdc", &slow, "no-disk"), ("vda", &wrong, "bad-request")] {
        assert_eq!(client.refused(put(disk, limits))["code"], code);
    }
    client.ask("quit");
    assert!(guest.wait().success());
}

#[test]
fn a_disk_grows_inside_the_sandbox_and_only_where_it_can() {
    let Some(()) = kvm() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vda");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    let disks = format!(
        "disks: [{{id: vda, path: {}, format: raw, queues: 4, queue-size: 64, detect-zeroes: unmap}}]",
        path.display()
    );
    let mut guest = Guest::start(&Program::new().say("up\n").rest(), &disks);
    guest.hear("up\n");
    let mut client = guest.client();
    let resize =
        |disk: &str, capacity: u64| json!({"do": "resize", "disk": disk, "capacity": capacity});
    client.request(resize("vda", 4 << 20));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while client.ask("stats")["disks"][0]["capacity"] != 4 << 20 {
        assert!(std::time::Instant::now() < end, "{}", guest.errors());
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 4 << 20);
    for (disk, capacity, code) in [
        ("vdb", 8 << 20, "no-disk"),
        ("vda", 1 << 20, "refused"),
        ("vda", 8191, "refused"),
    ] {
        assert_eq!(client.refused(resize(disk, capacity))["code"], code);
    }
    client.ask("quit");
    assert!(guest.wait().success());
}

/// A block device of the host's in a file; taken away when dropped.
struct Loop(PathBuf);

impl Loop {
    fn new(file: &Path) -> Option<Self> {
        let done = Command::new("/sbin/losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output();
        let Some(done) = done.ok().filter(|done| done.status.success()) else {
            eprintln!("skipped: cannot make a loop device");
            return None;
        };
        Some(Self(String::from_utf8_lossy(&done.stdout).trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("/sbin/losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_block_device_is_as_long_as_others_made_it_by_the_time_somebody_asks() {
    let Some(()) = kvm() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let file = File::create(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    let Some(device) = Loop::new(&path) else {
        return;
    };
    for cache in ["writeback", "none"] {
        file.set_len(1 << 20).unwrap();
        let set = || run("losetup", &["--set-capacity", &shown(&device.0)]);
        assert!(set());
        let more = format!(
            "disks: [{{id: vda, path: {}, format: raw, cache: {cache}}}]",
            device.0.display()
        );
        let mut guest = Guest::start(&Program::new().say("up").rest(), &more);
        guest.hear("up");
        let mut client = guest.client();
        let resize = json!({"do": "resize", "disk": "vda", "capacity": 2 << 20});
        client.request(resize.clone());
        let mut told = |wanted: Value| {
            let (end, mut disk) = (Instant::now() + Duration::from_secs(10), Value::Null);
            while Instant::now() < end {
                disk = client.ask("stats")["disks"][0].clone();
                if disk["capacity"] == wanted["capacity"] && disk["problem"] == wanted["problem"] {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            panic!("{disk} instead of {wanted}");
        };
        let short = "the block device has 1048576 bytes: make it larger first";
        told(json!({"capacity": 1 << 20, "problem": short}));
        file.set_len(4 << 20).unwrap();
        assert!(set());
        guest.client().request(resize);
        told(json!({"capacity": 4 << 20}));
        guest.terminate();
        assert!(guest.wait().success(), "{}", guest.errors());
    }
}
