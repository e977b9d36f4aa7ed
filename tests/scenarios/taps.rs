//! Taps that are deleted under running guests, whoever moves their packets: the host's kernel for vireo-vmm and for QEMU, or the monitor itself.

use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Guest, Lab, Outcome, ensure, run as program};

pub const SCENARIO: Scenario = Scenario {
    name: "taps",
    about: "taps deleted under running guests, with vhost-net and without: they answer by others, and were not restarted",
    time_limit: Duration::from_secs(600),
    run,
};

/// How long a guest may take to boot and answer.
const BOOT: Duration = Duration::from_secs(240);
/// How long it may take until packets reach it again.
const AGAIN: Duration = Duration::from_secs(60);
const VHOST: &str = "/dev/vhost-net";

/// A guest: its name, its driver, what its interface's driver says, its address.
fn definition(name: &str, driver: &str, interface: &str, address: &str) -> String {
    format!(
        "<domain type='kvm'>
  <name>{name}</name>
  <metadata>
    <vireo:policy xmlns:vireo='urn:vireo:policy:1' driver='{driver}'/>
  </metadata>
  <memory unit='MiB'>192</memory>
  <os>
    <type arch='x86_64'>hvm</type>
    <kernel>/srv/vireo-lab/boot/vmlinuz</kernel>
    <initrd>/srv/vireo-lab/boot/initrd</initrd>
    <cmdline>console=ttyS0 quiet vireo.name={name} vireo.ip={address}/24 vireo.shell</cmdline>
  </os>
  <devices>
    <interface type='network'>
      <source network='default'/>
      <model type='virtio'/>
      {interface}
    </interface>
  </devices>
</domain>
"
    )
}

fn run(host: &Lab) -> Outcome {
    host.write("network.xml", include_str!("story/network.xml"))?;
    // Two pairs of queues, of which a guest with one processor uses one.
    let pairs = "<driver queues='2'/>";
    let kinds = [
        ("web", "builtin", pairs),
        ("db", "qemu", ""),
        ("old", "builtin", "<driver name='qemu'/>"),
    ];
    let mut made = Vec::new();
    for ((name, driver, interface), number) in kinds.into_iter().zip(1..) {
        let address = format!("192.168.122.1{number}");
        let text = definition(name, driver, interface, &address);
        host.write(&format!("{name}.xml"), &text)?;
        made.push(host.guest(name, &address));
    }
    let all: Vec<&Guest> = made.iter().collect();
    let mut agent = host.agent()?;
    host.step("the agent brings three guests up", || {
        host.all_answer(&all, BOOT)
    })?;
    let mut before = Vec::new();
    for guest in &all {
        before.push((guest.process()?, guest.who()?.boot));
    }
    host.step("the kernel moves the packets of all but the third", || {
        for ((process, _), (name, expected)) in
            before
                .iter()
                .zip([("web", true), ("db", true), ("old", false)])
        {
            let open = process.has_open(VHOST)?;
            ensure(open == expected, || {
                format!("the monitor of {name}: {VHOST} open: {open}")
            })?;
        }
        Ok(())
    })?;
    for time in ["first", "second"] {
        host.step(
            &format!("their taps are deleted a {time} time, and they answer again"),
            || {
                for guest in &all {
                    let tap = guest.tap()?;
                    program("ip", ["link", "delete", "dev", &tap])?.exits(0)?;
                }
                host.all_answer(&all, AGAIN)
            },
        )?;
        for (guest, (process, boot)) in all.iter().zip(&before) {
            let now = (guest.process()?, guest.who()?.boot);
            ensure(now == (*process, boot.clone()), || {
                format!("{} is not the guest that it was: {now:?}", guest.name)
            })?;
        }
    }
    ensure(agent.runs()?, || "the agent has ended".into())
}
