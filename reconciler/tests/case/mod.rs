//! A simulated host, and a directory of definitions that it is to become equal to.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use vireo_reconciler::controller::{Look, look};
use vireo_reconciler::execute::executor::Executor;
use vireo_reconciler::host::simulated::{SimulatedHost, World};
use vireo_reconciler::inventory::{
    CgroupVersion, File, HostFacts, Image, Inventory, Link, LinkKind,
};
use vireo_reconciler::plan::render::{self, Style};
use vireo_reconciler::plan::step::Verb;
use vireo_reconciler::resolve::domain::Bandwidth;
use vireo_reconciler::resolve::storage::{ImageFormat, Permissions};
use vireo_reconciler::source::directory::Directories;
use vireo_reconciler::units::Bytes;

/// A file; an image where its name says so.
fn file(path: &Path) -> File {
    let is_image = path.extension().is_some_and(|ending| ending == "qcow2");
    File {
        permissions: Permissions::default(),
        size: Bytes::mib(8),
        image: is_image.then(|| Image {
            format: ImageFormat::Qcow2,
            capacity: Bytes::gib(8),
            backing: None,
        }),
    }
}

fn link(kind: LinkKind) -> Link {
    Link {
        kind,
        owner: None,
        master: None,
        up: true,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        addresses: BTreeSet::new(),
        routes: BTreeSet::new(),
        stp: false,
        delay: 0,
        bandwidth: Bandwidth::default(),
    }
}

/// A host with KVM, every tool, these links and these files.
fn host(links: &[(&str, LinkKind)], files: &[&str]) -> Arc<SimulatedHost> {
    let inventory = Inventory {
        host: HostFacts {
            cpus: 8,
            memory: Bytes::gib(64),
            kvm: true,
            cgroup: CgroupVersion::V2,
            bridge_ct: true,
            bridge_reject: true,
            ..HostFacts::default()
        },
        links: links
            .iter()
            .map(|(name, kind)| ((*name).to_owned(), link(*kind)))
            .collect(),
        files: files
            .iter()
            .map(|path| (PathBuf::from(path), file(Path::new(path))))
            .collect(),
        ..Inventory::default()
    };
    Arc::new(SimulatedHost::new(World {
        inventory,
        ..World::default()
    }))
}

/// One case: a host, and a directory of definitions that takes one state after another.
pub struct Case {
    host: Arc<SimulatedHost>,
    /// The directory.
    pub desired: tempfile::TempDir,
}

impl Case {
    /// An empty directory, and a host with these links and files.
    pub fn new(links: &[(&str, LinkKind)], files: &[&str]) -> Self {
        Self {
            host: host(links, files),
            desired: tempfile::tempdir().unwrap(),
        }
    }

    /// Puts these definitions in the place of those that are there.
    pub fn state(&self, definitions: &Path) {
        let root = self.desired.path();
        for entry in fs::read_dir(root).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        // An empty directory is not kept by git.
        for entry in fs::read_dir(definitions).into_iter().flatten() {
            let path = entry.unwrap().path();
            fs::copy(&path, root.join(path.file_name().unwrap())).unwrap();
        }
    }

    /// What is wanted, what is, and the plan.
    pub async fn look(&self) -> Look {
        let source = Directories::new(vec![self.desired.path().to_owned()]);
        look(&*self.host, &source).await.unwrap()
    }

    /// The plan as people read it, without what differs from run to run.
    pub fn shown(&self, look: &Look) -> String {
        let root = format!("{}/", self.desired.path().display());
        let text = render::plan(&look.plan, Style::default());
        let text = text.replace(&root, "");
        text.replace(&look.plan.digest(), "DIGEST")
    }

    /// Carries out what may be, until nothing is left of it. What failed, if anything did.
    pub async fn apply(&self) -> Vec<String> {
        let executor = Executor::new(self.host.clone(), CancellationToken::new());
        for _ in 0..5 {
            let mut plan = self.look().await.plan;
            if plan.confirm.is_some() {
                plan.leave_out(|step| matches!(step.verb, Verb::Delete | Verb::Release));
            }
            if plan.steps.is_empty() {
                return Vec::new();
            }
            let reports = executor.execute(&plan, |_| {}).await;
            let failed = reports.iter().filter(|report| !report.outcome.succeeded());
            let failed: Vec<String> = failed.map(|report| format!("{report:?}")).collect();
            if !failed.is_empty() {
                return failed;
            }
        }
        vec![format!(
            "it never ends:\n{}",
            self.shown(&self.look().await)
        )]
    }
}
