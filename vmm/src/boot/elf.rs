//! ELF executables: by the PVH protocol where they have its note, in 64-bit mode as Linux's vmlinux where they have not.
//!
//! In comes the file; out go the entry point and the end of what was loaded. PVH is described in Xen's
//! `docs/misc/pvh.pandoc` and `xen/include/public/arch-x86/hvm/start_info.h`.

use std::io::{Read, Seek};

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{Elf, KernelLoader};
use linux_loader::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::{GuestAddress, GuestMemoryMmap, ReadVolatile};

use super::{BootError, Entry, Image, Initrd, memory_map, write};
use crate::layout;

/// A loaded kernel.
pub(super) struct Kernel {
    /// Where it begins.
    pub entry: Entry,
    /// End of what was loaded.
    pub end: u64,
}

pub(super) fn load<F: Read + ReadVolatile + Seek>(
    memory: &GuestMemoryMmap,
    image: &mut Image<F>,
) -> Result<Kernel, BootError> {
    let lowest = GuestAddress(layout::HIGH_MEMORY);
    let loaded = Elf::load(memory, None, &mut image.file, Some(lowest));
    let loaded = loaded.map_err(|source| BootError::Load {
        path: image.path.clone(),
        source,
    })?;
    let entry = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(at) => Entry::Pvh { rip: at.0 },
        _ => Entry::Linux64 {
            rip: loaded.kernel_load.0,
        },
    };
    Ok(Kernel {
        entry,
        end: loaded.kernel_end,
    })
}

/// The setup header that a vmlinux, which has none, would have had.
pub(super) fn header() -> setup_header {
    setup_header {
        boot_flag: 0xaa55,
        header: u32::from_le_bytes(*b"HdrS"),
        version: 0x020c,
        kernel_alignment: 0x20_0000,
        ..Default::default()
    }
}

/// Writes the PVH start information, with the memory map and the initrd as the only module.
pub(super) fn write_start_info(
    memory: &GuestMemoryMmap,
    initrd: Option<Initrd>,
    rsdp: u64,
) -> Result<(), BootError> {
    const MAGIC: u32 = 0x336e_c578;
    const WHAT: &str = "PVH start information";
    let modules = layout::PVH_START_INFO + size_of::<hvm_start_info>() as u64;
    let map = modules + size_of::<hvm_modlist_entry>() as u64;
    let regions = memory_map(memory);
    let info = hvm_start_info {
        magic: MAGIC,
        version: 1,
        nr_modules: initrd.is_some().into(),
        modlist_paddr: if initrd.is_some() { modules } else { 0 },
        cmdline_paddr: layout::CMDLINE,
        rsdp_paddr: rsdp,
        memmap_paddr: map,
        memmap_entries: regions.len() as u32,
        ..Default::default()
    };
    write(memory, WHAT, info, layout::PVH_START_INFO)?;
    if let Some(Initrd { base, size }) = initrd {
        let module = hvm_modlist_entry {
            paddr: base,
            size,
            ..Default::default()
        };
        write(memory, WHAT, module, modules)?;
    }
    let mut at = map;
    for region in regions {
        let entry = hvm_memmap_table_entry {
            addr: region.base,
            size: region.len,
            type_: region.kind as u32,
            reserved: 0,
        };
        write(memory, WHAT, entry, at)?;
        at += size_of::<hvm_memmap_table_entry>() as u64;
    }
    Ok(())
}
