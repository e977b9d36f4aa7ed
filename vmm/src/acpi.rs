//! The ACPI tables: what the machine has that the guest cannot find out by looking.
//!
//! In come the vcpus' APIC identifiers, the memory and the number of PCI's last bus; out go the tables as one piece of memory at [`layout::ACPI`], the root pointer
//! first. Pure but for the last step, which writes them. Written for ACPI 6.5; all addresses come from [`layout`].
//!
//! ```text
//! RSDP ─► XSDT ─┬► FADT ─► DSDT   fixed hardware: power button, soft off, reset, timer; devices: PCI bridge, serial port
//!               ├► MADT           processors and interrupt controllers
//!               ├► MCFG           PCI configuration space
//!               └► SRAT, SLIT     which processors and memory are near each other, where the guest has cells
//! ```

use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace as GasSpace, GAS};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use thiserror::Error;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use crate::config::{self, ELSEWHERE, HERE};
use crate::devices::rtc;
use crate::layout;
use crate::memory;

const OEM: [u8; 6] = *b"VIREO ";
const TABLE: [u8; 8] = *b"VIREOVMM";
const REVISION: u32 = 1;

/// Why the tables could not be written.
#[derive(Debug, Error)]
pub enum AcpiError {
    /// They outgrew their place.
    #[error("the acpi tables have {0} bytes, more than there is room for")]
    TooLong(usize),
    /// The guest's memory ends before them.
    #[error("could not write the acpi tables into the guest's memory: it is too small")]
    Write,
}

/// What the tables tell of.
#[derive(Debug, Clone, Copy)]
pub struct Board<'a> {
    /// APIC identifiers, one a processor.
    pub processors: &'a [u8],
    /// The memory.
    pub memory: &'a config::Memory,
    /// There is a panic device at its port.
    pub pvpanic: bool,
    /// Number of the last PCI bus.
    pub last_bus: u8,
}

/// Writes the tables into `memory`; gives the address of the root pointer.
pub fn write(memory: &GuestMemoryMmap, board: &Board<'_>) -> Result<u64, AcpiError> {
    let tables = tables(board);
    if tables.len() as u64 > layout::ACPI_SIZE {
        return Err(AcpiError::TooLong(tables.len()));
    }
    memory
        .write_slice(&tables, GuestAddress(layout::ACPI))
        .map_err(|_| AcpiError::Write)?;
    Ok(layout::ACPI)
}

/// All tables as they lie in memory from [`layout::ACPI`].
fn tables(board: &Board<'_>) -> Vec<u8> {
    let mut image = vec![0; Rsdp::len()];
    let mut place = |table: &[u8]| {
        image.resize(image.len().next_multiple_of(16), 0);
        let at = layout::ACPI + image.len() as u64;
        image.extend(table);
        at
    };
    let dsdt = place(&dsdt(board));
    let fadt = place(&fadt(dsdt));
    let madt = place(madt(board.processors).as_slice());
    let mcfg = place(&mcfg(board.last_bus));
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    let mut entries = vec![fadt, madt, mcfg];
    if !board.memory.cells.is_empty() {
        entries.push(place(srat(board).as_slice()));
        entries.push(place(slit(board.memory).as_slice()));
    }
    for table in entries {
        xsdt.add_entry(table);
    }
    let xsdt = place(&bytes(&xsdt));
    let rsdp = bytes(&Rsdp::new(OEM, xsdt));
    image.splice(..rsdp.len(), rsdp);
    image
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// Fixed hardware.
fn fadt(dsdt: u64) -> Vec<u8> {
    /// Devices that a legacy system would have; no keyboard controller (bit 1) and no VGA (bit 2).
    const LEGACY_DEVICES: u16 = 1;
    const NO_VGA: u16 = 1 << 2;
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup);
    // The 32-bit address is for guests that look there first.
    fadt.dsdt = (dsdt as u32).into();
    fadt.sci_int = (layout::IRQ_SCI as u16).into();
    let len = |ports: std::ops::Range<u16>| (ports.end - ports.start) as u8;
    fadt.pm1a_evt_blk = u32::from(layout::PORT_PM1_EVENT.start).into();
    fadt.pm1_evt_len = len(layout::PORT_PM1_EVENT);
    fadt.pm1a_cnt_blk = u32::from(layout::PORT_PM1_CONTROL.start).into();
    fadt.pm1_cnt_len = len(layout::PORT_PM1_CONTROL);
    fadt.pm_tmr_blk = u32::from(layout::PORT_PM_TIMER.start).into();
    fadt.pm_tmr_len = len(layout::PORT_PM_TIMER);
    fadt.x_pm1a_evt_blk = port(layout::PORT_PM1_EVENT, AccessSize::WordAccess);
    fadt.x_pm1a_cnt_blk = port(layout::PORT_PM1_CONTROL, AccessSize::WordAccess);
    fadt.x_pm_tmr_blk = port(layout::PORT_PM_TIMER, AccessSize::DwordAccess);
    fadt.reset_reg = port(layout::PORT_RESET, AccessSize::ByteAccess);
    fadt.reset_value = layout::RESET_VALUE;
    fadt.century = rtc::CENTURY;
    fadt.iapc_boot_arch = (LEGACY_DEVICES | NO_VGA).into();
    // No C2 and C3 states.
    fadt.p_lvl2_lat = 101.into();
    fadt.p_lvl3_lat = 1001.into();
    bytes(&fadt.finalize())
}

fn port(ports: std::ops::Range<u16>, access: AccessSize) -> GAS {
    let bits = 8 * (ports.end - ports.start) as u8;
    GAS::new(GasSpace::SystemIo, bits, 0, access, ports.start.into())
}

/// Processors and interrupt controllers.
fn madt(processors: &[u8]) -> Sdt {
    const PC_COMPATIBLE: u32 = 1;
    const EDGE_HIGH: u16 = 0;
    const LEVEL_HIGH: u16 = 0b1101;
    let mut madt = Sdt::new(*b"APIC", 36, 6, OEM, TABLE, REVISION);
    madt.append_slice(&(layout::LOCAL_APIC as u32).to_le_bytes());
    madt.append_slice(&PC_COMPATIBLE.to_le_bytes());
    for (number, &id) in (0..=u8::MAX).zip(processors) {
        const ENABLED: u8 = 1;
        madt.append_slice(&[0, 8, number, id, ENABLED, 0, 0, 0]);
    }
    let [a, b, c, d] = (layout::IO_APIC as u32).to_le_bytes();
    madt.append_slice(&[1, 12, 0, 0, a, b, c, d, 0, 0, 0, 0]);
    // The timer is wired to pin 2, the system control interrupt is level-triggered.
    for (irq, pin, flags) in [
        (0, 2, EDGE_HIGH),
        (layout::IRQ_SCI as u8, layout::IRQ_SCI as u8, LEVEL_HIGH),
    ] {
        let [low, high] = flags.to_le_bytes();
        madt.append_slice(&[2, 10, 0, irq, pin, 0, 0, 0, low, high]);
    }
    // Every processor's second pin is the NMI.
    madt.append_slice(&[4, 6, 0xff, 0, 0, 1]);
    madt
}

fn mcfg(last_bus: u8) -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM, TABLE, REVISION);
    mcfg.add_ecam(layout::PCI_ECAM, 0, 0, last_bus);
    bytes(&mcfg)
}

/// Which processors and which memory are in which cell (ACPI 6.5, section 5.2.16).
fn srat(board: &Board<'_>) -> Sdt {
    const PROCESSOR: [u8; 2] = [0, 16];
    const MEMORY: [u8; 2] = [1, 40];
    const ENABLED: u32 = 1;
    let mut srat = Sdt::new(*b"SRAT", 36, 3, OEM, TABLE, REVISION);
    srat.append_slice(&1_u32.to_le_bytes());
    srat.append_slice(&[0; 8]);
    for (cell, stated) in (0_u32..).zip(&board.memory.cells) {
        let [low, high @ ..] = cell.to_le_bytes();
        for vcpu in &stated.vcpus {
            let Some(&id) = board.processors.get(*vcpu as usize) else {
                continue;
            };
            srat.append_slice(&PROCESSOR);
            srat.append_slice(&[low, id]);
            srat.append_slice(&ENABLED.to_le_bytes());
            srat.append_slice(&[0]);
            srat.append_slice(&high);
            srat.append_slice(&[0; 4]);
        }
    }
    for (range, cell) in memory::cells(board.memory) {
        srat.append_slice(&MEMORY);
        srat.append_slice(&(cell as u32).to_le_bytes());
        srat.append_slice(&[0; 2]);
        srat.append_slice(&range.start.to_le_bytes());
        srat.append_slice(&(range.end - range.start).to_le_bytes());
        srat.append_slice(&[0; 4]);
        srat.append_slice(&ENABLED.to_le_bytes());
        srat.append_slice(&[0; 8]);
    }
    srat
}

/// How far the cells are from each other (ACPI 6.5, section 5.2.17).
fn slit(memory: &config::Memory) -> Sdt {
    let count = memory.cells.len();
    let mut slit = Sdt::new(*b"SLIT", 36, 1, OEM, TABLE, REVISION);
    slit.append_slice(&(count as u64).to_le_bytes());
    for (from, cell) in memory.cells.iter().enumerate() {
        let far = |to: usize| {
            let usual = if from == to { HERE } else { ELSEWHERE };
            cell.distances.get(to).copied().unwrap_or(usual)
        };
        slit.append_slice(&(0..count).map(far).collect::<Vec<_>>());
    }
    slit
}

/// The devices that nothing else describes.
fn dsdt(board: &Board<'_>) -> Vec<u8> {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION);
    dsdt.append_slice(&bytes(&pci_bridge(board)));
    dsdt.append_slice(&bytes(&Motherboard {
        ecam: layout::pci_ecam(board.last_bus),
    }));
    dsdt.append_slice(&bytes(&SerialPort));
    if board.pvpanic {
        dsdt.append_slice(&bytes(&PanicDevice));
    }
    dsdt.append_slice(&bytes(&SoftOff));
    dsdt.as_slice().to_vec()
}

/// The PCI host bridge, with the windows of ports and memory that its devices may use.
struct Bridge {
    mmio64: std::ops::Range<u64>,
    last_bus: u8,
}

fn pci_bridge(board: &Board<'_>) -> Bridge {
    Bridge {
        mmio64: layout::pci_mmio64(board.memory.size.0),
        last_bus: board.last_bus,
    }
}

impl Aml for Bridge {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        use aml::{AddressSpace, AddressSpaceCacheable::NotCacheable};
        let mmio32 = layout::PCI_MMIO32;
        let pci = layout::PORT_PCI;
        aml::Device::new(
            "_SB_.PCI0".into(),
            vec![
                // A bridge of plain PCI: one of PCI Express would have to negotiate (_OSC) features that are not there.
                &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0A03")),
                &aml::Name::new("_UID".into(), &aml::ZERO),
                &aml::Name::new("_SEG".into(), &aml::ZERO),
                &aml::Name::new("_BBN".into(), &aml::ZERO),
                &aml::Name::new(
                    "_CRS".into(),
                    &aml::ResourceTemplate::new(vec![
                        &AddressSpace::new_bus_number(0_u16, self.last_bus.into()),
                        &aml::IO::new(pci.start, pci.start, 1, 8),
                        &AddressSpace::new_io(0_u16, pci.start - 1, None),
                        &AddressSpace::new_io(pci.end, 0xffff, None),
                        &AddressSpace::new_memory(
                            NotCacheable,
                            true,
                            mmio32.start as u32,
                            (mmio32.end - 1) as u32,
                            None,
                        ),
                        &AddressSpace::new_memory(
                            NotCacheable,
                            true,
                            self.mmio64.start,
                            self.mmio64.end - 1,
                            None,
                        ),
                    ]),
                ),
            ],
        )
        .to_aml_bytes(sink);
    }
}

/// Claims PCI's configuration space, without which Linux does not trust the MCFG.
struct Motherboard {
    ecam: std::ops::Range<u64>,
}

impl Aml for Motherboard {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let ecam = &self.ecam;
        let (start, len) = (ecam.start as u32, (ecam.end - ecam.start) as u32);
        aml::Device::new(
            "_SB_.MBRD".into(),
            vec![
                &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0C02")),
                &aml::Name::new("_UID".into(), &aml::ZERO),
                &aml::Name::new(
                    "_CRS".into(),
                    &aml::ResourceTemplate::new(vec![&aml::Memory32Fixed::new(true, start, len)]),
                ),
            ],
        )
        .to_aml_bytes(sink);
    }
}

struct SerialPort;

impl Aml for SerialPort {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let ports = layout::PORT_COM1;
        aml::Device::new(
            "_SB_.COM1".into(),
            vec![
                &aml::Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
                &aml::Name::new("_UID".into(), &aml::ZERO),
                &aml::Name::new(
                    "_CRS".into(),
                    &aml::ResourceTemplate::new(vec![
                        &aml::IO::new(ports.start, ports.start, 1, 8),
                        &aml::Interrupt::new(true, true, false, false, layout::IRQ_COM1),
                    ]),
                ),
            ],
        )
        .to_aml_bytes(sink);
    }
}

/// The panic device, by the identifier under which guests know it.
struct PanicDevice;

impl Aml for PanicDevice {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        /// Present, decoding, working; not to be shown to people.
        const STATUS: u8 = 0b1011;
        let port = layout::PORT_PVPANIC.start;
        aml::Device::new(
            "_SB_.PEVT".into(),
            vec![
                &aml::Name::new("_HID".into(), &"QEMU0001"),
                &aml::Name::new("_STA".into(), &STATUS),
                &aml::Name::new(
                    "_CRS".into(),
                    &aml::ResourceTemplate::new(vec![&aml::IO::new(port, port, 1, 1)]),
                ),
            ],
        )
        .to_aml_bytes(sink);
    }
}

/// What to write to the control register for soft off.
struct SoftOff;

impl Aml for SoftOff {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        let sleep_type = layout::SLEEP_TYPE_S5 as u8;
        let package = aml::Package::new(vec![&sleep_type, &sleep_type, &aml::ZERO, &aml::ZERO]);
        aml::Name::new("_S5_".into(), &package).to_aml_bytes(sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bytes;

    fn memory(size: u64) -> config::Memory {
        config::Memory {
            size: Bytes(size),
            ..config::Memory::default()
        }
    }

    fn cell(size: u64, vcpus: &[u32], distances: &[u8]) -> config::Cell {
        config::Cell {
            size: Bytes(size),
            vcpus: vcpus.to_vec(),
            distances: distances.to_vec(),
            host: None,
        }
    }

    fn board<'a>(processors: &'a [u8], memory: &'a config::Memory) -> Board<'a> {
        Board {
            processors,
            memory,
            pvpanic: true,
            last_bus: 3,
        }
    }

    #[test]
    fn the_panic_device_is_told_of_where_there_is_one() {
        let memory = memory(1 << 30);
        let with = board(&[0], &memory);
        let named = |board: &Board<'_>| dsdt(board).windows(8).any(|name| name == b"QEMU0001");
        assert!(named(&with));
        assert!(!named(&Board {
            pvpanic: false,
            ..with
        }));
    }

    fn u32_at(image: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(image[at..at + 4].try_into().unwrap())
    }

    fn u64_at(image: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
    }

    fn table(image: &[u8], at: u64) -> &[u8] {
        let at = (at - layout::ACPI) as usize;
        &image[at..at + u32_at(image, at + 4) as usize]
    }

    fn sum(table: &[u8]) -> u8 {
        table.iter().fold(0, |sum, &b| sum.wrapping_add(b))
    }

    #[test]
    fn every_table_is_found_from_the_root_and_adds_up() {
        let image = tables(&board(&[0, 1], &memory(5 << 30)));
        assert_eq!(&image[..8], b"RSD PTR ");
        assert_eq!((sum(&image[..20]), sum(&image[..36])), (0, 0));
        let xsdt = table(&image, u64_at(&image, 24));
        assert_eq!(sum(xsdt), 0);
        let mut found = Vec::new();
        for entry in xsdt[36..].chunks(8) {
            let table = table(&image, u64_at(entry, 0));
            assert_eq!(sum(table), 0);
            found.push(table[..4].to_vec());
            if table.starts_with(b"MCFG") {
                assert_eq!(
                    (u64_at(table, 44), table[54..56].to_vec()),
                    (layout::PCI_ECAM, vec![0, 3])
                );
            }
            if table.starts_with(b"FACP") {
                let dsdt = u64_at(table, 140);
                assert_eq!(u64::from(u32_at(table, 40)), dsdt);
                assert_eq!(sum(self::table(&image, dsdt)), 0);
            }
        }
        assert_eq!(found, [b"FACP", b"APIC", b"MCFG"]);
    }

    #[test]
    fn the_largest_guest_has_tables_that_fit() {
        let count = config::MOST_CELLS as u64;
        let size = config::Memory::MOST.0;
        let vcpus: Vec<u32> = (0..layout::MAX_VCPUS).collect();
        let share = vcpus.len().div_ceil(config::MOST_CELLS);
        let mut shares = vcpus.chunks(share);
        let mut next = || cell(size / count, shares.next().unwrap_or(&[]), &[]);
        let memory = config::Memory {
            cells: (0..count).map(|_| next()).collect(),
            ..memory(size)
        };
        let processors = [0; layout::MAX_VCPUS as usize];
        let image = tables(&board(&processors, &memory));
        assert!(image.len() as u64 <= layout::ACPI_SIZE);
    }

    #[test]
    fn cells_are_told_with_their_processors_their_memory_and_their_distances() {
        let memory = config::Memory {
            cells: vec![cell(1 << 30, &[0, 2], &[10, 31]), cell(3 << 30, &[1], &[])],
            ..memory(4 << 30)
        };
        let image = tables(&board(&[0, 4, 8], &memory));
        let xsdt = table(&image, u64_at(&image, 24));
        let mut found = xsdt[36..]
            .chunks(8)
            .map(|entry| table(&image, u64_at(entry, 0)));
        let mut named = |name: &[u8; 4]| found.find(|table| table.starts_with(name)).unwrap();
        let srat = named(b"SRAT");
        assert_eq!(sum(srat), 0);
        let mut entries = Vec::new();
        let mut at = 48;
        while let Some(&[kind, len]) = srat.get(at..at + 2) {
            entries.push(match kind {
                0 => (u64::from(srat[at + 2]), u64::from(srat[at + 3]), 0),
                _ => (
                    u64::from(u32_at(srat, at + 2)),
                    u64_at(srat, at + 8),
                    u64_at(srat, at + 16),
                ),
            });
            at += usize::from(len);
        }
        let gib = 1 << 30;
        let processors = [(0, 0, 0), (0, 8, 0), (1, 4, 0)];
        let ranges = [(0, 0, gib), (1, gib, 2 * gib), (1, 4 * gib, gib)];
        assert_eq!(entries, [processors, ranges].concat());
        assert_eq!(at, srat.len());
        let slit = named(b"SLIT");
        let distances = &[10, 31, 20, 10][..];
        assert_eq!(
            (sum(slit), u64_at(slit, 36), &slit[44..]),
            (0, 2, distances)
        );
    }

    #[test]
    fn each_processor_is_listed_once() {
        let madt = madt(&[0, 1, 2]);
        let mut at = 44;
        let mut ids = Vec::new();
        while let Some(&[kind, len]) = madt.as_slice().get(at..at + 2) {
            if kind == 0 {
                ids.push(madt.as_slice()[at + 3]);
            }
            at += usize::from(len);
        }
        assert_eq!(ids, [0, 1, 2]);
        assert_eq!(at, madt.len());
    }
}
