//! Bridges and taps.
//!
//! In: what a link should be, and whose. Out: the link as it should be, marked as its owner's by its alias (`vireo:UUID`). What can go wrong: the name belongs to
//! somebody else (left alone, with a sentence that says whose it seems to be), the kernel refuses, a privilege is missing.
//!
//! A link never stands under its name without its mark, whenever we are interrupted: a bridge is made and marked under a temporary name and then renamed, a tap
//! is marked before it is made to stay. Everything here blocks: call it on a blocking thread.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{BridgeStpState, LinkMessage};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec};
use rustix::io::Errno;
use uuid::Uuid;

use super::netlink::{NetlinkError, NetlinkSocket};
use super::rows::{LinkRow, MARK, USER_HZ};
use super::{sysctl, tap};
use crate::execute::effect::EffectError;
use crate::inventory::LinkKind;
use crate::resolve::derived_link;
use crate::resolve::network::Bridge;

/// What a tap should be.
#[derive(Debug, Clone)]
pub struct Tap<'a> {
    /// Name.
    pub name: &'a str,
    /// The bridge it is in.
    pub bridge: Option<&'a str>,
    /// Bytes; `None` is the bridge's.
    pub mtu: Option<u32>,
    /// Several queues.
    pub multi_queue: bool,
}

/// Opens a socket for an effect.
///
/// # Errors
/// The system's, as an effect's failure.
pub fn socket() -> Result<NetlinkSocket, EffectError> {
    NetlinkSocket::route().map_err(|error| failed("open a netlink socket", &error))
}

/// Makes a bridge, or brings one of ours to these attributes.
///
/// # Errors
/// The name is somebody else's; the kernel refuses.
pub fn ensure_bridge(
    socket: &mut NetlinkSocket,
    bridge: &Bridge,
    owner: Uuid,
) -> Result<(), EffectError> {
    let name = checked_name(&bridge.name)?;
    let doing = format!("make bridge {name}");
    let Some(found) = look(socket, name)? else {
        return create_bridge(socket, bridge, owner);
    };
    ours(&found, LinkKind::Bridge, owner)?;
    let mut set = LinkUnspec::new_with_index(found.index);
    let mut differs = false;
    if found.mac != bridge.mac {
        set = set.address(bridge.mac.to_vec());
        differs = true;
    }
    if let Some(mtu) = bridge.mtu.filter(|mtu| *mtu != found.mtu) {
        set = set.mtu(mtu);
        differs = true;
    }
    if differs {
        change(socket, &doing, RouteNetlinkMessage::SetLink(set.build()), 0)?;
    }
    if found.stp != bridge.stp {
        let stp = if bridge.stp {
            BridgeStpState::KernelStp
        } else {
            BridgeStpState::Disabled
        };
        let builder = bridge_options(found.index).stp_state(stp);
        change(
            socket,
            &doing,
            RouteNetlinkMessage::NewLink(builder.build()),
            0,
        )?;
    }
    // The kernel checks the delay against the protocol's present state: after it, in a message of its own.
    let delay = bridge.effective_delay();
    if found.delay != delay || found.stp != bridge.stp {
        let builder = bridge_options(found.index).forward_delay(delay.saturating_mul(USER_HZ));
        change(
            socket,
            &doing,
            RouteNetlinkMessage::NewLink(builder.build()),
            0,
        )?;
    }
    no_router_advertisements(name)
}

fn create_bridge(
    socket: &mut NetlinkSocket,
    bridge: &Bridge,
    owner: Uuid,
) -> Result<(), EffectError> {
    let doing = format!("make bridge {}", bridge.name);
    let temporary = derived_link("vireo-", owner, None);
    if let Some(left) = look(socket, &temporary)? {
        // Left by an agent that died in the middle of this function. No alias yet, or ours.
        if left.kind != LinkKind::Bridge || left.alias.is_some() && left.owner() != Some(owner) {
            return Err(refusal(&left, LinkKind::Bridge));
        }
        delete(socket, &left)?;
    }
    let stp = if bridge.stp {
        BridgeStpState::KernelStp
    } else {
        BridgeStpState::Disabled
    };
    let mut builder = LinkMessageBuilder::<LinkBridge>::new(&temporary)
        .address(bridge.mac.to_vec())
        .forward_delay(bridge.effective_delay().saturating_mul(USER_HZ))
        .stp_state(stp);
    if let Some(mtu) = bridge.mtu {
        builder = builder.mtu(mtu);
    }
    change(
        socket,
        &doing,
        RouteNetlinkMessage::NewLink(builder.build()),
        NLM_F_CREATE | NLM_F_EXCL,
    )?;
    let made = look(socket, &temporary)?
        .ok_or_else(|| EffectError::passing(format!("cannot {doing}: it vanished")))?;
    mark(socket, &doing, made.index, owner)?;
    // No address of its own until one is added: guests and host meet on the bridge only as the definition says.
    sysctl::set(sysctl::ipv6(&temporary, "disable_ipv6"), "1")?;
    let rename = LinkUnspec::new_with_index(made.index)
        .name(bridge.name.as_str())
        .build();
    change(socket, &doing, RouteNetlinkMessage::SetLink(rename), 0)?;
    no_router_advertisements(&bridge.name)
}

/// A bridge of ours does not configure itself from what a guest advertises.
fn no_router_advertisements(bridge: &str) -> Result<(), EffectError> {
    sysctl::set(sysctl::ipv6(bridge, "accept_ra"), "0")?;
    sysctl::set(sysctl::ipv6(bridge, "autoconf"), "0")
}

fn bridge_options(index: u32) -> LinkMessageBuilder<LinkBridge> {
    LinkMessageBuilder::<LinkBridge>::new_with_info_kind(
        netlink_packet_route::link::InfoKind::Bridge,
    )
    .index(index)
}

/// Makes a persistent tap, or brings one of ours to these attributes, and puts it into its bridge.
///
/// # Errors
/// The name is somebody else's; the bridge is missing; queues should change while a guest has the tap open; the kernel refuses.
pub fn ensure_tap(
    socket: &mut NetlinkSocket,
    wanted: &Tap<'_>,
    owner: Uuid,
) -> Result<(), EffectError> {
    let name = checked_name(wanted.name)?;
    let doing = format!("make tap {name}");
    let bridge = match wanted.bridge {
        None => None,
        Some(bridge) => Some(look(socket, checked_name(bridge)?)?.ok_or_else(|| {
            EffectError::passing(format!(
                "cannot put tap {name} into bridge {bridge}: there is no such link"
            ))
            .with_help("a bridge of the host's own must exist before a guest uses it")
        })?),
    };
    let found = match look(socket, name)? {
        Some(found) => {
            ours(&found, LinkKind::Tap, owner)?;
            if found.multi_queue == wanted.multi_queue {
                found
            } else if found.carrier {
                return Err(EffectError::refused(format!(
                    "cannot change the number of queues of tap {name} while a guest has it open"
                ))
                .with_help("the change is made when the guest next starts"));
            } else {
                delete(socket, &found)?;
                create_tap(socket, wanted, owner)?
            }
        }
        None => create_tap(socket, wanted, owner)?,
    };
    let mtu = wanted.mtu.or(bridge.as_ref().map(|b| b.mtu));
    if let Some(mtu) = mtu.filter(|mtu| *mtu != found.mtu) {
        let set = LinkUnspec::new_with_index(found.index).mtu(mtu).build();
        change(socket, &doing, RouteNetlinkMessage::SetLink(set), 0)?;
    }
    let master = bridge.as_ref().map(|b| b.index);
    if found.master != master {
        let set = LinkUnspec::new_with_index(found.index)
            .controller(master.unwrap_or(0))
            .build();
        change(socket, &doing, RouteNetlinkMessage::SetLink(set), 0)?;
    }
    Ok(())
}

fn create_tap(
    socket: &mut NetlinkSocket,
    wanted: &Tap<'_>,
    owner: Uuid,
) -> Result<LinkRow, EffectError> {
    let name = wanted.name;
    let doing = format!("make tap {name}");
    let new = tap::NewTap::create(name, wanted.multi_queue).map_err(|error| {
        let message = format!("cannot {doing}: /dev/net/tun: {error}");
        if error.kind() == std::io::ErrorKind::NotFound {
            EffectError::refused(message).with_help("`modprobe tun`")
        } else {
            EffectError::passing(message)
        }
    })?;
    let made = look(socket, name)?
        .ok_or_else(|| EffectError::passing(format!("cannot {doing}: it vanished")))?;
    mark(socket, &doing, made.index, owner)?;
    // A bridge of the host's own may take the lowest address of its ports: let ours be the highest.
    let mut mac = made.mac;
    if let Some(first) = mac.first_mut() {
        *first = 0xfe;
    }
    let set = LinkUnspec::new_with_index(made.index)
        .address(mac.to_vec())
        .build();
    change(socket, &doing, RouteNetlinkMessage::SetLink(set), 0)?;
    // The host has no business of its own on a guest's wire.
    sysctl::set(sysctl::ipv6(name, "disable_ipv6"), "1")?;
    new.persist()
        .map_err(|error| EffectError::passing(format!("cannot {doing}: {error}")))?;
    Ok(LinkRow { mac, ..made })
}

/// Deletes a link of the owner's, and what shapes its traffic. Absent is fine.
///
/// # Errors
/// It is somebody else's; the kernel refuses.
pub fn delete_link(socket: &mut NetlinkSocket, name: &str, owner: Uuid) -> Result<(), EffectError> {
    let helper = super::tc::helper_name(name);
    if let Some(found) = look(socket, &helper)?
        && found.owner() == Some(owner)
    {
        delete(socket, &found)?;
    }
    let Some(found) = look(socket, checked_name(name)?)? else {
        return Ok(());
    };
    ours(&found, found.kind, owner)?;
    if found.kind_word == "ifb" && helps_another(socket, name)? {
        return Ok(());
    }
    delete(socket, &found)
}

/// Whether a device queues what arrives on a tap that is there: then it goes with the tap, or with its limits. It may have been without one when somebody decided to
/// delete it.
fn helps_another(socket: &mut NetlinkSocket, helper: &str) -> Result<bool, EffectError> {
    let links = socket
        .links()
        .map_err(|error| failed(&format!("delete link {helper}"), &error))?;
    Ok(links
        .iter()
        .any(|link| super::tc::helper_name(&link.name) == helper))
}

/// Sets a link of ours up or down.
///
/// # Errors
/// There is none, or it is not ours; the kernel refuses.
pub fn set_link(socket: &mut NetlinkSocket, name: &str, up: bool) -> Result<(), EffectError> {
    let doing = format!("set link {name} {}", if up { "up" } else { "down" });
    let found = present(socket, name, &doing)?;
    if found.up == up {
        return Ok(());
    }
    let builder = LinkUnspec::new_with_index(found.index);
    let set = if up { builder.up() } else { builder.down() }.build();
    change(socket, &doing, RouteNetlinkMessage::SetLink(set), 0)
}

/// Marks a link as its owner's.
///
/// # Errors
/// The kernel refuses.
pub fn mark(
    socket: &mut NetlinkSocket,
    doing: &str,
    index: u32,
    owner: Uuid,
) -> Result<(), EffectError> {
    let set: LinkMessage = LinkUnspec::new_with_index(index)
        .alias(format!("{MARK}{owner}"))
        .build();
    change(socket, doing, RouteNetlinkMessage::SetLink(set), 0)
}

/// Deletes that very link.
///
/// # Errors
/// The kernel refuses; a link that is gone already is fine.
pub fn delete(socket: &mut NetlinkSocket, link: &LinkRow) -> Result<(), EffectError> {
    let message = LinkUnspec::new_with_index(link.index).build();
    match socket.change(RouteNetlinkMessage::DelLink(message), 0) {
        Err(error) if error.is(Errno::NODEV) => Ok(()),
        other => other.map_err(|error| failed(&format!("delete link {}", link.name), &error)),
    }
}

/// The link of that name, if there is one.
///
/// # Errors
/// The kernel cannot be asked.
pub fn look(socket: &mut NetlinkSocket, name: &str) -> Result<Option<LinkRow>, EffectError> {
    socket
        .link(name)
        .map_err(|error| failed(&format!("look at link {name}"), &error))
}

/// The link of that name, which must be there and marked.
///
/// # Errors
/// There is none; it is not ours.
pub fn present(
    socket: &mut NetlinkSocket,
    name: &str,
    doing: &str,
) -> Result<LinkRow, EffectError> {
    owned(socket, name, doing)?
        .ok_or_else(|| EffectError::passing(format!("cannot {doing}: there is no such link")))
}

pub(super) fn owned(
    socket: &mut NetlinkSocket,
    name: &str,
    doing: &str,
) -> Result<Option<LinkRow>, EffectError> {
    let found = look(socket, checked_name(name)?)?;
    match found {
        Some(found) if found.owner().is_none() => Err(EffectError::refused(format!(
            "cannot {doing}: {}",
            whose(&found)
        ))),
        found => Ok(found),
    }
}

/// Sends one change.
///
/// # Errors
/// The kernel's refusal, as an effect's failure.
pub fn change(
    socket: &mut NetlinkSocket,
    doing: &str,
    message: RouteNetlinkMessage,
    flags: u16,
) -> Result<(), EffectError> {
    socket
        .change(message, flags)
        .map_err(|error| failed(doing, &error))
}

/// That a link is of this kind, and its owner's.
///
/// # Errors
/// It is another, or somebody else's.
pub(super) fn ours(found: &LinkRow, kind: LinkKind, owner: Uuid) -> Result<(), EffectError> {
    if found.owner() == Some(owner) && found.kind == kind {
        Ok(())
    } else {
        Err(refusal(found, kind))
    }
}

/// Why a link cannot be made what it should be.
pub(super) fn refusal(found: &LinkRow, kind: LinkKind) -> EffectError {
    let what = match kind {
        LinkKind::Bridge => "a bridge",
        LinkKind::Tap => "a tap",
        LinkKind::Macvtap => "a macvtap",
        LinkKind::Other => "a link",
    };
    let name = &found.name;
    EffectError::refused(format!("cannot make {what} of {name}: {}", whose(found))).with_help(
        format!(
            "give it another name in the definition, or remove the link that is there (`ip link delete {name}`)"
        ),
    )
}

/// Whose a link that is not the wanted owner's seems to be.
fn whose(found: &LinkRow) -> String {
    let name = &found.name;
    let word = match found.kind_word.as_str() {
        "" => "a device",
        "tun" => "a tun or tap",
        "bridge" => "a bridge",
        "veth" => "one end of a veth pair",
        other => other,
    };
    match (found.owner(), found.alias.as_deref()) {
        (Some(owner), _) => format!("{name} is {word} that vireo keeps for {owner}"),
        (None, Some(alias)) => format!("{name} is {word} with the alias '{alias}', not vireo's"),
        (None, None) if name.starts_with("virbr") || name.starts_with("vnet") => {
            format!("{name} is {word} without vireo's mark; libvirt uses such names")
        }
        (None, None) => format!("{name} is {word} without vireo's mark"),
    }
}

/// A link's name that the kernel takes and that means nothing but itself in a path or a line for `tc`.
///
/// # Errors
/// It is not such a name.
pub fn checked_name(name: &str) -> Result<&str, EffectError> {
    let fine = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b'+'));
    if fine {
        Ok(name)
    } else {
        Err(EffectError::refused(format!(
            "cannot name a link {name:?}: 1 to 15 letters, digits, '-', '_', '.', '@' and '+'"
        )))
    }
}

/// What a netlink failure means for an effect.
pub fn failed(doing: &str, error: &NetlinkError) -> EffectError {
    let message = format!("cannot {doing}: {error}");
    match error.errno() {
        Some(Errno::PERM | Errno::ACCESS) => {
            EffectError::refused(message).with_help("run vireo as root, or give it CAP_NET_ADMIN")
        }
        Some(Errno::OPNOTSUPP) => EffectError::refused(message)
            .with_help("this kernel lacks it; `vireo doctor` says what that costs"),
        Some(Errno::INVAL | Errno::RANGE | Errno::EXIST) => EffectError::refused(message),
        _ => EffectError::passing(message),
    }
}

#[cfg(test)]
mod tests;
