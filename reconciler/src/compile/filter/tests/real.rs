//! The real `nft` as a judge: does it take what we write, on this kernel?
//!
//! Everything happens in a network namespace of its own. Without the right to make one, or without `nft`, a test says so and goes on.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::super::{Compiled, Features, skeleton};
use crate::compile::nft::{NftOp, render};

/// The transaction that installs a skeleton and these bindings.
pub fn script(compiled: &[&Compiled]) -> String {
    let skeleton = skeleton();
    let table = skeleton.table.clone();
    let mut ops = vec![NftOp::EnsureSkeleton(skeleton)];
    for compiled in compiled {
        for (name, chain) in &compiled.chains {
            ops.push(NftOp::ReplaceChain {
                table: table.clone(),
                name: name.clone(),
                chain: chain.clone(),
            });
        }
        for element in &compiled.elements {
            ops.push(NftOp::SetElement {
                table: table.clone(),
                element: element.clone(),
            });
        }
    }
    render(&ops)
}

/// Runs a command in a network namespace of its own, with `input`; its output, or what it said against it. `None`: it cannot be run here.
pub fn in_namespace(command: &[&str], input: &str) -> Option<Result<String, String>> {
    let mut child = Command::new("unshare")
        .arg("-n")
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(input.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    })
}

/// What this machine can do; `None`, with the reason printed, where it cannot be asked.
pub fn features() -> Option<Features> {
    let probe = |rule: &str| {
        let input = format!(
            "add table bridge t\nadd chain bridge t c {{ type filter hook prerouting priority 0; }}\nadd rule bridge t c {rule}\n"
        );
        in_namespace(&["nft", "-f", "-"], &input)
    };
    match probe("accept") {
        Some(Ok(_)) => {}
        other => {
            println!("skipped: no nftables in a network namespace here: {other:?}");
            return None;
        }
    }
    Some(Features {
        bridge_ct: matches!(probe("ct state new accept"), Some(Ok(_))),
        bridge_reject: matches!(probe("ether type ip reject"), Some(Ok(_))),
    })
}

/// Has the kernel take the script for real, twice: the second time must go through as well.
///
/// Rules that the kernel has no module for cannot be judged; where such features are missing the script is made for a kernel without them.
pub fn accepted(script: &str) -> Result<(), String> {
    let twice = format!("{script}{script}");
    match in_namespace(&["nft", "-f", "-"], &twice) {
        None => Err("cannot run nft".to_owned()),
        Some(Ok(_)) => Ok(()),
        Some(Err(said)) => Err(format!("{said}\n{script}")),
    }
}
