//! The guest's memory: anonymous pages of this process, mapped where [`layout::ram`] says, handed to KVM.
//!
//! In comes a size; out goes a [`GuestMemoryMmap`] that everything else reads and writes through. Pages come from the host as the guest
//! touches them, so a large guest starts as quickly as a small one. What can go wrong is the host's refusal: not enough address space,
//! or too few reserved huge pages, or of a page that was to be locked.

use std::io;
use std::ptr;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use thiserror::Error;
use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
    MmapRegion,
};

use crate::config::{Bytes, Memory};
use crate::layout;

/// Why the guest has no memory.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The host did not give the pages.
    #[error("could not map {size} of memory for the guest{}", if *.hugepages { " from the host's huge pages (see HugePages_Free in /proc/meminfo)" } else { "" })]
    Map {
        /// What was wanted.
        size: Bytes,
        /// Whether it was wanted from the host's reserved huge pages.
        hugepages: bool,
        /// The kernel's answer.
        source: MmapRegionError,
    },
    /// The ranges do not fit the address space of a guest.
    #[error("{0} of memory do not fit the guest's address space")]
    Arrange(Bytes),
    /// KVM refused the memory.
    #[error("kvm did not take {len:#x} bytes of memory at {base:#x}")]
    Register {
        /// First guest physical address.
        base: u64,
        /// Length in bytes.
        len: u64,
        /// The kernel's answer.
        source: kvm_ioctls::Error,
    },
    /// The host did not lock the pages.
    #[error(
        "could not lock {len} of memory for the guest (is there as much, and may this user lock it? see ulimit -l)"
    )]
    Lock {
        /// What was to be locked.
        len: Bytes,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The host did not give all pages at once.
    #[error("could not take {len} of memory for the guest from the host")]
    Populate {
        /// What was wanted.
        len: Bytes,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The old contents could not be given back on a reset.
    #[error("could not give back {len:#x} bytes of memory at {base:#x}")]
    Discard {
        /// First guest physical address.
        base: u64,
        /// Length in bytes.
        len: u64,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Maps the guest's memory. It reads as zeroes, and stays mapped until the process ends, as long as the guest does.
pub fn map(memory: &Memory) -> Result<GuestMemoryMmap, MemoryError> {
    let size = memory.size;
    let mut regions = Vec::new();
    for range in layout::ram(size.0) {
        let len =
            usize::try_from(range.end - range.start).map_err(|_| MemoryError::Arrange(size))?;
        let region = if memory.hugepages {
            reserved(len, memory.page())
        } else {
            ordinary(len)
        };
        let region = region.map_err(|source| MemoryError::Map {
            size,
            hugepages: memory.hugepages,
            source,
        })?;
        let region = GuestRegionMmap::new(region, GuestAddress(range.start));
        regions.push(region.ok_or(MemoryError::Arrange(size))?);
    }
    let whole = GuestMemoryMmap::from_regions(regions).map_err(|_| MemoryError::Arrange(size))?;
    if memory.locked {
        lock(&whole)?;
    } else if memory.preallocated {
        populate(&whole)?;
    }
    Ok(whole)
}

/// Takes every page from the host and keeps it there.
fn lock(memory: &GuestMemoryMmap) -> Result<(), MemoryError> {
    for region in memory.iter() {
        // SAFETY: the range is exactly one mapping of ours; locking it changes nothing that is in it.
        let result = unsafe { libc::mlock(region.as_ptr().cast(), region.size()) };
        if result != 0 {
            return Err(MemoryError::Lock {
                len: Bytes(region.len()),
                source: io::Error::last_os_error(),
            });
        }
    }
    Ok(())
}

/// Takes every page from the host.
fn populate(memory: &GuestMemoryMmap) -> Result<(), MemoryError> {
    for region in memory.iter() {
        advise(region, libc::MADV_POPULATE_WRITE).map_err(|source| MemoryError::Populate {
            len: Bytes(region.len()),
            source,
        })?;
    }
    Ok(())
}

/// Advises the kernel on a whole region. Advice that empties it is allowed: nothing in this process holds a Rust reference into guest memory; all
/// accesses are volatile and expect any contents.
fn advise(region: &GuestRegionMmap, advice: i32) -> io::Result<()> {
    // SAFETY: the range is exactly one private anonymous mapping of ours, and nobody minds what becomes of its contents (see above).
    let result = unsafe { libc::madvise(region.as_ptr().cast(), region.size(), advice) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

const ACCESS: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_ANONYMOUS | libc::MAP_PRIVATE;

/// Pages that the host has put aside.
fn reserved(len: usize, page: Bytes) -> Result<MmapRegion, MmapRegionError> {
    let size = if page.0 == layout::GIB {
        libc::MAP_HUGE_1GB
    } else {
        libc::MAP_HUGE_2MB
    };
    MmapRegionBuilder::new(len)
        .with_mmap_prot(ACCESS)
        .with_mmap_flags(PRIVATE | libc::MAP_HUGETLB | size)
        .with_hugetlbfs(true)
        .build()
}

/// Ordinary pages, placed so that the kernel can back them by huge ones, and asked to: a guest that boots then takes some dozens of faults
/// where it would take tens of thousands.
fn ordinary(len: usize) -> Result<MmapRegion, MmapRegionError> {
    const HUGE: usize = 2 << 20;
    let too_large = || MmapRegionError::Mmap(io::Error::from_raw_os_error(libc::ENOMEM));
    let whole = len.checked_add(HUGE).ok_or_else(too_large)?;
    let flags = PRIVATE | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(ptr::null_mut(), whole, ACCESS, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(MmapRegionError::Mmap(io::Error::last_os_error()));
    }
    let before = base.align_offset(HUGE).min(HUGE);
    // SAFETY: `before <= HUGE`, so the `len` bytes from there lie in the new mapping. What is cut off before and after them lies in it too, is
    // whole pages, and has not been given to anybody. A host without huge pages refuses the advice, and all works as before.
    unsafe {
        let start = base.byte_add(before);
        if before > 0 {
            libc::munmap(base, before);
        }
        if before < HUGE {
            libc::munmap(start.byte_add(len), HUGE - before);
        }
        libc::madvise(start, len, libc::MADV_HUGEPAGE);
        MmapRegionBuilder::new(len)
            .with_mmap_prot(ACCESS)
            .with_mmap_flags(flags)
            .with_raw_mmap_pointer(start.cast())
            .build()
    }
}

/// Gives the memory to the machine `vm`, one slot a range.
pub fn register(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<(), MemoryError> {
    for (slot, region) in (0..).zip(memory.iter()) {
        let (base, len) = (region.start_addr().0, region.len());
        let slot = kvm_userspace_memory_region {
            slot,
            guest_phys_addr: base,
            memory_size: len,
            userspace_addr: region.as_ptr() as u64,
            flags: 0,
        };
        // SAFETY: the range is a mapping of this length that is never unmapped (ordinary pages), or that the machine holds for as long as it
        // holds `vm` (reserved ones), so the guest never reaches memory that has been given to somebody else.
        unsafe { vm.set_user_memory_region(slot) }.map_err(|source| MemoryError::Register {
            base,
            len,
            source,
        })?;
    }
    Ok(())
}

/// Gives every page back to the host; the memory reads as zeroes again, and is there at once where it was asked to be. The vcpus and the devices must be at rest.
pub fn discard(memory: &GuestMemoryMmap, config: &Memory) -> Result<(), MemoryError> {
    // Since Linux 5.18. Locked pages come back locked.
    const MADV_DONTNEED_LOCKED: i32 = 24;
    let advice = if config.locked {
        MADV_DONTNEED_LOCKED
    } else {
        libc::MADV_DONTNEED
    };
    for region in memory.iter() {
        advise(region, advice).map_err(|source| MemoryError::Discard {
            base: region.start_addr().0,
            len: region.len(),
            source,
        })?;
    }
    if config.locked || config.preallocated {
        populate(memory)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes as _;

    use super::*;

    fn memory(size: u64) -> Memory {
        Memory {
            size: Bytes(size),
            ..Memory::default()
        }
    }

    /// KiB of this process's memory that are resident or locked.
    fn status(word: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(word));
        let value = line.unwrap().split_whitespace().next().unwrap();
        value.parse().unwrap()
    }

    #[test]
    fn locked_memory_is_there_from_the_start_and_after_a_reset() {
        let config = Memory {
            locked: true,
            ..memory(64 * layout::MIB)
        };
        let before = status("VmLck:");
        let memory = match map(&config) {
            Ok(memory) => memory,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        assert!(status("VmLck:") >= before + (64 << 10));
        memory.write_obj(7_u32, GuestAddress(4096)).unwrap();
        discard(&memory, &config).unwrap();
        assert_eq!(memory.read_obj::<u32>(GuestAddress(4096)).unwrap(), 0);
        assert!(status("VmLck:") >= before + (64 << 10));
    }

    #[test]
    fn preallocated_memory_is_resident_before_it_is_touched() {
        let config = Memory {
            preallocated: true,
            ..memory(256 * layout::MIB)
        };
        let memory = map(&config).unwrap();
        assert!(status("VmRSS:") >= 256 << 10);
        discard(&memory, &config).unwrap();
        assert!(status("VmRSS:") >= 256 << 10);
    }

    #[test]
    fn memory_is_where_the_layout_says() {
        let memory = map(&memory(3 * layout::GIB + 4 * layout::MIB)).unwrap();
        memory
            .write_obj(7_u8, GuestAddress(3 * layout::GIB - 1))
            .unwrap();
        memory
            .write_obj(7_u8, GuestAddress(4 * layout::GIB))
            .unwrap();
        assert!(
            memory
                .write_obj(7_u8, GuestAddress(3 * layout::GIB))
                .is_err()
        );
        assert_eq!(memory.last_addr().0, 4 * layout::GIB + 4 * layout::MIB - 1);
    }

    #[test]
    fn discarded_memory_reads_as_zeroes() {
        let memory = map(&memory(4 * layout::MIB)).unwrap();
        memory.write_obj(7_u32, GuestAddress(4096)).unwrap();
        discard(&memory, &Memory::default()).unwrap();
        assert_eq!(memory.read_obj::<u32>(GuestAddress(4096)).unwrap(), 0);
    }
}
