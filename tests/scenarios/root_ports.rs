//! A guest whose devices are behind PCIe root ports: it finds them where its definition says, and again after it has booted anew.

use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Guest, Lab, Outcome, ensure, eventually};

pub const SCENARIO: Scenario = Scenario {
    name: "root-ports",
    about: "devices behind PCIe root ports are where the definition says and work, also after the guest has booted anew",
    time_limit: Duration::from_secs(400),
    run,
};

/// How long a guest may take to boot and answer.
const BOOT: Duration = Duration::from_secs(120);

/// The port of index 3 comes first by its place, and so has bus 1, and those of indexes 1 and 2 have the buses 2 and 3.
const GUEST: &str = "<domain type='kvm'>
  <name>web</name>
  <memory unit='MiB'>192</memory>
  <os>
    <type arch='x86_64'>hvm</type>
    <kernel>/srv/vireo-lab/boot/vmlinuz</kernel>
    <initrd>/srv/vireo-lab/boot/initrd</initrd>
    <cmdline>console=ttyS0 quiet vireo.name=web vireo.shell</cmdline>
  </os>
  <on_reboot>restart</on_reboot>
  <devices>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='pci' index='1' model='pcie-root-port'>
      <address type='pci' bus='0x00' slot='0x02' function='0x0' multifunction='on'/>
    </controller>
    <controller type='pci' index='2' model='pcie-root-port'>
      <address type='pci' bus='0x00' slot='0x02' function='0x1'/>
    </controller>
    <controller type='pci' index='3' model='pcie-root-port'>
      <address type='pci' bus='0x00' slot='0x01' function='0x0'/>
    </controller>
    <disk type='file'>
      <source file='/srv/vireo-lab/images/web.raw'/>
      <target dev='vda'/>
      <address type='pci' bus='0x02' slot='0x00' function='0x0'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:c0:ff:01'/>
      <source network='default'/>
      <model type='virtio'/>
      <address type='pci' bus='0x01' slot='0x00' function='0x0'/>
    </interface>
  </devices>
</domain>
";

/// Where the guest is to find the ports, by their class, and its two devices behind them.
const PORTS: &str = "0000:00:01.0\n0000:00:02.0\n0000:00:02.1\n";
const INTERFACE: &str = "0000:00:02.0/0000:02:00.0/virtio";
const DISK: &str = "0000:00:02.1/0000:03:00.0/virtio";

fn run(host: &Lab) -> Outcome {
    host.write("network.xml", include_str!("story/network.xml"))?;
    host.write("web.xml", GUEST)?;
    std::fs::File::create(host.path("images/web.raw"))?.set_len(1 << 20)?;
    let web = host.guest("web", "192.168.122.11");
    host.step("a guest of the builtin driver comes up", || {
        host.vireo("plan")?.exits(2)?.says("driver builtin")?;
        host.vireo("apply --yes")?.exits(0)?;
        web.comes_up(BOOT)
    })?;
    host.step("its devices are where they are to be", || places(&web))?;
    host.step("its disk works", || {
        let write = "echo written >/tmp/line; dd if=/tmp/line of=/dev/vda conv=fsync,notrunc";
        let (status, said) = web.run(write)?;
        ensure(status == 0, || format!("it cannot be written: {said}"))
    })?;
    let (before, monitor) = (web.who()?.boot, web.process()?);
    host.step("it boots anew, from inside", || {
        // The answer may be lost with the guest.
        let _ = web.run("reboot -f");
        eventually(BOOT, "it answers from another boot", || {
            let now = web.who()?.boot;
            ensure(now != before, || "it is the same boot".into())
        })?;
        ensure(web.process()? == monitor, || {
            "another process runs it".into()
        })
    })?;
    host.step("its devices are there again, and work", || {
        places(&web)?;
        let (_, line) = web.run("head -c 8 /dev/vda")?;
        ensure(line == "written\n", || format!("its disk has {line:?}"))
    })?;
    host.step("applying again changes nothing", || {
        host.vireo("apply --yes")?.exits(0)?.says("nothing to do")
    })?;
    Ok(())
}

/// Holds when the guest finds its devices where its definition says.
fn places(web: &Guest) -> Outcome {
    let ports = "cd /sys/bus/pci/devices; for each in *; do [ $(cat $each/class) != 0x060400 ] || echo $each; done";
    for (what, command, wanted) in [
        ("ports", ports, PORTS),
        (
            "interface",
            "readlink -f /sys/class/net/eth0/device",
            INTERFACE,
        ),
        ("disk", "readlink -f /sys/class/block/vda/device", DISK),
    ] {
        let (_, found) = web.run(command)?;
        ensure(found.contains(wanted), || {
            format!("its {what}: {found:?}, not {wanted:?}")
        })?;
    }
    Ok(())
}
