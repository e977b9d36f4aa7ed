//! Landlock: the kernel's own word that no thread of the monitor opens a file, binds or connects a port, or reaches an abstract socket, whatever else
//! goes wrong. Descriptors that are open already keep working.
//!
//! Signals are not in its scope here: kernels before 6.15 then refuse signals between the monitor's own threads, which is how vcpus are stopped.

use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreated, RulesetError, Scope,
};

/// Rules that allow nothing, or nothing where the kernel has no Landlock.
#[derive(Debug)]
pub(super) struct Rules(Option<RulesetCreated>);

impl Rules {
    /// Makes the rules, as many as this kernel knows.
    ///
    /// # Errors
    /// Why there is no Landlock; [`Rules::none`] is what to go on with then.
    pub(super) fn make() -> Result<Self, String> {
        match rules() {
            Ok(rules) => Ok(Self(Some(rules))),
            Err(error) => Err(format!("this kernel has none: {error}")),
        }
    }

    /// No rules.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Binds the calling thread. It must have renounced new privileges.
    pub(super) fn enter(&self) -> io::Result<()> {
        let Some(rules) = &self.0 else {
            return Ok(());
        };
        let rules = rules.try_clone()?;
        rules.restrict_self().map(drop).map_err(io::Error::other)
    }
}

fn rules() -> Result<RulesetCreated, RulesetError> {
    // Files are what every Landlock knows; the rest came later and is taken where it is there.
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V6))?
        .handle_access(AccessNet::from_all(ABI::V6))?
        .scope(Scope::AbstractUnixSocket)?
        .create()
}
