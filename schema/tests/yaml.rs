//! YAML as a person writes it, and the XML that it means.

use std::sync::Arc;
use vireo_schema::{Kind, Located, Source, read, to_long_yaml, to_xml, to_yaml};

/// The XML of every definition of a YAML text, which must have no problems.
fn means(text: &str) -> String {
    let source = Arc::new(Source::new("a.yaml", text));
    let document = read(&source);
    let complaints: Vec<String> = document
        .problems
        .iter()
        .map(|problem| problem.render(&source))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    document
        .definitions
        .iter()
        .map(|located| to_xml(&located.definition, &located.policy))
        .collect()
}

#[test]
fn a_guest_takes_a_few_lines() {
    let text = "
domain: web
policy: {disruption: restart, depends-on: [network/default, pool/images]}
memory: 512 MiB
vcpu: 2
kernel: /boot/vmlinuz
initrd: /boot/initrd
cmdline: console=ttyS0 root=/dev/vda
features: [acpi, apic]
cputune: {shares: 2048}
disks:
- volume: images/web.qcow2
- {file: /data.raw, format: raw, readonly: true}
interface: {network: default, mac: 52:54:00:12:34:56, filter: clean-traffic, model: virtio}
";
    insta::assert_snapshot!(means(text));
}

#[test]
fn disks_that_yaml_leaves_unnamed_have_names_in_xml_that_are_read_again() {
    let text = "
domain: a
type: kvm
memory: 1 GiB
disks:
- {file: /a}
- {file: /b, dev: vda}
- {file: /c, bus: usb}
- {device: cdrom, type: file}
- {device: floppy, file: /d}
- {device: lun, block: /dev/sdb}
";
    let xml = means(text);
    let back = read(&Arc::new(Source::new("a.xml", xml.as_str())));
    assert!(back.is_whole(), "{:?}\n{xml}", back.problems);
    let named = xml.lines().filter(|line| line.contains("<target"));
    let named: Vec<&str> = named.map(str::trim).collect();
    assert_eq!(
        named,
        [
            "<target dev='vdb'/>",
            "<target dev='vda'/>",
            "<target dev='sda' bus='usb'/>",
            "<target dev='sdb' bus='sata'/>",
            "<target dev='fda'/>",
            "<target dev='sdc'/>",
        ]
    );
}

#[test]
fn other_objects_are_as_short() {
    let text = "
network: default
forward: nat
bridge: virbr0
ips: {address: 192.168.122.1, prefix: 24, dhcp: {ranges: {start: 192.168.122.2, end: 192.168.122.254}}}
---
pool: images
type: dir
target: /var/lib/vireo/images
---
volume: images/web.qcow2
format: qcow2
capacity: 10 GiB
backing: /images/debian.qcow2
---
nwfilter: web
rule:
- {action: accept, direction: in, tcp: {dstportstart: 80}}
- {action: drop, direction: in, all: }
filterref: clean-traffic
---
secret: 22e1353d-c27e-4d6d-bf15-465053e6ba0b
usage: {type: volume, volume: /images/a}
";
    insta::assert_snapshot!(means(text));
}

#[test]
fn what_libvirt_notes_of_guests_is_as_short() {
    let text = "
domainsnapshot: before the upgrade
state: running
parent: fresh
memory: {file: /var/tmp/web.mem}
disks:
- vda
- {name: vdb, snapshot: no}
- {name: vdc, file: /images/web-c.qcow2, format: qcow2}
- {name: vdd, block: /dev/vg/web}
domain:
  name: web
  memory: 1 GiB
  disks: {file: /images/web.qcow2, dev: vda, bus: virtio}
  qemu:commandline: {args: -nodefaults}
inactiveDomain: {uuid: c7a5fdbd-edaf-9455-926a-d65c16db1809}
active: 1
---
networkport: 5d744f21-ba4a-4d6e-bdb2-30a35ff3207d
owner: {name: web, uuid: d54df46f-1ab5-4a22-8618-4560ef5fac2c}
mac: 52:54:00:7b:35:93
group: servers
rxfilters: true
bandwidth: {classID: 3, inbound: {average: 1000, peak: 4000}}
plug: {type: hostdev-pci, managed: yes, driver: vfio, address: {domain: 0x0001, bus: 0x02, slot: 0x03, function: 0x4}}
---
nwfilterbinding: vnet0
owner: {name: web, uuid: d54df46f-1ab5-4a22-8618-4560ef5fac2c}
linkdev: eth0
mac: 52:54:00:7b:35:93
filterref: {filter: clean-traffic, parameters: [{name: IP, value: 10.0.0.2}]}
";
    insta::assert_snapshot!(means(text));
}

#[test]
fn what_guests_have_in_common_is_merged() {
    let merged = means(
        "- domain: web\n  <<: &common {memory: 1 GiB, vcpu: 2, features: [acpi]}\n- domain: db\n  <<: *common\n  memory: 4 GiB\n",
    );
    let written_out = means(
        "- {domain: web, memory: 1 GiB, vcpu: 2, features: [acpi]}\n- {domain: db, memory: 4 GiB, vcpu: 2, features: [acpi]}\n",
    );
    assert_eq!(merged, written_out);
}

#[test]
fn the_kind_is_the_key_that_has_the_others_as_fields() {
    let whole = means("domainsnapshot: s\ndomain: {name: a, memory: 1}\n");
    let other_way = means("domain: {name: a, memory: 1}\ndomainsnapshot: s\n");
    assert_eq!(whole, other_way);
    let network = means("network: a\ndomain: example.org\n");
    assert_eq!(network, means("domain: example.org\nnetwork: a\n"));
}

#[test]
fn the_long_forms_mean_the_same() {
    let short = means("domain: a\nmemory: 1 GiB\ndisks: {file: /a}\n");
    for long in [
        "domain:\n  name: a\n  memory: {value: 1 GiB}\n  devices:\n    disk:\n    - type: file\n      source: {file: /a}\n",
        "kind: domain\nname: a\nmemory: 1 GiB\ndisk: [{type: file, source: {file: /a}}]\n",
        "- domain: {name: a, memory: 1GiB, disks: [{source: {file: /a}, file: /a}]}\n",
        "{\"domain\": \"a\", \"memory\": \"1 GiB\", \"disks\": [{\"file\": \"/a\"}]}",
    ] {
        assert_eq!(means(long), short, "{long}");
    }
}

#[test]
fn an_alias_repeats_a_value_and_truth_has_many_words() {
    let aliased = means(
        "domain: a\nmemory: &size 1 GiB\ncurrentMemory: *size\npm: {suspend-to-mem: false}\n",
    );
    assert_eq!(
        aliased,
        means(
            "domain: a\nmemory: 1 GiB\ncurrentMemory: 1 GiB\npm: {suspend-to-mem: {enabled: no}}\n"
        )
    );
}

/// The blocks of that language in the page about YAML.
fn blocks(language: &str) -> Vec<&'static str> {
    let page = include_str!("../YAML.md");
    let begin = format!("```{language}\n");
    let after = page.split(begin.as_str()).skip(1);
    after
        .filter_map(|rest| Some(rest.split_once("```")?.0))
        .collect()
}

#[test]
fn every_example_of_the_page_is_read() {
    let examples = blocks("yaml");
    assert!(examples.len() > 3);
    for text in examples {
        means(text);
    }
}

#[test]
fn the_page_lists_the_shorthands_that_there_are() {
    let listed = blocks("text").concat();
    let table = vireo_schema::shorthand_list();
    assert_eq!(listed, table, "schema/YAML.md should list:\n{table}");
}

#[test]
fn every_kind_is_written_short_and_long() {
    let text = "
domain: web
policy: {protect: yes, depends-on: [network/default]}
memory: 1 GiB
vcpu: 2
kernel: /boot/vmlinuz
features: [acpi]
disks: {file: /images/web.raw, dev: vda, bus: virtio}
interfaces: [{network: default, mac: 52:54:00:12:34:56}]
metadata: <a:b xmlns:a='urn:a'/>
---
network: default
forward: nat
bridge: virbr0
ips: {address: 192.168.122.1, prefix: 24, dhcp: {ranges: {start: 192.168.122.2, end: 192.168.122.254}}}
---
pool: images
type: dir
target: /images
---
volume: images/web.raw
capacity: 1 GiB
format: raw
---
nwfilter: web
entries:
- rule: {action: accept, direction: in, tcp: {dstportstart: 80}}
- filterref: clean-traffic
- rule: {action: drop, direction: in, all: }
---
secret: 22e1353d-c27e-4d6d-bf15-465053e6ba0b
usage: {type: volume, volume: /images/a}
---
domainsnapshot: before
disks: [vda, {name: vdb, snapshot: no}]
domain: {uuid: c7a5fdbd-edaf-9455-926a-d65c16db1809}
---
domaincheckpoint: monday
disks: [vda, {name: vdb, checkpoint: no}]
domain: {uuid: c7a5fdbd-edaf-9455-926a-d65c16db1809}
---
networkport: 5d744f21-ba4a-4d6e-bdb2-30a35ff3207d
owner: {name: web, uuid: d54df46f-1ab5-4a22-8618-4560ef5fac2c}
mac: 52:54:00:7b:35:93
plug: {type: bridge, bridge: br0}
---
nwfilterbinding: vnet0
owner: {name: web, uuid: d54df46f-1ab5-4a22-8618-4560ef5fac2c}
mac: 52:54:00:7b:35:93
filterref: clean-traffic
";
    let document = read(&Arc::new(Source::new("all.yaml", text)));
    assert!(document.is_whole(), "{:?}", document.problems);
    let kinds: Vec<Kind> = document.definitions.iter().map(Located::kind).collect();
    assert_eq!(kinds, Kind::ALL);
    for (style, write) in [
        ("short", to_yaml as fn(&_, &_) -> _),
        ("long", to_long_yaml),
    ] {
        let all = document.definitions.iter();
        let texts: Vec<String> = all.map(|one| write(&one.definition, &one.policy)).collect();
        let written = texts.join("---\n");
        let back = read(&Arc::new(Source::new("back.yaml", written.as_str())));
        assert!(back.is_whole(), "{:?}", back.problems);
        for (one, back) in document.definitions.iter().zip(&back.definitions) {
            assert_eq!(
                (&one.definition, &one.policy),
                (&back.definition, &back.policy)
            );
        }
        insta::assert_snapshot!(style, written);
    }
}

#[test]
fn a_device_is_as_short_as_its_kind() {
    let text = "
domain: web
memory: 512 MiB
memoryBacking: hugepages
features: acpi
resource: /machine/production
graphics: vnc
videos: [virtio]
console: pty
controllers: [usb]
";
    insta::assert_snapshot!(means(text));
}

#[test]
fn a_single_value_where_a_mapping_is_wanted_is_told_once() {
    let source = Arc::new(Source::new(
        "a.yaml",
        "domain: web\nmemory: 1 GiB\nrng: virtio\n",
    ));
    let problems = read(&source).problems;
    assert_eq!(problems.len(), 1, "{problems:#?}");
}
