//! Definitions that an administrator of libvirt has: imported as they are, and planned.
//!
//! They lie in the folder `seeds` of the corpus at `$VIREO_CORPUS` or `../shared/corpus`; without it these tests say so and pass.

mod case;

use std::fs;
use std::path::{Path, PathBuf};

use case::Case;
use vireo_reconciler::import::{import, texts};
use vireo_reconciler::inventory::LinkKind;
use vireo_schema::tidy::Keep;
use vireo_schema::to_yaml;

/// What the seeds speak of and a host of theirs has.
const LINKS: &[(&str, LinkKind)] = &[("br0", LinkKind::Bridge), ("eth1", LinkKind::Other)];
const FILES: &[&str] = &[
    "/var/lib/libvirt/images/centos7u2.qcow2",
    "/home/openstack/images/ubuntutest.qcow2",
    "/home/openstack/images/ubuntu-14.04-server-amd64.iso",
    "/mnt/migrate/ubuntutest4.qcow2",
];

fn seeds() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stated = std::env::var_os("VIREO_CORPUS").map(PathBuf::from);
    let found = stated
        .into_iter()
        .chain([root.join("../../shared/corpus")])
        .map(|corpus| corpus.join("seeds"))
        .find(|seeds| seeds.is_dir());
    if found.is_none() {
        eprintln!("skipped: no corpus at $VIREO_CORPUS or ../shared/corpus");
    }
    found
}

/// Imports every seed but those, as YAML, and shows the plan.
async fn planned(seeds: &Path, but: &[&str]) -> String {
    let case = Case::new(LINKS, FILES);
    let mut files: Vec<PathBuf> = fs::read_dir(seeds)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "xml"))
        .filter(|path| !but.iter().any(|but| path.ends_with(but)))
        .collect();
    files.sort();
    for text in files.iter().flat_map(|file| texts(file).unwrap()) {
        let imported = import(&text, Keep::default());
        assert!(imported.problems.is_empty(), "{:#?}", imported.problems);
        for one in imported.definitions {
            let name = one.place().display().to_string().replace('/', "-");
            let file = case.desired.path().join(format!("{name}.yaml"));
            assert!(!file.exists(), "{name} is there twice");
            fs::write(file, to_yaml(&one.definition, &one.policy)).unwrap();
        }
    }
    case.shown(&case.look().await)
}

#[tokio::test(start_paused = true)]
async fn the_seeds_are_imported_and_each_is_planned_or_refused_with_the_reason() {
    let Some(seeds) = seeds() else { return };
    let but = ["pool-nfspool-wrong-type.xml", "network-default-v6.xml"];
    insta::assert_snapshot!("seeds", planned(&seeds, &but).await);
    let but = [
        "pool-nfspool-wrong-type.xml",
        "network-default.xml",
        "network-local.xml",
    ];
    insta::assert_snapshot!("seeds_with_ipv6", planned(&seeds, &but).await);
}
