//! Every path that the tables of [`super::support`] accept has an effect, or is known to have none.
//!
//! Samples state the paths; each path is taken out of its sample, and what the guest's monitor and the host would be told must then be something else.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use vireo_schema::tree::Element;
use vireo_schema::{Source, read, xml};

use super::support;
use crate::desired::{Desired, Resolved};
use crate::domain::{GuestDir, builtin, qemu};
use crate::inventory::HostFacts;
use crate::ledger::Ledger;
use crate::resolve::Driver;
use crate::resolve::domain::Domain;

/// Paths without effect, and why.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("@id", "what a look at a running guest told"),
    ("title", "for people"),
    ("description", "for people"),
    ("metadata/**", "other applications'"),
    ("vcpu/@placement", "'static' is all that is accepted"),
    (
        "numatune/memory/@placement",
        "'static' is all that is accepted",
    ),
    ("os/type", "'hvm' is all that is accepted"),
    ("os/type/@arch", "'x86_64' is all that is accepted"),
    (
        "features/apic",
        "every machine has it; libvirt's driver does nothing about it either",
    ),
    ("features/pae", "every x86-64 processor has it"),
    ("cpu/@match", "'exact' is all that is accepted"),
    ("cpu/model/@fallback", "nothing is ever fallen back to"),
    (
        "os/loader/@readonly",
        "'yes' is all that is accepted of flash, and a ROM is one",
    ),
    ("os/loader/@secure", "'no' is all that is accepted"),
    (
        "clock/timer/@name",
        "the schema wants it: a timer without is no timer",
    ),
    (
        "devices/disk/driver/@name",
        "'qemu' is all that is accepted",
    ),
    (
        "devices/disk/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/interface/script/**",
        "an empty path is all that is accepted, and runs nothing",
    ),
    (
        "devices/interface/downscript/**",
        "an empty path is all that is accepted, and runs nothing",
    ),
    (
        "devices/interface/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/serial/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/console/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/memballoon/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/rng/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/channel/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/video/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/input/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/sound/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/controller/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/redirdev/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/watchdog/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    ("devices/vsock/@model", "'virtio' is all that is accepted"),
    (
        "devices/vsock/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/panic/alias/**",
        "a name for the management's use, which no guest sees",
    ),
    (
        "devices/serial/target/model/**",
        "only the model that the type has is accepted",
    ),
    (
        "devices/channel/target/@type",
        "'virtio' is all that is accepted",
    ),
    (
        "devices/console/target",
        "'serial' is what the first console is",
    ),
    (
        "devices/console/target/@port",
        "ports of consoles are counted by their place; libvirt ignores others",
    ),
    (
        "devices/memballoon/@model",
        "'virtio' is what it is without, and 'none' has no attribute to lose",
    ),
    ("devices/rng/@model", "'virtio' is all that is accepted"),
    (
        "devices/rng/backend/@model",
        "'random' is all that is accepted",
    ),
    (
        "devices/graphics/listen/@type",
        "'address' is all that is accepted",
    ),
    (
        "devices/video/model/@primary",
        "the first is the primary one, and no other may say so",
    ),
    ("devices/audio", "sound goes nowhere in any case"),
    ("devices/audio/@id", "sound goes nowhere in any case"),
    ("devices/audio/@type", "'none' is all that is accepted"),
    ("devices/redirdev/@bus", "'usb' is all that is accepted"),
    (
        "devices/redirdev/@type",
        "'spicevmc' is all that is accepted",
    ),
    ("seclabel", "only that there is none is accepted"),
    ("seclabel/@type", "only that there is none is accepted"),
    ("seclabel/@model", "only that there is none is accepted"),
    ("seclabel/@relabel", "only that there is none is accepted"),
];

/// Paths without effect under the builtin driver: what it makes without them is all that it makes of them.
const AS_BUILTIN_IS: &[&str] = &[
    "@type",
    "features",
    // It never asks the kernel to merge pages.
    "memoryBacking/nosharepages",
    // A disk is all that it boots from beside a kernel.
    "os/boot",
    "os/boot/@dev",
    "cpu",
    "cpu/@mode",
    "cpu/@check",
    "cpu/@migratable",
    "devices/disk/@device",
    "devices/disk/target/@bus",
    "devices/interface/model",
    // It moves all packets itself, and fragments no UDP.
    "devices/interface/driver/@name",
    "devices/interface/driver/@tx_queue_size",
    "devices/interface/driver/host/@ufo",
    "devices/interface/driver/guest/@ufo",
    "devices/serial/@type",
    "devices/serial/target",
    "devices/serial/target/@type",
    "devices/serial/target/@port",
    "devices/console/@type",
    "devices/console/target/@type",
    "devices/memballoon",
    "devices/watchdog/@model",
    // Each disk has threads of its own.
    "iothreads",
    "iothreadids",
    "iothreadids/iothread",
    "iothreadids/iothread/@id",
    "devices/disk/driver/@iothread",
    // Its clock follows the host's, its time stamp counter is the processor's.
    "clock/timer/@track",
    "clock/timer/@mode",
    // No place, and no more than that there is none.
    "pm",
    "pm/suspend-to-mem",
    "pm/suspend-to-mem/@enabled",
    "pm/suspend-to-disk",
    "pm/suspend-to-disk/@enabled",
    "features/vmport",
    "features/vmport/@state",
    "devices/video",
    "devices/video/model",
    "devices/video/model/@type",
    "devices/video/address/**",
    // Controllers are its own, or nothing is on them.
    "devices/controller/@ports",
    "devices/controller/model/**",
    "devices/controller/target/**",
    "devices/controller/master",
    "devices/controller/master/@startport",
    // Nobody can reach them without a display.
    "devices/input",
    "devices/input/@type",
    "devices/input/@bus",
    "devices/input/address/**",
    // Only where it says what is so anyway.
    "devices/serial/address/**",
    // What a policy that says builtin leaves without meaning.
    "devices/disk/driver/@io",
    "os/type/@machine",
    "devices/emulator",
];

const FILTER: &str = "<filter name='clean'><rule action='accept' direction='out'/></filter>";
const NETWORK: &str = "<network><name>default</name><bridge name='virbr0'/></network>";
const POOL: &str =
    "<pool type='dir'><name>images</name><target><path>/images</path></target></pool>";
const VOLUME: &str = "<volume xmlns:vireo='urn:vireo:policy:1' vireo:pool='images'><name>v.raw</name><capacity>1024</capacity>\
    <target><format type='raw'/></target></volume>";

/// What both drivers do, once in the shape that each driver takes.
const COMMON: &str = include_str!("common.xml");
const SAMPLES: &[&str] = &[
    include_str!("kernel.xml"),
    include_str!("firmware.xml"),
    include_str!("desktop.xml"),
    include_str!("buses.xml"),
];

/// Memory in cells: large pages, memory that is shared and taken at once, and memory that is made for sharing.
const MEMORY: &str = include_str!("memory.xml");

/// The samples of memory, in the shape that a driver takes.
fn memory(driver: &str, allocation: &str) -> [String; 3] {
    let large = MEMORY.replace("DRIVER", driver);
    let backed = |with: &str| {
        let (before, rest) = large.split_once("<hugepages>").unwrap();
        let (_, after) = rest.split_once("</hugepages>").unwrap();
        format!("{before}{with}{after}").replace(" memAccess='shared'", "")
    };
    let shared = format!("<nosharepages/><access mode='shared'/>{allocation}");
    let made = backed("<source type='memfd'/>").replace("mode='interleave'", "mode='restrictive'");
    let made = made.replace("mode='preferred'", "mode='restrictive'");
    [backed(&shared), made, large]
}

/// What the guest's monitor and the host around it are told, or that it is refused.
fn outcome(text: &str) -> Result<String, Vec<String>> {
    let pool = if text.starts_with("<pool") { "" } else { POOL };
    let files = [
        ("n.xml", NETWORK),
        ("f.xml", FILTER),
        ("p.xml", pool),
        ("v.xml", if pool.is_empty() { "" } else { VOLUME }),
        ("d.xml", text),
    ];
    let documents: Vec<_> = files
        .iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(path, text)| read(&Arc::new(Source::new(*path, *text))))
        .collect();
    let facts = HostFacts {
        kvm: true,
        ..HostFacts::default()
    };
    let desired = Desired::build(&documents, &Ledger::default(), &facts);
    if !text.starts_with("<domain") {
        return match desired.problems.is_empty() {
            true => Ok(format!(
                "{:#?}",
                desired
                    .objects
                    .values()
                    .map(|wanted| &wanted.resolved)
                    .collect::<Vec<_>>()
            )),
            false => Err(desired
                .problems
                .iter()
                .map(|problem| format!("{problem:?}"))
                .collect()),
        };
    }
    let domain = desired
        .objects
        .values()
        .find_map(|wanted| match &wanted.resolved {
            Resolved::Domain(domain) => Some(domain),
            _ => None,
        });
    match domain {
        Some(domain) if desired.problems.is_empty() => Ok(told(domain)),
        _ => Err(desired
            .problems
            .iter()
            .map(|problem| format!("{problem:?}"))
            .collect()),
    }
}

fn told(domain: &Domain) -> String {
    let dir = GuestDir::new(Path::new("/"), uuid::Uuid::nil());
    let monitor: Box<dyn Debug> = match domain.driver {
        Driver::Builtin => Box::new(builtin::told(domain, &dir)),
        Driver::Qemu => Box::new(qemu::told(domain, &dir)),
    };
    let host: Vec<_> = domain
        .interfaces
        .iter()
        .map(|i| (&i.tap, &i.source, i.mtu, i.link_up, &i.filter, &i.bandwidth))
        .collect();
    let around = (
        &domain.tuning,
        domain.memory.current,
        &domain.lifecycle,
        &domain.machine.emulator,
        domain.events.on_poweroff,
        // QEMU is told of them when it runs.
        domain
            .disks
            .iter()
            .map(|disk| &disk.limits)
            .collect::<Vec<_>>(),
    );
    format!("{monitor:#?}\n{host:#?}\n{around:#?}")
}

/// Takes an element or attribute out, at every place that has the path. Whether there was any.
fn take_out(element: &mut Element<'_>, path: &str) -> bool {
    if let Some(attribute) = path.strip_prefix('@') {
        let before = element.attributes.len();
        element.attributes.retain(|one| one.name != attribute);
        return element.attributes.len() < before;
    }
    match path.split_once('/') {
        None => {
            let before = element.children.len();
            element.children.retain(|child| child.name != path);
            element.children.len() < before
        }
        Some((name, rest)) => {
            let mut found = false;
            for child in element
                .children
                .iter_mut()
                .filter(|child| child.name == name)
            {
                found |= take_out(child, rest);
            }
            found
        }
    }
}

/// Rows that no sample shows to have an effect.
fn silent(rows: &[&'static str], samples: &[String]) -> Vec<String> {
    let excused: BTreeSet<&str> = WITHOUT_EFFECT.iter().map(|(row, _)| *row).collect();
    let whole: Vec<String> = samples
        .iter()
        .map(|sample| outcome(sample).unwrap_or_else(|problems| panic!("{sample}\n{problems:#?}")))
        .collect();
    let mut silent = Vec::new();
    for row in rows.iter().filter(|row| !excused.contains(*row)) {
        let path = row.trim_end_matches("/**");
        let mut stated = false;
        let shown = samples.iter().zip(&whole).any(|(sample, whole)| {
            let mut tree = xml::read(sample, 0).unwrap();
            let there = take_out(&mut tree, path);
            stated |= there;
            there && outcome(&xml::write(&tree)).as_ref() != Ok(whole)
        });
        if !shown {
            silent.push(format!(
                "{row}{}",
                if stated { "" } else { " (in no sample)" }
            ));
        }
    }
    silent
}

#[test]
fn whatever_qemu_is_asked_for_reaches_it() {
    let mut samples: Vec<String> = SAMPLES.iter().map(|sample| (*sample).to_owned()).collect();
    samples.push(COMMON.replace("DRIVER", "qemu"));
    samples.extend(memory("qemu", "<allocation mode='immediate' threads='2'/>"));
    let rows: Vec<&str> = support::DOMAIN
        .iter()
        .chain(support::QEMU)
        .copied()
        .collect();
    assert_eq!(silent(&rows, &samples), Vec::<String>::new());
}

#[test]
fn whatever_builtin_is_asked_for_reaches_it() {
    let sample = COMMON.replace("DRIVER", "builtin");
    let pinned = sample
        .replace("<cputune>", "<iothreads>1</iothreads><cputune>")
        .replace(
            "</cputune>",
            "<vcpupin vcpu='1' cpuset='1'/><emulatorpin cpuset='0'/><iothreadpin iothread='1' cpuset='3'/></cputune>",
        )
        .replace("<driver name='qemu' type='qcow2'", "<driver name='qemu' iothread='1' type='qcow2'");
    let other = sample
        .replace("serial", "console")
        .replace("isa-console", "serial")
        .replace("virtio-console", "virtio-serial")
        .replace("<console>S1</console>", "")
        .replace("period", "global_period")
        .replace("quota", "global_quota")
        .replace("auto='no'", "auto='yes'");
    let processor = sample.replace("current='2'>4<", "current='2'>16<").replace(
        "<cpu mode='host-passthrough'/>",
        "<cpu mode='custom'><model>Haswell</model><topology sockets='2' dies='2' cores='2' threads='2'/>\
         <feature policy='disable' name='rtm'/></cpu>",
    );
    let processor = processor.replace(
        "<hugepages/>",
        "<hugepages><page size='2' unit='MiB'/></hugepages><locked/>",
    );
    let disks = sample
        .replace("<kernel>/boot/vmlinuz</kernel>", "")
        .replace("<initrd>/boot/initrd</initrd>", "")
        .replace(
            "<source dev='/dev/vg/a'/>",
            "<source dev='/dev/vg/a'/><boot order='1'/>",
        );
    let clock = |clock: &str| sample.replace("<clock offset='localtime'>", clock);
    let reporting = sample.replace(
        "freePageReporting='off'>",
        "freePageReporting='on'><stats period='5'/>",
    );
    let behind = sample
        .replace("bus='0' slot='26'", "bus='9' slot='0'")
        .replace(
            "<audio id='1' type='none'/>",
            "<controller type='pci' index='9' model='pcie-root-port'/>",
        );
    let sharing = sample.replace(
        "</devices>",
        "<interface type='direct'><source dev='eth0' mode='bridge'/><model type='virtio'/></interface></devices>",
    );
    let others = [
        reporting,
        behind,
        sharing,
        clock("<clock offset='variable' basis='localtime' adjustment='60'>"),
        clock("<clock offset='timezone' timezone='Europe/Berlin'>"),
        clock("<clock offset='absolute' start='60'>"),
    ];
    let mut samples = vec![sample, pinned, other, processor, disks];
    samples.extend(others);
    samples.extend(memory("builtin", "<allocation mode='immediate'/>"));
    let rows: Vec<&str> = support::DOMAIN
        .iter()
        .chain(support::BUILTIN)
        .copied()
        .filter(|row| !AS_BUILTIN_IS.contains(row))
        .collect();
    assert_eq!(silent(&rows, &samples), Vec::<String>::new());
}

/// Paths of networks, pools and volumes without effect: what a look at them told, or what people and others wrote.
const TOLD: &[&str] = &[
    "title",
    "description",
    "metadata/**",
    "@connections",
    "key",
    "available/**",
    "physical/**",
    "source",
    "target/timestamps/**",
    "target/features",
    "backingStore/permissions/**",
    "backingStore/timestamps/**",
];

#[test]
fn whatever_a_network_a_pool_or_a_volume_is_asked_for_is_in_what_it_becomes() {
    let samples =
        |samples: &[&str]| -> Vec<String> { samples.iter().map(|s| (*s).to_owned()).collect() };
    let network = samples(&[include_str!("network.xml"), include_str!("nodns.xml")]);
    let pool = samples(&[include_str!("pool.xml")]);
    let volume = samples(&[include_str!("volume.xml")]);
    let of = |rows: &[&'static str], besides: &[&str]| -> Vec<&'static str> {
        rows.iter()
            .copied()
            .filter(|row| !TOLD.contains(row) && !besides.contains(row))
            .collect()
    };
    // A directory pool is all that there is, an IPv4 address is known by its look; the rest is checked to be what it is anyway.
    let network_anyway = ["ip/@family"];
    let pool_anyway = ["capacity/**", "allocation/**"];
    let volume_anyway = ["@type", "target/path"];
    assert_eq!(
        silent(&of(support::NETWORK, &network_anyway), &network),
        Vec::<String>::new()
    );
    assert_eq!(
        silent(&of(support::POOL, &pool_anyway), &pool),
        Vec::<String>::new()
    );
    assert_eq!(
        silent(&of(support::VOLUME, &volume_anyway), &volume),
        Vec::<String>::new()
    );
}

#[test]
fn what_is_excused_is_accepted() {
    for (row, _) in WITHOUT_EFFECT {
        assert!(
            support::domain(Driver::Qemu).cover(row.trim_end_matches("/**")),
            "{row}"
        );
    }
}
