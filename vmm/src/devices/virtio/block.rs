//! Virtio block device (virtio 1.2, section 5.2): one queue of requests on a disk image.
//!
//! In come the guest's requests (read, write, flush, discard, write zeroes, identify), out go accesses of an [`Image`], directly between
//! guest memory and the file. The worker does one request after the other. Whatever is wrong with a request, or with the image,
//! is an error status in the answer, never more; only a chain that has no room for a status breaks the ring.

use std::sync::{Arc, Mutex, Weak};

use serde::{Deserialize, Serialize};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::EventSet;

use super::ring::{Buffers, Chain, Ring};
use super::worker::{Handler, Watch, Worker};
use super::{ActivateError, Activation, DeviceType, VirtioDevice, read_config_bytes};
use crate::boot::disk::DiskBytes;
use crate::bus::lock;
use crate::config::{Cache, Discard, DiskFormat};

mod image;
mod lock;

pub use image::{Image, OpenError};

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
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// The block device.
pub struct Block {
    config: [u8; 60],
    features: u64,
    engine: Arc<Mutex<Engine>>,
    worker: Arc<Worker>,
    watch: Option<Watch>,
}

/// What the worker works on.
struct Engine {
    image: Image,
    /// Sectors that the guest may reach.
    capacity: u64,
    readonly: bool,
    /// Space that the guest does not need is given back.
    unmap: bool,
    /// The configuration says to flush each write.
    always_writethrough: bool,
    /// Each write of this activation is flushed before it is answered.
    writethrough: bool,
    id: [u8; ID],
    ring: Option<Ring>,
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
        let engine = Engine {
            image,
            capacity,
            readonly: spec.readonly,
            unmap,
            always_writethrough,
            writethrough: true,
            id,
            ring: None,
        };
        Ok(Self {
            config: config(capacity, unmap),
            features,
            engine: Arc::new(Mutex::new(engine)),
            worker,
            watch: None,
        })
    }

    /// What is on the disk, through the same image that the guest sees.
    pub fn contents(&self) -> Arc<dyn DiskBytes> {
        Arc::new(Contents {
            len: lock(&self.engine).capacity * SECTOR,
            engine: Arc::downgrade(&self.engine),
        })
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

/// The device's configuration space (`struct virtio_blk_config`).
fn config(capacity: u64, unmap: bool) -> [u8; 60] {
    let mut config = [0; 60];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &capacity.to_le_bytes());
    put(12, &MOST_SEGMENTS.to_le_bytes());
    put(20, &(SECTOR as u32).to_le_bytes());
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
        &[256]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config_bytes(&self.config, offset, data);
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
        {
            let mut engine = lock(&self.engine);
            // A driver that cannot flush believes that what was answered is on the disk.
            engine.writethrough = engine.always_writethrough || activation.features & F_FLUSH == 0;
            engine.ring = Some(ring);
        }
        let failed = |source| ActivateError::Io {
            what: "watch the queue of a disk",
            source,
        };
        self.watch = Some(
            self.worker
                .watch(kick, EventSet::IN, self.engine.clone(), 0)
                .map_err(failed)?,
        );
        Ok(())
    }

    fn reset(&mut self) {
        self.watch = None;
        lock(&self.engine).ring = None;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let engine = lock(&self.engine);
        if !engine.readonly
            && let Err(error) = engine.image.flush()
        {
            tracing::error!(%error, "could not write a disk's last changes");
        }
    }
}

impl Handler for Engine {
    fn ready(&mut self, _token: u32) {
        if let Some(mut ring) = self.ring.take() {
            ring.serve(|memory, chain| self.answer(memory, chain));
            self.ring = Some(ring);
        }
    }
}

/// The fixed part of a request.
struct Header {
    kind: u32,
    sector: u64,
}

impl Header {
    fn take(memory: &GuestMemoryMmap, readable: &mut Buffers) -> Option<Self> {
        let mut bytes = [0; 16];
        if readable.take(16).read(memory, &mut bytes) < bytes.len() {
            return None;
        }
        let [a, b, c, d, _, _, _, _, sector @ ..] = bytes;
        Some(Self {
            kind: u32::from_le_bytes([a, b, c, d]),
            sector: u64::from_le_bytes(sector),
        })
    }
}

impl Engine {
    /// Does one request and writes its status; returns how many bytes of answer there are.
    fn answer(&mut self, memory: &GuestMemoryMmap, mut chain: Chain) -> Result<u32, &'static str> {
        let room = chain
            .writable
            .len()
            .checked_sub(1)
            .ok_or("has no room for the status of a request")?;
        let mut data = chain.writable.take(room);
        let (status, written) = match Header::take(memory, &mut chain.readable) {
            Some(header) => self.perform(memory, &header, &mut chain.readable, &mut data),
            None => (Status::IoError, 0),
        };
        chain.writable.write(memory, &[status as u8]);
        // A chain has less than 4 GiB, so the number fits.
        Ok(u32::try_from(written + 1).unwrap_or(u32::MAX))
    }

    fn perform(
        &mut self,
        memory: &GuestMemoryMmap,
        header: &Header,
        from: &mut Buffers,
        to: &mut Buffers,
    ) -> (Status, u64) {
        match header.kind {
            T_IN => self.read(memory, header.sector, to),
            T_OUT => (self.write(memory, header.sector, from), 0),
            T_FLUSH => (self.done("flush", |engine| engine.image.flush()), 0),
            T_GET_ID => (Status::Ok, to.write(memory, &self.id) as u64),
            // It was not offered, and a driver that asks all the same is told so.
            T_DISCARD if !self.unmap => (Status::Unsupported, 0),
            T_DISCARD | T_WRITE_ZEROES => (self.change_ranges(memory, header.kind, from), 0),
            _ => (Status::Unsupported, 0),
        }
    }

    /// The byte at which `len` bytes from `sector` begin, if all of them are on the disk and whole sectors.
    fn place(&self, sector: u64, len: u64) -> Option<u64> {
        // The guest chooses both numbers: neither their sum nor the position in bytes may wrap around to inside the disk.
        let end = sector.checked_add(len / SECTOR)?;
        (len.is_multiple_of(SECTOR) && end <= self.capacity).then(|| sector * SECTOR)
    }

    fn read(&mut self, memory: &GuestMemoryMmap, sector: u64, to: &mut Buffers) -> (Status, u64) {
        let Some(mut at) = self.place(sector, to.len()) else {
            return (Status::IoError, 0);
        };
        let mut done = 0;
        while !to.is_empty() {
            let piece = to.take(PIECE);
            let status = self.done("read", |engine| {
                engine.image.read(at, &piece.slices(memory))
            });
            if status != Status::Ok {
                return (status, done);
            }
            at += piece.len();
            done += piece.len();
        }
        (Status::Ok, done)
    }

    fn write(&mut self, memory: &GuestMemoryMmap, sector: u64, from: &mut Buffers) -> Status {
        let Some(mut at) = self.place(sector, from.len()).filter(|_| !self.readonly) else {
            return Status::IoError;
        };
        while !from.is_empty() {
            let piece = from.take(PIECE);
            let status = self.done("write", |engine| {
                engine.image.write(at, &piece.slices(memory))
            });
            if status != Status::Ok {
                return status;
            }
            at += piece.len();
        }
        self.settle()
    }

    /// Discards or zeroes each range that the request lists.
    fn change_ranges(&mut self, memory: &GuestMemoryMmap, kind: u32, from: &mut Buffers) -> Status {
        let whole = from.len().is_multiple_of(16)
            && !from.is_empty()
            && from.len() / 16 <= MOST_RANGES.into();
        if self.readonly || !whole {
            return Status::IoError;
        }
        let (most, known) = if kind == T_DISCARD {
            (MOST_DISCARD, 0)
        } else {
            (MOST_ZEROES, UNMAP)
        };
        while !from.is_empty() {
            let mut bytes = [0; 16];
            from.take(16).read(memory, &mut bytes);
            let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, flags @ ..] = bytes;
            let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
            let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
            let flags = u32::from_le_bytes(flags);
            if flags & !known != 0 {
                return Status::Unsupported;
            }
            let len = u64::from(sectors) * SECTOR;
            let Some(at) = self.place(sector, len).filter(|_| sectors <= most) else {
                return Status::IoError;
            };
            let status = match kind {
                T_DISCARD => self.done("discard", |engine| engine.image.discard(at, len)),
                _ => self.done("write zeroes", |engine| {
                    let unmap = engine.unmap && flags & UNMAP != 0;
                    engine.image.write_zeroes(at, len, unmap)
                }),
            };
            if status != Status::Ok {
                return status;
            }
        }
        self.settle()
    }

    /// Puts what was written on the disk, if every write is to be.
    fn settle(&mut self) -> Status {
        if self.writethrough {
            self.done("flush", |engine| engine.image.flush())
        } else {
            Status::Ok
        }
    }

    fn done(&mut self, what: &str, act: impl FnOnce(&mut Self) -> std::io::Result<()>) -> Status {
        match act(self) {
            Ok(()) => Status::Ok,
            Err(error) => {
                tracing::warn!(what, %error, "a disk's image failed; the guest gets an error");
                Status::IoError
            }
        }
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
