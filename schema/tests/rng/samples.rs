//! A few texts of a type: its bounds, and for a regular expression one text for each of its branches, short and long.

use crate::grammar::Data;

/// At most so many samples of one expression.
const MOST: usize = 24;

/// Texts that `data` allows.
pub fn samples(data: &Data) -> Vec<String> {
    let mut out = match &data.pattern {
        Some(pattern) => Reader::new(pattern).alternatives(),
        None => plain(data),
    };
    // Numbers are read with strtol's base 0: what has the letters of hexadecimal needs its prefix.
    let prefixed = data
        .pattern
        .as_deref()
        .is_some_and(|pattern| pattern.contains("(0x)?"));
    out.retain(|text| {
        let bare = prefixed && !text.contains("0x") && text.contains(|c: char| c.is_alphabetic());
        let number = text.parse::<i64>();
        !bare
            && !text.trim().is_empty()
            && !data.except.contains(text)
            && data
                .longest
                .is_none_or(|longest| text.chars().count() <= longest)
            && number.as_ref().map_or(true, |number| {
                data.least.is_none_or(|least| *number >= least)
                    && data.most.is_none_or(|most| *number <= most)
            })
    });
    out.extend(
        [data.least, data.most]
            .into_iter()
            .flatten()
            .map(|n| n.to_string()),
    );
    out.sort();
    out.dedup();
    out
}

fn plain(data: &Data) -> Vec<String> {
    let texts: &[&str] = match &*data.kind {
        "string" | "anyURI" | "NCName" => &["text"],
        "dateTime" => &["2030-01-02T03:04:05"],
        "double" => &["1.5"],
        "short" => &["0", "32767"],
        "int" => &["0", "1", "2147483647"],
        "integer" | "long" => &["0", "1"],
        "positiveInteger" => &["1"],
        "unsignedShort" => &["0", "65535"],
        "unsignedInt" => &["0", "4294967295"],
        "unsignedLong" => &["0", "1"],
        other => panic!("the type {other} has no samples"),
    };
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Reads an expression, and makes texts of it as it goes.
struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl<'a> Reader<'a> {
    fn new(pattern: &'a str) -> Self {
        Self {
            rest: pattern.chars().peekable(),
        }
    }

    fn alternatives(&mut self) -> Vec<String> {
        let mut out = self.sequence();
        while self.rest.next_if_eq(&'|').is_some() {
            out.extend(self.sequence());
        }
        out.truncate(MOST);
        out
    }

    /// Parts one after another: the samples of each are gone through side by side.
    fn sequence(&mut self) -> Vec<String> {
        let mut parts: Vec<Vec<String>> = Vec::new();
        while let Some(c) = self.rest.next_if(|c| !matches!(c, '|' | ')')) {
            let one = match c {
                '(' => {
                    let inner = self.alternatives();
                    self.rest.next();
                    inner
                }
                '[' => self.class(),
                '.' => vec!["x".into(), "Z".into()],
                '\\' => vec![self.escaped().to_string()],
                c => vec![c.to_string()],
            };
            parts.push(self.repeated(one));
        }
        let count = parts.iter().map(Vec::len).max().unwrap_or(1).min(MOST);
        let nth = |i: usize| {
            parts
                .iter()
                .filter_map(|part| part.get(i % part.len().max(1)))
                .map(String::as_str)
                .collect()
        };
        (0..count).map(nth).collect()
    }

    fn escaped(&mut self) -> char {
        match self.rest.next() {
            Some('s') | None => ' ',
            Some(c) => c,
        }
    }

    /// The first, the last and one in the middle of a class's characters.
    fn class(&mut self) -> Vec<String> {
        let not = self.rest.next_if_eq(&'^').is_some();
        let mut members: Vec<char> = Vec::new();
        while let Some(c) = self.rest.next_if(|c| *c != ']') {
            let first = if c == '\\' { self.escaped() } else { c };
            if self.rest.next_if_eq(&'-').is_none() {
                members.push(first);
                continue;
            }
            match self.rest.next_if(|c| *c != ']') {
                Some(last) => members.extend(first..=last),
                None => members.extend([first, '-']),
            }
        }
        self.rest.next();
        if not {
            let some = ['x', 'Z', '7', ' '].into_iter();
            return some
                .filter(|c| !members.contains(c))
                .map(String::from)
                .collect();
        }
        let picks = [0, members.len() / 2, members.len().saturating_sub(1)];
        let mut out: Vec<String> = picks
            .iter()
            .filter_map(|at| members.get(*at))
            .map(ToString::to_string)
            .collect();
        out.dedup();
        out
    }

    /// As few and as many as a quantifier says, but not more than two beyond the fewest where it knows no bound.
    fn repeated(&mut self, one: Vec<String>) -> Vec<String> {
        let (least, most) = match self.rest.peek() {
            Some('?') => (0, 1),
            Some('*') => (0, 3),
            Some('+') => (1, 3),
            Some('{') => {
                self.rest.next();
                let inner: String = self.rest.by_ref().take_while(|c| *c != '}').collect();
                let (least, most) = inner.split_once(',').unwrap_or((&inner, &inner));
                let least: usize = least.trim().parse().unwrap_or(0);
                let most = most.trim().parse().unwrap_or(least + 2);
                return times(&one, least, most);
            }
            _ => return one,
        };
        self.rest.next();
        times(&one, least, most)
    }
}

fn times(one: &[String], least: usize, most: usize) -> Vec<String> {
    let mut out: Vec<String> = one.iter().map(|text| text.repeat(most)).collect();
    out.extend(one.iter().map(|text| text.repeat(least)));
    out.dedup();
    out.truncate(MOST);
    out
}

#[test]
fn samples_take_every_branch_of_an_expression() {
    let of = |pattern: &str| Reader::new(pattern).alternatives();
    assert_eq!(of("(ab|c)?x"), ["abx", "cx", "x"]);
    assert_eq!(of("[0-3]{1,2}\\."), ["00.", "22.", "33.", "0.", "2.", "3."]);
    assert_eq!(of("$[^,]"), ["$x", "$Z", "$7", "$ "]);
}
