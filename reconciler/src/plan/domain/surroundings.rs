//! What surrounds a running guest on the host: taps, packet rules, limits, control group; as it should be, against what is there.

use crate::compile::nft::NftOp;
use crate::execute::effect::{Effect, Macvtap};
use crate::inventory::LinkKind;
use crate::resolve::domain::{Bandwidth, Domain, Interface, InterfaceSource, Tuning};

use crate::desired::Wanted;
use crate::plan::context::Context;
use crate::plan::difference;
use crate::plan::draft::Work;
use crate::plan::rules::{self, RulesError};
use crate::plan::step::Disruption;

use super::fields::{self, Found};
use super::life::taps;

/// What is to be around a guest, with the packet operations that lead there.
pub(super) struct Surroundings<'a> {
    domain: &'a Domain,
    rules: Vec<NftOp>,
}

/// The surroundings of a guest that runs, or starts. Of one that runs, interfaces whose rules a changed filter's own step writes are left to that.
pub(super) fn of<'a>(
    context: &Context<'_>,
    domain: &'a Domain,
    starts: bool,
) -> Result<Surroundings<'a>, RulesError> {
    Ok(Surroundings {
        domain,
        rules: rules::guest_ops(context, domain, starts)?,
    })
}

impl Surroundings<'_> {
    /// Makes all of it, for a guest about to start. Taps come up last, when their rules and limits are in place.
    pub fn made(&self, context: &Context<'_>) -> Vec<Effect> {
        // A macvtap that is left may have to be made anew, and then is down; one that was a tap is.
        let left = |interface: &Interface| {
            let link = context.inventory.links.get(&interface.tap);
            link.filter(|link| link.kind == LinkKind::Tap && interface.source.is_tap())
        };
        let mut effects: Vec<Effect> = taps(self.domain).map(|i| self.ensure_link(i)).collect();
        if !self.rules.is_empty() {
            effects.push(Effect::Nft(self.rules.clone()));
        }
        for interface in taps(self.domain) {
            let observed = left(interface).map(|link| &link.bandwidth);
            if interface.bandwidth != *observed.unwrap_or(&Bandwidth::default()) {
                effects.push(set_bandwidth(interface));
            }
        }
        for interface in taps(self.domain) {
            if interface.link_up != left(interface).is_some_and(|link| link.up) {
                effects.push(set_link(interface));
            }
        }
        effects
    }

    /// Brings a running guest's surroundings to what they should be.
    pub fn repair(&self, context: &Context<'_>, work: &mut Work) {
        let inventory = context.inventory;
        // A default that is stated shows as nothing.
        let shown = |tuning: &Tuning| tuning.as_shown(inventory.host.cgroup);
        let observed = inventory.cgroups.get(&self.domain.uuid).map(shown);
        if observed != Some(shown(&self.domain.tuning)) {
            work.act(
                "its control group's values are others",
                Effect::SetCgroup {
                    guest: self.domain.uuid,
                    tuning: self.domain.tuning.clone(),
                },
            );
        }
        let lost = |interface: &&Interface| is_lost(context, interface);
        for interface in taps(self.domain).filter(|interface| !lost(interface)) {
            if let Some(reason) = tap_differs(context, interface) {
                work.act(reason, self.ensure_link(interface));
            }
        }
        if !self.rules.is_empty() {
            work.act(
                "its packet rules are not those that are wanted",
                Effect::Nft(self.rules.clone()),
            );
        }
        for interface in taps(self.domain).filter(|interface| !lost(interface)) {
            let link = inventory.links.get(&interface.tap);
            let observed = link.map(|link| link.bandwidth.clone()).unwrap_or_default();
            if observed != interface.bandwidth {
                work.act(
                    format!("the bandwidth limits of {} are others", interface.tap),
                    set_bandwidth(interface),
                );
            }
            if link.is_some_and(|link| link.up) != interface.link_up {
                let word = if interface.link_up { "down" } else { "up" };
                let reason =
                    link.map_or_else(String::new, |_| format!("{} is {word}", interface.tap));
                work.because(reason);
                self.turn_link(context, interface, work);
            }
        }
        for link in context.links_of(self.domain.uuid) {
            if !taps(self.domain).any(|interface| interface.tap == *link) {
                work.act(
                    format!("link {link} is no interface of it"),
                    Effect::DeleteLink {
                        link: (*link).to_owned(),
                        owner: self.domain.uuid,
                    },
                );
            }
        }
    }

    /// Raises or lowers a link, and the guest's cable with it. The link comes last: as long as it is not as it should be, a plan does all of this again.
    fn turn_link(&self, context: &Context<'_>, interface: &Interface, work: &mut Work) {
        // A tap may have been made, and its monitor not have it yet.
        if interface.link_up && tap_differs(context, interface).is_none() {
            work.also(self.ensure_link(interface));
        }
        // What moves packets looks at the tap anew when its cable is put in, which it must be pulled for.
        let pulled = interface.link_up.then_some(false);
        for up in pulled.into_iter().chain([interface.link_up]) {
            work.also(Effect::SetGuestLink {
                guest: self.domain.uuid,
                driver: self.domain.driver,
                interface: interface.index,
                up,
            });
        }
        work.also(set_link(interface));
    }

    fn ensure_link(&self, interface: &Interface) -> Effect {
        if let InterfaceSource::Direct { device, mode } = &interface.source {
            return Effect::EnsureMacvtap(Macvtap {
                name: interface.tap.clone(),
                owner: self.domain.uuid,
                device: device.clone(),
                mode: *mode,
                mac: interface.mac,
                mtu: interface.mtu,
            });
        }
        Effect::EnsureTap {
            tap: interface.tap.clone(),
            owner: self.domain.uuid,
            bridge: interface.source.bridge().map(str::to_owned),
            mtu: interface.mtu,
            multi_queue: interface.queues.is_some_and(|queues| queues > 1),
        }
    }
}

/// What of a tap differs. A tap whose bridge is not there yet is put into it by the same effect, once the bridge's own step has made it.
fn tap_differs(context: &Context<'_>, interface: &Interface) -> Option<String> {
    let Some(link) = context.inventory.links.get(&interface.tap) else {
        return Some(format!("tap {} is gone", interface.tap));
    };
    let bridge = interface.source.bridge();
    if link.master.as_deref() != bridge {
        return Some(match bridge {
            Some(bridge) => format!("{} is not in bridge {bridge}", interface.tap),
            None => format!("{} is in a bridge", interface.tap),
        });
    }
    if interface.mtu.is_some_and(|mtu| mtu != link.mtu) {
        return Some(format!("the MTU of {} is {}", interface.tap, link.mtu));
    }
    None
}

fn set_bandwidth(interface: &Interface) -> Effect {
    Effect::SetBandwidth {
        link: interface.tap.clone(),
        bandwidth: interface.bandwidth.clone(),
    }
}

fn set_link(interface: &Interface) -> Effect {
    Effect::SetLink {
        link: interface.tap.clone(),
        up: interface.link_up,
    }
}

/// Whether the interface's tap can move from one source to the other while the guest runs.
pub(super) fn can_move(from: &InterfaceSource, to: &InterfaceSource) -> bool {
    from.is_tap() && to.is_tap()
}

/// What a running guest lacks that it cannot be given before it starts again.
pub(super) fn lost<'a>(
    context: &'a Context<'_>,
    runs: &'a Domain,
    wanted: &'a Wanted,
) -> impl Iterator<Item = Found> + 'a {
    let lost = taps(runs).filter(|interface| is_lost(context, interface));
    lost.map(|interface| Found {
        difference: difference::one(
            wanted,
            &fields::interface_path(interface.index),
            None,
            Some(format!("macvtap {}", interface.tap)),
            Disruption::Restart,
        ),
        note: "its macvtap is gone, and a running guest can be given no other",
    })
}

/// Whether the link of a running guest's interface is gone, and none can be put in its place: what the monitor has open was a device of that link alone.
fn is_lost(context: &Context<'_>, interface: &Interface) -> bool {
    let shares = matches!(interface.source, InterfaceSource::Direct { .. });
    shares && !context.inventory.links.contains_key(&interface.tap)
}
