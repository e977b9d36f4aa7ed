//! What control groups keep of a guest's definition, and as what they show it.

use serde::{Deserialize, Serialize};

use crate::inventory::CgroupVersion;
use crate::units::Bytes;

/// Control group values. `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// `<cputune><shares>`: v2 `cpu.weight` (1 to 10000, written as stated), v1 `cpu.shares` (2 to 262144).
    pub shares: Option<u64>,
    /// `<global_period>` or `<period>`: microseconds, 1000 to 1000000.
    pub period: Option<u64>,
    /// `<global_quota>`, or `<quota>` times the number of vcpus: microseconds a period; `None` is no limit.
    pub quota: Option<i64>,
    /// `<vcpu cpuset>`, as the kernel's list format.
    pub cpuset: Option<String>,
    /// `<numatune><memory mode='restrictive' nodeset>`, as the kernel's list format: the host's nodes that memory may be taken from.
    #[serde(default)]
    pub mems: Option<String>,
    /// `<memtune><hard_limit>`.
    pub memory_max: Option<Bytes>,
    /// `<memtune><soft_limit>`.
    pub memory_high: Option<Bytes>,
    /// `<memtune><swap_hard_limit>`, memory and swap together, at least the hard limit.
    pub memory_swap_max: Option<Bytes>,
    /// `<blkiotune><weight>`: 10 to 1000 (v1 `blkio.weight`), v2 `io.weight` as stated.
    pub io_weight: Option<u64>,
}

impl Tuning {
    /// These values as a hierarchy of this version gives them back once they are written: within the kernel's range, in whole pages, lists in the kernel's
    /// form, and the kernel's defaults as `None`, since a file that shows a default does not show whether somebody stated it. Comparing two of these is
    /// comparing what is wanted with what is.
    #[must_use]
    pub fn as_shown(&self, version: CgroupVersion) -> Self {
        let (least, most, default, io_default) = match version {
            CgroupVersion::None => return self.clone(),
            CgroupVersion::V1 => (2, 262_144, 1024, 500),
            CgroupVersion::V2 => (1, 10_000, 100, 100),
        };
        let unless = |value: u64, default: u64| (value != default).then_some(value);
        let whole = |bytes: Bytes| Bytes(bytes.0 & !4095);
        Self {
            shares: self
                .shares
                .and_then(|shares| unless(shares.clamp(least, most), default)),
            period: self.period.and_then(|period| unless(period, 100_000)),
            quota: self.quota.filter(|&quota| quota > 0),
            cpuset: self.cpuset.as_deref().map(kernel_list),
            mems: self.mems.as_deref().map(kernel_list),
            memory_max: self.memory_max.map(whole),
            memory_high: self.memory_high.map(whole),
            memory_swap_max: self.memory_swap_max.map(whole),
            io_weight: self.io_weight.and_then(|weight| unless(weight, io_default)),
        }
    }
}

/// A list of processors or nodes as the kernel writes it: `2,0-1` becomes `0-2`. What is not such a list stays as it is, for the kernel to refuse.
fn kernel_list(list: &str) -> String {
    let mut ranges = Vec::new();
    for part in list.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            (Ok(first), Ok(last)) if first <= last => ranges.push((first, last)),
            _ => return list.to_owned(),
        }
    }
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    let text = merged.into_iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    text.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_that_is_stated_shows_as_nothing() {
        let stated = Tuning {
            shares: Some(100),
            period: Some(100_000),
            quota: Some(-1),
            io_weight: Some(100),
            ..Tuning::default()
        };
        assert_eq!(stated.as_shown(CgroupVersion::V2), Tuning::default());
        assert_eq!(stated.as_shown(CgroupVersion::V1).shares, Some(100));
    }

    #[test]
    fn what_is_shown_shows_the_same_again() {
        let stated = Tuning {
            shares: Some(1),
            cpuset: Some("3, 0-1,2,7".to_owned()),
            memory_max: Some(Bytes(1_000_000)),
            ..Tuning::default()
        };
        let shown = stated.as_shown(CgroupVersion::V1);
        assert_eq!(shown.shares, Some(2));
        assert_eq!(shown.cpuset.as_deref(), Some("0-3,7"));
        assert_eq!(shown.memory_max, Some(Bytes(999_424)));
        assert_eq!(shown.as_shown(CgroupVersion::V1), shown);
    }
}
