//! Maps whose keys are not text, written as lists of pairs, so that every format of serde can hold them.
//!
//! For `#[serde(with = "crate::pairs")]`. A key that occurs twice in what is read is an error.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes a map as a list of `[key, value]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
    map: &BTreeMap<K, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map)
}

/// Reads a list of `[key, value]`.
///
/// # Errors
/// Those of the deserializer, and a key that occurs twice.
pub fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let mut map = BTreeMap::new();
    for (key, value) in Vec::<(K, V)>::deserialize(deserializer)? {
        if map.insert(key, value).is_some() {
            return Err(D::Error::custom("a key occurs twice"));
        }
    }
    Ok(map)
}
