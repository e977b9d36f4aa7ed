//! Rules on packet filters.

use super::one::Report;
use crate::nwfilter::{Entry, NwFilter};
use crate::rule::Rule;

/// Every rule on packet filters.
pub(crate) fn check(filter: &NwFilter, r: &mut Report<'_>) {
    let references = filter.entries.iter().filter_map(|entry| match entry {
        Entry::FilterRef(reference) => Some(reference),
        Entry::Rule(_) => None,
    });
    for (i, reference) in references.enumerate() {
        if reference.filter.is_some() && reference.filter == filter.name {
            r.report(
                Rule::FilterLoop,
                &format!("filterref[{}]/@filter", i + 1),
                "the filter refers to itself",
            );
        }
    }
}
