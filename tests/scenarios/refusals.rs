//! What vireo refuses: each with a message that names the place, an exit status, and a host that stays as it was.

use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Lab, Outcome, ensure, kernel, run as program};

pub const SCENARIO: Scenario = Scenario {
    name: "refusals",
    about: "broken, unknown, doubled, unsupported, emptied: refused, and nothing changes",
    time_limit: Duration::from_secs(180),
    run,
};

/// A file that must be refused: its name, its text, and words that the message must hold.
struct Case {
    what: &'static str,
    file: &'static str,
    text: &'static str,
    words: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        what: "broken XML",
        file: "broken.xml",
        text: "<network>\n  <name>lan</name>\n  <bridge name='br9'>\n</network>\n",
        words: &["broken.xml:"],
    },
    Case {
        what: "broken YAML",
        file: "broken.yaml",
        text: "network: lan\nbridge: {name: br9\nip: [\n",
        words: &["broken.yaml:"],
    },
    Case {
        what: "an unknown element",
        file: "unknown.xml",
        text: "<network>\n  <name>lan</name>\n  <frobnicate/>\n</network>\n",
        words: &["unknown.xml:3", "frobnicate"],
    },
    Case {
        what: "an unknown attribute, with the one that was meant",
        file: "attribute.xml",
        text: "<network>\n  <name>lan</name>\n  <bridge nmae='br9'/>\n</network>\n",
        words: &["attribute.xml:3", "nmae", "name"],
    },
    Case {
        what: "a reference to nothing",
        file: "lost.xml",
        text: "<domain type='kvm'>\n  <name>lost</name>\n  <memory unit='MiB'>64</memory>\n  <os><type>hvm</type><kernel>/srv/vireo-lab/boot/vmlinuz</kernel></os>\n  <devices>\n    <interface type='network'><source network='nowhere'/></interface>\n  </devices>\n</domain>\n",
        words: &["lost.xml:6", "nowhere"],
    },
    Case {
        what: "two files that claim one uuid",
        file: "second.xml",
        text: "<network>\n  <name>second</name>\n  <uuid>86891d0f-b6bb-49f8-a013-bae443c08d82</uuid>\n</network>\n",
        words: &["second.xml", "network.xml"],
    },
    Case {
        what: "a pool type that nothing serves",
        file: "iscsi.xml",
        text: "<pool type='iscsi'>\n  <name>far</name>\n  <source>\n    <host name='192.0.2.1'/>\n    <device path='iqn.2013-06.com.example:iscsi-pool'/>\n  </source>\n  <target><path>/dev/disk/by-path</path></target>\n</pool>\n",
        words: &["iscsi.xml", "iscsi"],
    },
];

fn run(host: &Lab) -> Outcome {
    host.desired("story")?;
    host.remove("web.xml")?;
    host.remove("db.xml")?;
    host.step("a network, a filter, a pool and a volume are there", || {
        host.vireo("apply --yes")?.exits(0)
    })?;
    let before = picture(host)?;
    for case in CASES {
        host.step(case.what, || refused(host, case, &before))?;
    }
    host.step("a file that no longer parses holds its object", || {
        let good = host.read("network.xml")?;
        host.write("network.xml", &good[..good.len() / 2])?;
        host.vireo("plan")?.exits(1)?.says("network.xml:")?;
        let _ = host.vireo("apply --yes")?;
        unchanged(host, &before)?;
        host.write("network.xml", &good)?;
        host.vireo("plan")?.exits(0)
    })?;
    host.step("an emptied directory removes nothing by itself", || {
        for file in ["network.xml", "no-icmp.xml", "images.xml", "web-disk.xml"] {
            host.remove(file)?;
        }
        host.vireo("plan")?.says("confirm")?;
        let _ = host.vireo("apply --yes")?;
        unchanged(host, &before)
    })
}

fn refused(host: &Lab, case: &Case, before: &str) -> Outcome {
    host.write(case.file, case.text)?;
    // An unsupported feature is no mistake in the file: only the plan can refuse it.
    if case.file != "iscsi.xml" {
        let mut ran = host
            .vireo(&format!("validate {}", host.path("desired").display()))?
            .exits(1)?;
        for word in case.words {
            ran = ran.says(word)?;
        }
    }
    let mut ran = host.vireo("plan")?.exits(1)?;
    for word in case.words {
        ran = ran.says(word)?;
    }
    host.vireo("apply --yes")?.exits(1)?;
    unchanged(host, before)?;
    host.remove(case.file)?;
    host.vireo("plan")?.exits(0)?;
    Ok(())
}

fn unchanged(host: &Lab, before: &str) -> Outcome {
    let after = picture(host)?;
    ensure(after == before, || {
        format!("the host changed from\n{before}\nto\n{after}")
    })
}

/// Everything that a mistaken apply could have touched.
fn picture(host: &Lab) -> Outcome<String> {
    let mut text = format!("{:?}\n", kernel::links()?);
    text += &program("nft", ["--stateless", "list", "ruleset"])?
        .exits(0)?
        .out;
    text += &program(
        "ls",
        [
            "-ln",
            "--time-style=full-iso",
            &host.path("images").to_string_lossy(),
        ],
    )?
    .exits(0)?
    .out;
    for name in ["dnsmasq", "vireo-vmm", "qemu-system-x86_64"] {
        text += &format!("{name}: {:?}\n", kernel::processes(name)?);
    }
    Ok(text)
}
