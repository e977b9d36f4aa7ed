//! Macvtaps: guests' shares of a device of the host's.
//!
//! In: what one should be, and whose. Out: the link, marked as its owner's; whoever serves the guest opens `/dev/tapN` for the link's number N. What the kernel changes in a link
//! is changed in it. It moves none to another device, and changes no mode from or to passthrough (`macvlan_changelink` in drivers/net/macvlan.c): such a one is deleted and made
//! anew, which only a definition asks for, between a guest's lives. As a bridge, one is made under a temporary name, marked and then renamed.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::MacVtapMode;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::{LinkMacVtap, LinkMessageBuilder, LinkUnspec};

use super::links::{change, checked_name, delete, look, mark, ours, refusal};
use super::netlink::NetlinkSocket;
use super::rows::LinkRow;
use super::sysctl;
use crate::execute::effect::{EffectError, Macvtap};
use crate::inventory::LinkKind;
use crate::resolve::derived_link;
use crate::resolve::domain::DirectMode;

/// Makes a macvtap, or brings one of ours to these attributes.
///
/// # Errors
/// The name is somebody else's; the device is missing or cannot be shared in this way; the kernel refuses.
pub fn ensure(socket: &mut NetlinkSocket, wanted: &Macvtap) -> Result<(), EffectError> {
    let name = checked_name(&wanted.name)?;
    let device = look(socket, checked_name(&wanted.device)?)?.ok_or_else(|| {
        let device = &wanted.device;
        EffectError::passing(format!(
            "cannot make macvtap {name}: there is no device {device}"
        ))
    })?;
    let Some(found) = look(socket, name)? else {
        return create(socket, wanted, &device);
    };
    ours(&found, LinkKind::Macvtap, wanted.owner)?;
    let [is, wants] = [found.mode, mode(wanted.mode).into()];
    let alone = u32::from(MacVtapMode::Passthrough);
    if found.lower != Some(device.index) || (is != wants && [is, wants].contains(&alone)) {
        delete(socket, &found)?;
        return create(socket, wanted, &device);
    }
    let doing = format!("make macvtap {name}");
    if is != wants {
        let builder = LinkMessageBuilder::<LinkMacVtap>::new(name).mode(mode(wanted.mode));
        let new = RouteNetlinkMessage::NewLink(builder.index(found.index).build());
        change(socket, &doing, new, 0)?;
    }
    let set = settings(wanted, found.index).build();
    change(socket, &doing, RouteNetlinkMessage::SetLink(set), 0)
}

/// What can be set in any macvtap.
fn settings(wanted: &Macvtap, index: u32) -> LinkMessageBuilder<LinkUnspec> {
    let set = LinkUnspec::new_with_index(index)
        .address(wanted.mac.to_vec())
        // Nobody tells the host which groups the guest is in: IPv6 would find no neighbour.
        .allmulticast(true);
    match wanted.mtu {
        Some(mtu) => set.mtu(mtu),
        None => set,
    }
}

fn create(
    socket: &mut NetlinkSocket,
    wanted: &Macvtap,
    device: &LinkRow,
) -> Result<(), EffectError> {
    let doing = format!("make macvtap {} of {}", wanted.name, wanted.device);
    let temporary = derived_link("vireo-", wanted.owner, None);
    if let Some(left) = look(socket, &temporary)? {
        // Left by an agent that died in the middle of this function. No alias yet, or ours.
        let marked = left.alias.is_some() && left.owner() != Some(wanted.owner);
        if left.kind != LinkKind::Macvtap || marked {
            return Err(refusal(&left, LinkKind::Macvtap));
        }
        delete(socket, &left)?;
    }
    let builder = LinkMacVtap::new(&temporary, device.index, mode(wanted.mode));
    let new = RouteNetlinkMessage::NewLink(builder.build());
    change(socket, &doing, new, NLM_F_CREATE | NLM_F_EXCL)?;
    let made = look(socket, &temporary)?
        .ok_or_else(|| EffectError::passing(format!("cannot {doing}: it vanished")))?;
    mark(socket, &doing, made.index, wanted.owner)?;
    // The host has no business of its own on a guest's wire.
    sysctl::set(sysctl::ipv6(&temporary, "disable_ipv6"), "1")?;
    // One that has the device alone begins with the device's address, and then gives it the guest's as long as it lasts.
    let rename = settings(wanted, made.index)
        .name(wanted.name.as_str())
        .build();
    change(socket, &doing, RouteNetlinkMessage::SetLink(rename), 0)
}

fn mode(mode: DirectMode) -> MacVtapMode {
    match mode {
        DirectMode::Vepa => MacVtapMode::Vepa,
        DirectMode::Bridge => MacVtapMode::Bridge,
        DirectMode::Private => MacVtapMode::Private,
        DirectMode::Passthrough => MacVtapMode::Passthrough,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::host::links::set_link;
    use crate::host::testing::{in_namespace, shell};

    fn wanted() -> Macvtap {
        Macvtap {
            name: "vt0".to_owned(),
            owner: Uuid::from_u128(0x86891d0f_0000_0000_0000_00000000abcd),
            device: "wire1".to_owned(),
            mode: DirectMode::Bridge,
            mac: [0x52, 0x54, 0, 1, 2, 3],
            mtu: None,
        }
    }

    /// A pair of devices; `false` where the kernel makes no macvtap of one.
    fn able() -> bool {
        shell("ip link add wire0 type veth peer name wire1; ip link set wire1 up");
        let line = "link add link wire1 name try type macvtap mode bridge";
        let tried = std::process::Command::new("ip")
            .args(line.split(' '))
            .output();
        let made = tried.is_ok_and(|tried| tried.status.success());
        if made {
            shell("ip link delete try");
        } else {
            eprintln!("skipped: the kernel makes no macvtap (`modprobe macvtap`)");
        }
        made
    }

    fn row(socket: &mut NetlinkSocket) -> LinkRow {
        look(socket, "vt0").unwrap().unwrap()
    }

    #[test]
    fn a_macvtap_is_its_owners_and_down_and_making_it_twice_changes_nothing() {
        in_namespace!(a_macvtap_is_its_owners_and_down_and_making_it_twice_changes_nothing);
        if !able() {
            return;
        }
        let socket = &mut NetlinkSocket::route().unwrap();
        ensure(socket, &wanted()).unwrap();
        let made = row(socket);
        assert_eq!(made.kind, LinkKind::Macvtap);
        assert_eq!(
            (made.owner(), made.mac, made.up),
            (Some(wanted().owner), wanted().mac, false)
        );
        let device = look(socket, "wire1").unwrap().unwrap();
        assert_eq!((made.lower, made.mtu), (Some(device.index), device.mtu));
        set_link(socket, "vt0", true).unwrap();
        let mut smaller = wanted();
        for mtu in [None, Some(1400)] {
            smaller.mtu = mtu;
            ensure(socket, &smaller).unwrap();
            let now = row(socket);
            assert_eq!((now.index, now.up), (made.index, true));
            assert_eq!(now.mtu, mtu.unwrap_or(made.mtu));
        }
    }

    #[test]
    fn one_is_made_anew_only_where_the_kernel_changes_none_and_somebody_elses_is_left_alone() {
        in_namespace!(
            one_is_made_anew_only_where_the_kernel_changes_none_and_somebody_elses_is_left_alone
        );
        if !able() {
            return;
        }
        let socket = &mut NetlinkSocket::route().unwrap();
        ensure(socket, &wanted()).unwrap();
        let mut other = wanted();
        for (anew, change) in [
            (
                false,
                (|it| it.mode = DirectMode::Private) as fn(&mut Macvtap),
            ),
            (false, |it| it.mac[5] = 9),
            (true, |it| it.device = "wire0".to_owned()),
            (true, |it| it.mode = DirectMode::Passthrough),
        ] {
            let before = row(socket);
            change(&mut other);
            ensure(socket, &other).unwrap();
            let now = row(socket);
            assert_eq!(now.index != before.index, anew, "{other:?}");
            assert_eq!(
                (now.mac, now.mode),
                (other.mac, mode(other.mode).into()),
                "{other:?}"
            );
        }
        other.owner = Uuid::from_u128(7);
        let error = ensure(socket, &other).unwrap_err();
        assert!(error.message.contains("cannot make a macvtap"), "{error}");
        other.device = "gone".to_owned();
        let error = ensure(socket, &other).unwrap_err();
        assert!(error.message.contains("there is no device gone"), "{error}");
    }
}
