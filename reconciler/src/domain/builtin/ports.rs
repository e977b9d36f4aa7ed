//! Virtio consoles and channels in the words of `vireo-vmm`.

use std::path::PathBuf;

use serde::Serialize;

use super::config::unsupported;
use crate::domain::{DriverError, GuestDir};
use crate::resolve::domain::{Address, Backend, Chardev, Domain};

/// One port of the guest's virtio console.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PortConfig {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    console: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pty: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    connect: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<PathBuf>,
}

/// Every console and channel of the definition, in its order.
///
/// # Errors
/// One that the monitor does not have.
pub fn ports(domain: &Domain, dir: &GuestDir) -> Result<Vec<PortConfig>, DriverError> {
    let ports = domain
        .chardevs
        .iter()
        .filter(|chardev| chardev.class != "serial");
    ports
        .enumerate()
        .map(|(number, chardev)| port(chardev, number, dir))
        .collect()
}

fn port(chardev: &Chardev, number: usize, dir: &GuestDir) -> Result<PortConfig, DriverError> {
    let Chardev { class, target, .. } = chardev;
    if target != "virtio" {
        return Err(unsupported(format!("a {class} of type {target}")));
    }
    let id = format!("{class}{number}");
    let number = match &chardev.address {
        None => None,
        // Port 0 is libvirt's word for any.
        Some(Address::VirtioSerial {
            controller: 0,
            port,
        }) => Some(*port).filter(|port| *port > 0),
        Some(_) => return Err(unsupported(format!("a {class} on a second controller"))),
    };
    let mut port = PortConfig {
        number,
        name: chardev.name.clone(),
        console: class == "console",
        log: chardev.log.clone(),
        ..PortConfig::default()
    };
    match &chardev.backend {
        Backend::Pty => port.pty = true,
        Backend::Null => {}
        Backend::File(path) if port.log.is_none() => port.log = Some(path.clone()),
        Backend::File(_) => {
            return Err(unsupported(format!("a {class} to a file with another log")));
        }
        Backend::Unix(path) => {
            let path = path.clone();
            port.socket = Some(path.unwrap_or_else(|| dir.file(&format!("{id}.socket"))));
        }
        Backend::UnixCall(path) => {
            port.socket = Some(path.clone());
            port.connect = true;
        }
        Backend::Tcp(host, service, listens) => {
            let Ok(number) = service.parse::<u16>() else {
                let what = format!("a {class} to the service {service}, which is not a number");
                return Err(unsupported(what));
            };
            port.tcp = Some(match host.contains(':') {
                true => format!("[{host}]:{number}"),
                false => format!("{host}:{number}"),
            });
            port.connect = !listens;
        }
        Backend::SpiceVmc => return Err(unsupported(format!("a {class} over SPICE"))),
    }
    port.id = id;
    Ok(port)
}
