//! One dnsmasq a network: started, changed, stopped, found again.
//!
//! In: the files that `compile::dnsmasq` made, and their digest. Out: a dnsmasq that runs with them and outlives us. What can go wrong: dnsmasq is missing, or refuses to
//! start and says why (an address in use, a line it does not know); a process that should end does not.
//!
//! `RUNTIME/networks/UUID/` holds the files, `process` (which process it is and the digest of what it runs with), dnsmasq's own `pid` and `log`, and its leases. dnsmasq
//! goes into the background by itself: it is ours as long as number, start time and command line are those that were recorded. Where we died between starting and
//! recording it, its own pid file leads to it, and it is started again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::process::{Handle, Identity};
use super::{blocking, command, directory};
use crate::execute::effect::EffectError;
use crate::inventory::DnsmasqProcess;

/// The file that dnsmasq is started with.
const CONFIGURATION: &str = "dnsmasq.conf";
/// Our record of the process.
const RECORD: &str = "process";
/// How long dnsmasq may take to go into the background, and to end.
const LIMIT: Duration = Duration::from_secs(10);
/// The most that is read of a lease file.
const LEASES_MAX: u64 = 16 << 20;

/// The directory of a network's dnsmasq.
pub fn folder(runtime: &Path, network: Uuid) -> PathBuf {
    runtime.join("networks").join(network.to_string())
}

/// What was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    process: Identity,
    digest: String,
}

/// Brings a network's dnsmasq to these files: starts it, starts it again, or, where only the lists of hosts and names changed, tells it to read them again.
///
/// # Errors
/// The files cannot be written; dnsmasq is missing or refuses to start.
pub async fn ensure(
    runtime: &Path,
    network: Uuid,
    bridge: &str,
    files: &BTreeMap<String, String>,
    digest: &str,
) -> Result<(), EffectError> {
    let doing = format!("serve DHCP and DNS on {bridge}");
    let folder = folder(runtime, network);
    let (changed, running) = blocking({
        let (folder, files, doing) = (folder.clone(), files.clone(), doing.clone());
        move || {
            let changed =
                write_files(&folder, &files).map_err(|e| directory::failed(&doing, &e))?;
            Ok((changed, running(&folder)))
        }
    })
    .await?;
    match running {
        Some((_, Some(recorded))) if recorded == digest && changed.is_empty() => return Ok(()),
        Some((process, Some(_))) if !changed.is_empty() && !changed.contains(CONFIGURATION) => {
            if let Some(handle) = hold(process, &doing)? {
                handle
                    .signal(Signal::HUP)
                    .map_err(|error| directory::failed(&doing, &error))?;
                return record(&folder, process, digest, &doing);
            }
        }
        Some((process, _)) => end(process, &doing).await?,
        None => {}
    }
    start(&folder, digest, &doing).await
}

async fn start(folder: &Path, digest: &str, doing: &str) -> Result<(), EffectError> {
    let option = |name: &str, file: &str| {
        let mut option = std::ffi::OsString::from(format!("--{name}="));
        option.push(folder.join(file));
        option
    };
    let arguments = [
        option("conf-file", CONFIGURATION),
        option("pid-file", "pid"),
        option("log-facility", "log"),
    ];
    command::run("dnsmasq", &arguments, "", LIMIT)
        .await
        .map_err(|error| {
            let in_use = error.to_string().contains("in use");
            let failed = error.during(doing);
            if in_use {
                EffectError {
                    retry: true,
                    ..failed
                }
                .with_help("another DNS or DHCP server has this address: `ss -lnup sport = :53 or sport = :67` shows it")
            } else {
                failed
            }
        })?;
    let Some(process) = found(folder) else {
        return Err(EffectError::passing(format!(
            "cannot {doing}: dnsmasq ended as soon as it had started; see {}",
            folder.join("log").display()
        )));
    };
    record(folder, process, digest, doing)
}

/// Stops a network's dnsmasq and removes its directory. Neither there is fine.
///
/// # Errors
/// The process does not end; the directory cannot be removed.
pub async fn stop(runtime: &Path, network: Uuid) -> Result<(), EffectError> {
    let doing = format!("stop the dnsmasq of network {network}");
    let folder = folder(runtime, network);
    if let Some((process, _)) = running(&folder) {
        end(process, &doing).await?;
    }
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| directory::failed(&doing, &error)),
    }
}

/// The running dnsmasq of each network, and the addresses that they have leased. Blocks.
///
/// # Errors
/// The directory of networks, or a file in it, cannot be read.
pub fn observe(runtime: &Path) -> io::Result<Observed> {
    let mut observed = Observed::default();
    let entries = match fs::read_dir(runtime.join("networks")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(observed),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let Some(network) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let folder = entry.path();
        if let Some((process, Some(digest))) = running(&folder) {
            let pid = process.pid;
            observed
                .processes
                .insert(network, DnsmasqProcess { pid, digest });
        }
        let Some(text) = read_leases(&folder)? else {
            continue;
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        for (mac, address) in leases(&text, now.as_secs()) {
            observed.leases.entry(mac).or_default().insert(address);
        }
    }
    Ok(observed)
}

/// What the directories of networks show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Running processes.
    pub processes: BTreeMap<Uuid, DnsmasqProcess>,
    /// Leased addresses.
    pub leases: BTreeMap<[u8; 6], BTreeSet<IpAddr>>,
}

/// Writes what differs; returns the names of what did. The directory is open to dnsmasq's own user, which reads the lists again.
fn write_files(folder: &Path, files: &BTreeMap<String, String>) -> io::Result<BTreeSet<String>> {
    fs::create_dir_all(folder)?;
    let mut changed = BTreeSet::new();
    for (name, content) in files {
        if name.contains('/') || name.starts_with('.') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("'{name}' is not the name of a file of dnsmasq's"),
            ));
        }
        let path = folder.join(name);
        if fs::read(&path).is_ok_and(|present| present == content.as_bytes()) {
            continue;
        }
        replace(&path, content.as_bytes())?;
        changed.insert(name.clone());
    }
    Ok(changed)
}

/// Replaces a file so that a crash leaves the old content or the new.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

fn record(folder: &Path, process: Identity, digest: &str, doing: &str) -> Result<(), EffectError> {
    let digest = digest.to_owned();
    serde_json::to_vec(&Record { process, digest })
        .map_err(io::Error::from)
        .and_then(|text| replace(&folder.join(RECORD), &text))
        .map_err(|error| directory::failed(doing, &error))
}

/// The dnsmasq that runs on a directory's files, and the digest of what it was started with where that was recorded.
fn running(folder: &Path) -> Option<(Identity, Option<String>)> {
    let record = fs::read(folder.join(RECORD))
        .ok()
        .and_then(|text| serde_json::from_slice::<Record>(&text).ok());
    match record {
        Some(record) if record.process.alive() && serves(record.process.pid, folder) => {
            Some((record.process, Some(record.digest)))
        }
        _ => found(folder).map(|process| (process, None)),
    }
}

/// The process that dnsmasq's own pid file names, if it is one of ours.
fn found(folder: &Path) -> Option<Identity> {
    let pid = fs::read_to_string(folder.join("pid")).ok()?;
    let pid = pid.trim().parse().ok()?;
    Identity::of(pid).filter(|process| serves(process.pid, folder))
}

/// Whether a process is a dnsmasq that was started with this directory's configuration.
fn serves(pid: u32, folder: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let mut wanted = b"--conf-file=".to_vec();
    wanted.extend(folder.join(CONFIGURATION).as_os_str().as_bytes());
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = line.split(|byte| *byte == 0);
    arguments
        .next()
        .is_some_and(|program| program.ends_with(b"dnsmasq"))
        && arguments.any(|argument| argument == wanted)
}

fn hold(process: Identity, doing: &str) -> Result<Option<Handle>, EffectError> {
    Handle::open(process).map_err(|error| directory::failed(doing, &error))
}

async fn end(process: Identity, doing: &str) -> Result<(), EffectError> {
    let Some(handle) = hold(process, doing)? else {
        return Ok(());
    };
    for signal in [Signal::TERM, Signal::KILL] {
        handle
            .signal(signal)
            .map_err(|error| directory::failed(doing, &error))?;
        let ended = handle.ended_within(LIMIT / 4).await;
        if ended.map_err(|error| directory::failed(doing, &error))? {
            return Ok(());
        }
    }
    Err(EffectError::passing(format!(
        "cannot {doing}: process {} does not end",
        process.pid
    )))
}

/// The text of a network's leases: of the file that its configuration names.
fn read_leases(folder: &Path) -> io::Result<Option<String>> {
    use std::io::Read as _;
    let Ok(configuration) = fs::read_to_string(folder.join(CONFIGURATION)) else {
        return Ok(None);
    };
    let stated = configuration
        .lines()
        .find_map(|line| line.strip_prefix("dhcp-leasefile="));
    let Some(path) = stated else {
        return Ok(None);
    };
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = Vec::new();
    file.take(LEASES_MAX).read_to_end(&mut text)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// The IPv4 leases that hold at `now` (seconds since 1970): hardware address and address. Source: dnsmasq's manual, "dhcp-leasefile": expiry (0 is never), hardware
/// address, address, name, client. IPv6 leases name a client of its own choosing instead of a hardware address: nothing is learned from them.
fn leases(text: &str, now: u64) -> impl Iterator<Item = ([u8; 6], IpAddr)> {
    text.lines().filter_map(move |line| {
        let mut fields = line.split_ascii_whitespace();
        let expiry: u64 = fields.next()?.parse().ok()?;
        let mac = mac_address(fields.next()?)?;
        let address: std::net::Ipv4Addr = fields.next()?.parse().ok()?;
        (expiry == 0 || expiry > now).then_some((mac, IpAddr::V4(address)))
    })
}

fn mac_address(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next().filter(|p| p.len() == 2)?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests;
