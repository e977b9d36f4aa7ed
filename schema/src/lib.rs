//! What a definition means: one set of types for libvirt's XML and for YAML, with a complaint that names its place for whatever is wrong.
//!
//! In: the text of a file ([`Source`]). Out: a [`Document`]: the definitions that are whole, each with its [`Policy`] and the places of its fields, what can be said of those
//! that are not, and every problem. Nothing here touches the host.
//!
//! 1. [`xml`] and [`yaml`] read text; both give the same positioned [`tree`] (YAML with the help of [`shape`], as only the field tables tell an attribute from an element).
//! 2. [`element`] decodes the tree into types that hold exactly what was stated: what was left out is `None`, and what belongs to other applications is kept as a tree.
//! 3. [`mod@check`] finds what is wrong between fields of one definition, and between definitions.
//!
//! [`to_xml`] and [`to_yaml`] go the other way through the same tables.
//!
//! # YAML
//!
//! A document names its kind and itself by its first key and has its fields beside it; `---` or a list separates several:
//!
//! ```yaml
//! domain: web
//! policy: {disruption: restart}
//! memory: 512 MiB
//! vcpu: 2
//! kernel: /boot/vmlinuz
//! cmdline: console=ttyS0
//! disks:
//! - volume: images/web.qcow2
//! interfaces:
//! - {network: default, filter: clean-traffic}
//! ```
//!
//! `domain: {name: web, …}` and `kind: domain` with `name: web` are accepted too. A volume is `volume: pool/name`; a secret, which has no name, is `secret: UUID` or written with
//! `kind: secret`. Names are those of libvirt's XML; what may occur several times is a list under the plural (`disks`, `interfaces`; the XML's name and a single value are accepted), attributes and
//! elements look alike, a single value stands for an element's main field (`mac: 52:54:00:12:34:56`, `vcpu: 2`), `devices` is left out, and shorthands stand for several fields
//! (see [`shorthands`]; `YAML.md` lists them). A value has no type of its own: `no`, `0x10` and `1.10` mean what their field makes of them.

#[macro_use]
pub mod scalar;
#[macro_use]
pub mod element;
pub mod check;
pub mod checkpoint;
pub mod common;
pub mod complete;
pub mod definition;
pub mod diagnostic;
pub mod document;
pub mod domain;
pub mod jsonschema;
pub mod network;
pub mod networkport;
pub mod nwfilter;
pub mod policy;
pub mod pool;
mod raw;
pub mod rule;
pub mod secret;
pub mod shape;
pub mod snapshot;
pub mod source;
pub mod tidy;
pub mod tree;
pub mod volume;
pub mod xml;
pub mod yaml;

pub use check::{Reference, Target, check, not_kept, references};
pub use checkpoint::DomainCheckpoint;
pub use definition::{
    Definition, Kind, derived_mac, derived_uuid, to_long_yaml, to_value, to_xml, to_yaml,
};
pub use diagnostic::Diagnostic;
pub use document::{Broken, Document, Located, SpanTable, Stated, read};
pub use domain::Domain;
pub use jsonschema::{file_schema, schema, shorthand_list, shorthands};
pub use network::Network;
pub use networkport::NetworkPort;
pub use nwfilter::{NwFilter, NwFilterBinding};
pub use policy::{Disruption, Driver, ObjectRef, Policy, Retain, WantedState};
pub use pool::Pool;
pub use rule::Rule;
pub use scalar::{Bytes, MacAddr};
pub use secret::Secret;
pub use snapshot::DomainSnapshot;
pub use source::{Position, Source, Span};
pub use volume::Volume;
