//! A definition of any kind, its identity, and the way back to text.

use crate::checkpoint::DomainCheckpoint;
use crate::complete::targets::with_targets;
use crate::domain::Domain;
use crate::element::{Element, ElementInfo};
use crate::network::Network;
use crate::networkport::NetworkPort;
use crate::nwfilter::{NwFilter, NwFilterBinding};
use crate::policy::Policy;
use crate::pool::Pool;
use crate::scalar::MacAddr;
use crate::secret::Secret;
use crate::shape::{self, Style};
use crate::snapshot::DomainSnapshot;
use crate::source::Span;
use crate::tree::Element as Tree;
use crate::volume::Volume;
use crate::xml;
use serde_yaml::{Mapping, Value as Yaml};
use std::borrow::Cow;
use uuid::Uuid;

choice! {
    /// The kinds of definitions.
    pub enum Kind {
        /// A virtual machine.
        Domain = "domain",
        /// A virtual network.
        Network = "network",
        /// A storage pool.
        Pool = "pool",
        /// A storage volume.
        Volume = "volume",
        /// A packet filter.
        NwFilter = "nwfilter",
        /// A secret.
        Secret = "secret",
        /// What a virtual machine was at one moment.
        DomainSnapshot = "domainsnapshot",
        /// A moment since which a virtual machine's disks tell what was written.
        DomainCheckpoint = "domaincheckpoint",
        /// A virtual machine's connection to a network.
        NetworkPort = "networkport",
        /// A packet filter that holds for one tap.
        NwFilterBinding = "nwfilterbinding",
    }
}

impl Kind {
    /// The name of the root element in XML.
    pub const fn root(self) -> &'static str {
        match self {
            Self::NwFilter => "filter",
            Self::NwFilterBinding => "filterbinding",
            other => other.as_str(),
        }
    }

    /// The kind whose XML has this root element.
    pub fn from_root(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.root() == name)
    }

    /// The kind of this key in YAML; a filter's may also be written as in XML.
    pub fn from_key(key: &str) -> Option<Self> {
        key.parse().ok().or_else(|| Self::from_root(key))
    }

    /// The field table of its root element.
    pub fn info(self) -> &'static ElementInfo {
        match self {
            Self::Domain => Domain::info(),
            Self::Network => Network::info(),
            Self::Pool => Pool::info(),
            Self::Volume => Volume::info(),
            Self::NwFilter => NwFilter::info(),
            Self::Secret => Secret::info(),
            Self::DomainSnapshot => DomainSnapshot::info(),
            Self::DomainCheckpoint => DomainCheckpoint::info(),
            Self::NetworkPort => NetworkPort::info(),
            Self::NwFilterBinding => NwFilterBinding::info(),
        }
    }

    /// Whether it is what libvirt notes of guests that run, and nothing that a host could be kept equal to.
    pub const fn is_record(self) -> bool {
        matches!(
            self,
            Self::DomainSnapshot
                | Self::DomainCheckpoint
                | Self::NetworkPort
                | Self::NwFilterBinding
        )
    }

    /// The field that stands beside the kind's key in YAML, as in `domain: web`.
    pub(crate) const fn head(self) -> &'static str {
        match self {
            Self::Secret | Self::NetworkPort => "uuid",
            Self::NwFilterBinding => "portdev",
            Self::Domain
            | Self::Network
            | Self::Pool
            | Self::Volume
            | Self::NwFilter
            | Self::DomainSnapshot
            | Self::DomainCheckpoint => "name",
        }
    }

    /// Whether libvirt's format has `<metadata>` for it.
    pub(crate) fn has_metadata(self) -> bool {
        matches!(self, Self::Domain | Self::Network)
    }
}

/// What one document defines: exactly what was stated.
#[derive(Debug, Clone, PartialEq)]
pub enum Definition {
    /// A virtual machine.
    Domain(Box<Domain>),
    /// A virtual network.
    Network(Box<Network>),
    /// A storage pool.
    Pool(Box<Pool>),
    /// A storage volume.
    Volume(Box<Volume>),
    /// A packet filter.
    NwFilter(Box<NwFilter>),
    /// A secret.
    Secret(Box<Secret>),
    /// What a virtual machine was at one moment.
    DomainSnapshot(Box<DomainSnapshot>),
    /// A moment since which a virtual machine's disks tell what was written.
    DomainCheckpoint(Box<DomainCheckpoint>),
    /// A virtual machine's connection to a network.
    NetworkPort(Box<NetworkPort>),
    /// A packet filter that holds for one tap.
    NwFilterBinding(Box<NwFilterBinding>),
}

/// The namespace of derived identities: they never change from release to release.
const NAMESPACE: Uuid = Uuid::from_bytes([
    0x6b, 0x1d, 0x0b, 0x7e, 0x3f, 0x1a, 0x5c, 0x52, 0x9d, 0x5e, 0x76, 0x69, 0x72, 0x65, 0x6f, 0x31,
]);

/// The identity of an object that states none: always the same for the same kind and name (a volume's name is `pool/name`).
pub fn derived_uuid(kind: Kind, name: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{kind}/{name}").as_bytes())
}

/// The address of a guest's interface that states none, by the guest's identity and the interface's number from 0: always the same, in the range
/// `52:54:00` that virtual machines customarily use.
pub fn derived_mac(domain: Uuid, index: usize) -> MacAddr {
    let hash = Uuid::new_v5(&domain, format!("interface/{index}").as_bytes());
    let [a, b, c, ..] = *hash.as_bytes();
    MacAddr([0x52, 0x54, 0x00, a, b, c])
}

impl Definition {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Domain(_) => Kind::Domain,
            Self::Network(_) => Kind::Network,
            Self::Pool(_) => Kind::Pool,
            Self::Volume(_) => Kind::Volume,
            Self::NwFilter(_) => Kind::NwFilter,
            Self::Secret(_) => Kind::Secret,
            Self::DomainSnapshot(_) => Kind::DomainSnapshot,
            Self::DomainCheckpoint(_) => Kind::DomainCheckpoint,
            Self::NetworkPort(_) => Kind::NetworkPort,
            Self::NwFilterBinding(_) => Kind::NwFilterBinding,
        }
    }

    /// Its name: a volume's is `pool/name` where the pool is stated, a secret's is what it is used for, else its uuid; a port's is its uuid, a filter's binding's is its tap.
    pub fn name(&self) -> String {
        let stated = match self {
            Self::Domain(domain) => domain.name.as_ref().map(ToString::to_string),
            Self::Network(network) => network.name.as_ref().map(ToString::to_string),
            Self::Pool(pool) => pool
                .name
                .as_ref()
                .map(ToString::to_string)
                .or_else(|| pool.source.as_ref()?.name.clone()),
            Self::Volume(volume) => volume.full_name(),
            Self::NwFilter(filter) => filter.name.as_ref().map(ToString::to_string),
            Self::Secret(secret) => secret
                .usage_id()
                .map(str::to_owned)
                .or_else(|| secret.uuid.map(|uuid| uuid.to_string())),
            Self::DomainSnapshot(snapshot) => {
                snapshot.name.as_ref().map(|name| name.as_str().to_owned())
            }
            Self::DomainCheckpoint(point) => {
                point.name.as_ref().map(|name| name.as_str().to_owned())
            }
            Self::NetworkPort(port) => port.uuid.map(|uuid| uuid.to_string()),
            Self::NwFilterBinding(binding) => {
                binding.portdev.as_ref().and_then(|tap| tap.name.clone())
            }
        };
        stated.unwrap_or_default()
    }

    /// The uuid that it states.
    pub fn stated_uuid(&self) -> Option<Uuid> {
        match self {
            Self::Domain(domain) => domain.uuid,
            Self::Network(network) => network.uuid,
            Self::Pool(pool) => pool.uuid,
            Self::NwFilter(filter) => filter.uuid,
            Self::Secret(secret) => secret.uuid,
            Self::NetworkPort(port) => port.uuid,
            Self::Volume(_)
            | Self::DomainSnapshot(_)
            | Self::DomainCheckpoint(_)
            | Self::NwFilterBinding(_) => None,
        }
    }

    /// Its identity: the uuid that it states, else the one derived from its kind and name.
    pub fn uuid(&self) -> Uuid {
        self.stated_uuid()
            .unwrap_or_else(|| derived_uuid(self.kind(), &self.name()))
    }

    pub(crate) fn decode(
        kind: Kind,
        decoder: &mut crate::element::Decoder,
        tree: &Tree<'_>,
    ) -> Self {
        match kind {
            Kind::Domain => Self::Domain(Element::decode(decoder, tree)),
            Kind::Network => Self::Network(Element::decode(decoder, tree)),
            Kind::Pool => Self::Pool(Element::decode(decoder, tree)),
            Kind::Volume => Self::Volume(Element::decode(decoder, tree)),
            Kind::NwFilter => Self::NwFilter(Element::decode(decoder, tree)),
            Kind::Secret => Self::Secret(Element::decode(decoder, tree)),
            Kind::DomainSnapshot => Self::DomainSnapshot(Element::decode(decoder, tree)),
            Kind::DomainCheckpoint => Self::DomainCheckpoint(Element::decode(decoder, tree)),
            Kind::NetworkPort => Self::NetworkPort(Element::decode(decoder, tree)),
            Kind::NwFilterBinding => Self::NwFilterBinding(Element::decode(decoder, tree)),
        }
    }

    /// The same with what XML must state and YAML may leave out: the names of disks in the guest.
    pub fn in_xml(&self) -> Cow<'_, Self> {
        let Self::Domain(domain) = self else {
            return Cow::Borrowed(self);
        };
        match with_targets(domain) {
            Cow::Borrowed(_) => Cow::Borrowed(self),
            Cow::Owned(named) => Cow::Owned(Self::Domain(Box::new(named))),
        }
    }

    /// The tree that states it, without policy.
    pub fn tree(&self) -> Tree<'static> {
        let root = self.kind().root();
        match self {
            Self::Domain(domain) => domain.encode(root),
            Self::Network(network) => network.encode(root),
            Self::Pool(pool) => pool.encode(root),
            Self::Volume(volume) => volume.encode(root),
            Self::NwFilter(filter) => filter.encode(root),
            Self::Secret(secret) => secret.encode(root),
            Self::DomainSnapshot(snapshot) => snapshot.encode(root),
            Self::DomainCheckpoint(point) => point.encode(root),
            Self::NetworkPort(port) => port.encode(root),
            Self::NwFilterBinding(binding) => binding.encode(root),
        }
    }
}

/// The definition as XML that libvirt reads too, with the policy in its metadata, stated as [`Definition::in_xml`] is.
pub fn to_xml(definition: &Definition, policy: &Policy) -> String {
    let kind = definition.kind();
    let mut tree = definition.in_xml().tree();
    let mut policy = policy.clone();
    if let Definition::Volume(volume) = definition {
        tree.attributes
            .retain(|attribute| attribute.name != "vireo:pool");
        policy.pool = volume.pool.clone().or(policy.pool);
    }
    if policy != Policy::default() {
        let stated = policy.encode("vireo:policy");
        if kind.has_metadata() {
            match tree
                .children
                .iter_mut()
                .find(|child| child.name == "metadata")
            {
                Some(metadata) => metadata.children.push(stated),
                None => {
                    let mut metadata = Tree::new("metadata", Span::default());
                    metadata.children.push(stated);
                    let after_names = tree
                        .children
                        .iter()
                        .take_while(|child| {
                            matches!(
                                &*child.name,
                                "name" | "uuid" | "genid" | "title" | "description"
                            )
                        })
                        .count();
                    tree.children.insert(after_names, metadata);
                }
            }
        } else {
            tree.children.push(stated);
        }
    }
    xml::write(&tree)
}

/// The definition as YAML: the kind with the name first, then the policy, then the fields.
pub fn to_yaml(definition: &Definition, policy: &Policy) -> String {
    serde_yaml::to_string(&to_value(definition, policy)).unwrap_or_default()
}

/// The definition as YAML for programs: everything under its own key, by the rules of [`Style::Long`].
pub fn to_long_yaml(definition: &Definition, policy: &Policy) -> String {
    serde_yaml::to_string(&long_value(definition, policy)).unwrap_or_default()
}

fn long_value(definition: &Definition, policy: &Policy) -> Yaml {
    let kind = definition.kind();
    let mut out = Mapping::new();
    out.insert("kind".into(), Yaml::String(kind.to_string()));
    let mut policy = policy.clone();
    if let Definition::Volume(volume) = definition
        && volume.pool.is_some()
    {
        policy.pool = None;
    }
    let policy = shape::mapping(&policy.encode("policy"), Policy::info(), Style::Long);
    if !policy.is_empty() {
        out.insert("policy".into(), Yaml::Mapping(policy));
    }
    out.extend(shape::mapping(&definition.tree(), kind.info(), Style::Long));
    Yaml::Mapping(out)
}

/// The definition as a YAML (or JSON) value, in the shape that reading takes.
pub fn to_value(definition: &Definition, policy: &Policy) -> Yaml {
    let kind = definition.kind();
    let mut fields = shape::mapping(&definition.tree(), kind.info(), Style::Short);
    let mut policy = policy.clone();
    let mut out = Mapping::new();
    let stated = fields.get(kind.head()).and_then(Yaml::as_str);
    let name = stated.map(str::to_owned);
    if name.is_some() {
        fields.shift_remove(kind.head());
    }
    match (kind, name) {
        (Kind::Volume, Some(name)) => {
            fields.shift_remove("pool");
            let pool = policy.pool.take();
            let pool = if let Definition::Volume(volume) = definition {
                volume.pool.clone().or(pool)
            } else {
                pool
            };
            out.insert(
                kind.as_str().into(),
                Yaml::String(pool.map_or_else(|| name.clone(), |pool| format!("{pool}/{name}"))),
            );
        }
        (_, Some(name)) => {
            out.insert(kind.as_str().into(), Yaml::String(name));
        }
        (_, None) => {
            out.insert("kind".into(), Yaml::String(kind.to_string()));
        }
    }
    let policy = shape::mapping(&policy.encode("policy"), Policy::info(), Style::Short);
    if !policy.is_empty() {
        out.insert("policy".into(), Yaml::Mapping(policy));
    }
    out.extend(fields);
    Yaml::Mapping(out)
}

impl serde::Serialize for Definition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        to_value(self, &Policy::default()).serialize(serializer)
    }
}

/// From the shape that is written; a definition with a problem is refused with the first complaint.
impl<'de> serde::Deserialize<'de> for Definition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = Yaml::deserialize(deserializer)?;
        let text = serde_yaml::to_string(&value).map_err(D::Error::custom)?;
        let document = crate::document::read(&std::sync::Arc::new(crate::source::Source::new(
            "definition.yaml",
            text,
        )));
        let complaint = document
            .problems
            .first()
            .map(|problem| problem.message.clone());
        let only = document
            .definitions
            .into_iter()
            .next()
            .map(|located| located.definition);
        match (only, complaint) {
            (Some(definition), None) => Ok(definition),
            (_, complaint) => Err(D::Error::custom(
                complaint.unwrap_or_else(|| "no definition".into()),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_identities_never_change() {
        assert_ne!(
            derived_uuid(Kind::Domain, "web"),
            derived_uuid(Kind::Network, "web")
        );
        let guest = derived_uuid(Kind::Domain, "web");
        insta::assert_snapshot!(format!("{guest} {}", derived_mac(guest, 0)), @"7405cb72-e384-54a1-a31a-e4638dc373a7 52:54:00:b5:bb:2a");
    }

    #[test]
    fn a_definition_comes_back_through_json() {
        let text = "domain: a\nmemory: 1 GiB\nvcpu: 2\ndisks: {volume: images/a}\n";
        let source = std::sync::Arc::new(crate::source::Source::new("a.yaml", text));
        let read = crate::document::read(&source);
        let written = serde_json::to_string(&read.definitions[0].definition).unwrap_or_default();
        let back: Definition = serde_json::from_str(&written).expect("what was written is read");
        assert_eq!(back, read.definitions[0].definition, "{written}");
    }
}
