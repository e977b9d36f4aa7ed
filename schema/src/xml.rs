//! XML text to tree and tree to XML text.
//!
//! In: a text of at most 16 MiB. Out: one [`Element`] with spans, or one diagnostic: XML that is broken cannot be read further. A
//! document type declaration is refused (it could define entities that expand without end), so are entities other than
//! the five of XML and character references, nesting deeper than 64, and more than 64 prefixes at one place.

mod documents;
mod namespaces;
mod write;

pub use documents::documents;
pub use namespaces::NAMESPACES;
pub use write::write;

use crate::diagnostic::Diagnostic;
use crate::rule::Rule;
use crate::source::Span;
use crate::tree::{Attribute, Element, MAX_DEPTH, MAX_SIZE, is_blank};
use namespaces::{is_name, prefix_of};
use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use std::borrow::Cow;

/// One element may have at most so many attributes.
const MAX_ATTRIBUTES: usize = 1024;
/// Reads one document; spans count from `base`, the offset of `text` in its source.
///
/// # Errors
/// The first thing that is not well-formed XML, or that exceeds a bound.
pub fn read(text: &str, base: usize) -> Result<Element<'_>, Diagnostic> {
    Parser {
        text,
        base,
        stack: Vec::new(),
        declared: Vec::new(),
        pieces: Vec::new(),
        root: None,
    }
    .run()
}

struct Parser<'a> {
    text: &'a str,
    base: usize,
    stack: Vec<Element<'a>>,
    /// Namespace declarations in scope: depth, prefix, address.
    declared: Vec<(usize, &'a str, Cow<'a, str>)>,
    /// Texts of the elements that are open: how many are, how many children came before in the innermost, and the text.
    pieces: Vec<(usize, usize, Cow<'a, str>)>,
    root: Option<Element<'a>>,
}

impl<'a> Parser<'a> {
    fn run(mut self) -> Result<Element<'a>, Diagnostic> {
        if self.text.len() > MAX_SIZE {
            return Err(Diagnostic::new(
                Rule::TooLarge,
                self.span(0, 0),
                format!(
                    "the document has {} bytes, above the bound of 16 MiB",
                    self.text.len()
                ),
            ));
        }
        if let Some(at) = self.text.find('\0') {
            return Err(Diagnostic::new(
                Rule::XmlSyntax,
                self.span(at, at + 1),
                "a NUL byte has no place in XML",
            ));
        }
        let mut reader = Reader::from_str(self.text);
        loop {
            let start = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            let event = match reader.read_event() {
                Ok(event) => event,
                Err(error) => {
                    let at = usize::try_from(reader.error_position())
                        .unwrap_or(usize::MAX)
                        .min(self.text.len());
                    let end = usize::try_from(reader.buffer_position())
                        .unwrap_or(usize::MAX)
                        .min(self.text.len());
                    return Err(Diagnostic::new(
                        Rule::XmlSyntax,
                        self.span(at, end),
                        self.explain(&error),
                    ));
                }
            };
            let end = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            match event {
                Event::Start(tag) => self.open(&tag, start, end)?,
                Event::Empty(tag) => {
                    self.open(&tag, start, end)?;
                    self.close(end);
                }
                Event::End(_) => self.close(end),
                Event::Text(text) => {
                    let raw = self
                        .text
                        .get(start..end)
                        .map_or_else(|| Cow::Owned(text.to_string()), Cow::Borrowed);
                    let raw = if raw.as_bytes().contains(&b'\r') {
                        Cow::Owned(raw.replace("\r\n", "\n"))
                    } else {
                        raw
                    };
                    self.add_text(raw, start, end)?;
                }
                Event::CData(data) => {
                    let text = self
                        .text
                        .get(start + 9..end.saturating_sub(3))
                        .map_or_else(|| Cow::Owned(data.to_string()), Cow::Borrowed);
                    self.add_text(text, start, end)?;
                }
                Event::GeneralRef(reference) => self.add_text(
                    Cow::Owned(resolve(&reference, self.span(start, end))?),
                    start,
                    end,
                )?,
                Event::DocType(_) => {
                    return Err(Diagnostic::new(Rule::Doctype, self.span(start, end), "a document type declaration is not accepted")
                        .with_help("remove it: definitions need none, and entities defined there could expand without end"));
                }
                Event::Comment(_) | Event::PI(_) | Event::Decl(_) => {}
                Event::Eof => return self.finish(),
            }
        }
    }

    fn finish(mut self) -> Result<Element<'a>, Diagnostic> {
        if let Some(open) = self.stack.pop() {
            return Err(Diagnostic::new(
                Rule::XmlSyntax,
                open.span,
                format!("<{}> is opened here and never closed", open.name),
            ));
        }
        let end = self.text.len();
        self.root.ok_or_else(|| {
            Diagnostic::new(
                Rule::XmlSyntax,
                Span::new(end + self.base, end + self.base),
                "the document holds no element",
            )
            .with_help("write a definition, such as <network><name>default</name></network>, or remove the file")
        })
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(
            self.base.saturating_add(start),
            self.base.saturating_add(end),
        )
    }

    fn explain(&self, error: &quick_xml::Error) -> String {
        use quick_xml::errors::{Error, IllFormedError};
        match error {
            Error::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => {
                format!(
                    "</{found}> closes <{expected}>: the element opened last must be closed first"
                )
            }
            Error::IllFormed(IllFormedError::UnmatchedEndTag(name)) => {
                format!("</{name}> closes an element that is not open")
            }
            other => lower_first(&other.to_string()),
        }
    }

    /// The part of the text that `piece` is, with its offset. `piece` always is a part of the text, as the reader borrows.
    fn place(&self, piece: &str) -> Option<(&'a str, usize)> {
        let offset = (piece.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        Some((
            self.text.get(offset..offset.checked_add(piece.len())?)?,
            offset,
        ))
    }

    fn open(&mut self, tag: &BytesStart<'_>, start: usize, end: usize) -> Result<(), Diagnostic> {
        let span = self.span(start, end);
        if self.stack.len() >= MAX_DEPTH {
            return Err(Diagnostic::new(
                Rule::TooDeep,
                span,
                format!("elements are nested deeper than {MAX_DEPTH}"),
            ));
        }
        if self.root.is_some() {
            return Err(Diagnostic::new(
                Rule::XmlSyntax,
                span,
                "a second element beside the document's root",
            )
            .with_help("one file holds one XML document"));
        }
        let depth = self.stack.len();
        let mut attributes = self.attributes(tag, start, span)?;
        let raw_tag = tag.name();
        let (raw_name, name_at) = self.place(raw_tag.as_ref()).unwrap_or(("", start));
        self.judge_name(raw_name, name_at)?;
        let name = self.qualify(raw_name, depth, &mut attributes, span)?;
        self.qualify_attributes(depth, &mut attributes, span);
        self.stack.push(Element {
            name,
            span,
            attributes,
            text_span: self.span(end, end),
            whole: span,
            ..Element::default()
        });
        Ok(())
    }

    /// The attributes of a start tag, but for declarations of namespaces that vireo knows.
    fn attributes(
        &mut self,
        tag: &BytesStart<'_>,
        start: usize,
        span: Span,
    ) -> Result<Vec<Attribute<'a>>, Diagnostic> {
        let mut attributes: Vec<Attribute<'a>> = Vec::new();
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| {
                Diagnostic::new(Rule::XmlSyntax, span, lower_first(&error.to_string()))
            })?;
            if attributes.len() >= MAX_ATTRIBUTES {
                return Err(Diagnostic::new(
                    Rule::TooLarge,
                    span,
                    format!("an element with more than {MAX_ATTRIBUTES} attributes"),
                ));
            }
            let (name, name_at) = self.place(attribute.key.as_ref()).unwrap_or(("", start));
            let (raw, value_at) = self.place(&attribute.value).unwrap_or(("", start));
            self.judge_name(name, name_at)?;
            let name_span = self.span(name_at, name_at + name.len());
            let value_span = self.span(value_at, value_at + raw.len());
            let value = match holds_special(raw) {
                true => Cow::Owned(unescape(&flatten(raw), value_span)?.into_owned()),
                false => Cow::Borrowed(raw),
            };
            let declares = match name.strip_prefix("xmlns") {
                Some("") => Some(""),
                Some(rest) => rest.strip_prefix(':'),
                None => None,
            };
            if let Some(prefix) = declares {
                if self.declares(prefix) {
                    return Err(stated_twice(name, name_span));
                }
                self.declare(prefix, value.clone(), value_span)?;
                if prefix_of(&value).is_some() {
                    continue;
                }
            } else if attributes.iter().any(|before| before.name == name) {
                return Err(stated_twice(name, name_span));
            }
            attributes.push(Attribute {
                name: Cow::Borrowed(name),
                value,
                name_span,
                value_span,
            });
        }
        Ok(attributes)
    }

    /// What the reader takes for a name may be anything up to the next space: `<a="b">` has no name in it.
    fn judge_name(&self, name: &str, at: usize) -> Result<(), Diagnostic> {
        if is_name(name) {
            return Ok(());
        }
        let span = self.span(at, at + name.len());
        let problem = Diagnostic::new(Rule::XmlSyntax, span, format!("`{name}` is no name"));
        Err(problem.with_help("a name begins with a letter or `_`, and goes on with letters, digits, `-`, `_` and `.`"))
    }

    fn close(&mut self, end: usize) {
        let Some(mut element) = self.stack.pop() else {
            return;
        };
        element.whole.end = self.base.saturating_add(end);
        let depth = self.stack.len();
        let own = self.pieces.partition_point(|(open, ..)| *open <= depth);
        if !element.children.is_empty() && !element.is_textless() {
            for (_, before, piece) in self.pieces.drain(own..) {
                match element.mixed.last_mut() {
                    Some((at, text)) if *at == before => text.to_mut().push_str(&piece),
                    _ => element.mixed.push((before, piece)),
                }
            }
        }
        self.pieces.truncate(own);
        while self
            .declared
            .last()
            .is_some_and(|(declared_at, _, _)| *declared_at >= depth)
        {
            self.declared.pop();
        }
        match self.stack.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }

    fn add_text(
        &mut self,
        piece: Cow<'a, str>,
        start: usize,
        end: usize,
    ) -> Result<(), Diagnostic> {
        let span = self.span(start, end);
        let open = self.stack.len();
        let Some(element) = self.stack.last_mut() else {
            if piece.chars().all(|c| c.is_whitespace() || c == '\u{feff}') {
                return Ok(());
            }
            return Err(Diagnostic::new(
                Rule::XmlSyntax,
                span,
                "text outside the document's root element",
            ));
        };
        self.pieces
            .push((open, element.children.len(), piece.clone()));
        match &mut element.text {
            None => {
                element.text = Some(piece);
                element.text_span = span;
            }
            Some(_) if !element.children.is_empty() && is_blank(&piece) => {}
            Some(text) if !element.children.is_empty() && is_blank(text) => {
                *text = piece;
                element.text_span = span;
            }
            Some(text) => {
                text.to_mut().push_str(&piece);
                element.text_span.end = span.end;
            }
        }
        Ok(())
    }
}

/// Whether an attribute's value is not what stands there: white space is made spaces, and references are resolved. (Not the first such byte is looked for but all,
/// which takes many at a time.)
fn holds_special(raw: &str) -> bool {
    let special = |found, b| found | matches!(b, b'\t' | b'\n' | b'\r' | b'&');
    raw.bytes().fold(false, special)
}

fn stated_twice(name: &str, span: Span) -> Diagnostic {
    let message = format!("the attribute `{name}` is stated twice");
    Diagnostic::new(Rule::XmlSyntax, span, message)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// White space in an attribute's value means spaces, but for what is written as a character reference.
fn flatten(raw: &str) -> String {
    raw.replace("\r\n", " ").replace(['\t', '\n', '\r'], " ")
}

fn unescape(raw: &str, span: Span) -> Result<Cow<'_, str>, Diagnostic> {
    quick_xml::escape::unescape(raw).map_err(|error| entity_error(span, &error.to_string()))
}

fn entity_error(span: Span, why: &str) -> Diagnostic {
    Diagnostic::new(Rule::XmlEntity, span, format!("a reference cannot be resolved: {}", lower_first(why)))
        .with_help("only &lt; &gt; &amp; &apos; &quot; and character references such as &#233; are known; write a bare & as &amp;")
}

fn resolve(reference: &BytesRef<'_>, span: Span) -> Result<String, Diagnostic> {
    if reference.is_char_ref() {
        let resolved = reference
            .resolve_char_ref()
            .map_err(|error| entity_error(span, &error.to_string()))?;
        return resolved
            .map(String::from)
            .ok_or_else(|| entity_error(span, "not a character"));
    }
    let name: &str = reference;
    quick_xml::escape::resolve_xml_entity(name)
        .map(str::to_owned)
        .ok_or_else(|| entity_error(span, &format!("unknown entity &{name};")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_equal() {
        let text = "<a x='1 &amp; 2&#10;'><b>t &lt;\u{e4} <![CDATA[<&]]></b><o:c xmlns:o='urn:o'><o:d/></o:c></a>";
        let tree = read(text, 0).unwrap_or_default();
        let written = write(&tree);
        assert_eq!(read(&written, 0).unwrap_or_default(), tree, "{written}");
        assert!(written.contains("t &lt;ä &lt;&amp;"), "{written}");
    }

    #[test]
    fn text_between_elements_keeps_its_place_and_its_spaces() {
        let text =
            "<a><p>one <b>two</b> three<!-- no --> &amp; <i/><![CDATA[<4>]]></p><q> <r/> </q></a>";
        let tree = read(text, 0).unwrap_or_default();
        let written = write(&tree);
        assert!(
            written.contains("<p>one <b>two</b> three &amp; <i/>&lt;4&gt;</p>"),
            "{written}"
        );
        assert_eq!(read(&written, 0).unwrap_or_default(), tree, "{written}");
        let moved = text.replace("one <b>two</b>", "<b>two</b>one ");
        assert_ne!(read(&moved, 0).unwrap_or_default(), tree);
    }

    #[test]
    fn white_space_in_attributes_means_spaces_unless_it_is_a_reference() {
        let tree = read("<a b='1\n2\t3&#10;4'/>", 0).unwrap_or_default();
        assert_eq!(tree.attribute("b").map(|b| &*b.value), Some("1 2 3\n4"));
    }

    #[test]
    fn spans_point_at_names_and_values() {
        let text = "<a>\n  <b key = 'value'/>\n</a>";
        let tree = read(text, 0).unwrap_or_default();
        let spans = tree
            .child("b")
            .and_then(|b| b.attribute("key"))
            .map(|a| (a.name_span, a.value_span));
        assert_eq!(
            spans.map(|(name, value)| (&text[name.start..name.end], &text[value.start..value.end])),
            Some(("key", "value"))
        );
    }
}
