//! What a command line names to be read: standard input (`-`), a file, a pipe or a directory.

use std::path::Path;
use std::sync::Arc;

use miette::{IntoDiagnostic as _, WrapErr as _};
use vireo_schema::{Document, Source};

use super::complaint::plain;
use crate::source::directory::{self, Directories};

/// What people are shown in the place of a path.
pub(super) const NAME: &str = "<standard input>";

/// The definitions that one argument names.
pub(super) enum Input {
    /// Of standard input, of a file or of a pipe.
    One(Arc<Document>),
    /// Of a directory, in order of path.
    Directory(Vec<Arc<Document>>),
}

impl Input {
    /// Reads it. What is there, but is no text or too large, is a document with a problem.
    ///
    /// # Errors
    /// The path leads to nothing, or a directory or standard input cannot be read.
    pub(super) fn read(path: &Path) -> miette::Result<Self> {
        if path == Path::new("-") {
            let source = Source::new(NAME, standard()?);
            return Ok(Self::One(Arc::new(vireo_schema::read(&Arc::new(source)))));
        }
        if let Some(document) = directory::file_at(path).map_err(|error| plain(&error))? {
            return Ok(Self::One(Arc::new(document)));
        }
        let directory = Directories::new(vec![path.to_owned()]);
        let documents = directory.read().map_err(|error| plain(&error))?;
        Ok(Self::Directory(documents))
    }

    /// Its documents.
    pub(super) fn documents(&self) -> &[Arc<Document>] {
        match self {
            Self::One(document) => std::slice::from_ref(document),
            Self::Directory(documents) => documents,
        }
    }
}

/// All of standard input.
///
/// # Errors
/// It cannot be read, is larger than a file of definitions may be, or is not UTF-8 text.
pub(super) fn standard() -> miette::Result<String> {
    directory::text_from(std::io::stdin().lock())
        .into_diagnostic()
        .wrap_err("cannot read standard input")
}
