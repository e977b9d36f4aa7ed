//! Sizes with their units.

use super::{Form, Scalar, ScalarInfo};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

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
        // Where nothing is in it, `unit` is as good as not stated.
        let unit = unit.filter(|unit| !unit.is_empty());
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
    const INFO: ScalarInfo = ScalarInfo::new(U::EXPECTS, Form::Number)
        .matching("^ *[+]?[0-9]+ *([bB]|[bB][yY][tT][eE][sS]?|[kKmMgGtTpPeE]([iI]?[bB])?)? *$");

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
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '-' | '+')))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_their_looks_and_compare_by_bytes() {
        let a = KibSize::parse("512 MiB").unwrap();
        assert_eq!(a, KibSize::parse("524288").unwrap());
        assert_eq!(a.to_string(), "512 MiB");
        assert_eq!(KibSize::parse("1KB").unwrap().bytes(), Bytes(1000));
        for (unit, bytes) in [
            ("b", 1),
            ("Bytes", 1),
            ("k", 1024),
            ("K", 1024),
            ("kib", 1024),
            ("KIB", 1024),
            ("kb", 1000),
            ("m", 1 << 20),
            ("MB", 1_000_000),
            ("E", 1 << 60),
            ("", 1024),
        ] {
            let size = KibSize::from_parts("1", Some(unit)).unwrap();
            assert_eq!(size.bytes(), Bytes(bytes), "{unit}");
        }
        assert!(
            KibSize::parse("1 XiB").is_err()
                && KibSize::parse("-1").is_err()
                && KibSize::parse("18446744073709551615 EiB").is_err()
        );
        assert_eq!(Bytes::mib(1536).to_string(), "1536 MiB");
    }
}
