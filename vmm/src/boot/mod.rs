//! From a kernel, an initrd and a command line to a guest whose first instruction can run.
//!
//! In come files that are already open and guest memory that reads as zeroes; out goes an [`Entry`]: where the boot processor begins and
//! by which protocol. Three kinds of kernel are known by their contents: a Linux bzImage ([`bzimage`]), an ELF executable with a
//! PVH note, and an ELF executable that begins in 64-bit mode ([`elf`]). Errors say which file could not be loaded and why.
//!
//! Loading may be done again on the same files: this is how a guest is reset.

mod bzimage;
mod elf;

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use thiserror::Error;
use vm_memory::{
    ByteValued, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
};

use crate::config::{self, Boot};
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
    /// Boot data could not be written: the guest has too little memory.
    #[error("could not write the {what} into the guest's memory: it is too small")]
    Write {
        /// What was written.
        what: &'static str,
    },
}

/// The files that a guest boots, open.
#[derive(Debug)]
pub struct Images {
    kernel: Image,
    initrd: Option<Image>,
    cmdline: String,
}

#[derive(Debug)]
struct Image {
    path: PathBuf,
    file: File,
}

impl Image {
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

impl Images {
    /// Opens the files.
    pub fn open(boot: &Boot) -> Result<Self, BootError> {
        Ok(Self {
            kernel: Image::open("kernel", &boot.kernel)?,
            initrd: match &boot.initrd {
                Some(path) => Some(Image::open("initrd", path)?),
                None => None,
            },
            cmdline: boot.cmdline.clone(),
        })
    }

    /// Loads everything into `memory`, which must read as zeroes. `rsdp` is where the ACPI tables begin.
    pub fn load(&mut self, memory: &GuestMemoryMmap, rsdp: u64) -> Result<Entry, BootError> {
        write_cmdline(memory, &self.cmdline)?;
        match self.kind()? {
            Kind::BzImage => {
                let kernel = bzimage::load(memory, &mut self.kernel)?;
                self.fits(memory, kernel.end)?;
                let initrd = self.load_initrd(memory, kernel.end, kernel.initrd_max)?;
                write_zero_page(memory, kernel.header, self.cmdline.len(), initrd, rsdp)?;
                Ok(Entry::Linux64 { rip: kernel.entry })
            }
            Kind::Elf => {
                let kernel = elf::load(memory, &mut self.kernel)?;
                let initrd = self.load_initrd(memory, kernel.end, u64::from(u32::MAX))?;
                match kernel.entry {
                    Entry::Pvh { .. } => elf::write_start_info(memory, initrd, rsdp)?,
                    Entry::Linux64 { .. } => {
                        let header = elf::header();
                        write_zero_page(memory, header, self.cmdline.len(), initrd, rsdp)?;
                    }
                }
                Ok(kernel.entry)
            }
        }
    }

    fn kind(&mut self) -> Result<Kind, BootError> {
        let mut head = [0; 0x206];
        let image = &mut self.kernel;
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

    /// Whether the kernel's work area, which ends at `end`, lies in the memory that begins at 0.
    fn fits(&self, memory: &GuestMemoryMmap, end: u64) -> Result<(), BootError> {
        let low = memory.iter().find(|region| region.start_addr().0 == 0);
        let has = low.map_or(0, GuestMemoryRegion::len);
        if end > has {
            return Err(BootError::TooLittleMemory {
                path: self.kernel.path.clone(),
                needs: end.div_ceil(1 << 20),
                has: has >> 20,
            });
        }
        Ok(())
    }

    /// Reads the initrd to the highest place that the kernel takes, above the kernel itself, whose memory ends at `floor`.
    fn load_initrd(
        &mut self,
        memory: &GuestMemoryMmap,
        floor: u64,
        ceiling: u64,
    ) -> Result<Option<Initrd>, BootError> {
        let Some(Image { path, file }) = &mut self.initrd else {
            return Ok(None);
        };
        let failed = |path: &Path, source| BootError::Read {
            what: "initrd",
            path: path.to_owned(),
            source,
        };
        let size = file.metadata().map_err(|e| failed(path, e))?.len();
        file.rewind().map_err(|e| failed(path, e))?;
        let top = memory
            .iter()
            .next()
            .map_or(0, vm_memory::GuestMemoryRegion::len)
            .min(ceiling.saturating_add(1));
        let base = top.checked_sub(size).map(|base| base & !0xfff);
        let (Some(base), Ok(len)) = (base.filter(|&b| b >= floor), usize::try_from(size)) else {
            return Err(BootError::TooLarge {
                path: path.clone(),
                needed: config::Bytes(size),
                free: config::Bytes(top.saturating_sub(floor)),
            });
        };
        memory
            .read_exact_volatile_from(GuestAddress(base), file, len)
            .map_err(|e| failed(path, io::Error::other(e)))?;
        Ok(Some(Initrd { base, size }))
    }
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
            layout::ACPI..layout::ACPI + layout::ACPI_SIZE,
            RegionKind::Acpi,
        ),
    ];
    for ram in memory.iter() {
        use vm_memory::GuestMemoryRegion as _;
        let base = ram.start_addr().0;
        if base == 0 {
            map.push(region(layout::HIGH_MEMORY..ram.len(), RegionKind::Ram));
            map.push(region(layout::PCI_ECAM, RegionKind::Reserved));
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
