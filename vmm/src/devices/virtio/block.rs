//! Virtio block device (virtio 1.2, section 5.2): queues of requests on a disk image.
//!
//! In come the guest's requests (read, write, flush, discard, write zeroes, identify), out go accesses of an [`Image`], directly between
//! guest memory and the file. The worker has requests go on side by side in an io_uring where it can ([`uring`]), and does all others one after the other. Whatever is wrong with a request is an error status in the answer, never more; only a chain
//! that has no room for a status breaks the ring. What is wrong with the image is an error status too, or what the disk's policies say ([`policy`]): the request may be kept
//! until the guest is resumed.

use std::io;
use std::sync::{Arc, Mutex, Weak};

use serde::{Deserialize, Serialize};
use vmm_sys_util::epoll::EventSet;

use super::ring::Ring;
use super::worker::{Timer, Watch, Worker};
use super::{ActivateError, Activation, DeviceType, VirtioDevice, read_config_bytes};
use crate::boot::disk::DiskBytes;
use crate::bus::lock;
use crate::config::{
    Cache, DetectZeroes, Discard, DiskFormat, DiskIo, ErrorPolicy, Limits, ReadErrorPolicy,
};
use crate::notice::Notifier;

mod beside;
mod control;
mod engine;
mod image;
mod lock;
mod policy;
mod request;
mod throttle;
mod uring;

use beside::Beside;
pub use control::{DiskControl, GrowError};
use engine::Engine;
pub use image::{Image, OpenError};
use policy::Policies;
use request::{Lane, Line, Request};
use uring::Uring;
pub use uring::keep_helpers_here;

/// Bytes of a sector, the unit of every position and length.
const SECTOR: u64 = 512;
/// Bytes moved in one access of the image. Longer requests are done in pieces: an image that needs aligned buffers copies what it is given,
/// and a guest whose chain names the same memory a thousand times could otherwise make that copy 4 GiB.
const PIECE: u64 = 1 << 20;
/// Buffers in one request: what the kernel takes in one call (`IOV_MAX`), with room for header and status.
const MOST_SEGMENTS: u32 = 254;
/// Sectors in one range of a discard: 1 GiB.
const MOST_DISCARD: u32 = 1 << 21;
/// Sectors in one range of a write-zeroes: 64 MiB, since it may have to be written.
const MOST_ZEROES: u32 = 1 << 17;
/// Ranges in one discard or write-zeroes request.
const MOST_RANGES: u32 = 16;

const F_SEG_MAX: u64 = 1 << 2;
const F_RO: u64 = 1 << 5;
const F_BLK_SIZE: u64 = 1 << 6;
const F_FLUSH: u64 = 1 << 9;
const F_MQ: u64 = 1 << 12;
const F_DISCARD: u64 = 1 << 13;
const F_WRITE_ZEROES: u64 = 1 << 14;

const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;

/// Flag of a write-zeroes range: the space may be given back.
const UNMAP: u32 = 1;

/// Length of the identification.
const ID: usize = 20;

/// A disk as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Spec {
    /// The image: a file or a block device.
    pub path: std::path::PathBuf,
    /// Its format, which is never guessed.
    pub format: DiskFormat,
    /// The guest may not write.
    #[serde(default)]
    pub readonly: bool,
    /// Others may write the image too.
    #[serde(default)]
    pub shareable: bool,
    /// What becomes of space that the guest gives back.
    #[serde(default)]
    pub discard: Discard,
    /// What the guest sees as the serial number: up to 20 bytes, the rest is cut.
    #[serde(default)]
    pub serial: Option<String>,
    /// How writes reach the disk.
    #[serde(default)]
    pub cache: Cache,
    /// How its image is accessed: side by side where the kernel can, if left out.
    #[serde(default)]
    pub io: Option<DiskIo>,
    /// What becomes of zeroes that the guest writes.
    #[serde(default)]
    pub detect_zeroes: DetectZeroes,
    /// The largest size of each of its queues: powers of two, at least one.
    pub queues: Vec<u16>,
    /// What its requests may come to.
    #[serde(default)]
    pub limits: Limits,
    /// What follows when the host fails anything but a read.
    #[serde(default)]
    pub error_policy: ErrorPolicy,
    /// What follows when the host fails a read.
    #[serde(default)]
    pub rerror_policy: ReadErrorPolicy,
}

/// The block device.
pub struct Block {
    config: [u8; 60],
    queues: Vec<u16>,
    features: u64,
    engine: Arc<Mutex<Engine>>,
    worker: Arc<Worker>,
    control: DiskControl,
    /// The configuration says to flush each write.
    always_writethrough: bool,
    /// The timer, what changes from outside, and what goes on side by side.
    _watches: Vec<Watch>,
    kicks: Vec<Watch>,
}

impl Block {
    /// Opens the image. `worker` should serve this disk alone: it waits for the disk.
    pub fn new(spec: &Spec, worker: Arc<Worker>) -> Result<Self, OpenError> {
        let image = Image::open(
            &spec.path,
            spec.format,
            spec.readonly,
            spec.shareable,
            spec.cache == Cache::None,
        )?;
        let capacity = image.len() / SECTOR;
        let always_writethrough = spec.cache == Cache::Writethrough;
        let unmap = spec.discard == Discard::Unmap;
        let mut features = F_SEG_MAX | F_BLK_SIZE;
        if spec.readonly {
            features |= F_RO;
        } else {
            features |= F_WRITE_ZEROES;
            if unmap {
                features |= F_DISCARD;
            }
        }
        if spec.queues.len() > 1 {
            features |= F_MQ;
        }
        if !always_writethrough {
            features |= F_FLUSH;
        }
        let mut id = [0; ID];
        for (to, from) in id
            .iter_mut()
            .zip(spec.serial.as_deref().unwrap_or_default().bytes())
        {
            *to = from;
        }
        let failed = |source| OpenError {
            path: spec.path.clone(),
            format: spec.format,
            source,
        };
        let (uring, beside) = side_by_side(&image, spec).map_err(failed)?;
        let signal = uring.as_ref().map(Uring::signal);
        let signal = signal.transpose().map_err(failed)?;
        let control =
            DiskControl::new(capacity, spec.readonly, spec.limits.clone()).map_err(failed)?;
        let timer = Timer::new().map_err(failed)?;
        let engine = Arc::new(Mutex::new(Engine {
            image,
            uring,
            beside,
            turn: 0,
            lonely: 0,
            capacity,
            readonly: spec.readonly,
            unmap,
            detect_zeroes: spec.detect_zeroes,
            writethrough: true,
            id,
            lanes: Vec::new(),
            interrupt: None,
            shared: control.shared(),
            timer: Arc::clone(&timer),
            reads: Line::default(),
            writes: Line::default(),
            policies: Policies {
                reads: spec.rerror_policy,
                others: spec.error_policy,
            },
            held: Vec::new(),
            notifier: None,
        }));
        let watch = |source| worker.watch(source, EventSet::IN, engine.clone(), 0);
        let mut watches = vec![watch(timer), watch(control.wake())];
        watches.extend(signal.map(|signal| watch(Arc::new(signal))));
        let watches = watches.into_iter().collect::<io::Result<_>>();
        Ok(Self {
            config: config(unmap, spec.queues.len()),
            queues: spec.queues.clone(),
            features,
            control,
            always_writethrough,
            _watches: watches.map_err(failed)?,
            kicks: Vec::new(),
            engine,
            worker,
        })
    }

    /// The handle by which the machine changes the disk.
    pub fn control(&self) -> DiskControl {
        self.control.clone()
    }

    /// Has the disk wake the machine's owner when a request has to wait for the guest's resumption, as [`DiskControl::failure`] then says.
    pub fn tell(&self, notifier: Notifier) {
        lock(&self.engine).notifier = Some(notifier);
    }

    /// What is on the disk, through the same image that the guest sees.
    pub fn contents(&self) -> Arc<dyn DiskBytes> {
        Arc::new(Contents {
            len: self.control.capacity(),
            engine: Arc::downgrade(&self.engine),
        })
    }
}

/// Where the disk's requests go on side by side, and which do. Not where the kernel does not give it, unless it is asked for; nor what is sooner done than handed over to a thread
/// of the kernel, which is what it does with most accesses of its page cache: what has to be copied is copied.
fn side_by_side(image: &Image, spec: &Spec) -> io::Result<(Option<Uring<Request>>, Beside)> {
    let none = Beside {
        reads: false,
        writes: false,
        lone: false,
    };
    if spec.io == Some(DiskIo::Threads) {
        return Ok((None, none));
    }
    let most = spec.queues.iter().copied().map(u32::from).sum();
    let made = image.files().and_then(|files| {
        let (asked, direct) = (spec.io.is_some(), spec.cache == Cache::None);
        let beside = Beside {
            reads: asked || direct || files.iter().all(image::knows_nowait),
            writes: asked || direct,
            lone: asked,
        };
        Ok((Some(Uring::new(&files, most)?), beside))
    });
    match (made, spec.io) {
        (Err(error), None) => {
            tracing::debug!(%error, "a disk's requests are done one after the other");
            Ok((None, none))
        }
        (Err(error), Some(_)) => Err(io::Error::new(
            error.kind(),
            format!(
                "io-uring is asked for, and the kernel does not give it (see kernel.io_uring_disabled, or leave io out): {error}"
            ),
        )),
        (made, _) => made,
    }
}

/// The disk's bytes, for whoever reads them while the guest is at rest.
struct Contents {
    len: u64,
    engine: Weak<Mutex<Engine>>,
}

impl DiskBytes for Contents {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, at: u64, into: &mut [u8]) -> std::io::Result<()> {
        let engine = self.engine.upgrade();
        let engine = engine.ok_or(std::io::ErrorKind::NotConnected)?;
        lock(&engine).image.read(at, &[into.into()])
    }
}

/// The device's configuration space (`struct virtio_blk_config`), but for the capacity, which may grow.
fn config(unmap: bool, queues: usize) -> [u8; 60] {
    let mut config = [0; 60];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(12, &MOST_SEGMENTS.to_le_bytes());
    put(20, &(SECTOR as u32).to_le_bytes());
    put(34, &u16::try_from(queues).unwrap_or(u16::MAX).to_le_bytes());
    put(36, &MOST_DISCARD.to_le_bytes());
    put(40, &MOST_RANGES.to_le_bytes());
    put(44, &8u32.to_le_bytes());
    put(48, &MOST_ZEROES.to_le_bytes());
    put(52, &MOST_RANGES.to_le_bytes());
    put(56, &[unmap.into()]);
    config
}

impl VirtioDevice for Block {
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queues
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = self.config;
        let sectors = self.control.capacity() / SECTOR;
        config[..8].copy_from_slice(&sectors.to_le_bytes());
        read_config_bytes(&config, offset, data);
    }

    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let failed = |source: io::Error| ActivateError::Io {
            what: "watch the queues of a disk",
            source,
        };
        // A kick that came before the queues are there would be lost: the worker waits here.
        let mut engine = lock(&self.engine);
        let mut lanes = Vec::new();
        for active in activation.queues {
            let (memory, interrupt) = (activation.memory.clone(), activation.interrupt.clone());
            let ring = Ring::new(active, memory, interrupt);
            let kick = self
                .worker
                .watch(ring.kick(), EventSet::IN, self.engine.clone(), 0)
                .map_err(failed)?;
            self.kicks.push(kick);
            lanes.push(Lane::new(ring));
        }
        if !lanes.iter().any(|lane| lane.index() == 0) {
            self.kicks.clear();
            return Err(ActivateError::MissingQueue(0));
        }
        // A driver that cannot flush believes that what was answered is on the disk.
        engine.writethrough = self.always_writethrough || activation.features & F_FLUSH == 0;
        engine.lanes = lanes;
        engine.interrupt = Some(activation.interrupt);
        Ok(())
    }

    fn reset(&mut self) {
        self.kicks.clear();
        lock(&self.engine).stop();
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut engine = lock(&self.engine);
        engine.stop();
        if !engine.readonly
            && let Err(error) = engine.image.flush()
        {
            tracing::error!(%error, "could not write a disk's last changes");
        }
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
