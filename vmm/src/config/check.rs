//! What can be wrong with a configuration, as far as that can be told without looking at the host.
//!
//! In comes a configuration that parsed; out go all its problems at once, each with the field's path and what would be accepted.

use std::collections::HashSet;
use std::path::Path;

use super::{
    Bytes, Guest, Memory, PanicModel, Problem, WatchdogAction, clock, cpu, disk, net, numa, pins,
    places, port, smbios,
};
use crate::layout;

impl Guest {
    /// Everything wrong with this configuration that can be told without looking at the host.
    pub fn check(&self) -> Vec<Problem> {
        let mut p = Problems::default();
        p.require(
            "name",
            !self.name.is_empty() && self.name.len() <= 255,
            "1 to 255 bytes are wanted",
        );
        p.require(
            "uuid",
            is_uuid(&self.uuid),
            "a UUID like 7b3f0f9c-5f0e-4d5a-9a54-0c8ad6c7d0a1 is wanted",
        );
        self.check_resources(&mut p);
        self.check_boot(&mut p);
        self.check_devices(&mut p);
        clock::check(&self.clock, &mut p);
        self.check_paths(&mut p);
        p.0
    }

    fn check_boot(&self, p: &mut Problems) {
        let boot = &self.boot;
        p.require(
            "boot",
            boot.kernel.is_some() != boot.disk.is_some(),
            "a kernel is wanted, or a disk to boot from, and not both",
        );
        p.require(
            "boot.initrd",
            boot.initrd.is_none() || boot.kernel.is_some(),
            "it belongs to a kernel; a disk's own configuration names its own",
        );
        if let Some(disk) = &boot.disk {
            let known = self.disks.iter().any(|known| known.id == *disk);
            p.require("boot.disk", known, format!("no disk has the id {disk:?}"));
        }
    }

    fn check_resources(&self, p: &mut Problems) {
        let size = self.memory.size;
        if let Some(page) = self.memory.page_size {
            let sizes = [Bytes(2 * layout::MIB), Bytes(layout::GIB)];
            p.require(
                "memory.page-size",
                self.memory.hugepages && sizes.contains(&page),
                "with hugepages, 2 MiB or 1 GiB are possible",
            );
        }
        let granule = self.memory.page();
        p.require(
            "memory.size",
            granule.0 > 0 && size.0.is_multiple_of(granule.0),
            format!("{size} is not a multiple of {granule}"),
        );
        let (least, most) = (Memory::LEAST, Memory::MOST);
        let fits = (least..=most).contains(&size);
        p.require(
            "memory.size",
            fits,
            format!("{size} is not between {least} and {most}"),
        );
        let count = self.vcpus.count;
        let most = layout::MAX_VCPUS;
        p.require(
            "vcpus.count",
            (1..=most).contains(&count),
            format!("{count} is not between 1 and {most}"),
        );
        cpu::check(&self.vcpus, &self.cpu, p);
        numa::check(&self.memory, &self.vcpus, p);
        pins::check(self, p);
        let cmdline = &self.boot.cmdline;
        p.require(
            "boot.cmdline",
            !cmdline.contains('\0'),
            "it contains a zero byte",
        );
        let most = layout::CMDLINE_SIZE - 1;
        let len = cmdline.len();
        p.require(
            "boot.cmdline",
            len <= most,
            format!("it has {len} bytes; at most {most} are possible"),
        );
        if let Some(target) = self.balloon.as_ref().and_then(|b| b.target) {
            p.require(
                "balloon.target",
                target <= size,
                format!("{target} is more than the memory's {size}"),
            );
        }
        if let Some(smbios) = &self.smbios {
            smbios::check(smbios, p);
        }
        let limit = self.serial.log_limit;
        p.require(
            "serial.log-limit",
            limit.0 >= 4 * layout::KIB,
            format!("{limit} is less than 4 KiB"),
        );
    }

    fn check_devices(&self, p: &mut Problems) {
        let mut ids = HashSet::new();
        disk::check(&self.disks, &mut ids, p);
        net::check(&self.interfaces, &mut ids, p);
        port::check(&self.ports, &mut ids, p);
        places::check(self, p);
        if let Some(panic) = &self.panic {
            p.require(
                "panic.slot",
                panic.slot.is_none() || panic.model == PanicModel::Pci,
                "a panic device of model isa has no PCI slot",
            );
        }
        let dumps = self.watchdog.as_ref();
        let dumps = dumps.is_some_and(|watchdog| watchdog.action == WatchdogAction::Dump);
        p.require(
            "watchdog.action",
            !dumps || self.core.is_some(),
            "a dump wants a file: `core`",
        );
        if let Some(vsock) = &self.vsock {
            p.require(
                "vsock.cid",
                (3..u32::MAX).contains(&vsock.cid),
                "3 to 4294967294 are possible",
            );
            // The longest port follows an underscore.
            let short = vsock.socket.as_os_str().len() + 11 < 108;
            p.require("vsock.socket", short, "its path has at most 96 bytes");
        }
    }

    fn check_paths(&self, p: &mut Problems) {
        let mut absolute = |field: String, path: &Path| {
            p.require(
                field,
                path.is_absolute(),
                format!("{} is not an absolute path", path.display()),
            );
        };
        absolute("control".into(), &self.control);
        absolute("state".into(), &self.state);
        let optional = [
            ("boot.kernel", self.boot.kernel.as_ref()),
            ("boot.initrd", self.boot.initrd.as_ref()),
            ("core", self.core.as_ref()),
            ("clock.keep", self.clock.keep.as_ref()),
            ("serial.log", self.serial.log.as_ref()),
            ("serial.socket", self.serial.socket.as_ref()),
            ("vsock.socket", self.vsock.as_ref().map(|v| &v.socket)),
            ("rng.source", self.rng.as_ref().map(|r| &r.source)),
        ];
        for (field, path) in optional {
            if let Some(path) = path {
                absolute(field.into(), path);
            }
        }
        for (i, disk) in self.disks.iter().enumerate() {
            absolute(format!("disks[{i}].path"), &disk.path);
        }
        for (i, port) in self.ports.iter().enumerate() {
            let paths = [("log", &port.log), ("socket", &port.socket)];
            for (name, path) in paths {
                if let Some(path) = path {
                    absolute(format!("ports[{i}].{name}"), path);
                }
            }
        }
        let sockets = self.ports.iter().map(|port| port.socket.as_ref());
        let sockets = sockets.map(|socket| ("ports", socket));
        // A unix socket's name must fit in `sockaddr_un`.
        for (field, path) in [
            ("control", Some(&self.control)),
            ("serial.socket", self.serial.socket.as_ref()),
        ]
        .into_iter()
        .chain(sockets)
        {
            let short = path.is_none_or(|path| path.as_os_str().len() < 108);
            p.require(field, short, "a unix socket's path has at most 107 bytes");
        }
    }
}

#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn into_inner(self) -> Vec<Problem> {
        self.0
    }

    pub(super) fn require(
        &mut self,
        field: impl Into<String>,
        holds: bool,
        message: impl Into<String>,
    ) {
        if !holds {
            self.0.push(Problem {
                field: field.into(),
                message: message.into(),
            });
        }
    }

    pub(super) fn id<'a>(&mut self, field: String, id: &'a str, seen: &mut HashSet<&'a str>) {
        let sound = !id.is_empty() && id.len() <= 64;
        self.require(&field, sound, "1 to 64 bytes are wanted");
        self.require(field, seen.insert(id), format!("{id:?} names two devices"));
    }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|g| g.len()).eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|g| g.bytes().all(|b| b.is_ascii_hexdigit()))
}
