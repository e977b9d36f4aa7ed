//! The devices of a command line: buses and their controllers, character devices, and what only QEMU has.

use serde_json::{Value, json};

use super::command::{CONSOLE, CommandLine, escape, is_q35, text};
use super::fields::{Fields, unsupported};
use crate::domain::{DriverError, GuestDir};
use crate::resolve::domain::{Backend, Chardev, Disk, Domain, Extra};

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
    Ok(match (disk.bus.as_str(), disk.device.as_str()) {
        ("virtio", "disk") => json!({"driver": "virtio-blk-pci"}),
        ("ide", "disk" | "cdrom") if !is_q35(domain) => json!({
            "driver": if disk.device == "disk" { "ide-hd" } else { "ide-cd" },
            "bus": format!("ide.{}", number / 2), "unit": number % 2,
        }),
        ("sata", "disk" | "cdrom") => json!({
            "driver": if disk.device == "disk" { "ide-hd" } else { "ide-cd" },
            "bus": format!("{}.{number}", if is_q35(domain) { "ide" } else { "sata0" }),
        }),
        ("scsi", "disk") => json!({"driver": "scsi-hd", "bus": "scsi0.0", "scsi-id": number}),
        ("scsi", "cdrom") => json!({"driver": "scsi-cd", "bus": "scsi0.0", "scsi-id": number}),
        ("scsi", "lun") => json!({"driver": "scsi-block", "bus": "scsi0.0", "scsi-id": number}),
        ("usb", "disk") => json!({"driver": "usb-storage", "bus": "usb0.0"}),
        ("fdc", "floppy") => json!({"driver": "floppy", "unit": number}),
        _ => return Err(refuse()),
    })
}

/// The controllers that the definition states, and those that its devices need.
///
/// # Errors
/// One that this driver does not do.
pub fn controllers(line: &mut CommandLine, domain: &Domain) -> Result<(), DriverError> {
    let mut usb = Vec::new();
    let mut scsi = None;
    for extra in domain
        .extras
        .iter()
        .filter(|extra| extra.class == "controller")
    {
        let fields = Fields::of(extra);
        fields.get("index");
        match fields.get("type") {
            Some("usb") => usb.push((extra, fields.get("model"))),
            // Others than these are QEMU's to make, where their devices are.
            Some("pci") => {
                fields.word(
                    "model",
                    "",
                    &[
                        ("pci-root", ""),
                        ("pcie-root", ""),
                        ("pcie-root-port", ""),
                        ("pcie-to-pci-bridge", ""),
                        ("pci-bridge", ""),
                    ],
                )?;
            }
            Some("scsi") => {
                let models = [
                    ("virtio-scsi", "virtio-scsi-pci"),
                    ("lsilogic", "lsi"),
                    ("auto", "lsi"),
                    ("lsisas1068", "mptsas1068"),
                    ("vmpvscsi", "pvscsi"),
                ];
                scsi = Some(fields.word("model", "lsi", &models)?);
            }
            Some("virtio-serial" | "ide" | "sata" | "fdc") => {}
            other => return Err(fields.refuse("type", other.unwrap_or(""))),
        }
    }
    let on = |bus: &str| domain.disks.iter().any(|disk| disk.bus == bus);
    usb_controllers(line, domain, &usb)?;
    if on("scsi") || scsi.is_some() {
        line.device(json!({"driver": scsi.unwrap_or("lsi"), "id": "scsi0"}));
    }
    if on("sata") && !is_q35(domain) {
        line.device(json!({"driver": "ahci", "id": "sata0"}));
    }
    if on("fdc") && is_q35(domain) {
        line.device(json!({"driver": "isa-fdc", "id": "fdc0"}));
    }
    let on_virtio =
        |chardev: &Chardev| chardev.class != "serial" && chardev.target.starts_with("virtio");
    if domain.chardevs.iter().any(on_virtio) {
        line.device(json!({"driver": "virtio-serial-pci", "id": "virtio-serial0"}));
    }
    Ok(())
}

/// USB controllers: the stated ones, companions after the one that they accompany, or one if a device needs it.
fn usb_controllers(
    line: &mut CommandLine,
    domain: &Domain,
    stated: &[(&Extra, Option<&str>)],
) -> Result<(), DriverError> {
    let old = if is_q35(domain) {
        "qemu-xhci"
    } else {
        "piix3-usb-uhci"
    };
    let (companions, masters): (Vec<_>, Vec<_>) = stated
        .iter()
        .partition(|(_, model)| model.is_some_and(|model| model.starts_with("ich9-uhci")));
    let mut made = false;
    for (extra, _) in masters {
        let fields = Fields::of(extra);
        let models = [
            ("piix3-uhci", "piix3-usb-uhci"),
            ("piix4-uhci", "piix4-usb-uhci"),
            ("ehci", "usb-ehci"),
            ("ich9-ehci1", "ich9-usb-ehci1"),
            ("qemu-xhci", "qemu-xhci"),
            ("nec-xhci", "nec-usb-xhci"),
            ("none", ""),
        ];
        let driver = fields.word("model", old, &models)?;
        let index = fields.get("index").unwrap_or("0");
        made = true;
        if !driver.is_empty() {
            line.device(json!({"driver": driver, "id": format!("usb{index}")}));
        }
    }
    for (extra, _) in companions {
        let fields = Fields::of(extra);
        let models = [
            ("ich9-uhci1", "ich9-usb-uhci1"),
            ("ich9-uhci2", "ich9-usb-uhci2"),
            ("ich9-uhci3", "ich9-usb-uhci3"),
        ];
        let driver = fields.word("model", "", &models)?;
        let index = fields.get("index").unwrap_or("0");
        let port = fields.get("master.startport").unwrap_or("0").parse::<u32>();
        let port =
            port.map_err(|_| unsupported("a USB companion whose start port is no number"))?;
        line.device(
            json!({"driver": driver, "masterbus": format!("usb{index}.0"), "firstport": port}),
        );
    }
    let on_usb = |extra: &Extra| {
        extra.class == "redirdev" || extra.fields.get("bus").is_some_and(|bus| bus == "usb")
    };
    if !made
        && (domain.extras.iter().any(on_usb) || domain.disks.iter().any(|disk| disk.bus == "usb"))
    {
        line.device(json!({"driver": old, "id": "usb0"}));
    }
    Ok(())
}

/// Serial and parallel ports, consoles, channels.
///
/// # Errors
/// One that this driver does not do.
pub fn chardevs(
    line: &mut CommandLine,
    domain: &Domain,
    dir: &GuestDir,
) -> Result<(), DriverError> {
    let has_serial = domain
        .chardevs
        .iter()
        .any(|chardev| chardev.class == "serial");
    let mut serials = 0;
    for (index, chardev) in domain.chardevs.iter().enumerate() {
        let on_serial = !chardev.target.starts_with("virtio");
        let is_serial = chardev.class == "serial" || (chardev.class == "console" && on_serial);
        if chardev.class == "console" && is_serial && has_serial {
            // The first serial port by its other name.
            continue;
        }
        let id = if is_serial {
            format!("serial{serials}")
        } else {
            format!("chardev{index}")
        };
        backend(line, chardev, &id, dir);
        let device = match (chardev.class.as_str(), chardev.target.as_str()) {
            _ if is_serial => {
                let bus = if chardev.target == "pci-serial" {
                    "pci-serial"
                } else {
                    "isa-serial"
                };
                let port = chardev.port.unwrap_or(serials);
                serials += 1;
                json!({"driver": bus, "id": format!("{id}-device"), "chardev": id, "index": (bus == "isa-serial").then_some(port)})
            }
            ("console", _) => {
                json!({"driver": "virtconsole", "id": format!("{id}-device"), "chardev": id})
            }
            ("channel", "virtio") => {
                json!({"driver": "virtserialport", "id": format!("{id}-device"), "chardev": id, "name": chardev.name})
            }
            ("parallel", _) => {
                json!({"driver": "isa-parallel", "id": format!("{id}-device"), "chardev": id})
            }
            (class, target) => return Err(unsupported(format!("a {class} of type {target}"))),
        };
        line.device(device);
    }
    Ok(())
}

/// The host's side of a character device. What the first serial port says is always in the guest's log of the console.
fn backend(line: &mut CommandLine, chardev: &Chardev, id: &str, dir: &GuestDir) {
    let mut value = match &chardev.backend {
        Backend::Pty => format!("pty,id={id}"),
        Backend::File(path) => format!("file,id={id},path={},append=on", escape(&text(path))),
        Backend::Unix(path) => {
            let path = path
                .clone()
                .unwrap_or_else(|| dir.file(&format!("{id}.socket")));
            format!(
                "socket,id={id},path={},server=on,wait=off",
                escape(&text(&path))
            )
        }
        Backend::Tcp(host, port, listens) => {
            let listens = if *listens {
                ",server=on,wait=off"
            } else {
                ",reconnect=1"
            };
            format!(
                "socket,id={id},host={},port={}{listens}",
                escape(host),
                escape(port)
            )
        }
        Backend::Null => format!("null,id={id}"),
        Backend::SpiceVmc => format!("spicevmc,id={id},name=vdagent"),
    };
    let log = chardev
        .log
        .clone()
        .or_else(|| (id == CONSOLE).then(|| dir.file("console.log")));
    if let Some(log) = log {
        value.push_str(&format!(",logfile={},logappend=on", escape(&text(&log))));
    }
    line.option("-chardev", value);
}

/// What only QEMU has.
///
/// # Errors
/// Something that this driver does not do, by name.
pub fn extras(line: &mut CommandLine, domain: &Domain, dir: &GuestDir) -> Result<(), DriverError> {
    let mut shown = false;
    for (index, extra) in domain.extras.iter().enumerate() {
        let fields = Fields::of(extra);
        match extra.class.as_str() {
            // Made before the devices that need them.
            "controller" => continue,
            "graphics" => {
                shown |= graphics(line, &fields, index, dir)?;
                // QEMU listens; what else is said of listening is the same in other words.
                fields.get("listen.type");
            }
            "video" => video(line, &fields, index)?,
            "input" => input(line, &fields, index)?,
            "sound" => sound(line, &fields, index)?,
            "watchdog" => watchdog(line, &fields)?,
            "redirdev" => redirdev(line, &fields, index)?,
            "panic" => {
                let driver = fields.word(
                    "model",
                    "pvpanic",
                    &[("isa", "pvpanic"), ("pvpanic", "pvpanic-pci")],
                )?;
                line.device(json!({"driver": driver}));
            }
            "audio" => {
                fields.word("type", "none", &[("none", "none")])?;
                fields.get("id");
            }
            other => return Err(unsupported(format!("<{other}>"))),
        }
        fields.done()?;
    }
    if !shown {
        line.option("-display", "none");
    }
    Ok(())
}

/// A display for people elsewhere. Returns whether it is one.
fn graphics(
    line: &mut CommandLine,
    fields: &Fields<'_>,
    index: usize,
    dir: &GuestDir,
) -> Result<bool, DriverError> {
    let auto = fields.get("autoport") == Some("yes");
    let address = fields.get("listen.address").or(fields.get("listen"));
    let address = fields.get("listen").or(address).unwrap_or("127.0.0.1");
    let port = fields
        .get("port")
        .unwrap_or("-1")
        .parse::<i32>()
        .unwrap_or(-1);
    let password = fields.get("passwd").map(|secret| {
        let name = format!("password{index}");
        line.secrets.push((name.clone(), secret.to_owned()));
        line.json(
            "-object",
            json!({"qom-type": "secret", "id": name, "file": text(&dir.file(&name))}),
        );
        format!(",password-secret={name}")
    });
    let password = password.unwrap_or_default();
    match fields.get("type") {
        Some("vnc") => {
            let (display, to) = match u32::try_from(port.saturating_sub(5900)) {
                Ok(display) if !auto => (display, ""),
                _ => (0, ",to=999"),
            };
            let password = if password.is_empty() {
                password
            } else {
                format!(",password=on{password}")
            };
            line.option(
                "-vnc",
                format!("{}:{display}{to}{password}", escape(address)),
            );
        }
        Some("spice") => {
            let port = u16::try_from(port).ok().filter(|_| !auto).unwrap_or(5900);
            let ticketing = if password.is_empty() {
                ",disable-ticketing=on".to_owned()
            } else {
                password
            };
            line.option(
                "-spice",
                format!("addr={},port={port}{ticketing}", escape(address)),
            );
        }
        Some(other) => return Err(fields.refuse("type", other)),
        None => return Err(unsupported("<graphics> without a type")),
    }
    Ok(true)
}

fn video(line: &mut CommandLine, fields: &Fields<'_>, index: usize) -> Result<(), DriverError> {
    let models = [
        ("qxl", "qxl-vga"),
        ("cirrus", "cirrus-vga"),
        ("vga", "VGA"),
        ("virtio", "virtio-vga"),
        ("bochs", "bochs-display"),
        ("vmvga", "vmware-svga"),
        ("ramfb", "ramfb"),
        ("none", ""),
    ];
    let driver = fields.word("model.type", "VGA", &models)?;
    let kib = |path| fields.get(path).and_then(|text| text.parse::<u64>().ok());
    let (ram, vram, vgamem) = (kib("model.ram"), kib("model.vram"), kib("model.vgamem"));
    let heads = kib("model.heads");
    fields.get("model.primary");
    let bytes = |kib: Option<u64>| kib.map(|kib| kib.saturating_mul(1024));
    let id = format!("video{index}");
    match driver {
        "" => {}
        "qxl-vga" => line.device(json!({
            "driver": driver, "id": id, "ram_size": bytes(ram), "vram_size": bytes(vram), "vgamem_mb": vgamem.map(|kib| kib / 1024), "max_outputs": heads,
        })),
        "VGA" => line.device(json!({"driver": driver, "id": id, "vgamem_mb": vram.map(|kib| kib / 1024)})),
        "virtio-vga" => line.device(json!({"driver": driver, "id": id, "max_outputs": heads})),
        _ => line.device(json!({"driver": driver, "id": id})),
    }
    Ok(())
}

fn input(line: &mut CommandLine, fields: &Fields<'_>, index: usize) -> Result<(), DriverError> {
    let kind = fields.word(
        "type",
        "mouse",
        &[
            ("tablet", "tablet"),
            ("mouse", "mouse"),
            ("keyboard", "keyboard"),
        ],
    )?;
    let usb = if kind == "keyboard" { "kbd" } else { kind };
    let id = format!("input{index}");
    match fields.get("bus") {
        // The machine has both.
        Some("ps2") | None if kind != "tablet" => {}
        Some("usb") | None => {
            line.device(json!({"driver": format!("usb-{usb}"), "id": id, "bus": "usb0.0"}))
        }
        Some("virtio") => line.device(json!({"driver": format!("virtio-{kind}-pci"), "id": id})),
        Some(other) => return Err(fields.refuse("bus", other)),
    }
    Ok(())
}

fn sound(line: &mut CommandLine, fields: &Fields<'_>, index: usize) -> Result<(), DriverError> {
    let models = [
        ("ich6", "intel-hda"),
        ("ich9", "ich9-intel-hda"),
        ("ac97", "AC97"),
        ("es1370", "ES1370"),
        ("usb", "usb-audio"),
    ];
    let driver = fields.word("model", "", &models)?;
    let (id, audio) = (format!("sound{index}"), format!("audio{index}"));
    line.option("-audiodev", format!("none,id={audio}"));
    if driver.ends_with("hda") {
        line.device(json!({"driver": driver, "id": id}));
        line.device(json!({"driver": "hda-duplex", "bus": format!("{id}.0"), "audiodev": audio}));
    } else {
        line.device(json!({"driver": driver, "id": id, "audiodev": audio}));
    }
    Ok(())
}

fn watchdog(line: &mut CommandLine, fields: &Fields<'_>) -> Result<(), DriverError> {
    let driver = fields.word(
        "model",
        "i6300esb",
        &[("i6300esb", "i6300esb"), ("ib700", "ib700"), ("itco", "")],
    )?;
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
    if !driver.is_empty() {
        line.device(json!({"driver": driver, "id": "watchdog0"}));
    }
    line.option("-action", format!("watchdog={action}"));
    Ok(())
}

fn redirdev(line: &mut CommandLine, fields: &Fields<'_>, index: usize) -> Result<(), DriverError> {
    fields.word("bus", "usb", &[("usb", "usb")])?;
    fields.word("type", "spicevmc", &[("spicevmc", "spicevmc")])?;
    let id = format!("redir{index}");
    line.option("-chardev", format!("spicevmc,id={id},name=usbredir"));
    line.device(json!({"driver": "usb-redir", "id": format!("{id}-device"), "chardev": id, "bus": "usb0.0"}));
    Ok(())
}
