//! Putting what YAML states into a tree that may hold it already: a shorthand and the long form may say one thing, and not two.

use super::Shaper;
use crate::diagnostic::Diagnostic;
use crate::element::Shorthand;
use crate::rule::Rule;
use crate::source::Span;
use crate::tree::{Attribute, Element as Tree};
use crate::yaml::{Entry, Value};
use std::borrow::Cow;

impl Shaper {
    pub(super) fn put_attribute<'a>(
        &mut self,
        tree: &mut Tree<'a>,
        name: &'static str,
        value: Cow<'a, str>,
        name_span: Span,
        value_span: Span,
    ) {
        match tree.attribute(name) {
            Some(before) if before.value == value => {}
            Some(before) => {
                let message = format!("`{name}` of `{}` is already `{}`", tree.name, before.value);
                self.report(
                    Diagnostic::new(Rule::StatedTwice, value_span, message)
                        .with_help("a shorthand and the long form say different things: keep one"),
                );
            }
            None => tree.attributes.push(Attribute {
                name: Cow::Borrowed(name),
                value,
                name_span,
                value_span,
            }),
        }
    }

    pub(super) fn put_text<'a>(&mut self, tree: &mut Tree<'a>, text: Cow<'a, str>, span: Span) {
        if tree.text.as_deref().is_some_and(|before| before != text) {
            self.report(Diagnostic::new(
                Rule::StatedTwice,
                span,
                format!("the value of `{}` is stated twice", tree.name),
            ));
            return;
        }
        tree.text = Some(text);
        tree.text_span = span;
    }

    /// Adds a child; what a shorthand already began is completed.
    pub(super) fn put_child<'a>(&mut self, tree: &mut Tree<'a>, child: Tree<'a>) {
        let Some(at) = tree
            .children
            .iter()
            .position(|known| known.name == child.name && known.whole == SHORT)
        else {
            tree.children.push(child);
            return;
        };
        let mut known = tree.children.remove(at);
        known.whole = Span::default();
        for attribute in child.attributes {
            let name = known
                .attribute(&attribute.name)
                .map(|before| before.value == attribute.value);
            match name {
                Some(true) => {}
                Some(false) => {
                    let message =
                        format!("`{}` of `{}` is stated twice", attribute.name, known.name);
                    self.report(
                        Diagnostic::new(Rule::StatedTwice, attribute.value_span, message)
                            .with_help(
                                "a shorthand and the long form say different things: keep one",
                            ),
                    );
                }
                None => known.attributes.push(attribute),
            }
        }
        for inner in child.children {
            self.put_child(&mut known, inner);
        }
        if let Some(text) = child.text {
            self.put_text(&mut known, text, child.text_span);
        }
        tree.children.push(known);
    }

    pub(super) fn shorthand<'a>(
        &mut self,
        tree: &mut Tree<'a>,
        shorthand: &'static Shorthand,
        entry: &Entry<'a>,
    ) {
        let Value::Scalar { text, .. } = &entry.node.value else {
            self.path.push(entry.key.to_string());
            self.report(Diagnostic::new(
                Rule::YamlShape,
                entry.node.span,
                format!(
                    "`{}` takes a single value, not {}",
                    entry.key,
                    entry.node.what()
                ),
            ));
            self.path.pop();
            return;
        };
        let text = text.to_string();
        let parts: Vec<String> = match shorthand.into {
            [_, _, ..] => match text.split_once('/') {
                Some((first, rest)) => vec![first.to_owned(), rest.to_owned()],
                None => {
                    self.report(
                        Diagnostic::new(
                            Rule::BadValue,
                            entry.node.span,
                            format!("`{text}` lacks a `/`"),
                        )
                        .with_help(format!("`{}` takes two names joined by `/`", entry.key)),
                    );
                    return;
                }
            },
            _ => vec![text],
        };
        for (into, part) in shorthand.into.iter().zip(parts) {
            self.put_at(tree, into, part, entry.key_span, entry.node.span);
        }
        for (at, constant) in shorthand.sets {
            self.put_at(
                tree,
                at,
                (*constant).to_owned(),
                entry.key_span,
                entry.node.span,
            );
        }
    }

    fn put_at<'a>(
        &mut self,
        tree: &mut Tree<'a>,
        path: &'static str,
        value: String,
        key_span: Span,
        span: Span,
    ) {
        if let Some(name) = path.strip_prefix('@') {
            self.put_attribute(tree, name, Cow::Owned(value), key_span, span);
        } else if path.is_empty() {
            self.put_text(tree, Cow::Owned(value), span);
        } else {
            let (name, rest) = path.split_once('/').unwrap_or((path, ""));
            let mut child = take_child(tree, name, key_span);
            self.put_at(&mut child, rest, value, key_span, span);
            tree.children.push(child);
        }
    }
}

/// Marks a child that a shorthand or a flat field began: no element of XML can lie there.
const SHORT: Span = Span {
    start: usize::MAX,
    end: usize::MAX,
};

pub(super) fn take_child<'a>(tree: &mut Tree<'a>, name: &'static str, span: Span) -> Tree<'a> {
    match tree.children.iter().position(|child| child.name == name) {
        Some(at) => tree.children.remove(at),
        None => {
            let mut child = Tree::new(name, span);
            child.whole = SHORT;
            child
        }
    }
}
