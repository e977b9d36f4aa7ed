//! How values were written.
//!
//! A type holds what a value means; writing it gives the canonical text, such as `52:54:00:ab:00:01`, `7` or a uuid with its dashes. Where a document said the same in another way
//! (`52:54:00:AB:00:01`, `007`), the element keeps that way, and writes it as long as the value is not changed.

use crate::scalar::Scalar;
use crate::source::Span;
use crate::tree::Element as Tree;
use std::borrow::Cow;

/// Where in an element a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In an attribute.
    Attribute(&'static str),
    /// In its text.
    Text,
    /// In the text of its child of this name and number, from 0.
    Leaf(&'static str, usize),
    /// It is its child of this name, in which there is nothing.
    Child(&'static str),
}

/// One value that was written otherwise than its type would.
#[derive(Debug, Clone)]
pub struct Look {
    place: Place,
    canonical: Box<str>,
    stated: Box<str>,
}

impl Look {
    /// That something was stated in which there is nothing.
    pub(super) fn bare(place: Place) -> Self {
        Self {
            place,
            canonical: "".into(),
            stated: "".into(),
        }
    }

    fn is_bare(&self) -> bool {
        self.canonical.is_empty() && self.stated.is_empty()
    }

    /// What is to be kept of a value's text; nothing where it is the canonical one.
    pub(super) fn of<T: Scalar>(place: Place, value: &T, stated: &str) -> Option<Self> {
        (!value.is_written(stated)).then(|| Self {
            place,
            canonical: value.text().into(),
            stated: stated.into(),
        })
    }
}

/// The values of one element that were written otherwise than their types would. It makes no difference when elements are compared.
#[derive(Debug, Clone, Default)]
pub struct Looks(Option<Box<[Look]>>);

impl PartialEq for Looks {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Looks {
    pub(super) fn new(looks: Vec<Look>) -> Self {
        Self((!looks.is_empty()).then(|| looks.into()))
    }

    /// Gives values that were not changed since the looks that they had.
    pub fn restore(&self, tree: &mut Tree<'static>) {
        for look in self.0.iter().flatten() {
            let text = match look.place {
                Place::Attribute(name) if tree.attribute(name).is_none() => {
                    if look.is_bare() {
                        tree.set(name, "", Span::default());
                    }
                    None
                }
                Place::Attribute(name) => tree
                    .attributes
                    .iter_mut()
                    .find(|attribute| attribute.name == name)
                    .map(|attribute| &mut attribute.value),
                Place::Text => tree.text.as_mut(),
                Place::Leaf(name, _) if look.is_bare() => {
                    if tree.child(name).is_none() {
                        let mut child = Tree::new(name, Span::default());
                        child.text = Some(Cow::Borrowed(""));
                        tree.children.push(child);
                    }
                    None
                }
                Place::Leaf(name, number) => tree
                    .children
                    .iter_mut()
                    .filter(|child| child.name == name)
                    .nth(number)
                    .and_then(|child| child.text.as_mut()),
                Place::Child(name) => {
                    if tree.child(name).is_none() {
                        tree.children.push(Tree::new(name, Span::default()));
                    }
                    None
                }
            };
            if let Some(text) = text.filter(|text| **text == *look.canonical) {
                *text = Cow::Owned(look.stated.to_string());
            }
        }
    }
}
