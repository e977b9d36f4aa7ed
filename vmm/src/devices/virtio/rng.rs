//! Virtio entropy device (virtio 1.2, section 5.4): one queue of buffers that are filled with random bytes.
//!
//! In come the guest's buffers; out go bytes of a source file, `/dev/urandom` unless the guest's definition names another.
//! A guest may ask without end: [`BURST`] bytes each [`PERIOD`] bound what it can cost. When the source fails, the guest
//! gets an empty answer and may ask again.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use super::ring::{Chain, Ring};
use super::worker::{Handler, Timer, Watch, Worker};
use super::{ActivateError, Activation, DeviceType, VirtioDevice};
use crate::bus::lock;

/// Bytes that a guest gets in one [`PERIOD`] at most: 10 MiB a second.
pub const BURST: u64 = 1 << 20;
/// How often the budget is filled up again.
pub const PERIOD: Duration = Duration::from_millis(100);
/// Bytes read from the source at once; also the most in one answer, whatever the size of the guest's buffer: it asks again for more.
const MOST: usize = 16 * 1024;

const QUEUE: u32 = 0;
const REFILL: u32 = 1;

/// An entropy device as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Spec {
    /// File that the bytes come from.
    #[serde(default = "Spec::urandom")]
    pub source: PathBuf,
}

impl Spec {
    fn urandom() -> PathBuf {
        PathBuf::from("/dev/urandom")
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            source: Self::urandom(),
        }
    }
}

/// The entropy device.
pub struct Rng {
    engine: Arc<Mutex<Engine>>,
    worker: Arc<Worker>,
    watches: Vec<Watch>,
}

/// What the worker works on.
struct Engine {
    source: File,
    timer: Arc<Timer>,
    budget: u64,
    ring: Option<Ring>,
}

impl Rng {
    /// Opens the source. `worker` may serve other small devices too.
    pub fn new(spec: &Spec, worker: Arc<Worker>) -> io::Result<Self> {
        let source = File::open(&spec.source)?;
        let timer = Timer::new()?;
        Ok(Self {
            engine: Arc::new(Mutex::new(Engine {
                source,
                timer,
                budget: BURST,
                ring: None,
            })),
            worker,
            watches: Vec::new(),
        })
    }
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> DeviceType {
        DeviceType::Rng
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[64]
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let active = activation
            .queues
            .into_iter()
            .find(|queue| queue.index == 0)
            .ok_or(ActivateError::MissingQueue(0))?;
        let ring = Ring::new(active, activation.memory, activation.interrupt);
        let kick = ring.kick();
        let timer = {
            let mut engine = lock(&self.engine);
            engine.ring = Some(ring);
            Arc::clone(&engine.timer)
        };
        let failed = |source| ActivateError::Io {
            what: "watch the queue of the entropy device",
            source,
        };
        self.watches.push(
            self.worker
                .watch(kick, EventSet::IN, self.engine.clone(), QUEUE)
                .map_err(failed)?,
        );
        self.watches.push(
            self.worker
                .watch(timer, EventSet::IN, self.engine.clone(), REFILL)
                .map_err(failed)?,
        );
        Ok(())
    }

    fn reset(&mut self) {
        self.watches.clear();
        lock(&self.engine).ring = None;
    }
}

impl Handler for Engine {
    fn ready(&mut self, token: u32) {
        if token == REFILL {
            self.budget = BURST;
        }
        self.serve();
    }
}

impl Engine {
    fn serve(&mut self) {
        let Some(mut ring) = self.ring.take() else {
            return;
        };
        loop {
            while self.budget > 0
                && let Some(chain) = ring.pop()
            {
                let head = chain.head;
                let written = self.fill(ring.memory(), &chain);
                ring.push(head, written);
            }
            if self.budget == 0 || !ring.listen() {
                break;
            }
        }
        ring.notify();
        self.ring = Some(ring);
        if self.budget == 0 {
            self.wait_for_budget();
        }
    }

    /// Fills one buffer, as far as the budget goes. A chain without room costs budget too, or a guest could loop for nothing.
    fn fill(&mut self, memory: &GuestMemoryMmap, chain: &Chain) -> u32 {
        let most = chain.writable.len().min(self.budget).min(MOST as u64) as usize;
        self.budget = self.budget.saturating_sub(most.max(64) as u64);
        let mut bytes = [0; MOST];
        let Some(bytes) = bytes.get_mut(..most) else {
            return 0;
        };
        match self.source.read(bytes) {
            Ok(got) => chain
                .writable
                .write(memory, bytes.get(..got).unwrap_or_default()) as u32,
            Err(error) => {
                tracing::warn!(%error, "could not read the source of entropy");
                0
            }
        }
    }

    fn wait_for_budget(&self) {
        if let Err(error) = self.timer.arm(PERIOD) {
            tracing::warn!(%error, "could not set the entropy device's timer");
        }
    }
}

#[cfg(test)]
#[path = "rng_tests.rs"]
mod tests;
