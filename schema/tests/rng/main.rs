//! libvirt's grammars against the types: every element, attribute and word that a grammar allows is read.
//!
//! In: the RELAX NG grammars of the corpus (see `corpus.rs` for where it lies; without it these tests say so and pass). For every element that can be reached from a
//! document's root a document is made that holds little else, with each of its attributes, with each of their words and a few samples of their types; it must be read without a complaint
//! about that place. What may stand several times is stated twice, and what a type says must be stated must be so in the grammar. Where libvirt's parser is stricter than
//! its grammar, we follow the parser: [`exceptions`] lists these with the reason. Documents made at random of a grammar ([`random`]) are then read whole.

mod exceptions;
mod grammar;
mod random;
mod samples;

use exceptions::{EXCEPTIONS, TOGETHER};
use grammar::{Element, Grammar, Pattern};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vireo_schema::complete::complete;
use vireo_schema::element::{ElementInfo, Shape};
use vireo_schema::{Definition, Kind, Policy, Rule, Source, read, xml};

/// Each kind's grammar.
const GRAMMARS: [(Kind, &str); 10] = [
    (Kind::Domain, "domain.rng"),
    (Kind::Network, "network.rng"),
    (Kind::Pool, "storagepool.rng"),
    (Kind::Volume, "storagevol.rng"),
    (Kind::NwFilter, "nwfilter.rng"),
    (Kind::Secret, "secret.rng"),
    (Kind::DomainSnapshot, "domainsnapshot.rng"),
    (Kind::DomainCheckpoint, "domaincheckpoint.rng"),
    (Kind::NetworkPort, "networkport.rng"),
    (Kind::NwFilterBinding, "nwfilterbinding.rng"),
];

fn schemas() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let stated = std::env::var_os("VIREO_CORPUS").map(PathBuf::from);
    let found = [
        stated,
        Some(root.join("../shared/corpus")),
        Some(root.join("../../shared/corpus")),
    ]
    .into_iter()
    .flatten()
    .map(|corpus| corpus.join("common/schemas"))
    .find(|path| path.is_dir());
    if found.is_none() {
        eprintln!("skipped: no corpus at $VIREO_CORPUS or ../shared/corpus");
    }
    found
}

/// What the grammar allows inside of elements of one name at one place.
#[derive(Default)]
struct Content<'g> {
    attributes: BTreeMap<&'g str, Vec<&'g Pattern>>,
    children: BTreeMap<&'g str, Vec<&'g Element>>,
    /// Children that may stand several times.
    several: BTreeSet<&'g str>,
    texts: Vec<&'g Pattern>,
}

fn collect<'g>(
    grammar: &'g Grammar,
    pattern: &'g Pattern,
    many: bool,
    content: &mut Content<'g>,
) -> Result<(), String> {
    match pattern {
        Pattern::Element(element) => {
            let before = content.children.entry(&element.name).or_default();
            if !before.iter().any(|known| known.id == element.id) {
                before.push(element);
            }
            if many {
                content.several.insert(&element.name);
            }
        }
        Pattern::Attribute { name, value } => {
            content.attributes.entry(name).or_default().push(value);
        }
        Pattern::Choice(all) | Pattern::Group(all) => {
            for one in all {
                collect(grammar, one, many, content)?;
            }
        }
        Pattern::Many(inner, _) => collect(grammar, inner, true, content)?,
        Pattern::Ref(name) => collect(grammar, grammar.define(name)?, many, content)?,
        Pattern::Text | Pattern::Data(_) | Pattern::Value(_) => content.texts.push(pattern),
        Pattern::Empty | Pattern::Never | Pattern::Any => {}
    }
    Ok(())
}

/// Words and samples of what an attribute or text may be.
fn values(grammar: &Grammar, pattern: &Pattern, out: &mut BTreeSet<String>) -> Result<(), String> {
    match pattern {
        Pattern::Value(word) => {
            out.insert(word.clone());
        }
        Pattern::Text => {
            out.insert("text".into());
        }
        Pattern::Data(data) => out.extend(samples::samples(data)),
        Pattern::Choice(all) | Pattern::Group(all) => {
            for one in all {
                values(grammar, one, out)?;
            }
        }
        Pattern::Many(inner, _) => values(grammar, inner, out)?,
        Pattern::Ref(name) => values(grammar, grammar.define(name)?, out)?,
        _ => {}
    }
    Ok(())
}

/// Whether the pattern can be met without an attribute or child of that name.
fn avoidable(grammar: &Grammar, pattern: &Pattern, name: &str) -> Result<bool, String> {
    let each = |all: &[Pattern]| -> Result<Vec<bool>, String> {
        all.iter()
            .map(|one| avoidable(grammar, one, name))
            .collect()
    };
    Ok(match pattern {
        Pattern::Element(element) => element.name != name,
        Pattern::Attribute { name: own, .. } => own != name,
        Pattern::Choice(all) => each(all)?.contains(&true),
        Pattern::Group(all) => !each(all)?.contains(&false),
        Pattern::Many(inner, at_least_once) => !at_least_once || avoidable(grammar, inner, name)?,
        Pattern::Ref(define) => avoidable(grammar, grammar.define(define)?, name)?,
        Pattern::Never => false,
        _ => true,
    })
}

/// Goes through one kind's grammar and types side by side.
struct Walk<'g> {
    grammar: &'g Grammar,
    seen: BTreeSet<(Vec<usize>, &'static str)>,
    places: usize,
    gaps: BTreeMap<String, BTreeSet<String>>,
    excepted: BTreeSet<usize>,
}

/// The inner table of a child, or none where it is only a text.
fn inner(info: &'static ElementInfo, name: &str) -> Option<&'static ElementInfo> {
    info.fields.iter().find_map(|field| match field.shape {
        Shape::Child(inner) | Shape::List(inner) | Shape::Flat(inner) if field.name == name => {
            Some(inner())
        }
        Shape::Many(variants) => variants()
            .iter()
            .find(|variant| variant.name == name)
            .map(|variant| (variant.info)()),
        _ => None,
    })
}

/// A document with these elements one in the other, and in the last what is given, `times` times.
fn document(path: &[&str], attributes: &str, text: &str, times: usize) -> String {
    let mut out = String::new();
    let (last, above) = path.split_last().expect("there is a root");
    for (depth, name) in above.iter().enumerate() {
        let _ = write!(out, "<{name}");
        if depth == 0 {
            declare(&mut out);
        }
        out.push('>');
    }
    for _ in 0..times {
        let _ = write!(out, "<{last}");
        if above.is_empty() {
            declare(&mut out);
        }
        let _ = write!(out, "{attributes}>{text}</{last}>");
    }
    above.iter().rev().for_each(|name| {
        let _ = write!(out, "</{name}>");
    });
    out
}

fn declare(out: &mut String) {
    for (prefix, uri) in xml::NAMESPACES {
        let _ = write!(out, " xmlns:{prefix}='{uri}'");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('\'', "&apos;")
}

/// Whether the rule is on what a grammar says.
fn is_of_shape(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::UnknownElement
            | Rule::UnknownAttribute
            | Rule::BadValue
            | Rule::EmptyValue
            | Rule::UnexpectedText
            | Rule::DuplicateElement
    )
}

/// A diagnostic's path without numbers.
fn plain(path: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

impl<'g> Walk<'g> {
    /// Notes a gap, unless an exception speaks of it.
    fn gap(&mut self, place: String, what: String) {
        let known = EXCEPTIONS
            .iter()
            .position(|exception| exception.covers(&place, &what));
        match known {
            Some(at) => {
                self.excepted.insert(at);
            }
            None => {
                self.gaps.entry(place).or_default().insert(what);
            }
        }
    }

    /// Reads a document, and tells what is said of its shape at `place`.
    fn complaint(&self, text: String, place: &str) -> Option<String> {
        let document = read(&Arc::new(Source::new("sample.xml", text)));
        document
            .problems
            .iter()
            .find(|problem| is_of_shape(problem.rule) && plain(&problem.path) == place)
            .map(|problem| problem.message.clone())
    }

    /// Reads every attribute and text with each of its words and samples.
    fn values(&mut self, path: &[&str], content: &Content<'g>) -> Result<(), String> {
        let place = path.join("/");
        for (name, patterns) in &content.attributes {
            let at = format!("{place}/@{name}");
            let mut texts = BTreeSet::new();
            for pattern in patterns {
                values(self.grammar, pattern, &mut texts)?;
            }
            for text in texts {
                let attribute = format!(" {name}='{}'", escape(&text));
                if let Some(why) = self.complaint(document(path, &attribute, "", 1), &at) {
                    self.gap(at.clone(), why);
                }
            }
        }
        let mut texts = BTreeSet::new();
        for pattern in &content.texts {
            values(self.grammar, pattern, &mut texts)?;
        }
        for text in texts {
            if let Some(why) = self.complaint(document(path, "", &escape(&text), 1), &place) {
                self.gap(place.clone(), why);
            }
        }
        Ok(())
    }

    /// What a type wants stated must be so in the grammar.
    fn musts(
        &mut self,
        place: &str,
        elements: &[&'g Element],
        info: Option<&'static ElementInfo>,
    ) -> Result<(), String> {
        for name in info.map_or(&[][..], |info| info.must) {
            for element in elements {
                if avoidable(self.grammar, &element.content, name)? {
                    self.gap(place.to_owned(), format!("`{name}` may be left out"));
                }
            }
        }
        Ok(())
    }

    /// Goes through an element, and on to those inside.
    fn visit(
        &mut self,
        path: &[&str],
        elements: &[&'g Element],
        info: Option<&'static ElementInfo>,
    ) -> Result<(), String> {
        let mut ids: Vec<usize> = elements.iter().map(|element| element.id).collect();
        ids.sort_unstable();
        if let Some(info) = info
            && !self.seen.insert((ids, info.name))
        {
            return Ok(());
        }
        let mut content = Content::default();
        for element in elements {
            collect(self.grammar, &element.content, false, &mut content)?;
        }
        let place = path.join("/");
        self.places += 1;
        self.values(path, &content)?;
        self.musts(&place, elements, info)?;
        for (name, inside) in &content.children {
            let below: Vec<&str> = path.iter().copied().chain([*name]).collect();
            let at = below.join("/");
            let times = if content.several.contains(name) { 2 } else { 1 };
            let unknown = self.complaint(document(&below, "", "", times), &at);
            match unknown {
                Some(why) if !why.contains("is empty") && !why.starts_with('`') => {
                    self.gap(at, why);
                }
                _ if info.is_some() => {
                    self.visit(&below, inside, info.and_then(|info| inner(info, name)))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[test]
fn everything_that_libvirts_grammars_allow_is_read() {
    let Some(schemas) = schemas() else { return };
    let mut gaps = String::new();
    let mut used = BTreeSet::new();
    for (kind, file) in GRAMMARS {
        let grammar = Grammar::read(&schemas.join(file)).expect("the grammar is one we can read");
        let start = grammar.start();
        let mut roots = Content::default();
        collect(&grammar, &start, false, &mut roots).expect("its names are defined");
        let mut walk = Walk {
            grammar: &grammar,
            seen: BTreeSet::new(),
            places: 0,
            gaps: BTreeMap::new(),
            excepted: BTreeSet::new(),
        };
        let elements = roots.children.get(kind.root()).expect("the kind's root");
        walk.visit(&[kind.root()], elements, Some(kind.info()))
            .expect("its names are defined");
        println!("{kind}: {} elements", walk.places);
        for (place, whys) in walk.gaps {
            for why in whys {
                let _ = writeln!(gaps, "{place}: {why}");
            }
        }
        used.extend(walk.excepted);
    }
    assert!(gaps.is_empty(), "\n{gaps}");
    let idle: Vec<_> = (0..EXCEPTIONS.len())
        .filter(|at| !used.contains(at))
        .map(|at| EXCEPTIONS[at].place)
        .collect();
    assert!(idle.is_empty(), "exceptions without use: {idle:?}");
    let bare = |exception: &&exceptions::Exception| exception.why.is_empty();
    assert!(!EXCEPTIONS.iter().any(|exception| bare(&exception)));
}

/// What came of random documents of one kind.
#[derive(Default)]
struct Tally {
    made: usize,
    accepted: usize,
    /// By rule and place, how many were refused, and one complaint.
    refused: BTreeMap<String, (usize, String)>,
}

/// Whether two documents say the same: only white space around texts, the order of attributes, that of children of different names, and declarations of prefixes may differ.
fn same(first: &str, second: &str) -> bool {
    let strict = |text: &str| {
        let mut tree = xml::read(text, 0).ok()?;
        let declares = |name: &str| name.starts_with("xmlns:");
        tree.attributes.retain(|it| !declares(&it.name));
        Some(tree.to_owned())
    };
    match (strict(first), strict(second)) {
        (Some(first), Some(second)) => first == second,
        _ => false,
    }
}

/// What is wrong with a guest that is completed: completing it again must change nothing, and it must be read as it is written. It may be refused then, where a default that
/// libvirt takes does not go with what is stated.
fn completed_badly(definition: &Definition) -> Option<String> {
    let Definition::Domain(domain) = definition else {
        return None;
    };
    let once = complete(domain);
    if complete(&once) != once {
        return Some("again, it changes".into());
    }
    let whole = Definition::Domain(Box::new(once));
    let written = vireo_schema::to_xml(&whole, &Policy::default());
    let back = read(&Arc::new(Source::new("complete.xml", written)));
    match back.definitions.first() {
        Some(back) if back.definition != whole => Some("it is read as another".into()),
        _ => {
            let shape = back.problems.iter().find(|it| is_of_shape(it.rule));
            shape.map(|it| it.render(&back.source))
        }
    }
}

/// Reads a random document: a complaint about its shape must be an exception's, and what is accepted comes back equal through XML and through YAML.
fn try_random(text: &str, seed: u64, tally: &mut Tally, wrong: &mut Vec<String>) {
    let source = Arc::new(Source::new("random.xml", text));
    let document = read(&source);
    tally.made += 1;
    for problem in &document.problems {
        let place = plain(&problem.path);
        let about = || problem.render(&source);
        let entry = tally.refused.entry(format!("{} {place}", problem.rule));
        entry.or_insert_with(|| (0, about())).0 += 1;
        if is_of_shape(problem.rule)
            && !EXCEPTIONS
                .iter()
                .chain(TOGETHER)
                .any(|it| it.covers(&place, &problem.message))
        {
            wrong.push(format!("seed {seed}: {}", about()));
        }
    }
    let [only] = document.definitions.as_slice() else {
        return;
    };
    tally.accepted += 1;
    let written = vireo_schema::to_xml(&only.definition, &only.policy);
    if !same(text, &written) {
        wrong.push(format!("seed {seed}: XML:\n{text}\n{written}"));
    }
    if let Some(why) = completed_badly(&only.definition) {
        wrong.push(format!("seed {seed}: completed: {why}\n{text}"));
    }
    let yaml = vireo_schema::to_yaml(&only.definition, &only.policy);
    let back = read(&Arc::new(Source::new("random.yaml", yaml.as_str())));
    let again = back.definitions.first();
    let again = again.map(|one| vireo_schema::to_xml(&one.definition, &one.policy));
    if !again.is_some_and(|again| same(&written, &again)) {
        let why = back
            .problems
            .first()
            .map(|problem| problem.render(&back.source));
        wrong.push(format!("seed {seed}: YAML: {why:?}\n{written}\n{yaml}"));
    }
}

/// The elements of that name inside of others; all where it is empty.
fn within<'g>(grammar: &'g Grammar, elements: &[&'g Element], name: &str) -> Vec<&'g Element> {
    let mut content = Content::default();
    for element in elements {
        collect(grammar, &element.content, false, &mut content).expect("its names are defined");
    }
    let named = content
        .children
        .into_iter()
        .filter(|(own, _)| name.is_empty() || *own == name);
    named.flat_map(|(_, elements)| elements).collect()
}

/// `VIREO_RANDOM_DOCUMENTS` makes that many of each kind, of other seeds, and prints why which were refused.
#[test]
fn random_documents_of_the_grammars_are_read_and_come_back_equal() {
    let Some(schemas) = schemas() else { return };
    let asked = std::env::var("VIREO_RANDOM_DOCUMENTS");
    let asked: Option<u64> = asked.ok().and_then(|asked| asked.parse().ok());
    let mut wrong = Vec::new();
    for (kind, file) in GRAMMARS {
        let grammar = Grammar::read(&schemas.join(file)).expect("the grammar is one we can read");
        let start = grammar.start();
        let mut roots = Content::default();
        collect(&grammar, &start, false, &mut roots).expect("its names are defined");
        let root = roots.children.get(kind.root()).expect("the kind's root");
        let devices = match kind {
            Kind::Domain => within(&grammar, &within(&grammar, root, "devices"), ""),
            _ => Vec::new(),
        };
        let mut tally = Tally::default();
        let first = if asked.is_some() { 1 << 32 } else { 0 };
        for seed in first..first + asked.unwrap_or(150) {
            let mut maker = random::Maker::new(&grammar, seed);
            let device = devices
                .get(usize::try_from(seed).unwrap_or(0) % (devices.len() + devices.len() / 8 + 1));
            let made = match device {
                Some(device) => maker.guest_with(device),
                None => maker.document(root[0]),
            };
            if let Some(text) = made {
                try_random(&text, seed, &mut tally, &mut wrong);
            }
        }
        println!("{kind}: {} accepted of {}", tally.accepted, tally.made);
        assert!(tally.made > 0, "{kind}: none was made");
        let mut refused: Vec<_> = tally.refused.into_iter().collect();
        refused.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        if asked.is_some() {
            for (what, (count, one)) in refused {
                println!("  {count} {what}\n{one}");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
