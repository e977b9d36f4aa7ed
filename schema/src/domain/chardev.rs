//! Devices that carry characters: serial and parallel ports, consoles, channels, and what they lead to.

use super::security::DeviceSecLabel;
use super::storage::Reconnect;
use crate::scalar::{Number, OnOff, Text, YesNo};

choice! {
    /// What is at the host's end.
    pub enum CharType {
        Null = "null",
        Vc = "vc",
        Pty = "pty",
        Dev = "dev",
        File = "file",
        Pipe = "pipe",
        Stdio = "stdio",
        Udp = "udp",
        Tcp = "tcp",
        Unix = "unix",
        Spicevmc = "spicevmc",
        Spiceport = "spiceport",
        Nmdm = "nmdm",
        QemuVdagent = "qemu-vdagent",
        Dbus = "dbus",
    }
}

choice! {
    /// Who opens a connection.
    pub enum CharMode { Connect = "connect", Bind = "bind", Client = "client", Server = "server" }
}

choice! {
    /// What is spoken over TCP.
    pub enum CharProtocol { Raw = "raw", Telnet = "telnet", Telnets = "telnets", Tls = "tls" }
}

element! {
    /// What is at the host's end; UDP has one for each direction.
    pub struct CharSource {
        /// A path.
        attr "path" path: String,
        /// Who opens a connection.
        attr "mode" mode: CharMode,
        /// A server.
        attr "host" host: Text,
        /// Its port.
        attr "service" service: String,
        /// A channel's name.
        attr "channel" channel: String,
        /// The host's end of a pair of devices.
        attr "master" master: String,
        /// The guest's end of it.
        attr "slave" slave: String,
        /// Whether a file is written on at its end.
        attr "append" append: OnOff,
        /// Whether the connection is encrypted.
        attr "tls" tls: YesNo,
        /// A group of file descriptors handed over.
        attr "fdgroup" fdgroup: String,
        /// When a lost connection is tried again.
        child "reconnect" reconnect: Reconnect,
        /// Whether texts may be copied.
        child "clipboard" clipboard: CopyPaste,
        /// Who draws the mouse.
        child "mouse" mouse: MouseMode,
        /// Labels of its own.
        list "seclabel" seclabels: DeviceSecLabel,
    }
}

element! {
    /// Whether texts may be copied.
    pub struct CopyPaste main "copypaste" {
        /// If so.
        attr "copypaste" copypaste: YesNo,
    }
}

choice! {
    /// Who draws the mouse.
    pub enum MouseModeName { Server = "server", Client = "client" }
}

element! {
    /// Who draws the mouse.
    pub struct MouseMode main "mode" {
        /// Who.
        attr "mode" mode: MouseModeName,
    }
}

element! {
    /// What is spoken.
    pub struct ProtocolElement main "type" {
        /// The protocol.
        attr "type" kind: CharProtocol,
    }
}

element! {
    /// Where what is said is written too.
    pub struct CharLog main "file" must ["file"] {
        /// The file.
        attr "file" file: String,
        /// Whether it is written on at its end.
        attr "append" append: OnOff,
    }
}

choice! {
    /// What the guest sees.
    pub enum CharTargetType {
        IsaSerial = "isa-serial",
        UsbSerial = "usb-serial",
        PciSerial = "pci-serial",
        SpaprVioSerial = "spapr-vio-serial",
        SystemSerial = "system-serial",
        SclpSerial = "sclp-serial",
        IsaDebug = "isa-debug",
        Serial = "serial",
        Virtio = "virtio",
        Guestfwd = "guestfwd",
        Xen = "xen",
        Uml = "uml",
        Sclp = "sclp",
        Sclplm = "sclplm",
        Lxc = "lxc",
        Openvz = "openvz",
    }
}

choice! {
    /// Whether somebody in the guest listens.
    pub enum ChannelState { Connected = "connected", Disconnected = "disconnected" }
}

element! {
    /// What the guest sees.
    pub struct CharTarget {
        /// The kind.
        attr "type" kind: CharTargetType,
        /// The port's number.
        attr "port" port: Number,
        /// A channel's name.
        attr "name" name: String,
        /// An address a guest sends to.
        attr "address" address: std::net::Ipv4Addr,
        /// Whether somebody in the guest listens, in output of libvirt.
        attr "state" state: ChannelState,
        /// The device.
        child "model" model: CharTargetModel,
    }
}

element! {
    /// A device.
    pub struct CharTargetModel main "name" must ["name"] {
        /// Its name, such as `isa-serial`.
        attr "name" name: String,
    }
}

/// A device that carries characters.
macro_rules! char_device {
    ($(#[doc = $doc:expr])* $type:ident [$($head:tt)*] { $($rest:tt)* }) => {
        device! {
            $(#[doc = $doc])*
            $type [$($head)*] {
                /// What is at the host's end.
                attr "type" kind: CharType,
                $($rest)*
                /// What is at the host's end.
                list "source" sources: CharSource,
                /// What is spoken over TCP.
                child "protocol" protocol: ProtocolElement,
                /// Where what is said is written too.
                child "log" log: CharLog,
            }
        }
    };
}

char_device! {
    /// A serial port.
    Serial [main "type"] {
        /// The terminal, in output of libvirt.
        attr "tty" tty: String,
        /// What the guest sees.
        child "target" target: CharTarget,
    }
}

char_device! {
    /// A parallel port.
    Parallel [main "type"] {
        /// The terminal, in output of libvirt.
        attr "tty" tty: String,
        /// What the guest sees.
        child "target" target: CharTarget,
    }
}

char_device! {
    /// A console.
    Console [main "type"] {
        /// The terminal, in output of libvirt.
        attr "tty" tty: String,
        /// What the guest sees.
        child "target" target: CharTarget,
    }
}

char_device! {
    /// A channel between guest and host.
    Channel [main "type"] {
        /// What the guest sees.
        child "target" target: CharTarget,
    }
}

char_device! {
    /// A reader of smart cards.
    Smartcard [] {
        /// Where cards come from.
        attr "mode" mode: SmartcardMode,
        /// Certificates of cards that are made up.
        leaves "certificate" certificates: String,
        /// The database with them.
        leaf "database" database: String,
    }
}

choice! {
    /// Where cards come from.
    pub enum SmartcardMode { Host = "host", HostCertificates = "host-certificates", Passthrough = "passthrough" }
}

char_device! {
    /// A USB device handed over through a connection.
    RedirDev [] {
        /// The bus.
        attr "bus" bus: RedirBus,
        /// Its place in the order of boot.
        child "boot" boot: super::address::BootOrder,
    }
}

choice! {
    /// The bus of devices handed over.
    pub enum RedirBus { Usb = "usb" }
}
