//! Booting what a disk's own boot configuration names: kernel, initrds and arguments out of its file systems, with no file of the host's.
//!
//! In come a disk's bytes, through whatever serves them to the guest, and guest memory that reads as zeroes; out goes an [`Entry`] as for a kernel of the host's. The disk is read
//! anew at every boot and at every reset, so that a guest follows its own upgrades. Errors say what was looked for and where.
//!
//! ```text
//! bytes ──► partitions ──► filesystem (ext4, fat) ──► choose ──► grub, bls ──► kernel, initrds, arguments
//! ```
//!
//! All of it is a stranger's data, and its reading belongs to the guest's side of the wall: it happens on a thread of its own, inside the sandbox and only once the rest of the monitor is
//! inside too. That thread reads the one disk and writes guest memory. Tables, paths, files, scripts and time have limits; the owner waits no longer than [`PATIENCE`].

mod bls;
mod choose;
mod ext4;
mod fat;
mod filesystem;
mod grub;
mod partitions;
mod version;
mod window;

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::{BootError, Entry, Image, Ramdisk, load_linux};
use crate::layout;
use choose::{Choice, File, Volume};
use filesystem::{FileError, Found, probe};
use window::Window;

pub use window::DiskBytes;

/// Bytes that one boot may read: far more than a kernel, its initrds and the way to them.
const MOST_READ: u64 = 4 << 30;
/// How long the owner waits for a boot. Storage that gives nothing must not hold it for ever.
const PATIENCE: Duration = Duration::from_secs(240);
/// Bytes of a kernel, at most, in a guest that has as much memory.
const MOST_KERNEL: u64 = 256 << 20;
/// Initrds of one entry, at most.
const MOST_INITRDS: usize = 16;
/// Stack of the thread; only touched pages cost memory.
const STACK: usize = 4 << 20;

/// What is booted out of which disk.
pub struct Spec {
    /// The disk's name, for messages.
    pub name: String,
    /// Its bytes.
    pub bytes: Arc<dyn DiskBytes>,
    /// What is added to the configuration's own arguments.
    pub more: String,
    /// There is a serial console: without another, the guest's console is there.
    pub console: bool,
}

/// A disk that a guest boots from, and the thread that reads it.
pub struct Disk {
    name: String,
    orders: mpsc::Sender<Order>,
    answers: mpsc::Receiver<Result<Booted, BootError>>,
}

struct Order {
    memory: GuestMemoryMmap,
    rsdp: u64,
}

struct Booted {
    entry: Entry,
    told: String,
}

impl Disk {
    /// Starts the thread, which runs `prepare` first: there it enters the sandbox. It reads nothing until it is told to.
    pub fn start(
        spec: Spec,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, wanted) = mpsc::channel::<Order>();
        let (answer, answers) = mpsc::channel();
        let (report, prepared) = mpsc::channel();
        let name = spec.name.clone();
        std::thread::Builder::new()
            .name("boot".into())
            .stack_size(STACK)
            .spawn(move || {
                let result = prepare();
                let go_on = result.is_ok();
                // Fails only when nobody waits for the answer any more; then no order comes either.
                let _ = report.send(result);
                while let Some(order) = go_on.then(|| wanted.recv().ok()).flatten() {
                    if answer.send(boot(&spec, &order.memory, order.rsdp)).is_err() {
                        break;
                    }
                }
            })?;
        prepared
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("it ended while it was starting")))?;
        Ok(Self {
            name,
            orders,
            answers,
        })
    }

    /// Loads what the disk boots now into `memory`, which must read as zeroes. The guest must be at rest.
    pub fn load(&mut self, memory: &GuestMemoryMmap, rsdp: u64) -> Result<Entry, BootError> {
        let order = Order {
            memory: memory.clone(),
            rsdp,
        };
        let gone = |_| self.refused("its reader has ended".into());
        self.orders.send(order).map_err(|_| gone(()))?;
        match self.answers.recv_timeout(PATIENCE) {
            Ok(booted) => {
                let Booted { entry, told } = booted?;
                tracing::info!("booting {told}");
                Ok(entry)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let why = format!(
                    "the host gives no bytes of it, not in {} s",
                    PATIENCE.as_secs()
                );
                Err(self.refused(why))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(gone(())),
        }
    }

    fn refused(&self, why: String) -> BootError {
        let disk = self.name.clone();
        BootError::Disk { disk, why }
    }
}

/// Reads the disk and loads what it boots.
fn boot(spec: &Spec, memory: &GuestMemoryMmap, rsdp: u64) -> Result<Booted, BootError> {
    let refused = |why: String| BootError::Disk {
        disk: spec.name.clone(),
        why,
    };
    let window = Window::whole(Arc::clone(&spec.bytes), MOST_READ);
    let (volumes, others) =
        volumes(&window).map_err(|error| refused(format!("it cannot be read: {error}")))?;
    let choice = choose::choose(&volumes).map_err(&refused)?;
    let choice = choice.ok_or_else(|| refused(nothing(&volumes, &others)))?;
    let told = format!("{choice} (disk {})", spec.name);
    let low = memory.iter().find(|region| region.start_addr().0 == 0);
    let low = low.map_or(0, GuestMemoryRegion::len);
    let shown = |file: &File| shown(&spec.name, &volumes, file);
    let missing = |file: &File, error: &FileError| {
        refused(format!(
            "entry {:?} of {} names {}, which {error}",
            choice.entry,
            choice.configuration,
            shown(file).display()
        ))
    };
    let kernel = of(&volumes, &choice.kernel)
        .and_then(|volume| volume.files.read(&choice.kernel.path, low.min(MOST_KERNEL)))
        .map_err(|error| missing(&choice.kernel, &error))?;
    let mut kernel = Image {
        path: shown(&choice.kernel),
        file: Cursor::new(kernel),
    };
    let mut parts = Vec::new();
    for file in choice.initrds.iter().take(MOST_INITRDS) {
        let open = of(&volumes, file).and_then(|volume| volume.files.open(&file.path));
        parts.push(open.map_err(|error| missing(file, &error))?);
    }
    let mut initrds = Initrds {
        path: choice.initrds.first().map(shown).unwrap_or_default(),
        parts,
    };
    let initrd: Option<&mut dyn Ramdisk> = match choice.initrds.is_empty() {
        true => None,
        false => Some(&mut initrds),
    };
    let cmdline = arguments(&choice, &spec.more, spec.console);
    if cmdline.len() >= layout::CMDLINE_SIZE {
        return Err(refused(format!(
            "the arguments of entry {:?} have {} bytes; at most {} are possible",
            choice.entry,
            cmdline.len(),
            layout::CMDLINE_SIZE - 1
        )));
    }
    let entry = load_linux(memory, &mut kernel, initrd, &cmdline, rsdp)?;
    Ok(Booted { entry, told })
}

fn of<'a>(volumes: &'a [Volume], file: &File) -> Result<&'a Volume, FileError> {
    volumes.get(file.volume).ok_or(FileError::Missing)
}

/// A file of the disk as messages show it: `vda:partition 1:/vmlinuz`.
fn shown(disk: &str, volumes: &[Volume], file: &File) -> PathBuf {
    let number = volumes
        .get(file.volume)
        .map_or(0, |volume| volume.partition.number);
    match number {
        0 => format!("{disk}:{}", file.path),
        number => format!("{disk}:{number}:{}", file.path),
    }
    .into()
}

/// The configuration's arguments, then those that were stated, then the serial console if no console is named by either.
fn arguments(choice: &Choice, more: &str, console: bool) -> String {
    let mut words: Vec<&str> = choice.arguments.split_whitespace().collect();
    // What is between quotes may have more than one blank in a row: then it is kept as it is.
    if choice.arguments.contains('"') {
        words = vec![choice.arguments.trim()];
    }
    words.extend(Some(more.trim()).filter(|more| !more.is_empty()));
    let mut line = words.join(" ");
    let named = line
        .split_whitespace()
        .any(|word| word.starts_with("console="));
    if console && !named {
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str("console=ttyS0");
    }
    line
}

/// The partitions whose file systems are read, and in words what the others are.
fn volumes(window: &Window) -> io::Result<(Vec<Volume>, Vec<String>)> {
    let mut volumes = Vec::new();
    let mut others = Vec::new();
    // A file system that begins where the disk does leaves room for what looks like a table.
    let whole = probe(window)?;
    let partitions = match whole {
        Found::Readable(_) => Vec::new(),
        _ => partitions::find(window)?,
    };
    if let Found::Readable(files) = whole {
        let partition = partitions::Partition {
            table: partitions::Table::None,
            number: 0,
            start: 0,
            len: window.len(),
            purpose: partitions::Purpose::Other,
        };
        volumes.push(Volume { partition, files });
    }
    for partition in partitions {
        let name = match partition.number {
            0 => "the disk".to_owned(),
            number => format!("partition {number}"),
        };
        match probe(&window.part(partition.start, partition.len)) {
            Ok(Found::Readable(files)) => volumes.push(Volume { partition, files }),
            Ok(Found::Foreign(kind)) => {
                others.push(format!("{name} has {kind}, which is not read"))
            }
            Ok(Found::Refused(kind, why)) => {
                others.push(format!("{name} has {kind}, which is not read: {why}"))
            }
            Ok(Found::Nothing) => others.push(format!("{name} has no known file system")),
            Err(error) => others.push(format!("{name}: {error}")),
        }
    }
    Ok((volumes, others))
}

/// What to say of a disk without a boot configuration.
fn nothing(volumes: &[Volume], others: &[String]) -> String {
    let read = volumes.iter().map(|volume| {
        let kind = volume.files.kind();
        match volume.partition.number {
            0 => format!("the disk has {kind}, and none of them"),
            number => format!("partition {number} has {kind}, and none of them"),
        }
    });
    let found: Vec<String> = read.chain(others.iter().cloned()).collect();
    format!(
        "no boot configuration was found: looked for grub.cfg (in boot/grub, grub, boot/grub2, grub2 and EFI/*) and for loader/entries; {}",
        found.join("; ")
    )
}

/// Initrds that follow one another, each from a multiple of four bytes as the kernel wants them.
struct Initrds<'a> {
    path: PathBuf,
    parts: Vec<Box<dyn filesystem::Contents + 'a>>,
}

impl Ramdisk for Initrds<'_> {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&mut self) -> io::Result<u64> {
        let mut sizes = self
            .parts
            .iter()
            .map(|part| part.len().checked_next_multiple_of(4));
        let whole = sizes.try_fold(0_u64, |sum, size| sum.checked_add(size?));
        whole.ok_or_else(|| io::Error::other("it is larger than any memory"))
    }

    fn read_to(&mut self, memory: &GuestMemoryMmap, mut at: u64) -> io::Result<()> {
        let mut buffer = vec![0; 256 << 10];
        for part in &mut self.parts {
            let end = at + part.len();
            while at < end {
                let room = buffer
                    .len()
                    .min(usize::try_from(end - at).unwrap_or(usize::MAX));
                let piece = buffer.get_mut(..room).unwrap_or_default();
                let n = part
                    .read(piece)
                    .map_err(|error| io::Error::other(error.to_string()))?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                memory
                    .write_slice(buffer.get(..n).unwrap_or_default(), GuestAddress(at))
                    .map_err(io::Error::other)?;
                at += n as u64;
            }
            at = end.next_multiple_of(4);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
