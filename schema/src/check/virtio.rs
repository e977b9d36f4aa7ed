//! Options that only virtio devices take, where something else states them.

use super::one::Report;
use crate::rule::Rule;

/// Refuses the options that are stated of a device at `path`; `of` says whose they are.
pub(super) fn refuse(
    options: impl IntoIterator<Item = (&'static str, bool)>,
    path: &str,
    of: &str,
    help: Option<&str>,
    r: &mut Report<'_>,
) {
    for (name, _) in options.into_iter().filter(|(_, stated)| *stated) {
        r.add(
            Rule::VirtioOption,
            &format!("{path}/driver/@{name}"),
            format!("`{name}` is of {of}"),
            help,
        );
    }
}
