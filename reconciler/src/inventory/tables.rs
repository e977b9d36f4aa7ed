//! Our nftables tables.
//!
//! In: the kernel's lists. Out: chains with the digests that they show, map elements. What can go wrong: the kernel cannot be asked.

use std::collections::BTreeMap;

use super::Table;
use crate::compile::nft::TableName;
use crate::host::netlink::NetlinkError;
use crate::host::nft;

/// Looks at both tables of ours. Blocks: call it on a blocking thread.
///
/// # Errors
/// The kernel cannot be asked.
pub fn observe() -> Result<BTreeMap<TableName, Table>, NetlinkError> {
    nft::observe(&[TableName::filters(), TableName::networks()])
}
