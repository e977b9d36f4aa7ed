//! Which keys a mapping may have, and which field a single value stands for.

use crate::element::{ElementInfo, Field, Shape};

impl Field {
    /// Whether its key differs from its name because it may occur several times.
    pub(super) fn key_is_plural(&self) -> bool {
        matches!(self.shape, Shape::List(_) | Shape::Leaves(_))
    }
}

/// The field that a single value stands for.
pub(crate) fn main_field(info: &'static ElementInfo) -> Option<&'static Field> {
    info.text_field()
        .or_else(|| info.fields.iter().find(|field| field.name == info.main))
}

/// The child that a word by itself states: one that may be empty.
pub(crate) fn word_field(info: &'static ElementInfo, word: &str) -> Option<&'static Field> {
    let is_child = |field: &&Field| matches!(field.shape, Shape::Flag | Shape::Child(_));
    let mut fields = info.fields.iter().filter(is_child);
    fields.find(|field| field.key == word)
}

/// Whether an element only holds others, so that a single word in its place can be nothing but one of them.
pub(crate) fn only_holds(info: &'static ElementInfo) -> bool {
    let mut fields = info.fields.iter();
    !fields.any(|field| matches!(field.shape, Shape::Attribute(_)))
}

/// The list field of an element that has nothing else.
pub(crate) fn only_list(info: &'static ElementInfo) -> Option<&'static Field> {
    match info.fields {
        [field] if matches!(field.shape, Shape::List(_) | Shape::Leaves(_)) => Some(field),
        _ => None,
    }
}

/// Every key that a mapping of this element may have.
pub fn keys(info: &'static ElementInfo) -> Vec<&'static str> {
    let mut out: Vec<&'static str> = Vec::new();
    for field in info.fields {
        match field.shape {
            Shape::Many(variants) => out.extend(variants().iter().map(|variant| variant.name)),
            Shape::Flat(inner) => out.extend(keys(inner())),
            _ => out.push(field.key),
        }
    }
    out.extend(info.short.iter().map(|shorthand| shorthand.key));
    out
}

/// Whether a mapping of this element may have the key.
pub(crate) fn knows(info: &'static ElementInfo, key: &str) -> bool {
    info.fields.iter().any(|field| match field.shape {
        Shape::Many(variants) => {
            field.key == key || variants().iter().any(|variant| variant.name == key)
        }
        Shape::Flat(inner) => field.key == key || knows(inner(), key),
        _ => field.key == key || field.key_is_plural() && field.name == key,
    }) || info.short.iter().any(|shorthand| shorthand.key == key)
}
