//! Kernel settings under `/proc/sys/net`, of the network namespace that the calling process is in.
//!
//! A setting that the kernel does not have (no IPv6) is left alone; one that already has its value is not written.

use std::io;
use std::path::PathBuf;

use crate::execute::effect::EffectError;

/// One of `/proc/sys/net/ipv6/conf/LINK/`.
pub fn ipv6(link: &str, setting: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net/ipv6/conf")
        .join(link)
        .join(setting)
}

/// Gives a setting a value.
///
/// # Errors
/// The kernel refuses the value, or we may not set it.
pub fn set(path: PathBuf, value: &str) -> Result<(), EffectError> {
    match get(&path) {
        Some(present) if present == value => return Ok(()),
        Some(_) => {}
        None => return Ok(()),
    }
    std::fs::write(&path, value).map_err(|error| {
        let message = format!("cannot write {value} to {}: {error}", path.display());
        if error.kind() == io::ErrorKind::PermissionDenied
            || error.kind() == io::ErrorKind::ReadOnlyFilesystem
        {
            EffectError::refused(message).with_help(
                "run vireo as root, in a place where /proc/sys is writable, or set this value at boot",
            )
        } else {
            EffectError::passing(message)
        }
    })
}

/// A setting's value; `None` where the kernel has no such setting.
pub fn get(path: &std::path::Path) -> Option<String> {
    std::fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

/// Turns forwarding on.
///
/// # Errors
/// Forwarding cannot be set, or turning it on would make the host drop the IPv6 routes that it learned from a router.
pub fn enable_forwarding(ipv6_too: bool, advertised: &[String]) -> Result<(), EffectError> {
    if !ipv6_too {
        return set(PathBuf::from("/proc/sys/net/ipv4/ip_forward"), "1");
    }
    let forwarding = ipv6("all", "forwarding");
    if get(&forwarding).as_deref() == Some("1") {
        return Ok(());
    }
    for link in advertised {
        if get(&ipv6(link, "accept_ra")).as_deref() != Some("2") {
            return Err(EffectError::refused(format!(
                "cannot turn IPv6 forwarding on: the host would drop the routes that it learned on {link}, which stops taking advertisements once it forwards"
            ))
            .with_help(format!(
                "`sysctl net.ipv6.conf.{link}.accept_ra=2` keeps them"
            )));
        }
    }
    set(forwarding, "1")
}
