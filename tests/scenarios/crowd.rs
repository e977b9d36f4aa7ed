//! Twenty guests at once, over and over: what they had of the host is given back, all of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Lab, Outcome, ensure, eventually, kernel, run as program};

pub const SCENARIO: Scenario = Scenario {
    name: "crowd",
    about: "twenty guests started at once and ended, twice: no process, tap, control group, rule or socket is left",
    time_limit: Duration::from_secs(900),
    run,
};

const GUESTS: u32 = 20;
const ROUNDS: u32 = 2;

fn run(host: &Lab) -> Outcome {
    host.write("network.xml", include_str!("story/network.xml"))?;
    write(host, "stopped")?;
    host.step("a network, and twenty guests that are not to run", || {
        host.vireo("apply --yes")?.exits(0)
    })?;
    let before = picture()?;
    for round in 1..=ROUNDS {
        write(host, "running")?;
        host.step(&format!("round {round}: all are started"), || {
            // A monitor that an emulated lab leaves no time for does not answer within the seconds that a start waits: the next apply finds it.
            eventually(Duration::from_secs(120), "all are applied", || {
                host.vireo("apply --yes")?.exits(0)
            })?;
            let all = GUESTS as usize;
            eventually(Duration::from_secs(60), "all run", || {
                let processes = kernel::processes("vireo-vmm")?.len();
                ensure(processes == all, || format!("{processes} monitors"))
            })?;
            let taps = taps()?;
            ensure(taps.len() == all, || format!("taps: {taps:?}"))
        })?;
        write(host, "stopped")?;
        host.step(
            &format!("round {round}: all are ended, and nothing of them is left"),
            || {
                host.vireo("apply --yes")?.exits(0)?;
                let after = picture()?;
                ensure(after == before, || {
                    format!("the host changed from\n{before}\nto\n{after}")
                })
            },
        )?;
    }
    Ok(())
}

/// Writes the guests. They rest once they have booted, and have no ear for a power button.
fn write(host: &Lab, state: &str) -> Outcome {
    for number in 1..=GUESTS {
        host.write(
            &format!("guest{number}.yaml"),
            &format!(
                "domain: guest{number}\ntype: kvm\nmemory: 32 MiB\nvcpu: 1\nkernel: {}\ncmdline: test=boot end=rest\n\
                 policy: {{state: {state}, shutdown-timeout: 1s}}\ninterfaces:\n- {{network: default, model: virtio}}\nconsoles:\n- {{type: pty}}\n",
                host.path("boot/testguest").display()
            ),
        )?;
    }
    Ok(())
}

fn taps() -> Outcome<Vec<String>> {
    let mut links = kernel::links()?;
    links.retain(|link| {
        Path::new("/sys/class/net")
            .join(link)
            .join("tun_flags")
            .exists()
    });
    Ok(links)
}

/// What guests take of a host: links, control groups, rules, processes, sockets, terminals.
fn picture() -> Outcome<String> {
    let mut text = format!("links {:?}\n", kernel::links()?);
    text += &format!("monitors {:?}\n", kernel::processes("vireo-vmm")?);
    text += &format!(
        "control groups {:?}\n",
        groups(Path::new("/sys/fs/cgroup/vireo"))?
    );
    let sockets = fs::read_to_string("/proc/net/unix")?;
    let mut sockets: Vec<_> = sockets
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7))
        .filter(|path| path.contains("vireo"))
        .collect();
    sockets.sort_unstable();
    text += &format!("sockets {sockets:?}\n");
    text += &format!(
        "terminals {}",
        fs::read_to_string("/proc/sys/kernel/pty/nr")?
    );
    text += &program("nft", ["--stateless", "list", "ruleset"])?
        .exits(0)?
        .out;
    Ok(text)
}

/// The names of all groups below one that may not be there.
fn groups(group: &Path) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    let Ok(entries) = fs::read_dir(group) else {
        return Ok(names);
    };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        names.push(entry.file_name().to_string_lossy().into_owned());
        names.extend(groups(&entry.path())?);
    }
    names.sort();
    Ok(names)
}
