//! What is handed to the program that runs a guest as it is: arguments, overrides, namespaces. It stands in namespaces of XML of its own.

use crate::scalar::Text;

element! {
    /// Arguments handed to QEMU as they are.
    pub struct QemuCommandLine {
        /// Arguments.
        list "qemu:arg" args: QemuArg,
        /// Environment.
        list "qemu:env" envs: QemuEnv,
    }
}

element! {
    /// One argument.
    pub struct QemuArg main "value" must ["value"] {
        /// The argument.
        attr "value" value: Text,
    }
}

element! {
    /// One variable of the environment.
    pub struct QemuEnv must ["name"] {
        /// Its name.
        attr "name" name: String,
        /// Its value.
        attr "value" value: Text,
    }
}

element! {
    /// What libvirt is to believe of QEMU.
    pub struct QemuCapabilities {
        /// What QEMU can do.
        list "qemu:add" adds: QemuCapability,
        /// What it cannot.
        list "qemu:del" dels: QemuCapability,
    }
}

element! {
    /// One ability of QEMU.
    pub struct QemuCapability main "capability" must ["capability"] {
        /// Its name.
        attr "capability" capability: String,
    }
}

element! {
    /// Properties of devices handed to QEMU as they are.
    pub struct QemuOverride {
        /// The devices.
        list "qemu:device" devices: QemuDevice,
    }
}

element! {
    /// Properties of one device.
    pub struct QemuDevice must ["alias"] {
        /// The device's name.
        attr "alias" alias: String,
        /// Properties of what the guest sees.
        child "qemu:frontend" frontend: QemuFrontend,
    }
}

element! {
    /// Properties of what the guest sees.
    pub struct QemuFrontend {
        /// The properties.
        list "qemu:property" properties: QemuProperty,
    }
}

element! {
    /// One property.
    pub struct QemuProperty must ["name", "type"] {
        /// Its name.
        attr "name" name: String,
        /// Its type.
        attr "type" kind: QemuPropertyType,
        /// Its value.
        attr "value" value: Text,
    }
}

choice! {
    /// The type of a property.
    pub enum QemuPropertyType { String = "string", Signed = "signed", Unsigned = "unsigned", Bool = "bool", Remove = "remove" }
}

element! {
    /// Deprecated things QEMU is to refuse.
    pub struct QemuDeprecation main "behavior" {
        /// What it does on meeting them.
        attr "behavior" behavior: String,
    }
}

element! {
    /// What a container shares with another.
    pub struct LxcNamespace {
        /// The network.
        child "lxc:sharenet" sharenet: LxcShare,
        /// Messages between processes.
        child "lxc:shareipc" shareipc: LxcShare,
        /// The host's name.
        child "lxc:shareuts" shareuts: LxcShare,
    }
}

choice! {
    /// By what a namespace is told: the name of one that was made by hand, the name of a container, the number of a process.
    pub enum LxcShareType { Netns = "netns", Name = "name", Pid = "pid" }
}

element! {
    /// A namespace of another.
    pub struct LxcShare must ["type", "value"] {
        /// By what it is told.
        attr "type" kind: LxcShareType,
        /// Which.
        attr "value" value: String,
    }
}

element! {
    /// Arguments handed to Xen's device model as they are.
    pub struct XenCommandLine {
        /// Arguments.
        list "xen:arg" args: QemuArg,
    }
}

element! {
    /// Arguments handed to bhyve as they are.
    pub struct BhyveCommandLine {
        /// Arguments.
        list "bhyve:arg" args: QemuArg,
        /// Environment.
        list "bhyve:env" envs: QemuEnv,
    }
}
