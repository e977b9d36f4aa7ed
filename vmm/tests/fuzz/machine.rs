//! A machine of memory, ports, a PCI bus and one device, without KVM.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use imago::qcow2::Qcow2;
use imago::{FormatCreateBuilder, Storage, StorageOpenOptions};
use tempfile::NamedTempFile;
use vireo_vmm::bus::{Bus, lock};
use vireo_vmm::clock::Origin;
use vireo_vmm::config::{
    Bytes, Cache, DetectZeroes, Discard, DiskFormat, DiskIo, ErrorPolicy, Limit, Limits, LinkState,
    Port, ReadErrorPolicy,
};
use vireo_vmm::devices::i8042::I8042;
use vireo_vmm::devices::pm::{self, PowerManagement};
use vireo_vmm::devices::pvpanic::PvpanicPci;
use vireo_vmm::devices::rtc::Rtc;
use vireo_vmm::devices::virtio::VirtioDevice;
use vireo_vmm::devices::virtio::balloon::{self, Balloon};
use vireo_vmm::devices::virtio::block::{self, Block, DiskControl};
use vireo_vmm::devices::virtio::console::Console;
use vireo_vmm::devices::virtio::net::{self, LinkControl, Net, Offload, Port as Cable};
use vireo_vmm::devices::virtio::pci::VirtioPci;
use vireo_vmm::devices::virtio::rng::{self, Rng};
use vireo_vmm::devices::virtio::vsock::{self, Vsock};
use vireo_vmm::devices::virtio::worker::Worker;
use vireo_vmm::devices::watchdog::Watchdog;
use vireo_vmm::interrupt::{IrqLine, Msi};
use vireo_vmm::layout;
use vireo_vmm::notice::{self, Notifier};
use vireo_vmm::pci::{PciBus, PciEcam, PciFunction, PciPorts, Place};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Bytes of the guest's memory, in two ranges with a hole between them.
pub const LOW: u64 = 2 << 20;
/// Where the second range begins.
pub const HIGH: u64 = 8 << 20;
/// The slot that the device is in.
pub const SLOT: u64 = 3;

/// The device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rng,
    Balloon,
    Block,
    SlowBlock,
    BadBlock,
    Net,
    ManyNet,
    KernelNet,
    Console,
    Vsock,
    Watchdog,
    Panic,
}

/// Interrupts that nobody takes.
struct Nobody;

impl Msi for Nobody {
    fn signal(&self, _: u64, _: u32) -> io::Result<()> {
        Ok(())
    }
}

impl IrqLine for Nobody {
    fn set(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// A cable whose other end sends every frame back.
struct Echo(UnixDatagram, UnixDatagram);

impl AsRawFd for Echo {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Cable for Echo {
    fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        self.0.recv(frame)
    }

    fn send(&self, frame: &[u8]) -> io::Result<usize> {
        self.1.send(frame)
    }

    fn set_offload(&self, _: Offload) -> io::Result<()> {
        Ok(())
    }
}

/// The first sector of a bad disk that its host fails: what the second entry of the image's first table is for.
pub const BAD: u64 = 64;

/// A disk's image of 1 MiB. Of a bad one, a table that its first table leads to has entries that lead into the middle of clusters.
fn image(kind: Kind) -> NamedTempFile {
    const LEN: u64 = 1 << 20;
    const SECOND: u64 = 16 << 20;
    let file = NamedTempFile::new().unwrap();
    if kind != Kind::BadBlock {
        file.as_file().set_len(LEN).unwrap();
        return file;
    }
    let options = StorageOpenOptions::new().filename(file.path());
    let created = imago::file::File::open(options.write(true)).unwrap();
    let builder = Qcow2::<imago::file::File>::create_builder(created);
    builder.size(LEN).cluster_size(512).create().unwrap();
    let disk = std::fs::File::options()
        .read(true)
        .write(true)
        .open(file.path())
        .unwrap();
    let mut table = [0; 8];
    disk.read_exact_at(&mut table, 40).unwrap();
    let entry = |offset: u64| (1 << 63 | offset).to_be_bytes();
    disk.write_all_at(&entry(SECOND).repeat(31), u64::from_be_bytes(table) + 8)
        .unwrap();
    disk.write_all_at(&entry(0x100).repeat(64), SECOND).unwrap();
    file
}

pub struct Machine {
    pub memory: GuestMemoryMmap,
    pub ports: Arc<Bus>,
    pub mmio: Arc<Bus>,
    pci: Arc<Mutex<PciBus>>,
    _disk: NamedTempFile,
    /// The device's handle, if it is a disk.
    control: Option<DiskControl>,
    /// Its cable, if it is an interface.
    link: Option<LinkControl>,
    pub notices: notice::Notices,
    /// Held by whoever serves the device.
    _worker: Arc<Worker>,
}

impl Machine {
    pub fn new(kind: Kind) -> Self {
        let ranges = [
            (GuestAddress(0), LOW as usize),
            (GuestAddress(HIGH), 1 << 20),
        ];
        let memory = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        let (ports, mmio) = (Arc::new(Bus::new()), Arc::new(Bus::new()));
        let pci = Arc::new(Mutex::new(PciBus::new(Arc::clone(&mmio))));
        let (notifier, notices) = notice::channel().unwrap();
        let disk = image(kind);
        let (mut control, mut link) = (None, None);

        let worker = Worker::spawn("fuzz", || Ok(())).unwrap();
        let function: Arc<Mutex<dyn PciFunction>> = match function(kind, &worker, &notifier) {
            Some(function) => function,
            None => {
                let device: Box<dyn VirtioDevice> = match kind {
                    Kind::Block | Kind::SlowBlock | Kind::BadBlock => {
                        let block = block(kind, disk.path(), Arc::clone(&worker));
                        block.tell(notifier.clone());
                        control = Some(block.control());
                        Box::new(block)
                    }
                    Kind::Net | Kind::ManyNet | Kind::KernelNet => {
                        let net = interface(kind, &worker);
                        link = Some(net.link());
                        Box::new(net)
                    }
                    _ => device(kind, disk.path(), Arc::clone(&worker)),
                };
                let function = VirtioPci::new(device, memory.clone(), Arc::new(Nobody), None);
                Arc::new(Mutex::new(function.unwrap()))
            }
        };
        let place = Place::slot_of_root(SLOT as u8);
        lock(&pci).insert(place, function).unwrap();
        let port = Place::slot_of_root(SLOT as u8 + 1);
        lock(&pci).insert_port(port, 1).unwrap();
        let power = PowerManagement::new(Arc::new(Nobody), notifier.clone());
        let insert = |range: std::ops::Range<u16>, device| {
            let len = u64::from(range.end - range.start);
            ports.insert(range.start.into(), len, device).unwrap();
        };
        insert(pm::PORTS, Arc::new(Mutex::new(power)));
        let rtc = Rtc::new(Origin::Ahead(5), notifier.clone());
        insert(layout::PORT_RTC, Arc::new(Mutex::new(rtc)));
        insert(
            layout::PORT_I8042,
            Arc::new(Mutex::new(I8042::new(notifier))),
        );
        insert(
            layout::PORT_PCI,
            Arc::new(Mutex::new(PciPorts::new(Arc::clone(&pci)))),
        );
        let ecam = layout::pci_ecam(1);
        let space = Arc::new(Mutex::new(PciEcam::new(Arc::clone(&pci))));
        mmio.insert(ecam.start, ecam.end - ecam.start, space)
            .unwrap();
        Self {
            memory,
            ports,
            mmio,
            pci,
            _disk: disk,
            control,
            link,
            notices,
            _worker: worker,
        }
    }

    /// What the machine's resumption does to devices, and a cable that is pulled and put in.
    pub fn resume(&self) {
        self.control.iter().for_each(DiskControl::retry);
        if let Some(link) = &self.link {
            link.set(LinkState::Down);
            link.set(LinkState::Up);
        }
    }

    /// How the host failed the request that waits to be tried again.
    pub fn failure(&self) -> Option<String> {
        self.control.as_ref().and_then(DiskControl::failure)
    }

    /// What the machine's reset does to devices.
    pub fn reset(&self) {
        lock(&self.pci).reset();
    }
}

/// The buses know the PCI bus, and it knows them: a machine ends with its process. These end before.
impl Drop for Machine {
    fn drop(&mut self) {
        self.mmio.remove(layout::PCI_ECAM);
        self.ports.remove(layout::PORT_PCI.start.into());
    }
}

/// A device that is not virtio.
fn function(
    kind: Kind,
    worker: &Worker,
    notifier: &Notifier,
) -> Option<Arc<Mutex<dyn PciFunction>>> {
    match kind {
        Kind::Watchdog => {
            let watchdog = Watchdog::new(notifier.clone(), worker).unwrap();
            watchdog.control().release();
            Some(Arc::new(Mutex::new(watchdog)))
        }
        Kind::Panic => Some(Arc::new(Mutex::new(PvpanicPci::new(notifier.clone())))),
        _ => None,
    }
}

/// Limits that let nearly nothing wait long, and nearly everything wait.
fn limits(kind: Kind) -> Limits {
    let limit = |rate| {
        Some(Limit {
            rate,
            max: None,
            length: None,
        })
    };
    match kind {
        Kind::SlowBlock | Kind::BadBlock => Limits {
            total_bytes: limit(1 << 24),
            read_requests: limit(1000),
            write_requests: limit(500),
            request_size: Some(512),
            ..Limits::default()
        },
        _ => Limits::default(),
    }
}

fn block(kind: Kind, disk: &Path, worker: Arc<Worker>) -> Block {
    let spec = block::Spec {
        path: disk.to_owned(),
        format: match kind {
            Kind::BadBlock => DiskFormat::Qcow2,
            _ => DiskFormat::Raw,
        },
        readonly: false,
        shareable: false,
        discard: Discard::Unmap,
        serial: Some("fuzz".into()),
        cache: Cache::Writeback,
        io: match kind {
            Kind::Block | Kind::SlowBlock => Some(DiskIo::IoUring),
            _ => None,
        },
        detect_zeroes: DetectZeroes::Unmap,
        queues: if kind == Kind::Block {
            vec![256]
        } else {
            vec![16, 256, 2]
        },
        limits: limits(kind),
        error_policy: ErrorPolicy::Stop,
        rerror_policy: ReadErrorPolicy::Stop,
    };
    Block::new(&spec, worker).unwrap()
}

/// The name of the tap by which the kernel serves an interface.
const TAP: &str = "fuzz0";

/// An interface, on cables that send everything back or, where the kernel serves it, on a tap.
fn interface(kind: Kind, worker: &Arc<Worker>) -> Net {
    let by_kernel = kind == Kind::KernelNet;
    let pairs = if kind == Kind::Net { 1 } else { 3 };
    let spec = net::Spec {
        tap: TAP.into(),
        mac: [0x52, 0x54, 0, 0, 0, 1],
        link: LinkState::Up,
        mtu: Some(1400),
        without: Vec::new(),
        queue_sizes: [256; 2],
        pairs,
        vhost: Some(by_kernel),
    };
    if by_kernel {
        let workers = (0..pairs).map(|_| Arc::clone(worker)).collect();
        let net = Net::new(&spec, workers).unwrap();
        let up = Command::new("ip").args(["link", "set", TAP, "up"]).status();
        assert!(up.unwrap().success());
        return net;
    }
    let ports = (0..pairs).map(|_| {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let cable = Arc::new(Echo(near, far)) as Arc<dyn Cable>;
        (cable, Arc::clone(worker))
    });
    Net::with_ports(&spec, ports.collect()).unwrap()
}

fn device(kind: Kind, disk: &Path, worker: Arc<Worker>) -> Box<dyn VirtioDevice> {
    match kind {
        Kind::Watchdog | Kind::Panic => unreachable!("it is not virtio"),
        Kind::Block | Kind::SlowBlock | Kind::BadBlock => unreachable!("it is made elsewhere"),
        Kind::Net | Kind::ManyNet | Kind::KernelNet => unreachable!("it is made elsewhere"),
        Kind::Rng => Box::new(Rng::new(&rng::Spec::default(), worker).unwrap()),
        Kind::Balloon => {
            let spec = balloon::Spec {
                memory: Bytes(LOW),
                target: Some(Bytes(1 << 20)),
                period: Some(1),
                deflate_on_oom: true,
                free_page_reporting: true,
            };
            Box::new(Balloon::new(&spec, worker).unwrap())
        }
        Kind::Console => {
            let port = |id: &str, console: bool| Port {
                number: None,
                id: id.into(),
                name: Some(format!("org.example.{id}")),
                console,
                pty: console,
                socket: (!console).then(|| disk.with_extension(id)),
                tcp: None,
                connect: false,
                log: None,
                log_limit: Bytes(4096),
            };
            let ports = [port("console0", true), port("channel0", false)];
            let links = tempfile::tempdir().unwrap();
            let console = Console::new(&ports, links.path(), worker).unwrap();
            let _ = std::fs::remove_file(disk.with_extension("channel0"));
            Box::new(console)
        }
        Kind::Vsock => {
            let spec = vsock::Spec {
                cid: 3,
                socket: disk.with_extension("vsock"),
                calls: disk.with_extension("vsock"),
            };
            let vsock = Vsock::new(&spec, worker).unwrap();
            let _ = std::fs::remove_file(&spec.socket);
            Box::new(vsock)
        }
    }
}
