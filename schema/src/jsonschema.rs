//! The JSON Schema of the YAML form, and the list of shorthands, from the field tables.

use crate::definition::Kind;
use crate::element::{ElementInfo, Field, Shape, Shorthand};
use crate::policy::Policy;
use crate::scalar::{Form, ScalarInfo};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The JSON Schema (draft 2020-12) of one kind's YAML and JSON form.
pub fn schema(kind: Kind) -> Value {
    let mut types = BTreeMap::new();
    let info = kind.info();
    let Value::Object(mut root) = object(info, &mut types, true) else {
        return Value::Null;
    };
    let policy = reference(<Policy as crate::element::Element>::info(), &mut types);
    if let Some(Value::Object(properties)) = root.get_mut("properties") {
        properties.insert("policy".into(), policy);
        properties.insert("kind".into(), json!({"const": kind.as_str()}));
        let head = if kind == Kind::Secret {
            "the uuid"
        } else {
            "the name"
        };
        properties.insert(kind.as_str().into(), json!({"description": head}));
    }
    root.insert(
        "$schema".into(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    root.insert("title".into(), kind.as_str().into());
    root.insert("$defs".into(), Value::Object(types.into_iter().collect()));
    Value::Object(root)
}

/// Every shorthand of a kind: the element it belongs to, and the shorthand.
pub fn shorthands(kind: Kind) -> Vec<(&'static str, &'static Shorthand)> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    let mut queue = vec![kind.info()];
    while let Some(info) = queue.pop() {
        if seen.contains(&info.name) {
            continue;
        }
        seen.push(info.name);
        out.extend(info.short.iter().map(|shorthand| (info.name, shorthand)));
        queue.extend(info.fields.iter().flat_map(inner));
    }
    out
}

fn inner(field: &'static Field) -> Vec<&'static ElementInfo> {
    match field.shape {
        Shape::Child(info) | Shape::List(info) | Shape::Flat(info) => vec![info()],
        Shape::Many(variants) => variants().iter().map(|variant| (variant.info)()).collect(),
        _ => Vec::new(),
    }
}

fn reference(info: &'static ElementInfo, types: &mut BTreeMap<String, Value>) -> Value {
    if !types.contains_key(info.name) {
        types.insert(info.name.into(), Value::Null);
        let made = object(info, types, false);
        types.insert(info.name.into(), made);
    }
    json!({"$ref": format!("#/$defs/{}", info.name)})
}

fn object(info: &'static ElementInfo, types: &mut BTreeMap<String, Value>, root: bool) -> Value {
    let mut properties = Map::new();
    fill(info, types, &mut properties);
    let mut map = Map::new();
    map.insert("type".into(), "object".into());
    map.insert("description".into(), info.doc.trim().into());
    map.insert("properties".into(), Value::Object(properties));
    map.insert("additionalProperties".into(), false.into());
    let object = Value::Object(map);
    if root {
        return object;
    }
    let main = info.text_field().or_else(|| info.field(info.main));
    match main.and_then(|field| single(field.shape)) {
        Some(value) => json!({"anyOf": [object, value]}),
        None => json!({"anyOf": [object, {"type": ["boolean", "null"]}, {"type": "array"}]}),
    }
}

fn fill(
    info: &'static ElementInfo,
    types: &mut BTreeMap<String, Value>,
    properties: &mut Map<String, Value>,
) {
    for field in info.fields {
        let value = match field.shape {
            Shape::Flat(inner) => {
                fill(inner(), types, properties);
                continue;
            }
            Shape::Many(variants) => {
                for variant in variants() {
                    let one = reference((variant.info)(), types);
                    properties.insert(variant.name.into(), json!({"description": variant.doc.trim(), "anyOf": [one, {"type": "array", "items": one}]}));
                }
                json!({"type": "array", "items": {"type": "object"}})
            }
            Shape::Child(inner) => reference(inner(), types),
            Shape::List(inner) => {
                let one = reference(inner(), types);
                json!({"anyOf": [one, {"type": "array", "items": one}]})
            }
            Shape::Leaves(scalar) => {
                let one = scalar_schema(scalar);
                json!({"anyOf": [one, {"type": "array", "items": one}]})
            }
            Shape::Flag => json!({"type": ["boolean", "null"]}),
            Shape::Tree => json!({"type": "string"}),
            Shape::Attribute(scalar)
            | Shape::Text(scalar)
            | Shape::Sized(scalar)
            | Shape::Leaf(scalar) => scalar_schema(scalar),
        };
        properties.insert(field.key.into(), described(value, field.doc));
    }
    for shorthand in info.short {
        let doc = format!("stands for {}", shorthand.into.join(" and "));
        properties.insert(
            shorthand.key.into(),
            json!({"type": ["string", "number"], "description": doc}),
        );
    }
}

fn single(shape: Shape) -> Option<Value> {
    match shape {
        Shape::Attribute(scalar)
        | Shape::Text(scalar)
        | Shape::Sized(scalar)
        | Shape::Leaf(scalar) => Some(scalar_schema(scalar)),
        _ => None,
    }
}

fn described(mut value: Value, doc: &str) -> Value {
    if let Value::Object(map) = &mut value {
        map.insert("description".into(), doc.trim().into());
    }
    value
}

fn scalar_schema(info: &ScalarInfo) -> Value {
    match info.form {
        Form::Truth(yes, no) => json!({"anyOf": [{"type": "boolean"}, {"enum": [yes, no]}]}),
        _ if !info.words.is_empty() => json!({"enum": info.words}),
        Form::Text => json!({"type": ["string", "number"], "$comment": info.expects}),
        Form::Number => json!({"type": ["integer", "string"], "$comment": info.expects}),
        Form::Joined(_) => {
            json!({"type": ["string", "integer", "array"], "$comment": info.expects})
        }
    }
}
