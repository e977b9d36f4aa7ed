use super::*;
use crate::host::testing::{in_namespace, shell};

/// Whether a wake of that kind comes within half a second.
async fn wakes(watch: &Watch, kind: Wake) -> bool {
    tokio::time::timeout(Duration::from_millis(500), async {
        while !watch.next().await.contains(&kind) {}
    })
    .await
    .is_ok()
}

/// Takes what is left of earlier events.
async fn settle(watch: &Watch) {
    while tokio::time::timeout(Duration::from_millis(100), watch.next())
        .await
        .is_ok()
    {}
}

#[tokio::test]
async fn damage_to_links_queues_and_tables_wakes_at_once() {
    in_namespace!(damage_to_links_queues_and_tables_wakes_at_once);
    shell("ip link add vbr0 type bridge && ip link set vbr0 up");
    shell(
        "tc qdisc add dev vbr0 root handle 1: htb && nft add table bridge vireo && nft add chain bridge vireo guest",
    );
    let watch = Watch::start().unwrap();
    settle(&watch).await;
    for (damage, kind) in [
        ("tc qdisc del dev vbr0 root", Wake::Queues),
        ("ip addr add 10.0.0.1/24 dev vbr0", Wake::Links),
        ("ip addr del 10.0.0.1/24 dev vbr0", Wake::Links),
        ("echo 1 > /proc/sys/net/ipv4/ip_forward", Wake::Links),
        ("echo 0 > /proc/sys/net/ipv4/ip_forward", Wake::Links),
        ("ip link del vbr0", Wake::Links),
        ("nft add rule bridge vireo guest accept", Wake::Tables),
        ("nft flush chain bridge vireo guest", Wake::Tables),
        ("nft flush ruleset", Wake::Tables),
    ] {
        shell(damage);
        assert!(wakes(&watch, kind).await, "{damage}");
        settle(&watch).await;
    }
    shell("nft add table ip docker && nft add chain ip docker x");
    assert!(
        !wakes(&watch, Wake::Tables).await,
        "somebody else's tables are not ours"
    );
}

#[tokio::test]
async fn a_process_that_ends_wakes_once() {
    let watch = Watch::start().unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let targets = Targets {
        processes: [child.id()].into(),
        ..Targets::default()
    };
    watch.aim(targets.clone());
    assert!(!wakes(&watch, Wake::Processes).await);
    child.kill().unwrap();
    assert!(wakes(&watch, Wake::Processes).await);
    child.wait().unwrap();
    watch.aim(targets);
    assert!(!wakes(&watch, Wake::Processes).await);
    // One that had ended before anybody looked is told as well.
    watch.aim(Targets::default());
    tokio::time::sleep(Duration::from_millis(50)).await;
    watch.aim(Targets {
        processes: [child.id()].into(),
        ..Targets::default()
    });
    assert!(wakes(&watch, Wake::Processes).await);
}

#[tokio::test]
async fn a_pools_files_wake_when_they_come_and_go_and_not_when_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let pool = folder.path().join("pool");
    let watch = Watch::start().unwrap();
    let aim = || {
        watch.aim(Targets::default());
        watch.aim(Targets {
            directories: [pool.clone()].into(),
            ..Targets::default()
        });
    };
    aim();
    std::fs::create_dir(&pool).unwrap();
    aim();
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::fs::write(pool.join("disk"), "x").unwrap();
    assert!(wakes(&watch, Wake::Files).await);
    settle(&watch).await;
    std::fs::write(pool.join("disk"), "more").unwrap();
    assert!(!wakes(&watch, Wake::Files).await);
    std::fs::remove_file(pool.join("disk")).unwrap();
    assert!(wakes(&watch, Wake::Files).await);
    settle(&watch).await;
    std::fs::remove_dir(&pool).unwrap();
    assert!(wakes(&watch, Wake::Files).await);
}

#[tokio::test]
async fn a_control_groups_value_that_changes_wakes() {
    let Some(root) = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"]
        .iter()
        .map(Path::new)
        .find(|root| root.join("cgroup.procs").exists())
    else {
        eprintln!("skipped: no control groups are mounted");
        return;
    };
    let parent = root.join(format!("vireo-test-{}", std::process::id()));
    let group = parent.join("guest");
    if let Err(error) = std::fs::create_dir_all(&group) {
        eprintln!("skipped: {}: {error}", group.display());
        return;
    }
    let watch = Watch::start().unwrap();
    watch.aim(Targets {
        groups: [group.clone(), parent.clone()].into(),
        ..Targets::default()
    });
    settle(&watch).await;
    let file = ["cpu.shares", "cpu.weight", "cgroup.max.depth"]
        .iter()
        .map(|name| group.join(name))
        .find(|file| file.exists())
        .unwrap();
    std::fs::write(&file, "100").unwrap();
    let woken = wakes(&watch, Wake::Groups).await;
    settle(&watch).await;
    std::fs::remove_dir(&group).unwrap();
    let woken_again = wakes(&watch, Wake::Groups).await;
    std::fs::remove_dir(&parent).unwrap();
    assert!(woken && woken_again, "{woken} {woken_again}");
}
