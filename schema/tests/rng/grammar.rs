//! RELAX NG grammars, as far as libvirt's use them, read with the crate's own XML reader.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use vireo_schema::tree::Element as Tree;
use vireo_schema::xml;

/// What may stand in an element or attribute.
#[derive(Debug, Clone)]
pub enum Pattern {
    Element(Element),
    Attribute {
        name: String,
        value: Box<Pattern>,
    },
    /// One of these.
    Choice(Vec<Pattern>),
    /// All of these, in any order.
    Group(Vec<Pattern>),
    /// Any number of times; at least once where `true`.
    Many(Box<Pattern>, bool),
    /// What is defined under a name.
    Ref(String),
    Text,
    Data(Data),
    Value(String),
    Empty,
    /// Matches nothing.
    Never,
    /// An element or attribute of any name: what belongs to other applications.
    Any,
}

/// An element of one name.
#[derive(Debug, Clone)]
pub struct Element {
    /// Tells it from others of its name.
    pub id: usize,
    /// With the customary prefix, if it is in a namespace.
    pub name: String,
    pub content: Box<Pattern>,
}

/// Texts of a type.
#[derive(Debug, Clone, Default)]
pub struct Data {
    pub kind: String,
    pub pattern: Option<String>,
    pub least: Option<i64>,
    pub most: Option<i64>,
    pub longest: Option<usize>,
    pub except: Vec<String>,
}

/// All that a grammar defines.
#[derive(Debug, Default)]
pub struct Grammar {
    defines: BTreeMap<String, Pattern>,
    start: Vec<Pattern>,
    elements: usize,
}

impl Grammar {
    /// Reads a grammar with all that it includes.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut grammar = Self::default();
        grammar.include(path, &BTreeSet::new())?;
        Ok(grammar)
    }

    /// What a document may be.
    pub fn start(&self) -> Pattern {
        Pattern::Choice(self.start.clone())
    }

    pub fn define(&self, name: &str) -> Result<&Pattern, String> {
        self.defines
            .get(name)
            .ok_or_else(|| format!("`{name}` is not defined"))
    }

    fn include(&mut self, path: &Path, replaced: &BTreeSet<String>) -> Result<(), String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let root = xml::read(&text, 0).map_err(|problem| problem.message)?;
        let namespace = root.attribute("ns").map_or("", |ns| &*ns.value).to_owned();
        for child in root.children.iter().filter(|child| child.name == "include") {
            let href = attribute(child, "href")?;
            let inside = child
                .children_named("define")
                .map(|define| attribute(define, "name"))
                .collect::<Result<BTreeSet<_>, _>>()?;
            self.include(&path.with_file_name(href), &inside)?;
            for define in child.children_named("define") {
                self.add_define(define, &namespace)?;
            }
        }
        for child in &root.children {
            match &*child.name {
                "start" if self.start.is_empty() => self.start = self.all(child, &namespace)?,
                "define" if !replaced.contains(&attribute(child, "name")?) => {
                    self.add_define(child, &namespace)?;
                }
                "start" | "define" | "include" => {}
                other => return Err(format!("<{other}> in a grammar")),
            }
        }
        Ok(())
    }

    fn add_define(&mut self, define: &Tree<'_>, namespace: &str) -> Result<(), String> {
        let name = attribute(define, "name")?;
        let pattern = Pattern::Group(self.all(define, namespace)?);
        let both = match (self.defines.remove(&name), define.attribute("combine")) {
            (Some(before), Some(how)) if how.value == "choice" => {
                Pattern::Choice(vec![before, pattern])
            }
            (Some(before), _) => Pattern::Group(vec![before, pattern]),
            (None, _) => pattern,
        };
        self.defines.insert(name, both);
        Ok(())
    }

    fn all(&mut self, tree: &Tree<'_>, namespace: &str) -> Result<Vec<Pattern>, String> {
        tree.children
            .iter()
            .map(|child| self.pattern(child, namespace))
            .collect()
    }

    fn pattern(&mut self, tree: &Tree<'_>, outer: &str) -> Result<Pattern, String> {
        let own = tree.attribute("ns").map(|ns| ns.value.to_string());
        let namespace = own.as_deref().unwrap_or(outer);
        Ok(match &*tree.name {
            "element" | "attribute" if tree.child("anyName").is_some() => Pattern::Any,
            // A grammar inside of another: a snapshot's domain, which is walked by itself.
            "grammar" => Pattern::Any,
            "element" => {
                self.elements += 1;
                Pattern::Element(Element {
                    id: self.elements,
                    name: qualified(&attribute(tree, "name")?, namespace)?,
                    content: Box::new(Pattern::Group(self.all(tree, namespace)?)),
                })
            }
            "attribute" => Pattern::Attribute {
                name: attribute(tree, "name")?,
                value: Box::new(match self.all(tree, namespace)? {
                    inner if inner.is_empty() => Pattern::Text,
                    inner => Pattern::Group(inner),
                }),
            },
            "group" | "interleave" => Pattern::Group(self.all(tree, namespace)?),
            "choice" => Pattern::Choice(self.all(tree, namespace)?),
            "optional" => Pattern::Choice(vec![
                Pattern::Empty,
                Pattern::Group(self.all(tree, namespace)?),
            ]),
            "zeroOrMore" => {
                Pattern::Many(Box::new(Pattern::Group(self.all(tree, namespace)?)), false)
            }
            "oneOrMore" => {
                Pattern::Many(Box::new(Pattern::Group(self.all(tree, namespace)?)), true)
            }
            "ref" => Pattern::Ref(attribute(tree, "name")?),
            "text" => Pattern::Text,
            "value" => Pattern::Value(tree.trimmed().to_owned()),
            "data" => Pattern::Data(data(tree)?),
            "empty" => Pattern::Empty,
            "notAllowed" => Pattern::Never,
            other => return Err(format!("<{other}> in a pattern")),
        })
    }
}

fn attribute(tree: &Tree<'_>, name: &str) -> Result<String, String> {
    let found = tree.attribute(name).map(|found| found.value.to_string());
    found.ok_or_else(|| format!("<{}> without {name}", tree.name))
}

fn qualified(name: &str, namespace: &str) -> Result<String, String> {
    if namespace.is_empty() {
        return Ok(name.to_owned());
    }
    let known = xml::NAMESPACES.iter().find(|(_, uri)| *uri == namespace);
    known
        .map(|(prefix, _)| format!("{prefix}:{name}"))
        .ok_or_else(|| format!("the namespace {namespace} of <{name}> is not known"))
}

fn data(tree: &Tree<'_>) -> Result<Data, String> {
    let mut data = Data {
        kind: attribute(tree, "type")?,
        ..Data::default()
    };
    for param in tree.children_named("param") {
        let text = param.text.as_deref().unwrap_or("");
        match attribute(param, "name")?.as_str() {
            "pattern" => data.pattern = Some(text.to_owned()),
            "minInclusive" => data.least = text.trim().parse().ok(),
            "maxInclusive" => data.most = text.trim().parse().ok(),
            "maxLength" => data.longest = text.trim().parse().ok(),
            other => return Err(format!("the parameter {other}")),
        }
    }
    if let Some(except) = tree.child("except") {
        let values = except.children_named("value");
        data.except = values.map(|value| value.trimmed().to_owned()).collect();
    }
    Ok(data)
}
