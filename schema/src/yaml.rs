//! YAML text to positioned values.
//!
//! In: a text of at most 16 MiB, of one document or several. Out: one [`Node`] a document, with spans. Scalars stay text: what a
//! scalar means is decided by the field that takes it, so `no`, `0x10` and `1.10` never change their looks. An alias stands for what its
//! anchor stands at, and a merge (`<<`, <https://yaml.org/type/merge.html>) for the keys of its mappings that are not stated beside it; both
//! keep the places of what they repeat. Refused are duplicate keys, keys that are not scalars, tags other than YAML's own, nesting deeper
//! than 64, and aliases that would expand to more than 100,000 nodes.

use crate::diagnostic::Diagnostic;
use crate::rule::Rule;
use crate::source::Span;
use crate::tree::{MAX_DEPTH, MAX_SIZE};
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Aliases of one file may bring in at most so many nodes.
const MAX_ALIASED: usize = 100_000;

/// One mapping may hold at most so many keys.
const MAX_KEYS: usize = 4096;

/// One YAML value with its place.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// Where it is.
    pub span: Span,
    /// What it is.
    pub value: Value<'a>,
}

/// What a node holds.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// Nothing, `~` or `null`, not quoted.
    Null,
    /// A scalar's text; `plain` when it was neither quoted nor a block.
    Scalar { text: Cow<'a, str>, plain: bool },
    /// A list.
    List(Vec<Node<'a>>),
    /// A mapping in the order of the file.
    Map(Vec<Entry<'a>>),
}

/// One key of a mapping with its value.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// The key.
    pub key: Cow<'a, str>,
    /// Where the key is.
    pub key_span: Span,
    /// The value.
    pub node: Node<'a>,
}

impl<'a> Node<'a> {
    /// The entries, if this is a mapping.
    pub fn entries(&self) -> Option<&[Entry<'a>]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// A word for messages.
    pub fn what(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn depth(&self) -> usize {
        match &self.value {
            Value::Null | Value::Scalar { .. } => 0,
            Value::List(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(entries) => {
                1 + entries
                    .iter()
                    .map(|entry| entry.node.depth())
                    .max()
                    .unwrap_or(0)
            }
        }
    }

    fn weight(&self) -> usize {
        match &self.value {
            Value::Null | Value::Scalar { .. } => 1,
            Value::List(items) => 1 + items.iter().map(Node::weight).sum::<usize>(),
            Value::Map(entries) => {
                1 + entries
                    .iter()
                    .map(|entry| 1 + entry.node.weight())
                    .sum::<usize>()
            }
        }
    }
}

/// Reads every document of `text`.
///
/// # Errors
/// The documents before the first thing that is not YAML or exceeds a bound, and what that is.
pub fn read(text: &str) -> (Vec<Node<'_>>, Option<Diagnostic>) {
    let mut reader = Reader {
        offsets: Offsets::new(text),
        open: Vec::new(),
        anchors: HashMap::new(),
        aliased: 0,
        done: Vec::new(),
    };
    if text.len() > MAX_SIZE {
        let message = format!(
            "the file has {} bytes, above the bound of 16 MiB",
            text.len()
        );
        return (
            Vec::new(),
            Some(Diagnostic::new(Rule::TooLarge, Span::default(), message)),
        );
    }
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => {
                let span = Span::new(
                    reader.offsets.byte(span.start.index()),
                    reader.offsets.byte(span.end.index()),
                );
                reader.take(event, span)
            }
            Err(error) => {
                let at = reader.offsets.byte(error.marker().index());
                Err(syntax(text, at, error.info()))
            }
        };
        if let Err(problem) = step {
            return (reader.done, Some(problem));
        }
    }
    (reader.done, None)
}

fn syntax(text: &str, at: usize, info: &str) -> Diagnostic {
    let diagnostic = Diagnostic::new(
        Rule::YamlSyntax,
        Span::new(at, at),
        format!("not YAML: {info}"),
    );
    let start = text
        .get(..at)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |end| end + 1);
    let lead = text
        .get(start..)
        .unwrap_or("")
        .chars()
        .take_while(|c| c.is_whitespace() && *c != '\n');
    if lead.into_iter().any(|c| c == '\t') {
        return diagnostic.with_help("the line is indented with a tab: YAML takes spaces only");
    }
    diagnostic
}

/// From the parser's character counts to bytes.
enum Offsets {
    Ascii,
    Table(Vec<usize>),
}

impl Offsets {
    fn new(text: &str) -> Self {
        if text.is_ascii() {
            return Self::Ascii;
        }
        Self::Table(
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .collect(),
        )
    }

    fn byte(&self, chars: usize) -> usize {
        match self {
            Self::Ascii => chars,
            Self::Table(table) => table.get(chars).or(table.last()).copied().unwrap_or(0),
        }
    }
}

/// A list or mapping that is not closed yet.
struct Open<'a> {
    span: Span,
    anchor: usize,
    kind: Kind<'a>,
}

enum Kind<'a> {
    List(Vec<Node<'a>>),
    Map(Mapping<'a>),
}

/// A mapping that is not closed yet.
#[derive(Default)]
struct Mapping<'a> {
    entries: Vec<Entry<'a>>,
    /// The key that waits for its value.
    key: Option<(Cow<'a, str>, Span)>,
    /// Every key so far.
    keys: HashSet<Cow<'a, str>>,
    /// The value of `<<`.
    merge: Option<Node<'a>>,
    /// Whether the key that waits is `<<`.
    merging: bool,
}

struct Reader<'a> {
    offsets: Offsets,
    open: Vec<Open<'a>>,
    anchors: HashMap<usize, Node<'a>>,
    aliased: usize,
    done: Vec<Node<'a>>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, event: Event<'a>, span: Span) -> Result<(), Diagnostic> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let forced = tag.as_deref().is_some_and(|tag| tag.suffix == "str");
                check_tag(tag.as_deref(), span)?;
                let null =
                    plain && !forced && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null {
                    Value::Null
                } else {
                    Value::Scalar { text, plain }
                };
                self.finish(Node { span, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), span)?;
                self.begin(Open {
                    span,
                    anchor,
                    kind: Kind::List(Vec::new()),
                })
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), span)?;
                self.begin(Open {
                    span,
                    anchor,
                    kind: Kind::Map(Mapping::default()),
                })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Ok(());
                };
                let value = match open.kind {
                    Kind::List(items) => Value::List(items),
                    Kind::Map(mapping) => Value::Map(mapping.merged()?),
                };
                self.finish(
                    Node {
                        span: Span::new(open.span.start, span.end),
                        value,
                    },
                    open.anchor,
                )
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let mut node = node.ok_or_else(|| {
                    Diagnostic::new(
                        Rule::YamlAlias,
                        span,
                        "the alias stands inside of what it repeats",
                    )
                })?;
                self.aliased = self.aliased.saturating_add(node.weight());
                if self.aliased > MAX_ALIASED {
                    let message = format!("aliases expand to more than {MAX_ALIASED} values");
                    return Err(Diagnostic::new(Rule::YamlAlias, span, message)
                        .with_help("write the values out, or repeat less"));
                }
                if self.open.len() + node.depth() > MAX_DEPTH {
                    return Err(too_deep(span));
                }
                node.span = span;
                self.finish(node, 0)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, open: Open<'a>) -> Result<(), Diagnostic> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(open.span));
        }
        if let Some(Kind::Map(mapping)) = self.open.last().map(|open| &open.kind)
            && mapping.key.is_none()
        {
            return Err(key_is_no_word(open.span));
        }
        self.open.push(open);
        Ok(())
    }

    fn finish(&mut self, node: Node<'a>, anchor: usize) -> Result<(), Diagnostic> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.done.push(node);
            return Ok(());
        };
        match &mut open.kind {
            Kind::List(items) => items.push(node),
            Kind::Map(mapping) => match mapping.key.take() {
                None => mapping.begin(node)?,
                Some(_) if mapping.merging => mapping.merge = Some(node),
                Some((key, key_span)) => mapping.entries.push(Entry {
                    key,
                    key_span,
                    node,
                }),
            },
        }
        Ok(())
    }
}

impl<'a> Mapping<'a> {
    /// Takes a key.
    fn begin(&mut self, node: Node<'a>) -> Result<(), Diagnostic> {
        let span = node.span;
        let (key, plain) = match node.value {
            Value::Scalar { text, plain } => (text, plain),
            Value::Null => (Cow::Borrowed(""), true),
            Value::List(_) | Value::Map(_) => return Err(key_is_no_word(span)),
        };
        self.merging = plain && key == "<<";
        if self.entries.len() >= MAX_KEYS {
            return Err(too_many_keys(span));
        }
        if !self.keys.insert(key.clone()) {
            let message = format!("the key `{key}` stands twice in one mapping");
            let help = if self.merging {
                "merge a list: `<<: [*one, *other]`"
            } else {
                "remove one of them"
            };
            return Err(Diagnostic::new(Rule::DuplicateKey, span, message).with_help(help));
        }
        self.key = Some((key, span));
        Ok(())
    }

    /// What is stated, then what is merged and not stated; of several mappings the first has the last word.
    fn merged(mut self) -> Result<Vec<Entry<'a>>, Diagnostic> {
        let Some(merge) = self.merge.take() else {
            return Ok(self.entries);
        };
        let span = merge.span;
        let mappings = match merge.value {
            Value::List(items) => items,
            value => vec![Node { span, value }],
        };
        for node in mappings {
            let what = node.what();
            let Value::Map(entries) = node.value else {
                let message = format!("`<<` takes a mapping or a list of mappings, not {what}");
                return Err(Diagnostic::new(Rule::YamlKey, node.span, message)
                    .with_help("name the mapping where it stands first, `<<: &common {vcpu: 2}`, and repeat it: `<<: *common`"));
            };
            for entry in entries {
                if self.keys.insert(entry.key.clone()) {
                    self.entries.push(entry);
                }
            }
            if self.entries.len() > MAX_KEYS {
                return Err(too_many_keys(span));
            }
        }
        Ok(self.entries)
    }
}

fn key_is_no_word(span: Span) -> Diagnostic {
    Diagnostic::new(
        Rule::YamlKey,
        span,
        "a key must be a single word, not a list or mapping",
    )
}

fn too_many_keys(span: Span) -> Diagnostic {
    let message = format!("a mapping with more than {MAX_KEYS} keys");
    Diagnostic::new(Rule::TooLarge, span, message)
}

fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::new(
        Rule::TooDeep,
        span,
        format!("values are nested deeper than {MAX_DEPTH}"),
    )
}

fn check_tag(tag: Option<&saphyr_parser::Tag>, span: Span) -> Result<(), Diagnostic> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() || tag.handle.is_empty() && tag.suffix == "!") => {
            Err(Diagnostic::new(
                Rule::YamlTag,
                span,
                format!("the tag {tag} has no meaning here"),
            )
            .with_help("remove it: the field decides what its value means"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_stay_as_they_look() {
        let (nodes, problem) = read("a: no\nb: 0x10\nc: 1.10\nd: 'x'\ne:\n");
        assert_eq!(problem, None);
        let texts: Vec<String> = nodes[0]
            .entries()
            .unwrap_or_default()
            .iter()
            .map(|entry| format!("{:?}", entry.node.value))
            .collect();
        assert!(
            texts[0].contains("\"no\"")
                && texts[1].contains("\"0x10\"")
                && texts[2].contains("\"1.10\"")
                && texts[3].contains("plain: false")
                && texts[4] == "Null"
        );
    }

    #[test]
    fn aliases_cannot_explode() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let before = format!("*a{},", i - 1).repeat(10);
            text.push_str(&format!("a{i}: &a{i} [{before}]\n"));
        }
        assert_eq!(
            read(&text).1.map(|problem| problem.rule),
            Some(Rule::YamlAlias)
        );
    }

    #[test]
    fn what_is_stated_comes_before_what_is_merged_and_the_first_merged_before_the_others() {
        let text = "- &a {x: 1, y: 1}\n- &b {y: 2, z: 2}\n- {z: 3, <<: [*a, *b]}\n- {<<: *a, y: 4}\n- {'<<': 5}\n";
        let (nodes, problem) = read(text);
        assert_eq!(problem, None);
        let Value::List(items) = &nodes[0].value else {
            panic!("a list is a list")
        };
        let shown = |node: &Node<'_>| {
            let one = |entry: &Entry<'_>| match &entry.node.value {
                Value::Scalar { text, .. } => format!("{}={text}", entry.key),
                other => format!("{}={other:?}", entry.key),
            };
            let all = node.entries().unwrap_or_default().iter().map(one);
            all.collect::<Vec<_>>().join(" ")
        };
        let shown: Vec<String> = items.iter().skip(2).map(shown).collect();
        assert_eq!(shown, ["z=3 x=1 y=1", "y=4 x=1", "<<=5"]);
    }

    #[test]
    fn merges_cannot_explode() {
        let keys = |from: usize| {
            (from..from + 3000)
                .map(|i| format!("k{i}: , "))
                .collect::<String>()
        };
        let wide = format!(
            "- &a {{{}}}\n- &b {{{}}}\n- {{<<: [*a, *b]}}\n",
            keys(0),
            keys(3000)
        );
        assert_eq!(
            read(&wide).1.map(|problem| problem.rule),
            Some(Rule::TooLarge)
        );
        let mut deep = String::from("- &a0 {k: [x,x,x,x,x,x,x,x,x,x]}\n");
        for i in 1..12 {
            let before: String = (0..10).map(|j| format!("k{j}: *a{}, ", i - 1)).collect();
            deep.push_str(&format!("- &a{i} {{<<: {{{before}}}}}\n"));
        }
        assert_eq!(
            read(&deep).1.map(|problem| problem.rule),
            Some(Rule::YamlAlias)
        );
    }

    #[test]
    fn several_documents_are_read_and_spans_are_bytes() {
        let text = "# ä\na: ö\n---\nb: 1\n";
        let (nodes, _) = read(text);
        assert_eq!(nodes.len(), 2);
        let span = nodes[1]
            .entries()
            .map(|entries| entries[0].node.span)
            .unwrap_or_default();
        assert_eq!(&text[span.start..span.end], "1");
    }
}
