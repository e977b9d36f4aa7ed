//! The other devices: input, watchdogs, random numbers, TPMs, panics, USB and more.

use super::CurrentMemory;
use super::address::VirtioDriver;
use super::chardev::{CharLog, CharSource, CharType, ProtocolElement};
use super::disk::VirtioModel;
use super::storage::PathThing;
use crate::scalar::{OnOff, Text, YesNo};

choice! {
    /// What is put in.
    pub enum InputType { Mouse = "mouse", Tablet = "tablet", Keyboard = "keyboard", Passthrough = "passthrough", Evdev = "evdev" }
}

choice! {
    /// The bus of an input device.
    pub enum InputBus { Ps2 = "ps2", Usb = "usb", Xen = "xen", Parallels = "parallels", Virtio = "virtio", None = "none" }
}

device! {
    /// An input device.
    Input [main "type" must ["type"]] {
        /// What is put in.
        attr "type" kind: InputType,
        /// The bus.
        attr "bus" bus: InputBus,
        /// The form of virtio.
        attr "model" model: VirtioModel,
        /// How the host drives it.
        child "driver" driver: VirtioDriver,
        /// The host's device.
        child "source" source: InputSource,
    }
}

choice! {
    /// Which keys hand input over.
    pub enum GrabToggle {
        CtrlCtrl = "ctrl-ctrl",
        AltAlt = "alt-alt",
        ShiftShift = "shift-shift",
        MetaMeta = "meta-meta",
        Scrolllock = "scrolllock",
        CtrlScrolllock = "ctrl-scrolllock",
    }
}

choice! {
    /// What is grabbed.
    pub enum Grab { All = "all" }
}

element! {
    /// An input device of the host's.
    pub struct InputSource {
        /// Its path.
        attr "evdev" evdev: String,
        /// Its path, for `evdev`.
        attr "dev" dev: String,
        /// What is grabbed with it.
        attr "grab" grab: Grab,
        /// Which keys hand it over.
        attr "grabToggle" grab_toggle: GrabToggle,
        /// Whether held keys repeat.
        attr "repeat" repeat: OnOff,
    }
}

choice! {
    /// The bus of a hub.
    pub enum HubType { Usb = "usb" }
}

device! {
    /// A hub.
    Hub [main "type" must ["type"]] {
        /// The bus.
        attr "type" kind: HubType,
    }
}

choice! {
    /// A watchdog.
    pub enum WatchdogModel { I6300esb = "i6300esb", Ib700 = "ib700", Diag288 = "diag288", Itco = "itco" }
}

choice! {
    /// What happens when a watchdog is not fed.
    pub enum WatchdogAction {
        Reset = "reset",
        Shutdown = "shutdown",
        Poweroff = "poweroff",
        Pause = "pause",
        Dump = "dump",
        None = "none",
        InjectNmi = "inject-nmi",
    }
}

device! {
    /// A watchdog.
    Watchdog [main "model" must ["model"]] {
        /// Which.
        attr "model" model: WatchdogModel,
        /// What happens when it is not fed.
        attr "action" action: WatchdogAction,
    }
}

choice! {
    /// A device that tells of panics.
    pub enum PanicModel { Isa = "isa", Pseries = "pseries", Hyperv = "hyperv", S390 = "s390", Pvpanic = "pvpanic" }
}

device! {
    /// A device that tells of panics.
    Panic [main "model"] {
        /// Which.
        attr "model" model: PanicModel,
    }
}

choice! {
    /// Where random numbers come from.
    pub enum RngBackendModel { Random = "random", Egd = "egd", Builtin = "builtin" }
}

device! {
    /// A device that gives random numbers.
    Rng [must ["model"]] {
        /// The form of virtio.
        attr "model" model: VirtioModel,
        /// How the host drives it.
        child "driver" driver: VirtioDriver,
        /// The most that is given.
        child "rate" rate: RngRate,
        /// Where they come from.
        child "backend" backend: RngBackend,
    }
}

element! {
    /// The most that is given.
    pub struct RngRate must ["bytes"] {
        /// Bytes.
        attr "bytes" bytes: u32,
        /// In so many milliseconds; 1000 where not stated.
        attr "period" period: u32,
    }
}

element! {
    /// Where random numbers come from.
    pub struct RngBackend must ["model"] {
        /// A device's path.
        text "value" value: Text,
        /// The way.
        attr "model" model: RngBackendModel,
        /// How a daemon is reached.
        attr "type" kind: CharType,
        /// The daemon.
        list "source" sources: CharSource,
        /// What is spoken.
        child "protocol" protocol: ProtocolElement,
        /// Where what is said is written too.
        child "log" log: CharLog,
    }
}

choice! {
    /// A TPM's device.
    pub enum TpmModel { Tis = "tpm-tis", Crb = "tpm-crb", Spapr = "tpm-spapr", SpaprProxy = "spapr-tpm-proxy" }
}

choice! {
    /// What a TPM is made of.
    pub enum TpmBackendType { Passthrough = "passthrough", Emulator = "emulator", External = "external" }
}

choice! {
    /// A TPM's version.
    pub enum TpmVersion { V12 = "1.2", V20 = "2.0" }
}

device! {
    /// A TPM.
    Tpm [] {
        /// The device.
        attr "model" model: TpmModel,
        /// What it is made of.
        child "backend" backend: TpmBackend,
    }
}

element! {
    /// What a TPM is made of.
    pub struct TpmBackend must ["type"] {
        /// The way.
        attr "type" kind: TpmBackendType,
        /// The version.
        attr "version" version: TpmVersion,
        /// Whether its state outlives the definition.
        attr "persistent_state" persistent_state: YesNo,
        /// How much is logged.
        attr "debug" debug: u32,
        /// The host's device.
        child "device" device: PathThing,
        /// How its state is encrypted.
        child "encryption" encryption: TpmEncryption,
        /// Banks of measurements.
        child "active_pcr_banks" active_pcr_banks: PcrBanks,
        /// Where its state lies.
        child "source" source: TpmSource,
        /// How it is set up.
        child "profile" profile: TpmProfile,
    }
}

element! {
    /// How a TPM's state is encrypted.
    pub struct TpmEncryption main "secret" must ["secret"] {
        /// The secret's identity.
        attr "secret" secret: uuid::Uuid,
    }
}

element! {
    /// Banks of measurements.
    pub struct PcrBanks {
        /// SHA-1.
        flag "sha1" sha1: bool,
        /// SHA-256.
        flag "sha256" sha256: bool,
        /// SHA-384.
        flag "sha384" sha384: bool,
        /// SHA-512.
        flag "sha512" sha512: bool,
    }
}

choice! {
    /// What a TPM's state lies on, or how one outside is reached.
    pub enum TpmSourceType { File = "file", Dir = "dir", Unix = "unix" }
}

element! {
    /// Where a TPM's state lies.
    pub struct TpmSource {
        /// On what.
        attr "type" kind: TpmSourceType,
        /// Where.
        attr "path" path: String,
        /// Who opens a connection.
        attr "mode" mode: super::chardev::CharMode,
    }
}

choice! {
    /// What is taken out of a TPM's profile.
    pub enum RemoveDisabled { Check = "check", FipsHost = "fips-host" }
}

element! {
    /// How a TPM is set up.
    pub struct TpmProfile {
        /// The profile it comes from.
        attr "source" source: String,
        /// What is taken out of it.
        attr "removeDisabled" remove_disabled: RemoveDisabled,
        /// Its name, in output of libvirt.
        attr "name" name: String,
    }
}

element! {
    /// Which USB devices may be handed over.
    pub struct RedirFilter {
        /// Rules; the first that fits decides.
        list "usbdev" usbdevs: UsbRule,
    }
}

element! {
    /// A rule about USB devices; -1 for any.
    pub struct UsbRule must ["allow"] {
        /// The class.
        attr "class" class: String,
        /// The maker.
        attr "vendor" vendor: String,
        /// What it is.
        attr "product" product: String,
        /// The version.
        attr "version" version: String,
        /// Whether they may.
        attr "allow" allow: YesNo,
    }
}

element! {
    /// A lease that keeps two hosts from running one guest.
    pub struct Lease must ["key", "target"] {
        /// The space it is in.
        leaf "lockspace" lockspace: Text,
        /// Its key.
        leaf "key" key: String,
        /// Where it lies.
        child "target" target: LeaseTarget,
    }
}

element! {
    /// Where a lease lies.
    pub struct LeaseTarget must ["path"] {
        /// The file.
        attr "path" path: String,
        /// Where in it.
        attr "offset" offset: u64,
    }
}

device! {
    /// A socket between guest and host.
    Vsock [] {
        /// The form of virtio.
        attr "model" model: VirtioModel,
        /// The guest's address.
        child "cid" cid: Cid,
        /// How the host drives it.
        child "driver" driver: VirtioDriver,
    }
}

element! {
    /// A guest's address on sockets.
    pub struct Cid main "address" {
        /// Whether it is chosen.
        attr "auto" auto: YesNo,
        /// The address, from 3.
        attr "address" address: u32,
    }
}

choice! {
    /// A unit that translates addresses of devices.
    pub enum IommuModel { Intel = "intel", Smmuv3 = "smmuv3", Virtio = "virtio", Amd = "amd" }
}

device! {
    /// A unit that translates addresses of devices.
    Iommu [main "model" must ["model"]] {
        /// Which.
        attr "model" model: IommuModel,
        /// Its ways.
        child "driver" driver: IommuDriver,
    }
}

element! {
    /// The ways of a unit that translates addresses.
    pub struct IommuDriver {
        /// Whether interrupts are translated.
        attr "intremap" intremap: OnOff,
        /// Whether the guest tells of every change.
        attr "caching_mode" caching_mode: OnOff,
        /// Whether interrupts may go to far processors.
        attr "eim" eim: OnOff,
        /// Whether devices keep translations.
        attr "iotlb" iotlb: OnOff,
        /// The width of addresses.
        attr "aw_bits" aw_bits: u32,
        /// Whether DMA is translated.
        attr "dma_translation" dma_translation: OnOff,
        /// Whether processors without numbers below 255 are served.
        attr "xtsup" xtsup: OnOff,
        /// Whether it is passed through.
        attr "passthrough" passthrough: OnOff,
        /// The guest's size of pages, or the host's (virtio).
        attr "granule" granule: String,
    }
}

device! {
    /// A device that encrypts.
    Crypto [must ["model"]] {
        /// The form of virtio.
        attr "model" model: CryptoModel,
        /// What makes it.
        attr "type" kind: CryptoType,
        /// What does the work.
        child "backend" backend: CryptoBackend,
        /// How the host drives it.
        child "driver" driver: VirtioDriver,
    }
}

choice! {
    /// The form of a device that encrypts.
    pub enum CryptoModel { Virtio = "virtio" }
}

choice! {
    /// What makes a device that encrypts.
    pub enum CryptoType { Qemu = "qemu" }
}

choice! {
    /// What does the work of encrypting.
    pub enum CryptoBackendModel { Builtin = "builtin", Lkcf = "lkcf" }
}

element! {
    /// What does the work of encrypting.
    pub struct CryptoBackend main "model" must ["model"] {
        /// Which.
        attr "model" model: CryptoBackendModel,
        /// The number of queues.
        attr "queues" queues: u32,
    }
}

choice! {
    /// What a store for crashes is made of.
    pub enum PstoreBackend { AcpiErst = "acpi-erst" }
}

device! {
    /// A store for what is left after a crash.
    Pstore [must ["backend"]] {
        /// What it is made of.
        attr "backend" backend: PstoreBackend,
        /// Its file.
        leaf "path" path: String,
        /// Its size.
        child "size" size: CurrentMemory,
    }
}

device! {
    /// Memory that stays when the guest is off (POWER).
    NvramDevice [] {
    }
}
