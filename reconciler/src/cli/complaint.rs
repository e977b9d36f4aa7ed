//! Problems as people read them: the message, the line it is about, and what would be accepted.

use std::io::IsTerminal as _;
use std::sync::Arc;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report,
    ReportHandler,
};
use serde::Serialize;
use vireo_schema::{Diagnostic, Source};

use super::Color;
use super::output::coloured;

/// Decides how reports look from now on.
pub fn install(color: Color) {
    let coloured = coloured(color, &std::io::stderr());
    // Set once, here, at the start; a second hook would be refused and change nothing.
    let _ = miette::set_hook(Box::new(move |_| {
        let theme = match (coloured, std::io::stderr().is_terminal()) {
            (true, _) => GraphicalTheme::unicode(),
            (false, true) => GraphicalTheme::unicode_nocolor(),
            (false, false) => GraphicalTheme::none(),
        };
        Box::new(Handler(
            GraphicalReportHandler::new_themed(theme)
                .with_width(100)
                .with_links(false),
        ))
    }));
}

struct Handler(GraphicalReportHandler);

impl ReportHandler for Handler {
    fn debug(
        &self,
        error: &dyn miette::Diagnostic,
        f: &mut std::fmt::Formatter<'_>,
    ) -> std::fmt::Result {
        self.0.render_report(f, error)
    }
}

/// An error with its causes as a report.
pub fn plain(error: &dyn std::error::Error) -> Report {
    Report::new(MietteDiagnostic::new(crate::status::chain(error)))
}

/// A problem of a definition, with its line shown.
pub fn located(source: &Source, problem: &Diagnostic) -> Report {
    let length = problem.span.end.saturating_sub(problem.span.start).max(1);
    let label = if problem.path.is_empty() {
        None
    } else {
        Some(problem.path.clone())
    };
    let mut diagnostic = MietteDiagnostic::new(problem.message.clone())
        .with_code(problem.rule.name())
        .with_label(LabeledSpan::new(label, problem.span.start, length));
    if let Some(help) = &problem.help {
        diagnostic = diagnostic.with_help(help.clone());
    }
    Report::new(diagnostic).with_source_code(NamedSource::new(
        source.path.display().to_string(),
        source.text.clone(),
    ))
}

/// A problem for programs.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// File.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The rule's short name.
    pub rule: String,
    /// The element's path.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be accepted.
    pub help: Option<String>,
}

impl Problem {
    /// A problem of this source.
    pub fn new(source: &Arc<Source>, problem: &Diagnostic) -> Self {
        let position = source.position(problem.span.start);
        Self {
            file: source.path.display().to_string(),
            line: position.line,
            column: position.column,
            rule: problem.rule.to_string(),
            path: problem.path.clone(),
            message: problem.message.clone(),
            help: problem.help.clone(),
        }
    }
}
