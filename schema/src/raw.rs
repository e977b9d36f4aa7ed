//! From a file's text to one tree for each definition, whatever it is written in.
//!
//! In: a [`Source`], XML or YAML. Out: [`Raw`] definitions, whose trees have the same form for both, with the policy taken out of them.

use crate::definition::Kind;
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::element::Element as _;
use crate::policy::Policy;
use crate::rule::Rule;
use crate::shape::{self, Shaper};
use crate::source::{Source, Span};
use crate::tree::Element as Tree;
use crate::xml;
use crate::yaml::{self, Entry, Node, Value};
use std::borrow::Cow;

/// A definition's tree before it is decoded.
pub struct Raw<'a> {
    /// What it defines, as its root or its first key says.
    pub kind: Kind,
    /// The definition.
    pub tree: Tree<'a>,
    /// What it says of vireo's own.
    pub policy: Option<Tree<'a>>,
    /// All of it.
    pub span: Span,
    /// What is wrong with it already.
    pub problems: Vec<Diagnostic>,
}

/// The definitions of a file, and what is wrong outside of them.
pub fn raw_definitions(source: &Source) -> (Vec<Raw<'_>>, Vec<Diagnostic>) {
    if source.is_xml() {
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
