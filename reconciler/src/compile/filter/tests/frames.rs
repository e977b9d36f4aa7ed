//! Ethernet frames for tests, with lengths and checksums as they should be.

use std::net::{Ipv4Addr, Ipv6Addr};

pub type Mac = [u8; 6];
/// What packets carry: enough that no frame needs padding, which a bridge with br_netfilter takes off.
const DATA: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

pub const BROADCAST: Mac = [0xff; 6];

/// The sum that IP's checksums are made of.
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
            [high] => u32::from(*high) << 8,
            _ => 0,
        })
        .sum()
}

fn folded(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

pub fn ethernet(source: Mac, destination: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&destination[..], &source[..], &ethertype.to_be_bytes()].concat();
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The same frame with an 802.1Q tag.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0], &vlan.to_be_bytes(), rest].concat()
}

pub fn arp(
    source: Mac,
    opcode: u16,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
    destination: Mac,
) -> Vec<u8> {
    arp_like(source, 0x0806, opcode, sender, target, destination)
}

pub fn rarp(source: Mac, sender: Mac, target: Mac) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    arp_like(source, 0x8035, 3, (sender, none), (target, none), BROADCAST)
}

fn arp_like(
    source: Mac,
    ethertype: u16,
    opcode: u16,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
    destination: Mac,
) -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4];
    payload.extend(opcode.to_be_bytes());
    for (mac, address) in [sender, target] {
        payload.extend(mac);
        payload.extend(address.octets());
    }
    ethernet(source, destination, ethertype, &payload)
}

/// An IPv4 packet's bytes from its header on.
fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    let check = folded(sum(&header));
    header.splice(10..12, check);
    header.extend(payload);
    header
}

/// Who sends to whom, over IPv4.
#[derive(Clone, Copy)]
pub struct Path {
    pub from: (Mac, Ipv4Addr),
    pub to: (Mac, Ipv4Addr),
}

impl Path {
    pub fn back(self) -> Path {
        Path {
            from: self.to,
            to: self.from,
        }
    }

    fn frame(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let packet = ipv4(self.from.1, self.to.1, protocol, payload);
        ethernet(self.from.0, self.to.0, 0x0800, &packet)
    }

    /// A segment with its checksum put at `place`.
    fn checked(self, protocol: u8, mut segment: Vec<u8>, place: usize) -> Vec<u8> {
        let mut pseudo = [self.from.1.octets(), self.to.1.octets()].concat();
        pseudo.extend([0, protocol]);
        pseudo.extend((segment.len() as u16).to_be_bytes());
        let check = folded(sum(&pseudo) + sum(&segment));
        segment.splice(place..place + 2, check);
        self.frame(protocol, &segment)
    }

    pub fn udp(self, source: u16, destination: u16) -> Vec<u8> {
        let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        segment.extend((8 + DATA.len() as u16).to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(DATA);
        self.checked(17, segment, 6)
    }

    pub fn tcp(self, source: u16, destination: u16, flags: u8, numbers: (u32, u32)) -> Vec<u8> {
        let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
        segment.extend(numbers.0.to_be_bytes());
        segment.extend(numbers.1.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(DATA);
        self.checked(6, segment, 16)
    }

    pub fn icmp(self, kind: u8, sequence: u8) -> Vec<u8> {
        let mut message = vec![kind, 0, 0, 0, 0x12, 0x34, 0, sequence];
        message.extend(DATA);
        let check = folded(sum(&message));
        message.splice(2..4, check);
        self.frame(1, &message)
    }
}

/// A UDP packet over IPv6 (checksum left out: nothing here looks at it).
pub fn udp6(from: (Mac, Ipv6Addr), to: (Mac, Ipv6Addr), source: u16, destination: u16) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    packet.extend(from.1.octets());
    packet.extend(to.1.octets());
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend([0, 8, 0, 0]);
    ethernet(from.0, to.0, 0x86dd, &packet)
}
