//! Displays for people elsewhere: VNC and SPICE.
//!
//! In: what the definition states. Out: QEMU's options. A port that is left to be chosen is the first free one from 5900 on: QEMU looks for VNC's by itself, and not for SPICE's.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::command::{CommandLine, Host, escape, text};
use super::unsupported;
use crate::domain::fields::Fields;
use crate::domain::{DriverError, GuestDir};
use crate::resolve::Driver;
use crate::resolve::domain::Domain;

/// The first port of displays. Source: libvirt's `qemu.conf`, `remote_display_port_min`.
pub(super) const FIRST: u16 = 5900;
/// How long a port that was chosen is kept from other guests, until its own has it.
const KEPT: Duration = Duration::from_secs(30);

/// The port that is stated, unless it is to be chosen.
fn stated_port(fields: &Fields<'_>) -> Option<u16> {
    let chosen = fields.get("autoport") == Some("yes");
    let port = fields.get("port")?.parse().ok()?;
    (!chosen && port > 0).then_some(port)
}

/// A port for the guest's SPICE display, if it has one whose port is to be chosen.
pub(super) fn spice_port(domain: &Domain) -> Option<u16> {
    let displays = domain
        .extras
        .iter()
        .filter(|extra| extra.class == "graphics");
    let mut displays = displays.map(|extra| Fields::of(Driver::Qemu, extra));
    let display = displays
        .find(|fields| fields.get("type") == Some("spice") && stated_port(fields).is_none())?;
    let address = display.get("listen").or(display.get("listen.address"));
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    // A name is for QEMU to look up.
    free_port(address.map_or(local, |address| address.parse().unwrap_or(local)))
}

/// The first port at which nobody listens, and that was given to no guest just now.
fn free_port(address: IpAddr) -> Option<u16> {
    static GIVEN: Mutex<Vec<(u16, Instant)>> = Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    given.retain(|(_, since)| since.elapsed() < KEPT);
    let mut ports = FIRST..=u16::MAX;
    let port = ports.find(|port| {
        given.iter().all(|(other, _)| other != port) && TcpListener::bind((address, *port)).is_ok()
    })?;
    given.push((port, Instant::now()));
    Some(port)
}

/// A display for people elsewhere.
///
/// # Errors
/// Something that this driver does not do, by name.
pub(super) fn graphics(
    line: &mut CommandLine,
    fields: &Fields<'_>,
    index: usize,
    dir: &GuestDir,
    host: &Host,
) -> Result<(), DriverError> {
    fields.word("listen.type", "", &[("address", "")])?;
    if let Some(keymap) = fields.get("keymap") {
        line.option("-k", keymap);
    }
    let (first, again) = (fields.get("listen"), fields.get("listen.address"));
    if let (Some(first), Some(again)) = (first, again)
        && first != again
    {
        return Err(fields.refuse("listen.address", again));
    }
    let address = first.or(again).unwrap_or("127.0.0.1");
    let port = stated_port(fields);
    let password = fields.get("passwd").map(|secret| {
        let name = format!("password{index}");
        line.secrets.push((name.clone(), secret.to_owned()));
        line.json(
            "-object",
            json!({"qom-type": "secret", "id": name, "file": text(&dir.file(&name))}),
        );
        format!(",password-secret={name}")
    });
    let password = password.unwrap_or_default();
    match fields.get("type") {
        Some("vnc") => {
            let (display, to) = match port.and_then(|port| port.checked_sub(FIRST)) {
                Some(display) => (display, ""),
                None => (0, ",to=999"),
            };
            let password = if password.is_empty() {
                password
            } else {
                format!(",password=on{password}")
            };
            line.option(
                "-vnc",
                format!("{}:{display}{to}{password}", escape(address)),
            );
        }
        Some("spice") => {
            let port = port.unwrap_or(host.spice);
            let ticketing = if password.is_empty() {
                ",disable-ticketing=on".to_owned()
            } else {
                password
            };
            line.option(
                "-spice",
                format!("addr={},port={port}{ticketing}", escape(address)),
            );
        }
        Some(other) => return Err(fields.refuse("type", other)),
        None => return Err(unsupported("<graphics> without a type")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_at_which_somebody_listens_or_that_was_just_given_is_not_chosen() {
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let first = free_port(local).unwrap();
        let _listener = TcpListener::bind((local, first + 1));
        let second = free_port(local).unwrap();
        assert!(first >= FIRST && second > first + 1, "{first} {second}");
    }
}
