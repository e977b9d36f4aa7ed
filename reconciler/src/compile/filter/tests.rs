//! Rules of the filter compiler, on small filters built by hand.

use super::ir::{Action, Direction, Entry, Protocol, ProtocolMatch, Rule, Value};
use super::*;

mod frames;
mod packets;
mod random;
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

/// The message for a rule that cannot be compiled.
fn refusal(entry: Rule, parameters: &[(&str, &[&str])]) -> String {
    compiled(one(entry), &binding("f", parameters))
        .expect_err("refused")
        .to_string()
}

fn drop_out(protocol: &str, attributes: &[(&str, &str)]) -> Rule {
    rule(
        Action::Drop,
        Direction::Out,
        vec![node(protocol, attributes)],
    )
}

#[test]
fn what_differs_is_asked_for_attribute_by_attribute() {
    let mut forged = drop_out(
        "ip",
        &[
            ("srcipaddr", "$IP"),
            ("dstipaddr", "10.0.0.0"),
            ("dstipmask", "255.0.255.0"),
            ("dscp", "0x22"),
        ],
    );
    for node in &mut forged.matches {
        node.negated = true;
    }
    insta::assert_snapshot!(listed(forged, &[("IP", &["10.0.0.2"])]), @"
    from-eth-vnet0:
      ether type ip ip saddr != 10.0.0.2 ip daddr & 255.0.255.0 != 10.0.0.0 ip dscp != 34 drop
    ");
}

#[test]
fn elements_of_one_rule_must_all_match() {
    let mut both = drop_out("mac", &[("srcmacaddr", "$MAC")]);
    both.matches.push(node(
        "arp",
        &[
            ("opcode", "Request"),
            ("arpsrcipaddr", "10.0.0.0"),
            ("arpsrcipmask", "8"),
        ],
    ));
    insta::assert_snapshot!(listed(both, &[]), @"
    from-eth-vnet0:
      ether saddr 52:54:00:01:02:03 ether type arp @nh,48,16 1 @nh,32,16 0x0604 @nh,112,32 & 0xff000000 == 0xa000000 drop
    ");
    let mut never = drop_out("tcp", &[]);
    never.matches.push(node("udp", &[]));
    insta::assert_snapshot!(refusal(never, &[]), @"nwfilter f, entry 1: <udp> beside <tcp> in one rule cannot be done: all elements of a rule must match, and no packet is of two protocols; write two rules");
}

#[test]
fn states_are_taken_as_written_and_turned_off_as_asked() {
    let stated = rule(
        Action::Accept,
        Direction::In,
        vec![node("udp", &[("state", "NEW,RELATED")])],
    );
    insta::assert_snapshot!(listed(stated, &[]), @"
    to-ip-vnet0:
      ether type ip ip protocol 17 ct state related,new accept
    ");
    let none = rule(
        Action::Accept,
        Direction::In,
        vec![node("udp", &[("state", "NONE")])],
    );
    insta::assert_snapshot!(listed(none, &[]), @"
    to-ip-vnet0:
      ether type ip ip protocol 17 accept
    ");
    let mut off = rule(
        Action::Accept,
        Direction::In,
        vec![node("udp", &[("dstportstart", "53")])],
    );
    off.statematch = false;
    insta::assert_snapshot!(listed(off, &[]), @"
    from-ip-vnet0:
      ether type ip ip protocol 17 th sport 53 accept
    to-ip-vnet0:
      ether type ip ip protocol 17 th dport 53 accept
    ");
    let ping = rule(
        Action::Accept,
        Direction::Out,
        vec![node("icmp", &[("type", "8")])],
    );
    insta::assert_snapshot!(listed(ping, &[]), @"
    from-ip-vnet0:
      ether type ip ip protocol 1 icmp type 8 ct state established,new accept
    ");
}

#[test]
fn reject_tells_the_sender_where_the_kernel_can() {
    let reject = rule(Action::Reject, Direction::Inout, vec![node("tcp", &[])]);
    let compiled = compiled(one(reject), &binding("f", &[])).expect("compiles");
    insta::assert_snapshot!(listing(&compiled), @"
    from-ip-vnet0:
      ether type ip ip protocol 6 reject
    to-ip-vnet0:
      ether type ip ip protocol 6 drop
    ");
    insta::assert_snapshot!(compiled.notes.iter().cloned().collect::<Vec<_>>().join("\n"), @"nwfilter f: reject is drop for packets to the guest, since the kernel rejects only as a frame arrives");
}

#[test]
fn a_kernel_that_cannot_follow_connections_is_never_given_less() {
    let accept = rule(Action::Accept, Direction::Out, vec![node("tcp", &[])]);
    let without = Features {
        bridge_ct: false,
        bridge_reject: false,
    };
    let error = compile(&set(one(accept)), &binding("f", &[]), without).expect_err("refused");
    insta::assert_snapshot!(error, @"nwfilter f, entry 1: following connections needs connection tracking for bridges (nf_conntrack_bridge), which this host's kernel does not have");
    let drop = rule(Action::Drop, Direction::Inout, vec![node("icmp", &[])]);
    assert!(compile(&set(one(drop)), &binding("f", &[]), without).is_ok());
}

#[test]
fn what_is_wrong_with_values_is_said_with_the_variable() {
    let ip = || drop_out("ip", &[("srcipaddr", "$V")]);
    insta::assert_snapshot!(refusal(ip(), &[]), @"nwfilter f, entry 1: variable $V has no value");
    insta::assert_snapshot!(refusal(ip(), &[("V", &["ten"])]), @r#"nwfilter f, entry 1: srcipaddr="ten" (from $V) is not an IPv4 address"#);
    insta::assert_snapshot!(refusal(ip(), &[("V", &["fe80::1"])]), @r#"nwfilter f, entry 1: srcipaddr="fe80::1" (from $V) is not an IPv4 address"#);
    insta::assert_snapshot!(refusal(drop_out("ip", &[("srcipaddr", "$V[3]")]), &[("V", &["10.0.0.1"])]), @"nwfilter f, entry 1: $V[3] is past the end: the variable has 1 values, counted from 0");
    let uneven = drop_out("udp", &[("srcipaddr", "$A"), ("srcportstart", "$B")]);
    insta::assert_snapshot!(refusal(uneven, &[("A", &["1.1.1.1", "2.2.2.2"]), ("B", &["1"])]), @"nwfilter f, entry 1: the variables walked by iterator @0 have different numbers of values: A 2, B 1");
    insta::assert_snapshot!(refusal(drop_out("all", &[("ipset", "x")]), &[]), @"nwfilter f, entry 1: ipset cannot be done: nftables cannot look into the kernel's ipsets; list the addresses in a variable instead");
    insta::assert_snapshot!(refusal(drop_out("tcp", &[("opcode", "1")]), &[]), @"nwfilter f, entry 1: attribute opcode of <tcp> cannot be done: the element has no such attribute");
    insta::assert_snapshot!(refusal(drop_out("ip", &[("srcportstart", "1")]), &[]), @"nwfilter f, entry 1: a port in <ip> cannot be done: ports need protocol= tcp, udp, udplite or sctp beside them, in an element without match='no'");
}

#[test]
fn an_address_is_awaited_unless_learning_is_off() {
    let spoof = || drop_out("ip", &[("srcipaddr", "$IP")]);
    let waiting = compiled(one(spoof()), &binding("f", &[])).expect("compiles");
    assert_eq!(
        waiting.waits.as_ref().map(|learn| learn.method),
        Some(LearnMethod::Any)
    );
    insta::assert_snapshot!(listing(&waiting), @"
    from-eth-vnet0:
      ether saddr != 52:54:00:01:02:03 drop
      ether type ip ip protocol 17 th sport 68 th dport 67 accept
      drop
    to-eth-vnet0:
      ether type ip ip protocol 17 th sport 67 th dport 68 accept
      drop
    ");
    let lease = binding(
        "f",
        &[
            ("CTRL_IP_LEARNING", &["dhcp"]),
            ("DHCPSERVER", &["10.0.0.1"]),
        ],
    );
    let waiting = compiled(one(spoof()), &lease).expect("compiles");
    assert_eq!(
        waiting.waits.as_ref().map(|learn| learn.method),
        Some(LearnMethod::Dhcp)
    );
    insta::assert_snapshot!(refusal(spoof(), &[("CTRL_IP_LEARNING", &["none"])]), @"nwfilter f, entry 1: variable $IP has no value");
}

#[test]
fn learned_addresses_stand_for_ip_one_or_all_by_the_method() {
    let spoof = || drop_out("ip", &[("srcipaddr", "$IP")]);
    let learned = vec![Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)];
    let count = |parameters: &[(&str, &[&str])]| {
        let mut binding = binding("f", parameters);
        binding.learned.clone_from(&learned);
        let compiled = compiled(one(spoof()), &binding).expect("compiles");
        assert_eq!(compiled.waits, None);
        listing(&compiled).matches("drop").count()
    };
    assert_eq!(count(&[]), 1);
    assert_eq!(count(&[("CTRL_IP_LEARNING", &["dhcp"])]), 2);
    assert_eq!(count(&[("IP", &["10.0.0.9"])]), 1);
}

#[test]
fn what_an_interface_gives_wins_over_what_a_filter_gives() {
    let inner = filter(
        "inner",
        "root",
        vec![Entry::Rule(drop_out(
            "ip",
            &[("srcipaddr", "$A"), ("dstipaddr", "$B")],
        ))],
    );
    let outer = filter(
        "f",
        "root",
        vec![Entry::Reference(Reference {
            filter: "inner".to_owned(),
            parameters: Parameters::from([
                ("A".to_owned(), vec!["1.1.1.1".to_owned()]),
                ("B".to_owned(), vec!["2.2.2.2".to_owned()]),
            ]),
        })],
    );
    let compiled =
        compiled(vec![inner, outer], &binding("f", &[("B", &["3.3.3.3"])])).expect("compiles");
    insta::assert_snapshot!(listing(&compiled), @"
    from-eth-vnet0:
      ether type ip ip saddr 1.1.1.1 ip daddr 3.3.3.3 drop
    ");
}

#[test]
fn interfaces_with_equal_rules_share_the_chains_below_root() {
    let chain = filter(
        "f",
        "ipv4",
        vec![Entry::Rule(drop_out(
            "ip",
            &[("dstipaddr", "224.0.0.0"), ("dstipmask", "4")],
        ))],
    );
    let filters = set(vec![chain]);
    let chains = |tap: &str| {
        let mut binding = binding("f", &[]);
        binding.interface = IfName::new(tap).expect("a fit name");
        compile(&filters, &binding, Features::ALL)
            .expect("compiles")
            .chains
    };
    let (first, second) = (chains("vnet0"), chains("vnet1"));
    let shared: Vec<&ChainName> = first
        .keys()
        .filter(|name| second.contains_key(*name))
        .collect();
    assert_eq!(shared.len(), 1, "{first:?}");
}
