//! Serial ports, consoles and channels.

use serde_json::json;

use super::command::{CONSOLE, CommandLine, escape, text};
use super::place;
use super::unsupported;
use crate::domain::{DriverError, GuestDir};
use crate::resolve::domain::{Backend, Chardev, Domain};

/// The nth character device: the host's side, and the device that shows it.
///
/// # Errors
/// One that this driver does not do.
pub fn chardev(
    line: &mut CommandLine,
    domain: &Domain,
    dir: &GuestDir,
    index: usize,
    chardev: &Chardev,
) -> Result<(), DriverError> {
    let is_serial = |chardev: &Chardev| chardev.class == "serial";
    let before = domain.chardevs.iter().take(index);
    let serials = u32::try_from(before.filter(|one| is_serial(one)).count()).unwrap_or(u32::MAX);
    let id = if is_serial(chardev) {
        format!("serial{serials}")
    } else {
        format!("chardev{index}")
    };
    backend(line, chardev, &id, dir);
    let (device, at) = (format!("{id}-device"), chardev.address.as_ref());
    let shown = |driver: &str| json!({"driver": driver, "id": device, "chardev": id});
    let shown = match (chardev.class.as_str(), chardev.target.as_str()) {
        ("serial", "isa-serial") => {
            let mut shown = shown("isa-serial");
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("index".to_owned(), json!(chardev.port.unwrap_or(serials)));
            }
            place::isa(shown, at)?
        }
        ("serial", "pci-serial") => place::pci(domain, shown("pci-serial"), at)?,
        ("serial", "usb-serial") => place::usb(shown("usb-serial"), at)?,
        ("console", "virtio") => place::virtio_serial(shown("virtconsole"), at)?,
        ("channel", "virtio") => {
            let mut shown = shown("virtserialport");
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("name".to_owned(), json!(chardev.name));
            }
            place::virtio_serial(shown, at)?
        }
        (class, target) => return Err(unsupported(format!("a {class} of type {target}"))),
    };
    line.device(shown);
    Ok(())
}

/// The host's side of a character device. What the first serial port says is always in the guest's log of the console.
fn backend(line: &mut CommandLine, chardev: &Chardev, id: &str, dir: &GuestDir) {
    let mut value = match &chardev.backend {
        Backend::Pty => format!("pty,id={id}"),
        Backend::File(path) => format!("file,id={id},path={},append=on", escape(&text(path))),
        Backend::Unix(path) => {
            let path = path
                .clone()
                .unwrap_or_else(|| dir.file(&format!("{id}.socket")));
            format!(
                "socket,id={id},path={},server=on,wait=off",
                escape(&text(&path))
            )
        }
        Backend::UnixCall(path) => {
            format!("socket,id={id},path={},reconnect=1", escape(&text(path)))
        }
        Backend::Tcp(host, port, listens) => {
            let listens = if *listens {
                ",server=on,wait=off"
            } else {
                ",reconnect=1"
            };
            format!(
                "socket,id={id},host={},port={}{listens}",
                escape(host),
                escape(port)
            )
        }
        Backend::Null => format!("null,id={id}"),
        Backend::SpiceVmc => format!("spicevmc,id={id},name=vdagent"),
    };
    let log = chardev
        .log
        .clone()
        .or_else(|| (id == CONSOLE).then(|| dir.file("console.log")));
    if let Some(log) = log {
        value.push_str(&format!(",logfile={},logappend=on", escape(&text(&log))));
    }
    line.option("-chardev", value);
}
