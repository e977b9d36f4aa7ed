//! What a command line names to be read: standard input (`-`), a file or a pipe.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use miette::{IntoDiagnostic as _, WrapErr as _};
use vireo_schema::{Document, Source};

use super::complaint::plain;
use crate::source::directory;

/// What people are shown in the place of a path.
pub(super) const NAME: &str = "<standard input>";

/// All of it.
///
/// # Errors
/// It cannot be read, or is not UTF-8 text.
pub(super) fn whole() -> miette::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .into_diagnostic()
        .wrap_err("cannot read standard input")?;
    Ok(text)
}

/// The definitions of standard input, of a file or of a pipe; none where the path leads to a directory.
///
/// # Errors
/// It leads to nothing, or standard input cannot be read.
pub(super) fn file(path: &Path) -> miette::Result<Option<Document>> {
    if path != Path::new("-") {
        return directory::file_at(path).map_err(|error| plain(&error));
    }
    let source = Source::new(NAME, whole()?);
    Ok(Some(vireo_schema::read(&Arc::new(source))))
}
