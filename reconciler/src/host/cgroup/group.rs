//! One directory of a guest's group: values written where they differ, and read back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{CgroupError, io_error, text, write};
use crate::resolve::domain::Tuning;
use crate::units::Bytes;

/// One value: its controller, its file, whether it is stated, and what is to be written.
pub(super) type Value = (&'static str, &'static str, bool, String);

/// One directory of a guest's group.
pub(super) struct Group(pub(super) PathBuf);

impl Group {
    /// Writes what differs. A file that is not there matters only for a value that is stated.
    pub(super) fn write_all(
        &self,
        values: impl Iterator<Item = Value>,
        has: impl Fn(&str) -> bool,
    ) -> Result<(), CgroupError> {
        let mut first = Ok(());
        for (controller, name, stated, value) in values {
            let file = self.0.join(name);
            let result = if !has(controller) || !file.exists() {
                if stated {
                    Err(CgroupError::NoController {
                        value: name,
                        controller,
                    })
                } else {
                    Ok(())
                }
            } else if text(&file) == value {
                Ok(())
            } else {
                write(&file, &value)
            };
            first = first.and(result);
        }
        first
    }

    /// v1: whether the limit of memory and swap together is about to rise.
    pub(super) fn raises(&self, to: Option<Bytes>) -> bool {
        let now = text(&self.0.join("memory.memsw.limit_in_bytes")).parse::<u64>();
        now.is_ok_and(|now| to.is_none_or(|to| to.0 > now))
    }

    pub(super) fn read_v2(&self, tuning: &mut Tuning) -> Result<(), CgroupError> {
        tuning.shares = self.number("cpu.weight")?;
        if let Some(max) = self.value("cpu.max")? {
            let mut parts = max.split_ascii_whitespace();
            tuning.quota = parts.next().and_then(|quota| quota.parse().ok());
            tuning.period = parts.next().and_then(|period| period.parse().ok());
        }
        tuning.cpuset = self.value("cpuset.cpus")?.filter(|list| !list.is_empty());
        tuning.mems = self.value("cpuset.mems")?.filter(|list| !list.is_empty());
        tuning.memory_max = self.number("memory.max")?.map(Bytes);
        tuning.memory_high = self.number("memory.high")?.map(Bytes);
        let memory = tuning.memory_max.unwrap_or_default();
        let swap = self.number("memory.swap.max")?;
        tuning.memory_swap_max = swap.map(|swap| Bytes(swap.saturating_add(memory.0)));
        let weight = self.value("io.weight")?;
        let weight = weight
            .as_deref()
            .and_then(|text| text.strip_prefix("default "));
        tuning.io_weight = weight.and_then(|text| text.lines().next()?.parse().ok());
        Ok(())
    }

    pub(super) fn read_v1(
        &self,
        controller: &str,
        parent: &Path,
        tuning: &mut Tuning,
    ) -> Result<(), CgroupError> {
        match controller {
            "cpu" => {
                tuning.shares = self.number("cpu.shares")?;
                tuning.period = self.number("cpu.cfs_period_us")?;
                tuning.quota = self
                    .value("cpu.cfs_quota_us")?
                    .and_then(|us| us.parse().ok());
            }
            "cpuset" => {
                let all = text(&parent.join("cpuset.cpus"));
                tuning.cpuset = self.value("cpuset.cpus")?.filter(|list| *list != all);
                let all = text(&parent.join("cpuset.mems"));
                tuning.mems = self.value("cpuset.mems")?.filter(|list| *list != all);
            }
            "memory" => {
                tuning.memory_max = self.limit_v1("memory.limit_in_bytes")?;
                tuning.memory_high = self.limit_v1("memory.soft_limit_in_bytes")?;
                tuning.memory_swap_max = self.limit_v1("memory.memsw.limit_in_bytes")?;
            }
            _ => tuning.io_weight = self.number("blkio.weight")?,
        }
        Ok(())
    }

    /// v1 writes no limit as a number next to the largest.
    pub(super) fn limit_v1(&self, name: &str) -> Result<Option<Bytes>, CgroupError> {
        let none = i64::MAX as u64 >> 12 << 12;
        Ok(self.number(name)?.filter(|&n| n < none).map(Bytes))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, CgroupError> {
        Ok(self.value(name)?.and_then(|text| text.parse().ok()))
    }

    /// A file's contents; `None` where the controller is not there.
    pub(super) fn value(&self, name: &str) -> Result<Option<String>, CgroupError> {
        let file = self.0.join(name);
        match fs::read_to_string(&file) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &file)(error)),
        }
    }
}
