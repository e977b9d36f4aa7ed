//! The same story with software-emulated guests, one of them on a network card and a display of old.

use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Lab, Outcome};

use crate::story::{Cast, tell};

pub const SCENARIO: Scenario = Scenario {
    name: "story-qemu",
    about: "the story on type='qemu' domains, one with rtl8139, cirrus and VNC",
    time_limit: Duration::from_secs(900),
    run,
};

fn run(host: &Lab) -> Outcome {
    host.desired("story")?;
    for file in ["web.xml", "db.xml"] {
        host.edit(file, "<domain type='kvm'>", "<domain type='qemu'>")?;
    }
    // Debian's cloud kernel, which db keeps, has no driver for an rtl8139.
    host.edit("web.xml", "boot/vmlinuz<", "boot/vmlinuz-full<")?;
    host.edit("web.xml", "boot/initrd<", "boot/initrd-full<")?;
    host.edit(
        "web.xml",
        "<type arch='x86_64'>",
        "<type arch='x86_64' machine='pc'>",
    )?;
    host.edit(
        "web.xml",
        "<model type='virtio'/>",
        "<model type='rtl8139'/>",
    )?;
    host.edit(
        "web.xml",
        "<memballoon",
        "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>\n    <video>\n      <model type='cirrus' vram='9216' heads='1'/>\n    </video>\n    <memballoon",
    )?;
    tell(
        host,
        &Cast {
            monitor: "qemu-system-x86_64",
            boot: Duration::from_secs(480),
            model: "<model type='rtl8139'/>",
        },
    )
}
