//! `vireo plan` with nothing to do, over many definitions: guests that are wanted stopped, each with a filter, a tenth of them with a volume's worth of text.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vireo_tests::lab::{Outcome, command};

use crate::{binary, median, row, seconds};

const TURNS: usize = 3;

pub fn bench(words: &[String]) -> Outcome {
    let mut counts = Vec::new();
    for word in words {
        counts.push(word.parse()?);
    }
    if counts.is_empty() {
        counts = vec![1_000, 10_000];
    }
    for count in counts {
        let scratch = std::env::var_os("VIREO_BENCH_DIR")
            .map_or_else(|| PathBuf::from("/run/vireo-bench"), PathBuf::from);
        let root = scratch.join(format!("plan-{count}"));
        let _ = fs::remove_dir_all(&root);
        write(&root.join("desired"), count)?;
        fs::create_dir_all(root.join("hooks"))?;
        vireo(&root, "apply --yes")?.exits(0)?;
        let mut times = Vec::new();
        for _ in 0..TURNS {
            times.push(vireo(&root, "plan")?.exits(0)?.took);
        }
        let time = median(&mut times)?;
        let each = time.as_secs_f64() * 1e6 / f64::from(count);
        row(
            &format!("plan, nothing to do, {count} definitions"),
            "vireo",
            &seconds(time),
            &format!("{each:.0} µs each"),
        );
        fs::remove_dir_all(&root)?;
    }
    Ok(())
}

fn vireo(root: &Path, words: &str) -> Outcome<command::Ran> {
    let mut command = Command::new(binary("vireo")?);
    command
        .args(words.split_whitespace())
        .env("VIREO_DESIRED", root.join("desired"))
        .env("VIREO_STATE_DIR", root.join("state"))
        .env("VIREO_RUNTIME_DIR", root.join("runtime"))
        .env("VIREO_HOOKS_DIR", root.join("hooks"));
    command::run_with(command)
}

/// One filter for ten guests; ten definitions a file.
fn write(desired: &Path, count: u32) -> Outcome {
    fs::create_dir_all(desired)?;
    for group in 0..count / 10 {
        fs::write(desired.join(format!("filter-{group}.xml")), filter(group))?;
        for guest in 0..9 {
            fs::write(
                desired.join(format!("guest-{group}-{guest}.xml")),
                domain(group, guest),
            )?;
        }
    }
    Ok(())
}

fn filter(group: u32) -> String {
    let mut text = format!("<filter name='filter-{group}'>\n");
    for port in 0..8 {
        let _ = writeln!(
            text,
            "  <rule action='drop' direction='out'><tcp dstportstart='{}'/></rule>",
            1000 + port
        );
    }
    text + "</filter>\n"
}

fn domain(group: u32, guest: u32) -> String {
    format!(
        "<domain type='kvm'>
  <name>guest-{group}-{guest}</name>
  <metadata><vireo:policy xmlns:vireo='urn:vireo:policy:1' state='stopped'/></metadata>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type><kernel>/run/vireo-bench/vmlinuz</kernel></os>
  <devices>
    <interface type='bridge'><source bridge='br0'/><model type='virtio'/><filterref filter='filter-{group}'/></interface>
    <console type='pty'/>
  </devices>
</domain>
"
    )
}
