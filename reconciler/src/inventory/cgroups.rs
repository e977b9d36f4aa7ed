//! Our control groups, by guest: which there are, and their values as they would be stated.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::host::ObserveError;
use crate::host::cgroup::Cgroups;
use crate::resolve::domain::Tuning;

/// Looks at every control group of ours.
///
/// # Errors
/// A group that cannot be read.
pub fn collect(cgroups: &Cgroups) -> Result<BTreeMap<Uuid, Tuning>, ObserveError> {
    cgroups.collect().map_err(|error| ObserveError {
        what: "control groups",
        why: crate::domain::with_causes(&error),
    })
}
