//! Rules on a guest's clock and its timers.

use super::machine::{is_no_arm_virt, is_qemu, is_x86, stated_arch};
use super::one::Report;
use crate::diagnostic::one_of;
use crate::domain::os::{Adjustment, Clock, ClockOffset, TickPolicy, Timer, TimerName, TimerTrack};
use crate::domain::{Domain, DomainType};
use crate::rule::Rule;
use crate::scalar::YesNo;
use std::fmt::Arguments;

/// Every rule on clocks.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    let Some(clock) = &domain.clock else { return };
    offset(clock, r);
    for (i, timer) in clock.timers.iter().enumerate() {
        let path = format_args!("clock/timer[{}]", i + 1);
        let late = timer.catchup.is_some();
        if late && timer.tickpolicy != Some(TickPolicy::Catchup) {
            r.report(
                Rule::ClockTimer,
                format_args!("{path}/catchup"),
                "ticks are made up for where tickpolicy='catchup'",
            );
        }
        if is_qemu(domain) {
            emulated(domain, timer, path, r);
        }
    }
}

fn offset(clock: &Clock, r: &mut Report<'_>) {
    let complaint = match clock.offset {
        Some(ClockOffset::Timezone) if clock.timezone.is_none() => {
            ("clock", "the zone is not stated: `timezone`")
        }
        Some(ClockOffset::Absolute) if clock.start.is_none() => (
            "clock",
            "the time is not stated: `start`, in seconds since 1970",
        ),
        Some(ClockOffset::Variable) if clock.adjustment == Some(Adjustment::Reset) => (
            "clock/@adjustment",
            "a clock that keeps what the guest set is ahead by a number of seconds",
        ),
        _ => return,
    };
    r.report(Rule::ClockOffset, complaint.0, complaint.1);
}

/// What QEMU's timers do.
fn emulated(domain: &Domain, timer: &Timer, path: Arguments<'_>, r: &mut Report<'_>) {
    let Some(name) = timer.name else { return };
    let policies: &[TickPolicy] = match name {
        TimerName::Platform => {
            return r.report(
                Rule::ClockTimer,
                format_args!("{path}/@name"),
                "a guest of KVM or QEMU has no timer `platform`",
            );
        }
        TimerName::Rtc => &[TickPolicy::Delay, TickPolicy::Catchup],
        TimerName::Pit => &[TickPolicy::Delay, TickPolicy::Discard, TickPolicy::Catchup],
        TimerName::Armvtimer => &[TickPolicy::Delay, TickPolicy::Discard],
        _ => TickPolicy::ALL,
    };
    if let Some(policy) = timer.tickpolicy.filter(|policy| !policies.contains(policy)) {
        let help = format!(
            "take {}",
            one_of(policies.iter().map(|policy| policy.as_str()), 4)
        );
        r.add(
            Rule::ClockTimer,
            format_args!("{path}/@tickpolicy"),
            format!("the timer {name} does not {policy} ticks that were missed"),
            Some(&help),
        );
    }
    if name == TimerName::Rtc && timer.track == Some(TimerTrack::Boot) {
        r.report(
            Rule::ClockTimer,
            format_args!("{path}/@track"),
            "the timer rtc follows the guest or the wall",
        );
    }
    let x86 = matches!(
        name,
        TimerName::Tsc | TimerName::Kvmclock | TimerName::Hypervclock
    );
    let other = stated_arch(domain).is_some_and(|arch| !is_x86(arch));
    if x86 && other && timer.present == Some(YesNo::Yes) {
        r.report(Rule::ClockTimer, path, format!("the timer {name} is x86's"));
    }
    if name != TimerName::Armvtimer {
        return;
    }
    if is_no_arm_virt(domain) || domain.kind == Some(DomainType::Qemu) {
        r.report(
            Rule::ClockTimer,
            path,
            "the timer armvtimer is of ARM's machine virt, on KVM",
        );
    } else if timer.present == Some(YesNo::No) {
        r.report(
            Rule::ClockTimer,
            format_args!("{path}/@present"),
            "the timer armvtimer is always there",
        );
    }
}
