//! The host's nodes that a guest's memory is taken from.
//!
//! In come a range of memory that nobody has touched yet and the nodes; the kernel keeps to them from then on. What can go wrong is a node that the host, or this
//! process's control group, does not have.

use std::io;

use crate::config::{HostNodes, NodeMode};

/// Bits of a word of the kernel's masks.
const BITS: u32 = u64::BITS;

/// Binds `len` bytes from `start`, whole pages of a mapping, to nodes of the host.
///
/// # Errors
/// The kernel's: `EINVAL` where a node is not there or not allowed.
pub fn bind(start: *mut u8, len: usize, host: &HostNodes) -> io::Result<()> {
    // Of the kernel's include/uapi/linux/mempolicy.h.
    let mode: libc::c_long = match host.mode {
        NodeMode::Preferred if host.nodes.len() == 1 => 1,
        NodeMode::Strict => 2,
        NodeMode::Interleave => 3,
        NodeMode::Preferred => 5,
    };
    let highest = host.nodes.iter().copied().max().unwrap_or(0);
    let mut mask = vec![0_u64; (highest / BITS + 1) as usize];
    for node in &host.nodes {
        if let Some(word) = mask.get_mut((node / BITS) as usize) {
            *word |= 1 << (node % BITS);
        }
    }
    // The kernel reads one bit less than it is told.
    let bits = mask.len() as u64 * u64::from(BITS) + 1;
    // SAFETY: the call changes where the kernel takes pages of this range from, and nothing that is in it; `mask` has `bits - 1` bits and outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_mbind, start, len, mode, mask.as_ptr(), bits, 0) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
