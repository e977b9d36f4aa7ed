//! What the sandbox is made of, and what of it is there.
//!
//! A layer that this host cannot give is told with its reason, in the log, in an event and in the monitor's status; a configuration that says
//! `sandbox: strict` is refused instead.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A layer that a host may not be able to give. What every host can give (no capabilities, no new privileges, system calls by
/// list, bounded resources) is not among them: without it no guest runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// A user and a group that own nothing else on the host.
    User,
    /// A mount namespace whose only directory is empty, read-only and closed.
    Root,
    /// A network namespace without a link in it.
    Network,
    /// Its own System V and POSIX message objects.
    Ipc,
    /// A process namespace in which there is nobody else.
    Pid,
    /// Landlock, allowing no file, no port and no abstract socket.
    Landlock,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "own user",
            Self::Root => "empty root",
            Self::Network => "own network",
            Self::Ipc => "own ipc",
            Self::Pid => "own processes",
            Self::Landlock => "landlock",
        })
    }
}

/// A layer that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Which.
    pub layer: Layer,
    /// Why, for people.
    pub reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.layer, self.reason)
    }
}

/// What holds the monitor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Layers that are there.
    pub held: Vec<Layer>,
    /// Layers that are not.
    pub missing: Vec<Missing>,
}

impl Layers {
    /// Notes how a layer came out.
    pub(super) fn note(&mut self, layer: Layer, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.held.push(layer),
            Err(reason) => self.missing.push(Missing { layer, reason }),
        }
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(items: &[T]) -> String {
            items
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        }
        f.write_str("held by system calls by list, no capabilities")?;
        if !self.held.is_empty() {
            write!(f, ", {}", list(&self.held))?;
        }
        if !self.missing.is_empty() {
            write!(f, "; not by {}", list(&self.missing))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_its_reason() {
        let mut layers = Layers::default();
        layers.note(Layer::Root, Ok(()));
        layers.note(Layer::Landlock, Err("this kernel has none".into()));
        assert_eq!(
            layers.to_string(),
            "held by system calls by list, no capabilities, empty root; not by landlock (this kernel has none)"
        );
    }
}
