//! A function's MSI-X table: what turns "vector 2" into a message, if the guest wants it now.
//!
//! In come the guest's writes to the table and to the capability's control word, and the device's signals; out go messages on
//! [`Msi`]. A signal while its vector is masked is remembered in the pending bits and sent when the mask goes. Vectors that do not exist
//! signal nothing.
//!
//! What signals by an eventfd may have a [`MsiWire`], which delivers the vector's message without us. It is connected while the guest would have the message at once, and
//! follows every change of the table; else the device sees the event and signals as any other.

use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::EventFd;

use crate::bus::lock;
use crate::interrupt::{Msi, MsiWire};

/// Bytes of one table entry: address, upper address, data, control.
const ENTRY: usize = 16;
/// Entry control: the vector is masked.
const ENTRY_MASKED: u32 = 1;
/// Capability control word: MSI-X is on.
const ENABLE: u16 = 1 << 15;
/// Capability control word: all vectors are masked.
const MASK_ALL: u16 = 1 << 14;

/// Largest number of vectors a table of ours has: the pending bits are one word.
pub(super) const MAX_VECTORS: u16 = 64;

struct State {
    table: Vec<[u32; 4]>,
    pending: u64,
    control: u16,
    wires: Vec<Wired>,
}

/// A wire, and what it delivers now.
struct Wired {
    queue: u16,
    vector: u16,
    wire: Box<dyn MsiWire>,
    message: Option<(u64, u32)>,
}

impl State {
    /// The message of a vector, if the guest would have it at once.
    fn message(&self, vector: u16) -> Option<(u64, u32)> {
        let &[low, high, data, control] = self.table.get(usize::from(vector))?;
        let open = self.control & (ENABLE | MASK_ALL) == ENABLE && control & ENTRY_MASKED == 0;
        open.then_some((u64::from(high) << 32 | u64::from(low), data))
    }

    /// Has each wire deliver what its vector says.
    fn follow(&mut self) {
        let mut wires = std::mem::take(&mut self.wires);
        for wired in &mut wires {
            let message = self.message(wired.vector);
            if message == wired.message {
                continue;
            }
            wired.message = message;
            if let Err(error) = wired.wire.connect(message) {
                // Events come to the device then.
                tracing::debug!(vector = wired.vector, %error, "an interrupt goes through the monitor");
                wired.message = None;
            }
        }
        self.wires = wires;
    }
}

/// An MSI-X table with its pending bits, shared by the configuration space and the device's worker.
pub struct Msix {
    msi: Arc<dyn Msi>,
    state: Mutex<State>,
}

impl Msix {
    /// A table of `vectors` entries (1 to 64, larger numbers are cut), all masked.
    pub fn new(vectors: u16, msi: Arc<dyn Msi>) -> Self {
        let table = vec![[0, 0, 0, ENTRY_MASKED]; usize::from(vectors.clamp(1, MAX_VECTORS))];
        Self {
            msi,
            state: Mutex::new(State {
                table,
                pending: 0,
                control: 0,
                wires: Vec::new(),
            }),
        }
    }

    /// Has writes to `call` signal `vector` for a queue, where the host has wires for that.
    pub fn connect(&self, queue: u16, vector: u16, call: &Arc<EventFd>) {
        let Some(wire) = self.msi.wire(call) else {
            return;
        };
        let mut state = lock(&self.state);
        state.wires.push(Wired {
            queue,
            vector,
            wire,
            message: None,
        });
        state.follow();
    }

    /// The wire of a queue, if it has one, signals another vector.
    pub fn move_wire(&self, queue: u16, vector: u16) {
        let mut state = lock(&self.state);
        let mut wires = state.wires.iter_mut();
        if let Some(wired) = wires.find(|wired| wired.queue == queue) {
            wired.vector = vector;
            state.follow();
        }
    }

    /// Takes all wires away.
    pub fn disconnect(&self) {
        lock(&self.state).wires.clear();
    }

    /// Number of vectors.
    pub fn vectors(&self) -> u16 {
        lock(&self.state).table.len() as u16
    }

    /// The capability's body (after the two header bytes) with the table at `table` and the pending bits at `pba` of register `bar`, and
    /// the mask of what the guest may write of it.
    pub fn capability(&self, bar: u8, table: u32, pba: u32) -> ([u8; 10], [u8; 2]) {
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(self.vectors() - 1).to_le_bytes());
        body[2..6].copy_from_slice(&(table | u32::from(bar)).to_le_bytes());
        body[6..].copy_from_slice(&(pba | u32::from(bar)).to_le_bytes());
        (body, (ENABLE | MASK_ALL).to_le_bytes())
    }

    /// Says whether the guest has turned MSI-X on.
    pub fn enabled(&self) -> bool {
        lock(&self.state).control & ENABLE != 0
    }

    /// Takes the control word that the guest wrote, and sends what it unmasked.
    pub fn set_control(&self, control: u16) {
        let mut state = lock(&self.state);
        state.control = control;
        self.send_pending(&mut state);
        state.follow();
    }

    /// Interrupts the guest on `vector`: now, or when it unmasks it. Does nothing when MSI-X is off.
    pub fn signal(&self, vector: u16) {
        let mut state = lock(&self.state);
        if state.control & ENABLE == 0 || usize::from(vector) >= state.table.len() {
            return;
        }
        state.pending |= 1 << vector;
        self.send_pending(&mut state);
    }

    /// Reads the table at `offset`; bytes beyond it are zero.
    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        let state = lock(&self.state);
        for (at, byte) in (offset..u64::MAX).zip(data) {
            let word = usize::try_from(at / 4)
                .ok()
                .and_then(|word| state.table.get(word / 4)?.get(word % 4));
            *byte = word.map_or(0, |word| word.to_le_bytes()[(at % 4) as usize]);
        }
    }

    /// Writes the table at `offset`, as PCI allows it: whole aligned words of 4 or 8 bytes. Anything else is ignored.
    pub fn write_table(&self, offset: u64, data: &[u8]) {
        if !matches!(data.len(), 4 | 8) || !offset.is_multiple_of(data.len() as u64) {
            return;
        }
        let mut state = lock(&self.state);
        for (at, bytes) in (offset..u64::MAX).step_by(4).zip(data.as_chunks::<4>().0) {
            let index = usize::try_from(at).unwrap_or(usize::MAX) / 4;
            if let Some(word) = state
                .table
                .get_mut(index / (ENTRY / 4))
                .and_then(|entry| entry.get_mut(index % 4))
            {
                *word = u32::from_le_bytes(*bytes);
            }
        }
        self.send_pending(&mut state);
        state.follow();
    }

    /// Reads the pending bits at `offset`; bytes beyond them are zero.
    pub fn read_pending(&self, offset: u64, data: &mut [u8]) {
        let bits = lock(&self.state).pending.to_le_bytes();
        for (at, byte) in (offset..u64::MAX).zip(data) {
            *byte = usize::try_from(at)
                .ok()
                .and_then(|at| bits.get(at))
                .copied()
                .unwrap_or(0);
        }
    }

    /// Masks every vector and forgets every message.
    pub fn reset(&self) {
        let mut state = lock(&self.state);
        state.table.fill([0, 0, 0, ENTRY_MASKED]);
        state.pending = 0;
        state.control = 0;
        state.wires.clear();
    }

    fn send_pending(&self, state: &mut State) {
        if state.pending == 0 || state.control & (ENABLE | MASK_ALL) != ENABLE {
            return;
        }
        for (vector, &[low, high, data, control]) in state.table.iter().enumerate() {
            let bit = 1 << vector;
            if state.pending & bit == 0 || control & ENTRY_MASKED != 0 {
                continue;
            }
            state.pending &= !bit;
            let address = u64::from(high) << 32 | u64::from(low);
            if let Err(error) = self.msi.signal(address, data) {
                // The guest chose address and data: what the kernel will not deliver is the guest's loss alone.
                tracing::debug!(vector, address, data, %error, "message-signalled interrupt was not delivered");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Recorder;
    use proptest::prelude::*;

    fn table() -> (Msix, Arc<Recorder>) {
        let recorder = Recorder::new();
        (Msix::new(3, recorder.clone()), recorder)
    }

    fn program(msix: &Msix, vector: u64, control: u32) {
        msix.write_table(vector * 16, &0xfee0_1000u64.to_le_bytes());
        msix.write_table(vector * 16 + 8, &(0x40 + vector as u32).to_le_bytes());
        msix.write_table(vector * 16 + 12, &control.to_le_bytes());
    }

    #[test]
    fn a_signal_sends_the_message_the_guest_chose() {
        let (msix, sent) = table();
        program(&msix, 1, 0);
        msix.signal(1);
        assert!(sent.take_messages().is_empty(), "off");
        msix.set_control(ENABLE);
        msix.signal(1);
        assert_eq!(sent.take_messages(), [(0xfee0_1000, 0x41)]);
    }

    #[test]
    fn a_masked_signal_waits_in_the_pending_bits() {
        let (msix, sent) = table();
        program(&msix, 2, ENTRY_MASKED);
        msix.set_control(ENABLE | MASK_ALL);
        msix.signal(2);
        let mut bits = [0; 4];
        msix.read_pending(0, &mut bits);
        assert_eq!(bits, [4, 0, 0, 0]);
        msix.set_control(ENABLE);
        assert!(sent.take_messages().is_empty());
        program(&msix, 2, 0);
        assert_eq!(sent.take_messages(), [(0xfee0_1000, 0x42)]);
        msix.read_pending(0, &mut bits);
        assert_eq!(bits, [0; 4]);
    }

    #[test]
    fn vectors_that_do_not_exist_signal_nothing() {
        let (msix, sent) = table();
        msix.set_control(ENABLE);
        for vector in [3, 63, 64, 0xffff] {
            msix.signal(vector);
        }
        assert!(sent.take_messages().is_empty());
    }

    #[test]
    fn the_capability_tells_size_and_place() {
        let (msix, _) = table();
        let (body, writable) = msix.capability(0, 0x4000, 0x6000);
        assert_eq!(body, [2, 0, 0, 0x40, 0, 0, 0, 0x60, 0, 0]);
        assert_eq!(writable, [0, 0xc0]);
    }

    fn call() -> Arc<EventFd> {
        Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap())
    }

    #[test]
    fn a_wire_delivers_what_the_table_says_while_the_guest_would_have_it() {
        let (msix, sent) = table();
        program(&msix, 1, 0);
        msix.connect(0, 1, &call());
        assert_eq!(sent.wires(), [None], "off");
        msix.set_control(ENABLE);
        let message = Some((0xfee0_1000, 0x41));
        assert_eq!(sent.wires(), [message]);
        msix.set_control(ENABLE | MASK_ALL);
        assert_eq!(sent.wires(), [None]);
        msix.set_control(ENABLE);
        program(&msix, 1, ENTRY_MASKED);
        assert_eq!(sent.wires(), [None]);
        msix.write_table(16 + 8, &7u32.to_le_bytes());
        assert_eq!(sent.wires(), [None], "still masked");
        msix.write_table(16 + 12, &0u32.to_le_bytes());
        assert_eq!(sent.wires(), [Some((0xfee0_1000, 7))]);
        assert!(sent.take_messages().is_empty());
    }

    #[test]
    fn a_wire_follows_its_queue_to_another_vector_and_goes_with_the_device() {
        let (msix, sent) = table();
        program(&msix, 2, 0);
        msix.set_control(ENABLE);
        msix.connect(0, 1, &call());
        msix.connect(1, 0xffff, &call());
        assert_eq!(sent.wires(), [None, None]);
        msix.move_wire(0, 2);
        msix.move_wire(9, 2);
        assert_eq!(sent.wires(), [Some((0xfee0_1000, 0x42)), None]);
        msix.disconnect();
        assert_eq!(sent.wires(), [None, None]);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back_and_nothing_panics(writes in prop::collection::vec((any::<u64>(), any::<u64>(), any::<bool>(), any::<u16>()), 0..40)) {
            let (msix, _) = table();
            for (offset, value, near, control) in writes {
                let offset = if near { offset % 64 } else { offset };
                msix.write_table(offset, &value.to_le_bytes());
                msix.write_table(offset, &value.to_le_bytes()[..4]);
                msix.write_table(offset, &value.to_le_bytes()[..3]);
                let mut back = [0; 8];
                msix.read_table(offset, &mut back);
                if offset % 8 == 0 && offset < 48 {
                    prop_assert_eq!(u64::from_le_bytes(back), value);
                }
                msix.read_pending(offset, &mut back);
                msix.set_control(control);
                msix.signal(control);
            }
        }
    }
}
