//! A guest that needs more memory than its control group may have: it is ended by the kernel and started again by the agent, and the others do not notice.

use std::fs;
use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Failure, Lab, Outcome, Process, ensure, eventually, kernel};

pub const SCENARIO: Scenario = Scenario {
    name: "pressure",
    about: "a guest beyond its memory limit is ended by the kernel and started again; its neighbour runs on",
    time_limit: Duration::from_secs(300),
    run,
};

const EATER: &str = "0e0e0e0e-0a0a-4c0c-8d0d-0e0e0e0e0e01";
const CALM: &str = "0e0e0e0e-0a0a-4c0c-8d0d-0e0e0e0e0e02";

fn run(host: &Lab) -> Outcome {
    write(host, "calm", CALM, "", "boot")?;
    let _agent = host.agent()?;
    let calm = host.step("a guest runs", || monitor(CALM))?;
    write(
        host,
        "eater",
        EATER,
        "<memtune><hard_limit unit='MiB'>48</hard_limit></memtune>",
        "boot,eat",
    )?;
    let first = host.step(
        "another starts, and touches more memory than it may have",
        || monitor(EATER),
    )?;
    host.step("the kernel ends it", || {
        eventually(Duration::from_secs(60), "it ends", || {
            ensure(!first.runs(), || format!("{first:?} runs"))
        })
    })?;
    host.step("the agent starts it again", || {
        let (again, _) = eventually(Duration::from_secs(60), "it runs", || {
            let again = monitor(EATER)?;
            ensure(again != first, || "it is the same process".into())?;
            Ok(again)
        })?;
        let events = fs::read_to_string(again.cgroup()?.join("memory.events"))?;
        host.say(&format!(
            "         memory.events: {}",
            events.trim().replace('\n', ", ")
        ));
        Ok(())
    })?;
    host.step("the other one has not noticed", || {
        ensure(calm.runs() && monitor(CALM)? == calm, || {
            "it is another process".into()
        })
    })?;
    // With its limit gone it has what it needs, and stays.
    write(host, "eater", EATER, "", "boot,eat")?;
    host.step("without the limit it stays", || {
        eventually(Duration::from_secs(90), "it stays", || {
            let now = monitor(EATER)?;
            std::thread::sleep(Duration::from_secs(5));
            ensure(now.runs(), || format!("{now:?} ended"))
        })
    })?;
    ensure(calm.runs(), || "the neighbour ended".into())
}

fn write(host: &Lab, name: &str, uuid: &str, tune: &str, tests: &str) -> Outcome {
    let kernel = host.path("boot/testguest");
    host.write(
        &format!("{name}.xml"),
        &format!(
            "<domain type='kvm'>\n  <name>{name}</name>\n  <uuid>{uuid}</uuid>\n  <memory unit='MiB'>128</memory>\n  {tune}\n  <vcpu>1</vcpu>\n  <os>\n    \
             <type arch='x86_64'>hvm</type>\n    <kernel>{}</kernel>\n    <cmdline>test={tests} end=rest</cmdline>\n  </os>\n  \
             <devices>\n    <console type='pty'/>\n  </devices>\n</domain>\n",
            kernel.display()
        ),
    )
}

/// The monitor of the guest with this UUID, once it is in the guest's control group.
fn monitor(uuid: &str) -> Outcome<Process> {
    let (process, _) = eventually(Duration::from_secs(60), "its monitor runs", || {
        let all = kernel::processes("vireo-vmm")?;
        let found = all.into_iter().find(|process| {
            process
                .cgroup()
                .is_ok_and(|group| group.to_string_lossy().contains(uuid))
        });
        found.ok_or_else(|| Failure::new(format!("no monitor in a group of {uuid}")))
    })?;
    Ok(process)
}
