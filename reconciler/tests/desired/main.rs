//! From files to what is wanted: drivers, references, broken files, contested objects.

mod clock;
mod drivers;
mod images;
mod interfaces;
mod limits;
mod memory;
mod pins;
mod places;

use std::path::PathBuf;
use std::sync::Arc;

use vireo_reconciler::desired::{Desired, Resolved};
use vireo_reconciler::inventory::HostFacts;
use vireo_reconciler::ledger::{Entry, Holds, Ledger};
use vireo_reconciler::object::{Kind, ObjectId};
use vireo_reconciler::resolve::Driver;
use vireo_reconciler::resolve::domain::Domain;
use vireo_schema::{Document, Source, read};

const NETWORK: &str = "<network><name>default</name><forward mode='nat'/><bridge name='virbr0'/>\
    <ip address='192.168.122.1' netmask='255.255.255.0'/></network>";
const POOL: &str =
    "<pool type='dir'><name>images</name><target><path>/images</path></target></pool>";
const VOLUME: &str = "volume: images/web.qcow2\ncapacity: 1 GiB\nformat: qcow2\n";
const GUEST: &str = "domain: web\nmemory: 512 MiB\nkernel: /boot/vmlinuz\ndisks: [{volume: images/web.qcow2}]\n\
    interfaces: [{network: default}]\n";

fn documents(files: &[(&str, &str)]) -> Vec<Document> {
    files
        .iter()
        .map(|(path, text)| read(&Arc::new(Source::new(*path, *text))))
        .collect()
}

fn facts() -> HostFacts {
    HostFacts {
        kvm: true,
        ..HostFacts::default()
    }
}

fn build(files: &[(&str, &str)], ledger: &Ledger) -> Desired {
    Desired::build(&documents(files), ledger, &facts())
}

fn named<'a>(desired: &'a Desired, kind: Kind, name: &str) -> Option<&'a Resolved> {
    desired
        .objects
        .values()
        .find(|w| w.id.kind == kind && w.id.name == name)
        .map(|w| &w.resolved)
}

fn domain<'a>(desired: &'a Desired, name: &str) -> &'a Domain {
    match named(desired, Kind::Domain, name) {
        Some(Resolved::Domain(domain)) => domain,
        other => panic!("{name} is {other:?}; problems: {:#?}", desired.problems),
    }
}

fn rules(desired: &Desired) -> Vec<&str> {
    desired
        .problems
        .iter()
        .map(|problem| problem.rule.as_str())
        .collect()
}

/// The ledger after everything in these files was applied.
fn applied(files: &[(&str, &str)]) -> Ledger {
    let mut ledger = Ledger::default();
    for wanted in build(files, &Ledger::default()).objects.into_values() {
        ledger.record(Entry {
            object: wanted.id,
            file: wanted.file,
            definition: wanted.xml,
            holds: Holds::default(),
            made: true,
        });
    }
    ledger
}

const ALL: &[(&str, &str)] = &[
    ("net.xml", NETWORK),
    ("pool.xml", POOL),
    ("vol.yaml", VOLUME),
    ("web.yaml", GUEST),
];

const SNAPSHOT: &str = "<domainsnapshot>\n  <name>before</name>\n</domainsnapshot>\n";

#[test]
fn what_libvirt_only_notes_is_refused_where_it_stands_and_hides_nothing() {
    let mut files = ALL.to_vec();
    files.push(("notes/before.xml", SNAPSHOT));
    let desired = build(&files, &Ledger::default());
    assert_eq!(rules(&desired), ["not-kept"]);
    let place = desired.problems[0].location.as_ref();
    let place = place.map(|place| (place.file.display().to_string(), place.line, place.column));
    assert_eq!(place, Some(("notes/before.xml".to_owned(), 1, 1)));
    assert_eq!(desired.objects.len(), ALL.len());
}

#[test]
fn a_snapshot_written_over_a_guests_file_deletes_nothing() {
    let ledger = applied(ALL);
    let mut files = ALL.to_vec();
    files[3] = ("web.yaml", "domainsnapshot: before\n");
    let desired = build(&files, &ledger);
    assert_eq!(rules(&desired), ["not-kept"]);
    assert!(desired.departed.is_empty(), "{:?}", desired.departed);
    assert!(named(&desired, Kind::Domain, "web").is_some());
}

#[test]
fn nothing_can_depend_on_what_is_not_kept() {
    let guest = format!("{GUEST}policy: {{depends-on: [domainsnapshot/before]}}\n");
    let mut files = ALL.to_vec();
    files[3] = ("web.yaml", &guest);
    files.push(("before.xml", SNAPSHOT));
    let desired = build(&files, &Ledger::default());
    assert_eq!(rules(&desired), ["not-kept", "unknown-reference"]);
}

#[test]
fn references_become_what_they_stand_for() {
    let desired = build(ALL, &Ledger::default());
    assert_eq!(desired.problems, []);
    let web = domain(&desired, "web");
    assert_eq!(web.driver, Driver::Builtin);
    assert_eq!(web.disks[0].path, Some(PathBuf::from("/images/web.qcow2")));
    assert_eq!(web.disks[0].target, "vda");
    assert_eq!(web.interfaces[0].source.bridge(), Some("virbr0"));
    assert!(web.interfaces[0].tap.len() <= 15);
}

#[test]
fn resolving_twice_gives_the_same() {
    assert_eq!(
        build(ALL, &Ledger::default()),
        build(ALL, &Ledger::default())
    );
}

#[test]
fn what_a_held_guest_refers_to_is_held_with_it() {
    let ledger = applied(ALL);
    let desired = build(&ALL[3..], &ledger);
    let held: Vec<String> = desired
        .held
        .iter()
        .map(|held| held.object.to_string())
        .collect();
    assert_eq!(
        held,
        [
            "domain web",
            "network default",
            "volume images/web.qcow2",
            "pool images"
        ]
    );
    assert!(named(&desired, Kind::Domain, "web").is_some());
    assert!(desired.departed.is_empty() && desired.keep.is_empty());
    // Once nobody refers to it, it goes.
    assert_eq!(build(&ALL[1..3], &ledger).departed.len(), 2);
}

#[test]
fn a_definition_without_a_change_has_no_previous() {
    let desired = build(ALL, &applied(ALL));
    assert!(
        desired
            .objects
            .values()
            .all(|wanted| wanted.previous.is_none())
    );
    assert!(desired.departed.is_empty() && desired.held.is_empty());
}

#[test]
fn what_builtin_lacks_takes_qemu_and_says_why() {
    let guest = GUEST.replace(
        "[{network: default}]",
        "[{network: default, model: rtl8139}]",
    );
    let files = [ALL[0], ALL[1], ALL[2], ("web.yaml", guest.as_str())];
    let desired = build(&files, &Ledger::default());
    let web = domain(&desired, "web");
    assert_eq!(
        (web.driver, web.driver_why.as_str()),
        (Driver::Qemu, "it has a network card of model rtl8139")
    );
}

/// A guest without a kernel: its driver, why, and what it boots; or what is refused.
fn without_kernel(os: &str, policy: &str, devices: &str) -> String {
    let text = format!(
        "<domain type='kvm'><name>web</name><memory unit='MiB'>512</memory>{policy}<os><type>hvm</type>{os}</os>\
         <devices>{devices}</devices></domain>"
    );
    let desired = build(&[("web.xml", &text)], &Ledger::default());
    match named(&desired, Kind::Domain, "web") {
        Some(Resolved::Domain(domain)) => {
            format!("{}: {} {:?}", domain.driver, domain.driver_why, domain.boot)
        }
        _ => format!("{:?}", desired.problems),
    }
}

const DISK: &str = "<disk type='file'><source file='/images/a.raw'/><target dev='vda'/></disk>";

#[test]
fn a_guest_without_a_kernel_boots_what_its_first_disk_names() {
    let block =
        "<disk type='block'><source dev='/dev/vg/b'/><target dev='vdb'/><boot order='1'/></disk>";
    let two = format!("{DISK}{block}");
    for (os, devices, boot) in [
        ("", DISK, "Disk { target: \"vda\", cmdline: \"\" }"),
        (
            "<boot dev='hd'/>",
            DISK,
            "Disk { target: \"vda\", cmdline: \"\" }",
        ),
        ("", two.as_str(), "Disk { target: \"vdb\", cmdline: \"\" }"),
        (
            "<cmdline>debug</cmdline>",
            DISK,
            "Disk { target: \"vda\", cmdline: \"debug\" }",
        ),
    ] {
        assert_eq!(
            without_kernel(os, "", devices),
            format!(
                "builtin: it can do all that the definition asks, and it boots what its disk's boot configuration names {boot}"
            )
        );
    }
}

#[test]
fn firmware_drives_and_the_network_are_not_what_builtin_boots_from() {
    let pinned =
        "<metadata><vireo:policy xmlns:vireo='urn:vireo:policy:1' driver='builtin'/></metadata>";
    let drive = "<disk type='file' device='cdrom'><source file='/images/a.iso'/><target dev='sda' bus='sata'/></disk>";
    for (os, devices, why) in [
        (
            "<loader>/fw/code.fd</loader>",
            DISK,
            "which builtin does not have",
        ),
        (
            "<loader type='pflash'>/fw/code.fd</loader><nvram>/fw/vars.fd</nvram>",
            DISK,
            "which builtin does not have",
        ),
        (
            "<boot dev='cdrom'/><boot dev='hd'/>",
            DISK,
            "it boots from cdrom, and builtin boots a <kernel> or from a disk",
        ),
        (
            "<boot dev='hd'/><boot dev='network'/>",
            DISK,
            "it boots from network",
        ),
        ("", drive, "it has a disk that is not on virtio"),
        (
            "",
            "",
            "it has neither a <kernel> nor a disk with a boot configuration of its own",
        ),
    ] {
        let found = without_kernel(os, "", devices);
        assert!(
            found.starts_with("qemu: ") && found.contains(why),
            "{found}"
        );
        let found = without_kernel(os, pinned, devices);
        assert!(
            found.contains("driver builtin, which the policy pins, cannot do this"),
            "{found}"
        );
        assert!(found.contains(why), "{found}");
    }
    let found = without_kernel("<initrd>/boot/initrd</initrd>", "", DISK);
    assert!(
        found.contains("there is no <kernel> that it could belong to"),
        "{found}"
    );
}

#[test]
fn a_processor_that_builtin_knows_stays_with_it() {
    let guest = |cpu: &str| {
        format!(
            "<domain type='kvm'><name>a</name><memory unit='MiB'>512</memory><vcpu>4</vcpu>\
             <os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os>{cpu}</domain>"
        )
    };
    for (cpu, driver, why) in [
        (
            "<cpu mode='custom' match='exact'><model fallback='allow'>Haswell-noTSX</model><feature policy='disable' name='vmx'/></cpu>",
            Driver::Builtin,
            "",
        ),
        (
            "<cpu mode='host-model'><topology sockets='1' dies='1' cores='2' threads='2'/></cpu>",
            Driver::Builtin,
            "",
        ),
        ("<cpu><model>EPYC-Rome</model></cpu>", Driver::Builtin, ""),
        (
            "<cpu mode='custom'><model>athlon</model></cpu>",
            Driver::Qemu,
            "the processor model athlon, which builtin does not know",
        ),
        (
            "<cpu mode='host-passthrough'><feature name='warp' policy='optional'/></cpu>",
            Driver::Qemu,
            "the processor feature warp",
        ),
    ] {
        let text = guest(cpu);
        let desired = build(&[("a.xml", &text)], &Ledger::default());
        let guest = domain(&desired, "a");
        assert_eq!(guest.driver, driver, "{cpu}: {}", guest.driver_why);
        assert!(
            guest.driver_why.contains(why),
            "{cpu}: {}",
            guest.driver_why
        );
    }
}

#[test]
fn only_a_crash_can_leave_a_core_dump() {
    let guest = |event: &str| {
        format!(
            "<domain type='kvm'><name>a</name><memory unit='MiB'>512</memory>\
             <os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os><{event}>coredump-restart</{event}></domain>"
        )
    };
    let crash = build(&[("a.xml", &guest("on_crash"))], &Ledger::default());
    assert_eq!(domain(&crash, "a").driver, Driver::Builtin);
    let reboot = build(&[("a.xml", &guest("on_reboot"))], &Ledger::default());
    assert!(!rules(&reboot).is_empty());
}

#[test]
fn threads_for_disks_are_what_builtin_has_anyway() {
    let guest = |more: &str| {
        format!(
            "<domain type='kvm'><name>a</name><memory>524288</memory>{more}<os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os>\
             <devices><disk type='file'><driver name='qemu' type='raw' iothread='2'/><source file='/images/a.raw'/><target dev='vda' bus='virtio'/>\
             </disk></devices></domain>"
        )
    };
    let ids = "<iothreadids><iothread id='2'/></iothreadids>";
    let found = build(
        &[("a.xml", &guest(&format!("<iothreads>1</iothreads>{ids}")))],
        &Ledger::default(),
    );
    assert_eq!(domain(&found, "a").driver, Driver::Builtin);
}

#[test]
fn a_kvm_that_cannot_run_kernels_takes_qemu() {
    let facts = HostFacts {
        kvm_limits: Some("kvm_pvm runs no ordinary kernel".to_owned()),
        ..facts()
    };
    let desired = Desired::build(&documents(ALL), &Ledger::default(), &facts);
    assert_eq!(domain(&desired, "web").driver, Driver::Qemu);
}

#[test]
fn what_no_driver_can_do_is_refused_with_its_place() {
    let guest = "<domain type='kvm'><name>web</name><memory>524288</memory>\n<os><type>hvm</type></os>\n<devices>\n\
        <tpm model='tpm-crb'><backend type='emulator'/></tpm></devices></domain>";
    let files = [ALL[0], ALL[1], ALL[2], ("web.xml", guest)];
    let desired = build(&files, &Ledger::default());
    let refusal = desired
        .problems
        .iter()
        .find(|problem| problem.rule == "unsupported")
        .unwrap_or_else(|| panic!("{:#?}", desired.problems));
    assert_eq!(refusal.location.as_ref().map(|place| place.line), Some(4));
    assert!(refusal.message.contains("<tpm>"), "{}", refusal.message);
    assert!(named(&desired, Kind::Domain, "web").is_none());
}

#[test]
fn a_reference_to_nothing_names_the_nearest() {
    let guest = GUEST.replace("network: default", "network: defualt");
    let files = [ALL[0], ALL[1], ALL[2], ("web.yaml", guest.as_str())];
    let desired = build(&files, &Ledger::default());
    let refusal = &desired.problems[0];
    assert_eq!(
        (refusal.rule.as_str(), refusal.help.as_deref()),
        ("unknown-reference", Some("did you mean default?"))
    );
}

#[test]
fn a_broken_file_holds_its_objects_at_their_last_good_definition() {
    let ledger = applied(ALL);
    let files = [
        ALL[0],
        ALL[1],
        ALL[2],
        ("web.yaml", "domain: web\n\tmemory: 1"),
    ];
    let desired = build(&files, &ledger);
    assert_eq!(desired.held.len(), 1);
    assert!(desired.departed.is_empty());
    assert_eq!(
        domain(&desired, "web").memory.maximum.to_string(),
        "512 MiB"
    );
}

#[test]
fn a_file_that_is_renamed_and_broken_at_once_still_holds() {
    let ledger = applied(ALL);
    let files = [ALL[0], ALL[1], ALL[2], ("guests/web2.yaml", "domain: [")];
    let desired = build(&files, &ledger);
    assert!(desired.departed.is_empty(), "{:?}", desired.departed);
    assert_eq!(desired.held.len(), 1);
}

#[test]
fn two_files_that_claim_one_object_change_nothing() {
    let ledger = applied(ALL);
    let other = GUEST.replace("512", "1024");
    let files = [
        ALL[0],
        ALL[1],
        ALL[2],
        ALL[3],
        ("other.yaml", other.as_str()),
    ];
    let desired = build(&files, &ledger);
    assert!(
        rules(&desired)
            .iter()
            .all(|rule| rule.starts_with("duplicate-")),
        "{:?}",
        rules(&desired)
    );
    assert_eq!(
        domain(&desired, "web").memory.maximum.to_string(),
        "512 MiB"
    );
    let fresh = build(&files, &Ledger::default());
    assert!(named(&fresh, Kind::Domain, "web").is_none());
}

#[test]
fn a_second_name_for_an_owned_uuid_changes_nothing() {
    let own = NETWORK.replace(
        "</name>",
        "</name><uuid>86891d0f-b6bb-49f8-a013-bae443c08d82</uuid>",
    );
    let ledger = applied(&[("net.xml", &own)]);
    let other = own.replace("default", "zecond").replace("virbr0", "virbr9");
    let desired = build(&[("net.xml", &own), ("other.xml", &other)], &ledger);
    let Some(Resolved::Network(network)) = named(&desired, Kind::Network, "default") else {
        panic!("{:#?}", desired.objects)
    };
    assert_eq!(
        (network.name.as_str(), network.bridge.name.as_str()),
        ("default", "virbr0")
    );
    assert_eq!(desired.objects.len(), 1);
}

#[test]
fn an_object_whose_reference_broke_is_kept_as_it_was() {
    let ledger = applied(ALL);
    let files = [("net.xml", "<network>"), ALL[1], ALL[2], ALL[3]];
    let desired = build(&files, &ledger);
    assert!(desired.departed.is_empty());
    assert!(named(&desired, Kind::Network, "default").is_some());
    assert_eq!(domain(&desired, "web").interfaces.len(), 1);
}

#[test]
fn what_is_in_no_file_departs() {
    let ledger = applied(ALL);
    let desired = build(&ALL[..3], &ledger);
    let gone: Vec<&ObjectId> = desired.departed.keys().collect();
    assert_eq!(
        gone.iter().map(|id| id.name.as_str()).collect::<Vec<_>>(),
        ["web"]
    );
    assert!(!desired.empty && build(&[], &ledger).empty);
}

#[test]
fn every_seed_domain_resolves_under_qemu() {
    let corpus = std::env::var("VIREO_CORPUS").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"),
        PathBuf::from,
    );
    let Ok(listing) = std::fs::read_dir(corpus.join("seeds")) else {
        return println!("skipped: the corpus is not at {}", corpus.display());
    };
    let mut files: Vec<(String, String)> = Vec::new();
    for item in listing.filter_map(Result::ok) {
        let name = item.file_name().to_string_lossy().into_owned();
        if name.starts_with("domain-")
            || ["network-default.xml", "nwfilter-no-icmp.xml"].contains(&name.as_str())
        {
            files.push((name, std::fs::read_to_string(item.path()).unwrap()));
        }
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let desired = build(&files, &Ledger::default());
    for name in ["ubuntutest", "ubuntutest4", "centos7u2-1"] {
        assert_eq!(domain(&desired, name).driver, Driver::Qemu);
    }
}
