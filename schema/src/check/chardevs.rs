//! Rules on devices that carry characters: what is at the host's end, and what the guest sees.

use super::disks::labels;
use super::machine::{arch, is_hvm, is_qemu, machine};
use super::one::Report;
use crate::domain::address::{Address, AddressType};
use crate::domain::chardev::{
    CharMode, CharSource, CharTarget, CharTargetType, CharType, Serial, SmartcardMode,
};
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::{Number, YesNo};
use std::collections::{HashMap, HashSet};
use std::fmt::Arguments;

/// Serial ports on ISA that a machine has.
const ISA_PORTS: u64 = 4;

/// The channel that displays speak through, which libvirt calls so where it has no name.
const DISPLAY_CHANNEL: &str = "com.redhat.spice.0";

/// What a console may be to the guest.
const CONSOLES: [CharTargetType; 8] = [
    CharTargetType::Serial,
    CharTargetType::Virtio,
    CharTargetType::Xen,
    CharTargetType::Uml,
    CharTargetType::Lxc,
    CharTargetType::Openvz,
    CharTargetType::Sclp,
    CharTargetType::Sclplm,
];

/// What the host's ends of a guest's devices are judged by.
struct Guest<'d> {
    domain: &'d Domain,
    qemu: bool,
}

/// Serial and parallel ports, consoles, channels, and whatever else leads to a character device of the host's.
pub(crate) fn check(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let guest = Guest {
        domain,
        qemu: is_qemu(domain),
    };
    for (i, d) in devices.serials.iter().enumerate() {
        let path = format_args!("devices/serial[{}]", i + 1);
        guest.ends(d.kind, &d.sources, path, true, r);
        serial(&guest, d, path, r);
    }
    isa_ports(&devices.serials, r);
    for (i, d) in devices.parallels.iter().enumerate() {
        let path = format_args!("devices/parallel[{}]", i + 1);
        guest.ends(d.kind, &d.sources, path, true, r);
        let without = arch(domain).starts_with("s390") || machine(domain).starts_with("pseries");
        if guest.qemu && without {
            r.report(
                Rule::OtherMachine,
                path,
                "the machine has no parallel ports",
            );
        }
    }
    for (i, d) in devices.consoles.iter().enumerate() {
        let path = format_args!("devices/console[{}]", i + 1);
        guest.ends(d.kind, &d.sources, path, true, r);
    }
    consoles(domain, devices, r);
    for (i, d) in devices.channels.iter().enumerate() {
        let path = format_args!("devices/channel[{}]", i + 1);
        let kind = d.target.as_ref().and_then(|target| target.kind);
        // A path is chosen for sockets that the guest sees by name.
        let chosen = d.kind == Some(CharType::Unix) && kind != Some(CharTargetType::Guestfwd);
        guest.ends(d.kind, &d.sources, path, !chosen, r);
        channel(d.target.as_ref(), path, r);
    }
    channel_names(devices, r);
    for (i, d) in devices.redirdevs.iter().enumerate() {
        let path = format_args!("devices/redirdev[{}]", i + 1);
        if d.kind.is_none() {
            r.add(
                Rule::Missing,
                path,
                "it is not said where the device comes from: <redirdev> needs `type`",
                Some("take type='spicevmc' or type='tcp'"),
            );
        }
        // What hands USB devices over has a name of its own for a display's port.
        let port = matches!(d.kind, Some(CharType::Spiceport | CharType::Dbus));
        let named = d
            .sources
            .first()
            .is_some_and(|source| source.channel.is_some());
        let kind = d.kind.filter(|_| !port || named);
        guest.ends(kind, &d.sources, path, true, r);
    }
    smartcards(&guest, devices, r);
    for (i, d) in devices.rngs.iter().enumerate() {
        let path = format_args!("devices/rng[{}]", i + 1);
        let Some(backend) = &d.backend else {
            r.report(Rule::RngBackend, path, "the device has no <backend>");
            continue;
        };
        let path = format_args!("{path}/backend");
        if backend.kind.is_some() {
            guest.ends(backend.kind, &backend.sources, path, true, r);
        } else if backend.model == Some(crate::domain::misc::RngBackendModel::Egd) {
            r.report(
                Rule::RngBackend,
                path,
                "a daemon is reached in some way: the backend needs `type`",
            );
        }
    }
}

/// A guest finds its channels by their names, each of which is one's. Source: QEMU's `hw/char/virtio-serial-bus.c`.
fn channel_names(devices: &Devices, r: &mut Report<'_>) {
    let mut seen = HashMap::new();
    for (i, d) in devices.channels.iter().enumerate() {
        let target = d.target.as_ref();
        let target = target.filter(|target| target.kind == Some(CharTargetType::Virtio));
        let Some(target) = target else { continue };
        let display = matches!(d.kind, Some(CharType::Spicevmc | CharType::QemuVdagent));
        let given = display.then_some(DISPLAY_CHANNEL);
        let Some(name) = target.name.as_deref().or(given) else {
            continue;
        };
        if let Some(other) = seen.insert(name, i) {
            r.add(
                Rule::ChannelName,
                format_args!("devices/channel[{}]/target/@name", i + 1),
                format!("devices/channel[{}] is called `{name}` too", other + 1),
                Some("give each a name of its own, by which programs in the guest find it"),
            );
        }
    }
}

/// What a serial port is to the guest goes with its model, its place and the machine.
fn serial(guest: &Guest<'_>, serial: &Serial, path: Arguments<'_>, r: &mut Report<'_>) {
    use CharTargetType as T;
    let Some(target) = &serial.target else { return };
    let at = format_args!("{path}/target/@type");
    let arch = arch(guest.domain);
    let power = target.kind == Some(T::SpaprVioSerial);
    if power && !arch.starts_with("ppc") {
        r.report(Rule::OtherMachine, at, "this port is of POWER's machines");
    }
    if target.kind == Some(T::SclpSerial) && guest.qemu && !arch.starts_with("s390") {
        r.report(Rule::OtherMachine, at, "this port is of s390's machines");
    }
    let x86 = arch == "x86_64" || arch == "i686";
    if target.kind == Some(T::IsaDebug) && !x86 {
        r.report(Rule::OtherMachine, at, "this port is of x86's machines");
    }
    if let Some(kind) = target.kind
        && !matches!(
            kind,
            T::IsaSerial
                | T::UsbSerial
                | T::PciSerial
                | T::SpaprVioSerial
                | T::SystemSerial
                | T::SclpSerial
                | T::IsaDebug
        )
    {
        r.report(
            Rule::ChardevTarget,
            at,
            format!("a serial port is not of type {kind}, but isa-serial, pci-serial, usb-serial and such"),
        );
    }
    let place = serial.address.as_ref().and_then(|address| address.kind);
    if guest.qemu {
        serial_place(target, place, path, r);
        serial_model(target, path, r);
    }
}

fn serial_place(
    target: &CharTarget,
    place: Option<AddressType>,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    use CharTargetType as T;
    let (Some(kind), Some(place)) = (target.kind, place) else {
        return;
    };
    let fits = match kind {
        T::IsaSerial | T::IsaDebug => Some(AddressType::Isa),
        T::UsbSerial => Some(AddressType::Usb),
        T::PciSerial => Some(AddressType::Pci),
        T::SpaprVioSerial => Some(AddressType::SpaprVio),
        T::SystemSerial | T::SclpSerial => None,
        _ => return,
    };
    if fits != Some(place) {
        let message = match fits {
            Some(fits) => format!("a port of type {kind} has a {fits} address, not {place}"),
            None => format!("a port of type {kind} is part of the machine and has no address"),
        };
        r.report(
            Rule::AddressType,
            format_args!("{path}/address/@type"),
            message,
        );
    }
}

fn serial_model(target: &CharTarget, path: Arguments<'_>, r: &mut Report<'_>) {
    use CharTargetType as T;
    let name = target
        .model
        .as_ref()
        .and_then(|model| model.name.as_deref());
    let (Some(kind), Some(name)) = (target.kind, name) else {
        return;
    };
    let of = match name {
        "isa-serial" => T::IsaSerial,
        "usb-serial" => T::UsbSerial,
        "pci-serial" => T::PciSerial,
        "spapr-vty" => T::SpaprVioSerial,
        "pl011" | "16550a" => T::SystemSerial,
        "sclpconsole" | "sclplmconsole" => T::SclpSerial,
        "isa-debugcon" => T::IsaDebug,
        _ => {
            r.report(
                Rule::ChardevTarget,
                format_args!("{path}/target/model/@name"),
                format!("no serial port is called `{name}`"),
            );
            return;
        }
    };
    if of != kind {
        r.report(
            Rule::ChardevTarget,
            format_args!("{path}/target/model/@name"),
            format!("{name} is a port of type {of}, not {kind}"),
        );
    }
}

/// Ports on ISA are numbered 0 to 3, each once.
fn isa_ports(serials: &[Serial], r: &mut Report<'_>) {
    let mut taken = HashSet::new();
    let isa = serials.iter().enumerate().filter(|(_, serial)| {
        serial.target.as_ref().and_then(|target| target.kind) == Some(CharTargetType::IsaSerial)
    });
    for (count, (i, serial)) in (0..).zip(isa) {
        let path = format_args!("devices/serial[{}]/target/@port", i + 1);
        let port = serial
            .target
            .as_ref()
            .and_then(|target| target.port)
            .map(Number::get);
        if count >= ISA_PORTS || port.is_some_and(|port| port >= ISA_PORTS) {
            r.add(
                Rule::IsaPort,
                path,
                format!("a machine has {ISA_PORTS} serial ports on ISA, numbered from 0"),
                Some("further ones are of type pci-serial or usb-serial"),
            );
        } else if port.is_some_and(|port| !taken.insert(port)) {
            r.report(
                Rule::IsaPort,
                path,
                "another serial port on ISA has this number",
            );
        }
    }
}

/// Only the first console is a serial port: it is another name for one.
fn consoles(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let kinds = || {
        devices
            .consoles
            .iter()
            .map(|console| console.target.as_ref().and_then(|target| target.kind))
    };
    for (i, kind) in kinds().enumerate() {
        if let Some(kind) = kind.filter(|kind| !CONSOLES.contains(kind)) {
            r.report(
                Rule::ChardevTarget,
                format_args!("devices/console[{}]/target/@type", i + 1),
                format!("a console is not of type {kind}, but serial or virtio"),
            );
        }
    }
    let first = matches!(kinds().next(), Some(None | Some(CharTargetType::Serial)));
    if !is_hvm(domain) || !first {
        return;
    }
    for (i, kind) in kinds().enumerate().skip(1) {
        if kind == Some(CharTargetType::Serial) {
            r.add(
                Rule::ConsoleSerial,
                format_args!("devices/console[{}]/target/@type", i + 1),
                "only the first console is a serial port",
                Some("take type='virtio', or add a <serial>"),
            );
        }
    }
}

/// A channel says how the guest sees it, and one to an address which.
fn channel(target: Option<&CharTarget>, path: Arguments<'_>, r: &mut Report<'_>) {
    use CharTargetType as T;
    let Some(kind) = target.and_then(|target| target.kind) else {
        r.add(
            Rule::ChardevTarget,
            format_args!("{path}/target"),
            "it is not said how the guest sees the channel",
            Some("add <target type='virtio' name='org.qemu.guest_agent.0'/>"),
        );
        return;
    };
    if !matches!(kind, T::Guestfwd | T::Virtio | T::Xen) {
        r.report(
            Rule::ChardevTarget,
            format_args!("{path}/target/@type"),
            format!("a channel is not of type {kind}, but virtio, guestfwd or xen"),
        );
    }
    let whole = target.is_some_and(|target| target.address.is_some() && target.port.is_some());
    if kind == T::Guestfwd && !whole {
        r.report(
            Rule::ChardevTarget,
            format_args!("{path}/target"),
            "a channel of type guestfwd needs the `address` and `port` that the guest sends to",
        );
    }
}

/// Readers of smart cards: one a guest, with three certificates where cards are made up.
fn smartcards(guest: &Guest<'_>, devices: &Devices, r: &mut Report<'_>) {
    for (i, card) in devices.smartcards.iter().enumerate() {
        let path = format_args!("devices/smartcard[{}]", i + 1);
        match card.mode {
            None => r.report(
                Rule::Smartcard,
                path,
                "it is not said where cards come from: the reader needs `mode`",
            ),
            Some(SmartcardMode::HostCertificates) => {
                if card.certificates.len() != 3 {
                    r.report(
                        Rule::Smartcard,
                        path,
                        format!(
                            "a card is made of three certificates, and there are {}",
                            card.certificates.len()
                        ),
                    );
                }
                if card
                    .database
                    .as_deref()
                    .is_some_and(|path| !path.starts_with('/'))
                {
                    r.report(
                        Rule::Smartcard,
                        format_args!("{path}/database"),
                        "the database is told by its whole path",
                    );
                }
            }
            Some(SmartcardMode::Passthrough) => {
                if card.kind.is_none() {
                    r.report(
                        Rule::Smartcard,
                        path,
                        "cards come through a connection: the reader needs `type`",
                    );
                }
                guest.ends(card.kind, &card.sources, path, true, r);
            }
            Some(SmartcardMode::Host) => {}
        }
        let place = card.address.as_ref();
        if let Some(kind) = place.and_then(|address| address.kind)
            && kind != AddressType::Ccid
        {
            r.report(
                Rule::AddressType,
                format_args!("{path}/address/@type"),
                format!("a reader of smart cards has a ccid address, not {kind}"),
            );
        }
        let apart = |address: &Address| {
            [address.controller, address.slot]
                .iter()
                .any(|number| number.is_some_and(|number| number.get() > 0))
        };
        if guest.qemu && (i == 1 || place.is_some_and(apart)) {
            r.report(
                Rule::Smartcard,
                path,
                "a guest has one reader of smart cards, in slot 0 of controller 0",
            );
        }
    }
}

impl Guest<'_> {
    /// What the host's end of a character device needs; a channel's socket may be chosen for it.
    fn ends(
        &self,
        kind: Option<CharType>,
        sources: &[CharSource],
        path: Arguments<'_>,
        needs_path: bool,
        r: &mut Report<'_>,
    ) {
        let most = if kind == Some(CharType::Udp) { 2 } else { 1 };
        if sources
            .iter()
            .filter(|source| source.seclabels.is_empty() || source.path.is_some())
            .count()
            > most
        {
            r.report(
                Rule::ChardevSources,
                format_args!("{path}/source[{}]", most + 1),
                "the device has too many sources",
            );
        }
        match kind {
            Some(CharType::Unix | CharType::File | CharType::Pipe | CharType::Dev)
                if needs_path && sources.iter().all(|source| source.path.is_none()) =>
            {
                r.report(
                    Rule::ChardevPath,
                    format_args!("{path}/source"),
                    "the device needs a source with `path`",
                );
            }
            Some(CharType::Nmdm)
                if sources
                    .iter()
                    .any(|source| source.master.is_some() != source.slave.is_some()) =>
            {
                r.report(
                    Rule::ChardevPath,
                    format_args!("{path}/source"),
                    "a pair of devices has both ends, `master` and `slave`",
                );
            }
            Some(CharType::Tcp) => tcp(sources.first(), path, r),
            Some(CharType::Udp) => udp(sources, path, r),
            Some(CharType::Spiceport | CharType::Dbus) => {
                port_name(sources, path, r);
            }
            _ => {}
        }
        let joins = matches!(kind, Some(CharType::Tcp | CharType::Unix));
        for (i, source) in sources.iter().enumerate() {
            let at = format_args!("{path}/source[{}]", i + 1);
            labels(self.domain, &source.seclabels, at, r);
            if joins {
                self.again(source, at, r);
            }
        }
    }

    /// A lost connection is made again by the side that made it, after some time.
    fn again(&self, source: &CharSource, path: Arguments<'_>, r: &mut Report<'_>) {
        let Some(reconnect) = &source.reconnect else {
            return;
        };
        if reconnect.enabled != Some(YesNo::Yes) {
            return;
        }
        let at = format_args!("{path}/reconnect");
        if mode(source) == CharMode::Bind {
            r.report(
                Rule::ChardevReconnect,
                at,
                "only the side that connects can connect again",
            );
        }
        let waits = |seconds: Option<u32>| seconds.is_some_and(|seconds| seconds > 0);
        if self.qemu && !waits(reconnect.timeout) && !waits(reconnect.delay) {
            r.report(
                Rule::ChardevReconnect,
                at,
                "it is not said after how many seconds to connect again: `timeout`, from 1",
            );
        }
    }
}

fn mode(source: &CharSource) -> CharMode {
    source.mode.unwrap_or(CharMode::Connect)
}

fn tcp(source: Option<&CharSource>, path: Arguments<'_>, r: &mut Report<'_>) {
    if source.is_none_or(|source| source.service.is_none()) {
        r.report(
            Rule::ChardevTcp,
            format_args!("{path}/source"),
            "a TCP connection needs `service`, its port",
        );
    }
    if source.is_some_and(|source| source.host.is_none()) {
        r.report(
            Rule::ChardevTcp,
            format_args!("{path}/source"),
            "a TCP connection needs `host`",
        );
    }
}

fn udp(sources: &[CharSource], path: Arguments<'_>, r: &mut Report<'_>) {
    let at = |i: usize| format!("{path}/source[{}]", i + 1);
    if let [first, second] = sources
        && mode(first) == mode(second)
    {
        r.report(
            Rule::ChardevUdp,
            at(1),
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
            connect.map_or_else(|| format!("{path}/source"), at),
            "UDP needs a source with mode='connect' and `service`, its port",
        );
    }
}

/// The name of a port that displays lead to.
fn port_name(sources: &[CharSource], path: Arguments<'_>, r: &mut Report<'_>) {
    let name = sources.first().and_then(|source| source.channel.as_deref());
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match name {
        None => r.report(
            Rule::ChardevChannel,
            format_args!("{path}/source"),
            "the port needs a source with `channel`, its name",
        ),
        Some(name) if !name.chars().all(sound) => r.report(
            Rule::ChardevChannel,
            format_args!("{path}/source[1]/@channel"),
            format!("`{name}` has other characters than letters, digits and _-."),
        ),
        Some(_) => {}
    }
}
