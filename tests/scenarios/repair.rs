//! Damage of every kind under a running agent, each mended within two seconds.

use std::fs;
use std::time::{Duration, Instant};

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Guest, Lab, Outcome, ensure, eventually, kernel, run as program};

pub const SCENARIO: Scenario = Scenario {
    name: "repair",
    about: "guest killed; tap, bridge, table, qdisc, cgroup value, dnsmasq damaged: mended in two seconds",
    time_limit: Duration::from_secs(600),
    run,
};

/// How long the agent may take, as vireo promises.
const SOON: Duration = Duration::from_secs(2);
/// How long a guest may take to boot and answer.
const BOOT: Duration = Duration::from_secs(120);

fn run(host: &Lab) -> Outcome {
    host.desired("story")?;
    host.edit(
        "web.xml",
        "<os>",
        "<cputune>\n    <shares>2048</shares>\n  </cputune>\n  <os>",
    )?;
    host.edit(
        "web.xml",
        "<model type='virtio'/>",
        "<model type='virtio'/>\n      <bandwidth>\n        <inbound average='4096'/>\n      </bandwidth>\n      <filterref filter='no-icmp'/>",
    )?;
    let web = host.guest("web", "192.168.122.11");
    let db = host.guest("db", "192.168.122.12");

    let mut agent = host.agent()?;
    host.step("the agent brings both guests up", || {
        host.all_answer(&[&web, &db], BOOT)
    })?;
    host.step("the agent settles", || {
        eventually(Duration::from_secs(30), "the plan is empty", || {
            host.vireo("plan")?.exits(0)
        })
    })?;
    ensure(agent.runs()?, || "the agent has ended".into())?;

    control_group(host, &web)?;
    qdisc(host, &web)?;
    table(host, &web)?;
    dnsmasq(host)?;
    bridge(host, &web, &db)?;
    tap(host, &db)?;
    guest_process(host, &web)?;
    volume(host, &web)?;
    ensure(agent.runs()?, || "the agent has ended".into())
}

/// Does the damage, then waits for the host to be as it was, and prints how long that took.
fn mended<T>(
    host: &Lab,
    what: &str,
    damage: impl FnOnce() -> Outcome,
    good: impl FnMut() -> Outcome<T>,
) -> Outcome<T> {
    let (value, took) = host.step(what, || {
        damage()?;
        let start = Instant::now();
        // Far longer than the promise, so that a miss is told with its time.
        let (value, _) = eventually(SOON * 15, what, good)?;
        Ok((value, start.elapsed()))
    })?;
    host.say(&format!(
        "         mended after {:.2} s",
        took.as_secs_f64()
    ));
    // Where the lab itself is emulated, its processors are many times slower than any that vireo is for.
    let allowed = if kernel::emulated()? { SOON * 3 } else { SOON };
    ensure(took <= allowed, || {
        format!("{what}: took {:.2} s", took.as_secs_f64())
    })?;
    Ok(value)
}

fn control_group(host: &Lab, web: &Guest) -> Outcome {
    let group = web.process()?.cgroup()?;
    let file = group
        .ancestors()
        .map(|level| level.join("cpu.weight"))
        .find(|file| fs::read_to_string(file).is_ok_and(|text| text.trim() == "2048"));
    let file = file.unwrap_or_else(|| group.join("cpu.weight"));
    mended(
        host,
        "a control group value is changed",
        || Ok(fs::write(&file, "77")?),
        || {
            let now = fs::read_to_string(&file)?;
            ensure(now.trim() == "2048", || {
                format!("cpu.weight is {}", now.trim())
            })
        },
    )
}

fn qdisc(host: &Lab, web: &Guest) -> Outcome {
    let tap = web.tap()?;
    let before = kernel::qdiscs(&tap)?;
    ensure(!before.is_empty(), || {
        format!("{tap} has no qdisc to delete")
    })?;
    mended(
        host,
        "a qdisc is deleted",
        || {
            program("tc", ["qdisc", "del", "dev", &tap, "root"])?
                .exits(0)
                .map(drop)
        },
        || {
            let now = kernel::qdiscs(&tap)?;
            ensure(now.len() == before.len(), || {
                format!("{before:?} became {now:?}")
            })
        },
    )
}

fn ruleset() -> Outcome<String> {
    Ok(program("nft", ["--stateless", "list", "ruleset"])?
        .exits(0)?
        .out)
}

fn table(host: &Lab, web: &Guest) -> Outcome {
    let before = ruleset()?;
    ensure(before.contains("icmp"), || {
        format!("no rule speaks of icmp:\n{before}")
    })?;
    mended(
        host,
        "the packet filter is flushed",
        || program("nft", ["flush", "ruleset"])?.exits(0).map(drop),
        || {
            let mut was: Vec<&str> = before.lines().collect();
            let now = ruleset()?;
            let mut is: Vec<&str> = now.lines().collect();
            // Chains and elements may come back in another order.
            was.sort_unstable();
            is.sort_unstable();
            ensure(is == was, || format!("the rules became\n{now}"))
        },
    )?;
    ensure(!web.answers_ping()?, || {
        "web answers ping although its filter is back".into()
    })
}

fn dnsmasq(host: &Lab) -> Outcome {
    let before = kernel::processes("dnsmasq")?;
    let server = *before
        .first()
        .ok_or_else(|| vireo_tests::lab::Failure::new("no dnsmasq runs"))?;
    mended(
        host,
        "dnsmasq is killed",
        || server.kill(),
        || {
            let now = kernel::processes("dnsmasq")?;
            ensure(
                !now.is_empty() && now.iter().all(|p| !before.contains(p)),
                || format!("dnsmasq: {now:?}"),
            )
        },
    )
}

fn bridge(host: &Lab, web: &Guest, db: &Guest) -> Outcome {
    let taps = [web.tap()?, db.tap()?];
    let processes = [web.process()?, db.process()?];
    mended(
        host,
        "the bridge is removed",
        || {
            program("ip", ["link", "delete", "dev", "virbr0"])?
                .exits(0)
                .map(drop)
        },
        || {
            for tap in &taps {
                ensure(kernel::master(tap)? == "virbr0", || {
                    format!("{tap} is elsewhere")
                })?;
            }
            let shown = program("ip", ["-br", "addr", "show", "dev", "virbr0"])?
                .exits(0)?
                .out;
            ensure(shown.contains("192.168.122.1/24"), || {
                format!("virbr0 has no address: {shown}")
            })
        },
    )?;
    host.step("both guests answer again, not restarted", || {
        host.all_answer(&[web, db], Duration::from_secs(30))?;
        ensure(processes == [web.process()?, db.process()?], || {
            "a guest's process is another one".into()
        })
    })
}

fn tap(host: &Lab, db: &Guest) -> Outcome {
    let tap = db.tap()?;
    mended(
        host,
        "a tap is removed",
        || {
            program("ip", ["link", "delete", "dev", &tap])?
                .exits(0)
                .map(drop)
        },
        || {
            let master = kernel::master(&tap)?;
            ensure(master == "virbr0", || format!("{tap} is in {master}"))
        },
    )?;
    host.step("db answers again", || db.comes_up(BOOT))?;
    Ok(())
}

fn guest_process(host: &Lab, web: &Guest) -> Outcome {
    let (tap, before) = (web.tap()?, web.process()?);
    mended(
        host,
        "a guest's process is killed",
        || before.kill(),
        || {
            let now = kernel::holders_of_tap(&tap)?;
            ensure(now.len() == 1 && !now.contains(&before), || {
                format!("{tap} is held by {now:?}")
            })
        },
    )?;
    host.step("web answers again", || web.comes_up(BOOT))?;
    Ok(())
}

fn volume(host: &Lab, web: &Guest) -> Outcome {
    let process = web.process()?;
    host.step("web is wanted stopped, and stops", || {
        let policy = "<metadata>\n    <vireo:policy xmlns:vireo='urn:vireo:policy:1' state='stopped'/>\n  </metadata>\n  <os>";
        host.edit("web.xml", "<os>", policy)?;
        eventually(Duration::from_secs(60), "web's process ends", || {
            ensure(!process.runs(), || "it runs".into())
        })
    })?;
    let file = host.path("images/web.qcow2");
    host.step(
        "its volume's file is deleted: told as a loss of data, not made anew",
        || {
            fs::remove_file(&file)?;
            eventually(
                Duration::from_secs(10),
                "the status tells of the loss",
                || host.vireo("status")?.says("web.qcow2")?.says("data"),
            )?;
            std::thread::sleep(Duration::from_secs(3));
            ensure(!file.exists(), || {
                "an empty volume has taken its place".into()
            })
        },
    )
}
