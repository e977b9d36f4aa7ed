//! vhost-net: the kernel moves the frames between a tap and a pair of queues, without the monitor.
//!
//! In come a tap, and two queues that were found to lie in the guest's memory; out go the guest's notifications and interrupts, by eventfds that both sides have. The kernel reads
//! the descriptors itself: an address in them is looked up in the table of the guest's memory that it was given, and one that is not there stops the queue and is told
//! by the error's eventfd. So a guest reaches no more than by the monitor, which asks it for a reset then too.
//!
//! When the tap is deleted, the kernel tells of an error too, forgets the frames of the guest that it was about to send (`vhost_tx_batch` of its drivers/vhost/net.c), and listens
//! to the tap no more. Whoever attaches another to the descriptor pulls the cable and puts it in: the queues are handed over anew then, from the first buffer that the guest has
//! not had back.
//!
//! Everything is opened before the sandbox closes; afterwards there are only requests on descriptors that are open. Source: the kernel's `include/uapi/linux/vhost.h`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};

use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use super::super::VirtioInterrupt;
use super::super::pci::{F_EVENT_IDX, F_INDIRECT, F_VERSION_1};
use super::super::ring::Ring;
use super::super::worker::Handler;
use super::{F_MRG_RXBUF, MOST_FRAME, Port};
use crate::bus::lock;
use crate::ioctl::{io, ior, iow, iowr};

/// The device that makes one for whoever opens it.
const DEVICE: &str = "/dev/vhost-net";
const VHOST: u32 = 0xaf;

/// What of the guest's features is the kernel's part. It must know all of them: they are offered to every guest.
const FEATURES: u64 = F_VERSION_1 | F_EVENT_IDX | F_INDIRECT | F_MRG_RXBUF;

/// Runs of memory that the kernel takes (`max_mem_regions` of the module vhost, as it is by itself).
const MOST_REGIONS: usize = 64;
/// Frames that a tap holds for the guest at most (`TUN_READQ_SIZE`, and the queue length that people set): so many are thrown away when a cable is put in.
const MOST_STALE: usize = 10_000;

const GET_FEATURES: u32 = ior::<u64>(VHOST, 0x00);
const SET_FEATURES: u32 = iow::<u64>(VHOST, 0x00);
const SET_OWNER: u32 = io(VHOST, 0x01);
const SET_MEM_TABLE: u32 = iow::<[u32; 2]>(VHOST, 0x03);
const SET_VRING_NUM: u32 = iow::<VringNumber>(VHOST, 0x10);
const SET_VRING_ADDR: u32 = iow::<VringPlace>(VHOST, 0x11);
const SET_VRING_BASE: u32 = iow::<VringNumber>(VHOST, 0x12);
const GET_VRING_BASE: u32 = iowr::<VringNumber>(VHOST, 0x12);
const SET_VRING_KICK: u32 = iow::<VringFile>(VHOST, 0x20);
const SET_VRING_CALL: u32 = iow::<VringFile>(VHOST, 0x21);
const SET_VRING_ERR: u32 = iow::<VringFile>(VHOST, 0x22);
const NET_SET_BACKEND: u32 = iow::<VringFile>(VHOST, 0x30);

/// Requests that are made once the monitor is in its sandbox.
pub const REQUESTS: [u32; 10] = [
    SET_FEATURES,
    SET_MEM_TABLE,
    SET_VRING_NUM,
    SET_VRING_ADDR,
    SET_VRING_BASE,
    GET_VRING_BASE,
    SET_VRING_KICK,
    SET_VRING_CALL,
    SET_VRING_ERR,
    NET_SET_BACKEND,
];

/// `struct vhost_vring_state`: a number of one of the two queues.
#[repr(C)]
struct VringNumber {
    index: u32,
    number: u32,
}

/// `struct vhost_vring_addr`: where a queue is in the monitor's own memory.
#[repr(C)]
struct VringPlace {
    index: u32,
    flags: u32,
    descriptors: u64,
    used: u64,
    available: u64,
    log: u64,
}

/// `struct vhost_vring_file`: a descriptor for one of the two queues; -1 takes it away.
#[repr(C)]
struct VringFile {
    index: u32,
    file: RawFd,
}

/// `struct vhost_memory_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    guest: u64,
    len: u64,
    own: u64,
    padding: u64,
}

/// `struct vhost_memory`, with room for all regions.
#[repr(C)]
struct MemoryTable {
    count: u32,
    padding: u32,
    regions: [Region; MOST_REGIONS],
}

/// A pair of queues in the kernel's hands.
pub(super) struct Vhost {
    file: File,
    port: Arc<dyn Port>,
    /// The port takes no part in what comes for all queues while the pair is not used; that of a device's first pair always does.
    optional: bool,
    /// Written when the guest is to be interrupted: about frames for it, and frames of it.
    calls: [Arc<EventFd>; 2],
    /// Written when the guest broke one of the queues.
    error: Arc<EventFd>,
    state: Mutex<State>,
}

/// Frames move while all of the first three hold.
struct State {
    /// The queues, to the guest and from it, if it set them up.
    rings: Option<[Ring; 2]>,
    /// It uses the pair.
    used: bool,
    /// The cable is in.
    up: bool,
    /// Frames move.
    moves: bool,
    /// The first buffer of each queue that the guest had not had back when the kernel last forgot some.
    forgot_at: Option<[u16; 2]>,
}

impl Vhost {
    /// Asks the kernel to move the frames of `port`, a tap, or with `optional` a queue of one beside others.
    ///
    /// # Errors
    /// The host has no vhost-net, or may not use it, or it is older than what guests are offered.
    pub fn open(port: Arc<dyn Port>, optional: bool, up: bool) -> io::Result<Self> {
        let event = || EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC).map(Arc::new);
        let vhost = Self {
            file: File::options().read(true).write(true).open(DEVICE)?,
            port,
            optional,
            calls: [event()?, event()?],
            error: event()?,
            state: Mutex::new(State {
                rings: None,
                used: false,
                up,
                moves: false,
                forgot_at: None,
            }),
        };
        let mut known = 0_u64;
        vhost.request(GET_FEATURES, &mut known)?;
        if known & FEATURES != FEATURES {
            let what = format!("its features {known:#x} are not enough");
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        vhost.request(SET_OWNER, &mut ())?;
        Ok(vhost)
    }

    /// Hands two queues over, to the guest and from it. Frames move once the pair is used.
    pub fn begin(&self, features: u64, rings: [Ring; 2]) -> io::Result<()> {
        let mut state = lock(&self.state);
        // An error before this is that of queues that are gone.
        let _ = self.error.read();
        let mut features = features & FEATURES;
        self.request(SET_FEATURES, &mut features)?;
        self.request(SET_MEM_TABLE, &mut table(rings[0].memory())?)?;
        for ((index, ring), call) in (0..).zip(&rings).zip(&self.calls) {
            let place = ring.place().ok_or(io::ErrorKind::InvalidInput)?;
            self.set_number(SET_VRING_NUM, index, place.size)?;
            self.set_number(SET_VRING_BASE, index, 0)?;
            let mut place = VringPlace {
                index,
                flags: 0,
                descriptors: place.descriptors,
                used: place.used,
                available: place.available,
                log: 0,
            };
            self.request(SET_VRING_ADDR, &mut place)?;
            let file = |request, event: &EventFd| self.set_file(request, index, event.as_raw_fd());
            file(SET_VRING_CALL, call)?;
            file(SET_VRING_ERR, &self.error)?;
            file(SET_VRING_KICK, &ring.kick())?;
        }
        (state.rings, state.forgot_at) = (Some(rings), None);
        Ok(())
    }

    /// Takes the queues back: the kernel does not touch the guest's memory any more.
    pub fn end(&self) {
        let mut state = lock(&self.state);
        state.used = false;
        if let Err(error) = self.settle(&mut state) {
            tracing::error!(%error, "the kernel does not give a pair of queues back");
        }
        state.rings = None;
    }

    /// Says whether the guest uses the pair.
    pub fn set_used(&self, used: bool) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.used = used;
        self.settle(&mut state)
    }

    /// Puts the cable in or pulls it. What came from outside meanwhile is lost; what the guest left in its queue goes when the cable is in again.
    pub fn set_link(&self, up: bool) {
        let mut state = lock(&self.state);
        if up && !state.up {
            let mut frame = vec![0; MOST_FRAME];
            let stale = |_: &usize| self.port.receive(&mut frame).is_ok();
            let lost = (0..MOST_STALE).take_while(stale).count();
            tracing::debug!(lost, "a cable was put in");
        }
        (state.up, state.forgot_at) = (up, None);
        if let Err(error) = self.settle(&mut state) {
            tracing::warn!(%error, up, "the kernel does not take a change of a cable");
        }
    }

    /// Whether the kernel moves frames now.
    #[cfg(test)]
    pub fn moves(&self) -> bool {
        lock(&self.state).moves
    }

    /// What is written when the guest is to hear of a queue of the pair, or broke one.
    pub fn events(&self) -> ([Arc<EventFd>; 2], Arc<EventFd>) {
        (self.calls.clone(), Arc::clone(&self.error))
    }

    /// Looks into an error that the kernel told of. If the guest broke a queue, the pair is taken back and the guest is to reset the device; it did not where the tap is gone, or
    /// was, and frames with it.
    fn look_into_error(&self, interrupt: &dyn VirtioInterrupt) {
        // Held to the end: a reset that came between would have the next driver told.
        let mut state = lock(&self.state);
        if self.error.read().is_err() || !state.moves || !self.port.leads_on() {
            return;
        }
        let mended = self.take_back(&mut state).and_then(|forgot| {
            // What fails again where it failed before is the guest's doing.
            let again = forgot.is_none() || state.forgot_at == forgot;
            state.forgot_at = forgot;
            if !again {
                self.settle(&mut state)?;
            }
            Ok(!again)
        });
        let mended = mended.unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel does not go on with a pair of queues");
            false
        });
        if !mended {
            tracing::warn!("guest broke a virtio ring: the device waits for a reset");
            interrupt.needs_reset();
        }
    }

    /// Has frames move, or not.
    fn settle(&self, state: &mut State) -> io::Result<()> {
        let wanted = state.rings.is_some() && state.used && state.up;
        if state.moves && !wanted {
            self.take_back(state)?;
        }
        if self.optional {
            self.port.attach(state.used)?;
        }
        // A cable that leads nowhere is put in anew once it does.
        if state.moves || !wanted || !self.port.leads_on() {
            return Ok(());
        }
        let port = self.port.as_raw_fd();
        self.set_backend(port).inspect_err(|_| {
            // Half of a pair would be served.
            let _ = self.set_backend(-1);
        })?;
        state.moves = true;
        Ok(())
    }

    /// Has the kernel stop, and go on later at the first buffer of each queue that the guest has not had back. Which those are, if it had taken one of them already.
    fn take_back(&self, state: &mut State) -> io::Result<Option<[u16; 2]>> {
        self.set_backend(-1)?;
        state.moves = false;
        // Of an error before this, what comes of it is known now.
        let _ = self.error.read();
        let mut firsts = [0; 2];
        let mut forgot = false;
        let rings = state.rings.iter().flatten();
        for ((index, ring), first) in (0..).zip(rings).zip(&mut firsts) {
            *first = ring.given_back().ok_or(io::ErrorKind::InvalidInput)?;
            let mut taken = VringNumber { index, number: 0 };
            self.request(GET_VRING_BASE, &mut taken)?;
            forgot |= taken.number != u32::from(*first);
            self.set_number(SET_VRING_BASE, index, *first)?;
        }
        Ok(forgot.then_some(firsts))
    }

    fn set_backend(&self, file: RawFd) -> io::Result<()> {
        let both = [0, 1].map(|index| self.set_file(NET_SET_BACKEND, index, file));
        both.into_iter().collect()
    }

    fn set_number(&self, request: u32, index: u32, number: u16) -> io::Result<()> {
        let number = number.into();
        self.request(request, &mut VringNumber { index, number })
    }

    fn set_file(&self, request: u32, index: u32, file: RawFd) -> io::Result<()> {
        self.request(request, &mut VringFile { index, file })
    }

    fn request<T>(&self, request: u32, argument: &mut T) -> io::Result<()> {
        // SAFETY: each request of this file is made with the type that its number states the size of, behind a pointer to a live value: the kernel reads or writes
        // one of them. (The memory's table is longer than its number says, by as many regions as it counts.) Addresses inside are of queues and memory that the device keeps
        // mapped until `end` or the descriptor's close.
        let done = unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                request.into(),
                std::ptr::from_mut(argument),
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The guest's memory, as the kernel looks addresses up.
fn table(memory: &GuestMemoryMmap) -> io::Result<MemoryTable> {
    let mut table = MemoryTable {
        count: 0,
        padding: 0,
        regions: [Region::default(); MOST_REGIONS],
    };
    let count = memory.num_regions();
    if count > MOST_REGIONS {
        let what = format!("the guest's memory is in {count} pieces");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    for (place, region) in table.regions.iter_mut().zip(memory.iter()) {
        *place = Region {
            guest: region.start_addr().0,
            len: region.len(),
            own: region.as_ptr().addr() as u64,
            padding: 0,
        };
        table.count += 1;
    }
    Ok(table)
}

/// Interrupts the guest where no line does so without the monitor.
pub(super) struct Calls {
    /// The number of the pair's first queue.
    pub first: u16,
    pub interrupt: Arc<dyn VirtioInterrupt>,
    pub vhost: Arc<Vhost>,
}

impl Calls {
    /// What the eventfds are watched with, by their places in the pair; the one of errors comes after them.
    pub const ERROR: u32 = 2;
}

impl Handler for Calls {
    fn ready(&mut self, token: u32) {
        match (self.vhost.calls.get(token as usize), token) {
            // Nothing to read is a call that somebody else has passed on.
            (Some(call), _) if call.read().is_ok() => {
                self.interrupt.queue(self.first + token as u16);
            }
            (None, Self::ERROR) => self.vhost.look_into_error(&*self.interrupt),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "vhost_tests.rs"]
mod tests;
