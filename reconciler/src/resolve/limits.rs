//! Limits of a disk's requests, as they will really be.

use serde::{Deserialize, Serialize};

/// `<iotune>`: what the requests of a disk, or of all disks of a group, may come to. What is `None` has no limit. Applied live.
/// The monitor of the builtin driver takes and tells it in the same words. Source: libvirt's domain format, "Hard drives, floppy disks, CDROMs".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
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
    /// Requests that move data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_requests: Option<Limit>,
    /// Reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_requests: Option<Limit>,
    /// Writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_requests: Option<Limit>,
    /// `<size_iops_sec>`: bytes of a request that counts as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_size: Option<u64>,
    /// `<group_name>`: disks of one guest with the same group share one limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A limit of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// A second, in the long run: 1 to [`Limit::MOST`].
    pub rate: u64,
    /// `…_max`: a second, in a burst after some rest; at least the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// `…_max_length`: seconds that a burst may last, where that is not one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
}

impl Limit {
    /// The most that a rate, or a burst of its whole length, may come to. Source: QEMU's `qapi/block-core.json` and `util/throttle.c`.
    pub const MOST: u64 = 1_000_000_000_000_000;
}

impl Limits {
    /// Whether there is a limit, and not only the name of a group that has some.
    pub fn states_any(&self) -> bool {
        let named = Self {
            group: self.group.clone(),
            ..Self::default()
        };
        *self != named
    }

    /// Whether requests come to the same under both: a group, or the size of a request, limits nothing where there is no rate.
    pub fn limit_the_same_as(&self, other: &Self) -> bool {
        self == other || !(self.has_rates() || other.has_rates())
    }

    fn has_rates(&self) -> bool {
        let bytes = [self.total_bytes, self.read_bytes, self.write_bytes];
        let requests = [self.total_requests, self.read_requests, self.write_requests];
        bytes.iter().chain(&requests).any(Option::is_some)
    }

    /// Nothing is limited, and nobody shares that.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
