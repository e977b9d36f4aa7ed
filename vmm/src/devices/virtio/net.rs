//! Virtio network device (virtio 1.2, section 5.1): pairs of queues, of frames to the guest and from it, on a tap.
//!
//! In come frames of the tap and of the guest's transmit queue, each after the 12 bytes of `struct virtio_net_hdr_v1`; out they go on the
//! other side. Checksums and segmentation are left to whoever can do them best: what the guest and the tap agree on passes
//! through untouched. A frame is never longer than [`MOST_FRAME`]; what is longer, or shorter than its header, is dropped, as a
//! wire would. When the guest has no room the frames wait in the tap, whose queue the kernel bounds.
//!
//! Frames are moved by an [`engine`], or by the kernel, which takes the queues over by [`vhost`]-net.
//!
//! Each pair has a queue of the tap and a worker of its own; how many the guest uses is what it says by [`steering`].

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::ring::Ring;
use super::worker::{Watch, Worker};
use super::{
    ActivateError, Activation, DeviceType, VirtioDevice, VirtioInterrupt, read_config_bytes,
};
use crate::bus::lock;
use crate::config::{self, LinkState};

mod engine;
mod link;
mod steering;
mod tap;
mod vhost;

use engine::{Engine, Rings};
pub use link::LinkControl;
use steering::{Line, Steering};
pub use tap::{Tap, TapError};
pub use vhost::REQUESTS as VHOST_REQUESTS;
use vhost::{Calls, Vhost};

/// Bytes before each frame (`struct virtio_net_hdr_v1`).
pub const HEADER: usize = 12;
/// Where the header counts the receive buffers of a frame.
const NUM_BUFFERS: usize = 10;
/// Header and frame at most: a 64 KiB segment with its Ethernet header and tag.
pub const MOST_FRAME: usize = HEADER + 65536 + 18;
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
const F_CTRL_VQ: u64 = 1 << 17;
const F_MQ: u64 = 1 << 22;
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
/// Where the configuration tells the most pairs of queues.
const PAIRS_AT: std::ops::Range<usize> = 8..10;
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
    /// What is not offered to the guest.
    #[serde(default)]
    pub without: Vec<config::Offload>,
    /// The largest sizes of the queues to the guest and from it: powers of two.
    pub queue_sizes: [u16; 2],
    /// Pairs of queues, at least one.
    pub pairs: u16,
    /// Whether the kernel moves the frames; where it can, if left out.
    #[serde(default)]
    pub vhost: Option<bool>,
}

/// Has the kernel serve the ports, if it is to: one each, or none.
fn kernel(spec: &Spec, ports: &[(Arc<dyn Port>, Arc<Worker>)]) -> io::Result<Vec<Arc<Vhost>>> {
    if spec.vhost == Some(false) {
        return Ok(Vec::new());
    }
    let up = spec.link.is_up();
    let opened = ports
        .iter()
        .enumerate()
        .map(|(index, (port, _))| Vhost::open(port.clone(), index > 0, up).map(Arc::new));
    match opened.collect() {
        Err(error) if spec.vhost.is_none() => {
            tracing::debug!(%error, tap = spec.tap, "no vhost-net: the monitor moves the frames");
            Ok(Vec::new())
        }
        opened => opened,
    }
}

/// What is offered to a guest without some of it. What needs something that is missing is missing too (virtio 1.2, section 5.1.3.1).
fn features_without(without: &[config::Offload]) -> u64 {
    use config::Offload as O;
    let bit = |offload: &O| match offload {
        O::HostCsum => F_CSUM,
        O::HostTso4 => F_HOST_TSO4,
        O::HostTso6 => F_HOST_TSO6,
        O::HostEcn => F_HOST_ECN,
        O::GuestCsum => F_GUEST_CSUM,
        O::GuestTso4 => F_GUEST_TSO4,
        O::GuestTso6 => F_GUEST_TSO6,
        O::GuestEcn => F_GUEST_ECN,
        O::MrgRxbuf => F_MRG_RXBUF,
    };
    let mut features = without.iter().fold(FEATURES, |all, one| all & !bit(one));
    for (checksums, segments, congestion) in [
        (F_CSUM, F_HOST_TSO4 | F_HOST_TSO6, F_HOST_ECN),
        (F_GUEST_CSUM, F_GUEST_TSO4 | F_GUEST_TSO6, F_GUEST_ECN),
    ] {
        if features & checksums == 0 {
            features &= !segments;
        }
        if features & segments == 0 {
            features &= !congestion;
        }
    }
    features
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
    /// Takes part in what comes for all queues of the port, or does not. Only of a port with several.
    fn attach(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }
    /// Says what the guest takes.
    fn set_offload(&self, offload: Offload) -> io::Result<()>;
    /// Whether frames go anywhere by it: not by a tap that was deleted, until somebody attaches another to its descriptor, nor by a queue that takes no part.
    fn leads_on(&self) -> bool {
        true
    }
}

/// The network device.
pub struct Net {
    mac: [u8; 6],
    mtu: Option<u16>,
    features: u64,
    queue_sizes: Vec<u16>,
    link: LinkControl,
    lines: Vec<Line>,
    steering: Arc<Mutex<Steering>>,
    watches: Vec<Watch>,
}

impl Net {
    /// Opens the tap, once for each worker: as many as there are pairs of queues.
    pub fn new(spec: &Spec, workers: Vec<Arc<Worker>>) -> Result<Self, TapError> {
        let mut ports = Vec::new();
        for worker in workers {
            let tap = Tap::open(&spec.tap, spec.pairs > 1)?;
            ports.push((Arc::new(tap) as Arc<dyn Port>, worker));
        }
        let failed = |what| {
            move |source| TapError {
                tap: spec.tap.clone(),
                what,
                source,
            }
        };
        let kernel = kernel(spec, &ports).map_err(failed("have the kernel's vhost-net serve"))?;
        Self::assemble(spec, ports, kernel).map_err(failed("prepare"))
    }

    /// A device on any ports, one for each pair of queues with the worker that serves it: the tap that `spec` names is left alone.
    pub fn with_ports(spec: &Spec, ports: Vec<(Arc<dyn Port>, Arc<Worker>)>) -> io::Result<Self> {
        Self::assemble(spec, ports, Vec::new())
    }

    /// `kernel` has as many as there are ports, or none.
    fn assemble(
        spec: &Spec,
        ports: Vec<(Arc<dyn Port>, Arc<Worker>)>,
        kernel: Vec<Arc<Vhost>>,
    ) -> io::Result<Self> {
        let port = ports.first().map(|(port, _)| Arc::clone(port));
        let link = LinkControl::new(spec.link, port, kernel.clone());
        let mut kernel = kernel.into_iter();
        let mut lines = Vec::new();
        for (port, worker) in ports {
            let again = Arc::new(EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?);
            let engine = Engine::new(port.clone(), link.clone(), again.clone());
            lines.push(Line {
                port,
                worker,
                again,
                engine: Arc::new(Mutex::new(engine)),
                vhost: kernel.next(),
            });
        }
        let mut features = features_without(&spec.without);
        let mut queue_sizes = spec.queue_sizes.repeat(lines.len());
        if lines.len() > 1 {
            features |= F_MQ | F_CTRL_VQ;
            queue_sizes.push(steering::QUEUE_SIZE);
        }
        Ok(Self {
            mac: spec.mac,
            mtu: spec.mtu,
            features,
            queue_sizes,
            link,
            steering: Arc::new(Mutex::new(Steering::new(lines.clone()))),
            lines,
            watches: Vec::new(),
        })
    }

    /// The handle by which the machine pulls the cable and puts it in.
    pub fn link(&self) -> LinkControl {
        self.link.clone()
    }

    /// Of which pairs the kernel moves the frames now.
    #[cfg(test)]
    fn kernel_moves(&self) -> Vec<bool> {
        let served = self.lines.iter().filter_map(|line| line.vhost.as_ref());
        served.map(|vhost| vhost.moves()).collect()
    }

    fn config(&self) -> [u8; CONFIG] {
        let mut config = [0; CONFIG];
        config[..6].copy_from_slice(&self.mac);
        config[STATUS_AT].copy_from_slice(&self.link.status().to_le_bytes());
        let pairs = u16::try_from(self.lines.len()).unwrap_or(u16::MAX);
        config[PAIRS_AT].copy_from_slice(&pairs.to_le_bytes());
        config[MTU_AT].copy_from_slice(&self.mtu.unwrap_or(0).to_le_bytes());
        config
    }

    /// Has the workers look at the queues of these pairs, and at the ports that are theirs.
    fn watch(
        &mut self,
        kicks: Vec<[Arc<EventFd>; 2]>,
        interrupt: &Arc<dyn VirtioInterrupt>,
    ) -> io::Result<()> {
        for ((line, [receive, transmit]), first) in
            self.lines.iter().zip(kicks).zip((0..).step_by(2))
        {
            if let Some(vhost) = &line.vhost {
                let (calls, error) = vhost.events();
                let handler = Arc::new(Mutex::new(Calls {
                    first,
                    interrupt: Arc::clone(interrupt),
                    vhost: Arc::clone(vhost),
                }));
                for ((call, index), token) in calls.into_iter().zip(first..).zip(0..) {
                    interrupt.connect(index, &call);
                    let watch = line
                        .worker
                        .watch(call, EventSet::IN, handler.clone(), token)?;
                    self.watches.push(watch);
                }
                let watch = line
                    .worker
                    .watch(error, EventSet::IN, handler, Calls::ERROR)?;
                self.watches.push(watch);
                continue;
            }
            let watch = |source, token| {
                let engine = line.engine.clone();
                line.worker.watch(source, EventSet::IN, engine, token)
            };
            self.watches.push(watch(receive, TOKEN_QUEUE)?);
            self.watches.push(watch(transmit, TOKEN_QUEUE)?);
            self.watches.push(watch(line.again.clone(), TOKEN_AGAIN)?);
            self.watches.push(line.worker.watch(
                line.port.clone(),
                EventSet::IN,
                line.engine.clone(),
                TOKEN_PORT,
            )?);
        }
        Ok(())
    }

    /// Has the first worker take the guest's commands from this queue.
    fn command_by(&mut self, ring: Ring, pairs: usize) -> io::Result<()> {
        let kick = ring.kick();
        lock(&self.steering).begin(Some(ring), pairs)?;
        if let Some(line) = self.lines.first() {
            let steering = self.steering.clone();
            let watch = line.worker.watch(kick, EventSet::IN, steering, 0)?;
            self.watches.push(watch);
        }
        Ok(())
    }
}

impl VirtioDevice for Net {
    fn device_type(&self) -> DeviceType {
        DeviceType::Net
    }

    fn features(&self) -> u64 {
        self.features | if self.mtu.is_some() { F_MTU } else { 0 }
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
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
        let mut rings: Vec<Option<Ring>> = Vec::new();
        rings.resize_with(self.queue_sizes.len(), || None);
        for queue in queues {
            if let Some(place) = rings.get_mut(usize::from(queue.index)) {
                *place = Some(Ring::new(queue, memory.clone(), Arc::clone(&interrupt)));
            }
        }
        // Without the feature there is one pair, and commands come right after it (virtio 1.2, section 5.1.2).
        let pairs = match features & F_MQ {
            0 => 1,
            _ => self.lines.len(),
        };
        let commands = (features & F_CTRL_VQ != 0)
            .then(|| rings.get_mut(2 * pairs)?.take())
            .flatten();
        let mut rings = rings.into_iter();
        let mut usable = Vec::new();
        while usable.len() < pairs
            && let (Some(receive), Some(transmit)) = (rings.next(), rings.next())
        {
            match (receive, transmit) {
                (Some(receive), Some(transmit)) => usable.push(Rings { receive, transmit }),
                (None, _) if usable.is_empty() => return Err(ActivateError::MissingQueue(RECEIVE)),
                _ if usable.is_empty() => return Err(ActivateError::MissingQueue(TRANSMIT)),
                _ => break,
            }
        }
        let failed = |what| move |source| ActivateError::Io { what, source };
        let offload = Offload::from_features(features);
        let begun = self.link.activate(interrupt.clone(), offload);
        begun.map_err(failed("set the tap's offloads"))?;
        let kicks: Vec<_> = usable
            .iter()
            .map(|rings| [rings.receive.kick(), rings.transmit.kick()])
            .collect();
        let pairs = usable.len();
        for (line, rings) in self.lines.iter().zip(usable) {
            if let Some(vhost) = &line.vhost {
                let begun = vhost.begin(features, [rings.receive, rings.transmit]);
                begun.map_err(failed("hand the queues of a network device to the kernel"))?;
                continue;
            }
            lock(&line.engine).begin(rings, features & F_MRG_RXBUF != 0);
        }
        let what = "watch the queues of a network device";
        let begun = match commands {
            Some(ring) => self.command_by(ring, pairs),
            None => lock(&self.steering).begin(None, pairs),
        };
        begun
            .and_then(|()| self.watch(kicks, &interrupt))
            .map_err(failed(what))
    }

    fn reset(&mut self) {
        self.watches.clear();
        self.link.reset();
        lock(&self.steering).end();
        for line in &self.lines {
            lock(&line.engine).end();
        }
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
