//! Where a guest's devices are, and what libvirt writes into every definition: which driver has it, and what is refused where.

use vireo_reconciler::resolve::Driver;

use super::drivers::{Refused, driver_of_web};

const PINNED: &str =
    "<metadata><vireo:policy xmlns:vireo='urn:vireo:policy:1' driver='builtin'/></metadata>";

/// The guest with these devices, from line 8 on; in which driver and why, or what is refused where.
fn with(machine: &str, devices: &str, policy: &str) -> Result<(Driver, String), Vec<Refused>> {
    let text = format!(
        "<domain type='kvm'>\n<name>web</name>\n<memory unit='MiB'>64</memory>\n{policy}\n\
         <os><type{machine}>hvm</type><kernel>/boot/vmlinuz</kernel></os>\n\n<devices>\n{devices}\n</devices></domain>"
    );
    driver_of_web(&text)
}

#[test]
fn what_libvirt_writes_into_every_definition_does_not_keep_a_guest_from_builtin() {
    let devices = "<controller type='usb' index='0' model='piix3-uhci'><address type='pci' domain='0x0000' bus='0x00' slot='0x01' function='0x2'/></controller>\n\
        <controller type='pci' index='0' model='pci-root'/><controller type='ide' index='0'/>\n\
        <controller type='virtio-serial' index='0'><address type='pci' domain='0x0000' bus='0x00' slot='0x06' function='0x0'/></controller>\n\
        <serial type='pty'><target type='isa-serial' port='0'/><address type='isa' iobase='0x3f8' irq='4'/></serial>\n\
        <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/><address type='virtio-serial' controller='0' bus='0' port='1'/></channel>\n\
        <input type='mouse' bus='ps2'/><input type='keyboard' bus='ps2'/><audio id='1' type='none'/>\n\
        <video><model type='none'/></video>\n\
        <rng model='virtio'><backend model='random'/><address type='pci'/></rng>\n\
        <memballoon model='virtio'><address type='pci' domain='0x0000' bus='0x00' slot='0x07' function='0x0'/></memballoon>";
    let (driver, why) = with("", devices, "").unwrap();
    assert_eq!(driver, Driver::Builtin);
    let left_out = "it can do all that the definition asks; without what is QEMU's and nothing here uses: controller ide, controller usb, PS/2 mouse, PS/2 keyboard";
    assert_eq!(why, left_out);
}

#[test]
fn places_that_builtin_does_not_have_take_qemu_or_are_refused_where_they_stand() {
    for (address, device) in [
        ("type='pci' bus='1' slot='0'", "memballoon model='virtio'"),
        (
            "type='pci' bus='0' slot='2' function='1'",
            "memballoon model='virtio'",
        ),
        (
            "type='virtio-serial' controller='1' bus='0' port='2'",
            "channel type='pty'",
        ),
        (
            "type='virtio-serial' controller='0' bus='0' port='30'",
            "channel type='pty'",
        ),
        ("type='isa' iobase='0x2f8' irq='3'", "serial type='pty'"),
    ] {
        let name = device.split(' ').next().unwrap();
        let target = match name {
            "channel" => "<target type='virtio' name='a'/>",
            _ => "",
        };
        let devices = format!("<{device}>{target}\n   <address {address}/></{name}>");
        let pinned = with("", &devices, PINNED).unwrap_err();
        assert_eq!((pinned[0].1, pinned[0].2), (9, 4), "{pinned:?}");
        let free = with("", &devices, "");
        // QEMU has no such buses either.
        let reason = match &free {
            Ok((Driver::Qemu, why)) => why.clone(),
            Err(refused) => refused[0].0.clone(),
            other => panic!("{address} {other:?}"),
        };
        assert!(!reason.is_empty());
    }
}

#[test]
fn controllers_and_inputs_that_something_would_use_take_qemu_with_the_reason() {
    for (device, why) in [
        (
            "<controller type='scsi' model='virtio-scsi'/>",
            "it asks for a controller scsi 0 that builtin does not have",
        ),
        (
            "<controller type='virtio-serial' index='1'/>",
            "it asks for a controller virtio-serial 1 that builtin does not have",
        ),
        (
            "<input type='tablet' bus='usb'/>",
            "it has an input device, a tablet, and builtin has none",
        ),
        (
            "<video><model type='vga'/></video>",
            "it has a display, and builtin has none",
        ),
    ] {
        assert_eq!(with("", device, ""), Ok((Driver::Qemu, why.to_owned())));
        let pinned = with("", device, PINNED).unwrap_err();
        assert_eq!((pinned[0].1, pinned[0].2), (8, 1), "{pinned:?}");
        assert!(pinned[0].0.ends_with(why), "{pinned:?}");
    }
}

#[test]
fn only_a_policy_that_says_builtin_says_that_qemus_program_and_machine_are_not_meant() {
    let emulator = "<emulator>/usr/bin/qemu-system-x86_64</emulator>";
    let machine = |name: &str| format!(" machine='{name}'");
    let lacks = |what: &str| format!("it asks for <{what}>, which builtin does not have");
    let qemu = |what| Ok((Driver::Qemu, lacks(what)));
    assert_eq!(with(&machine("pc-q35-8.2"), "", ""), qemu("type machine"));
    assert_eq!(with("", emulator, ""), qemu("emulator"));
    let pinned = with(&machine("pc-q35-8.2"), emulator, PINNED);
    let why = "the policy says so; without what is QEMU's and nothing here uses: machine pc-q35-8.2, /usr/bin/qemu-system-x86_64";
    assert_eq!(pinned, Ok((Driver::Builtin, why.to_owned())));
    let refused = with(&machine("microvm"), "", PINNED).unwrap_err();
    assert!(refused[0].0.contains("<type machine>"), "{refused:?}");
}

#[test]
fn only_a_policy_that_says_builtin_says_that_the_kernels_own_way_to_an_image_is_not_meant() {
    let disk = |io: &str| {
        format!(
            "<disk type='file'><driver name='qemu' type='raw' cache='none' io='{io}'/><source file='/images/a.raw'/><target dev='vda' bus='virtio'/></disk>"
        )
    };
    let why = "it can do all that the definition asks".to_owned();
    for io in ["threads", "io_uring"] {
        let both = Ok((Driver::Builtin, why.clone()));
        assert_eq!(with("", &disk(io), ""), both, "{io}");
    }
    let native = disk("native");
    let why = "it asks for <driver io='native'>, which builtin does not have".to_owned();
    assert_eq!(with("", &native, ""), Ok((Driver::Qemu, why)));
    let why =
        "the policy says so; without what is QEMU's and nothing here uses: io native of disk vda";
    let without = Ok((Driver::Builtin, why.to_owned()));
    assert_eq!(with("", &native, PINNED), without);
}

#[test]
fn sound_that_somebody_is_to_hear_is_refused() {
    let refused = with("", "<audio id='1' type='pulseaudio'/>", "").unwrap_err();
    assert!(
        refused[0].0.contains("sound by way of 'pulseaudio'"),
        "{refused:?}"
    );
    assert_eq!(refused[0].1, 8);
}
