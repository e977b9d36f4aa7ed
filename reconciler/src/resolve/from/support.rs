//! What each driver, and each kind of object, can do: by the path of the element or attribute that asks for it.
//!
//! A definition's every stated path is looked up here, so that nothing can be ignored silently: what no row covers is refused, with its place. A row ending in `/**` covers an
//! element and all inside it. Values that a covered path may not have are refused where the value is used.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::resolve::Driver;

/// Rows for both drivers.
pub(super) const DOMAIN: &[&str] = &[
    "@type",
    "@id",
    "name",
    "uuid",
    "title",
    "description",
    "metadata/**",
    "memory",
    "memory/@unit",
    "currentMemory",
    "currentMemory/@unit",
    "memoryBacking",
    "memoryBacking/hugepages",
    "memoryBacking/hugepages/page",
    "memoryBacking/hugepages/page/@size",
    "memoryBacking/hugepages/page/@unit",
    "memoryBacking/hugepages/page/@nodeset",
    "memoryBacking/nosharepages",
    "memoryBacking/locked",
    "memoryBacking/source",
    "memoryBacking/source/@type",
    "memoryBacking/access",
    "memoryBacking/access/@mode",
    "memoryBacking/allocation",
    "memoryBacking/allocation/@mode",
    "vcpu",
    "vcpu/@placement",
    "vcpu/@cpuset",
    "vcpu/@current",
    "cputune",
    "cputune/shares",
    "cputune/period",
    "cputune/quota",
    "cputune/global_period",
    "cputune/global_quota",
    "memtune",
    "memtune/hard_limit/**",
    "memtune/soft_limit/**",
    "memtune/swap_hard_limit/**",
    "numatune",
    "numatune/memory",
    "numatune/memory/@mode",
    "numatune/memory/@nodeset",
    "numatune/memory/@placement",
    "numatune/memnode",
    "numatune/memnode/@cellid",
    "numatune/memnode/@mode",
    "numatune/memnode/@nodeset",
    "blkiotune",
    "blkiotune/weight",
    "os",
    "os/type",
    "os/type/@arch",
    "os/kernel",
    "os/initrd",
    "os/cmdline",
    "os/boot",
    "os/boot/@dev",
    "os/smbios",
    "os/smbios/@mode",
    "sysinfo/**",
    "features",
    "features/acpi",
    "features/apic",
    // Every x86-64 processor has it.
    "features/pae",
    "cpu",
    "cpu/@mode",
    "cpu/@check",
    "cpu/@migratable",
    "cpu/@match",
    "cpu/model",
    "cpu/model/@fallback",
    "cpu/feature",
    "cpu/feature/@policy",
    "cpu/feature/@name",
    "cpu/topology",
    "cpu/topology/@sockets",
    "cpu/topology/@dies",
    "cpu/topology/@cores",
    "cpu/topology/@threads",
    "cpu/numa",
    "cpu/numa/cell",
    "cpu/numa/cell/@id",
    "cpu/numa/cell/@cpus",
    "cpu/numa/cell/@memory",
    "cpu/numa/cell/@unit",
    "cpu/numa/cell/@memAccess",
    "cpu/numa/cell/distances",
    "cpu/numa/cell/distances/sibling",
    "cpu/numa/cell/distances/sibling/@id",
    "cpu/numa/cell/distances/sibling/@value",
    "clock",
    "clock/@offset",
    "clock/timer",
    "clock/timer/@name",
    "clock/timer/@present",
    "clock/timer/@tickpolicy",
    "clock/timer/@frequency",
    "on_poweroff",
    "on_reboot",
    "on_crash",
    "devices",
    "devices/disk",
    "devices/disk/@type",
    "devices/disk/@device",
    "devices/disk/driver",
    "devices/disk/driver/@name",
    "devices/disk/driver/@type",
    "devices/disk/driver/@cache",
    "devices/disk/driver/@io",
    "devices/disk/driver/@discard",
    "devices/disk/driver/@detect_zeroes",
    "devices/disk/driver/@queues",
    "devices/disk/driver/@queue_size",
    "devices/disk/driver/@error_policy",
    "devices/disk/driver/@rerror_policy",
    "devices/disk/source",
    "devices/disk/source/@file",
    "devices/disk/source/@dev",
    "devices/disk/source/@pool",
    "devices/disk/source/@volume",
    "devices/disk/target",
    "devices/disk/target/@dev",
    "devices/disk/target/@bus",
    "devices/disk/boot",
    "devices/disk/boot/@order",
    "devices/disk/readonly",
    "devices/disk/shareable",
    "devices/disk/serial",
    "devices/disk/iotune",
    "devices/disk/iotune/total_bytes_sec",
    "devices/disk/iotune/total_bytes_sec_max",
    "devices/disk/iotune/total_bytes_sec_max_length",
    "devices/disk/iotune/read_bytes_sec",
    "devices/disk/iotune/read_bytes_sec_max",
    "devices/disk/iotune/read_bytes_sec_max_length",
    "devices/disk/iotune/write_bytes_sec",
    "devices/disk/iotune/write_bytes_sec_max",
    "devices/disk/iotune/write_bytes_sec_max_length",
    "devices/disk/iotune/total_iops_sec",
    "devices/disk/iotune/total_iops_sec_max",
    "devices/disk/iotune/total_iops_sec_max_length",
    "devices/disk/iotune/read_iops_sec",
    "devices/disk/iotune/read_iops_sec_max",
    "devices/disk/iotune/read_iops_sec_max_length",
    "devices/disk/iotune/write_iops_sec",
    "devices/disk/iotune/write_iops_sec_max",
    "devices/disk/iotune/write_iops_sec_max_length",
    "devices/disk/iotune/size_iops_sec",
    "devices/disk/iotune/group_name",
    "devices/disk/alias/**",
    "devices/interface",
    "devices/interface/@type",
    "devices/interface/mac",
    "devices/interface/mac/@address",
    "devices/interface/source",
    "devices/interface/source/@network",
    "devices/interface/source/@bridge",
    "devices/interface/target",
    "devices/interface/target/@dev",
    "devices/interface/script/**",
    "devices/interface/downscript/**",
    "devices/interface/model",
    "devices/interface/model/@type",
    "devices/interface/filterref/**",
    "devices/interface/bandwidth",
    "devices/interface/bandwidth/inbound",
    "devices/interface/bandwidth/inbound/@average",
    "devices/interface/bandwidth/inbound/@peak",
    "devices/interface/bandwidth/inbound/@burst",
    "devices/interface/bandwidth/outbound",
    "devices/interface/bandwidth/outbound/@average",
    "devices/interface/bandwidth/outbound/@peak",
    "devices/interface/bandwidth/outbound/@burst",
    "devices/interface/driver",
    "devices/interface/driver/@name",
    "devices/interface/driver/@queues",
    "devices/interface/driver/@rx_queue_size",
    "devices/interface/driver/@tx_queue_size",
    "devices/interface/driver/host",
    "devices/interface/driver/guest",
    "devices/interface/driver/host/@csum",
    "devices/interface/driver/host/@gso",
    "devices/interface/driver/host/@tso4",
    "devices/interface/driver/host/@tso6",
    "devices/interface/driver/host/@ecn",
    "devices/interface/driver/host/@ufo",
    "devices/interface/driver/host/@mrg_rxbuf",
    "devices/interface/driver/guest/@csum",
    "devices/interface/driver/guest/@tso4",
    "devices/interface/driver/guest/@tso6",
    "devices/interface/driver/guest/@ecn",
    "devices/interface/driver/guest/@ufo",
    "devices/interface/mtu",
    "devices/interface/mtu/@size",
    "devices/interface/link",
    "devices/interface/link/@state",
    "devices/interface/alias/**",
    "devices/serial",
    "devices/serial/@type",
    "devices/serial/target",
    "devices/serial/target/@type",
    "devices/serial/target/@port",
    "devices/serial/target/model/**",
    "devices/serial/log",
    "devices/serial/log/@file",
    "devices/serial/alias/**",
    "devices/console",
    "devices/console/@type",
    "devices/console/target",
    "devices/console/target/@type",
    "devices/console/target/@port",
    "devices/console/log",
    "devices/console/log/@file",
    "devices/console/alias/**",
    "devices/console/source",
    "devices/console/source/@path",
    "devices/console/source/@mode",
    "devices/console/source/@host",
    "devices/console/source/@service",
    "devices/channel",
    "devices/channel/@type",
    "devices/channel/source",
    "devices/channel/source/@mode",
    "devices/channel/source/@path",
    "devices/channel/target",
    "devices/channel/target/@type",
    "devices/channel/target/@name",
    "devices/channel/alias/**",
    "devices/channel/source/@host",
    "devices/channel/source/@service",
    "devices/channel/log",
    "devices/channel/log/@file",
    "devices/memballoon",
    "devices/memballoon/@model",
    "devices/memballoon/@autodeflate",
    "devices/memballoon/@freePageReporting",
    "devices/memballoon/alias/**",
    "devices/rng",
    "devices/rng/@model",
    "devices/rng/backend",
    "devices/rng/backend/@model",
    "devices/rng/alias/**",
    "devices/watchdog",
    "devices/watchdog/@model",
    "devices/watchdog/@action",
    "devices/watchdog/alias/**",
    "devices/vsock",
    "devices/vsock/@model",
    "devices/vsock/cid",
    "devices/vsock/cid/@auto",
    "devices/vsock/cid/@address",
    "devices/vsock/alias/**",
    "devices/panic",
    "devices/panic/@model",
    "devices/panic/alias/**",
    "pm",
    "pm/suspend-to-mem",
    "pm/suspend-to-mem/@enabled",
    "pm/suspend-to-disk",
    "pm/suspend-to-disk/@enabled",
    "devices/disk/address/**",
    "devices/interface/address/**",
    "devices/serial/address/**",
    "devices/console/address/**",
    "devices/channel/address/**",
    "devices/memballoon/address/**",
    "devices/rng/address/**",
    "devices/watchdog/address/**",
    "devices/panic/address/**",
    "devices/vsock/address/**",
    "devices/video",
    "devices/video/model",
    "devices/video/model/@type",
    "devices/video/address/**",
    "devices/video/alias/**",
    "devices/input",
    "devices/input/@type",
    "devices/input/@bus",
    "devices/input/address/**",
    "devices/input/alias/**",
    "devices/controller",
    "devices/controller/@type",
    "devices/controller/@index",
    "devices/controller/@model",
    "devices/controller/master",
    "devices/controller/master/@startport",
    "devices/controller/address/**",
    "devices/controller/alias/**",
    "devices/audio",
    "devices/audio/@id",
    "devices/audio/@type",
    "seclabel",
    "seclabel/@type",
    "seclabel/@model",
    "seclabel/@relabel",
];

/// Rows that only QEMU has.
pub(super) const QEMU: &[&str] = &[
    "memoryBacking/allocation/@threads",
    "os/@firmware",
    "os/type/@machine",
    "os/loader",
    "os/loader/@readonly",
    "os/loader/@type",
    "os/loader/@secure",
    "os/nvram",
    "os/nvram/@template",
    "devices/emulator",
    "devices/interface/boot",
    "devices/interface/boot/@order",
    "devices/serial/source",
    "devices/serial/source/@path",
    "devices/serial/source/@mode",
    "devices/serial/source/@host",
    "devices/serial/source/@service",
    "devices/graphics",
    "devices/graphics/@type",
    "devices/graphics/@port",
    "devices/graphics/@autoport",
    "devices/graphics/@listen",
    "devices/graphics/@keymap",
    "devices/graphics/listen",
    "devices/graphics/listen/@type",
    "devices/graphics/listen/@address",
    "devices/video/model/@ram",
    "devices/video/model/@vram",
    "devices/video/model/@vgamem",
    "devices/video/model/@heads",
    "devices/video/model/@primary",
    "devices/sound",
    "devices/sound/@model",
    "devices/sound/address/**",
    "devices/sound/alias/**",
    "devices/redirdev",
    "devices/redirdev/@bus",
    "devices/redirdev/@type",
    "devices/redirdev/address/**",
    "devices/redirdev/alias/**",
    "qemu:commandline",
    "qemu:commandline/qemu:arg",
    "qemu:commandline/qemu:arg/@value",
];

/// Rows that only the builtin driver has.
pub(super) const BUILTIN: &[&str] = &[
    "devices/interface/source/@dev",
    "devices/interface/source/@mode",
    "clock/@timezone",
    "clock/@basis",
    "clock/@adjustment",
    "clock/@start",
    "clock/timer/@track",
    "clock/timer/@mode",
    "cputune/vcpupin",
    "cputune/vcpupin/@vcpu",
    "cputune/vcpupin/@cpuset",
    "cputune/emulatorpin",
    "cputune/emulatorpin/@cpuset",
    "cputune/iothreadpin",
    "cputune/iothreadpin/@iothread",
    "cputune/iothreadpin/@cpuset",
    "iothreads",
    "iothreadids",
    "iothreadids/iothread",
    "iothreadids/iothread/@id",
    "devices/disk/driver/@iothread",
    "devices/memballoon/stats",
    "devices/memballoon/stats/@period",
    // The device and the numbers of a controller that no guest of builtin looks at.
    "devices/controller/@ports",
    "devices/controller/model/**",
    "devices/controller/target/**",
    // VMware's port, which is not there.
    "features/vmport",
    "features/vmport/@state",
    // QEMU's words, where the policy says builtin all the same.
    "os/type/@machine",
    "devices/emulator",
];

/// Devices that are handed to drivers as records.
pub const EXTRAS: &[&str] = &[
    "graphics",
    "video",
    "input",
    "sound",
    "controller",
    "redirdev",
    "watchdog",
    "panic",
    "vsock",
];

/// Rows of networks.
pub(super) const NETWORK: &[&str] = &[
    "name",
    "uuid",
    "title",
    "description",
    "metadata/**",
    "@connections",
    "forward",
    "forward/@mode",
    "forward/@dev",
    "forward/nat",
    "forward/nat/@ipv6",
    "forward/nat/address/**",
    "forward/nat/port/**",
    "forward/interface",
    "forward/interface/@dev",
    "bridge",
    "bridge/@name",
    "bridge/@stp",
    "bridge/@delay",
    "mtu",
    "mtu/@size",
    "mac",
    "mac/@address",
    "domain",
    "domain/@name",
    "domain/@localOnly",
    "dns",
    "dns/@enable",
    "dns/forwarder/**",
    "dns/txt/**",
    "dns/srv/**",
    "dns/host/**",
    "ip",
    "ip/@family",
    "ip/@address",
    "ip/@netmask",
    "ip/@prefix",
    "ip/dhcp",
    "ip/dhcp/range/**",
    "ip/dhcp/host/**",
    "ip/dhcp/bootp/**",
    "ip/tftp/**",
    "route/**",
    "dnsmasq:options/**",
];

/// Rows of directory pools. Sizes are what a look at a pool told: they ask for nothing.
pub(super) const POOL: &[&str] = &[
    "@type",
    "name",
    "uuid",
    "capacity/**",
    "allocation/**",
    "available/**",
    "source",
    "target",
    "target/path",
    "target/permissions",
    "target/permissions/mode",
    "target/permissions/owner",
    "target/permissions/group",
];

/// Rows of volumes. The key, the path and the times are what a look at a volume told: they ask for nothing.
pub(super) const VOLUME: &[&str] = &[
    "@type",
    "@vireo:pool",
    "name",
    "key",
    "capacity/**",
    "allocation/**",
    "physical/**",
    "source",
    "target",
    "target/path",
    "target/format/**",
    "target/compat",
    "target/features",
    "target/timestamps/**",
    "target/permissions",
    "target/permissions/mode",
    "target/permissions/owner",
    "target/permissions/group",
    "backingStore",
    "backingStore/path",
    "backingStore/format/**",
    "backingStore/permissions/**",
    "backingStore/timestamps/**",
];

/// Rows made ready for looking up.
#[derive(Debug)]
pub struct Rows {
    exact: HashSet<&'static str>,
    whole: HashSet<&'static str>,
}

impl Rows {
    fn of<'a>(rows: impl IntoIterator<Item = &'a &'static str>) -> Self {
        let mut ready = Self {
            exact: HashSet::new(),
            whole: HashSet::new(),
        };
        for row in rows {
            match row.strip_suffix("/**") {
                Some(whole) => ready.whole.insert(whole),
                None => ready.exact.insert(row),
            };
        }
        ready
    }

    /// Whether one of the rows covers this path.
    pub fn cover(&self, shape: &str) -> bool {
        let around = shape.match_indices('/').map(|(end, _)| &shape[..end]);
        self.exact.contains(shape)
            || around
                .chain([shape])
                .any(|prefix| self.whole.contains(prefix))
    }
}

/// What a driver can do of what a domain may ask for.
pub fn domain(driver: Driver) -> &'static Rows {
    static BUILTIN_ROWS: LazyLock<Rows> = LazyLock::new(|| Rows::of(DOMAIN.iter().chain(BUILTIN)));
    static QEMU_ROWS: LazyLock<Rows> = LazyLock::new(|| Rows::of(DOMAIN.iter().chain(QEMU)));
    match driver {
        Driver::Builtin => &BUILTIN_ROWS,
        Driver::Qemu => &QEMU_ROWS,
    }
}

/// What can be done of what a network may ask for.
pub fn network() -> &'static Rows {
    static ROWS: LazyLock<Rows> = LazyLock::new(|| Rows::of(NETWORK));
    &ROWS
}

/// What can be done of what a pool may ask for.
pub fn pool() -> &'static Rows {
    static ROWS: LazyLock<Rows> = LazyLock::new(|| Rows::of(POOL));
    &ROWS
}

/// What can be done of what a volume may ask for.
pub fn volume() -> &'static Rows {
    static ROWS: LazyLock<Rows> = LazyLock::new(|| Rows::of(VOLUME));
    &ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_covers_its_path_and_a_starred_one_all_inside() {
        let rows = Rows::of(&["a/b/**", "c"]);
        assert!(rows.cover("a/b") && rows.cover("a/b/c/@d") && rows.cover("c"));
        assert!(!rows.cover("a/bc") && !rows.cover("c/d") && !rows.cover("a"));
    }

    #[test]
    fn what_both_drivers_can_do_is_what_each_can() {
        for driver in [Driver::Qemu, Driver::Builtin] {
            let rows = domain(driver);
            assert!(
                DOMAIN
                    .iter()
                    .all(|row| rows.cover(row.trim_end_matches("/**")))
            );
        }
        assert!(!domain(Driver::Builtin).cover("devices/graphics"));
        assert!(!domain(Driver::Qemu).cover("clock/@timezone"));
    }
}
