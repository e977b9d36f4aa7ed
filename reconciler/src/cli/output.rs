//! Printing objects, and deciding on colour.

use std::io::{self, IsTerminal, Write as _};

use miette::{IntoDiagnostic as _, WrapErr as _};
use serde::Serialize;

use super::{Color, Format};

/// Whether text for this stream is coloured.
pub fn coloured(color: Color, stream: &impl IsTerminal) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            stream.is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    }
}

/// Prints a value for programs, or its text for people.
///
/// # Errors
/// When standard output is closed.
pub fn print(
    format: Format,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> miette::Result<()> {
    let mut rendered = match format {
        Format::Text => text(),
        Format::Json => serde_json::to_string_pretty(value)
            .into_diagnostic()
            .wrap_err("cannot write JSON")?,
        Format::Yaml => serde_yaml::to_string(value)
            .into_diagnostic()
            .wrap_err("cannot write YAML")?,
    };
    if !rendered.is_empty() && !rendered.ends_with('\n') {
        rendered.push('\n');
    }
    match io::stdout().lock().write_all(rendered.as_bytes()) {
        // Whoever read has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other
            .into_diagnostic()
            .wrap_err("cannot write to standard output"),
    }
}

/// Rows as columns, each as wide as its widest cell but for the last. Empty without rows.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|name| name.len()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(head.to_vec());
    for row in rows {
        text.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let rows = vec![
            vec!["web".to_owned(), "Ready".to_owned()],
            vec!["database".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["NAME", "STATE"], &rows),
            "NAME      STATE\nweb       Ready\ndatabase\n"
        );
    }

    #[test]
    fn no_rows_are_no_table() {
        assert_eq!(table(&["NAME"], &[]), "");
    }
}
