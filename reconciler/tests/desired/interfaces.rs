//! Interfaces that share a device of the host's.

use vireo_reconciler::resolve::Driver;
use vireo_reconciler::resolve::domain::{DirectMode, InterfaceSource};

use super::drivers::driver_of_web;
use super::{build, domain};

fn guest(interface: &str) -> String {
    format!(
        "<domain type='kvm'><name>web</name><memory>524288</memory><os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os>\
         <devices>{interface}</devices></domain>"
    )
}

fn direct(source: &str, more: &str) -> String {
    guest(&format!(
        "<interface type='direct'><source {source}/><model type='virtio'/>{more}</interface>"
    ))
}

#[test]
fn a_device_is_shared_in_the_mode_that_is_stated_and_vepa_without_one() {
    for (source, mode) in [
        ("dev='eth0'", DirectMode::Vepa),
        ("dev='eth0' mode='vepa'", DirectMode::Vepa),
        ("dev='eth0' mode='bridge'", DirectMode::Bridge),
        ("dev='eth0' mode='private'", DirectMode::Private),
        ("dev='eth0' mode='passthrough'", DirectMode::Passthrough),
    ] {
        let text = direct(source, "");
        let desired = build(&[("web.xml", &text)], &Default::default());
        let web = domain(&desired, "web");
        assert_eq!(web.driver, Driver::Builtin);
        let device = "eth0".to_owned();
        assert_eq!(
            web.interfaces[0].source,
            InterfaceSource::Direct { device, mode }
        );
    }
}

#[test]
fn what_is_done_to_a_taps_packets_is_refused_of_a_shared_device() {
    let said = |text: &str| driver_of_web(text).unwrap_err()[0].0.clone();
    assert_eq!(
        said(&direct(
            "dev='eth0'",
            "<bandwidth><inbound average='1'/></bandwidth>"
        )),
        "<bandwidth> of an interface of type 'direct' is not something vireo can do"
    );
    assert_eq!(
        said(&direct("mode='bridge'", "")),
        "an interface of this type needs a source with `dev`"
    );
    let policy = "<metadata><vireo:policy xmlns:vireo='urn:vireo:policy:1' driver='qemu'/></metadata><memory>";
    assert_eq!(
        said(&direct("dev='eth0'", "").replace("<memory>", policy)),
        "<source dev> is not something driver qemu can do"
    );
}

#[test]
fn a_device_is_nothing_that_another_interface_has() {
    let text = guest("<interface type='bridge'><source bridge='br0' dev='eth0'/></interface>");
    let refused = driver_of_web(&text).unwrap_err();
    assert_eq!(
        refused[0].0,
        "<source dev> is of interfaces of type 'direct' alone"
    );
}
