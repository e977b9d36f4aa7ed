//! Values that stand in one attribute or one text: each type says what it accepts, reads it and writes it back as stated.
//!
//! A value keeps the looks it was given where these carry no meaning (`0x07`, `512 MiB`, `0-3,^2`), so that writing a definition
//! gives back what was read; comparing two values compares what they mean.

mod cpuset;
mod mac;
mod number;
mod size;
mod uuid;

pub use cpuset::CpuSet;
pub use mac::MacAddr;
pub use number::{Hex, Number};
pub use size::{
    ByteSize, Bytes, DefaultUnit, InBytes, InKib, InMib, KibSize, MibSize, Size, split_unit,
    unit_bytes,
};

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What a scalar type accepts, for messages, hints and the JSON Schema.
#[derive(Debug)]
pub struct ScalarInfo {
    /// A phrase that completes 'expected …', such as `a MAC address such as 52:54:00:12:34:56`.
    pub expects: &'static str,
    /// The words of an enumeration, else empty.
    pub words: &'static [&'static str],
    /// What each word means; empty where it says so itself.
    pub meanings: &'static [&'static str],
    /// How the value looks in YAML and JSON.
    pub form: Form,
    /// What texts it may be, as a regular expression of JSON Schema that takes all of them and few others; empty for any.
    pub pattern: &'static str,
    /// Whether a variable (`$IP`) may stand for it.
    pub variable: bool,
    /// Whether a child element of this type in which there is nothing, such as `<label/>`, is as good as none.
    pub blank: bool,
}

impl ScalarInfo {
    /// What is no enumeration.
    pub const fn new(expects: &'static str, form: Form) -> Self {
        Self {
            expects,
            words: &[],
            meanings: &[],
            form,
            pattern: "",
            variable: false,
            blank: true,
        }
    }

    /// With the expression that its texts match.
    pub const fn matching(self, pattern: &'static str) -> Self {
        Self { pattern, ..self }
    }

    /// Where nothing is a value, or a mistake.
    pub const fn never_blank(self) -> Self {
        Self {
            blank: false,
            ..self
        }
    }
}

/// How a scalar looks in YAML and JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A string.
    Text,
    /// A number where it is written in plain decimal, else a string.
    Number,
    /// `true` and `false` for the two words, the affirmative first.
    Truth(&'static str, &'static str),
    /// A string; in YAML and JSON also a list, whose items are joined by this.
    Joined(&'static str),
}

/// A value that stands in one attribute or one text.
pub trait Scalar: Sized + Clone {
    /// What is accepted.
    const INFO: ScalarInfo;

    /// Reads the value.
    ///
    /// # Errors
    /// Why not, as the end of a sentence about the value; empty when [`ScalarInfo::expects`] says it all.
    fn parse(text: &str) -> Result<Self, String>;

    /// The value as it was stated, or in its canonical form.
    fn text(&self) -> Cow<'_, str>;

    /// Whether the text, of which the value was read, is what [`Scalar::text`] makes of it.
    fn is_written(&self, text: &str) -> bool {
        self.text() == text
    }
}

/// Whether a text that is a whole number is written in the usual way.
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text).as_bytes();
    match digits {
        [b'0'] => text == "0",
        [first, rest @ ..] => matches!(first, b'1'..=b'9') && rest.iter().all(u8::is_ascii_digit),
        [] => false,
    }
}

impl Scalar for String {
    const INFO: ScalarInfo = ScalarInfo::new("a text that is not empty", Form::Text);

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("is empty".into());
        }
        Ok(text.to_owned())
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }
}

/// A text that may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(pub String);

impl Scalar for Text {
    const INFO: ScalarInfo = ScalarInfo::new("a text", Form::Text).never_blank();

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an object: not empty, no line feed, no `/`, and neither `.` nor `..`, as it becomes part of paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for Name {
    const INFO: ScalarInfo = ScalarInfo::new("a name without `/`", Form::Text).never_blank();

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("is empty".into());
        }
        if matches!(text, "." | "..") || text.contains(['/', '\n', '\0']) {
            return Err("holds `/` or a line feed, or is a directory's own name".into());
        }
        Ok(Self(text.to_owned()))
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number's digits with their sign or prefix: white space may stand before them, and none behind.
/// Source: libvirt's `virStrToLong_*`, which take what C's `strtoul` takes where nothing follows it.
///
/// # Errors
/// As [`Scalar::parse`].
pub fn behind_space(text: &str) -> Result<&str, String> {
    const SPACE: [char; 6] = [' ', '\t', '\n', '\u{b}', '\u{c}', '\r'];
    let number = text.trim_start_matches(SPACE);
    if number.ends_with(SPACE) {
        return Err("has white space behind it: take that out".to_owned());
    }
    Ok(number)
}

macro_rules! integers {
    ($($type:ident $expects:literal),* $(,)?) => {$(
        impl Scalar for $type {
            const INFO: ScalarInfo = ScalarInfo::new($expects, Form::Number).matching("^\\s*[+-]?[0-9]+$");

            fn parse(text: &str) -> Result<Self, String> {
                behind_space(text)?.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
                    std::num::IntErrorKind::PosOverflow => format!("is above {}", $type::MAX),
                    std::num::IntErrorKind::NegOverflow => format!("is below {}", $type::MIN),
                    _ => String::new(),
                })
            }

            fn text(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
            }

            fn is_written(&self, text: &str) -> bool {
                is_plain(text)
            }
        }
    )*};
}

integers! {
    u8 "a whole number from 0 to 255",
    u16 "a whole number from 0 to 65535",
    u32 "a whole number from 0 to 4294967295",
    u64 "a whole number from 0 to 18446744073709551615",
    i16 "a whole number from -32768 to 32767",
    i32 "a whole number from -2147483648 to 2147483647",
    i64 "a whole number from -9223372036854775808 to 9223372036854775807",
}

/// A whole number from `LOW` to `HIGH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Within<const LOW: i64, const HIGH: i64>(i64);

impl<const LOW: i64, const HIGH: i64> Within<LOW, HIGH> {
    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl<const LOW: i64, const HIGH: i64> Scalar for Within<LOW, HIGH> {
    const INFO: ScalarInfo =
        ScalarInfo::new("a whole number in range", Form::Number).matching("^\\s*[+-]?[0-9]+$");

    fn parse(text: &str) -> Result<Self, String> {
        let number = i64::parse(text)?;
        if number < LOW || number > HIGH {
            return Err(format!("is not between {LOW} and {HIGH}"));
        }
        Ok(Self(number))
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.to_string())
    }
}

macro_rules! parsed {
    ($($type:ident $expects:literal $pattern:literal),* $(,)?) => {$(
        impl Scalar for $type {
            const INFO: ScalarInfo = ScalarInfo::new($expects, Form::Text).matching($pattern);

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| String::new())
            }

            fn text(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
            }
        }
    )*};
}

parsed! {
    IpAddr "an IP address such as 192.168.122.1 or 2001:db8::1" "^[0-9a-fA-F:.]+$",
    Ipv4Addr "an IPv4 address such as 192.168.122.1" "^[0-9.]+$",
    Ipv6Addr "an IPv6 address such as 2001:db8::1" "^[0-9a-fA-F:.]+$",
}

/// A span of time, written `90s`, `5min`, `500ms` or bare seconds.
impl Scalar for Duration {
    const INFO: ScalarInfo = ScalarInfo::new("a time such as 90s, 5min or 500ms", Form::Text)
        .matching("^ *[0-9]+ *(ms|s|m|min|h)? *$");

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        let number = u64::parse(number)?;
        let seconds = |factor: u64| {
            number
                .checked_mul(factor)
                .map(Duration::from_secs)
                .ok_or_else(|| "is too long".to_owned())
        };
        match unit {
            None | Some("s") => seconds(1),
            Some("ms") => Ok(Duration::from_millis(number)),
            Some("min" | "m") => seconds(60),
            Some("h") => seconds(3600),
            Some(other) => Err(format!(
                "has the unknown unit `{other}`; known are ms, s, min and h"
            )),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(if self.subsec_millis() > 0 {
            format!("{}ms", self.as_millis())
        } else {
            format!("{}s", self.as_secs())
        })
    }
}

/// Declares an enumeration whose values are words: the type, its list, `Display`, `FromStr`, serde and [`Scalar`].
#[macro_export]
macro_rules! choice {
    ($(#[doc = $doc:expr])* $vis:vis enum $name:ident { $($(#[doc = $vdoc:expr])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        $vis enum $name {
            $($(#[doc = $vdoc])* #[doc = concat!("`", $word, "`")] #[serde(rename = $word)] $variant),*
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                <Self as $crate::scalar::Scalar>::parse(text)
            }
        }

        impl $crate::scalar::Scalar for $name {
            const INFO: $crate::scalar::ScalarInfo = {
                const WORDS: &[&str] = &[$($word),*];
                $crate::scalar::ScalarInfo {
                    words: WORDS,
                    meanings: &[$(concat!($($vdoc),*)),*],
                    ..$crate::scalar::ScalarInfo::new("one of its words", $crate::scalar::form_of(WORDS))
                }
            };

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(String::new()),
                }
            }

            fn text(&self) -> ::std::borrow::Cow<'_, str> {
                ::std::borrow::Cow::Borrowed(self.as_str())
            }
        }
    };
}

/// Whether an enumeration is just the two words of a truth value.
pub const fn form_of(words: &[&'static str]) -> Form {
    if let [yes, no] = words {
        if is(yes, "yes") && is(no, "no") {
            return Form::Truth("yes", "no");
        }
        if is(yes, "on") && is(no, "off") {
            return Form::Truth("on", "off");
        }
    }
    Form::Text
}

const fn is(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

choice! {
    /// `yes` or `no`.
    pub enum YesNo { Yes = "yes", No = "no" }
}

choice! {
    /// `on` or `off`.
    pub enum OnOff { On = "on", Off = "off" }
}

impl YesNo {
    /// Whether it is `yes`.
    pub fn is_yes(self) -> bool {
        self == Self::Yes
    }
}

impl OnOff {
    /// Whether it is `on`.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_as_it_would_be_written_or_keeps_its_looks() {
        fn judge<T: Scalar>(text: &str) {
            if let Ok(value) = T::parse(text) {
                assert_eq!(value.is_written(text), value.text() == text, "{text:?}");
            }
        }
        let texts = [
            "0", "-0", "00", "7", "07", "-7", "-07", " 7", "7 ", "10", "100", "0x7", "0x07", "0X7",
            "0xA", "0xa", "-", "", "255",
        ];
        for text in texts {
            judge::<u8>(text);
            judge::<u64>(text);
            judge::<i16>(text);
            judge::<Number>(text);
        }
    }

    /// Which texts a type takes, and as what.
    fn takes<T: Scalar>(texts: &[(&str, Option<&str>)]) {
        for (text, wanted) in texts {
            let read = T::parse(text).ok();
            let canonical = read.as_ref().map(|value| value.text().into_owned());
            assert_eq!(canonical.as_deref(), *wanted, "{text:?}");
        }
    }

    #[test]
    fn plain_numbers_are_decimal_also_behind_zeros_and_a_sign() {
        takes::<u32>(&[
            ("7", Some("7")),
            ("007", Some("7")),
            ("010", Some("10")),
            ("+7", Some("7")),
            (" 7", Some("7")),
            ("\n\t 7", Some("7")),
            ("7 ", None),
            ("7\n", None),
            (" ", None),
            ("-7", None),
            ("+-7", None),
            ("0x7", None),
            ("7 8", None),
            ("4294967296", None),
            ("", None),
        ]);
        takes::<i32>(&[("-7", Some("-7")), ("- 7", None), ("-2147483649", None)]);
    }

    #[test]
    fn numbers_of_addresses_are_read_as_c_reads_them() {
        takes::<Number>(&[
            ("7", Some("7")),
            ("0", Some("0")),
            ("0x07", Some("0x07")),
            ("0X1f", Some("0x1f")),
            ("010", Some("8")),
            ("08", None),
            ("+7", Some("7")),
            (" 0x7", Some("0x7")),
            ("0x7 ", None),
            ("010\n", None),
            ("-7", None),
            ("1f", None),
            ("0x", None),
            ("0x-1", None),
            ("0x10000000000000000", None),
            ("02000000000000000000000", None),
        ]);
        assert_eq!(Number::parse("0x07"), Ok(Number::new(7)));
    }

    #[test]
    fn ports_and_registers_are_hexadecimal_with_or_without_a_prefix() {
        takes::<Hex>(&[
            ("0x3f8", Some("0x3f8")),
            ("3f8", Some("0x3f8")),
            ("10", Some("0x10")),
            ("0x00002000", Some("0x00002000")),
            (" 3f8", Some("0x3f8")),
            ("3f8 ", None),
            ("g", None),
            ("", None),
            ("0x", None),
        ]);
        assert_eq!(Hex::parse("10").map(Hex::get), Ok(16));
    }

    #[test]
    fn a_uuid_has_dashes_and_spaces_between_its_bytes_or_none() {
        let canonical = "0f0806ab-531d-6134-5def-c5b4955292aa";
        takes::<::uuid::Uuid>(&[
            (canonical, Some(canonical)),
            ("0F0806AB531D61345DEFC5B4955292AA", Some(canonical)),
            (" 0f08-06ab 531d61345def-c5b4955292aa ", Some(canonical)),
            ("{0f0806ab-531d-6134-5def-c5b4955292aa}", None),
            ("urn:uuid:0f0806ab-531d-6134-5def-c5b4955292aa", None),
            ("0f0806ab-531d-6134-5def-c5b4955292a", None),
            ("0f0806ab-531d-6134-5def-c5b4955292aa0", None),
            ("0-f0806ab-531d-6134-5def-c5b4955292aa", None),
        ]);
    }

    #[test]
    fn addresses_stand_without_white_space() {
        takes::<IpAddr>(&[
            ("10.0.0.1", Some("10.0.0.1")),
            (" 10.0.0.1", None),
            ("10.0.0.1 ", None),
        ]);
        let mac = "52:54:00:12:34:56";
        takes::<MacAddr>(&[
            (mac, Some(mac)),
            (" 52:54:00:12:34:56", None),
            ("52:54:00:12:34:56 ", None),
        ]);
    }

    #[test]
    fn words_are_of_one_case_and_stand_without_white_space() {
        takes::<YesNo>(&[
            ("yes", Some("yes")),
            ("Yes", None),
            ("on", None),
            ("1", None),
            (" yes", None),
            ("yes\n", None),
        ]);
        takes::<OnOff>(&[("off", Some("off")), ("OFF", None), ("no", None)]);
    }
}
