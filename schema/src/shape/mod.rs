//! Between YAML's shape and the tree: the field tables say what is an attribute, a child or a text.
//!
//! In: a positioned YAML value and the table of the element it is to be; out: the element's tree, which is then decoded just as one that was XML.
//! And back: an element's tree and its table give the YAML (and JSON) value. What can go wrong: a key that the table does not know, a list or mapping
//! where one value is needed, the same thing said by a shorthand and in the long form.
//!
//! A field may be written by its key or by its name in XML; one value may stand where a list may; a single value stands for the element's main
//! field; a shorthand stands for what its table says; `true` states an empty element; a list of words states several.

mod names;
mod put;
mod write;

pub use names::keys;
use names::word_field;
pub(crate) use names::{knows, main_field, only_holds, only_list};
use put::take_child;
pub use write::{Style, mapping, value, value_of};

use crate::diagnostic::{Diagnostic, did_you_mean, one_of};
use crate::element::{ElementInfo, Field, Shape, Variant, bad_value};
use crate::rule::Rule;
use crate::scalar::{Form, ScalarInfo, split_unit};
use crate::source::Span;
use crate::tree::Element as Tree;
use crate::xml;
use crate::yaml::{Entry, Node, Value};
use std::borrow::Cow;

/// Reads YAML values as elements, collecting problems.
#[derive(Debug, Default)]
pub struct Shaper {
    /// What was wrong so far.
    pub problems: Vec<Diagnostic>,
    path: Vec<String>,
}

impl Shaper {
    /// A shaper for a document whose root has this name.
    pub fn new(root: &str) -> Self {
        Self {
            problems: Vec::new(),
            path: vec![root.to_owned()],
        }
    }

    fn report(&mut self, problem: Diagnostic) {
        let path = self.path.join("/");
        self.problems.push(problem.at(path));
    }

    /// The element called `name` that a YAML value states; `None` for `false`.
    pub fn element<'a>(
        &mut self,
        name: &'static str,
        info: &'static ElementInfo,
        key_span: Span,
        node: &Node<'a>,
    ) -> Option<Tree<'a>> {
        let mut tree = Tree::new(name, key_span);
        tree.text_span = node.span;
        match &node.value {
            Value::Null => {}
            Value::Map(entries) => self.fill(&mut tree, info, entries),
            Value::Scalar { text, plain } => {
                if let Some(main) = main_field(info) {
                    self.field(&mut tree, main, node.span, node);
                } else if let Some(word) = word_field(info, text).filter(|_| only_holds(info)) {
                    tree.children.push(Tree::new(word.name, node.span));
                } else if *plain && &**text == "false" {
                    return None;
                } else if !(*plain && &**text == "true") {
                    self.not_a_mapping(name, info, node.span);
                    return None;
                }
            }
            Value::List(items) => self.words(&mut tree, info, node.span, items),
        }
        Some(tree)
    }

    fn not_a_mapping(&mut self, name: &str, info: &'static ElementInfo, span: Span) {
        let keys = one_of(info.fields.iter().map(|field| field.key), 12);
        let message = format!("`{name}` takes a mapping, not a single value");
        let problem = Diagnostic::new(Rule::YamlShape, span, message);
        self.report(problem.with_help(format!("its keys: {keys}")));
    }

    /// `features: [acpi, pae]`: each word states an empty child.
    fn words<'a>(
        &mut self,
        tree: &mut Tree<'a>,
        info: &'static ElementInfo,
        span: Span,
        items: &[Node<'a>],
    ) {
        if let Some(field) = only_list(info) {
            for item in items {
                self.field(tree, field, span, item);
            }
            return;
        }
        for item in items {
            let field = match &item.value {
                Value::Scalar { text, .. } => word_field(info, text),
                _ => None,
            };
            match field {
                Some(field) => tree.children.push(Tree::new(field.name, item.span)),
                None => self.report(Diagnostic::new(
                    Rule::YamlShape,
                    item.span,
                    format!(
                        "`{}` takes a mapping, or a list of words that name what it has",
                        tree.name
                    ),
                )),
            }
        }
    }

    /// Puts the entries of a mapping into the element.
    pub fn fill<'a>(
        &mut self,
        tree: &mut Tree<'a>,
        info: &'static ElementInfo,
        entries: &[Entry<'a>],
    ) {
        for entry in entries {
            if !self.entry(tree, info, entry) {
                self.unknown(tree, info, entry);
            }
        }
    }

    /// One entry, by field, by the fields of a flat child, by kind, by shorthand; whether it was any of these.
    fn entry<'a>(
        &mut self,
        tree: &mut Tree<'a>,
        info: &'static ElementInfo,
        entry: &Entry<'a>,
    ) -> bool {
        let key: &str = &entry.key;
        let field = info
            .fields
            .iter()
            .find(|field| field.key == key)
            .or_else(|| {
                info.fields
                    .iter()
                    .find(|field| field.name == key && field.key_is_plural())
            });
        if let Some(field) = field {
            self.path.push(field.key.to_owned());
            self.field(tree, field, entry.key_span, &entry.node);
            self.path.pop();
            return true;
        }
        if let Some(shorthand) = info.short.iter().find(|shorthand| shorthand.key == key) {
            self.shorthand(tree, shorthand, entry);
            return true;
        }
        for field in info.fields {
            match field.shape {
                Shape::Many(variants) => {
                    if let Some(variant) = variants().iter().find(|variant| variant.name == key) {
                        self.path.push(key.to_owned());
                        self.several(
                            tree,
                            variant.name,
                            variant.info,
                            entry.key_span,
                            &entry.node,
                        );
                        self.path.pop();
                        return true;
                    }
                }
                Shape::Flat(inner) if knows(inner(), key) => {
                    let mut child = take_child(tree, field.name, entry.key_span);
                    let known = self.entry(&mut child, inner(), entry);
                    tree.children.push(child);
                    return known;
                }
                _ => {}
            }
        }
        false
    }

    fn unknown(&mut self, tree: &Tree<'_>, info: &'static ElementInfo, entry: &Entry<'_>) {
        let known = keys(info);
        let near = did_you_mean(&entry.key, known.iter().copied())
            .map(|near| format!("did you mean `{near}`? "))
            .unwrap_or_default();
        let problem = Diagnostic::new(
            Rule::UnknownKey,
            entry.key_span,
            format!("`{}` has no key `{}`", tree.name, entry.key),
        )
        .with_help(format!(
            "{near}accepted keys here: {}",
            one_of(known.iter().copied(), 40)
        ));
        self.path.push(entry.key.to_string());
        self.report(problem);
        self.path.pop();
    }

    fn field<'a>(
        &mut self,
        tree: &mut Tree<'a>,
        field: &'static Field,
        key_span: Span,
        node: &Node<'a>,
    ) {
        match field.shape {
            Shape::Attribute(info) => {
                let Some((text, span)) = self.scalar(info, node) else {
                    return;
                };
                self.put_attribute(tree, field.name, text, key_span, span);
            }
            Shape::Text(info) => {
                let Some((text, span)) = self.scalar(info, node) else {
                    return;
                };
                self.put_text(tree, text, span);
            }
            Shape::Sized(info) => {
                let Some((text, span)) = self.scalar(info, node) else {
                    return;
                };
                let (number, unit) = split_unit(&text);
                // What XML states as `unit=''` is written with nothing behind a space.
                let unit = unit.or(text.ends_with(' ').then_some(""));
                let (number, unit) = (number.to_owned(), unit.map(str::to_owned));
                if let Some(unit) = unit {
                    self.put_attribute(tree, "unit", Cow::Owned(unit), span, span);
                }
                self.put_text(tree, Cow::Owned(number), span);
            }
            Shape::Leaf(info) => self.leaf(tree, field.name, info, key_span, node),
            Shape::Leaves(info) => match &node.value {
                Value::List(items) => items
                    .iter()
                    .for_each(|item| self.leaf(tree, field.name, info, item.span, item)),
                _ => self.leaf(tree, field.name, info, key_span, node),
            },
            Shape::Flag => match &node.value {
                Value::Null => tree.children.push(Tree::new(field.name, key_span)),
                Value::Scalar { text, .. } if matches!(&**text, "true" | "yes" | "on") => {
                    tree.children.push(Tree::new(field.name, key_span))
                }
                Value::Scalar { text, .. } if matches!(&**text, "false" | "no" | "off") => {}
                _ => self.report(Diagnostic::new(
                    Rule::YamlShape,
                    node.span,
                    format!("`{}` is either true or false", field.key),
                )),
            },
            Shape::Child(info) | Shape::Flat(info) => {
                if let Some(child) = self.element(field.name, info(), key_span, node) {
                    self.put_child(tree, child);
                }
            }
            Shape::List(info) => self.several(tree, field.name, info, key_span, node),
            Shape::Many(variants) => self.tagged(tree, variants(), node),
            Shape::Tree => self.foreign(tree, field.name, key_span, node),
        }
    }

    fn several<'a>(
        &mut self,
        tree: &mut Tree<'a>,
        name: &'static str,
        info: fn() -> &'static ElementInfo,
        key_span: Span,
        node: &Node<'a>,
    ) {
        match &node.value {
            Value::List(items) => {
                for item in items {
                    tree.children
                        .extend(self.element(name, info(), item.span, item));
                }
            }
            _ => tree
                .children
                .extend(self.element(name, info(), key_span, node)),
        }
    }

    /// A list of one-key mappings, each key naming the kind.
    fn tagged<'a>(&mut self, tree: &mut Tree<'a>, variants: &'static [Variant], node: &Node<'a>) {
        let Value::List(items) = &node.value else {
            self.report(Diagnostic::new(
                Rule::YamlShape,
                node.span,
                "a list is needed here, each item with one key that names its kind",
            ));
            return;
        };
        for item in items {
            for entry in item.entries().unwrap_or_default() {
                match variants.iter().find(|variant| variant.name == entry.key) {
                    Some(variant) => self.several(
                        tree,
                        variant.name,
                        variant.info,
                        entry.key_span,
                        &entry.node,
                    ),
                    None => {
                        let known = one_of(variants.iter().map(|variant| variant.name), 40);
                        self.report(
                            Diagnostic::new(
                                Rule::UnknownKey,
                                entry.key_span,
                                format!("`{}` is no kind that is known here", entry.key),
                            )
                            .with_help(format!("known: {known}")),
                        );
                    }
                }
            }
            if item.entries().is_none() {
                self.report(Diagnostic::new(
                    Rule::YamlShape,
                    item.span,
                    "a mapping with one key that names the kind is needed here",
                ));
            }
        }
    }

    fn leaf<'a>(
        &mut self,
        tree: &mut Tree<'a>,
        name: &'static str,
        info: &'static ScalarInfo,
        key_span: Span,
        node: &Node<'a>,
    ) {
        let Some((text, span)) = self.scalar(info, node) else {
            return;
        };
        let mut child = Tree::new(name, key_span);
        child.text = Some(text);
        child.text_span = span;
        self.put_child(tree, child);
    }

    /// XML inside of YAML: what vireo does not interpret.
    fn foreign<'a>(
        &mut self,
        tree: &mut Tree<'a>,
        name: &'static str,
        key_span: Span,
        node: &Node<'a>,
    ) {
        let Value::Scalar { text, .. } = &node.value else {
            self.report(Diagnostic::new(
                Rule::YamlShape,
                node.span,
                format!("`{name}` takes a text that is XML"),
            ));
            return;
        };
        let wrapped = format!("<{name}>{text}</{name}>");
        match xml::read(&wrapped, 0) {
            Ok(mut read) => {
                place_all(&mut read, node.span);
                read.span = key_span;
                tree.children.push(read.to_owned());
            }
            Err(problem) => self.report(Diagnostic {
                span: node.span,
                ..problem
            }),
        }
    }

    fn scalar<'a>(&mut self, info: &ScalarInfo, node: &Node<'a>) -> Option<(Cow<'a, str>, Span)> {
        match &node.value {
            Value::Scalar { text, plain } => {
                let text = match (info.form, &**text) {
                    (Form::Truth(yes, _), "true") if *plain => Cow::Borrowed(yes),
                    (Form::Truth(_, no), "false") if *plain => Cow::Borrowed(no),
                    (_, "true") if *plain => Cow::Borrowed(
                        info.words
                            .iter()
                            .find(|word| matches!(**word, "yes" | "on" | "true"))
                            .copied()
                            .unwrap_or("true"),
                    ),
                    (_, "false") if *plain => Cow::Borrowed(
                        info.words
                            .iter()
                            .find(|word| matches!(**word, "no" | "off" | "false"))
                            .copied()
                            .unwrap_or("false"),
                    ),
                    _ => text.clone(),
                };
                Some((text, node.span))
            }
            Value::List(items) if matches!(info.form, Form::Joined(_)) => {
                let Form::Joined(separator) = info.form else {
                    return None;
                };
                let parts: Vec<&str> = items
                    .iter()
                    .filter_map(|item| {
                        if let Value::Scalar { text, .. } = &item.value {
                            Some(&**text)
                        } else {
                            None
                        }
                    })
                    .collect();
                if parts.len() < items.len() {
                    let message = "each item of this list is a single value";
                    let problem = Diagnostic::new(crate::rule::Rule::YamlShape, node.span, message);
                    self.report(problem.with_help(format!("expected {}", info.expects)));
                    return None;
                }
                Some((Cow::Owned(parts.join(separator)), node.span))
            }
            Value::Null => {
                self.report(bad_value(info, "", "is empty", node.span));
                None
            }
            Value::List(_) | Value::Map(_) => {
                let what = if info.words.is_empty() {
                    info.expects.to_owned()
                } else {
                    one_of(info.words.iter().copied(), 64)
                };
                self.report(
                    Diagnostic::new(
                        Rule::YamlShape,
                        node.span,
                        format!("a single value is needed here, not {}", node.what()),
                    )
                    .with_help(format!("expected {what}")),
                );
                None
            }
        }
    }
}

fn place_all(tree: &mut Tree<'_>, span: Span) {
    tree.span = span;
    tree.text_span = span;
    tree.whole = span;
    for attribute in &mut tree.attributes {
        attribute.name_span = span;
        attribute.value_span = span;
    }
    tree.children
        .iter_mut()
        .for_each(|child| place_all(child, span));
}
