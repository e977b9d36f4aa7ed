//! What `[` and `test` decide.
//!
//! In come the words between the brackets and a way to look at files; out goes whether they hold. What makes no sense does not hold.

use std::cmp::Ordering;

use super::super::version::compare;

/// Brackets within brackets, at most.
const DEEPEST: usize = 16;

/// How a file is looked at.
pub(super) trait Files {
    /// Whether there is a file or directory of this kind: `f` a file, `s` one that is not empty, `d` a directory, `e` any of them.
    fn is(&self, kind: u8, path: &str) -> bool;
}

/// Whether the words hold.
pub(super) fn holds(words: &[String], files: &dyn Files) -> bool {
    let mut reader = Reader {
        words,
        files,
        depth: 0,
    };
    reader.any()
}

struct Reader<'a> {
    words: &'a [String],
    files: &'a dyn Files,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn accept(&mut self, word: &str) -> bool {
        let there = self.words.first().is_some_and(|first| first == word);
        if there {
            self.next();
        }
        there
    }

    fn any(&mut self) -> bool {
        let mut holds = self.all();
        while self.accept("-o") {
            holds |= self.all();
        }
        holds
    }

    fn all(&mut self) -> bool {
        let mut holds = self.one();
        while !self.words.is_empty()
            && !matches!(self.words.first().map(String::as_str), Some("-o" | ")"))
        {
            self.accept("-a");
            holds &= self.one();
        }
        holds
    }

    fn one(&mut self) -> bool {
        let mut wanted = true;
        while self.words.len() > 1 && self.accept("!") {
            wanted = !wanted;
        }
        wanted == self.primary()
    }

    fn primary(&mut self) -> bool {
        if let [left, operator, right, ..] = self.words
            && let Some(holds) = relation(left, operator, right)
        {
            self.words = self.words.get(3..).unwrap_or_default();
            return holds;
        }
        let Some(word) = self.next() else {
            return false;
        };
        match word {
            "(" if self.depth < DEEPEST => {
                self.depth += 1;
                let holds = self.any();
                self.accept(")");
                self.depth -= 1;
                holds
            }
            "-z" => self.next().is_none_or(str::is_empty),
            "-n" => self.next().is_some_and(|text| !text.is_empty()),
            "-e" | "-f" | "-s" | "-d" => {
                let kind = word.as_bytes().get(1).copied().unwrap_or(b'e');
                let files = self.files;
                self.next().is_some_and(|path| files.is(kind, path))
            }
            text => !text.is_empty(),
        }
    }
}

fn relation(left: &str, operator: &str, right: &str) -> Option<bool> {
    let number = |text: &str| text.trim().parse::<i64>().unwrap_or(0);
    let numbers = number(left).cmp(&number(right));
    Some(match operator {
        "=" | "==" => left == right,
        "!=" => left != right,
        "<" => left < right,
        ">" => left > right,
        "-eq" => numbers.is_eq(),
        "-ne" => numbers.is_ne(),
        "-lt" => numbers.is_lt(),
        "-le" => numbers.is_le(),
        "-gt" => numbers.is_gt(),
        "-ge" => numbers.is_ge(),
        "-pgt" => compare(left, right) == Ordering::Greater,
        "-plt" => compare(left, right) == Ordering::Less,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Only(&'static str);

    impl Files for Only {
        fn is(&self, kind: u8, path: &str) -> bool {
            kind == b'f' && path == self.0
        }
    }

    fn says(text: &str) -> bool {
        let words = text.split(' ').map(|word| word.replace('_', ""));
        holds(&words.collect::<Vec<_>>(), &Only("/there"))
    }

    #[test]
    fn words_numbers_and_files_are_compared() {
        for holds in [
            "a",
            "-n a",
            "-z _",
            "a = a",
            "a != b",
            "2 -lt 10",
            "-f /there",
            "! -f /gone",
            "( a = a )",
            "a = b -o -f /there",
            "a = a -a ! b = c",
            "-n x -a _ = _",
            "! ( a = b -o c = d )",
            "= = =",
        ] {
            assert!(says(holds), "{holds}");
        }
        for fails in [
            "_",
            "-n _",
            "-z a",
            "a = b",
            "a = a -a b = c",
            "-d /there",
            "! a",
            "-n",
            "( a = b",
            "-f",
        ] {
            assert!(!says(fails), "{fails}");
        }
    }

    #[test]
    fn brackets_without_end_come_to_one() {
        assert!(!says(&"( ".repeat(10_000)));
        assert!(says(&"! ".repeat(10_001)));
    }
}
