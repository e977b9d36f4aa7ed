//! Where everything is in the guest's physical address space and port space.
//!
//! Nothing comes in and nothing goes wrong here: these are constants, and one function that splits memory around the hole
//! below 4 GiB. Everything the guest can see of them it learns from ACPI, the memory map and PCI, so they may change from one
//! version to the next; a running guest keeps the ones it booted with.
//!
//! ```text
//!            0 ┬ boot data: page tables, boot parameters, command line
//!     0xa_0000 ┼ hole
//!     0xe_0000 ┼ ACPI tables; 0xf_0000 SMBIOS tables
//!    0x10_0000 ┼ kernel, then RAM up to 3 GiB; the initrd is at its end
//!  0xc000_0000 ┼ 32-bit window for PCI memory (512 MiB)
//!  0xe000_0000 ┼ PCI configuration space (ECAM), a mebibyte a bus
//!  0xfec0_0000 ┼ I/O APIC; 0xfee0_0000 local APICs; 0xfffb_c000 pages that KVM wants for itself
//! 0x1_0000_0000┼ the rest of RAM
//!        above ┴ 64-bit window for PCI memory
//! ```

use std::ops::Range;

use crate::pci::{Place, SLOTS};

/// One kibibyte, mebibyte, gibibyte in bytes.
pub const KIB: u64 = 1 << 10;
/// See [`KIB`].
pub const MIB: u64 = 1 << 20;
/// See [`KIB`].
pub const GIB: u64 = 1 << 30;

// --- memory --------------------------------------------------------------------------------------------------------------

/// The global descriptor table that the boot processor starts with.
pub const BOOT_GDT: u64 = 0x500;
/// The interrupt descriptor table that the boot processor starts with: empty.
pub const BOOT_IDT: u64 = 0x530;
/// PVH's `hvm_start_info`, its module list and its memory map.
pub const PVH_START_INFO: u64 = 0x6000;
/// Linux's `struct boot_params`, one page.
pub const ZERO_PAGE: u64 = 0x7000;
/// Top of the boot processor's stack; it grows down.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Page tables that map the first 4 GiB to themselves: one page of level 4, one of level 3, four of level 2.
pub const BOOT_PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line, ending in a zero byte.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line with its zero byte, in bytes: what Linux keeps on x86 (`COMMAND_LINE_SIZE`).
pub const CMDLINE_SIZE: usize = 2048;
/// End of conventional memory. Nothing above it is RAM until [`HIGH_MEMORY`].
pub const LOW_MEMORY_END: u64 = 0xa_0000;
/// The ACPI tables, the root pointer first, where Linux also searches for it.
pub const ACPI: u64 = 0xe_0000;
/// Room for the ACPI tables.
pub const ACPI_SIZE: u64 = 0x1_0000;
/// The SMBIOS tables, the entry point first, where Linux searches for it.
pub const SMBIOS: u64 = 0xf_0000;
/// Room for the SMBIOS tables.
pub const SMBIOS_SIZE: u64 = 0x1_0000;
/// Where bzImage kernels are loaded, and RAM that nothing else claims begins.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// RAM below 4 GiB ends here at the latest; the hole for devices begins.
pub const HOLE: Range<u64> = 0xc000_0000..0x1_0000_0000;
/// PCI memory that a 32-bit BAR can address.
pub const PCI_MMIO32: Range<u64> = 0xc000_0000..0xe000_0000;
/// Room in [`PCI_MMIO32`] for each slot of bus 0, and for each bus behind a root port, whose window cannot be smaller.
pub const PCI_BAR_STRIDE: u64 = MIB;
/// Room in that for the first memory BAR of each of the slot's functions.
const PCI_BAR_FUNCTION_STRIDE: u64 = PCI_BAR_STRIDE / 8;
/// PCI configuration space begins here: a bus has 32 slots with 8 functions of 4 KiB.
pub const PCI_ECAM: u64 = 0xe000_0000;
/// What a bus has of [`PCI_ECAM`].
pub const PCI_ECAM_BUS: u64 = MIB;
/// The I/O APIC, emulated by the kernel.
pub const IO_APIC: u64 = 0xfec0_0000;
/// The local APICs, emulated by the kernel.
pub const LOCAL_APIC: u64 = 0xfee0_0000;
/// One page that KVM uses for its identity map (Intel).
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages that KVM uses for its task state segment (Intel).
pub const KVM_TSS: u64 = 0xfffb_d000;
/// Size of the window for 64-bit BARs.
pub const PCI_MMIO64_SIZE: u64 = 32 * GIB;

/// The configuration space of a machine whose buses are numbered from 0 to `last_bus`.
pub fn pci_ecam(last_bus: u8) -> Range<u64> {
    PCI_ECAM..PCI_ECAM + (u64::from(last_bus) + 1) * PCI_ECAM_BUS
}

/// The address that the machine gives the first memory BAR of the function at `place`, where that is a slot of bus 0 or the one of another bus. The guest may move it.
pub fn pci_bar(place: Place) -> u64 {
    let stride = match place.bus() {
        0 => u64::from(place.slot()),
        bus => SLOTS as u64 - 1 + u64::from(bus),
    };
    PCI_MMIO32.start
        + stride * PCI_BAR_STRIDE
        + u64::from(place.function()) * PCI_BAR_FUNCTION_STRIDE
}

/// What is RAM in a guest with `size` bytes: what fits below the hole, then the rest above 4 GiB.
pub fn ram(size: u64) -> Vec<Range<u64>> {
    let low = size.min(HOLE.start);
    let high = size - low;
    let above = HOLE.end..HOLE.end.saturating_add(high);
    [0..low, above]
        .into_iter()
        .filter(|range| !range.is_empty())
        .collect()
}

/// The window for 64-bit BARs in a guest with `size` bytes of RAM: above all of it, aligned to its own size.
pub fn pci_mmio64(size: u64) -> Range<u64> {
    let end = ram(size).last().map_or(HOLE.end, |r| r.end).max(HOLE.end);
    let start = end.next_multiple_of(PCI_MMIO64_SIZE);
    start..start + PCI_MMIO64_SIZE
}

// --- ports ---------------------------------------------------------------------------------------------------------------

/// Keyboard controller: data, and command/status. Only its reset command does something.
pub const PORT_I8042: Range<u16> = 0x60..0x65;
/// The clock: index and data.
pub const PORT_RTC: Range<u16> = 0x70..0x72;
/// The first serial port, a 16550A.
pub const PORT_COM1: Range<u16> = 0x3f8..0x400;
/// The panic device's register.
pub const PORT_PVPANIC: Range<u16> = 0x505..0x506;
/// ACPI PM1a event block: status, then enable, 16 bits each.
pub const PORT_PM1_EVENT: Range<u16> = 0x600..0x604;
/// ACPI PM1a control block. Writing `SLP_EN | SLP_TYP 5` ends the machine.
pub const PORT_PM1_CONTROL: Range<u16> = 0x604..0x606;
/// ACPI power management timer: 32 bits at 3.579545 MHz.
pub const PORT_PM_TIMER: Range<u16> = 0x608..0x60c;
/// ACPI reset register. Writing [`RESET_VALUE`] resets the machine.
pub const PORT_RESET: Range<u16> = 0x60c..0x60d;
/// What the guest writes to [`PORT_RESET`].
pub const RESET_VALUE: u8 = 1;
/// PCI configuration address (0xcf8) and data (0xcfc).
pub const PORT_PCI: Range<u16> = 0xcf8..0xd00;

/// `SLP_TYP` of the soft-off state, as the DSDT's `_S5` says.
pub const SLEEP_TYPE_S5: u16 = 5;

// --- interrupts ----------------------------------------------------------------------------------------------------------

/// The first serial port's line.
pub const IRQ_COM1: u32 = 4;
/// The clock's line. The clock never raises it; Linux is told so by the FADT.
pub const IRQ_RTC: u32 = 8;
/// ACPI's system control interrupt: level-triggered, active high.
pub const IRQ_SCI: u32 = 9;

/// Most vcpus of a guest: their local APIC identifiers fit in eight bits, less the I/O APIC's and the broadcast one.
pub const MAX_VCPUS: u32 = 240;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_guest_has_one_range() {
        assert!(ram(64 * MIB).into_iter().eq(std::iter::once(0..64 * MIB)));
        assert!(ram(3 * GIB).into_iter().eq(std::iter::once(0..3 * GIB)));
    }

    #[test]
    fn memory_beyond_the_hole_continues_at_four_gibibytes() {
        assert_eq!(ram(5 * GIB), vec![0..3 * GIB, 4 * GIB..6 * GIB]);
    }

    #[test]
    fn the_64_bit_window_never_overlaps_memory_or_the_hole() {
        for size in [
            MIB,
            3 * GIB,
            4 * GIB,
            31 * GIB,
            32 * GIB,
            100 * GIB,
            1024 * GIB,
        ] {
            let window = pci_mmio64(size);
            assert!(window.start >= HOLE.end);
            assert!(ram(size).iter().all(|r| r.end <= window.start));
            assert_eq!(window.start % PCI_MMIO64_SIZE, 0);
        }
    }

    #[test]
    fn every_place_has_a_bar_of_its_own_within_the_window_and_every_bus_its_configuration_space() {
        let slots = (0..32).map(|slot| Place::new(0, slot, 7));
        let buses = (1..=255).map(|bus| Place::new(bus, 0, 7));
        let bars: Vec<u64> = slots.chain(buses).map(pci_bar).collect();
        assert!(
            bars.windows(2)
                .all(|pair| pair[1] - pair[0] == PCI_BAR_STRIDE)
        );
        assert!(bars[bars.len() - 1] + PCI_BAR_FUNCTION_STRIDE <= PCI_MMIO32.end);
        assert_eq!(pci_bar(Place::new(0, 0, 1)), PCI_MMIO32.start + 128 * KIB);
        assert!(pci_ecam(255).end <= IO_APIC && pci_ecam(0).start >= PCI_MMIO32.end);
        assert_eq!(pci_ecam(1).end - PCI_ECAM, 2 * MIB);
    }
}
