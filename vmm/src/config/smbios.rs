//! What the machine says of itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Problems;
use crate::smbios::{NAMES, release};

/// Strings of the SMBIOS tables. What is left out is the monitor's own, or nothing; the guest's UUID is always there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Smbios {
    /// By libvirt's names for them: `system.serial`, `bios.vendor`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub strings: BTreeMap<String, String>,
    /// Texts of the maker's, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub oem_strings: Vec<String>,
}

impl Smbios {
    /// Longest string, in bytes.
    pub const LONGEST: usize = 255;
    /// Most texts of the maker's.
    pub const MOST_OEM_STRINGS: usize = 64;
}

pub(super) fn check(smbios: &Smbios, p: &mut Problems) {
    let sound = |text: &str| (1..=Smbios::LONGEST).contains(&text.len()) && !text.contains('\0');
    for (name, text) in &smbios.strings {
        let field = format!("smbios.strings.{name}");
        let known = NAMES.contains(&name.as_str());
        p.require(
            &field,
            known,
            format!("one of {} is wanted", NAMES.join(", ")),
        );
        p.require(&field, sound(text), "1 to 255 bytes are wanted");
        let is_release = name == "bios.release";
        p.require(
            field,
            !is_release || release(text).is_some(),
            "two numbers up to 255 are wanted: 1.2",
        );
    }
    let texts = &smbios.oem_strings;
    p.require(
        "smbios.oem-strings",
        texts.iter().all(|text| sound(text)),
        "1 to 255 bytes are wanted",
    );
    p.require(
        "smbios.oem-strings",
        texts.len() <= Smbios::MOST_OEM_STRINGS,
        "at most 64 are possible",
    );
}
