use std::path::Path;

use uuid::Uuid;

use super::*;
use crate::compile;
use crate::compile::nft::{NftOp, TableName};
use crate::host::testing::in_namespace;
use crate::resolve::derived_link;
use crate::resolve::domain::{Bandwidth, Rate};
use crate::resolve::network::{Bridge, DhcpRange, Dnsmasq, Forward, Network};

fn network() -> Network {
    Network {
        uuid: Uuid::from_u128(0x1111_2222),
        name: "default".to_owned(),
        forward: Forward::Nat {
            dev: None,
            addresses: None,
            ports: (1024, 65535),
            ipv6: false,
        },
        bridge: Bridge {
            name: "vbr0".to_owned(),
            mac: [0x52, 0x54, 0, 9, 9, 9],
            stp: true,
            delay: 0,
            mtu: None,
        },
        addresses: vec!["192.168.122.1/24".parse().unwrap()],
        routes: Vec::new(),
        dnsmasq: Some(Dnsmasq {
            ranges: vec![DhcpRange {
                start: "192.168.122.2".parse().unwrap(),
                end: "192.168.122.254".parse().unwrap(),
                lease_seconds: None,
            }],
            dns: true,
            ..Dnsmasq::default()
        }),
    }
}

/// What a planner states for a network.
fn network_effects(network: &Network, runtime: &Path) -> Vec<Effect> {
    let link = network.bridge.name.clone();
    let rules = compile::network::compile(network).unwrap();
    let table = TableName::networks();
    let mut ops = vec![NftOp::EnsureSkeleton(compile::network::skeleton())];
    ops.extend(
        rules
            .chains
            .into_iter()
            .map(|(name, chain)| NftOp::ReplaceChain {
                table: table.clone(),
                name,
                chain,
            }),
    );
    ops.extend(rules.elements.into_iter().map(|element| NftOp::SetElement {
        table: table.clone(),
        element,
    }));
    let folder = dnsmasq::folder(runtime, network.uuid);
    let served = network.dnsmasq.as_ref().unwrap();
    let files =
        compile::dnsmasq::compile(network, served, &folder, &folder.join("leases")).unwrap();
    vec![
        Effect::EnsureBridge {
            bridge: network.bridge.clone(),
            owner: network.uuid,
        },
        Effect::AddAddress {
            link: link.clone(),
            address: network.addresses[0],
        },
        Effect::SetLink {
            link: link.clone(),
            up: true,
        },
        Effect::EnableForwarding { ipv6: false },
        Effect::Nft(ops),
        Effect::EnsureDnsmasq {
            network: network.uuid,
            bridge: link,
            files: files.files,
            digest: files.digest.as_str().to_owned(),
        },
    ]
}

fn tap_effects(tap: &str, owner: Uuid) -> Vec<Effect> {
    let rate = Some(Rate {
        average: 1000,
        peak: None,
        burst: None,
    });
    vec![
        Effect::EnsureTap {
            tap: tap.to_owned(),
            owner,
            bridge: Some("vbr0".to_owned()),
            mtu: None,
            multi_queue: false,
        },
        Effect::SetBandwidth {
            link: tap.to_owned(),
            bandwidth: Bandwidth {
                inbound: rate,
                outbound: rate,
            },
        },
        Effect::SetLink {
            link: tap.to_owned(),
            up: true,
        },
    ]
}

async fn perform(host: &RealHost, effects: &[Effect]) {
    for effect in effects {
        if let Err(error) = host.perform(effect).await {
            panic!("{effect:?}: {error}");
        }
    }
}

async fn observe(host: &RealHost) -> Inventory {
    host.observe(&Interest::default()).await.unwrap()
}

#[tokio::test]
async fn a_network_and_a_tap_are_made_found_again_and_removed_without_a_trace() {
    in_namespace!(a_network_and_a_tap_are_made_found_again_and_removed_without_a_trace);
    let folder = tempfile::tempdir().unwrap();
    let host = RealHost::new(Paths::under(folder.path())).unwrap();
    let nothing = observe(&host).await;
    let (network, owner) = (network(), Uuid::from_u128(7));
    let mut effects = network_effects(&network, &host.paths().runtime);
    effects.extend(tap_effects("vt0", owner));
    perform(&host, &effects).await;
    let made = observe(&host).await;
    assert_eq!(made.links["vt0"].master.as_deref(), Some("vbr0"));
    assert_eq!(made.links["vt0"].bandwidth.outbound.unwrap().average, 1000);
    assert!(made.dnsmasq.contains_key(&network.uuid));
    let table = &made.tables[&TableName::networks()];
    let skeleton = compile::network::skeleton().digest();
    assert_eq!(table.skeleton.as_deref(), Some(skeleton.as_str()));
    assert!(table.chains.values().all(Option::is_some), "{table:?}");
    assert!(made.host.ip_forward);

    perform(&host, &effects).await;
    assert_eq!(observe(&host).await, made, "doing it twice changes nothing");
    // Another agent, after ours has died, finds the same.
    let other = RealHost::new(Paths::under(folder.path())).unwrap();
    assert_eq!(observe(&other).await, made);

    let removal = [
        Effect::DeleteLink {
            link: "vt0".to_owned(),
            owner,
        },
        Effect::StopDnsmasq {
            network: network.uuid,
        },
        Effect::Nft(vec![NftOp::DeleteTable {
            table: TableName::networks(),
        }]),
        Effect::DeleteLink {
            link: "vbr0".to_owned(),
            owner: network.uuid,
        },
    ];
    for _ in 0..2 {
        perform(&host, &removal).await;
        let after = observe(&host).await;
        assert_eq!(after.links, nothing.links);
        assert_eq!(after.tables, nothing.tables);
        assert_eq!(after.dnsmasq, nothing.dnsmasq);
    }
}

#[tokio::test]
async fn a_thousand_guests_are_observed_faster_than_a_hundred_are_limited() {
    in_namespace!(a_thousand_guests_are_observed_faster_than_a_hundred_are_limited);
    let folder = tempfile::tempdir().unwrap();
    let host = RealHost::new(Paths::under(folder.path())).unwrap();
    perform(
        &host,
        &network_effects(&network(), &host.paths().runtime)[..3],
    )
    .await;
    // Making a thousand limits is a thousand times `tc`: a hundred are enough to see what a look at them costs.
    let started = std::time::Instant::now();
    for index in 0..1000 {
        let owner = Uuid::from_u128(index);
        let tap = derived_link("vt", owner, Some(0));
        let effects = tap_effects(&tap, owner);
        let count = if index < 100 { 3 } else { 1 };
        perform(&host, &effects[..count]).await;
    }
    let made = started.elapsed();
    let _ = observe(&host).await;
    let started = std::time::Instant::now();
    let seen = observe(&host).await;
    let took = started.elapsed();
    eprintln!("1000 taps, 100 of them shaped both ways, made in {made:?}, observed in {took:?}");
    assert!(took < made / 4);
    let shaped = seen
        .links
        .values()
        .filter(|l| l.bandwidth.inbound.is_some());
    assert_eq!(shaped.count(), 100);
}
