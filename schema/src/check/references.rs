//! What a definition refers to.
//!
//! In: a definition and its policy. Out: each reference with the path of the field that states it. Whether the target exists is judged by [`check`](super::check).

use crate::common::AuthSecret;
use crate::definition::{Definition, Kind};
use crate::domain::Domain;
use crate::domain::storage::DiskSource;
use crate::nwfilter::{Entry, NwFilter};
use crate::policy::{ObjectRef, Policy};
use crate::secret::UsageType;
use crate::volume::VolumeEncryption;
use std::fmt;
use std::fmt::Arguments;
use uuid::Uuid;

/// A field that names another object.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The field's path, without the root's name.
    pub path: String,
    /// What it names.
    pub target: Target,
}

/// What a reference names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An object by kind and name (a volume's is `pool/name`).
    Object(ObjectRef),
    /// A secret by its identity.
    SecretUuid(Uuid),
    /// A secret by what it is used for.
    SecretUsage(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => write!(f, "{} {}", object.kind, object.name),
            Self::SecretUuid(uuid) => write!(f, "secret {uuid}"),
            Self::SecretUsage(usage) => write!(f, "secret {usage}"),
        }
    }
}

/// Every object that a definition and its policy refer to, in the order of the fields.
pub fn references(definition: &Definition, policy: &Policy) -> Vec<Reference> {
    let mut out = List::default();
    match definition {
        Definition::Domain(domain) => out.domain(domain),
        Definition::NwFilter(filter) => out.filter(filter),
        Definition::Volume(volume) => {
            if let Some(pool) = &volume.pool {
                out.object("policy/@pool", Kind::Pool, pool.as_str());
            }
            if let Some(encryption) = volume
                .target
                .as_ref()
                .and_then(|target| target.encryption.as_ref())
            {
                out.encryption(format_args!("target/encryption"), encryption);
            }
        }
        Definition::Pool(pool) => {
            if let Some(secret) = pool
                .source
                .as_ref()
                .and_then(|source| source.auth.as_ref()?.secret.as_ref())
            {
                out.secret(format_args!("source/auth/secret"), secret);
            }
        }
        Definition::Network(_)
        | Definition::Secret(_)
        | Definition::DomainSnapshot(_)
        | Definition::NetworkPort(_)
        | Definition::DomainCheckpoint(_)
        | Definition::NwFilterBinding(_) => {}
    }
    for object in policy.needs() {
        out.0.push(Reference {
            path: "policy/@depends-on".into(),
            target: Target::Object(object.clone()),
        });
    }
    out.0
}

#[derive(Default)]
struct List(Vec<Reference>);

impl List {
    fn object(&mut self, path: impl Into<String>, kind: Kind, name: &str) {
        self.0.push(Reference {
            path: path.into(),
            target: Target::Object(ObjectRef {
                kind,
                name: name.to_owned(),
            }),
        });
    }

    fn secret(&mut self, path: Arguments<'_>, secret: &AuthSecret) {
        if let Some(uuid) = secret.uuid {
            self.0.push(Reference {
                path: format!("{path}/@uuid"),
                target: Target::SecretUuid(uuid),
            });
        } else if let Some(usage) = &secret.usage {
            self.0.push(Reference {
                path: format!("{path}/@usage"),
                target: Target::SecretUsage(usage.clone()),
            });
        }
    }

    fn encryption(&mut self, path: Arguments<'_>, encryption: &VolumeEncryption) {
        for (i, secret) in encryption.secrets.iter().enumerate() {
            let same = AuthSecret {
                kind: Some(UsageType::Volume),
                uuid: secret.uuid,
                usage: secret.usage.clone(),
                ..AuthSecret::default()
            };
            self.secret(format_args!("{path}/secret[{}]", i + 1), &same);
        }
    }

    fn filter(&mut self, filter: &NwFilter) {
        let mut number = 0;
        for entry in &filter.entries {
            let Entry::FilterRef(reference) = entry else {
                continue;
            };
            number += 1;
            if let Some(name) = &reference.filter {
                self.object(
                    format!("filterref[{number}]/@filter"),
                    Kind::NwFilter,
                    name.as_str(),
                );
            }
        }
    }

    fn domain(&mut self, domain: &Domain) {
        let Some(devices) = &domain.devices else {
            return;
        };
        for (i, disk) in devices.disks.iter().enumerate() {
            let path = format_args!("devices/disk[{}]", i + 1);
            if let Some(source) = &disk.source {
                self.disk_source(format_args!("{path}/source"), source);
            }
            if let Some(secret) = disk.auth.as_ref().and_then(|auth| auth.secret.as_ref()) {
                self.secret(format_args!("{path}/auth/secret"), secret);
            }
            if let Some(encryption) = &disk.encryption {
                self.encryption(format_args!("{path}/encryption"), encryption);
            }
        }
        for (i, filesystem) in devices.filesystems.iter().enumerate() {
            let Some(source) = &filesystem.source else {
                continue;
            };
            if let (Some(pool), Some(volume)) = (&source.pool, &source.volume) {
                self.object(
                    format!("devices/filesystem[{}]/source/@volume", i + 1),
                    Kind::Volume,
                    &format!("{pool}/{volume}"),
                );
            }
        }
        for (i, interface) in devices.interfaces.iter().enumerate() {
            let path = format_args!("devices/interface[{}]", i + 1);
            if let Some(network) = interface
                .source
                .as_ref()
                .and_then(|source| source.network.as_ref())
            {
                self.object(format!("{path}/source/@network"), Kind::Network, network);
            }
            if let Some(filter) = interface
                .filterref
                .as_ref()
                .and_then(|reference| reference.filter.as_ref())
            {
                self.object(
                    format!("{path}/filterref/@filter"),
                    Kind::NwFilter,
                    filter.as_str(),
                );
            }
        }
        for (i, graphics) in devices.graphics.iter().enumerate() {
            for (j, listen) in graphics.listens.iter().enumerate() {
                if let Some(network) = &listen.network {
                    self.object(
                        format!("devices/graphics[{}]/listen[{}]/@network", i + 1, j + 1),
                        Kind::Network,
                        network,
                    );
                }
            }
        }
    }

    fn disk_source(&mut self, path: Arguments<'_>, source: &DiskSource) {
        if let (Some(pool), Some(volume)) = (&source.pool, &source.volume) {
            self.object(
                format!("{path}/@volume"),
                Kind::Volume,
                &format!("{pool}/{volume}"),
            );
        }
        if let Some(secret) = source.auth.as_ref().and_then(|auth| auth.secret.as_ref()) {
            self.secret(format_args!("{path}/auth/secret"), secret);
        }
        if let Some(encryption) = &source.encryption {
            self.encryption(format_args!("{path}/encryption"), encryption);
        }
    }
}
