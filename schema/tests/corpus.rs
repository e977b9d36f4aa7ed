//! libvirt's own test documents, read, written as XML and YAML, and read again.
//!
//! The corpus lies at `$VIREO_CORPUS`, or at `../shared/corpus` beside the workspace; without it these tests say so and pass. Each floor below is what the
//! crate reached: a change may raise it, never lower it. `VIREO_CORPUS_SHOW=1` prints every document that is not accepted, with the first complaint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vireo_schema::{Document, Source, read, xml};

fn corpus() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let stated = std::env::var_os("VIREO_CORPUS").map(PathBuf::from);
    let found = [
        stated,
        Some(root.join("../shared/corpus")),
        Some(root.join("../../shared/corpus")),
    ]
    .into_iter()
    .flatten()
    .find(|path| path.is_dir());
    if found.is_none() {
        eprintln!("skipped: no corpus at $VIREO_CORPUS or ../shared/corpus");
    }
    found
}

fn documents(folder: &Path) -> Vec<Arc<Source>> {
    let mut out = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return out;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "xml")
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            out.push(Arc::new(Source::new(path, text)));
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out
}

/// Whether two documents say the same in the same words: only white space between elements and around texts, the order of attributes, and the order of
/// children of different names may differ.
///
/// One thing is written otherwise than it was, as libvirt's own formatting does: a document declares the prefixes of the namespaces that it uses, under their customary names,
/// and no others.
fn same(first: &str, second: &str) -> bool {
    let strict = |text: &str| {
        let mut tree = xml::read(text, 0).ok()?;
        tree.attributes
            .retain(|attribute| !attribute.name.starts_with("xmlns:"));
        Some(tree.to_owned())
    };
    match (strict(first), strict(second)) {
        (Some(first), Some(second)) => first == second,
        _ => false,
    }
}

/// Whether the document comes back equal through XML, and through YAML.
fn round_trips(source: &Source, document: &Document) -> (bool, bool) {
    let ([only], true) = (document.definitions.as_slice(), document.is_whole()) else {
        return (false, false);
    };
    let written = vireo_schema::to_xml(&only.definition, &only.policy);
    let as_yaml = vireo_schema::to_yaml(&only.definition, &only.policy);
    let back = read(&Arc::new(Source::new("x.yaml", as_yaml.clone())));
    let through = back
        .definitions
        .first()
        .map(|located| vireo_schema::to_xml(&located.definition, &located.policy));
    let xml_equal = same(&source.text, &written);
    let yaml_equal = through
        .as_deref()
        .is_some_and(|through| same(&written, through));
    if std::env::var_os("VIREO_CORPUS_SHOW").is_some() && !(xml_equal && yaml_equal) {
        let complaint = back
            .problems
            .first()
            .map(|problem| problem.render(&back.source))
            .unwrap_or_default();
        eprintln!(
            "{}: xml {xml_equal}, yaml {yaml_equal}: {complaint}",
            source.path.display()
        );
    }
    (xml_equal, yaml_equal)
}

#[test]
fn every_seed_but_the_wrong_one_comes_back_equal() {
    let Some(corpus) = corpus() else { return };
    let seeds = documents(&corpus.join("seeds"));
    assert!(seeds.len() > 10, "the seeds are there");
    for source in seeds
        .iter()
        .filter(|source| !source.path.ends_with("pool-nfspool-wrong-type.xml"))
    {
        let document = read(source);
        let complaints: Vec<String> = document
            .problems
            .iter()
            .map(|problem| problem.render(source))
            .collect();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
        assert_eq!(
            round_trips(source, &document),
            (true, true),
            "{}",
            source.path.display()
        );
    }
}

#[test]
fn the_wrong_seed_is_refused_and_netfs_offered() {
    let Some(corpus) = corpus() else { return };
    let path = corpus.join("seeds/pool-nfspool-wrong-type.xml");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let source = Arc::new(Source::new("pool-nfspool-wrong-type.xml", text));
    let document = read(&source);
    assert!(document.definitions.is_empty());
    let shown: Vec<String> = document
        .problems
        .iter()
        .map(|problem| problem.render(&source))
        .collect();
    let shown = shown.join("\n");
    assert!(
        shown.starts_with("pool-nfspool-wrong-type.xml:1:13:"),
        "{shown}"
    );
    assert!(shown.contains("netfs"), "{shown}");
}

#[derive(Default)]
struct Tally {
    valid: usize,
    accepted: usize,
    xml: usize,
    yaml: usize,
    invalid: usize,
    refused: usize,
}

/// Per kind: the folders, and floors in documents: accepted, XML round trip, YAML round trip, invalid refused.
const FLOORS: &[(&str, &[&str], [usize; 4])] = &[
    (
        "domain",
        &[
            "domain",
            "domain-generic",
            "domain-invalid",
            "domain-generic-invalid",
        ],
        [854, 854, 854, 85],
    ),
    (
        "network",
        &[
            "network-xml",
            "network-conf",
            "network-firewall",
            "network-invalid",
        ],
        [53, 53, 53, 2],
    ),
    (
        "nwfilter",
        &["nwfilter-xml", "nwfilter-firewall", "nwfilter-invalid"],
        [43, 43, 43, 14],
    ),
    ("pool", &["pool-xml", "pool-argv"], [43, 43, 43, 0]),
    ("volume", &["vol-xml", "vol-argv"], [35, 35, 35, 0]),
    ("secret", &["secret-xml"], [3, 3, 3, 0]),
    (
        "domainsnapshot",
        &["snapshot-xml", "snapshot-redefine"],
        [17, 17, 17, 2],
    ),
];

#[test]
fn libvirts_own_documents_are_read_and_come_back_equal() {
    let Some(corpus) = corpus() else { return };
    let marked = std::fs::read_to_string(corpus.join("dev/INVALID.tsv")).unwrap_or_default();
    let marked: Vec<&str> = marked
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(_, why)| why.starts_with("parse-error"))
        .map(|(name, _)| name)
        .collect();
    let show = std::env::var_os("VIREO_CORPUS_SHOW").is_some();
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for (kind, folders, _) in FLOORS {
        let tally = tallies.entry(kind).or_default();
        for source in folders
            .iter()
            .flat_map(|folder| documents(&corpus.join("dev").join(folder)))
        {
            let name = source
                .path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("")
                .to_owned();
            let folder_invalid = source
                .path
                .parent()
                .and_then(|path| path.to_str())
                .is_some_and(|path| path.ends_with("-invalid"));
            let document = read(&source);
            if document
                .problems
                .iter()
                .any(|problem| problem.rule == vireo_schema::Rule::UnknownDocument)
            {
                continue;
            }
            let accepted = document.definitions.len() == 1 && document.problems.is_empty();
            // Some that libvirt refuses say so by their names only.
            let invalid = marked.contains(&name.as_str())
                || matches!(*kind, "domainsnapshot" | "nwfilter") && name.ends_with("-invalid.xml");
            if folder_invalid && !invalid {
                continue; // libvirt parses these, and fails to start them on the host of its tests
            }
            if invalid {
                tally.invalid += 1;
                tally.refused += usize::from(!accepted);
                if show && accepted {
                    eprintln!("accepted though marked invalid: {}", source.path.display());
                }
                continue;
            }
            tally.valid += 1;
            tally.accepted += usize::from(accepted);
            let (xml_equal, yaml_equal) = round_trips(&source, &document);
            tally.xml += usize::from(xml_equal);
            tally.yaml += usize::from(yaml_equal);
            if show && !accepted {
                for problem in document.problems.iter().take(3) {
                    eprintln!("{}", problem.render(&source));
                }
            }
        }
    }
    let mut below = Vec::new();
    for (kind, _, [accepted, xml_equal, yaml_equal, refused]) in FLOORS {
        let Some(t) = tallies.get(kind) else { continue };
        println!(
            "{kind:<14} accepted {}/{}, strictly equal through XML {}, through YAML {}, invalid refused {}/{}",
            t.accepted, t.valid, t.xml, t.yaml, t.refused, t.invalid
        );
        for (what, is, floor) in [
            ("accepted", t.accepted, *accepted),
            ("xml", t.xml, *xml_equal),
            ("yaml", t.yaml, *yaml_equal),
            ("refused", t.refused, *refused),
        ] {
            if is < floor {
                below.push(format!("{kind} {what}: {is}, below {floor}"));
            }
        }
    }
    assert!(below.is_empty(), "{}", below.join("\n"));
}

#[test]
fn a_folder_in_one_file_comes_back_equal_in_every_style() {
    let Some(corpus) = corpus() else { return };
    for folder in FLOORS.iter().flat_map(|(_, folders, _)| *folders) {
        let sources = documents(&corpus.join("dev").join(folder));
        let all: Vec<_> = sources
            .iter()
            .flat_map(|source| read(source).definitions)
            .collect();
        for write in [vireo_schema::to_yaml, vireo_schema::to_long_yaml] {
            let texts: Vec<String> = all
                .iter()
                .map(|one| write(&one.definition, &one.policy))
                .collect();
            let back = read(&Arc::new(Source::new("all.yaml", texts.join("---\n"))));
            assert!(back.is_whole(), "{folder}: {:?}", back.problems.first());
            assert_eq!(back.definitions.len(), all.len(), "{folder}");
            for (one, back) in all.iter().zip(&back.definitions) {
                let path = one.source.path.display();
                assert_eq!(one.definition, back.definition, "{path}");
                assert_eq!(one.policy, back.policy, "{path}");
            }
        }
    }
}

#[test]
fn every_document_that_is_tidied_still_reads_and_tidying_again_changes_nothing() {
    let Some(corpus) = corpus() else { return };
    let mut failures = Vec::new();
    for folder in [
        "domain",
        "network-xml",
        "pool-xml",
        "vol-xml",
        "nwfilter-xml",
        "secret-xml",
    ] {
        for source in documents(&corpus.join("dev").join(folder)) {
            if !read(&source).is_whole() {
                continue;
            }
            let tidied = |text: &str| {
                let mut tree = xml::read(text, 0).expect("it was read before");
                vireo_schema::tidy::tidy(&mut tree, vireo_schema::tidy::Keep::default());
                xml::write(&tree)
            };
            let defined = |text: &str| {
                let document = read(&Arc::new(Source::new("tidied.xml", text)));
                let definition = document.definitions.first();
                definition.map(|located| located.definition.clone())
            };
            let once = tidied(&source.text);
            let definition = defined(&once);
            if definition.is_none() || definition != defined(&tidied(&once)) {
                failures.push(source.path.display().to_string());
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
