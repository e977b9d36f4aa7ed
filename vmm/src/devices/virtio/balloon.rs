//! Virtio memory balloon (virtio 1.2, section 5.5): the guest gives pages up and takes them back.
//!
//! In come, from outside, how much memory the guest should keep ([`BalloonControl::set_target`]) and, from the guest, lists of pages it gave
//! up, that it takes back, or that happen to be free, and statistics, for which it is asked every so often; out go pages back to the host by `madvise`. A page number outside guest
//! memory is skipped: a guest can only give up what it has, and gets zeroes where it gave up what it still uses.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::ring::{Chain, Ring};
use super::worker::{Handler, Timer, Watch, Worker};
use super::{
    ActivateError, Activation, DeviceType, VirtioDevice, VirtioInterrupt, read_config_bytes,
};
use crate::bus::lock;
use crate::clock;
use crate::config::Bytes;
use crate::control::wire::BalloonStats;
use crate::memory::giving_back;

/// Bytes of a page, as the balloon counts them, whatever the guest's own pages are.
const PAGE: u64 = 4096;
/// Page numbers looked at at once.
const BATCH: u64 = 1024;
/// Bytes of one statistic: a tag of 16 bits and a value of 64.
const STAT: usize = 10;
/// Statistics taken from one report; there are ten or so.
const MOST_STATS: usize = 32;

const F_STATS: u64 = 1 << 1;
const F_DEFLATE_ON_OOM: u64 = 1 << 2;
const F_REPORTING: u64 = 1 << 5;

/// What statistics are called: by tag (virtio 1.2, section 5.5.6.4), in the words of `virsh dommemstat`. Memory is in bytes.
pub const NAMES: [&str; 10] = [
    "swap-in",
    "swap-out",
    "major-fault",
    "minor-fault",
    "unused",
    "available",
    "usable",
    "disk-caches",
    "hugetlb-pgalloc",
    "hugetlb-pgfail",
];

/// Where the queues are that exist always.
const INFLATE: u16 = 0;
const DEFLATE: u16 = 1;
/// The timer's token, beside the queues' places.
const TIMER: u32 = u32::MAX;

/// A balloon as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Spec {
    /// The guest's memory.
    pub memory: Bytes,
    /// How much of it the guest keeps at first: all if left out.
    #[serde(default)]
    pub target: Option<Bytes>,
    /// Seconds between reports that the guest is asked for, at least 1; none is asked for by itself if left out.
    #[serde(default)]
    pub period: Option<u32>,
    /// The guest may take pages back when it is short of memory.
    #[serde(default)]
    pub deflate_on_oom: bool,
    /// The guest may tell of free pages.
    #[serde(default)]
    pub free_page_reporting: bool,
}

/// One number that the guest reported (virtio 1.2, section 5.5.6.4), by tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistic {
    /// What it is: 4 free memory, 5 total memory, 6 available memory, …
    pub tag: u16,
    /// Its value; bytes for memory, counts for faults and swaps.
    pub value: u64,
}

/// The balloon.
pub struct Balloon {
    engine: Arc<Mutex<Engine>>,
    worker: Arc<Worker>,
    watches: Vec<Watch>,
    features: u64,
    _timer: Watch,
}

/// The handle by which the machine asks for memory, and looks.
#[derive(Clone)]
pub struct BalloonControl(Arc<Mutex<Engine>>);

/// What a queue is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Inflate,
    Deflate,
    Statistics,
    Reporting,
}

/// What the worker works on.
struct Engine {
    memory_size: u64,
    /// Pages that the guest should give up.
    wanted: u32,
    /// Pages that it says it has given up.
    actual: u32,
    interrupt: Option<Arc<dyn VirtioInterrupt>>,
    rings: Vec<(Purpose, Ring)>,
    /// The report that the guest has filled in and gets back when the next one is wanted.
    report: Option<u16>,
    statistics: Vec<Statistic>,
    /// When they were reported: seconds since 1970.
    reported_at: Option<u64>,
    period: Option<Duration>,
    timer: Arc<Timer>,
}

impl Balloon {
    /// A balloon. `worker` may serve other small devices too.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new(spec: &Spec, worker: Arc<Worker>) -> io::Result<Self> {
        let timer = Timer::new()?;
        let mut engine = Engine {
            memory_size: spec.memory.0,
            wanted: 0,
            actual: 0,
            interrupt: None,
            rings: Vec::new(),
            report: None,
            statistics: Vec::new(),
            reported_at: None,
            period: spec
                .period
                .map(|seconds| Duration::from_secs(seconds.max(1).into())),
            timer: Arc::clone(&timer),
        };
        engine.set_target(spec.target.unwrap_or(spec.memory));
        let engine = Arc::new(Mutex::new(engine));
        let offered = [
            (true, F_STATS),
            (spec.deflate_on_oom, F_DEFLATE_ON_OOM),
            (spec.free_page_reporting, F_REPORTING),
        ];
        Ok(Self {
            _timer: worker.watch(timer, EventSet::IN, engine.clone(), TIMER)?,
            engine,
            worker,
            watches: Vec::new(),
            features: offered
                .iter()
                .filter(|(on, _)| *on)
                .map(|(_, bit)| bit)
                .sum(),
        })
    }

    /// The handle for requests from outside.
    pub fn control(&self) -> BalloonControl {
        BalloonControl(Arc::clone(&self.engine))
    }
}

impl BalloonControl {
    /// Asks the guest to keep `target` of its memory and give up the rest. It does so when it can; [`BalloonControl::actual`] tells how far
    /// it is.
    pub fn set_target(&self, target: Bytes) {
        let interrupt = {
            let mut engine = lock(&self.0);
            engine.set_target(target);
            engine.interrupt.clone()
        };
        if let Some(interrupt) = interrupt {
            interrupt.config_changed();
        }
    }

    /// What the guest was asked to keep.
    pub fn target(&self) -> Bytes {
        let engine = lock(&self.0);
        engine.kept(engine.wanted)
    }

    /// What the guest says it has.
    pub fn actual(&self) -> Bytes {
        let engine = lock(&self.0);
        engine.kept(engine.actual)
    }

    /// How the balloon is, with the guest's last report. Where none is asked for by itself, the next one is asked for.
    pub fn stats(&self) -> BalloonStats {
        let mut engine = lock(&self.0);
        if engine.period.is_none() {
            engine.ask_for_report();
        }
        let named = engine.statistics.iter().filter_map(|reported| {
            let name = NAMES.get(usize::from(reported.tag))?;
            Some(((*name).to_owned(), reported.value))
        });
        BalloonStats {
            target: engine.kept(engine.wanted),
            actual: engine.kept(engine.actual),
            reported: named.collect::<BTreeMap<_, _>>(),
            reported_at: engine.reported_at,
        }
    }
}

impl VirtioDevice for Balloon {
    fn device_type(&self) -> DeviceType {
        DeviceType::Balloon
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &[128, 128, 64, 64]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let engine = lock(&self.engine);
        let mut config = [0; 8];
        config[..4].copy_from_slice(&engine.wanted.to_le_bytes());
        config[4..].copy_from_slice(&engine.actual.to_le_bytes());
        read_config_bytes(&config, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (4, Ok(actual)) = (offset, data.try_into()) {
            lock(&self.engine).actual = u32::from_le_bytes(actual);
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let Activation {
            memory,
            queues,
            interrupt,
            features,
        } = activation;
        // Queues that were not agreed on have no number: those after them move up.
        let optional = [
            (F_STATS, Purpose::Statistics),
            (F_REPORTING, Purpose::Reporting),
        ];
        let purposes = [Purpose::Inflate, Purpose::Deflate].into_iter();
        let purposes: Vec<_> = purposes
            .chain(
                optional
                    .into_iter()
                    .filter(|(bit, _)| features & bit != 0)
                    .map(|(_, p)| p),
            )
            .collect();
        let mut rings = Vec::new();
        for queue in queues {
            if let Some(&purpose) = purposes.get(usize::from(queue.index)) {
                rings.push((
                    purpose,
                    Ring::new(queue, memory.clone(), Arc::clone(&interrupt)),
                ));
            }
        }
        for needed in [INFLATE, DEFLATE] {
            if !rings.iter().any(|(_, ring)| ring.index() == needed) {
                return Err(ActivateError::MissingQueue(needed));
            }
        }
        let kicks: Vec<_> = rings.iter().map(|(_, ring)| ring.kick()).collect();
        {
            let mut engine = lock(&self.engine);
            engine.rings = rings;
            engine.interrupt = Some(interrupt);
            engine.wait_for_next();
        }
        for (kick, token) in kicks.into_iter().zip(0..) {
            let watch = self
                .worker
                .watch(kick, EventSet::IN, self.engine.clone(), token);
            let failed = |source| ActivateError::Io {
                what: "watch a queue of the balloon",
                source,
            };
            self.watches.push(watch.map_err(failed)?);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.watches.clear();
        let mut engine = lock(&self.engine);
        engine.rings.clear();
        engine.interrupt = None;
        engine.report = None;
        engine.statistics.clear();
        engine.reported_at = None;
        engine.actual = 0;
        let _ = engine.timer.disarm();
    }
}

impl Handler for Engine {
    fn ready(&mut self, token: u32) {
        if token == TIMER {
            self.ask_for_report();
            return self.wait_for_next();
        }
        let mut rings = std::mem::take(&mut self.rings);
        if let Some((purpose, ring)) = rings.get_mut(token as usize) {
            match purpose {
                Purpose::Inflate => ring.serve(|memory, chain| {
                    give_up_listed(memory, chain);
                    Ok(0)
                }),
                // The pages come back by themselves when the guest touches them.
                Purpose::Deflate => ring.serve(|_, _| Ok(0)),
                Purpose::Statistics => self.take_report(ring),
                Purpose::Reporting => ring.serve(|memory, chain| {
                    chain
                        .writable
                        .iter()
                        .for_each(|free| give_up(memory, free.addr.0, free.len.into()));
                    Ok(0)
                }),
            }
        }
        self.rings = rings;
    }
}

impl Engine {
    fn set_target(&mut self, target: Bytes) {
        let given_up = self.memory_size.saturating_sub(target.0) / PAGE;
        self.wanted = u32::try_from(given_up).unwrap_or(u32::MAX);
    }

    fn kept(&self, given_up: u32) -> Bytes {
        // The guest may claim any number of pages.
        Bytes(self.memory_size.saturating_sub(u64::from(given_up) * PAGE))
    }

    /// Reads a report and keeps its chain, which is how the guest learns later that the next one is wanted.
    fn take_report(&mut self, ring: &mut Ring) {
        while let Some(chain) = ring.pop() {
            let mut bytes = [0; STAT * MOST_STATS];
            let len = chain.readable.read(ring.memory(), &mut bytes);
            let reported = bytes.get(..len).unwrap_or_default().as_chunks::<STAT>().0;
            self.statistics = reported
                .iter()
                .map(|&[t0, t1, value @ ..]| Statistic {
                    tag: u16::from_le_bytes([t0, t1]),
                    value: u64::from_le_bytes(value),
                })
                .collect();
            // One report is under way at a time; a guest that sends more gets the older ones back.
            self.reported_at = u64::try_from(clock::now()).ok();
            if let Some(older) = self.report.replace(chain.head) {
                ring.push(older, 0);
            }
        }
        ring.listen();
    }

    /// Sets the timer to when the next report is due, if there is somebody to ask for it.
    fn wait_for_next(&self) {
        let asks = self
            .rings
            .iter()
            .any(|(purpose, _)| *purpose == Purpose::Statistics);
        let Some(period) = self.period.filter(|_| asks) else {
            return;
        };
        if let Err(error) = self.timer.arm(period) {
            tracing::warn!(%error, "could not set the balloon's timer");
        }
    }

    fn ask_for_report(&mut self) {
        let ring = self
            .rings
            .iter_mut()
            .find(|(purpose, _)| *purpose == Purpose::Statistics);
        if let Some((_, ring)) = ring
            && let Some(head) = self.report.take()
        {
            ring.push(head, 0);
            ring.notify();
        }
    }
}

/// Gives up the pages whose numbers a chain lists.
fn give_up_listed(memory: &GuestMemoryMmap, mut chain: Chain) {
    // Neighbours are given up together: guests mostly list runs, up or down.
    let mut run: Option<(u64, u64)> = None;
    while !chain.readable.is_empty() {
        let mut bytes = [0; 4 * BATCH as usize];
        let len = chain.readable.take(4 * BATCH).read(memory, &mut bytes);
        for number in bytes.get(..len).unwrap_or_default().as_chunks::<4>().0 {
            let page = u64::from(u32::from_le_bytes(*number));
            run = match run {
                Some((first, count)) if page == first + count => Some((first, count + 1)),
                Some((first, count)) if page + 1 == first => Some((page, count + 1)),
                Some((first, count)) => {
                    give_up(memory, first * PAGE, count * PAGE);
                    Some((page, 1))
                }
                None => Some((page, 1)),
            };
        }
    }
    if let Some((first, count)) = run {
        give_up(memory, first * PAGE, count * PAGE);
    }
}

/// Returns the whole pages within `len` bytes at `addr` to the host; they read as zero from then on. What is not guest memory is left alone.
fn give_up(memory: &GuestMemoryMmap, addr: u64, len: u64) {
    let Some(end) = addr.checked_add(len) else {
        return;
    };
    let (start, end) = (addr.next_multiple_of(PAGE), end / PAGE * PAGE);
    let Some(len) = end
        .checked_sub(start)
        .and_then(|len| usize::try_from(len).ok())
        .filter(|&len| len > 0)
    else {
        return;
    };
    let Ok(slice) = memory.get_slice(GuestAddress(start), len) else {
        return;
    };
    let Some(region) = memory.find_region(GuestAddress(start)) else {
        return;
    };
    let advice = giving_back(region);
    let guard = slice.ptr_guard_mut();
    // SAFETY: the slice is `len` mapped bytes of guest memory, which `guard` keeps mapped. Nobody in this process holds
    // references into guest memory, only volatile views, so that its pages may turn to zero at any time.
    let done = unsafe { libc::madvise(guard.as_ptr().cast(), len, advice) };
    if done != 0 {
        // Part of a huge page, say: it stays, which costs the host memory and harms nobody.
        tracing::debug!(start, len, error = %std::io::Error::last_os_error(), "pages of the balloon were not given up");
    }
}

#[cfg(test)]
#[path = "balloon_tests.rs"]
mod tests;
