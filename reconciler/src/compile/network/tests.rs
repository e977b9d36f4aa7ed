//! Rules of each forward mode.

use super::*;
use crate::resolve::network::Bridge;

fn network(forward: Forward, addresses: &[&str]) -> Network {
    Network {
        uuid: uuid::Uuid::nil(),
        name: "default".to_owned(),
        forward,
        bridge: Bridge {
            name: "virbr0".to_owned(),
            mac: [0x52, 0x54, 0, 0, 0, 1],
            stp: true,
            delay: 0,
            mtu: None,
        },
        addresses: addresses
            .iter()
            .map(|text| text.parse().expect("an address with a prefix"))
            .collect(),
        routes: Vec::new(),
        dnsmasq: None,
    }
}

fn nat(addresses: Option<(&str, &str)>, ipv6: bool) -> Forward {
    let parse = |text: &str| text.parse().expect("an address");
    Forward::Nat {
        dev: None,
        addresses: addresses.map(|(first, last)| (parse(first), parse(last))),
        ports: (1024, 65535),
        ipv6,
    }
}

fn listing(network: &Network) -> String {
    let compiled = compile(network).expect("compiles");
    let mut out = String::new();
    for element in &compiled.elements {
        out.push_str(&format!(
            "{} {} : {}\n",
            element.map, element.key, element.verdict
        ));
    }
    for (name, chain) in &compiled.chains {
        out.push_str(&format!("{name}:\n"));
        for rule in chain.rules() {
            out.push_str(&format!("  {}\n", rule.text));
        }
    }
    out
}

#[test]
fn nat_translates_what_leaves_the_subnet_and_lets_answers_in() {
    insta::assert_snapshot!(listing(&network(nat(None, false), &["192.168.122.1/24"])), @r#"
    from_network virbr0 : goto from-virbr0
    nat_network virbr0 : goto nat-virbr0
    to_network virbr0 : jump to-virbr0
    from-virbr0:
      ip saddr 192.168.122.0/24 accept
      reject
    nat-virbr0:
      ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 return
      ip saddr 192.168.122.0/24 ip daddr 255.255.255.255 return
      meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade to :1024-65535
      meta l4proto udp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade to :1024-65535
      ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade
    to-virbr0:
      iifname "virbr0" accept
      ip daddr 192.168.122.0/24 ct state established,related return
      reject
    "#);
}

#[test]
fn ipv6_is_routed_beside_nat_unless_asked_for() {
    let addresses = ["192.168.122.1/24", "2001:db8:ca2:2::1/64"];
    insta::assert_snapshot!(listing(&network(nat(None, false), &addresses)), @r#"
    from_network virbr0 : goto from-virbr0
    nat_network virbr0 : goto nat-virbr0
    to_network virbr0 : jump to-virbr0
    from-virbr0:
      ip saddr 192.168.122.0/24 accept
      ip6 saddr 2001:db8:ca2:2::/64 accept
      reject
    nat-virbr0:
      ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 return
      ip saddr 192.168.122.0/24 ip daddr 255.255.255.255 return
      meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade to :1024-65535
      meta l4proto udp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade to :1024-65535
      ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade
    to-virbr0:
      iifname "virbr0" accept
      ip daddr 192.168.122.0/24 ct state established,related return
      ip6 daddr 2001:db8:ca2:2::/64 return
      reject
    "#);
    insta::assert_snapshot!(listing(&network(nat(None, true), &addresses)), @r#"
    from_network virbr0 : goto from-virbr0
    nat_network virbr0 : goto nat-virbr0
    to_network virbr0 : jump to-virbr0
    from-virbr0:
      ip saddr 192.168.122.0/24 accept
      ip6 saddr 2001:db8:ca2:2::/64 accept
      reject
    nat-virbr0:
      ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 return
      ip saddr 192.168.122.0/24 ip daddr 255.255.255.255 return
      meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade to :1024-65535
      meta l4proto udp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade to :1024-65535
      ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade
      ip6 saddr 2001:db8:ca2:2::/64 ip6 daddr ff02::/16 return
      meta l4proto tcp ip6 saddr 2001:db8:ca2:2::/64 ip6 daddr != 2001:db8:ca2:2::/64 masquerade to :1024-65535
      meta l4proto udp ip6 saddr 2001:db8:ca2:2::/64 ip6 daddr != 2001:db8:ca2:2::/64 masquerade to :1024-65535
      ip6 saddr 2001:db8:ca2:2::/64 ip6 daddr != 2001:db8:ca2:2::/64 masquerade
    to-virbr0:
      iifname "virbr0" accept
      ip daddr 192.168.122.0/24 ct state established,related return
      ip6 daddr 2001:db8:ca2:2::/64 ct state established,related return
      reject
    "#);
}

#[test]
fn stated_addresses_are_used_for_their_version_alone() {
    let addresses = ["192.168.122.1/24", "fd00::1/64"];
    insta::assert_snapshot!(listing(&network(nat(Some(("203.0.113.5", "203.0.113.9")), true), &addresses)), @r#"
    from_network virbr0 : goto from-virbr0
    nat_network virbr0 : goto nat-virbr0
    to_network virbr0 : jump to-virbr0
    from-virbr0:
      ip saddr 192.168.122.0/24 accept
      ip6 saddr fd00::/64 accept
      reject
    nat-virbr0:
      ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 return
      ip saddr 192.168.122.0/24 ip daddr 255.255.255.255 return
      meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 snat ip to 203.0.113.5-203.0.113.9:1024-65535
      meta l4proto udp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 snat ip to 203.0.113.5-203.0.113.9:1024-65535
      ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 snat ip to 203.0.113.5-203.0.113.9
      ip6 saddr fd00::/64 ip6 daddr ff02::/16 return
      meta l4proto tcp ip6 saddr fd00::/64 ip6 daddr != fd00::/64 masquerade to :1024-65535
      meta l4proto udp ip6 saddr fd00::/64 ip6 daddr != fd00::/64 masquerade to :1024-65535
      ip6 saddr fd00::/64 ip6 daddr != fd00::/64 masquerade
    to-virbr0:
      iifname "virbr0" accept
      ip daddr 192.168.122.0/24 ct state established,related return
      ip6 daddr fd00::/64 ct state established,related return
      reject
    "#);
    insta::assert_snapshot!(listing(&network(nat(Some(("2001:db8::5", "2001:db8::5")), true), &addresses)), @r#"
    from_network virbr0 : goto from-virbr0
    nat_network virbr0 : goto nat-virbr0
    to_network virbr0 : jump to-virbr0
    from-virbr0:
      ip saddr 192.168.122.0/24 accept
      ip6 saddr fd00::/64 accept
      reject
    nat-virbr0:
      ip saddr 192.168.122.0/24 ip daddr 224.0.0.0/24 return
      ip saddr 192.168.122.0/24 ip daddr 255.255.255.255 return
      meta l4proto tcp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade to :1024-65535
      meta l4proto udp ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade to :1024-65535
      ip saddr 192.168.122.0/24 ip daddr != 192.168.122.0/24 masquerade
      ip6 saddr fd00::/64 ip6 daddr ff02::/16 return
      meta l4proto tcp ip6 saddr fd00::/64 ip6 daddr != fd00::/64 snat ip6 to [2001:db8::5]:1024-65535
      meta l4proto udp ip6 saddr fd00::/64 ip6 daddr != fd00::/64 snat ip6 to [2001:db8::5]:1024-65535
      ip6 saddr fd00::/64 ip6 daddr != fd00::/64 snat ip6 to [2001:db8::5]
    to-virbr0:
      iifname "virbr0" accept
      ip daddr 192.168.122.0/24 ct state established,related return
      ip6 daddr fd00::/64 ct state established,related return
      reject
    "#);
}

#[test]
fn route_lets_both_ways_pass_by_its_link() {
    let forward = Forward::Route {
        dev: Some("eth1".to_owned()),
    };
    insta::assert_snapshot!(listing(&network(forward, &["192.168.122.1/24", "2001:db8:ca2:2::1/64"])), @r#"
    from_network virbr0 : goto from-virbr0
    to_network virbr0 : jump to-virbr0
    from-virbr0:
      oifname "eth1" ip saddr 192.168.122.0/24 accept
      oifname "eth1" ip6 saddr 2001:db8:ca2:2::/64 accept
      reject
    to-virbr0:
      iifname "virbr0" accept
      iifname "eth1" ip daddr 192.168.122.0/24 return
      iifname "eth1" ip6 daddr 2001:db8:ca2:2::/64 return
      reject
    "#);
}

#[test]
fn isolated_guests_reach_each_other_only() {
    insta::assert_snapshot!(listing(&network(Forward::Isolated, &["192.168.122.1/24"])), @r#"
    from_network virbr0 : goto from-virbr0
    to_network virbr0 : jump to-virbr0
    from-virbr0:
      reject
    to-virbr0:
      iifname "virbr0" accept
      reject
    "#);
}

#[test]
fn open_networks_and_bridges_of_the_host_have_no_rules() {
    for forward in [Forward::Open, Forward::Bridge] {
        let compiled = compile(&network(forward, &["192.168.122.1/24"])).expect("compiles");
        assert_eq!(compiled, Compiled::default());
    }
}

#[test]
fn a_range_of_two_versions_or_backwards_is_refused() {
    for (first, last) in [("10.0.0.9", "10.0.0.1"), ("10.0.0.1", "fd00::1")] {
        let network = network(nat(Some((first, last)), false), &["192.168.122.1/24"]);
        assert!(matches!(
            compile(&network),
            Err(NetworkError::NatRange { .. })
        ));
    }
}

#[test]
fn a_link_that_no_rule_can_name_is_refused() {
    let mut network = network(nat(None, false), &["192.168.122.1/24"]);
    network.bridge.name = "virbr*".to_owned();
    assert!(matches!(compile(&network), Err(NetworkError::Link { .. })));
}

/// The kernel is asked in a network namespace of its own; where that cannot be made, the test says so and goes on.
#[test]
fn nft_takes_the_rules_of_every_mode_twice() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use crate::compile::nft::{NftOp, render};

    let addresses = ["192.168.122.1/24", "2001:db8:ca2:2::1/64"];
    let skeleton = skeleton();
    let table = skeleton.table.clone();
    let mut ops = vec![NftOp::EnsureSkeleton(skeleton)];
    let range = Some(("203.0.113.5", "203.0.113.9"));
    let route = Forward::Route {
        dev: Some("eth1".to_owned()),
    };
    let modes = [nat(None, true), nat(range, true), route, Forward::Isolated];
    for (index, forward) in modes.into_iter().enumerate() {
        let mut network = network(forward, &addresses);
        network.bridge.name = format!("virbr{index}");
        let compiled = compile(&network).expect("compiles");
        for (name, chain) in compiled.chains {
            ops.push(NftOp::ReplaceChain {
                table: table.clone(),
                name,
                chain,
            });
        }
        for element in compiled.elements {
            ops.push(NftOp::SetElement {
                table: table.clone(),
                element,
            });
        }
    }
    let script = render(&ops);
    let mut child = Command::new("unshare")
        .args(["-n", "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let mut input = child.stdin.take().expect("a pipe");
    input
        .write_all(format!("{script}{script}").as_bytes())
        .expect("nft reads");
    drop(input);
    let output = child.wait_with_output().expect("nft ends");
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("Operation not permitted") || said.contains("unshare") {
        println!("skipped: no network namespace here: {said}");
        return;
    }
    assert!(output.status.success(), "{said}\n{script}");
}
