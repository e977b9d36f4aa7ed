//! Definitions in, kernel and daemon configuration out. Everything here is a pure function: no files, no processes, no clock.
//!
//! - [`filter`]: a guest interface's packet filters, to chains of the bridge family.
//! - [`nft`]: the chains, map elements and operations that the other modules produce, and their text as one `nft -f` transaction.
//!
//! The same input always gives the same bytes, so that a digest of the output tells whether the host is as it should be.

pub mod filter;
pub mod nft;
