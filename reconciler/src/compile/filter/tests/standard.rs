//! Documents: the standard filters, and whatever a corpus holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vireo_schema::source::Source;
use vireo_schema::{Definition, read};

use super::super::lower;
use super::*;

/// The filters of a directory, by name.
pub fn filters_in(directory: &Path) -> BTreeMap<String, Filter> {
    let mut out = BTreeMap::new();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "xml"))
        .collect();
    paths.sort();
    for path in paths {
        for filter in filters_of(&path) {
            out.insert(filter.name.clone(), filter);
        }
    }
    out
}

/// The filters of one file; none where it has problems.
pub fn filters_of(path: &Path) -> Vec<Filter> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let document = read(&Arc::new(Source::new(path, text)));
    document
        .definitions
        .iter()
        .filter_map(|located| match &located.definition {
            Definition::NwFilter(filter) => Some(lower::filter(filter)),
            _ => None,
        })
        .collect()
}

/// The repository's own.
pub fn standard() -> BTreeMap<String, Filter> {
    filters_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../desired-state/nwfilter"))
}

/// An interface with a value for every variable that the standard filters know.
pub fn full_binding(name: &str) -> Binding {
    binding(
        name,
        &[
            ("IP", &["192.168.122.10", "192.168.122.11"]),
            ("IPV6", &["2001:db8::10"]),
            ("DHCPSERVER", &["192.168.122.1"]),
            ("GATEWAY_MAC", &["52:54:00:00:00:fe"]),
        ],
    )
}

fn corpus() -> Option<PathBuf> {
    let path = std::env::var_os("VIREO_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"),
        PathBuf::from,
    );
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: no corpus at {}", path.display());
    None
}

#[test]
fn the_standard_filters_compile_as_they_always_have() {
    let filters = standard();
    assert_eq!(filters.len(), 24);
    let mut all = Vec::new();
    for name in filters.keys() {
        let mut binding = full_binding(name);
        if name.starts_with("allow-dhcpv6") {
            let server = vec!["fe80::1".to_owned()];
            binding
                .reference
                .parameters
                .insert("DHCPSERVER".to_owned(), server);
        }
        let compiled = compile(&filters, &binding, Features::ALL).expect("compiles");
        insta::assert_snapshot!(name.as_str(), listing(&compiled));
        all.push(compiled);
    }
    let Some(_) = real::features() else { return };
    for compiled in &all {
        if let Err(said) = real::accepted(&real::script(&[compiled])) {
            panic!("nft refuses: {said}");
        }
    }
}

#[test]
fn filters_of_the_corpus_compile_and_nft_takes_them() {
    let Some(corpus) = corpus() else { return };
    let Some(features) = real::features() else {
        return;
    };
    let parameters: &[(&str, &[&str])] = &[
        ("A", &["1.1.1.1", "2.2.2.2", "3.3.3.3", "3.3.3.3"]),
        ("B", &["80", "90", "80", "80"]),
        ("C", &["1080", "1090", "1100", "1110"]),
        ("IP", &["10.0.0.2"]),
        ("IPV6", &["fe80::2"]),
        ("DHCPSERVER", &["10.0.0.1"]),
        ("GATEWAY_MAC", &["52:54:00:00:00:fe"]),
        ("IPSETNAME", &["tck_test"]),
    ];
    let (mut took, mut refused) = (0, Vec::new());
    for directory in [
        "seeds",
        "common/nwfilter-builtin",
        "dev/nwfilter-xml",
        "dev/nwfilter-firewall",
    ] {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(corpus.join(directory))
            .expect("the corpus's own directory")
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "xml"))
            .collect();
        paths.sort();
        for path in paths {
            for filter in filters_of(&path) {
                let mut filters = standard();
                let binding = binding(&filter.name, parameters);
                filters.insert(filter.name.clone(), filter);
                let whole = compile(&filters, &binding, Features::ALL);
                let here = compile(&filters, &binding, features);
                match (whole, here) {
                    (Err(error), _) => refused.push(format!("{}: {error}", path.display())),
                    (Ok(_), Err(error)) => {
                        let lacking = matches!(*error.problem, Problem::MissingFeature { .. });
                        assert!(lacking, "{}: {error}", path.display());
                        println!("not judged here: {}: {error}", path.display());
                    }
                    (Ok(_), Ok(compiled)) => {
                        if let Err(said) = real::accepted(&real::script(&[&compiled])) {
                            panic!("{}: nft refuses: {said}", path.display());
                        }
                        took += 1;
                    }
                }
            }
        }
    }
    println!(
        "nft took {took}; refused with a reason:\n{}",
        refused.join("\n")
    );
    assert!(took > 10);
}

#[test]
fn what_is_watched_by_default_has_no_problems() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../desired-state");
    let mut documents = Vec::new();
    for kind in ["network", "nwfilter", "pool"] {
        for entry in std::fs::read_dir(root.join(kind)).expect("the repository's own directory") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a file");
            documents.push(read(&Arc::new(Source::new(path, text))));
        }
    }
    assert_eq!(documents.len(), 26);
    let alone: Vec<_> = documents.iter().flat_map(|d| &d.problems).collect();
    assert!(alone.is_empty(), "{alone:?}");
    let together = vireo_schema::check(&documents);
    assert!(together.is_empty(), "{together:?}");
}
