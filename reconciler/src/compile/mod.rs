//! Definitions in, kernel and daemon configuration out. Everything here is a pure function: no files, no processes, no clock.
//!
//! - [`dnsmasq`]: a network's DNS and DHCP, to dnsmasq's files.
//! - [`filter`]: a guest interface's packet filters, to chains of the bridge family.
//! - [`network`]: a network's forwarding and address translation, to chains of the inet family.
//! - [`nft`]: the chains, map elements and operations that the other modules produce, and their text as one `nft -f` transaction.
//!
//! The same input always gives the same bytes, so that a digest of the output tells whether the host is as it should be.

pub mod dnsmasq;
pub mod filter;
pub mod network;
pub mod nft;
