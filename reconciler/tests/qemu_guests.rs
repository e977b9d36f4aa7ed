//! Guests under QEMU's software emulation: the real thing, without anything of the host but processes and control groups.
//!
//! Skipped, saying so, where QEMU or leave to make control groups is missing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use uuid::Uuid;
use vireo_reconciler::domain::{Guests, Launch};
use vireo_reconciler::host::cgroup::Cgroups;
use vireo_reconciler::inventory::GuestState;
use vireo_reconciler::resolve::Driver;
use vireo_reconciler::resolve::domain::Domain;
use vireo_reconciler::resolve::limits::{Limit, Limits};
use vireo_reconciler::units::Bytes;

/// A machine of 64 MiB without a disk, in its firmware.
fn domain(name: &str) -> Domain {
    let description = serde_json::json!({
        "uuid": Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{name} {}", std::process::id()).as_bytes()),
        "name": name, "driver": "qemu", "driver_why": "", "emulated": true,
        "machine": {"arch": "x86_64", "machine": null, "emulator": null, "acpi": true, "sysinfo": {"system.product": "A, B"}},
        "memory": {"maximum": 64 << 20, "current": 64 << 20, "hugepages": null, "locked": false},
        "vcpus": {"maximum": 1, "current": 1, "topology": null},
        "cpu": {"mode": null, "model": null, "features": []},
        "boot": {"firmware": {"efi": false, "loader": null, "nvram": null, "order": ["hd"]}},
        "disks": [], "interfaces": [],
        "chardevs": [{"class": "serial", "backend": "pty", "target": "isa-serial", "name": null, "port": 0, "log": null}],
        "extras": [], "rng": {"source": "/dev/urandom"}, "balloon": true, "clock": "utc",
        "events": {"on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "destroy"},
        "tuning": {"shares": null, "period": null, "quota": null, "cpuset": null, "memory_max": null, "memory_high": null, "memory_swap_max": null,
            "io_weight": null},
        "lifecycle": {"wanted": "running", "shutdown_timeout": {"secs": 1, "nanos": 0}},
        "qemu_arguments": [],
    });
    serde_json::from_value(description).unwrap()
}

fn launch(domain: Domain) -> Launch {
    Launch {
        domain,
        xml: "<domain/>".to_owned(),
        generation: Uuid::nil(),
    }
}

/// A place for guests; `None`, with a reason, where there can be none.
struct Place {
    runtime: tempfile::TempDir,
    cgroups: Cgroups,
}

impl Place {
    fn new() -> Option<Self> {
        let cgroups = Cgroups::detect().unwrap();
        let thread = format!("{} {:?}", std::process::id(), std::thread::current().id());
        let probe = Uuid::new_v5(&Uuid::NAMESPACE_OID, thread.as_bytes());
        if let Err(error) = cgroups.ensure(probe) {
            println!("skipped: {error}");
            return None;
        }
        cgroups
            .paths(probe)
            .iter()
            .for_each(|path| std::fs::remove_dir(path).unwrap());
        if vireo_reconciler::domain::find_program("qemu-system-x86_64", None).is_none() {
            println!("skipped: qemu-system-x86_64 is not installed");
            return None;
        }
        Some(Self {
            runtime: tempfile::tempdir().unwrap(),
            cgroups,
        })
    }

    /// A way in as another agent would have it.
    fn guests(&self) -> Guests {
        Guests::new(self.runtime.path(), self.cgroups.clone())
    }

    async fn state(&self, guest: Uuid) -> GuestState {
        self.guests()
            .observe()
            .await
            .unwrap()
            .remove(&guest)
            .unwrap()
            .state
    }

    async fn pid(&self, guest: Uuid) -> u32 {
        match self.state(guest).await {
            GuestState::Running { pid } | GuestState::Paused { pid, .. } => pid,
            GuestState::Preserved { reason, .. } | GuestState::Ended { reason } => {
                panic!("ended: {reason}")
            }
        }
    }

    async fn clear(&self, guest: Uuid) {
        self.guests()
            .shutdown(guest, Driver::Qemu, Duration::ZERO)
            .await
            .unwrap();
        self.guests().release(guest).unwrap();
        self.cgroups.remove(guest).await.unwrap();
        assert!(!self.cgroups.paths(guest).iter().any(|path| path.exists()));
    }
}

#[tokio::test]
async fn a_guest_is_found_asked_and_stopped_by_an_agent_that_did_not_start_it() {
    let Some(place) = Place::new() else { return };
    let launch = launch(domain("found"));
    let guest = launch.domain.uuid;
    place.guests().start(&launch).await.unwrap();
    let pid = place.pid(guest).await;
    for path in place.cgroups.paths(guest) {
        let processes = std::fs::read_to_string(path.join("cgroup.procs")).unwrap();
        assert!(
            processes.lines().any(|line| line == pid.to_string()),
            "{}",
            path.display()
        );
    }

    place.guests().pause(guest, Driver::Qemu).await.unwrap();
    assert_eq!(
        place.state(guest).await,
        GuestState::Paused { pid, why: None }
    );
    place.guests().resume(guest, Driver::Qemu).await.unwrap();
    assert_eq!(place.state(guest).await, GuestState::Running { pid });
    // The firmware has no driver for the balloon: QEMU takes the wish all the same.
    place
        .guests()
        .set_balloon(guest, Driver::Qemu, Bytes::mib(32))
        .await
        .unwrap();
    let seen = place
        .guests()
        .observe()
        .await
        .unwrap()
        .remove(&guest)
        .unwrap();
    assert_eq!(*seen.launch, launch);
    assert_eq!(seen.balloon, None, "QEMU does not tell what it asked for");
    assert!(
        place.guests().console(guest).unwrap().exists(),
        "the console's terminal is linked"
    );
    assert!(
        place.guests().release(guest).is_err(),
        "a running guest must not be released"
    );

    let asked = Instant::now();
    place
        .guests()
        .shutdown(guest, Driver::Qemu, Duration::from_secs(1))
        .await
        .unwrap();
    assert!(
        asked.elapsed() >= Duration::from_secs(1),
        "a guest that does not listen is given its time"
    );
    assert_eq!(
        place.state(guest).await,
        GuestState::Ended {
            reason: "quit".to_owned()
        }
    );
    place.clear(guest).await;
    assert!(place.guests().observe().await.unwrap().is_empty());
}

/// A machine whose firmware boots from a disk that can never be read, and that is paused for it.
fn domain_on_a_bad_disk() -> Domain {
    let image = serde_json::json!({
        "node-name": "disk-vda", "driver": "raw", "file": {
            "driver": "blkdebug", "inject-error": [{"event": "read_aio", "errno": 5}],
            "image": {"driver": "null-co", "size": 1 << 20},
        },
    });
    let disk = serde_json::json!({"driver": "virtio-blk-pci", "drive": "disk-vda", "rerror": "stop", "bootindex": 1});
    let mut domain = domain("bad disk");
    domain.qemu_arguments = [
        "-blockdev",
        &image.to_string(),
        "-device",
        &disk.to_string(),
    ]
    .map(str::to_owned)
    .into();
    domain
}

#[tokio::test]
async fn a_guest_that_was_paused_for_its_disk_is_seen_so_with_the_reason_each_time_it_is_resumed() {
    let Some(place) = Place::new() else { return };
    let launch = launch(domain_on_a_bad_disk());
    let guest = launch.domain.uuid;
    place.guests().start(&launch).await.unwrap();
    for _ in 0..2 {
        let end = Instant::now() + Duration::from_secs(60);
        let why = loop {
            match place.state(guest).await {
                GuestState::Paused { why, .. } => break why,
                state => assert!(Instant::now() < end, "{state:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let wanted = "disk vda could not read: Input/output error";
        assert_eq!(why.as_deref(), Some(wanted));
        place.guests().resume(guest, Driver::Qemu).await.unwrap();
    }
    place.clear(guest).await;
}

#[tokio::test]
async fn limits_of_disks_hold_from_the_start_change_while_the_guest_runs_and_are_told() {
    let Some(place) = Place::new() else { return };
    let image = place.runtime.path().join("image");
    let file = std::fs::File::create(&image).unwrap();
    file.set_len(1 << 20).unwrap();
    let slow = Limits {
        total_bytes: Some(Limit {
            rate: 1000,
            max: Some(2000),
            length: None,
        }),
        ..Limits::default()
    };
    for bus in ["virtio", "usb"] {
        let mut limited = domain(&format!("limited {bus}"));
        limited.disks = serde_json::from_value(serde_json::json!([{
            "target": "vda", "bus": bus, "device": "disk", "path": image, "volume": null, "format": "raw", "readonly": false, "shareable": false,
            "cache": null, "io": null, "discard": null, "serial": null, "limits": slow, "boot_order": null,
        }]))
        .unwrap();
        let launch = launch(limited);
        let guest = launch.domain.uuid;
        place.guests().start(&launch).await.unwrap();
        let told = || async {
            let mut all = place.guests().observe().await.unwrap();
            all.remove(&guest).unwrap().disks.remove("vda").unwrap()
        };
        assert_eq!(told().await.limits, slow, "{bus}");
        assert_eq!(told().await.capacity, Bytes::mib(1), "{bus}");
        let none = Limits::default();
        let changed = place.guests();
        let changed = changed.set_limits(guest, Driver::Qemu, "vda", &none);
        changed.await.unwrap();
        assert_eq!(told().await.limits, none, "{bus}");
        place.clear(guest).await;
    }
}

#[tokio::test]
async fn starting_twice_is_one_guest_even_when_nobody_wrote_down_the_first() {
    let Some(place) = Place::new() else { return };
    let launch = launch(domain("twice"));
    let guest = launch.domain.uuid;
    let (one, two) = (place.guests(), place.guests());
    let (one, two) = tokio::join!(one.start(&launch), two.start(&launch));
    one.unwrap();
    two.unwrap();
    let pid = place.pid(guest).await;

    // As if whoever started it had been killed before it wrote the file.
    std::fs::remove_file(place.guests().dir(guest).file("pid")).unwrap();
    assert_eq!(place.pid(guest).await, pid);
    std::fs::remove_file(place.guests().dir(guest).file("launch.json")).unwrap();
    place.guests().start(&launch).await.unwrap();
    std::fs::write(
        place.guests().dir(guest).file("pid"),
        r#"{"pid":1,"started":1}"#,
    )
    .unwrap();
    place.guests().record(&launch).unwrap();
    assert_eq!(place.pid(guest).await, pid);
    place.clear(guest).await;
}

#[tokio::test]
async fn a_killed_guest_is_seen_as_killed_and_starts_again() {
    let Some(place) = Place::new() else { return };
    let launch = launch(domain("killed"));
    let guest = launch.domain.uuid;
    place.guests().start(&launch).await.unwrap();
    let pid = place.pid(guest).await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    while place.guests().dir(guest).process().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        place.state(guest).await,
        GuestState::Ended {
            reason: "killed".to_owned()
        }
    );
    place.guests().start(&launch).await.unwrap();
    place.pid(guest).await;
    place.clear(guest).await;
}

#[tokio::test]
async fn a_monitor_that_ends_at_once_says_why() {
    let Some(place) = Place::new() else { return };
    let mut launch = launch(domain("wrong"));
    launch.domain.machine.machine = Some("pc-i440fx-none".to_owned());
    let error = place.guests().start(&launch).await.unwrap_err();
    assert!(
        error.message.contains("unsupported machine type"),
        "{error}"
    );
    place.clear(launch.domain.uuid).await;
}

/// The other half of the next test: an agent that starts a guest and is killed.
#[tokio::test]
async fn agent_that_is_killed() {
    let Ok(runtime) = std::env::var("VIREO_TEST_RUNTIME") else {
        println!("skipped: it is run by another test");
        return;
    };
    let guests = Guests::new(&PathBuf::from(runtime), Cgroups::detect().unwrap());
    let mut domain = domain("outlives");
    domain.uuid = std::env::var("VIREO_TEST_GUEST").unwrap().parse().unwrap();
    guests.start(&launch(domain)).await.unwrap();
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
        .unwrap();
}

#[tokio::test]
async fn a_guest_outlives_the_agent_that_started_it() {
    let Some(place) = Place::new() else { return };
    let guest = domain("outlives").uuid;
    let status = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "agent_that_is_killed"])
        .env("VIREO_TEST_RUNTIME", place.runtime.path())
        .env("VIREO_TEST_GUEST", guest.to_string())
        .status()
        .await
        .unwrap();
    assert!(!status.success());
    let pid = place.pid(guest).await;
    let launch = place.guests().dir(guest).launch().unwrap().unwrap();
    place.guests().start(&launch).await.unwrap();
    assert_eq!(
        place.pid(guest).await,
        pid,
        "the next agent leaves it alone"
    );
    place.clear(guest).await;
}
