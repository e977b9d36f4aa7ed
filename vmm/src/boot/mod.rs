//! From a kernel, an initrd and a command line to a guest whose first instruction can run.
//!
//! In come files that are already open, or a disk with a boot configuration of its own ([`disk`]), and guest memory that reads as zeroes; out goes an [`Entry`]: where the
//! boot processor begins and by which protocol. Three kinds of kernel are known by their contents: a Linux bzImage ([`bzimage`]), an ELF executable with a
//! PVH note, and an ELF executable that begins in 64-bit mode ([`elf`]). Errors say which file could not be loaded and why.
//!
//! Loading may be done again on the same files: this is how a guest is reset.

mod bzimage;
pub mod disk;
mod elf;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use thiserror::Error;
use vm_memory::{
    ByteValued, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    ReadVolatile,
};

use crate::config;
use crate::layout;

/// Where and how the boot processor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// In 64-bit mode with the first 4 GiB mapped to themselves, RSI pointing at `struct boot_params` (Linux's 64-bit boot protocol).
    Linux64 {
        /// The first instruction.
        rip: u64,
    },
    /// In 32-bit protected mode without paging, EBX pointing at `hvm_start_info` (the PVH protocol).
    Pvh {
        /// The first instruction.
        rip: u64,
    },
}

/// Why a guest cannot boot.
#[derive(Debug, Error)]
pub enum BootError {
    /// A file could not be opened.
    #[error("could not open {what} {path}")]
    Open {
        /// The kernel or the initrd.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel would write beyond the guest's memory while it unpacks itself, and crash without a word.
    #[error(
        "kernel {path} needs {needs} MiB of memory to unpack itself, and the guest has {has} MiB"
    )]
    TooLittleMemory {
        /// The kernel.
        path: PathBuf,
        /// MiB, rounded up.
        needs: u64,
        /// MiB in one piece from address 0.
        has: u64,
    },
    /// A file could not be read into the guest's memory.
    #[error("could not read {what} {path}")]
    Read {
        /// The kernel or the initrd.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file is neither of the kinds that are known.
    #[error("{0} is neither a bzImage nor a 64-bit ELF executable")]
    UnknownKernel(PathBuf),
    /// The file says that it is a kernel but cannot be loaded.
    #[error("could not load kernel {path}: {source}")]
    Load {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: linux_loader::loader::Error,
    },
    /// The kernel has no entry in 64-bit mode.
    #[error("kernel {0} has no 64-bit entry: a 64-bit Linux of version 3.8 or later is needed")]
    No64BitEntry(PathBuf),
    /// Kernel and initrd need more memory than the guest has.
    #[error("{path} needs {needed}, more than the {free} that the guest has for it")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it needs.
        needed: config::Bytes,
        /// What is there.
        free: config::Bytes,
    },
    /// A disk boots nothing, or something that cannot be loaded.
    #[error(
        "disk {disk} boots nothing by its own configuration: {why}; name a kernel, or let the guest boot by firmware"
    )]
    Disk {
        /// The disk.
        disk: String,
        /// What was looked for, and where; or what is wrong with what was found.
        why: String,
    },
    /// Boot data could not be written: the guest has too little memory.
    #[error("could not write the {what} into the guest's memory: it is too small")]
    Write {
        /// What was written.
        what: &'static str,
    },
}

/// What a guest boots, open.
pub enum Images {
    /// Files of the host's.
    Host(Files),
    /// What a disk's own configuration names.
    Disk(disk::Disk),
}

impl Images {
    /// Loads everything into `memory`, which must read as zeroes. `rsdp` is where the ACPI tables begin.
    pub fn load(&mut self, memory: &GuestMemoryMmap, rsdp: u64) -> Result<Entry, BootError> {
        match self {
            Self::Host(files) => files.load(memory, rsdp),
            Self::Disk(disk) => disk.load(memory, rsdp),
        }
    }
}

/// Files of the host's, open.
#[derive(Debug)]
pub struct Files {
    kernel: Image<File>,
    initrd: Option<Image<File>>,
    cmdline: String,
}

/// A file that is loaded, and what messages call it.
#[derive(Debug)]
struct Image<F> {
    path: PathBuf,
    file: F,
}

impl Image<File> {
    fn open(what: &'static str, path: &Path) -> Result<Self, BootError> {
        let file = File::open(path).map_err(|source| BootError::Open {
            what,
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }
}

impl Files {
    /// Opens the files.
    pub fn open(kernel: &Path, initrd: Option<&Path>, cmdline: &str) -> Result<Self, BootError> {
        Ok(Self {
            kernel: Image::open("kernel", kernel)?,
            initrd: match initrd {
                Some(path) => Some(Image::open("initrd", path)?),
                None => None,
            },
            cmdline: cmdline.to_owned(),
        })
    }

    /// See [`Images::load`].
    pub fn load(&mut self, memory: &GuestMemoryMmap, rsdp: u64) -> Result<Entry, BootError> {
        let initrd = self.initrd.as_mut().map(|image| image as &mut dyn Ramdisk);
        load_linux(memory, &mut self.kernel, initrd, &self.cmdline, rsdp)
    }
}

/// An initrd, wherever it is.
trait Ramdisk {
    /// What messages call it.
    fn path(&self) -> &Path;
    /// Its length in bytes.
    fn size(&mut self) -> io::Result<u64>;
    /// Writes all of it to `at`, where there is room.
    fn read_to(&mut self, memory: &GuestMemoryMmap, at: u64) -> io::Result<()>;
}

impl Ramdisk for Image<File> {
    fn path(&self) -> &Path {
        &self.path
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_to(&mut self, memory: &GuestMemoryMmap, at: u64) -> io::Result<()> {
        let len = usize::try_from(self.size()?).map_err(io::Error::other)?;
        self.file.rewind()?;
        memory
            .read_exact_volatile_from(GuestAddress(at), &mut self.file, len)
            .map_err(io::Error::other)
    }
}

/// Loads a kernel and what it begins with into `memory`.
fn load_linux<F: Read + ReadVolatile + Seek>(
    memory: &GuestMemoryMmap,
    image: &mut Image<F>,
    initrd: Option<&mut dyn Ramdisk>,
    cmdline: &str,
    rsdp: u64,
) -> Result<Entry, BootError> {
    write_cmdline(memory, cmdline)?;
    match kind(image)? {
        Kind::BzImage => {
            let kernel = bzimage::load(memory, image)?;
            fits(memory, &image.path, kernel.end)?;
            let initrd = load_initrd(memory, initrd, kernel.end, kernel.initrd_max)?;
            write_zero_page(memory, kernel.header, cmdline.len(), initrd, rsdp)?;
            Ok(Entry::Linux64 { rip: kernel.entry })
        }
        Kind::Elf => {
            let kernel = elf::load(memory, image)?;
            let initrd = load_initrd(memory, initrd, kernel.end, u64::from(u32::MAX))?;
            match kernel.entry {
                Entry::Pvh { .. } => elf::write_start_info(memory, initrd, rsdp)?,
                Entry::Linux64 { .. } => {
                    let header = elf::header();
                    write_zero_page(memory, header, cmdline.len(), initrd, rsdp)?;
                }
            }
            Ok(kernel.entry)
        }
    }
}

fn kind<F: Read + Seek>(image: &mut Image<F>) -> Result<Kind, BootError> {
    let mut head = [0; 0x206];
    let mut read = || {
        image.file.rewind()?;
        // A file that is shorter is no kernel; the rest of `head` stays zero.
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = head.get_mut(filled..) {
            match image.file.read(rest)? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(())
    };
    read().map_err(|source| BootError::Read {
        what: "kernel",
        path: image.path.clone(),
        source,
    })?;
    if head.starts_with(b"\x7fELF\x02\x01") {
        Ok(Kind::Elf)
    } else if head.ends_with(b"HdrS") {
        Ok(Kind::BzImage)
    } else {
        Err(BootError::UnknownKernel(image.path.clone()))
    }
}

/// Whether the work area of the kernel at `path`, which ends at `end`, lies in the memory that begins at 0.
fn fits(memory: &GuestMemoryMmap, path: &Path, end: u64) -> Result<(), BootError> {
    let low = memory.iter().find(|region| region.start_addr().0 == 0);
    let has = low.map_or(0, GuestMemoryRegion::len);
    if end > has {
        return Err(BootError::TooLittleMemory {
            path: path.to_owned(),
            needs: end.div_ceil(1 << 20),
            has: has >> 20,
        });
    }
    Ok(())
}

/// Reads the initrd to the highest place that the kernel takes, above the kernel itself, whose memory ends at `floor`.
fn load_initrd(
    memory: &GuestMemoryMmap,
    initrd: Option<&mut dyn Ramdisk>,
    floor: u64,
    ceiling: u64,
) -> Result<Option<Initrd>, BootError> {
    let Some(initrd) = initrd else {
        return Ok(None);
    };
    let path = initrd.path().to_owned();
    let failed = |source| BootError::Read {
        what: "initrd",
        path: path.clone(),
        source,
    };
    let size = initrd.size().map_err(failed)?;
    let top = memory
        .iter()
        .next()
        .map_or(0, vm_memory::GuestMemoryRegion::len)
        .min(ceiling.saturating_add(1));
    let base = top.checked_sub(size).map(|base| base & !0xfff);
    let Some(base) = base.filter(|&base| base >= floor) else {
        return Err(BootError::TooLarge {
            path,
            needed: config::Bytes(size),
            free: config::Bytes(top.saturating_sub(floor)),
        });
    };
    initrd.read_to(memory, base).map_err(failed)?;
    Ok(Some(Initrd { base, size }))
}

enum Kind {
    BzImage,
    Elf,
}

/// Where the initrd is, in bytes.
#[derive(Debug, Clone, Copy)]
struct Initrd {
    base: u64,
    size: u64,
}

/// A range of the guest's physical memory, as the guest is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    base: u64,
    len: u64,
    kind: RegionKind,
}

/// Kinds of memory, with the numbers that both boot protocols share with the BIOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum RegionKind {
    Ram = 1,
    Reserved = 2,
    Acpi = 3,
}

/// What the guest is told of its physical memory, in ascending order without overlaps.
fn memory_map(memory: &GuestMemoryMmap) -> Vec<Region> {
    let region = |range: std::ops::Range<u64>, kind| Region {
        base: range.start,
        len: range.end - range.start,
        kind,
    };
    let mut map = vec![
        region(0..layout::LOW_MEMORY_END, RegionKind::Ram),
        region(
            layout::ACPI..layout::SMBIOS + layout::SMBIOS_SIZE,
            RegionKind::Acpi,
        ),
    ];
    for ram in memory.iter() {
        use vm_memory::GuestMemoryRegion as _;
        let base = ram.start_addr().0;
        if base == 0 {
            map.push(region(layout::HIGH_MEMORY..ram.len(), RegionKind::Ram));
            map.push(region(layout::pci_ecam(u8::MAX), RegionKind::Reserved));
        } else {
            map.push(region(base..base + ram.len(), RegionKind::Ram));
        }
    }
    map
}

fn write<T: ByteValued>(
    memory: &GuestMemoryMmap,
    what: &'static str,
    value: T,
    at: u64,
) -> Result<(), BootError> {
    memory
        .write_obj(value, GuestAddress(at))
        .map_err(|_| BootError::Write { what })
}

fn write_cmdline(memory: &GuestMemoryMmap, cmdline: &str) -> Result<(), BootError> {
    // The byte after it is zero: memory reads as zeroes.
    memory
        .write_slice(cmdline.as_bytes(), GuestAddress(layout::CMDLINE))
        .map_err(|_| BootError::Write {
            what: "command line",
        })
}

fn write_zero_page(
    memory: &GuestMemoryMmap,
    mut header: setup_header,
    cmdline_len: usize,
    initrd: Option<Initrd>,
    rsdp: u64,
) -> Result<(), BootError> {
    /// A boot loader without a number of its own.
    const LOADER_UNDEFINED: u8 = 0xff;
    header.type_of_loader = LOADER_UNDEFINED;
    header.cmd_line_ptr = layout::CMDLINE as u32;
    header.cmdline_size = cmdline_len as u32;
    let mut page = boot_params {
        hdr: header,
        acpi_rsdp_addr: rsdp,
        ..Default::default()
    };
    if let Some(Initrd { base, size }) = initrd {
        page.hdr.ramdisk_image = base as u32;
        page.hdr.ramdisk_size = size as u32;
        page.ext_ramdisk_image = (base >> 32) as u32;
        page.ext_ramdisk_size = (size >> 32) as u32;
    }
    let map = memory_map(memory);
    let mut entries = 0;
    let mut table = page.e820_table;
    for (entry, region) in table.iter_mut().zip(map) {
        *entry = boot_e820_entry {
            addr: region.base,
            size: region.len,
            r#type: region.kind as u32,
        };
        entries += 1;
    }
    page.e820_table = table;
    page.e820_entries = entries;
    write(memory, "boot parameters", page, layout::ZERO_PAGE)
}

#[cfg(test)]
mod tests;
