//! Values that stand in one attribute or one text: each type says what it accepts, reads it and writes it back as stated.
//!
//! A value keeps the looks it was given where these carry no meaning (`0x07`, `512 MiB`, `0-3,^2`), so that writing a definition
//! gives back what was read; comparing two values compares what they mean.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use uuid::Uuid;

/// What a scalar type accepts, for messages, hints and the JSON Schema.
#[derive(Debug)]
pub struct ScalarInfo {
    /// A phrase that completes 'expected …', such as `a MAC address such as 52:54:00:12:34:56`.
    pub expects: &'static str,
    /// The words of an enumeration, else empty.
    pub words: &'static [&'static str],
    /// How the value looks in YAML and JSON.
    pub form: Form,
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
}

const fn info(expects: &'static str, form: Form) -> ScalarInfo {
    ScalarInfo {
        expects,
        words: &[],
        form,
    }
}

impl Scalar for String {
    const INFO: ScalarInfo = info("a text that is not empty", Form::Text);

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
    const INFO: ScalarInfo = info("a text", Form::Text);

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
    const INFO: ScalarInfo = info("a name without `/`", Form::Text);

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

macro_rules! integers {
    ($($type:ident $expects:literal),* $(,)?) => {$(
        impl Scalar for $type {
            const INFO: ScalarInfo = info($expects, Form::Number);

            fn parse(text: &str) -> Result<Self, String> {
                let text = text.trim();
                if text.starts_with('+') {
                    return Err(String::new());
                }
                text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
                    std::num::IntErrorKind::PosOverflow => format!("is above {}", $type::MAX),
                    std::num::IntErrorKind::NegOverflow => format!("is below {}", $type::MIN),
                    _ => String::new(),
                })
            }

            fn text(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
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
    const INFO: ScalarInfo = info("a whole number in range", Form::Number);

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

/// A number that may be written in decimal or as `0x…`; equal to another by value.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    value: u64,
    /// Digits after `0x`, if written so.
    hex: Option<u8>,
}

impl Number {
    /// A number in decimal.
    pub fn new(value: u64) -> Self {
        Self { value, hex: None }
    }

    /// A number in hexadecimal, with at least `digits` digits.
    pub fn hex(value: u64, digits: u8) -> Self {
        Self {
            value,
            hex: Some(digits),
        }
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.value
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Number {}

impl Scalar for Number {
    const INFO: ScalarInfo = info("a number such as 7 or 0x07", Form::Number);

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) else {
            return Ok(Self {
                value: u64::parse(text)?,
                hex: None,
            });
        };
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(String::new());
        }
        let value = u64::from_str_radix(digits, 16).map_err(|_| "is above 64 bits".to_owned())?;
        Ok(Self {
            value,
            hex: Some(u8::try_from(digits.len()).unwrap_or(16)),
        })
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.hex {
            Some(digits) => write!(f, "0x{:0width$x}", self.value, width = usize::from(digits)),
            None => write!(f, "{}", self.value),
        }
    }
}

/// A number of bytes.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Bytes(pub u64);

impl Bytes {
    /// So many KiB; saturates.
    pub const fn kib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 10))
    }

    /// So many MiB; saturates.
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// So many GiB; saturates.
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }
}

/// In the largest binary unit that divides it: `512 MiB`, `1536 bytes`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [
            (60, "EiB"),
            (50, "PiB"),
            (40, "TiB"),
            (30, "GiB"),
            (20, "MiB"),
            (10, "KiB"),
        ] {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{} {unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

/// The bytes in one of a unit libvirt knows (`KiB`, `KB`, `k`, `bytes`…), in any case.
pub fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "b" | "byte" | "bytes") {
        return Some(1);
    }
    let (first, rest) = unit.split_at_checked(1)?;
    let power = u32::try_from("kmgtpe".find(first)?).ok()? + 1;
    match rest {
        "" | "ib" => Some(1024_u64.pow(power)),
        "b" => Some(1000_u64.pow(power)),
        _ => None,
    }
}

/// The unit of a [`Size`] that states none.
pub trait DefaultUnit {
    /// Its bytes.
    const BYTES: u64;
    /// What a size with it expects.
    const EXPECTS: &'static str;
}

/// KiB, as for a domain's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InKib;
/// Bytes, as for volumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InBytes;
/// MiB, as for cache and hot-plug sizes of some devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InMib;

impl DefaultUnit for InKib {
    const BYTES: u64 = 1024;
    const EXPECTS: &'static str = "a size such as `512 MiB` (KiB where no unit is given)";
}

impl DefaultUnit for InBytes {
    const BYTES: u64 = 1;
    const EXPECTS: &'static str = "a size such as `10 GiB` (bytes where no unit is given)";
}

impl DefaultUnit for InMib {
    const BYTES: u64 = 1 << 20;
    const EXPECTS: &'static str = "a size such as `64 MiB` (MiB where no unit is given)";
}

/// A size with the unit it was stated in; equal to another by its bytes.
#[derive(Debug, Clone)]
pub struct Size<U> {
    number: u64,
    unit: Option<String>,
    default: PhantomData<U>,
}

/// A size in KiB where no unit is given.
pub type KibSize = Size<InKib>;
/// A size in bytes where no unit is given.
pub type ByteSize = Size<InBytes>;
/// A size in MiB where no unit is given.
pub type MibSize = Size<InMib>;

impl<U: DefaultUnit> Size<U> {
    /// A size stated in the largest binary unit that divides it.
    pub fn from_bytes(bytes: Bytes) -> Self {
        let text = bytes.to_string();
        let (number, unit) = text.split_once(' ').unwrap_or(("0", "bytes"));
        Self {
            number: number.parse().unwrap_or(bytes.0),
            unit: Some(unit.to_owned()),
            default: PhantomData,
        }
    }

    /// A size from its number and unit as XML states them.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence about the value.
    pub fn from_parts(number: &str, unit: Option<&str>) -> Result<Self, String> {
        let number = u64::parse(number)?;
        let factor = unit
            .map_or(Some(U::BYTES), unit_bytes)
            .ok_or_else(|| bad_unit(unit.unwrap_or_default()))?;
        if number.checked_mul(factor).is_none() {
            return Err("is above 16 EiB".into());
        }
        Ok(Self {
            number,
            unit: unit.map(str::to_owned),
            default: PhantomData,
        })
    }

    /// The bytes.
    pub fn bytes(&self) -> Bytes {
        Bytes(
            self.number.saturating_mul(
                self.unit
                    .as_deref()
                    .and_then(unit_bytes)
                    .unwrap_or(U::BYTES),
            ),
        )
    }

    /// The number as stated.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The unit as stated.
    pub fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }
}

fn bad_unit(unit: &str) -> String {
    format!(
        "has the unknown unit `{unit}`; known are bytes, KiB, MiB, GiB, TiB, PiB, EiB (1024) and KB, MB, GB, TB, PB, EB (1000)"
    )
}

impl<U> PartialEq for Size<U>
where
    U: DefaultUnit,
{
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl<U: DefaultUnit + Clone> Scalar for Size<U> {
    const INFO: ScalarInfo = info(U::EXPECTS, Form::Number);

    fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_unit(text);
        Self::from_parts(number, unit)
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }
}

/// `512 MiB`, `512MiB` and `512` into number and unit.
pub fn split_unit(text: &str) -> (&str, Option<&str>) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '-'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim();
    (number, (!unit.is_empty()).then_some(unit))
}

impl<U> fmt::Display for Size<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unit {
            Some(unit) => write!(f, "{} {unit}", self.number),
            None => write!(f, "{}", self.number),
        }
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Whether it names a group, not one interface.
    pub fn is_multicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 1
    }
}

impl std::str::FromStr for MacAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut octets = [0; 6];
        let mut groups = text.trim().split(':');
        for octet in &mut octets {
            let group = groups.next().unwrap_or("");
            if group.is_empty() || group.len() > 2 || !group.chars().all(|c| c.is_ascii_hexdigit())
            {
                return Err(String::new());
            }
            *octet = u8::from_str_radix(group, 16).map_err(|_| String::new())?;
        }
        if groups.next().is_some() {
            return Err("has more than six groups".into());
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Scalar for MacAddr {
    const INFO: ScalarInfo = info("a MAC address such as 52:54:00:12:34:56", Form::Text);

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }
}

impl serde::Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|_| serde::de::Error::custom(format!("`{text}` is not a MAC address")))
    }
}

macro_rules! parsed {
    ($($type:ident $expects:literal),* $(,)?) => {$(
        impl Scalar for $type {
            const INFO: ScalarInfo = info($expects, Form::Text);

            fn parse(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| String::new())
            }

            fn text(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
            }
        }
    )*};
}

parsed! {
    IpAddr "an IP address such as 192.168.122.1 or 2001:db8::1",
    Ipv4Addr "an IPv4 address such as 192.168.122.1",
    Ipv6Addr "an IPv6 address such as 2001:db8::1",
    Uuid "a uuid such as 0f0806ab-531d-6134-5def-c5b4955292aa",
}

/// A set of processors such as `0-3,^2`; equal to another by its members.
#[derive(Debug, Clone)]
pub struct CpuSet {
    text: String,
    cpus: BTreeSet<u32>,
}

impl CpuSet {
    /// The members.
    pub fn cpus(&self) -> &BTreeSet<u32> {
        &self.cpus
    }

    /// The members in the kernel's list form: `0-1,3`.
    pub fn list(&self) -> String {
        let mut out = String::new();
        let mut cpus = self.cpus.iter().copied().peekable();
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|next| *next == last + 1) {
                last = next;
            }
            if !out.is_empty() {
                out.push(',');
            }
            out.push_str(&first.to_string());
            if last > first {
                out.push_str(&format!("-{last}"));
            }
        }
        out
    }
}

impl PartialEq for CpuSet {
    fn eq(&self, other: &Self) -> bool {
        self.cpus == other.cpus
    }
}

impl Scalar for CpuSet {
    const INFO: ScalarInfo = info("a set of processors such as 0-3,^2", Form::Joined(","));

    fn parse(text: &str) -> Result<Self, String> {
        /// The kernel's own bound for processors on one machine.
        const MOST: u32 = 8192;
        let mut cpus = BTreeSet::new();
        for piece in text.trim().split(',') {
            let piece = piece.trim();
            let (range, out) = piece
                .strip_prefix('^')
                .map_or((piece, false), |rest| (rest, true));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let first = u32::parse(first)?;
            let last = u32::parse(last)?;
            if last < first || last >= MOST {
                return Err(format!(
                    "has the range `{range}`, which is backwards or beyond {}",
                    MOST - 1
                ));
            }
            for cpu in first..=last {
                if out {
                    cpus.remove(&cpu);
                } else {
                    cpus.insert(cpu);
                }
            }
        }
        if cpus.is_empty() {
            return Err("leaves no processor".into());
        }
        Ok(Self {
            text: text.trim().to_owned(),
            cpus,
        })
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }
}

/// A span of time, written `90s`, `5min`, `500ms` or bare seconds.
impl Scalar for Duration {
    const INFO: ScalarInfo = info("a time such as 90s, 5min or 500ms", Form::Text);

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
                $crate::scalar::ScalarInfo { expects: "one of its words", words: WORDS, form: $crate::scalar::form_of(WORDS) }
            };

            fn parse(text: &str) -> Result<Self, String> {
                match text.trim() {
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
    fn sizes_keep_their_looks_and_compare_by_bytes() {
        let a = KibSize::parse("512 MiB").unwrap();
        assert_eq!(a, KibSize::parse("524288").unwrap());
        assert_eq!(a.to_string(), "512 MiB");
        assert_eq!(KibSize::parse("1KB").unwrap().bytes(), Bytes(1000));
        assert!(
            KibSize::parse("1 XiB").is_err()
                && KibSize::parse("-1").is_err()
                && KibSize::parse("18446744073709551615 EiB").is_err()
        );
        assert_eq!(Bytes::mib(1536).to_string(), "1536 MiB");
    }

    #[test]
    fn a_set_of_processors_takes_out_what_is_excluded() {
        let set = CpuSet::parse("0-3,^2,8").unwrap();
        assert_eq!(set.list(), "0-1,3,8");
        assert!(
            CpuSet::parse("3-1").is_err()
                && CpuSet::parse("1,^1").is_err()
                && CpuSet::parse("0-99999999").is_err()
        );
    }

    #[test]
    fn numbers_keep_their_looks_and_compare_by_value() {
        let a = Number::parse("0x07").unwrap();
        assert_eq!((a.to_string().as_str(), a), ("0x07", Number::new(7)));
        assert!(Number::parse("0x").is_err() && Number::parse("x7").is_err());
    }

    #[test]
    fn mac_addresses_are_six_groups() {
        assert_eq!(
            MacAddr::parse("1:2:3:4:5:6").unwrap().to_string(),
            "01:02:03:04:05:06"
        );
        assert!(
            MacAddr::parse("52:54:00:12:34").is_err()
                && MacAddr::parse("52:54:00:12:34:56:78").is_err()
                && MacAddr::parse("52:54:00:12:34:zz").is_err()
        );
    }
}
