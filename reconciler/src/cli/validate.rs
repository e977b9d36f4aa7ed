//! `vireo validate`: check definitions, change nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rayon::prelude::*;
use serde::Serialize;
use vireo_schema::{Diagnostic, Document, Rule, Source};

use super::complaint::{Problem, located};
use super::input::Input;
use super::{Common, DONE, Format, PROBLEM, output};

/// Checks files each by itself, and directories also for references between their documents.
#[derive(Debug, Args)]
pub struct Validate {
    /// Files or directories; `-` reads standard input
    #[arg(required_unless_present = "rules")]
    paths: Vec<PathBuf>,

    /// List the rules that definitions are held to, each with an example of what breaks it
    #[arg(long, conflicts_with = "paths")]
    rules: bool,
}

impl Validate {
    /// Exit status: 0 no problems, 1 problems.
    pub fn run(self, common: &Common) -> miette::Result<u8> {
        if self.rules {
            let listed: Vec<Listed> = Rule::ALL.iter().copied().map(Listed::from).collect();
            output::print(common.output, &listed, || in_words(&listed))?;
            return Ok(DONE);
        }
        let checked: Vec<Checked> = self
            .paths
            .into_par_iter()
            .map(check)
            .collect::<miette::Result<_>>()?;
        let files: usize = checked.iter().map(|checked| checked.files).sum();
        let definitions: usize = checked.iter().map(|checked| checked.definitions).sum();
        let mut problems: Vec<(Arc<Source>, Diagnostic)> = checked
            .into_iter()
            .flat_map(|checked| checked.problems)
            .collect();
        problems.sort_by(|(a, one), (b, other)| (&a.path, one.span).cmp(&(&b.path, other.span)));
        if common.output == Format::Text {
            for (source, problem) in &problems {
                eprintln!("{:?}", located(source, problem));
            }
        }
        let listed: Vec<Problem> = problems
            .iter()
            .map(|(source, problem)| Problem::new(source, problem))
            .collect();
        output::print(common.output, &listed, || {
            let of = (count(definitions, "definition"), count(files, "file"));
            let (by_file, total) = totals(&listed);
            format!("{by_file}{} in {}, {total}", of.0, of.1)
        })?;
        Ok(if listed.is_empty() { DONE } else { PROBLEM })
    }
}

/// The problems of each file where there are several, and of all.
fn totals(problems: &[Problem]) -> (String, String) {
    let mut by_file: BTreeMap<&str, usize> = BTreeMap::new();
    for problem in problems {
        *by_file.entry(&problem.file).or_default() += 1;
    }
    let total = match problems.len() {
        0 => "no problems".to_owned(),
        many => count(many, "problem"),
    };
    if by_file.len() < 2 {
        return (String::new(), total);
    }
    let lines = by_file
        .iter()
        .map(|(file, many)| format!("{file}: {}\n", count(*many, "problem")))
        .collect();
    (lines, format!("{total} in {} of them", by_file.len()))
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A rule for programs.
#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    meaning: &'static str,
    example: &'static str,
}

impl From<Rule> for Listed {
    fn from(rule: Rule) -> Self {
        Self {
            name: rule.name(),
            meaning: rule.meaning(),
            example: rule.example(),
        }
    }
}

/// The rules for people: a name, what it means, and what breaks it.
fn in_words(rules: &[Listed]) -> String {
    let mut text = String::new();
    for rule in rules {
        let example: String = rule
            .example
            .lines()
            .map(|line| format!("      {line}\n"))
            .collect();
        text.push_str(&format!("{}\n  {}\n{example}", rule.name, rule.meaning));
    }
    text
}

/// What came of one path. Of what has no problems, nothing is kept: any number of files can be checked in the room of a few.
struct Checked {
    files: usize,
    definitions: usize,
    problems: Vec<(Arc<Source>, Diagnostic)>,
}

fn check(path: PathBuf) -> miette::Result<Checked> {
    let input = Input::read(&path)?;
    let documents = input.documents();
    let mut problems: Vec<(Arc<Source>, Diagnostic)> = Vec::new();
    let mut definitions = 0;
    for document in documents {
        definitions += document.definitions.len() + document.broken.len();
        let own = document
            .problems
            .iter()
            .map(|problem| (document.source.clone(), problem.clone()));
        problems.extend(own);
    }
    if let Input::Directory(documents) = &input {
        let documents: Vec<&Document> = documents.iter().map(AsRef::as_ref).collect();
        problems.extend(vireo_schema::check(&documents));
    }
    Ok(Checked {
        files: documents.len(),
        definitions,
        problems,
    })
}
