//! Ports of the virtio console: consoles and named channels.

use std::collections::HashSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Problems;
use super::{Bytes, Serial};
use crate::layout;

/// Most ports of a guest: each has two queues, and a device over PCI has 63 with their vectors.
pub const MOST_PORTS: usize = 29;

/// A port of the guest's virtio console. At most one of `pty`, `socket` and `tcp` is its other end; with none of them, what the guest says goes to the
/// log, or nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Port {
    /// Name for messages, and of the link to its terminal beside the control socket.
    pub id: String,
    /// Its number on the device. If left out, the first console is 0, which nothing else may be, and the others have what is free from 1 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = MOST_PORTS))]
    pub number: Option<u8>,
    /// The name by which programs in the guest find it (`/dev/virtio-ports/NAME`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// It is a console (`hvc0`): what nobody takes is dropped, so that the guest's kernel never waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub console: bool,
    /// Make a pseudo-terminal. What it has no room for is dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pty: bool,
    /// Path of a unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Host and port of a TCP socket: `127.0.0.1:4555`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// Call the socket when the monitor starts, once, instead of listening there for one peer at a time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub connect: bool,
    /// A file to which all that the guest says is appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Largest size of the log; when it is reached, the older half is dropped. At least 4 KiB; 2 MiB if left out.
    #[serde(default = "Serial::log_limit")]
    pub log_limit: Bytes,
}

/// The number of each port on the device, in their order.
pub(crate) fn numbers(ports: &[Port]) -> Vec<u32> {
    let stated: HashSet<u32> = ports
        .iter()
        .filter_map(|it| it.number)
        .map(u32::from)
        .collect();
    let mut free = (1..).filter(|number| !stated.contains(number));
    let mut first = Some(0).filter(|number| !stated.contains(number));
    let number = |port: &Port| {
        let stated = port.number.map(u32::from);
        let console = || first.take_if(|_| port.console);
        stated.or_else(console).or_else(|| free.next()).unwrap_or(0)
    };
    ports.iter().map(number).collect()
}

pub(super) fn check<'a>(ports: &'a [Port], ids: &mut HashSet<&'a str>, p: &mut Problems) {
    p.require(
        "ports",
        ports.len() <= MOST_PORTS,
        format!("more than {MOST_PORTS} ports do not fit on one device"),
    );
    let mut taken = HashSet::new();
    for (i, (port, number)) in ports.iter().zip(numbers(ports)).enumerate() {
        let field = |name: &str| format!("ports[{i}].{name}");
        p.id(field("id"), &port.id, ids);
        p.require(
            field("id"),
            !port.id.contains('/') && !port.id.contains('\0'),
            "it names a file: without a slash",
        );
        p.require(
            field("number"),
            number as usize <= MOST_PORTS && (number > 0 || port.console),
            format!("1 to {MOST_PORTS} are possible, and 0 for a console"),
        );
        p.require(
            field("number"),
            taken.insert(number),
            format!("{number} is the number of two ports"),
        );
        if let Some(name) = &port.name {
            let sound = !name.is_empty() && name.len() <= 128 && !name.contains('\0');
            p.require(field("name"), sound, "1 to 128 bytes are wanted");
        }
        let ends = [port.pty, port.socket.is_some(), port.tcp.is_some()];
        p.require(
            field("pty"),
            ends.iter().filter(|end| **end).count() <= 1,
            "one of pty, socket and tcp is possible",
        );
        p.require(
            field("connect"),
            !port.connect || port.socket.is_some() || port.tcp.is_some(),
            "there is no socket to call",
        );
        let limit = port.log_limit;
        p.require(
            field("log-limit"),
            limit.0 >= 4 * layout::KIB,
            format!("{limit} is less than 4 KiB"),
        );
    }
}
