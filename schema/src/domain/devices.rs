//! The list of a guest's devices.

use super::{chardev, controller, disk, filesystem, graphics, hostdev, interface, memory, misc};

element! {
    /// A guest's devices. The order among those of one kind counts, the order between kinds does not.
    pub struct Devices {
        /// The emulator's path; chosen where not stated.
        leaf "emulator" emulator: String,
        /// Disks.
        list "disk" disks: disk::Disk,
        /// Network interfaces.
        list "interface" interfaces: interface::Interface,
        /// Controllers.
        list "controller" controllers: controller::Controller,
        /// Leases.
        list "lease" leases: misc::Lease,
        /// File systems of the host's.
        list "filesystem" filesystems: filesystem::Filesystem,
        /// Readers of smart cards.
        list "smartcard" smartcards: chardev::Smartcard,
        /// Serial ports.
        list "serial" serials: chardev::Serial,
        /// Parallel ports.
        list "parallel" parallels: chardev::Parallel,
        /// Consoles.
        list "console" consoles: chardev::Console,
        /// Channels.
        list "channel" channels: chardev::Channel,
        /// Input devices.
        list "input" inputs: misc::Input,
        /// TPMs.
        list "tpm" tpms: misc::Tpm,
        /// Displays.
        list "graphics" = "displays" graphics: graphics::Graphics,
        /// Sound cards.
        list "sound" sounds: graphics::Sound,
        /// Ways of sound.
        list "audio" audios: graphics::Audio,
        /// Video devices.
        list "video" videos: graphics::Video,
        /// Devices of the host's.
        list "hostdev" hostdevs: hostdev::Hostdev,
        /// USB devices handed over through connections.
        list "redirdev" redirdevs: chardev::RedirDev,
        /// Which of these may be.
        child "redirfilter" redirfilter: misc::RedirFilter,
        /// Hubs.
        list "hub" hubs: misc::Hub,
        /// Watchdogs.
        list "watchdog" watchdogs: misc::Watchdog,
        /// The device by which the guest is given and taken memory.
        child "memballoon" memballoon: memory::MemBalloon,
        /// Devices that give random numbers.
        list "rng" rngs: misc::Rng,
        /// Memory that stays when the guest is off.
        child "nvram" nvram: misc::NvramDevice,
        /// Devices that tell of panics.
        list "panic" panics: misc::Panic,
        /// Memory shared between guests.
        list "shmem" shmems: memory::Shmem,
        /// Memory devices.
        list "memory" = "memory-devices" memory_devices: memory::MemoryDevice,
        /// The unit that translates addresses of devices.
        child "iommu" iommu: misc::Iommu,
        /// The socket between guest and host.
        child "vsock" vsock: misc::Vsock,
        /// Devices that encrypt.
        list "crypto" cryptos: misc::Crypto,
        /// The store for what is left after a crash.
        child "pstore" pstore: misc::Pstore,
    }
}
