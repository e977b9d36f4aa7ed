//! Numbers that may be written in other bases than ten.

use super::{Form, Scalar, ScalarInfo, behind_space, is_plain};
use std::borrow::Cow;
use std::fmt;

/// A number as C reads it: in decimal, as `0x…`, or in octal behind a `0`; equal to another by value.
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

    /// Whether it is written as `0x…`.
    pub fn is_hex(self) -> bool {
        self.hex.is_some()
    }

    /// Reads decimal, also behind zeros, and `0x…`.
    ///
    /// # Errors
    /// As [`Scalar::parse`].
    pub fn parse_without_octal(text: &str) -> Result<Self, String> {
        let text = behind_space(text)?;
        match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => Self::digits(digits),
            None => u64::parse(text).map(Self::new),
        }
    }

    fn digits(digits: &str) -> Result<Self, String> {
        Ok(Self {
            value: based(digits, 16)?,
            hex: Some(u8::try_from(digits.len()).unwrap_or(16).min(16)),
        })
    }
}

/// Digits of a base, and nothing but digits.
fn based(digits: &str, base: u32) -> Result<u64, String> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(base)) {
        return Err(String::new());
    }
    u64::from_str_radix(digits, base).map_err(|_| "is above 64 bits".to_owned())
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Number {}

impl Scalar for Number {
    const INFO: ScalarInfo = ScalarInfo::new("a number such as 7 or 0x07", Form::Number)
        .matching("^\\s*(0[xX][0-9a-fA-F]+|[+]?[0-9]+)$");

    fn parse(text: &str) -> Result<Self, String> {
        let text = behind_space(text)?;
        match text.strip_prefix('0') {
            Some(digits) if digits.starts_with(|c: char| c.is_ascii_digit()) => {
                if digits.contains(['8', '9']) {
                    return Err("begins with 0 and so is octal, where no digit is above 7".into());
                }
                based(digits, 8).map(Self::new)
            }
            _ => Self::parse_without_octal(text),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.to_string())
    }

    fn is_written(&self, text: &str) -> bool {
        match self.hex {
            None => is_plain(text),
            Some(digits) => {
                let written = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
                text.strip_prefix("0x").is_some_and(|stated| {
                    stated.len() == usize::from(digits) && stated.as_bytes().iter().all(written)
                })
            }
        }
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

/// A number that is hexadecimal with and without `0x`: `10` is sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex(Number);

impl Hex {
    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl Scalar for Hex {
    const INFO: ScalarInfo = ScalarInfo::new(
        "a number in hexadecimal such as 0x3f8, also without the 0x",
        Form::Number,
    )
    .matching("^\\s*(0[xX])?[0-9a-fA-F]+$");

    fn parse(text: &str) -> Result<Self, String> {
        let text = behind_space(text)?;
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        Number::digits(digits.unwrap_or(text)).map(Self)
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.text().into_owned().into()
    }

    fn is_written(&self, text: &str) -> bool {
        self.0.is_written(text)
    }
}
