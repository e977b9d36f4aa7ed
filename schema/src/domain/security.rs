//! How a guest is kept from others, and its memory from the host.

use crate::scalar::{Hex, Number, Text, YesNo};

choice! {
    /// How a label is chosen.
    pub enum SecLabelType { None = "none", Static = "static", Dynamic = "dynamic" }
}

element! {
    /// How a guest is kept from others.
    pub struct SecLabel main "type" {
        /// How the label is chosen.
        attr "type" kind: SecLabelType,
        /// The kernel's manner: `selinux`, `apparmor`, `dac`, `none`.
        attr "model" model: String,
        /// Whether files are labelled.
        attr "relabel" relabel: YesNo,
        /// The label.
        leaf "label" label: String,
        /// What a dynamic label is made from.
        leaf "baselabel" baselabel: String,
        /// The label of files, in output of libvirt.
        leaf "imagelabel" imagelabel: String,
    }
}

element! {
    /// A label of one file or device.
    pub struct DeviceSecLabel {
        /// The kernel's manner.
        attr "model" model: String,
        /// Whether it is labelled.
        attr "relabel" relabel: YesNo,
        /// Whether labelling failed for lack of support, in output of libvirt.
        attr "labelskip" labelskip: YesNo,
        /// The label.
        leaf "label" label: String,
    }
}

choice! {
    /// How memory is kept from the host.
    pub enum LaunchSecurityType { Sev = "sev", SevSnp = "sev-snp", S390Pv = "s390-pv", Tdx = "tdx" }
}

element! {
    /// How a guest's memory is kept from the host.
    pub struct LaunchSecurity must ["type"] {
        /// The way.
        attr "type" kind: LaunchSecurityType,
        /// Whether the kernel's hashes are measured.
        attr "kernelHashes" kernel_hashes: YesNo,
        /// Whether the author's key is used.
        attr "authorKey" author_key: YesNo,
        /// Whether the chip's key is used.
        attr "vcek" vcek: YesNo,
        /// The bit of addresses that says so.
        leaf "cbitpos" cbitpos: Number,
        /// Bits of addresses that are lost.
        leaf "reducedPhysBits" reduced_phys_bits: Number,
        /// What the firmware of the chip allows.
        leaf "policy" policy: Hex,
        /// The owner's certificate.
        leaf "dhCert" dh_cert: Text,
        /// The session's data.
        leaf "session" session: Text,
        /// What the guest sees of the host's ways around.
        leaf "guestVisibleWorkarounds" guest_visible_workarounds: Text,
        /// The identity's block.
        leaf "idBlock" id_block: Text,
        /// The identity's proof.
        leaf "idAuth" id_auth: Text,
        /// Data of the host's.
        leaf "hostData" host_data: Text,
        /// The identity of the measured guest.
        leaf "mrConfigId" mr_config_id: Text,
        /// The identity of its owner.
        leaf "mrOwner" mr_owner: Text,
        /// The identity of its owner's configuration.
        leaf "mrOwnerConfig" mr_owner_config: Text,
        /// The service that signs what was measured (TDX).
        child "quoteGenerationService" quote_generation_service: super::storage::PathThing,
    }
}
