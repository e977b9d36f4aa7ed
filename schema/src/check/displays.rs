//! Rules on what a guest shows and plays: displays, graphics cards, sound.

use super::machine::is_qemu;
use super::one::Report;
use crate::domain::graphics::{
    AudioType, Graphics, GraphicsType, ListenType, SoundModel, VideoDriverName, VideoModel,
    VideoType, WhenConnected,
};
use crate::domain::tune::MemorySourceType;
use crate::domain::{Devices, Domain};
use crate::rule::Rule;
use crate::scalar::{OnOff, YesNo};
use std::collections::{HashMap, HashSet};
use std::fmt::Arguments;

/// The longest password that the VNC protocol takes, in bytes.
const VNC_PASSWORD: usize = 8;

/// Every rule on displays, graphics cards and sound.
pub(crate) fn check(domain: &Domain, devices: &Devices, r: &mut Report<'_>) {
    let qemu = is_qemu(domain);
    for (i, graphics) in devices.graphics.iter().enumerate() {
        let path = format_args!("devices/graphics[{}]", i + 1);
        listeners(graphics, path, r);
        password(graphics, qemu, path, r);
    }
    if qemu {
        together(devices, r);
    }
    cards(domain, devices, qemu, r);
    sound(devices, qemu, r);
}

fn listeners(graphics: &Graphics, path: Arguments<'_>, r: &mut Report<'_>) {
    let local = matches!(graphics.kind, Some(GraphicsType::Vnc | GraphicsType::Spice));
    for (i, listen) in graphics.listens.iter().enumerate() {
        let at = format_args!("{path}/listen[{}]", i + 1);
        match listen.kind {
            Some(ListenType::Network) if listen.network.is_none() => r.report(
                Rule::GraphicsListen,
                at,
                "a listener of type network needs `network`",
            ),
            Some(kind @ (ListenType::Socket | ListenType::None)) if !local => r.report(
                Rule::GraphicsListen,
                format_args!("{at}/@type"),
                format!("a listener of type {kind} is for vnc and spice"),
            ),
            _ => {}
        }
    }
    let address = graphics
        .listens
        .iter()
        .find(|listen| listen.kind == Some(ListenType::Address))
        .and_then(|listen| listen.address.as_deref());
    if let (Some(old), Some(new)) = (graphics.listen.as_deref(), address)
        && old != new
    {
        r.report(
            Rule::GraphicsListen,
            format_args!("{path}/@listen"),
            format!("the attribute says {old}, the element {new}"),
        );
    }
    if graphics.p2p == Some(YesNo::Yes) && graphics.address.is_some() {
        r.report(
            Rule::DbusDisplay,
            format_args!("{path}/@address"),
            "ends that speak to one another have no bus, and so no address of it",
        );
    }
}

fn password(graphics: &Graphics, qemu: bool, path: Arguments<'_>, r: &mut Report<'_>) {
    if let Some(until) = graphics.passwd_valid_to.as_deref()
        && graphics.passwd.is_some()
        && !is_moment(until)
    {
        r.report(
            Rule::DisplayPassword,
            format_args!("{path}/@passwdValidTo"),
            format!("`{until}` is no moment such as 2026-12-31T23:59:59"),
        );
    }
    if graphics.kind != Some(GraphicsType::Vnc) {
        return;
    }
    let length = graphics.passwd.as_ref().map_or(0, |text| text.0.len());
    if qemu && length > VNC_PASSWORD {
        r.report(
            Rule::DisplayPassword,
            format_args!("{path}/@passwd"),
            format!("the password has {length} bytes; vnc compares {VNC_PASSWORD}"),
        );
    }
    if graphics.passwd.is_some()
        && graphics
            .connected
            .is_some_and(|when| when != WhenConnected::Keep)
    {
        r.report(
            Rule::DisplayPassword,
            format_args!("{path}/@connected"),
            "vnc keeps those connected when the password changes: connected='keep'",
        );
    }
}

/// A moment in the form `YYYY-MM-DDThh:mm:ss`.
fn is_moment(text: &str) -> bool {
    let mut parts = text.split(['-', 'T', ':']).map(|part| {
        part.parse::<u32>()
            .ok()
            .filter(|_| part.chars().all(|c| c.is_ascii_digit()))
    });
    let mut within = |least: u32, most: u32| {
        parts
            .next()
            .flatten()
            .is_some_and(|part| (least..=most).contains(&part))
    };
    within(1970, 9999)
        && within(1, 12)
        && within(1, 31)
        && within(0, 23)
        && within(0, 59)
        && within(0, 60)
        && parts.next().is_none()
}

/// Which displays a guest of QEMU's has at once.
fn together(devices: &Devices, r: &mut Report<'_>) {
    let headless = devices
        .graphics
        .iter()
        .any(|graphics| graphics.kind == Some(GraphicsType::EglHeadless));
    let mut seen = HashSet::new();
    for (i, graphics) in devices.graphics.iter().enumerate() {
        let path = format_args!("devices/graphics[{}]", i + 1);
        let Some(kind) = graphics.kind else { continue };
        if !seen.insert(kind) {
            r.report(
                Rule::DuplicateDisplay,
                format_args!("{path}/@type"),
                format!("a guest has one display of type {kind}"),
            );
        }
        if kind == GraphicsType::Desktop {
            r.add(
                Rule::DuplicateDisplay,
                format_args!("{path}/@type"),
                "QEMU has no display of type desktop",
                Some("take vnc or spice"),
            );
        }
        let fits = matches!(
            kind,
            GraphicsType::EglHeadless | GraphicsType::Vnc | GraphicsType::Spice
        );
        if headless && !fits {
            r.report(
                Rule::EglHeadless,
                format_args!("{path}/@type"),
                format!("egl-headless draws for vnc and spice, not for {kind}"),
            );
        }
        let draws = graphics.gl.as_ref().and_then(|gl| gl.enable) == Some(YesNo::Yes);
        if headless && kind == GraphicsType::Spice && draws {
            r.report(
                Rule::EglHeadless,
                format_args!("{path}/gl/@enable"),
                "egl-headless draws already",
            );
        }
    }
}

fn cards(domain: &Domain, devices: &Devices, qemu: bool, r: &mut Report<'_>) {
    let named = |model: &VideoModel| model.primary == Some(YesNo::Yes);
    let models = || {
        devices
            .videos
            .iter()
            .enumerate()
            .filter_map(|(i, video)| Some((i, video, video.model.as_ref()?)))
    };
    if let Some((i, ..)) = models().filter(|(_, _, model)| named(model)).nth(1) {
        r.report(
            Rule::VideoPrimary,
            format_args!("devices/video[{}]/model/@primary", i + 1),
            "another graphics card is the primary one already",
        );
    }
    let first = models()
        .find(|(_, _, model)| named(model))
        .map_or(0, |(i, ..)| i);
    for (i, video, model) in models() {
        let path = format_args!("devices/video[{}]", i + 1);
        let kind = model.kind.filter(|kind| *kind != VideoType::Default);
        let Some(kind) = kind else { continue };
        if kind == VideoType::None && devices.videos.len() > 1 {
            r.report(
                Rule::VideoNone,
                format_args!("{path}/model/@type"),
                "a card of type none says that there is no other, and there is",
            );
        }
        if kind == VideoType::Ramfb && video.address.is_some() {
            r.report(
                Rule::VideoOption,
                format_args!("{path}/address"),
                "a card of type ramfb is on no bus",
            );
        }
        let others = video
            .driver
            .as_ref()
            .is_some_and(|driver| driver.name == Some(VideoDriverName::Vhostuser));
        card(kind, model, others, path, r);
        if let Some(driver) = video.driver.as_ref().filter(|_| kind != VideoType::Virtio) {
            let of = format!("virtio, and the card is of type {kind}");
            super::virtio::refuse(driver.virtio_options(), path, &of, None, r);
        }
        if qemu {
            drawn(domain, kind, model, others, i == first, path, r);
        }
    }
}

/// What only cards of some type have.
fn card(
    kind: VideoType,
    model: &VideoModel,
    others: bool,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    let at = format_args!("{path}/model");
    if others && kind != VideoType::Virtio {
        r.report(
            Rule::VideoOption,
            format_args!("{path}/driver/@name"),
            format!("another process draws for cards of type virtio, not {kind}"),
        );
    }
    let helped = model.acceleration.as_ref();
    if !others && helped.is_some_and(|helped| helped.rendernode.is_some()) {
        r.add(
            Rule::VideoOption,
            format_args!("{at}/acceleration/@rendernode"),
            "the device that helps is the drawing process's",
            Some("add <driver name='vhostuser'/>, or state it in <gl> of the display"),
        );
    }
    if let Some(size) = &model.resolution
        && (size.x == Some(0) || size.y == Some(0))
    {
        r.report(
            Rule::VideoOption,
            format_args!("{at}/resolution"),
            "a screen has at least one pixel each way",
        );
    }
    let set = |number: Option<u32>| number.is_some_and(|number| number > 0);
    let of_qxl = [
        ("ram", set(model.ram)),
        ("vram64", set(model.vram64)),
        ("vgamem", set(model.vgamem)),
    ];
    for (name, _) in of_qxl.iter().filter(|(_, stated)| *stated) {
        if kind != VideoType::Qxl {
            r.report(
                Rule::VideoMemory,
                format_args!("{at}/@{name}"),
                format!("`{name}` is of cards of type qxl"),
            );
        }
    }
    if model.blob.is_some() && kind != VideoType::Virtio {
        r.report(
            Rule::VideoOption,
            format_args!("{at}/@blob"),
            format!("pictures are handed over by cards of type virtio, not {kind}"),
        );
    }
}

/// What QEMU's cards can.
fn drawn(
    domain: &Domain,
    kind: VideoType,
    model: &VideoModel,
    others: bool,
    first: bool,
    path: Arguments<'_>,
    r: &mut Report<'_>,
) {
    let at = format_args!("{path}/model");
    let several = matches!(kind, VideoType::Qxl | VideoType::Virtio | VideoType::None);
    if matches!(
        kind,
        VideoType::Xen | VideoType::Vbox | VideoType::Parallels | VideoType::Gop
    ) {
        r.add(
            Rule::VideoOption,
            format_args!("{at}/@type"),
            format!("QEMU has no card of type {kind}"),
            Some("take virtio, vga or qxl"),
        );
        return;
    }
    if !several && !first {
        r.add(
            Rule::VideoPrimary,
            format_args!("{at}/@type"),
            format!("a card of type {kind} can only be the first"),
            Some("further cards are of type virtio or qxl"),
        );
    }
    if !several && model.heads.is_some_and(|heads| heads != 1) {
        r.report(
            Rule::VideoOption,
            format_args!("{at}/@heads"),
            format!("a card of type {kind} has one screen"),
        );
    }
    let helped = model.acceleration.as_ref();
    if helped.and_then(|helped| helped.accel2d) == Some(YesNo::Yes) {
        r.report(
            Rule::VideoOption,
            format_args!("{at}/acceleration/@accel2d"),
            "QEMU does not help drawing in two dimensions",
        );
    }
    let solid = helped.and_then(|helped| helped.accel3d) == Some(YesNo::Yes);
    if solid && !others && kind != VideoType::Virtio {
        r.report(
            Rule::VideoOption,
            format_args!("{at}/acceleration/@accel3d"),
            format!("cards of type virtio draw in three dimensions, not {kind}"),
        );
    }
    let sized = matches!(
        kind,
        VideoType::Vga | VideoType::Qxl | VideoType::Virtio | VideoType::Bochs | VideoType::None
    );
    if model.resolution.is_some() && !sized {
        r.report(
            Rule::VideoOption,
            format_args!("{at}/resolution"),
            format!("a card of type {kind} has no first size of its screen"),
        );
    }
    memory(kind, model, at, r);
    let source = domain
        .memory_backing
        .as_ref()
        .and_then(|backing| backing.source.as_ref()?.kind);
    if model.blob == Some(OnOff::On)
        && kind == VideoType::Virtio
        && source != Some(MemorySourceType::Memfd)
    {
        r.add(
            Rule::VideoOption,
            format_args!("{at}/@blob"),
            "pictures are handed over in memory that has a file descriptor",
            Some("add <memoryBacking><source type='memfd'/></memoryBacking>"),
        );
    }
}

/// Sizes of cards' memory, in KiB.
fn memory(kind: VideoType, model: &VideoModel, at: Arguments<'_>, r: &mut Report<'_>) {
    if kind == VideoType::Qxl {
        for (name, size) in [("vram", model.vram), ("ram", model.ram)] {
            if size.is_some_and(|size| size > u32::MAX / 1024) {
                r.report(
                    Rule::VideoMemory,
                    format_args!("{at}/@{name}"),
                    format!("`{name}` is in KiB, at most {}", u32::MAX / 1024),
                );
            }
        }
        if let Some(size @ 1..) = model.vgamem
            && (size < 1024 || !size.is_power_of_two())
        {
            r.report(
                Rule::VideoMemory,
                format_args!("{at}/@vgamem"),
                "`vgamem` is a power of two from 1024 KiB",
            );
        }
    }
    if matches!(kind, VideoType::Vga | VideoType::Vmvga)
        && model.vram.is_some_and(|size| (1..1024).contains(&size))
    {
        r.report(
            Rule::VideoMemory,
            format_args!("{at}/@vram"),
            "`vram` is in KiB, at least 1024",
        );
    }
}

fn sound(devices: &Devices, qemu: bool, r: &mut Report<'_>) {
    let mut ids = HashMap::new();
    let spice = devices
        .graphics
        .iter()
        .any(|graphics| graphics.kind == Some(GraphicsType::Spice));
    for (i, audio) in devices.audios.iter().enumerate() {
        let path = format_args!("devices/audio[{}]", i + 1);
        match audio.id {
            Some(0) => r.report(
                Rule::AudioId,
                format_args!("{path}/@id"),
                "numbers of <audio> begin at 1",
            ),
            Some(id) if ids.insert(id, audio.kind).is_some() => {
                r.report(
                    Rule::AudioId,
                    format_args!("{path}/@id"),
                    format!("another <audio> is number {id}"),
                );
            }
            _ => {}
        }
        if qemu && audio.kind == Some(AudioType::Spice) && !spice {
            r.add(
                Rule::SpiceNeeded,
                format_args!("{path}/@type"),
                "sound goes over spice, and there is no such display",
                Some("add <graphics type='spice'/>"),
            );
        }
    }
    for (i, sound) in devices.sounds.iter().enumerate() {
        if qemu && sound.model == Some(SoundModel::Ich7) {
            r.add(
                Rule::SoundModel,
                format_args!("devices/sound[{}]/@model", i + 1),
                "QEMU has no sound card of model ich7",
                Some("take ich9, or ich6"),
            );
        }
    }
    let sounds = devices.sounds.iter().enumerate().map(|(i, sound)| {
        let id = sound.audio.as_ref().and_then(|audio| audio.id);
        (format!("devices/sound[{}]/audio/@id", i + 1), id)
    });
    let displays = devices
        .graphics
        .iter()
        .enumerate()
        .filter(|(_, graphics)| graphics.kind == Some(GraphicsType::Vnc))
        .map(|(i, graphics)| {
            let id = graphics.audio.as_ref().and_then(|audio| audio.id);
            (format!("devices/graphics[{}]/audio/@id", i + 1), id)
        });
    for (path, id) in sounds.chain(displays) {
        if let Some(id @ 1..) = id
            && !ids.contains_key(&id)
        {
            r.report(Rule::AudioId, path, format!("no <audio> is number {id}"));
        }
    }
    for (i, graphics) in devices.graphics.iter().enumerate() {
        let id = graphics.audio.as_ref().and_then(|audio| audio.id);
        let played = id.and_then(|id| ids.get(&id).copied().flatten());
        if qemu
            && graphics.kind == Some(GraphicsType::Dbus)
            && played.is_some_and(|kind| kind != AudioType::Dbus)
        {
            r.report(
                Rule::DbusDisplay,
                format_args!("devices/graphics[{}]/audio/@id", i + 1),
                "a display on D-Bus plays over <audio type='dbus'>",
            );
        }
    }
}
