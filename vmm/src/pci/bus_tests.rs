use super::*;
use crate::pci::{Bar, ConfigSpace, Identity};
use proptest::prelude::*;

/// A function with 4 KiB of memory that remembers where it was mapped.
struct Card {
    config: ConfigSpace,
    memory: Vec<u8>,
    at: Option<u64>,
}

impl Card {
    fn new() -> Arc<Mutex<Self>> {
        let identity = Identity {
            vendor: 0x1234,
            device: 0x5678,
            class: 0xff_00_00,
            revision: 0,
            subsystem: (0, 0),
        };
        let config = ConfigSpace::new(
            identity,
            [Some(Bar { len: 0x1000 }), None, None, None, None, None],
        );
        Arc::new(Mutex::new(Self {
            config,
            memory: vec![0; 0x1000],
            at: None,
        }))
    }
}

impl PciFunction for Card {
    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        assert!(
            !data.is_empty() && usize::from(offset % 4) + data.len() <= 4 && offset < 4096,
            "{offset:#x}+{}",
            data.len()
        );
        self.config.read(offset, data);
    }
    fn write_config(&mut self, offset: u16, data: &[u8]) {
        assert!(
            !data.is_empty() && usize::from(offset % 4) + data.len() <= 4 && offset < 4096,
            "{offset:#x}+{}",
            data.len()
        );
        self.config.write(offset, data);
    }
    fn ranges(&self) -> Vec<BarRange> {
        self.config.ranges()
    }
    fn mapped(&mut self, bar: usize, base: Option<u64>) {
        assert_eq!(bar, 0);
        self.at = base;
    }
    fn read_bar(&mut self, _: usize, offset: u64, data: &mut [u8]) {
        data.copy_from_slice(&self.memory[offset as usize..][..data.len()]);
    }
    fn write_bar(&mut self, _: usize, offset: u64, data: &[u8]) {
        self.memory[offset as usize..][..data.len()].copy_from_slice(data);
    }
    fn reset(&mut self) {
        self.config.reset();
    }
}

struct Rig {
    memory: Arc<Bus>,
    bus: Arc<Mutex<PciBus>>,
    ports: PciPorts,
    ecam: PciEcam,
    card: Arc<Mutex<Card>>,
}

fn rig() -> Rig {
    let memory = Arc::new(Bus::new());
    let bus = Arc::new(Mutex::new(PciBus::new(Arc::clone(&memory))));
    let card = Card::new();
    lock(&bus).insert(3, card.clone()).unwrap();
    Rig {
        memory,
        ports: PciPorts::new(bus.clone()),
        ecam: PciEcam::new(bus.clone()),
        bus,
        card,
    }
}

const SLOT_3: u64 = 3 << 15;

impl Rig {
    fn read32(&mut self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.ecam.read(offset, &mut data);
        u32::from_le_bytes(data)
    }
    fn write32(&mut self, offset: u64, value: u32) {
        self.ecam.write(offset, &value.to_le_bytes());
    }
}

#[test]
fn both_ways_lead_to_the_same_registers() {
    let mut rig = rig();
    assert_eq!(rig.read32(SLOT_3), 0x5678_1234);
    assert_eq!(rig.read32(0), 0x0008_1b36, "host bridge");
    rig.ports
        .write(0, &(0x8000_0000u32 | 3 << 11).to_le_bytes());
    let mut device = [0; 2];
    rig.ports.read(6, &mut device);
    assert_eq!(u16::from_le_bytes(device), 0x5678);
}

#[test]
fn empty_slots_other_functions_and_other_buses_read_as_ones() {
    let mut rig = rig();
    for offset in [4 << 15, SLOT_3 | 1 << 12, 1 << 20, u64::MAX - 8] {
        assert_eq!(rig.read32(offset), !0, "{offset:#x}");
    }
    for address in [
        0x8000_0000u32 | 4 << 11,
        0x8000_0000 | 3 << 11 | 1 << 8,
        0x8001_0000 | 3 << 11,
        3 << 11,
    ] {
        rig.ports.write(0, &address.to_le_bytes());
        let mut data = [0; 4];
        rig.ports.read(4, &mut data);
        assert_eq!(data, [0xff; 4], "{address:#x}");
    }
}

#[test]
fn a_function_answers_where_the_layout_put_it_once_the_guest_turns_memory_on() {
    let mut rig = rig();
    let base = layout::PCI_MMIO32.start + 3 * layout::PCI_BAR_STRIDE;
    assert!(!rig.memory.write(base, &[1]));
    rig.write32(SLOT_3 + 4, 2);
    assert!(rig.memory.write(base + 8, &[42]));
    assert_eq!(lock(&rig.card).memory[8], 42);
    assert_eq!(lock(&rig.card).at, Some(base));
}

#[test]
fn a_moved_register_answers_in_the_new_place_only() {
    let mut rig = rig();
    rig.write32(SLOT_3 + 4, 2);
    let old = lock(&rig.card).at.unwrap();
    rig.write32(SLOT_3 + 0x10, 0xd000_0000);
    assert!(!rig.memory.write(old, &[1]));
    assert!(rig.memory.write(0xd000_0000, &[1]));
    rig.write32(SLOT_3 + 4, 0);
    assert!(!rig.memory.write(0xd000_0000, &[1]));
    assert_eq!(lock(&rig.card).at, None);
}

#[test]
fn a_register_moved_onto_another_device_does_not_take_its_place() {
    let mut rig = rig();
    let other = Card::new();
    lock(&rig.bus).insert(4, other.clone()).unwrap();
    rig.write32(SLOT_3 + 4, 2);
    let taken = lock(&rig.card).at.unwrap();
    rig.write32((4 << 15) + 0x10, taken as u32);
    rig.write32((4 << 15) + 4, 2);
    assert!(rig.memory.write(taken, &[9]));
    assert_eq!(lock(&rig.card).memory[0], 9);
    assert_eq!(lock(&other).memory[0], 0);
    assert_eq!(lock(&other).at, None);
}

#[test]
fn reset_takes_functions_off_the_bus_and_restores_their_addresses() {
    let mut rig = rig();
    rig.write32(SLOT_3 + 4, 2);
    let first = lock(&rig.card).at.unwrap();
    rig.write32(SLOT_3 + 0x10, 0xd000_0000);
    lock(&rig.bus).reset();
    assert!(!rig.memory.write(0xd000_0000, &[1]));
    rig.write32(SLOT_3 + 4, 2);
    assert_eq!(lock(&rig.card).at, Some(first));
}

#[test]
fn a_slot_holds_one_function() {
    let rig = rig();
    let mut bus = lock(&rig.bus);
    assert_eq!(bus.insert(3, Card::new()), Err(InsertError::Taken(3)));
    assert_eq!(bus.insert(0, Card::new()), Err(InsertError::NoSuchSlot(0)));
    assert_eq!(
        bus.insert(32, Card::new()),
        Err(InsertError::NoSuchSlot(32))
    );
}

proptest! {
    #[test]
    fn random_configuration_accesses_never_panic(accesses in prop::collection::vec((any::<bool>(), any::<u64>(), any::<[u8; 8]>(), 1usize..=8), 0..60)) {
        let mut rig = rig();
        for (ecam, offset, data, len) in accesses {
            if ecam {
                rig.ecam.write(offset % (2 << 20), &data[..len]);
                rig.ecam.read(offset % (2 << 20), &mut [0; 8][..len]);
            } else {
                rig.ports.write(offset % 8, &data[..len]);
                rig.ports.read(offset % 8, &mut [0; 8][..len]);
            }
            if let Some(at) = lock(&rig.card).at {
                prop_assert_eq!(at % 0x1000, 0);
            }
        }
    }
}
