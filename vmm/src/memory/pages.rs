//! Where a range of guest memory comes from: ordinary pages or the host's huge ones, of this process alone or of a memory file.
//!
//! In comes a length; out goes a mapping that reads as zeroes. A memory file has no name: others map it who are given its descriptor, which [`FileOffset`] in the region
//! holds. It is sealed to its length, so that no peer can shorten it under a guest that runs.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::ptr;

use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, MmapRegion};

use crate::config::Memory;
use crate::layout;

const ACCESS: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE;
const SHARED: i32 = libc::MAP_SHARED;

/// Maps `len` bytes, whole pages of `memory`.
pub fn map(len: usize, memory: &Memory) -> Result<MmapRegion, MmapRegionError> {
    let file = match memory.shared {
        true => Some(file(len, memory).map_err(MmapRegionError::Mmap)?),
        false => None,
    };
    match memory.hugepages {
        true => reserved(len, memory, file),
        false => ordinary(len, file),
    }
}

/// Pages that the host has put aside.
fn reserved(
    len: usize,
    memory: &Memory,
    file: Option<File>,
) -> Result<MmapRegion, MmapRegionError> {
    let gigantic = memory.page().0 == layout::GIB;
    let size = match gigantic {
        true => libc::MAP_HUGE_1GB,
        false => libc::MAP_HUGE_2MB,
    };
    let builder = MmapRegionBuilder::new(len)
        .with_mmap_prot(ACCESS)
        .with_hugetlbfs(true);
    let builder = match file {
        Some(file) => builder
            .with_mmap_flags(SHARED)
            .with_file_offset(FileOffset::new(file, 0)),
        None => builder.with_mmap_flags(PRIVATE | libc::MAP_HUGETLB | size),
    };
    builder.build()
}

/// Ordinary pages, placed so that the kernel can back them by huge ones, and asked to: a guest that boots then takes some dozens of faults
/// where it would take tens of thousands.
fn ordinary(len: usize, file: Option<File>) -> Result<MmapRegion, MmapRegionError> {
    let mut flags = PRIVATE | libc::MAP_NORESERVE;
    let start = aligned(len, flags).map_err(MmapRegionError::Mmap)?;
    if let Some(file) = &file {
        flags = SHARED | libc::MAP_NORESERVE;
        put(file.as_raw_fd(), start, len, flags).map_err(MmapRegionError::Mmap)?;
    }
    // SAFETY: the `len` bytes from `start` are a mapping of ours that is never unmapped. A host without huge pages refuses the advice, and all works as before.
    unsafe {
        libc::madvise(start, len, libc::MADV_HUGEPAGE);
        let builder = MmapRegionBuilder::new(len)
            .with_mmap_prot(ACCESS)
            .with_mmap_flags(flags)
            .with_raw_mmap_pointer(start.cast());
        match file {
            Some(file) => builder.with_file_offset(FileOffset::new(file, 0)).build(),
            None => builder.build(),
        }
    }
}

/// Maps `len` bytes of its own, from where a huge page can begin.
fn aligned(len: usize, flags: i32) -> io::Result<*mut libc::c_void> {
    const HUGE: usize = 2 << 20;
    let too_large = || io::Error::from_raw_os_error(libc::ENOMEM);
    let whole = len.checked_add(HUGE).ok_or_else(too_large)?;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(ptr::null_mut(), whole, ACCESS, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let before = base.align_offset(HUGE).min(HUGE);
    // SAFETY: `before <= HUGE`, so the `len` bytes from there lie in the new mapping. What is cut off before and after them lies in it too, is
    // whole pages, and has not been given to anybody.
    unsafe {
        let start = base.byte_add(before);
        if before > 0 {
            libc::munmap(base, before);
        }
        if before < HUGE {
            libc::munmap(start.byte_add(len), HUGE - before);
        }
        Ok(start)
    }
}

/// Puts a file's first `len` bytes over a mapping.
fn put(file: RawFd, start: *mut libc::c_void, len: usize, flags: i32) -> io::Result<()> {
    // SAFETY: the range is a mapping of ours of this length that nobody has been given yet.
    let at = unsafe { libc::mmap(start, len, ACCESS, flags | libc::MAP_FIXED, file, 0) };
    match at == start {
        true => Ok(()),
        false => Err(io::Error::last_os_error()),
    }
}

/// A file in memory, or in the host's reserved huge pages, without a name, of this length for good.
fn file(len: usize, memory: &Memory) -> io::Result<File> {
    let huge = match (memory.hugepages, memory.page().0 == layout::GIB) {
        (false, _) => 0,
        (true, true) => libc::MFD_HUGETLB | libc::MFD_HUGE_1GB,
        (true, false) => libc::MFD_HUGETLB | libc::MFD_HUGE_2MB,
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | huge;
    // SAFETY: the name is a C string, and the descriptor is new and nobody else's.
    let file = unsafe {
        let descriptor = libc::memfd_create(c"guest".as_ptr(), flags);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        File::from_raw_fd(descriptor)
    };
    file.set_len(len as u64)?;
    let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: the call takes two numbers and changes what may be done to the file.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}
