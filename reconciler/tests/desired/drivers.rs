//! Which driver a definition has, or what of it is refused where.

use vireo_reconciler::ledger::Ledger;
use vireo_reconciler::resolve::Driver;

use super::{build, domain, rules};

/// What is said of something that is refused, at which line and column.
pub type Refused = (String, u32, u32);

/// The driver of the guest `web` and why it is that one, or what is refused where.
pub fn driver_of_web(text: &str) -> Result<(Driver, String), Vec<Refused>> {
    let desired = build(&[("web.xml", text)], &Ledger::default());
    if desired.problems.is_empty() {
        let web = domain(&desired, "web");
        return Ok((web.driver, web.driver_why.clone()));
    }
    let problems = desired.problems.into_iter().map(|problem| {
        let place = problem.location.unwrap();
        (problem.message, place.line, place.column)
    });
    Err(problems.collect())
}

#[test]
fn a_script_without_a_path_runs_nothing_and_one_with_a_path_is_refused() {
    let guest = |path: &str| {
        format!(
            "<domain type='kvm'><name>web</name><memory>524288</memory><os><type>hvm</type><kernel>/boot/vmlinuz</kernel></os>\
             <devices><interface type='ethernet'><script path='{path}'/><downscript path=''/></interface></devices></domain>"
        )
    };
    let desired = |path| build(&[("web.xml", guest(path).as_str())], &Ledger::default());
    assert_eq!(domain(&desired(""), "web").interfaces.len(), 1);
    let refused = desired("/etc/qemu-ifup");
    assert_eq!(rules(&refused), ["unsupported"]);
    assert!(
        refused.problems[0].message.contains("<script>"),
        "{:?}",
        refused.problems
    );
}
