//! Serial ports, consoles and channels.

use std::path::PathBuf;

use vireo_schema::Rule;
use vireo_schema::domain::address::Address as StatedAddress;
use vireo_schema::domain::chardev::{
    CharLog, CharMode, CharSource, CharTarget, CharTargetType, CharType, Console,
};
use vireo_schema::domain::devices::Devices;

use super::super::Resolving;
use super::{address, nth};
use crate::resolve::domain::{Backend, Chardev};

/// What serial ports, consoles and channels state alike.
struct Port<'d> {
    class: &'static str,
    path: String,
    kind: Option<CharType>,
    sources: &'d [CharSource],
    target: Option<&'d CharTarget>,
    log: Option<&'d CharLog>,
    address: Option<&'d StatedAddress>,
}

/// Takes what these elements have in common.
macro_rules! port {
    ($class:expr, $element:expr, $number:expr, $stated:expr) => {
        Port {
            class: $class,
            path: nth($element, $number),
            kind: $stated.kind,
            sources: &$stated.sources,
            target: $stated.target.as_ref(),
            log: $stated.log.as_ref(),
            address: $stated.address.as_ref(),
        }
    };
}

/// Serial ports, consoles and channels. A console whose target is the serial port is that port, seen again. Source: libvirt's domain format, "Relationship
/// between serial ports and consoles".
pub(super) fn chardevs(at: &mut Resolving<'_>, devices: &Devices) -> Vec<Chardev> {
    let mut found = Vec::new();
    for (number, serial) in devices.serials.iter().enumerate() {
        found.extend(chardev(at, &port!("serial", "serial", number, serial)));
    }
    for (number, console) in devices.consoles.iter().enumerate() {
        let kind = console.target.as_ref().and_then(|target| target.kind);
        match (kind, number, devices.serials.first()) {
            (Some(CharTargetType::Virtio), ..) => {
                found.extend(chardev(at, &port!("console", "console", number, console)));
            }
            (None | Some(CharTargetType::Serial), 0, None) => {
                let port = Port {
                    target: None,
                    ..port!("serial", "console", number, console)
                };
                found.extend(chardev(at, &port));
            }
            (None | Some(CharTargetType::Serial), 0, Some(serial)) => {
                agrees(at, console, serial.kind, serial.log.as_ref());
            }
            _ => at.refuse(
                Rule::Unsupported,
                &nth("console", number),
                "only the first console can be the serial port",
                "give it <target type='virtio'/>, or take it out",
            ),
        }
    }
    for (number, channel) in devices.channels.iter().enumerate() {
        found.extend(chardev(at, &port!("channel", "channel", number, channel)));
    }
    found
}

/// The first console says nothing else than the serial port that it is.
fn agrees(
    at: &mut Resolving<'_>,
    console: &Console,
    serial: Option<CharType>,
    log: Option<&CharLog>,
) {
    let file = |log: Option<&CharLog>| log.and_then(|log| log.file.clone());
    let stated = console.log.as_ref();
    let other_kind = console
        .kind
        .is_some_and(|kind| kind != serial.unwrap_or(CharType::Pty));
    if other_kind || (stated.is_some() && file(stated) != file(log)) {
        at.refuse(
            Rule::Contradiction,
            "devices/console",
            "this console is the first serial port, which is stated otherwise",
            "say the same as <serial> does, or take the console out",
        );
    }
}

fn chardev(at: &mut Resolving<'_>, stated: &Port<'_>) -> Option<Chardev> {
    let Port { class, path, .. } = stated;
    let backend = backend(at, stated)?;
    let target = stated.target;
    let kind = target.and_then(|target| target.kind);
    let default = if *class == "channel" {
        "virtio"
    } else {
        "isa-serial"
    };
    let kind = kind.map_or(default, |kind| kind.as_str());
    let model = target
        .and_then(|target| target.model.as_ref())
        .and_then(|model| model.name.as_deref());
    if let Some(model) = model.filter(|model| *model != kind) {
        at.refuse(
            Rule::Unsupported,
            &format!("{path}/target/model"),
            format!("a {kind} of model '{model}' is not something vireo can do"),
            format!("{kind} is its model without one"),
        );
    }
    Some(Chardev {
        class: (*class).to_owned(),
        backend,
        target: kind.to_owned(),
        name: target.and_then(|target| target.name.clone()),
        port: target
            .and_then(|target| target.port)
            .and_then(|port| u32::try_from(port.get()).ok()),
        log: stated
            .log
            .and_then(|log| log.file.clone())
            .map(PathBuf::from),
        address: address(at, path, stated.address),
    })
}

/// The host's side. On unix sockets vireo listens by default, on TCP it calls.
fn backend(at: &mut Resolving<'_>, stated: &Port<'_>) -> Option<Backend> {
    let Port { class, path, .. } = stated;
    let source = stated.sources.first();
    if stated.sources.len() > 1 {
        at.refuse(
            Rule::Unsupported,
            &format!("{path}/source[2]"),
            format!("a {class} with two sources is not something vireo can do"),
            "one source is",
        );
        return None;
    }
    let file = source
        .and_then(|source| source.path.clone())
        .map(PathBuf::from);
    let mode = source.and_then(|source| source.mode);
    let calls = matches!(mode, Some(CharMode::Connect | CharMode::Client));
    let service = source.and_then(|source| source.service.clone());
    match (stated.kind.unwrap_or(CharType::Pty), file, service) {
        (CharType::Pty, ..) => Some(Backend::Pty),
        (CharType::Null, ..) => Some(Backend::Null),
        (CharType::Spicevmc, ..) => Some(Backend::SpiceVmc),
        (CharType::Unix, Some(file), _) if calls => Some(Backend::UnixCall(file)),
        (CharType::Unix, None, _) if calls => {
            at.refuse(
                Rule::Missing,
                &format!("{path}/source/@mode"),
                "there is no socket to call",
                "add its path to <source>, or say mode='bind'",
            );
            None
        }
        (CharType::Unix, file, _) => Some(Backend::Unix(file)),
        (CharType::File, Some(file), _) => Some(Backend::File(file)),
        (CharType::Tcp, _, Some(service)) => {
            let host = source.and_then(|source| source.host.as_ref());
            let host = host.map_or_else(|| "127.0.0.1".to_owned(), |host| host.0.clone());
            let listens = matches!(mode, Some(CharMode::Bind | CharMode::Server));
            Some(Backend::Tcp(host, service, listens))
        }
        (other, ..) => {
            let message = format!(
                "a {class} of type '{}' is not something vireo can do",
                other.as_str()
            );
            at.refuse(
                Rule::Unsupported,
                &format!("{path}/@type"),
                message,
                "pty, file (with a path), unix, tcp (with a service), null and spicevmc are",
            );
            None
        }
    }
}
