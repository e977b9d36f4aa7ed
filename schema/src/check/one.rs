//! Rules on one definition.

use crate::definition::Definition;
use crate::diagnostic::Diagnostic;
use crate::document::Located;

/// Everything wrong between the fields of one definition.
pub(crate) fn one(located: &Located) -> Vec<Diagnostic> {
    let mut report = Report {
        located,
        problems: Vec::new(),
    };
    if located.definition.name().is_empty() && !matches!(located.definition, Definition::Secret(_))
    {
        report.add("missing", "", "the definition has no name", None);
    }
    report.problems
}

/// Collects problems, each at a path of the definition.
pub(crate) struct Report<'l> {
    located: &'l Located,
    pub(crate) problems: Vec<Diagnostic>,
}

impl Report<'_> {
    pub(crate) fn add(
        &mut self,
        rule: &'static str,
        path: &str,
        message: impl Into<String>,
        help: Option<&str>,
    ) {
        let mut problem = Diagnostic::new(rule, self.located.spans.nearest(path), message)
            .at(format!("{}/{path}", self.located.kind().root()).trim_end_matches('/'));
        problem.help = help.map(str::to_owned);
        self.problems.push(problem);
    }
}
