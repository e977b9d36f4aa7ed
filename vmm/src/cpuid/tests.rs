use super::*;
use crate::config::CpuFeature;

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

fn indexed(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = registers;
    kvm_cpuid_entry2 {
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        ..entry(function, eax, ebx, ecx, edx)
    }
}

fn vcpus(dies: u32, cores: u32, threads: u32) -> Topology {
    let topology = crate::config::Topology {
        sockets: 1,
        dies,
        cores,
        threads,
    };
    Topology::new(&crate::config::Vcpus {
        count: dies * cores * threads,
        topology: Some(topology),
    })
}

fn host(entries: &[kvm_cpuid_entry2]) -> Host {
    Host {
        supported: entries.to_vec(),
        deadline: true,
    }
}

/// A host of the generation of a model, with a feature that nobody has named.
fn host_like(model: &str) -> Host {
    let mut supported = vec![
        entry(0, 0x1f, 0x756e_6547, 0, 0),
        entry(1, 0x5_0654, 0, 1 << 16, 0),
        indexed(7, 0, [1, 0, 0, 0]),
        indexed(7, 1, [0; 4]),
        indexed(0xd, 0, [0x2e7, 832, 2696, 0]),
        indexed(0xd, 1, [0; 4]),
        indexed(0xd, 2, [256, 576, 0, 0]),
        indexed(0xd, 5, [64, 1088, 0, 0]),
        indexed(0xd, 6, [512, 1152, 0, 0]),
        indexed(0xd, 7, [1024, 1664, 0, 0]),
        indexed(0xd, 9, [8, 2688, 0, 0]),
        entry(0x14, 1, 2, 3, 4),
        entry(0x8000_0001, 0, 0, 0, 0),
        entry(0x8000_0002, 1, 1, 1, 1),
    ];
    for feature in Model::named(model).unwrap().features {
        set(&mut supported, feature, true);
    }
    host(&supported)
}

fn cpu(mode: CpuMode, model: Option<&str>, features: &[(&str, FeaturePolicy)]) -> Cpu {
    let feature = |&(name, policy): &(&str, FeaturePolicy)| CpuFeature {
        name: name.to_owned(),
        policy,
    };
    Cpu {
        mode,
        model: model.map(str::to_owned),
        features: features.iter().map(feature).collect(),
    }
}

fn named(model: &str, features: &[(&str, FeaturePolicy)]) -> Cpu {
    cpu(CpuMode::Custom, Some(model), features)
}

fn table(host: &Host, cpu: &Cpu) -> Vec<kvm_cpuid_entry2> {
    let processors = Processors::new(host, cpu, vcpus(1, 1, 1)).unwrap();
    processors.table(0)
}

fn has(table: &[kvm_cpuid_entry2], name: &str) -> bool {
    Feature::named(name).unwrap().is_in(table)
}

fn at(table: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
    *table
        .iter()
        .find(|e| (e.function, e.index) == (function, index))
        .unwrap()
}

#[test]
fn each_processor_has_its_own_number() {
    let host = host(&[
        entry(0, 0x16, 0, 0, 0),
        entry(1, 0, 0x0705_0800, 0, 0),
        entry(0xb, 9, 9, 9, 9),
    ]);
    let processors = Processors::new(&host, &Cpu::default(), vcpus(1, 3, 1)).unwrap();
    let table = processors.table(2);
    // Three processors, but four identifiers.
    assert_eq!(at(&table, 1, 0).ebx, 0x0204_0800);
    assert!(has(&table, "hypervisor") && has(&table, "tsc-deadline") && has(&table, "ht"));
    let levels: Vec<_> = table
        .iter()
        .filter(|e| e.function == 0xb)
        .map(|e| (e.eax, e.ebx, e.edx))
        .collect();
    assert_eq!(levels, [(0, 1, 2), (2, 3, 2), (0, 0, 2)]);
}

#[test]
fn threads_cores_and_dies_are_told_at_every_place() {
    let host = host(&[
        entry(0, 0x1f, 0x756e_6547, 0, 0),
        entry(1, 0, 0, 0, 0),
        indexed(4, 0, [0x21, 0, 0, 0]),
        indexed(4, 3, [0x63, 0, 0, 0]),
        entry(0x8000_001e, 0, 0, 0, 0),
    ]);
    let processors = Processors::new(&host, &Cpu::default(), vcpus(2, 3, 2)).unwrap();
    // Second die, second core, second thread.
    let table = processors.table(9);
    assert_eq!(at(&table, 1, 0).ebx >> 16, 11 << 8 | 16);
    let level = |function, index| {
        let entry = at(&table, function, index);
        (entry.eax, entry.ebx, entry.ecx >> 8, entry.edx)
    };
    assert_eq!(
        [level(0xb, 0), level(0xb, 1)],
        [(1, 2, 1, 11), (4, 12, 2, 11)]
    );
    assert_eq!(
        [level(0x1f, 0), level(0x1f, 1), level(0x1f, 2)],
        [(1, 2, 1, 11), (3, 6, 2, 11), (4, 12, 5, 11)]
    );
    assert_eq!(at(&table, 4, 0).eax, 0x21 | 1 << 14 | 7 << 26);
    assert_eq!(at(&table, 4, 3).eax, 0x63 | 7 << 14 | 7 << 26);
    let amd = at(&table, 0x8000_001e, 0);
    assert_eq!((amd.eax, amd.ebx, amd.ecx), (11, 5 | 1 << 8, 1 | 1 << 8));
}

#[test]
fn a_single_processor_does_not_claim_to_be_several() {
    let mut host = host_like("x86-64-v2");
    set(&mut host.supported, Feature::named("ht").unwrap(), true);
    assert!(!has(&table(&host, &Cpu::default()), "ht"));
}

#[test]
fn performance_counters_are_never_offered() {
    let table = table(&host(&[entry(0xa, 7, 7, 7, 7)]), &Cpu::default());
    let counters = at(&table, 0xa, 0);
    assert_eq!(
        (counters.eax, counters.ebx, counters.ecx, counters.edx),
        (0, 0, 0, 0)
    );
}

#[test]
fn the_host_is_passed_through_with_what_has_no_name_and_its_model_without() {
    let host = host_like("Skylake-Server");
    let unnamed = 1 << 16;
    assert_ne!(at(&table(&host, &Cpu::default()), 1, 0).ecx & unnamed, 0);
    let model = table(&host, &cpu(CpuMode::HostModel, None, &[]));
    assert_eq!(at(&model, 1, 0).ecx & unnamed, 0);
    assert!(has(&model, "avx512f"));
}

#[test]
fn a_model_shows_what_it_has_and_no_more() {
    let host = host_like("Skylake-Server");
    let table = table(&host, &named("SandyBridge", &[]));
    assert!(has(&table, "avx") && !has(&table, "avx2") && !has(&table, "avx512f"));
    assert_eq!(
        at(&table, 1, 0).eax,
        Model::named("SandyBridge").unwrap().signature
    );
    assert_eq!(at(&table, 1, 0).ecx & 1 << 16, 0);
    assert!(table.iter().all(|e| e.function != 0x14));
    assert_eq!(&at(&table, 0x8000_0002, 0).eax.to_le_bytes(), b"Virt");
}

#[test]
fn every_model_runs_on_a_host_of_its_generation() {
    for model in models::names() {
        let mut host = host_like(model);
        host.supported[0].ebx = 0;
        let table = table(&host, &named(model, &[]));
        for feature in Model::named(model).unwrap().features {
            assert!(feature.is_in(&table), "{model} {}", feature.name());
        }
    }
}

#[test]
fn a_host_that_lacks_a_models_features_is_told_which() {
    let error = Processors::new(
        &host_like("Westmere"),
        &named("SandyBridge", &[("pcid", FeaturePolicy::Require)]),
        vcpus(1, 1, 1),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "this host's kvm lacks pcid, x2apic, xsave, avx, xsaveopt, rdtscp, which processor model SandyBridge needs"
    );
}

#[test]
fn what_a_definition_says_of_a_feature_goes_before_the_model() {
    use FeaturePolicy::{Disable, Force, Optional};
    let host = host_like("Haswell");
    let wanted = [
        ("rtm", Disable),
        ("avx512f", Force),
        ("adx", Optional),
        ("movbe", Optional),
        ("sse4_2", Disable),
    ];
    let table = table(&host, &named("IvyBridge", &wanted));
    assert!(!has(&table, "rtm") && !has(&table, "adx") && !has(&table, "sse4.2"));
    assert!(has(&table, "avx512f") && has(&table, "movbe") && has(&table, "f16c"));
    // A model whose features the definition takes away starts on a host without them.
    let old = host_like("Haswell-noTSX");
    let without = [("hle", Disable), ("rtm", Disable)];
    assert!(Processors::new(&old, &named("Haswell", &without), vcpus(1, 1, 1)).is_ok());
    assert!(Processors::new(&old, &named("Haswell", &[]), vcpus(1, 1, 1)).is_err());
}

#[test]
fn a_forbidden_feature_is_refused_where_the_host_has_it() {
    let forbid = cpu(
        CpuMode::HostPassthrough,
        None,
        &[("avx", FeaturePolicy::Forbid)],
    );
    let on = |model| Processors::new(&host_like(model), &forbid, vcpus(1, 1, 1)).map(drop);
    assert_eq!(on("Haswell"), Err(CpuError::Forbidden(vec!["avx"])));
    assert_eq!(on("Westmere"), Ok(()));
}

#[test]
fn the_extended_state_has_nothing_whose_instructions_are_not_there() {
    let host = host_like("Skylake-Server");
    let whole = table(
        &host,
        &named("Skylake-Server", &[("pku", FeaturePolicy::Optional)]),
    );
    assert_eq!(
        (at(&whole, 0xd, 0).eax, at(&whole, 0xd, 0).ecx),
        (0xe7, 2688)
    );
    let avx = table(&host, &named("Haswell", &[]));
    assert_eq!((at(&avx, 0xd, 0).eax, at(&avx, 0xd, 0).ecx), (7, 832));
    assert!(avx.iter().all(|e| e.function != 0xd || e.index <= 2));
    let none = table(&host, &named("Westmere", &[]));
    assert!(none.iter().all(|e| e.function != 0xd));
}

#[test]
fn amds_second_place_of_old_features_follows_the_first() {
    let mut host = host_like("EPYC");
    host.supported[0].ebx = 0x6874_7541;
    let table = table(&host, &named("EPYC", &[("mmx", FeaturePolicy::Disable)]));
    let (old, new) = (at(&table, 1, 0), at(&table, 0x8000_0001, 0));
    assert_eq!(new.edx & 0x0183_f3ff, old.edx & 0x0183_f3ff);
    assert_eq!(new.edx & 1 << 23, 0);
    assert_eq!(new.eax, old.eax);
}
