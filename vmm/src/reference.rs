//! What `vireo-vmm --help` and `--schema` say of the configuration and of the requests: made from the types that read them, so that neither can say anything else.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::config::Guest;
use crate::control::wire::Request;

/// Columns of a line: what clap leaves as it is on a wide terminal.
const WIDTH: usize = 96;
/// The keyword of a schema for what a number counts.
const UNIT: &str = "unit";

/// The configuration's JSON Schema (draft 2020-12), for editors and for programs that write one.
pub fn configuration_schema() -> Value {
    schema::<Guest>()
}

/// The JSON Schema of a line to the control socket.
pub fn request_schema() -> Value {
    schema::<Request>()
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|it| it.inline_subschemas = true);
    let generator = settings.into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    without_links(&mut schema);
    schema
}

/// Takes the marks of links between types out of the descriptions.
fn without_links(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = text
                    .replace("[`", "`")
                    .replace("`]", "`")
                    .replace('\n', " ");
            }
            members.values_mut().for_each(without_links);
        }
        Value::Array(items) => items.iter_mut().for_each(without_links),
        _ => {}
    }
}

/// Every key of the configuration with what it takes and what it means, as an indented tree.
pub fn keys() -> String {
    let mut out = String::new();
    keys_of(&configuration_schema(), 1, &mut out);
    out
}

fn keys_of(schema: &Value, depth: usize, out: &mut String) {
    let mut keys = properties(schema);
    keys.sort_by_key(|(name, _)| !is_required(schema, name));
    let mut told: Vec<(&str, Vec<(&str, &Value)>)> = Vec::new();
    for (name, value) in keys {
        let mark = if is_required(schema, name) { "*" } else { "" };
        let inner = value.get("items").unwrap_or(value);
        let keys = properties(inner);
        let same = told
            .iter()
            .find(|(_, told)| !keys.is_empty() && *told == keys);
        let takes = match same {
            Some((like, _)) => format!("{{as {like}}}"),
            None => takes(value),
        };
        wrapped(
            &format!("{name}{mark}: {takes}  {}", sentence(value)),
            depth,
            out,
        );
        if same.is_none() {
            keys_of(inner, depth + 1, out);
            told.push((name, keys));
        }
    }
}

/// Every request as the line to send, and what follows.
pub fn requests() -> String {
    let mut out = String::new();
    for request in choices(&request_schema()) {
        let mut words: Vec<_> = properties(request)
            .into_iter()
            .map(|(name, value)| match value.get("const") {
                Some(word) => format!("\"{name}\":{word}"),
                None if is_required(request, name) => format!("\"{name}\":{}", takes(value)),
                None => format!("[\"{name}\":{}]", takes(value)),
            })
            .collect();
        // The name of what is to be done comes first, as the types have it.
        words.sort_by_key(|word| !word.starts_with("\"do\""));
        let line = format!("{{{}}}  {}", words.join(","), sentence(request));
        wrapped(&line, 1, &mut out);
    }
    out
}

/// What a value may be, in a few words.
fn takes(value: &Value) -> String {
    let words: Vec<_> = choices(value)
        .filter_map(|choice| choice.get("const")?.as_str())
        .collect();
    if !words.is_empty() {
        return words.join(" | ");
    }
    let kind = match value.get("type") {
        Some(Value::Array(kinds)) => kinds.first(),
        kind => kind,
    };
    match kind.and_then(Value::as_str) {
        Some("integer") => number(value),
        Some("boolean") => "true | false".to_owned(),
        Some("string") => "text".to_owned(),
        Some("array") => match value.get("items") {
            Some(item) => format!("[{}, …]", takes(item)),
            None => "[…]".to_owned(),
        },
        _ if value
            .get("additionalProperties")
            .is_some_and(Value::is_object) =>
        {
            "{name: text, …}".to_owned()
        }
        _ => "{…}".to_owned(),
    }
}

/// A number's range, where it is not simply what its type holds.
fn number(value: &Value) -> String {
    if let Some(unit) = value.get(UNIT).and_then(Value::as_str) {
        return unit.to_owned();
    }
    const OF_TYPES: [u64; 3] = [u8::MAX as u64, u16::MAX as u64, u32::MAX as u64];
    let bound = |name: &str| value.get(name).and_then(Value::as_u64);
    let most = bound("maximum").filter(|most| !OF_TYPES.contains(most));
    match (bound("minimum").filter(|least| *least > 0), most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("number from {least}"),
        (None, Some(most)) => format!("number up to {most}"),
        (None, None) => "number".to_owned(),
    }
}

/// The possibilities of a value: of an optional one's own, too.
fn choices(value: &Value) -> impl Iterator<Item = &Value> {
    let lists = itself_or_inner(value).filter_map(|it| it.get("oneOf")?.as_array());
    lists.flatten()
}

fn properties(schema: &Value) -> Vec<(&str, &Value)> {
    let maps = itself_or_inner(schema).filter_map(|it| it.get("properties")?.as_object());
    let members = maps.flatten();
    members
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}

/// A schema, and what it is a choice of: an optional value is one of itself and nothing.
fn itself_or_inner(schema: &Value) -> impl Iterator<Item = &Value> {
    let inner = schema.get("anyOf").and_then(Value::as_array);
    std::iter::once(schema).chain(inner.into_iter().flatten())
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|it| it == name))
}

/// The first sentence of a description.
fn sentence(value: &Value) -> String {
    let text = value.get("description").and_then(Value::as_str);
    let text = text.unwrap_or_default().to_owned();
    match text.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => text,
    }
}

/// Adds a paragraph whose later lines stand further in than its first.
fn wrapped(text: &str, depth: usize, out: &mut String) {
    let mut indent = "  ".repeat(depth);
    let mut line = indent.clone();
    for word in text.split(' ') {
        if line.len() + word.len() > WIDTH && !line.trim().is_empty() {
            out.push_str(line.trim_end());
            out.push('\n');
            indent = "  ".repeat(depth + 3);
            line.clone_from(&indent);
        }
        line.push_str(word);
        line.push(' ');
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every schema in a schema, with its path.
    fn all<'a>(path: &str, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
        found.push((path.to_owned(), value));
        for (name, value) in properties(value) {
            let value = value.get("items").unwrap_or(value);
            all(&format!("{path}/{name}"), value, found);
        }
    }

    #[test]
    fn every_key_says_what_it_means() {
        for root in [configuration_schema(), request_schema()] {
            let mut found = Vec::new();
            all("", &root, &mut found);
            for request in choices(&root) {
                all("", request, &mut found);
            }
            assert!(found.len() > 12);
            for (path, value) in found {
                for (name, value) in properties(value) {
                    let speaks = value.get("const").is_some() || !sentence(value).is_empty();
                    assert!(speaks, "{path}/{name} says nothing");
                }
            }
        }
    }

    #[test]
    fn the_schema_takes_no_key_that_the_program_does_not_and_wants_what_it_wants() {
        let schema = configuration_schema();
        let mut found = Vec::new();
        all("", &schema, &mut found);
        for (path, value) in found {
            if !properties(value).is_empty() {
                assert_eq!(
                    value.get("additionalProperties"),
                    Some(&Value::Bool(false)),
                    "{path}"
                );
            }
        }
        let least = serde_json::json!({
            "name": "web", "uuid": "7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1",
            "memory": {"size": 4 << 20}, "vcpus": {"count": 1}, "boot": {"kernel": "/k"},
            "control": "/c", "state": "/s",
        });
        Guest::parse(&least.to_string()).unwrap();
        for name in least.as_object().unwrap().keys() {
            assert!(is_required(&schema, name), "{name}");
            let mut lacking = least.clone();
            lacking.as_object_mut().unwrap().remove(name);
            Guest::parse(&lacking.to_string()).unwrap_err();
        }
    }

    #[test]
    fn a_number_outside_the_schemas_range_is_refused() {
        let text = |count: u64, slot: u64, queues: u64, mtu: u64| {
            format!(
                "{{name: g, uuid: 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1, memory: {{size: 4194304}}, vcpus: {{count: {count}}}, \
                 boot: {{kernel: /k}}, control: /c, state: /s, rng: {{slot: {slot}}}, \
                 disks: [{{id: vda, path: /p, format: raw, queues: {queues}}}], \
                 interfaces: [{{id: n, tap: t, mac: '52:54:00:12:34:56', mtu: {mtu}}}]}}"
            )
        };
        let schema = configuration_schema();
        let bound = |path: &str, name: &str| {
            let value = schema.pointer(&format!("/properties/{path}/{name}"));
            value.and_then(Value::as_u64).unwrap()
        };
        let count = "vcpus/properties/count";
        let slot = "rng/properties/slot";
        let queues = "disks/items/properties/queues";
        let mtu = "interfaces/items/properties/mtu";
        let edges = |path: &str| (bound(path, "minimum"), bound(path, "maximum"));
        let (counts, slots) = (edges(count), edges(slot));
        let sound = text(counts.0, slots.0, edges(queues).0, edges(mtu).0);
        Guest::parse(&sound).unwrap();
        let sound = text(counts.1, slots.1, edges(queues).1, edges(mtu).1);
        Guest::parse(&sound).unwrap();
        for refused in [
            text(0, 1, 1, 68),
            text(counts.1 + 1, 1, 1, 68),
            text(1, 0, 1, 68),
            text(1, slots.1 + 1, 1, 68),
            text(1, 1, 0, 68),
            text(1, 1, edges(queues).1 + 1, 68),
            text(1, 1, 1, edges(mtu).0 - 1),
        ] {
            Guest::parse(&refused).unwrap_err();
        }
    }

    #[test]
    fn help_shows_a_key_with_what_it_takes_and_means() {
        let keys = keys();
        for line in [
            "  memory*: {…}  Its memory.\n    size*: bytes  Its size: ",
            "    cache: writeback | writethrough | none  How writes reach the disk.\n",
            "      read-requests: {as read-bytes}  Reads.\n",
            "    slot: 1 to 31  PCI slot",
            "    strings: {name: text, …}  ",
            "    basis: utc | localtime  ",
        ] {
            assert!(keys.contains(line), "{line} is not in:\n{keys}");
        }
        assert!(keys.lines().all(|line| line.chars().count() <= WIDTH + 2));
    }

    #[test]
    fn help_shows_a_request_as_it_is_sent() {
        let requests = requests();
        for line in [
            "  {\"do\":\"status\",\"id\":number}  How the guest is.\n",
            "  {\"do\":\"events\",[\"after\":number],\"id\":number}  Send all events after this number, ",
        ] {
            assert!(requests.contains(line), "{line} is not in:\n{requests}");
        }
    }
}
