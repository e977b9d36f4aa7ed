//! What QEMU says of its guest's life without being asked.
//!
//! QEMU writes no last words of its own, so it is given a second monitor whose input is the file `events.in` (one line, which turns events on) and whose output is
//! the file `events.out`. The events stand there when QEMU and whoever started it are long gone. Source: QEMU's QMP reference, "Events".

use serde_json::Value;

use super::command;
use crate::domain::LastWords;

/// What is on the input of the monitor that writes events.
pub const INPUT: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// Why a guest is paused whose watchdog says so.
pub const WATCHDOG: &str = "the guest did not feed its watchdog in time";

/// What the events come to.
pub fn understand(events: &str) -> LastWords {
    let mut words = LastWords::default();
    let mut panicked = false;
    for line in events.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        match line.get("event").and_then(Value::as_str) {
            Some("BLOCK_IO_ERROR") => words.stopped = failure(&line).or(words.stopped),
            Some("WATCHDOG") if data(&line, "action") == Some("pause") => {
                words.stopped = Some(WATCHDOG.to_owned());
            }
            Some("STOP") => words.paused = true,
            Some("RESUME") => {
                words.paused = false;
                words.stopped = None;
            }
            Some("RESET") => panicked = false,
            Some("GUEST_PANICKED") => panicked = true,
            Some("SHUTDOWN") => {
                let reason = line.pointer("/data/reason").and_then(Value::as_str);
                words.reason = Some(if panicked { "crash" } else { reason_of(reason) }.to_owned());
                words.paused = false;
                words.stopped = None;
            }
            _ => {}
        }
    }
    words
}

fn data<'e>(event: &'e Value, key: &str) -> Option<&'e str> {
    event.get("data")?.get(key)?.as_str()
}

/// How the host failed a disk, if the guest is paused for it. The first failure counts: others may follow before the guest rests.
fn failure(event: &Value) -> Option<String> {
    let disk = command::target_of(data(event, "node-name")?)?;
    let (what, reason) = (data(event, "operation")?, data(event, "reason")?);
    let stops = data(event, "action") == Some("stop");
    stops.then(|| format!("disk {disk} could not {what}: {reason}"))
}

/// QEMU's reason in the words of the house. Source: QEMU's QMP reference, "ShutdownCause".
fn reason_of(cause: Option<&str>) -> &'static str {
    match cause {
        Some("guest-shutdown" | "host-qmp-system-powerdown") => "power-off",
        Some("guest-reset" | "subsystem-reset" | "host-qmp-system-reset") => "reset",
        Some("guest-panic") => "crash",
        Some("host-qmp-quit" | "host-signal" | "host-ui") => "quit",
        _ => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> String {
        format!("{{\"timestamp\": {{\"seconds\": 1}}, {text}}}\n")
    }

    #[test]
    fn how_a_guest_ended_can_be_read_when_qemu_is_gone() {
        let running =
            "{\"QMP\": {}}\n{\"return\": {}}\n".to_owned() + &event("\"event\": \"RESUME\"");
        assert_eq!(understand(&running), LastWords::default());
        assert!(understand(&(running.clone() + &event("\"event\": \"STOP\""))).paused);
        let failed = |action: &str| {
            let data = format!(
                "\"node-name\": \"disk-vda\", \"operation\": \"write\", \"reason\": \"No space\", \"action\": \"{action}\""
            );
            event(&format!(
                "\"event\": \"BLOCK_IO_ERROR\", \"data\": {{{data}}}"
            ))
        };
        let stopped = running.clone() + &failed("stop") + &event("\"event\": \"STOP\"");
        let why = understand(&stopped).stopped;
        assert_eq!(why.as_deref(), Some("disk vda could not write: No space"));
        let resumed = stopped + &event("\"event\": \"RESUME\"") + &failed("report");
        assert_eq!(understand(&resumed).stopped, None);
        let off = event(
            "\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}",
        );
        let words = understand(&(running.clone() + &off));
        assert_eq!(words.reason.as_deref(), Some("power-off"));
        let panicked = running + &event("\"event\": \"GUEST_PANICKED\", \"data\": {}") + &off;
        assert_eq!(understand(&panicked).reason.as_deref(), Some("crash"));
    }
}
