//! Bandwidth limits.

use std::collections::HashMap;

use super::netlink::{NetlinkError, NetlinkSocket};
use super::rows::LinkRow;
use crate::resolve::domain::Bandwidth;

/// The name of the device through which what a guest sends is queued: derived from the tap's, so that it is found again.
pub fn helper_name(tap: &str) -> String {
    let digest = crate::compile::nft::Digest::of(tap);
    format!("vif{}", digest.as_str().get(..12).unwrap_or_default())
}

/// The limits that the host shows, by link.
pub fn observe(
    _socket: &mut NetlinkSocket,
    _links: &[LinkRow],
) -> Result<HashMap<u32, Bandwidth>, NetlinkError> {
    Ok(HashMap::new())
}
