//! A domain's devices.

mod address;
mod chardevs;
mod disks;
mod extras;
mod interfaces;
mod limits;
mod places;

use std::path::PathBuf;

use vireo_schema::Rule;
use vireo_schema::complete::targets::{bus, targets};
use vireo_schema::domain::Domain as Stated;
use vireo_schema::domain::chardev::{CharTarget, CharTargetType, CharType};
use vireo_schema::domain::devices::Devices;
use vireo_schema::domain::disk::{CacheMode, DiskBus, DiskDevice, DiskIo};
use vireo_schema::domain::graphics::AudioType;
use vireo_schema::domain::interface::InterfaceType;
use vireo_schema::domain::memory::{BalloonModel, MemBalloon};
use vireo_schema::domain::misc::{PanicModel, RngBackendModel, WatchdogModel};
use vireo_schema::scalar::OnOff;

use super::{Resolving, Surroundings};
use crate::resolve::domain::{Address, BalloonOptions, Chardev, Disk, Extra, Interface, Rng};
use crate::resolve::nth_device as nth;

use self::address::address;

/// Everything that is plugged in.
pub(super) struct Plugged {
    pub disks: Vec<Disk>,
    pub interfaces: Vec<Interface>,
    pub chardevs: Vec<Chardev>,
    pub extras: Vec<Extra>,
    pub rng: Option<Rng>,
    pub balloon: bool,
    pub balloon_address: Option<Address>,
    pub balloon_options: BalloonOptions,
}

/// The first device that the builtin driver cannot do because of what it is, not of what is stated about it: its path, and why.
pub(super) fn builtin_obstacle(devices: &Devices) -> Option<(String, String)> {
    let path = nth;
    for (number, disk) in devices.disks.iter().enumerate() {
        if bus(disk) != DiskBus::Virtio {
            return Some((
                path("disk", number),
                "it has a disk that is not on virtio".to_owned(),
            ));
        }
        if disk.device.unwrap_or(DiskDevice::Disk) != DiskDevice::Disk {
            return Some((
                path("disk", number),
                "it has a drive, and builtin has disks only".to_owned(),
            ));
        }
        let cache = disk.driver.as_ref().and_then(|driver| driver.cache);
        if let Some(cache @ (CacheMode::Directsync | CacheMode::Unsafe)) = cache {
            return Some((
                format!("{}/driver/@cache", path("disk", number)),
                format!("it has a disk with cache {}", cache.as_str()),
            ));
        }
    }
    for (number, interface) in devices.interfaces.iter().enumerate() {
        let model = interface
            .model
            .as_ref()
            .and_then(|model| model.kind.as_deref());
        if let Some(model) = model.filter(|model| *model != "virtio") {
            return Some((
                path("interface", number),
                format!("it has a network card of model {model}"),
            ));
        }
        let driver = interface.driver.as_ref();
        if driver.is_some_and(|driver| driver.queues.is_some_and(|queues| queues > MOST_PAIRS)) {
            return Some((
                path("interface", number),
                format!("it has an interface with more than {MOST_PAIRS} pairs of queues"),
            ));
        }
        if interface.kind == Some(InterfaceType::User) {
            return Some((
                path("interface", number),
                "it has a user-mode network".to_owned(),
            ));
        }
    }
    if devices.serials.len() > 1 {
        return Some((path("serial", 1), "it has several serial ports".to_owned()));
    }
    let ports = devices.serials.iter().map(|serial| (serial.kind, "serial"));
    let virtio = |target: &Option<CharTarget>| {
        target.as_ref().and_then(|target| target.kind) == Some(CharTargetType::Virtio)
    };
    let consoles = devices.consoles.iter();
    let consoles = consoles
        .filter(|console| !virtio(&console.target))
        .map(|console| (console.kind, "console"));
    for (kind, element) in ports.chain(consoles) {
        if kind.unwrap_or(CharType::Pty) != CharType::Pty {
            return Some((path(element, 0), "its console is not a pty".to_owned()));
        }
    }
    let later = |target: &Option<CharTarget>| {
        let port = target.as_ref().and_then(|target| target.port);
        port.is_some_and(|port| port.get() > 0)
    };
    if devices.serials.iter().any(|serial| later(&serial.target)) {
        return Some((
            path("serial", 0),
            "its serial port is not the first".to_owned(),
        ));
    }
    if devices.rngs.len() > 1 {
        return Some((
            path("rng", 1),
            "it has several random number devices".to_owned(),
        ));
    }
    port_obstacle(devices)
        .or_else(|| guard_obstacle(devices))
        .or_else(|| places::obstacle(devices))
}

/// What the definition states and a builtin guest does without, since nothing of it uses that, in words.
pub(super) fn left_out(devices: &Devices) -> Vec<String> {
    let mut all = places::left_out(devices);
    all.extend(ways_of_qemu(devices).map(|(_, way, target)| format!("io {way} of disk {target}")));
    all
}

/// The disks whose images are to be reached in a way that only QEMU has: their places, the ways and the targets.
pub(super) fn ways_of_qemu(devices: &Devices) -> impl Iterator<Item = (usize, &str, &str)> {
    let disks = devices.disks.iter().enumerate();
    disks.filter_map(|(number, disk)| {
        let io = disk.driver.as_ref()?.io?;
        let target = disk.target.as_ref().and_then(|it| it.dev.as_deref());
        (io == DiskIo::Native).then(|| (number, io.as_str(), target.unwrap_or("without a name")))
    })
}

/// The first virtio console or channel that the builtin driver does not have.
fn port_obstacle(devices: &Devices) -> Option<(String, String)> {
    let consoles = devices.consoles.iter().enumerate();
    let consoles = consoles
        .filter(|(_, console)| {
            let target = console.target.as_ref();
            target.and_then(|target| target.kind) == Some(CharTargetType::Virtio)
        })
        .map(|(number, console)| ("console", number, console.kind, &console.target));
    let channels = devices.channels.iter().enumerate();
    let channels =
        channels.map(|(number, channel)| ("channel", number, channel.kind, &channel.target));
    let ports: Vec<_> = consoles.chain(channels).collect();
    for (class, number, kind, target) in &ports {
        let target = target.as_ref().and_then(|target| target.kind);
        if let Some(other) = target.filter(|target| *target != CharTargetType::Virtio) {
            let why = format!("it has a {class} of type {}", other.as_str());
            return Some((nth(class, *number), why));
        }
        if kind.unwrap_or(CharType::Pty) == CharType::Spicevmc {
            let why = format!("it has a {class} of SPICE's, and builtin has no display");
            return Some((nth(class, *number), why));
        }
    }
    (ports.len() > MOST_PORTS).then(|| {
        let why = format!("it has more than {MOST_PORTS} virtio consoles and channels");
        ("devices".to_owned(), why)
    })
}

/// Most pairs of queues of the monitor's interfaces.
const MOST_PAIRS: u32 = 31;

/// Most ports of the monitor's virtio console.
const MOST_PORTS: usize = 29;

/// The first watchdog or panic device that the builtin driver does not have.
fn guard_obstacle(devices: &Devices) -> Option<(String, String)> {
    let watchdogs = devices.watchdogs.iter().enumerate();
    let watchdogs = watchdogs.filter(|(_, it)| !places::is_chipsets(it));
    for (number, watchdog) in watchdogs.clone() {
        let model = watchdog.model.unwrap_or(WatchdogModel::I6300esb);
        if model != WatchdogModel::I6300esb {
            let why = format!(
                "it has a watchdog of model {}, which is part of a chipset; builtin has i6300esb, a card of its own",
                model.as_str()
            );
            return Some((format!("{}/@model", nth("watchdog", number)), why));
        }
    }
    if let Some((number, _)) = watchdogs.clone().nth(1) {
        let why = "it has several watchdogs".to_owned();
        return Some((nth("watchdog", number), why));
    }
    for (number, panic) in devices.panics.iter().enumerate() {
        let model = panic.model.unwrap_or(PanicModel::Isa);
        if !matches!(model, PanicModel::Isa | PanicModel::Pvpanic) {
            let why = format!(
                "it has a panic device of model {}; builtin has isa and pvpanic",
                model.as_str()
            );
            return Some((format!("{}/@model", nth("panic", number)), why));
        }
    }
    (devices.panics.len() > 1).then(|| (nth("panic", 1), "it has several panic devices".to_owned()))
}

/// Every device, completed.
pub(super) fn devices(at: &mut Resolving<'_>, domain: &Stated, around: &Surroundings) -> Plugged {
    let none = Devices::default();
    let devices = domain.devices.as_ref().unwrap_or(&none);
    let stated = devices.disks.iter().enumerate();
    let mut disks: Vec<_> = stated
        .zip(targets(&devices.disks))
        .filter_map(|(disk, target)| disks::disk_at(at, disk, target.into_owned(), around))
        .collect();
    limits::share(&mut disks);
    let interfaces = (0..devices.interfaces.len())
        .filter_map(|number| interfaces::interface_at(at, devices, number, around))
        .collect();
    refuse_sound(at, devices);
    let balloon = devices.memballoon.as_ref();
    let model = balloon.and_then(|balloon| balloon.model);
    if let Some(other) =
        model.filter(|model| !matches!(model, BalloonModel::Virtio | BalloonModel::None))
    {
        let message = format!(
            "a balloon of model '{}' is not something vireo can do",
            other.as_str()
        );
        at.refuse(
            Rule::Unsupported,
            "devices/memballoon/@model",
            message,
            "virtio and none are",
        );
    }
    Plugged {
        disks,
        interfaces,
        chardevs: chardevs::chardevs(at, devices),
        extras: extras::extras(at, domain),
        rng: rng(at, devices),
        balloon: model != Some(BalloonModel::None),
        balloon_options: balloon.map(balloon_options).unwrap_or_default(),
        balloon_address: address(
            at,
            "devices/memballoon",
            balloon.and_then(|balloon| balloon.address.as_ref()),
        ),
    }
}

/// Sound goes nowhere: sound cards are there, and nobody hears them.
fn refuse_sound(at: &mut Resolving<'_>, devices: &Devices) {
    for (number, audio) in devices.audios.iter().enumerate() {
        if let Some(other) = audio.kind.filter(|kind| *kind != AudioType::None) {
            at.refuse(
                Rule::Unsupported,
                &format!("{}/@type", nth("audio", number)),
                format!(
                    "sound by way of '{}' is not something vireo can do",
                    other.as_str()
                ),
                "type='none' is: a guest has its sound cards, and nobody hears them",
            );
        }
    }
}

fn balloon_options(balloon: &MemBalloon) -> BalloonOptions {
    let period = balloon.stats.as_ref().and_then(|stats| stats.period);
    BalloonOptions {
        autodeflate: balloon.autodeflate == Some(OnOff::On),
        free_page_reporting: balloon
            .free_page_reporting
            .map(|stated| stated == OnOff::On),
        period: period.filter(|seconds| *seconds > 0),
    }
}

fn rng(at: &mut Resolving<'_>, devices: &Devices) -> Option<Rng> {
    let rng = devices.rngs.first()?;
    if devices.rngs.len() > 1 {
        at.refuse(
            Rule::Unsupported,
            "devices/rng[2]",
            "several random number devices are not something vireo can do",
            "one is enough",
        );
    }
    let backend = rng.backend.as_ref();
    if backend
        .and_then(|backend| backend.model)
        .is_some_and(|model| model != RngBackendModel::Random)
    {
        at.refuse(
            Rule::Unsupported,
            "devices/rng/backend/@model",
            "entropy that is not from a device of the host is not something vireo can do",
            "<backend model='random'>/dev/urandom</backend> is",
        );
    }
    let source = backend
        .and_then(|backend| backend.value.as_ref())
        .map(|value| PathBuf::from(&value.0));
    if let Some(other) = rng.model.filter(|model| model.as_str() != "virtio") {
        let message = format!(
            "a random number device of model '{}' is not something vireo can do",
            other.as_str()
        );
        at.refuse(
            Rule::Unsupported,
            "devices/rng/@model",
            message,
            "virtio is",
        );
    }
    Some(Rng {
        source: source.unwrap_or_else(|| PathBuf::from("/dev/urandom")),
        address: address(at, "devices/rng", rng.address.as_ref()),
    })
}
