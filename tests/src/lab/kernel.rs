//! What the kernel shows: links, processes, control groups, packet filter tables. Read here, never through vireo.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::command::run;
use super::failure::{Failure, Outcome, ensure};

/// A process, told from any later one with the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Start time in clock ticks since boot: field 22 of /proc/PID/stat.
    pub start: u64,
}

impl Process {
    /// The process that has this number now. A process that has ended and waits to be reaped is gone.
    pub fn of(pid: u32) -> Outcome<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may hold spaces and parentheses: fields are counted after the last one.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        ensure(fields.first() != Some(&"Z"), || {
            format!("process {pid} has ended")
        })?;
        let start = fields
            .get(19)
            .ok_or_else(|| Failure::new(format!("/proc/{pid}/stat is short")))?;
        Ok(Self {
            pid,
            start: start.parse()?,
        })
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == *self)
    }

    /// Ends it without warning.
    pub fn kill(&self) -> Outcome {
        ensure(self.runs(), || {
            format!("process {} has gone before it was to be killed", self.pid)
        })?;
        run("kill", ["-9", &self.pid.to_string()])?.exits(0)?;
        Ok(())
    }

    /// Whether it has this file open.
    pub fn has_open(&self, path: &str) -> Outcome<bool> {
        let mut entries = fs::read_dir(format!("/proc/{}/fd", self.pid))?.flatten();
        Ok(entries.any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(path))))
    }

    /// The name of its program.
    pub fn program(&self) -> String {
        program(self.pid)
    }

    /// Its control group in the unified hierarchy.
    pub fn cgroup(&self) -> Outcome<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid))?;
        let path = text
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .ok_or_else(|| Failure::new(format!("process {} is in no cgroup v2", self.pid)))?;
        Ok(Path::new("/sys/fs/cgroup").join(path))
    }

    /// Resident memory that belongs to no one else and has no file behind it, in KiB (`RssAnon`), and the memory shared (`RssShmem`).
    pub fn resident_kib(&self) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let value = value.and_then(|rest| rest.split_whitespace().next());
        Ok(value.ok_or_else(|| Failure::new("no VmRSS"))?.parse()?)
    }
}

/// Whether this host's processors are software: its times are then many times those of a machine.
pub fn emulated() -> Outcome<bool> {
    Ok(fs::read_to_string("/proc/cpuinfo")?.contains("QEMU TCG"))
}

/// The program's file name, or nothing for a process that has gone or is the kernel's.
pub fn program(pid: u32) -> String {
    fs::read_link(format!("/proc/{pid}/exe"))
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_default()
}

/// The numbers of all processes.
pub fn pids() -> Outcome<Vec<u32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// Every process of this program.
pub fn processes(name: &str) -> Outcome<Vec<Process>> {
    let pids = pids()?;
    Ok(pids
        .into_iter()
        .filter(|pid| program(*pid) == name)
        .filter_map(|pid| Process::of(pid).ok())
        .collect())
}

/// The processes that hold this tap open: its guest's monitor.
pub fn holders_of_tap(tap: &str) -> Outcome<Vec<Process>> {
    let mut holders = Vec::new();
    for pid in pids()? {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
            continue;
        };
        let holds = entries.flatten().any(|entry| {
            fs::read_to_string(entry.path()).is_ok_and(|text| {
                text.lines().any(|line| {
                    line.strip_prefix("iff:")
                        .is_some_and(|name| name.trim() == tap)
                })
            })
        });
        if holds && program(pid) != "vireo" {
            holders.extend(Process::of(pid));
        }
    }
    Ok(holders)
}

/// What a program says in JSON.
pub fn json(program: &str, words: &str) -> Outcome<Value> {
    let ran = run(program, words.split_whitespace())?.exits(0)?;
    if ran.out.trim().is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    serde_json::from_str(&ran.out).map_err(|e| Failure::from(e).during(ran.line))
}

/// The names of all links.
pub fn links() -> Outcome<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.retain(|name| name != "bonding_masters");
    names.sort();
    Ok(names)
}

/// The link with this name, as `ip -j -d link` shows it.
pub fn link(name: &str) -> Outcome<Value> {
    let all = json("ip", &format!("-j -d link show dev {name}"))?;
    all.get(0)
        .cloned()
        .ok_or_else(|| Failure::new(format!("there is no link {name}")))
}

/// The bridge that a link is in.
pub fn master(name: &str) -> Outcome<String> {
    let link = link(name)?;
    Ok(link["master"]
        .as_str()
        .ok_or_else(|| Failure::new(format!("{name} is in no bridge")))?
        .to_string())
}

/// The nftables tables that exist: family and name.
pub fn tables() -> Outcome<Vec<(String, String)>> {
    let all = json("nft", "-j list tables")?;
    let items = all["nftables"].as_array().cloned().unwrap_or_default();
    Ok(items
        .iter()
        .filter_map(|item| {
            let table = item.get("table")?;
            Some((
                table["family"].as_str()?.to_string(),
                table["name"].as_str()?.to_string(),
            ))
        })
        .collect())
}

/// The whole of a table as text.
pub fn table(family: &str, name: &str) -> Outcome<String> {
    Ok(run("nft", ["list", "table", family, name])?.exits(0)?.out)
}

/// The qdiscs of a link, as `tc` prints them, without those that the kernel puts there by itself.
pub fn qdiscs(link: &str) -> Outcome<Vec<String>> {
    let text = run("tc", ["qdisc", "show", "dev", link])?.exits(0)?.out;
    let own = ["noqueue", "pfifo_fast", "mq ", "fq_codel 0:", "pfifo 0:"];
    Ok(text
        .lines()
        .map(|line| line.trim_start_matches("qdisc ").to_string())
        .filter(|line| !own.iter().any(|kind| line.starts_with(kind)))
        .collect())
}
