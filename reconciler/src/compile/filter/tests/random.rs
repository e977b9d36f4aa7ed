//! What holds for any filter.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;

/// An attribute with values, some good and some not.
fn attributes() -> impl Strategy<Value = (&'static str, Vec<(&'static str, String)>)> {
    let mac = prop_oneof![Just("$MAC".to_owned()), Just("1:2:3:a:b:c".to_owned())];
    let mask = prop_oneof![
        Just("ff:ff:ff:0:0:0".to_owned()),
        Just("ff:ff:ff:ff:ff:ff".to_owned())
    ];
    let v4 = prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).to_string()),
        Just("$IP".to_owned()),
        Just("$LIST[@1]".to_owned()),
        Just("$LIST[1]".to_owned()),
    ];
    let v6 = any::<u128>().prop_map(|bits| std::net::Ipv6Addr::from(bits).to_string());
    let mask4 = prop_oneof![
        (0u32..=32).prop_map(|bits| bits.to_string()),
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).to_string()),
    ];
    let mask6 = prop_oneof![
        (0u32..=128).prop_map(|bits| bits.to_string()),
        any::<u128>().prop_map(|bits| std::net::Ipv6Addr::from(bits).to_string()),
    ];
    let port = any::<u16>().prop_map(|port| port.to_string());
    let byte = any::<u8>().prop_map(|byte| format!("{byte:#x}"));
    let ethernet = prop_oneof![
        (mac.clone(), mask)
            .prop_map(|(mac, mask)| ("mac", vec![("srcmacaddr", mac), ("srcmacmask", mask)])),
        any::<u16>().prop_map(|kind| ("mac", vec![("protocolid", kind.to_string())])),
        (0u16..4096, any::<u16>()).prop_map(|(id, kind)| {
            (
                "vlan",
                vec![
                    ("vlanid", id.to_string()),
                    ("encap-protocol", kind.to_string()),
                ],
            )
        }),
        (mac.clone(), v4.clone(), mask4.clone(), port.clone()).prop_map(|(mac, ip, mask, op)| {
            (
                "arp",
                vec![
                    ("arpsrcmacaddr", mac),
                    ("arpdstipaddr", ip),
                    ("arpdstipmask", mask),
                    ("opcode", op),
                ],
            )
        }),
        (mac, v4.clone()).prop_map(|(mac, ip)| {
            (
                "rarp",
                vec![
                    ("arpdstmacaddr", mac),
                    ("arpsrcipaddr", ip),
                    ("gratuitous", "yes".to_owned()),
                ],
            )
        }),
        (v4.clone(), mask4.clone(), port.clone()).prop_map(|(ip, mask, port)| {
            (
                "ip",
                vec![
                    ("srcipaddr", ip),
                    ("srcipmask", mask),
                    ("protocol", "udp".to_owned()),
                    ("dstportstart", port),
                ],
            )
        }),
        (v6.clone(), mask6.clone(), byte.clone()).prop_map(|(ip, mask, byte)| {
            (
                "ipv6",
                vec![("dstipaddr", ip), ("dstipmask", mask), ("protocol", byte)],
            )
        }),
        (port.clone(), port.clone(), byte.clone()).prop_map(|(low, high, byte)| {
            (
                "stp",
                vec![
                    ("root-priority", low),
                    ("root-priority-hi", high),
                    ("flags", byte),
                ],
            )
        }),
    ];
    let layer3 = prop_oneof![
        (v4.clone(), mask4, port.clone(), port.clone()).prop_map(|(ip, mask, low, high)| {
            (
                "tcp",
                vec![
                    ("dstipaddr", ip),
                    ("dstipmask", mask),
                    ("srcportstart", low),
                    ("srcportend", high),
                ],
            )
        }),
        (v4.clone(), v4).prop_map(|(from, to)| ("udp", vec![("srcipfrom", from), ("srcipto", to)])),
        (v6, mask6, port).prop_map(|(ip, mask, port)| {
            (
                "sctp-ipv6",
                vec![
                    ("srcipaddr", ip),
                    ("srcipmask", mask),
                    ("dstportstart", port),
                ],
            )
        }),
        (byte.clone(), byte)
            .prop_map(|(kind, code)| ("icmpv6", vec![("type", kind), ("code", code)])),
        Just((
            "tcp",
            vec![
                ("flags", "SYN,ACK/SYN".to_owned()),
                ("option", "2".to_owned())
            ]
        )),
        Just((
            "all",
            vec![
                ("dscp", "0x22".to_owned()),
                ("srcmacaddr", "$MAC".to_owned())
            ]
        )),
        Just(("ah-ipv6", vec![])),
    ];
    prop_oneof![ethernet, layer3]
}

fn rules() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![
        Just(Action::Accept),
        Just(Action::Drop),
        Just(Action::Reject),
        Just(Action::Return),
        Just(Action::Continue),
    ];
    let direction = prop_oneof![
        Just(Direction::In),
        Just(Direction::Out),
        Just(Direction::Inout)
    ];
    (
        action,
        direction,
        -1000i16..=1000,
        any::<bool>(),
        attributes(),
    )
        .prop_map(
            |(action, direction, priority, negated, (protocol, attributes))| {
                let borrowed: Vec<(&str, &str)> = attributes
                    .iter()
                    .map(|(name, text)| (*name, text.as_str()))
                    .collect();
                let mut matches = node(protocol, &borrowed);
                matches.negated = negated;
                Rule {
                    action,
                    direction,
                    priority,
                    // Without connections, so that any kernel can judge.
                    statematch: false,
                    matches: vec![matches],
                }
            },
        )
}

/// Up to six filters that refer to each other and to one that does not exist.
fn graphs() -> impl Strategy<Value = Vec<Filter>> {
    let entry = prop_oneof![
        3 => (0usize..7).prop_map(|to| refer(&format!("f{to}"))),
        4 => rules().prop_map(Entry::Rule),
    ];
    let chain = prop_oneof![
        Just("root"),
        Just("mac"),
        Just("ipv4-x"),
        Just("arp"),
        Just("vlan"),
        Just("stp")
    ];
    prop::collection::vec((chain, prop::collection::vec(entry, 0..6)), 1..=6).prop_map(|filters| {
        filters
            .into_iter()
            .enumerate()
            .map(|(index, (chain, entries))| filter(&format!("f{index}"), chain, entries))
            .collect()
    })
}

fn usual_binding(name: &str) -> Binding {
    binding(
        name,
        &[("IP", &["10.0.0.2"]), ("LIST", &["10.0.0.3", "10.0.0.4"])],
    )
}

proptest! {
    #[test]
    fn any_graph_of_filters_comes_to_an_end_and_always_to_the_same(filters in graphs()) {
        let first = compiled(filters.clone(), &usual_binding("f0"));
        let second = compiled(filters, &usual_binding("f0"));
        prop_assert_eq!(&first, &second);
        if let Ok(compiled) = first {
            let rules: usize = compiled.chains.values().map(|chain| chain.rules().len()).sum();
            // Two sides, the instances of each rule reached, and the jumps into chains.
            prop_assert!(rules <= 2 * (REACHED_MAX * INSTANCES_MAX + 6));
            for element in &compiled.elements {
                let target = element.verdict.target().expect("entries are chains");
                prop_assert!(compiled.chains.contains_key(target));
            }
            for rule in compiled.chains.values().flat_map(Chain::rules) {
                if let Some((_, target)) = rule.text.as_str().split_once("jump ") {
                    prop_assert!(compiled.chains.contains_key(&ChainName::new(target).expect("a name")));
                }
            }
        }
    }
}

#[test]
fn nft_takes_whatever_rules_we_compile() {
    let Some(features) = real::features() else {
        return;
    };
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let many = prop::collection::vec(rules(), 40);
    let (mut took, mut refused) = (0, 0);
    for _ in 0..10 {
        let rules = many.new_tree(&mut runner).expect("rules").current();
        // A rule that is refused says why; the others must be fit for the kernel.
        let good: Vec<Entry> = rules
            .into_iter()
            .filter(|rule| {
                let fit = compiled(one(rule.clone()), &usual_binding("f")).is_ok();
                refused += usize::from(!fit);
                fit
            })
            .map(Entry::Rule)
            .collect();
        took += good.len();
        let filters = set(vec![filter("f", "root", good)]);
        let compiled = compile(&filters, &usual_binding("f"), features).expect("compiles");
        if let Err(said) = real::accepted(&real::script(&[&compiled])) {
            panic!("{said}");
        }
    }
    println!("nft took {took} rules; {refused} were refused before");
    assert!(took > 100);
}

#[test]
fn filters_that_double_at_every_step_are_refused() {
    let mut filters: Vec<Filter> = (0..40)
        .map(|index| {
            let next = format!("f{}", index + 1);
            filter(
                &format!("f{index}"),
                "root",
                vec![refer(&next), refer(&next)],
            )
        })
        .collect();
    filters.push(filter("f40", "root", vec![]));
    let error = compiled(filters, &binding("f0", &[])).expect_err("2^40 references");
    assert!(
        matches!(
            *error.problem,
            Problem::TooMany {
                limit: REACHED_MAX,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn lists_that_multiply_beyond_measure_are_refused() {
    let long: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let drop = rule(
        Action::Drop,
        Direction::Out,
        vec![node(
            "tcp",
            &[
                ("srcportstart", "$A[@1]"),
                ("dstportstart", "$A[@2]"),
                ("dscp", "$A[@3]"),
            ],
        )],
    );
    let mut binding = binding("f", &[]);
    binding.reference.parameters.insert("A".to_owned(), long);
    let error = compiled(one(drop), &binding).expect_err("a million rules");
    assert!(
        matches!(
            *error.problem,
            Problem::TooMany {
                limit: INSTANCES_MAX,
                ..
            }
        ),
        "{error}"
    );
}
