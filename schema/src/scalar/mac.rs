//! Ethernet addresses.

use super::{Form, Scalar, ScalarInfo};
use std::borrow::Cow;
use std::fmt;

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
        let mut groups = text.split(':');
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
    const INFO: ScalarInfo = ScalarInfo::new("a MAC address such as 52:54:00:12:34:56", Form::Text)
        .matching("^[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}$");

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

#[cfg(test)]
mod tests {
    use super::*;

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
