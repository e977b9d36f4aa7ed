//! Timers and sleep: `<clock><timer>` and `<pm>`.
//!
//! Source: QEMU's "Invocation" (`-rtc`, `-machine`, `-global`, `-cpu`), libvirt's domain format, "Time keeping" and "Power Management".

use super::command::{CommandLine, Host, is_q35};
use super::unsupported;
use crate::domain::fields::Fields;
use crate::domain::{DriverError, Objection};
use crate::resolve::Driver;
use crate::resolve::domain::{Domain, Extra};

/// What timers add to options that others write.
#[derive(Debug, Default)]
pub struct Timers {
    /// To `-machine`.
    pub machine: String,
    /// To `-cpu`.
    pub cpu: String,
    /// To `-rtc`.
    pub rtc: String,
    /// Options of their own.
    pub line: CommandLine,
    /// Those that this driver does not do.
    pub objections: Vec<Objection>,
}

/// Every timer that the definition states.
pub fn timers(domain: &Domain, host: &Host) -> Timers {
    let mut timers = Timers::default();
    let stated = domain.extras.iter().filter(|extra| extra.class == "timer");
    for (number, extra) in stated.enumerate() {
        if let Err(error) = timer(&mut timers, extra, host) {
            let path = match number {
                0 => "clock/timer".to_owned(),
                n => format!("clock/timer[{}]", n + 1),
            };
            timers.objections.push(Objection::new(path, &error));
        }
    }
    timers
}

fn timer(timers: &mut Timers, extra: &Extra, host: &Host) -> Result<(), DriverError> {
    let fields = Fields::of(Driver::Qemu, extra);
    let name = fields.get("name").unwrap_or_default();
    let present = fields.get("present").map(|present| present == "yes");
    let switch = |present: bool| if present { "on" } else { "off" };
    match (name, present) {
        ("rtc", None | Some(true)) => {
            let words = [("catchup", ",driftfix=slew"), ("delay", ",driftfix=none")];
            timers.rtc = fields.word("tickpolicy", "", &words)?.to_owned();
        }
        ("pit", _) => {
            if let Some(present) = present {
                timers
                    .machine
                    .push_str(&format!(",pit={}", switch(present)));
            }
            let words = [("delay", "delay"), ("discard", "discard")];
            let policy = fields.word("tickpolicy", "", &words)?;
            // Software emulation delivers every tick late and drops none.
            if policy == "discard" && !host.kvm {
                return Err(fields.refuse("tickpolicy", policy));
            }
            if !policy.is_empty() && host.kvm {
                let value = format!("kvm-pit.lost_tick_policy={policy}");
                timers.line.option("-global", value);
            }
        }
        ("hpet", Some(present)) => {
            timers
                .machine
                .push_str(&format!(",hpet={}", switch(present)));
        }
        ("kvmclock", Some(present)) if host.kvm || !present => {
            timers
                .cpu
                .push_str(&format!(",kvmclock={}", switch(present)));
        }
        ("hypervclock", Some(present)) if host.kvm => {
            timers
                .cpu
                .push_str(&format!(",hv-time={}", switch(present)));
        }
        ("tsc", _) => {
            if let Some(present) = present {
                timers.cpu.push_str(&format!(",tsc={}", switch(present)));
            }
            if let Some(hertz) = fields.get("frequency") {
                timers.cpu.push_str(&format!(",tsc-frequency={hertz}"));
            }
        }
        // Stated without anything that is asked of it.
        ("hpet" | "kvmclock" | "hypervclock", None) => {}
        (name, _) => return Err(unsupported(format!("the timer {name} so"))),
    }
    fields.done()
}

/// Whether the guest may suspend, to memory and to disk.
///
/// # Errors
/// Never yet: what `<pm>` may say is known.
pub fn sleep(line: &mut CommandLine, domain: &Domain, extra: &Extra) -> Result<(), DriverError> {
    let fields = Fields::of(Driver::Qemu, extra);
    let chip = if is_q35(domain) {
        "ICH9-LPC"
    } else {
        "PIIX4_PM"
    };
    for (field, state) in [
        ("suspend-to-mem.enabled", 3),
        ("suspend-to-disk.enabled", 4),
    ] {
        let disabled = fields.word(field, "", &[("yes", "0"), ("no", "1")])?;
        if !disabled.is_empty() {
            line.option("-global", format!("{chip}.disable_s{state}={disabled}"));
        }
    }
    fields.done()
}
