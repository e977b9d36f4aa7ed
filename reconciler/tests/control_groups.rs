//! Guests' control groups on this host's own hierarchy, whichever version it is.
//!
//! Skipped, saying so, where there is no leave to make one.

use uuid::Uuid;
use vireo_reconciler::host::cgroup::Cgroups;
use vireo_reconciler::inventory::CgroupVersion;
use vireo_reconciler::resolve::domain::Tuning;
use vireo_reconciler::units::Bytes;

/// A group that nobody else has; `None`, with a reason, where there can be none.
fn group(name: &str) -> Option<(Cgroups, Uuid)> {
    let cgroups = Cgroups::detect().unwrap();
    let guest = Uuid::new_v5(
        &Uuid::NAMESPACE_OID,
        format!("{name} {}", std::process::id()).as_bytes(),
    );
    match cgroups.ensure(guest) {
        Ok(()) => Some((cgroups, guest)),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

#[tokio::test]
async fn what_is_set_is_what_is_seen_and_what_is_taken_back_is_gone() {
    let Some((cgroups, guest)) = group("set") else {
        return;
    };
    let has = |controller: &str| cgroups.controllers().contains(controller);
    let wanted = Tuning {
        shares: has("cpu").then_some(2048),
        period: has("cpu").then_some(50_000),
        quota: has("cpu").then_some(25_000),
        cpuset: has("cpuset").then(|| "0".to_owned()),
        // All nodes, which v1 does not tell from none stated.
        mems: (has("cpuset") && cgroups.version() == CgroupVersion::V2).then(|| "0".to_owned()),
        memory_max: has("memory").then_some(Bytes::mib(256)),
        memory_high: has("memory").then_some(Bytes::mib(128)),
        ..Tuning::default()
    };
    cgroups.set(guest, &wanted).unwrap();
    cgroups.set(guest, &wanted).unwrap();
    let seen = cgroups.collect().unwrap().remove(&guest).unwrap();
    assert_eq!(seen, wanted.as_shown(cgroups.version()));

    cgroups.set(guest, &Tuning::default()).unwrap();
    let seen = cgroups.collect().unwrap().remove(&guest).unwrap();
    assert_eq!(seen, Tuning::default());
    cgroups.remove(guest).await.unwrap();
    assert!(!cgroups.collect().unwrap().contains_key(&guest));
    cgroups.remove(guest).await.unwrap();
}

#[tokio::test]
async fn a_group_is_removed_with_what_is_left_in_it() {
    let Some((cgroups, guest)) = group("left") else {
        return;
    };
    let mut child = tokio::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let pid = child.id().unwrap().to_string();
    for path in cgroups.paths(guest) {
        std::fs::write(path.join("cgroup.procs"), &pid).unwrap();
    }
    let (removed, status) = tokio::join!(cgroups.remove(guest), child.wait());
    removed.unwrap();
    assert!(!status.unwrap().success());
}

#[test]
fn a_value_whose_controller_is_missing_is_an_error_that_names_it() {
    let Some((cgroups, guest)) = group("missing") else {
        return;
    };
    if cgroups.controllers().contains("io") && cgroups.set(guest, &weight()).is_ok() {
        println!("skipped: this host has every controller");
    } else {
        let error = cgroups.set(guest, &weight()).unwrap_err().to_string();
        assert!(error.contains("weight"), "{error}");
    }
    cgroups
        .paths(guest)
        .iter()
        .for_each(|path| std::fs::remove_dir(path).unwrap());
}

fn weight() -> Tuning {
    Tuning {
        io_weight: Some(300),
        ..Tuning::default()
    }
}
