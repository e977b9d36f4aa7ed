//! The devices of a command line: disks, and what only QEMU has.

use serde_json::{Value, json};

use super::clock;
use super::command::{CommandLine, Host, is_q35};
use super::controllers::scsi_model;
use super::graphics;
use super::place::{self, pci, usb};
use super::unsupported;
use crate::domain::fields::Fields;
use crate::domain::vsock;
use crate::domain::{DriverError, GuestDir};
use crate::resolve::Driver;
use crate::resolve::domain::{Address, Disk, Domain, Extra};

/// The number that the letters of a target name stand for: `hda` is 0, `sdaa` is 26.
fn number(target: &str) -> Option<u32> {
    let letters = target.get(2..).filter(|letters| !letters.is_empty())?;
    letters
        .bytes()
        .try_fold(0_u32, |sum, byte| {
            let digit = byte.is_ascii_lowercase().then(|| u32::from(byte - b'a'))?;
            sum.checked_mul(26)?.checked_add(digit + 1)
        })?
        .checked_sub(1)
}

/// The device that shows a disk, without what all disks have.
///
/// # Errors
/// A bus or a kind of disk that this driver or the machine does not have.
pub fn disk(domain: &Domain, disk: &Disk) -> Result<Value, DriverError> {
    let target = disk.target.as_str();
    let number = number(target).ok_or_else(|| unsupported(format!("a disk named {target}")))?;
    let refuse = || unsupported(format!("{} {target} on bus {}", disk.device, disk.bus));
    let kind = match (disk.bus.as_str(), disk.device.as_str()) {
        ("virtio", "disk") => "virtio-blk-pci",
        ("ide" | "sata", "disk") => "ide-hd",
        ("ide" | "sata", "cdrom") => "ide-cd",
        ("scsi", "disk") => "scsi-hd",
        ("scsi", "cdrom") => "scsi-cd",
        ("scsi", "lun") => "scsi-block",
        ("usb", "disk") => "usb-storage",
        ("fdc", "floppy") => "floppy",
        _ => return Err(refuse()),
    };
    if kind == "ide-hd" && disk.readonly {
        return Err(unsupported(format!(
            "disk {target}, which the guest may not write, on bus {}",
            disk.bus
        )));
    }
    let device = json!({"driver": kind});
    let at = disk.address.as_ref();
    let merge = |more: Value| {
        let mut device = device.clone();
        if let (Some(device), Value::Object(more)) = (device.as_object_mut(), more) {
            device.extend(more);
        }
        device
    };
    match disk.bus.as_str() {
        "virtio" => return place::pci(domain, device, at),
        "usb" => return place::usb(device, at),
        _ => {}
    }
    let stated = place::drive(&device, at)?;
    Ok(match (disk.bus.as_str(), stated) {
        ("ide", _) if is_q35(domain) => return Err(refuse()),
        ("ide", None) => merge(json!({"bus": format!("ide.{}", number / 2), "unit": number % 2})),
        ("ide", Some([0, bus @ 0..=1, 0, unit @ 0..=1])) => {
            merge(json!({"bus": format!("ide.{bus}"), "unit": unit}))
        }
        ("sata", None) => merge(json!({"bus": sata(domain, 0, number)})),
        ("sata", Some([controller, 0, 0, unit @ 0..=5])) => {
            merge(json!({"bus": sata(domain, controller, unit)}))
        }
        ("scsi", None) => merge(json!({"bus": "scsi0.0", "scsi-id": number})),
        ("scsi", Some([controller, 0, target, unit])) => {
            let bus = format!("scsi{controller}.0");
            if scsi_model(domain, controller) == "virtio-scsi-pci" {
                merge(json!({"bus": bus, "scsi-id": target, "lun": unit}))
            } else if target == 0 {
                // Older controllers have one number for each of their drives.
                merge(json!({"bus": bus, "scsi-id": unit}))
            } else {
                return Err(refuse());
            }
        }
        ("fdc", None) => merge(json!({"unit": number})),
        ("fdc", Some([0, 0, 0, unit @ 0..=1])) => merge(json!({"unit": unit})),
        (_, Some(_)) => return Err(unsupported(format!("disk {target} at that address"))),
        _ => return Err(refuse()),
    })
}

/// A port of a SATA controller; the first is the machine's own on q35.
fn sata(domain: &Domain, controller: u32, port: u32) -> String {
    match controller {
        0 if is_q35(domain) => format!("ide.{port}"),
        n => format!("sata{n}.{port}"),
    }
}

/// What only QEMU has: the nth of its devices.
///
/// # Errors
/// Something that this driver does not do, by name.
pub fn extra(
    line: &mut CommandLine,
    domain: &Domain,
    dir: &GuestDir,
    host: &Host,
    (index, extra): (usize, &Extra),
) -> Result<(), DriverError> {
    let fields = Fields::of(Driver::Qemu, extra);
    match extra.class.as_str() {
        "graphics" => graphics::graphics(line, &fields, index, dir, host)?,
        "video" => video(line, domain, &fields, index)?,
        "input" => input(line, domain, &fields, index)?,
        "sound" => sound(line, domain, &fields, index)?,
        "watchdog" => watchdog(line, domain, &fields)?,
        "panic" => panic(line, domain, &fields)?,
        "vsock" => {
            let cid = vsock::cid(&fields, domain.uuid)?;
            let device = json!({"driver": "vhost-vsock-pci", "id": "vsock0", "guest-cid": cid});
            line.device(pci(domain, device, fields.address())?);
        }
        "redirdev" => redirdev(line, &fields, index)?,
        "pm" => return clock::sleep(line, domain, extra),
        other => return Err(unsupported(format!("<{other}>"))),
    }
    fields.done()
}

fn video(
    line: &mut CommandLine,
    domain: &Domain,
    fields: &Fields<'_>,
    index: usize,
) -> Result<(), DriverError> {
    let mut others = domain
        .extras
        .iter()
        .take(index)
        .filter(|extra| extra.class == "video");
    let first = others.next().is_none();
    if fields
        .get("model.primary")
        .is_some_and(|primary| (primary == "yes") != first)
    {
        return Err(unsupported("a primary video device that is not the first"));
    }
    // Only the first shows what firmware draws.
    let models: &[(&str, &str)] = if first {
        &[
            ("qxl", "qxl-vga"),
            ("cirrus", "cirrus-vga"),
            ("vga", "VGA"),
            ("virtio", "virtio-vga"),
            ("bochs", "bochs-display"),
            ("vmvga", "vmware-svga"),
            ("ramfb", "ramfb"),
            ("none", ""),
        ]
    } else {
        &[
            ("qxl", "qxl"),
            ("virtio", "virtio-gpu-pci"),
            ("bochs", "bochs-display"),
        ]
    };
    let driver = fields.word("model.type", "VGA", models)?;
    let kib = |path| fields.get(path).and_then(|text| text.parse::<u64>().ok());
    let bytes = |kib: Option<u64>| kib.map(|kib| kib.saturating_mul(1024));
    let mut device = json!({"driver": driver, "id": format!("video{index}")});
    let mut put = |key: &str, value: Value| {
        device
            .as_object_mut()
            .map(|device| device.insert(key.to_owned(), value))
    };
    match driver {
        "" => {}
        "qxl-vga" | "qxl" => {
            put("ram_size", json!(bytes(kib("model.ram"))));
            put("vram_size", json!(bytes(kib("model.vram"))));
            put(
                "vgamem_mb",
                json!(kib("model.vgamem").map(|kib| kib / 1024)),
            );
            put("max_outputs", json!(kib("model.heads")));
        }
        "VGA" | "vmware-svga" => drop(put(
            "vgamem_mb",
            json!(kib("model.vram").map(|kib| kib / 1024)),
        )),
        "virtio-vga" | "virtio-gpu-pci" => drop(put("max_outputs", json!(kib("model.heads")))),
        _ => {}
    }
    // One head is what every card has. What memory the others have is not for the definition to say, in libvirt neither.
    if kib("model.heads") == Some(0)
        || (kib("model.heads") > Some(1) && device.get("max_outputs").is_none())
    {
        return Err(fields.refuse("model.heads", fields.get("model.heads").unwrap_or("")));
    }
    fields.get("model.vram");
    match driver {
        "" => Ok(()),
        "ramfb" => {
            line.device(device);
            Ok(())
        }
        _ => {
            line.device(pci(domain, device, fields.address())?);
            Ok(())
        }
    }
}

fn input(
    line: &mut CommandLine,
    domain: &Domain,
    fields: &Fields<'_>,
    index: usize,
) -> Result<(), DriverError> {
    let kind = fields.word(
        "type",
        "mouse",
        &[
            ("tablet", "tablet"),
            ("mouse", "mouse"),
            ("keyboard", "keyboard"),
        ],
    )?;
    let usb_kind = if kind == "keyboard" { "kbd" } else { kind };
    let id = format!("input{index}");
    match fields.get("bus") {
        // The machine has both.
        Some("ps2") | None if kind != "tablet" => {}
        Some("usb") | None => {
            let device = json!({"driver": format!("usb-{usb_kind}"), "id": id});
            line.device(usb(device, fields.address())?);
        }
        Some("virtio") => {
            let device = json!({"driver": format!("virtio-{kind}-pci"), "id": id});
            line.device(pci(domain, device, fields.address())?);
        }
        Some(other) => return Err(fields.refuse("bus", other)),
    }
    Ok(())
}

fn sound(
    line: &mut CommandLine,
    domain: &Domain,
    fields: &Fields<'_>,
    index: usize,
) -> Result<(), DriverError> {
    let models = [
        ("ich6", "intel-hda"),
        ("ich9", "ich9-intel-hda"),
        ("ac97", "AC97"),
        ("es1370", "ES1370"),
        ("usb", "usb-audio"),
    ];
    let driver = fields.word("model", "", &models)?;
    if driver.is_empty() {
        return Err(unsupported("<sound> without a model"));
    }
    let (id, audio) = (format!("sound{index}"), format!("audio{index}"));
    line.option("-audiodev", format!("none,id={audio}"));
    if driver.ends_with("hda") {
        line.device(pci(
            domain,
            json!({"driver": driver, "id": id}),
            fields.address(),
        )?);
        line.device(json!({"driver": "hda-duplex", "bus": format!("{id}.0"), "audiodev": audio}));
        return Ok(());
    }
    let device = json!({"driver": driver, "id": id, "audiodev": audio});
    line.device(if driver == "usb-audio" {
        usb(device, fields.address())?
    } else {
        pci(domain, device, fields.address())?
    });
    Ok(())
}

fn watchdog(
    line: &mut CommandLine,
    domain: &Domain,
    fields: &Fields<'_>,
) -> Result<(), DriverError> {
    let words = [("i6300esb", "i6300esb"), ("ib700", "ib700"), ("itco", "")];
    let driver = fields.word("model", "i6300esb", &words)?;
    let actions = [
        "reset",
        "shutdown",
        "poweroff",
        "pause",
        "none",
        "inject-nmi",
    ];
    let action = fields.get("action").unwrap_or("reset");
    if !actions.contains(&action) {
        return Err(fields.refuse("action", action));
    }
    let mut all = domain
        .extras
        .iter()
        .filter(|extra| extra.class == "watchdog");
    if all.nth(1).is_some() {
        return Err(unsupported("two watchdogs"));
    }
    let device = json!({"driver": driver, "id": "watchdog0"});
    match driver {
        // The q35 machine has it, and keeps it from resetting until told otherwise.
        "" if is_q35(domain) => line.option("-global", "ICH9-LPC.noreboot=off"),
        "" => return Err(fields.refuse("model", "itco")),
        "ib700" => line.device(device),
        _ => line.device(pci(domain, device, fields.address())?),
    }
    line.option("-action", format!("watchdog={action}"));
    Ok(())
}

fn panic(line: &mut CommandLine, domain: &Domain, fields: &Fields<'_>) -> Result<(), DriverError> {
    let words = [("isa", "pvpanic"), ("pvpanic", "pvpanic-pci")];
    let driver = fields.word("model", "pvpanic", &words)?;
    let device = json!({"driver": driver, "id": driver});
    match (driver, fields.address()) {
        ("pvpanic", Some(Address::Isa { iobase, irq: None })) => {
            let port = iobase.unwrap_or(0x505);
            line.device(json!({"driver": driver, "id": driver, "ioport": port}));
        }
        ("pvpanic", None) => line.device(device),
        ("pvpanic", Some(_)) => return Err(unsupported("a panic device at that address")),
        (_, at) => line.device(pci(domain, device, at)?),
    }
    Ok(())
}

fn redirdev(line: &mut CommandLine, fields: &Fields<'_>, index: usize) -> Result<(), DriverError> {
    fields.word("bus", "usb", &[("usb", "usb")])?;
    fields.word("type", "spicevmc", &[("spicevmc", "spicevmc")])?;
    let id = format!("redir{index}");
    line.option("-chardev", format!("spicevmc,id={id},name=usbredir"));
    let device = json!({"driver": "usb-redir", "id": format!("{id}-device"), "chardev": id});
    line.device(usb(device, fields.address())?);
    Ok(())
}
