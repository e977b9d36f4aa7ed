//! Which driver a definition has, or what of it is refused where.

use vireo_reconciler::ledger::Ledger;
use vireo_reconciler::resolve::Driver;

use super::{build, domain};

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
