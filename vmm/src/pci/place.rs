//! Places on PCI.
//!
//! On the wire a place is what `lspci` writes, `BUS:SLOT.FUNCTION` in hexadecimal digits (`01:00.0`), or the plain number of a slot of bus 0.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::SLOTS;

/// Where a function is: its bus, its slot (0 to 31) and its number in the slot (0 to 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    bus: u8,
    devfn: u8,
}

/// Why a text is no place.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no place on PCI: a slot of bus 0 is a number to 31, and other places are like 01:00.0"
)]
pub struct PlaceError(String);

impl Place {
    /// The function 0 of a slot of bus 0.
    pub const fn slot_of_root(slot: u8) -> Self {
        Self::new(0, slot, 0)
    }

    /// A place; slot and function are taken modulo how many there are.
    pub const fn new(bus: u8, slot: u8, function: u8) -> Self {
        Self {
            bus,
            devfn: slot % SLOTS as u8 * 8 + function % 8,
        }
    }

    /// As the hardware has it: slot and function in one byte.
    pub const fn at(bus: u8, devfn: u8) -> Self {
        Self { bus, devfn }
    }

    /// Slot and function in one byte.
    pub const fn devfn(self) -> u8 {
        self.devfn
    }

    /// The bus.
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// The slot on the bus.
    pub const fn slot(self) -> u8 {
        self.devfn / 8
    }

    /// The function in the slot.
    pub const fn function(self) -> u8 {
        self.devfn % 8
    }

    /// Function 0 of the same slot, by which guests find the others.
    pub const fn first(self) -> Self {
        Self::at(self.bus, self.devfn & !7)
    }

    /// Function 7 of the same slot.
    pub const fn last(self) -> Self {
        Self::at(self.bus, self.devfn | 7)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bus, slot, function) = (self.bus, self.slot(), self.function());
        write!(f, "{bus:02x}:{slot:02x}.{function}")
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let place = || {
            let (bus, rest) = text.split_once(':')?;
            let (slot, function) = rest.split_once('.')?;
            let hex = |text: &str, most: u8| {
                let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
                let short = (1..=2).contains(&text.len());
                let number = u8::from_str_radix(text, 16).ok();
                let number = number.filter(|_| digits && short)?;
                (number <= most).then_some(number)
            };
            let (slot, function) = (hex(slot, SLOTS as u8 - 1)?, hex(function, 7)?);
            Some(Self::new(hex(bus, u8::MAX)?, slot, function))
        };
        place().ok_or_else(|| PlaceError(text.to_owned()))
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.bus, self.function()) {
            (0, 0) => serializer.serialize_u8(self.slot()),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "the number of a slot, or a place like 01:00.0")]
        enum Wire {
            Slot(u64),
            Place(String),
        }
        let place = match Wire::deserialize(deserializer)? {
            Wire::Slot(slot) => match u8::try_from(slot) {
                Ok(slot) if usize::from(slot) < SLOTS => Ok(Self::slot_of_root(slot)),
                _ => Err(PlaceError(slot.to_string())),
            },
            Wire::Place(text) => text.parse(),
        };
        place.map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Place {
    fn schema_name() -> Cow<'static, str> {
        "Place".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": 1,
            "maximum": SLOTS - 1,
            "pattern": "^[0-9a-fA-F]{1,2}:[01]?[0-9a-fA-F][.][0-7]$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for place in [Place::new(0, 31, 7), Place::new(255, 0, 1)] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert_eq!(Place::new(10, 17, 3).to_string(), "0a:11.3");
        let wire = |text: &str| serde_yaml::from_str::<Place>(text).ok();
        assert_eq!(wire("5"), Some(Place::slot_of_root(5)));
        assert_eq!(wire("'05:00.0'"), Some(Place::new(5, 0, 0)));
        assert_eq!(wire("05:00.0"), Some(Place::new(5, 0, 0)));
    }

    #[test]
    fn what_no_bus_has_is_no_place() {
        for text in [
            "", "1", "0:20.0", "0:1.8", "100:0.0", "0:+1.0", "0:1", "0.1:1",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
        for text in ["32", "-1", "[]", "1.5"] {
            assert!(serde_yaml::from_str::<Place>(text).is_err(), "{text}");
        }
    }
}
