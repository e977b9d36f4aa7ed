use super::*;
use crate::devices::virtio::testing::{
    DriverQueue, INDIRECT, MEMORY, NEXT, SIZE, Told, WRITE, descriptor, memory,
};
use proptest::prelude::*;

struct Rig {
    driver: DriverQueue,
    ring: Ring,
    told: Arc<Told>,
    memory: GuestMemoryMmap,
}

fn rig() -> Rig {
    let memory = memory();
    let told = Arc::new(Told::default());
    let driver = DriverQueue::new(&memory, 0);
    let ring = Ring::new(driver.active(0), memory.clone(), told.clone());
    Rig {
        driver,
        ring,
        told,
        memory,
    }
}

fn buffer(addr: u64, len: u32) -> Buffer {
    Buffer {
        addr: GuestAddress(addr),
        len,
    }
}

#[test]
fn a_chain_is_split_into_what_is_read_and_what_is_written() {
    let mut rig = rig();
    rig.driver.add(&[
        (0x10000, 16, false),
        (0x11000, 0, false),
        (0x12000, 32, true),
    ]);
    let chain = rig.ring.pop().unwrap();
    assert_eq!(
        chain.readable.iter().collect::<Vec<_>>(),
        [&buffer(0x10000, 16)]
    );
    assert_eq!(
        chain.writable.iter().collect::<Vec<_>>(),
        [&buffer(0x12000, 32)]
    );
    rig.ring.push(chain.head, 5);
    assert_eq!(rig.driver.used(), [(0, 5)]);
    assert!(rig.ring.pop().is_none());
    assert!(!rig.told.broken());
}

#[test]
fn a_chain_put_back_comes_again() {
    let mut rig = rig();
    rig.driver.add(&[(0x10000, 16, false)]);
    let first = rig.ring.pop();
    rig.ring.unpop();
    assert_eq!(rig.ring.pop(), first);
}

#[test]
fn indirect_tables_are_followed() {
    let mut rig = rig();
    rig.memory
        .write_slice(&descriptor(0x10000, 8, NEXT, 1), GuestAddress(0x20000))
        .unwrap();
    rig.memory
        .write_slice(&descriptor(0x11000, 9, WRITE, 0), GuestAddress(0x20010))
        .unwrap();
    rig.driver.describe(0, 0x20000, 32, INDIRECT, 0);
    rig.driver.offer(0);
    let chain = rig.ring.pop().unwrap();
    assert_eq!((chain.readable.len(), chain.writable.len()), (8, 9));
}

#[test]
fn impossible_chains_break_the_ring_and_nothing_more() {
    type Make = fn(&mut Rig);
    let bad: &[(&str, Make)] = &[
        ("outside memory", |rig| {
            rig.driver.describe(0, MEMORY as u64 - 8, 16, 0, 0)
        }),
        ("at the end of the address space", |rig| {
            rig.driver.describe(0, u64::MAX - 8, 16, 0, 0)
        }),
        ("a circle", |rig| {
            rig.driver.describe(0, 0x10000, 16, NEXT, 0)
        }),
        ("a link out of the table", |rig| {
            rig.driver.describe(0, 0x10000, 16, NEXT, SIZE)
        }),
        ("an indirect table outside memory", |rig| {
            rig.driver.describe(0, MEMORY as u64, 32, INDIRECT, 0)
        }),
        ("an indirect table of odd length", |rig| {
            rig.driver.describe(0, 0x20000, 33, INDIRECT, 0)
        }),
        ("an indirect table in an indirect table", |rig| {
            rig.memory
                .write_slice(&descriptor(0x20000, 16, INDIRECT, 0), GuestAddress(0x20000))
                .unwrap();
            rig.driver.describe(0, 0x20000, 16, INDIRECT, 0);
        }),
        ("readable after writable", |rig| {
            rig.driver.describe(0, 0x10000, 16, NEXT | WRITE, 1);
            rig.driver.describe(1, 0x10000, 16, 0, 0);
        }),
    ];
    for (what, make) in bad {
        let mut rig = rig();
        make(&mut rig);
        rig.driver.offer(0);
        assert!(rig.ring.pop().is_none(), "{what}");
        assert!(rig.told.broken(), "{what}");
        rig.driver.add(&[(0x10000, 16, false)]);
        assert!(
            rig.ring.pop().is_none(),
            "{what}: the ring must stay broken"
        );
        assert!(!rig.ring.listen());
    }
}

#[test]
fn an_index_that_runs_ahead_of_the_ring_breaks_it() {
    let mut rig = rig();
    rig.driver.set_available(SIZE + 1);
    assert!(rig.ring.pop().is_none());
    assert!(rig.told.broken());
}

#[test]
fn an_endless_indirect_table_is_cut_short() {
    let mut rig = rig();
    for at in 0..2000u64 {
        let next = (at + 1) as u16;
        rig.memory
            .write_slice(
                &descriptor(0x10000, 1, NEXT, next),
                GuestAddress(0x20000 + at * 16),
            )
            .unwrap();
    }
    rig.driver.describe(0, 0x20000, 2000 * 16, INDIRECT, 0);
    rig.driver.offer(0);
    assert!(rig.ring.pop().is_none());
    assert!(rig.told.broken());
}

#[test]
fn taking_bytes_splits_buffers_where_they_end() {
    let mut all = Buffers([buffer(0x1000, 10), buffer(0x2000, 10)].into());
    let first = all.take(14);
    assert_eq!(
        first,
        Buffers([buffer(0x1000, 10), buffer(0x2000, 4)].into())
    );
    assert_eq!(all, Buffers([buffer(0x2004, 6)].into()));
    assert_eq!(all.take(100).len(), 6);
    assert!(all.is_empty());
}

#[test]
fn copies_end_where_the_buffers_end() {
    let memory = memory();
    let buffers = Buffers([buffer(0x1000, 3), buffer(0x2000, 3)].into());
    assert_eq!(buffers.write(&memory, b"abcdefgh"), 6);
    let mut back = [0; 8];
    assert_eq!(buffers.read(&memory, &mut back), 6);
    assert_eq!(&back, b"abcdef\0\0");
    assert_eq!(buffers.slices(&memory).len(), 2);
}

proptest! {
    #[test]
    fn garbage_in_the_rings_never_panics_or_hangs(
        descriptors in prop::collection::vec((any::<u64>(), 0..4u8, any::<u32>(), 0..8u16, 0..20u16), SIZE as usize),
        heads in prop::collection::vec(0..20u16, SIZE as usize),
        index in 0..20u16,
    ) {
        let mut rig = rig();
        for (at, (addr, place, len, flags, next)) in descriptors.into_iter().enumerate() {
            // Mostly near memory, so that chains get long, and sometimes anywhere.
            let (addr, len) = match place { 0 => (addr, len), 1 => (addr % MEMORY as u64, len % 0x10000), _ => (addr % 0x1000, len % 0x100) };
            rig.driver.describe(at as u16, addr, len, flags, next);
        }
        for head in heads {
            rig.driver.offer(head);
        }
        rig.driver.set_available(index);
        let mut chains = 0;
        while let Some(chain) = rig.ring.pop() {
            chains += 1;
            prop_assert!(chains <= SIZE);
            let slices = chain.writable.slices(&rig.memory);
            prop_assert_eq!(slices.iter().map(|s| s.len() as u64).sum::<u64>(), chain.writable.len());
            rig.ring.push(chain.head, 0);
        }
        rig.ring.notify();
        rig.ring.listen();
    }
}
