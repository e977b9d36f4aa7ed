//! The guest's memory: pages of this process, or of a memory file, mapped where [`layout::ram`] says, handed to KVM.
//!
//! In comes a size; out goes a [`GuestMemoryMmap`] that everything else reads and writes through. Pages come from the host as the guest
//! touches them, from the nodes that it is told, so a large guest starts as quickly as a small one. What can go wrong is the host's refusal: not enough
//! address space, or too few reserved huge pages, or of a page that was to be locked, or of a node.

mod nodes;
mod pages;

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use thiserror::Error;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

use crate::config::{Bytes, HostNodes, Memory};
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
    /// The host did not take the memory from these nodes.
    #[error(
        "could not take the guest's memory from the host's nodes {nodes:?} (are they there, and may this process use them? see /sys/devices/system/node and cpuset.mems)"
    )]
    Nodes {
        /// The nodes.
        nodes: Vec<u32>,
        /// The kernel's answer.
        source: io::Error,
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
    #[error("could not take {len} of memory for the guest from the host{}", if *.strict { " and the nodes it is bound to" } else { "" })]
    Populate {
        /// Whether only some of its nodes may be taken from.
        strict: bool,
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
        let region = pages::map(len, memory).map_err(|source| MemoryError::Map {
            size,
            hugepages: memory.hugepages,
            source,
        })?;
        let region = GuestRegionMmap::new(region, GuestAddress(range.start));
        regions.push(region.ok_or(MemoryError::Arrange(size))?);
    }
    let whole = GuestMemoryMmap::from_regions(regions).map_err(|_| MemoryError::Arrange(size))?;
    for (range, host) in taken_from(memory) {
        bind(&whole, &range, host)?;
    }
    if memory.locked {
        lock(&whole)?;
    } else if is_there_at_once(memory) {
        populate(&whole, memory)?;
    }
    Ok(whole)
}

/// Whether every page is taken from the host before the guest runs. Where huge pages are bound to nodes that have too few of them, a guest that touched one more would
/// bring the monitor down: it does not start.
fn is_there_at_once(memory: &Memory) -> bool {
    memory.locked || memory.preallocated || memory.hugepages && memory.is_strict()
}

/// Which cell is where: each a range of addresses and the cell's number, in ascending order of addresses.
pub fn cells(memory: &Memory) -> Vec<(Range<u64>, usize)> {
    let mut found = Vec::new();
    let mut ram = layout::ram(memory.size.0).into_iter();
    let mut left = ram.next().unwrap_or(0..0);
    for (number, cell) in memory.cells.iter().enumerate() {
        let mut size = cell.size.0;
        while size > 0 {
            if left.is_empty() {
                let Some(next) = ram.next() else { return found };
                left = next;
            }
            let len = size.min(left.end - left.start);
            found.push((left.start..left.start + len, number));
            left.start += len;
            size -= len;
        }
    }
    found
}

/// Which range is taken from which of the host's nodes, where that is said.
fn taken_from(memory: &Memory) -> Vec<(Range<u64>, &HostNodes)> {
    let whole = memory.host.as_ref();
    if memory.cells.is_empty() {
        let ranges = layout::ram(memory.size.0).into_iter();
        return ranges.filter_map(|range| Some((range, whole?))).collect();
    }
    let nodes = |number: usize| memory.cells.get(number)?.host.as_ref().or(whole);
    cells(memory)
        .into_iter()
        .filter_map(|(range, number)| Some((range, nodes(number)?)))
        .collect()
}

fn bind(memory: &GuestMemoryMmap, range: &Range<u64>, host: &HostNodes) -> Result<(), MemoryError> {
    let failed = |source| MemoryError::Nodes {
        nodes: host.nodes.clone(),
        source,
    };
    let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let slice = memory.get_slice(GuestAddress(range.start), len);
    let slice = slice.map_err(|error| failed(io::Error::other(error)))?;
    nodes::bind(slice.ptr_guard_mut().as_ptr(), len, host).map_err(failed)
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
fn populate(memory: &GuestMemoryMmap, config: &Memory) -> Result<(), MemoryError> {
    for region in memory.iter() {
        advise(region, libc::MADV_POPULATE_WRITE).map_err(|source| MemoryError::Populate {
            strict: config.is_strict(),
            len: Bytes(region.len()),
            source,
        })?;
    }
    Ok(())
}

/// Advises the kernel on a whole region. Advice that empties it is allowed: nothing in this process holds a Rust reference into guest memory; all
/// accesses are volatile and expect any contents.
fn advise(region: &GuestRegionMmap, advice: i32) -> io::Result<()> {
    // SAFETY: the range is exactly one mapping of ours, and nobody minds what becomes of its contents (see above).
    let result = unsafe { libc::madvise(region.as_ptr().cast(), region.size(), advice) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
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
    for region in memory.iter() {
        empty(region, config.locked).map_err(|source| MemoryError::Discard {
            base: region.start_addr().0,
            len: region.len(),
            source,
        })?;
    }
    if is_there_at_once(config) {
        populate(memory, config)?;
    }
    Ok(())
}

/// Gives every page of a region back; those of a file leave the file too.
fn empty(region: &GuestRegionMmap, locked: bool) -> io::Result<()> {
    // Since Linux 5.18. Locked pages come back locked.
    const MADV_DONTNEED_LOCKED: i32 = 24;
    const HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let Some(file) = region.file_offset() else {
        return match locked {
            true => advise(region, MADV_DONTNEED_LOCKED),
            false => advise(region, libc::MADV_DONTNEED),
        };
    };
    let len = libc::off_t::try_from(region.len()).map_err(io::Error::other)?;
    // SAFETY: the file is the region's own and as long as it, and nobody minds what becomes of its contents (see `advise`).
    match unsafe { libc::fallocate(file.file().as_raw_fd(), HOLE, 0, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The advice by which some pages of a region are given back so that they read as zeroes: those of a file leave the file too.
pub fn giving_back(region: &GuestRegionMmap) -> i32 {
    match region.file_offset() {
        Some(_) => libc::MADV_REMOVE,
        None => libc::MADV_DONTNEED,
    }
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
        for (shared, locked) in [(false, false), (true, false), (true, true)] {
            let config = Memory {
                shared,
                locked,
                ..memory(4 * layout::MIB)
            };
            let memory = match map(&config) {
                Ok(memory) => memory,
                Err(error @ MemoryError::Lock { .. }) => return eprintln!("skipped: {error}"),
                Err(error) => panic!("{error}"),
            };
            memory.write_obj(7_u32, GuestAddress(4096)).unwrap();
            discard(&memory, &config).unwrap();
            assert_eq!(memory.read_obj::<u32>(GuestAddress(4096)).unwrap(), 0);
        }
    }

    #[test]
    fn shared_memory_is_there_for_whoever_has_its_file_which_keeps_its_length() {
        use std::os::unix::fs::FileExt;
        let config = Memory {
            shared: true,
            ..memory(3 * layout::GIB + 4 * layout::MIB)
        };
        let memory = map(&config).unwrap();
        for region in memory.iter() {
            let at = region.start_addr().0 + 4097;
            memory.write_obj(0x55_u8, GuestAddress(at)).unwrap();
            let mut seen = [0];
            let file = region.file_offset().unwrap().file();
            file.read_exact_at(&mut seen, 4097).unwrap();
            assert_eq!(seen, [0x55]);
            for len in [0, region.len() + 4096] {
                assert!(file.set_len(len).is_err(), "its length became {len}");
            }
        }
    }

    #[test]
    fn cells_follow_each_other_and_one_may_lie_around_the_hole() {
        let cell = |size| crate::config::Cell {
            size: Bytes(size),
            vcpus: Vec::new(),
            distances: Vec::new(),
            host: None,
        };
        let gib = layout::GIB;
        let config = Memory {
            cells: vec![cell(2 * gib), cell(0), cell(2 * gib), cell(gib)],
            ..memory(5 * gib)
        };
        let wanted = [
            (0..2 * gib, 0),
            (2 * gib..3 * gib, 2),
            (4 * gib..5 * gib, 2),
            (5 * gib..6 * gib, 3),
        ];
        assert_eq!(cells(&config), wanted);
    }

    /// What the kernel says of the mapping that has this address: `default`, `bind:0`, `prefer:0`.
    fn policy(at: *const u8) -> String {
        let maps = std::fs::read_to_string("/proc/self/numa_maps").unwrap_or_default();
        let mut lines = maps.lines().filter_map(|line| {
            let (start, rest) = line.split_once(' ')?;
            Some((u64::from_str_radix(start, 16).ok()?, rest))
        });
        let line = lines.rfind(|(start, _)| *start <= at as u64);
        let word = line.and_then(|(_, rest)| rest.split(' ').next());
        word.unwrap_or_default().to_owned()
    }

    #[test]
    fn memory_is_taken_from_the_nodes_that_were_named_or_the_start_fails_naming_them() {
        use crate::config::NodeMode;
        let on = |mode, nodes: &[u32]| Memory {
            host: Some(HostNodes {
                mode,
                nodes: nodes.to_vec(),
            }),
            ..memory(4 * layout::MIB)
        };
        for (mode, word) in [
            (NodeMode::Strict, "bind:0"),
            (NodeMode::Preferred, "prefer:0"),
            (NodeMode::Interleave, "interleave:0"),
        ] {
            let memory = match map(&on(mode, &[0])) {
                Ok(memory) => memory,
                Err(error) => return eprintln!("skipped: {error}: {}", source(&error)),
            };
            memory.write_obj(7_u8, GuestAddress(0)).unwrap();
            let region = memory.iter().next().unwrap();
            let told = policy(region.as_ptr());
            if !told.is_empty() {
                assert_eq!(told, word);
            }
        }
        let error = map(&on(NodeMode::Strict, &[1023])).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("the host's nodes [1023]"), "{error}");
    }

    fn source(error: &MemoryError) -> String {
        let source = std::error::Error::source(error);
        source.map(ToString::to_string).unwrap_or_default()
    }

    #[test]
    fn cells_are_taken_from_nodes_of_their_own_and_else_from_those_of_all_memory() {
        use crate::config::{Cell, NodeMode};
        let on = |mode, node| HostNodes {
            mode,
            nodes: vec![node],
        };
        let cell = |host| Cell {
            size: Bytes(layout::GIB),
            vcpus: Vec::new(),
            distances: Vec::new(),
            host,
        };
        let own = on(NodeMode::Preferred, 1);
        let all = on(NodeMode::Strict, 0);
        let config = Memory {
            host: Some(all.clone()),
            cells: vec![cell(None), cell(Some(own.clone()))],
            ..memory(2 * layout::GIB)
        };
        let gib = layout::GIB;
        assert_eq!(taken_from(&config), [(0..gib, &all), (gib..2 * gib, &own)]);
    }
}
