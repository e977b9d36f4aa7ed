//! Runs scenarios one after another, each in a process of its own with a time limit, and tells how they went.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Lab;
use super::command::run;
use super::failure::Outcome;

/// One story.
pub struct Scenario {
    /// The file's name under `tests/scenarios`.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// It is ended after this long.
    pub time_limit: Duration,
    /// The story.
    pub run: fn(&Lab) -> Outcome,
}

/// What `vireo-lab` does with its arguments: `list`, `run NAME…` (all without a name), `one NAME`. The exit status.
pub fn main(scenarios: &[Scenario]) -> i32 {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((verb, [])) if verb == "list" => {
            for scenario in scenarios {
                println!("{:<16} {}", scenario.name, scenario.about);
            }
            0
        }
        Some((verb, [name])) if verb == "one" => match scenarios.iter().find(|s| s.name == name) {
            Some(scenario) => one(scenario),
            None => unknown(name),
        },
        Some((verb, names)) if verb == "run" => {
            if let Some(name) = names
                .iter()
                .find(|name| !scenarios.iter().any(|s| s.name == **name))
            {
                return unknown(name);
            }
            several(
                scenarios
                    .iter()
                    .filter(|s| names.is_empty() || names.iter().any(|name| name == s.name)),
            )
        }
        _ => {
            eprintln!(
                "vireo-lab list | run [NAME…] | one NAME (the last two inside the lab: tests/lab/run)"
            );
            1
        }
    }
}

fn unknown(name: &str) -> i32 {
    eprintln!("there is no scenario {name}; see: vireo-lab list");
    1
}

fn one(scenario: &Scenario) -> i32 {
    match Lab::start().and_then(|lab| (scenario.run)(&lab)) {
        Ok(()) => 0,
        Err(failure) => {
            println!("      FAILED: {failure}");
            surroundings();
            1
        }
    }
}

fn several<'a>(scenarios: impl Iterator<Item = &'a Scenario>) -> i32 {
    let (mut passed, mut failed) = (0, 0);
    for scenario in scenarios {
        println!("    {}: {}", scenario.name, scenario.about);
        let start = Instant::now();
        let good = in_own_process(scenario);
        let verdict = if good { "ok" } else { "FAILED" };
        println!(
            "    {verdict}  {} ({:.1} s)",
            scenario.name,
            start.elapsed().as_secs_f64()
        );
        if good { passed += 1 } else { failed += 1 }
    }
    println!("{passed} passed, {failed} failed");
    i32::from(failed > 0)
}

fn in_own_process(scenario: &Scenario) -> bool {
    let started = std::env::current_exe().and_then(|own| {
        Command::new(own)
            .args(["one", scenario.name])
            .process_group(0)
            .spawn()
    });
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            println!("      could not start: {error}");
            return false;
        }
    };
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if start.elapsed() < scenario.time_limit => {
                std::thread::sleep(Duration::from_millis(100));
            }
            _ => {
                println!(
                    "      FAILED: ended after its time limit of {} s",
                    scenario.time_limit.as_secs()
                );
                surroundings();
                // The group is the scenario with its agent; guests have sessions of their own and go with the next clean-up.
                let _ = run("kill", ["-9", &format!("-{}", child.id())]);
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// What a reader of the failure will ask for next.
fn surroundings() {
    let script = format!(
        "cd {root}; ip -br link; ip -br addr; ps -eo pid,etimes,args | grep -E '[v]ireo|[q]emu|[d]nsmasq' | cut -c1-200; \
         nft list tables; for f in agent.log runtime/guests/*/console.log runtime/guests/*/log runtime/networks/*/log; do \
         [ -s \"$f\" ] && echo \"--- $f\" && tail -n 15 \"$f\" | cut -c1-300; done",
        root = super::ROOT
    );
    if let Ok(ran) = run("bash", ["-c", &script]) {
        for line in ran.out.lines().chain(ran.err.lines()) {
            println!("        | {line}");
        }
    }
}
