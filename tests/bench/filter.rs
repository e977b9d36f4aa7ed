//! Changing one filter that many interfaces use: `vireo apply` beside `virsh nwfilter-define`, which ends when libvirt has rebuilt every binding.
//!
//! vireo's interfaces are those of paused guests, up to 20 a guest. libvirt's are bindings of taps without a guest (`virsh nwfilter-binding-create`), which spares
//! libvirt the guests and leaves what is measured. libvirt's programs come unpacked (`tests/setup --bench`) and are laid over the lab's root by `tests/bench/run`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use vireo_tests::lab::{Failure, Outcome, clean, command, ensure, eventually, kernel, run};

use crate::{binary, guest_images, median, row, seconds};

const TURNS: u32 = 3;
const PER_GUEST: u32 = 20;
/// libvirt takes more than a second an interface where all is emulated: it is not asked for more than this.
const LIBVIRT_MOST: u32 = 10;

pub fn bench(words: &[String]) -> Outcome {
    let mut counts = Vec::new();
    for word in words {
        counts.push(word.parse::<u32>()?);
    }
    if counts.is_empty() {
        counts = vec![1, 10, 100];
    }
    let has_libvirt = run("sh", ["-c", "command -v libvirtd && command -v virsh"])?.status == 0;
    for count in counts {
        let what = format!("change a filter that {count} interfaces use");
        let vireo = vireo(count)?;
        row(&what, "vireo", &seconds(vireo), "");
        if !has_libvirt {
            row(&what, "libvirt", "-", "not here: tests/setup --bench");
        } else if count > LIBVIRT_MOST {
            row(
                &what,
                "libvirt",
                "-",
                &format!("not measured beyond {LIBVIRT_MOST}"),
            );
        } else {
            let libvirt = libvirt(count)?;
            let times = libvirt.as_secs_f64() / vireo.as_secs_f64();
            row(
                &what,
                "libvirt",
                &seconds(libvirt),
                &format!("{times:.0} times vireo's"),
            );
        }
    }
    Ok(())
}

/// The filter of turn `turn`: as large as libvirt's clean-traffic is once its references are followed, and different each turn.
fn filter(turn: u32) -> String {
    let mut text = String::from(
        "<filter name='bench' chain='root'>\n  <uuid>5c6d49af-b071-6127-b4ec-6f8ed4b55335</uuid>\n",
    );
    for port in 0..20 {
        let _ = writeln!(
            text,
            "  <rule action='drop' direction='out'><tcp dstportstart='{}'/></rule>",
            1000 + turn * 100 + port
        );
    }
    text + "  <rule action='accept' direction='inout'><all/></rule>\n</filter>\n"
}

fn vireo(count: u32) -> Outcome<Duration> {
    clean::everything()?;
    guest_images()?;
    let root = PathBuf::from("/run/vireo-bench/filter");
    let _ = fs::remove_dir_all(&root);
    let desired = root.join("desired");
    fs::create_dir_all(&desired)?;
    fs::create_dir_all(root.join("hooks"))?;
    run("ip", ["link", "add", "br0", "type", "bridge"])?.exits(0)?;
    fs::write(desired.join("bench.xml"), filter(0))?;
    let guests = count.div_ceil(PER_GUEST);
    for guest in 0..guests {
        let interfaces = (count - guest * PER_GUEST).min(PER_GUEST);
        fs::write(
            desired.join(format!("guest-{guest}.xml")),
            domain(guest, interfaces),
        )?;
    }
    ask(&root, "apply --yes")?.exits(0)?;
    let mut times = Vec::new();
    for turn in 1..=TURNS {
        fs::write(desired.join("bench.xml"), filter(turn))?;
        times.push(ask(&root, "apply --yes")?.exits(0)?.took);
        let rules = run("nft", ["list", "ruleset"])?.exits(0)?.out;
        let port = (1000 + turn * 100).to_string();
        ensure(rules.contains(&port), || {
            format!("the rules do not speak of port {port}")
        })?;
    }
    clean::everything()?;
    median(&mut times)
}

fn ask(root: &Path, words: &str) -> Outcome<command::Ran> {
    let mut command = Command::new(binary("vireo")?);
    command
        .args(words.split_whitespace())
        .env("VIREO_DESIRED", root.join("desired"))
        .env("VIREO_STATE_DIR", root.join("state"))
        .env("VIREO_RUNTIME_DIR", root.join("runtime"))
        .env("VIREO_HOOKS_DIR", root.join("hooks"));
    command::run_with(command)
}

fn domain(guest: u32, interfaces: u32) -> String {
    let mut text = format!(
        "<domain type='kvm'>
  <name>bench-{guest}</name>
  <metadata><vireo:policy xmlns:vireo='urn:vireo:policy:1' state='paused'/></metadata>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type><kernel>/run/vireo-bench/vmlinuz</kernel></os>
  <devices>
"
    );
    for _ in 0..interfaces {
        text += "    <interface type='bridge'><source bridge='br0'/><model type='virtio'/><filterref filter='bench'/></interface>\n";
    }
    text + "  </devices>\n</domain>\n"
}

fn libvirt(count: u32) -> Outcome<Duration> {
    clean::everything()?;
    let work = Path::new("/run/vireo-bench/libvirt");
    // What an earlier turn bound is not bound twice.
    let _ = fs::remove_dir_all("/run/libvirt/nwfilter-binding");
    fs::create_dir_all(work)?;
    let mut daemon = Command::new("libvirtd")
        .stdin(std::process::Stdio::null())
        .stdout(fs::File::create(work.join("out"))?)
        .stderr(fs::File::create(work.join("err"))?)
        .spawn()?;
    let result = libvirt_measured(work, count);
    daemon.kill()?;
    daemon.wait()?;
    clean::everything()?;
    result.map_err(|failure| {
        let said = fs::read_to_string(work.join("err")).unwrap_or_default();
        Failure::new(format!("{failure}\nlibvirtd said: {said}"))
    })
}

fn libvirt_measured(work: &Path, count: u32) -> Outcome<Duration> {
    let virsh = |words: &[&str]| run("virsh", ["-q", "-c", "qemu:///system"].iter().chain(words));
    eventually(Duration::from_secs(120), "libvirtd answers", || {
        virsh(&["nwfilter-list"])?.exits(0)
    })?;
    let file = work.join("bench.xml");
    let path = file.to_string_lossy().into_owned();
    fs::write(&file, filter(0))?;
    virsh(&["nwfilter-define", &path])?.exits(0)?;
    for index in 0..count {
        let tap = format!("bench{index}");
        run("ip", ["tuntap", "add", "dev", &tap, "mode", "tap"])?.exits(0)?;
        run("ip", ["link", "set", "dev", &tap, "up"])?.exits(0)?;
        let binding = work.join("binding.xml");
        fs::write(&binding, binding_of(&tap, index))?;
        virsh(&["nwfilter-binding-create", &binding.to_string_lossy()])?.exits(0)?;
    }
    ensure(kernel::links()?.len() as u32 == count + 1, || {
        "taps are missing".into()
    })?;
    let mut times = Vec::new();
    for turn in 1..=TURNS {
        fs::write(&file, filter(turn))?;
        times.push(virsh(&["nwfilter-define", &path])?.exits(0)?.took);
    }
    median(&mut times)
}

fn binding_of(tap: &str, index: u32) -> String {
    format!(
        "<filterbinding>
  <owner><name>bench</name><uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner>
  <portdev name='{tap}'/>
  <mac address='52:54:00:7b:00:{index:02x}'/>
  <filterref filter='bench'/>
</filterbinding>
"
    )
}
