//! Rules on elements that networks and domains share: limits of what is carried, VLAN tags, ports of switches.

use super::one::Report;
use crate::common::{Bandwidth, VirtualPort, VirtualPortType, Vlan};
use crate::rule::Rule;
use crate::scalar::YesNo;

/// Limits of what is carried; only a guest's interface may be guaranteed a `floor`.
pub(super) fn bandwidth(bandwidth: &Bandwidth, floor: bool, path: &str, r: &mut Report<'_>) {
    let directions = [
        ("inbound", &bandwidth.inbound),
        ("outbound", &bandwidth.outbound),
    ];
    for (name, rate) in directions {
        let Some(rate) = rate else { continue };
        let at = format!("{path}/{name}");
        let takes_floor = floor && name == "inbound";
        if rate.floor.is_some() && !takes_floor {
            r.report(
                Rule::Bandwidth,
                &format!("{at}/@floor"),
                "`floor` is for what comes in to a guest's interface",
            );
        } else if rate.average.is_none() && rate.floor.is_none() {
            let needs = if takes_floor {
                "`average` or `floor`"
            } else {
                "`average`"
            };
            r.report(Rule::Bandwidth, &at, format!("a limit needs {needs}"));
        } else if rate.average.is_none() && (rate.peak.is_some() || rate.burst.is_some()) {
            r.report(Rule::Bandwidth, &at, "`peak` and `burst` need `average`");
        }
    }
}

/// VLAN tags: one, or several of a trunk.
pub(super) fn vlan(vlan: &Vlan, path: &str, r: &mut Report<'_>) {
    if vlan.tags.is_empty() {
        r.report(Rule::VlanTags, path, "a <vlan> needs at least one <tag>");
    }
    let mut native = vlan
        .tags
        .iter()
        .enumerate()
        .filter(|(_, tag)| tag.native_mode.is_some());
    let first = native.next();
    if let Some((second, _)) = native.next() {
        r.report(
            Rule::VlanTags,
            &format!("{path}/tag[{}]/@nativeMode", second + 1),
            "frames without a tag belong to one VLAN",
        );
    }
    let trunk = vlan.tags.len() > 1 || first.is_some();
    if vlan.trunk == Some(YesNo::No) && trunk {
        r.report(
            Rule::VlanTags,
            &format!("{path}/@trunk"),
            "several tags, or a native one, need trunk='yes'",
        );
    }
}

/// What ports of a switch are told: each kind of switch has its own words.
pub(super) fn virtual_port(port: &VirtualPort, path: &str, r: &mut Report<'_>) {
    let (Some(kind), Some(told)) = (port.kind, &port.parameters) else {
        return;
    };
    use VirtualPortType::{MidoNet, OpenVSwitch, Qbg, Qbh};
    let stated: [(&str, bool, &[VirtualPortType]); 6] = [
        ("managerid", told.managerid.is_some(), &[Qbg]),
        ("typeid", told.typeid.is_some(), &[Qbg]),
        ("typeidversion", told.typeidversion.is_some(), &[Qbg]),
        ("instanceid", told.instanceid.is_some(), &[Qbg]),
        ("profileid", told.profileid.is_some(), &[Qbh, OpenVSwitch]),
        (
            "interfaceid",
            told.interfaceid.is_some(),
            &[OpenVSwitch, MidoNet],
        ),
    ];
    for (name, is, of) in stated {
        if is && !of.contains(&kind) {
            r.report(
                Rule::VirtualPort,
                &format!("{path}/parameters/@{name}"),
                format!("a port of type {kind} is not told a `{name}`"),
            );
        }
    }
}
