//! Threads of the monitor on the host's processors, as the kernel shows them.

use std::collections::BTreeMap;
use std::fs;

use crate::{Monitor, disk, kvm, raw_disk};
use tempfile::TempDir;

/// What a file like `/proc/PID/status` says of where a thread may run.
fn allowed(path: &std::path::Path) -> String {
    let status = fs::read_to_string(path.join("status")).unwrap();
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap().trim().to_owned()
}

/// The threads of a process by their names, with where they may run.
fn threads(pid: u32) -> BTreeMap<String, String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap();
        (name.trim().to_owned(), allowed(&task.path()))
    };
    tasks.map(|task| of(task.unwrap())).collect()
}

/// The first and the last processor that this test may run on; says so if there is one only.
fn two_processors() -> Option<(u32, u32)> {
    let list = allowed(std::path::Path::new("/proc/thread-self"));
    let first = list.split([',', '-']).next()?.parse().ok()?;
    let last = list.rsplit([',', '-']).next()?.parse().ok()?;
    if first == last {
        eprintln!("skipped: there is one processor only");
        return None;
    }
    Some((first, last))
}

#[test]
fn threads_run_where_they_are_pinned_and_the_others_where_the_monitor_was_started() {
    let Some((first, last)) = two_processors().filter(|_| kvm()) else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let all = allowed(std::path::Path::new("/proc/thread-self"));
    let disks = disk(&raw_disk(&dir), "raw", "");
    for (pins, wanted) in [
        (
            format!(
                "{{emulator: [{first}], vcpus: [{{vcpu: 1, cpus: [{last}]}}], disks: [{{disk: vda, cpus: [{last}]}}]}}"
            ),
            [
                first.to_string(),
                all.clone(),
                last.to_string(),
                last.to_string(),
            ],
        ),
        (
            format!(
                "{{emulator: [{last}], vcpus: [{{vcpu: 0, cpus: [{first}, {last}]}}, {{vcpu: 1, cpus: [{first}]}}]}}"
            ),
            [
                last.to_string(),
                format!("{first}-{last}"),
                first.to_string(),
                last.to_string(),
            ],
        ),
        ("{}".to_owned(), [(); 4].map(|()| all.clone())),
    ] {
        let more = format!("vcpus: {{count: 2}}\nrng: {{}}\npins: {pins}\n{disks}");
        let mut monitor = Monitor::start("test=boot end=rest", &more, &[]);
        monitor.wait_for("ok boot", 1);
        let threads = threads(monitor.child.id());
        let [own, zero, one, disk] = wanted;
        let shown = |name: &str| {
            threads
                .get(name)
                .cloned()
                .unwrap_or_default()
                .replace(',', "-")
        };
        let seen = ["vireo-vmm", "devices", "vcpu0", "vcpu1", "vda"].map(shown);
        assert_eq!(seen, [own.clone(), own, zero, one, disk], "{pins}");
    }
}

#[test]
fn a_processor_that_is_not_there_ends_the_start_with_the_threads_name() {
    if !kvm() {
        return;
    }
    let more = "pins: {vcpus: [{vcpu: 0, cpus: [1023]}]}";
    let ran = Monitor::start("test=boot", more, &[]).wait();
    let wanted = "could not have vcpu 0 run on the host's processors [1023]";
    assert!(ran.last_words.contains(wanted), "{}", ran.last_words);
}
