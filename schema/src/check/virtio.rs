//! Options that only virtio devices take, where something else states them.

use super::one::Report;
use crate::rule::Rule;
use std::fmt::{Arguments, Display};

/// Refuses the options that are stated of a device at `path`; `of` says whose they are.
pub(super) fn refuse(
    options: impl IntoIterator<Item = (&'static str, bool)>,
    path: Arguments<'_>,
    of: impl Display,
    help: Option<&str>,
    r: &mut Report<'_>,
) {
    for (name, _) in options.into_iter().filter(|(_, stated)| *stated) {
        r.add(
            Rule::VirtioOption,
            format_args!("{path}/driver/@{name}"),
            format!("`{name}` is of {of}"),
            help,
        );
    }
}
