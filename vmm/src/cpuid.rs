//! What the guest's processors say of themselves.
//!
//! In comes what KVM can do on this host (`KVM_GET_SUPPORTED_CPUID`), out goes each vcpu's table: the host's features, with the identity and the
//! topology of the guest's own processors (one socket, one thread a core), KVM's signature for paravirtual clocks, and without the
//! performance counters, which KVM would emulate at a cost. Pure; nothing goes wrong but a table that grows too long.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaf 1, ECX: TSC-deadline timer, hypervisor present; EDX: several logical processors in the package.
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
const HTT: u32 = 1 << 28;

/// The table of the vcpu with number `id` among `count`. `deadline` says whether KVM emulates the TSC-deadline timer.
pub fn table(supported: &CpuId, id: u32, count: u32, deadline: bool) -> Vec<kvm_cpuid_entry2> {
    let mut table: Vec<_> = supported
        .as_slice()
        .iter()
        .filter(|entry| !is_topology(entry.function))
        .copied()
        .collect();
    for entry in &mut table {
        match entry.function {
            0x1 => {
                entry.ebx = (entry.ebx & 0xffff) | (count.min(255) << 16) | (id << 24);
                entry.ecx |= HYPERVISOR;
                set(&mut entry.ecx, TSC_DEADLINE, deadline);
                set(&mut entry.edx, HTT, count > 1);
            }
            0x4 => share_caches(entry, count),
            // Performance counters: none.
            0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            0x8000_0008 => {
                entry.ecx = (entry.ecx & !0xf0ff) | (core_bits(count) << 12) | (count - 1).min(255)
            }
            0x8000_001d => share_caches(entry, count),
            0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id, id, 0),
            _ => {}
        }
    }
    if supported
        .as_slice()
        .iter()
        .any(|e| e.function == 0 && e.eax >= 0xb)
    {
        table.extend(topology(id, count));
    }
    table
}

/// Leaves that describe the topology by level. They are written anew.
fn is_topology(function: u32) -> bool {
    matches!(function, 0xb | 0x1f | 0x8000_0026)
}

/// Level-3 caches belong to all processors, the others to each one. EAX bits 25:14 hold the number of sharers less one, and, on Intel, bits
/// 31:26 the number of cores less one.
fn share_caches(entry: &mut kvm_cpuid_entry2, count: u32) {
    let kind = entry.eax & 0x1f;
    if kind == 0 {
        return;
    }
    let level = (entry.eax >> 5) & 7;
    let sharers = if level >= 3 { count } else { 1 };
    entry.eax &= 0x3fff;
    entry.eax |= (sharers - 1).min(0xfff) << 14;
    if entry.function == 0x4 {
        entry.eax |= (count - 1).min(0x3f) << 26;
    }
}

/// Bits of an APIC identifier that number the cores of the only socket.
fn core_bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

/// Leaf 0xb: one thread a core, all cores in one socket.
fn topology(id: u32, count: u32) -> [kvm_cpuid_entry2; 3] {
    const THREADS: u32 = 1 << 8;
    const CORES: u32 = 2 << 8;
    let level = |index, eax, ebx, kind| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx: index | kind,
        edx: id,
        ..Default::default()
    };
    [
        level(0, 0, 1, THREADS),
        level(1, core_bits(count), count, CORES),
        level(2, 0, 0, 0),
    ]
}

fn set(register: &mut u32, bit: u32, on: bool) {
    if on {
        *register |= bit
    } else {
        *register &= !bit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, eax: u32, ebx: u32, ecx: u32, edx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            eax,
            ebx,
            ecx,
            edx,
            ..Default::default()
        }
    }

    fn table_of(entries: &[kvm_cpuid_entry2], id: u32, count: u32) -> Vec<kvm_cpuid_entry2> {
        table(&CpuId::from_entries(entries).unwrap(), id, count, true)
    }

    #[test]
    fn each_processor_has_its_own_number() {
        let host = [
            entry(0, 0x16, 0, 0, 0),
            entry(1, 0, 0x0705_0800, 0, 0),
            entry(0xb, 9, 9, 9, 9),
        ];
        let table = table_of(&host, 2, 3);
        let features = table.iter().find(|e| e.function == 1).unwrap();
        assert_eq!(features.ebx, 0x0203_0800);
        assert!(
            features.ecx & HYPERVISOR != 0
                && features.ecx & TSC_DEADLINE != 0
                && features.edx & HTT != 0
        );
        let levels: Vec<_> = table.iter().filter(|e| e.function == 0xb).collect();
        assert_eq!(
            levels
                .iter()
                .map(|e| (e.eax, e.ebx, e.edx))
                .collect::<Vec<_>>(),
            [(0, 1, 2), (2, 3, 2), (0, 0, 2)]
        );
    }

    #[test]
    fn a_single_processor_does_not_claim_to_be_several() {
        let table = table_of(&[entry(1, 0, 0, 0, HTT)], 0, 1);
        assert_eq!(table[0].edx & HTT, 0);
    }

    #[test]
    fn only_the_last_level_of_cache_is_shared() {
        let table = table_of(
            &[entry(4, 0x21 | 3 << 14, 0, 0, 0), entry(4, 0x63, 0, 0, 0)],
            0,
            4,
        );
        assert_eq!(table[0].eax, 0x21 | 3 << 26);
        assert_eq!(table[1].eax, 0x63 | 3 << 14 | 3 << 26);
    }

    #[test]
    fn performance_counters_are_never_offered() {
        let table = table_of(&[entry(0xa, 7, 7, 7, 7)], 0, 1);
        assert_eq!(
            (table[0].eax, table[0].ebx, table[0].ecx, table[0].edx),
            (0, 0, 0, 0)
        );
    }
}
