//! Values of a filter's conditions: literals, or variables that each guest's interface gives.

use crate::scalar::{Form, MacAddr, Scalar, ScalarInfo};
use std::borrow::Cow;
use std::fmt;

/// A use of a variable: `$IP`, `$PORTS[@1]`, `$PORTS[2]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The variable's name.
    pub name: String,
    /// How a list of values is gone through.
    pub access: Access,
    bare: bool,
}

/// How a variable's list of values is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// By the iterator of this number; variables of one number walk together. A bare `$NAME` is iterator 0.
    Iterator(u8),
    /// The one value at this place, from 0.
    Index(u32),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.access {
            Access::Iterator(_) if self.bare => write!(f, "${}", self.name),
            Access::Iterator(id) => write!(f, "${}[@{id}]", self.name),
            Access::Index(index) => write!(f, "${}[{index}]", self.name),
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Reference {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || {
            "is not a variable: `$NAME`, `$NAME[@iterator]` or `$NAME[index]`, the name of letters, digits and `_`".to_owned()
        };
        let body = text.trim_end().strip_prefix('$').ok_or_else(bad)?;
        let (name, access) = match body.split_once('[') {
            None => (body, None),
            Some((name, rest)) => (name, Some(rest.strip_suffix(']').ok_or_else(bad)?.trim())),
        };
        let name = name.trim_end();
        if !is_variable_name(name) {
            return Err(bad());
        }
        let (access, bare) = match access {
            None => (Access::Iterator(0), true),
            Some(inner) => match inner.strip_prefix('@') {
                Some(id) => (
                    Access::Iterator(id.trim().parse().map_err(|_| bad())?),
                    false,
                ),
                None => (Access::Index(inner.parse().map_err(|_| bad())?), false),
            },
        };
        Ok(Self {
            name: name.to_owned(),
            access,
            bare,
        })
    }
}

/// A literal, or a variable that stands for one.
#[derive(Debug, Clone, PartialEq)]
pub enum Var<T> {
    /// The value.
    Literal(T),
    /// The variable.
    Variable(Reference),
}

impl<T> Var<T> {
    /// The value, if it is no variable.
    pub fn literal(&self) -> Option<&T> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Variable(_) => None,
        }
    }

    /// The variable, if it is one.
    pub fn variable(&self) -> Option<&Reference> {
        match self {
            Self::Literal(_) => None,
            Self::Variable(reference) => Some(reference),
        }
    }
}

impl<T: Scalar> Scalar for Var<T> {
    const INFO: ScalarInfo = ScalarInfo {
        variable: true,
        ..T::INFO
    };

    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('$') {
            Reference::parse(text).map(Self::Variable)
        } else {
            T::parse(text).map(Self::Literal)
        }
    }

    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Literal(value) => value.text(),
            Self::Variable(reference) => Cow::Owned(reference.to_string()),
        }
    }
}

/// The name of a variable: letters, digits and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableName(String);

impl VariableName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for VariableName {
    const INFO: ScalarInfo =
        ScalarInfo::new("a variable's name of letters, digits and `_`", Form::Text)
            .matching("^[a-zA-Z0-9_]+$");

    fn parse(text: &str) -> Result<Self, String> {
        if is_variable_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(String::new())
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

/// A number of at most `BITS` bits, in decimal or as `0x…`; equal to another by value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bits<const MOST: u64>(crate::scalar::Number);

impl<const MOST: u64> Bits<MOST> {
    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl<const MOST: u64> Scalar for Bits<MOST> {
    const INFO: ScalarInfo = ScalarInfo::new("a number in decimal or as 0x…", Form::Number)
        .matching("^\\s*(0[xX][0-9a-fA-F]+|[+]?[0-9]+)$");

    fn parse(text: &str) -> Result<Self, String> {
        let number = crate::scalar::Number::parse_without_octal(text)?;
        if number.get() > MOST {
            Err(format!("is above {MOST}"))
        } else {
            Ok(Self(number))
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.to_string())
    }
}

/// A mask of an IPv4 or IPv6 address: a number of bits, or an address whose bits are ones and then zeros.
#[derive(Debug, Clone, PartialEq)]
pub struct IpMask<const V6: bool> {
    /// The number of leading ones.
    pub bits: u8,
    text: String,
}

impl<const V6: bool> Scalar for IpMask<V6> {
    const INFO: ScalarInfo = ScalarInfo::new(
        "a mask: a number of bits, or an address such as 255.255.255.0",
        Form::Number,
    )
    .matching("^(\\s*[+]?[0-9]+|[0-9a-fA-F:.]+)$");

    fn parse(text: &str) -> Result<Self, String> {
        let most = if V6 { 128 } else { 32 };
        let bits = if text.contains(['.', ':']) {
            let mask: std::net::IpAddr = text.parse().map_err(|_| String::new())?;
            if mask.is_ipv6() != V6 {
                return Err("is a mask of the other family".into());
            }
            ipnet::ip_mask_to_prefix(mask).map_err(|_| "has ones after zeros".to_owned())?
        } else {
            u8::parse(text)?
        };
        if bits > most {
            Err(format!("is above {most}"))
        } else {
            Ok(Self {
                bits,
                text: text.to_owned(),
            })
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }
}

/// A protocol by name or number, within the layer it is used in.
#[derive(Debug, Clone)]
pub struct Named<K> {
    /// The number.
    pub number: u16,
    text: String,
    kind: std::marker::PhantomData<K>,
}

/// The names and the range of one layer's protocols.
pub trait Names {
    /// Names with their numbers, in lower case.
    const NAMES: &'static [(&'static str, u16)];
    /// The least and the greatest number.
    const RANGE: (u16, u16);
    /// What is expected.
    const EXPECTS: &'static str;
}

impl<K> PartialEq for Named<K> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<K: Names + Clone> Scalar for Named<K> {
    const INFO: ScalarInfo = ScalarInfo::new(K::EXPECTS, Form::Number);

    fn parse(text: &str) -> Result<Self, String> {
        let (least, most) = K::RANGE;
        let lower = text.to_ascii_lowercase();
        let named = K::NAMES
            .iter()
            .find(|(name, _)| *name == lower)
            .map(|(_, number)| *number);
        let number = match named {
            Some(number) => number,
            None => {
                let number =
                    crate::scalar::Number::parse_without_octal(text).map_err(|_| String::new())?;
                u16::try_from(number.get())
                    .ok()
                    .filter(|n| (least..=most).contains(n))
                    .ok_or_else(|| format!("is not between {least} and {most}"))?
            }
        };
        Ok(Self {
            number,
            text: text.to_owned(),
            kind: std::marker::PhantomData,
        })
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }
}

/// Protocols above Ethernet.
#[derive(Debug, Clone, PartialEq)]
pub struct EtherTypes;

impl Names for EtherTypes {
    const NAMES: &'static [(&'static str, u16)] = &[
        ("arp", 0x806),
        ("rarp", 0x8035),
        ("ipv4", 0x800),
        ("ipv6", 0x86dd),
        ("vlan", 0x8100),
    ];
    const RANGE: (u16, u16) = (0x600, 0xffff);
    const EXPECTS: &'static str = "arp, rarp, ipv4, ipv6, vlan, or a number from 0x600 to 0xffff";
}

/// Protocols inside of a VLAN's frames, where numbers below Ethernet's own are taken too.
#[derive(Debug, Clone, PartialEq)]
pub struct VlanTypes;

impl Names for VlanTypes {
    const NAMES: &'static [(&'static str, u16)] = EtherTypes::NAMES;
    const RANGE: (u16, u16) = (0x3c, 0xffff);
    const EXPECTS: &'static str = "arp, rarp, ipv4, ipv6, vlan, or a number from 0x3c to 0xffff";
}

/// Protocols above IP.
#[derive(Debug, Clone, PartialEq)]
pub struct IpProtocols;

impl Names for IpProtocols {
    const NAMES: &'static [(&'static str, u16)] = &[
        ("tcp", 6),
        ("udp", 17),
        ("udplite", 136),
        ("esp", 50),
        ("ah", 51),
        ("icmp", 1),
        ("igmp", 2),
        ("sctp", 132),
        ("icmpv6", 58),
    ];
    const RANGE: (u16, u16) = (0, 255);
    const EXPECTS: &'static str =
        "tcp, udp, udplite, esp, ah, icmp, igmp, sctp, icmpv6, or a number up to 255";
}

/// What an ARP packet is about.
#[derive(Debug, Clone, PartialEq)]
pub struct ArpOpcodes;

impl Names for ArpOpcodes {
    const NAMES: &'static [(&'static str, u16)] = &[
        ("request", 1),
        ("reply", 2),
        ("request_reverse", 3),
        ("reply_reverse", 4),
        ("drarp_request", 5),
        ("drarp_reply", 6),
        ("drarp_error", 7),
        ("inarp_request", 8),
        ("arp_nak", 9),
    ];
    const RANGE: (u16, u16) = (0, 65535);
    const EXPECTS: &'static str = "Request, Reply, Request_Reverse, Reply_Reverse, DRARP_Request, DRARP_Reply, DRARP_Error, InARP_Request, ARP_NAK, or a number";
}

/// An Ethernet address of a condition.
pub type Mac = Var<MacAddr>;

/// The flags of TCP that are looked at, and those of them that must be set: `SYN,ACK/SYN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpFlags {
    /// Those looked at, as bits of the header (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32).
    pub mask: u8,
    /// Those that must be set.
    pub set: u8,
    text: String,
}

const FLAGS: &[(&str, u8)] = &[
    ("FIN", 1),
    ("SYN", 2),
    ("RST", 4),
    ("PSH", 8),
    ("ACK", 16),
    ("URG", 32),
    ("ALL", 63),
    ("NONE", 0),
];

impl Scalar for TcpFlags {
    const INFO: ScalarInfo = ScalarInfo::new(
        "flags looked at, `/`, flags that must be set, such as SYN,ACK/SYN (known: SYN, ACK, URG, PSH, FIN, RST, ALL, NONE)",
        Form::Text,
    ).matching("/");

    fn parse(text: &str) -> Result<Self, String> {
        let bits = |list: &str| {
            list.split(',').try_fold(0, |bits, word| {
                let word = word.trim().to_ascii_uppercase();
                FLAGS
                    .iter()
                    .find(|(name, _)| *name == word)
                    .map(|(_, bit)| bits | bit)
                    .ok_or_else(String::new)
            })
        };
        let (mask, set) = text.split_once('/').ok_or_else(String::new)?;
        Ok(Self {
            mask: bits(mask)?,
            set: bits(set)?,
            text: text.to_owned(),
        })
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }
}

choice! {
    /// A state of a connection.
    pub enum ConnState { New = "NEW", Established = "ESTABLISHED", Related = "RELATED", Invalid = "INVALID", None = "NONE" }
}

/// States of a connection, with commas between them; `NONE` for no test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnStates(pub Vec<ConnState>);

impl Scalar for ConnStates {
    const INFO: ScalarInfo = ScalarInfo::new(
        "states such as NEW,ESTABLISHED (known: NEW, ESTABLISHED, RELATED, INVALID, NONE)",
        Form::Joined(","),
    );

    fn parse(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|word| ConnState::parse(&word.trim().to_ascii_uppercase()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Owned(
            self.0
                .iter()
                .map(|state| state.as_str())
                .collect::<Vec<_>>()
                .join(","),
        )
    }
}

choice! {
    /// Which address of a packet is looked up in an ipset.
    pub enum IpSetSide { Src = "src", Dst = "dst" }
}

/// Which addresses are looked up in an ipset, one to six, in its own order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpSetFlags {
    /// In order.
    pub sides: Vec<IpSetSide>,
    text: String,
}

impl Scalar for IpSetFlags {
    const INFO: ScalarInfo = ScalarInfo::new(
        "one to six of src and dst with commas between them",
        Form::Text,
    )
    .matching("^ *([sS][rR][cC]|[dD][sS][tT])( *, *([sS][rR][cC]|[dD][sS][tT]))* *$");

    fn parse(text: &str) -> Result<Self, String> {
        let sides: Vec<IpSetSide> = text
            .split(',')
            .map(|word| IpSetSide::parse(&word.trim().to_ascii_lowercase()))
            .collect::<Result<_, _>>()?;
        if sides.len() > 6 {
            Err(String::new())
        } else {
            Ok(Self {
                sides,
                text: text.to_owned(),
            })
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.text)
    }
}

/// The name of an ipset: up to 31 letters, digits and `_ : . + -` (the kernel's own bound).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpSetName(pub String);

impl Scalar for IpSetName {
    const INFO: ScalarInfo = ScalarInfo::new(
        "an ipset's name: up to 31 letters, digits and _ : . + -",
        Form::Text,
    )
    .matching("^[a-zA-Z0-9_:.+-]{1,31}$");

    fn parse(text: &str) -> Result<Self, String> {
        let sound = (1..=31).contains(&text.len())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_:.+-".contains(c));
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(String::new())
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

/// A comment of at most 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment(pub String);

impl Scalar for Comment {
    const INFO: ScalarInfo = ScalarInfo::new("a comment of at most 256 bytes", Form::Text);

    fn parse(text: &str) -> Result<Self, String> {
        if text.len() > 256 {
            Err(format!("has {} bytes, above 256", text.len()))
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_may_name_an_iterator_or_an_index() {
        for text in ["$IP", "$PORTS[@2]", "$PORTS[3]"] {
            assert_eq!(Mac::parse(text).unwrap().text(), text);
        }
        assert_eq!(
            Mac::parse("$A").unwrap().variable().map(|r| r.access),
            Some(Access::Iterator(0))
        );
        assert!(
            Mac::parse("$A[x]").is_err() && Mac::parse("$").is_err() && Mac::parse("$A-B").is_err()
        );
    }

    #[test]
    fn masks_are_bits_or_contiguous_addresses_of_their_family() {
        assert_eq!(IpMask::<false>::parse("255.255.128.0").unwrap().bits, 17);
        assert_eq!(IpMask::<true>::parse("128").unwrap().bits, 128);
        assert!(
            IpMask::<false>::parse("255.0.255.0").is_err()
                && IpMask::<false>::parse("33").is_err()
                && IpMask::<false>::parse("ffff::").is_err()
        );
    }
}
