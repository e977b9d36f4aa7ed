//! Virtio network device (virtio 1.2, section 5.1): a queue of frames to the guest and one from it, on a tap.
//!
//! In come frames of the tap and of the guest's transmit queue, each after the 12 bytes of `struct virtio_net_hdr_v1`; out they go on the
//! other side. Checksums and segmentation are left to whoever can do them best: what the guest and the tap agree on passes
//! through untouched. A frame is never longer than [`MOST_FRAME`]; what is longer, or shorter than its header, is dropped, as a
//! wire would. When the guest has no room the frames wait in the tap, whose queue the kernel bounds.
//!
//! Frames pass through one buffer each way: the guest cannot change a header between the check and the kernel's use of it. A kernel thread
//! that skips this copy (vhost-net) would take the queues over in [`VirtioDevice::activate`].

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::ring::{Chain, Ring};
use super::worker::{Handler, Watch, Worker};
use super::{ActivateError, Activation, DeviceType, VirtioDevice, read_config_bytes};
use crate::bus::lock;
use crate::config::LinkState;

mod link;
mod tap;

pub use link::LinkControl;
pub use tap::{Tap, TapError};

/// Bytes before each frame (`struct virtio_net_hdr_v1`).
pub const HEADER: usize = 12;
/// Where the header counts the receive buffers of a frame.
const NUM_BUFFERS: usize = 10;
/// Header and frame at most: a 64 KiB segment with its Ethernet header and tag.
pub const MOST_FRAME: usize = HEADER + 65536 + 18;
/// Frames moved one way before the other way has its turn.
const TURN: usize = 64;

const F_CSUM: u64 = 1 << 0;
const F_GUEST_CSUM: u64 = 1 << 1;
const F_MTU: u64 = 1 << 3;
const F_MAC: u64 = 1 << 5;
const F_GUEST_TSO4: u64 = 1 << 7;
const F_GUEST_TSO6: u64 = 1 << 8;
const F_GUEST_ECN: u64 = 1 << 9;
const F_HOST_TSO4: u64 = 1 << 11;
const F_HOST_TSO6: u64 = 1 << 12;
const F_HOST_ECN: u64 = 1 << 13;
const F_MRG_RXBUF: u64 = 1 << 15;
const F_STATUS: u64 = 1 << 16;
const FEATURES: u64 = F_CSUM
    | F_GUEST_CSUM
    | F_MAC
    | F_GUEST_TSO4
    | F_GUEST_TSO6
    | F_GUEST_ECN
    | F_HOST_TSO4
    | F_HOST_TSO6
    | F_HOST_ECN
    | F_MRG_RXBUF
    | F_STATUS;

/// Length of the configuration, whose last field is the MTU: `struct virtio_net_config`.
const CONFIG: usize = 12;
/// Where the configuration tells the link's status.
const STATUS_AT: std::ops::Range<usize> = 6..8;
/// Where the configuration tells the largest packet.
const MTU_AT: std::ops::Range<usize> = 10..12;

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const TOKEN_QUEUE: u32 = 0;
const TOKEN_PORT: u32 = 1;
const TOKEN_AGAIN: u32 = 2;

/// A network device as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Spec {
    /// Name of the tap.
    pub tap: String,
    /// The guest's address.
    pub mac: [u8; 6],
    /// Whether the cable is in at first.
    #[serde(default)]
    pub link: LinkState,
    /// The largest packet that the guest is to send, in bytes; not told if left out.
    #[serde(default)]
    pub mtu: Option<u16>,
}

/// What the host can do for the guest with the frames it sends there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// The guest takes frames without checksums.
    pub checksum: bool,
    /// The guest takes long TCP segments over IPv4.
    pub tso4: bool,
    /// The guest takes long TCP segments over IPv6.
    pub tso6: bool,
    /// The guest takes long TCP segments with congestion bits.
    pub ecn: bool,
}

impl Offload {
    fn from_features(features: u64) -> Self {
        let has = |bit| features & bit != 0;
        let checksum = has(F_GUEST_CSUM);
        let (tso4, tso6) = (checksum && has(F_GUEST_TSO4), checksum && has(F_GUEST_TSO6));
        Self {
            checksum,
            tso4,
            tso6,
            ecn: (tso4 || tso6) && has(F_GUEST_ECN),
        }
    }
}

/// Where frames go to and come from: a tap, or in tests a socket. A read or write is one frame with its header, and never waits.
pub trait Port: AsRawFd + Send + Sync {
    /// Takes the next frame; `WouldBlock` when there is none.
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize>;
    /// Sends a frame.
    fn send(&self, frame: &[u8]) -> io::Result<usize>;
    /// Says what the guest takes.
    fn set_offload(&self, offload: Offload) -> io::Result<()>;
}

/// The network device.
pub struct Net {
    mac: [u8; 6],
    mtu: Option<u16>,
    link: LinkControl,
    port: Arc<dyn Port>,
    engine: Arc<Mutex<Engine>>,
    worker: Arc<Worker>,
    watches: Vec<Watch>,
}

/// What the worker works on.
struct Engine {
    port: Arc<dyn Port>,
    link: LinkControl,
    again: Arc<EventFd>,
    merge: bool,
    rings: Option<Rings>,
    /// A frame on its way to the guest, and its length: 0 when there is none.
    incoming: Box<[u8]>,
    waiting: usize,
    outgoing: Box<[u8]>,
}

struct Rings {
    receive: Ring,
    transmit: Ring,
}

impl Net {
    /// Opens the tap.
    pub fn new(spec: &Spec, worker: Arc<Worker>) -> Result<Self, TapError> {
        let tap = Tap::open(&spec.tap)?;
        Self::with_port(spec, Arc::new(tap), worker).map_err(|source| TapError {
            tap: spec.tap.clone(),
            what: "prepare",
            source,
        })
    }

    /// A device on any port: the tap that `spec` names is left alone.
    pub fn with_port(spec: &Spec, port: Arc<dyn Port>, worker: Arc<Worker>) -> io::Result<Self> {
        let link = LinkControl::new(spec.link);
        let again = Arc::new(EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?);
        let engine = Engine {
            port: Arc::clone(&port),
            link: link.clone(),
            again,
            merge: false,
            rings: None,
            incoming: Box::default(),
            waiting: 0,
            outgoing: Box::default(),
        };
        Ok(Self {
            mac: spec.mac,
            mtu: spec.mtu,
            link,
            port,
            engine: Arc::new(Mutex::new(engine)),
            worker,
            watches: Vec::new(),
        })
    }

    /// The handle by which the machine pulls the cable and puts it in.
    pub fn link(&self) -> LinkControl {
        self.link.clone()
    }

    fn config(&self) -> [u8; CONFIG] {
        let mut config = [0; CONFIG];
        config[..6].copy_from_slice(&self.mac);
        config[STATUS_AT].copy_from_slice(&self.link.status().to_le_bytes());
        config[MTU_AT].copy_from_slice(&self.mtu.unwrap_or(0).to_le_bytes());
        config
    }

    fn watch(&mut self, kicks: [Arc<EventFd>; 2]) -> io::Result<()> {
        for kick in kicks {
            self.watches.push(self.worker.watch(
                kick,
                EventSet::IN,
                self.engine.clone(),
                TOKEN_QUEUE,
            )?);
        }
        let again = Arc::clone(&lock(&self.engine).again);
        self.watches.push(self.worker.watch(
            again,
            EventSet::IN,
            self.engine.clone(),
            TOKEN_AGAIN,
        )?);
        self.watches.push(self.worker.watch(
            self.port.clone(),
            EventSet::IN,
            self.engine.clone(),
            TOKEN_PORT,
        )?);
        Ok(())
    }
}

impl VirtioDevice for Net {
    fn device_type(&self) -> DeviceType {
        DeviceType::Net
    }

    fn features(&self) -> u64 {
        FEATURES | if self.mtu.is_some() { F_MTU } else { 0 }
    }

    fn queue_sizes(&self) -> &[u16] {
        &[256, 256]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config_bytes(&self.config(), offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let Activation {
            memory,
            queues,
            interrupt,
            features,
        } = activation;
        let mut rings = [None, None];
        for queue in queues {
            if let Some(place) = rings.get_mut(usize::from(queue.index)) {
                *place = Some(Ring::new(queue, memory.clone(), Arc::clone(&interrupt)));
            }
        }
        let [receive, transmit] = rings;
        let receive = receive.ok_or(ActivateError::MissingQueue(RECEIVE))?;
        let transmit = transmit.ok_or(ActivateError::MissingQueue(TRANSMIT))?;
        let offload = Offload::from_features(features);
        self.port
            .set_offload(offload)
            .map_err(|source| ActivateError::Io {
                what: "set the tap's offloads",
                source,
            })?;
        self.link.activate(interrupt);
        let kicks = [receive.kick(), transmit.kick()];
        {
            let mut engine = lock(&self.engine);
            engine.merge = features & F_MRG_RXBUF != 0;
            engine.incoming = vec![0; MOST_FRAME].into();
            engine.outgoing = vec![0; MOST_FRAME].into();
            engine.waiting = 0;
            engine.rings = Some(Rings { receive, transmit });
        }
        self.watch(kicks).map_err(|source| ActivateError::Io {
            what: "watch the queues of a network device",
            source,
        })
    }

    fn reset(&mut self) {
        self.watches.clear();
        self.link.reset();
        let mut engine = lock(&self.engine);
        engine.rings = None;
        engine.incoming = Box::default();
        engine.outgoing = Box::default();
        engine.waiting = 0;
    }
}

impl Handler for Engine {
    fn ready(&mut self, _token: u32) {
        let Some(mut rings) = self.rings.take() else {
            return;
        };
        let more_in = self.receive(&mut rings.receive);
        let more_out = self.transmit(&mut rings.transmit);
        self.rings = Some(rings);
        // Edges are told once: what this turn left undone is asked for again, after whatever else waits for this thread.
        if (more_in || more_out)
            && let Err(error) = self.again.write(1)
        {
            tracing::warn!(%error, "a network device could not go on");
        }
    }
}

impl Engine {
    /// Moves frames to the guest; says whether there may be more now.
    fn receive(&mut self, ring: &mut Ring) -> bool {
        let mut moved = 0;
        let more = loop {
            if moved == TURN {
                break true;
            }
            if self.waiting == 0 {
                match self.port.receive(&mut self.incoming) {
                    Ok(len) => self.waiting = len,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                    Err(error) => {
                        tracing::debug!(%error, "could not take a frame from the tap");
                        break false;
                    }
                }
            }
            // A pulled cable loses what it is given, rather than keep it for later.
            if self.waiting < HEADER || !self.link.is_up() {
                self.waiting = 0;
                moved += 1;
                continue;
            }
            if !self.deliver(ring) {
                // The frame stays; the guest's next kick brings its room.
                break false;
            }
            self.waiting = 0;
            moved += 1;
        };
        if moved > 0 {
            ring.notify();
        }
        more
    }

    /// Puts the waiting frame into the guest's buffers: `false` if there is not enough room yet.
    fn deliver(&mut self, ring: &mut Ring) -> bool {
        let mut chains: Vec<Chain> = Vec::new();
        let mut room = 0;
        // The ring holds its size in chains at most, and a broken one none: this ends.
        while room < self.waiting as u64 {
            if let Some(chain) = ring.pop() {
                room += chain.writable.len();
                chains.push(chain);
                if !self.merge {
                    break;
                }
            } else if !ring.listen() {
                // Only now put them back: the guest is to notify when it adds to these, not for these.
                chains.iter().for_each(|_| ring.unpop());
                return false;
            }
        }
        let count = u16::try_from(chains.len()).unwrap_or(u16::MAX);
        if let Some(place) = self.incoming.get_mut(NUM_BUFFERS..HEADER) {
            place.copy_from_slice(&count.to_le_bytes());
        }
        let mut rest = self.incoming.get(..self.waiting).unwrap_or_default();
        for chain in chains {
            // A frame too long for the one buffer that the guest gave it is cut off, and useless to it; that is what it asked for.
            let written = chain.writable.write(ring.memory(), rest);
            rest = rest.get(written..).unwrap_or_default();
            ring.push(chain.head, written as u32);
        }
        true
    }

    /// Moves frames from the guest; says whether there may be more now.
    fn transmit(&mut self, ring: &mut Ring) -> bool {
        let mut moved = 0;
        let more = loop {
            if moved == TURN {
                break true;
            }
            match ring.pop() {
                Some(chain) => {
                    self.send(ring, &chain);
                    ring.push(chain.head, 0);
                    moved += 1;
                }
                None if ring.listen() => {}
                None => break false,
            }
        };
        if moved > 0 {
            ring.notify();
        }
        more
    }

    fn send(&mut self, ring: &Ring, chain: &Chain) {
        if chain.readable.len() > MOST_FRAME as u64 {
            tracing::debug!(
                len = chain.readable.len(),
                "dropped a guest's frame: too long"
            );
            return;
        }
        let len = chain.readable.read(ring.memory(), &mut self.outgoing);
        if len <= HEADER {
            tracing::debug!(len, "dropped a guest's frame: shorter than its header");
            return;
        }
        if !self.link.is_up() {
            return;
        }
        // The kernel checks the header, and refuses what it says if it is impossible; a full or absent link loses frames.
        if let Err(error) = self.port.send(self.outgoing.get(..len).unwrap_or_default()) {
            tracing::debug!(%error, "dropped a guest's frame");
        }
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
