//! The scenarios of the lab, one file each. `tests/lab/run target/debug/vireo-lab run NAME` runs one; `tests/run` runs all.

mod crowd;
mod debian;
mod disk_boot;
mod failing_disks;
mod killed_agent;
mod pressure;
mod refusals;
mod repair;
mod root_ports;
mod shared_device;
mod story;
mod story_qemu;
mod taps;
mod twice;

use vireo_tests::lab::runner::{self, Scenario};

const SCENARIOS: &[Scenario] = &[
    refusals::SCENARIO,
    disk_boot::SCENARIO,
    twice::SCENARIO,
    pressure::SCENARIO,
    failing_disks::SCENARIO,
    root_ports::SCENARIO,
    taps::SCENARIO,
    shared_device::SCENARIO,
    story::SCENARIO,
    repair::SCENARIO,
    killed_agent::SCENARIO,
    story_qemu::SCENARIO,
    crowd::SCENARIO,
    debian::DISK,
    debian::CLOUD,
    debian::GENERIC,
];

fn main() {
    std::process::exit(runner::main(SCENARIOS));
}
