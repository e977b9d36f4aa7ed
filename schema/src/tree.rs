//! The positioned tree: what XML and YAML have in common.
//!
//! Both readers make this tree and both writers start from it. Names of elements in namespaces that vireo knows carry the
//! customary prefix (`qemu:arg`, `vireo:policy`), whatever prefix the file used.

use crate::source::Span;
use std::borrow::Cow;

/// Elements nested deeper than this are refused.
pub const MAX_DEPTH: usize = 64;
/// Texts longer than this (16 MiB) are refused.
pub const MAX_SIZE: usize = 16 << 20;

/// One element with its attributes, text and child elements.
#[derive(Debug, Clone, Default)]
pub struct Element<'a> {
    /// The name, with the customary prefix where it is in a known foreign namespace.
    pub name: Cow<'a, str>,
    /// From the start tag's `<` to its `>`, or the key in YAML.
    pub span: Span,
    /// Attributes in the order of the file; declarations of namespaces that vireo knows are left out.
    pub attributes: Vec<Attribute<'a>>,
    /// Child elements in the order of the file.
    pub children: Vec<Element<'a>>,
    /// The text directly inside, pieces joined; `None` when there is none at all.
    pub text: Option<Cow<'a, str>>,
    /// Where there is text between child elements: its pieces, each with the number of children before it. Empty where only white space stands beside them.
    pub mixed: Vec<(usize, Cow<'a, str>)>,
    /// Where the text is.
    pub text_span: Span,
    /// The element's own text in the file, tags included; empty when it did not come from XML.
    pub whole: Span,
}

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The name as an element's.
    pub name: Cow<'a, str>,
    /// The value with references resolved.
    pub value: Cow<'a, str>,
    /// Where the name is.
    pub name_span: Span,
    /// Where the value is, quotes excluded.
    pub value_span: Span,
}

/// Whether a name is this one. (Most names differ in their first letter, which is looked at without a call.)
fn is_named(own: &str, name: &str) -> bool {
    own.len() == name.len() && own.bytes().next() == name.bytes().next() && own == name
}

/// Whether a text is nothing but white space.
pub(crate) fn is_blank(text: &str) -> bool {
    let layout = text.trim_ascii_start();
    layout.is_empty() || layout.trim_start().is_empty()
}

impl<'a> Element<'a> {
    /// An empty element.
    pub fn new(name: impl Into<Cow<'a, str>>, span: Span) -> Self {
        Self {
            name: name.into(),
            span,
            text_span: span,
            ..Self::default()
        }
    }

    /// The attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute<'a>> {
        self.attributes
            .iter()
            .find(|attribute| is_named(&attribute.name, name))
    }

    /// The first child of that name.
    pub fn child<'s>(&'s self, name: &'s str) -> Option<&'s Element<'a>> {
        self.children_named(name).next()
    }

    /// The children of that name.
    pub fn children_named<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Element<'a>> {
        self.children
            .iter()
            .filter(move |child| is_named(&child.name, name))
    }

    /// Adds an attribute.
    pub fn set(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        value: impl Into<Cow<'a, str>>,
        span: Span,
    ) {
        self.attributes.push(Attribute {
            name: name.into(),
            value: value.into(),
            name_span: span,
            value_span: span,
        });
    }

    /// The text, or nothing, without white space at its ends.
    pub fn trimmed(&self) -> &str {
        self.text.as_deref().unwrap_or("").trim()
    }

    /// Whether it holds no text other than white space.
    pub fn is_textless(&self) -> bool {
        self.text.as_deref().is_none_or(is_blank)
    }

    /// Whether it holds neither attributes, nor children, nor text other than white space.
    pub fn is_bare(&self) -> bool {
        self.attributes.is_empty() && self.children.is_empty() && self.is_textless()
    }

    /// A copy that does not borrow from the source.
    pub fn to_owned(&self) -> Element<'static> {
        fn own(text: &str) -> Cow<'static, str> {
            Cow::Owned(text.to_owned())
        }
        Element {
            name: own(&self.name),
            span: self.span,
            attributes: self
                .attributes
                .iter()
                .map(|a| Attribute {
                    name: own(&a.name),
                    value: own(&a.value),
                    name_span: a.name_span,
                    value_span: a.value_span,
                })
                .collect(),
            children: self.children.iter().map(Element::to_owned).collect(),
            text: self.text.as_deref().map(own),
            mixed: self
                .mixed
                .iter()
                .map(|(before, piece)| (*before, own(piece)))
                .collect(),
            text_span: self.text_span,
            whole: self.whole,
        }
    }
}

/// Two elements are equal when they say the same: spans, the order of attributes, the order between children of different
/// names, and white space around text make no difference. Where text stands between children, all of that does.
impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        let attributes = |element: &Self| {
            let mut list: Vec<(String, String)> = element
                .attributes
                .iter()
                .map(|a| (a.name.to_string(), a.value.to_string()))
                .collect();
            list.sort();
            list
        };
        let mut ours: Vec<&Self> = self.children.iter().collect();
        let mut theirs: Vec<_> = other.children.iter().collect();
        if self.mixed.is_empty() && other.mixed.is_empty() {
            ours.sort_by(|a, b| a.name.cmp(&b.name));
            theirs.sort_by(|a, b| a.name.cmp(&b.name));
        }
        self.name == other.name
            && self.mixed == other.mixed
            && (!self.mixed.is_empty() || self.trimmed() == other.trimmed())
            && attributes(self) == attributes(other)
            && ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(|(a, b)| **a == *b)
    }
}

/// A subtree that belongs to another application: kept whole, never interpreted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Foreign(pub Vec<Element<'static>>);

impl Foreign {
    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
