//! Domains: what the guest's clock shows, and which timers a driver has.
//!
//! Source: libvirt's domain format, "Time keeping".

use vireo_schema::Rule;
use vireo_schema::domain as stated;
use vireo_schema::domain::os::{
    Adjustment, ClockBasis as Basis, ClockOffset, TickPolicy, Timer, TimerName, TimerTrack, TscMode,
};
use vireo_schema::scalar::YesNo;

use super::Resolving;
use crate::resolve::Driver;
use crate::resolve::domain::{Clock, ClockBasis};

/// What the battery-backed clock shows.
pub(super) fn clock(
    at: &mut Resolving<'_>,
    domain: &stated::Domain,
    driver: Driver,
) -> Option<Clock> {
    let Some(clock) = &domain.clock else {
        return Some(Clock::Utc);
    };
    let offset = clock.offset.unwrap_or(ClockOffset::Utc);
    refuse_strangers(at, clock, offset);
    let basis = match (offset, clock.basis) {
        (ClockOffset::Localtime, _) | (_, Some(Basis::Localtime)) => ClockBasis::Localtime,
        _ => ClockBasis::Utc,
    };
    let found = match (offset, clock.adjustment) {
        (ClockOffset::Timezone, _) => Clock::Timezone(zone(at, clock)?),
        (ClockOffset::Absolute, _) => Clock::Absolute(start(at, clock)?),
        (ClockOffset::Variable, None) => variable(at, basis, 0)?,
        (_, Some(Adjustment::Seconds(seconds))) => variable(at, basis, seconds)?,
        (_, None | Some(Adjustment::Reset)) => match basis {
            ClockBasis::Utc => Clock::Utc,
            ClockBasis::Localtime => Clock::Localtime,
        },
    };
    if driver == Driver::Qemu && !matches!(found, Clock::Utc | Clock::Localtime) {
        let message = format!(
            "a clock with offset '{}' is not something driver qemu can do",
            offset.as_str()
        );
        at.refuse(
            Rule::Unsupported,
            "clock/@offset",
            message,
            "utc and localtime are; driver builtin can do the others",
        );
        return None;
    }
    Some(found)
}

/// Refuses what belongs to another offset: it would be ignored.
fn refuse_strangers(at: &mut Resolving<'_>, clock: &stated::os::Clock, offset: ClockOffset) {
    use ClockOffset as O;
    let adjusted = [O::Utc, O::Localtime, O::Variable];
    let found = [
        ("timezone", clock.timezone.is_some(), &[O::Timezone][..]),
        ("start", clock.start.is_some(), &[O::Absolute][..]),
        ("basis", clock.basis.is_some(), &[O::Variable][..]),
        ("adjustment", clock.adjustment.is_some(), &adjusted[..]),
    ];
    for (name, stated, of) in found {
        if stated && !of.contains(&offset) {
            let words: Vec<_> = of.iter().map(|offset| offset.as_str()).collect();
            at.refuse(
                Rule::Contradiction,
                &format!("clock/@{name}"),
                format!("a clock with offset '{}' has no {name}", offset.as_str()),
                format!("take it out, or say offset='{}'", words.join("', '")),
            );
        }
    }
}

fn variable(at: &mut Resolving<'_>, basis: ClockBasis, adjustment: i64) -> Option<Clock> {
    if adjustment.unsigned_abs() > Clock::FARTHEST {
        refuse_far(at, "clock/@adjustment", "ahead");
        return None;
    }
    Some(Clock::Variable { basis, adjustment })
}

fn start(at: &mut Resolving<'_>, clock: &stated::os::Clock) -> Option<u64> {
    // That it is missing was refused when the definition was read.
    let start = clock.start?;
    if start > Clock::FARTHEST {
        refuse_far(at, "clock/@start", "after 1970");
        return None;
    }
    Some(start)
}

fn refuse_far(at: &mut Resolving<'_>, path: &str, what: &str) {
    at.refuse(
        Rule::Range,
        path,
        format!("a clock so many seconds {what} shows no year of four digits"),
        format!("at most {} seconds are possible", Clock::FARTHEST),
    );
}

fn zone(at: &mut Resolving<'_>, clock: &stated::os::Clock) -> Option<String> {
    let sound = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-_.".contains(&b))
    };
    // That it is missing was refused when the definition was read.
    let name = clock.timezone.as_ref()?;
    let found = (name.len() <= 255 && name.split('/').all(sound)).then(|| name.clone());
    if found.is_none() {
        at.refuse(
            Rule::BadValue,
            "clock/@timezone",
            "a clock with offset 'timezone' wants the name of a zone",
            "such as timezone='Europe/Berlin', a file under /usr/share/zoneinfo",
        );
    }
    found
}

/// The first timer that the builtin driver does not make so: its path, and why.
pub(super) fn timer_obstacle(domain: &stated::Domain) -> Option<(String, String)> {
    let timers = domain.clock.iter().flat_map(|clock| &clock.timers);
    for (number, timer) in timers.enumerate() {
        if let Some((attribute, why)) = unlike_builtins(timer) {
            let path = match number {
                0 => "clock/timer".to_owned(),
                n => format!("clock/timer[{}]", n + 1),
            };
            return Some((format!("{path}{attribute}"), why));
        }
    }
    None
}

/// What of a timer is not as the builtin driver makes it.
///
/// KVM makes the interval timer; it delivers late ticks late, or drops them. The battery-backed clock raises no interrupt, so that it loses none whatever the policy says,
/// and follows the host's time also while the guest rests.
fn unlike_builtins(timer: &Timer) -> Option<(&'static str, String)> {
    use TimerName as N;
    let name = timer.name?;
    let absent = timer.present == Some(YesNo::No);
    let present = timer.present == Some(YesNo::Yes);
    let odd = |attribute, why: &str| Some((attribute, why.to_owned()));
    match name {
        N::Pit | N::Rtc | N::Tsc if absent => {
            let why = format!(
                "it asks for no timer {}, which builtin always has",
                name.as_str()
            );
            return Some(("/@present", why));
        }
        N::Hpet | N::Hypervclock if present => {
            let why = format!(
                "it asks for the timer {}, which builtin does not have",
                name.as_str()
            );
            return Some(("/@present", why));
        }
        N::Platform | N::Armvtimer => {
            let why = format!("it asks for the timer {}, which no PC has", name.as_str());
            return Some(("/@name", why));
        }
        _ => {}
    }
    match (name, timer.tickpolicy) {
        (_, None)
        | (N::Pit, Some(TickPolicy::Delay | TickPolicy::Discard))
        | (N::Rtc, Some(TickPolicy::Delay | TickPolicy::Catchup)) => {}
        (_, Some(policy)) => {
            let why = format!(
                "it asks for lost ticks of the timer {} to be treated by {}, which builtin does not do",
                name.as_str(),
                policy.as_str()
            );
            return Some(("/@tickpolicy", why));
        }
    }
    match (name, timer.track) {
        (_, None) | (N::Rtc, Some(TimerTrack::Wall)) => {}
        _ => {
            return odd(
                "/@track",
                "it asks for a timer that follows something else than builtin's, whose clock follows the host's",
            );
        }
    }
    match (name, timer.frequency) {
        (_, None) => {}
        (N::Tsc, Some(hertz)) if (1000..=1000 * u64::from(u32::MAX)).contains(&hertz) => {}
        _ => {
            return odd(
                "/@frequency",
                "it asks for a timer's frequency that builtin does not make",
            );
        }
    }
    match (name, timer.mode) {
        (_, None) | (N::Tsc, Some(TscMode::Auto)) => None,
        (N::Tsc, Some(TscMode::Native)) if timer.frequency.is_none() => None,
        _ => odd(
            "/@mode",
            "it asks for a time stamp counter in a mode that KVM does not have",
        ),
    }
}
