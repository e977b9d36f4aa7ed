//! The story that vireo exists for: two guests on a network, and a filter, a weight and a bandwidth limit that come and go while they run.

use std::fs;
use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Failure, Guest, Lab, Outcome, Process, ensure, kernel};

pub const SCENARIO: Scenario = Scenario {
    name: "story",
    about: "two KVM guests under the builtin driver; filter, weight, bandwidth and hooks, live",
    time_limit: Duration::from_secs(420),
    run,
};

/// How a story's guests are run.
pub struct Cast {
    /// The program that runs a guest.
    pub monitor: &'static str,
    /// How long both guests may take from nothing to an answer.
    pub boot: Duration,
    /// The line of `web.xml` after which a filter reference or a bandwidth goes.
    pub model: &'static str,
}

fn run(host: &Lab) -> Outcome {
    host.desired("story")?;
    tell(
        host,
        &Cast {
            monitor: "vireo-vmm",
            boot: Duration::from_secs(120),
            model: "<model type='virtio'/>",
        },
    )
}

/// The story itself, over the definitions that are in the desired directory already.
pub fn tell(host: &Lab, cast: &Cast) -> Outcome {
    let web = host.guest("web", "192.168.122.11");
    let db = host.guest("db", "192.168.122.12");
    record_hooks(host)?;

    host.step(
        "the plan names what it would make, and changes nothing",
        || {
            host.vireo("plan")?
                .exits(2)?
                .says("web")?
                .says("db")?
                .says("default")?
                .says("web.qcow2")?;
            ensure(kernel::links()? == ["lo"], || "planning made a link".into())
        },
    )?;
    host.step("apply", || host.vireo("apply --yes")?.exits(0))?;
    host.step("both guests answer on the network", || {
        host.all_answer(&[&web, &db], cast.boot)
    })?;
    host.step(
        "the monitor is the one expected, and nothing is left to do",
        || {
            for guest in [&web, &db] {
                let program = guest.process()?.program();
                ensure(program == cast.monitor, || {
                    format!("{} is run by {program}", guest.name)
                })?;
            }
            host.vireo("plan")?.exits(0)
        },
    )?;
    host.step("db sees its cells, and how far apart they are", || {
        let (_, told) = db.run("cd /sys/devices/system/node && cat online node1/distance")?;
        ensure(told.trim() == "0-1\n21 10", || told.clone())
    })?;
    host.step("the hooks ran in order", || hooks_ran(host))?;
    host.step("db pings web", || pings(&web, &db, true))?;

    let before = Life::of(&web)?;
    weight(host, &web)?;
    filter(host, cast, &web, &db)?;
    bandwidth(host, cast, &web)?;
    host.step(
        "web has run through all of it: same process, same boot, uptime gone on",
        || before.goes_on(&web),
    )?;
    leaving(host, &web, &db)
}

/// What must stay the same while a guest is changed live.
struct Life {
    process: Process,
    boot: String,
    uptime: f64,
}

impl Life {
    fn of(guest: &Guest) -> Outcome<Self> {
        let who = guest.who()?;
        Ok(Self {
            process: guest.process()?,
            boot: who.boot,
            uptime: who.uptime,
        })
    }

    fn goes_on(&self, guest: &Guest) -> Outcome {
        let now = Self::of(guest)?;
        ensure(now.process == self.process, || {
            format!("{:?} became {:?}", self.process, now.process)
        })?;
        ensure(now.boot == self.boot, || "the guest booted again".into())?;
        ensure(now.uptime > self.uptime, || {
            format!("uptime went from {} to {}", self.uptime, now.uptime)
        })
    }
}

fn record_hooks(host: &Lab) -> Outcome {
    for object in ["qemu", "network", "daemon"] {
        let log = host.path("hooks.log");
        host.hook(
            object,
            &format!(
                "#!/bin/sh\nread -r first\necho \"{object} $* <${{first%%[ >]*}}\" >>{}\ncat >/dev/null\n",
                log.display()
            ),
        )?;
    }
    Ok(())
}

/// The lines that the hooks wrote for one object, in order.
fn hook_lines(host: &Lab, object: &str) -> Outcome<Vec<String>> {
    let text = fs::read_to_string(host.path("hooks.log")).unwrap_or_default();
    Ok(text
        .lines()
        .filter(|line| line.contains(object))
        .map(str::to_string)
        .collect())
}

fn hooks_ran(host: &Lab) -> Outcome {
    let expected = [
        "qemu web prepare begin - <<domain",
        "qemu web start begin - <<domain",
        "qemu web started begin - <<domain",
    ];
    let seen = hook_lines(host, "qemu web ")?;
    ensure(seen == expected, || {
        format!("the qemu hook saw {seen:?} instead of {expected:?}")
    })?;
    let seen = hook_lines(host, "network default ")?;
    let first_two = [
        "network default start begin - <<hookData",
        "network default started begin - <<hookData",
    ];
    ensure(seen.starts_with(&first_two.map(String::from)), || {
        format!("the network hook saw {seen:?}, which does not start with {first_two:?}")
    })?;
    let ports = seen
        .iter()
        .filter(|line| line.contains("port-created begin -"))
        .count();
    ensure(ports == 2, || {
        format!("the network hook saw {ports} ports created, not 2: {seen:?}")
    })
}

fn pings(web: &Guest, db: &Guest, wanted: bool) -> Outcome {
    let answered = web.answers_ping_from(db)?;
    ensure(answered == wanted, || {
        format!("db's pings of web were answered: {answered}, wanted: {wanted}")
    })
}

fn weight(host: &Lab, web: &Guest) -> Outcome {
    host.step("shares 2048 show in web's control group", || {
        host.edit(
            "web.xml",
            "<os>",
            "<cputune>\n    <shares>2048</shares>\n  </cputune>\n  <os>",
        )?;
        host.vireo("plan")?.exits(2)?.says("2048")?;
        host.vireo("apply --yes")?.exits(0)?;
        let group = web.process()?.cgroup()?;
        let weights: Vec<String> = group
            .ancestors()
            .filter_map(|level| fs::read_to_string(level.join("cpu.weight")).ok())
            .map(|text| text.trim().to_string())
            .collect();
        ensure(weights.iter().any(|weight| weight == "2048"), || {
            format!("cpu.weight in {} and above: {weights:?}", group.display())
        })
    })
}

fn filter(host: &Lab, cast: &Cast, web: &Guest, db: &Guest) -> Outcome {
    let with = format!("{}\n      <filterref filter='no-icmp'/>", cast.model);
    host.step("filterref no-icmp stops the ping, while TCP passes", || {
        host.edit("web.xml", cast.model, &with)?;
        host.vireo("apply --yes")?.exits(0)?;
        pings(web, db, false)?;
        ensure(!web.answers_ping()?, || {
            "web answers the host's ping".into()
        })?;
        ensure(web.answers_tcp_from(db)?, || {
            "TCP from db to web does not pass".into()
        })?;
        ensure(db.answers_ping()?, || {
            "db, which has no filter, does not answer ping".into()
        })
    })?;
    host.step("without the filter ping passes again", || {
        host.edit("web.xml", &with, cast.model)?;
        host.vireo("apply --yes")?.exits(0)?;
        pings(web, db, true)
    })
}

/// KiB/s, in both directions: little enough for a guest that is emulated twice.
const RATE: f64 = 256.0;

fn bandwidth(host: &Lab, cast: &Cast, web: &Guest) -> Outcome {
    let during = Duration::from_secs(6);
    let limit = format!(
        "{}\n      <bandwidth>\n        <inbound average='{RATE}' burst='32'/>\n        <outbound average='{RATE}' burst='32'/>\n      </bandwidth>",
        cast.model
    );
    let (into, from) = host.step("rates without a limit", || {
        Ok((web.takes(during)?, web.gives(during)?))
    })?;
    host.say(&format!(
        "         takes {into:.0} KiB/s, gives {from:.0} KiB/s"
    ));
    host.step("a limit holds to within 20% in both directions", || {
        host.edit("web.xml", cast.model, &limit)?;
        host.vireo("apply --yes")?.exits(0)?;
        within(host, "takes", || web.takes(during))?;
        within(host, "gives", || web.gives(during))
    })?;
    host.step("without the limit it is gone", || {
        host.edit("web.xml", &limit, cast.model)?;
        host.vireo("apply --yes")?.exits(0)?;
        let rate = web.takes(during)?;
        ensure(rate > RATE * 1.2 || into < RATE * 1.2, || {
            format!("web still takes only {rate:.0} KiB/s")
        })
    })
}

/// Measures until the rate is within 20% of the limit, six times at most: what else a machine does can only make a transfer slower, so one above the limit fails at once.
fn within(host: &Lab, what: &str, measure: impl Fn() -> Outcome<f64>) -> Outcome {
    let mut rate = 0.0;
    for _ in 0..6 {
        rate = measure()?;
        host.say(&format!("         {what} {rate:.0} KiB/s of {RATE:.0}"));
        ensure(rate / RATE <= 1.2, || {
            format!("web {what} {rate:.0} KiB/s, limit {RATE:.0}")
        })?;
        if rate / RATE >= 0.8 {
            return Ok(());
        }
    }
    Err(Failure::new(format!(
        "web {what} {rate:.0} KiB/s, limit {RATE:.0}, and not more in six tries"
    )))
}

fn leaving(host: &Lab, web: &Guest, db: &Guest) -> Outcome {
    let process = web.process()?;
    let tap = web.tap()?;
    host.step(
        "web's definition goes: it shuts down, nothing of it is left but its volume",
        || {
            host.remove("web.xml")?;
            host.vireo("apply --yes")?.exits(0)?;
            ensure(!process.runs(), || format!("{process:?} still runs"))?;
            ensure(!kernel::links()?.contains(&tap), || {
                format!("{tap} is left")
            })?;
            ensure(host.path("images/web.qcow2").exists(), || {
                "the volume was removed".into()
            })?;
            for (family, name) in kernel::tables()? {
                let table = kernel::table(&family, &name)?;
                ensure(!table.contains(&tap), || {
                    format!("table {family} {name} still names {tap}:\n{table}")
                })?;
            }
            ensure(db.answers_ping()?, || "db does not answer any more".into())?;
            let seen = hook_lines(host, "qemu web ")?;
            let last: Vec<&str> = seen.iter().rev().take(2).map(String::as_str).collect();
            ensure(
                last.len() == 2
                    && last[1].contains("stopped end")
                    && last[0].contains("release end"),
                || format!("the qemu hook's last calls were {last:?}"),
            )
        },
    )
}
