//! Plans as scripts: each directory of `plans/` holds definitions before and after an edit, and the plan that the edit must give.
//!
//! The definitions of `before` are applied to a simulated host until nothing is left to do; then those of `after` take their place. `plan.txt` begins with a line that
//! says why the case is there; the rest is what `vireo plan` shows. `UPDATE=1 cargo test -p vireo-reconciler --test plans` writes it anew. What is planned is then carried
//! out, as `vireo apply --yes` does, and must leave nothing to do but what waits for leave.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use vireo_reconciler::controller::{Look, look};
use vireo_reconciler::execute::executor::Executor;
use vireo_reconciler::host::simulated::{SimulatedHost, World};
use vireo_reconciler::inventory::{CgroupVersion, File, HostFacts, Inventory};
use vireo_reconciler::plan::render::{self, Style};
use vireo_reconciler::plan::step::Verb;
use vireo_reconciler::resolve::storage::Permissions;
use vireo_reconciler::source::directory::Directories;
use vireo_reconciler::units::Bytes;

/// A host with KVM, every tool, and what guests boot.
fn host() -> Arc<SimulatedHost> {
    let file = File {
        permissions: Permissions::default(),
        size: Bytes::mib(8),
        image: None,
    };
    let files = ["/boot/vmlinuz", "/boot/initrd", "/images/install.iso"];
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
        files: files
            .map(|path| (PathBuf::from(path), file.clone()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        ..Inventory::default()
    };
    Arc::new(SimulatedHost::new(World {
        inventory,
        ..World::default()
    }))
}

/// One case: a host, and a directory of definitions that takes one state after another.
struct Case {
    host: Arc<SimulatedHost>,
    desired: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self {
            host: host(),
            desired: tempfile::tempdir().unwrap(),
        }
    }

    /// Puts these definitions in the place of those that are there.
    fn state(&self, definitions: &Path) {
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

    async fn look(&self) -> Look {
        let source = Directories::new(vec![self.desired.path().to_owned()]);
        look(&*self.host, &source).await.unwrap()
    }

    fn shown(&self, look: &Look) -> String {
        let root = format!("{}/", self.desired.path().display());
        let text = render::plan(&look.plan, Style::default());
        let text = text.replace(&root, "");
        text.replace(&look.plan.digest(), "DIGEST")
    }

    /// Carries out what may be, until nothing is left of it. What failed, if anything did.
    async fn apply(&self) -> Vec<String> {
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

/// What is wrong with one case, if anything is.
async fn run(directory: &Path) -> Option<String> {
    let case = Case::new();
    case.state(&directory.join("before"));
    let failed = case.apply().await;
    if !failed.is_empty() {
        return Some(format!("before: {failed:#?}"));
    }
    case.state(&directory.join("after"));
    let golden = directory.join("plan.txt");
    let old = fs::read_to_string(&golden).unwrap_or_default();
    let why = old.lines().next().filter(|line| line.starts_with("# "));
    let Some(why) = why else {
        return Some(
            "plan.txt does not begin with a line that says why the case is there".to_owned(),
        );
    };
    let new = format!("{why}\n\n{}", case.shown(&case.look().await));
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&golden, &new).unwrap();
    } else if new != old {
        return Some(format!("the plan is now\n{new}"));
    }
    let failed = case.apply().await;
    (!failed.is_empty()).then(|| format!("after: {failed:#?}"))
}

#[tokio::test(start_paused = true)]
async fn every_script_gives_its_plan_and_the_plan_leaves_nothing_to_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut directories: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    directories.sort();
    assert!(directories.len() >= 25, "{}", directories.len());
    let mut wrong = String::new();
    for directory in directories {
        if let Some(what) = run(&directory).await {
            wrong.push_str(&format!("{}: {what}\n", directory.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nUPDATE=1 writes the plans anew");
}
