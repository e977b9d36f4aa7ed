//! Devices of the host's that are handed to a guest.

use super::address::{Address, BootOrder};
use super::interface::{Rom, Teaming};
use super::storage::{Auth, Host, NamedThing};
use crate::scalar::{Number, OnOff, YesNo};

choice! {
    /// How a device is chosen.
    pub enum HostdevMode { Subsystem = "subsystem", Capabilities = "capabilities" }
}

choice! {
    /// What kind of device it is.
    pub enum HostdevType {
        Usb = "usb",
        Pci = "pci",
        Scsi = "scsi",
        ScsiHost = "scsi_host",
        Mdev = "mdev",
        Storage = "storage",
        Misc = "misc",
        Net = "net",
    }
}

choice! {
    /// How a mediated device is reached.
    pub enum HostdevModel {
        VfioPci = "vfio-pci",
        VfioCcw = "vfio-ccw",
        VfioAp = "vfio-ap",
        Virtio = "virtio",
        Transitional = "virtio-transitional",
        NonTransitional = "virtio-non-transitional",
    }
}

device! {
    /// A device of the host's.
    Hostdev [] {
        /// How it is chosen.
        attr "mode" mode: HostdevMode,
        /// What kind it is.
        attr "type" kind: HostdevType,
        /// Whether it is taken from the host when used.
        attr "managed" managed: YesNo,
        /// Whether commands are handed through.
        attr "rawio" rawio: YesNo,
        /// Who filters them.
        attr "sgio" sgio: super::disk::SgIo,
        /// How a mediated device is reached.
        attr "model" model: HostdevModel,
        /// Whether it has a display.
        attr "display" display: OnOff,
        /// Whether it shows something before its driver runs.
        attr "ramfb" ramfb: OnOff,
        /// Whether the guest may only read it.
        flag "readonly" readonly: bool,
        /// Whether several guests may use it.
        flag "shareable" shareable: bool,
        /// The device.
        child "source" source: HostdevSource,
        /// How the host drives it.
        child "driver" driver: HostdevDriver,
        /// Its place in the order of boot.
        child "boot" boot: BootOrder,
        /// Its program.
        child "rom" rom: Rom,
        /// An interface that stands in for it.
        child "teaming" teaming: Teaming,
        /// Addresses inside of a container.
        list "ip" ips: super::interface::InterfaceIp,
        /// Routes inside of a container.
        list "route" routes: crate::network::Route,
    }
}

choice! {
    /// What is done with a USB device when its guest starts anew.
    pub enum GuestReset { Off = "off", Uninitialized = "uninitialized", On = "on" }
}

choice! {
    /// What a SCSI host is reached by.
    pub enum HostdevProtocol { Iscsi = "iscsi", Vhost = "vhost", Adapter = "adapter" }
}

element! {
    /// A device of the host's; which of it is used depends on its kind.
    pub struct HostdevSource {
        /// What happens at start when it is missing.
        attr "startupPolicy" startup_policy: super::storage::StartupPolicy,
        /// What is done when its guest starts anew.
        attr "guestReset" guest_reset: GuestReset,
        /// What it is reached by.
        attr "protocol" protocol: HostdevProtocol,
        /// The name on a server.
        attr "name" name: String,
        /// The port's name of a SCSI host.
        attr "wwpn" wwpn: String,
        /// Whether changes of a device's memory are tracked.
        attr "writeFiltering" write_filtering: YesNo,
        /// The maker.
        child "vendor" vendor: IdElement,
        /// What it is.
        child "product" product: IdElement,
        /// Where it is.
        child "address" address: Address,
        /// The SCSI adapter.
        child "adapter" adapter: NamedThing,
        /// Servers.
        list "host" hosts: Host,
        /// Who one is towards them.
        child "auth" auth: Auth,
        /// The name one has as an initiator.
        child "initiator" initiator: crate::pool::Initiator,
        /// A block device.
        leaf "block" block: String,
        /// A character device.
        leaf "char" char: String,
        /// A network interface.
        leaf "interface" interface: String,
    }
}

element! {
    /// A number that tells a maker or a product.
    pub struct IdElement main "id" must ["id"] {
        /// The number.
        attr "id" id: Number,
    }
}

virtio_driver! {
    /// How the host drives a device.
    HostdevDriver [main "name"] {
        /// The driver.
        attr "name" name: HostdevDriverName,
        /// The kernel driver's own name.
        attr "model" model: String,
        /// Whether it goes through the kernel's iommufd.
        attr "iommufd" iommufd: YesNo,
    }
}

element! {
    /// Whether devices of the host's are handed over through the kernel's iommufd.
    pub struct IommuFd main "enabled" {
        /// If so.
        attr "enabled" enabled: YesNo,
        /// The group with the file descriptor to use.
        attr "fdgroup" fdgroup: String,
    }
}

choice! {
    /// What drives a device.
    pub enum HostdevDriverName { Kvm = "kvm", Vfio = "vfio", Xen = "xen" }
}
