//! What is wrong with a definition, said so that it can be mended.

use crate::rule::Rule;
use crate::source::{Source, Span};
use std::fmt::Write as _;

/// One complaint about one place of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The rule that was broken.
    pub rule: Rule,
    /// What is wrong, in one lower-case sentence.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do about it, or what would be accepted.
    pub help: Option<String>,
    /// The element path, such as `domain/devices/disk[2]/source/@file`; empty when the text could not be read so far.
    pub path: String,
}

impl Diagnostic {
    /// A diagnostic without help and path.
    pub fn new(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Self {
            rule,
            message: message.into(),
            span,
            help: None,
            path: String::new(),
        }
    }

    /// That a definition has more problems than are told.
    pub(crate) fn more(number: usize, span: Span) -> Self {
        let message = format!("there are {number} more problems in this definition");
        Self::new(Rule::MoreProblems, span, message)
    }

    /// The same with help.
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with an element path.
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Plain text: `file:line:column: message`, the line with a mark under the place, and the help.
    pub fn render(&self, source: &Source) -> String {
        let position = source.position(self.span.start);
        let line: String = source.line_of(self.span.start).chars().take(200).collect();
        let line = line.replace('\t', " ");
        let mut out = format!(
            "{}:{}:{}: {}",
            source.path.display(),
            position.line,
            position.column,
            self.message
        );
        if !self.path.is_empty() {
            let _ = write!(out, " ({})", self.path);
        }
        let room = line
            .chars()
            .count()
            .saturating_sub(position.column - 1)
            .max(1);
        let width = source
            .slice(self.span)
            .lines()
            .next()
            .map_or(1, |text| text.chars().count())
            .clamp(1, room);
        let _ = write!(
            out,
            "\n    {line}\n    {}{}",
            " ".repeat(position.column.min(201) - 1),
            "^".repeat(width)
        );
        if let Some(help) = &self.help {
            let _ = write!(out, "\n  help: {help}");
        }
        out
    }
}

/// The candidate closest to `word`, if it is close enough to be a slip of the pen.
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase();
    let bound = (word.chars().count() / 3).max(1);
    let near = |candidate: &str| distance(&word, &candidate.to_lowercase());
    candidates
        .into_iter()
        .map(|c| (near(c), c))
        .filter(|(d, _)| *d <= bound)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Words that people write for others, where the right one is among `words`.
pub fn usual_mistake(word: &str, words: &[&'static str]) -> Option<&'static str> {
    const MISTAKES: &[(&str, &str)] = &[
        ("nfs", "netfs"),
        ("cifs", "netfs"),
        ("lvm", "logical"),
        ("directory", "dir"),
        ("ceph", "rbd"),
        ("multipath", "mpath"),
        ("img", "raw"),
        ("tap", "ethernet"),
        ("macvtap", "direct"),
        ("macvlan", "direct"),
        ("routed", "route"),
        ("cd", "cdrom"),
        ("dvd", "cdrom"),
        ("iso", "cdrom"),
        ("harddisk", "hd"),
        ("disk", "hd"),
        ("uefi", "efi"),
        ("egress", "out"),
        ("ingress", "in"),
        ("both", "inout"),
        ("allow", "accept"),
        ("deny", "drop"),
        ("block", "drop"),
        ("host", "host-passthrough"),
        ("true", "yes"),
        ("false", "no"),
        ("true", "on"),
        ("false", "off"),
        ("yes", "on"),
        ("no", "off"),
        ("on", "yes"),
        ("off", "no"),
        ("up", "running"),
        ("on", "running"),
        ("off", "stopped"),
        ("shutoff", "stopped"),
        ("reboot", "restart"),
        ("poweroff", "destroy"),
    ];
    let word = word.to_lowercase();
    let (_, meant) = MISTAKES
        .iter()
        .find(|(wrong, right)| *wrong == word && words.contains(right))?;
    Some(meant)
}

/// Edit distance in which a swap of two neighbours counts one.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows: [Vec<usize>; 3] = [vec![], (0..=b.len()).collect(), vec![0; b.len() + 1]];
    for (i, x) in a.iter().enumerate() {
        let [before, last, row] = &mut rows;
        row.clear();
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best = (cell(last, j) + usize::from(x != y))
                .min(cell(last, j + 1) + 1)
                .min(cell(row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(cell(before, j - 1) + 1);
            }
            row.push(best);
        }
        rows.rotate_left(1);
    }
    let [_, last, _] = &rows;
    last.last().copied().unwrap_or(0)
}

/// `a, b or c`, cut after `most` words.
pub fn one_of<'a>(words: impl IntoIterator<Item = &'a str>, most: usize) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.as_slice() {
        [] => "nothing".into(),
        [only] => (*only).into(),
        many if many.len() > most => format!(
            "{} and {} more",
            many.iter()
                .take(most)
                .copied()
                .collect::<Vec<_>>()
                .join(", "),
            many.len() - most
        ),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_a_slip_and_a_case_are_near_and_another_word_is_not() {
        assert_eq!(did_you_mean("memroy", ["name", "memory"]), Some("memory"));
        assert_eq!(
            did_you_mean("netwrk", ["network", "bridge"]),
            Some("network")
        );
        assert_eq!(
            did_you_mean("dependsOn", ["depends-on"]),
            Some("depends-on")
        );
        assert_eq!(did_you_mean("flavour", ["name", "memory"]), None);
    }
}
