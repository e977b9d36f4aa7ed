//! Linux bzImages, entered by Linux's 64-bit boot protocol.
//!
//! In comes the file; out go its setup header, the entry point and the memory that the kernel needs while it unpacks itself. See
//! `Documentation/arch/x86/boot.rst` in Linux.

use std::io::{Read, Seek};

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, KernelLoader, KernelLoaderResult};
use vm_memory::{GuestAddress, GuestMemoryMmap, ReadVolatile};

use super::{BootError, Image};
use crate::layout;

/// `XLF_KERNEL_64`: the kernel has an entry in 64-bit mode, 0x200 bytes after its beginning.
const KERNEL_64: u16 = 1;
const ENTRY_64: u64 = 0x200;

/// A loaded kernel.
pub(super) struct Kernel {
    pub header: setup_header,
    /// The first instruction.
    pub entry: u64,
    /// End of the memory that the kernel uses before it reads the memory map.
    pub end: u64,
    /// Last address that a byte of the initrd may have.
    pub initrd_max: u64,
}

pub(super) fn load<F: Read + ReadVolatile + Seek>(
    memory: &GuestMemoryMmap,
    image: &mut Image<F>,
) -> Result<Kernel, BootError> {
    let at = GuestAddress(layout::HIGH_MEMORY);
    let loaded = BzImage::load(memory, Some(at), &mut image.file, Some(at));
    let loaded = loaded.map_err(|source| BootError::Load {
        path: image.path.clone(),
        source,
    })?;
    let KernelLoaderResult {
        kernel_load,
        kernel_end,
        setup_header: Some(header),
        ..
    } = loaded
    else {
        return Err(BootError::UnknownKernel(image.path.clone()));
    };
    if header.version < 0x020c || header.xloadflags & KERNEL_64 == 0 {
        return Err(BootError::No64BitEntry(image.path.clone()));
    }
    // The kernel unpacks itself at its preferred address, or where it was loaded if that is higher.
    let unpacked = kernel_load.0.max(header.pref_address);
    Ok(Kernel {
        entry: kernel_load.0 + ENTRY_64,
        end: kernel_end.max(unpacked.saturating_add(u64::from(header.init_size))),
        initrd_max: u64::from(header.initrd_addr_max),
        header,
    })
}
