//! The first serial port, a 16550A: the guest's console.
//!
//! In come the guest's accesses and the operator's keystrokes; out go the guest's words to a [`Sink`], and interrupts. Keystrokes that the guest
//! does not read are kept up to a bound and then refused, so that whoever types is held up rather than the monitor's memory.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use vm_superio::Trigger;
use vm_superio::serial::{Serial, SerialEvents};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::BusDevice;
use crate::interrupt::IrqLine;

/// Where the guest's words go. Called by a vcpu, so it must not block.
pub type Sink = Box<dyn io::Write + Send>;

/// Keystrokes kept while the guest is not reading.
const INPUT_LIMIT: usize = 4096;

struct Line(Arc<dyn IrqLine>);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.pulse()
    }
}

/// Tells the owner when the guest has read everything.
struct Events(Arc<EventFd>);

impl SerialEvents for Events {
    fn buffer_read(&self) {}
    fn out_byte(&self) {}
    fn tx_lost_byte(&self) {}
    fn in_buffer_empty(&self) {
        let _ = self.0.write(1);
    }
}

/// The serial port.
pub struct Com1 {
    port: Option<Serial<Line, Events, Sink>>,
    waiting: VecDeque<u8>,
    line: Arc<dyn IrqLine>,
    wanted: Arc<EventFd>,
}

impl Com1 {
    /// A port as it is at power on. `wanted` is written when the guest has read all input, for the owner to bring more.
    pub fn new(line: Arc<dyn IrqLine>, sink: Sink, wanted: Arc<EventFd>) -> Self {
        let events = Events(Arc::clone(&wanted));
        let port = Serial::with_events(Line(Arc::clone(&line)), events, sink);
        Self {
            port: Some(port),
            waiting: VecDeque::new(),
            line,
            wanted,
        }
    }

    /// How many bytes [`Com1::input`] takes now.
    pub fn room(&self) -> usize {
        INPUT_LIMIT.saturating_sub(self.waiting.len())
    }

    /// Brings keystrokes to the guest, as many as there is room for; says how many.
    pub fn input(&mut self, data: &[u8]) -> usize {
        let data = data.get(..self.room()).unwrap_or(data);
        self.waiting.extend(data);
        self.refill();
        data.len()
    }

    /// Moves waiting keystrokes into the port's own small buffer.
    fn refill(&mut self) {
        let Some(port) = &mut self.port else { return };
        let n = port.fifo_capacity().min(self.waiting.len());
        if n == 0 {
            return;
        }
        let bytes: Vec<u8> = self.waiting.iter().take(n).copied().collect();
        match port.enqueue_raw_bytes(&bytes) {
            // Fewer than asked for, or none, while the guest tests its port in loopback.
            Ok(taken) => drop(self.waiting.drain(..taken.min(n))),
            Err(error) => tracing::warn!(?error, "could not interrupt the guest for serial input"),
        }
    }

    /// Back to power on. Keystrokes that the old guest did not read are dropped.
    pub fn reset(&mut self) {
        self.waiting.clear();
        if let Some(old) = self.port.take() {
            let line = Line(Arc::clone(&self.line));
            let events = Events(Arc::clone(&self.wanted));
            self.port = Some(Serial::with_events(line, events, old.into_writer()));
        }
    }
}

impl BusDevice for Com1 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let ([byte], Ok(offset), Some(port)) = (data, u8::try_from(offset), &mut self.port) {
            *byte = port.read(offset);
        }
        self.refill();
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (&[byte], Ok(offset), Some(port)) = (data, u8::try_from(offset), &mut self.port)
            && let Err(error) = port.write(offset, byte)
        {
            tracing::debug!(?error, "the serial port lost a byte or an interrupt");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::bus::lock;
    use crate::interrupt::Recorder;

    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Said {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn port() -> (Com1, Arc<Recorder>, Said) {
        let (line, said) = (Recorder::new(), Said::default());
        let wanted = Arc::new(EventFd::new(libc::EFD_NONBLOCK).unwrap());
        (
            Com1::new(line.clone(), Box::new(said.clone()), wanted),
            line,
            said,
        )
    }

    const DATA: u64 = 0;
    const INTERRUPT_ENABLE: u64 = 1;

    fn read(port: &mut Com1) -> u8 {
        let mut data = [0];
        port.read(DATA, &mut data);
        data[0]
    }

    #[test]
    fn what_the_guest_writes_reaches_the_sink_also_after_a_reset() {
        let (mut port, _, said) = port();
        port.write(DATA, b"a");
        port.reset();
        port.write(DATA, b"b");
        assert_eq!(*lock(&said.0), b"ab");
    }

    #[test]
    fn keystrokes_arrive_whole_and_in_order_with_an_interrupt() {
        let (mut port, line, _) = port();
        port.write(INTERRUPT_ENABLE, &[1]);
        let text: Vec<u8> = (0..200).collect();
        assert_eq!(port.input(&text), 200);
        assert_eq!(line.take_levels(), [true, false]);
        let got: Vec<u8> = (0..200).map(|_| read(&mut port)).collect();
        assert_eq!(got, text);
    }

    #[test]
    fn a_guest_that_does_not_read_holds_up_the_typist_only() {
        let (mut port, _, _) = port();
        let mut taken = 0;
        for _ in 0..100 {
            taken += port.input(&[0; 1000]);
        }
        assert!(taken <= INPUT_LIMIT + 64, "{taken}");
    }

    proptest! {
        #[test]
        fn no_access_panics(accesses in prop::collection::vec((0u64..8, prop::collection::vec(any::<u8>(), 1..5)), 0..50)) {
            let (mut port, _, _) = port();
            for (offset, data) in accesses {
                port.input(&data);
                port.write(offset, &data);
                port.read(offset, &mut data.clone());
            }
        }
    }
}
