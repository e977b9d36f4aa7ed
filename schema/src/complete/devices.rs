//! Devices that a machine has though nobody stated them, and the models of those that are stated without.

use super::Chipset;
use crate::domain::chardev::{
    CharTarget, CharTargetModel, CharTargetType, CharType, Console, Serial,
};
use crate::domain::disk::{DiskDriver, DiskType, ImageFormatName};
use crate::domain::filesystem::{AccessMode, FilesystemDriverType};
use crate::domain::graphics::{
    Audio, AudioType, Graphics, GraphicsType, Listen, ListenType, Video, VideoModel, VideoType,
};
use crate::domain::interface::{InterfaceModel, InterfaceType};
use crate::domain::memory::BalloonModel;
use crate::domain::misc::{
    Input, InputBus, InputType, RngBackendModel, Watchdog, WatchdogAction, WatchdogModel,
};
use crate::domain::{Devices, Domain};
use crate::scalar::{Number, OnOff, Text, YesNo};

/// Adds what the machine implies, and names the models.
pub(super) fn imply(domain: &mut Domain, chipset: Chipset) {
    let arch = domain
        .os
        .as_ref()
        .and_then(|os| os.kind.as_ref()?.arch.clone());
    let ps2 = domain
        .features
        .as_ref()
        .and_then(|features| features.ps2.as_ref()?.state)
        != Some(OnOff::Off);
    let devices = domain.devices.get_or_insert_default();
    for disk in &mut devices.disks {
        if matches!(disk.kind, Some(DiskType::VhostUser | DiskType::VhostVdpa)) {
            continue;
        }
        let driver = disk.driver.get_or_insert_with(DiskDriver::default);
        driver.name.get_or_insert_with(|| "qemu".to_owned());
        driver.kind.get_or_insert(ImageFormatName::Raw);
    }
    devices.emulator.get_or_insert_with(|| {
        let program = match arch.as_deref() {
            Some("i686") => "qemu-system-i386",
            _ => "qemu-system-x86_64",
        };
        format!("/usr/bin/{program}")
    });
    for interface in &mut devices.interfaces {
        if !matches!(
            interface.kind,
            Some(InterfaceType::Hostdev | InterfaceType::Vdpa)
        ) {
            // The only card that another process can serve is virtio's.
            let model = match interface.kind {
                Some(InterfaceType::VhostUser) => "virtio",
                _ => "rtl8139",
            };
            interface.model.get_or_insert_with(|| InterfaceModel {
                kind: Some(model.to_owned()),
                ..InterfaceModel::default()
            });
        }
    }
    for hostdev in &mut devices.hostdevs {
        hostdev.managed.get_or_insert(YesNo::No);
    }
    for filesystem in &mut devices.filesystems {
        let driver = filesystem.driver.as_ref().and_then(|driver| driver.kind);
        if driver != Some(FilesystemDriverType::Virtiofs) {
            filesystem.accessmode.get_or_insert(AccessMode::Passthrough);
        }
    }
    for backend in devices
        .rngs
        .iter_mut()
        .filter_map(|rng| rng.backend.as_mut())
    {
        if backend.model == Some(RngBackendModel::Random) {
            backend
                .value
                .get_or_insert_with(|| Text("/dev/random".to_owned()));
        }
    }
    serials(devices);
    if ps2 {
        inputs(devices);
    }
    graphics(devices);
    let balloon = devices.memballoon.get_or_insert_default();
    balloon.model.get_or_insert(BalloonModel::Virtio);
    if chipset == Chipset::Q35 && !devices.watchdogs.iter().any(is_itco) {
        // All watchdogs of a guest do the same.
        let action = devices.watchdogs.first().and_then(|first| first.action);
        devices.watchdogs.push(Watchdog {
            model: Some(WatchdogModel::Itco),
            action: action.or(Some(WatchdogAction::Reset)),
            ..Watchdog::default()
        });
    }
    for watchdog in &mut devices.watchdogs {
        watchdog.action.get_or_insert(WatchdogAction::Reset);
    }
}

fn is_itco(watchdog: &Watchdog) -> bool {
    watchdog.model == Some(WatchdogModel::Itco)
}

/// The console of a machine is its first serial port: each makes the other.
fn serials(devices: &mut Devices) {
    let plain = |console: &Console| {
        let target = console.target.as_ref().and_then(|target| target.kind);
        matches!(target, None | Some(CharTargetType::Serial))
    };
    if let Some(console) = devices.consoles.first()
        && devices.serials.is_empty()
        && plain(console)
    {
        devices.serials.push(Serial {
            kind: console.kind,
            sources: console.sources.clone(),
            protocol: console.protocol.clone(),
            log: console.log.clone(),
            ..Serial::default()
        });
    }
    for (port, serial) in devices.serials.iter_mut().enumerate() {
        serial.kind.get_or_insert(CharType::Pty);
        let target = serial.target.get_or_insert_with(CharTarget::default);
        let kind = *target.kind.get_or_insert(CharTargetType::IsaSerial);
        let number = u64::try_from(port).unwrap_or_default();
        target.port.get_or_insert_with(|| Number::new(number));
        let name = match kind {
            CharTargetType::UsbSerial => "usb-serial",
            CharTargetType::PciSerial => "pci-serial",
            CharTargetType::IsaDebug => "isa-debugcon",
            _ => "isa-serial",
        };
        target.model.get_or_insert_with(|| CharTargetModel {
            name: Some(name.to_owned()),
            ..CharTargetModel::default()
        });
    }
    if let Some(serial) = devices.serials.first()
        && devices.consoles.is_empty()
        && serial.target.as_ref().and_then(|target| target.kind) == Some(CharTargetType::IsaSerial)
    {
        devices.consoles.push(Console {
            kind: serial.kind,
            sources: serial.sources.clone(),
            protocol: serial.protocol.clone(),
            log: serial.log.clone(),
            ..Console::default()
        });
    }
    for (number, console) in devices.consoles.iter_mut().enumerate() {
        let target = console.target.get_or_insert_with(CharTarget::default);
        target.kind.get_or_insert(CharTargetType::Serial);
        let port = u64::try_from(number).unwrap_or_default();
        target.port.get_or_insert_with(|| Number::new(port));
    }
}

/// A mouse and a keyboard at the PS/2 ports.
fn inputs(devices: &mut Devices) {
    for input in &mut devices.inputs {
        let bus = match input.kind {
            Some(InputType::Tablet) => InputBus::Usb,
            Some(InputType::Passthrough) => InputBus::Virtio,
            Some(InputType::Evdev) => InputBus::None,
            _ => InputBus::Ps2,
        };
        if bus != InputBus::None {
            input.bus.get_or_insert(bus);
        }
    }
    for kind in [InputType::Mouse, InputType::Keyboard] {
        let there = |input: &Input| input.kind == Some(kind) && input.bus == Some(InputBus::Ps2);
        if !devices.inputs.iter().any(there) {
            devices.inputs.push(Input {
                kind: Some(kind),
                bus: Some(InputBus::Ps2),
                ..Input::default()
            });
        }
    }
}

/// Displays, something to show on them, and where sound goes.
fn graphics(devices: &mut Devices) {
    for graphics in &mut devices.graphics {
        listens(graphics);
    }
    // Sound goes to the viewer where the display carries it, and nowhere by default; other displays are left to the host's configuration.
    let shown = |kinds: &[GraphicsType]| {
        let mut graphics = devices.graphics.iter();
        graphics.any(|graphics| graphics.kind.is_some_and(|kind| kinds.contains(&kind)))
    };
    let left = [
        GraphicsType::Sdl,
        GraphicsType::Dbus,
        GraphicsType::EglHeadless,
    ];
    let spice = shown(&[GraphicsType::Spice]);
    if devices.audios.is_empty() && (spice || shown(&[GraphicsType::Vnc]) || !shown(&left)) {
        let kind = match spice {
            true => AudioType::Spice,
            false => AudioType::None,
        };
        devices.audios.push(Audio {
            id: Some(1),
            kind: Some(kind),
            ..Audio::default()
        });
    }
    if devices.videos.is_empty() && !devices.graphics.is_empty() {
        devices.videos.push(Video::default());
    }
    for (number, video) in devices.videos.iter_mut().enumerate() {
        let model = video.model.get_or_insert_with(VideoModel::default);
        let kind = *model.kind.get_or_insert(VideoType::Cirrus);
        if kind == VideoType::None {
            continue;
        }
        match kind {
            VideoType::Qxl => {
                model.ram.get_or_insert(65536);
                model.vram.get_or_insert(65536);
                model.vgamem.get_or_insert(16384);
            }
            VideoType::Vga | VideoType::Cirrus | VideoType::Vmvga | VideoType::Bochs => {
                model.vram.get_or_insert(16384);
            }
            _ => {}
        }
        model.heads.get_or_insert(1);
        if number == 0 {
            model.primary.get_or_insert(YesNo::Yes);
        }
    }
}

/// Ports that are chosen when the guest starts, and the address that is listened on.
fn listens(graphics: &mut Graphics) {
    let network = matches!(
        graphics.kind,
        Some(GraphicsType::Vnc | GraphicsType::Spice | GraphicsType::Rdp)
    );
    if !network || graphics.socket.is_some() {
        return;
    }
    if graphics.listens.is_empty() {
        graphics.listens.push(Listen {
            kind: Some(ListenType::Address),
            address: graphics.listen.clone(),
            ..Listen::default()
        });
    }
    let first = graphics.listens.first();
    let by_address = |listen: &&Listen| listen.kind == Some(ListenType::Address);
    if graphics.listen.is_none() {
        graphics.listen = first
            .filter(by_address)
            .and_then(|listen| listen.address.clone());
    }
    let no_port = matches!(
        first.and_then(|listen| listen.kind),
        Some(ListenType::Socket | ListenType::None)
    );
    if no_port {
        return;
    }
    if graphics.kind == Some(GraphicsType::Vnc) {
        match (graphics.port, graphics.autoport) {
            (None, None | Some(YesNo::Yes)) => {
                graphics.port = Some(-1);
                graphics.autoport = Some(YesNo::Yes);
            }
            (Some(-1), None) => graphics.autoport = Some(YesNo::Yes),
            (Some(_), None) => graphics.autoport = Some(YesNo::No),
            _ => {}
        }
    } else if graphics.kind == Some(GraphicsType::Spice) {
        match (graphics.port, graphics.tls_port, graphics.autoport) {
            (None | Some(-1), None | Some(-1), None)
                if graphics.port.is_some() || graphics.tls_port.is_some() =>
            {
                graphics.autoport = Some(YesNo::Yes);
            }
            (Some(_), _, None) | (_, Some(_), None) => graphics.autoport = Some(YesNo::No),
            _ => {}
        }
    }
}
