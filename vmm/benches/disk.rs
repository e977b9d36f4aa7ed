//! Requests that a disk answers a second, past the host's page cache: one at a time and many, one after the other and side by side, next to QEMU's block layer (`qemu-img bench`)
//! on the same images, which is asked straight: without a queue, and without a thread to be woken for each turn.
//!
//! `cargo bench -p vireo-vmm --bench disk [DIRECTORY]`: the directory (the build's, if left out) is to be on the file system that is asked about, with room for 512 MiB. No guest runs: a queue is filled and
//! emptied here as a driver would. Programs take turns; each figure is the median of them.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use vireo_vmm::config::{
    Cache, DetectZeroes, Discard, DiskFormat, DiskIo, ErrorPolicy, Limits, ReadErrorPolicy,
};
use vireo_vmm::devices::virtio::block::{Block, Spec};
use vireo_vmm::devices::virtio::worker::Worker;
use vireo_vmm::devices::virtio::{Activation, ActiveQueue, VirtioDevice, VirtioInterrupt};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const IMAGE: u64 = 256 << 20;
const TURNS: usize = 3;
const QUEUE: u16 = 128;
/// Where the queue is in the memory of a guest that is not there, and the data.
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const HEADERS: u64 = 0x3000;
const DATA: u64 = 0x1_0000;

/// What is asked of an image.
struct Load {
    name: &'static str,
    writes: bool,
    bytes: u64,
    at_once: u64,
    requests: u64,
}

const LOADS: [Load; 5] = [
    Load {
        name: "read 4 KiB, 1 at a time",
        writes: false,
        bytes: 4096,
        at_once: 1,
        requests: 5_000,
    },
    Load {
        name: "read 4 KiB, 32 at once",
        writes: false,
        bytes: 4096,
        at_once: 32,
        requests: 40_000,
    },
    Load {
        name: "write 4 KiB, 1 at a time",
        writes: true,
        bytes: 4096,
        at_once: 1,
        requests: 5_000,
    },
    Load {
        name: "write 4 KiB, 32 at once",
        writes: true,
        bytes: 4096,
        at_once: 32,
        requests: 40_000,
    },
    Load {
        name: "read 1 MiB, 4 at once",
        writes: false,
        bytes: 1 << 20,
        at_once: 4,
        requests: 600,
    },
];

/// Who answers.
#[derive(Clone, Copy)]
enum Who {
    Vireo(Option<DiskIo>),
    Qemu(&'static str),
}

const ALL: [(&str, Who); 6] = [
    ("vireo-vmm", Who::Vireo(None)),
    ("vireo-vmm, io_uring", Who::Vireo(Some(DiskIo::IoUring))),
    ("vireo-vmm, threads", Who::Vireo(Some(DiskIo::Threads))),
    ("QEMU, io_uring", Who::Qemu("io_uring")),
    ("QEMU, native", Who::Qemu("native")),
    ("QEMU, threads", Who::Qemu("threads")),
];

fn main() -> Outcome {
    let given = std::env::args()
        .skip(1)
        .find(|word| !word.starts_with("--"));
    let place = given.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::TempDir::new_in(place)?;
    let images = [(DiskFormat::Raw, "raw"), (DiskFormat::Qcow2, "qcow2")];
    for (format, name) in images {
        let path = dir.path().join(name);
        make(dir.path(), &path, name)?;
        for load in &LOADS {
            compare(&path, format, name, load)?;
        }
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

/// An image whose every cluster is there and on the disk.
fn make(dir: &Path, path: &Path, format: &str) -> Outcome {
    let plain = dir.join("plain");
    let mut file = File::create(&plain)?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut mib = vec![0; 1 << 20];
    for _ in 0..IMAGE >> 20 {
        random.fill(&mut mib);
        file.write_all(&mib)?;
    }
    file.sync_all()?;
    let (from, to) = (plain.display().to_string(), path.display().to_string());
    qemu_img(&["convert", "-f", "raw", "-O", format, &from, &to])?;
    std::fs::remove_file(&plain)?;
    Ok(File::open(path)?.sync_all()?)
}

fn qemu_img(words: &[&str]) -> Outcome<String> {
    let output = Command::new("qemu-img").args(words).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?),
        false => Err(format!(
            "qemu-img {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        )
        .into()),
    }
}

fn compare(path: &Path, format: DiskFormat, name: &str, load: &Load) -> Outcome {
    let mut figures = [const { Vec::new() }; ALL.len()];
    for _ in 0..TURNS {
        for (figures, (_, who)) in figures.iter_mut().zip(ALL) {
            figures.push(match who {
                Who::Vireo(io) => ours(path, format, io, load)?,
                Who::Qemu(aio) => qemus(path, name, aio, load)?,
            });
        }
    }
    let medians = figures.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    });
    for ((who, _), median) in ALL.iter().zip(medians) {
        let ratio = medians[0] / median;
        println!(
            "{:<32} {who:<20} {median:>9.0} /s   vireo-vmm: {ratio:.2} times",
            format!("{name}, {}", load.name)
        );
    }
    Ok(())
}

/// Requests a second of QEMU's block layer.
fn qemus(path: &Path, format: &str, aio: &str, load: &Load) -> Outcome<f64> {
    let numbers =
        [load.requests, load.at_once, load.bytes, step(load)].map(|number| number.to_string());
    let [requests, at_once, bytes, step] = numbers.each_ref().map(String::as_str);
    let path = path.display().to_string();
    let mut words = vec![
        "bench", "-t", "none", "-i", aio, "-f", format, "-c", requests, "-d", at_once, "-s", bytes,
        "-S", step,
    ];
    if load.writes {
        words.push("-w");
    }
    words.push(&path);
    let said = qemu_img(&words)?;
    let seconds = said
        .split("completed in ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let seconds: f64 = seconds
        .ok_or_else(|| format!("qemu-img bench said {said:?}"))?
        .parse()?;
    Ok(load.requests as f64 / seconds)
}

/// From one request's place to the next: far, so that neither the disk nor the kernel sees a sequence in small ones.
fn step(load: &Load) -> u64 {
    if load.bytes > 4096 {
        load.bytes
    } else {
        4096 * 1021
    }
}

/// What the disk tells the driver.
struct Told(EventFd);

impl VirtioInterrupt for Told {
    fn queue(&self, _index: u16) {
        // It is full only when it has been told often enough.
        let _ = self.0.write(1);
    }
    fn config_changed(&self) {}
    fn needs_reset(&self) {
        eprintln!("the disk wants a reset: nothing of this is right");
        std::process::exit(1);
    }
}

/// Requests a second of our disk.
fn ours(path: &Path, format: DiskFormat, io: Option<DiskIo>, load: &Load) -> Outcome<f64> {
    let spec = Spec {
        path: path.to_owned(),
        format,
        readonly: false,
        shareable: false,
        discard: Discard::Ignore,
        serial: None,
        cache: Cache::None,
        io,
        detect_zeroes: DetectZeroes::Off,
        queues: vec![QUEUE],
        limits: Limits::default(),
        error_policy: ErrorPolicy::Report,
        rerror_policy: ReadErrorPolicy::Report,
    };
    let mut disk = Block::new(&spec, Worker::spawn("disk", || Ok(()))?)?;
    let mut driver = Driver::new(load)?;
    disk.activate(driver.activation(disk.features())?)?;
    let began = Instant::now();
    driver.run()?;
    Ok(load.requests as f64 / began.elapsed().as_secs_f64())
}

/// Fills a queue and empties it: request `n` of those under way has the descriptors from `3 n` on.
struct Driver<'a> {
    load: &'a Load,
    memory: GuestMemoryMmap,
    kick: Arc<EventFd>,
    told: Arc<Told>,
    available: u16,
    seen: u16,
    place: u64,
}

impl<'a> Driver<'a> {
    fn new(load: &'a Load) -> Outcome<Self> {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 16 << 20)])?;
        for n in 0..load.at_once {
            let into_guest = if load.writes { 0 } else { 2 };
            let header = HEADERS + n * 32;
            let data = DATA + n * load.bytes;
            let chain = [
                (header, 16, 1),
                (data, load.bytes as u32, 1 | into_guest),
                (header + 16, 1, 2),
            ];
            for (at, (address, len, flags)) in (n * 3..).zip(chain) {
                let entry = GuestAddress(DESCRIPTORS + at * 16);
                memory.write_obj::<u64>(address, entry)?;
                memory.write_obj::<u32>(len, GuestAddress(entry.0 + 8))?;
                memory.write_obj::<u16>(flags, GuestAddress(entry.0 + 12))?;
                memory.write_obj::<u16>(at as u16 + 1, GuestAddress(entry.0 + 14))?;
            }
        }
        Ok(Self {
            load,
            memory,
            kick: Arc::new(EventFd::new(libc::EFD_NONBLOCK)?),
            told: Arc::new(Told(EventFd::new(0)?)),
            available: 0,
            seen: 0,
            place: 0,
        })
    }

    fn activation(&self, features: u64) -> Outcome<Activation> {
        let mut queue = Queue::new(QUEUE)?;
        queue.set_desc_table_address(Some(DESCRIPTORS as u32), None);
        queue.set_avail_ring_address(Some(AVAILABLE as u32), None);
        queue.set_used_ring_address(Some(USED as u32), None);
        queue.set_ready(true);
        let kick = Arc::clone(&self.kick);
        Ok(Activation {
            memory: self.memory.clone(),
            queues: vec![ActiveQueue {
                index: 0,
                queue,
                kick,
            }],
            interrupt: self.told.clone(),
            features,
        })
    }

    /// Has the disk answer all requests.
    fn run(&mut self) -> Outcome {
        let (mut sent, mut answered) = (0, 0);
        for n in 0..self.load.at_once {
            self.send(n)?;
            sent += 1;
        }
        self.kick.write(1)?;
        while answered < self.load.requests {
            self.told.0.read()?;
            let used: u16 = self.memory.read_obj(GuestAddress(USED + 2))?;
            let before = sent;
            while self.seen != used {
                let slot = USED + 4 + u64::from(self.seen % QUEUE) * 8;
                let head: u32 = self.memory.read_obj(GuestAddress(slot))?;
                let n = u64::from(head / 3);
                let status: u8 = self.memory.read_obj(GuestAddress(HEADERS + n * 32 + 16))?;
                if status != 0 {
                    return Err(format!("a request ended with status {status}").into());
                }
                self.seen = self.seen.wrapping_add(1);
                answered += 1;
                if sent < self.load.requests {
                    self.send(n)?;
                    sent += 1;
                }
            }
            if sent > before {
                self.kick.write(1)?;
            }
        }
        Ok(())
    }

    /// Offers request `n`, at the next place.
    fn send(&mut self, n: u64) -> Outcome {
        let header = HEADERS + n * 32;
        self.memory
            .write_obj(u32::from(self.load.writes), GuestAddress(header))?;
        self.memory
            .write_obj(self.place / 512, GuestAddress(header + 8))?;
        self.memory.write_obj(0xff_u8, GuestAddress(header + 16))?;
        self.place = (self.place + step(self.load)) % IMAGE;
        let slot = AVAILABLE + 4 + u64::from(self.available % QUEUE) * 2;
        self.memory.write_obj(n as u16 * 3, GuestAddress(slot))?;
        self.available = self.available.wrapping_add(1);
        // The disk sees the request before its number.
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
        Ok(self
            .memory
            .write_obj(self.available, GuestAddress(AVAILABLE + 2))?)
    }
}
