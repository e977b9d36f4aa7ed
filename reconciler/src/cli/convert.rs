//! `vireo convert`: rewrite a definition as XML or as YAML.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use miette::bail;
use similar::TextDiff;
use vireo_schema::complete::complete;
use vireo_schema::{Definition, Document, Source, to_xml, to_yaml};

use super::complaint::{located, plain};
use super::{DONE, Format, PROBLEM, input, output};
use crate::source::directory::Directories;

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
        for document in read(&self.file)? {
            for problem in &document.problems {
                eprintln!("{:?}", located(&document.source, problem));
            }
            if !document.problems.is_empty() {
                return Ok(PROBLEM);
            }
            let mut text = self.converted(&document)?;
            if self.complete {
                let complete = self.converted(&completed(&document))?;
                text = match self.diff {
                    true => TextDiff::from_lines(&text, &complete)
                        .unified_diff()
                        .header("stated", "complete")
                        .to_string(),
                    false => complete,
                };
            }
            output::print(Format::Text, &(), || text)?;
        }
        Ok(DONE)
    }

    fn converted(&self, document: &Document) -> miette::Result<String> {
        let several = document.definitions.len() > 1;
        match self.to {
            Syntax::Xml if several => bail!(
                help = "XML has one definition a file; split the file, or convert to yaml",
                "{} holds {} definitions",
                self.file.display(),
                document.definitions.len()
            ),
            Syntax::Xml => Ok(document
                .definitions
                .iter()
                .map(|one| to_xml(&one.definition, &one.policy))
                .collect()),
            Syntax::Yaml => {
                let texts: Vec<String> = document
                    .definitions
                    .iter()
                    .map(|one| to_yaml(&one.definition, &one.policy))
                    .collect();
                Ok(texts.join("---\n"))
            }
        }
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

fn read(file: &Path) -> miette::Result<Vec<Arc<Document>>> {
    if file != Path::new("-") {
        return Directories::new(vec![file.to_owned()])
            .read()
            .map_err(|error| plain(&error));
    }
    let source = Source {
        path: PathBuf::from(input::NAME),
        text: input::whole()?,
    };
    Ok(vec![Arc::new(vireo_schema::read(&Arc::new(source)))])
}
