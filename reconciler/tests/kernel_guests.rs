//! A guest with a kernel, from start to graceful end, under each driver that can run one here.
//!
//! `VIREO_TEST_KERNEL` and `VIREO_TEST_INITRD` name a kernel and an initial file system that writes `GUEST INIT` to its console and heeds the power button (the
//! lab's test guest does). QEMU emulates; the builtin driver needs KVM that runs ordinary kernels, which `VIREO_TEST_KVM=1` vouches for. Skipped, saying so,
//! without them.

use std::time::{Duration, Instant};

use uuid::Uuid;
use vireo_reconciler::domain::{Guests, Launch};
use vireo_reconciler::host::cgroup::Cgroups;
use vireo_reconciler::inventory::{Guest, GuestState};
use vireo_reconciler::resolve::Driver;
use vireo_reconciler::resolve::domain::Domain;
use vireo_reconciler::units::Bytes;

fn domain(driver: &str) -> Option<Domain> {
    let (Ok(kernel), Ok(initrd)) = (
        std::env::var("VIREO_TEST_KERNEL"),
        std::env::var("VIREO_TEST_INITRD"),
    ) else {
        println!("skipped: VIREO_TEST_KERNEL and VIREO_TEST_INITRD name no guest");
        return None;
    };
    let description = serde_json::json!({
        "uuid": Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{driver} {}", std::process::id()).as_bytes()),
        "name": driver, "driver": driver, "driver_why": "", "emulated": driver == "qemu",
        "machine": {"arch": "x86_64", "machine": null, "emulator": null, "acpi": true, "sysinfo": {}},
        "memory": {"maximum": 256 << 20, "current": 256 << 20, "hugepages": null, "locked": false},
        "vcpus": {"maximum": 1, "current": 1, "topology": null},
        "cpu": {"mode": null, "model": null, "features": []},
        "boot": {"kernel": {"kernel": kernel, "initrd": initrd, "cmdline": "console=ttyS0 quiet vireo.name=test"}},
        "disks": [], "interfaces": [],
        "chardevs": [{"class": "serial", "backend": "pty", "target": "isa-serial", "name": null, "port": 0, "log": null}],
        "extras": [], "rng": {"source": "/dev/urandom"}, "balloon": true, "clock": "utc",
        "events": {"on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "destroy"},
        "tuning": {"shares": null, "period": null, "quota": null, "cpuset": null, "memory_max": null, "memory_high": null, "memory_swap_max": null,
            "io_weight": null},
        "lifecycle": {"wanted": "running", "shutdown_timeout": {"secs": 60, "nanos": 0}},
        "qemu_arguments": [],
    });
    Some(serde_json::from_value(description).unwrap())
}

/// Start, boot, pause, resume, balloon, graceful end; each step through a way in of its own, as if the agent had been replaced in between.
async fn a_life(domain: Domain) {
    let runtime = tempfile::tempdir().unwrap();
    let cgroups = Cgroups::detect().unwrap();
    let guests = || Guests::new(runtime.path(), cgroups.clone());
    let (guest, driver) = (domain.uuid, domain.driver);
    let launch = Launch {
        domain,
        xml: "<domain/>".to_owned(),
        generation: Uuid::nil(),
    };
    let began = Instant::now();
    guests().start(&launch).await.unwrap();
    println!("{driver}: answers after {:?}", began.elapsed());
    let look = || async { guests().observe().await.unwrap().remove(&guest).unwrap() };
    let Guest {
        state: GuestState::Running { pid },
        ..
    } = look().await
    else {
        panic!("not running")
    };
    for path in cgroups.paths(guest) {
        let processes = std::fs::read_to_string(path.join("cgroup.procs")).unwrap();
        assert!(
            processes.lines().any(|line| line == pid.to_string()),
            "{}",
            path.display()
        );
    }
    while !guests()
        .dir(guest)
        .tail("console.log", 1 << 16)
        .contains("GUEST INIT")
    {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "{}",
            guests().dir(guest).tail("console.log", 1 << 16)
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{driver}: init after {:?}", began.elapsed());
    assert!(guests().console(guest).is_some());
    guests().start(&launch).await.unwrap();

    guests().pause(guest, driver).await.unwrap();
    assert_eq!(look().await.state, GuestState::Paused { pid, why: None });
    guests().resume(guest, driver).await.unwrap();
    assert_eq!(look().await.state, GuestState::Running { pid });
    guests()
        .set_balloon(guest, driver, Bytes::mib(192))
        .await
        .unwrap();
    let asked = Instant::now();
    while look().await.balloon != Some(Bytes::mib(192)) && asked.elapsed() < Duration::from_secs(20)
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "{driver}: balloon {:?} after {:?}",
        look().await.balloon,
        asked.elapsed()
    );

    let asked = Instant::now();
    guests()
        .shutdown(guest, driver, Duration::from_secs(90))
        .await
        .unwrap();
    println!("{driver}: shut down in {:?}", asked.elapsed());
    assert_eq!(
        look().await.state,
        GuestState::Ended {
            reason: "power-off".to_owned()
        }
    );
    guests().release(guest).unwrap();
    cgroups.remove(guest).await.unwrap();
}

#[tokio::test]
async fn a_kernel_lives_under_qemu_and_powers_off_when_asked() {
    if let Some(domain) = domain("qemu") {
        assert_eq!(domain.driver, Driver::Qemu);
        a_life(domain).await;
    }
}

#[tokio::test]
async fn a_kernel_lives_under_the_builtin_monitor_and_powers_off_when_asked() {
    if std::env::var_os("VIREO_TEST_KVM").is_none() {
        println!("skipped: VIREO_TEST_KVM does not vouch for this host's KVM");
    } else if let Some(domain) = domain("builtin") {
        a_life(domain).await;
    }
}
