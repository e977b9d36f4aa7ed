//! Names and rule texts that are fit to stand in a rule set: whoever has one need not look at it again.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// Longest name of a chain or map that we make, in bytes. (The kernel takes 255, older `nft` 127.)
pub const NAME_MAX: usize = 127;

/// A text that cannot stand in a rule set where it was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A chain's or map's name.
    #[error(
        "cannot name a chain or map {0:?}: 1 to {NAME_MAX} letters, digits, '-', '_', '.' and '/', a letter first"
    )]
    Identifier(String),
    /// A network interface's name.
    #[error(
        "cannot match interface {0:?} in nftables: 1 to 15 letters, digits, '-', '_', '.', ':' and '@'"
    )]
    Interface(String),
    /// A rule's text, read back from a plan.
    #[error("rule {0:?} holds a character that could end the rule or start another")]
    Rule(String),
}

/// Declares a checked string type whose every value matches `$valid`.
macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, $error:path, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and takes `text`.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err($error(text)) }
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_identifier(text: &str) -> bool {
    text.len() <= NAME_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
}

fn is_interface(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '@'))
}

fn is_rule_text(text: &str) -> bool {
    !text.is_empty()
        && !text
            .chars()
            .any(|c| c.is_control() || matches!(c, ';' | '#' | '\\'))
}

checked_string!(
    /// The name of a chain. Ours all hold a hyphen, so that none is a word of nft's own.
    ChainName,
    NameError::Identifier,
    is_identifier
);

checked_string!(
    /// The name of a verdict map.
    MapName,
    NameError::Identifier,
    is_identifier
);

checked_string!(
    /// The name of a network interface, fit to be quoted in a rule: no quotes, no wildcard.
    IfName,
    NameError::Interface,
    is_interface
);

checked_string!(
    /// One rule, without its comment.
    RuleText,
    NameError::Rule,
    is_rule_text
);

impl IfName {
    /// The name as it may stand within a chain's name. Different names stay different: what a chain's name cannot hold is written `/xx`,
    /// and an interface's name has no slash.
    pub fn in_chain_name(&self) -> String {
        let mut out = String::new();
        for c in self.0.chars() {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                out.push(c);
            } else {
                // Writing to a String cannot fail.
                let _ = write!(out, "/{:02x}", u32::from(c));
            }
        }
        out
    }

    /// The name in quotes, as rules and map keys have it.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl ChainName {
    /// A chain's or table's name that is a constant of this crate.
    pub(in crate::compile) fn fixed(name: &'static str) -> ChainName {
        debug_assert!(is_identifier(name));
        ChainName(name.to_owned())
    }

    /// `PREFIX-REST` from a fixed prefix and text that is fit for a chain's name (an interface's [`IfName::in_chain_name`], a digest).
    /// Characters that do not fit become `_`, and what is too long is cut: callers keep both from happening.
    pub(in crate::compile) fn compose(prefix: &str, rest: &str) -> ChainName {
        let mut name: String = format!("{prefix}-{rest}")
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/') {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        name.truncate(NAME_MAX);
        ChainName(name)
    }
}

impl MapName {
    /// A map name that is a constant of this crate.
    pub(in crate::compile) fn fixed(name: &'static str) -> MapName {
        debug_assert!(is_identifier(name));
        MapName(name.to_owned())
    }
}

impl RuleText {
    /// A rule that this crate has built from checked values.
    pub(in crate::compile) fn built(text: impl Into<String>) -> RuleText {
        let text = text.into();
        debug_assert!(is_rule_text(&text), "{text}");
        RuleText(text)
    }
}
