//! Networks: a bridge with its addresses and routes, packet rules, forwarding, and one dnsmasq.
//!
//! What is compared is the network as it will really be with the bridge that is marked as the network's. Making the network again keeps its guests: their taps
//! are put back into the bridge by the guests' own steps. What would cut guests off (another bridge name, an address that goes) waits for leave while guests are
//! connected; until then the network is kept as it was last applied.

use std::collections::BTreeSet;

use vireo_schema::Rule;

use ipnet::IpNet;
use uuid::Uuid;

use crate::compile::nft::IfName;
use crate::desired::{Resolved, Wanted};
use crate::execute::effect::{Effect, Hook};
use crate::inventory::{Link, LinkKind};
use crate::resolve::network::{Bridge, Forward, Network};

use super::context::{Context, list};
use super::draft::{Found, Page, Says, Work, finish, refusal};
use super::step::{Difference, Disruption, Pending};
use super::{difference, rules, summary};

/// Plans one network.
pub(super) fn plan(context: &Context<'_>, wanted: &Wanted, network: &Network) -> Found {
    let page = Page::open(context.ledger, wanted);
    let differences = difference::of_definition(wanted, page.old());
    let allowed = wanted.policy.disruption;
    let (worst, cost) = cost(context, network);
    if worst > allowed {
        return wait(context, wanted, &page, differences, (worst, cost));
    }
    match work(context, wanted, network) {
        Ok(work) => {
            let mut says = says(network);
            says.differences = if page.is_new() {
                Vec::new()
            } else {
                difference::at_least(differences, worst)
            };
            Found::step(finish(&page, work, says))
        }
        Err(found) => *found,
    }
}

/// The network as it stays while what is wanted of it waits for leave or is suspended: what its guests are connected to until then.
pub(super) fn kept<'a>(context: &Context<'a>, network: Uuid) -> Option<&'a Network> {
    let wanted = context.network(network)?;
    let (Resolved::Network(network), Some(Resolved::Network(previous))) =
        (&wanted.resolved, wanted.previous.as_deref())
    else {
        return None;
    };
    let waits = wanted.policy.suspend || cost(context, network).0 > wanted.policy.disruption;
    waits.then_some(previous.as_ref())
}

/// What is wanted waits; what was applied last is kept true.
fn wait(
    context: &Context<'_>,
    wanted: &Wanted,
    page: &Page<'_>,
    differences: Vec<Difference>,
    (worst, cost): (Disruption, String),
) -> Found {
    let guests = list(context.guests_on_network(wanted.id.uuid));
    let pending = Pending {
        object: wanted.id.clone(),
        needs: worst,
        allowed: wanted.policy.disruption,
        differences: difference::at_least(differences, worst),
        why: format!(
            "{cost}, and {guests} would be cut off; allow it with `policy: {{disruption: {worst}}}`"
        ),
    };
    let mut found = Found {
        pending: Some(pending),
        ..Found::default()
    };
    if let (Some(Resolved::Network(previous)), Some(entry)) =
        (wanted.previous.as_deref(), page.old())
    {
        let kept = Wanted {
            xml: entry.definition.clone(),
            file: entry.file.clone(),
            previous: None,
            resolved: Resolved::Network(previous.clone()),
            ..wanted.clone()
        };
        // The kept network cannot itself wait: it is what the guests are connected to.
        if let Ok(work) = work(context, &kept, previous) {
            let page = Page::open(context.ledger, &kept);
            found.step = finish(&page, work, says(previous));
        }
    }
    found
}

fn says(network: &Network) -> Says {
    Says {
        summary: summary::network(network),
        create: "it is defined, and the host does not have it".to_owned(),
        ..Says::default()
    }
}

/// The worst that bringing the host to this network does to guests that are connected, and what of it does that.
fn cost(context: &Context<'_>, network: &Network) -> (Disruption, String) {
    let mut worst = (Disruption::Live, String::new());
    if context.guests_on_network(network.uuid).is_empty() {
        return worst;
    }
    let keeps_bridge = !matches!(network.forward, Forward::Bridge);
    for name in context.bridges_of(network.uuid) {
        if name != network.bridge.name || !keeps_bridge {
            return (Disruption::Recreate, format!("bridge {name} would go"));
        }
        if let Some(link) = context.inventory.links.get(name)
            && let Some(address) = surplus(link, network).next()
            && was_stated(context, network, address)
        {
            worst = (Disruption::Restart, format!("address {address} would go"));
        }
    }
    worst
}

/// Whether the address was given by the definition applied last; one that somebody else added may go without more ado.
fn was_stated(context: &Context<'_>, network: &Network, address: &IpNet) -> bool {
    context
        .network(network.uuid)
        .and_then(|wanted| wanted.previous.as_deref())
        .is_some_and(|previous| {
            matches!(previous, Resolved::Network(before) if before.addresses.contains(address))
        })
}

fn surplus<'l>(link: &'l Link, network: &'l Network) -> impl Iterator<Item = &'l IpNet> {
    link.addresses
        .iter()
        .filter(|address| !network.addresses.contains(address))
}

/// Everything that has to be done for the network, or why it cannot be.
fn work(context: &Context<'_>, wanted: &Wanted, network: &Network) -> Result<Work, Box<Found>> {
    let mut work = Work::default();
    if network.forward == Forward::Bridge {
        existing_bridge(context, wanted, network)?;
        remove_bridges(context, network, None, &mut work);
        rules_and_dnsmasq(context, wanted, network, &mut work)?;
        return Ok(work);
    }
    let link = context.inventory.links.get(&network.bridge.name);
    if let Some(link) = link
        && link.owner != Some(network.uuid)
    {
        return Err(not_ours(context, wanted, &network.bridge.name, link));
    }
    let starts = link.is_none();
    if starts {
        work.also(Effect::RunHook(hook(wanted, "start", "begin", true)));
    }
    bridge(network, link, &mut work);
    addresses(network, link, &mut work);
    forwarding(context, network, &mut work);
    rules_and_dnsmasq(context, wanted, network, &mut work)?;
    remove_bridges(context, network, Some(&network.bridge.name), &mut work);
    if starts {
        work.also(Effect::RunHook(hook(wanted, "started", "begin", true)));
        work.undo = undo(wanted, network);
    } else if !work.is_empty() && Page::open(context.ledger, wanted).is_changed() {
        work.also(Effect::RunHook(hook(wanted, "updated", "begin", false)));
    }
    Ok(work)
}

/// A network over a bridge of the host needs only that the bridge is there.
fn existing_bridge(
    context: &Context<'_>,
    wanted: &Wanted,
    network: &Network,
) -> Result<(), Box<Found>> {
    let name = &network.bridge.name;
    match context.inventory.links.get(name) {
        Some(link) if link.kind == LinkKind::Bridge => Ok(()),
        found => {
            let what = match found {
                Some(_) => "is no bridge",
                None => "does not exist",
            };
            Err(Box::new(Found::refused(refusal(
                wanted,
                Rule::MissingBridge,
                format!(
                    "network {} is over link {name} of the host, which {what}",
                    network.name
                ),
                "make the bridge, or leave out <forward mode='bridge'/> to have one made",
            ))))
        }
    }
}

fn not_ours(context: &Context<'_>, wanted: &Wanted, name: &str, link: &Link) -> Box<Found> {
    Box::new(Found::refused(refusal(
        wanted,
        Rule::NotOurs,
        format!(
            "link {name} exists and is {}",
            context.owner_in_words(link.owner)
        ),
        "remove the link, or give the network another <bridge name=…/>",
    )))
}

fn bridge(network: &Network, link: Option<&Link>, work: &mut Work) {
    let name = &network.bridge.name;
    let reason = match link {
        None => Some(format!("bridge {name} is not there")),
        Some(link) => bridge_differs(&network.bridge, link),
    };
    if let Some(reason) = reason {
        work.act(
            reason,
            Effect::EnsureBridge {
                bridge: network.bridge.clone(),
                owner: network.uuid,
            },
        );
    }
}

/// What of a bridge's attributes differs. The kernel raises the forward delay of a bridge with spanning tree into its range of 2 to 30 seconds.
fn bridge_differs(wanted: &Bridge, link: &Link) -> Option<String> {
    let name = &wanted.name;
    let in_range = wanted.delay.clamp(2, 30);
    if link.kind != LinkKind::Bridge {
        Some(format!("link {name} is no bridge"))
    } else if link.mac != wanted.mac {
        Some(format!("bridge {name} has another hardware address"))
    } else if link.stp != wanted.stp {
        Some(format!("spanning tree on {name} is the other way"))
    } else if link.delay != wanted.delay && !(wanted.stp && link.delay == in_range) {
        Some(format!("the forward delay of {name} is {} s", link.delay))
    } else if wanted.mtu.is_some_and(|mtu| mtu != link.mtu) {
        Some(format!("the MTU of {name} is {}", link.mtu))
    } else {
        None
    }
}

fn addresses(network: &Network, link: Option<&Link>, work: &mut Work) {
    let name = &network.bridge.name;
    let has_address = |address: &IpNet| link.is_some_and(|link| link.addresses.contains(address));
    for address in network.addresses.iter().filter(|a| !has_address(a)) {
        let reason = link.map_or_else(String::new, |_| {
            format!("address {address} is not on {name}")
        });
        work.act(
            reason,
            Effect::AddAddress {
                link: name.clone(),
                address: *address,
            },
        );
    }
    if !link.is_some_and(|link| link.up) {
        let reason = link.map_or_else(String::new, |_| format!("{name} is down"));
        work.act(
            reason,
            Effect::SetLink {
                link: name.clone(),
                up: true,
            },
        );
    }
    let has_route = |route| link.is_some_and(|link: &Link| link.routes.contains(route));
    // A link that was down has lost its routes by the time they are looked at.
    for route in network.routes.iter().filter(|route| !has_route(route)) {
        let reason = link.map_or_else(String::new, |_| {
            format!("the route to {} is missing", route.to)
        });
        work.act(
            reason,
            Effect::AddRoute {
                link: name.clone(),
                route: route.clone(),
            },
        );
    }
    let Some(link) = link else { return };
    for route in link.routes.iter().filter(|r| !network.routes.contains(r)) {
        work.act(
            format!("the route to {} is not stated", route.to),
            Effect::RemoveRoute {
                link: name.clone(),
                route: route.clone(),
            },
        );
    }
    for address in surplus(link, network) {
        work.act(
            format!("address {address} is not stated"),
            Effect::RemoveAddress {
                link: name.clone(),
                address: *address,
            },
        );
    }
}

fn forwarding(context: &Context<'_>, network: &Network, work: &mut Work) {
    if matches!(network.forward, Forward::Isolated | Forward::Bridge) {
        return;
    }
    let host = &context.inventory.host;
    let v4 = network.addresses.iter().any(|a| a.addr().is_ipv4());
    let v6 = network.addresses.iter().any(|a| a.addr().is_ipv6());
    for (needed, on, ipv6, word) in [
        (v4, host.ip_forward, false, "IPv4"),
        (v6, host.ip6_forward, true, "IPv6"),
    ] {
        if needed && !on {
            work.act(
                format!("{word} forwarding is off"),
                Effect::EnableForwarding { ipv6 },
            );
        }
    }
}

fn rules_and_dnsmasq(
    context: &Context<'_>,
    wanted: &Wanted,
    network: &Network,
    work: &mut Work,
) -> Result<(), Box<Found>> {
    let starts = !context.inventory.links.contains_key(&network.bridge.name);
    let quiet = |reason: &str| {
        if starts {
            String::new()
        } else {
            reason.to_owned()
        }
    };
    let mut keys: BTreeSet<IfName> = context
        .bridges_of(network.uuid)
        .filter_map(|name| IfName::new(name).ok())
        .collect();
    if network.forward != Forward::Bridge {
        keys.extend(IfName::new(&network.bridge.name));
    }
    let ops = rules::network_ops(context, network, &keys).map_err(|error| {
        Box::new(Found::refused(refusal(
            wanted,
            error.rule,
            error.message,
            "",
        )))
    })?;
    if !ops.is_empty() {
        work.act(
            quiet("its packet rules are not those that were written"),
            Effect::Nft(ops),
        );
    }
    let running = context.inventory.dnsmasq.get(&network.uuid);
    let files = rules::dnsmasq(context, network).map_err(|error| {
        Box::new(Found::refused(refusal(
            wanted,
            error.rule,
            error.message,
            "",
        )))
    })?;
    match files {
        Some((files, digest)) => {
            let reason = match running {
                Some(process) if process.digest == digest => return Ok(()),
                Some(_) => "its dnsmasq runs with another configuration",
                None => "its dnsmasq does not run",
            };
            work.act(
                quiet(reason),
                Effect::EnsureDnsmasq {
                    network: network.uuid,
                    bridge: network.bridge.name.clone(),
                    files,
                    digest,
                },
            );
        }
        None if running.is_some() => work.act(
            "a dnsmasq runs that is not stated",
            Effect::StopDnsmasq {
                network: network.uuid,
            },
        ),
        None => {}
    }
    Ok(())
}

/// Bridges that are the network's under a name that it no longer has.
fn remove_bridges(context: &Context<'_>, network: &Network, keep: Option<&str>, work: &mut Work) {
    for name in context.bridges_of(network.uuid) {
        if Some(name) != keep {
            work.act(
                format!("bridge {name} is not stated any more"),
                Effect::DeleteLink {
                    link: name.to_owned(),
                    owner: network.uuid,
                },
            );
        }
    }
}

/// What puts the host back when the network could not be started.
fn undo(wanted: &Wanted, network: &Network) -> Vec<Effect> {
    vec![
        Effect::StopDnsmasq {
            network: network.uuid,
        },
        Effect::DeleteLink {
            link: network.bridge.name.clone(),
            owner: network.uuid,
        },
        Effect::RunHook(hook(wanted, "stopped", "end", false)),
    ]
}

fn hook(wanted: &Wanted, operation: &str, sub_operation: &str, may_refuse: bool) -> Hook {
    network_hook(
        &wanted.id.name,
        &wanted.xml,
        operation,
        sub_operation,
        may_refuse,
    )
}

/// A call of the network hook. Source: libvirt's "Hooks for specific system management".
pub(super) fn network_hook(
    name: &str,
    xml: &str,
    operation: &str,
    sub_operation: &str,
    may_refuse: bool,
) -> Hook {
    Hook {
        script: "network".to_owned(),
        object: name.to_owned(),
        operation: operation.to_owned(),
        sub_operation: sub_operation.to_owned(),
        extra: "-".to_owned(),
        input: format!("<hookData>\n{}\n</hookData>\n", xml.trim_end()),
        may_refuse,
    }
}
