//! Secrets: the types behind `<secret>`. A definition never holds the secret's value.

use crate::scalar::{Text, YesNo};
use uuid::Uuid;

choice! {
    /// What a secret is used for.
    pub enum UsageType {
        /// No use of its own.
        None = "none",
        /// An encrypted volume.
        Volume = "volume",
        /// A Ceph server.
        Ceph = "ceph",
        /// An iSCSI server.
        Iscsi = "iscsi",
        /// A key for TLS.
        Tls = "tls",
        /// A virtual TPM's state.
        Vtpm = "vtpm",
        /// A passphrase.
        Passphrase = "passphrase",
    }
}

element! {
    /// A secret.
    pub struct Secret {
        /// Whether it is kept in memory only.
        attr "ephemeral" ephemeral: YesNo,
        /// Whether its value is never given out.
        attr "private" private: YesNo,
        /// The secret's identity.
        leaf "uuid" uuid: Uuid,
        /// What it is.
        leaf "description" description: Text,
        /// What it is for.
        child "usage" usage: Usage,
    }
}

element! {
    /// What a secret is for; the pair of kind and object is unique.
    pub struct Usage must ["type"] {
        /// The kind of use.
        attr "type" kind: UsageType,
        /// The volume's path.
        leaf "volume" volume: String,
        /// The use's name.
        leaf "name" name: String,
        /// The iSCSI target.
        leaf "target" target: String,
    }
}

impl Secret {
    /// What it is used for, if that is stated.
    pub fn usage_id(&self) -> Option<&str> {
        let usage = self.usage.as_ref()?;
        usage
            .volume
            .as_deref()
            .or(usage.name.as_deref())
            .or(usage.target.as_deref())
    }
}
