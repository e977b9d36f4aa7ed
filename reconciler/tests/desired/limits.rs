//! The `<iotune>` of a disk.

use vireo_reconciler::ledger::Ledger;

use super::build;

#[test]
fn limits_that_contradict_themselves_or_their_group_are_refused() {
    let files = |first: &str, second: &str| {
        let disk = |name: &str, limits: &str| {
            format!("{{file: /{name}, format: raw, dev: {name}, iotune: {{{limits}}}}}")
        };
        let (first, second) = (disk("vda", first), disk("vdb", second));
        format!("domain: web\nmemory: 512 MiB\nkernel: /boot/vmlinuz\ndisks: [{first}, {second}]\n")
    };
    let problems = |first: &str, second: &str| {
        let text = files(first, second);
        build(&[("web.yaml", &text)], &Ledger::default())
            .problems
            .len()
    };
    let shared = "total_bytes_sec: 1000, group_name: slow";
    for sound in [
        (shared, shared),
        (shared, "total_bytes_sec: 2000, group_name: other"),
        (shared, "group_name: slow"),
        (
            "read_iops_sec: 5, read_iops_sec_max: 5, read_iops_sec_max_length: 9",
            "total_bytes_sec: 0",
        ),
    ] {
        assert_eq!(problems(sound.0, sound.1), 0, "{sound:?}");
    }
    for wrong in [
        (shared, "total_bytes_sec: 2000, group_name: slow"),
        ("read_iops_sec_max: 5", ""),
        ("read_iops_sec: 5, read_iops_sec_max: 4", ""),
        ("read_iops_sec: 5, read_iops_sec_max_length: 4", ""),
        ("write_bytes_sec: 1000000000000001", ""),
        (
            "write_bytes_sec: 1, write_bytes_sec_max: 1000000000000, write_bytes_sec_max_length: 1001",
            "",
        ),
    ] {
        assert_ne!(problems(wrong.0, wrong.1), 0, "{wrong:?}");
    }
}
