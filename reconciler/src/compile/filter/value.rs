//! Texts to typed values: what each kind of attribute accepts.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Decimal, or hexadecimal with `0x`.
pub fn number(text: &str, max: u64) -> Option<u64> {
    let value = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.chars().all(|c| c.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).ok()?
        }
        Some(_) => return None,
        None if text.chars().all(|c| c.is_ascii_digit()) => text.parse().ok()?,
        None => return None,
    };
    (value <= max).then_some(value)
}

/// Six groups of one or two hexadecimal digits.
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let mut out = [0; 6];
    let mut groups = text.split(':');
    for byte in &mut out {
        let group = groups.next()?;
        if group.is_empty() || group.len() > 2 || !group.chars().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(group, 16).ok()?;
    }
    groups.next().is_none().then_some(out)
}

/// A MAC address as nft writes it.
pub fn mac_text(mac: [u8; 6]) -> String {
    let mut out = String::with_capacity(17);
    for (index, byte) in mac.iter().enumerate() {
        let _ = write!(out, "{}{byte:02x}", if index == 0 { "" } else { ":" });
    }
    out
}

/// A MAC address as a number, for raw payload matches.
pub fn mac_number(mac: [u8; 6]) -> u64 {
    mac.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Each byte of `a` masked by `b`.
pub fn masked(a: [u8; 6], b: [u8; 6]) -> [u8; 6] {
    let mut out = a;
    for (byte, mask) in out.iter_mut().zip(b) {
        *byte &= mask;
    }
    out
}

/// A name of `names`, or a number.
pub fn named(text: &str, names: &[(&str, u64)], max: u64) -> Option<u64> {
    names
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|(_, value)| *value)
        .or_else(|| number(text, max))
}

/// EtherTypes by libvirt's names.
pub const ETHERTYPES: &[(&str, u64)] = &[
    ("arp", 0x0806),
    ("rarp", 0x8035),
    ("ipv4", 0x0800),
    ("ipv6", 0x86dd),
    ("vlan", 0x8100),
];

/// IP protocols by libvirt's names.
pub const IP_PROTOCOLS: &[(&str, u64)] = &[
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

/// ARP operations by libvirt's names.
pub const ARP_OPCODES: &[(&str, u64)] = &[
    ("Request", 1),
    ("Reply", 2),
    ("Request_Reverse", 3),
    ("Reply_Reverse", 4),
    ("DRARP_Request", 5),
    ("DRARP_Reply", 6),
    ("DRARP_Error", 7),
    ("InARP_Request", 8),
    ("ARP_NAK", 9),
];

/// Bits of TCP's flags byte by libvirt's names.
const TCP_FLAGS: &[(&str, u64)] = &[
    ("FIN", 0x01),
    ("SYN", 0x02),
    ("RST", 0x04),
    ("PSH", 0x08),
    ("ACK", 0x10),
    ("URG", 0x20),
    ("ALL", 0x3f),
    ("NONE", 0),
];

/// `SYN,ACK/SYN`: the flags that are looked at, and of those the ones that must be set.
pub fn tcp_flags(text: &str) -> Option<(u64, u64)> {
    let (mask, set) = text.split_once('/')?;
    Some((tcp_flag_list(mask)?, tcp_flag_list(set)?))
}

fn tcp_flag_list(text: &str) -> Option<u64> {
    text.split(',').try_fold(0, |bits, word| {
        let known = TCP_FLAGS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word.trim()))?;
        Some(bits | known.1)
    })
}

/// Connection states by libvirt's names, in the order in which they are written out.
const STATES: &[(&str, &str)] = &[
    ("INVALID", "invalid"),
    ("ESTABLISHED", "established"),
    ("RELATED", "related"),
    ("NEW", "new"),
];

/// `NEW,ESTABLISHED` as nft's words; `NONE` is an empty list.
pub fn states(text: &str) -> Option<Vec<&'static str>> {
    if text.eq_ignore_ascii_case("NONE") {
        return Some(Vec::new());
    }
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let known = |word: &&str| {
        STATES
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(word))
    };
    words.iter().all(known).then(|| {
        STATES
            .iter()
            .filter(|(name, _)| words.iter().any(|word| name.eq_ignore_ascii_case(word)))
            .map(|(_, nft)| *nft)
            .collect()
    })
}

/// `yes`, `true`, `1` and their opposites.
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" => Some(true),
        "no" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// An address and a mask of one IP version, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    bits: u128,
    mask: u128,
    v6: bool,
}

impl Network {
    /// One address.
    pub fn host(text: &str, v6: bool) -> Option<Network> {
        Some(Network {
            bits: address_bits(text, v6)?,
            mask: full(v6),
            v6,
        })
    }

    /// The same with a mask: a number of bits or an address (`24`, `255.255.255.0`).
    pub fn with_mask(self, text: &str) -> Option<Network> {
        let width = if self.v6 { 128 } else { 32 };
        let mask = match number(text, width) {
            // A shift by the whole width gives nothing, which is the mask of no bits.
            Some(length) => full(self.v6) & !full(self.v6).checked_shr(length as u32).unwrap_or(0),
            None => address_bits(text, self.v6)?,
        };
        Some(Network { mask, ..self })
    }

    /// The address, when the mask leaves just one.
    pub fn single(self) -> Option<String> {
        (self.mask == full(self.v6)).then(|| self.text(self.bits))
    }

    /// What follows a field's name in a rule. `differs`: the field must be outside.
    pub fn matching(self, differs: bool) -> String {
        let not = if differs { "!= " } else { "" };
        let width = if self.v6 { 128 } else { 32 };
        let base = self.text(self.bits & self.mask);
        let length = self.mask.count_ones();
        let prefix = full(self.v6) & !full(self.v6).checked_shr(length).unwrap_or(0);
        if length == width {
            format!("{not}{base}")
        } else if self.mask == prefix && length > 0 {
            format!("{not}{base}/{length}")
        } else {
            let op = if differs { "!=" } else { "==" };
            format!("& {} {op} {base}", self.text(self.mask))
        }
    }

    /// What follows a raw payload expression of 32 bits.
    pub fn matching_raw(self, differs: bool) -> String {
        let op = if differs { "!=" } else { "==" };
        let not = if differs { "!= " } else { "" };
        let base = self.bits & self.mask;
        if self.mask == full(self.v6) {
            format!("{not}{base:#x}")
        } else {
            format!("& {:#x} {op} {base:#x}", self.mask)
        }
    }

    /// Whether `other` is not below this address.
    pub fn not_above(self, other: Network) -> bool {
        self.bits <= other.bits
    }

    fn text(self, bits: u128) -> String {
        match (self.v6, u32::try_from(bits)) {
            (false, Ok(bits)) => Ipv4Addr::from(bits).to_string(),
            _ => Ipv6Addr::from(bits).to_string(),
        }
    }
}

fn full(v6: bool) -> u128 {
    if v6 { u128::MAX } else { u128::from(u32::MAX) }
}

fn address_bits(text: &str, v6: bool) -> Option<u128> {
    if v6 {
        text.parse::<Ipv6Addr>().ok().map(u128::from)
    } else {
        text.parse::<Ipv4Addr>()
            .ok()
            .map(|address| u128::from(u32::from(address)))
    }
}
