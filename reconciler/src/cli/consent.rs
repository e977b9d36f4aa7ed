//! Asking before something is done.

use std::io::{IsTerminal as _, Write as _};

use miette::{IntoDiagnostic as _, bail};

/// Whether whoever sits at the terminal agrees; `verb` is what they asked for, for the error when nobody is there.
///
/// # Errors
/// Standard input is no terminal: nobody can be asked.
pub(super) fn asked(verb: &str) -> miette::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!(
            help = format!("say --yes to {verb} without being asked"),
            "nobody is there to ask"
        );
    }
    eprint!("Do this? [y/N] ");
    std::io::stderr().flush().into_diagnostic()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).into_diagnostic()?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
