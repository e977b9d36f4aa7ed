//! Where a device sits: buses, slots, ports.

use crate::scalar::{Form, Hex, Number, OnOff, Scalar, ScalarInfo};
use std::borrow::Cow;
use uuid::Uuid;

choice! {
    /// The bus an address is on.
    pub enum AddressType {
        Pci = "pci",
        Drive = "drive",
        VirtioSerial = "virtio-serial",
        Ccid = "ccid",
        Usb = "usb",
        SpaprVio = "spapr-vio",
        VirtioS390 = "virtio-s390",
        Ccw = "ccw",
        VirtioMmio = "virtio-mmio",
        Isa = "isa",
        Dimm = "dimm",
        Unassigned = "unassigned",
        Mdev = "mdev",
    }
}

element! {
    /// The address of a device; which of its numbers are used depends on its bus.
    pub struct Address {
        /// The bus.
        attr "type" kind: AddressType,
        /// PCI: the domain.
        attr "domain" domain: Number,
        /// The bus's number (PCI, USB, drives, serial).
        attr "bus" bus: Number,
        /// PCI and smart cards: the slot.
        attr "slot" slot: Number,
        /// PCI: the function.
        attr "function" function: Number,
        /// PCI: whether other functions share the slot.
        attr "multifunction" multifunction: OnOff,
        /// The controller's number.
        attr "controller" controller: Number,
        /// Drives: the target.
        attr "target" target: Number,
        /// Drives: the unit.
        attr "unit" unit: Number,
        /// The port; on USB a path such as `1.2`.
        attr "port" port: String,
        /// USB on the host: the device's number.
        attr "device" device: Number,
        /// The register of a virtual I/O device, in hexadecimal.
        attr "reg" reg: Hex,
        /// ISA: the first port, in hexadecimal.
        attr "iobase" iobase: Hex,
        /// ISA: the interrupt, in hexadecimal.
        attr "irq" irq: Hex,
        /// CCW: the channel subsystem.
        attr "cssid" cssid: Number,
        /// CCW: the subchannel set.
        attr "ssid" ssid: Number,
        /// CCW: the device's number.
        attr "devno" devno: Number,
        /// Memory: the first address, in hexadecimal.
        attr "base" base: Hex,
        /// Mediated devices: the identity.
        attr "uuid" uuid: Uuid,
        /// s390: numbers of a PCI function.
        child "zpci" zpci: Zpci,
    }
}

element! {
    /// Numbers of a PCI function on s390.
    pub struct Zpci {
        /// The user's number.
        attr "uid" uid: Number,
        /// The function's number.
        attr "fid" fid: Number,
    }
}

element! {
    /// A name for a device that stays; those chosen by people begin with `ua-`.
    pub struct Alias main "name" {
        /// The name.
        attr "name" name: String,
    }
}

element! {
    /// The place of a device in ACPI's tables.
    pub struct AcpiIndex main "index" {
        /// Its number.
        attr "index" index: u32,
        /// The guest's cells it is near to.
        attr "nodeset" nodeset: crate::scalar::CpuSet,
    }
}

element! {
    /// The place of a device in the order of boot.
    pub struct BootOrder main "order" {
        /// From 1.
        attr "order" order: u32,
        /// The entry of its boot menu.
        attr "loadparm" loadparm: LoadParm,
    }
}

/// An entry of a boot menu: one to eight letters, digits, dots and spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadParm(pub String);

impl Scalar for LoadParm {
    const INFO: ScalarInfo =
        ScalarInfo::new("one to eight letters, digits, dots and spaces", Form::Text);

    fn parse(text: &str) -> Result<Self, String> {
        let sound = (1..=8).contains(&text.len())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ' '));
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(String::new())
        }
    }

    fn text(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

/// A device: the fields every one has, then its own.
macro_rules! device {
    ($(#[doc = $doc:expr])* $type:ident [$($head:tt)*] { $($rest:tt)* }) => {
        element! {
            $(#[doc = $doc])*
            pub struct $type $($head)* {
                $($rest)*
                /// Its name.
                child "alias" alias: $crate::domain::address::Alias,
                /// Its place in ACPI's tables.
                child "acpi" acpi: $crate::domain::address::AcpiIndex,
                /// Where it sits.
                child "address" address: $crate::domain::address::Address,
            }
        }
    };
}

/// A driver's element with the options that all virtio devices take.
macro_rules! virtio_driver {
    ($(#[doc = $doc:expr])* $type:ident [$($head:tt)*] { $($rest:tt)* }) => {
        element! {
            $(#[doc = $doc])*
            pub struct $type $($head)* {
                $($rest)*
                /// Whether the device goes through an emulated IOMMU.
                attr "iommu" iommu: $crate::scalar::OnOff,
                /// Whether it may keep translations of its own.
                attr "ats" ats: $crate::scalar::OnOff,
                /// Whether its queues have the packed layout.
                attr "packed" packed: $crate::scalar::OnOff,
                /// Whether each queue is notified on a page of its own.
                attr "page_per_vq" page_per_vq: $crate::scalar::OnOff,
            }
        }

        impl $type {
            /// The options that only virtio devices take, by name, and whether each is stated.
            pub fn virtio_options(&self) -> [(&'static str, bool); 4] {
                [
                    ("iommu", self.iommu.is_some()),
                    ("ats", self.ats.is_some()),
                    ("packed", self.packed.is_some()),
                    ("page_per_vq", self.page_per_vq.is_some()),
                ]
            }
        }
    };
}

virtio_driver! {
    /// The options that all virtio devices take.
    VirtioDriver [] {}
}
