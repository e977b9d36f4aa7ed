//! Sockets between the guest and the host.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pci::Place;

/// A virtio socket device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vsock {
    /// The guest's address: 3 to 4294967294. Guests do not see one another, so it need not be the host's only one.
    pub cid: u32,
    /// Path of a unix socket, made with mode 0600: who connects and writes `CONNECT PORT` reaches that port of the guest. A program in the guest that connects
    /// to a port of the host (address 2) reaches whoever listens on the socket with this name, an underscore and the port's number; that socket and its
    /// directory have to let the guest's user in.
    pub socket: PathBuf,
    /// PCI slot of bus 0, or `BUS:SLOT.FUNCTION` as `lspci` shows it; the first free slot if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Place>,
}
