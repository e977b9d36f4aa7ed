//! PCI and what is plugged into it.
//!
//! In come the configuration and the buses; out goes a PCI bus with a device in each slot that was stated or is free. What can go wrong is a
//! device's own opening, and says which device. Devices are opened here, with the privileges that the process still has; their
//! threads begin inside the sandbox.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use kvm_ioctls::VmFd;
use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use super::disks::Disks;
use super::{BalloonError, NoInterface};
use crate::boot::disk::DiskBytes;
use crate::bus::{Bus, BusError, lock};
use crate::config::PanicModel;
use crate::config::{self, Bytes, Guest, LinkState};
use crate::control::wire::BalloonStats;
use crate::devices::pvpanic::{Pvpanic, PvpanicPci};
use crate::devices::virtio::VirtioDevice;
use crate::devices::virtio::balloon::{self, Balloon, BalloonControl};
use crate::devices::virtio::block::{self, Block, OpenError};
use crate::devices::virtio::console::host::EndError;
use crate::devices::virtio::console::{Console, PortState, PortsControl};
use crate::devices::virtio::net::{self, LinkControl, Net, TapError};
use crate::devices::virtio::pci::{Doorbells, KvmDoorbells, NewError, VirtioPci};
use crate::devices::virtio::rng;
use crate::devices::virtio::vsock::{self, Vsock};
use crate::devices::virtio::worker::Worker;
use crate::devices::watchdog::{Watchdog, WatchdogControl};
use crate::interrupt::{KvmMsi, Msi};
use crate::layout;
use crate::notice::Notifier;
use crate::pci::{InsertError, PciBus, PciEcam, PciFunction, PciPorts, Place};
use crate::pin::{PinError, Pinning};
use crate::sandbox::{Role, Sandbox};

/// Why a device is not there.
#[derive(Debug, Error)]
pub enum PlugError {
    /// Two devices want one address.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The slot is taken, or there is none.
    #[error("could not plug in {device}")]
    Slot {
        /// The device.
        device: String,
        /// Why.
        source: InsertError,
    },
    /// All slots are taken.
    #[error("could not plug in {0}: no PCI slot is free")]
    Full(String),
    /// The device could not be put onto PCI.
    #[error("could not put {device} onto PCI")]
    Transport {
        /// The device.
        device: String,
        /// Why.
        source: NewError,
    },
    /// A thread could not be started.
    #[error("could not start a thread for {device}")]
    Worker {
        /// The device.
        device: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A thread cannot run where it is to.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The image could not be opened.
    #[error("could not open disk {id}")]
    Disk {
        /// The disk.
        id: String,
        /// Why.
        source: OpenError,
    },
    /// The tap could not be opened.
    #[error("could not open interface {id}")]
    Interface {
        /// The interface.
        id: String,
        /// Why.
        source: TapError,
    },
    /// A port's other end could not be opened.
    #[error(transparent)]
    Port(#[from] EndError),
    /// The socket device's socket could not be made.
    #[error("could not listen for the guest's sockets on {path}")]
    Vsock {
        /// The socket.
        path: std::path::PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The entropy source could not be opened.
    #[error("could not open the entropy source {path}")]
    Rng {
        /// The file.
        path: std::path::PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What devices are connected to.
pub(super) struct Buses<'a> {
    /// The machine.
    pub vm: &'a Arc<VmFd>,
    /// Its memory.
    pub memory: &'a GuestMemoryMmap,
    /// Its ports.
    pub ports: &'a Arc<Bus>,
    /// Its memory-mapped devices.
    pub mmio: &'a Arc<Bus>,
    /// Where what happens to the guest is told.
    pub notifier: &'a Notifier,
}

/// What is plugged in.
pub(super) struct Plugged {
    pci: Arc<Mutex<PciBus>>,
    balloon: Option<BalloonControl>,
    watchdog: Option<WatchdogControl>,
    ports: Option<PortsControl>,
    disks: Disks,
    /// The interfaces' cables, by the interfaces' names.
    links: Vec<(String, LinkControl)>,
    /// What is on the disk that the guest boots from, if it boots from one.
    boot_disk: Option<Arc<dyn DiskBytes>>,
}

/// Makes the PCI bus and all devices on it.
pub(super) fn plug(
    guest: &Guest,
    buses: &Buses<'_>,
    sandbox: &Sandbox,
    pinning: &Pinning<'_>,
) -> Result<Plugged, PlugError> {
    let pci = Arc::new(Mutex::new(PciBus::new(Arc::clone(buses.mmio))));
    let (range, device) = (layout::PORT_PCI, PciPorts::new(Arc::clone(&pci)));
    buses.ports.insert(
        range.start.into(),
        range.len() as u64,
        Arc::new(Mutex::new(device)),
    )?;
    let (range, device) = (
        layout::pci_ecam(guest.last_bus()),
        PciEcam::new(Arc::clone(&pci)),
    );
    buses.mmio.insert(
        range.start,
        range.end - range.start,
        Arc::new(Mutex::new(device)),
    )?;

    for port in &guest.root_ports {
        let inserted = lock(&pci).insert_port(port.slot, port.bus);
        inserted.map_err(|source| PlugError::Slot {
            device: format!("the root port of bus {}", port.bus),
            source,
        })?;
    }
    let mut plugger = Plugger::new(guest, buses, &pci);
    let small = Small::new(sandbox);
    let mut boot_disk = None;
    let mut disks = Disks::default();
    for disk in &guest.disks {
        let name = format!("disk {}", disk.id);
        let is_pinned = guest.pins.disk(&disk.id).is_some();
        let start = || start_disk_worker(&disk.id, &name, sandbox, is_pinned);
        let device = open_disk(disk, pinning.disk(&disk.id, start)??)?;
        if guest.boot.disk.as_ref() == Some(&disk.id) {
            boot_disk = Some(device.contents());
        }
        device.tell(buses.notifier.clone());
        disks.insert(&disk.id, device.control());
        plugger.insert(&name, disk.slot, Box::new(device))?;
    }
    let mut links = Vec::new();
    for interface in &guest.interfaces {
        let name = format!("interface {}", interface.id);
        let workers = (0..interface.queues.unwrap_or(1))
            .map(|_| start_worker(&interface.id, &name, sandbox))
            .collect::<Result<_, _>>()?;
        let device = open_interface(interface, workers)?;
        links.push((interface.id.clone(), device.link()));
        plugger.insert(&name, interface.slot, Box::new(device))?;
    }
    if let Some(config) = &guest.rng {
        let device = open_rng(config, small.worker("the entropy device")?)?;
        plugger.insert("the entropy device", config.slot, Box::new(device))?;
    }
    let mut balloon = None;
    if let Some(config) = &guest.balloon {
        let spec = balloon::Spec {
            memory: guest.memory.size,
            target: config.target,
            period: config.period.filter(|seconds| *seconds > 0),
            deflate_on_oom: config.deflate_on_oom,
            free_page_reporting: config.free_page_reporting && !guest.memory.locked,
        };
        let worker = small.worker("the balloon")?;
        let device = Balloon::new(&spec, worker).map_err(|source| PlugError::Worker {
            device: "the balloon".into(),
            source,
        })?;
        balloon = Some(device.control());
        plugger.insert("the balloon", config.slot, Box::new(device))?;
    }
    if let Some(config) = &guest.panic {
        plug_panic(config, &mut plugger)?;
    }
    let mut watchdog = None;
    if let Some(config) = &guest.watchdog {
        let device = "the watchdog";
        let worker = small.worker(device)?;
        let function =
            Watchdog::new(buses.notifier.clone(), &worker).map_err(|source| PlugError::Worker {
                device: device.into(),
                source,
            })?;
        watchdog = Some(function.control());
        plugger.insert_function(device, config.slot, function)?;
    }
    let mut ports = None;
    if !guest.ports.is_empty() {
        let device = "the console";
        let worker = start_worker_as(Role::Channel, "ports", device, sandbox)?;
        let links = guest.control.parent().unwrap_or(Path::new("/"));
        let console = Console::new(&guest.ports, links, worker)?;
        ports = Some(console.control());
        plugger.insert(device, guest.ports_slot, Box::new(console))?;
    }
    if let Some(config) = &guest.vsock {
        let device = open_vsock(config, sandbox)?;
        plugger.insert("the socket device", config.slot, Box::new(device))?;
    }
    Ok(Plugged {
        pci,
        ports,
        watchdog,
        balloon,
        disks,
        links,
        boot_disk,
    })
}

/// Whether there is a panic device at its port, which ACPI has to tell of.
pub(super) fn has_pvpanic_port(guest: &Guest) -> bool {
    let panic = guest.panic.as_ref();
    panic.is_some_and(|panic| panic.model == PanicModel::Isa)
}

fn plug_panic(config: &config::Panic, plugger: &mut Plugger<'_>) -> Result<(), PlugError> {
    let notifier = plugger.buses.notifier.clone();
    match config.model {
        PanicModel::Isa => {
            let range = layout::PORT_PVPANIC;
            let device = Arc::new(Mutex::new(Pvpanic::new(notifier)));
            let ports = plugger.buses.ports;
            Ok(ports.insert(range.start.into(), range.len() as u64, device)?)
        }
        PanicModel::Pci => {
            let function = PvpanicPci::new(notifier);
            plugger.insert_function("the panic device", config.slot, function)
        }
    }
}

fn open_disk(disk: &config::Disk, worker: Arc<Worker>) -> Result<Block, PlugError> {
    let spec = block::Spec {
        path: disk.path.clone(),
        format: disk.format,
        readonly: disk.readonly,
        shareable: disk.shareable,
        discard: disk.discard,
        serial: disk.serial.clone(),
        cache: disk.cache,
        io: disk.io,
        detect_zeroes: disk.detect_zeroes,
        queues: vec![disk.queue_size.unwrap_or(256); disk.queues.unwrap_or(1).into()],
        limits: disk.limits.clone(),
        error_policy: disk.error_policy,
        rerror_policy: disk.rerror_policy,
    };
    Block::new(&spec, worker).map_err(|source| PlugError::Disk {
        id: disk.id.clone(),
        source,
    })
}

fn open_interface(
    interface: &config::Interface,
    workers: Vec<Arc<Worker>>,
) -> Result<Net, PlugError> {
    let spec = net::Spec {
        tap: interface.tap.clone(),
        mac: interface.mac.0,
        link: interface.link,
        mtu: interface.mtu,
        without: interface.without.clone(),
        queue_sizes: [interface.rx_queue_size, interface.tx_queue_size]
            .map(|size| size.unwrap_or(256)),
        pairs: interface.queues.unwrap_or(1),
        vhost: interface.vhost,
    };
    Net::new(&spec, workers).map_err(|source| PlugError::Interface {
        id: interface.id.clone(),
        source,
    })
}

fn open_rng(config: &config::Rng, worker: Arc<Worker>) -> Result<rng::Rng, PlugError> {
    let spec = rng::Spec {
        source: config.source.clone(),
    };
    rng::Rng::new(&spec, worker).map_err(|source| PlugError::Rng {
        path: spec.source,
        source,
    })
}

/// Its worker keeps the directory of its sockets, since it is the one that calls programs of the host.
fn open_vsock(config: &config::Vsock, sandbox: &Sandbox) -> Result<Vsock, PlugError> {
    let failed = |source| PlugError::Vsock {
        path: config.socket.clone(),
        source,
    };
    let parent = config.socket.parent().unwrap_or(Path::new("/"));
    let place = std::fs::File::open(parent).map_err(failed)?;
    let name = config.socket.file_name().unwrap_or_default();
    let spec = vsock::Spec {
        cid: config.cid,
        socket: config.socket.clone(),
        calls: match sandbox.holds() {
            true => name.into(),
            false => config.socket.clone(),
        },
    };
    let inside = sandbox.clone();
    let prepare = move || {
        let entered = inside.enter_at(Role::Caller, &place);
        entered.map_err(io::Error::other)
    };
    let worker = spawn_worker("vsock", "the socket device", prepare)?;
    Vsock::new(&spec, worker).map_err(failed)
}

/// Gives devices their slots.
struct Plugger<'a> {
    buses: &'a Buses<'a>,
    pci: &'a Mutex<PciBus>,
    msi: Arc<dyn Msi>,
    doorbells: Arc<dyn Doorbells>,
    /// Slots of bus 0 that nothing states, in ascending order.
    free: Box<dyn Iterator<Item = Place>>,
}

impl<'a> Plugger<'a> {
    fn new(guest: &Guest, buses: &'a Buses<'a>, pci: &'a Mutex<PciBus>) -> Self {
        Self {
            buses,
            pci,
            msi: Arc::new(KvmMsi::new(Arc::clone(buses.vm))),
            doorbells: Arc::new(KvmDoorbells::new(Arc::clone(buses.vm))),
            free: Box::new(guest.free_slots()),
        }
    }

    fn insert(
        &mut self,
        name: &str,
        slot: Option<Place>,
        device: Box<dyn VirtioDevice>,
    ) -> Result<(), PlugError> {
        let (msi, doorbells) = (Arc::clone(&self.msi), Arc::clone(&self.doorbells));
        let function = VirtioPci::new(device, self.buses.memory.clone(), msi, Some(doorbells))
            .map_err(|source| PlugError::Transport {
                device: name.into(),
                source,
            })?;
        self.insert_function(name, slot, function)
    }

    fn insert_function(
        &mut self,
        name: &str,
        slot: Option<Place>,
        function: impl PciFunction + 'static,
    ) -> Result<(), PlugError> {
        let slot = slot
            .or_else(|| self.free.next())
            .ok_or_else(|| PlugError::Full(name.into()))?;
        lock(self.pci)
            .insert(slot, Arc::new(Mutex::new(function)))
            .map_err(|source| PlugError::Slot {
                device: name.into(),
                source,
            })
    }
}

/// The worker that small devices share, started when the first of them wants it.
struct Small<'a> {
    sandbox: &'a Sandbox,
    worker: std::cell::OnceCell<Arc<Worker>>,
}

impl<'a> Small<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        Self {
            sandbox,
            worker: std::cell::OnceCell::new(),
        }
    }

    fn worker(&self, device: &str) -> Result<Arc<Worker>, PlugError> {
        if let Some(worker) = self.worker.get() {
            return Ok(Arc::clone(worker));
        }
        let worker = start_worker("devices", device, self.sandbox)?;
        Ok(Arc::clone(self.worker.get_or_init(|| worker)))
    }
}

fn start_worker(thread: &str, device: &str, sandbox: &Sandbox) -> Result<Arc<Worker>, PlugError> {
    start_worker_as(Role::Device, thread, device, sandbox)
}

fn start_disk_worker(
    thread: &str,
    device: &str,
    sandbox: &Sandbox,
    is_pinned: bool,
) -> Result<Arc<Worker>, PlugError> {
    let sandbox = sandbox.clone();
    let prepare = move || {
        if is_pinned {
            block::keep_helpers_here()?;
        }
        sandbox.enter(Role::Disk).map_err(io::Error::other)
    };
    spawn_worker(thread, device, prepare)
}

fn start_worker_as(
    role: Role,
    thread: &str,
    device: &str,
    sandbox: &Sandbox,
) -> Result<Arc<Worker>, PlugError> {
    let sandbox = sandbox.clone();
    let prepare = move || sandbox.enter(role).map_err(io::Error::other);
    spawn_worker(thread, device, prepare)
}

/// `prepare` is done by the thread itself, before it serves anything.
fn spawn_worker(
    thread: &str,
    device: &str,
    prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<Arc<Worker>, PlugError> {
    Worker::spawn(thread, prepare).map_err(|source| PlugError::Worker {
        device: device.into(),
        source,
    })
}

impl Plugged {
    /// What is on the disk that the guest boots from, if it boots from one.
    pub fn boot_disk(&self) -> Option<Arc<dyn DiskBytes>> {
        self.boot_disk.clone()
    }

    /// Puts every device back to power on. None touches the guest's memory afterwards until the guest sets it up again.
    pub fn reset(&self) {
        lock(&self.pci).reset();
    }

    /// The guest rests: what counts time for it stands still.
    pub fn hold(&self) {
        self.watchdog.iter().for_each(WatchdogControl::hold);
    }

    /// The guest runs again, and so does what counts time for it; what the host failed is tried again.
    pub fn release(&self) {
        self.disks.retry();
        self.watchdog.iter().for_each(WatchdogControl::release);
    }

    /// Asks the guest to keep `target` of its memory.
    pub fn set_balloon(&self, target: Bytes) -> Result<(), BalloonError> {
        self.balloon
            .as_ref()
            .ok_or(BalloonError::None)?
            .set_target(target);
        Ok(())
    }

    /// Pulls the cable of the interface named `id`, or puts it in; says whether that changed anything.
    pub fn set_link(&self, id: &str, state: LinkState) -> Result<bool, NoInterface> {
        let found = self.links.iter().find(|(name, _)| name == id);
        let (_, link) = found.ok_or_else(|| NoInterface(id.to_owned()))?;
        Ok(link.set(state))
    }

    /// The disks.
    pub fn disks(&self) -> &Disks {
        &self.disks
    }

    /// How the console's ports are.
    pub fn ports(&self) -> Vec<PortState> {
        self.ports
            .as_ref()
            .map(PortsControl::state)
            .unwrap_or_default()
    }

    /// How the balloon is.
    pub fn balloon(&self) -> Option<BalloonStats> {
        self.balloon.as_ref().map(BalloonControl::stats)
    }
}
