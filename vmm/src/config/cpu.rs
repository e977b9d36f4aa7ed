//! The guest's processors as they were asked for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Vcpus;
use super::check::Problems;
use crate::cpuid::features::Feature;
use crate::cpuid::models::{self, Model};
use crate::cpuid::topology;

/// What the guest's processors look like.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cpu {
    /// Whose features they have.
    #[serde(default)]
    pub mode: CpuMode,
    /// The model, with mode `custom`: `Haswell-noTSX`, `EPYC-Rome`, `x86-64-v3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Single features, which go before the mode's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<CpuFeature>,
}

impl Cpu {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Whose features the guest's processors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CpuMode {
    /// All that KVM can give on this host.
    #[default]
    HostPassthrough,
    /// All of that which has a name.
    HostModel,
    /// Those of a model and no other.
    Custom,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CpuFeature {
    /// Its name, as libvirt and Linux spell it: `avx2`, `sse4.2`, `pcid`.
    pub name: String,
    /// What is to be done with it.
    pub policy: FeaturePolicy,
}

/// What is to be done with a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FeaturePolicy {
    /// The guest has it, whether the host does or not.
    Force,
    /// The guest has it; where the host lacks it the guest does not start.
    Require,
    /// The guest has it where the host does.
    Optional,
    /// The guest does not have it.
    Disable,
    /// The guest does not have it; where the host does the guest does not start.
    Forbid,
}

/// How the vcpus are grouped. Each is at least 1; together they are at least as many as there are vcpus, which are taken in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Topology {
    /// Sockets of the machine.
    pub sockets: u32,
    /// Dies of a socket.
    #[serde(default = "one")]
    pub dies: u32,
    /// Cores of a die.
    pub cores: u32,
    /// Threads of a core.
    #[serde(default = "one")]
    pub threads: u32,
}

fn one() -> u32 {
    1
}

pub(super) fn check(vcpus: &Vcpus, cpu: &Cpu, p: &mut Problems) {
    if let Some(topology) = vcpus.topology {
        check_topology(vcpus, topology, p);
    }
    let custom = cpu.mode == CpuMode::Custom;
    p.require(
        "cpu.model",
        cpu.model.is_some() == custom,
        "mode custom needs a model, and no other has one",
    );
    if let Some(model) = &cpu.model {
        let known: Vec<_> = models::names().collect();
        p.require(
            "cpu.model",
            Model::named(model).is_some(),
            format!(
                "{model:?} is not among {}, with or without {}",
                known.join(", "),
                models::suffixes().collect::<Vec<_>>().join(", ")
            ),
        );
    }
    for (i, feature) in cpu.features.iter().enumerate() {
        let name = &feature.name;
        p.require(
            format!("cpu.features[{i}].name"),
            Feature::named(name).is_some(),
            format!(
                "{name:?} is not a feature that is known; names are libvirt's, like avx2 or sse4.2"
            ),
        );
    }
}

fn check_topology(vcpus: &Vcpus, stated: Topology, p: &mut Problems) {
    const FIELD: &str = "vcpus.topology";
    /// Identifiers of one byte, of which the last means everybody.
    const LAST: u32 = 254;
    let numbers = [stated.sockets, stated.dies, stated.cores, stated.threads];
    let product = numbers
        .iter()
        .try_fold(1_u32, |product, n| product.checked_mul(*n))
        .filter(|product| (1..=1024).contains(product));
    let Some(product) = product else {
        return p.require(
            FIELD,
            false,
            "each number is at least 1, and all together at most 1024",
        );
    };
    let count = vcpus.count;
    p.require(
        FIELD,
        product >= count,
        format!("it has room for {product} vcpus, and there are {count}"),
    );
    let last = topology::Topology::new(vcpus).apic_id(count.saturating_sub(1));
    p.require(
        FIELD,
        last <= LAST,
        format!("it gives the last vcpu the identifier {last}; at most {LAST} is possible"),
    );
}
