//! Guests completed as libvirt completes them: beside each of its own definitions for x86 stands what it made of it.
//!
//! The corpus lies at `$VIREO_CORPUS`, or at `../shared/corpus` beside the workspace; without it the first test says so and passes. Compared are the two documents as trees,
//! without the order of controllers. What is compared leaves out what depends on the host: the firmware's features. `VIREO_CORPUS_SHOW=1` prints every difference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vireo_schema::complete::complete;
use vireo_schema::element::Element as _;
use vireo_schema::scalar::KibSize;
use vireo_schema::{Definition, Domain, Source, read, tree};

/// How many of libvirt's own pairs come out equal; a change may raise it, never lower it.
const FLOOR: usize = 296;

fn corpus() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stated = std::env::var_os("VIREO_CORPUS").map(PathBuf::from);
    let found = stated
        .into_iter()
        .chain([root.join("../../shared/corpus")])
        .find(|path| path.is_dir());
    if found.is_none() {
        eprintln!("skipped: no corpus at $VIREO_CORPUS or ../shared/corpus");
    }
    found
}

fn domain(text: &str) -> Option<Domain> {
    let document = read(&Arc::new(Source::new("a.xml", text)));
    match document.definitions.into_iter().next()?.definition {
        Definition::Domain(domain) => Some(*domain),
        _ => None,
    }
}

/// Every path with its value, numbers as numbers; controllers under their kind and number instead of their place.
fn flat(element: &tree::Element<'_>, path: &str, out: &mut BTreeMap<String, String>) {
    let number = |text: &str| {
        let hex = text
            .strip_prefix("0x")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok());
        hex.or_else(|| text.parse().ok())
            .map_or_else(|| text.to_lowercase(), |number: u64| number.to_string())
    };
    let size = ["memory", "currentMemory", "maxMemory", "pcihole64"]
        .iter()
        .any(|name| element.name == **name);
    let unit = element.attribute("unit").map(|unit| &*unit.value);
    if let (true, Ok(size)) = (size, KibSize::from_parts(element.trimmed(), unit)) {
        out.insert(format!("{path}="), size.bytes().to_string());
        return;
    }
    // Runtime's own.
    for attribute in element
        .attributes
        .iter()
        .filter(|attribute| !path.is_empty() || attribute.name != "id")
    {
        out.insert(
            format!("{path}/@{}", attribute.name),
            number(&attribute.value),
        );
    }
    let text = element.trimmed();
    if !text.is_empty() {
        out.insert(format!("{path}="), number(text));
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for child in &element.children {
        let mut name = child.name.to_string();
        if matches!(
            name.as_str(),
            "metadata" | "firmware" | "seclabel" | "mirror"
        ) {
            continue;
        }
        let target = child
            .child("target")
            .and_then(|target| target.attribute("dev"));
        if let ("disk", Some(dev)) = (name.as_str(), target) {
            name = format!("disk:{}", dev.value);
        }
        if name == "controller" {
            for key in ["type", "index", "model"] {
                name = format!(
                    "{name}:{}",
                    child.attribute(key).map_or("", |value| &value.value)
                );
            }
        }
        let nth = seen.entry(name.clone()).or_default();
        *nth += 1;
        let path = format!("{path}/{name}[{nth}]");
        out.insert(path.clone(), String::new());
        flat(child, &path, out);
    }
}

fn flattened(domain: &Domain) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    flat(&domain.encode("domain"), "", &mut out);
    out
}

#[test]
fn libvirts_own_guests_are_completed_as_libvirt_completes_them() {
    let Some(corpus) = corpus() else { return };
    let folder = corpus.join("dev/domain");
    let show = std::env::var_os("VIREO_CORPUS_SHOW").is_some();
    let (mut pairs, mut equal) = (0, 0);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".x86_64-latest.xml"))
        .collect();
    names.sort();
    for made in names {
        let name = made.file_name().unwrap().to_string_lossy().into_owned();
        let stated = folder.join(name.replace(".x86_64-latest", ""));
        let (Ok(stated), Ok(made)) = (
            std::fs::read_to_string(stated),
            std::fs::read_to_string(made),
        ) else {
            continue;
        };
        let (Some(stated), Some(made)) = (domain(&stated), domain(&made)) else {
            continue;
        };
        pairs += 1;
        let (ours, theirs) = (flattened(&complete(&stated)), flattened(&made));
        if ours == theirs {
            equal += 1;
            continue;
        }
        if show {
            let mut lines = Vec::new();
            for (path, value) in &ours {
                match theirs.get(path) {
                    Some(other) if other == value => {}
                    Some(other) => lines.push(format!("{path} is {value}, libvirt's {other}")),
                    None => lines.push(format!("{path}={value} is ours alone")),
                }
            }
            for (path, value) in theirs.iter().filter(|(path, _)| !ours.contains_key(*path)) {
                lines.push(format!("{path}={value} is libvirt's alone"));
            }
            *kinds
                .entry(lines.first().cloned().unwrap_or_default())
                .or_default() += 1;
            eprintln!(
                "{name}\n    {}",
                lines.into_iter().take(6).collect::<Vec<_>>().join("\n    ")
            );
        }
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (line, count) in kinds.iter().take(40) {
        eprintln!("{count:4} {line}");
    }
    println!("completed as libvirt does: {equal}/{pairs}");
    assert!(equal >= FLOOR, "{equal} of {pairs}, below {FLOOR}");
}

const GUEST: &str = "<domain type='kvm'><name>a</name><memory unit='GiB'>1</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>\
    <devices><disk type='file'><source file='/a'/><target dev='vda'/></disk><interface type='network'><source network='default'/>\
    <model type='virtio'/></interface></devices></domain>";

#[test]
fn what_was_stated_stays() {
    let stated = domain(GUEST).unwrap();
    let (before, after) = (flattened(&stated), flattened(&complete(&stated)));
    for (path, value) in &before {
        assert_eq!(after.get(path), Some(value), "{path}");
    }
    assert!(after.len() > before.len());
}

#[test]
fn completing_twice_adds_nothing() {
    let once = complete(&domain(GUEST).unwrap());
    assert_eq!(complete(&once), once);
}

#[test]
fn a_guest_with_more_devices_than_pci_holds_is_given_no_places() {
    let disks: String = (0..9000)
        .map(|n| format!("<disk type='file'><source file='/{n}'/><target dev='vd{n}'/></disk>"))
        .collect();
    let text = GUEST.replace("<devices>", &format!("<devices>{disks}"));
    let completed = complete(&domain(&text).unwrap_or_default());
    let devices = completed.devices.unwrap_or_default();
    assert!(devices.disks.iter().all(|disk| disk.address.is_none()));
}
