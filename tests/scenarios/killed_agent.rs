//! `kill -9` of an apply at moments spread over all of it: the next one converges, and no guest is started twice or again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Lab, Outcome, Process, ensure, eventually, kernel};

pub const SCENARIO: Scenario = Scenario {
    name: "killed-agent",
    about: "kill -9 in the middle of an apply, at moments spread over it: the next run converges",
    time_limit: Duration::from_secs(600),
    run,
};

/// How many moments are tried, evenly spread over the time that a whole apply takes.
const MOMENTS: u32 = 10;

fn run(host: &Lab) -> Outcome {
    host.desired("story")?;
    let whole = host.step("a whole apply", || {
        Ok(host.vireo("apply --yes")?.exits(0)?.took)
    })?;
    host.step(
        "the agent is killed while guests run: they run on, and the next finds them",
        || {
            let before = monitors()?;
            ensure(before.len() == 2, || format!("{before:?} run"))?;
            let agent = host.agent()?;
            std::thread::sleep(whole);
            agent.kill()?;
            ensure(monitors()? == before, || {
                "the guests' processes are others".into()
            })?;
            host.vireo("plan")?.exits(0)
        },
    )?;
    for moment in 1..=MOMENTS {
        let fresh = Lab::start()?;
        fresh.desired("story")?;
        let after = whole * moment / (MOMENTS + 1);
        fresh.step(
            &format!("killed after {:.2} s", after.as_secs_f64()),
            || killed_after(&fresh, after),
        )?;
    }
    Ok(())
}

fn killed_after(host: &Lab, after: Duration) -> Outcome {
    let mut apply = host.vireo_started("apply --yes")?;
    let start = Instant::now();
    while start.elapsed() < after {
        std::thread::sleep(Duration::from_millis(5));
    }
    apply.kill()?;
    apply.wait()?;
    let before = settled_monitors()?;
    host.vireo("apply --yes")?.exits(0)?;
    let now = monitors()?;
    ensure(before.is_subset(&now), || {
        format!("guests that ran were ended: {before:?} became {now:?}")
    })?;
    ensure(now.len() == 2, || format!("two guests, but {now:?}"))?;
    let mut held = BTreeSet::new();
    for link in kernel::links()? {
        for holder in kernel::holders_of_tap(&link)? {
            ensure(held.insert(holder), || format!("{holder:?} holds two taps"))?;
        }
    }
    ensure(held == now, || {
        format!("taps are held by {held:?}, monitors are {now:?}")
    })?;
    host.vireo("plan")?.exits(0)?;
    Ok(())
}

fn monitors() -> Outcome<BTreeSet<Process>> {
    Ok(kernel::processes("vireo-vmm")?.into_iter().collect())
}

/// The monitors once their number no longer changes: one may have been about to start when its starter was killed.
fn settled_monitors() -> Outcome<BTreeSet<Process>> {
    let mut last = monitors()?;
    let mut same_for = 0;
    eventually(Duration::from_secs(10), "the monitors settle", || {
        let now = monitors()?;
        same_for = if now == last { same_for + 1 } else { 0 };
        last = now;
        ensure(same_for >= 6, || "they come and go".into())?;
        Ok(last.clone())
    })
    .map(|(monitors, _)| monitors)
}
