//! `vireo validate`: check definitions, change nothing.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rayon::prelude::*;
use vireo_schema::{Diagnostic, Document, Source};

use super::complaint::{Problem, located, plain};
use super::output;
use super::{Common, DONE, Format, PROBLEM};
use crate::source::SourceError;
use crate::source::directory::Directories;

/// Checks files each by itself, and directories also for references between their documents.
#[derive(Debug, Args)]
pub struct Validate {
    /// Files or directories
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

impl Validate {
    /// Exit status: 0 no problems, 1 problems.
    pub fn run(self, common: &Common) -> miette::Result<u8> {
        let checked: Vec<Checked> = self
            .paths
            .into_par_iter()
            .map(check)
            .collect::<Result<_, SourceError>>()
            .map_err(|error| plain(&error))?;
        let files: usize = checked.iter().map(|checked| checked.files).sum();
        let definitions: usize = checked.iter().map(|checked| checked.definitions).sum();
        let problems: Vec<(Arc<Source>, Diagnostic)> = checked
            .into_iter()
            .flat_map(|checked| checked.problems)
            .collect();
        if common.output == Format::Text {
            for (source, problem) in &problems {
                eprintln!("{:?}", located(source, problem));
            }
        }
        let listed: Vec<Problem> = problems
            .iter()
            .map(|(source, problem)| Problem::new(source, problem))
            .collect();
        output::print(common.output, &listed, || match listed.len() {
            0 => format!("{definitions} definitions in {files} files, no problems"),
            1 => format!("{definitions} definitions in {files} files, 1 problem"),
            n => format!("{definitions} definitions in {files} files, {n} problems"),
        })?;
        Ok(if listed.is_empty() { DONE } else { PROBLEM })
    }
}

/// What came of one path. Of what has no problems, nothing is kept: any number of files can be checked in the room of a few.
struct Checked {
    files: usize,
    definitions: usize,
    problems: Vec<(Arc<Source>, Diagnostic)>,
}

fn check(path: PathBuf) -> Result<Checked, SourceError> {
    let is_directory = path.is_dir();
    let documents = Directories::new(vec![path]).read()?;
    let mut problems: Vec<(Arc<Source>, Diagnostic)> = Vec::new();
    let mut definitions = 0;
    for document in &documents {
        definitions += document.definitions.len() + document.broken.len();
        let own = document
            .problems
            .iter()
            .map(|problem| (document.source.clone(), problem.clone()));
        problems.extend(own);
    }
    if is_directory {
        let documents: Vec<&Document> = documents.iter().map(AsRef::as_ref).collect();
        problems.extend(vireo_schema::check(&documents));
    }
    Ok(Checked {
        files: documents.len(),
        definitions,
        problems,
    })
}
