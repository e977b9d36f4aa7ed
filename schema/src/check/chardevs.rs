//! Rules on devices that carry characters.

use super::machine::arch;
use super::one::Report;
use crate::domain::chardev::{CharMode, CharSource, CharTargetType, CharType};
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::YesNo;

/// Serial and parallel ports, consoles, channels, and whatever else leads to a character device of the host's.
pub(crate) fn check(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    for (i, d) in devices.serials.iter().enumerate() {
        let path = format!("devices/serial[{}]", i + 1);
        ends(d.kind, &d.sources, &path, true, r);
        let power = d.target.as_ref().and_then(|target| target.kind)
            == Some(CharTargetType::SpaprVioSerial);
        if power && !arch(domain).starts_with("ppc") {
            r.report(
                Rule::OtherMachine,
                &format!("{path}/target/@type"),
                "this port is of POWER's machines",
            );
        }
    }
    for (i, d) in devices.parallels.iter().enumerate() {
        ends(
            d.kind,
            &d.sources,
            &format!("devices/parallel[{}]", i + 1),
            true,
            r,
        );
    }
    for (i, d) in devices.consoles.iter().enumerate() {
        ends(
            d.kind,
            &d.sources,
            &format!("devices/console[{}]", i + 1),
            true,
            r,
        );
    }
    for (i, d) in devices.channels.iter().enumerate() {
        ends(
            d.kind,
            &d.sources,
            &format!("devices/channel[{}]", i + 1),
            false,
            r,
        );
    }
    for (i, d) in devices.redirdevs.iter().enumerate() {
        ends(
            d.kind,
            &d.sources,
            &format!("devices/redirdev[{}]", i + 1),
            true,
            r,
        );
    }
    for (i, d) in devices.rngs.iter().enumerate() {
        let Some(backend) = &d.backend else {
            r.report(
                Rule::RngBackend,
                &format!("devices/rng[{}]", i + 1),
                "the device has no <backend>",
            );
            continue;
        };
        if backend.kind.is_some() {
            ends(
                backend.kind,
                &backend.sources,
                &format!("devices/rng[{}]/backend", i + 1),
                true,
                r,
            );
        }
    }
}

/// What the host's end of a character device needs; a channel's socket may be chosen for it.
fn ends(
    kind: Option<CharType>,
    sources: &[CharSource],
    path: &str,
    needs_path: bool,
    r: &mut Report<'_>,
) {
    let mode = |source: &CharSource| source.mode.unwrap_or(CharMode::Connect);
    let at = |i: usize| format!("{path}/source[{}]", i + 1);
    let most = if kind == Some(CharType::Udp) { 2 } else { 1 };
    if sources
        .iter()
        .filter(|source| source.seclabels.is_empty() || source.path.is_some())
        .count()
        > most
    {
        r.report(
            Rule::ChardevSources,
            &at(most),
            "the device has too many sources",
        );
    }
    match kind {
        Some(CharType::Unix | CharType::File | CharType::Pipe | CharType::Dev)
            if needs_path && sources.iter().all(|source| source.path.is_none()) =>
        {
            r.report(
                Rule::ChardevPath,
                &format!("{path}/source"),
                "the device needs a source with `path`",
            );
        }
        Some(CharType::Tcp) => {
            let found = sources
                .first()
                .map(|source| (source.host.is_some(), source.service.is_some()));
            if found.is_none_or(|(_, service)| !service) {
                r.report(
                    Rule::ChardevTcp,
                    &format!("{path}/source"),
                    "a TCP connection needs `service`, its port",
                );
            }
            if found.is_some_and(|(host, _)| !host)
                && sources.first().map(mode) == Some(CharMode::Connect)
            {
                r.report(
                    Rule::ChardevTcp,
                    &format!("{path}/source"),
                    "a TCP connection needs `host`",
                );
            }
        }
        Some(CharType::Udp) => {
            if let [first, second] = sources
                && mode(first) == mode(second)
            {
                r.report(
                    Rule::ChardevUdp,
                    &at(1),
                    "UDP takes one source for each direction, mode='bind' and mode='connect'",
                );
            }
            let connect = sources
                .iter()
                .position(|source| mode(source) == CharMode::Connect);
            if sources
                .iter()
                .any(|source| mode(source) == CharMode::Connect && source.service.is_none())
                || connect.is_none() && !sources.is_empty()
            {
                r.report(
                    Rule::ChardevUdp,
                    &connect.map_or_else(|| format!("{path}/source"), at),
                    "UDP needs a source with mode='connect' and `service`, its port",
                );
            }
        }
        _ => {}
    }
    for (i, source) in sources.iter().enumerate() {
        let tries = source
            .reconnect
            .as_ref()
            .is_some_and(|reconnect| reconnect.enabled == Some(YesNo::Yes));
        if tries && mode(source) == CharMode::Bind {
            r.report(
                Rule::ChardevReconnect,
                &format!("{}/reconnect", at(i)),
                "only the side that connects can connect again",
            );
        }
    }
}
