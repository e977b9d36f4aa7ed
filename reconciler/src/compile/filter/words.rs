//! nft's words for versions, protocols and numbers.

use super::ir::{Transport, Version};

/// EtherTypes read best in hexadecimal, everything else in decimal.
pub fn written(field: &str, number: u64) -> String {
    match field {
        "ether type" | "vlan type" => format!("{number:#06x}"),
        _ => number.to_string(),
    }
}

/// A version's name in an expression.
pub fn keyword(version: Version) -> &'static str {
    match version {
        Version::V4 => "ip",
        Version::V6 => "ip6",
    }
}

/// The EtherType test of a version.
pub fn guard(version: Version) -> &'static str {
    match version {
        Version::V4 => "ether type ip",
        Version::V6 => "ether type ip6",
    }
}

/// The field that says what a packet carries, past IPv6's extension headers.
pub fn l4proto(version: Version) -> &'static str {
    match version {
        Version::V4 => "ip protocol",
        Version::V6 => "meta l4proto",
    }
}

/// The number of a protocol above a version; `None` is any. Source: IANA's "Protocol Numbers".
pub fn protocol_number(transport: Transport, version: Version) -> Option<u8> {
    Some(match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Udplite => 136,
        Transport::Sctp => 132,
        Transport::Icmp if version == Version::V6 => 58,
        Transport::Icmp => 1,
        Transport::Igmp => 2,
        Transport::Esp => 50,
        Transport::Ah => 51,
        Transport::All => return None,
    })
}
