//! Writing types as trees: one function for each word of [`element!`](crate::element).

use super::{Element, Union};
use crate::scalar::{DefaultUnit, Scalar, Size};
use crate::source::Span;
use crate::tree::{Element as Tree, Foreign};
use std::borrow::Cow;

fn set<T: Scalar>(out: &mut Tree<'static>, name: &'static str, value: &T) {
    out.set(name, Cow::Owned(value.text().into_owned()), Span::default());
}

pub fn attr<T: Scalar>(value: &Option<T>, name: &'static str, out: &mut Tree<'static>) {
    if let Some(value) = value {
        set(out, name, value);
    }
}

pub fn blank<T: Scalar>(value: &Option<T>, name: &'static str, out: &mut Tree<'static>) {
    attr(value, name, out);
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
