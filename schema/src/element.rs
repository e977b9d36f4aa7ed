//! One list of fields makes a type, its reader, its writer and its table.
//!
//! [`element!`](crate::element) is the only place where an element of libvirt's formats is described: a type's fields are listed once, each with how it
//! stands in the document, its name there, its name in Rust, its type and its meaning. From that come the struct, decoding with
//! diagnostics, encoding, and a static [`ElementInfo`] from which [`shape`](crate::shape) reads and writes YAML, unknown names are answered with what
//! would be accepted, and the JSON Schema is made. To add an attribute is to add a field.
//!
//! ```text
//! element! {
//!     /// An address by which a guest finds a server.
//!     pub struct Host main "name" must ["name"] {
//!         /// Its name.
//!         attr "name" name: String,
//!     }
//! }
//! ```
//!
//! | word | in the document | in Rust |
//! | --- | --- | --- |
//! | `attr` | an attribute | `Option<T>` |
//! | `text` | the element's own text (its name is its key in YAML) | `Option<T>` |
//! | `sized` | the element's own text with an attribute `unit` | `Option<Size<_>>` |
//! | `leaf` | a child element that is only a text | `Option<T>` |
//! | `leaves` | several of these | `Vec<T>` |
//! | `flag` | an empty child element that is there or not | `bool` |
//! | `child` | a child element | `Option<T>` |
//! | `list` | several of these | `Vec<T>` |
//! | `flat` | a child element whose fields stand one level higher in YAML | `Option<T>` |
//! | `many` | child elements of several kinds whose order counts (a `union!`) | `Vec<T>` |
//! | `tree` | a child element that belongs to other applications | `Option<Foreign>` |
//!
//! In YAML a field's key is its name in the document; for what may occur several times it is the plural, which is the field's
//! name in Rust, and the document's name is accepted too. `= "key"` after the name sets another key where two would be the same.
//! `main` names the field that a single value stands for (the text, if there is one). `short` lists the element's shorthands.

use crate::diagnostic::{Diagnostic, did_you_mean, one_of};
use crate::scalar::{DefaultUnit, Scalar, ScalarInfo, Size};
use crate::source::Span;
use crate::tree::{Attribute, Element as Tree, Foreign};
use std::borrow::Cow;

/// The table of one element type.
#[derive(Debug)]
pub struct ElementInfo {
    /// The type's name in Rust.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
    /// Document names of fields that must be stated.
    pub must: &'static [&'static str],
    /// Document name of the field that a single YAML value stands for; empty when there is none.
    pub main: &'static str,
    /// What may stand for several fields in YAML.
    pub short: &'static [Shorthand],
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Its name in XML.
    pub name: &'static str,
    /// Its key in YAML.
    pub key: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// How it stands in the document.
    pub shape: Shape,
}

/// How a field stands in the document, with what it holds.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// An attribute.
    Attribute(&'static ScalarInfo),
    /// The element's text.
    Text(&'static ScalarInfo),
    /// The element's text and its attribute `unit`.
    Sized(&'static ScalarInfo),
    /// A child element that is only a text.
    Leaf(&'static ScalarInfo),
    /// Several of these.
    Leaves(&'static ScalarInfo),
    /// An empty child element.
    Flag,
    /// A child element.
    Child(fn() -> &'static ElementInfo),
    /// Several of these.
    List(fn() -> &'static ElementInfo),
    /// A child element that YAML leaves out, its fields standing in its place.
    Flat(fn() -> &'static ElementInfo),
    /// Child elements of several kinds.
    Many(fn() -> &'static [Variant]),
    /// A subtree of another application.
    Tree,
}

/// One kind of a [`Union`].
#[derive(Debug)]
pub struct Variant {
    /// The element's name.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its table.
    pub info: fn() -> &'static ElementInfo,
}

/// A key in YAML that stands for fields further inside and for fixed values.
///
/// Read wherever it is used; written where everything that it stands for is stated, so that nothing is lost.
#[derive(Debug)]
pub struct Shorthand {
    /// The key.
    pub key: &'static str,
    /// Where its value goes, such as `source/@file`. With several, the value is split at the first `/`.
    pub into: &'static [&'static str],
    /// What it implies, such as `("@type", "file")`.
    pub sets: &'static [(&'static str, &'static str)],
}

/// A type made by [`element!`](crate::element).
pub trait Element: Sized + Default {
    /// Its table.
    fn info() -> &'static ElementInfo;
    /// What the tree states; problems go to the decoder, and what they concern is left out.
    fn decode(decoder: &mut Decoder, tree: &Tree<'_>) -> Self;
    /// The tree that states it.
    fn encode(&self, name: &'static str) -> Tree<'static>;
}

/// A type made by [`union!`](crate::union).
pub trait Union: Sized {
    /// Its kinds.
    fn variants() -> &'static [Variant];
    /// The element of that name, if it is one of the kinds.
    fn decode(decoder: &mut Decoder, tree: &Tree<'_>) -> Option<Self>;
    /// The tree that states it.
    fn encode(&self) -> Tree<'static>;
}

impl<T: Element> Element for Box<T> {
    fn info() -> &'static ElementInfo {
        T::info()
    }

    fn decode(decoder: &mut Decoder, tree: &Tree<'_>) -> Self {
        Box::new(T::decode(decoder, tree))
    }

    fn encode(&self, name: &'static str) -> Tree<'static> {
        (**self).encode(name)
    }
}

impl ElementInfo {
    /// The field of that name in the document (attributes with their `@`-less name).
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field that holds the element's own text.
    pub fn text_field(&self) -> Option<&'static Field> {
        self.fields
            .iter()
            .find(|field| matches!(field.shape, Shape::Text(_) | Shape::Sized(_)))
    }

    fn takes_attribute(&self, name: &str) -> bool {
        self.fields.iter().any(|field| match field.shape {
            Shape::Attribute(_) => field.name == name,
            Shape::Sized(_) => name == "unit",
            _ => false,
        })
    }

    fn attributes(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().filter_map(|field| match field.shape {
            Shape::Attribute(_) => Some(field.name),
            Shape::Sized(_) => Some("unit"),
            _ => None,
        })
    }

    fn takes_child(&self, name: &str) -> bool {
        self.children().any(|child| child == name)
    }

    fn children(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().flat_map(|field| {
            let (own, variants): (Option<&'static str>, &'static [Variant]) = match field.shape {
                Shape::Attribute(_) | Shape::Text(_) | Shape::Sized(_) => (None, &[]),
                Shape::Many(variants) => (None, variants()),
                _ => (Some(field.name), &[]),
            };
            own.into_iter()
                .chain(variants.iter().map(|variant| variant.name))
        })
    }
}

/// Collects the problems of one document while its tree is decoded.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What was wrong so far.
    pub problems: Vec<Diagnostic>,
    path: Vec<(&'static str, usize)>,
}

impl Decoder {
    /// A decoder for a document whose root has this name.
    pub fn new(root: &'static str) -> Self {
        Self {
            problems: Vec::new(),
            path: vec![(root, 0)],
        }
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
        let path = self.path();
        self.problems.push(problem.at(path));
    }

    fn report_at(&mut self, tail: &str, problem: Diagnostic) {
        let path = format!("{}/{tail}", self.path());
        self.problems.push(problem.at(path));
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
        if !tree.trimmed().is_empty() && info.text_field().is_none() {
            let problem = Diagnostic::new(
                "unexpected-text",
                tree.text_span,
                format!("<{}> takes no text", tree.name),
            );
            self.report(problem);
        }
        for name in info.must {
            let stated = tree.attribute(name).is_some()
                || tree.child(name).is_some()
                || info
                    .text_field()
                    .is_some_and(|field| field.name == *name && !tree.trimmed().is_empty());
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
        let problem = Diagnostic::new("missing", tree.span, what);
        self.report(problem);
    }

    fn unknown_attribute(
        &mut self,
        tree: &Tree<'_>,
        attribute: &Attribute<'_>,
        info: &'static ElementInfo,
    ) {
        let message = format!("<{}> has no attribute `{}`", tree.name, attribute.name);
        let help = if info.takes_child(&attribute.name) {
            format!("`{0}` is an element here: <{0}>", attribute.name)
        } else {
            accepted(&attribute.name, info.attributes(), "attributes")
        };
        self.report_at(
            &format!("@{}", attribute.name),
            Diagnostic::new("unknown-attribute", attribute.name_span, message).with_help(help),
        );
    }

    fn unknown_child(&mut self, tree: &Tree<'_>, child: &Tree<'_>, info: &'static ElementInfo) {
        let message = format!("<{}> has no element <{}>", tree.name, child.name);
        let help = if info.takes_attribute(&child.name) {
            format!("`{}` is an attribute here", child.name)
        } else {
            accepted(&child.name, info.children(), "elements")
        };
        self.report_at(
            &child.name,
            Diagnostic::new("unknown-element", child.span, message).with_help(help),
        );
    }

    /// Reads a value of the attribute named, or of the element's text.
    fn scalar<T: Scalar>(
        &mut self,
        attribute: Option<&'static str>,
        text: &str,
        span: Span,
    ) -> Option<T> {
        match T::parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                let problem = bad_value(&T::INFO, text, &why, span);
                match attribute {
                    Some(name) => self.report_at(&format!("@{name}"), problem),
                    None => self.report(problem),
                }
                None
            }
        }
    }

    fn twice(&mut self, tree: &Tree<'_>, name: &'static str) {
        if let Some(second) = tree.children_named(name).nth(1) {
            let problem = Diagnostic::new(
                "duplicate-element",
                second.span,
                format!("<{}> takes <{name}> once", tree.name),
            );
            self.report_at(&format!("{name}[2]"), problem);
        }
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
    known.sort_unstable();
    known.dedup();
    format!("{near}accepted {what} here: {}", one_of(known, 32))
}

/// The complaint about a value that its type refused.
pub fn bad_value(info: &ScalarInfo, text: &str, why: &str, span: Span) -> Diagnostic {
    let shown: String = text.chars().take(60).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    if !info.words.is_empty() {
        let near = crate::diagnostic::usual_mistake(text, info.words)
            .or_else(|| did_you_mean(text, info.words.iter().copied()))
            .map(|near| format!("did you mean `{near}`? "))
            .unwrap_or_default();
        let help = format!("{near}accepted: {}", one_of(info.words.iter().copied(), 64));
        return Diagnostic::new(
            "bad-value",
            span,
            format!("`{shown}{cut}` is not one of the words accepted here"),
        )
        .with_help(help);
    }
    match why {
        "is empty" => Diagnostic::new("empty-value", span, "the value is empty")
            .with_help(format!("expected {}", info.expects)),
        "" => Diagnostic::new(
            "bad-value",
            span,
            format!("`{shown}{cut}` is not {}", info.expects),
        ),
        why => Diagnostic::new("bad-value", span, format!("`{shown}{cut}` {why}"))
            .with_help(format!("expected {}", info.expects)),
    }
}

/// Readers, one for each word of [`element!`](crate::element).
pub mod decode {
    use super::*;

    pub fn attr<T: Scalar>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Option<T> {
        let attribute = tree.attribute(name)?;
        d.scalar(Some(name), &attribute.value, attribute.value_span)
    }

    pub fn text<T: Scalar>(d: &mut Decoder, tree: &Tree<'_>, _: &'static str) -> Option<T> {
        let text = tree.text.as_deref()?;
        if text.trim().is_empty() && !tree.children.is_empty() {
            return None;
        }
        d.scalar(None, text, tree.text_span)
    }

    pub fn sized<U: DefaultUnit + Clone>(
        d: &mut Decoder,
        tree: &Tree<'_>,
        _: &'static str,
    ) -> Option<Size<U>> {
        let text = tree.text.as_deref()?;
        let unit = tree.attribute("unit");
        match Size::from_parts(text, unit.map(|unit| &*unit.value)) {
            Ok(size) => Some(size),
            Err(why) => {
                let about_unit = unit.filter(|_| why.starts_with("has the unknown unit"));
                let span = about_unit.map_or(tree.text_span, |unit| unit.value_span);
                let problem = bad_value(&<Size<U> as Scalar>::INFO, text.trim(), &why, span);
                d.report(problem);
                None
            }
        }
    }

    pub fn leaf<T: Scalar>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Option<T> {
        d.twice(tree, name);
        let child = tree.child(name)?;
        leaf_value(d, child, name, 0)
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
            d.scalar(None, child.text.as_deref().unwrap_or(""), child.text_span)
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
                Diagnostic::new("unknown-attribute", attribute.name_span, message)
                    .with_help("no attributes are accepted here"),
            );
        }
        if let Some(inner) = child.children.first() {
            let message = format!("<{}> has no element <{}>", child.name, inner.name);
            d.report_at(
                &inner.name,
                Diagnostic::new("unknown-element", inner.span, message)
                    .with_help("no elements are accepted here"),
            );
        }
    }

    pub fn flag(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> bool {
        d.twice(tree, name);
        let Some(child) = tree.child(name) else {
            return false;
        };
        d.inside(name, 0, |d| {
            only_text(d, child);
            if !child.trimmed().is_empty() {
                let problem = Diagnostic::new(
                    "unexpected-text",
                    child.text_span,
                    format!("<{name}> takes no text"),
                );
                d.report(problem);
            }
        });
        true
    }

    pub fn child<T: Element>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Option<T> {
        d.twice(tree, name);
        let child = tree.child(name)?;
        Some(d.inside(name, 0, |d| T::decode(d, child)))
    }

    pub fn flat<T: Element>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Option<T> {
        child(d, tree, name)
    }

    pub fn list<T: Element>(d: &mut Decoder, tree: &Tree<'_>, name: &'static str) -> Vec<T> {
        tree.children_named(name)
            .enumerate()
            .map(|(i, child)| d.inside(name, i + 1, |d| T::decode(d, child)))
            .collect()
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
        d.twice(tree, name);
        let children = &tree.child(name)?.children;
        (!children.is_empty()).then(|| Foreign(children.iter().map(Tree::to_owned).collect()))
    }
}

/// Writers, one for each word of [`element!`](crate::element).
pub mod encode {
    use super::*;

    fn set<T: Scalar>(out: &mut Tree<'static>, name: &'static str, value: &T) {
        out.set(name, Cow::Owned(value.text().into_owned()), Span::default());
    }

    pub fn attr<T: Scalar>(value: &Option<T>, name: &'static str, out: &mut Tree<'static>) {
        if let Some(value) = value {
            set(out, name, value);
        }
    }

    pub fn text<T: Scalar>(value: &Option<T>, _: &'static str, out: &mut Tree<'static>) {
        out.text = value
            .as_ref()
            .map(|value| Cow::Owned(value.text().into_owned()));
    }

    pub fn sized<U: DefaultUnit + Clone>(
        value: &Option<Size<U>>,
        _: &'static str,
        out: &mut Tree<'static>,
    ) {
        if let Some(size) = value {
            if let Some(unit) = size.unit() {
                out.set("unit", unit.to_owned(), Span::default());
            }
            out.text = Some(Cow::Owned(size.number().to_string()));
        }
    }

    fn leaf_tree<T: Scalar>(value: &T, name: &'static str) -> Tree<'static> {
        let mut child = Tree::new(name, Span::default());
        child.text = Some(Cow::Owned(value.text().into_owned()));
        child
    }

    pub fn leaf<T: Scalar>(value: &Option<T>, name: &'static str, out: &mut Tree<'static>) {
        out.children
            .extend(value.iter().map(|value| leaf_tree(value, name)));
    }

    pub fn leaves<T: Scalar>(value: &[T], name: &'static str, out: &mut Tree<'static>) {
        out.children
            .extend(value.iter().map(|value| leaf_tree(value, name)));
    }

    pub fn flag(value: &bool, name: &'static str, out: &mut Tree<'static>) {
        if *value {
            out.children.push(Tree::new(name, Span::default()));
        }
    }

    pub fn child<T: Element>(value: &Option<T>, name: &'static str, out: &mut Tree<'static>) {
        out.children
            .extend(value.iter().map(|value| value.encode(name)));
    }

    pub fn flat<T: Element>(value: &Option<T>, name: &'static str, out: &mut Tree<'static>) {
        child(value, name, out);
    }

    pub fn list<T: Element>(value: &[T], name: &'static str, out: &mut Tree<'static>) {
        out.children
            .extend(value.iter().map(|value| value.encode(name)));
    }

    pub fn many<T: Union>(value: &[T], _: &'static str, out: &mut Tree<'static>) {
        out.children.extend(value.iter().map(Union::encode));
    }

    pub fn tree(value: &Option<Foreign>, name: &'static str, out: &mut Tree<'static>) {
        if let Some(foreign) = value {
            let mut child = Tree::new(name, Span::default());
            child.children.clone_from(&foreign.0);
            out.children.push(child);
        }
    }
}

/// The Rust type of a field.
#[doc(hidden)]
#[macro_export]
macro_rules! slot {
    (flag $type:ty) => { bool };
    (list $type:ty) => { Vec<$type> };
    (leaves $type:ty) => { Vec<$type> };
    (many $type:ty) => { Vec<$type> };
    ($kind:ident $type:ty) => { Option<$type> };
}

/// The table entry of a field.
#[doc(hidden)]
#[macro_export]
macro_rules! shape {
    (attr $type:ty) => {
        $crate::element::Shape::Attribute(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (text $type:ty) => {
        $crate::element::Shape::Text(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (sized $type:ty) => {
        $crate::element::Shape::Sized(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (leaf $type:ty) => {
        $crate::element::Shape::Leaf(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (leaves $type:ty) => {
        $crate::element::Shape::Leaves(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (flag $type:ty) => {
        $crate::element::Shape::Flag
    };
    (child $type:ty) => {
        $crate::element::Shape::Child(<$type as $crate::element::Element>::info)
    };
    (list $type:ty) => {
        $crate::element::Shape::List(<$type as $crate::element::Element>::info)
    };
    (flat $type:ty) => {
        $crate::element::Shape::Flat(<$type as $crate::element::Element>::info)
    };
    (many $type:ty) => {
        $crate::element::Shape::Many(<$type as $crate::element::Union>::variants)
    };
    (tree $type:ty) => {
        $crate::element::Shape::Tree
    };
}

/// The YAML key of a field.
#[doc(hidden)]
#[macro_export]
macro_rules! field_key {
    ($kind:ident $name:literal $field:ident $key:literal) => {
        $key
    };
    (list $name:literal $field:ident) => {
        stringify!($field)
    };
    (leaves $name:literal $field:ident) => {
        stringify!($field)
    };
    ($kind:ident $name:literal $field:ident) => {
        $name
    };
}

/// Declares a type of element; see [the module](crate::element).
#[macro_export]
macro_rules! element {
    (
        $(#[doc = $doc:expr])*
        $vis:vis struct $type:ident $(main $main:literal)? $(must [$($must:literal),* $(,)?])?
        $(short [$($short:literal => [$($into:literal),+] $(with [$(($at:literal, $constant:literal)),+])?),* $(,)?])?
        {
            $($(#[doc = $fdoc:expr])* $kind:ident $name:literal $(= $key:literal)? $field:ident : $ftype:ty),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        $vis struct $type {
            $($(#[doc = $fdoc])* pub $field: $crate::slot!($kind $ftype)),*
        }

        impl $crate::element::Element for $type {
            fn info() -> &'static $crate::element::ElementInfo {
                static INFO: $crate::element::ElementInfo = $crate::element::ElementInfo {
                    name: stringify!($type),
                    doc: concat!($($doc),*),
                    fields: &[$($crate::element::Field {
                        name: $name,
                        key: $crate::field_key!($kind $name $field $($key)?),
                        doc: concat!($($fdoc),*),
                        shape: $crate::shape!($kind $ftype),
                    }),*],
                    must: &[$($($must),*)?],
                    main: concat!($($main)?),
                    short: &[$($($crate::element::Shorthand {
                        key: $short,
                        into: &[$($into),+],
                        sets: &[$($(($at, $constant)),+)?],
                    }),*)?],
                };
                &INFO
            }

            fn decode(decoder: &mut $crate::element::Decoder, tree: &$crate::tree::Element<'_>) -> Self {
                decoder.check_names(tree, <Self as $crate::element::Element>::info());
                Self { $($field: $crate::element::decode::$kind(decoder, tree, $name)),* }
            }

            fn encode(&self, name: &'static str) -> $crate::tree::Element<'static> {
                let mut out = $crate::tree::Element::new(name, $crate::source::Span::default());
                $($crate::element::encode::$kind(&self.$field, $name, &mut out);)*
                out
            }
        }

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                ::serde::Serialize::serialize(&$crate::shape::value_of(self), serializer)
            }
        }
    };
}

/// Declares a choice between elements whose order among each other counts.
#[macro_export]
macro_rules! union {
    ($(#[doc = $doc:expr])* $vis:vis enum $type:ident { $($(#[doc = $vdoc:expr])* $variant:ident $name:literal: $vtype:ty),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq)]
        $vis enum $type { $($(#[doc = $vdoc])* $variant($vtype)),* }

        impl $type {
            /// The element's name.
            pub fn element_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name),* }
            }
        }

        impl $crate::element::Union for $type {
            fn variants() -> &'static [$crate::element::Variant] {
                static VARIANTS: &[$crate::element::Variant] = &[$($crate::element::Variant {
                    name: $name,
                    doc: concat!($($vdoc),*),
                    info: <$vtype as $crate::element::Element>::info,
                }),*];
                VARIANTS
            }

            fn decode(decoder: &mut $crate::element::Decoder, tree: &$crate::tree::Element<'_>) -> Option<Self> {
                match &*tree.name {
                    $($name => Some(Self::$variant($crate::element::Element::decode(decoder, tree))),)*
                    _ => None,
                }
            }

            fn encode(&self) -> $crate::tree::Element<'static> {
                match self { $(Self::$variant(value) => $crate::element::Element::encode(value, $name)),* }
            }
        }
    };
}
