//! Where a device stands in its definition.

use std::fmt;

/// A device's path, such as `devices/disk[2]`: put into words only where something is reported of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DevicePath {
    kind: &'static str,
    number: usize,
}

impl DevicePath {
    /// The path of the device at this place among those of its kind (its element's name), counted from 0.
    pub(crate) fn new(kind: &'static str, at: usize) -> Self {
        Self {
            kind,
            number: at + 1,
        }
    }

    /// Whether it is of this kind.
    pub(crate) fn is(self, kind: &str) -> bool {
        self.kind == kind
    }

    /// The place among those of this kind, counted from 0, if it is of it.
    pub(crate) fn among(self, kind: &str) -> Option<usize> {
        self.is(kind).then(|| self.number - 1)
    }
}

impl fmt::Display for DevicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "devices/{}[{}]", self.kind, self.number)
    }
}
