//! `vireo convert`: rewrite a definition as XML or as YAML.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use miette::bail;
use similar::TextDiff;
use vireo_schema::complete::complete;
use vireo_schema::{Definition, Document, to_long_yaml, to_xml, to_yaml};

use super::complaint::located;
use super::input::Input;
use super::{DONE, Format, PROBLEM, output};

/// Prints the definitions of a file in the other syntax (or tidily in the same one). Nothing is added but on request, and nothing is lost but comments.
#[derive(Debug, Args)]
pub struct Convert {
    /// The syntax to print
    #[arg(long, value_enum)]
    to: Syntax,
    /// Add what libvirt adds when a guest is defined for QEMU on x86: defaults, implied devices and controllers, places on buses
    #[arg(long)]
    complete: bool,
    /// Of that, show only what is added
    #[arg(long, requires = "complete")]
    diff: bool,
    /// Write YAML without shorthands: everything under its own key, as programs like it
    #[arg(long)]
    long: bool,
    /// The file; `-` reads standard input
    file: PathBuf,
}

/// The two syntaxes of definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Syntax {
    /// libvirt's XML.
    Xml,
    /// The same as YAML.
    Yaml,
}

impl Convert {
    /// Exit status: 0 converted, 1 the file has problems.
    pub fn run(self) -> miette::Result<u8> {
        let input = Input::read(&self.file)?;
        let documents = input.documents();
        let count = documents.iter().map(|one| one.definitions.len()).sum();
        self.refuse_xml(count)?;
        for (number, document) in documents.iter().enumerate() {
            for problem in &document.problems {
                eprintln!("{:?}", located(&document.source, problem));
            }
            if !document.problems.is_empty() {
                return Ok(PROBLEM);
            }
            let mut text = self.converted(document);
            if self.complete {
                let complete = self.converted(&completed(document));
                text = match self.diff {
                    true => TextDiff::from_lines(&text, &complete)
                        .unified_diff()
                        .header("stated", "complete")
                        .to_string(),
                    false => complete,
                };
            }
            if number > 0 && self.to == Syntax::Yaml && !self.diff {
                text.insert_str(0, "---\n");
            }
            output::print(Format::Text, &(), || text)?;
        }
        Ok(DONE)
    }

    /// XML takes one definition, in one style.
    fn refuse_xml(&self, count: usize) -> miette::Result<()> {
        match self.to {
            Syntax::Xml if self.long => bail!(
                help = "XML has one style; take `--long` out",
                "`--long` is a style of YAML"
            ),
            Syntax::Xml if count > 1 => bail!(
                help = "XML has one definition a file; convert each file by itself, or to yaml",
                "{} holds {count} definitions",
                self.file.display(),
            ),
            _ => Ok(()),
        }
    }

    fn converted(&self, document: &Document) -> String {
        let write = match self.to {
            Syntax::Xml => to_xml,
            Syntax::Yaml if self.long => to_long_yaml,
            Syntax::Yaml => to_yaml,
        };
        let all = document.definitions.iter();
        let texts: Vec<String> = all.map(|one| write(&one.definition, &one.policy)).collect();
        texts.join("---\n")
    }
}

/// The same document with its guests completed.
fn completed(document: &Document) -> Document {
    let mut document = document.clone();
    for located in &mut document.definitions {
        if let Definition::Domain(domain) = &mut located.definition {
            **domain = complete(domain);
        }
    }
    document
}
