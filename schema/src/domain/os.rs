//! What a guest boots, what its firmware tells it, and its clock.

use crate::scalar::{Form, Scalar, ScalarInfo, Text, YesNo};
use std::borrow::Cow;

choice! {
    /// How much of a machine a guest sees.
    pub enum OsType { Hvm = "hvm", Linux = "linux", Xen = "xen", XenPvh = "xenpvh", Exe = "exe", Uml = "uml" }
}

choice! {
    /// What is booted from.
    pub enum BootDevice {
        /// A hard disk.
        Hd = "hd",
        /// A floppy disk.
        Fd = "fd",
        /// A CD.
        Cdrom = "cdrom",
        /// The network.
        Network = "network",
    }
}

choice! {
    /// How firmware is chosen.
    pub enum Firmware { Bios = "bios", Efi = "efi" }
}

choice! {
    /// How firmware is loaded.
    pub enum LoaderType { Rom = "rom", Pflash = "pflash" }
}

choice! {
    /// Where firmware's tables come from.
    pub enum SmbiosMode { Emulate = "emulate", Host = "host", Sysinfo = "sysinfo" }
}

element! {
    /// What a guest boots.
    pub struct Os {
        /// How firmware is chosen.
        attr "firmware" = "firmware-auto" firmware: Firmware,
        /// The machine.
        child "type" kind: OsTypeElement,
        /// The first program, for containers.
        leaf "init" init: String,
        /// Its arguments.
        leaves "initarg" initargs: Text,
        /// Its environment.
        list "initenv" initenvs: InitEnv,
        /// Its directory.
        leaf "initdir" initdir: String,
        /// Its user.
        leaf "inituser" inituser: String,
        /// Its group.
        leaf "initgroup" initgroup: String,
        /// What firmware must have.
        child "firmware" firmware_features: FirmwareFeatures,
        /// The firmware.
        child "loader" loader: Loader,
        /// Where firmware keeps its variables.
        child "nvram" nvram: Nvram,
        /// Where a device outside of firmware keeps its variables.
        child "varstore" varstore: VarStore,
        /// The kernel's path.
        leaf "kernel" kernel: String,
        /// The initial file system's path.
        leaf "initrd" initrd: String,
        /// The kernel's arguments.
        leaf "cmdline" cmdline: Text,
        /// What the kernel takes as its root (user-mode Linux).
        leaf "root" root: String,
        /// The path of extra files for the kernel's EFI stub.
        leaf "shim" shim: String,
        /// A device tree's path.
        leaf "dtb" dtb: String,
        /// What is tried, in order.
        list "boot" boots: Boot,
        /// Tables handed to the guest.
        child "acpi" acpi: OsAcpi,
        /// The menu at boot.
        child "bootmenu" bootmenu: BootMenu,
        /// Where firmware's tables come from.
        child "smbios" smbios: Smbios,
        /// The firmware's ways.
        child "bios" bios: Bios,
    }
}

element! {
    /// The machine.
    pub struct OsTypeElement {
        /// How much of a machine it is; hvm where not stated.
        text "value" value: OsType,
        /// The processor's family, such as `x86_64`.
        attr "arch" arch: String,
        /// The machine's name, such as `q35`.
        attr "machine" machine: String,
    }
}

element! {
    /// A variable of a container's first program.
    pub struct InitEnv {
        /// Its value.
        text "value" value: Text,
        /// Its name.
        attr "name" name: String,
    }
}

element! {
    /// What firmware must have.
    pub struct FirmwareFeatures {
        /// How it is chosen, in the old place.
        attr "type" kind: Firmware,
        /// Each of them.
        list "feature" features: FirmwareFeature,
    }
}

element! {
    /// Something that firmware must have or lack.
    pub struct FirmwareFeature must ["name", "enabled"] {
        /// Its name, such as `secure-boot`.
        attr "name" name: FirmwareFeatureName,
        /// Whether it must have it.
        attr "enabled" enabled: YesNo,
    }
}

choice! {
    /// Something firmware may have.
    pub enum FirmwareFeatureName { EnrolledKeys = "enrolled-keys", SecureBoot = "secure-boot" }
}

element! {
    /// The firmware.
    pub struct Loader {
        /// Its path.
        text "value" value: Text,
        /// Whether it cannot be written.
        attr "readonly" readonly: YesNo,
        /// How it is loaded.
        attr "type" kind: LoaderType,
        /// Whether it needs protected memory.
        attr "secure" secure: YesNo,
        /// Whether it keeps no variables.
        attr "stateless" stateless: YesNo,
        /// Its format.
        attr "format" format: String,
    }
}

element! {
    /// Where firmware keeps its variables.
    pub struct Nvram {
        /// The path.
        text "value" value: Text,
        /// What it is made from.
        attr "template" template: String,
        /// The format of that.
        attr "templateFormat" template_format: String,
        /// Its format.
        attr "format" format: String,
        /// What it lies on.
        attr "type" kind: super::disk::DiskType,
        /// Where it lies.
        child "source" source: Box<super::storage::DiskSource>,
    }
}

element! {
    /// Where a device outside of firmware keeps its variables.
    pub struct VarStore main "path" {
        /// What it is made from.
        attr "template" template: String,
        /// Its path.
        attr "path" path: String,
    }
}

element! {
    /// Something to boot from.
    pub struct Boot main "dev" must ["dev"] {
        /// What.
        attr "dev" dev: BootDevice,
    }
}

element! {
    /// Tables handed to a guest.
    pub struct OsAcpi {
        /// The tables.
        list "table" tables: AcpiTable,
    }
}

element! {
    /// A table.
    pub struct AcpiTable must ["type"] {
        /// Its path.
        text "value" value: String,
        /// Its kind: `slic`, `raw` and such.
        attr "type" kind: String,
    }
}

element! {
    /// The menu at boot.
    pub struct BootMenu {
        /// Whether there is one.
        attr "enable" enable: YesNo,
        /// How long it waits, in milliseconds (0 to 65535).
        attr "timeout" timeout: u16,
    }
}

element! {
    /// Where firmware's tables come from.
    pub struct Smbios main "mode" must ["mode"] {
        /// The way.
        attr "mode" mode: SmbiosMode,
    }
}

element! {
    /// The firmware's ways.
    pub struct Bios {
        /// Whether it speaks on the serial port.
        attr "useserial" useserial: YesNo,
        /// Milliseconds until it tries again when nothing boots; -1 never.
        attr "rebootTimeout" reboot_timeout: crate::scalar::Within<-1, 65535>,
    }
}

choice! {
    /// The kind of what firmware tells.
    pub enum SysInfoType { Smbios = "smbios", FwCfg = "fwcfg" }
}

element! {
    /// What firmware tells the guest of its machine.
    pub struct SysInfo must ["type"] {
        /// The kind.
        attr "type" kind: SysInfoType,
        /// Of the firmware.
        child "bios" bios: SysInfoBlock,
        /// Of the machine.
        child "system" system: SysInfoBlock,
        /// Of its boards.
        list "baseBoard" = "baseBoards" base_boards: SysInfoBlock,
        /// Of its case.
        child "chassis" chassis: SysInfoBlock,
        /// Texts of the maker's.
        child "oemStrings" oem_strings: OemStrings,
        /// Entries handed through QEMU's device.
        list "entry" entries: SysInfoEntry,
    }
}

element! {
    /// Entries about one thing.
    pub struct SysInfoBlock {
        /// The entries.
        list "entry" entries: SysInfoEntry,
    }
}

element! {
    /// One entry.
    pub struct SysInfoEntry {
        /// Its value.
        text "value" value: Text,
        /// Its name.
        attr "name" name: String,
        /// A file with its value.
        attr "file" file: String,
    }
}

element! {
    /// Texts of a maker's.
    pub struct OemStrings {
        /// The texts.
        leaves "entry" entries: Text,
    }
}

choice! {
    /// What a clock starts from.
    pub enum ClockOffset {
        /// Universal time.
        Utc = "utc",
        /// The host's local time.
        Localtime = "localtime",
        /// The time of a zone.
        Timezone = "timezone",
        /// The time the guest last set.
        Variable = "variable",
        /// A fixed time.
        Absolute = "absolute",
    }
}

choice! {
    /// What a variable clock counts from.
    pub enum ClockBasis { Utc = "utc", Localtime = "localtime" }
}

/// `reset`, or seconds that a clock is ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adjustment {
    /// Back to nothing at each start.
    Reset,
    /// Seconds ahead.
    Seconds(i64),
}

impl Scalar for Adjustment {
    const INFO: ScalarInfo = ScalarInfo::new("`reset` or a number of seconds", Form::Number)
        .matching("^(reset|\\s*[+-]?[0-9]+)$");

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "reset" => Ok(Self::Reset),
            seconds => i64::parse(seconds).map(Self::Seconds),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Reset => Cow::Borrowed("reset"),
            Self::Seconds(seconds) => Cow::Owned(seconds.to_string()),
        }
    }
}

element! {
    /// A guest's clock.
    pub struct Clock main "offset" {
        /// What it starts from; utc where not stated.
        attr "offset" offset: ClockOffset,
        /// What a variable clock counts from.
        attr "basis" basis: ClockBasis,
        /// How far ahead it is.
        attr "adjustment" adjustment: Adjustment,
        /// The zone.
        attr "timezone" timezone: String,
        /// The fixed time, in seconds since 1970.
        attr "start" start: u64,
        /// Timers.
        list "timer" timers: Timer,
    }
}

choice! {
    /// A source of time.
    pub enum TimerName {
        Platform = "platform",
        Pit = "pit",
        Rtc = "rtc",
        Hpet = "hpet",
        Tsc = "tsc",
        Kvmclock = "kvmclock",
        Hypervclock = "hypervclock",
        Armvtimer = "armvtimer",
    }
}

choice! {
    /// What happens to ticks that a guest missed.
    pub enum TickPolicy { Delay = "delay", Catchup = "catchup", Merge = "merge", Discard = "discard" }
}

choice! {
    /// What a timer follows.
    pub enum TimerTrack { Boot = "boot", Guest = "guest", Wall = "wall", Realtime = "realtime" }
}

choice! {
    /// How the time stamp counter is made.
    pub enum TscMode { Auto = "auto", Native = "native", Emulate = "emulate", Paravirt = "paravirt", Smpsafe = "smpsafe" }
}

element! {
    /// A timer.
    pub struct Timer main "name" must ["name"] {
        /// Its name.
        attr "name" name: TimerName,
        /// Whether it is there.
        attr "present" present: YesNo,
        /// What it follows.
        attr "track" track: TimerTrack,
        /// What happens to missed ticks.
        attr "tickpolicy" tickpolicy: TickPolicy,
        /// Its frequency in Hz.
        attr "frequency" frequency: u64,
        /// How it is made.
        attr "mode" mode: TscMode,
        /// How missed ticks are made up for.
        child "catchup" catchup: Catchup,
    }
}

element! {
    /// How missed ticks are made up for.
    pub struct Catchup {
        /// Ticks behind before it begins.
        attr "threshold" threshold: u64,
        /// How much faster it goes.
        attr "slew" slew: u64,
        /// The most that is made up for.
        attr "limit" limit: u64,
    }
}
