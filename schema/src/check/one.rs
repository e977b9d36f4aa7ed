//! Rules on one definition: which apply to its kind, and how they report.

use super::{addresses, devices, disks, drives, machine, record, sources, storage};
use crate::complete::targets::with_targets;
use crate::definition::Definition;
use crate::diagnostic::Diagnostic;
use crate::document::Located;
use crate::element::decode::MOST;
use crate::rule::Rule;
use std::fmt::Display;

/// Everything wrong between the fields of one definition.
pub(crate) fn one(located: &Located) -> Vec<Diagnostic> {
    let mut report = Report {
        located,
        problems: Vec::new(),
        found: 0,
    };
    let needs_name = !matches!(
        located.definition,
        Definition::Secret(_) | Definition::DomainSnapshot(_) | Definition::DomainCheckpoint(_)
    );
    if needs_name && located.definition.name().is_empty() {
        report.add(Rule::MissingName, "", "the definition has no name", None);
    }
    match &located.definition {
        Definition::Domain(domain) => {
            disks::named(domain, &mut report);
            let domain = &*with_targets(domain);
            machine::check(domain, &mut report);
            disks::check(domain, &mut report);
            drives::check(domain, &mut report);
            sources::check(domain, &mut report);
            devices::check(domain, &mut report);
            addresses::check(domain, &mut report);
        }
        Definition::Network(network) => super::network::check(network, &mut report),
        Definition::Pool(pool) => storage::pool(pool, &mut report),
        Definition::Volume(volume) => storage::volume(volume, &mut report),
        Definition::Secret(secret) => storage::secret(secret, &mut report),
        Definition::NwFilter(filter) => super::filter::check(filter, &mut report),
        Definition::DomainSnapshot(snapshot) => record::snapshot(snapshot, &mut report),
        Definition::DomainCheckpoint(point) => record::checkpoint(point, &mut report),
        Definition::NetworkPort(port) => record::port(port, &mut report),
        Definition::NwFilterBinding(_) => {}
    }
    record::policy(located, &mut report);
    report.finish()
}

/// Collects problems, each at a path of the definition.
pub(crate) struct Report<'l> {
    located: &'l Located,
    problems: Vec<Diagnostic>,
    found: usize,
}

impl Report<'_> {
    /// Whether the definition is written in XML.
    pub(crate) fn is_xml(&self) -> bool {
        self.located.source.is_xml()
    }

    /// Notes a problem at the field of that path, or at the closest element around it that is stated.
    pub(crate) fn add(
        &mut self,
        rule: Rule,
        path: impl Display,
        message: impl Into<String>,
        help: Option<&str>,
    ) {
        self.found += 1;
        if self.found > MOST {
            return;
        }
        let path = path.to_string();
        let full = format!("{}/{path}", self.located.kind().root());
        let mut problem = Diagnostic::new(rule, self.located.spans.nearest(&path), message)
            .at(full.trim_end_matches('/'));
        problem.help = help.map(str::to_owned);
        self.problems.push(problem);
    }

    fn finish(mut self) -> Vec<Diagnostic> {
        if let Some(more @ 1..) = self.found.checked_sub(MOST) {
            let span = self.located.spans.nearest("");
            let message = format!("there are {more} more problems in this definition");
            self.problems
                .push(Diagnostic::new(Rule::MoreProblems, span, message));
        }
        self.problems
    }

    /// The same without help.
    pub(crate) fn report(&mut self, rule: Rule, path: impl Display, message: impl Into<String>) {
        self.add(rule, path, message, None);
    }
}
