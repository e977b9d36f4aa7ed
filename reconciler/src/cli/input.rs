//! What is read from standard input, where a command line says `-`.

use std::io::Read as _;

use miette::{IntoDiagnostic as _, WrapErr as _};

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
