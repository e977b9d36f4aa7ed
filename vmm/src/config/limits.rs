//! Limits of a disk's requests as they are configured, and as the control socket takes them.
//!
//! Which field is wrong, and what would be accepted, is in the [`Problems`] that [`check`] leaves.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Problems;
use super::{Disk, Problem};

/// The most that a rate, or a burst of its whole length, may come to: bytes or requests.
const MOST: u64 = 1_000_000_000_000_000;

/// What the requests of a disk, or of all disks of a group, may come to. What is left out has no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes read and written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<Limit>,
    /// Bytes read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<Limit>,
    /// Bytes written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes: Option<Limit>,
    /// Requests of all kinds that move data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_requests: Option<Limit>,
    /// Reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_requests: Option<Limit>,
    /// Writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_requests: Option<Limit>,
    /// Bytes of a request that counts as one; a longer one counts as the more. Every request counts as one if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_size: Option<u64>,
    /// Disks of one guest with the same group share one limit, which all of them state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A limit of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// A second, in the long run: 1 to 10^15.
    pub rate: u64,
    /// A second, in a burst after some rest: at least the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// Seconds that a burst may last: one if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

impl Limits {
    /// Nothing is limited, and nobody shares that.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Every limit, with its field.
    fn named(&self) -> [(&'static str, Option<Limit>); 6] {
        [
            ("total-bytes", self.total_bytes),
            ("read-bytes", self.read_bytes),
            ("write-bytes", self.write_bytes),
            ("total-requests", self.total_requests),
            ("read-requests", self.read_requests),
            ("write-requests", self.write_requests),
        ]
    }

    /// Everything wrong with these limits, by their fields.
    pub fn check(&self) -> Vec<Problem> {
        let mut p = Problems::default();
        self.check_at("limits", &mut p);
        p.into_inner()
    }

    fn check_at(&self, field: &str, p: &mut Problems) {
        for (name, limit) in self.named() {
            let Some(limit) = limit else { continue };
            p.require(
                format!("{field}.{name}"),
                limit.is_sound(),
                "a rate of 1 to 10^15 is wanted; a max that is no less, with a length of at least 1 s whose burst is no more than 10^15",
            );
        }
        p.require(
            format!("{field}.request-size"),
            self.request_size != Some(0),
            "at least 1 byte is wanted",
        );
        p.require(
            format!("{field}.group"),
            self.group
                .as_ref()
                .is_none_or(|name| (1..=255).contains(&name.len())),
            "1 to 255 bytes are wanted",
        );
    }
}

impl Limit {
    fn is_sound(self) -> bool {
        let (max, length) = (self.max.unwrap_or(self.rate), self.length.unwrap_or(1));
        let whole = max.checked_mul(length);
        (1..=MOST).contains(&self.rate)
            && max >= self.rate
            && length > 0
            && (length == 1 || self.max.is_some())
            && whole.is_some_and(|whole| whole <= MOST)
    }
}

pub(super) fn check(disks: &[Disk], p: &mut Problems) {
    let mut groups: HashMap<&str, &Limits> = HashMap::new();
    for (i, disk) in disks.iter().enumerate() {
        disk.limits.check_at(&format!("disks[{i}].limits"), p);
        if let Some(group) = &disk.limits.group {
            let first = groups.entry(group).or_insert(&disk.limits);
            p.require(
                format!("disks[{i}].limits.group"),
                **first == disk.limits,
                format!("another disk of group {group:?} states other limits"),
            );
        }
    }
}
