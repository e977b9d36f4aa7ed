//! The JSON Schema of the YAML form, and the list of shorthands, from the field tables.
//!
//! In: the tables. Out: a schema (draft 2020-12) that takes what [`shape`](crate::shape) reads: every key in its ways of being written, single values, lists, shorthands, the words of
//! enumerations with what they mean, and what must be stated. It refuses unknown keys and wrong shapes. Rules between fields, and values that a regular expression cannot tell, are left to
//! reading.

use crate::definition::Kind;
use crate::element::{Element as _, ElementInfo, Field, Shape, Shorthand, Variant};
use crate::policy::Policy;
use crate::scalar::{Form, ScalarInfo};
use crate::shape;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The JSON Schema of one definition of a kind, in YAML or JSON.
pub fn schema(kind: Kind) -> Value {
    let mut types = Types::default();
    let mut root = types.definition(kind);
    if let Value::Object(root) = &mut root {
        root.insert("$schema".into(), DIALECT.into());
        root.insert("title".into(), kind.as_str().into());
        root.insert("$defs".into(), types.defs());
    }
    root
}

/// The JSON Schema of a file: a definition of any kind, or a list of them. An editor applies it to each of the file's documents.
pub fn file_schema() -> Value {
    let mut types = Types::default();
    let mut heads = Map::new();
    let mut each = Vec::new();
    for kind in Kind::ALL {
        let definition = types.definition(*kind);
        types.0.insert(kind.as_str().into(), definition);
        heads.insert(
            kind.as_str().into(),
            json!({"description": kind_doc(*kind)}),
        );
        each.push(json!({"if": is_of(*kind), "then": {"$ref": format!("#/$defs/{kind}")}}));
    }
    let words: Vec<&str> = Kind::ALL.iter().flat_map(|kind| names(*kind)).collect();
    heads.insert(
        "kind".into(),
        json!({"enum": words, "description": "What is defined."}),
    );
    let begun = words.iter().copied().chain(["kind"]);
    let definition = json!({
        "type": "object",
        "description": "A definition: its kind with its name, and its fields beside it.",
        "properties": heads,
        "anyOf": begun.map(|key| json!({"required": [key]})).collect::<Vec<_>>(),
        "allOf": each,
    });
    types.0.insert("definition".into(), definition);
    let one = json!({"$ref": "#/$defs/definition"});
    json!({
        "$schema": DIALECT,
        "title": "vireo",
        "description": "What a host is kept equal to.",
        "anyOf": [one, {"type": "array", "items": one}, {"type": "null"}],
        "$defs": types.defs(),
    })
}

/// Every shorthand once: the path of the element it belongs to, and the shorthand; by kind, from the outside.
pub fn shorthands() -> Vec<(String, &'static Shorthand)> {
    let mut seen = Vec::new();
    let mut out: Vec<(String, &Shorthand)> = Vec::new();
    let kinds = Kind::ALL.iter();
    let mut queue: VecDeque<_> = kinds
        .map(|kind| (kind.root().to_owned(), kind.info()))
        .collect();
    while let Some((path, info)) = queue.pop_front() {
        if seen.contains(&info.name) {
            continue;
        }
        seen.push(info.name);
        let known = |one: &Shorthand| out.iter().any(|(_, before)| std::ptr::eq(*before, one));
        let new: Vec<_> = info.short.iter().filter(|one| !known(one)).collect();
        out.extend(new.into_iter().map(|shorthand| (path.clone(), shorthand)));
        let below = info.fields.iter().flat_map(inner);
        queue.extend(below.map(|(name, info)| (format!("{path}/{name}"), info)));
    }
    out
}

/// [`shorthands`] as a table for people, one a line.
pub fn shorthand_list() -> String {
    let all = shorthands();
    let first = all.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    let second = all
        .iter()
        .map(|(_, short)| short.key.len())
        .max()
        .unwrap_or(0);
    let line = |(path, short): &(String, &Shorthand)| {
        format!("{path:first$}  {:second$}  {short}\n", short.key)
    };
    all.iter().map(line).collect()
}

fn inner(field: &'static Field) -> Vec<(&'static str, &'static ElementInfo)> {
    match field.shape {
        Shape::Child(info) | Shape::List(info) | Shape::Flat(info) => vec![(field.name, info())],
        Shape::Many(variants) => {
            let variants = variants().iter();
            variants
                .map(|variant| (variant.name, (variant.info)()))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The keys that begin a definition of this kind.
fn names(kind: Kind) -> Vec<&'static str> {
    let mut names = vec![kind.as_str(), kind.root()];
    names.dedup();
    names
}

fn kind_doc(kind: Kind) -> &'static str {
    let at = Kind::ALL.iter().position(|one| *one == kind);
    let meanings = <Kind as crate::scalar::Scalar>::INFO.meanings;
    at.and_then(|at| meanings.get(at))
        .map_or("", |doc| doc.trim())
}

/// That a mapping is of this kind: by `kind`, or by its key, where no other kind has that key as a field.
fn is_of(kind: Kind) -> Value {
    let named = json!({"required": ["kind"], "properties": {"kind": {"enum": names(kind)}}});
    let mut ways = vec![named];
    for name in names(kind) {
        let mut above = vec![json!({"required": ["kind"]})];
        let knows = |other: &Kind| *other != kind && shape::knows(other.info(), name);
        for other in Kind::ALL.iter().copied().filter(knows) {
            above.extend(names(other).iter().map(|name| json!({"required": [name]})));
        }
        ways.push(json!({"required": [name], "not": {"anyOf": above}}));
    }
    json!({"anyOf": ways})
}

/// The part below a child of paths that shorthands state: what must be stated there may be left out.
fn below(given: impl Iterator<Item = &'static str>, child: &str) -> Vec<&'static str> {
    given
        .filter_map(|path| path.strip_prefix(child)?.strip_prefix('/'))
        .collect()
}

/// The schemas of element types, by their names.
#[derive(Default)]
struct Types(BTreeMap<String, Value>);

impl Types {
    fn defs(self) -> Value {
        Value::Object(self.0.into_iter().collect())
    }

    /// A whole definition: the kind's key with the name and the fields beside it, or with everything inside, or `kind` beside the fields.
    fn definition(&mut self, kind: Kind) -> Value {
        let info = kind.info();
        let mut properties = self.properties(info, &[]);
        if !kind.is_record() {
            let policy = self.element(Policy::info(), &[], false);
            properties.insert(
                "policy".into(),
                described(policy, "How it is wanted.", None),
            );
        }
        let long = self.object_reference(info);
        let head = json!({"anyOf": [head_value(kind), long], "description": kind_doc(kind)});
        for name in names(kind) {
            properties.insert(name.into(), head.clone());
        }
        properties.insert(
            "kind".into(),
            json!({"enum": names(kind), "description": "What is defined."}),
        );
        let mut stated = conditions(info, kind.head(), &[]);
        let named = info.must.contains(&kind.head());
        let by_kind = if named {
            vec!["kind", kind.head()]
        } else {
            vec!["kind"]
        };
        let mut ways = vec![json!({"required": by_kind})];
        ways.extend(names(kind).iter().map(|name| json!({"required": [name]})));
        stated.push(json!({"anyOf": ways}));
        let mut inside = json!({"allOf": stated});
        for name in names(kind) {
            inside = json!({
                "if": {"required": [name], "properties": {name: {"type": "object"}}},
                "then": {"propertyNames": {"enum": [name, "policy"]}},
                "else": inside,
            });
        }
        json!({
            "type": "object",
            "description": info.doc.trim(),
            "properties": properties,
            "additionalProperties": false,
            "allOf": [inside],
        })
    }

    /// What an element may be where one is needed; `listed` where a list of words, or of its only field, may stand for it.
    fn element(
        &mut self,
        info: &'static ElementInfo,
        given: &[&'static str],
        listed: bool,
    ) -> Value {
        let name = match given.is_empty() || conditions(info, "", &[]).is_empty() {
            true => info.name.to_owned(),
            false => format!("{} but {}", info.name, given.join(" ")),
        };
        if !self.0.contains_key(&name) {
            self.0.insert(name.clone(), Value::Null);
            let made = self.single(info, given);
            self.0.insert(name.clone(), made);
        }
        let one = reference(&name);
        match self.list_form(info).filter(|_| listed) {
            Some(list) => json!({"anyOf": [one, list]}),
            None => one,
        }
    }

    /// A mapping of its fields, without the single values that stand for it.
    fn object_reference(&mut self, info: &'static ElementInfo) -> Value {
        let name = format!("{} in full", info.name);
        if !self.0.contains_key(&name) {
            self.0.insert(name.clone(), Value::Null);
            let made = self.object(info, &[]);
            self.0.insert(name.clone(), made);
        }
        reference(&name)
    }

    /// A mapping, a value of the main field, or (where nothing must be stated) nothing.
    fn single(&mut self, info: &'static ElementInfo, given: &[&'static str]) -> Value {
        let object = self.object(info, given);
        let main = shape::main_field(info);
        let enough = conditions(info, main.map_or("", |main| main.name), given).is_empty();
        let nothing = conditions(info, "", given).is_empty();
        let mut ways = vec![object];
        match main.and_then(main_scalar) {
            Some(scalar) if enough => ways.push(one_scalar(scalar)),
            None if main.is_none() && nothing => {
                ways.push(json!({"type": "boolean"}));
                let words = flags(info).filter(|_| shape::only_holds(info));
                ways.extend(words.map(|words| json!({"enum": words})));
            }
            _ => {}
        }
        if nothing {
            ways.push(json!({"type": "null"}));
        }
        match ways.len() {
            1 => ways.remove(0),
            _ => json!({"description": info.doc.trim(), "anyOf": ways}),
        }
    }

    fn list_form(&mut self, info: &'static ElementInfo) -> Option<Value> {
        if let Some(field) = shape::only_list(info) {
            let item = self.field(field, &[]);
            return Some(json!({"type": "array", "items": item}));
        }
        flags(info).map(|words| json!({"type": "array", "items": {"enum": words}}))
    }

    fn object(&mut self, info: &'static ElementInfo, given: &[&'static str]) -> Value {
        let mut object = json!({
            "type": "object",
            "description": info.doc.trim(),
            "properties": self.properties(info, given),
            "additionalProperties": false,
        });
        let stated = conditions(info, "", given);
        if let (Value::Object(map), false) = (&mut object, stated.is_empty()) {
            map.insert("allOf".into(), stated.into());
        }
        object
    }

    /// Every key that a mapping may have, those of flat children last.
    fn properties(
        &mut self,
        info: &'static ElementInfo,
        given: &[&'static str],
    ) -> Map<String, Value> {
        let mut out = Map::new();
        let short = info.short.iter().flat_map(said);
        let given: Vec<&'static str> = given.iter().copied().chain(short).collect();
        for field in info.fields {
            let given = below(given.iter().copied(), field.name);
            let value = described(self.field(field, &given), field.doc, scalar_of(field.shape));
            if matches!(field.shape, Shape::List(_) | Shape::Leaves(_)) {
                out.entry(field.name).or_insert_with(|| value.clone());
            }
            out.insert(field.key.into(), value);
        }
        for shorthand in info.short {
            let value = shorthand_value(info, shorthand);
            out.entry(shorthand.key).or_insert(value);
        }
        for field in info.fields {
            match field.shape {
                Shape::Flat(inner) => {
                    for (key, value) in self.properties(inner(), &[]) {
                        out.entry(key).or_insert(value);
                    }
                }
                Shape::Many(variants) => {
                    for variant in variants() {
                        let value = self.several((variant.info)());
                        let value = described(value, variant.doc, None);
                        out.entry(variant.name).or_insert(value);
                    }
                }
                _ => {}
            }
        }
        out
    }

    fn field(&mut self, field: &'static Field, given: &[&'static str]) -> Value {
        match field.shape {
            Shape::Attribute(info) | Shape::Text(info) | Shape::Sized(info) | Shape::Leaf(info) => {
                scalar(info)
            }
            Shape::Leaves(info) => {
                let one = scalar(info);
                json!({"anyOf": [one, {"type": "array", "items": one}]})
            }
            Shape::Flag => json!({"enum": [true, false, null, "yes", "no", "on", "off"]}),
            Shape::Child(info) | Shape::Flat(info) => self.element(info(), given, true),
            Shape::List(info) => self.several(info()),
            Shape::Many(variants) => self.tagged(variants()),
            Shape::Tree => json!({"type": "string"}),
        }
    }

    fn several(&mut self, info: &'static ElementInfo) -> Value {
        let one = self.element(info, &[], false);
        let item = self.element(info, &[], true);
        json!({"anyOf": [one, {"type": "array", "items": item}]})
    }

    /// A list whose items tell their kinds by their keys.
    fn tagged(&mut self, variants: &'static [Variant]) -> Value {
        let mut properties = Map::new();
        for variant in variants {
            let value = described(self.several((variant.info)()), variant.doc, None);
            properties.insert(variant.name.into(), value);
        }
        json!({
            "type": "array",
            "items": {"type": "object", "properties": properties, "additionalProperties": false},
        })
    }
}

/// Every path that a shorthand states.
fn said(shorthand: &'static Shorthand) -> impl Iterator<Item = &'static str> {
    let sets = shorthand.sets.iter().map(|(path, _)| *path);
    shorthand.into.iter().copied().chain(sets)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/$defs/{}", name.replace(' ', "%20"))})
}

/// What must be stated, in one of its ways; but for the field named, and for what is given from outside.
fn conditions(info: &'static ElementInfo, but: &str, given: &[&str]) -> Vec<Value> {
    let mut out = Vec::new();
    let fields = info.must.iter().filter(|must| **must != but);
    for field in fields.filter_map(|must| info.field(must)) {
        let says = |path: &str| match field.shape {
            Shape::Attribute(_) => path.strip_prefix('@') == Some(field.name),
            Shape::Text(_) | Shape::Sized(_) => path.is_empty(),
            _ => path.split('/').next() == Some(field.name),
        };
        if given.iter().any(|path| says(path)) {
            continue;
        }
        let mut keys = vec![field.key];
        if matches!(field.shape, Shape::List(_) | Shape::Leaves(_)) {
            keys.push(field.name);
        }
        let short = info.short.iter().filter(|short| said(short).any(says));
        keys.extend(short.map(|shorthand| shorthand.key));
        let ways: Vec<Value> = keys.iter().map(|key| json!({"required": [key]})).collect();
        out.push(match <[Value; 1]>::try_from(ways) {
            Ok([only]) => only,
            Err(ways) => json!({"anyOf": ways}),
        });
    }
    out
}

/// What may stand beside a kind's key: the name, or what stands for it.
fn head_value(kind: Kind) -> Value {
    let field = kind.info().field(kind.head());
    let value = match field.and_then(|field| scalar_of(field.shape)) {
        Some(info) => one_scalar(info),
        None => json!({"type": ["string", "number"]}),
    };
    match kind.info().must.contains(&kind.head()) {
        true => value,
        false => json!({"anyOf": [value, {"type": "null"}]}),
    }
}

fn shorthand_value(info: &'static ElementInfo, shorthand: &Shorthand) -> Value {
    let doc = format!("Stands for {shorthand}.");
    match shorthand.into {
        [only] => {
            let target =
                target(info, only).and_then(|field| Some((field, scalar_of(field.shape)?)));
            match target {
                Some((field, scalar)) => {
                    let doc = format!("{} {doc}", field.doc.trim());
                    described(one_scalar(scalar), &doc, Some(scalar))
                }
                None => json!({"type": ["string", "number"], "description": doc}),
            }
        }
        _ => json!({"type": "string", "pattern": "/", "description": doc}),
    }
}

/// The field at a path such as `source/@file`.
fn target(info: &'static ElementInfo, path: &str) -> Option<&'static Field> {
    let Some((child, rest)) = path.split_once('/') else {
        return match path.strip_prefix('@') {
            Some(attribute) => info.field(attribute),
            None if path.is_empty() => info.text_field(),
            None => info.field(path).map(|field| match field.shape {
                Shape::Child(inner) => inner().text_field().unwrap_or(field),
                _ => field,
            }),
        };
    };
    match info.field(child)?.shape {
        Shape::Child(inner) | Shape::List(inner) | Shape::Flat(inner) => target(inner(), rest),
        _ => None,
    }
}

fn scalar_of(shape: Shape) -> Option<&'static ScalarInfo> {
    match shape {
        Shape::Attribute(scalar)
        | Shape::Text(scalar)
        | Shape::Sized(scalar)
        | Shape::Leaf(scalar)
        | Shape::Leaves(scalar) => Some(scalar),
        _ => None,
    }
}

/// The value that stands for an element, by its main field: where that is a child, what stands for the child.
fn main_scalar(main: &'static Field) -> Option<&'static ScalarInfo> {
    let Shape::Child(inner) = main.shape else {
        return scalar_of(main.shape);
    };
    let inner = inner();
    let main = shape::main_field(inner)?;
    let enough = conditions(inner, main.name, &[]).is_empty();
    scalar_of(main.shape).filter(|_| enough)
}

/// The words that state children by their names, of an element that needs nothing else.
fn flags(info: &'static ElementInfo) -> Option<Vec<&'static str>> {
    let empty_child = |field: &&Field| match field.shape {
        Shape::Flag => true,
        Shape::Child(inner) => inner().must.is_empty(),
        _ => false,
    };
    let words = info.fields.iter().filter(empty_child);
    let words: Vec<_> = words.map(|field| field.key).collect();
    (!words.is_empty() && info.must.is_empty()).then_some(words)
}

/// With what it is and, where its words do not say that already, what it takes.
fn described(mut value: Value, doc: &str, scalar: Option<&ScalarInfo>) -> Value {
    if let Value::Object(map) = &mut value {
        let takes = scalar
            .filter(|scalar| scalar.words.is_empty() && !scalar.expects.starts_with("a text"))
            .map(|scalar| format!(" Takes {}.", scalar.expects))
            .unwrap_or_default();
        map.insert(
            "description".into(),
            format!("{}{takes}", doc.trim()).into(),
        );
    }
    value
}

/// What a value may be, a list of its parts included.
fn scalar(info: &ScalarInfo) -> Value {
    let one = one_scalar(info);
    match info.form {
        Form::Joined(_) => {
            let part = json!({"type": ["string", "number"]});
            json!({"anyOf": [one, {"type": "array", "items": part}]})
        }
        _ => one,
    }
}

/// What a single value may be.
fn one_scalar(info: &ScalarInfo) -> Value {
    let mut value = if info.words.is_empty() {
        let types: &[&str] = match info.form {
            Form::Number => &["integer", "string"],
            _ if info.pattern.is_empty() => &["string", "number", "boolean"],
            _ => &["string", "number"],
        };
        json!({"type": types})
    } else {
        words(info)
    };
    if let (Value::Object(map), false) = (&mut value, info.pattern.is_empty()) {
        map.insert("pattern".into(), info.pattern.into());
    }
    match info.variable {
        true => json!({"anyOf": [value, {"type": "string", "pattern": "^[$]"}]}),
        false => value,
    }
}

/// The words of an enumeration, and what YAML makes of some of them.
fn words(info: &ScalarInfo) -> Value {
    let mut words: Vec<Value> = info.words.iter().map(|word| (*word).into()).collect();
    let has = |known: &[&str]| info.words.iter().any(|word| known.contains(word));
    words.extend(has(&["yes", "on", "true"]).then_some(Value::Bool(true)));
    words.extend(has(&["no", "off", "false"]).then_some(Value::Bool(false)));
    let numbers = info
        .words
        .iter()
        .filter_map(|word| word.parse::<u32>().ok());
    words.extend(numbers.map(Value::from));
    let mut value = json!({"enum": words});
    let meanings: Vec<&str> = info.meanings.iter().map(|meaning| meaning.trim()).collect();
    if let (Value::Object(map), true) = (&mut value, meanings.iter().any(|one| !one.is_empty())) {
        map.insert("enumDescriptions".into(), meanings.into());
    }
    value
}
