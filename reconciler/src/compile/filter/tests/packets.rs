//! What really happens to packets: frames sent through a bridge with our rules, in a network namespace of its own.
//!
//! `g0` is the guest with the filter, `g1` another guest without one, `br0` the host.

use std::net::Ipv4Addr;

use serde_json::json;

use super::frames::{self, BROADCAST, Mac, Path};
use super::standard::standard;
use super::*;

const G0: Mac = [0x52, 0x54, 0, 0, 0, 1];
const G1: Mac = [0x52, 0x54, 0, 0, 0, 2];
const HOST: Mac = [0x52, 0x54, 0, 0, 0, 0xfe];
const FORGED: Mac = [0x52, 0x54, 0, 0, 0, 0x99];

const NOBODY: &[&str] = &[];

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 122, last)
}

fn out() -> Path {
    Path {
        from: (G0, ip(10)),
        to: (G1, ip(20)),
    }
}

fn to_host() -> Path {
    Path {
        from: (G0, ip(10)),
        to: (HOST, ip(1)),
    }
}

/// What is sent, where, and where it must come out.
struct Step {
    what: &'static str,
    at: &'static str,
    frame: Vec<u8>,
    /// What the host runs, at `host`.
    command: &'static str,
    /// Bytes of the packet that is looked for, where it is not the frame.
    known: Vec<u8>,
    arrives: &'static [&'static str],
}

fn step(
    what: &'static str,
    at: &'static str,
    frame: Vec<u8>,
    arrives: &'static [&'static str],
) -> Step {
    Step {
        what,
        at,
        frame,
        command: "",
        known: Vec::new(),
        arrives,
    }
}

/// Addresses and the bytes behind them, of a packet from the host to g0.
fn from_host(rest: &[u8]) -> Vec<u8> {
    [&ip(1).octets()[..], &ip(10).octets(), rest].concat()
}

/// The guest g0 with a filter and the address 192.168.122.10.
fn bound(name: &str) -> Binding {
    let mut binding = binding(name, &[("IP", &["192.168.122.10"])]);
    binding.mac = G0;
    binding
}

/// What this machine can do, if it can run such tests at all.
fn able(needs_connections: bool) -> Option<Features> {
    let features = real::features()?;
    if !matches!(real::in_namespace(&["python3", "-V"], ""), Some(Ok(_))) {
        println!("skipped: no python3 to send frames with");
        return None;
    }
    if needs_connections && !features.bridge_ct {
        println!("skipped: this kernel has no connection tracking for bridges");
        return None;
    }
    Some(features)
}

/// Sends the frames in order and compares where they come out.
fn sent(filters: &BTreeMap<String, Filter>, binding: &Binding, features: Features, steps: &[Step]) {
    let compiled = compile(filters, binding, features).expect("compiles");
    let hex = |frame: &[u8]| -> String { frame.iter().map(|byte| format!("{byte:02x}")).collect() };
    let order = json!({
        "nft": real::script(&[&compiled]),
        "steps": steps.iter().map(|step| json!({
            "at": step.at,
            "frame": hex(&step.frame),
            "command": step.command,
            "known": hex(&step.known),
            "expected": step.arrives,
        })).collect::<Vec<_>>(),
    });
    let said = real::in_namespace(
        &["python3", "-c", include_str!("wire.py")],
        &order.to_string(),
    )
    .expect("python3 runs here")
    .expect("frames are sent");
    let seen: Vec<Vec<String>> = serde_json::from_str(&said).expect("an answer a step");
    assert_eq!(seen.len(), steps.len());
    let wrong: Vec<String> = steps
        .iter()
        .zip(&seen)
        .filter(|(step, seen)| *seen != step.arrives)
        .map(|(step, seen)| {
            format!(
                "{}: arrived at {seen:?}, should at {:?}",
                step.what, step.arrives
            )
        })
        .collect();
    let (wrong, rules) = (wrong.join("\n"), listing(&compiled));
    assert!(wrong.is_empty(), "{wrong}\n{rules}");
}

fn ask(sender: (Mac, Ipv4Addr), source: Mac) -> Vec<u8> {
    frames::arp(source, 1, sender, ([0; 6], ip(20)), BROADCAST)
}

#[test]
fn without_a_filter_everything_arrives() {
    let Some(features) = able(false) else { return };
    let filters = set(vec![filter("empty", "root", vec![])]);
    let mut forged = out();
    forged.from = (FORGED, ip(66));
    sent(
        &filters,
        &bound("empty"),
        features,
        &[
            step("forged udp", "g0", forged.udp(1, 2), &["g1"]),
            step("broadcast arp", "g0", ask((G0, ip(10)), G0), &["br0", "g1"]),
            step("to the host", "g0", to_host().udp(1, 2), &["br0"]),
            step("from the host", "br0", to_host().back().udp(1, 2), &["g0"]),
        ],
    );
}

#[test]
fn a_forged_mac_address_goes_nowhere() {
    let Some(features) = able(false) else { return };
    let mut forged = out();
    forged.from.0 = FORGED;
    sent(
        &standard(),
        &bound("no-mac-spoofing"),
        features,
        &[
            step("own to a guest", "g0", out().udp(1, 2), &["g1"]),
            step("own to the host", "g0", to_host().udp(1, 2), &["br0"]),
            step("forged", "g0", forged.udp(1, 2), NOBODY),
            step(
                "forged broadcast",
                "g0",
                ask((FORGED, ip(10)), FORGED),
                NOBODY,
            ),
            step(
                "forged and tagged",
                "g0",
                frames::tagged(&forged.udp(1, 2), 5),
                NOBODY,
            ),
            step("from anybody", "g1", out().back().udp(1, 2), &["g0"]),
        ],
    );
}

#[test]
fn a_forged_ip_address_goes_nowhere() {
    let Some(features) = able(false) else { return };
    let from = |last: u8| {
        let mut path = out();
        path.from.1 = ip(last);
        path
    };
    let mut unset = out();
    unset.from.1 = Ipv4Addr::UNSPECIFIED;
    sent(
        &standard(),
        &bound("no-ip-spoofing"),
        features,
        &[
            step("own", "g0", from(10).udp(1, 2), &["g1"]),
            step("forged", "g0", from(11).udp(1, 2), NOBODY),
            step("forged ping", "g0", from(11).icmp(8, 1), NOBODY),
            step("udp from no address", "g0", unset.udp(68, 67), &["g1"]),
            step(
                "tcp from no address",
                "g0",
                unset.tcp(1, 2, 2, (1, 0)),
                NOBODY,
            ),
            step(
                "arp is another matter",
                "g0",
                ask((G0, ip(11)), G0),
                &["br0", "g1"],
            ),
            step("anything in", "g1", out().back().icmp(8, 2), &["g0"]),
        ],
    );
}

#[test]
fn forged_arp_goes_nowhere() {
    let Some(features) = able(false) else { return };
    sent(
        &standard(),
        &bound("no-arp-spoofing"),
        features,
        &[
            step("own", "g0", ask((G0, ip(10)), G0), &["br0", "g1"]),
            step("another's ip", "g0", ask((G0, ip(1)), G0), NOBODY),
            step("another's mac", "g0", ask((FORGED, ip(10)), G0), NOBODY),
            step("ip is another matter", "g0", out().udp(1, 2), &["g1"]),
        ],
    );
}

#[test]
fn clean_traffic_lets_ip_and_arp_under_own_addresses_through_and_no_more() {
    let Some(features) = able(false) else { return };
    let mut forged = out();
    forged.from.1 = ip(11);
    let other = frames::ethernet(G0, G1, 0x88b5, b"hello");
    let sixes = frames::udp6(
        (G0, "fe80::1".parse().expect("v6")),
        (G1, "fe80::2".parse().expect("v6")),
        1,
        2,
    );
    let answer = frames::arp(G1, 2, (G1, ip(20)), (G0, ip(10)), G0);
    sent(
        &standard(),
        &bound("clean-traffic"),
        features,
        &[
            step("own ip", "g0", out().udp(1, 2), &["g1"]),
            step("own ping to the host", "g0", to_host().icmp(8, 1), &["br0"]),
            step(
                "the host's answer",
                "br0",
                to_host().back().icmp(0, 1),
                &["g0"],
            ),
            step("own arp", "g0", ask((G0, ip(10)), G0), &["br0", "g1"]),
            step("arp to the guest", "g1", answer, &["g0"]),
            step("forged ip", "g0", forged.udp(1, 2), NOBODY),
            step("forged mac", "g0", ask((FORGED, ip(10)), FORGED), NOBODY),
            step("forged arp", "g0", ask((G0, ip(1)), G0), NOBODY),
            step("ipv6", "g0", sixes, NOBODY),
            step("another protocol", "g0", other, NOBODY),
            step("tagged", "g0", frames::tagged(&out().udp(1, 2), 5), NOBODY),
            step(
                "own announcement",
                "g0",
                frames::rarp(G0, G0, G0),
                &["br0", "g1"],
            ),
            step(
                "forged announcement",
                "g0",
                frames::rarp(G0, FORGED, FORGED),
                NOBODY,
            ),
            step(
                "another protocol in",
                "g1",
                frames::ethernet(G1, G0, 0x88b5, b"hello"),
                NOBODY,
            ),
        ],
    );
}

#[test]
fn no_icmp_stops_pings_both_ways_and_nothing_else() {
    let Some(features) = able(false) else { return };
    let drop = rule(Action::Drop, Direction::Inout, vec![node("icmp", &[])]);
    sent(
        &set(one(drop)),
        &bound("f"),
        features,
        &[
            step("ping out", "g0", out().icmp(8, 1), NOBODY),
            step("ping in", "g1", out().back().icmp(8, 2), NOBODY),
            step("ping to the host", "g0", to_host().icmp(8, 3), NOBODY),
            step(
                "ping from the host",
                "br0",
                to_host().back().icmp(8, 4),
                NOBODY,
            ),
            step("tcp out", "g0", out().tcp(1000, 80, 2, (1, 0)), &["g1"]),
            step(
                "udp from the host",
                "br0",
                to_host().back().udp(53, 1000),
                &["g0"],
            ),
            step("arp", "g0", ask((G0, ip(10)), G0), &["br0", "g1"]),
        ],
    );
}

#[test]
fn a_guest_without_an_address_gets_as_far_as_dhcp() {
    let Some(features) = able(false) else { return };
    let mut waiting = bound("clean-traffic");
    waiting.reference.parameters.clear();
    let mut lease = to_host();
    lease.from.1 = Ipv4Addr::UNSPECIFIED;
    lease.to = (BROADCAST, Ipv4Addr::BROADCAST);
    sent(
        &standard(),
        &waiting,
        features,
        &[
            step("asks", "g0", lease.udp(68, 67), &["br0", "g1"]),
            step("is answered", "br0", to_host().back().udp(67, 68), &["g0"]),
            step("anything else out", "g0", out().udp(1, 2), NOBODY),
            step("arp out", "g0", ask((G0, ip(10)), G0), NOBODY),
            step("anything else in", "g1", out().back().udp(1, 2), NOBODY),
        ],
    );
    waiting.learned = vec![ip(10)];
    sent(
        &standard(),
        &waiting,
        features,
        &[
            step("with an address", "g0", out().udp(1, 2), &["g1"]),
            step(
                "with another",
                "g0",
                Path {
                    from: (G0, ip(11)),
                    ..out()
                }
                .udp(1, 2),
                NOBODY,
            ),
        ],
    );
}

#[test]
fn priorities_decide_between_root_and_its_chains() {
    let Some(features) = able(false) else { return };
    let mut accept = rule(
        Action::Accept,
        Direction::Out,
        vec![node("mac", &[("protocolid", "ipv4")])],
    );
    let drops = filter(
        "drops",
        "ipv4",
        vec![Entry::Rule(rule(Action::Drop, Direction::Out, vec![]))],
    );
    for (priority, arrives) in [(-701, &["g1"][..]), (-700, NOBODY), (500, NOBODY)] {
        accept.priority = priority;
        let entries = vec![refer("drops"), Entry::Rule(accept.clone())];
        let filters = set(vec![drops.clone(), filter("f", "root", entries)]);
        sent(
            &filters,
            &bound("f"),
            features,
            &[step("a packet", "g0", out().udp(1, 2), arrives)],
        );
    }
}

#[test]
fn the_ethernet_layer_and_the_ip_layer_must_both_let_pass() {
    let Some(features) = able(false) else { return };
    let accept = rule(Action::Accept, Direction::Inout, vec![node("ip", &[])]);
    let drop = rule(
        Action::Drop,
        Direction::Inout,
        vec![node("udp", &[("dstportstart", "53")])],
    );
    let both = vec![filter(
        "f",
        "root",
        vec![Entry::Rule(accept), Entry::Rule(drop)],
    )];
    // Written as for packets to the guest: to it, the destination is 53; from it, the source.
    sent(
        &set(both),
        &bound("f"),
        features,
        &[
            step("to port 53 in", "g1", out().back().udp(9, 53), NOBODY),
            step("from port 53 out", "g0", out().udp(53, 9), NOBODY),
            step("to port 53 out", "g0", out().udp(9, 53), &["g1"]),
        ],
    );
}

#[test]
fn an_accepted_connection_is_answered_and_no_other_opened() {
    let Some(features) = able(true) else { return };
    let ssh = rule(
        Action::Accept,
        Direction::In,
        vec![node("tcp", &[("dstportstart", "22")])],
    );
    let ping = rule(Action::Accept, Direction::Out, vec![node("icmp", &[])]);
    let mut rest = rule(Action::Drop, Direction::Inout, vec![node("all", &[])]);
    rest.priority = 1000;
    let filters = set(vec![filter(
        "f",
        "root",
        [ssh, ping, rest].map(Entry::Rule).to_vec(),
    )]);
    let (syn, synack, ack) = (2, 0x12, 0x10);
    let inward = out().back();
    sent(
        &filters,
        &bound("f"),
        features,
        &[
            step(
                "forged answer",
                "g0",
                out().tcp(22, 5000, synack, (100, 2)),
                NOBODY,
            ),
            step("opening", "g1", inward.tcp(5000, 22, syn, (1, 0)), &["g0"]),
            step(
                "answer",
                "g0",
                out().tcp(22, 5000, synack, (100, 2)),
                &["g1"],
            ),
            step("third", "g1", inward.tcp(5000, 22, ack, (2, 101)), &["g0"]),
            step(
                "another port",
                "g1",
                inward.tcp(5000, 23, syn, (1, 0)),
                NOBODY,
            ),
            step(
                "opening outward from 22",
                "g0",
                out().tcp(22, 6000, syn, (1, 0)),
                NOBODY,
            ),
            step("ping out", "g0", out().icmp(8, 1), &["g1"]),
            step("its answer", "g1", inward.icmp(0, 1), &["g0"]),
            step("ping in", "g1", inward.icmp(8, 7), NOBODY),
            Step {
                command: "python3 -c \"import socket; s = socket.socket(); s.bind(('', 5001)); s.settimeout(3); s.connect(('192.168.122.10', 22))\"",
                known: from_host(&[0x13, 0x89, 0, 22]),
                ..step("the host opens", "host", Vec::new(), &["g0"])
            },
            Step {
                known: from_host(&[0, 0]),
                ..step(
                    "the host answers a ping",
                    "g0",
                    to_host().icmp(8, 9),
                    &["g0"],
                )
            },
            Step {
                command: "ping -c 1 -W 3 192.168.122.10",
                known: from_host(&[8, 0]),
                ..step("the host pings", "host", Vec::new(), NOBODY)
            },
            step("udp", "g0", out().udp(1, 2), NOBODY),
        ],
    );
}
