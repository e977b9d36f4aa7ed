//! Nothing that a file may hold makes reading panic, and what reading accepts comes back the same.

use proptest::prelude::*;
use std::sync::Arc;
use vireo_schema::element::{ElementInfo, Shape};
use vireo_schema::{Kind, Source, check, read, to_xml, to_yaml};

const SEEDS: &[(&str, &str)] = &[
    (
        "a.xml",
        "<domain type='kvm'><name>a</name><memory unit='MiB'>512</memory><vcpu placement='static' cpuset='0-3,^2'>2</vcpu><os><type arch='x86_64'>hvm</type><boot dev='hd'/></os><features><acpi/></features><devices><disk type='file'><source file='/a &amp; b'/><target dev='vda' bus='virtio'/></disk><interface type='network'><mac address='52:54:00:36:32:aa'/><source network='default'/><filterref filter='clean-traffic'><parameter name='IP' value='10.0.0.1'/></filterref></interface></devices></domain>",
    ),
    (
        "a.xml",
        "<network><name>a</name><forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward><ip address='192.168.122.1' netmask='255.255.255.0'><dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>",
    ),
    (
        "a.xml",
        "<filter name='a' chain='ipv4' priority='-700'><filterref filter='b'/><rule action='drop' direction='inout'><tcp match='no' srcipaddr='$IP[@1]' dstportstart='0x50' flags='SYN/ALL'/></rule></filter>",
    ),
    (
        "a.yaml",
        "domain: a\npolicy: {disruption: restart, depends-on: [network/default]}\nmemory: 512 MiB\nvcpu: 2\nkernel: /boot/vmlinuz\ndisks: [{volume: images/web.qcow2}]\ninterfaces:\n- {network: default, filter: clean-traffic}\nfeatures: [acpi, pae]\nmetadata: |\n  <x xmlns='urn:x'><y/></x>\n",
    ),
    (
        "a.yaml",
        "- nwfilter: a\n  entries:\n  - rule: {action: drop, direction: in, icmp: {}}\n  - filterref: b\n  - rule: {action: accept, direction: out, all: }\n- volume: images/a\n  capacity: 10 GiB\n  backing: /b\n",
    ),
];

/// Reads a text in every way there is; what is accepted must come back the same in both syntaxes.
fn survives(file: &str, text: &str) {
    let source = Arc::new(Source::new(file, text));
    let document = read(&source);
    for problem in &document.problems {
        let _ = problem.render(&source);
    }
    for located in &document.definitions {
        let stated = &located.definition;
        for (file, text) in [
            ("b.xml", to_xml(stated, &located.policy)),
            ("b.yaml", to_yaml(stated, &located.policy)),
        ] {
            let again = read(&Arc::new(Source::new(file, text.clone())));
            let back = again
                .definitions
                .first()
                .map(|back| (&back.definition, &back.policy));
            let wanted = match file {
                "b.xml" => stated.in_xml(),
                _ => std::borrow::Cow::Borrowed(stated),
            };
            assert_eq!(
                back,
                Some((wanted.as_ref(), &located.policy)),
                "{text}\n{:?}",
                again.problems
            );
        }
        let _ = located.spans.get("name");
    }
    let _ = check(&[document]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,200}", xml in any::<bool>()) {
        survives(if xml { "a.xml" } else { "a.yaml" }, &text);
    }

    #[test]
    fn no_bytes_of_markup_make_reading_panic(text in "[<>/='\"&;a-c:!\\[\\]{}?,\\-\\n\\t #*|%@`]{0,120}", xml in any::<bool>()) {
        survives(if xml { "a.xml" } else { "a.yaml" }, &text);
    }

    #[test]
    fn no_change_to_a_definition_makes_reading_panic(
        seed in 0..SEEDS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, "[<>/='\":0-9a-z&\\-\\n ]{0,4}"), 1..6),
    ) {
        let (file, text) = SEEDS[seed];
        let mut chars: Vec<char> = text.chars().collect();
        for (at, what, piece) in edits {
            let at = at.index(chars.len().max(1)).min(chars.len());
            match what {
                0 => drop(chars.splice(at..at, piece.chars())),
                1 => drop(chars.splice(at..(at + 3).min(chars.len()), piece.chars())),
                2 => chars.truncate(at.max(1)),
                _ => {
                    let copy: Vec<char> = chars.iter().skip(at).take(12).copied().collect();
                    drop(chars.splice(at..at, copy));
                }
            }
        }
        survives(file, &chars.into_iter().collect::<String>());
    }
}

#[test]
fn the_seeds_of_these_tests_are_accepted() {
    for (file, text) in SEEDS {
        let source = Arc::new(Source::new(*file, *text));
        let shown: Vec<String> = read(&source)
            .problems
            .iter()
            .map(|problem| problem.render(&source))
            .collect();
        assert!(shown.is_empty(), "{}", shown.join("\n"));
        survives(file, text);
    }
}

/// Every element type that a kind's table reaches, once.
fn every_type() -> Vec<&'static ElementInfo> {
    let mut out: Vec<&'static ElementInfo> = Vec::new();
    let mut queue: Vec<&'static ElementInfo> = Kind::ALL.iter().map(|kind| kind.info()).collect();
    while let Some(info) = queue.pop() {
        if out.iter().any(|known| std::ptr::eq(*known, info)) {
            continue;
        }
        out.push(info);
        for field in info.fields {
            match field.shape {
                Shape::Child(inner) | Shape::List(inner) | Shape::Flat(inner) => {
                    queue.push(inner())
                }
                Shape::Many(variants) => {
                    queue.extend(variants().iter().map(|variant| (variant.info)()))
                }
                _ => {}
            }
        }
    }
    out
}

#[test]
fn no_element_has_one_key_for_two_fields() {
    for info in every_type() {
        let mut keys = vireo_schema::shape::keys(info);
        keys.sort_unstable();
        let twice: Vec<_> = keys.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{}: {twice:?}", info.name);
    }
}

#[test]
fn every_type_and_field_is_documented_and_every_required_field_exists() {
    for info in every_type() {
        assert!(!info.doc.trim().is_empty(), "{}", info.name);
        assert!(
            info.fields.iter().all(|field| !field.doc.trim().is_empty()),
            "{}",
            info.name
        );
        for must in info.must {
            assert!(
                info.field(must).is_some(),
                "{} requires {must}, which it does not have",
                info.name
            );
        }
        assert!(
            info.main.is_empty() || info.field(info.main).is_some(),
            "{}: main {}",
            info.name,
            info.main
        );
    }
}

#[test]
fn no_two_types_share_a_name() {
    let mut names: Vec<&str> = every_type().iter().map(|info| info.name).collect();
    names.sort_unstable();
    let twice: Vec<_> = names
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
        .collect();
    assert!(twice.is_empty(), "the JSON Schema names types: {twice:?}");
}
