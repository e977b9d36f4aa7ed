use std::io::Write;

use vm_memory::{Bytes as _, GuestAddress};

use super::*;
use crate::config::{Bytes, Memory};
use crate::memory;

pub(super) fn guest(size: u64) -> GuestMemoryMmap {
    memory::map(&Memory {
        size: Bytes(size),
        ..Memory::default()
    })
    .unwrap()
}

/// A bzImage of nothing but a header: one setup sector, `payload` bytes of kernel.
pub(super) fn bzimage(payload: usize) -> Vec<u8> {
    let mut image = vec![0; 1024 + payload];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    image[0x211] = 1;
    image[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    image[0x22c..0x230].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    image[0x236] = 1;
    image[0x258..0x260].copy_from_slice(&0x100_0000_u64.to_le_bytes());
    image[0x260..0x264].copy_from_slice(&0x20_0000_u32.to_le_bytes());
    image[1024..].fill(0x90);
    image
}

/// A 64-bit ELF executable with one segment at 1 MiB.
fn elf(note: Option<u32>) -> Vec<u8> {
    let headers: u16 = if note.is_some() { 2 } else { 1 };
    let mut image = Vec::new();
    image.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    image.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    image.extend(0x10_0010_u64.to_le_bytes());
    image.extend(64_u64.to_le_bytes());
    image.extend([0; 12]);
    image.extend([64, 0, 56, 0]);
    image.extend(headers.to_le_bytes());
    image.extend([0; 6]);
    let mut segment = |kind: u32, offset: u64, len: u64| {
        image.extend(kind.to_le_bytes());
        image.extend(7_u32.to_le_bytes());
        for value in [offset, 0x10_0000, 0x10_0000, len, len, 4] {
            image.extend(value.to_le_bytes());
        }
    };
    segment(1, 512, 64);
    if note.is_some() {
        segment(4, 256, 20);
    }
    image.resize(256, 0);
    if let Some(entry) = note {
        for word in [4, 4, 18, u32::from_le_bytes(*b"Xen\0"), entry] {
            image.extend(word.to_le_bytes());
        }
    }
    image.resize(512 + 64, 0xf4);
    image
}

fn files(kernel: &[u8], initrd: Option<&[u8]>) -> Result<Files, BootError> {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, data: &[u8]| {
        let path = dir.path().join(name);
        File::create(&path).unwrap().write_all(data).unwrap();
        path
    };
    let initrd = initrd.map(|data| put("initrd", data));
    Files::open(&put("kernel", kernel), initrd.as_deref(), "console=ttyS0")
}

fn load(
    memory: &GuestMemoryMmap,
    kernel: &[u8],
    initrd: Option<&[u8]>,
) -> Result<Entry, BootError> {
    files(kernel, initrd)?.load(memory, 0xe_0000)
}

#[test]
fn a_bzimage_begins_in_64_bit_mode_with_its_boot_parameters() {
    let memory = guest(64 << 20);
    let entry = load(&memory, &bzimage(5000), Some(b"initrd")).unwrap();
    assert_eq!(entry, Entry::Linux64 { rip: 0x10_0200 });
    let page: boot_params = memory.read_obj(GuestAddress(layout::ZERO_PAGE)).unwrap();
    let (image, size, rsdp) = (
        page.hdr.ramdisk_image,
        page.hdr.ramdisk_size,
        page.acpi_rsdp_addr,
    );
    assert_eq!((image, size, rsdp), ((64 << 20) - 4096, 6, 0xe_0000));
    let mut text = [0; 14];
    memory
        .read_slice(&mut text, GuestAddress(layout::CMDLINE))
        .unwrap();
    assert_eq!(&text, b"console=ttyS0\0");
    assert_eq!(page.e820_entries, 4);
}

#[test]
fn an_elf_with_a_pvh_note_begins_there_and_one_without_in_64_bit_mode() {
    let memory = guest(64 << 20);
    assert_eq!(
        load(&memory, &elf(None), None).unwrap(),
        Entry::Linux64 { rip: 0x10_0010 }
    );
    assert_eq!(
        load(&memory, &elf(Some(0x10_0020)), None).unwrap(),
        Entry::Pvh { rip: 0x10_0020 }
    );
    let magic: u32 = memory
        .read_obj(GuestAddress(layout::PVH_START_INFO))
        .unwrap();
    assert_eq!(magic, 0x336e_c578);
}

#[test]
fn the_same_files_load_again_after_a_reset() {
    let memory = guest(64 << 20);
    let mut images = files(&bzimage(5000), Some(b"initrd")).unwrap();
    let first = images.load(&memory, 0).unwrap();
    memory::discard(&memory, &Memory::default()).unwrap();
    assert_eq!(images.load(&memory, 0).unwrap(), first);
    assert_eq!(
        memory.read_obj::<u8>(GuestAddress(0x10_0000)).unwrap(),
        0x90
    );
}

#[test]
fn a_file_that_is_no_kernel_is_named() {
    let memory = guest(4 << 20);
    for data in [&b""[..], b"#!/bin/sh\n", &[0; 4096]] {
        let message = load(&memory, data, None).unwrap_err().to_string();
        assert!(
            message.ends_with("is neither a bzImage nor a 64-bit ELF executable"),
            "{message}"
        );
    }
}

#[test]
fn a_kernel_without_a_64_bit_entry_is_refused() {
    let mut image = bzimage(100);
    image[0x236] = 0;
    assert!(matches!(
        load(&guest(64 << 20), &image, None),
        Err(BootError::No64BitEntry(_))
    ));
}

#[test]
fn an_initrd_never_overlaps_the_kernel() {
    // The kernel says that it unpacks itself up to 18 MiB.
    let initrd = vec![1; 3 << 20];
    assert!(load(&guest(22 << 20), &bzimage(100), Some(&initrd)).is_ok());
    let error = load(&guest(20 << 20), &bzimage(100), Some(&initrd)).unwrap_err();
    assert!(matches!(error, BootError::TooLarge { .. }), "{error}");
}

#[test]
fn a_kernel_that_would_unpack_itself_beyond_the_memory_is_refused() {
    assert!(load(&guest(18 << 20), &bzimage(100), None).is_ok());
    let error = load(&guest(17 << 20), &bzimage(100), None).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("needs 18 MiB of memory to unpack itself, and the guest has 17 MiB"),
        "{error}"
    );
}

#[test]
fn a_truncated_kernel_is_an_error_and_never_a_panic() {
    let memory = guest(64 << 20);
    for whole in [bzimage(600), elf(None), elf(Some(0x10_0020))] {
        for len in 0..whole.len() {
            let _ = load(&memory, &whole[..len], None);
        }
    }
}

#[test]
fn the_memory_map_ascends_without_overlaps_and_holds_all_memory() {
    for size in [64 << 20, 3 * layout::GIB, 5 * layout::GIB] {
        let map = memory_map(&guest(size));
        for pair in map.windows(2) {
            assert!(pair[0].base + pair[0].len <= pair[1].base, "{pair:?}");
        }
        let ram: u64 = map
            .iter()
            .filter(|r| r.kind == RegionKind::Ram)
            .map(|r| r.len)
            .sum();
        assert_eq!(ram, size - (layout::HIGH_MEMORY - layout::LOW_MEMORY_END));
    }
}
