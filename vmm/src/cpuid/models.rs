//! Named processor models: what a generation of processors has in common.
//!
//! A model is its features and the numbers that it calls itself by. One is written as an earlier one and what came new. Names are libvirt's;
//! `-noTSX`, `-IBRS` and `-IBPB` after a name take the transactional memory away that later microcode turned off, and add the barriers that it
//! brought. Beside them are the levels of the x86-64 psABI (`x86-64-v2`), which any processor of their time has.
//!
//! Nested virtualisation (`vmx`, `svm`) is in no model: it is asked for as a feature. Source: the makers' public CPUID lists.

use std::collections::BTreeSet;

use super::features::Feature;

/// A model of the table.
struct Entry {
    name: &'static str,
    /// The model that it has everything of.
    base: &'static str,
    /// What it calls itself: family, model, stepping.
    signature: (u32, u32, u32),
    /// What is new, in words.
    adds: &'static str,
}

const fn entry(
    name: &'static str,
    base: &'static str,
    signature: (u32, u32, u32),
    adds: &'static str,
) -> Entry {
    Entry {
        name,
        base,
        signature,
        adds,
    }
}

#[rustfmt::skip]
const MODELS: &[Entry] = &[
    entry("x86-64-v1", "", (15, 6, 1),
        "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 syscall nx lm"),
    entry("x86-64-v2", "x86-64-v1", (6, 26, 3), "pni ssse3 sse4.1 sse4.2 popcnt cx16 lahf_lm"),
    entry("x86-64-v3", "x86-64-v2", (6, 60, 4), "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"),
    entry("x86-64-v4", "x86-64-v3", (6, 85, 4), "avx512f avx512bw avx512cd avx512dq avx512vl"),
    entry("kvm64", "x86-64-v1", (15, 6, 1), "pni cx16"),
    entry("qemu64", "x86-64-v1", (15, 107, 1), "pni cx16 lahf_lm"),
    entry("Conroe", "x86-64-v1", (6, 15, 3), "pni ssse3 lahf_lm"),
    entry("Penryn", "Conroe", (6, 23, 3), "cx16 sse4.1"),
    entry("Nehalem", "Penryn", (6, 26, 3), "sse4.2 popcnt"),
    entry("Westmere", "Nehalem", (6, 44, 1), "aes pclmuldq"),
    entry("SandyBridge", "Westmere", (6, 42, 1), "avx xsave xsaveopt tsc-deadline x2apic rdtscp"),
    entry("IvyBridge", "SandyBridge", (6, 58, 9), "f16c rdrand fsgsbase smep erms"),
    entry("Haswell", "IvyBridge", (6, 60, 4), "avx2 bmi1 bmi2 fma movbe abm pcid invpcid hle rtm"),
    entry("Broadwell", "Haswell", (6, 61, 2), "rdseed adx smap 3dnowprefetch"),
    entry("Skylake-Client", "Broadwell", (6, 94, 3), "xsavec xgetbv1 clflushopt"),
    entry("Skylake-Server", "Skylake-Client", (6, 85, 4), "pdpe1gb clwb avx512f avx512bw avx512cd avx512dq avx512vl"),
    entry("Cascadelake-Server", "Skylake-Server", (6, 85, 6), "pku avx512vnni spec-ctrl ssbd"),
    entry("Icelake-Server", "Cascadelake-Server", (6, 106, 6),
        "la57 umip wbnoinvd gfni vaes vpclmulqdq avx512ifma avx512vbmi avx512vbmi2 avx512bitalg avx512-vpopcntdq sha-ni rdpid fsrm"),
    entry("SapphireRapids", "Icelake-Server", (6, 143, 4),
        "avx512-bf16 avx512-fp16 avx-vnni amx-tile amx-int8 amx-bf16 xsaves xfd fzrm fsrs fsrc serialize movdiri movdir64b"),
    entry("Opteron_G1", "x86-64-v1", (15, 6, 1), "pni"),
    entry("Opteron_G2", "Opteron_G1", (15, 6, 1), "cx16 lahf_lm"),
    entry("Opteron_G3", "Opteron_G2", (16, 2, 3), "popcnt abm sse4a misalignsse rdtscp"),
    entry("Opteron_G4", "Opteron_G3", (21, 1, 2), "ssse3 sse4.1 sse4.2 aes pclmuldq xsave avx 3dnowprefetch pdpe1gb xop fma4"),
    entry("Opteron_G5", "Opteron_G4", (21, 2, 0), "f16c fma tbm"),
    entry("EPYC", "x86-64-v3", (23, 1, 2),
        "vme pclmuldq aes rdrand cr8legacy sse4a misalignsse 3dnowprefetch osvw mmxext fxsr_opt pdpe1gb rdtscp fsgsbase smep rdseed adx \
         smap clflushopt sha-ni xsaveopt xsavec xgetbv1 arat"),
    entry("EPYC-Rome", "EPYC", (23, 49, 0), "clwb rdpid umip wbnoinvd clzero xsaveerptr xsaves perfctr_core ibpb amd-stibp amd-ssbd"),
    entry("EPYC-Milan", "EPYC-Rome", (25, 1, 1), "erms fsrm invpcid pcid pku vaes vpclmulqdq ibrs"),
    entry("EPYC-Genoa", "EPYC-Milan", (25, 17, 0),
        "la57 gfni avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512vbmi avx512vbmi2 avx512vnni avx512bitalg \
         avx512-vpopcntdq avx512-bf16 null-sel-clr-base auto-ibrs"),
];

/// What may follow a model's name.
const SUFFIXES: [(&str, Change); 3] = [
    ("-noTSX", Change::Without("hle rtm")),
    ("-IBRS", Change::With("spec-ctrl")),
    ("-IBPB", Change::With("ibpb")),
];

#[derive(Clone, Copy)]
enum Change {
    With(&'static str),
    Without(&'static str),
}

/// A model, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// What it calls itself in leaf 1, EAX.
    pub signature: u32,
    /// What it has.
    pub features: BTreeSet<Feature>,
}

impl Model {
    /// The model of this name.
    pub fn named(name: &str) -> Option<Self> {
        let mut base = name;
        let mut changes = Vec::new();
        while find(base).is_none() {
            let (rest, change) = SUFFIXES
                .iter()
                .find_map(|(suffix, change)| Some((base.strip_suffix(suffix)?, change)))?;
            base = rest;
            changes.push(*change);
        }
        let entry = find(base)?;
        let mut features = features(entry);
        for change in changes {
            match change {
                Change::With(words) => features.extend(words.split(' ').filter_map(Feature::named)),
                Change::Without(words) => {
                    for feature in words.split(' ').filter_map(Feature::named) {
                        features.remove(&feature);
                    }
                }
            }
        }
        Some(Self {
            name: name.to_owned(),
            signature: signature(entry.signature),
            features,
        })
    }
}

fn find(name: &str) -> Option<&'static Entry> {
    MODELS.iter().find(|entry| entry.name == name)
}

fn features(entry: &Entry) -> BTreeSet<Feature> {
    let mut all: BTreeSet<_> = entry
        .adds
        .split_whitespace()
        .filter_map(Feature::named)
        .collect();
    if let Some(base) = find(entry.base) {
        all.extend(features(base));
    }
    all
}

/// Leaf 1, EAX: families above 15 and models above 15 go into the extended fields.
fn signature((family, model, stepping): (u32, u32, u32)) -> u32 {
    let extended = family.saturating_sub(15);
    extended << 20 | (model >> 4) << 16 | family.min(15) << 8 | (model & 15) << 4 | stepping
}

/// Every model's name, without what may follow it.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|entry| entry.name)
}

/// What may follow a model's name.
pub fn suffixes() -> impl Iterator<Item = &'static str> {
    SUFFIXES.iter().map(|(suffix, _)| *suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(model: &str, feature: &str) -> bool {
        let feature = Feature::named(feature).unwrap();
        Model::named(model).unwrap().features.contains(&feature)
    }

    #[test]
    fn every_word_of_the_table_is_a_feature_and_every_base_comes_before() {
        for (index, entry) in MODELS.iter().enumerate() {
            for word in entry.adds.split_whitespace() {
                assert!(Feature::named(word).is_some(), "{}: {word}", entry.name);
            }
            let earlier = MODELS[..index].iter().any(|e| e.name == entry.base);
            assert!(earlier || entry.base.is_empty(), "{}", entry.name);
        }
        for (_, change) in SUFFIXES {
            let (Change::With(words) | Change::Without(words)) = change;
            assert!(words.split(' ').all(|word| Feature::named(word).is_some()));
        }
    }

    #[test]
    fn a_later_model_has_what_an_earlier_one_has() {
        assert!(has("SapphireRapids", "sse2") && has("SapphireRapids", "avx512vnni"));
        assert!(!has("Westmere", "avx") && has("SandyBridge", "avx"));
    }

    #[test]
    fn words_after_a_name_take_away_and_add() {
        assert!(has("Haswell", "rtm") && !has("Haswell-noTSX", "rtm"));
        assert!(has("Haswell-noTSX-IBRS", "spec-ctrl") && !has("Haswell-noTSX-IBRS", "hle"));
        assert!(has("EPYC-IBPB", "ibpb") && !has("EPYC", "ibpb"));
        assert_eq!(Model::named("Haswell-noSSE"), None);
        assert_eq!(Model::named("-noTSX"), None);
        assert_eq!(Model::named(""), None);
    }

    #[test]
    fn a_model_calls_itself_what_its_maker_calls_it() {
        let signature = |name| Model::named(name).unwrap().signature;
        assert_eq!(signature("Haswell"), 0x0003_06c4);
        assert_eq!(signature("SapphireRapids"), 0x0008_06f4);
        assert_eq!(signature("EPYC-Rome"), 0x0083_0f10);
        assert_eq!(signature("EPYC-Milan"), 0x00a0_0f11);
    }
}
