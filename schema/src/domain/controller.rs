//! Controllers: the buses that devices are on.

use super::CurrentMemory;
use crate::scalar::{Number, OnOff};

choice! {
    /// What a controller is for.
    pub enum ControllerType {
        Ide = "ide",
        Fdc = "fdc",
        Scsi = "scsi",
        Sata = "sata",
        VirtioSerial = "virtio-serial",
        Ccid = "ccid",
        Usb = "usb",
        Pci = "pci",
        Xenbus = "xenbus",
        Isa = "isa",
        Nvme = "nvme",
    }
}

device! {
    /// A controller.
    Controller [main "type" must ["type"]] {
        /// What it is for.
        attr "type" kind: ControllerType,
        /// Its number among those of its kind.
        attr "index" index: u32,
        /// The device, such as `virtio-scsi` or `pcie-root-port`.
        attr "model" model: ControllerModel,
        /// The number of ports.
        attr "ports" ports: i32,
        /// The number of interrupts.
        attr "vectors" vectors: i32,
        /// The number of grants (Xen).
        attr "maxGrantFrames" max_grant_frames: i32,
        /// The number of channels (Xen).
        attr "maxEventChannels" max_event_channels: i32,
        /// The serial number (NVMe).
        attr "serial" = "serial-number" serial_attribute: String,
        /// The serial number (NVMe).
        leaf "serial" serial: String,
        /// The USB controller it is a companion of.
        child "master" master: Master,
        /// How the host drives it.
        child "driver" driver: ControllerDriver,
        /// The device on a PCI bus.
        child "model" = "device" device: NamedModel,
        /// Its numbers on a PCI bus.
        child "target" target: ControllerTarget,
        /// The window for devices above 4 GiB.
        child "pcihole64" pcihole64: CurrentMemory,
    }
}

choice! {
    /// The device that makes a controller.
    pub enum ControllerModel {
        Piix3Uhci = "piix3-uhci",
        Piix4Uhci = "piix4-uhci",
        Ehci = "ehci",
        Ich9Ehci1 = "ich9-ehci1",
        Ich9Uhci1 = "ich9-uhci1",
        Ich9Uhci2 = "ich9-uhci2",
        Ich9Uhci3 = "ich9-uhci3",
        Vt82c686bUhci = "vt82c686b-uhci",
        PciOhci = "pci-ohci",
        NecXhci = "nec-xhci",
        QusbOne = "qusb1",
        QusbTwo = "qusb2",
        QemuXhci = "qemu-xhci",
        None = "none",
        Auto = "auto",
        Buslogic = "buslogic",
        Lsilogic = "lsilogic",
        Lsisas1068 = "lsisas1068",
        Vmpvscsi = "vmpvscsi",
        IbmVscsi = "ibmvscsi",
        VirtioScsi = "virtio-scsi",
        Lsisas1078 = "lsisas1078",
        VirtioTransitional = "virtio-transitional",
        VirtioNonTransitional = "virtio-non-transitional",
        Virtio = "virtio",
        Ncr53c90 = "ncr53c90",
        Dc390 = "dc390",
        Am53c974 = "am53c974",
        PciRoot = "pci-root",
        PcieRoot = "pcie-root",
        PciBridge = "pci-bridge",
        DmiToPciBridge = "dmi-to-pci-bridge",
        PcieToPciBridge = "pcie-to-pci-bridge",
        PcieRootPort = "pcie-root-port",
        PcieSwitchUpstreamPort = "pcie-switch-upstream-port",
        PcieSwitchDownstreamPort = "pcie-switch-downstream-port",
        PciExpanderBus = "pci-expander-bus",
        PcieExpanderBus = "pcie-expander-bus",
        Piix3 = "piix3",
        Piix4 = "piix4",
        Ich6 = "ich6",
        Nvme = "nvme",
    }
}

element! {
    /// The controller that this one is a companion of.
    pub struct Master main "startport" {
        /// The first of its ports that this one serves.
        attr "startport" startport: u32,
    }
}

virtio_driver! {
    /// How the host drives a controller.
    ControllerDriver [] {
        /// The number of queues.
        attr "queues" queues: u32,
        /// Commands in flight for one unit.
        attr "cmd_per_lun" cmd_per_lun: u32,
        /// The greatest request, in sectors.
        attr "max_sectors" max_sectors: u32,
        /// Whether the guest's notifications are taken by the kernel.
        attr "ioeventfd" ioeventfd: OnOff,
        /// The thread that serves it.
        attr "iothread" iothread: u32,
        /// Threads for its queues.
        child "iothreads" iothreads: super::disk::DiskIoThreads,
    }
}

element! {
    /// The device on a PCI bus.
    pub struct NamedModel main "name" must ["name"] {
        /// Its name, such as `pcie-root-port`.
        attr "name" name: String,
    }
}

element! {
    /// Numbers on a PCI bus.
    pub struct ControllerTarget {
        /// The bridge's number.
        attr "chassisNr" chassis_nr: Number,
        /// The chassis of a port.
        attr "chassis" chassis: Number,
        /// The port.
        attr "port" port: Number,
        /// The bus of an expander.
        attr "busNr" bus_nr: Number,
        /// The index of a host bridge.
        attr "index" index: Number,
        /// Whether devices may be put in while the guest runs.
        attr "hotplug" hotplug: OnOff,
        /// Memory reserved behind it, in KiB.
        attr "memReserve" mem_reserve: Number,
        /// The NUMA cell it is in.
        leaf "node" node: u32,
    }
}
