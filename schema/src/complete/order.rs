//! Which devices sit on PCI, in the order in which libvirt places them.

use crate::domain::Devices;
use crate::domain::address::Address;
use crate::domain::chardev::CharTargetType;
use crate::domain::controller::{ControllerModel, ControllerType};
use crate::domain::disk::{Disk, DiskBus};
use crate::domain::filesystem::FilesystemDriverType;
use crate::domain::graphics::{SoundModel, VideoType};
use crate::domain::hostdev::HostdevType;
use crate::domain::interface::InterfaceType;
use crate::domain::memory::BalloonModel;
use crate::domain::misc::{InputBus, IommuModel, PanicModel, WatchdogModel};

/// Where a device may go on Q35.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// A root port of its own.
    Express,
    /// A conventional slot.
    Conventional,
}

/// A device that waits for its place, by its list and its number in it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Device {
    Filesystem(usize),
    Interface(usize),
    Sound(usize),
    Controller(usize),
    Disk(usize),
    Hostdev(usize),
    Balloon,
    Rng(usize),
    Watchdog(usize),
    Video(usize),
    Shmem(usize),
    Input(usize),
    Serial(usize),
    Panic(usize),
    Vsock,
    Iommu,
    Crypto(usize),
}

impl Device {
    /// Where its place stands.
    pub(super) fn address(self, devices: &mut Devices) -> Option<&mut Option<Address>> {
        Some(match self {
            Self::Filesystem(n) => &mut devices.filesystems.get_mut(n)?.address,
            Self::Interface(n) => &mut devices.interfaces.get_mut(n)?.address,
            Self::Sound(n) => &mut devices.sounds.get_mut(n)?.address,
            Self::Controller(n) => &mut devices.controllers.get_mut(n)?.address,
            Self::Disk(n) => &mut devices.disks.get_mut(n)?.address,
            Self::Hostdev(n) => &mut devices.hostdevs.get_mut(n)?.address,
            Self::Balloon => &mut devices.memballoon.as_mut()?.address,
            Self::Rng(n) => &mut devices.rngs.get_mut(n)?.address,
            Self::Watchdog(n) => &mut devices.watchdogs.get_mut(n)?.address,
            Self::Video(n) => &mut devices.videos.get_mut(n)?.address,
            Self::Shmem(n) => &mut devices.shmems.get_mut(n)?.address,
            Self::Input(n) => &mut devices.inputs.get_mut(n)?.address,
            Self::Serial(n) => &mut devices.serials.get_mut(n)?.address,
            Self::Panic(n) => &mut devices.panics.get_mut(n)?.address,
            Self::Vsock => &mut devices.vsock.as_mut()?.address,
            Self::Iommu => &mut devices.iommu.as_mut()?.address,
            Self::Crypto(n) => &mut devices.cryptos.get_mut(n)?.address,
        })
    }
}

/// Every device on PCI but PCI's own controllers, in the order in which libvirt places them, with where it may go.
pub(super) fn on_pci(devices: &Devices) -> Vec<(Device, Slot)> {
    let mut out = Vec::new();
    for (n, filesystem) in devices.filesystems.iter().enumerate() {
        let driver = filesystem.driver.as_ref().and_then(|driver| driver.kind);
        if driver != Some(FilesystemDriverType::Mtp) {
            out.push((Device::Filesystem(n), Slot::Express));
        }
    }
    for (n, interface) in devices.interfaces.iter().enumerate() {
        let model = interface
            .model
            .as_ref()
            .and_then(|model| model.kind.as_deref());
        let wants = match model {
            _ if interface.kind == Some(InterfaceType::Hostdev) => Slot::Express,
            Some("ne2k_isa" | "usb-net") => continue,
            Some(model) if model.starts_with("virtio") || matches!(model, "e1000e" | "vmxnet3") => {
                Slot::Express
            }
            _ => Slot::Conventional,
        };
        out.push((Device::Interface(n), wants));
    }
    for (n, sound) in devices.sounds.iter().enumerate() {
        match sound.model {
            Some(SoundModel::Sb16 | SoundModel::Pcspk | SoundModel::Usb) | None => {}
            Some(SoundModel::Virtio) => out.push((Device::Sound(n), Slot::Express)),
            Some(_) => out.push((Device::Sound(n), Slot::Conventional)),
        }
    }
    for (n, controller) in devices.controllers.iter().enumerate() {
        let wants = match (controller.kind, controller.model) {
            (
                Some(
                    ControllerType::Pci
                    | ControllerType::Fdc
                    | ControllerType::Ccid
                    | ControllerType::Ide
                    | ControllerType::Isa,
                ),
                _,
            ) => continue,
            (
                _,
                Some(ControllerModel::None | ControllerModel::Buslogic | ControllerModel::IbmVscsi),
            ) => continue,
            (Some(ControllerType::VirtioSerial), _) => Slot::Express,
            (
                _,
                Some(
                    ControllerModel::VirtioScsi
                    | ControllerModel::VirtioNonTransitional
                    | ControllerModel::QemuXhci
                    | ControllerModel::NecXhci,
                ),
            ) => Slot::Express,
            (Some(ControllerType::Nvme), _) => Slot::Express,
            _ => Slot::Conventional,
        };
        out.push((Device::Controller(n), wants));
    }
    let target = |disk: &Disk| disk.target.as_ref().and_then(|target| target.dev.clone());
    let mut disks: Vec<(Option<u64>, usize)> = (0..)
        .zip(&devices.disks)
        .filter(|(_, disk)| {
            disk.target.as_ref().and_then(|target| target.bus) == Some(DiskBus::Virtio)
        })
        .map(|(n, disk)| (target(disk).and_then(|dev| super::drives::number(&dev)), n))
        .collect();
    disks.sort_unstable();
    out.extend(
        disks
            .into_iter()
            .map(|(_, n)| (Device::Disk(n), Slot::Express)),
    );
    for (n, hostdev) in devices.hostdevs.iter().enumerate() {
        if matches!(
            hostdev.kind,
            Some(HostdevType::Pci | HostdevType::Mdev | HostdevType::ScsiHost)
        ) {
            out.push((Device::Hostdev(n), Slot::Express));
        }
    }
    rest(devices, &mut out);
    out
}

/// The devices that come after disks.
fn rest(devices: &Devices, out: &mut Vec<(Device, Slot)>) {
    let balloon = devices
        .memballoon
        .as_ref()
        .and_then(|balloon| balloon.model);
    if !matches!(balloon, None | Some(BalloonModel::None | BalloonModel::Xen)) {
        out.push((Device::Balloon, Slot::Express));
    }
    for (n, _) in devices.rngs.iter().enumerate() {
        out.push((Device::Rng(n), Slot::Express));
    }
    for (n, watchdog) in devices.watchdogs.iter().enumerate() {
        if watchdog.model == Some(WatchdogModel::I6300esb) {
            out.push((Device::Watchdog(n), Slot::Conventional));
        }
    }
    for (n, video) in devices.videos.iter().enumerate() {
        match video.model.as_ref().and_then(|model| model.kind) {
            Some(VideoType::None | VideoType::Ramfb) => {}
            Some(VideoType::Virtio | VideoType::Bochs) => {
                out.push((Device::Video(n), Slot::Express))
            }
            _ => out.push((Device::Video(n), Slot::Conventional)),
        }
    }
    for (n, _) in devices.shmems.iter().enumerate() {
        out.push((Device::Shmem(n), Slot::Conventional));
    }
    for (n, input) in devices.inputs.iter().enumerate() {
        if input.bus == Some(InputBus::Virtio) {
            out.push((Device::Input(n), Slot::Express));
        }
    }
    for (n, serial) in devices.serials.iter().enumerate() {
        if serial.target.as_ref().and_then(|target| target.kind) == Some(CharTargetType::PciSerial)
        {
            out.push((Device::Serial(n), Slot::Conventional));
        }
    }
    for (n, panic) in devices.panics.iter().enumerate() {
        if panic.model == Some(PanicModel::Pvpanic) {
            out.push((Device::Panic(n), Slot::Express));
        }
    }
    if devices.vsock.is_some() {
        out.push((Device::Vsock, Slot::Express));
    }
    for (n, _) in devices.cryptos.iter().enumerate() {
        out.push((Device::Crypto(n), Slot::Express));
    }
    if devices.iommu.as_ref().and_then(|iommu| iommu.model) == Some(IommuModel::Virtio) {
        out.push((Device::Iommu, Slot::Express));
    }
}
