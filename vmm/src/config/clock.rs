//! The guest's clocks.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Problems;

/// What the battery-backed clock shows, and what there is of other clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Clock {
    /// What the battery-backed clock shows at power on.
    #[serde(default)]
    pub offset: ClockOffset,
    /// With offset timezone: a name of the host's time zone database, such as `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// With offset variable: what the adjustment is counted from; utc if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<ClockBasis>,
    /// With offset variable: seconds that the clock is ahead of its basis at first, in the years up to 9999; 0 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjustment: Option<i64>,
    /// With offset variable: a file that keeps the adjustment that the guest itself made, for the next start. It counts for as long as `adjustment` is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<PathBuf>,
    /// With offset absolute: what the clock shows when the monitor starts, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = Clock::FARTHEST))]
    pub start: Option<u64>,
    /// The guest is told of KVM's own clock.
    #[serde(default = "Clock::yes", skip_serializing_if = "Clone::clone")]
    pub kvmclock: bool,
    /// Frequency of the time stamp counter in kHz, at least 1; the host's if left out. The start fails where the host's processor cannot scale it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tsc_khz: Option<u32>,
    /// What becomes of the interval timer's ticks that the guest could not take in time.
    #[serde(default)]
    pub pit: LostTicks,
}

impl Clock {
    /// The farthest that a clock is from universal time, in seconds: what four digits of years can show.
    pub const FARTHEST: u64 = 253_402_300_799;

    fn yes() -> bool {
        true
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            offset: ClockOffset::Utc,
            timezone: None,
            basis: None,
            adjustment: None,
            keep: None,
            start: None,
            kvmclock: true,
            tsc_khz: None,
            pit: LostTicks::Delay,
        }
    }
}

/// What the battery-backed clock shows at power on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClockOffset {
    /// Coordinated universal time, at each reset again.
    #[default]
    Utc,
    /// The host's local time, at each reset again.
    Localtime,
    /// The time of a zone, at each reset again.
    Timezone,
    /// So far from its basis as the guest itself left it.
    Variable,
    /// A fixed time when the monitor starts.
    Absolute,
}

/// What a variable clock is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClockBasis {
    /// Coordinated universal time.
    #[default]
    Utc,
    /// The host's local time at the monitor's start.
    Localtime,
}

/// What becomes of ticks that the guest could not take in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LostTicks {
    /// They come late, one after the other.
    #[default]
    Delay,
    /// They are dropped.
    Discard,
}

/// Everything wrong with the clock.
pub(super) fn check(clock: &Clock, p: &mut Problems) {
    use ClockOffset as O;
    let mut belongs = |field: &str, stated: bool, to: O, word: &str| {
        p.require(
            format!("clock.{field}"),
            !stated || clock.offset == to,
            format!("it belongs to offset {word}"),
        );
    };
    belongs(
        "timezone",
        clock.timezone.is_some(),
        O::Timezone,
        "timezone",
    );
    belongs("basis", clock.basis.is_some(), O::Variable, "variable");
    belongs(
        "adjustment",
        clock.adjustment.is_some(),
        O::Variable,
        "variable",
    );
    belongs("keep", clock.keep.is_some(), O::Variable, "variable");
    belongs("start", clock.start.is_some(), O::Absolute, "absolute");
    p.require(
        "clock.timezone",
        clock.offset != O::Timezone || clock.timezone.as_deref().is_some_and(is_zone),
        "offset timezone wants a name like Europe/Berlin",
    );
    p.require(
        "clock.start",
        clock.offset != O::Absolute || clock.start.is_some_and(|start| start <= Clock::FARTHEST),
        format!(
            "offset absolute wants seconds since 1970, at most {}",
            Clock::FARTHEST
        ),
    );
    let far = clock.adjustment.map_or(0, i64::unsigned_abs);
    p.require(
        "clock.adjustment",
        far <= Clock::FARTHEST,
        format!(
            "at most {} seconds either way are possible",
            Clock::FARTHEST
        ),
    );
    p.require(
        "clock.tsc-khz",
        clock.tsc_khz != Some(0),
        "a counter that stands still is not possible",
    );
}

/// Whether a text is a name in the time zone database, and nothing that leads out of its folder.
fn is_zone(name: &str) -> bool {
    let sound = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-_.".contains(&b))
    };
    name.len() <= 255 && name.split('/').all(sound)
}
