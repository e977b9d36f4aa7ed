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
    lock(&bus)
        .insert(Place::slot_of_root(3), card.clone())
        .unwrap();
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
    let base = layout::pci_bar(Place::slot_of_root(3));
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
    lock(&rig.bus)
        .insert(Place::slot_of_root(4), other.clone())
        .unwrap();
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
fn a_place_holds_one_function() {
    let rig = rig();
    let mut bus = lock(&rig.bus);
    let mut refused = |place| bus.insert(place, Card::new()).unwrap_err();
    let taken = Place::slot_of_root(3);
    assert_eq!(refused(taken), InsertError::Taken(taken));
    for place in [Place::slot_of_root(0), Place::new(1, 0, 0)] {
        assert_eq!(refused(place), InsertError::NoSuchPlace(place));
    }
    bus.insert_port(Place::slot_of_root(4), 1).unwrap();
    let again = bus.insert_port(Place::slot_of_root(5), 1);
    assert_eq!(again, Err(InsertError::BusTaken(1)));
    let second = Place::new(1, 1, 0);
    let refused = bus.insert(second, Card::new());
    assert_eq!(refused, Err(InsertError::NoSuchPlace(second)));
}

/// A card behind a root port in slot 4, on bus 7.
fn behind_a_port() -> (Rig, Arc<Mutex<Card>>) {
    let rig = rig();
    let card = Card::new();
    let mut bus = lock(&rig.bus);
    bus.insert_port(Place::slot_of_root(4), 7).unwrap();
    bus.insert(Place::new(7, 0, 0), card.clone()).unwrap();
    drop(bus);
    (rig, card)
}

const SLOT_4: u64 = 4 << 15;
const BUS_7: u64 = 7 << 20;

#[test]
fn what_is_behind_a_port_is_found_on_its_bus_and_answers_within_the_ports_window() {
    let (mut rig, card) = behind_a_port();
    assert_eq!(rig.read32(SLOT_4 + 0x18), 0x0007_0700);
    assert_eq!(rig.read32(BUS_7), 0x5678_1234);
    assert_eq!(rig.read32(BUS_7 + (1 << 15)), !0);
    rig.ports.write(0, &0x8007_0000_u32.to_le_bytes());
    let mut id = [0; 4];
    rig.ports.read(4, &mut id);
    assert_eq!(u32::from_le_bytes(id), 0x5678_1234);
    let window = u64::from(rig.read32(SLOT_4 + 0x20) & 0xfff0) << 16;
    rig.write32(BUS_7 + 4, 2);
    assert_eq!(lock(&card).at, Some(window));
    assert!(rig.memory.write(window + 8, &[42]));
    assert_eq!(lock(&card).memory[8], 42);
}

#[test]
fn a_guest_that_numbers_its_buses_anew_is_followed_until_the_reset() {
    let (mut rig, _card) = behind_a_port();
    rig.write32(SLOT_4 + 0x18, 0x0002_0200);
    assert_eq!((rig.read32(2 << 20), rig.read32(BUS_7)), (0x5678_1234, !0));
    // The root bus is not given away.
    rig.write32(SLOT_4 + 0x18, 0);
    assert_eq!(rig.read32(0), 0x0008_1b36);
    lock(&rig.bus).reset();
    assert_eq!((rig.read32(2 << 20), rig.read32(BUS_7)), (!0, 0x5678_1234));
}

#[test]
fn only_the_functions_of_a_slot_with_several_say_that_there_are() {
    let (mut rig, _card) = behind_a_port();
    let place = Place::new(7, 0, 3);
    lock(&rig.bus).insert(place, Card::new()).unwrap();
    let mut header = |at: u64| rig.read32(at + 0x0c) >> 16;
    assert_eq!((header(SLOT_3), header(SLOT_4)), (0, 1));
    assert_eq!((header(BUS_7), header(BUS_7 + (3 << 12))), (0x80, 0x80));
    let mut byte = [0];
    rig.ecam.read(BUS_7 + 0x0e, &mut byte);
    assert_eq!(byte, [0x80]);
    rig.ecam.read(BUS_7 + 0x0f, &mut byte);
    assert_eq!(byte, [0]);
}

proptest! {
    #[test]
    fn random_configuration_accesses_never_panic(accesses in prop::collection::vec((any::<bool>(), any::<u64>(), any::<[u8; 8]>(), 1usize..=8), 0..60)) {
        let (mut rig, _card) = behind_a_port();
        for (ecam, offset, data, len) in accesses {
            if ecam {
                rig.ecam.write(offset % (9 << 20), &data[..len]);
                rig.ecam.read(offset % (9 << 20), &mut [0; 8][..len]);
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
