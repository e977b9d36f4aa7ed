//! The names of processor models and features that the monitor knows.
//!
//! A mirror of `vireo-vmm`'s tables, so that what it does not know is said when the plan is made; a test holds the two together. What this host's processor has is only
//! known to the monitor, when it starts the guest.

/// Models, without what may follow a name.
const MODELS: &str = "
    x86-64-v1 x86-64-v2 x86-64-v3 x86-64-v4 kvm64 qemu64 Conroe Penryn Nehalem Westmere SandyBridge IvyBridge Haswell Broadwell
    Skylake-Client Skylake-Server Cascadelake-Server Icelake-Server SapphireRapids Opteron_G1 Opteron_G2 Opteron_G3 Opteron_G4 Opteron_G5
    EPYC EPYC-Rome EPYC-Milan EPYC-Genoa
";

/// What may follow a model's name.
const SUFFIXES: [&str; 3] = ["-noTSX", "-IBRS", "-IBPB"];

/// Features, in all spellings.
const FEATURES: &str = "
    pni pclmuldq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid fma cx16 xtpr pdcm pcid dca sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline
    aes xsave osxsave avx f16c rdrand hypervisor fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 pn clflush ds acpi
    mmx fxsr sse sse2 ss ht tm ia64 pbe arat fsgsbase tsc_adjust sgx bmi1 hle avx2 smep bmi2 erms invpcid rtm cmt mpx rdt_a avx512f avx512dq
    rdseed adx smap avx512ifma clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni avx512bw avx512vl prefetchwt1 avx512vbmi umip pku
    ospke waitpkg avx512vbmi2 shstk gfni vaes vpclmulqdq avx512vnni avx512bitalg avx512-vpopcntdq la57 rdpid bus-lock-detect cldemote
    movdiri movdir64b sgxlc pks avx512-4vnniw avx512-4fmaps fsrm uintr avx512-vp2intersect md-clear serialize tsx-ldtrk pconfig arch-lbr ibt
    amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp flush-l1d arch-capabilities core-capability ssbd sha512 sm3 sm4 avx-vnni
    avx512-bf16 cmpccxadd fzrm fsrs fsrc fred lkgs wrmsrns amx-fp16 avx-ifma lam avx-vnni-int8 avx-ne-convert amx-complex avx-vnni-int16
    prefetchiti avx10 xsaveopt xsavec xgetbv1 xsaves xfd lahf_lm cmp_legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw
    ibs xop skinit wdt lwp fma4 tce nodeid_msr tbm topoext perfctr_core perfctr_nb syscall mp nx mmxext fxsr_opt pdpe1gb rdtscp lm 3dnowext
    3dnow invtsc clzero xsaveerptr rdpru wbnoinvd ibpb ibrs amd-stibp stibp-always-on amd-ssbd virt-ssbd amd-no-ssb amd-psfd npt lbrv
    svm-lock nrip-save tsc-scale vmcb-clean flushbyasid decodeassists pause-filter pfthreshold avic v-vmsave-vmload vgif vnmi svme-addr-chk
    no-nested-data-bp lfence-always-serializing null-sel-clr-base auto-ibrs sse3 pclmulqdq sse4_1 sse4-1 sse4_2 sse4-2 tsc_deadline
    tsc-adjust lahf-lm lzcnt ffxsr sha_ni avx512vpopcntdq perfctr-core perfctr-nb cmp-legacy nodeid-msr
";

/// Whether the monitor knows a model of this name.
pub(crate) fn knows_model(name: &str) -> bool {
    let mut name = name;
    loop {
        if MODELS.split_whitespace().any(|model| model == name) {
            return true;
        }
        let shorter = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
        match shorter {
            Some(shorter) => name = shorter,
            None => return false,
        }
    }
}

/// Whether the monitor knows a feature of this name.
pub(crate) fn knows_feature(name: &str) -> bool {
    FEATURES.split_whitespace().any(|feature| feature == name)
}

#[cfg(test)]
mod tests {
    use vireo_vmm::cpuid::{features, models};

    use super::*;

    #[test]
    fn every_name_is_one_that_the_monitor_knows_and_none_is_missing() {
        for name in FEATURES.split_whitespace() {
            assert!(features::Feature::named(name).is_some(), "{name}");
        }
        assert!(features::names().all(knows_feature));
        for name in MODELS.split_whitespace() {
            assert!(models::Model::named(name).is_some(), "{name}");
        }
        assert!(models::names().all(knows_model));
        assert!(models::suffixes().eq(SUFFIXES));
    }

    #[test]
    fn a_name_may_be_followed_by_more_than_one_word() {
        assert!(knows_model("Haswell-noTSX-IBRS"));
        assert!(!knows_model("Haswell-fast") && !knows_model("") && !knows_model("-IBRS"));
    }
}
