use super::registers::{CAP_VENDOR, CFG_COMMON, CFG_DEVICE, CFG_ISR, CFG_NOTIFY, CFG_PCI};
use super::*;
use crate::bus::lock;
use crate::devices::virtio::testing::memory;
use crate::devices::virtio::{ActivateError, DeviceType};
use crate::interrupt::Recorder;
use proptest::prelude::*;
use std::sync::Mutex;
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::EventFd;

/// What a device was called with.
#[derive(Default)]
struct Log {
    queues: Vec<(u16, u16)>,
    features: u64,
    activations: u32,
    resets: u32,
    interrupt: Option<Arc<dyn VirtioInterrupt>>,
    fail: bool,
}

struct Toy {
    log: Arc<Mutex<Log>>,
    config: [u8; 8],
}

impl VirtioDevice for Toy {
    fn device_type(&self) -> DeviceType {
        DeviceType::Rng
    }
    fn features(&self) -> u64 {
        0b101
    }
    fn queue_sizes(&self) -> &[u16] {
        &[16, 32]
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        crate::devices::virtio::read_config_bytes(&self.config, offset, data);
    }
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (0, Ok(config)) = (offset, data.try_into()) {
            self.config = config;
        }
    }
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let mut log = lock(&self.log);
        log.activations += 1;
        log.features = activation.features;
        log.queues = activation
            .queues
            .iter()
            .map(|queue| (queue.index, queue.queue.size()))
            .collect();
        log.interrupt = Some(activation.interrupt);
        if log.fail {
            Err(ActivateError::MissingQueue(1))
        } else {
            Ok(())
        }
    }
    fn reset(&mut self) {
        let mut log = lock(&self.log);
        log.resets += 1;
        log.interrupt = None;
    }
}

struct Rig {
    pci: VirtioPci,
    log: Arc<Mutex<Log>>,
    sent: Arc<Recorder>,
}

fn rig() -> Rig {
    let (log, sent) = (Arc::<Mutex<Log>>::default(), Recorder::new());
    let toy = Toy {
        log: log.clone(),
        config: [1, 2, 3, 4, 5, 6, 7, 8],
    };
    let pci = VirtioPci::new(Box::new(toy), memory(), sent.clone(), None).unwrap();
    Rig { pci, log, sent }
}

impl Rig {
    fn read(&mut self, offset: u64, len: usize) -> u64 {
        let mut data = [0; 8];
        self.pci.read_bar(0, offset, &mut data[..len]);
        u64::from_le_bytes(data)
    }
    fn write(&mut self, offset: u64, len: usize, value: u64) {
        self.pci.write_bar(0, offset, &value.to_le_bytes()[..len]);
    }
    fn status(&mut self) -> u8 {
        self.read(20, 1) as u8
    }
    fn set_status(&mut self, status: u8) {
        self.write(20, 1, status.into());
    }
    fn accept(&mut self, features: u64) {
        for word in 0..2 {
            self.write(8, 4, word);
            self.write(12, 4, features >> (32 * word) & 0xffff_ffff);
        }
    }
    fn negotiate(&mut self) {
        self.set_status(ACKNOWLEDGE);
        self.set_status(ACKNOWLEDGE | DRIVER);
        self.accept(F_VERSION_1 | 1);
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    }
    fn enable_queue(&mut self, index: u64, at: u64) {
        self.write(22, 2, index);
        self.write(32, 8, at);
        self.write(40, 4, at + 0x400);
        self.write(48, 4, at + 0x800);
        self.write(28, 2, 1);
    }
    fn start(&mut self) {
        self.negotiate();
        self.enable_queue(0, 0x1000);
        self.enable_queue(1, 0x2000);
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    }
    fn msix(&mut self, vector: u64) {
        self.write(MSIX_TABLE + vector * 16, 8, 0xfee0_0000);
        self.write(MSIX_TABLE + vector * 16 + 8, 4, 0x30 + vector);
        self.write(MSIX_TABLE + vector * 16 + 12, 4, 0);
        self.pci.write_config(0x42, &0x8000u16.to_le_bytes());
    }
}

#[test]
fn the_capabilities_lead_to_every_structure() {
    let mut rig = rig();
    let mut at = 0x34;
    let mut found = Vec::new();
    loop {
        let mut byte = [0];
        rig.pci.read_config(at, &mut byte);
        at = byte[0].into();
        if at == 0 {
            break;
        }
        let mut cap = [0; 16];
        rig.pci.config.read(at, &mut cap);
        if cap[0] == CAP_VENDOR {
            found.push((cap[3], u32::from_le_bytes(cap[8..12].try_into().unwrap())));
        }
        at += 1;
    }
    assert_eq!(
        found,
        [
            (CFG_COMMON, 0),
            (CFG_ISR, 0x1000),
            (CFG_DEVICE, 0x2000),
            (CFG_NOTIFY, 0x3000),
            (CFG_PCI, 0)
        ]
    );
    let mut id = [0; 4];
    rig.pci.read_config(0, &mut id);
    assert_eq!(u32::from_le_bytes(id), 0x1044_1af4);
}

#[test]
fn a_well_behaved_driver_gets_its_device() {
    let mut rig = rig();
    rig.start();
    assert_eq!(rig.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    let log = lock(&rig.log);
    assert_eq!(log.queues, [(0, 16), (1, 32)]);
    assert_eq!(log.features, F_VERSION_1 | 1);
}

#[test]
fn without_version_1_or_with_unknown_features_there_is_no_agreement() {
    for features in [1, F_VERSION_1 | 2, F_VERSION_1 | 1 << 63, 0] {
        let mut rig = rig();
        rig.set_status(ACKNOWLEDGE | DRIVER);
        rig.accept(features);
        rig.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        assert_eq!(rig.status(), ACKNOWLEDGE | DRIVER, "{features:#x}");
        rig.set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK);
        assert_eq!(lock(&rig.log).activations, 0);
    }
}

#[test]
fn features_are_fixed_once_agreed_on() {
    let mut rig = rig();
    rig.negotiate();
    rig.accept(F_VERSION_1 | 5);
    rig.set_status(0xf);
    assert_eq!(lock(&rig.log).features, F_VERSION_1 | 1);
}

#[test]
fn status_bits_only_ever_grow_until_reset() {
    let mut rig = rig();
    rig.negotiate();
    rig.set_status(ACKNOWLEDGE);
    assert_eq!(rig.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
    rig.set_status(0);
    assert_eq!(rig.status(), 0);
}

#[test]
fn reset_forgets_the_queues_and_stops_the_device_once() {
    let mut rig = rig();
    rig.start();
    rig.set_status(0);
    rig.set_status(0);
    assert_eq!(lock(&rig.log).resets, 1);
    rig.write(22, 2, 0);
    assert_eq!(
        (rig.read(28, 2), rig.read(32, 8), rig.read(26, 2)),
        (0, 0, 0xffff)
    );
    rig.start();
    assert_eq!(lock(&rig.log).activations, 2);
}

#[test]
fn an_enabled_queue_cannot_be_moved_and_a_size_must_be_a_power_of_two() {
    let mut rig = rig();
    rig.negotiate();
    for size in [0, 3, 17, 64, 0xffff] {
        rig.write(24, 2, size);
        assert_eq!(rig.read(24, 2), 16, "{size}");
    }
    rig.write(24, 2, 8);
    rig.enable_queue(0, 0x1000);
    rig.write(32, 8, 0xdead_0000);
    rig.write(24, 2, 16);
    assert_eq!((rig.read(32, 8), rig.read(24, 2)), (0x1000, 8));
}

#[test]
fn a_queue_that_does_not_exist_reads_as_size_zero() {
    let mut rig = rig();
    rig.write(22, 2, 2);
    assert_eq!(rig.read(24, 2), 0);
    rig.write(28, 2, 1);
    assert_eq!(rig.read(28, 2), 0);
}

#[test]
fn a_queue_outside_memory_makes_the_device_ask_for_a_reset() {
    for at in [
        crate::devices::virtio::testing::MEMORY as u64 - 0x10,
        u64::MAX - 0xf,
        0x1001,
    ] {
        let mut rig = rig();
        rig.negotiate();
        rig.write(22, 2, 0);
        rig.write(32, 8, at);
        rig.write(28, 2, 1);
        rig.set_status(0xf);
        assert_ne!(rig.status() & NEEDS_RESET, 0, "{at:#x}");
        assert_eq!(lock(&rig.log).activations, 0);
    }
}

#[test]
fn a_device_that_cannot_begin_asks_for_a_reset() {
    let mut rig = rig();
    lock(&rig.log).fail = true;
    rig.start();
    assert_ne!(rig.status() & NEEDS_RESET, 0);
}

#[test]
fn interrupts_take_the_vector_that_the_guest_chose() {
    let mut rig = rig();
    rig.negotiate();
    rig.msix(0);
    rig.msix(2);
    rig.write(16, 2, 0);
    rig.write(22, 2, 1);
    rig.write(26, 2, 2);
    rig.write(22, 2, 0);
    rig.write(26, 2, 3);
    assert_eq!(rig.read(26, 2), 0xffff, "a vector that does not exist");
    rig.start();
    let interrupt = lock(&rig.log).interrupt.clone().unwrap();
    interrupt.queue(1);
    interrupt.queue(0);
    interrupt.queue(9);
    let generation = rig.read(21, 1);
    interrupt.config_changed();
    assert_ne!(rig.read(21, 1), generation);
    assert_eq!(
        rig.sent.take_messages(),
        [(0xfee0_0000, 0x32), (0xfee0_0000, 0x30)]
    );
    interrupt.needs_reset();
    interrupt.needs_reset();
    assert_eq!(rig.sent.take_messages(), [(0xfee0_0000, 0x30)], "said once");
    assert_ne!(rig.status() & NEEDS_RESET, 0);
}

#[test]
fn without_msix_the_interrupt_status_tells_and_is_cleared_by_reading() {
    let mut rig = rig();
    rig.start();
    let interrupt = lock(&rig.log).interrupt.clone().unwrap();
    interrupt.queue(0);
    interrupt.config_changed();
    assert_eq!(rig.read(ISR, 1), 3);
    assert_eq!(rig.read(ISR, 1), 0);
}

#[test]
fn a_notification_reaches_its_queue_only() {
    let mut rig = rig();
    rig.start();
    rig.write(NOTIFY + 4, 2, 1);
    rig.write(NOTIFY + 8, 2, 2);
    assert_eq!(rig.pci.queues[1].kick.read().unwrap(), 1);
    assert!(rig.pci.queues[0].kick.read().is_err());
}

#[test]
fn the_register_can_be_reached_through_configuration_space() {
    let mut rig = rig();
    let cap = rig.pci.pci_capability;
    rig.pci
        .write_config(cap + 8, &(DEVICE as u32 + 4).to_le_bytes());
    rig.pci.write_config(cap + 12, &4u32.to_le_bytes());
    let mut data = [0; 4];
    rig.pci.read_config(cap + 16, &mut data);
    assert_eq!(data, [5, 6, 7, 8]);
    for (offset, len) in [
        (BAR_LEN, 4),
        (1, 4),
        (u32::MAX, 4),
        (0, 0),
        (0, 3),
        (0, u32::MAX),
    ] {
        rig.pci.write_config(cap + 8, &offset.to_le_bytes());
        rig.pci.write_config(cap + 12, &len.to_le_bytes());
        assert_eq!(rig.pci.window(), None, "{offset:#x}+{len:#x}");
    }
}

#[test]
fn device_configuration_ends_where_it_ends() {
    let mut rig = rig();
    assert_eq!(rig.read(DEVICE + 6, 4), 0x0807);
    assert_eq!(rig.read(DEVICE + 0xff8, 8), 0);
    rig.write(DEVICE, 8, 0x99);
    assert_eq!(rig.read(DEVICE, 8), 0x99);
}

/// Doorbells that remember where they are.
#[derive(Default)]
struct Bells(Mutex<Vec<u64>>);

impl Doorbells for Bells {
    fn connect(&self, address: u64, _: &EventFd) -> io::Result<()> {
        lock(&self.0).push(address);
        Ok(())
    }
    fn disconnect(&self, address: u64, _: &EventFd) -> io::Result<()> {
        lock(&self.0).retain(|&at| at != address);
        Ok(())
    }
}

#[test]
fn doorbells_follow_the_register() {
    let bells = Arc::new(Bells::default());
    let toy = Toy {
        log: Arc::default(),
        config: [0; 8],
    };
    let mut pci = VirtioPci::new(
        Box::new(toy),
        memory(),
        Recorder::new(),
        Some(bells.clone()),
    )
    .unwrap();
    pci.mapped(0, Some(0x10000));
    assert_eq!(*lock(&bells.0), [0x13000, 0x13004]);
    pci.mapped(0, Some(0x20000));
    assert_eq!(*lock(&bells.0), [0x23000, 0x23004]);
    pci.mapped(0, None);
    assert!(lock(&bells.0).is_empty());
}

proptest! {
    #[test]
    fn random_register_accesses_never_panic_and_keep_the_state_machine(
        accesses in prop::collection::vec((any::<bool>(), 0..BAR_LEN as u64, any::<bool>(), prop::sample::select(vec![1usize, 2, 4, 8]), any::<u64>(), any::<bool>()), 0..80)
    ) {
        let mut rig = rig();
        for (config, offset, near, len, value, small) in accesses {
            let offset = if near { offset % COMMON_LEN } else { offset };
            let value = if small { value % 16 } else { value };
            if config {
                let len = len.min(4);
                let offset = (offset as u16 % 256) & !(len as u16 - 1);
                rig.pci.write_config(offset, &value.to_le_bytes()[..len]);
                rig.pci.read_config(offset, &mut [0; 4][..len]);
                rig.pci.ranges();
            } else {
                rig.write(offset, len, value);
                rig.read(offset, len);
            }
            let status = rig.status();
            prop_assert!(status & DRIVER_OK == 0 || status & FEATURES_OK != 0);
            if rig.pci.active {
                prop_assert!(rig.pci.driver_features & F_VERSION_1 != 0);
            }
        }
    }
}
