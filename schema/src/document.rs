//! From a file's text to definitions.
//!
//! In: a [`Source`]. Out: a [`Document`] with the definitions that are whole, what could be learned of those that are not, and every problem found.
//! Reading never fails, and goes on after an error wherever the text allows: a definition with a problem does not hide its neighbours' problems.

use crate::check;
use crate::definition::{Definition, Kind};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::element::{Decoder, Element as _};
use crate::policy::Policy;
use crate::rule::Rule;
use crate::scalar::Scalar;
use crate::shape::{self, Shaper};
use crate::source::{Source, Span};
use crate::tree::Element as Tree;
use crate::xml;
use crate::yaml::{self, Entry, Node, Value};
use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

/// What one file holds.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file.
    pub source: Arc<Source>,
    /// The definitions without problems.
    pub definitions: Vec<Located>,
    /// What is known of the definitions with problems, so that their objects can be held.
    pub broken: Vec<Broken>,
    /// Everything that is wrong.
    pub problems: Vec<Diagnostic>,
}

/// A definition with its provenance.
#[derive(Debug, Clone)]
pub struct Located {
    /// What is defined.
    pub definition: Definition,
    /// How it is wanted.
    pub policy: Policy,
    /// The file.
    pub source: Arc<Source>,
    /// Where in the file.
    pub span: Span,
    /// Where each stated field is.
    pub spans: SpanTable,
}

/// What is known of a definition with problems.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    /// Its kind, if that much can be read.
    pub kind: Option<Kind>,
    /// Its name as [`Definition::name`], if that can be read.
    pub name: Option<String>,
    /// The uuid it states, if that can be read.
    pub uuid: Option<Uuid>,
    /// Where in the file.
    pub span: Span,
}

/// Where each stated field of a definition is; made from the text when it is first asked for, once for all definitions of a file.
#[derive(Debug, Clone)]
pub struct SpanTable {
    file: Arc<Trees>,
    index: usize,
}

/// A file's text, and the trees of its definitions with their policies.
#[derive(Debug)]
struct Trees {
    source: Arc<Source>,
    trees: OnceLock<Vec<(Tree<'static>, Option<Tree<'static>>)>>,
}

impl Trees {
    fn get(&self, index: usize) -> Option<&(Tree<'static>, Option<Tree<'static>>)> {
        let read = || {
            let (raws, _) = raw_definitions(&self.source);
            let owned = |raw: Raw<'_>| {
                (
                    raw.tree.to_owned(),
                    raw.policy.map(|policy| policy.to_owned()),
                )
            };
            raws.into_iter().map(owned).collect()
        };
        self.trees.get_or_init(read).get(index)
    }
}

/// One element or attribute that a definition states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// Its path below the root, as [`SpanTable::get`] takes it: `devices/disk[2]/source/@file`.
    pub path: String,
    /// The same without numbers: `devices/disk/source/@file`.
    pub shape: String,
    /// Where it is.
    pub span: Span,
    /// An attribute's value, or an element's own text where it has any.
    pub value: Option<String>,
}

fn stated_in(element: &Tree<'_>, path: &str, shape: &str, stated: &mut Vec<Stated>) {
    let join = |prefix: &str, name: &str| match prefix {
        "" => name.to_owned(),
        _ => format!("{prefix}/{name}"),
    };
    for attribute in &element.attributes {
        let name = format!("@{}", attribute.name);
        stated.push(Stated {
            path: join(path, &name),
            shape: join(shape, &name),
            span: attribute.value_span,
            value: Some(attribute.value.to_string()),
        });
    }
    let mut seen: Vec<(&str, usize)> = Vec::new();
    for child in &element.children {
        let number = match seen.iter_mut().find(|(name, _)| *name == child.name) {
            Some((_, number)) => {
                *number += 1;
                *number
            }
            None => {
                seen.push((&child.name, 1));
                1
            }
        };
        let numbered = match number {
            1 => child.name.to_string(),
            _ => format!("{}[{number}]", child.name),
        };
        let (path, shape) = (join(path, &numbered), join(shape, &child.name));
        let text = child.text.as_deref().map(str::trim);
        stated.push(Stated {
            path: path.clone(),
            shape: shape.clone(),
            span: child.span,
            value: text.filter(|text| !text.is_empty()).map(str::to_owned),
        });
        stated_in(child, &path, &shape, stated);
    }
}

impl SpanTable {
    /// The text.
    pub fn source(&self) -> &Arc<Source> {
        &self.file.source
    }

    /// The place of the element (its start tag, or its key in YAML) or attribute (its value) at a path such as `domain/devices/disk[2]/source/@file`, the
    /// form that diagnostics use. The root's name may be left out; an element without a number is the first of its name.
    pub fn get(&self, path: &str) -> Option<Span> {
        self.find(path).0
    }

    /// The place of a path, or of the closest element around it that is stated.
    pub fn nearest(&self, path: &str) -> Span {
        self.find(path).1
    }

    /// Every element and attribute that is stated, in the order of the document.
    pub fn all(&self) -> Vec<Stated> {
        let mut stated = Vec::new();
        if let Some((tree, _)) = self.file.get(self.index) {
            stated_in(tree, "", "", &mut stated);
        }
        stated
    }

    fn find(&self, path: &str) -> (Option<Span>, Span) {
        let Some((tree, policy)) = self.file.get(self.index) else {
            return (None, Span::default());
        };
        let mut element = tree;
        let mut steps = path.split('/').filter(|step| !step.is_empty()).peekable();
        steps.next_if(|first| *first == tree.name);
        if steps.next_if_eq(&"policy").is_some() {
            let Some(policy) = policy else {
                return (None, element.span);
            };
            element = policy;
        }
        for step in steps {
            if let Some(name) = step.strip_prefix('@') {
                let attribute = element
                    .attribute(name)
                    .map(|attribute| attribute.value_span);
                return (attribute, attribute.unwrap_or(element.span));
            }
            let (name, number) = step
                .strip_suffix(']')
                .and_then(|step| step.split_once('['))
                .unwrap_or((step, "1"));
            let number: usize = number.parse().unwrap_or(1);
            match element.children_named(name).nth(number.saturating_sub(1)) {
                Some(child) => element = child,
                None => return (None, element.span),
            }
        }
        (Some(element.span), element.span)
    }
}

impl Document {
    /// What stands for a file whose text cannot be had: one problem, and one definition of which nothing is known.
    pub fn unreadable(path: &Path, why: &str) -> Self {
        let problem = Diagnostic::new(
            Rule::Unreadable,
            Span::default(),
            format!("{} {why}", path.display()),
        );
        let broken = Broken {
            kind: None,
            name: None,
            uuid: None,
            span: Span::default(),
        };
        Self {
            source: Arc::new(Source::new(path, "")),
            definitions: Vec::new(),
            broken: vec![broken],
            problems: vec![problem],
        }
    }

    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Reads a file: XML or YAML by its name's ending (`.xml`, `.yaml`, `.yml`, `.json`), else by its first character.
pub fn read(source: &Arc<Source>) -> Document {
    let (raws, mut problems) = raw_definitions(source);
    let file = Arc::new(Trees {
        source: source.clone(),
        trees: OnceLock::new(),
    });
    let mut definitions = Vec::new();
    let mut broken = Vec::new();
    if raws.is_empty() && !problems.is_empty() {
        broken.push(Broken {
            kind: None,
            name: None,
            uuid: None,
            span: Span::default(),
        });
    }
    for (index, raw) in raws.iter().enumerate() {
        let mut decoder = Decoder::new(raw.kind.root());
        decoder.problems.clone_from(&raw.problems);
        let definition = Definition::decode(raw.kind, &mut decoder, &raw.tree);
        let policy = raw.policy.as_ref().map(|policy| {
            let mut inner = Decoder::new("policy");
            let read = Policy::decode(&mut inner, policy);
            decoder.problems.append(&mut inner.problems);
            decoder.more += inner.more;
            read
        });
        let spans = SpanTable {
            file: file.clone(),
            index,
        };
        let located = Located {
            definition,
            policy: policy.unwrap_or_default(),
            source: source.clone(),
            span: raw.span,
            spans,
        };
        if decoder.problems.is_empty() {
            decoder.problems = check::one(&located);
        } else if decoder.more > 0 {
            decoder
                .problems
                .push(Diagnostic::more(decoder.more, raw.span));
        }
        if decoder.problems.is_empty() {
            definitions.push(located);
        } else {
            let name = Some(located.definition.name()).filter(|name| !name.is_empty());
            broken.push(Broken {
                kind: Some(raw.kind),
                name,
                uuid: located.definition.stated_uuid(),
                span: raw.span,
            });
            problems.append(&mut decoder.problems);
        }
    }
    problems.sort_by_key(|problem| problem.span);
    Document {
        source: source.clone(),
        definitions,
        broken,
        problems,
    }
}

/// A definition's tree before it is decoded.
struct Raw<'a> {
    kind: Kind,
    tree: Tree<'a>,
    policy: Option<Tree<'a>>,
    span: Span,
    problems: Vec<Diagnostic>,
}

fn raw_definitions(source: &Source) -> (Vec<Raw<'_>>, Vec<Diagnostic>) {
    let ending = source
        .path
        .extension()
        .and_then(|ending| ending.to_str())
        .unwrap_or("");
    let is_xml = match ending {
        "xml" => true,
        "yaml" | "yml" | "json" => false,
        _ => source
            .text
            .trim_start_matches('\u{feff}')
            .trim_start()
            .starts_with('<'),
    };
    if is_xml {
        from_xml(source)
    } else {
        from_yaml(source)
    }
}

fn from_xml(source: &Source) -> (Vec<Raw<'_>>, Vec<Diagnostic>) {
    let mut tree = match xml::read(&source.text, 0) {
        Ok(tree) => tree,
        Err(problem) => return (Vec::new(), vec![problem]),
    };
    let Some(kind) = Kind::from_root(&tree.name) else {
        let roots = || Kind::ALL.iter().map(|kind| kind.root());
        let near = did_you_mean(&tree.name, roots())
            .map(|near| format!("did you mean <{near}>? "))
            .unwrap_or_default();
        let known = crate::diagnostic::one_of(roots(), 16);
        let problem = Diagnostic::new(
            Rule::UnknownDocument,
            tree.span,
            format!("<{}> is not a definition", tree.name),
        )
        .with_help(format!("{near}known: {known}"));
        return (Vec::new(), vec![problem]);
    };
    let span = tree.whole;
    let mut raw = Raw {
        kind,
        policy: take_policy(&mut tree),
        tree,
        span,
        problems: Vec::new(),
    };
    join_pool(&mut raw);
    (vec![raw], Vec::new())
}

/// The policy of an XML document, taken out of its metadata (or from directly inside its root).
fn take_policy<'a>(tree: &mut Tree<'a>) -> Option<Tree<'a>> {
    if let Some(at) = tree
        .children
        .iter()
        .position(|child| child.name == "vireo:policy")
    {
        return Some(tree.children.remove(at));
    }
    let at = tree
        .children
        .iter()
        .position(|child| child.name == "metadata")?;
    let metadata = tree.children.get_mut(at)?;
    let inner = metadata
        .children
        .iter()
        .position(|child| child.name == "vireo:policy")?;
    let policy = metadata.children.remove(inner);
    if metadata.is_bare() {
        tree.children.remove(at);
    }
    Some(policy)
}

/// A volume's pool stands in the policy (XML) or beside its name (YAML): afterwards in both.
fn join_pool(raw: &mut Raw<'_>) {
    if raw.kind != Kind::Volume {
        return;
    }
    let stated = raw
        .policy
        .as_ref()
        .and_then(|policy| policy.attribute("pool"))
        .cloned();
    let beside = raw.tree.attribute("vireo:pool").cloned();
    match (stated, beside) {
        (Some(stated), None) => raw.tree.set("vireo:pool", stated.value, stated.value_span),
        (None, Some(beside)) => raw
            .policy
            .get_or_insert_with(|| Tree::new("policy", beside.value_span))
            .set("pool", beside.value, beside.value_span),
        (Some(stated), Some(beside)) if stated.value != beside.value => {
            let message = format!(
                "the pool is `{}` here and `{}` in the policy",
                beside.value, stated.value
            );
            raw.problems
                .push(Diagnostic::new(Rule::StatedTwice, beside.value_span, message).at("volume"));
        }
        _ => {}
    }
}

fn from_yaml(source: &Source) -> (Vec<Raw<'_>>, Vec<Diagnostic>) {
    let (nodes, broken) = yaml::read(&source.text);
    let mut problems: Vec<Diagnostic> = broken.into_iter().collect();
    let mut out = Vec::new();
    for node in &nodes {
        match &node.value {
            Value::List(items) => items
                .iter()
                .for_each(|item| one_yaml(item, &mut out, &mut problems)),
            Value::Null => {}
            _ => one_yaml(node, &mut out, &mut problems),
        }
    }
    (out, problems)
}

fn one_yaml<'a>(node: &Node<'a>, out: &mut Vec<Raw<'a>>, problems: &mut Vec<Diagnostic>) {
    let Some(entries) = node.entries() else {
        let problem = Diagnostic::new(
            Rule::YamlShape,
            node.span,
            format!("a definition is a mapping, not {}", node.what()),
        );
        problems.push(problem.with_help("begin with its kind and name, such as `domain: web`"));
        return;
    };
    let kinds: Vec<(Kind, &Entry<'a>)> = entries
        .iter()
        .filter_map(|entry| Some((Kind::from_key(&entry.key)?, entry)))
        .collect();
    // A volume has a key `pool`, a snapshot a key `domain`: the kind is the one that has the others as fields.
    let has_the_others = |kind: Kind| {
        let mut others = kinds.iter().filter(|(other, _)| *other != kind);
        others.all(|(_, entry)| shape::knows(kind.info(), &entry.key))
    };
    let chosen = kinds
        .iter()
        .find(|(kind, _)| has_the_others(*kind))
        .or_else(|| kinds.first());
    let named = entries.iter().find(|entry| entry.key == "kind");
    match (named, chosen) {
        (Some(entry), _) => match scalar_of(&entry.node).and_then(Kind::from_key) {
            Some(kind) => out.push(yaml_definition(kind, entry, None, node, entries)),
            None => problems.push(unknown_kind(
                entry.node.span,
                "the value of `kind` is none that is known",
            )),
        },
        (None, Some((kind, entry))) => out.push(yaml_definition(
            *kind,
            entry,
            Some(&entry.node),
            node,
            entries,
        )),
        (None, None) => {
            let at = entries.first().map_or(node.span, |entry| entry.key_span);
            problems.push(unknown_kind(at, "no key says what is defined"));
        }
    }
}

fn scalar_of<'n>(node: &'n Node<'_>) -> Option<&'n str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn unknown_kind(span: Span, message: &str) -> Diagnostic {
    let known = crate::diagnostic::one_of(Kind::ALL.iter().map(|kind| kind.as_str()), 16);
    Diagnostic::new(Rule::UnknownDocument, span, message).with_help(format!(
        "begin with one of {known} and the name, such as `domain: web`"
    ))
}

/// One definition: `head` is the entry that tells the kind, `named` its value where that is the name or the long form.
fn yaml_definition<'a>(
    kind: Kind,
    head: &Entry<'a>,
    named: Option<&Node<'a>>,
    node: &Node<'a>,
    entries: &[Entry<'a>],
) -> Raw<'a> {
    let mut shaper = Shaper::new(kind.root());
    let mut tree = Tree::new(kind.root(), head.key_span);
    let mut policy = None;
    let mut rest: Vec<Entry<'a>> = entries
        .iter()
        .filter(|entry| entry.key != head.key)
        .cloned()
        .collect();
    match named.map(|named| &named.value) {
        Some(Value::Map(inner)) => {
            for entry in rest.iter().filter(|entry| entry.key != "policy") {
                let problem = Diagnostic::new(
                    Rule::UnknownKey,
                    entry.key_span,
                    format!(
                        "`{}` stands beside a definition in the long form",
                        entry.key
                    ),
                );
                shaper.problems.push(problem.with_help(format!("put it inside of `{}`, or give `{0}` the name alone and write the fields beside it", head.key)).at(kind.root()));
            }
            rest.retain(|entry| entry.key == "policy");
            rest.extend(inner.iter().cloned());
        }
        Some(Value::Scalar { text, .. }) => put_name(&mut tree, kind, text.clone(), head),
        Some(Value::List(_)) => {
            let message = format!(
                "`{}` takes a single value, or a mapping of all fields",
                head.key
            );
            let problem = Diagnostic::new(crate::rule::Rule::YamlShape, head.node.span, message);
            shaper.problems.push(problem.at(kind.root()));
        }
        Some(Value::Null) | None => {}
    }
    if let Some(at) = rest.iter().position(|entry| entry.key == "policy") {
        let entry = rest.remove(at);
        let mut inner = Shaper::new("policy");
        policy = inner.element("policy", Policy::info(), entry.key_span, &entry.node);
        shaper.problems.append(&mut inner.problems);
    }
    shaper.fill(&mut tree, kind.info(), &rest);
    let mut raw = Raw {
        kind,
        tree,
        policy,
        span: node.span,
        problems: shaper.problems,
    };
    join_pool(&mut raw);
    raw
}

/// `domain: web`, `volume: images/web.qcow2`, `secret: UUID`, `nwfilterbinding: vnet0`.
fn put_name<'a>(tree: &mut Tree<'a>, kind: Kind, text: Cow<'a, str>, head: &Entry<'a>) {
    let span = head.node.span;
    let leaf = |name: &'static str, text: Cow<'a, str>| {
        let mut child = Tree::new(name, head.key_span);
        child.text = Some(text);
        child.text_span = span;
        child
    };
    match kind {
        Kind::NwFilter => tree.set("name", text, span),
        Kind::Secret | Kind::NetworkPort => tree.children.push(leaf("uuid", text)),
        Kind::NwFilterBinding => {
            let mut tap = Tree::new("portdev", head.key_span);
            tap.set("name", text, span);
            tree.children.push(tap);
        }
        Kind::Volume => match text
            .split_once('/')
            .map(|(pool, name)| (pool.to_owned(), name.to_owned()))
        {
            Some((pool, name)) => {
                tree.set("vireo:pool", pool, span);
                tree.children.push(leaf("name", Cow::Owned(name)));
            }
            None => tree.children.push(leaf("name", text)),
        },
        Kind::Domain
        | Kind::Network
        | Kind::Pool
        | Kind::DomainSnapshot
        | Kind::DomainCheckpoint => tree.children.push(leaf("name", text)),
    }
}

impl Located {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.definition.kind()
    }

    /// Its name, as [`Definition::name`].
    pub fn name(&self) -> String {
        self.definition.name()
    }

    /// Its identity, as [`Definition::uuid`].
    pub fn uuid(&self) -> Uuid {
        self.definition.uuid()
    }

    /// Reads a value's text as it stands in the definition, for showing: the line at a path.
    pub fn line(&self, path: &str) -> (usize, &str) {
        let span = self.spans.nearest(path);
        (
            self.source.position(span.start).line,
            self.source.line_of(span.start),
        )
    }
}

/// Reads a scalar outside of any document, such as a command line's.
///
/// # Errors
/// The sentence that a document's reader would get.
pub fn scalar<T: Scalar>(text: &str) -> Result<T, String> {
    T::parse(text)
        .map_err(|why| crate::element::bad_value(&T::INFO, text, &why, Span::default()).message)
}
