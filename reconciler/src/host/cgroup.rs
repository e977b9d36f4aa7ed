//! Control groups of guests, on the unified hierarchy (v2) and on one hierarchy a controller (v1).
//!
//! ```text
//! v2   /sys/fs/cgroup/vireo/<uuid>
//! v1   /sys/fs/cgroup/<controller>/vireo/<uuid>
//! ```
//!
//! In: a guest and its [`Tuning`]. Out: files written; read back, the values as they would be stated, with the kernel's defaults as `None`. What can go wrong: a
//! controller that the host lacks makes the values that need it an error that names it, and leaves the others to be set; a value that the kernel refuses is an
//! error with the file and the kernel's answer.

mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use uuid::Uuid;

use self::group::{Group, Value};
use super::process::{Handle, Identity};
use crate::inventory::CgroupVersion;
use crate::resolve::domain::Tuning;
use crate::units::Bytes;

/// What all our groups are in.
const PARENT: &str = "vireo";
/// The controllers whose values a [`Tuning`] holds, with their names in v1.
const CONTROLLERS: [(&str, &str); 4] = [
    ("cpu", "cpu"),
    ("cpuset", "cpuset"),
    ("memory", "memory"),
    ("io", "blkio"),
];
/// How long a group whose processes were killed may take to empty.
const EMPTIES_WITHIN: Duration = Duration::from_secs(10);

/// The host's control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    version: CgroupVersion,
    /// Where groups are made: by controller in v1; the one hierarchy, under an empty name, in v2.
    roots: BTreeMap<&'static str, PathBuf>,
    /// v2: the controllers that the root offers.
    offered: BTreeSet<String>,
}

/// A control group that could not be made, set, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The host has no such controller.
    #[error("cannot set {value}: this host has no {controller} controller of control groups")]
    NoController {
        /// The value, by its file.
        value: &'static str,
        /// The controller that it needs.
        controller: &'static str,
    },
    /// The kernel, or the file system, refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: String,
        /// On which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Processes that do not end.
    #[error("{} still has processes {within:?} after they were killed", path.display())]
    Occupied {
        /// The group.
        path: PathBuf,
        /// How long was waited.
        within: Duration,
    },
}

fn io_error(what: impl Into<String>, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let (what, path) = (what.into(), path.to_owned());
    move |source| CgroupError::Io { what, path, source }
}

impl Cgroups {
    /// Finds the host's hierarchies from its mounts. The unified one is taken where it offers the processor controller, or where there is no other.
    ///
    /// # Errors
    /// `/proc/self/mounts` cannot be read.
    pub fn detect() -> io::Result<Self> {
        Ok(Self::from_mounts(&fs::read_to_string("/proc/self/mounts")?))
    }

    fn from_mounts(mounts: &str) -> Self {
        let mut unified = None;
        let mut v1 = BTreeMap::new();
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(at), Some(kind), Some(options)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            match kind {
                "cgroup2" => unified = unified.or_else(|| Some(PathBuf::from(at))),
                "cgroup" => {
                    for (_, name) in CONTROLLERS {
                        if options.split(',').any(|option| option == name) {
                            v1.entry(name).or_insert_with(|| PathBuf::from(at));
                        }
                    }
                }
                _ => {}
            }
        }
        let offered: BTreeSet<String> = unified
            .as_deref()
            .map(|root| words(&root.join("cgroup.controllers")))
            .unwrap_or_default();
        match unified {
            Some(root) if offered.contains("cpu") || v1.is_empty() => Self {
                version: CgroupVersion::V2,
                roots: BTreeMap::from([("", root)]),
                offered,
            },
            _ if v1.is_empty() => Self {
                version: CgroupVersion::None,
                roots: BTreeMap::new(),
                offered: BTreeSet::new(),
            },
            _ => Self {
                version: CgroupVersion::V1,
                roots: v1,
                offered: BTreeSet::new(),
            },
        }
    }

    /// Which hierarchy carries the controllers.
    pub fn version(&self) -> CgroupVersion {
        self.version
    }

    /// The controllers that can be used, by their names in v2.
    pub fn controllers(&self) -> BTreeSet<String> {
        let usable = CONTROLLERS.iter().filter(|(v2, v1)| match self.version {
            CgroupVersion::V2 => self.offered.contains(*v2),
            _ => self.roots.contains_key(v1),
        });
        usable.map(|(v2, _)| (*v2).to_owned()).collect()
    }

    /// The directories of a guest's group.
    pub fn paths(&self, guest: Uuid) -> Vec<PathBuf> {
        let name = guest.to_string();
        self.roots
            .values()
            .map(|root| root.join(PARENT).join(&name))
            .collect()
    }

    /// Makes a guest's group, or brings an existing one to these values; what is `None` is set back to the kernel's default.
    ///
    /// # Errors
    /// A value that needs a controller which the host lacks, or that the kernel refuses. What could be set is set.
    pub fn set(&self, guest: Uuid, tuning: &Tuning) -> Result<(), CgroupError> {
        self.ensure(guest)?;
        let shown = tuning.as_shown(self.version);
        match self.version {
            CgroupVersion::V2 => self.set_v2(guest, &shown),
            CgroupVersion::V1 => self.set_v1(guest, &shown),
            CgroupVersion::None => missing(&shown),
        }
    }

    /// Makes a guest's group, with the kernel's values, if it is not there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ensure(&self, guest: Uuid) -> Result<(), CgroupError> {
        for (controller, root) in &self.roots {
            let parent = root.join(PARENT);
            make(&parent)?;
            match self.version {
                CgroupVersion::V2 => {
                    self.delegate(root)?;
                    self.delegate(&parent)?;
                }
                _ if *controller == "cpuset" => inherit_cpuset(root, &parent)?,
                _ => {}
            }
            let group = parent.join(guest.to_string());
            make(&group)?;
            if *controller == "cpuset" {
                inherit_cpuset(&parent, &group)?;
            }
        }
        Ok(())
    }

    /// v2: lets the groups below have our controllers.
    fn delegate(&self, group: &Path) -> Result<(), CgroupError> {
        let file = group.join("cgroup.subtree_control");
        let have = words(&file);
        for (controller, _) in CONTROLLERS {
            if self.offered.contains(controller) && !have.contains(controller) {
                write(&file, &format!("+{controller}"))?;
            }
        }
        Ok(())
    }

    /// The `cgroup.procs` files of a guest's group, open for a process that is to move itself in.
    ///
    /// # Errors
    /// The group is not there.
    pub fn entrances(&self, guest: Uuid) -> Result<Vec<OwnedFd>, CgroupError> {
        let open = |group: PathBuf| {
            let file = group.join("cgroup.procs");
            rustix::fs::open(&file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| io_error("open", &file)(error.into()))
        };
        self.paths(guest).into_iter().map(open).collect()
    }

    /// The values of every group of ours, as they would be stated.
    ///
    /// # Errors
    /// A group that cannot be read, other than because it has just gone.
    pub fn collect(&self) -> Result<BTreeMap<Uuid, Tuning>, CgroupError> {
        let mut groups = BTreeMap::new();
        for (controller, root) in &self.roots {
            let parent = root.join(PARENT);
            let entries = match fs::read_dir(&parent) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error("list", &parent)(error)),
            };
            for entry in entries {
                let entry = entry.map_err(io_error("list", &parent))?;
                let Some(guest) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                    continue;
                };
                let tuning: &mut Tuning = groups.entry(guest).or_default();
                let group = Group(entry.path());
                let read = match self.version {
                    CgroupVersion::V2 => group.read_v2(tuning),
                    _ => group.read_v1(controller, &parent, tuning),
                };
                match read {
                    Err(CgroupError::Io { source, .. }) if gone(&source) => {}
                    other => other?,
                }
            }
        }
        let version = self.version;
        Ok(groups
            .into_iter()
            .map(|(guest, tuning)| (guest, tuning.as_shown(version)))
            .collect())
    }

    /// Removes a guest's group, ending any process left in it. Absent is fine.
    ///
    /// # Errors
    /// The kernel's, and processes that do not end.
    pub async fn remove(&self, guest: Uuid) -> Result<(), CgroupError> {
        for group in self.paths(guest) {
            let deadline = tokio::time::Instant::now() + EMPTIES_WITHIN;
            loop {
                match fs::remove_dir(&group) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if error.raw_os_error() == Some(EBUSY) => {}
                    Err(error) => return Err(io_error("remove", &group)(error)),
                }
                if tokio::time::Instant::now() >= deadline {
                    return Err(CgroupError::Occupied {
                        path: group,
                        within: EMPTIES_WITHIN,
                    });
                }
                kill_all(&group)?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    fn set_v2(&self, guest: Uuid, tuning: &Tuning) -> Result<(), CgroupError> {
        let group = Group(self.group("", guest));
        let has = |controller: &str| self.offered.contains(controller);
        let max =
            |bytes: Option<Bytes>| bytes.map_or("max".to_owned(), |bytes| bytes.0.to_string());
        let quota = tuning.quota.map_or("max".to_owned(), |us| us.to_string());
        let period = tuning.period.unwrap_or(DEFAULT_PERIOD);
        // Swap alone, where libvirt states memory and swap together.
        let swap = tuning.memory_swap_max.map(|both| {
            Bytes(
                both.0
                    .saturating_sub(tuning.memory_max.unwrap_or_default().0),
            )
        });
        let cpu_max = tuning.quota.is_some() || tuning.period.is_some();
        let values = [
            (
                "cpu",
                "cpu.weight",
                tuning.shares.is_some(),
                tuning.shares.unwrap_or(100).to_string(),
            ),
            ("cpu", "cpu.max", cpu_max, format!("{quota} {period}")),
            (
                "cpuset",
                "cpuset.cpus",
                tuning.cpuset.is_some(),
                tuning.cpuset.clone().unwrap_or_default(),
            ),
            (
                "cpuset",
                "cpuset.mems",
                tuning.mems.is_some(),
                tuning.mems.clone().unwrap_or_default(),
            ),
            (
                "memory",
                "memory.max",
                tuning.memory_max.is_some(),
                max(tuning.memory_max),
            ),
            (
                "memory",
                "memory.high",
                tuning.memory_high.is_some(),
                max(tuning.memory_high),
            ),
            ("memory", "memory.swap.max", swap.is_some(), max(swap)),
            (
                "io",
                "io.weight",
                tuning.io_weight.is_some(),
                format!("default {}", tuning.io_weight.unwrap_or(100)),
            ),
        ];
        group.write_all(values.into_iter(), |controller| has(controller))
    }

    fn set_v1(&self, guest: Uuid, tuning: &Tuning) -> Result<(), CgroupError> {
        let limit = |bytes: Option<Bytes>| bytes.map_or("-1".to_owned(), |b| b.0.to_string());
        for (v2, controller) in CONTROLLERS {
            let group = Group(self.group(controller, guest));
            let mut values: Vec<Value> = match controller {
                "cpu" => vec![
                    (
                        v2,
                        "cpu.shares",
                        tuning.shares.is_some(),
                        tuning.shares.unwrap_or(1024).to_string(),
                    ),
                    (
                        v2,
                        "cpu.cfs_period_us",
                        tuning.period.is_some(),
                        tuning.period.unwrap_or(DEFAULT_PERIOD).to_string(),
                    ),
                    (
                        v2,
                        "cpu.cfs_quota_us",
                        tuning.quota.is_some(),
                        tuning.quota.unwrap_or(-1).to_string(),
                    ),
                ],
                "cpuset" => {
                    let parent = self.roots.get(controller).map(|root| root.join(PARENT));
                    let all = |name| {
                        let file = parent.as_ref().map(|parent| parent.join(name));
                        file.map(|file| text(&file)).unwrap_or_default()
                    };
                    vec![
                        (
                            v2,
                            "cpuset.cpus",
                            tuning.cpuset.is_some(),
                            tuning.cpuset.clone().unwrap_or_else(|| all("cpuset.cpus")),
                        ),
                        (
                            v2,
                            "cpuset.mems",
                            tuning.mems.is_some(),
                            tuning.mems.clone().unwrap_or_else(|| all("cpuset.mems")),
                        ),
                    ]
                }
                "memory" => vec![
                    (
                        v2,
                        "memory.limit_in_bytes",
                        tuning.memory_max.is_some(),
                        limit(tuning.memory_max),
                    ),
                    (
                        v2,
                        "memory.memsw.limit_in_bytes",
                        tuning.memory_swap_max.is_some(),
                        limit(tuning.memory_swap_max),
                    ),
                    (
                        v2,
                        "memory.soft_limit_in_bytes",
                        tuning.memory_high.is_some(),
                        limit(tuning.memory_high),
                    ),
                ],
                _ => vec![(
                    v2,
                    "blkio.weight",
                    tuning.io_weight.is_some(),
                    tuning.io_weight.unwrap_or(500).to_string(),
                )],
            };
            // Memory and swap together are never less than memory: the order of two writes depends on the way they go.
            if controller == "memory" && group.raises(tuning.memory_swap_max) {
                values.swap(0, 1);
            }
            group.write_all(values.into_iter(), |_| self.roots.contains_key(controller))?;
        }
        Ok(())
    }

    fn group(&self, controller: &str, guest: Uuid) -> PathBuf {
        let root = self.roots.get(controller).cloned().unwrap_or_default();
        root.join(PARENT).join(guest.to_string())
    }
}

/// The kernel's processor period in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;
const EBUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();

/// Without any hierarchy no value can be set.
fn missing(tuning: &Tuning) -> Result<(), CgroupError> {
    let stated = [
        ("cpu", "cpu.weight", tuning.shares.is_some()),
        (
            "cpu",
            "cpu.max",
            tuning.quota.is_some() || tuning.period.is_some(),
        ),
        ("cpuset", "cpuset.cpus", tuning.cpuset.is_some()),
        ("cpuset", "cpuset.mems", tuning.mems.is_some()),
        ("memory", "memory.max", tuning.memory_max.is_some()),
        ("memory", "memory.high", tuning.memory_high.is_some()),
        (
            "memory",
            "memory.swap.max",
            tuning.memory_swap_max.is_some(),
        ),
        ("io", "io.weight", tuning.io_weight.is_some()),
    ];
    match stated.iter().find(|(_, _, stated)| *stated) {
        Some(&(controller, value, _)) => Err(CgroupError::NoController { value, controller }),
        None => Ok(()),
    }
}

fn make(group: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("make the control group", group)(error))
        }
        _ => Ok(()),
    }
}

/// v1: a new set of processors is empty, and takes no process before it is given some.
fn inherit_cpuset(parent: &Path, group: &Path) -> Result<(), CgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = group.join(name);
        if text(&file).is_empty() {
            write(&file, &text(&parent.join(name)))?;
        }
    }
    Ok(())
}

/// Ends every process of a group.
fn kill_all(group: &Path) -> Result<(), CgroupError> {
    let kill = group.join("cgroup.kill");
    if kill.exists() {
        return match write(&kill, "1") {
            Err(CgroupError::Io { source, .. }) if gone(&source) => Ok(()),
            other => other,
        };
    }
    let procs = group.join("cgroup.procs");
    for pid in text(&procs).lines().filter_map(|line| line.parse().ok()) {
        let Some(process) = Identity::of(pid) else {
            continue;
        };
        let killed = Handle::open(process).and_then(|handle| match handle {
            // Still the one that was listed: what left the group meanwhile is not ours to end.
            Some(handle) if text(&procs).lines().any(|line| line.parse() == Ok(pid)) => {
                handle.signal(Signal::KILL)
            }
            _ => Ok(()),
        });
        killed.map_err(io_error(format!("kill process {pid} of"), group))?;
    }
    Ok(())
}

fn gone(error: &io::Error) -> bool {
    let gone = rustix::io::Errno::NODEV.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(gone)
}

fn write(file: &Path, value: &str) -> Result<(), CgroupError> {
    fs::write(file, value).map_err(io_error(format!("write {value:?} to"), file))
}

fn text(file: &Path) -> String {
    fs::read_to_string(file)
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn words(file: &Path) -> BTreeSet<String> {
    text(file)
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect()
}
