//! The watchdog of Intel's 6300ESB: a guest that does not feed it in time is reset, or whatever its definition says.
//!
//! In come accesses of two registers in configuration space and four in memory, and the passing of time; out goes [`Notice::Watchdog`]. It counts
//! in two stages, each with its own length: the end of the first would interrupt (there is no wire: the guest sees a bit), the end of the second is
//! the guest's end. Its time stands still while the guest rests. Source: Intel 6300ESB I/O Controller Hub datasheet, chapter "Watchdog Timer".
//!
//! ```text
//!  stopped ──enable──► stage 1 ──preload 1 passed──► stage 2 ──preload 2 passed──► notice, stopped (or stage 1 again, when free-running)
//!     ▲                   ▲                             │
//!     └──disable──────────┴────────── reload ───────────┘
//! ```

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::EventSet;

use super::virtio::worker::{Handler, Timer, Watch, Worker};
use crate::bus::lock;
use crate::notice::{Notice, Notifier};
use crate::pci::{BARS, Bar, BarRange, ConfigSpace, Identity, PciFunction};

const IDENTITY: Identity = Identity {
    vendor: 0x8086,
    device: 0x25ab,
    class: 0x08_80_00,
    revision: 0,
    subsystem: (0x1af4, 0x1100),
};

/// Configuration: what the first stage does, how fast it counts, whether the second stage acts.
const CONFIG: u16 = 0x60;
/// Lock: on or off, free-running or not, and whether this register may still be changed.
const LOCK: u16 = 0x68;

/// Bits 0 and 1 of the configuration: how the first stage interrupts.
const INTERRUPT_TYPE: u16 = 3;
/// The preloads count microseconds instead of milliseconds, roughly.
const FAST: u16 = 1 << 2;
/// The end of the second stage does nothing.
const OUTPUT_OFF: u16 = 1 << 5;

const LOCKED: u8 = 1;
const ENABLED: u8 = 1 << 1;
const FREE_RUNNING: u8 = 1 << 2;

/// Length of the first stage, and of the second.
const PRELOADS: [u64; 2] = [0x00, 0x04];
/// Interrupt status.
const INTERRUPT: u64 = 0x08;
/// What unlocks the preloads, feeds the watchdog, and tells of the last time-out.
const RELOAD: u64 = 0x0c;

/// What has to be written to [`RELOAD`], in this order, before another register is written once.
const UNLOCK: [u16; 2] = [0x80, 0x86];
const FEED: u16 = 1 << 8;
const TIMED_OUT: u16 = 1 << 9;
/// Bits of a preload.
const PRELOAD_BITS: u32 = 0xf_ffff;

/// Rate of the counter in hertz: PCI's clock. A preload stands for its upper 20 of 35 bits, or of 25.
const COUNTER_HZ: u64 = 33_000_000;
const SLOW_SHIFT: u32 = 15;
const FAST_SHIFT: u32 = 5;

/// The watchdog.
pub struct Watchdog {
    config: ConfigSpace,
    engine: Arc<Mutex<Engine>>,
    _watch: Watch,
}

/// The handle by which the machine stops and continues the watchdog's time.
#[derive(Clone)]
pub struct WatchdogControl(Arc<Mutex<Engine>>);

/// Time since some moment, which never goes back.
type Clock = Box<dyn Fn() -> Duration + Send>;

/// What is left of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It ends then, by the clock.
    Until(Duration),
    /// The guest rests; so much is left when it runs again.
    Held(Duration),
}

struct Engine {
    clock: Clock,
    timer: Arc<Timer>,
    notifier: Notifier,
    /// The guest rests.
    resting: bool,
    registers: Registers,
    /// Index of the stage that is counted, and what is left of it; nothing while it is stopped.
    counting: Option<(usize, Left)>,
    /// The last end of the second stage: kept over a reset, so that the guest can tell why it starts.
    timed_out: bool,
}

/// What a reset clears.
#[derive(Debug, Clone, Copy)]
struct Registers {
    config: u16,
    lock: u8,
    preloads: [u32; 2],
    interrupted: bool,
    /// How much of the unlocking sequence has been written.
    unlocked: usize,
}

impl Registers {
    const AT_POWER_ON: Self = Self {
        config: 0,
        lock: 0,
        preloads: [PRELOAD_BITS; 2],
        interrupted: false,
        unlocked: 0,
    };

    /// How long a stage lasts.
    fn length(&self, stage: usize) -> Duration {
        let shift = if self.config & FAST != 0 {
            FAST_SHIFT
        } else {
            SLOW_SHIFT
        };
        let ticks = self.preloads.get(stage).copied().unwrap_or(PRELOAD_BITS);
        // At most 35 bits of ticks and 30 of nanoseconds. A stage of no length would be over before it began, again and again.
        let nanoseconds = (u128::from(ticks) << shift) * 1_000_000_000 / u128::from(COUNTER_HZ);
        Duration::from_nanos(nanoseconds as u64).max(Duration::from_micros(1))
    }
}

impl Watchdog {
    /// A watchdog that is off, of a guest that rests. `worker` may serve other small devices too.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new(notifier: Notifier, worker: &Worker) -> std::io::Result<Self> {
        let began = Instant::now();
        Self::with_clock(notifier, worker, Box::new(move || began.elapsed()))
    }

    fn with_clock(notifier: Notifier, worker: &Worker, clock: Clock) -> std::io::Result<Self> {
        let timer = Timer::new()?;
        let engine = Arc::new(Mutex::new(Engine {
            clock,
            timer: Arc::clone(&timer),
            notifier,
            resting: true,
            registers: Registers::AT_POWER_ON,
            counting: None,
            timed_out: false,
        }));
        let mut bars = [None; BARS];
        bars[0] = Some(Bar { len: 16 });
        Ok(Self {
            config: ConfigSpace::new(IDENTITY, bars),
            _watch: worker.watch(timer, EventSet::IN, engine.clone(), 0)?,
            engine,
        })
    }

    /// The handle for the machine.
    pub fn control(&self) -> WatchdogControl {
        WatchdogControl(Arc::clone(&self.engine))
    }
}

impl WatchdogControl {
    /// The guest rests: time stands still.
    pub fn hold(&self) {
        lock(&self.0).hold();
    }

    /// The guest runs again: time goes on.
    pub fn release(&self) {
        lock(&self.0).release();
    }
}

impl Handler for Engine {
    fn ready(&mut self, _token: u32) {
        self.look();
    }
}

impl Engine {
    /// Begins a stage.
    fn begin(&mut self, stage: usize) {
        let length = self.registers.length(stage);
        let left = if self.resting {
            Left::Held(length)
        } else {
            Left::Until((self.clock)().saturating_add(length))
        };
        self.counting = Some((stage, left));
        self.arm();
    }

    fn stop(&mut self) {
        self.counting = None;
        self.arm();
    }

    fn hold(&mut self) {
        self.resting = true;
        if let Some((_, left @ Left::Until(_))) = &mut self.counting
            && let Left::Until(end) = *left
        {
            *left = Left::Held(end.saturating_sub((self.clock)()));
        }
        self.arm();
    }

    fn release(&mut self) {
        self.resting = false;
        if let Some((_, left @ Left::Held(_))) = &mut self.counting
            && let Left::Held(rest) = *left
        {
            *left = Left::Until((self.clock)().saturating_add(rest));
        }
        self.arm();
    }

    /// Sets the timer to the end of the stage, or stops it.
    fn arm(&self) {
        let done = match self.counting {
            Some((_, Left::Until(end))) => {
                let rest = end.saturating_sub((self.clock)());
                self.timer.arm(rest.max(Duration::from_nanos(1)))
            }
            _ => self.timer.disarm(),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "could not set the watchdog's timer");
        }
    }

    /// Ends the stage if its time has come.
    fn look(&mut self) {
        let Some((stage, Left::Until(end))) = self.counting else {
            return;
        };
        if (self.clock)() < end {
            return self.arm();
        }
        if stage == 0 {
            self.registers.interrupted |= self.registers.config & INTERRUPT_TYPE == 0;
            return self.begin(1);
        }
        let acts = self.registers.config & OUTPUT_OFF == 0;
        if acts {
            self.timed_out = true;
            self.notifier.send(Notice::Watchdog);
        }
        if self.registers.lock & FREE_RUNNING != 0 {
            self.begin(0);
        } else {
            self.stop();
        }
    }

    fn reset(&mut self) {
        self.registers = Registers::AT_POWER_ON;
        self.stop();
    }

    /// The dword of configuration space at `at` that is this device's own.
    fn own_config(&self, at: u16) -> Option<[u8; 4]> {
        match at {
            CONFIG => Some(u32::from(self.registers.config).to_le_bytes()),
            LOCK => Some(u32::from(self.registers.lock).to_le_bytes()),
            _ => None,
        }
    }

    fn write_own_config(&mut self, at: u16, dword: [u8; 4]) {
        let [low, high, ..] = dword;
        if at == CONFIG {
            let value = u16::from_le_bytes([low, high]);
            self.registers.config = value & (INTERRUPT_TYPE | FAST | OUTPUT_OFF);
        } else if self.registers.lock & LOCKED == 0 {
            let was = self.registers.lock & ENABLED != 0;
            self.registers.lock = low & (LOCKED | ENABLED | FREE_RUNNING);
            match (was, low & ENABLED != 0) {
                (false, true) => self.begin(0),
                (true, false) => self.stop(),
                _ => {}
            }
        }
    }

    fn read(&self, offset: u64, data: &mut [u8]) {
        let [first, second] = self.registers.preloads;
        let told = if self.timed_out { TIMED_OUT } else { 0 };
        let values = [
            first,
            second,
            self.registers.interrupted.into(),
            told.into(),
        ];
        let mut bytes = [0; 16];
        for (place, value) in bytes.chunks_exact_mut(4).zip(values) {
            place.copy_from_slice(&u32::to_le_bytes(value));
        }
        super::virtio::read_config_bytes(&bytes, offset, data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let mut value = [0; 4];
        for (to, from) in value.iter_mut().zip(data) {
            *to = *from;
        }
        let value = u32::from_le_bytes(value);
        if offset == INTERRUPT {
            self.registers.interrupted &= value & 1 == 0;
            return;
        }
        let word = value as u16;
        let unlocked = std::mem::take(&mut self.registers.unlocked);
        if unlocked < UNLOCK.len() {
            if offset == RELOAD && UNLOCK.get(unlocked) == Some(&word) {
                self.registers.unlocked = unlocked + 1;
            }
            return;
        }
        if offset == RELOAD {
            self.timed_out &= word & TIMED_OUT == 0;
            if word & FEED != 0 && self.registers.lock & ENABLED != 0 {
                self.begin(0);
            }
        } else if let Some(stage) = PRELOADS.iter().position(|at| *at == offset)
            && let Some(preload) = self.registers.preloads.get_mut(stage)
            && data.len() == 4
        {
            *preload = value & PRELOAD_BITS;
        }
    }
}

impl PciFunction for Watchdog {
    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        match lock(&self.engine).own_config(offset & !3) {
            Some(own) => super::virtio::read_config_bytes(&own, (offset & 3).into(), data),
            None => self.config.read(offset, data),
        }
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) {
        let mut engine = lock(&self.engine);
        let Some(mut own) = engine.own_config(offset & !3) else {
            return self.config.write(offset, data);
        };
        for (byte, value) in own.iter_mut().skip((offset & 3).into()).zip(data) {
            *byte = *value;
        }
        engine.write_own_config(offset & !3, own);
    }

    fn ranges(&self) -> Vec<BarRange> {
        self.config.ranges()
    }

    fn mapped(&mut self, _bar: usize, _base: Option<u64>) {}

    fn read_bar(&mut self, _bar: usize, offset: u64, data: &mut [u8]) {
        lock(&self.engine).read(offset, data);
    }

    fn write_bar(&mut self, _bar: usize, offset: u64, data: &[u8]) {
        lock(&self.engine).write(offset, data);
    }

    fn reset(&mut self) {
        self.config.reset();
        lock(&self.engine).reset();
    }
}

#[cfg(test)]
#[path = "watchdog_tests.rs"]
mod tests;
