//! The JSON Schema against reading: an editor takes what is read, and refuses what has another shape.

mod validator;

use serde_json::Value;
use serde_yaml::Value as Yaml;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use validator::Judge;
use vireo_schema::{
    Diagnostic, Document, Kind, Located, Rule, Source, file_schema, read, schema, to_long_yaml,
    to_yaml,
};

/// Where the corpus lies; see `corpus.rs`.
fn corpus() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let stated = std::env::var_os("VIREO_CORPUS").map(PathBuf::from);
    let beside = ["../shared/corpus", "../../shared/corpus"].map(|path| Some(root.join(path)));
    let mut all = [stated].into_iter().chain(beside).flatten();
    let found = all.find(|path| path.is_dir());
    if found.is_none() {
        eprintln!("skipped: no corpus at $VIREO_CORPUS or ../shared/corpus");
    }
    found
}

/// The documents of the corpus that are read, and some of each kind that are always there; the shortest first.
fn documents() -> Vec<Located> {
    let mut out = Vec::new();
    for text in [ALWAYS, include_str!("../fuzz/seeds/others.yaml")] {
        let document = read(&Arc::new(Source::new("always.yaml", text)));
        assert!(document.is_whole(), "{:?}", document.problems);
        out.extend(document.definitions);
    }
    let dev = corpus().map(|corpus| corpus.join("dev"));
    let folders = dev
        .iter()
        .filter_map(|dev| std::fs::read_dir(dev).ok())
        .flatten()
        .flatten();
    let files = folders
        .filter_map(|folder| std::fs::read_dir(folder.path()).ok())
        .flatten()
        .flatten();
    let paths = files.map(|file| file.path());
    for path in paths.filter(|path| path.extension().is_some_and(|ending| ending == "xml")) {
        if let Ok(text) = std::fs::read_to_string(&path) {
            out.extend(read(&Arc::new(Source::new(path, text))).definitions);
        }
    }
    out.sort_by_key(|located| {
        (
            located.span.end - located.span.start,
            located.source.path.clone(),
        )
    });
    out
}

const ALWAYS: &str = "
- domain: web
  policy: {disruption: restart, depends-on: [network/default], protect: yes}
  memory: 512 MiB
  vcpu: {value: 2, cpuset: [0-1, 3]}
  features: [acpi, pae]
  cpu: {mode: host-passthrough, topology: {sockets: 1, cores: 2, threads: 1}}
  disks:
  - volume: images/web.qcow2
  - {file: /data.raw, format: raw, readonly: true}
  interface: {network: default, mac: 52:54:00:12:34:56, filter: clean-traffic, model: virtio}
  on_crash: restart
- nwfilter: web
  entries:
  - rule: {action: accept, direction: in, tcp: {dstportstart: 80, srcipaddr: $IP}}
  - filterref: clean-traffic
- {volume: images/web.qcow2, format: qcow2, capacity: 10 GiB, backing: /images/debian.qcow2}
- {domainsnapshot: before, disks: [vda, {name: vdb, snapshot: no}], domain: {uuid: 22e1353d-c27e-4d6d-bf15-465053e6ba0b}, active: 1}
- {domaincheckpoint: monday, disks: [vda, {name: vdb, checkpoint: no}], domain: {uuid: 22e1353d-c27e-4d6d-bf15-465053e6ba0b}}
- networkport: 5d744f21-ba4a-4d6e-bdb2-30a35ff3207d
  owner: {name: web, uuid: d54df46f-1ab5-4a22-8618-4560ef5fac2c}
  mac: 52:54:00:7b:35:93
  plug: {type: bridge, bridge: br0}
- nwfilterbinding: vnet0
  owner: {name: web, uuid: d54df46f-1ab5-4a22-8618-4560ef5fac2c}
  mac: 52:54:00:7b:35:93
  filterref: clean-traffic
";

fn judges() -> BTreeMap<Kind, Judge> {
    let all = Kind::ALL.iter();
    all.map(|kind| (*kind, Judge::new(schema(*kind)))).collect()
}

fn json(text: &str) -> Value {
    let value: Yaml = serde_yaml::from_str(text).expect("it is YAML");
    serde_json::to_value(value).expect("it is JSON")
}

#[test]
fn what_is_read_is_taken_in_the_short_form_and_the_long() {
    let file = Judge::new(file_schema());
    let judges = judges();
    let mut refused = Vec::new();
    for located in documents() {
        let own = &judges[&located.kind()];
        for write in [to_yaml, to_long_yaml] {
            let text = write(&located.definition, &located.policy);
            let value = json(&text);
            let list = Value::Array(vec![value.clone(), value.clone()]);
            if !own.takes(&value) || !file.takes(&value) || !file.takes(&list) {
                refused.push(format!("{}\n{text}", located.source.path.display()));
            }
        }
    }
    let shown: Vec<&str> = refused.iter().take(5).map(String::as_str).collect();
    assert!(
        refused.is_empty(),
        "{} refused:\n{}",
        refused.len(),
        shown.join("\n")
    );
}

/// What reading takes, in every way of writing it.
const TAKEN: &[&str] = &[
    "",
    "domain: {name: a, memory: 1}",
    "{kind: domain, name: a, memory: 1}",
    "{kind: filter, name: a}",
    "filter: {name: a}",
    "domain: {name: a, memory: 1}\npolicy: {protect: true}",
    "{domain: a, memory: {value: 1 GiB, dumpCore: off}}",
    "{domain: a, memory: 1, features: {acpi: true, pae: }}",
    "{domain: a, memory: 1, devices: {disk: {file: /a}}}",
    "{domain: a, memory: 1, disk: [{file: /a}, {file: /b}]}",
    "{domain: a, memory: 1, disks: {source: {file: /a}}}",
    "{domain: a, memory: 1, rng: {model: virtio, backend: {model: random, value: /dev/urandom}}}",
    "{domain: a, memory: 1, vcpu: '2', pm: {suspend-to-mem: false}}",
    "{domain: example.org, network: a}",
    "{pool: images, volume: a, capacity: 1}",
    "{nwfilter: a, rule: [{action: drop, direction: in, all: }, {action: accept, direction: out}]}",
    "{secret: 22e1353d-c27e-4d6d-bf15-465053e6ba0b}",
    "{kind: secret, private: yes}",
    "{domainsnapshot: a, disks: {disks: [vda]}}",
    "[{network: a}, {network: b}]",
];

#[test]
fn every_way_of_writing_that_reading_takes_is_taken() {
    let file = Judge::new(file_schema());
    for text in TAKEN {
        let document = read(&Arc::new(Source::new("a.yaml", *text)));
        assert!(document.is_whole(), "{text}: {:?}", document.problems);
        assert!(file.takes(&json(text)), "refused: {text}");
    }
}

/// What has another shape.
const REFUSED: &[&str] = &[
    "web",
    "{name: a}",
    "{kind: guest, name: a}",
    "{kind: domain, memory: 1}",
    "[a, b]",
    "[[{network: a}]]",
    "{domain: a, memroy: 1 GiB}",
    "{domain: {name: a}, memory: 1 GiB}",
    "{domain: {memory: 1 GiB}}",
    "{domain: [a]}",
    "{secret: [22e1353d-c27e-4d6d-bf15-465053e6ba0b]}",
    "{domain: a, memory: 1, vcpu: {value: 1, cpuset: [[0]]}}",
    "{domain: a, memory: 1, vcpu: two}",
    "{domain: a, memory: 512 MiBB}",
    "{domain: a, memory: [1, 2]}",
    "{domain: a, memory: 1, cputune: 2048}",
    "{domain: a, memory: 1, features: [acpy]}",
    "{domain: a, memory: 1, on_crash: {action: restart}}",
    "{domain: a, memory: 1, on_crash: restrat}",
    "{domain: a, memory: 1, uuid: }",
    "{domain: a, memory: 1, uuid: web}",
    "{domain: a, memory: 1, disks: [{file: /a, bus: virtoi}]}",
    "{domain: a, memory: 1, disks: [{volume: web.qcow2}]}",
    "{domain: a, memory: 1, disks: [readonly]}",
    "{domain: a, memory: 1, disks: /a}",
    "{domain: a, memory: 1, interfaces: [{network: default, filer: clean-traffic}]}",
    "{domain: a, memory: 1, interfaces: [{network: default, mac: 52-54-00-12-34-56}]}",
    "{domain: a, memory: 1, policy: {disruption: reboot}}",
    "{domain: a, memory: 1, policy: restart}",
    "{network: a, ips: [{address: example.org}]}",
    "{network: a, forward: ruote}",
    "{network: a, mtu: {}}",
    "{network: a, filter: b}",
    "{pool: a, type: nfs}",
    "{nwfilter: a, rule: {action: drop}}",
    "{nwfilter: a, rule: }",
    "{nwfilter: a, entries: {rule: {action: drop, direction: in}}}",
    "{domainsnapshot: a, policy: {protect: yes}}",
    "{networkport: a}",
    "{nwfilterbinding: vnet0}",
];

#[test]
fn another_shape_is_refused_by_both() {
    let file = Judge::new(file_schema());
    for text in REFUSED {
        let document = read(&Arc::new(Source::new("a.yaml", *text)));
        assert!(!document.is_whole(), "read: {text}");
        assert!(!file.takes(&json(text)), "taken: {text}");
    }
}

/// What a schema cannot tell, or we leave to reading, with the reason.
const LEFT: &[(&str, &str)] = &[
    (
        "{domain: a/b, memory: 1}",
        "names have no expression of their own",
    ),
    (
        "{domain: a, memory: 1, vcpu: 99999999999}",
        "numbers are not bounded",
    ),
    (
        "{domain: a, memory: 1, disks: [{file: /a, type: block}]}",
        "a shorthand against the long form",
    ),
    (
        "{domain: a, memory: 1, disk: {file: /a}, machine: ''}",
        "empty texts",
    ),
    (
        "{network: a, ips: [{address: 1.2.3}]}",
        "the expression for addresses is loose",
    ),
    (
        "{domain: a, memory: 1, metadata: <a>}",
        "XML inside of YAML",
    ),
    ("{domain: a}", "rules between fields"),
];

#[test]
fn what_is_left_to_reading_is_taken_and_refused_there() {
    let file = Judge::new(file_schema());
    for (text, why) in LEFT {
        let document = read(&Arc::new(Source::new("a.yaml", *text)));
        assert!(!document.is_whole(), "read: {text}");
        assert!(
            file.takes(&json(text)),
            "refused, so not left any more ({why}): {text}"
        );
    }
}

#[test]
fn no_reference_of_a_schema_leads_nowhere_and_no_type_is_there_for_nothing() {
    for kind in Kind::ALL {
        assert_eq!(Judge::new(schema(*kind)).loose_ends(), [""; 0], "{kind}");
    }
    assert_eq!(Judge::new(file_schema()).loose_ends(), [""; 0]);
}

/// Ways to values: the number of each entry on the way to it.
type Way = Vec<usize>;

/// The way to every value below, if no other value had the same keys on its way before.
fn new_places(
    value: &Yaml,
    way: &mut Way,
    keys: &str,
    seen: &mut BTreeSet<String>,
    out: &mut Vec<Way>,
) {
    let entries: Vec<(&str, &Yaml)> = match value {
        Yaml::Mapping(map) => map
            .iter()
            .map(|(key, inner)| (key.as_str().unwrap_or(""), inner))
            .collect(),
        Yaml::Sequence(items) => items.iter().map(|inner| ("-", inner)).collect(),
        _ => Vec::new(),
    };
    for (at, (key, inner)) in entries.into_iter().enumerate() {
        way.push(at);
        let keys = format!("{keys}/{key}");
        if seen.insert(keys.clone()) {
            out.push(way.clone());
        }
        new_places(inner, way, &keys, seen, out);
        way.pop();
    }
}

/// Every document in YAML that has a place which no earlier one had, with these places: a few stand for all.
fn various() -> Vec<(Kind, Yaml, Vec<Way>)> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for located in documents() {
        let kind = located.kind();
        let text = to_yaml(&located.definition, &located.policy);
        let value = serde_yaml::from_str(&text).expect("it was written");
        let mut ways = Vec::new();
        new_places(&value, &mut Vec::new(), kind.as_str(), &mut seen, &mut ways);
        if !ways.is_empty() {
            out.push((kind, value, ways));
        }
    }
    out
}

/// The value with the entry at that place changed.
fn changed(value: &Yaml, way: &[usize], change: &dyn Fn(Yaml, Yaml) -> (Yaml, Yaml)) -> Yaml {
    let Some((at, rest)) = way.split_first() else {
        return value.clone();
    };
    let one = |number: usize, key: &Yaml, inner: &Yaml| match (number == *at, rest.is_empty()) {
        (false, _) => (key.clone(), inner.clone()),
        (true, false) => (key.clone(), changed(inner, rest, change)),
        (true, true) => change(key.clone(), inner.clone()),
    };
    match value {
        Yaml::Mapping(map) => {
            let entries = map.iter().enumerate();
            Yaml::Mapping(
                entries
                    .map(|(number, (key, inner))| one(number, key, inner))
                    .collect(),
            )
        }
        Yaml::Sequence(items) => {
            let items = items.iter().enumerate();
            Yaml::Sequence(
                items
                    .map(|(number, inner)| one(number, &Yaml::Null, inner).1)
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

#[test]
fn a_misspelt_key_is_refused_by_both_wherever_it_stands() {
    let mut tried = 0;
    let judges = judges();
    for (kind, value, ways) in various() {
        let judge = &judges[&kind];
        let misspell = |key: Yaml, inner: Yaml| match key {
            Yaml::String(key) => (Yaml::String(format!("{key}x")), inner),
            other => (other, inner),
        };
        for way in ways {
            let other = changed(&value, &way, &misspell);
            if other == value {
                continue;
            }
            tried += 1;
            let text = serde_yaml::to_string(&other).expect("it is YAML");
            assert!(
                !read(&Arc::new(Source::new("a.yaml", text.as_str()))).is_whole(),
                "read:\n{text}"
            );
            assert!(!judge.takes(&json(&text)), "taken:\n{text}");
        }
    }
    assert!(tried > 50, "only {tried}");
}

/// What reading says of the shape. Rules between fields are not the schema's.
fn of_shape(document: &Document) -> Option<&Diagnostic> {
    document.problems.iter().find(|problem| match problem.rule {
        Rule::UnknownKey | Rule::YamlShape | Rule::EmptyValue | Rule::BadValue => true,
        Rule::Missing => problem.message.contains(" lacks "),
        _ => false,
    })
}

#[test]
fn a_value_of_another_shape_is_judged_alike_by_both() {
    let shapes = ["{no-such-key: 1}", "[[[no such word]]]", "no such word", ""];
    let shapes = shapes.map(|text| serde_yaml::from_str::<Yaml>(text).expect("it is YAML"));
    let mut unlike = BTreeSet::new();
    let mut loose = BTreeSet::new();
    let judges = judges();
    for (kind, value, ways) in various() {
        let cases = ways
            .iter()
            .flat_map(|way| shapes.iter().map(move |shape| (way, shape)));
        for (way, shape) in cases {
            let other = changed(&value, way, &|key, _| (key, shape.clone()));
            let text = serde_yaml::to_string(&other).expect("it is YAML");
            let document = read(&Arc::new(Source::new("a.yaml", text.as_str())));
            let taken = judges[&kind].takes(&json(&text));
            match of_shape(&document) {
                None if !taken && document.is_whole() => {
                    unlike.insert(format!("read, and not taken:\n{text}"));
                }
                Some(problem) if taken => {
                    let said = problem.render(&document.source);
                    match LOOSE.iter().position(|(part, _)| said.contains(part)) {
                        Some(at) => loose.insert(at),
                        None => unlike.insert(format!("taken, and not read:\n{said}")),
                    };
                }
                _ => {}
            }
        }
    }
    let shown: Vec<&str> = unlike.iter().take(20).map(String::as_str).collect();
    assert!(unlike.is_empty(), "{}:\n{}", unlike.len(), shown.join("\n"));
    let idle = (0..LOOSE.len()).filter(|at| corpus().is_some() && !loose.contains(at));
    let idle: Vec<&str> = idle.map(|at| LOOSE[at].0).collect();
    assert!(idle.is_empty(), "no longer loose: {idle:?}");
}

/// Values that only reading refuses: a part of what it says, and why the schema takes them.
const LOOSE: &[(&str, &str)] = &[
    (
        "(domainsnapshot/",
        "a guest inside of a snapshot may be its uuid alone",
    ),
    (
        "(domaincheckpoint/",
        "a guest inside of a checkpoint may be its uuid alone",
    ),
    ("is not states such as", "words in any case, in lists"),
    (
        "or a number",
        "names of protocols stand in tables of their own",
    ),
];
