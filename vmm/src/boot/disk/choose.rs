//! Which of a disk's boot configurations is followed, and what it boots.
//!
//! In come the disk's volumes; out goes a [`Choice`], or what was looked for and where. The order is the one in which firmware and boot loaders would come to them:
//!
//! 1. systemd-boot, where it is installed and has entries: those of the EFI system partition and of XBOOTLDR, the default by `loader.conf`;
//! 2. the small `grub.cfg` beside GRUB on the EFI system partition, which names the file system that has the real one;
//! 3. `grub.cfg` in the places where distributions put it, the first partition first;
//! 4. Boot Loader Specification entries that no boot loader's own configuration stands beside.
//!
//! A configuration without an entry is passed over. One whose default entry cannot be booted is an error: to boot something else in its place would surprise.

use std::fmt;

use super::bls;
use super::filesystem::FileSystem;
use super::grub::{self, GrubError, environment};
use super::partitions::{Partition, Purpose, Table};

/// A partition with a file system that is read.
pub(super) struct Volume {
    pub partition: Partition,
    pub files: Box<dyn FileSystem>,
}

impl Volume {
    /// What GRUB calls it.
    pub fn device(&self) -> String {
        let number = self.partition.number;
        match self.partition.table {
            Table::Gpt => format!("hd0,gpt{number}"),
            Table::Msdos => format!("hd0,msdos{number}"),
            Table::None => "hd0".into(),
        }
    }

    /// Whether a configuration means this volume. It was written for a machine that may have counted its disks otherwise: only the partition's number counts.
    pub fn is_called(&self, device: &str) -> bool {
        let partition = device
            .split_once(',')
            .map_or("", |(_, partition)| partition);
        let digits = partition.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        match self.partition.table {
            Table::None => !device.is_empty() && partition.is_empty(),
            _ => digits.parse() == Ok(self.partition.number),
        }
    }
}

/// A file on one of the volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Which volume, by its place.
    pub volume: usize,
    /// Its path there.
    pub path: String,
}

/// What is booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub kernel: File,
    /// In the order in which they are put together.
    pub initrds: Vec<File>,
    pub arguments: String,
    /// The entry's title.
    pub entry: String,
    /// The configuration's path.
    pub configuration: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            entry,
            configuration,
            kernel,
            arguments,
            ..
        } = self;
        write!(
            f,
            "entry {entry:?} of {configuration}: {} {arguments}",
            kernel.path
        )
    }
}

/// Where GRUB's configuration is on a file system that has the boot files, or that `/boot` is on.
const GRUB: [&str; 4] = [
    "/boot/grub/grub.cfg",
    "/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/grub2/grub.cfg",
];
/// Directories of the EFI system partition's `EFI`, at most.
const MOST_LOADERS: usize = 64;

/// Why nothing is booted, in words.
pub(super) type Refusal = String;

/// What the disk's own boot configuration boots; nothing if it has none.
pub(super) fn choose(volumes: &[Volume]) -> Result<Option<Choice>, Refusal> {
    if let Some(choice) = systemd_boot(volumes) {
        return Ok(Some(choice));
    }
    let mut empty = None;
    for at in grub_configurations(volumes) {
        match grub::boot(volumes, &at) {
            Ok(choice) => return Ok(Some(choice)),
            Err(error @ (GrubError::Empty(_) | GrubError::Read { .. })) => {
                empty.get_or_insert(error);
            }
            Err(error) => return Err(format!("{}: {error}", at.path)),
        }
    }
    match (loader_entries(volumes), empty) {
        (None, Some(error)) => Err(error.to_string()),
        (found, _) => Ok(found),
    }
}

fn systemd_boot(volumes: &[Volume]) -> Option<Choice> {
    const LOADER: &str = "/loader/loader.conf";
    let installed = |volume: &Volume| {
        volume.files.open(LOADER).is_ok() || volume.files.list("/EFI/systemd").is_ok()
    };
    let home = volumes.iter().position(installed)?;
    let belongs = |&(at, volume): &(usize, &Volume)| {
        at == home || volume.partition.purpose == Purpose::Xbootldr
    };
    let mut found = Vec::new();
    for (at, volume) in volumes.iter().enumerate().filter(belongs) {
        let (entries, _) = bls::entries(volume, bls::DIRECTORIES[0]);
        found.extend(entries.into_iter().map(|entry| (at, entry)));
    }
    let loader = volumes.get(home)?.files.read(LOADER, 64 << 10);
    let loader = loader.unwrap_or_default();
    from_entries(volumes, found, &String::from_utf8_lossy(&loader))
}

/// Entries without a boot loader's configuration.
fn loader_entries(volumes: &[Volume]) -> Option<Choice> {
    volumes.iter().enumerate().find_map(|(at, volume)| {
        bls::DIRECTORIES.iter().find_map(|directory| {
            let (entries, _) = bls::entries(volume, directory);
            let found = entries.into_iter().map(|entry| (at, entry)).collect();
            from_entries(volumes, found, "")
        })
    })
}

fn from_entries(
    volumes: &[Volume],
    mut found: Vec<(usize, bls::Entry)>,
    loader: &str,
) -> Option<Choice> {
    found.sort_by(|(_, a), (_, b)| a.rank(b));
    let (places, entries): (Vec<usize>, Vec<bls::Entry>) = found.into_iter().unzip();
    let chosen = bls::default(&entries, loader)?;
    let index = entries.iter().position(|entry| entry == chosen)?;
    let volume = places.get(index).copied()?;
    let variables = variables(volumes);
    let value = |name: &str| {
        let found = variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let file = |path: &str| File {
        volume,
        path: format!("/{}", path.trim_start_matches('/')),
    };
    let initrds = bls::substitute(&chosen.initrds, value);
    Some(Choice {
        kernel: file(&chosen.linux),
        initrds: initrds.split_whitespace().map(file).collect(),
        arguments: bls::substitute(&chosen.options, value),
        entry: match chosen.title.as_str() {
            "" => chosen.id.clone(),
            title => title.to_owned(),
        },
        configuration: format!("{}.conf", chosen.id),
    })
}

/// What a GRUB environment block on any of the volumes says, for entries that use its variables (`$kernelopts`).
fn variables(volumes: &[Volume]) -> Vec<(String, String)> {
    let places = volumes
        .iter()
        .flat_map(|volume| environment::PLACES.map(|path| (volume, path)));
    let block =
        places.filter_map(|(volume, path)| volume.files.read(path, environment::MOST_BYTES).ok());
    block
        .map(|bytes| environment::parse(&bytes))
        .next()
        .unwrap_or_default()
}

fn grub_configurations(volumes: &[Volume]) -> Vec<File> {
    let mut found = Vec::new();
    let is_there = |file: &File| {
        let volume = volumes.get(file.volume);
        volume.is_some_and(|volume| volume.files.open(&file.path).is_ok())
    };
    for (volume, of) in volumes.iter().enumerate() {
        let mut loaders = match of.files.kind() {
            "FAT" => of.files.list("/EFI").unwrap_or_default(),
            _ => Vec::new(),
        };
        // What is not the fallback's directory is the distribution's own.
        loaders.sort_by_key(|name| (name.eq_ignore_ascii_case("BOOT"), name.clone()));
        let stubs = loaders.into_iter().take(MOST_LOADERS).map(|name| File {
            volume,
            path: format!("/EFI/{name}/grub.cfg"),
        });
        found.extend(stubs.filter(is_there));
    }
    for (volume, path) in (0..volumes.len()).flat_map(|volume| GRUB.map(|path| (volume, path))) {
        let path = path.to_owned();
        found.extend(Some(File { volume, path }).filter(is_there));
    }
    found
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
