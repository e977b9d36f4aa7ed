//! Rules on interfaces: what each type needs and takes.

use super::devices::is_link_name;
use super::machine::is_qemu;
use super::one::Report;
use super::traffic;
use crate::domain::interface::{
    BackendType, Interface, InterfaceSource, InterfaceSourceMode, InterfaceTarget, InterfaceType,
    Rom, Teaming, TeamingType,
};
use crate::domain::storage::SourceType;
use crate::domain::{Domain, DomainType};
use crate::rule::Rule;
use crate::scalar::YesNo;
use std::collections::BTreeSet;
use std::fmt::Arguments;

/// Every rule on interfaces.
pub(crate) fn check(domain: &Domain, r: &mut Report<'_>) {
    // Elsewhere a bridge is called as its maker pleases, such as `VM Network`.
    let has_links = !matches!(
        domain.kind,
        Some(
            DomainType::Vmware
                | DomainType::Hyperv
                | DomainType::Vbox
                | DomainType::Hvf
                | DomainType::Vz
                | DomainType::Parallels
                | DomainType::Phyp
        )
    );
    let qemu = is_qemu(domain);
    let mut taps = BTreeSet::new();
    for (i, interface) in domain.interfaces().iter().enumerate() {
        let path = format_args!("devices/interface[{}]", i + 1);
        needs(interface, path, r);
        if has_links {
            link_names(interface, path, r);
        }
        let tap = interface
            .target
            .as_ref()
            .and_then(InterfaceTarget::kept_name);
        if tap.is_some_and(|name| !name.contains('%') && !taps.insert(name)) {
            r.add(
                Rule::DuplicateTap,
                format_args!("{path}/target/@dev"),
                "two interfaces have one device on the host",
                Some("leave its name out, and it gets its own"),
            );
        }
        sockets(interface, path, r);
        shared(interface, path, r);
        backend(interface, path, r);
        device(interface, path, r);
        if qemu {
            tuned(interface, path, r);
            inner(interface, path, r);
        }
        if let Some(rom) = &interface.rom {
            self::rom(rom, format_args!("{path}/rom"), r);
        }
        if let Some(teaming) = &interface.teaming {
            team(teaming, format_args!("{path}/teaming"), r);
        }
    }
}

fn kind_of(interface: &Interface) -> &'static str {
    interface.kind.map_or("", |kind| kind.as_str())
}

fn model_of(interface: &Interface) -> Option<&str> {
    interface.model.as_ref()?.kind.as_deref()
}

fn is_virtio(model: &str) -> bool {
    matches!(
        model,
        "virtio" | "virtio-transitional" | "virtio-non-transitional"
    )
}

fn is_passt(interface: &Interface) -> bool {
    interface.backend.as_ref().and_then(|backend| backend.kind) == Some(BackendType::Passt)
}

/// Names of links are names that the kernel takes, on hosts that have Linux's links.
fn link_names(interface: &Interface, path: Arguments<'_>, r: &mut Report<'_>) {
    let source = interface.source.as_ref();
    let names = [
        (
            source.and_then(|source| source.bridge.as_deref()),
            "source/@bridge",
        ),
        (
            interface
                .target
                .as_ref()
                .and_then(|target| target.dev.as_deref()),
            "target/@dev",
        ),
    ];
    for (name, at) in names {
        if let Some(name) = name
            && !is_link_name(name)
        {
            r.add(
                Rule::LinkName,
                format_args!("{path}/{at}"),
                format!(
                    "`{name}` is no name of a link: 1 to 15 bytes without `/`, `:` and white space"
                ),
                None,
            );
        }
    }
}

/// What each type needs of its source, and what the kernel takes of all.
fn needs(interface: &Interface, path: Arguments<'_>, r: &mut Report<'_>) {
    let source = interface.source.as_ref();
    let lacks = match interface.kind {
        Some(InterfaceType::Network) => source
            .is_none_or(|source| source.network.is_none())
            .then_some("`network`"),
        Some(InterfaceType::Bridge) => source
            .is_none_or(|source| source.bridge.is_none())
            .then_some("`bridge`"),
        Some(InterfaceType::Direct | InterfaceType::Vdpa) => source
            .is_none_or(|source| source.dev.is_none())
            .then_some("`dev`"),
        Some(InterfaceType::Hostdev) => source
            .is_none_or(|source| source.address.is_none() && source.vendor.is_none())
            .then_some("<address>"),
        Some(InterfaceType::Internal) => source
            .is_none_or(|source| source.name.is_none())
            .then_some("`name`"),
        None => {
            r.add(Rule::InterfaceType, path, "the interface has no type", Some("state what it is attached to, such as type='network'; in YAML `network: default`"));
            None
        }
        _ => None,
    };
    if let Some(lacks) = lacks {
        r.report(
            Rule::InterfaceSource,
            format_args!("{path}/source"),
            format!("an interface of this type needs a source with {lacks}"),
        );
    }
    if interface
        .mac
        .as_ref()
        .and_then(|mac| mac.address)
        .is_some_and(crate::scalar::MacAddr::is_multicast)
    {
        r.add(
            Rule::MulticastMac,
            format_args!("{path}/mac/@address"),
            "the address is a group's: the first octet must be even",
            None,
        );
    }
    let mtu = interface.mtu.as_ref().and_then(|mtu| mtu.size);
    if mtu.is_some_and(|mtu| !(68..=65535).contains(&mtu)) {
        r.add(
            Rule::MtuRange,
            format_args!("{path}/mtu/@size"),
            "the largest packet is 68 to 65535 bytes",
            None,
        );
    }
}

/// Sockets of other programs, and of other guests.
fn sockets(interface: &Interface, path: Arguments<'_>, r: &mut Report<'_>) {
    let none = InterfaceSource::default();
    let source = interface.source.as_ref().unwrap_or(&none);
    let lacks: &[(&str, bool)] = match interface.kind {
        Some(InterfaceType::VhostUser) => {
            vhost_user(interface, source, path, r);
            &[
                ("type", source.kind.is_some()),
                ("path", source.path.is_some()),
                ("mode", source.mode.is_some()),
            ]
        }
        Some(InterfaceType::Server) => &[("port", source.port.is_some())],
        Some(InterfaceType::Client | InterfaceType::Mcast | InterfaceType::Udp) => &[
            ("address", source.ip_address.is_some()),
            ("port", source.port.is_some()),
        ],
        _ => &[],
    };
    for (name, _) in lacks.iter().filter(|(_, stated)| !stated) {
        r.report(
            Rule::InterfaceSocket,
            format_args!("{path}/source"),
            format!(
                "an interface of type {} needs a source with `{name}`",
                kind_of(interface)
            ),
        );
    }
    if interface.kind == Some(InterfaceType::Udp)
        && let Some(local) = &source.local
        && (local.address.is_none() || local.port.is_none())
    {
        r.report(
            Rule::InterfaceSocket,
            format_args!("{path}/source/local"),
            "the local end needs `address` and `port`",
        );
    }
}

fn vhost_user(
    interface: &Interface,
    source: &InterfaceSource,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    if source.kind.is_some_and(|kind| kind != SourceType::Unix) {
        r.report(
            Rule::InterfaceSocket,
            format_args!("{path}/source/@type"),
            "vhostuser speaks through a socket: type='unix'",
        );
    }
    let waits = source.mode == Some(InterfaceSourceMode::Server);
    let again = source
        .reconnect
        .as_ref()
        .and_then(|reconnect| reconnect.enabled);
    if waits && again == Some(YesNo::Yes) {
        r.report(
            Rule::InterfaceSocket,
            format_args!("{path}/source/reconnect"),
            "only the side that connects, mode='client', can connect again",
        );
    }
    if source.mode.is_some_and(|mode| {
        !matches!(
            mode,
            InterfaceSourceMode::Server | InterfaceSourceMode::Client
        )
    }) {
        r.report(
            Rule::InterfaceSocket,
            format_args!("{path}/source/@mode"),
            "the mode of vhostuser is server or client",
        );
    }
    if let Some(model) = model_of(interface).filter(|model| !is_virtio(model)) {
        r.report(
            Rule::InterfaceModel,
            format_args!("{path}/model/@type"),
            format!("vhostuser serves virtio, not {model}"),
        );
    }
}

/// What interfaces have in common with networks.
fn shared(interface: &Interface, path: Arguments<'_>, r: &mut Report<'_>) {
    let network = interface.kind == Some(InterfaceType::Network);
    if let Some(vlan) = &interface.vlan {
        traffic::vlan(vlan, format_args!("{path}/vlan"), r);
    }
    if let Some(bandwidth) = &interface.bandwidth {
        traffic::bandwidth(bandwidth, format_args!("{path}/bandwidth"), network, r);
    }
    let whole = matches!(
        interface.kind,
        Some(InterfaceType::Bridge | InterfaceType::Direct | InterfaceType::Hostdev)
    );
    if let Some(port) = &interface.virtualport {
        if !whole && !network {
            r.report(
                Rule::VirtualPort,
                format_args!("{path}/virtualport"),
                format!(
                    "an interface of type {} is at no port of a switch",
                    kind_of(interface)
                ),
            );
        }
        traffic::port(port, format_args!("{path}/virtualport"), whole, r);
    }
    for (i, ip) in interface.ips.iter().enumerate() {
        traffic::address(
            ip.family,
            ip.address,
            ip.prefix,
            format_args!("{path}/ip[{}]", i + 1),
            r,
        );
    }
    for (i, route) in interface.routes.iter().enumerate() {
        traffic::route(route, format_args!("{path}/route[{}]", i + 1), r);
    }
    let isolated = interface.port.as_ref().and_then(|port| port.isolated) == Some(YesNo::Yes);
    let switched = interface.virtualport.as_ref().and_then(|port| port.kind);
    if isolated && interface.kind != Some(InterfaceType::Bridge) && !network {
        r.report(
            Rule::IsolatedPort,
            format_args!("{path}/port/@isolated"),
            "only ports of bridges are kept apart: interfaces of type network and bridge",
        );
    } else if isolated && let Some(kind) = switched {
        r.report(
            Rule::IsolatedPort,
            format_args!("{path}/port/@isolated"),
            format!("a port of {kind} is not a bridge's, and is not kept apart"),
        );
    }
    let Some(source) = &interface.source else {
        return;
    };
    let ethernet = interface.kind == Some(InterfaceType::Ethernet);
    for (name, stated) in [
        ("ip", !source.ips.is_empty()),
        ("route", !source.routes.is_empty()),
    ] {
        if stated && !ethernet {
            r.report(
                Rule::InterfaceAddress,
                format_args!("{path}/source/{name}[1]"),
                "the host's side has addresses with type='ethernet' only",
            );
        }
    }
}

/// What only passt does, and what only a tap has.
fn backend(interface: &Interface, path: Arguments<'_>, r: &mut Report<'_>) {
    let passt = is_passt(interface);
    let user = interface.kind == Some(InterfaceType::User);
    if passt && !user {
        r.report(
            Rule::PasstOnly,
            format_args!("{path}/backend/@type"),
            "passt serves interfaces of type user",
        );
    }
    let forwards = passt && user;
    if !forwards && !interface.port_forwards.is_empty() {
        r.add(
            Rule::PasstOnly,
            format_args!("{path}/portForward[1]"),
            "ports are forwarded by passt only",
            Some("take type='user' with <backend type='passt'/>"),
        );
    }
    let unmanaged = interface.target.as_ref().and_then(|target| target.managed) == Some(YesNo::No);
    if unmanaged && interface.kind != Some(InterfaceType::Ethernet) {
        r.report(
            Rule::UnmanagedTap,
            format_args!("{path}/target/@managed"),
            "somebody else's tap is for interfaces of type ethernet",
        );
    }
}

fn device(interface: &Interface, path: Arguments<'_>, r: &mut Report<'_>) {
    let model = model_of(interface);
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if let Some(model) = model
        && !model.chars().all(sound)
    {
        r.report(
            Rule::InterfaceModel,
            format_args!("{path}/model/@type"),
            format!(
                "`{model}` is no name of a model: letters, digits, `-` and `_`, such as virtio"
            ),
        );
        return;
    }
    if let (Some(model), Some(driver)) =
        (model.filter(|model| !is_virtio(model)), &interface.driver)
    {
        let of = format!("virtio, and the model is {model}");
        super::virtio::refuse(driver.virtio_options(), path, &of, None, r);
    }
    if interface.kind == Some(InterfaceType::Vdpa)
        && let Some(model) = model.filter(|model| *model != "virtio")
    {
        r.report(
            Rule::InterfaceModel,
            format_args!("{path}/model/@type"),
            format!("vdpa is virtio, not {model}"),
        );
    }
    let lasts = interface.teaming.as_ref().and_then(|teaming| teaming.kind)
        == Some(TeamingType::Persistent);
    if lasts && let Some(model) = model.filter(|model| !is_virtio(model)) {
        r.report(
            Rule::Teaming,
            format_args!("{path}/model/@type"),
            format!("the interface that stays is virtio's, not {model}"),
        );
    }
}

/// What QEMU can tune of which interface.
fn tuned(interface: &Interface, path: Arguments<'_>, r: &mut Report<'_>) {
    let virtio = model_of(interface).is_none_or(is_virtio);
    if let Some(driver) = interface.driver.as_ref().filter(|_| virtio) {
        for (name, size) in [
            ("rx_queue_size", driver.rx_queue_size),
            ("tx_queue_size", driver.tx_queue_size),
        ] {
            if size.is_some_and(|size| size > 0 && !size.is_power_of_two()) {
                r.report(
                    Rule::QueueSize,
                    format_args!("{path}/driver/@{name}"),
                    "the size of a queue is a power of two, such as 256 or 1024",
                );
            }
        }
    }
    let kind = kind_of(interface);
    let sized = matches!(
        interface.kind,
        None | Some(
            InterfaceType::Network
                | InterfaceType::Bridge
                | InterfaceType::Ethernet
                | InterfaceType::VhostUser
        )
    ) || is_passt(interface);
    if interface.mtu.is_some() && !sized {
        r.report(
            Rule::MtuType,
            format_args!("{path}/mtu"),
            format!("the largest packet of an interface of type {kind} cannot be chosen"),
        );
    }
    if interface.coalesce.is_some()
        && !matches!(
            interface.kind,
            None | Some(InterfaceType::Network | InterfaceType::Bridge)
        )
    {
        r.report(
            Rule::CoalesceType,
            format_args!("{path}/coalesce"),
            format!("interrupts of an interface of type {kind} are not gathered: those of network and bridge are"),
        );
    }
    let goes =
        interface.teaming.as_ref().and_then(|teaming| teaming.kind) == Some(TeamingType::Transient);
    if goes
        && !matches!(
            interface.kind,
            None | Some(InterfaceType::Hostdev | InterfaceType::Network)
        )
    {
        r.report(
            Rule::Teaming,
            format_args!("{path}/teaming/@type"),
            format!("the interface that goes is of type hostdev or network, not {kind}"),
        );
    }
}

/// Addresses inside of a guest: only QEMU's own network has them, one a family.
fn inner(interface: &Interface, path: Arguments<'_>, r: &mut Report<'_>) {
    let user = interface.kind == Some(InterfaceType::User);
    if is_passt(interface) || matches!(interface.kind, None | Some(InterfaceType::Vdpa)) {
        return;
    }
    let wrong = |r: &mut Report<'_>, at: Arguments<'_>, message: &str| {
        r.report(Rule::InterfaceAddress, format_args!("{path}/{at}"), message);
    };
    if !interface.routes.is_empty() {
        wrong(
            r,
            format_args!("route[1]"),
            "routes inside of the guest are the guest's to make",
        );
    }
    if !user {
        if !interface.ips.is_empty() {
            wrong(
                r,
                format_args!("ip[1]"),
                "addresses inside of the guest are the guest's to choose, but with type='user'",
            );
        }
        return;
    }
    let (mut first, mut second) = (false, false);
    for (i, ip) in interface.ips.iter().enumerate() {
        let Some(address) = ip.address else { continue };
        let at = format_args!("ip[{}]", i + 1);
        let seen = if address.is_ipv4() {
            &mut first
        } else {
            &mut second
        };
        if std::mem::replace(seen, true) {
            wrong(r, at, "one address of each family is given");
        }
        if ip.peer.is_some() {
            wrong(
                r,
                format_args!("{at}/@peer"),
                "the guest is on a network, not on a link between two",
            );
        }
        let prefix = ip.prefix.filter(|prefix| *prefix > 0);
        if address.is_ipv4() && prefix.is_some_and(|prefix| !(4..=27).contains(&prefix)) {
            wrong(
                r,
                format_args!("{at}/@prefix"),
                "the network of type='user' has a prefix of 4 to 27",
            );
        } else if address.is_ipv6() && prefix.is_some_and(|prefix| prefix != 64) {
            wrong(
                r,
                format_args!("{at}/@prefix"),
                "the IPv6 network of type='user' has the prefix 64",
            );
        }
    }
}

/// Firmware that is not shown has no properties.
pub(crate) fn rom(rom: &Rom, path: Arguments<'_>, r: &mut Report<'_>) {
    if rom.enabled == Some(YesNo::No) && (rom.bar.is_some() || rom.file.is_some()) {
        r.report(
            Rule::RomDisabled,
            path,
            "the device's firmware is switched off, and its place or file is stated",
        );
    }
}

/// Two interfaces that the guest joins: the lasting one has the name, the other one refers to it.
fn team(teaming: &Teaming, path: Arguments<'_>, r: &mut Report<'_>) {
    match (teaming.kind, &teaming.persistent) {
        (Some(TeamingType::Transient), None) => r.report(
            Rule::Teaming,
            path,
            "a transient interface needs `persistent`, the alias of the one it is joined with",
        ),
        (Some(TeamingType::Persistent), Some(_)) => r.report(
            Rule::Teaming,
            format_args!("{path}/@persistent"),
            "the persistent interface refers to no other: the transient one refers to it",
        ),
        _ => {}
    }
}
