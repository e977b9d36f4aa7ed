//! From a file's text to definitions.
//!
//! In: a [`Source`]. Out: a [`Document`] with the definitions that are whole, what could be learned of those that are not, and every problem found.
//! Reading never fails, and goes on after an error wherever the text allows: a definition with a problem does not hide its neighbours' problems.

use crate::check;
use crate::definition::{Definition, Kind};
use crate::diagnostic::Diagnostic;
use crate::element::{Decoder, Element as _};
use crate::policy::Policy;
use crate::raw::{Raw, raw_definitions};
use crate::rule::Rule;
use crate::scalar::Scalar;
use crate::source::{Source, Span};
use crate::tree::Element as Tree;
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
