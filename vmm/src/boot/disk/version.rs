//! Comparing versions as the UAPI group's version format specification does, which is how boot entries are put in order.
//!
//! In come two versions; out goes which is older. Pure, and linear in their lengths.

use std::cmp::Ordering;

/// Which of two versions is older.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        (a, b) = (skip(a), skip(b));
        // Each of these marks is older than what goes on without it: `1~rc1` is older than `1`, and `1-2` is older than `1.1`.
        for mark in *b"~" {
            match (a.first() == Some(&mark), b.first() == Some(&mark)) {
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (true, true) => (a, b) = (rest(a), rest(b)),
                (false, false) => {}
            }
        }
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        for mark in *b"-^." {
            match (a.first() == Some(&mark), b.first() == Some(&mark)) {
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (true, true) => (a, b) = (rest(a), rest(b)),
                (false, false) => {}
            }
        }
        let digits = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
        let order = if digits(a) || digits(b) {
            let (number_a, number_b);
            (number_a, a) = split(a, u8::is_ascii_digit);
            (number_b, b) = split(b, u8::is_ascii_digit);
            let (x, y) = (significant(number_a), significant(number_b));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            let (word_a, word_b);
            (word_a, a) = split(a, u8::is_ascii_alphabetic);
            (word_b, b) = split(b, u8::is_ascii_alphabetic);
            word_a.cmp(word_b)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Without the characters at its beginning that no version has.
fn skip(text: &[u8]) -> &[u8] {
    let sound = |byte: &u8| byte.is_ascii_alphanumeric() || b"~-^.".contains(byte);
    let begin = text.iter().position(sound).unwrap_or(text.len());
    text.get(begin..).unwrap_or_default()
}

fn rest(text: &[u8]) -> &[u8] {
    text.get(1..).unwrap_or_default()
}

fn split(text: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !belongs(byte));
    text.split_at(end.unwrap_or(text.len()))
}

fn significant(number: &[u8]) -> &[u8] {
    let begin = number.iter().position(|&digit| digit != b'0');
    begin
        .and_then(|begin| number.get(begin..))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_specifications_examples_are_in_order() {
        let ascending = [
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-3",
            "123-3.1",
            "123^patch1",
            "123^1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
    }

    #[test]
    fn numbers_are_numbers() {
        assert_eq!(compare("6.9.0", "6.10.0"), Ordering::Less);
        assert_eq!(compare("6.01", "6.1"), Ordering::Equal);
        assert_eq!(
            compare("99999999999999999999999", "100000000000000000000000"),
            Ordering::Less
        );
    }

    proptest! {
        #[test]
        fn the_order_is_one(a in "[a-z0-9.~^_-]{0,12}", b in "[a-z0-9.~^_-]{0,12}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
        }
    }
}
