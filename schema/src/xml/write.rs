//! Trees as XML text.

use super::namespaces::{NAMESPACES, namespace_of};
use crate::tree::Element;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The tree as XML, indented by two spaces, ending in a line feed. Elements with text are written on one line.
pub fn write(root: &Element<'_>) -> String {
    let mut out = String::with_capacity(1024);
    let mut used = Vec::new();
    collect_prefixes(root, &mut used);
    write_element(&mut out, root, 0, &used);
    out
}

/// Known prefixes used below, except vireo's own, which is declared where it is used.
fn collect_prefixes(element: &Element<'_>, used: &mut Vec<&'static str>) {
    let attributes = element.attributes.iter().map(|attribute| &attribute.name);
    for name in attributes.chain([&element.name]) {
        if let Some((prefix, _)) = name.split_once(':')
            && let Some((known, _)) = NAMESPACES
                .iter()
                .find(|(known, _)| *known == prefix && *known != "vireo")
            && !used.contains(known)
        {
            used.push(known);
        }
    }
    for child in &element.children {
        collect_prefixes(child, used);
    }
}

/// An element's start up to its `>`, which is left out.
fn write_start(out: &mut String, element: &Element<'_>, declare: &[&'static str]) {
    let _ = write!(out, "<{}", element.name);
    // A document may use a known prefix for something else, which it then declares itself.
    let declared = |prefix: &str| {
        let mut names = element.attributes.iter().map(|one| one.name.as_ref());
        names.any(|name| name.strip_prefix("xmlns:") == Some(prefix))
    };
    for prefix in declare.iter().filter(|prefix| !declared(prefix)) {
        let _ = write!(
            out,
            " xmlns:{prefix}='{}'",
            namespace_of(prefix).unwrap_or_default()
        );
    }
    if element.name.starts_with("vireo:") {
        let _ = write!(
            out,
            " xmlns:vireo='{}'",
            namespace_of("vireo").unwrap_or_default()
        );
    }
    for attribute in &element.attributes {
        let _ = write!(
            out,
            " {}='{}'",
            attribute.name,
            escape(&attribute.value, true)
        );
    }
}

fn write_element(out: &mut String, element: &Element<'_>, indent: usize, declare: &[&'static str]) {
    let _ = write!(out, "{:1$}", "", indent);
    if element.children.is_empty() || !element.mixed.is_empty() {
        write_inline(out, element, declare);
        out.push('\n');
        return;
    }
    write_start(out, element, declare);
    out.push_str(">\n");
    if !element.trimmed().is_empty() {
        let text = escape(element.trimmed(), false);
        let _ = writeln!(out, "{:1$}{text}", "", indent + 2);
    }
    for child in &element.children {
        write_element(out, child, indent + 2, &[]);
    }
    let _ = writeln!(out, "{:1$}</{name}>", "", indent, name = element.name);
}

/// An element on one line, with no white space but its own: what it holds may be text with elements in between.
fn write_inline(out: &mut String, element: &Element<'_>, declare: &[&'static str]) {
    write_start(out, element, declare);
    if element.children.is_empty() && element.text.is_none() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    if element.mixed.is_empty() {
        let text = element.text.as_deref().unwrap_or("");
        let whole = element.children.is_empty() || !text.trim().is_empty();
        out.push_str(&escape(if whole { text } else { "" }, false));
    }
    let mut pieces = element.mixed.iter().peekable();
    for at in 0..=element.children.len() {
        while let Some((_, piece)) = pieces.next_if(|(before, _)| *before <= at) {
            out.push_str(&escape(piece, false));
        }
        if let Some(child) = element.children.get(at) {
            write_inline(out, child, &[]);
        }
    }
    let _ = write!(out, "</{}>", element.name);
}

fn escape(text: &str, attribute: bool) -> Cow<'_, str> {
    let special = |c: char| {
        matches!(c, '&' | '<' | '>' | '\r') || attribute && matches!(c, '\'' | '\n' | '\t')
    };
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' if attribute => out.push_str("&apos;"),
            c if special(c) => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}
