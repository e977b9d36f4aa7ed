//! Documents made at random of a grammar: bounded, and the same for the same seed.

use crate::grammar::{Element, Grammar, Pattern};
use crate::{declare, escape, samples};
use std::collections::BTreeMap;

/// Elements inside of each other.
const DEEPEST: usize = 14;
/// Elements of one document.
const MOST: usize = 400;

/// Makes one document.
pub struct Maker<'g> {
    grammar: &'g Grammar,
    /// The state of splitmix64.
    state: u64,
    /// How many of a hundred things that may be left out are stated.
    share: u64,
    elements: usize,
}

/// What stands in one element.
#[derive(Default)]
struct Inside {
    attributes: BTreeMap<String, String>,
    text: String,
    children: Vec<String>,
}

impl<'g> Maker<'g> {
    pub fn new(grammar: &'g Grammar, seed: u64) -> Self {
        let mut maker = Self {
            grammar,
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            share: 0,
            elements: 0,
        };
        maker.share = 2 + maker.below(40);
        maker
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let at = self.below(all.len() as u64);
        all.get(usize::try_from(at).unwrap_or(0))
    }

    /// A document with this root; none where it grew beyond all bounds.
    pub fn document(&mut self, root: &'g Element) -> Option<String> {
        self.element(root, 0)
    }

    /// A guest that is whole but for this device.
    pub fn guest_with(&mut self, device: &'g Element) -> Option<String> {
        let machine = self.one_of(&["pc", "q35"])?;
        let device = self.element(device, 1)?;
        let mut out = String::from("<domain type='kvm'");
        declare(&mut out);
        out.push_str("><name>a</name><memory>1024</memory><os>");
        out.push_str(&format!(
            "<type arch='x86_64' machine='{machine}'>hvm</type></os>"
        ));
        out.push_str(&format!("<devices>{device}</devices></domain>"));
        Some(out)
    }

    fn element(&mut self, element: &'g Element, depth: usize) -> Option<String> {
        self.elements += 1;
        if depth > DEEPEST || self.elements > MOST {
            return None;
        }
        let mut inside = Inside::default();
        self.fill(&element.content, depth, &mut inside)?;
        let mut out = format!("<{}", element.name);
        if depth == 0 {
            declare(&mut out);
        }
        for (name, value) in &inside.attributes {
            out.push_str(&format!(" {name}='{}'", escape(value)));
        }
        out.push('>');
        if inside.children.is_empty() {
            out.push_str(&escape(&inside.text));
        }
        out.extend(inside.children);
        out.push_str(&format!("</{}>", element.name));
        Some(out)
    }

    /// What meets a pattern.
    fn fill(&mut self, pattern: &'g Pattern, depth: usize, into: &mut Inside) -> Option<()> {
        match pattern {
            Pattern::Element(element) => {
                let child = self.element(element, depth + 1)?;
                into.children.push(child);
            }
            Pattern::Attribute { name, value } => {
                let mut inner = Inside::default();
                self.fill(value, depth, &mut inner)?;
                into.attributes.entry(name.clone()).or_insert(inner.text);
            }
            Pattern::Choice(all) => {
                let optional = matches!(all.as_slice(), [Pattern::Empty, _]);
                if optional {
                    // What is deep inside is seldom.
                    let share = self.share * 3 / (2 + depth as u64) + 2;
                    if self.below(100) < share {
                        self.fill(all.last()?, depth, into)?;
                    }
                } else {
                    let one = self.one_of(all)?;
                    self.fill(one, depth, into)?;
                }
            }
            Pattern::Group(all) => {
                for one in all {
                    self.fill(one, depth, into)?;
                }
            }
            Pattern::Many(inner, at_least_once) => {
                let least = u64::from(*at_least_once);
                let more = self.below(100) < self.share;
                let times = least + if more { self.below(3) } else { 0 };
                for _ in 0..times {
                    self.fill(inner, depth, into)?;
                }
            }
            Pattern::Ref(name) => self.fill(self.grammar.define(name).ok()?, depth, into)?,
            Pattern::Text => into.text = "text".into(),
            Pattern::Value(word) => into.text.clone_from(word),
            Pattern::Data(data) => {
                let samples = samples::samples(data);
                into.text.clone_from(self.one_of(&samples)?);
            }
            Pattern::Never => return None,
            Pattern::Empty | Pattern::Any => {}
        }
        Some(())
    }
}
