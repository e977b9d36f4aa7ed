//! A judge for the part of JSON Schema (draft 2020-12) that our schemas use.
//!
//! A keyword that it does not know is an error, so that none is without effect. It is written here because the crates that know all of JSON Schema bring three dozen others with them.

use regex_lite::Regex;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A schema, ready to judge.
pub struct Judge {
    root: Value,
    expressions: RefCell<HashMap<String, Rc<Regex>>>,
}

/// Keywords that only inform.
const NOTES: &[&str] = &[
    "$schema",
    "$defs",
    "title",
    "description",
    "enumDescriptions",
];

impl Judge {
    pub fn new(root: Value) -> Self {
        Self {
            root,
            expressions: RefCell::default(),
        }
    }

    pub fn takes(&self, instance: &Value) -> bool {
        self.meets(&self.root, instance)
    }

    /// Every reference of the schema that leads nowhere, and every definition that nothing refers to.
    pub fn loose_ends(&self) -> Vec<String> {
        let mut used = Vec::new();
        references(&self.root, &mut used);
        let defs = self
            .root
            .get("$defs")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let nowhere = used
            .iter()
            .filter(|name| !defs.contains_key(*name))
            .cloned();
        let unused = defs.keys().filter(|name| !used.contains(name)).cloned();
        nowhere.chain(unused).collect()
    }

    fn expression(&self, text: &str) -> Rc<Regex> {
        let mut known = self.expressions.borrow_mut();
        let made = known.entry(text.to_owned());
        made.or_insert_with(|| Rc::new(Regex::new(text).expect("a regular expression")))
            .clone()
    }

    fn meets(&self, schema: &Value, instance: &Value) -> bool {
        let schema = match schema {
            Value::Bool(all) => return *all,
            Value::Object(schema) => schema,
            other => panic!("{other} is no schema"),
        };
        schema
            .iter()
            .all(|(keyword, value)| self.keyword(keyword, value, schema, instance))
    }

    fn keyword(
        &self,
        keyword: &str,
        value: &Value,
        schema: &Map<String, Value>,
        instance: &Value,
    ) -> bool {
        let each = || value.as_array().into_iter().flatten();
        let object = instance.as_object();
        match keyword {
            "$ref" => self.meets(self.definition(value), instance),
            "type" => match value {
                Value::Array(types) => types.iter().any(|one| is_of(one, instance)),
                one => is_of(one, instance),
            },
            "enum" => each().any(|one| one == instance),
            "pattern" => match (value, instance) {
                (Value::String(pattern), Value::String(text)) => {
                    self.expression(pattern).is_match(text)
                }
                _ => true,
            },
            "anyOf" => each().any(|one| self.meets(one, instance)),
            "allOf" => each().all(|one| self.meets(one, instance)),
            "not" => !self.meets(value, instance),
            "if" => {
                let chosen = if self.meets(value, instance) {
                    "then"
                } else {
                    "else"
                };
                schema
                    .get(chosen)
                    .is_none_or(|chosen| self.meets(chosen, instance))
            }
            "then" | "else" => schema.contains_key("if"),
            "required" => object.is_none_or(|object| {
                each()
                    .filter_map(Value::as_str)
                    .all(|key| object.contains_key(key))
            }),
            "properties" => object.is_none_or(|object| {
                let mut entries = object.iter();
                entries.all(|(key, inner)| {
                    value
                        .get(key)
                        .is_none_or(|schema| self.meets(schema, inner))
                })
            }),
            "additionalProperties" => object.is_none_or(|object| {
                assert_eq!(*value, Value::Bool(false));
                let known = schema.get("properties").and_then(Value::as_object);
                object
                    .keys()
                    .all(|key| known.is_some_and(|known| known.contains_key(key)))
            }),
            "propertyNames" => object.is_none_or(|object| {
                object
                    .keys()
                    .all(|key| self.meets(value, &Value::String(key.clone())))
            }),
            "items" => {
                let mut items = instance.as_array().into_iter().flatten();
                items.all(|item| self.meets(value, item))
            }
            note if NOTES.contains(&note) => true,
            other => panic!("the keyword {other} is not known here"),
        }
    }

    fn definition(&self, reference: &Value) -> &Value {
        let name = name_of(reference).expect("a reference is a text");
        self.root["$defs"]
            .get(&name)
            .unwrap_or_else(|| panic!("{name} is not defined"))
    }
}

fn name_of(reference: &Value) -> Option<String> {
    let name = reference.as_str()?.strip_prefix("#/$defs/")?;
    Some(name.replace("%20", " "))
}

fn references(value: &Value, used: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            used.extend(map.get("$ref").and_then(name_of));
            map.values().for_each(|inner| references(inner, used));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, used)),
        _ => {}
    }
}

fn is_of(kind: &Value, instance: &Value) -> bool {
    match kind.as_str() {
        Some("null") => instance.is_null(),
        Some("boolean") => instance.is_boolean(),
        Some("integer") => instance.is_i64() || instance.is_u64(),
        Some("number") => instance.is_number(),
        Some("string") => instance.is_string(),
        Some("array") => instance.is_array(),
        Some("object") => instance.is_object(),
        other => panic!("the type {other:?} is not known"),
    }
}
