//! From an element's tree and its table to the YAML (and JSON) value.

use super::names::{main_field, only_list};
use crate::element::{Element, ElementInfo, Field, Shape, Shorthand, Variant};
use crate::scalar::{Form, ScalarInfo};
use crate::tree::Element as Tree;
use crate::xml;
use serde_yaml::{Mapping, Value as Yaml};

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As a person writes it: shorthands and single values where nothing is lost by them.
    Short,
    /// Everything under its own key: mappings and lists also where one value would do, as programs like it.
    Long,
}

/// An element's YAML and JSON value in the short style.
pub fn value_of<T: Element>(element: &T) -> Yaml {
    value(&element.encode("x"), T::info(), Style::Short)
}

/// The value of a tree whose table is `info`.
pub fn value(tree: &Tree<'_>, info: &'static ElementInfo, style: Style) -> Yaml {
    let map = mapping(tree, info, style);
    if style == Style::Long {
        return Yaml::Mapping(map);
    }
    if map.is_empty() {
        return if main_field(info).is_none() {
            Yaml::Bool(true)
        } else {
            Yaml::Mapping(map)
        };
    }
    if let Some(items) = as_list(&map, info) {
        return Yaml::Sequence(items);
    }
    let main = main_field(info).map(|field| field.key);
    match (map.len(), main.and_then(|key| map.get(key))) {
        (1, Some(only)) if !only.is_mapping() && !only.is_sequence() => only.clone(),
        _ => Yaml::Mapping(map),
    }
}

/// The items of an element that has nothing but a list, unless one of them is a list itself.
fn as_list(map: &Mapping, info: &'static ElementInfo) -> Option<Vec<Yaml>> {
    let items = map.get(only_list(info)?.key)?.as_sequence()?;
    let plain = !items.iter().any(Yaml::is_sequence);
    plain.then(|| items.clone())
}

/// The value of a tree as a mapping, even where a single value would do.
pub fn mapping(tree: &Tree<'_>, info: &'static ElementInfo, style: Style) -> Mapping {
    let mut tree = tree.to_owned();
    let mut out = Mapping::new();
    let short = match style {
        Style::Short => info.short,
        Style::Long => &[],
    };
    for shorthand in short {
        if let Some(text) = use_shorthand(&mut tree, shorthand) {
            out.insert(shorthand.key.into(), Yaml::String(text));
        }
    }
    for field in info.fields {
        field_value(&tree, field, style, &mut out);
    }
    out
}

fn field_value(tree: &Tree<'_>, field: &'static Field, style: Style, out: &mut Mapping) {
    let children = || {
        tree.children
            .iter()
            .filter(|child| child.name == field.name)
    };
    match field.shape {
        Shape::Attribute(info) => {
            if let Some(attribute) = tree.attribute(field.name) {
                out.insert(field.key.into(), scalar_value(&attribute.value, info));
            }
        }
        Shape::Text(info) => {
            if let Some(text) = &tree.text {
                out.insert(field.key.into(), scalar_value(text, info));
            }
        }
        Shape::Sized(info) => {
            if let Some(text) = &tree.text {
                let text = tree
                    .attribute("unit")
                    .map_or_else(|| text.to_string(), |unit| format!("{text} {}", unit.value));
                out.insert(field.key.into(), scalar_value(&text, info));
            }
        }
        Shape::Leaf(info) => {
            if let Some(child) = children().next() {
                out.insert(
                    field.key.into(),
                    scalar_value(child.text.as_deref().unwrap_or(""), info),
                );
            }
        }
        Shape::Leaves(info) => {
            let items: Vec<Yaml> = children()
                .map(|child| scalar_value(child.text.as_deref().unwrap_or(""), info))
                .collect();
            insert_list(out, field.key, items);
        }
        Shape::Flag => {
            if children().next().is_some() {
                out.insert(field.key.into(), Yaml::Bool(true));
            }
        }
        Shape::Child(info) => {
            if let Some(child) = children().next() {
                out.insert(field.key.into(), value(child, info(), style));
            }
        }
        Shape::Flat(info) => {
            if let Some(child) = children().next() {
                let inner = mapping(child, info(), style);
                if style == Style::Long
                    || inner.is_empty()
                    || inner.keys().any(|key| out.contains_key(key))
                {
                    out.insert(field.key.into(), Yaml::Mapping(inner));
                } else {
                    out.extend(inner);
                }
            }
        }
        Shape::List(info) => insert_list(
            out,
            field.key,
            children()
                .map(|child| value(child, info(), style))
                .collect(),
        ),
        Shape::Many(variants) => many_value(tree, field.key, variants(), style, out),
        Shape::Tree => {
            if let Some(child) = children().next() {
                let text: String = child.children.iter().map(xml::write).collect();
                out.insert(field.key.into(), Yaml::String(text));
            }
        }
    }
}

fn insert_list(out: &mut Mapping, key: &'static str, items: Vec<Yaml>) {
    if !items.is_empty() {
        out.insert(key.into(), Yaml::Sequence(items));
    }
}

/// By kind where each kind's elements stand together, else as a list in the order of the document.
fn many_value(
    tree: &Tree<'_>,
    key: &'static str,
    variants: &'static [Variant],
    style: Style,
    out: &mut Mapping,
) {
    let mut groups: Vec<(&'static str, Vec<Yaml>)> = Vec::new();
    let mut all = Vec::new();
    let mut scattered = false;
    for child in &tree.children {
        let Some(variant) = variants.iter().find(|variant| variant.name == child.name) else {
            continue;
        };
        let item = match value(child, (variant.info)(), style) {
            // Where one value may stand for a list of them, a list is several.
            Yaml::Sequence(items) => Yaml::Sequence(vec![Yaml::Sequence(items)]),
            item => item,
        };
        all.push(Yaml::Mapping(
            [(variant.name.into(), item.clone())].into_iter().collect(),
        ));
        let last = groups.len().saturating_sub(1);
        match groups
            .iter_mut()
            .enumerate()
            .find(|(_, (name, _))| *name == variant.name)
        {
            Some((at, (_, items))) => {
                scattered |= at != last;
                items.push(item);
            }
            None => groups.push((variant.name, vec![item])),
        }
    }
    if scattered || style == Style::Long {
        insert_list(out, key, all);
        return;
    }
    for (name, mut items) in groups {
        let value = match items.pop() {
            Some(only) if items.is_empty() => only,
            Some(last) => {
                items.push(last);
                Yaml::Sequence(items)
            }
            None => continue,
        };
        out.insert(name.into(), value);
    }
}

fn scalar_value(text: &str, info: &ScalarInfo) -> Yaml {
    match info.form {
        Form::Number
            if text
                .parse::<i64>()
                .is_ok_and(|number| number.to_string() == text) =>
        {
            Yaml::Number(text.parse::<i64>().unwrap_or_default().into())
        }
        Form::Truth(yes, _) if text == yes => Yaml::Bool(true),
        Form::Truth(_, no) if text == no => Yaml::Bool(false),
        _ => Yaml::String(text.to_owned()),
    }
}

/// Takes what the shorthand stands for out of the tree, if all of it is there, and gives the shorthand's value.
fn use_shorthand(tree: &mut Tree<'static>, shorthand: &'static Shorthand) -> Option<String> {
    for (at, constant) in shorthand.sets {
        if look(tree, at)? != *constant {
            return None;
        }
    }
    let parts: Vec<String> = shorthand
        .into
        .iter()
        .map(|at| look(tree, at).map(str::to_owned))
        .collect::<Option<_>>()?;
    if parts.iter().any(|part| part.trim().is_empty())
        || parts.len() > 1 && parts.first().is_some_and(|first| first.contains('/'))
    {
        return None;
    }
    for at in shorthand
        .into
        .iter()
        .chain(shorthand.sets.iter().map(|(at, _)| at))
    {
        remove(tree, at);
    }
    Some(parts.join("/"))
}

fn only_child<'t>(tree: &'t Tree<'static>, name: &str) -> Option<&'t Tree<'static>> {
    let mut named = tree.children.iter().filter(|child| child.name == name);
    let only = named.next()?;
    named.next().is_none().then_some(only)
}

fn look<'t>(tree: &'t Tree<'static>, path: &str) -> Option<&'t str> {
    if let Some(name) = path.strip_prefix('@') {
        return tree.attribute(name).map(|attribute| &*attribute.value);
    }
    if path.is_empty() {
        return tree.text.as_deref().filter(|_| tree.children.is_empty());
    }
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    look(only_child(tree, name)?, rest)
}

fn remove(tree: &mut Tree<'static>, path: &str) {
    if let Some(name) = path.strip_prefix('@') {
        tree.attributes.retain(|attribute| attribute.name != name);
    } else if path.is_empty() {
        tree.text = None;
    } else {
        let (name, rest) = path.split_once('/').unwrap_or((path, ""));
        if let Some(child) = tree.children.iter_mut().find(|child| child.name == name) {
            remove(child, rest);
        }
        tree.children
            .retain(|child| child.name != name || !child.is_bare());
    }
}
