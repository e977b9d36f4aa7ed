//! Where a definition's text came from, and places in it.
//!
//! In: a file's path and text. Out: byte spans, and the line and column that people read. Nothing here can fail: a span that
//! does not fit its text (it belongs to another text) is cut to it.

use std::path::PathBuf;
use std::sync::OnceLock;

/// One file's text, with the path by which people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as it should be shown; also tells XML from YAML when the text does not.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
    /// Where each line begins; made when it is first asked for.
    lines: OnceLock<Box<[usize]>>,
}

/// A range of bytes in a [`Source`]'s text, end excluded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Byte offset of the first byte.
    pub start: usize,
    /// Byte offset after the last byte.
    pub end: usize,
}

impl Span {
    /// A span from `start` to `end`; an `end` before `start` gives an empty span.
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start,
            end: end.max(start),
        }
    }
}

/// A place as people count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Source {
    /// A source from its parts.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
            lines: OnceLock::new(),
        }
    }

    /// Whether it is XML, not YAML: as its name's ending says (`.xml`, `.yaml`, `.yml`, `.json`), else its first character.
    pub fn is_xml(&self) -> bool {
        match self.path.extension().and_then(|ending| ending.to_str()) {
            Some("xml") => true,
            Some("yaml" | "yml" | "json") => false,
            _ => {
                let text = self.text.trim_start_matches('\u{feff}');
                text.trim_start().starts_with('<')
            }
        }
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let ends = self.text.match_indices('\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(ends).collect()
        })
    }

    /// Line and column of a byte offset; an offset beyond the end is the end.
    pub fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines().partition_point(|start| *start <= offset);
        let start = self
            .lines()
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or("");
        Position {
            line: line.max(1),
            column: before.chars().count() + 1,
        }
    }

    /// The text of a span; empty when the span does not lie in this text.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or("")
    }

    /// The whole line (without its end) that holds a byte offset.
    pub fn line_of(&self, offset: usize) -> &str {
        let line = self.position(offset).line;
        let start = self.lines().get(line - 1).copied().unwrap_or(0);
        let end = self.lines().get(line).copied().unwrap_or(self.text.len());
        let whole = self.text.get(start..end).unwrap_or("");
        let whole = whole.strip_suffix('\n').unwrap_or(whole);
        whole.strip_suffix('\r').unwrap_or(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_not_bytes() {
        let source = Source::new("x", "ä\nöü<x");
        assert_eq!(source.position(7), Position { line: 2, column: 3 });
        assert_eq!(source.line_of(7), "öü<x");
    }

    #[test]
    fn an_offset_beyond_the_end_is_the_end() {
        assert_eq!(
            Source::new("x", "ab").position(99),
            Position { line: 1, column: 3 }
        );
    }
}
