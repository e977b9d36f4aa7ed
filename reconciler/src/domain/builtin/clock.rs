//! The clock and the timers in the words of `vireo-vmm`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::domain::fields::Fields;
use crate::domain::{DriverError, GuestDir};
use crate::resolve::Driver;
use crate::resolve::domain::{Clock, ClockBasis, Domain, Extra};

/// What the battery-backed clock shows, and what there is of other clocks.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClockConfig {
    offset: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    basis: Option<ClockBasis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    adjustment: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kvmclock: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tsc_khz: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pit: Option<&'static str>,
}

impl ClockConfig {
    /// The file that keeps what the guest makes of its clock.
    pub fn keep(&self) -> Option<&Path> {
        self.keep.as_deref()
    }
}

/// The clock and the timers of a definition.
///
/// # Errors
/// A timer that the monitor does not make so.
pub fn clock(domain: &Domain, dir: &GuestDir) -> Result<ClockConfig, DriverError> {
    let mut config = ClockConfig::default();
    match &domain.clock {
        Clock::Utc => config.offset = "utc",
        Clock::Localtime => config.offset = "localtime",
        Clock::Timezone(zone) => {
            config.offset = "timezone";
            config.timezone = Some(zone.clone());
        }
        Clock::Variable { basis, adjustment } => {
            config.offset = "variable";
            config.basis = Some(*basis);
            config.adjustment = Some(*adjustment);
            config.keep = Some(dir.clock().to_owned());
        }
        Clock::Absolute(start) => {
            config.offset = "absolute";
            config.start = Some(*start);
        }
    }
    let timers = domain.extras.iter().filter(|extra| extra.class == "timer");
    for extra in timers {
        timer(&mut config, extra)?;
    }
    Ok(config)
}

fn timer(config: &mut ClockConfig, extra: &Extra) -> Result<(), DriverError> {
    let fields = Fields::of(Driver::Builtin, extra);
    let there = [("yes", "")];
    let either = [("yes", "yes"), ("no", "no")];
    match fields.get("name").unwrap_or_default() {
        "pit" => {
            fields.word("present", "", &there)?;
            let policies = [("delay", ""), ("discard", "discard")];
            let policy = fields.word("tickpolicy", "", &policies)?;
            config.pit = Some(policy).filter(|policy| !policy.is_empty());
        }
        "rtc" => {
            fields.word("present", "", &there)?;
            fields.word("tickpolicy", "", &[("delay", ""), ("catchup", "")])?;
            fields.word("track", "", &[("wall", "")])?;
        }
        "tsc" => {
            fields.word("present", "", &there)?;
            fields.word("mode", "", &[("auto", ""), ("native", "")])?;
            if let Some(hertz) = fields.get("frequency") {
                let khz = hertz.parse::<u64>().ok();
                let khz = khz.and_then(|hertz| u32::try_from(hertz / 1000).ok());
                let khz = khz.filter(|khz| *khz > 0);
                config.tsc_khz = Some(khz.ok_or_else(|| fields.refuse("frequency", hertz))?);
            }
        }
        "kvmclock" => {
            let present = fields.word("present", "yes", &either)?;
            config.kvmclock = (present == "no").then_some(false);
        }
        "hpet" | "hypervclock" => {
            fields.word("present", "", &[("no", "")])?;
        }
        other => return Err(fields.refuse("name", other)),
    }
    fields.done()
}
