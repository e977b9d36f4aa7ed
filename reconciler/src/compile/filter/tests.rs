//! Rules of the filter compiler, on small filters built by hand.

use super::ir::{Action, Direction, Entry, Protocol, ProtocolMatch, Rule, Value};
use super::*;

mod frames;
mod packets;
mod real;
mod standard;

/// A filter of rules in root.
fn filter(name: &str, chain: &str, entries: Vec<Entry>) -> Filter {
    Filter {
        name: name.to_owned(),
        chain: chain.to_owned(),
        priority: None,
        entries,
    }
}

fn rule(action: Action, direction: Direction, matches: Vec<ProtocolMatch>) -> Rule {
    Rule {
        action,
        direction,
        priority: ir::RULE_PRIORITY,
        statematch: true,
        matches,
    }
}

fn node(protocol: &str, attributes: &[(&str, &str)]) -> ProtocolMatch {
    ProtocolMatch {
        protocol: Protocol::named(protocol).expect("a protocol element"),
        negated: false,
        attributes: attributes
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Value::parse(text)))
            .collect(),
    }
}

fn refer(name: &str) -> Entry {
    Entry::Reference(Reference {
        filter: name.to_owned(),
        parameters: Parameters::new(),
    })
}

fn set(filters: Vec<Filter>) -> BTreeMap<String, Filter> {
    filters
        .into_iter()
        .map(|filter| (filter.name.clone(), filter))
        .collect()
}

fn binding(name: &str, parameters: &[(&str, &[&str])]) -> Binding {
    Binding {
        interface: IfName::new("vnet0").expect("a fit name"),
        mac: [0x52, 0x54, 0, 1, 2, 3],
        reference: Reference {
            filter: name.to_owned(),
            parameters: parameters
                .iter()
                .map(|(name, list)| {
                    let list = list.iter().map(|value| (*value).to_owned()).collect();
                    ((*name).to_owned(), list)
                })
                .collect(),
        },
        learned: Vec::new(),
    }
}

/// The rules of each chain, without comments, a chain a paragraph.
fn listing(compiled: &Compiled) -> String {
    let mut out = String::new();
    for (name, chain) in &compiled.chains {
        out.push_str(&format!("{name}:\n"));
        for rule in chain.rules() {
            out.push_str(&format!("  {}\n", rule.text));
        }
    }
    out
}

fn compiled(filters: Vec<Filter>, binding: &Binding) -> Result<Compiled, FilterError> {
    compile(&set(filters), binding, Features::ALL)
}

fn one(entry: Rule) -> Vec<Filter> {
    vec![filter("f", "root", vec![Entry::Rule(entry)])]
}

fn listed(entry: Rule, parameters: &[(&str, &[&str])]) -> String {
    listing(&compiled(one(entry), &binding("f", parameters)).expect("compiles"))
}

#[test]
fn an_ip_layer_drop_leaves_everything_else_alone() {
    let drop = rule(Action::Drop, Direction::Inout, vec![node("icmp", &[])]);
    insta::assert_snapshot!(listed(drop, &[]), @"
    from-ip-vnet0:
      ether type ip ip protocol 1 drop
    to-ip-vnet0:
      ether type ip ip protocol 1 drop
    ");
}

#[test]
fn an_accept_lets_answers_through_and_nothing_else() {
    let accept = rule(
        Action::Accept,
        Direction::In,
        vec![node(
            "tcp",
            &[
                ("dstportstart", "22"),
                ("srcipaddr", "10.0.0.0"),
                ("srcipmask", "8"),
            ],
        )],
    );
    insta::assert_snapshot!(listed(accept, &[]), @"
            from-ip-vnet0:
              ether type ip ip protocol 6 ip daddr 10.0.0.0/8 th sport 22 ct state established ct direction reply accept
            to-ip-vnet0:
              ether type ip ip protocol 6 ip saddr 10.0.0.0/8 th dport 22 ct state established,new ct direction original accept
            ");
}

#[test]
fn both_directions_are_written_as_for_packets_to_the_guest() {
    let accept = rule(
        Action::Accept,
        Direction::Inout,
        vec![node(
            "ip",
            &[
                ("srcipaddr", "10.0.0.1"),
                ("dstportstart", "53"),
                ("protocol", "udp"),
                ("srcmacaddr", "1:2:3:4:5:6"),
            ],
        )],
    );
    insta::assert_snapshot!(listed(accept, &[]), @"
from-eth-vnet0:
  ether type ip ether daddr 01:02:03:04:05:06 ip daddr 10.0.0.1 ip protocol 17 th sport 53 accept
to-eth-vnet0:
  ether type ip ether saddr 01:02:03:04:05:06 ip saddr 10.0.0.1 ip protocol 17 th dport 53 accept
");
}

#[test]
fn lists_walk_side_by_side_or_in_every_combination() {
    let parallel = rule(
        Action::Drop,
        Direction::Out,
        vec![node(
            "udp",
            &[("srcipaddr", "$A[@1]"), ("srcportstart", "$B[@1]")],
        )],
    );
    let product = rule(
        Action::Drop,
        Direction::Out,
        vec![node(
            "udp",
            &[("srcipaddr", "$A[@1]"), ("srcportstart", "$B[@2]")],
        )],
    );
    let values: &[(&str, &[&str])] = &[("A", &["1.1.1.1", "2.2.2.2"]), ("B", &["80", "90"])];
    insta::assert_snapshot!(listed(parallel, values), @"
from-ip-vnet0:
  ether type ip ip protocol 17 ip saddr 1.1.1.1 th sport 80 drop
  ether type ip ip protocol 17 ip saddr 2.2.2.2 th sport 90 drop
");
    insta::assert_snapshot!(listed(product, values), @"
    from-ip-vnet0:
      ether type ip ip protocol 17 ip saddr 1.1.1.1 th sport 80 drop
      ether type ip ip protocol 17 ip saddr 2.2.2.2 th sport 80 drop
      ether type ip ip protocol 17 ip saddr 1.1.1.1 th sport 90 drop
      ether type ip ip protocol 17 ip saddr 2.2.2.2 th sport 90 drop
    ");
}

#[test]
fn a_loop_is_refused_with_its_path() {
    let filters = vec![
        filter("a", "root", vec![refer("b")]),
        filter("b", "root", vec![refer("c")]),
        filter("c", "root", vec![refer("a")]),
    ];
    let error = compiled(filters, &binding("a", &[])).expect_err("a loop");
    insta::assert_snapshot!(error, @"nwfilter c, entry 1: refers back to itself: a -> b -> c -> a");
}
