//! Netlink, as plain requests and dumps.
//!
//! In: messages built by `rtnetlink`'s builders, or a message's number and bytes. Out: nothing (for a change) or rows of what the kernel has (for a look). What can go wrong: the kernel refuses, with an error number
//! and often a sentence of its own, which [`NetlinkError`] keeps.
//!
//! A look is one dump a kind. Rows are read here, attribute by attribute, and not through a parser of whole messages: an attribute that a newer kernel adds can
//! then never make a link vanish from a list. A dump during which the kernel's tables changed is marked by the kernel; it is thrown away and taken again.
//!
//! Everything here blocks for as long as the kernel holds its lock; callers put it on a blocking thread.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkSerializable as _};
use rtnetlink::sys::{Socket, SocketAddr, protocols};

/// How often a dump that the kernel marks as inconsistent is taken again.
const DUMP_TRIES: u32 = 10;

/// Length of a netlink message's header. Source: `struct nlmsghdr` of linux/netlink.h.
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_MULTI: u16 = 0x2;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The kernel refused a request, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The kernel's answer. Its sentence is there where it gave one.
    #[error("{error}{}", .sentence.as_deref().map(|s| format!(" ({s})")).unwrap_or_default())]
    Refused {
        /// The error number.
        error: io::Error,
        /// What the kernel adds.
        sentence: Option<String>,
    },
    /// The answer is not netlink.
    #[error("the kernel's answer cannot be read: {0}")]
    Malformed(&'static str),
    /// The kernel's tables kept changing.
    #[error("the kernel's tables changed during each of {DUMP_TRIES} dumps")]
    Unsteady,
}

impl NetlinkError {
    /// The kernel's error number, if this is one.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Self::Refused { error, .. } | Self::Socket(error) => error
                .raw_os_error()
                .map(rustix::io::Errno::from_raw_os_error),
            Self::Malformed(_) | Self::Unsteady => None,
        }
    }

    /// Whether it is that error.
    pub fn is(&self, errno: rustix::io::Errno) -> bool {
        self.errno() == Some(errno)
    }
}

/// What the kernel is asked: the message's number and its bytes after the header.
#[derive(Debug, Clone)]
pub struct Request {
    /// The message's number: `RTM_*`, or a subsystem's.
    pub kind: u16,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl From<RouteNetlinkMessage> for Request {
    fn from(message: RouteNetlinkMessage) -> Self {
        let mut payload = vec![0; message.buffer_len()];
        message.serialize(&mut payload);
        Self {
            kind: message.message_type(),
            payload,
        }
    }
}

/// A socket to the kernel, in the network namespace of the thread that opened it.
pub struct NetlinkSocket {
    socket: Socket,
    sequence: u32,
}

/// One message of an answer.
struct Answer<'a> {
    kind: u16,
    flags: u16,
    payload: &'a [u8],
}

impl NetlinkSocket {
    /// Opens a socket to the routing tables: links, addresses, routes, qdiscs.
    ///
    /// # Errors
    /// The system's.
    pub fn route() -> Result<Self, NetlinkError> {
        Self::open(protocols::NETLINK_ROUTE)
    }

    /// Opens a socket to netfilter: nftables.
    ///
    /// # Errors
    /// The system's; `EPROTONOSUPPORT` where the kernel has no netfilter.
    pub fn netfilter() -> Result<Self, NetlinkError> {
        Self::open(protocols::NETLINK_NETFILTER)
    }

    /// Opens a socket.
    ///
    /// # Errors
    /// The system's.
    fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Both only make answers better; old kernels lack them.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Asks for a change and waits until it is made.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn change(&mut self, request: impl Into<Request>, flags: u16) -> Result<(), NetlinkError> {
        self.send(&request.into(), NLM_F_REQUEST | NLM_F_ACK | flags)?;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for answer in self.answers(&bytes) {
                let answer = answer?;
                if answer.kind == NLMSG_ERROR {
                    return verdict(&answer);
                }
            }
        }
    }

    /// Asks for one row; `None` when there is none.
    ///
    /// # Errors
    /// The kernel's refusal, other than "no such device".
    pub fn look<Row>(
        &mut self,
        request: impl Into<Request>,
        read: impl Fn(&[u8]) -> Option<Row>,
    ) -> Result<Option<Row>, NetlinkError> {
        self.send(&request.into(), NLM_F_REQUEST | NLM_F_ACK)?;
        let mut found = None;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for answer in self.answers(&bytes) {
                let answer = answer?;
                if answer.kind != NLMSG_ERROR {
                    found = Some(
                        read(answer.payload).ok_or(NetlinkError::Malformed("a short message"))?,
                    );
                    continue;
                }
                return match verdict(&answer) {
                    Ok(()) => Ok(found),
                    Err(error) if error.is(rustix::io::Errno::NODEV) => Ok(None),
                    Err(error) => Err(error),
                };
            }
        }
    }

    /// Takes a whole list. The list is consistent: one that changed meanwhile is taken again.
    ///
    /// # Errors
    /// The kernel's refusal, a message that cannot be read, tables that never rest.
    pub fn dump<Row>(
        &mut self,
        request: impl Into<Request>,
        read: impl Fn(&[u8]) -> Option<Row>,
    ) -> Result<Vec<Row>, NetlinkError> {
        let request = request.into();
        for _ in 0..DUMP_TRIES {
            if let Some(rows) = self.dump_once(&request, &read)? {
                return Ok(rows);
            }
        }
        Err(NetlinkError::Unsteady)
    }

    fn dump_once<Row>(
        &mut self,
        request: &Request,
        read: &impl Fn(&[u8]) -> Option<Row>,
    ) -> Result<Option<Vec<Row>>, NetlinkError> {
        self.send(request, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut rows = Vec::new();
        let mut steady = true;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for answer in self.answers(&bytes) {
                let answer = answer?;
                steady &= answer.flags & NLM_F_DUMP_INTR == 0;
                match answer.kind {
                    NLMSG_DONE => return Ok(steady.then_some(rows)),
                    NLMSG_ERROR => {
                        verdict(&answer)?;
                        return Ok(steady.then_some(rows));
                    }
                    _ => rows.push(
                        read(answer.payload).ok_or(NetlinkError::Malformed("a short message"))?,
                    ),
                }
                if answer.flags & NLM_F_MULTI == 0 {
                    return Ok(steady.then_some(rows));
                }
            }
        }
    }

    fn send(&mut self, request: &Request, flags: u16) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER + request.payload.len();
        let mut bytes = Vec::with_capacity(length);
        let length =
            u32::try_from(length).map_err(|_| NetlinkError::Malformed("a request of 4 GiB"))?;
        bytes.extend(length.to_ne_bytes());
        bytes.extend(request.kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&request.payload);
        self.socket.send(&bytes, 0)?;
        Ok(())
    }

    /// The messages of one datagram that answer the latest request; what is left of an earlier one is passed over.
    fn answers<'a>(
        &self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = Result<Answer<'a>, NetlinkError>> + use<'a> {
        let sequence = self.sequence;
        let mut rest = bytes;
        std::iter::from_fn(move || {
            loop {
                if rest.is_empty() {
                    return None;
                }
                let Some(answer) = split_message(&mut rest) else {
                    rest = &[];
                    return Some(Err(NetlinkError::Malformed("a length beyond its datagram")));
                };
                let (number, answer) = answer;
                if number == sequence {
                    return Some(Ok(answer));
                }
            }
        })
    }
}

fn split_message<'a>(rest: &mut &'a [u8]) -> Option<(u32, Answer<'a>)> {
    let length = usize::try_from(u32_at(rest, 0)?).ok()?;
    let kind = u16_at(rest, 4)?;
    let flags = u16_at(rest, 6)?;
    let sequence = u32_at(rest, 8)?;
    let payload = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Some((
        sequence,
        Answer {
            kind,
            flags,
            payload,
        },
    ))
}

/// Reads an `NLMSG_ERROR`: success, or the error with the kernel's own sentence.
fn verdict(answer: &Answer<'_>) -> Result<(), NetlinkError> {
    let code = u32_at(answer.payload, 0)
        .ok_or(NetlinkError::Malformed("an error without a number"))?
        .cast_signed();
    if code == 0 {
        return Ok(());
    }
    let mut sentence = None;
    if answer.flags & NLM_F_ACK_TLVS != 0 {
        let echoed = if answer.flags & NLM_F_CAPPED != 0 {
            HEADER
        } else {
            u32_at(answer.payload, 4).map_or(HEADER, |n| n as usize)
        };
        let attributes = attributes(answer.payload.get(4 + echoed..).unwrap_or(&[]));
        sentence = attributes
            .get(&NLMSGERR_ATTR_MSG)
            .and_then(|value| text(value));
    }
    Err(NetlinkError::Refused {
        error: io::Error::from_raw_os_error(code.saturating_neg()),
        sentence,
    })
}

/// The attributes of a message in order, nesting and byte-order flags taken off.
pub fn attribute_list(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)?;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind & 0x3fff, value))
    })
}

/// The attributes of a message, by kind. Where one occurs twice, the last counts.
pub fn attributes(bytes: &[u8]) -> BTreeMap<u16, &[u8]> {
    attribute_list(bytes).collect()
}

/// Writes an attribute.
pub fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // What we write is names and numbers: far below the limit of 64 KiB.
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Two bytes in the host's order.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Four bytes in the host's order.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Four bytes in network order.
pub fn be32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A string up to its final zero.
pub fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
    Some(text.to_owned())
}

/// An address in network order.
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(*bytes.first_chunk::<16>()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_lie_about_their_length_end_the_list() {
        let mut bytes = vec![8, 0, 1, 0, 7, 0, 0, 0];
        bytes.extend([200, 0, 2, 0, 1]);
        let all = attributes(&bytes);
        assert_eq!(all.len(), 1);
        assert_eq!(u32_at(all[&1], 0), Some(7));
        assert!(
            attributes(&[2, 0, 1, 0]).is_empty(),
            "shorter than its own header"
        );
    }

    #[test]
    fn a_refusal_keeps_the_kernels_sentence() {
        let mut socket = NetlinkSocket::route().expect("a netlink socket needs no privilege");
        let message = rtnetlink::LinkUnspec::new_with_index(u32::MAX >> 1).build();
        let error = socket
            .change(RouteNetlinkMessage::SetLink(message), 0)
            .expect_err("no such link");
        assert!(error.errno().is_some(), "{error}");
    }
}
