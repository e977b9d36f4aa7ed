//! The extended state (leaf 0xd): which registers XSAVE keeps, and where.
//!
//! KVM lets the guest turn on what this leaf offers, so it must offer nothing whose instructions the guest does not have. In comes a table with its
//! final features; out goes the leaf that goes with them. Source: Intel's Software Developer's Manual, volume 1, chapter 13.

use kvm_bindings::kvm_cpuid_entry2;

use super::features::Feature;

/// Components beyond the two that every XSAVE has, and the feature that each is for.
const COMPONENTS: [(u32, &str); 9] = [
    (2, "avx"),
    (3, "mpx"),
    (4, "mpx"),
    (5, "avx512f"),
    (6, "avx512f"),
    (7, "avx512f"),
    (9, "pku"),
    (17, "amx-tile"),
    (18, "amx-tile"),
];
/// x87 and SSE, with which the area begins: 512 bytes and a header of 64.
const LEGACY: u64 = 0b11;
const LEGACY_SIZE: u32 = 576;

/// Makes the leaf follow the features.
pub(super) fn follow(table: &mut Vec<kvm_cpuid_entry2>) {
    let has = |name| Feature::named(name).is_some_and(|feature| feature.is_in(table));
    if !has("xsave") {
        table.retain(|entry| entry.function != 0xd);
        return;
    }
    let mut offered = LEGACY;
    for (component, feature) in COMPONENTS {
        if has(feature) {
            offered |= 1 << component;
        }
    }
    let supervisor = has("xsaves");
    let mut kept = 0;
    for entry in table.iter().filter(|e| e.function == 0xd && e.index == 0) {
        kept = (u64::from(entry.edx) << 32 | u64::from(entry.eax)) & offered;
    }
    // ECX bit 0 of a component says that it is the supervisor's, and not in the user's mask.
    table.retain(|entry| {
        let ours = entry.function == 0xd && entry.index >= 2;
        let supervisors = entry.ecx & 1 != 0;
        !ours || (supervisors && supervisor) || kept & (1_u64 << entry.index.min(63)) != 0
    });
    let size = table
        .iter()
        .filter(|e| e.function == 0xd && e.index >= 2 && e.ecx & 1 == 0)
        .map(|e| e.ebx.saturating_add(e.eax))
        .fold(LEGACY_SIZE, u32::max);
    for entry in table.iter_mut().filter(|e| e.function == 0xd) {
        match entry.index {
            0 => {
                (entry.eax, entry.edx) = (kept as u32, (kept >> 32) as u32);
                // EBX is what the guest has turned on, which KVM keeps up to date.
                (entry.ebx, entry.ecx) = (size, size);
            }
            1 if !supervisor => (entry.ecx, entry.edx) = (0, 0),
            _ => {}
        }
    }
}
