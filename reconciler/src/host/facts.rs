//! What this host can and cannot do, found by trying.
//!
//! In: the kernel and the file system. Out: [`HostFacts`] for plans. What can go wrong: nothing; what cannot be found out is what the host cannot do.
//!
//! Trying changes nothing: packet rules are checked by the kernel and not applied, and tries of traffic control happen in a network namespace that ends with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vireo_schema::scalar::{CpuSet, Scalar as _};

use super::cgroup::Cgroups;
use super::{command, sysctl};
use crate::inventory::HostFacts;
use crate::units::Bytes;

/// Tools that vireo starts.
const TOOLS: [&str; 5] = ["nft", "tc", "dnsmasq", "qemu-img", "qemu-system-x86_64"];

const LIMIT: Duration = Duration::from_secs(10);

/// Why a kernel whose KVM is this module cannot run an ordinary guest.
const PVM: &str = "KVM here is kvm_pvm without hardware support: it runs small guests by emulation, and no ordinary 64-bit kernel";

/// Everything that stays as it is while the host is up.
pub async fn probe(cgroups: &Cgroups) -> HostFacts {
    let (bridge_ct, bridge_reject) = tokio::join!(
        rule_works("bridge", "ct state established accept"),
        rule_works("bridge", "reject"),
    );
    let kvm = kvm();
    HostFacts {
        cpus: std::thread::available_parallelism()
            .map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory: memory(),
        memory_nodes: memory_nodes(Path::new("/sys/devices/system/node")),
        kvm: kvm.is_ok(),
        kvm_limits: kvm_limits(Path::new("/sys/module")),
        cgroup: cgroups.version(),
        cgroup_controllers: cgroups.controllers(),
        bridge_ct,
        bridge_reject,
        tools: tools(),
        runtime: super::paths::Paths::default().runtime,
        ip_forward: forwarding(false),
        ip6_forward: forwarding(true),
    }
}

/// Whether the host forwards packets now.
pub fn forwarding(ipv6: bool) -> bool {
    let path = if ipv6 {
        sysctl::ipv6("all", "forwarding")
    } else {
        PathBuf::from("/proc/sys/net/ipv4/ip_forward")
    };
    sysctl::get(&path).is_some_and(|value| value == "1")
}

/// The tools that were found, with their paths.
pub fn tools() -> BTreeMap<String, PathBuf> {
    let mut tools: BTreeMap<String, PathBuf> = TOOLS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), command::find_tool(name)?)))
        .collect();
    if let Some(monitor) = crate::domain::find_program("vireo-vmm", Some("VIREO_VMM")) {
        tools.insert("vireo-vmm".to_owned(), monitor);
    }
    tools
}

/// Whether `/dev/kvm` can be opened.
///
/// # Errors
/// Why it cannot.
pub fn kvm() -> io::Result<()> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map(drop)
}

/// Why KVM here cannot run an ordinary kernel, by the modules that are loaded.
pub fn kvm_limits(modules: &Path) -> Option<String> {
    let loaded = |name: &str| modules.join(name).exists();
    (loaded("kvm_pvm") && !loaded("kvm_intel") && !loaded("kvm_amd")).then(|| PVM.to_owned())
}

fn memory() -> Bytes {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|value| value.split_ascii_whitespace().next())
        .and_then(|kib| kib.parse().ok());
    Bytes::kib(total.unwrap_or(0))
}

/// The nodes that have memory, by the folder in which the kernel shows them; `None` where it shows none.
fn memory_nodes(folder: &Path) -> Option<BTreeSet<u32>> {
    let list = fs::read_to_string(folder.join("has_memory")).ok()?;
    CpuSet::parse(&list).ok().map(|nodes| nodes.cpus().clone())
}

/// Whether the kernel takes such a rule: it is checked against a table that is never made.
pub async fn rule_works(family: &str, rule: &str) -> bool {
    let script = format!(
        "add table {family} vireo_probe\nadd chain {family} vireo_probe probe\nadd rule {family} vireo_probe probe {rule}\n"
    );
    command::run("nft", &["-c", "-f", "-"], &script, LIMIT)
        .await
        .is_ok()
}

/// Whether `tc` can do this on the loopback device of a network namespace that ends with the try.
pub async fn shaping_works(batch: &str) -> Result<(), command::CommandError> {
    in_throw_away_namespace(&["tc", "-batch", "-"], batch).await
}

/// Whether a link of this kind can be made.
pub async fn link_works(kind: &str) -> Result<(), command::CommandError> {
    in_throw_away_namespace(&["ip", "link", "add", "vireo-probe", "type", kind], "").await
}

async fn in_throw_away_namespace(line: &[&str], input: &str) -> Result<(), command::CommandError> {
    let arguments: Vec<&str> = ["--net", "--"].iter().chain(line).copied().collect();
    command::run("unshare", &arguments, input, LIMIT)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_without_hardware_support_is_told_apart() {
        let modules = tempfile::tempdir().unwrap();
        let load = |name: &str| fs::create_dir(modules.path().join(name)).unwrap();
        assert_eq!(kvm_limits(modules.path()), None);
        load("kvm_pvm");
        assert!(kvm_limits(modules.path()).is_some());
        load("kvm_amd");
        assert_eq!(kvm_limits(modules.path()), None);
    }

    #[test]
    fn nodes_without_memory_are_none_to_take_memory_from() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(memory_nodes(folder.path()), None);
        fs::write(folder.path().join("has_memory"), "0,2-3\n").unwrap();
        assert_eq!(memory_nodes(folder.path()), Some([0, 2, 3].into()));
    }

    #[tokio::test]
    async fn trying_leaves_nothing_behind() {
        if !rustix::process::geteuid().is_root() || command::find_tool("nft").is_none() {
            eprintln!("skipped: needs root and nft");
            return;
        }
        let state = || async {
            let tables = command::run("nft", &["list", "tables"], "", LIMIT)
                .await
                .unwrap();
            (
                tables,
                fs::read_to_string("/proc/net/dev").unwrap().lines().count(),
            )
        };
        let before = state().await;
        assert!(rule_works("inet", "ct state established accept").await);
        assert!(!rule_works("bridge", "no-such-thing").await);
        assert!(link_works("bridge").await.is_ok());
        assert!(link_works("no-such-kind").await.is_err());
        assert!(
            shaping_works("qdisc add dev lo root handle 1: htb default 10\n")
                .await
                .is_ok()
        );
        assert_eq!(state().await, before);
    }
}
