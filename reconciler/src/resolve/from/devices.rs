//! A domain's devices.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vireo_schema::domain::Domain as Stated;
use vireo_schema::domain::chardev::{CharMode, CharSource, CharTarget, CharTargetType, CharType};
use vireo_schema::domain::devices::Devices;
use vireo_schema::domain::disk::{self, DiskBus, DiskDevice, DiskType, ImageFormatName};
use vireo_schema::domain::interface::{self, InterfaceType, LinkState};
use vireo_schema::domain::memory::BalloonModel;
use vireo_schema::domain::misc::RngBackendModel;
use vireo_schema::tree::Element;

use super::network::is_link_name;
use super::storage::is_plain;
use super::support::EXTRAS;
use super::{Resolving, Surroundings};
use crate::desired::nearest;
use crate::resolve::derived_link;
use crate::resolve::domain::{
    Backend, Bandwidth, Chardev, Disk, Extra, FilterRef, Interface, InterfaceSource, Rate, Rng,
};
use crate::resolve::storage::ImageFormat;

/// Everything that is plugged in.
pub(super) struct Plugged {
    pub disks: Vec<Disk>,
    pub interfaces: Vec<Interface>,
    pub chardevs: Vec<Chardev>,
    pub extras: Vec<Extra>,
    pub rng: Option<Rng>,
    pub balloon: bool,
}

/// The first device that the builtin driver cannot do because of what it is, not of what is stated about it: its path, and why.
pub(super) fn builtin_obstacle(devices: &Devices) -> Option<(String, String)> {
    let path = |element: &str, number: usize| {
        format!("devices/{element}[{}]", number + 1).replace("[1]", "")
    };
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
    let consoles = devices
        .consoles
        .iter()
        .map(|console| (console.kind, "console"));
    for (kind, element) in ports.chain(consoles) {
        if kind.unwrap_or(CharType::Pty) != CharType::Pty {
            return Some((path(element, 0), "its console is not a pty".to_owned()));
        }
    }
    let virtio = |target: &Option<CharTarget>| {
        target.as_ref().and_then(|target| target.kind) == Some(CharTargetType::Virtio)
    };
    if let Some(number) = devices
        .consoles
        .iter()
        .position(|console| virtio(&console.target))
    {
        return Some((
            path("console", number),
            "it has a virtio console".to_owned(),
        ));
    }
    (devices.rngs.len() > 1).then(|| {
        (
            path("rng", 1),
            "it has several random number devices".to_owned(),
        )
    })
}

/// Every device, completed.
pub(super) fn devices(at: &mut Resolving<'_>, domain: &Stated, around: &Surroundings) -> Plugged {
    let none = Devices::default();
    let devices = domain.devices.as_ref().unwrap_or(&none);
    let disks = (0..devices.disks.len())
        .filter_map(|number| disk_at(at, devices, number, around))
        .collect();
    let interfaces = (0..devices.interfaces.len())
        .filter_map(|number| interface_at(at, devices, number, around))
        .collect();
    let balloon = devices
        .memballoon
        .as_ref()
        .and_then(|balloon| balloon.model);
    Plugged {
        disks,
        interfaces,
        chardevs: chardevs(at, devices),
        extras: extras(domain),
        rng: rng(at, devices),
        balloon: balloon != Some(BalloonModel::None),
    }
}

/// The bus of a disk: as stated, or as the target's name says, or virtio.
fn bus(disk: &disk::Disk) -> DiskBus {
    let target = disk.target.as_ref();
    let dev = target
        .and_then(|target| target.dev.as_deref())
        .unwrap_or("vda");
    target
        .and_then(|target| target.bus)
        .unwrap_or(match dev.get(..2) {
            Some("hd") => DiskBus::Ide,
            Some("sd") => DiskBus::Scsi,
            Some("fd") => DiskBus::Fdc,
            _ => DiskBus::Virtio,
        })
}

fn disk_at(
    at: &mut Resolving<'_>,
    devices: &Devices,
    number: usize,
    around: &Surroundings,
) -> Option<Disk> {
    let stated = devices.disks.get(number)?;
    let path = format!("devices/disk[{}]", number + 1).replace("[1]", "");
    let bus = bus(stated);
    let target = match stated.target.as_ref().and_then(|target| target.dev.clone()) {
        Some(target) => target,
        None => free_target(devices, bus, number),
    };
    let (image, volume, known) = image(at, stated, &path, around)?;
    let driver = stated.driver.as_ref();
    let format = match driver.and_then(|driver| driver.kind) {
        None => known.unwrap_or(ImageFormat::Raw),
        Some(ImageFormatName::Raw) => ImageFormat::Raw,
        Some(ImageFormatName::Qcow2) => ImageFormat::Qcow2,
        Some(other) => {
            let message = format!(
                "a disk with an image of format '{}' is not something vireo can do",
                other.as_str()
            );
            at.refuse(
                "unsupported",
                &format!("{path}/driver/@type"),
                message,
                "raw and qcow2 are; convert others with qemu-img",
            );
            return None;
        }
    };
    if let (Some(known), true) = (
        known.filter(|known| *known != format),
        driver.is_some_and(|driver| driver.kind.is_some()),
    ) {
        at.refuse(
            "contradiction",
            &format!("{path}/driver/@type"),
            format!("the volume is {known}, not {format}"),
            "take it out, or make it agree with the volume's definition",
        );
    }
    let device = stated.device.unwrap_or(DiskDevice::Disk);
    Some(Disk {
        target,
        bus: bus.as_str().to_owned(),
        device: device.as_str().to_owned(),
        path: image,
        volume,
        format,
        readonly: stated.readonly || device == DiskDevice::Cdrom,
        shareable: stated.shareable,
        cache: driver
            .and_then(|driver| driver.cache)
            .map(|cache| cache.as_str())
            .filter(|cache| *cache != "default")
            .map(str::to_owned),
        io: driver
            .and_then(|driver| driver.io)
            .map(|io| io.as_str().to_owned()),
        discard: driver
            .and_then(|driver| driver.discard)
            .map(|discard| discard.as_str().to_owned()),
        serial: stated.serial.as_ref().map(|serial| serial.0.clone()),
        boot_order: stated.boot.as_ref().and_then(|boot| boot.order),
    })
}

/// The first target name of the bus that no disk states and no disk before this one gets.
fn free_target(devices: &Devices, bus: DiskBus, number: usize) -> String {
    let prefix = match bus {
        DiskBus::Ide => "hd",
        DiskBus::Fdc => "fd",
        DiskBus::Virtio => "vd",
        _ => "sd",
    };
    let taken: Vec<&str> = devices
        .disks
        .iter()
        .filter_map(|disk| disk.target.as_ref()?.dev.as_deref())
        .collect();
    let unnamed_before = devices.disks.iter().take(number).filter(|disk| {
        super::devices::bus(disk) == bus
            && disk
                .target
                .as_ref()
                .and_then(|target| target.dev.as_ref())
                .is_none()
    });
    let free = (0..)
        .map(|n| target_name(prefix, n))
        .filter(|name| !taken.contains(&name.as_str()));
    free.into_iter()
        .nth(unnamed_before.count())
        .unwrap_or_else(|| target_name(prefix, number))
}

/// `vda` … `vdz`, `vdaa` …
fn target_name(prefix: &str, number: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = number + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b'a' + u8::try_from(rest % 26).unwrap_or(0)));
        rest /= 26;
    }
    format!("{prefix}{}", letters.iter().rev().collect::<String>())
}

/// What a disk's source stands for: the image's path, the volume, and the format where the volume's definition says it.
type Image = (Option<PathBuf>, Option<String>, Option<ImageFormat>);

fn image(
    at: &mut Resolving<'_>,
    stated: &disk::Disk,
    path: &str,
    around: &Surroundings,
) -> Option<Image> {
    let source = stated.source.as_ref();
    let kind = stated.kind.unwrap_or(DiskType::File);
    let named = match kind {
        DiskType::File => source.and_then(|source| source.file.clone()),
        DiskType::Block => source.and_then(|source| source.dev.clone()),
        DiskType::Volume => {
            let pool_and_name =
                source.and_then(|source| source.pool.clone().zip(source.volume.clone()));
            let Some((pool, name)) = pool_and_name else {
                at.refuse(
                    "missing",
                    path,
                    "the disk does not say which volume it is",
                    "<source pool='…' volume='…'/>, or `volume: POOL/NAME`",
                );
                return None;
            };
            let name = format!("{pool}/{name}");
            let Some(volume) = around.volumes.get(&name) else {
                let help = nearest(&name, around.volumes.keys());
                at.refuse(
                    "unknown-reference",
                    &format!("{path}/source"),
                    format!("there is no volume {name}"),
                    help,
                );
                return None;
            };
            return Some((Some(volume.path.clone()), Some(name), Some(volume.format)));
        }
        other => {
            let message = format!(
                "a disk of type '{}' is not something vireo can do",
                other.as_str()
            );
            at.refuse(
                "unsupported",
                &format!("{path}/@type"),
                message,
                "file, block and volume are",
            );
            return None;
        }
    };
    let drive = matches!(stated.device, Some(DiskDevice::Cdrom | DiskDevice::Floppy));
    let Some(named) = named.map(PathBuf::from) else {
        if !drive {
            at.refuse(
                "missing",
                path,
                "the disk has no image",
                "<source file='…'/>, or `file: …`; only a cdrom or a floppy drive may be empty",
            );
            return None;
        }
        return Some((None, None, None));
    };
    if !is_plain(&named) {
        let message = format!("`{}` is not an absolute path without '..'", named.display());
        at.refuse(
            "bad-path",
            &format!("{path}/source"),
            message,
            "such as /var/lib/vireo/images/web.qcow2",
        );
        return None;
    }
    let volume = around
        .volumes
        .iter()
        .find(|(_, volume)| volume.path == named);
    let (volume, format) = volume
        .map(|(name, volume)| (name.clone(), volume.format))
        .unzip();
    Some((Some(named), volume, format))
}

fn interface_at(
    at: &mut Resolving<'_>,
    devices: &Devices,
    number: usize,
    around: &Surroundings,
) -> Option<Interface> {
    let stated = devices.interfaces.get(number)?;
    let path = format!("devices/interface[{}]", number + 1).replace("[1]", "");
    let source = source(at, stated, &path, around)?;
    let named = stated.target.as_ref().and_then(|target| target.dev.clone());
    // Source: libvirt's domain format, "Overriding the target element": names with these prefixes are its own and are ignored.
    let named = named.filter(|name| {
        !["vnet", "vif", "macvtap", "macvlan"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    if let Some(name) = named.as_ref().filter(|name| !is_link_name(name)) {
        at.refuse(
            "bad-name",
            &format!("{path}/target/@dev"),
            format!("`{name}` cannot be the name of a link"),
            "1 to 15 bytes without '/' and white space",
        );
        return None;
    }
    let filter = filter(at, stated, &path, around)?;
    let mac = stated.mac.as_ref().and_then(|mac| mac.address);
    let bandwidth = stated.bandwidth.as_ref();
    Some(Interface {
        index: number,
        mac: mac
            .unwrap_or_else(|| vireo_schema::derived_mac(at.id.uuid, number))
            .0,
        source,
        tap: named.unwrap_or_else(|| derived_link("vn", at.id.uuid, Some(number))),
        model: stated
            .model
            .as_ref()
            .and_then(|model| model.kind.clone())
            .unwrap_or_else(|| "virtio".to_owned()),
        mtu: stated.mtu.as_ref().and_then(|mtu| mtu.size),
        link_up: stated.link.as_ref().and_then(|link| link.state) != Some(LinkState::Down),
        filter,
        bandwidth: Bandwidth {
            inbound: bandwidth.and_then(|bandwidth| rate(bandwidth.inbound.as_ref())),
            outbound: bandwidth.and_then(|bandwidth| rate(bandwidth.outbound.as_ref())),
        },
        boot_order: stated.boot.as_ref().and_then(|boot| boot.order),
        queues: stated.driver.as_ref().and_then(|driver| driver.queues),
    })
}

fn source(
    at: &mut Resolving<'_>,
    stated: &interface::Interface,
    path: &str,
    around: &Surroundings,
) -> Option<InterfaceSource> {
    let source = stated.source.as_ref();
    match stated.kind {
        Some(InterfaceType::Network) => {
            let name = source
                .and_then(|source| source.network.clone())
                .unwrap_or_default();
            let Some(network) = around.networks.get(&name) else {
                let help = nearest(&name, around.networks.keys());
                at.refuse(
                    "unknown-reference",
                    &format!("{path}/source/@network"),
                    format!("there is no network {name}"),
                    help,
                );
                return None;
            };
            Some(InterfaceSource::Network {
                uuid: network.uuid,
                name,
                bridge: network.bridge.name.clone(),
            })
        }
        Some(InterfaceType::Bridge) => match source.and_then(|source| source.bridge.clone()) {
            Some(bridge) if is_link_name(&bridge) => Some(InterfaceSource::Bridge { bridge }),
            _ => {
                at.refuse(
                    "missing",
                    path,
                    "the interface does not say which bridge it is in",
                    "<source bridge='…'/>, or `bridge: …`",
                );
                None
            }
        },
        Some(InterfaceType::Ethernet) => Some(InterfaceSource::Ethernet),
        Some(InterfaceType::User) => Some(InterfaceSource::User),
        other => {
            let word = other.map_or("(none)", |other| other.as_str());
            at.refuse(
                "unsupported",
                &format!("{path}/@type"),
                format!("an interface of type '{word}' is not something vireo can do"),
                "network, bridge, ethernet and user are",
            );
            None
        }
    }
}

fn filter(
    at: &mut Resolving<'_>,
    stated: &interface::Interface,
    path: &str,
    around: &Surroundings,
) -> Option<Option<FilterRef>> {
    let Some(reference) = &stated.filterref else {
        return Some(None);
    };
    let name = reference
        .filter
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    if !around.filters.contains_key(&name) {
        let help = nearest(&name, around.filters.keys());
        at.refuse(
            "unknown-reference",
            &format!("{path}/filterref/@filter"),
            format!("there is no packet filter {name}"),
            help,
        );
        return None;
    }
    let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for parameter in &reference.parameters {
        if let (Some(name), Some(value)) = (&parameter.name, &parameter.value) {
            parameters
                .entry(name.as_str().to_owned())
                .or_default()
                .push(value.clone());
        }
    }
    Some(Some(FilterRef {
        filter: name,
        parameters,
    }))
}

fn rate(rate: Option<&vireo_schema::common::Rate>) -> Option<Rate> {
    let rate = rate?;
    Some(Rate {
        average: rate.average?,
        peak: rate.peak,
        burst: rate.burst,
    })
}

/// Serial ports, consoles and channels. A console whose target is the serial port is that port, seen again. Source: libvirt's domain format, "Relationship
/// between serial ports and consoles".
fn chardevs(at: &mut Resolving<'_>, devices: &Devices) -> Vec<Chardev> {
    let mut found = Vec::new();
    for (number, serial) in devices.serials.iter().enumerate() {
        let path = format!("devices/serial[{}]", number + 1).replace("[1]", "");
        let log = serial.log.as_ref().and_then(|log| log.file.clone());
        found.extend(chardev(
            at,
            "serial",
            &path,
            serial.kind,
            &serial.sources,
            serial.target.as_ref(),
            log,
        ));
    }
    for (number, console) in devices.consoles.iter().enumerate() {
        let path = format!("devices/console[{}]", number + 1).replace("[1]", "");
        let virtio =
            console.target.as_ref().and_then(|target| target.kind) == Some(CharTargetType::Virtio);
        let log = console.log.as_ref().and_then(|log| log.file.clone());
        match (virtio, number, devices.serials.is_empty()) {
            (true, ..) => {
                found.extend(chardev(
                    at,
                    "console",
                    &path,
                    console.kind,
                    &console.sources,
                    console.target.as_ref(),
                    log,
                ));
            }
            (false, 0, true) => found.extend(chardev(
                at,
                "serial",
                &path,
                console.kind,
                &console.sources,
                None,
                log,
            )),
            (false, 0, false) => {}
            (false, ..) => {
                at.refuse(
                    "unsupported",
                    &path,
                    "only the first console can be the serial port",
                    "give it <target type='virtio'/>, or take it out",
                );
            }
        }
    }
    for (number, channel) in devices.channels.iter().enumerate() {
        let path = format!("devices/channel[{}]", number + 1).replace("[1]", "");
        found.extend(chardev(
            at,
            "channel",
            &path,
            channel.kind,
            &channel.sources,
            channel.target.as_ref(),
            None,
        ));
    }
    found
}

fn chardev(
    at: &mut Resolving<'_>,
    class: &str,
    path: &str,
    kind: Option<CharType>,
    sources: &[CharSource],
    target: Option<&CharTarget>,
    log: Option<String>,
) -> Option<Chardev> {
    let source = sources.first();
    let file = source
        .and_then(|source| source.path.clone())
        .map(PathBuf::from);
    let listens = source
        .and_then(|source| source.mode)
        .is_some_and(|mode| matches!(mode, CharMode::Bind | CharMode::Server));
    let backend = match kind.unwrap_or(CharType::Pty) {
        CharType::Pty => Backend::Pty,
        CharType::Null => Backend::Null,
        CharType::Spicevmc => Backend::SpiceVmc,
        CharType::Unix => Backend::Unix(file),
        CharType::File if file.is_some() => Backend::File(file.unwrap_or_default()),
        CharType::Tcp => {
            let host = source
                .and_then(|source| source.host.as_ref())
                .map(|host| host.0.clone());
            let service = source.and_then(|source| source.service.clone());
            Backend::Tcp(
                host.unwrap_or_else(|| "127.0.0.1".to_owned()),
                service.unwrap_or_default(),
                listens,
            )
        }
        other => {
            let message = format!(
                "a {class} of type '{}' is not something vireo can do",
                other.as_str()
            );
            at.refuse(
                "unsupported",
                &format!("{path}/@type"),
                message,
                "pty, file (with a path), unix, tcp, null and spicevmc are",
            );
            return None;
        }
    };
    let port = target
        .and_then(|target| target.port.as_ref())
        .and_then(|port| u32::try_from(port.get()).ok());
    let default = if class == "channel" {
        "virtio"
    } else {
        "isa-serial"
    };
    Some(Chardev {
        class: class.to_owned(),
        backend,
        target: target
            .and_then(|target| target.kind)
            .map_or(default, |kind| kind.as_str())
            .to_owned(),
        name: target.and_then(|target| target.name.clone()),
        port,
        log: log.map(PathBuf::from),
    })
}

fn rng(at: &mut Resolving<'_>, devices: &Devices) -> Option<Rng> {
    let rng = devices.rngs.first()?;
    if devices.rngs.len() > 1 {
        at.refuse(
            "unsupported",
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
            "unsupported",
            "devices/rng/backend/@model",
            "entropy that is not from a device of the host is not something vireo can do",
            "<backend model='random'>/dev/urandom</backend> is",
        );
    }
    let source = backend
        .and_then(|backend| backend.value.as_ref())
        .map(|value| PathBuf::from(&value.0));
    Some(Rng {
        source: source.unwrap_or_else(|| PathBuf::from("/dev/urandom")),
    })
}

/// Devices, timers and power management that only QEMU has, each as a record of its attributes by dotted path.
fn extras(domain: &Stated) -> Vec<Extra> {
    use vireo_schema::element::Element as _;
    let mut extras = Vec::new();
    let tree = domain.encode("domain");
    let devices = tree
        .children_named("devices")
        .flat_map(|devices| &devices.children);
    let timers = tree
        .children_named("clock")
        .flat_map(|clock| &clock.children);
    let power = tree.children.iter().filter(|child| child.name == "pm");
    for element in devices
        .filter(|child| EXTRAS.contains(&&*child.name))
        .chain(timers)
        .chain(power)
    {
        let mut fields = BTreeMap::new();
        flatten(element, "", &mut fields);
        extras.push(Extra {
            class: element.name.to_string(),
            fields,
        });
    }
    extras
}

fn flatten(element: &Element<'_>, prefix: &str, fields: &mut BTreeMap<String, String>) {
    for attribute in &element.attributes {
        fields.insert(
            format!("{prefix}{}", attribute.name),
            attribute.value.to_string(),
        );
    }
    for child in element
        .children
        .iter()
        .filter(|child| child.name != "address" && child.name != "alias")
    {
        flatten(child, &format!("{prefix}{}.", child.name), fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_counted_as_the_kernel_counts_them() {
        let names: Vec<String> = [0, 25, 26, 27, 701, 702]
            .map(|n| target_name("vd", n))
            .into();
        assert_eq!(names, ["vda", "vdz", "vdaa", "vdab", "vdzz", "vdaaa"]);
    }
}
