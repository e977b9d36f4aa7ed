//! Rules of dnsmasq's files.

use super::*;
use crate::resolve::network::{Bridge, DhcpRange};

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

fn nat() -> Forward {
    Forward::Nat {
        dev: None,
        addresses: None,
        ports: (1024, 65535),
        ipv6: false,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn range(start: &str, end: &str, lease_seconds: Option<u64>) -> DhcpRange {
    DhcpRange {
        start: ip(start),
        end: ip(end),
        lease_seconds,
    }
}

fn dns() -> Dnsmasq {
    Dnsmasq {
        dns: true,
        ..Dnsmasq::default()
    }
}

fn made(network: &Network, dnsmasq: &Dnsmasq) -> Result<Files, DnsmasqError> {
    compile(
        network,
        dnsmasq,
        Path::new("/run/vireo/networks/default"),
        Path::new("/var/lib/vireo/networks/default.leases"),
    )
}

fn text(network: &Network, dnsmasq: &Dnsmasq) -> String {
    let files = made(network, dnsmasq).expect("compiles").files;
    let mut out = String::new();
    for (name, contents) in &files {
        if !contents.is_empty() {
            out.push_str(&format!("[{name}]\n{contents}"));
        }
    }
    out
}

#[test]
fn a_range_is_served_with_its_mask_and_as_many_leases_as_it_has_addresses() {
    let dnsmasq = Dnsmasq {
        ranges: vec![range("192.168.122.2", "192.168.122.254", None)],
        ..dns()
    };
    insta::assert_snapshot!(text(&network(nat(), &["192.168.122.1/24"]), &dnsmasq), @"
    [dnsmasq.conf]
    except-interface=lo
    bind-dynamic
    interface=virbr0
    strict-order
    addn-hosts=/run/vireo/networks/default/names
    dhcp-hostsfile=/run/vireo/networks/default/hosts
    dhcp-leasefile=/var/lib/vireo/networks/default.leases
    dhcp-range=192.168.122.2,192.168.122.254,255.255.255.0
    dhcp-no-override
    dhcp-authoritative
    dhcp-lease-max=253
    ");
}

#[test]
fn an_isolated_network_has_no_router_and_asks_nobody() {
    let dnsmasq = Dnsmasq {
        ranges: vec![range("192.168.152.2", "192.168.152.254", Some(0))],
        ..dns()
    };
    insta::assert_snapshot!(text(&network(Forward::Isolated, &["192.168.152.1/24"]), &dnsmasq), @"
    [dnsmasq.conf]
    except-interface=lo
    bind-dynamic
    interface=virbr0
    dhcp-option=3
    no-resolv
    ra-param=*,0,0
    strict-order
    addn-hosts=/run/vireo/networks/default/names
    dhcp-hostsfile=/run/vireo/networks/default/hosts
    dhcp-leasefile=/var/lib/vireo/networks/default.leases
    dhcp-range=192.168.152.2,192.168.152.254,255.255.255.0,infinite
    dhcp-no-override
    dhcp-authoritative
    dhcp-lease-max=253
    ");
}

#[test]
fn listed_hosts_without_a_range_are_served_and_nobody_else() {
    let host =
        |mac: Option<[u8; 6]>, id: Option<&str>, name: Option<&str>, address: &str| DhcpHost {
            mac,
            id: id.map(str::to_owned),
            name: name.map(str::to_owned),
            ip: ip(address),
            lease_seconds: None,
        };
    let dnsmasq = Dnsmasq {
        hosts: vec![
            host(
                Some([0, 0x16, 0x3e, 0x77, 0xe2, 0xed]),
                None,
                Some("a.example.com"),
                "192.168.122.10",
            ),
            host(
                None,
                Some("0:3:0:1:0:16:3e:11:22:33"),
                Some("peter.xyz"),
                "2001:db8::20",
            ),
            host(None, None, Some("paul"), "2001:db8::21"),
        ],
        ..dns()
    };
    insta::assert_snapshot!(text(&network(nat(), &["192.168.122.1/24", "2001:db8::1/64"]), &dnsmasq), @"
    [dnsmasq.conf]
    except-interface=lo
    bind-dynamic
    interface=virbr0
    strict-order
    addn-hosts=/run/vireo/networks/default/names
    dhcp-hostsfile=/run/vireo/networks/default/hosts
    dhcp-leasefile=/var/lib/vireo/networks/default.leases
    dhcp-range=192.168.122.1,static
    dhcp-range=2001:db8::1,static,64
    dhcp-no-override
    dhcp-authoritative
    enable-ra
    [hosts]
    00:16:3e:77:e2:ed,192.168.122.10,a.example.com
    id:0:3:0:1:0:16:3e:11:22:33,peter.xyz,[2001:db8::20]
    paul,[2001:db8::21]
    ");
}

#[test]
fn names_forwarders_records_and_options_are_written() {
    let dnsmasq = Dnsmasq {
        domain: Some("example.net".to_owned()),
        domain_local_only: true,
        dns_hosts: vec![(
            ip("192.168.122.1"),
            vec!["host".to_owned(), "gateway".to_owned()],
        )],
        forwarders: vec![
            Forwarder {
                domain: None,
                address: Some(ip("8.8.8.8")),
                port: None,
            },
            Forwarder {
                domain: Some("example.com".to_owned()),
                address: Some(ip("192.168.1.1")),
                port: Some(5353),
            },
            Forwarder {
                domain: Some("www.example.com".to_owned()),
                address: None,
                port: None,
            },
        ],
        txt: vec![("example".to_owned(), "a value, with a comma".to_owned())],
        srv: vec![Srv {
            service: "sip".to_owned(),
            protocol: "tcp".to_owned(),
            domain: Some("example.net".to_owned()),
            target: Some("host.example.net".to_owned()),
            port: None,
            priority: Some(5),
            weight: None,
        }],
        bootp: Some(("pxelinux.0".to_owned(), Some("192.168.122.1".to_owned()))),
        tftp_root: Some("/srv/tftp".to_owned()),
        options: vec!["cname=*.foo.example.com,master.example.com".to_owned()],
        ..dns()
    };
    insta::assert_snapshot!(text(&network(nat(), &["192.168.122.1/24", "fd00::1/64"]), &dnsmasq), @"
    [dnsmasq.conf]
    except-interface=lo
    bind-dynamic
    interface=virbr0
    strict-order
    local=/example.net/
    domain=example.net
    expand-hosts
    server=8.8.8.8
    server=/example.com/192.168.1.1#5353
    server=/www.example.com/#
    no-resolv
    txt-record=example,a value, with a comma
    srv-host=_sip._tcp.example.net,host.example.net,1,5
    addn-hosts=/run/vireo/networks/default/names
    dhcp-range=fd00::1,ra-only
    enable-tftp
    tftp-root=/srv/tftp
    dhcp-boot=pxelinux.0,,192.168.122.1
    cname=*.foo.example.com,master.example.com
    [names]
    192.168.122.1	host	gateway
    ");
}

#[test]
fn a_value_never_leaves_its_field() {
    let network = network(nat(), &["192.168.122.1/24"]);
    let bad = [
        Dnsmasq {
            domain: Some("x/\nlog-queries".to_owned()),
            ..dns()
        },
        Dnsmasq {
            options: vec!["a\nb".to_owned()],
            ..dns()
        },
        Dnsmasq {
            txt: vec![("a,b".to_owned(), String::new())],
            ..dns()
        },
        Dnsmasq {
            dns_hosts: vec![(ip("10.0.0.1"), vec!["a b".to_owned()])],
            ..dns()
        },
    ];
    for dnsmasq in bad {
        assert!(
            matches!(made(&network, &dnsmasq), Err(DnsmasqError::Value { .. })),
            "{dnsmasq:?}"
        );
    }
}

#[test]
fn an_address_of_no_subnet_is_refused() {
    let dnsmasq = Dnsmasq {
        ranges: vec![range("10.0.0.2", "10.0.0.9", None)],
        ..dns()
    };
    assert!(matches!(
        made(&network(nat(), &["192.168.122.1/24"]), &dnsmasq),
        Err(DnsmasqError::Outside { .. })
    ));
}

#[test]
fn the_digest_follows_every_file() {
    let network = network(nat(), &["192.168.122.1/24"]);
    let with_name = Dnsmasq {
        dns_hosts: vec![(ip("192.168.122.1"), vec!["host".to_owned()])],
        ..dns()
    };
    let digest = |dnsmasq: &Dnsmasq| made(&network, dnsmasq).expect("compiles").digest;
    assert_eq!(digest(&dns()), digest(&dns()));
    assert_ne!(digest(&dns()), digest(&with_name));
}
