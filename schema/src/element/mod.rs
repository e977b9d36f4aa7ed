//! One list of fields makes a type, its reader, its writer and its table.
//!
//! [`element!`](crate::element) is the only place where an element of libvirt's formats is described: a type's fields are listed once, each with how it
//! stands in the document, its name there, its name in Rust, its type and its meaning. From that come the struct, decoding with
//! diagnostics, encoding, and a static [`ElementInfo`] from which [`shape`](crate::shape) reads and writes YAML, unknown names are answered with what
//! would be accepted, and the JSON Schema is made. To add an attribute is to add a field.
//!
//! ```text
//! element! {
//!     /// An address by which a guest finds a server.
//!     pub struct Host main "name" must ["name"] {
//!         /// Its name.
//!         attr "name" name: String,
//!     }
//! }
//! ```
//!
//! | word | in the document | in Rust |
//! | --- | --- | --- |
//! | `attr` | an attribute | `Option<T>` |
//! | `blank` | an attribute that, empty, is as good as not stated | `Option<T>` |
//! | `text` | the element's own text (its name is its key in YAML) | `Option<T>` |
//! | `sized` | the element's own text with an attribute `unit` | `Option<Size<_>>` |
//! | `leaf` | a child element that is only a text; empty (`<label/>`), it is as good as not stated, but for names | `Option<T>` |
//! | `leaves` | several of these | `Vec<T>` |
//! | `flag` | an empty child element that is there or not | `bool` |
//! | `child` | a child element | `Option<T>` |
//! | `list` | several of these | `Vec<T>` |
//! | `flat` | a child element whose fields stand one level higher in YAML | `Option<T>` |
//! | `many` | child elements of several kinds whose order counts (a `union!`) | `Vec<T>` |
//! | `tree` | a child element that belongs to other applications | `Option<Foreign>` |
//!
//! In YAML a field's key is its name in the document; for what may occur several times it is the plural, which is the field's
//! name in Rust, and the document's name is accepted too. `= "key"` after the name sets another key where two would be the same.
//! `main` names the field that a single value stands for (the text, if there is one). `short` lists the element's shorthands.

pub mod decode;
pub mod encode;
pub mod looks;

pub use decode::{Decoder, accepted, bad_value};
pub use looks::Looks;

use crate::scalar::ScalarInfo;
use crate::tree::Element as Tree;
use std::fmt;

/// The table of one element type.
#[derive(Debug)]
pub struct ElementInfo {
    /// The type's name in Rust.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
    /// Document names of fields that must be stated.
    pub must: &'static [&'static str],
    /// Document name of the field that a single YAML value stands for; empty when there is none.
    pub main: &'static str,
    /// What may stand for several fields in YAML.
    pub short: &'static [Shorthand],
}

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Its name in XML.
    pub name: &'static str,
    /// Its key in YAML.
    pub key: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// How it stands in the document.
    pub shape: Shape,
}

/// How a field stands in the document, with what it holds.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// An attribute.
    Attribute(&'static ScalarInfo),
    /// The element's text.
    Text(&'static ScalarInfo),
    /// The element's text and its attribute `unit`.
    Sized(&'static ScalarInfo),
    /// A child element that is only a text.
    Leaf(&'static ScalarInfo),
    /// Several of these.
    Leaves(&'static ScalarInfo),
    /// An empty child element.
    Flag,
    /// A child element.
    Child(fn() -> &'static ElementInfo),
    /// Several of these.
    List(fn() -> &'static ElementInfo),
    /// A child element that YAML leaves out, its fields standing in its place.
    Flat(fn() -> &'static ElementInfo),
    /// Child elements of several kinds.
    Many(fn() -> &'static [Variant]),
    /// A subtree of another application.
    Tree,
}

/// One kind of a [`Union`].
#[derive(Debug)]
pub struct Variant {
    /// The element's name.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its table.
    pub info: fn() -> &'static ElementInfo,
}

/// A key in YAML that stands for fields further inside and for fixed values.
///
/// Read wherever it is used; written where everything that it stands for is stated, so that nothing is lost.
#[derive(Debug)]
pub struct Shorthand {
    /// The key.
    pub key: &'static str,
    /// Where its value goes, such as `source/@file`. With several, the value is split at the first `/`.
    pub into: &'static [&'static str],
    /// What it implies, such as `("@type", "file")`.
    pub sets: &'static [(&'static str, &'static str)],
}

/// What it stands for: `source/@file, with @type file`.
impl fmt::Display for Shorthand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.into.join(" and "))?;
        if self.into.len() > 1 {
            f.write_str(" with a `/` between them")?;
        }
        for (number, (path, constant)) in self.sets.iter().enumerate() {
            let joint = if number == 0 { ", with" } else { " and" };
            write!(f, "{joint} {path} {constant}")?;
        }
        Ok(())
    }
}

/// A type made by [`element!`](crate::element).
pub trait Element: Sized + Default {
    /// Its table.
    fn info() -> &'static ElementInfo;
    /// What the tree states; problems go to the decoder, and what they concern is left out.
    fn decode(decoder: &mut Decoder, tree: &Tree<'_>) -> Self;
    /// The tree that states it.
    fn encode(&self, name: &'static str) -> Tree<'static>;
}

/// A type made by [`union!`](crate::union).
pub trait Union: Sized {
    /// Its kinds.
    fn variants() -> &'static [Variant];
    /// The element of that name, if it is one of the kinds.
    fn decode(decoder: &mut Decoder, tree: &Tree<'_>) -> Option<Self>;
    /// The tree that states it.
    fn encode(&self) -> Tree<'static>;
}

impl<T: Element> Element for Box<T> {
    fn info() -> &'static ElementInfo {
        T::info()
    }

    fn decode(decoder: &mut Decoder, tree: &Tree<'_>) -> Self {
        Box::new(T::decode(decoder, tree))
    }

    fn encode(&self, name: &'static str) -> Tree<'static> {
        (**self).encode(name)
    }
}

impl ElementInfo {
    /// The field of that name in the document (attributes with their `@`-less name).
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The field that holds the element's own text.
    pub fn text_field(&self) -> Option<&'static Field> {
        self.fields
            .iter()
            .find(|field| matches!(field.shape, Shape::Text(_) | Shape::Sized(_)))
    }

    fn takes_attribute(&self, name: &str) -> bool {
        self.fields.iter().any(|field| match field.shape {
            Shape::Attribute(_) => field.name == name,
            Shape::Sized(_) => name == "unit",
            _ => false,
        })
    }

    fn attributes(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().filter_map(|field| match field.shape {
            Shape::Attribute(_) => Some(field.name),
            Shape::Sized(_) => Some("unit"),
            _ => None,
        })
    }

    pub(crate) fn takes_child(&self, name: &str) -> bool {
        self.fields.iter().any(|field| match field.shape {
            Shape::Attribute(_) | Shape::Text(_) | Shape::Sized(_) => false,
            Shape::Many(variants) => variants().iter().any(|variant| variant.name == name),
            _ => field.name == name,
        })
    }

    fn children(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().flat_map(|field| {
            let (own, variants): (Option<&'static str>, &'static [Variant]) = match field.shape {
                Shape::Attribute(_) | Shape::Text(_) | Shape::Sized(_) => (None, &[]),
                Shape::Many(variants) => (None, variants()),
                _ => (Some(field.name), &[]),
            };
            own.into_iter()
                .chain(variants.iter().map(|variant| variant.name))
        })
    }
}

/// The Rust type of a field.
#[doc(hidden)]
#[macro_export]
macro_rules! slot {
    (flag $type:ty) => { bool };
    (list $type:ty) => { Vec<$type> };
    (leaves $type:ty) => { Vec<$type> };
    (many $type:ty) => { Vec<$type> };
    ($kind:ident $type:ty) => { Option<$type> };
}

/// The table entry of a field.
#[doc(hidden)]
#[macro_export]
macro_rules! shape {
    (attr $type:ty) => {
        $crate::element::Shape::Attribute(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (blank $type:ty) => {
        $crate::element::Shape::Attribute(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (text $type:ty) => {
        $crate::element::Shape::Text(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (sized $type:ty) => {
        $crate::element::Shape::Sized(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (leaf $type:ty) => {
        $crate::element::Shape::Leaf(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (leaves $type:ty) => {
        $crate::element::Shape::Leaves(&<$type as $crate::scalar::Scalar>::INFO)
    };
    (flag $type:ty) => {
        $crate::element::Shape::Flag
    };
    (child $type:ty) => {
        $crate::element::Shape::Child(<$type as $crate::element::Element>::info)
    };
    (list $type:ty) => {
        $crate::element::Shape::List(<$type as $crate::element::Element>::info)
    };
    (flat $type:ty) => {
        $crate::element::Shape::Flat(<$type as $crate::element::Element>::info)
    };
    (many $type:ty) => {
        $crate::element::Shape::Many(<$type as $crate::element::Union>::variants)
    };
    (tree $type:ty) => {
        $crate::element::Shape::Tree
    };
}

/// The YAML key of a field.
#[doc(hidden)]
#[macro_export]
macro_rules! field_key {
    ($kind:ident $name:literal $field:ident $key:literal) => {
        $key
    };
    (list $name:literal $field:ident) => {
        stringify!($field)
    };
    (leaves $name:literal $field:ident) => {
        stringify!($field)
    };
    ($kind:ident $name:literal $field:ident) => {
        $name
    };
}

/// Declares a type of element; see [the module](crate::element).
#[macro_export]
macro_rules! element {
    (
        $(#[doc = $doc:expr])*
        $vis:vis struct $type:ident $(main $main:literal)? $(must [$($must:literal),* $(,)?])?
        $(short [$($short:literal => [$($into:literal),+] $(with [$(($at:literal, $constant:literal)),+])?),* $(,)?])?
        {
            $($(#[doc = $fdoc:expr])* $kind:ident $name:literal $(= $key:literal)? $field:ident : $ftype:ty),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        $vis struct $type {
            $($(#[doc = $fdoc])* pub $field: $crate::slot!($kind $ftype),)*
            #[doc(hidden)]
            pub looks: $crate::element::Looks,
        }

        impl $crate::element::Element for $type {
            fn info() -> &'static $crate::element::ElementInfo {
                static INFO: $crate::element::ElementInfo = $crate::element::ElementInfo {
                    name: stringify!($type),
                    doc: concat!($($doc),*),
                    fields: &[$($crate::element::Field {
                        name: $name,
                        key: $crate::field_key!($kind $name $field $($key)?),
                        doc: concat!($($fdoc),*),
                        shape: $crate::shape!($kind $ftype),
                    }),*],
                    must: &[$($($must),*)?],
                    main: concat!($($main)?),
                    short: &[$($($crate::element::Shorthand {
                        key: $short,
                        into: &[$($into),+],
                        sets: &[$($(($at, $constant)),+)?],
                    }),*)?],
                };
                &INFO
            }

            fn decode(decoder: &mut $crate::element::Decoder, tree: &$crate::tree::Element<'_>) -> Self {
                decoder.check_names(tree, <Self as $crate::element::Element>::info());
                let outer = decoder.begin();
                Self {
                    $($field: $crate::element::decode::$kind(decoder, tree, $name),)*
                    looks: decoder.end(outer),
                }
            }

            fn encode(&self, name: &'static str) -> $crate::tree::Element<'static> {
                let mut out = $crate::tree::Element::new(name, $crate::source::Span::default());
                $($crate::element::encode::$kind(&self.$field, $name, &mut out);)*
                self.looks.restore(&mut out);
                out
            }
        }

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                ::serde::Serialize::serialize(&$crate::shape::value_of(self), serializer)
            }
        }
    };
}

/// Declares a choice between elements whose order among each other counts.
#[macro_export]
macro_rules! union {
    ($(#[doc = $doc:expr])* $vis:vis enum $type:ident { $($(#[doc = $vdoc:expr])* $variant:ident $name:literal: $vtype:ty),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq)]
        $vis enum $type { $($(#[doc = $vdoc])* $variant($vtype)),* }

        impl $type {
            /// The element's name.
            pub fn element_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name),* }
            }
        }

        impl $crate::element::Union for $type {
            fn variants() -> &'static [$crate::element::Variant] {
                static VARIANTS: &[$crate::element::Variant] = &[$($crate::element::Variant {
                    name: $name,
                    doc: concat!($($vdoc),*),
                    info: <$vtype as $crate::element::Element>::info,
                }),*];
                VARIANTS
            }

            fn decode(decoder: &mut $crate::element::Decoder, tree: &$crate::tree::Element<'_>) -> Option<Self> {
                match &*tree.name {
                    $($name => Some(Self::$variant($crate::element::Element::decode(decoder, tree))),)*
                    _ => None,
                }
            }

            fn encode(&self) -> $crate::tree::Element<'static> {
                match self { $(Self::$variant(value) => $crate::element::Element::encode(value, $name)),* }
            }
        }
    };
}
