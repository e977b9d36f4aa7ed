//! Reading trees into types: one function for each word of [`element!`](crate::element), and the [`Decoder`] that collects what is wrong.

use super::looks::{Look, Looks, Place};
use super::{Element, ElementInfo, Shape, Union};
use crate::diagnostic::{Diagnostic, did_you_mean, one_of, usual_mistake};
use crate::rule::Rule;
use crate::scalar::{DefaultUnit, Scalar, ScalarInfo, Size};
use crate::source::Span;
use crate::tree::{Attribute, Element as Tree, Foreign};

/// How many problems of one definition are told: nobody reads more, and a file can have millions.
pub(crate) const MOST: usize = 250;

/// Collects the problems of one document while its tree is decoded.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What was wrong so far.
    pub problems: Vec<Diagnostic>,
    /// How many more there are.
    pub more: usize,
    path: Vec<(&'static str, usize)>,
    looks: Vec<Look>,
}

impl Decoder {
    /// A decoder for a document whose root has this name.
    pub fn new(root: &'static str) -> Self {
        Self {
            problems: Vec::new(),
            more: 0,
            path: vec![(root, 0)],
            looks: Vec::new(),
        }
    }

    /// Begins an element inside of another, whose looks are put by.
    pub fn begin(&mut self) -> Vec<Look> {
        std::mem::take(&mut self.looks)
    }

    /// Ends it: its own looks, those of the element around it being gathered again.
    pub fn end(&mut self, outer: Vec<Look>) -> Looks {
        Looks::new(std::mem::replace(&mut self.looks, outer))
    }

    fn path(&self) -> String {
        let mut out = String::new();
        for (name, index) in &self.path {
            if !out.is_empty() {
                out.push('/');
            }
            out.push_str(name);
            if *index > 0 {
                out.push_str(&format!("[{index}]"));
            }
        }
        out
    }

    /// Notes a problem at the element at hand.
    pub fn report(&mut self, problem: Diagnostic) {
        if !self.is_full() {
            let path = self.path();
            self.problems.push(problem.at(path));
        }
    }

    /// Whether no more problems are told; then one more is counted, and need not be put into words.
    fn is_full(&mut self) -> bool {
        let full = self.problems.len() >= MOST;
        self.more += usize::from(full);
        full
    }

    fn report_at(&mut self, tail: &str, problem: Diagnostic) {
        if !self.is_full() {
            let path = format!("{}/{tail}", self.path());
            self.problems.push(problem.at(path));
        }
    }

    /// Decodes a child element, its name and number put on the path.
    fn inside<T>(
        &mut self,
        name: &'static str,
        index: usize,
        decode: impl FnOnce(&mut Self) -> T,
    ) -> T {
        self.path.push((name, index));
        let value = decode(self);
        self.path.pop();
        value
    }

    /// Reports everything in `tree` that its table does not know, and what is missing.
    pub fn check_names(&mut self, tree: &Tree<'_>, info: &'static ElementInfo) {
        for attribute in &tree.attributes {
            if !info.takes_attribute(&attribute.name)
                && !attribute.name.starts_with("xmlns")
                && attribute.name != "xml:space"
            {
                self.unknown_attribute(tree, attribute, info);
            }
        }
        for child in &tree.children {
            if !info.takes_child(&child.name) {
                self.unknown_child(tree, child, info);
            }
        }
        if !tree.is_textless() && info.text_field().is_none() {
            let problem = Diagnostic::new(
                Rule::UnexpectedText,
                tree.text_span,
                format!("<{}> takes no text", tree.name),
            );
            self.report(problem);
        }
        for name in info.must {
            let blank = info
                .field(name)
                .is_some_and(|field| matches!(field.shape, Shape::Leaf(info) if info.blank));
            let stated = tree.attribute(name).is_some()
                || tree
                    .child(name)
                    .is_some_and(|child| !(blank && is_empty(child)))
                || info
                    .text_field()
                    .is_some_and(|field| field.name == *name && !tree.is_textless());
            if !stated {
                self.missing(tree, name, info);
            }
        }
    }

    fn missing(&mut self, tree: &Tree<'_>, name: &'static str, info: &'static ElementInfo) {
        let attribute = info
            .field(name)
            .is_some_and(|field| matches!(field.shape, Shape::Attribute(_)));
        let text = info
            .field(name)
            .is_some_and(|field| matches!(field.shape, Shape::Text(_) | Shape::Sized(_)));
        let what = match (attribute, text) {
            (true, _) => format!("<{}> lacks the attribute `{name}`", tree.name),
            (_, true) => format!("<{}> lacks its value", tree.name),
            _ => format!("<{}> lacks <{name}>", tree.name),
        };
        let problem = Diagnostic::new(Rule::Missing, tree.span, what);
        self.report(problem);
    }

    fn unknown_attribute(
        &mut self,
        tree: &Tree<'_>,
        attribute: &Attribute<'_>,
        info: &'static ElementInfo,
    ) {
        if self.is_full() {
            return;
        }
        let message = format!("<{}> has no attribute `{}`", tree.name, attribute.name);
        let help = if info.takes_child(&attribute.name) {
            format!("`{0}` is an element here: <{0}>", attribute.name)
        } else {
            accepted(&attribute.name, info.attributes(), "attributes")
        };
        self.report_at(
            &format!("@{}", attribute.name),
            Diagnostic::new(Rule::UnknownAttribute, attribute.name_span, message).with_help(help),
        );
    }

    fn unknown_child(&mut self, tree: &Tree<'_>, child: &Tree<'_>, info: &'static ElementInfo) {
        if self.is_full() {
            return;
        }
        let message = format!("<{}> has no element <{}>", tree.name, child.name);
        let help = if info.takes_attribute(&child.name) {
            format!("`{}` is an attribute here", child.name)
        } else {
            accepted(&child.name, info.children(), "elements")
        };
        self.report_at(
            &child.name,
            Diagnostic::new(Rule::UnknownElement, child.span, message).with_help(help),
        );
    }

    /// Reads a value, and keeps how it looks.
    fn scalar<T: Scalar>(&mut self, place: Place, text: &str, span: Span) -> Option<T> {
        match T::parse(text) {
            Ok(value) => {
                self.looks.extend(Look::of(place, &value, text));
                Some(value)
            }
            Err(_) if self.is_full() => None,
            Err(why) => {
                let problem = bad_value(&T::INFO, text, &why, span);
                match place {
                    Place::Attribute(name) => self.report_at(&format!("@{name}"), problem),
                    Place::Text | Place::Leaf(..) | Place::Child(_) => self.report(problem),
                }
                None
            }
        }
    }

    /// The child of that name, of which there is at most one.
    fn once<'t, 'a>(&mut self, tree: &'t Tree<'a>, name: &'static str) -> Option<&'t Tree<'a>> {
        let mut named = tree.children_named(name);
        let child = named.next()?;
        if let Some(second) = named.next() {
            let problem = Diagnostic::new(
                Rule::DuplicateElement,
                second.span,
                format!("<{}> takes <{name}> once", tree.name),
            );
            self.report_at(&format!("{name}[2]"), problem);
        }
        Some(child)
    }
}

/// `did you mean …? accepted here: …`
pub fn accepted(word: &str, known: impl Iterator<Item = &'static str>, what: &str) -> String {
    let mut known: Vec<&str> = known.collect();
    let near = did_you_mean(word, known.iter().copied())
        .map(|near| format!("did you mean `{near}`? "))
        .unwrap_or_default();
    if known.is_empty() {
        return format!("no {what} are accepted here");
    }
    known.sort_unstable_by_key(|name| (name.contains(':'), *name));
    known.dedup();
    format!("{near}accepted {what} here: {}", one_of(known, 32))
}

/// The complaint about a value that its type refused.
pub fn bad_value(info: &ScalarInfo, text: &str, why: &str, span: Span) -> Diagnostic {
    let in_line = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = text.chars().take(60).map(in_line).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    if !info.words.is_empty() {
        let bare = info.words.iter().find(|word| **word == text.trim());
        let near = usual_mistake(text, info.words)
            .or(bare.copied())
            .or_else(|| did_you_mean(text, info.words.iter().copied()))
            .map(|near| format!("did you mean `{near}`? "))
            .unwrap_or_default();
        let help = format!("{near}accepted: {}", one_of(info.words.iter().copied(), 64));
        return Diagnostic::new(
            Rule::BadValue,
            span,
            format!("`{shown}{cut}` is not one of the words accepted here"),
        )
        .with_help(help);
    }
    match why {
        "is empty" => Diagnostic::new(Rule::EmptyValue, span, "the value is empty")
            .with_help(format!("expected {}", info.expects)),
        "" => Diagnostic::new(
            Rule::BadValue,
            span,
            format!("`{shown}{cut}` is not {}", info.expects),
        ),
        why => Diagnostic::new(Rule::BadValue, span, format!("`{shown}{cut}` {why}"))
            .with_help(format!("expected {}", info.expects)),
    }
}

pub fn attr<T: Scalar>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Option<T> {
    let attribute = tree.attribute(name)?;
    d.scalar(
        Place::Attribute(name),
        &attribute.value,
        attribute.value_span,
    )
}

pub fn blank<T: Scalar>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Option<T> {
    if tree.attribute(name)?.value.trim().is_empty() {
        d.looks.push(Look::bare(Place::Attribute(name)));
        return None;
    }
    attr(d, tree, name)
}

pub fn text<T: Scalar>(d: &mut Decoder, tree: &Tree<'_>, _: &'static str) -> Option<T> {
    let mut text = tree.text.as_deref()?;
    if !tree.children.is_empty() {
        // Beside children, white space around a text is only how the document is laid out.
        text = text.trim();
        if text.is_empty() {
            return None;
        }
    }
    d.scalar(Place::Text, text, tree.text_span)
}

pub fn sized<U: DefaultUnit + Clone>(
    d: &mut Decoder,
    tree: &Tree<'_>,
    _: &'static str,
) -> Option<Size<U>> {
    let text = tree.text.as_deref()?;
    let unit = tree.attribute("unit");
    match Size::from_parts(text, unit.map(|unit| &*unit.value)) {
        Ok(size) => {
            if unit.is_some_and(|unit| unit.value.is_empty()) {
                d.looks.push(Look::bare(Place::Attribute("unit")));
            }
            d.looks
                .extend(Look::of(Place::Text, &size.number(), text.trim()));
            Some(size)
        }
        Err(why) => {
            let about_unit = unit.filter(|_| why.starts_with("has the unknown unit"));
            let span = about_unit.map_or(tree.text_span, |unit| unit.value_span);
            let problem = bad_value(&<Size<U> as Scalar>::INFO, text, &why, span);
            d.report(problem);
            None
        }
    }
}

pub fn leaf<T: Scalar>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Option<T> {
    let child = d.once(tree, name)?;
    if T::INFO.blank && is_empty(child) {
        d.inside(name, 0, |d| only_text(d, child));
        d.looks.push(Look::bare(Place::Leaf(name, 0)));
        return None;
    }
    leaf_value(d, child, name, 0)
}

/// Whether there is nothing in an element, not even white space.
fn is_empty(child: &Tree<'_>) -> bool {
    child.children.is_empty() && child.text.as_deref().unwrap_or("").is_empty()
}

pub fn leaves<T: Scalar>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Vec<T> {
    tree.children_named(name)
        .enumerate()
        .filter_map(|(i, child)| leaf_value(d, child, name, i + 1))
        .collect()
}

fn leaf_value<T: Scalar>(
    d: &mut Decoder,
    child: &Tree<'_>,
    name: &'static str,
    index: usize,
) -> Option<T> {
    d.inside(name, index, |d| {
        only_text(d, child);
        let text = child.text.as_deref().unwrap_or("");
        let place = Place::Leaf(name, index.saturating_sub(1));
        d.scalar(place, text, child.text_span)
    })
}

fn only_text(d: &mut Decoder, child: &Tree<'_>) {
    if let Some(attribute) = child
        .attributes
        .iter()
        .find(|attribute| !attribute.name.starts_with("xmlns"))
    {
        let message = format!("<{}> has no attribute `{}`", child.name, attribute.name);
        d.report_at(
            &format!("@{}", attribute.name),
            Diagnostic::new(Rule::UnknownAttribute, attribute.name_span, message)
                .with_help("no attributes are accepted here"),
        );
    }
    if let Some(inner) = child.children.first() {
        let message = format!("<{}> has no element <{}>", child.name, inner.name);
        d.report_at(
            &inner.name,
            Diagnostic::new(Rule::UnknownElement, inner.span, message)
                .with_help("no elements are accepted here"),
        );
    }
}

pub fn flag(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> bool {
    let Some(child) = d.once(tree, name) else {
        return false;
    };
    d.inside(name, 0, |d| {
        only_text(d, child);
        if !child.is_textless() {
            let problem = Diagnostic::new(
                Rule::UnexpectedText,
                child.text_span,
                format!("<{name}> takes no text"),
            );
            d.report(problem);
        }
    });
    true
}

pub fn child<T: Element>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Option<T> {
    let child = d.once(tree, name)?;
    Some(d.inside(name, 0, |d| T::decode(d, child)))
}

pub fn flat<T: Element>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Option<T> {
    child(d, tree, name)
}

pub fn list<T: Element>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Vec<T> {
    let mut out = Vec::with_capacity(tree.children_named(name).count());
    for (i, child) in tree.children_named(name).enumerate() {
        out.push(d.inside(name, i + 1, |d| T::decode(d, child)));
    }
    out
}

pub fn many<T: Union>(d: &mut Decoder, tree: &Tree<'_>, _: &'static str) -> Vec<T> {
    let mut counts = vec![0; T::variants().len()];
    let mut out = Vec::new();
    for child in &tree.children {
        let Some((at, variant)) = T::variants()
            .iter()
            .enumerate()
            .find(|(_, variant)| variant.name == child.name)
        else {
            continue;
        };
        let index = counts.get_mut(at).map_or(1, |count| {
            *count += 1;
            *count
        });
        out.extend(d.inside(variant.name, index, |d| T::decode(d, child)));
    }
    out
}

pub fn tree(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Option<Foreign> {
    let children = &d.once(tree, name)?.children;
    if children.is_empty() {
        d.looks.push(Look::bare(Place::Child(name)));
        return None;
    }
    Some(Foreign(children.iter().map(Tree::to_owned).collect()))
}
