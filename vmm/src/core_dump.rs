//! A core dump of a guest that crashed: an ELF file with its memory and its processors' registers, for `gdb` and `crash`.
//!
//! In come a file that was opened before privileges were given up, the guest's memory, and what its vcpus looked like; out goes the file, with holes
//! where the memory is zero, so that it takes no more room than the guest had used. It never grows beyond the guest's memory and a few pages. What can
//! go wrong is the file system's; then nothing is left in the file.
//!
//! ```text
//! ELF header │ program headers │ notes: one NT_PRSTATUS a vcpu │ (to the next page) the ranges of memory, in order
//! ```
//!
//! Program headers hold guest physical addresses. Source: the System V ABI's "Object Files", and `struct elf_prstatus` of the kernel's
//! include/linux/elfcore.h and arch/x86/include/asm/elf.h.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kvm_bindings::{kvm_regs, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// What one vcpu looked like.
#[derive(Debug, Clone)]
pub struct Processor {
    /// General registers.
    pub regs: kvm_regs,
    /// System registers.
    pub sregs: kvm_sregs,
}

/// The file that a core dump goes to. The last one stays in it until the next.
#[derive(Debug)]
pub struct CoreFile {
    file: File,
    path: PathBuf,
}

const PAGE: usize = 4096;
/// Bytes read of the guest's memory at once.
const CHUNK: usize = 64 * PAGE;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

impl CoreFile {
    /// Opens the file, readable by nobody else: it will hold all that the guest knew.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a dump in the place of the last one. Gives its length in bytes, holes and all. The guest must be at rest.
    ///
    /// # Errors
    /// The file system's; the file is empty then.
    pub fn write(&mut self, memory: &GuestMemoryMmap, processors: &[Processor]) -> io::Result<u64> {
        let written = self.replace(memory, processors);
        if written.is_err() {
            let _ = self.file.set_len(0);
        }
        written
    }

    fn replace(&mut self, memory: &GuestMemoryMmap, processors: &[Processor]) -> io::Result<u64> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        let ranges: Vec<_> = memory
            .iter()
            .map(|region| (region.start_addr().0, region.len()))
            .collect();
        let front = front(&ranges, processors);
        self.file.write_all(&front)?;
        let mut at = front.len() as u64;
        let mut buffer = vec![0; CHUNK];
        for (start, len) in ranges {
            let mut done = 0;
            while done < len {
                let want = usize::try_from(len - done).map_or(CHUNK, |rest| rest.min(CHUNK));
                let chunk = buffer.get_mut(..want).unwrap_or_default();
                memory
                    .read_slice(chunk, GuestAddress(start + done))
                    .map_err(io::Error::other)?;
                self.write_sparse(at, chunk)?;
                done += want as u64;
                at += want as u64;
            }
        }
        self.file.set_len(at)?;
        Ok(at)
    }

    /// Writes the pages that are not zero.
    fn write_sparse(&mut self, start: u64, chunk: &[u8]) -> io::Result<()> {
        for (number, page) in (0..).zip(chunk.chunks(PAGE)) {
            if page.iter().any(|&byte| byte != 0) {
                let at = start + number * PAGE as u64;
                self.file.seek(SeekFrom::Start(at))?;
                self.file.write_all(page)?;
            }
        }
        Ok(())
    }
}

/// Everything before the memory, in whole pages.
fn front(ranges: &[(u64, u64)], processors: &[Processor]) -> Vec<u8> {
    let notes: Vec<u8> = (1..)
        .zip(processors)
        .flat_map(|(number, processor)| note(number, processor))
        .collect();
    let headers = HEADER + PROGRAM_HEADER * (ranges.len() + 1);
    let end = (headers + notes.len()).next_multiple_of(PAGE);
    let mut front = header(ranges.len() + 1);
    front.extend(program_header(
        PT_NOTE,
        headers as u64,
        0,
        notes.len() as u64,
    ));
    let mut offset = end as u64;
    for &(start, len) in ranges {
        front.extend(program_header(PT_LOAD, offset, start, len));
        offset += len;
    }
    front.extend(notes);
    front.resize(end, 0);
    front
}

fn header(programs: usize) -> Vec<u8> {
    const CORE: u16 = 4;
    const X86_64: u16 = 62;
    // 64 bits, little-endian, version 1.
    let mut header = b"\x7fELF\x02\x01\x01".to_vec();
    header.resize(16, 0);
    for half in [CORE, X86_64] {
        header.extend(half.to_le_bytes());
    }
    header.extend(1_u32.to_le_bytes());
    // No entry; program headers follow at once; no sections.
    for word in [0, HEADER as u64, 0] {
        header.extend(word.to_le_bytes());
    }
    header.extend(0_u32.to_le_bytes());
    for half in [HEADER, PROGRAM_HEADER, programs, 0, 0, 0] {
        header.extend((half as u16).to_le_bytes());
    }
    header
}

fn program_header(kind: u32, offset: u64, address: u64, len: u64) -> Vec<u8> {
    const READ_WRITE_EXECUTE: u32 = 7;
    let flags = if kind == PT_LOAD {
        READ_WRITE_EXECUTE
    } else {
        0
    };
    let memory = if kind == PT_LOAD { len } else { 0 };
    let mut header = Vec::new();
    header.extend(kind.to_le_bytes());
    header.extend(flags.to_le_bytes());
    for word in [offset, address, address, len, memory, 0] {
        header.extend(word.to_le_bytes());
    }
    header
}

/// The registers of a vcpu as those of a process, numbered from 1.
fn note(number: u32, processor: &Processor) -> Vec<u8> {
    const NT_PRSTATUS: u32 = 1;
    const REGISTERS: usize = 112;
    const LEN: usize = 336;
    let (r, s) = (&processor.regs, &processor.sregs);
    let registers = [
        r.r15,
        r.r14,
        r.r13,
        r.r12,
        r.rbp,
        r.rbx,
        r.r11,
        r.r10,
        r.r9,
        r.r8,
        r.rax,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        u64::MAX,
        r.rip,
        s.cs.selector.into(),
        r.rflags,
        r.rsp,
        s.ss.selector.into(),
        s.fs.base,
        s.gs.base,
        s.ds.selector.into(),
        s.es.selector.into(),
        s.fs.selector.into(),
        s.gs.selector.into(),
    ];
    // The process's number is at 32, after signals.
    let mut status = vec![0; 32];
    status.extend(number.to_le_bytes());
    status.resize(REGISTERS, 0);
    status.extend(registers.into_iter().flat_map(u64::to_le_bytes));
    status.resize(LEN, 0);
    let mut note = Vec::new();
    for word in [5, LEN as u32, NT_PRSTATUS] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"CORE\0\0\0\0");
    note.extend(status);
    note
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn memory() -> GuestMemoryMmap {
        let ranges = [
            (GuestAddress(0), 64 << 20),
            (GuestAddress(1 << 32), 16 << 20),
        ];
        GuestMemoryMmap::from_ranges(&ranges).unwrap()
    }

    fn word(core: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(core[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn memory_and_registers_are_where_the_headers_say_and_zeroes_take_no_room() {
        let memory = memory();
        memory
            .write_obj(0x1122_u64, GuestAddress(0x10_0008))
            .unwrap();
        let last = (1 << 32) + (16 << 20) - 8;
        memory.write_obj(0x3344_u64, GuestAddress(last)).unwrap();
        let regs = kvm_regs {
            rip: 0xdead,
            ..Default::default()
        };
        let processor = Processor {
            regs,
            sregs: kvm_sregs::default(),
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("core");
        let mut file = CoreFile::open(&path).unwrap();
        let len = file
            .write(&memory, &[processor.clone(), processor])
            .unwrap();

        let core = std::fs::read(&path).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!((core.len() as u64, metadata.mode() & 0o777), (len, 0o600));
        assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
        let (notes, low, high) = (HEADER, HEADER + PROGRAM_HEADER, HEADER + 2 * PROGRAM_HEADER);
        // The second vcpu's note: its register 16, after the note's header and name, is the instruction pointer.
        let note = word(&core, notes + 8) as usize + 20 + 336;
        assert_eq!(word(&core, note + 20 + 112 + 16 * 8), 0xdead);
        assert_eq!(core[note + 20 + 32], 2);
        let place = |header: usize| (word(&core, header + 8) as usize, word(&core, header + 24));
        assert_eq!(word(&core, place(low).0 + 0x10_0008), 0x1122);
        assert_eq!(place(high).1, 1 << 32);
        assert_eq!(word(&core, core.len() - 8), 0x3344);
        assert_eq!(place(high).0 + (16 << 20), core.len());
    }

    #[test]
    fn a_new_dump_takes_the_last_ones_place_and_a_failed_one_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("core");
        let memory = memory();
        memory.write_obj(7_u8, GuestAddress(0)).unwrap();
        let mut file = CoreFile::open(&path).unwrap();
        file.write(&memory, &[]).unwrap();
        let again = CoreFile::open(&path).unwrap();
        assert_ne!(again.file.metadata().unwrap().len(), 0);
        // A descriptor that cannot be written to stands for a full disk.
        let mut broken = CoreFile {
            file: File::open("/dev/null").unwrap(),
            path,
        };
        assert!(broken.write(&memory, &[]).is_err());
    }
}
