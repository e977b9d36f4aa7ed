use std::collections::BTreeSet;

use super::*;
use crate::compile::nft::{BaseChain, Chain, Rule, RuleText, Skeleton};
use crate::host::testing::{in_namespace, shell};

fn rule(text: &str) -> Rule {
    Rule {
        text: RuleText::new(text).unwrap(),
        note: "a test".to_owned(),
    }
}

fn chain_name(name: &str) -> ChainName {
    ChainName::new(name).unwrap()
}

fn skeleton() -> Skeleton {
    let base = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Forward,
        priority: -5,
        chain: Chain::new(vec![rule("iifname vmap @from-guest")]),
    };
    Skeleton {
        table: TableName::filters(),
        maps: BTreeSet::from([MapName::new("from-guest").unwrap()]),
        bases: [(chain_name("base-forward"), base)].into(),
    }
}

fn chains(count: usize, rules: usize) -> Vec<NftOp> {
    let mut ops = vec![NftOp::EnsureSkeleton(skeleton())];
    for number in 0..count {
        let name = chain_name(&format!("guest-{number}"));
        let rules = (0..rules)
            .map(|n| rule(&format!("ip daddr 10.0.{n}.1 drop")))
            .collect();
        ops.push(NftOp::ReplaceChain {
            table: TableName::filters(),
            name: name.clone(),
            chain: Chain::new(rules),
        });
        ops.push(NftOp::SetElement {
            table: TableName::filters(),
            element: MapElement {
                map: MapName::new("from-guest").unwrap(),
                key: IfName::new(format!("vt{number}")).unwrap(),
                verdict: Verdict::Jump(name),
            },
        });
    }
    ops
}

fn look() -> BTreeMap<TableName, Table> {
    observe(&[TableName::filters(), TableName::networks()]).unwrap()
}

#[tokio::test]
async fn what_is_applied_is_observed_with_the_same_digests() {
    in_namespace!(what_is_applied_is_observed_with_the_same_digests);
    assert!(look().is_empty(), "no table yet");
    let ops = chains(2, 3);
    apply(&ops).await.unwrap();
    let first = look();
    let table = &first[&TableName::filters()];
    assert_eq!(
        table.skeleton.as_deref(),
        Some(skeleton().digest().as_str())
    );
    assert_eq!(table.chains.len(), 2);
    for op in &ops {
        if let NftOp::ReplaceChain { name, chain, .. } = op {
            assert_eq!(table.chains[name].as_deref(), Some(chain.digest().as_str()));
        }
    }
    let expected = MapElement {
        map: MapName::new("from-guest").unwrap(),
        key: IfName::new("vt1").unwrap(),
        verdict: Verdict::Jump(chain_name("guest-1")),
    };
    assert!(table.elements.contains(&expected), "{:?}", table.elements);
    apply(&ops).await.unwrap();
    assert_eq!(look(), first, "applying twice changes nothing");
    apply(&[NftOp::DeleteTable {
        table: TableName::filters(),
    }])
    .await
    .unwrap();
    assert!(look().is_empty());
}

#[tokio::test]
async fn damage_from_outside_shows() {
    in_namespace!(damage_from_outside_shows);
    apply(&chains(3, 2)).await.unwrap();
    let intact = look()[&TableName::filters()].clone();
    let seen = |line: &str| {
        shell(line);
        look().remove(&TableName::filters())
    };
    let table = seen("nft flush chain bridge vireo guest-0").unwrap();
    assert_eq!(table.chains[&chain_name("guest-0")], None);
    assert_eq!(
        table.chains[&chain_name("guest-1")],
        intact.chains[&chain_name("guest-1")]
    );
    let table = seen("nft add rule bridge vireo guest-1 accept").unwrap();
    assert_eq!(table.chains[&chain_name("guest-1")], None);
    let table = seen("nft insert rule bridge vireo base-forward accept").unwrap();
    assert_eq!(table.skeleton, None);
    let table = seen("nft delete element bridge vireo from-guest { vt2 }").unwrap();
    assert_eq!(table.elements.len(), 2);
    let table = seen("nft flush table bridge vireo").unwrap();
    assert!(table.chains.values().all(Option::is_none), "{table:?}");
    apply(&chains(3, 2)).await.unwrap();
    assert_eq!(look()[&TableName::filters()], intact, "repaired");
    assert_eq!(seen("nft flush ruleset"), None);
}

#[tokio::test]
async fn a_refused_transaction_applies_nothing_and_is_quoted() {
    in_namespace!(a_refused_transaction_applies_nothing_and_is_quoted);
    let mut ops = chains(1, 1);
    ops.push(NftOp::ReplaceChain {
        table: TableName::filters(),
        name: chain_name("guest-bad"),
        chain: Chain::new(vec![rule("ip daddr not-an-address-at-all drop")]),
    });
    let error = apply(&ops).await.unwrap_err();
    assert!(error.message.contains("nft failed"), "{error}");
    assert!(!error.retry);
    assert!(look().is_empty(), "nothing was applied");
}

#[tokio::test]
async fn seeing_a_thousand_guests_rules_costs_no_more_than_a_few_times_making_them() {
    in_namespace!(seeing_a_thousand_guests_rules_costs_no_more_than_a_few_times_making_them);
    let started = std::time::Instant::now();
    apply(&chains(1000, 20)).await.unwrap();
    let made = started.elapsed();
    eprintln!("20,000 rules applied in {made:?}");
    let started = std::time::Instant::now();
    let table = look().remove(&TableName::filters()).unwrap();
    let seen = started.elapsed();
    eprintln!("20,000 rules observed in {seen:?}");
    assert_eq!(table.chains.values().flatten().count(), 1000);
    assert_eq!(table.elements.len(), 1000);
    // Usually it takes half as long; the machine may be busy with other things.
    assert!(seen < made * 5, "{seen:?} {made:?}");
}
