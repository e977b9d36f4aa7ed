//! Differences as people read them: in the words and the syntax of the file that states them.

use similar::{ChangeTag, TextDiff};

use crate::desired::Wanted;
use crate::ledger::Entry;

use super::step::{Difference, Disruption};

/// One field's difference. `field` is a path of elements; the values are shown as the field's file would state them.
pub(super) fn one(
    wanted: &Wanted,
    field: &str,
    before: Option<String>,
    after: Option<String>,
    disruption: Disruption,
) -> Difference {
    let yaml = wanted
        .file
        .extension()
        .is_some_and(|ext| ext == "yaml" || ext == "yml");
    Difference {
        field: field.to_owned(),
        location: wanted.fields.locate(field),
        before: before.map(|value| snippet(field, &value, yaml)),
        after: after.map(|value| snippet(field, &value, yaml)),
        disruption,
    }
}

/// A value as its file would state it.
fn snippet(field: &str, value: &str, yaml: bool) -> String {
    let mut parts = field.rsplit('/');
    let leaf = parts.next().unwrap_or(field);
    let parent = parts.next().unwrap_or(leaf);
    let plain = |name: &str| name.split('[').next().unwrap_or(name).to_owned();
    match leaf.strip_prefix('@') {
        Some(attribute) if yaml => format!("{attribute}: {value}"),
        Some(attribute) => format!("<{} {attribute}='{value}'/>", plain(parent)),
        None if yaml => format!("{}: {value}", plain(leaf)),
        None => format!("<{0}>{value}</{0}>", plain(leaf)),
    }
}

/// What a definition states otherwise than when it was last applied, element by element of the canonical form.
pub(super) fn of_definition(wanted: &Wanted, old: Option<&Entry>) -> Vec<Difference> {
    let Some(old) = old.filter(|old| old.definition != wanted.xml) else {
        return Vec::new();
    };
    let diff = TextDiff::from_lines(old.definition.as_str(), wanted.xml.as_str());
    let paths = line_paths(&wanted.xml);
    let old_paths = line_paths(&old.definition);
    let mut differences: Vec<Difference> = Vec::new();
    let mut open = false;
    for change in diff.iter_all_changes() {
        let text = change.value().trim().to_owned();
        let path = match change.tag() {
            ChangeTag::Equal => {
                open = false;
                continue;
            }
            ChangeTag::Delete => change.old_index().and_then(|index| old_paths.get(index)),
            ChangeTag::Insert => change.new_index().and_then(|index| paths.get(index)),
        };
        if !open {
            differences.push(Difference {
                field: path.cloned().unwrap_or_default(),
                location: None,
                before: None,
                after: None,
                disruption: Disruption::Live,
            });
        }
        open = true;
        let Some(last) = differences.last_mut() else {
            continue;
        };
        let side = if change.tag() == ChangeTag::Delete {
            &mut last.before
        } else {
            if last.location.is_none() {
                last.location = path.and_then(|path| wanted.fields.locate(path));
            }
            &mut last.after
        };
        match side {
            Some(lines) => {
                lines.push('\n');
                lines.push_str(&text);
            }
            None => *side = Some(text),
        }
    }
    differences
}

/// The path of elements that each line of a canonical document (one element a line) is at, the root element left out.
fn line_paths(xml: &str) -> Vec<String> {
    let mut stack: Vec<String> = Vec::new();
    xml.lines()
        .map(|line| {
            let line = line.trim();
            let name = line
                .trim_start_matches(['<', '/'])
                .split([' ', '>', '/', '\n'])
                .next()
                .unwrap_or_default()
                .to_owned();
            if line.starts_with("</") {
                let path = stack.get(1..).unwrap_or_default().join("/");
                stack.pop();
                return path;
            }
            stack.push(name.clone());
            let path = stack.get(1..).unwrap_or_default().join("/");
            let closed = line.ends_with("/>") || line.contains("</") || line.starts_with("<?");
            if closed || !line.starts_with('<') {
                stack.pop();
            }
            path
        })
        .collect()
}

/// The differences, each of which does at least this.
pub(super) fn at_least(mut differences: Vec<Difference>, worst: Disruption) -> Vec<Difference> {
    for difference in &mut differences {
        difference.disruption = difference.disruption.max(worst);
    }
    differences
}
