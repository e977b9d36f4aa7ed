//! Where each stated field of a definition is: path of elements to place.
//!
//! Places are needed where a difference is shown, which for most definitions is never: they are made from the definition's text when they are first asked for. They
//! are written and read as the plain map that they are.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vireo_schema::SpanTable;

use crate::plan::step::Location;
use crate::resolve::from::place;

/// The places of a definition's fields.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    spans: Option<SpanTable>,
    places: OnceLock<BTreeMap<String, Location>>,
}

impl Fields {
    /// The fields that a definition states.
    pub fn stated(spans: &SpanTable) -> Self {
        Self {
            spans: Some(spans.clone()),
            places: OnceLock::new(),
        }
    }

    /// Where a field is, if just that is stated.
    pub fn get(&self, field: &str) -> Option<&Location> {
        self.places().get(field)
    }

    /// Where a field is: itself, the first thing in it, or what it is in.
    pub fn locate(&self, field: &str) -> Option<Location> {
        let places = self.places();
        let mut path = field;
        loop {
            if let Some(location) = places.get(path) {
                return Some(location.clone());
            }
            let inside = format!("{path}/");
            if let Some((key, location)) = places.range(inside.clone()..).next()
                && key.starts_with(&inside)
            {
                return Some(location.clone());
            }
            path = path.get(..path.rfind('/')?)?;
        }
    }

    fn places(&self) -> &BTreeMap<String, Location> {
        self.places.get_or_init(|| {
            let Some(spans) = &self.spans else {
                return BTreeMap::new();
            };
            let stated = spans.all().into_iter();
            stated
                .map(|one| (one.path, place(spans.source(), one.span.start)))
                .collect()
        })
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.places() == other.places()
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.places().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(|places| Self {
            spans: None,
            places: places.into(),
        })
    }
}
