//! Features of x86 processors by name, and where CPUID shows them.
//!
//! Names are libvirt's and Linux's; other common spellings are understood. Sources: Intel's Software Developer's Manual, volume 2, "CPUID";
//! AMD's Architecture Programmer's Manual, volume 3, appendix E; Linux's arch/x86/include/asm/cpufeatures.h.

use kvm_bindings::kvm_cpuid_entry2;

/// A register of a CPUID leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

impl Register {
    /// Its place in an entry.
    pub fn of(self, entry: &mut kvm_cpuid_entry2) -> &mut u32 {
        match self {
            Self::Eax => &mut entry.eax,
            Self::Ebx => &mut entry.ebx,
            Self::Ecx => &mut entry.ecx,
            Self::Edx => &mut entry.edx,
        }
    }

    /// Its value in an entry.
    pub fn value(self, entry: &kvm_cpuid_entry2) -> u32 {
        match self {
            Self::Eax => entry.eax,
            Self::Ebx => entry.ebx,
            Self::Ecx => entry.ecx,
            Self::Edx => entry.edx,
        }
    }
}

/// One feature's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Feature {
    /// CPUID leaf (EAX).
    pub leaf: u32,
    /// CPUID sub-leaf (ECX); 0 where the leaf has none.
    pub index: u32,
    /// The register.
    pub register: Register,
    /// The bit, 0 to 31.
    pub bit: u8,
}

/// A register all of whose bits are features.
pub struct Word {
    /// CPUID leaf.
    pub leaf: u32,
    /// CPUID sub-leaf.
    pub index: u32,
    /// The register.
    pub register: Register,
    names: &'static [(u8, &'static str)],
}

const fn word(
    leaf: u32,
    index: u32,
    register: Register,
    names: &'static [(u8, &'static str)],
) -> Word {
    Word {
        leaf,
        index,
        register,
        names,
    }
}

/// Every register that holds features.
#[rustfmt::skip]
pub const WORDS: &[Word] = &[
    word(0x1, 0, Register::Ecx, &[
        (0, "pni"), (1, "pclmuldq"), (2, "dtes64"), (3, "monitor"), (4, "ds_cpl"), (5, "vmx"), (6, "smx"), (7, "est"), (8, "tm2"),
        (9, "ssse3"), (10, "cid"), (12, "fma"), (13, "cx16"), (14, "xtpr"), (15, "pdcm"), (17, "pcid"), (18, "dca"), (19, "sse4.1"),
        (20, "sse4.2"), (21, "x2apic"), (22, "movbe"), (23, "popcnt"), (24, "tsc-deadline"), (25, "aes"), (26, "xsave"),
        (27, "osxsave"), (28, "avx"), (29, "f16c"), (30, "rdrand"), (31, "hypervisor"),
    ]),
    word(0x1, 0, Register::Edx, &[
        (0, "fpu"), (1, "vme"), (2, "de"), (3, "pse"), (4, "tsc"), (5, "msr"), (6, "pae"), (7, "mce"), (8, "cx8"), (9, "apic"),
        (11, "sep"), (12, "mtrr"), (13, "pge"), (14, "mca"), (15, "cmov"), (16, "pat"), (17, "pse36"), (18, "pn"), (19, "clflush"),
        (21, "ds"), (22, "acpi"), (23, "mmx"), (24, "fxsr"), (25, "sse"), (26, "sse2"), (27, "ss"), (28, "ht"), (29, "tm"),
        (30, "ia64"), (31, "pbe"),
    ]),
    word(0x6, 0, Register::Eax, &[(2, "arat")]),
    word(0x7, 0, Register::Ebx, &[
        (0, "fsgsbase"), (1, "tsc_adjust"), (2, "sgx"), (3, "bmi1"), (4, "hle"), (5, "avx2"), (7, "smep"), (8, "bmi2"), (9, "erms"),
        (10, "invpcid"), (11, "rtm"), (12, "cmt"), (14, "mpx"), (15, "rdt_a"), (16, "avx512f"), (17, "avx512dq"), (18, "rdseed"),
        (19, "adx"), (20, "smap"), (21, "avx512ifma"), (23, "clflushopt"), (24, "clwb"), (25, "intel-pt"), (26, "avx512pf"),
        (27, "avx512er"), (28, "avx512cd"), (29, "sha-ni"), (30, "avx512bw"), (31, "avx512vl"),
    ]),
    word(0x7, 0, Register::Ecx, &[
        (0, "prefetchwt1"), (1, "avx512vbmi"), (2, "umip"), (3, "pku"), (4, "ospke"), (5, "waitpkg"), (6, "avx512vbmi2"),
        (7, "shstk"), (8, "gfni"), (9, "vaes"), (10, "vpclmulqdq"), (11, "avx512vnni"), (12, "avx512bitalg"),
        (14, "avx512-vpopcntdq"), (16, "la57"), (22, "rdpid"), (24, "bus-lock-detect"), (25, "cldemote"), (27, "movdiri"),
        (28, "movdir64b"), (30, "sgxlc"), (31, "pks"),
    ]),
    word(0x7, 0, Register::Edx, &[
        (2, "avx512-4vnniw"), (3, "avx512-4fmaps"), (4, "fsrm"), (5, "uintr"), (8, "avx512-vp2intersect"), (10, "md-clear"),
        (14, "serialize"), (16, "tsx-ldtrk"), (18, "pconfig"), (19, "arch-lbr"), (20, "ibt"), (22, "amx-bf16"), (23, "avx512-fp16"),
        (24, "amx-tile"), (25, "amx-int8"), (26, "spec-ctrl"), (27, "stibp"), (28, "flush-l1d"), (29, "arch-capabilities"),
        (30, "core-capability"), (31, "ssbd"),
    ]),
    word(0x7, 1, Register::Eax, &[
        (0, "sha512"), (1, "sm3"), (2, "sm4"), (4, "avx-vnni"), (5, "avx512-bf16"), (7, "cmpccxadd"), (10, "fzrm"), (11, "fsrs"),
        (12, "fsrc"), (17, "fred"), (18, "lkgs"), (19, "wrmsrns"), (21, "amx-fp16"), (23, "avx-ifma"), (26, "lam"),
    ]),
    word(0x7, 1, Register::Edx, &[
        (4, "avx-vnni-int8"), (5, "avx-ne-convert"), (8, "amx-complex"), (10, "avx-vnni-int16"), (14, "prefetchiti"),
        (19, "avx10"),
    ]),
    word(0xd, 1, Register::Eax, &[(0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv1"), (3, "xsaves"), (4, "xfd")]),
    word(0x8000_0001, 0, Register::Ecx, &[
        (0, "lahf_lm"), (1, "cmp_legacy"), (2, "svm"), (3, "extapic"), (4, "cr8legacy"), (5, "abm"), (6, "sse4a"),
        (7, "misalignsse"), (8, "3dnowprefetch"), (9, "osvw"), (10, "ibs"), (11, "xop"), (12, "skinit"), (13, "wdt"), (15, "lwp"),
        (16, "fma4"), (17, "tce"), (19, "nodeid_msr"), (21, "tbm"), (22, "topoext"), (23, "perfctr_core"), (24, "perfctr_nb"),
    ]),
    word(0x8000_0001, 0, Register::Edx, &[
        (11, "syscall"), (19, "mp"), (20, "nx"), (22, "mmxext"), (25, "fxsr_opt"), (26, "pdpe1gb"), (27, "rdtscp"), (29, "lm"),
        (30, "3dnowext"), (31, "3dnow"),
    ]),
    word(0x8000_0007, 0, Register::Edx, &[(8, "invtsc")]),
    word(0x8000_0008, 0, Register::Ebx, &[
        (0, "clzero"), (2, "xsaveerptr"), (4, "rdpru"), (9, "wbnoinvd"), (12, "ibpb"), (14, "ibrs"), (15, "amd-stibp"),
        (17, "stibp-always-on"), (24, "amd-ssbd"), (25, "virt-ssbd"), (26, "amd-no-ssb"), (28, "amd-psfd"),
    ]),
    word(0x8000_000a, 0, Register::Edx, &[
        (0, "npt"), (1, "lbrv"), (2, "svm-lock"), (3, "nrip-save"), (4, "tsc-scale"), (5, "vmcb-clean"), (6, "flushbyasid"),
        (7, "decodeassists"), (10, "pause-filter"), (12, "pfthreshold"), (13, "avic"), (15, "v-vmsave-vmload"), (16, "vgif"),
        (25, "vnmi"), (28, "svme-addr-chk"),
    ]),
    word(0x8000_0021, 0, Register::Eax, &[
        (0, "no-nested-data-bp"), (2, "lfence-always-serializing"), (6, "null-sel-clr-base"), (8, "auto-ibrs"),
    ]),
];

/// Other spellings.
const ALIASES: &[(&str, &str)] = &[
    ("sse3", "pni"),
    ("pclmulqdq", "pclmuldq"),
    ("sse4_1", "sse4.1"),
    ("sse4-1", "sse4.1"),
    ("sse4_2", "sse4.2"),
    ("sse4-2", "sse4.2"),
    ("tsc_deadline", "tsc-deadline"),
    ("tsc-adjust", "tsc_adjust"),
    ("lahf-lm", "lahf_lm"),
    ("lzcnt", "abm"),
    ("ffxsr", "fxsr_opt"),
    ("sha_ni", "sha-ni"),
    ("avx512vpopcntdq", "avx512-vpopcntdq"),
    ("perfctr-core", "perfctr_core"),
    ("perfctr-nb", "perfctr_nb"),
    ("cmp-legacy", "cmp_legacy"),
    ("nodeid-msr", "nodeid_msr"),
];

impl Feature {
    /// The feature of this name.
    pub fn named(name: &str) -> Option<Self> {
        let name = ALIASES
            .iter()
            .find(|(alias, _)| *alias == name)
            .map_or(name, |(_, name)| name);
        WORDS.iter().find_map(|word| {
            let (bit, _) = word.names.iter().find(|(_, known)| *known == name)?;
            Some(word.feature(*bit))
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let word = WORDS.iter().find(|word| word.feature(self.bit) == self);
        let names = word.map_or([].as_slice(), |word| word.names);
        let found = names.iter().find(|(bit, _)| *bit == self.bit);
        found.map_or("a feature without a name", |(_, name)| name)
    }

    /// Whether a table of entries shows it.
    pub fn is_in(self, table: &[kvm_cpuid_entry2]) -> bool {
        table
            .iter()
            .any(|entry| self.concerns(entry) && self.register.value(entry) & self.mask() != 0)
    }

    /// Whether an entry is the one that shows it.
    pub fn concerns(self, entry: &kvm_cpuid_entry2) -> bool {
        (entry.function, entry.index) == (self.leaf, self.index)
    }

    /// Its bit.
    pub fn mask(self) -> u32 {
        1 << self.bit
    }
}

impl Word {
    fn feature(&self, bit: u8) -> Feature {
        Feature {
            leaf: self.leaf,
            index: self.index,
            register: self.register,
            bit,
        }
    }

    /// Its bits that have names.
    pub fn known(&self) -> u32 {
        self.names.iter().fold(0, |bits, (bit, _)| bits | 1 << bit)
    }
}

/// Every feature's name.
pub fn names() -> impl Iterator<Item = &'static str> {
    WORDS
        .iter()
        .flat_map(|word| word.names)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_name_is_one_feature_and_every_feature_has_one_name() {
        let mut seen = HashSet::new();
        for name in names() {
            let feature = Feature::named(name).unwrap();
            assert_eq!(feature.name(), name);
            assert!(seen.insert(feature), "{name} shares its bit");
        }
    }

    #[test]
    fn an_alias_leads_to_a_feature() {
        for (alias, name) in ALIASES {
            assert_eq!(Feature::named(alias), Feature::named(name));
            assert!(Feature::named(name).is_some(), "{name}");
        }
        assert_eq!(Feature::named("sse5"), None);
    }
}
