//! Names in XML: what one is, and the namespaces that their prefixes stand for.
//!
//! In: names as they are written, with the declarations in scope. Out: names with the customary prefix where vireo knows the namespace. What is of another application
//! keeps its prefix, and takes along the declaration of it.

use super::Parser;
use crate::diagnostic::Diagnostic;
use crate::rule::Rule;
use crate::source::Span;
use crate::tree::Attribute;
use std::borrow::Cow;

/// At most so many prefixes may be declared at one place, as every name is looked up among them.
const MAX_PREFIXES: usize = 64;

/// Namespaces whose elements vireo reads, with the customary prefix.
pub const NAMESPACES: &[(&str, &str)] = &[
    ("vireo", "urn:vireo:policy:1"),
    ("qemu", "http://libvirt.org/schemas/domain/qemu/1.0"),
    ("lxc", "http://libvirt.org/schemas/domain/lxc/1.0"),
    ("xen", "http://libvirt.org/schemas/domain/xen/1.0"),
    ("bhyve", "http://libvirt.org/schemas/domain/bhyve/1.0"),
    ("vmware", "http://libvirt.org/schemas/domain/vmware/1.0"),
    ("dnsmasq", "http://libvirt.org/schemas/network/dnsmasq/1.0"),
    ("fs", "http://libvirt.org/schemas/storagepool/fs/1.0"),
    ("rbd", "http://libvirt.org/schemas/storagepool/rbd/1.0"),
];

/// Whether a name has a prefix.
fn has_prefix(name: &str) -> bool {
    name.as_bytes().contains(&b':')
}

pub(super) fn namespace_of(prefix: &str) -> Option<&'static str> {
    NAMESPACES
        .iter()
        .find(|(known, _)| *known == prefix)
        .map(|(_, uri)| *uri)
}

pub(super) fn prefix_of(uri: &str) -> Option<&'static str> {
    NAMESPACES
        .iter()
        .find(|(_, known)| *known == uri)
        .map(|(prefix, _)| *prefix)
}

/// Whether a text is a name as "Namespaces in XML 1.0" has it: at most one prefix, both parts as XML 1.0, 2.3 allows.
pub(super) fn is_name(text: &str) -> bool {
    // Nearly every name is of ASCII's letters alone.
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic()) {
        return true;
    }
    let first = |c: char| c.is_alphabetic() || c == '_';
    let next = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '\u{b7}');
    let part = |part: &str| {
        let mut chars = part.chars();
        chars.next().is_some_and(first) && chars.all(next)
    };
    match text.split_once(':') {
        Some((prefix, local)) => part(prefix) && part(local),
        None => part(text),
    }
}

impl<'a> Parser<'a> {
    /// Whether the element that is being opened has declared that prefix.
    pub(super) fn declares(&self, prefix: &str) -> bool {
        let own = self.declared.iter().rev();
        own.take_while(|(depth, ..)| *depth == self.stack.len())
            .any(|(_, known, _)| *known == prefix)
    }

    pub(super) fn declare(
        &mut self,
        prefix: &'a str,
        uri: Cow<'a, str>,
        span: Span,
    ) -> Result<(), Diagnostic> {
        if self.declared.len() >= MAX_PREFIXES {
            let message = format!("more than {MAX_PREFIXES} prefixes are declared here");
            return Err(Diagnostic::new(crate::rule::Rule::TooLarge, span, message));
        }
        self.declared.push((self.stack.len(), prefix, uri));
        Ok(())
    }

    /// The element's name with the customary prefix; a foreign element takes along the declaration of its prefix.
    pub(super) fn qualify(
        &self,
        raw: &'a str,
        depth: usize,
        attributes: &mut Vec<Attribute<'a>>,
        span: Span,
    ) -> Result<Cow<'a, str>, Diagnostic> {
        if self.declared.is_empty() && !has_prefix(raw) {
            return Ok(Cow::Borrowed(raw));
        }
        let (prefix, local) = raw.split_once(':').unwrap_or(("", raw));
        let Some((declared_at, _, uri)) = self
            .declared
            .iter()
            .rev()
            .find(|(_, known, _)| *known == prefix)
        else {
            if prefix.is_empty() || prefix == "xml" {
                return Ok(Cow::Borrowed(raw));
            }
            let diagnostic = Diagnostic::new(
                Rule::XmlNamespace,
                span,
                format!("the prefix of <{raw}> is not declared"),
            );
            return Err(match namespace_of(prefix) {
                Some(uri) => {
                    diagnostic.with_help(format!("declare it with xmlns:{prefix}='{uri}'"))
                }
                None => diagnostic,
            });
        };
        if let Some(known) = prefix_of(uri) {
            return Ok(Cow::Owned(format!("{known}:{local}")));
        }
        self.take_along((*declared_at, prefix, uri), depth, attributes, span);
        Ok(Cow::Borrowed(raw))
    }

    /// Attributes with prefixes: those in known namespaces get the customary prefix, others take along its declaration.
    pub(super) fn qualify_attributes(
        &self,
        depth: usize,
        attributes: &mut Vec<Attribute<'a>>,
        span: Span,
    ) {
        let mut taken: Vec<&str> = Vec::new();
        for at in 0..attributes.len() {
            let Some(attribute) = attributes.get_mut(at) else {
                return;
            };
            if !has_prefix(&attribute.name) {
                continue;
            }
            let Some((prefix, local)) = attribute.name.split_once(':') else {
                continue;
            };
            let mut declared = self.declared.iter().rev();
            let Some((declared_at, prefix, uri)) = declared.find(|(_, known, _)| *known == prefix)
            else {
                continue;
            };
            match prefix_of(uri) {
                Some(known) => attribute.name = Cow::Owned(format!("{known}:{local}")),
                None if taken.contains(prefix) => {}
                None => {
                    taken.push(prefix);
                    self.take_along((*declared_at, prefix, uri), depth, attributes, span);
                }
            }
        }
    }

    /// Declares a prefix again that was declared around what is kept whole.
    fn take_along(
        &self,
        (declared_at, prefix, uri): (usize, &str, &Cow<'a, str>),
        depth: usize,
        attributes: &mut Vec<Attribute<'a>>,
        span: Span,
    ) {
        let name = format!("xmlns:{prefix}");
        let outside = declared_at < depth
            && !prefix.is_empty()
            && self
                .stack
                .get(declared_at)
                .is_some_and(|owner| !owner.name.contains(':'));
        let taken = self
            .stack
            .iter()
            .skip(declared_at + 1)
            .any(|above| above.attribute(&name).is_some())
            || attributes.iter().any(|own| own.name == name);
        if outside && !taken {
            attributes.push(Attribute {
                name: Cow::Owned(name),
                value: uri.clone(),
                name_span: span,
                value_span: span,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read, write};
    use super::*;

    #[test]
    fn a_prefix_declared_outside_is_taken_along_and_a_known_one_is_made_customary() {
        let text = "<domain xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0' xmlns:o='urn:o'><q:arg/><metadata><o:c><o:d/></o:c></metadata></domain>";
        let written = write(&read(text, 0).unwrap_or_default());
        assert!(written.contains("<qemu:arg/>"), "{written}");
        assert!(
            written.contains("<o:c xmlns:o='urn:o'>\n      <o:d/>"),
            "{written}"
        );
    }

    #[test]
    fn prefixes_of_attributes_mean_the_same_wherever_they_are_declared() {
        let text = "<domain xmlns:o='urn:o' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><metadata><c o:x='1' q:y='2' xml:lang='en'/></metadata></domain>";
        let written = write(&read(text, 0).unwrap_or_default());
        assert!(
            written.contains("<c o:x='1' qemu:y='2' xml:lang='en' xmlns:o='urn:o'/>"),
            "{written}"
        );
        let declared = namespace_of("qemu").unwrap_or_default();
        assert!(
            written.contains(&format!("xmlns:qemu='{declared}'")),
            "{written}"
        );
    }

    #[test]
    fn a_prefix_is_declared_once_in_an_element_and_again_in_those_inside_of_it() {
        let refused = |text: &str| read(text, 0).err().map(|problem| problem.message);
        let known = "http://libvirt.org/schemas/domain/qemu/1.0";
        for uri in ["urn:o", known] {
            let twice = format!("<a xmlns:o='{uri}' xmlns:o='{uri}'/>");
            let said = "the attribute `xmlns:o` is stated twice";
            assert_eq!(refused(&twice).as_deref(), Some(said));
            let inside = format!("<a xmlns:o='{uri}'><b xmlns:o='{uri}'/><b xmlns:o='{uri}'/></a>");
            assert_eq!(refused(&inside), None);
        }
    }

    #[test]
    fn prefixes_are_few() {
        let declared: String = (0..=MAX_PREFIXES)
            .map(|i| format!(" xmlns:p{i}='urn:{i}'"))
            .collect();
        let problem = read(&format!("<a{declared}/>"), 0).err();
        assert_eq!(
            problem.map(|problem| problem.rule),
            Some(crate::rule::Rule::TooLarge)
        );
    }
}
