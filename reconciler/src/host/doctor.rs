//! `vireo doctor`: what this host can and cannot do, what that costs, and how to mend it.
//!
//! In: vireo's directories; the kernel, by trying as [`super::facts`] does. Out: one [`Check`] a part, in an order that a person can read from the top. What can go wrong:
//! nothing; a check that cannot be made is broken and says why.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cgroup::Cgroups;
use super::paths::Paths;
use super::{command, facts, nft, sysctl};
use crate::compile::nft::TableName;
use crate::inventory::{CgroupVersion, HostFacts};

/// One part of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What vireo cannot do for want of it; empty where it is fine.
    pub costs: String,
    /// How to mend it; empty where it is fine, or where nothing helps but another kernel or machine.
    pub fix: String,
}

/// How a part of the host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Works.
    Ok,
    /// Is not there: what needs it is refused, the rest works.
    Lacking,
    /// Does not work: nothing, or next to nothing, will.
    Broken,
}

impl Check {
    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self::of(Verdict::Ok, name, found, "", "")
    }

    fn lacking(name: &str, found: impl Into<String>, costs: &str, fix: &str) -> Self {
        Self::of(Verdict::Lacking, name, found, costs, fix)
    }

    fn broken(name: &str, found: impl Into<String>, costs: &str, fix: &str) -> Self {
        Self::of(Verdict::Broken, name, found, costs, fix)
    }

    fn of(verdict: Verdict, name: &str, found: impl Into<String>, costs: &str, fix: &str) -> Self {
        Self {
            name: name.to_owned(),
            verdict,
            found: found.into(),
            costs: costs.to_owned(),
            fix: fix.to_owned(),
        }
    }
}

/// Looks at everything that vireo needs of a host.
pub async fn doctor(paths: &Paths) -> Vec<Check> {
    let cgroups = Cgroups::detect();
    let facts = match &cgroups {
        Ok(cgroups) => facts::probe(cgroups).await,
        Err(_) => HostFacts::default(),
    };
    let mut checks = vec![privileges()];
    checks.extend(directories(paths));
    checks.push(kvm(&facts));
    checks.extend(tools(&facts));
    checks.push(tun());
    checks.push(tables().await);
    checks.extend(bridge_filters(&facts));
    checks.extend(shaping().await);
    checks.push(match cgroups {
        Ok(_) => control_groups(&facts),
        Err(error) => Check::broken(
            "control groups",
            error.to_string(),
            "no guest can be started",
            "mount /proc",
        ),
    });
    checks.push(bridged_traffic());
    checks.push(name_servers());
    checks.push(vhost());
    checks.push(io_uring(
        fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok(),
    ));
    checks.extend(containment());
    checks
}

fn privileges() -> Check {
    const NET_ADMIN: u64 = 1 << 12;
    const NAME: &str = "privileges";
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or(0);
    let root = rustix::process::geteuid().is_root();
    if root && effective & NET_ADMIN != 0 {
        return Check::ok(NAME, "root, with the capability for networks");
    }
    let found = if root {
        "root without CAP_NET_ADMIN"
    } else {
        "not root"
    };
    Check::broken(
        NAME,
        found,
        "vireo can plan, and change nothing",
        "run it as root",
    )
}

fn directories(paths: &Paths) -> Vec<Check> {
    let named = [
        ("state directory", &paths.state),
        ("runtime directory", &paths.runtime),
    ];
    let mut checks: Vec<Check> = named
        .iter()
        .map(|(name, path)| {
            let nearest = path
                .ancestors()
                .find(|a| a.exists())
                .unwrap_or(Path::new("/"));
            match rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK) {
                Ok(()) => Check::ok(name, path.display().to_string()),
                Err(error) => Check::broken(
                    name,
                    format!("{} cannot be written: {error}", nearest.display()),
                    "nothing can be applied",
                    "run vireo as root, or choose another with --state-dir and --runtime-dir",
                ),
            }
        })
        .collect();
    checks.push(if paths.hooks.is_dir() {
        Check::ok("hooks", paths.hooks.display().to_string())
    } else {
        Check::ok(
            "hooks",
            format!("none ({} does not exist)", paths.hooks.display()),
        )
    });
    checks
}

fn kvm(facts: &HostFacts) -> Check {
    const NAME: &str = "KVM";
    const COSTS: &str =
        "guests of type 'kvm' do not start; those of type 'qemu' run in software, slowly";
    match (facts::kvm(), &facts.kvm_limits) {
        (Ok(()), None) => Check::ok(NAME, "/dev/kvm opens"),
        (Ok(()), Some(limits)) => Check::lacking(
            NAME,
            limits.clone(),
            COSTS,
            "use a machine with hardware virtualisation (VT-x or AMD-V)",
        ),
        (Err(error), _) => Check::lacking(
            NAME,
            format!("/dev/kvm: {error}"),
            COSTS,
            "turn virtualisation on in the firmware, then `modprobe kvm_intel` or `modprobe kvm_amd`",
        ),
    }
}

fn tools(facts: &HostFacts) -> Vec<Check> {
    let wanted = [
        ("vireo-vmm", "guests of the builtin driver do not start"),
        (
            "qemu-system-x86_64",
            "guests that need the qemu driver (firmware, displays, type 'qemu') do not start",
        ),
        ("qemu-img", "qcow2 volumes are neither made nor grown"),
        ("dnsmasq", "networks have no DHCP and no DNS"),
        (
            "nft",
            "networks do not reach the outside, and no packet filter works",
        ),
        ("tc", "bandwidth limits are refused"),
    ];
    wanted
        .iter()
        .map(|(tool, costs)| match facts.tools.get(*tool) {
            Some(path) => Check::ok(tool, path.display().to_string()),
            None if *tool == "vireo-vmm" => Check::lacking(
                tool,
                "not beside vireo and not in PATH",
                costs,
                "install it beside vireo, or set VIREO_VMM to its path",
            ),
            None => Check::lacking(tool, "not found", costs, &command::package_help(tool)),
        })
        .collect()
}

fn tun() -> Check {
    let opened = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    match opened {
        Ok(_) => Check::ok("taps", "/dev/net/tun opens"),
        Err(error) => Check::broken(
            "taps",
            format!("/dev/net/tun: {error}"),
            "guests have no network",
            "`modprobe tun`",
        ),
    }
}

async fn tables() -> Check {
    const NAME: &str = "nftables";
    const COSTS: &str = "networks do not reach the outside, and no packet filter works";
    let observed = tokio::task::spawn_blocking(|| nft::observe(&[TableName::networks()])).await;
    let failure = match observed {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(error) = failure {
        return Check::broken(
            NAME,
            error,
            COSTS,
            "run vireo as root; `modprobe nf_tables`",
        );
    }
    if facts::rule_works("inet", "ct state established accept").await {
        Check::ok(NAME, "the kernel takes our tables")
    } else {
        Check::broken(
            NAME,
            "the kernel or `nft` does not take a table that tracks connections",
            COSTS,
            "`apt-get install nftables`; `modprobe nf_tables nf_conntrack`",
        )
    }
}

fn bridge_filters(facts: &HostFacts) -> [Check; 2] {
    let part = |name: &str, works: bool, costs: &str, module: &str| {
        if works {
            Check::ok(name, "the kernel has it")
        } else {
            Check::lacking(
                name,
                "the kernel does not take such a rule in the bridge family",
                costs,
                &format!("`modprobe {module}`, where the kernel has it"),
            )
        }
    };
    [
        part(
            "packet filters that track connections",
            facts.bridge_ct,
            "filters with stateful rules are compiled without state or refused; each says so",
            "nf_conntrack_bridge",
        ),
        part(
            "packet filters that reject",
            facts.bridge_reject,
            "filters with the action 'reject' are refused",
            "nft_reject_bridge",
        ),
    ]
}

async fn shaping() -> [Check; 2] {
    const HTB: &str = "qdisc add dev lo root handle 1: htb default 10\nclass add dev lo parent 1: classid 1:10 htb rate 1mbit\n";
    const REDIRECT: &str = "qdisc add dev lo handle ffff: ingress\nfilter add dev lo parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev lo\n";
    const FAIR: &str = "qdisc add dev lo root handle 10: fq_codel\n";
    const NAME: &str = "bandwidth limits";
    let (htb, redirect, ifb, fair) = tokio::join!(
        facts::shaping_works(HTB),
        facts::shaping_works(REDIRECT),
        facts::link_works("ifb"),
        facts::shaping_works(FAIR),
    );
    let limits = match (htb, redirect.and(ifb)) {
        (Err(error), _) => Check::lacking(
            NAME,
            format!("no HTB: {error}"),
            "bandwidth limits are refused",
            "`modprobe sch_htb`; `apt-get install iproute2`",
        ),
        (Ok(()), Err(error)) => Check::lacking(
            NAME,
            format!("only towards guests: {error}"),
            "limits of what a guest sends are refused",
            "`modprobe ifb act_mirred cls_u32 sch_ingress`",
        ),
        (Ok(()), Ok(())) => Check::ok(NAME, "HTB both ways"),
    };
    let fair = match fair {
        Ok(()) => Check::ok("fair queues", "fq_codel"),
        Err(_) => Check::lacking(
            "fair queues",
            "no fq_codel",
            "within a bandwidth limit, one flow can keep a guest's others waiting",
            "`modprobe sch_fq_codel`",
        ),
    };
    [limits, fair]
}

fn control_groups(facts: &HostFacts) -> Check {
    const NAME: &str = "control groups";
    let missing: Vec<&str> = ["cpu", "cpuset", "memory", "io"]
        .into_iter()
        .filter(|controller| !facts.cgroup_controllers.contains(*controller))
        .collect();
    let version = match facts.cgroup {
        CgroupVersion::None => {
            return Check::lacking(
                NAME,
                "no hierarchy with controllers is mounted",
                "guests have no weights and limits; definitions that state some are refused",
                "mount cgroup2 on /sys/fs/cgroup",
            );
        }
        CgroupVersion::V1 => "version 1",
        CgroupVersion::V2 => "version 2",
    };
    if missing.is_empty() {
        return Check::ok(NAME, version);
    }
    Check::lacking(
        NAME,
        format!("{version}, without {}", missing.join(", ")),
        "definitions that state values of these controllers are refused",
        "turn them on at the kernel's command line (cgroup_enable=…), or in the parent's cgroup.subtree_control",
    )
}

/// With br_netfilter, what the host's firewall does to forwarded packets it does to bridged ones as well.
fn bridged_traffic() -> Check {
    const NAME: &str = "bridged traffic and the host's firewall";
    let setting = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if sysctl::get(setting).is_some_and(|value| value != "0") {
        Check::lacking(
            NAME,
            "br_netfilter passes bridged packets through the rules for forwarded ones",
            "guests of one network may not reach each other where the host's firewall drops forwarded packets (as Docker's does)",
            "`sysctl net.bridge.bridge-nf-call-iptables=0`, unless something relies on it",
        )
    } else {
        Check::ok(NAME, "kept apart")
    }
}

/// A name server of the host's that takes port 53 of every address leaves none to our networks.
fn name_servers() -> Check {
    const NAME: &str = "port 53";
    let wildcard = |path: &str, any: &str| {
        let table = fs::read_to_string(path).unwrap_or_default();
        table
            .lines()
            .any(|line| line.split_ascii_whitespace().nth(1) == Some(any))
    };
    let taken = wildcard("/proc/net/udp", "00000000:0035")
        || wildcard("/proc/net/udp6", "00000000000000000000000000000000:0035");
    if taken {
        Check::lacking(
            NAME,
            "something listens on port 53 of every address",
            "networks with DNS may not start their dnsmasq",
            "let it listen on the host's own addresses only (`ss -lunp sport = :53` shows it)",
        )
    } else {
        Check::ok(NAME, "free for networks")
    }
}

/// Whether disks can have their requests go on side by side; by the kernel's switch for it (Linux, Documentation/admin-guide/sysctl/kernel.rst), which older kernels do not have.
fn io_uring(switch: Option<String>) -> Check {
    const NAME: &str = "io_uring";
    match switch.as_deref().map(str::trim) {
        Some("2") => Check::lacking(
            NAME,
            "switched off (kernel.io_uring_disabled is 2)",
            "a guest whose disk says io='io_uring' does not start under builtin; other disks answer one request after the other",
            "`sysctl kernel.io_uring_disabled=1` gives it to root alone, which starts the monitors",
        ),
        Some(_) => Check::ok(NAME, "requests of a disk go on side by side"),
        None => Check::ok(NAME, "no switch of this kernel turns it off"),
    }
}

fn vhost() -> Check {
    if Path::new("/dev/vhost-net").exists() {
        Check::ok("vhost-net", "/dev/vhost-net")
    } else {
        Check::lacking(
            "vhost-net",
            "no /dev/vhost-net",
            "the network of guests is slower, and guests with <driver name='vhost'/> do not start",
            "`modprobe vhost_net`",
        )
    }
}

/// What the builtin driver's monitors are held by, beside what every kernel has.
fn containment() -> [Check; 2] {
    const NAMESPACES: &str = "namespaces";
    let lacking: Vec<_> = ["ipc", "mnt", "net", "pid"]
        .into_iter()
        .filter(|kind| !Path::new("/proc/self/ns").join(kind).exists())
        .collect();
    let namespaces = if lacking.is_empty() {
        Check::ok(NAMESPACES, "of files, links, processes and messages")
    } else {
        let found = format!("this kernel has none of kind {}", lacking.join(", "));
        let costs =
            "a guest that breaks out of the builtin driver's monitor is held by fewer walls";
        Check::lacking(NAMESPACES, found, costs, "use a kernel that has them")
    };
    const LANDLOCK: &str = "landlock";
    const COSTS: &str =
        "a guest that breaks out of the builtin driver's monitor is held by one wall less";
    let modules = fs::read_to_string("/sys/kernel/security/lsm");
    let landlock = match modules {
        Ok(modules) if modules.trim().split(',').any(|module| module == "landlock") => {
            Check::ok(LANDLOCK, "among the kernel's security modules")
        }
        Ok(modules) => Check::lacking(
            LANDLOCK,
            format!(
                "not among the kernel's security modules ({})",
                modules.trim()
            ),
            COSTS,
            "add it to `lsm=` on the host kernel's command line",
        ),
        Err(error) => Check::lacking(
            LANDLOCK,
            format!("cannot tell: /sys/kernel/security/lsm: {error}"),
            COSTS,
            "`mount -t securityfs securityfs /sys/kernel/security`",
        ),
    };
    [namespaces, landlock]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_uring_that_nobody_is_given_is_lacking() {
        for (switch, verdict) in [
            (None, Verdict::Ok),
            (Some("0\n"), Verdict::Ok),
            (Some("1\n"), Verdict::Ok),
            (Some("2\n"), Verdict::Lacking),
        ] {
            assert_eq!(io_uring(switch.map(str::to_owned)).verdict, verdict);
        }
    }

    #[tokio::test]
    async fn whatever_is_not_fine_says_what_it_costs_and_how_to_mend_it() {
        let folder = tempfile::tempdir().unwrap();
        let checks = doctor(&Paths::under(folder.path())).await;
        assert!(checks.len() > 15);
        for check in &checks {
            eprintln!("{:8?} {:40} {}", check.verdict, check.name, check.found);
            if check.verdict == Verdict::Ok {
                assert!(check.costs.is_empty() && check.fix.is_empty(), "{check:?}");
            } else {
                assert!(
                    !check.costs.is_empty() && !check.fix.is_empty(),
                    "{check:?}"
                );
            }
        }
    }
}
