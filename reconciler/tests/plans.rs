//! Plans as scripts: each directory of `plans/` holds definitions before and after an edit, and the plan that the edit must give.
//!
//! The definitions of `before` are applied to a simulated host until nothing is left to do; then those of `after` take their place. `plan.txt` begins with a line that
//! says why the case is there; the rest is what `vireo plan` shows. `UPDATE=1 cargo test -p vireo-reconciler --test plans` writes it anew. What is planned is then carried
//! out, as `vireo apply --yes` does, and must leave nothing to do but what waits for leave.

mod case;

use std::fs;
use std::path::{Path, PathBuf};

use case::Case;

/// What is wrong with one case, if anything is.
async fn run(directory: &Path) -> Option<String> {
    let case = Case::new(
        &[],
        &["/boot/vmlinuz", "/boot/initrd", "/images/install.iso"],
    );
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
