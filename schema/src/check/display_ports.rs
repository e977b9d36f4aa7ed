//! Rules on the host's ports at which displays listen: each is one display's, in a guest and among guests.

use super::across::Problems;
use super::clashes::{clash, is_stopped};
use super::machine::is_qemu;
use super::one::Report;
use crate::definition::Definition;
use crate::document::Located;
use crate::domain::Domain;
use crate::domain::graphics::{Graphics, GraphicsType, ListenType};
use crate::rule::Rule;
use crate::scalar::YesNo;
use std::collections::HashMap;
use std::fmt::Arguments;

/// Where displays listen that do not say. Source: `vnc_listen` and `spice_listen` of libvirt's `qemu.conf`.
const LOCAL: &str = "127.0.0.1";

/// What to do about displays at one port.
const OTHER_PORT: &str =
    "take another port for one of them, or leave it out, and a free one is chosen";

/// One port of a display.
struct Port<'d> {
    number: i32,
    /// The attribute that states it.
    name: &'static str,
    /// The address that it is listened at; none where a network's is taken.
    address: Option<&'d str>,
}

impl Port<'_> {
    /// Whether two of one number cannot be listened at side by side.
    fn meets(&self, other: &Self) -> bool {
        let (Some(one), Some(two)) = (self.address, other.address) else {
            return false;
        };
        let all = |address: &str| matches!(address, "0.0.0.0" | "::" | "[::]");
        one == two || all(one) || all(two)
    }
}

/// The ports that a display is told to have: none where they are chosen, or where it listens at a socket.
fn ports(graphics: &Graphics) -> Vec<Port<'_>> {
    let first = graphics.listens.first();
    let kind = first.and_then(|listen| listen.kind);
    let unheard = matches!(kind, Some(ListenType::Socket | ListenType::None));
    if graphics.autoport == Some(YesNo::Yes) || graphics.socket.is_some() || unheard {
        return Vec::new();
    }
    let address = match kind {
        Some(ListenType::Network) => None,
        _ => Some(
            graphics
                .listen
                .as_deref()
                .or_else(|| first?.address.as_deref())
                .unwrap_or(LOCAL),
        ),
    };
    let further: &[(&'static str, Option<i32>)] = match graphics.kind {
        Some(GraphicsType::Vnc) => &[("websocket", graphics.websocket)],
        Some(GraphicsType::Spice) => &[("tlsPort", graphics.tls_port)],
        _ => &[],
    };
    let all = [("port", graphics.port)].into_iter();
    all.chain(further.iter().copied())
        .filter_map(|(name, number)| {
            Some(Port {
                number: number.filter(|number| *number != -1)?,
                name,
                address,
            })
        })
        .collect()
}

/// Every rule within a guest.
pub(super) fn check(domain: &Domain, r: &mut Report<'_>) {
    if !is_qemu(domain) {
        return;
    }
    let mut seen: Vec<(usize, Port<'_>)> = Vec::new();
    for (i, graphics) in displays(domain) {
        for port in ports(graphics) {
            let at = format_args!("devices/graphics[{}]/@{}", i + 1, port.name);
            range(graphics, &port, at, r);
            let met = |(_, other): &&(usize, Port<'_>)| {
                other.number == port.number && other.number > 0 && other.meets(&port)
            };
            if let Some((other, known)) = seen.iter().find(met) {
                r.add(
                    Rule::DisplayPort,
                    at,
                    format!(
                        "`{}` of devices/graphics[{}] is port {} too",
                        known.name,
                        other + 1,
                        port.number
                    ),
                    Some("take another, or leave it out, and a free one is chosen"),
                );
            }
            seen.push((i, port));
        }
    }
}

fn displays(domain: &Domain) -> impl Iterator<Item = (usize, &Graphics)> {
    let devices = domain.devices.iter();
    devices.flat_map(|devices| &devices.graphics).enumerate()
}

/// The ports that there are; VNC counts its displays from 5900.
fn range(graphics: &Graphics, port: &Port<'_>, at: Arguments<'_>, r: &mut Report<'_>) {
    let vnc = graphics.kind == Some(GraphicsType::Vnc) && port.name == "port";
    let least = if vnc { 5900 } else { 0 };
    if (least..=65535).contains(&port.number) {
        return;
    }
    let message = match vnc {
        true => format!("vnc's ports are 5900 to 65535, and this is {}", port.number),
        false => format!("ports go up to 65535, and this is {}", port.number),
    };
    let help = "take one of these, or leave it out, and a free one is chosen";
    r.add(Rule::DisplayPort, at, message, Some(help));
}

/// Displays of two guests at one port of the host. A guest that is wanted stopped has none.
pub(super) fn across(all: &[&Located], problems: &mut Problems) {
    let mut first: HashMap<i32, Vec<(&Located, String, Port<'_>)>> = HashMap::new();
    for located in all {
        let Definition::Domain(domain) = &located.definition else {
            continue;
        };
        if !is_qemu(domain) || is_stopped(located) {
            continue;
        }
        for (i, graphics) in displays(domain) {
            for port in ports(graphics).into_iter().filter(|port| port.number > 0) {
                let place = format!("devices/graphics[{}]/@{}", i + 1, port.name);
                let known = first.entry(port.number).or_default();
                let met = |(other, _, theirs): &&(&Located, String, Port<'_>)| {
                    other.name() != located.name() && theirs.meets(&port)
                };
                if let Some((other, at, _)) = known.iter().find(met) {
                    let message = |of: &Located| {
                        format!(
                            "a display of domain {} has port {} too",
                            of.name(),
                            port.number
                        )
                    };
                    clash(
                        (Rule::DisplayPort, OTHER_PORT),
                        (located, &place, message(other)),
                        (other, at),
                        problems,
                    );
                    clash(
                        (Rule::DisplayPort, OTHER_PORT),
                        (other, at, message(located)),
                        (located, &place),
                        problems,
                    );
                }
                known.push((located, place, port));
            }
        }
    }
}
