//! A guest that shares a device of the host's, by a macvtap. The device is one end of a pair whose other end is the host's.

use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Lab, Outcome, ensure, eventually, run as program};

pub const SCENARIO: Scenario = Scenario {
    name: "shared-device",
    about: "an interface of type 'direct': refused without its device, answers, and has another macvtap after a restart",
    time_limit: Duration::from_secs(400),
    run,
};

/// How long a guest may take to boot and answer.
const BOOT: Duration = Duration::from_secs(120);

const GUEST: &str = "<domain type='kvm'>
  <name>share</name>
  <memory unit='MiB'>192</memory>
  <os>
    <type arch='x86_64'>hvm</type>
    <kernel>/srv/vireo-lab/boot/vmlinuz</kernel>
    <initrd>/srv/vireo-lab/boot/initrd</initrd>
    <cmdline>console=ttyS0 quiet vireo.name=share vireo.ip=10.99.0.2/24 vireo.shell</cmdline>
  </os>
  <devices>
    <interface type='direct'>
      <mac address='52:54:00:c0:ff:07'/>
      <source dev='wire1' mode='bridge'/>
      <model type='virtio'/>
    </interface>
  </devices>
</domain>
";

fn run(host: &Lab) -> Outcome {
    let guest = host.guest("share", "10.99.0.2");
    host.write("network.xml", include_str!("story/network.xml"))?;
    host.write("share.xml", GUEST)?;
    host.step("a device that is not there is refused", || {
        host.vireo("plan")?
            .says("device wire1 of interface 0 does not exist")
            .map(drop)
    })?;
    host.step("a guest on a shared device comes up", || {
        let pair = "link add wire0 type veth peer name wire1";
        for line in [
            pair,
            "address add 10.99.0.1/24 dev wire0",
            "link set wire0 up",
            "link set wire1 up",
        ] {
            program("ip", line.split(' '))?.exits(0)?;
        }
        host.vireo("apply --yes")?.exits(0)?;
        guest.comes_up(BOOT)
    })?;
    host.step("IPv6 finds it, by multicast", || {
        let local = "fe80::5054:ff:fec0:ff07%wire0";
        eventually(Duration::from_secs(20), "it answers", || {
            program("ping", ["-6", "-c", "1", "-W", "2", local])?.exits(0)
        })
        .map(drop)
    })?;
    let macvtap = program("ip", ["-o", "link", "show", "type", "macvtap"])?.out;
    let macvtap = macvtap.split(&[':', '@'][..]).nth(1).unwrap_or_default();
    let macvtap = macvtap.trim().to_owned();
    let before = guest.who()?.boot;
    host.step("its macvtap is deleted: it waits for a restart", || {
        program("ip", ["link", "delete", "dev", &macvtap])?.exits(0)?;
        host.vireo("plan")?
            .exits(0)?
            .says("its macvtap is gone, and a running guest can be given no other")
            .map(drop)
    })?;
    host.step("restarted, it answers again", || {
        host.vireo("restart share --yes")?.exits(0)?;
        guest.comes_up(BOOT)?;
        ensure(guest.who()?.boot != before, || "it is the same boot".into())
    })?;
    host.step("with its definition its macvtap goes", || {
        host.remove("share.xml")?;
        host.vireo("apply --yes")?.exits(0)?;
        let left = program("ip", ["-o", "link", "show", "type", "macvtap"])?.out;
        ensure(left.is_empty(), || format!("left: {left}"))
    })
}
