//! Applying twice: the second time finds nothing to do, says so, and leaves the host as it is.

use std::path::Path;
use std::time::Duration;

use vireo_tests::lab::runner::Scenario;
use vireo_tests::lab::{Lab, Outcome, clean, ensure, kernel, run as program};

pub const SCENARIO: Scenario = Scenario {
    name: "twice",
    about: "apply twice: the second does nothing, for desired-state/ and for the quickstart",
    time_limit: Duration::from_secs(180),
    run,
};

fn run(host: &Lab) -> Outcome {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    program("mkdir", ["-p", "/var/lib/vireo/quickstart"])?.exits(0)?;
    program(
        "ln",
        [
            "-sfn",
            &host.path("boot").to_string_lossy(),
            "/var/lib/vireo/quickstart/boot",
        ],
    )?
    .exits(0)?;
    for directory in ["desired-state", "examples/quickstart/desired"] {
        let desired = top.join(directory).canonicalize()?;
        let flags = format!(
            "--desired {} --state-dir {} ",
            desired.display(),
            host.path("state").join("twice").display()
        );
        host.step(
            &format!("{directory}: the first apply does something"),
            || {
                host.vireo(&format!("plan {flags}"))?.exits(2)?;
                host.vireo(&format!("apply --yes {flags}"))?.exits(0)
            },
        )?;
        let before = picture()?;
        host.step(
            &format!("{directory}: the second says that there is nothing to do, and does nothing"),
            || {
                host.vireo(&format!("plan {flags}"))?
                    .exits(0)?
                    .says("nothing to do")?;
                host.vireo(&format!("apply --yes {flags}"))?
                    .exits(0)?
                    .says("nothing to do")?;
                let after = picture()?;
                ensure(after == before, || {
                    format!("the host changed from\n{before}\nto\n{after}")
                })
            },
        )?;
        clean::everything()?;
        Lab::start()?;
    }
    Ok(())
}

/// Links with their addresses, the packet filter's rules, and who runs.
fn picture() -> Outcome<String> {
    let mut text = format!("{:?}\n", kernel::links()?);
    text += &program("nft", ["--stateless", "list", "ruleset"])?
        .exits(0)?
        .out;
    for name in ["dnsmasq", "vireo-vmm", "qemu-system-x86_64"] {
        text += &format!("{name}: {:?}\n", kernel::processes(name)?);
    }
    Ok(text)
}
