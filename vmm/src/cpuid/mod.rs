//! What the guest's processors say of themselves.
//!
//! In come what KVM can do on this host (`KVM_GET_SUPPORTED_CPUID`), the processor that was asked for, and how the vcpus are grouped; out goes each
//! vcpu's table. [`features`] knows the bits by name, [`models`] the generations of processors, [`topology`] the grouping; [`extended`] keeps the
//! processor's extended state in step with the features. Always, the guest has KVM's signature for paravirtual clocks, and no performance counters,
//! which KVM would emulate at a cost.
//!
//! What goes wrong is a feature that is required and that the host lacks, or that is forbidden and that the host has; the error names all of
//! them. Pure.

mod extended;
pub mod features;
pub mod models;
pub mod topology;

use std::collections::BTreeSet;

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use thiserror::Error;

use crate::config::{Cpu, CpuMode, FeaturePolicy};
use features::{Feature, Register, WORDS};
use models::Model;
use topology::Topology;

/// Why the host cannot give the guest such a processor.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CpuError {
    /// It lacks what is required.
    #[error("this host's kvm lacks {}, which {by} needs", .features.join(", "))]
    Lacks {
        /// The features' names.
        features: Vec<&'static str>,
        /// The model, or the definition itself.
        by: String,
    },
    /// It has what is forbidden.
    #[error("this host has {}, which the guest's processor is not allowed to meet (policy forbid)", .0.join(", "))]
    Forbidden(Vec<&'static str>),
    /// There is no such model or feature. (The configuration's check says so before.)
    #[error("there is no processor model or feature {0:?}")]
    Unknown(String),
}

/// What a host can do.
#[derive(Debug, Clone)]
pub struct Host {
    /// `KVM_GET_SUPPORTED_CPUID`.
    pub supported: Vec<kvm_cpuid_entry2>,
    /// KVM emulates the TSC-deadline timer.
    pub deadline: bool,
}

impl Host {
    fn has(&self, feature: Feature) -> bool {
        if Some(feature) == Feature::named("tsc-deadline") {
            return self.deadline;
        }
        feature.is_in(&self.supported)
    }

    fn is_amd(&self) -> bool {
        // "Auth" of AuthenticAMD, "Hygo" of HygonGenuine.
        const MAKERS: [u32; 2] = [0x6874_7541, 0x6f67_7948];
        self.supported
            .iter()
            .any(|entry| entry.function == 0 && MAKERS.contains(&entry.ebx))
    }
}

/// The guest's processors.
#[derive(Debug, Clone)]
pub struct Processors {
    /// What all have in common.
    table: Vec<kvm_cpuid_entry2>,
    topology: Topology,
    amd: bool,
}

impl Processors {
    /// The processors that were asked for, on this host.
    ///
    /// # Errors
    /// See [`CpuError`].
    pub fn new(host: &Host, cpu: &Cpu, topology: Topology) -> Result<Self, CpuError> {
        let wanted = Wanted::new(cpu)?;
        wanted.check(host, cpu)?;
        let mut table: Vec<_> = host
            .supported
            .iter()
            .filter(|entry| !is_topology(entry.function))
            .copied()
            .collect();
        let named = Feature::named;
        set_all(&mut table, named("tsc-deadline"), host.deadline);
        match cpu.mode {
            CpuMode::HostPassthrough => {}
            CpuMode::HostModel => keep_known(&mut table),
            CpuMode::Custom => {
                let extra = wanted.optional.iter().filter(|feature| host.has(**feature));
                let features = wanted.required.iter().chain(extra).copied().collect();
                show_only(&mut table, &features);
            }
        }
        if let Some(model) = wanted.model {
            introduce(&mut table, &model, host.is_amd());
        }
        for &feature in &wanted.forced {
            set(&mut table, feature, true);
        }
        for &feature in wanted.disabled.iter().chain(&wanted.forbidden) {
            set(&mut table, feature, false);
        }
        set_all(&mut table, named("hypervisor"), true);
        if host.is_amd() {
            repeat_for_amd(&mut table);
        }
        extended::follow(&mut table);
        // Performance counters: none.
        for entry in table.iter_mut().filter(|entry| entry.function == 0xa) {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
        }
        Ok(Self {
            table,
            topology,
            amd: host.is_amd(),
        })
    }

    /// Tells the guest nothing of KVM's own clock (the kernel's Documentation/virt/kvm/x86/cpuid.rst).
    pub fn hide_kvmclock(&mut self) {
        /// The clock by its old and new registers, and that it is stable.
        const CLOCK: u32 = 1 | 1 << 3 | 1 << 24;
        let features = self.table.iter_mut().filter(|e| e.function == 0x4000_0001);
        features.for_each(|entry| entry.eax &= !CLOCK);
    }

    /// The APIC identifier of the vcpu with this number.
    pub fn apic_id(&self, number: u32) -> u32 {
        self.topology.apic_id(number)
    }

    /// The table of the vcpu with this number.
    pub fn table(&self, number: u32) -> Vec<kvm_cpuid_entry2> {
        let id = self.apic_id(number);
        let topology = self.topology;
        let in_socket = 1 << topology.socket_bits();
        let mut table = self.table.clone();
        for entry in &mut table {
            match entry.function {
                0x1 => {
                    let count = u32::min(in_socket, 255);
                    entry.ebx = (entry.ebx & 0xffff) | (count << 16) | (id << 24);
                }
                0x4 | 0x8000_001d => share_caches(entry, topology),
                0x8000_0008 => {
                    let most = (topology.in_socket() - 1).min(255);
                    entry.ecx = (entry.ecx & !0xf0ff) | (topology.socket_bits() << 12) | most;
                }
                0x8000_001e => {
                    let core = (id >> topology.thread_bits()) & 0xff;
                    let die = (id >> topology.die_bits()) & ((1 << bits_of_dies(topology)) - 1);
                    entry.eax = id;
                    entry.ebx = core | (topology.threads() - 1) << 8;
                    entry.ecx = die | (topology.dies() - 1) << 8;
                }
                _ => {}
            }
        }
        let several = topology.in_socket() > 1;
        set_all(&mut table, Feature::named("ht"), several);
        set_all(
            &mut table,
            Feature::named("cmp_legacy"),
            self.amd && several,
        );
        let highest = table.iter().find(|e| e.function == 0).map_or(0, |e| e.eax);
        if highest >= 0xb {
            table.extend(levels(0xb, id, topology));
        }
        if highest >= 0x1f && topology.dies() > 1 {
            table.extend(levels(0x1f, id, topology));
        }
        table
    }
}

/// What a definition asks for, by policy.
struct Wanted {
    model: Option<Model>,
    required: BTreeSet<Feature>,
    optional: BTreeSet<Feature>,
    forced: BTreeSet<Feature>,
    disabled: BTreeSet<Feature>,
    forbidden: BTreeSet<Feature>,
}

impl Wanted {
    fn new(cpu: &Cpu) -> Result<Self, CpuError> {
        let model = match &cpu.model {
            Some(name) => Some(Model::named(name).ok_or_else(|| CpuError::Unknown(name.clone()))?),
            None => None,
        };
        let mut wanted = Self {
            required: model.iter().flat_map(|m| m.features.clone()).collect(),
            model,
            optional: BTreeSet::new(),
            forced: BTreeSet::new(),
            disabled: BTreeSet::new(),
            forbidden: BTreeSet::new(),
        };
        for stated in &cpu.features {
            let feature = Feature::named(&stated.name)
                .ok_or_else(|| CpuError::Unknown(stated.name.clone()))?;
            // What the definition says of a feature goes before what the model has.
            wanted.required.remove(&feature);
            let set = match stated.policy {
                FeaturePolicy::Require => &mut wanted.required,
                FeaturePolicy::Optional => &mut wanted.optional,
                FeaturePolicy::Force => &mut wanted.forced,
                FeaturePolicy::Disable => &mut wanted.disabled,
                FeaturePolicy::Forbid => &mut wanted.forbidden,
            };
            set.insert(feature);
        }
        Ok(wanted)
    }

    fn check(&self, host: &Host, cpu: &Cpu) -> Result<(), CpuError> {
        let names = |features: &BTreeSet<Feature>, there: bool| -> Vec<_> {
            let found = features.iter().filter(|f| host.has(**f) == there);
            found.map(|feature| feature.name()).collect()
        };
        let forbidden = names(&self.forbidden, true);
        if !forbidden.is_empty() {
            return Err(CpuError::Forbidden(forbidden));
        }
        let features = names(&self.required, false);
        if features.is_empty() {
            return Ok(());
        }
        let by = match &cpu.model {
            Some(name) => format!("processor model {name}"),
            None => "the guest's processor".to_owned(),
        };
        Err(CpuError::Lacks { features, by })
    }
}

/// Turns one feature on or off. What is turned on where the host has no such leaf appears there.
fn set(table: &mut Vec<kvm_cpuid_entry2>, feature: Feature, on: bool) {
    if on && !table.iter().any(|entry| feature.concerns(entry)) {
        let indexed = matches!(feature.leaf, 0x7 | 0xd);
        table.push(kvm_cpuid_entry2 {
            function: feature.leaf,
            index: feature.index,
            flags: if indexed {
                KVM_CPUID_FLAG_SIGNIFCANT_INDEX
            } else {
                0
            },
            ..Default::default()
        });
    }
    set_all(table, Some(feature), on);
}

/// Turns one feature on or off where its leaf is.
fn set_all(table: &mut [kvm_cpuid_entry2], feature: Option<Feature>, on: bool) {
    let Some(feature) = feature else { return };
    for entry in table.iter_mut().filter(|entry| feature.concerns(entry)) {
        let register = feature.register.of(entry);
        if on {
            *register |= feature.mask();
        } else {
            *register &= !feature.mask();
        }
    }
}

/// Leaves nothing that has no name: what a later host may not have.
fn keep_known(table: &mut [kvm_cpuid_entry2]) {
    for word in WORDS {
        let concerned = table
            .iter_mut()
            .filter(|entry| (entry.function, entry.index) == (word.leaf, word.index));
        for entry in concerned {
            *word.register.of(entry) &= word.known();
        }
    }
}

/// Shows these features and no other, and none of the leaves that describe features which are not shown.
fn show_only(table: &mut Vec<kvm_cpuid_entry2>, features: &BTreeSet<Feature>) {
    for word in WORDS {
        let concerned = table
            .iter_mut()
            .filter(|entry| (entry.function, entry.index) == (word.leaf, word.index));
        for entry in concerned {
            *word.register.of(entry) = 0;
        }
    }
    for &feature in features {
        set(table, feature, true);
    }
    let shown = |name| Feature::named(name).is_some_and(|feature| features.contains(&feature));
    table.retain(|entry| match entry.function {
        // Resource directors, trace, enclaves, and what no model has.
        0xf | 0x10 | 0x12 | 0x14 | 0x23 | 0x24 => false,
        0x1d | 0x1e => shown("amx-tile"),
        0x7 => entry.index < 2,
        0x8000_000a => shown("svm"),
        0x8000_001f | 0x8000_0020 | 0x8000_0022 => false,
        _ => true,
    });
}

/// Lets the processor call itself by its model's numbers and name. The maker stays the host's: how system calls behave depends on it.
fn introduce(table: &mut [kvm_cpuid_entry2], model: &Model, amd: bool) {
    let mut brand = [0; 48];
    let text = format!("Virtual processor ({})", model.name);
    // Its last byte is zero.
    for (place, byte) in brand.iter_mut().take(47).zip(text.bytes()) {
        *place = byte;
    }
    for entry in table {
        match entry.function {
            0x1 => entry.eax = model.signature,
            0x8000_0001 if amd => entry.eax = model.signature,
            0x8000_0002..=0x8000_0004 => {
                let part = (entry.function - 0x8000_0002) as usize * 16;
                let mut words = brand.chunks_exact(4).skip(part / 4).map(|bytes| {
                    bytes
                        .iter()
                        .rev()
                        .fold(0, |word, byte| word << 8 | u32::from(*byte))
                });
                for register in [Register::Eax, Register::Ebx, Register::Ecx, Register::Edx] {
                    *register.of(entry) = words.next().unwrap_or(0);
                }
            }
            _ => {}
        }
    }
}

/// AMD's processors show the old features of leaf 1 again in leaf 0x8000_0001.
fn repeat_for_amd(table: &mut [kvm_cpuid_entry2]) {
    const REPEATED: u32 = 0x0183_f3ff;
    let old = table.iter().find(|e| e.function == 1).map_or(0, |e| e.edx);
    for entry in table.iter_mut().filter(|e| e.function == 0x8000_0001) {
        entry.edx = (entry.edx & !REPEATED) | (old & REPEATED);
    }
}

/// Leaves that describe the topology by level. They are written anew.
fn is_topology(function: u32) -> bool {
    matches!(function, 0xb | 0x1f | 0x8000_0026)
}

fn bits_of_dies(topology: Topology) -> u32 {
    topology.socket_bits() - topology.die_bits()
}

/// Level-3 caches belong to all processors of a die, the others to a core. EAX bits 25:14 hold the number of identifiers that share one, less one,
/// and, on Intel, bits 31:26 those of cores in the socket, less one.
fn share_caches(entry: &mut kvm_cpuid_entry2, topology: Topology) {
    let kind = entry.eax & 0x1f;
    if kind == 0 {
        return;
    }
    let level = (entry.eax >> 5) & 7;
    let bits = if level >= 3 {
        topology.die_bits()
    } else {
        topology.thread_bits()
    };
    entry.eax &= 0x3fff;
    entry.eax |= ((1 << bits) - 1_u32).min(0xfff) << 14;
    if entry.function == 0x4 {
        let cores = topology.socket_bits() - topology.thread_bits();
        entry.eax |= ((1 << cores) - 1_u32).min(0x3f) << 26;
    }
}

/// Leaf 0xb, or 0x1f, which alone knows dies.
fn levels(function: u32, id: u32, topology: Topology) -> Vec<kvm_cpuid_entry2> {
    const THREAD: u32 = 1;
    const CORE: u32 = 2;
    const DIE: u32 = 5;
    let in_die = topology.cores() * topology.threads();
    let mut levels = vec![(topology.thread_bits(), topology.threads(), THREAD)];
    if function == 0x1f {
        levels.push((topology.die_bits(), in_die, CORE));
        levels.push((topology.socket_bits(), topology.in_socket(), DIE));
    } else {
        levels.push((topology.socket_bits(), topology.in_socket(), CORE));
    }
    levels.push((0, 0, 0));
    (0..)
        .zip(levels)
        .map(|(index, (eax, ebx, kind))| kvm_cpuid_entry2 {
            function,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax,
            ebx,
            ecx: index | kind << 8,
            edx: id,
            ..Default::default()
        })
        .collect()
}

#[cfg(test)]
mod tests;
