//! Rules of the operations and their text.

use super::*;

fn rule(text: &str, note: &str) -> Rule {
    Rule {
        text: RuleText::built(text),
        note: note.to_owned(),
    }
}

fn name(text: &str) -> ChainName {
    ChainName::new(text).expect("a test's own name")
}

fn comments(chain: &Chain) -> Vec<String> {
    chain
        .rules
        .iter()
        .enumerate()
        .map(|(index, rule)| chain.comment(index, &rule.note))
        .collect()
}

#[test]
fn a_listed_chain_is_intact_only_when_every_rule_is_in_its_place() {
    let chain = Chain::new(vec![
        rule("drop", "one"),
        rule("accept", ""),
        rule("return", "three \"quoted\" words"),
    ]);
    let listed = comments(&chain);
    let digest = |picked: &[usize]| {
        intact_digest(
            picked
                .iter()
                .map(|&index| listed.get(index).map(String::as_str)),
        )
    };
    assert_eq!(digest(&[0, 1, 2]).as_ref(), Some(chain.digest()));
    assert_eq!(digest(&[0, 1]), None, "the last rule was taken out");
    assert_eq!(digest(&[1, 2]), None, "the first rule was taken out");
    assert_eq!(digest(&[0, 2, 1]), None, "two rules changed places");
    assert_eq!(
        digest(&[0, 1, 2, 9]),
        None,
        "a rule without a comment was added"
    );
    assert_eq!(digest(&[]), None, "the chain was flushed");
}

#[test]
fn an_empty_chain_still_shows_a_digest() {
    let chain = Chain::new(Vec::new());
    let listed = comments(&chain);
    assert_eq!(
        intact_digest(listed.iter().map(|c| Some(c.as_str()))).as_ref(),
        Some(chain.digest())
    );
}

#[test]
fn a_note_never_breaks_out_of_its_comment() {
    let chain = Chain::new(vec![rule("drop", "a\"; flush ruleset\n\"b — €€€")]);
    let text = render(&[NftOp::ReplaceChain {
        table: TableName::filters(),
        name: name("from-vnet0"),
        chain,
    }]);
    assert_eq!(text.lines().count(), 3, "{text}");
    let last = text.lines().last().expect("three lines");
    assert_eq!(last.matches('"').count(), 2, "{last}");
}

#[test]
fn a_long_note_is_cut_to_what_the_kernel_keeps() {
    for length in 60..200 {
        let note = "€".repeat(length);
        let chain = Chain::new(vec![rule("drop", &note)]);
        assert!(chain.comment(0, &note).len() <= COMMENT_MAX);
    }
}

#[test]
fn names_that_could_mean_something_else_are_refused() {
    for bad in ["", "1x", "a b", "a;b", "a\"b", "a*", &"a".repeat(128)] {
        assert!(ChainName::new(bad).is_err(), "{bad}");
    }
    for bad in [
        "",
        "vnet*",
        "a/b",
        "a\"b",
        "sixteen-letters!",
        "abcdefghijklmnop",
        ".",
        "..",
    ] {
        assert!(IfName::new(bad).is_err(), "{bad}");
    }
    for bad in [
        "",
        "drop; flush ruleset",
        "drop\ninclude \"/x\"",
        "drop # x",
        "drop \\",
    ] {
        assert!(RuleText::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_plan_read_back_is_checked_again() {
    let plan = serde_json::to_string(&NftOp::DeleteChain {
        table: TableName::filters(),
        name: name("from-vnet0"),
    })
    .expect("plain data");
    assert!(serde_json::from_str::<NftOp>(&plan).is_ok());
    let forged = plan.replace("from-vnet0", "x\\nflush ruleset");
    assert!(serde_json::from_str::<NftOp>(&forged).is_err());
}

#[test]
fn interface_names_stay_different_within_chain_names() {
    let names = ["a@b", "a:b", "a-b", "a.b", "a_b"];
    let mut seen = BTreeSet::new();
    for text in names {
        let part = IfName::new(text).expect("a fit name").in_chain_name();
        assert!(ChainName::new(format!("from-{part}")).is_ok(), "{part}");
        assert!(seen.insert(part), "{text}");
    }
}

#[test]
fn a_transaction_makes_before_it_uses_and_stops_using_before_it_deletes() {
    let table = TableName::filters();
    let element = |chain: &str| MapElement {
        map: MapName::fixed("from_guest"),
        key: IfName::new("vnet0").expect("a fit name"),
        verdict: Verdict::Goto(name(chain)),
    };
    let ops = [
        NftOp::DeleteChain {
            table: table.clone(),
            name: name("old-chain"),
        },
        NftOp::SetElement {
            table: table.clone(),
            element: element("from-vnet0"),
        },
        NftOp::DeleteElement {
            table: table.clone(),
            element: element("old-chain"),
        },
        NftOp::ReplaceChain {
            table: table.clone(),
            name: name("from-vnet0"),
            chain: Chain::new(vec![rule("jump mac-1", "a")]),
        },
        NftOp::ReplaceChain {
            table,
            name: name("mac-1"),
            chain: Chain::new(vec![]),
        },
    ];
    insta::assert_snapshot!(render(&ops), @r#"
    add chain bridge vireo from-vnet0
    add chain bridge vireo mac-1
    add chain bridge vireo old-chain
    flush chain bridge vireo from-vnet0
    add rule bridge vireo from-vnet0 jump mac-1 comment "vireo:6e7fe07d4746167d:1/1 a"
    flush chain bridge vireo mac-1
    add rule bridge vireo mac-1 return comment "vireo:79cb7dce75142097:1/1"
    add element bridge vireo from_guest { "vnet0" : goto old-chain }
    delete element bridge vireo from_guest { "vnet0" }
    add element bridge vireo from_guest { "vnet0" : goto from-vnet0 }
    flush chain bridge vireo old-chain
    delete chain bridge vireo old-chain
    "#);
}
