//! A host that fails its guest's disks: a file system that is full, a disk with bad sectors. What follows is what each disk's policies say.

use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Guest, Lab, Outcome, ensure, eventually, run as program};

pub const SCENARIO: Scenario = Scenario {
    name: "failing-disks",
    about: "a full file system and bad sectors under a guest: it is told, or paused until `vireo resume`, as each disk's policy says",
    time_limit: Duration::from_secs(400),
    run,
};

/// How long a guest may take to boot and answer.
const BOOT: Duration = Duration::from_secs(120);
/// How long what the guest does, or what becomes of it, may take.
const SOON: Duration = Duration::from_secs(60);
/// Bytes that the guest writes to a disk, or reads of it.
const DATA: usize = 256 << 10;
/// Bytes of the small file system: room for one disk's data, but not beside the ballast.
const ROOM: usize = 2 * DATA;
/// Bytes of the file that is in the way there.
const BALLAST: usize = ROOM - DATA / 2;
/// The first number of the data, which is numbers in order, a line each.
const FIRST: u64 = 100_000_000;
/// How many numbers after the first there are; more than the data has room for.
const LINES: u64 = 27_000;
/// What the mapper is told of a disk twice as long as the data: its sectors are a file's, but for a page in the middle that is bad or not.
const GOOD: &str = "0 1024 linear LOOP 0\n";
const BAD: &str = "0 512 linear LOOP 0\n512 8 error\n520 504 linear LOOP 520\n";

/// What has `dmsetup` wait for no udev: the lab has none.
const ALONE: [&str; 2] = ["--noudevrules", "--noudevsync"];

/// The guest's disks: on the small file system with the default policy and with `report`, and on the disk that goes bad.
const GUEST: &str = "<domain type='kvm'>
  <name>db</name>
  <memory unit='MiB'>192</memory>
  <os>
    <type arch='x86_64'>hvm</type>
    <kernel>/srv/vireo-lab/boot/vmlinuz</kernel>
    <initrd>/srv/vireo-lab/boot/initrd</initrd>
    <cmdline>console=ttyS0 quiet vireo.name=db vireo.shell</cmdline>
  </os>
  <devices>
    <disk type='file'>
      <source file='/srv/vireo-lab/small/waits.raw'/>
      <target dev='vda'/>
    </disk>
    <disk type='file'>
      <driver name='qemu' type='raw' error_policy='report'/>
      <source file='/srv/vireo-lab/small/told.raw'/>
      <target dev='vdb'/>
    </disk>
    <disk type='block'>
      <driver name='qemu' type='raw' cache='none' rerror_policy='stop'/>
      <source dev='/dev/mapper/bad'/>
      <target dev='vdc'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:c0:ff:02'/>
      <source network='default'/>
      <model type='virtio'/>
    </interface>
  </devices>
</domain>
";

fn run(host: &Lab) -> Outcome {
    host.step(
        "a file system with little room, and a disk on another",
        || {
            small_file_system(host)?;
            disk_of_the_mapper(host)
        },
    )?;
    host.write("network.xml", include_str!("story/network.xml"))?;
    host.write("db.xml", GUEST)?;
    let _agent = host.agent()?;
    let db = host.guest("db", "192.168.122.12");
    host.step("the agent brings the guest up", || db.comes_up(BOOT))?;
    let before = db.who()?.boot;
    let data = format!("seq {FIRST} {} | head -c {DATA} >/tmp/data", FIRST + LINES);
    host.step("the guest has something to write", || {
        let (status, said) = db.run(&data)?;
        ensure(status == 0, || said)
    })?;

    full_and_waiting(host, &db)?;
    full_and_told(host, &db)?;
    bad_and_told(host, &db)?;
    bad_and_waiting(host, &db)?;
    let after = db.who()?.boot;
    ensure(before == after, || "the guest has booted anew".into())
}

/// The default policy: the guest is paused, and loses nothing.
fn full_and_waiting(host: &Lab, db: &Guest) -> Outcome {
    host.step(
        "it writes until there is no space left: it is paused, and all who ask are told",
        || {
            let why = "disk vda could not write: No space left on device";
            start(db, "dd if=/tmp/data of=/dev/vda bs=64k conv=fsync")?;
            is_paused(host, why)?;
            ensure(db.who().is_err(), || "it answers".into())?;
            host.vireo("get domains")?.exits(0)?.says(why)?;
            let plan = host.vireo("plan")?.says(why)?;
            plan.says("`vireo resume db` lets it go on")
        },
    )?;
    host.step(
        "let go on as it is, it is paused again, and that is said",
        || host.vireo("resume db")?.exits(1)?.says("was paused again"),
    )?;
    host.step(
        "with room it goes on, and all that it wrote is there",
        || {
            fs::remove_file(host.path("small/ballast"))?;
            host.vireo("resume db")?.exits(0)?;
            ends_well(db)?;
            eventually(SOON, "all is well", || host.vireo("status")?.exits(0))?;
            db.run("echo 3 >/proc/sys/vm/drop_caches")?;
            let (status, said) =
                db.run("head -c $(wc -c </tmp/data) /dev/vda | cmp - /tmp/data")?;
            ensure(status == 0, || format!("the guest reads otherwise: {said}"))?;
            let mut kept = vec![0; DATA];
            File::open(host.path("small/waits.raw"))?.read_exact(&mut kept)?;
            ensure(kept == data(), || "the image has something else".into())
        },
    )
}

/// `error_policy='report'`: the guest sees an error, and goes on.
fn full_and_told(host: &Lab, db: &Guest) -> Outcome {
    fs::write(host.path("small/ballast"), vec![1; BALLAST - DATA])?;
    host.step(
        "a disk whose errors are reported: the guest sees one, and runs on",
        || {
            is_told(db, "dd if=/tmp/data of=/dev/vdb bs=64k conv=fsync")?;
            host.vireo("status")?.exits(0)
        },
    )?;
    Ok(())
}

/// What is no lack of space is reported where nothing is said of it.
fn bad_and_told(host: &Lab, db: &Guest) -> Outcome {
    let write = "dd if=/tmp/data of=/dev/vdc bs=4k count=1 oflag=direct";
    host.step(
        "a bad sector is written: the guest sees an error, and writes others",
        || {
            table(host, BAD)?;
            is_told(db, &format!("{write} seek=64"))?;
            let (status, said) = db.run(&format!("{write} seek=65"))?;
            ensure(status == 0, || format!("a good one is not written: {said}"))
        },
    )
}

/// `rerror_policy='stop'`: the guest is paused, and reads what it wanted once it can be read.
fn bad_and_waiting(host: &Lab, db: &Guest) -> Outcome {
    host.step(
        "a bad sector is read where that stops the guest: it is paused",
        || {
            let read = "dd if=/dev/vdc of=/tmp/read bs=4k skip=64 count=1 iflag=direct";
            start(db, read)?;
            is_paused(host, "disk vdc could not read: Input/output error")
        },
    )?;
    host.step(
        "once it can be read, the guest goes on with what is there",
        || {
            table(host, GOOD)?;
            host.vireo("resume db")?.exits(0)?;
            ends_well(db)?;
            let (_, read) = db.run("head -c 10 /tmp/read")?;
            ensure(read.as_bytes() == &data()[..10], || {
                format!("it has read {read:?}")
            })
        },
    )
}

/// A file system of its own with two sparse images, and a file in their way.
fn small_file_system(host: &Lab) -> Outcome {
    let small = host.path("small");
    fs::create_dir_all(&small)?;
    let size = format!("size={ROOM}");
    let words = ["-t", "tmpfs", "-o", &size, "none", &small.to_string_lossy()];
    program("mount", words)?.exits(0)?;
    for image in ["waits.raw", "told.raw"] {
        File::create(small.join(image))?.set_len(1 << 20)?;
    }
    Ok(fs::write(small.join("ballast"), vec![1; BALLAST])?)
}

/// A disk that the device mapper makes, so that it can be told to fail: the data twice.
fn disk_of_the_mapper(host: &Lab) -> Outcome {
    fs::write(host.path("images/bad.raw"), data().repeat(2))?;
    program("modprobe", ["dm-mod"])?.exits(0)?;
    let image = host.path("images/bad.raw");
    let words = ["--find", "--show", &image.to_string_lossy()];
    let device = program("losetup", words)?.exits(0)?.out;
    fs::write(host.path("images/loop"), device.trim())?;
    let create = ["create", "bad", "--notable"].into_iter().chain(ALONE);
    program("dmsetup", create)?.exits(0)?;
    table(host, GOOD)?;
    program("dmsetup", ["mknodes", "bad"])?.exits(0).map(drop)
}

/// Tells the mapper what the disk is from now on.
fn table(host: &Lab, text: &str) -> Outcome {
    let device = fs::read_to_string(host.path("images/loop"))?;
    let file = host.path("images/table");
    fs::write(&file, text.replace("LOOP", &device))?;
    program("dmsetup", ["load", "bad", &file.to_string_lossy()])?.exits(0)?;
    let resume = ["resume", "bad"].into_iter().chain(ALONE);
    program("dmsetup", resume)?.exits(0).map(drop)
}

/// What the guest writes.
fn data() -> Vec<u8> {
    let lines = (FIRST..=FIRST + LINES).map(|number| format!("{number}\n"));
    let mut data = lines.collect::<String>().into_bytes();
    data.truncate(DATA);
    data
}

/// Has the guest run a command, which it may be paused in: not before its answer to this is out.
fn start(db: &Guest, command: &str) -> Outcome {
    let line = format!(
        "rm -f /tmp/said; {{ sleep 1; {command}; echo ended $?; }} >/tmp/said 2>&1 </dev/null &"
    );
    let (status, said) = db.run(&line)?;
    ensure(status == 0, || format!("{command:?} did not start: {said}"))
}

/// Waits until the command that was started has ended well.
fn ends_well(db: &Guest) -> Outcome {
    eventually(SOON, "the guest's command ends", || {
        let (_, said) = db.run("cat /tmp/said")?;
        ensure(said.ends_with("ended 0\n"), || format!("it said {said:?}"))
    })?;
    Ok(())
}

/// Has the guest run a command that ends with an error of the disk.
fn is_told(db: &Guest, command: &str) -> Outcome {
    let (status, said) = db.run(command)?;
    ensure(status == 1 && said.contains("Input/output error"), || {
        format!("{command:?} ended with {status}: {said:?}")
    })
}

/// Waits until the agent knows that the guest is paused, and why.
fn is_paused(host: &Lab, why: &str) -> Outcome {
    eventually(SOON, "the guest is paused", || {
        host.vireo("status")?.exits(1)?.says(why)
    })?;
    Ok(())
}
