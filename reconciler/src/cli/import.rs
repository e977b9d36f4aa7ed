//! `vireo import`: tidy definitions from libvirt's own files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use miette::{IntoDiagnostic as _, WrapErr as _, bail};
use vireo_schema::tidy::Keep;
use vireo_schema::{to_xml, to_yaml};

use super::complaint::located;
use super::convert::Syntax;
use super::{DONE, Format, PROBLEM, input, output};
use crate::import::{Imported, Text, import, texts};
use crate::ledger::store::write_durably;

const EXAMPLES: &str = "\
Examples:
  vireo import /etc/libvirt --out /etc/vireo/desired
  for guest in $(virsh list --all --name); do virsh dumpxml --inactive $guest; done | vireo import -";

/// Makes tidy definitions of libvirt's: of its configuration directory, of files, or of `virsh dumpxml` on standard input.
///
/// What libvirt made up by itself is left out: addresses, controllers, names of taps, labels. A guest that libvirt does not start with the host is wanted stopped.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// Files, or libvirt's configuration directory; `-` reads standard input
    #[arg(default_value = "/etc/libvirt")]
    paths: Vec<PathBuf>,
    /// The syntax to write
    #[arg(long, value_enum, default_value = "yaml")]
    to: Syntax,
    /// Write a file for each definition below this directory instead of printing all
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long, requires = "out")]
    force: bool,
    /// Keep the addresses of devices, for guests that name their network cards by them
    #[arg(long)]
    keep_addresses: bool,
}

impl Import {
    /// Exit status: 0 everything imported, 1 something was not.
    pub fn run(self) -> miette::Result<u8> {
        let keep = Keep {
            addresses: self.keep_addresses,
        };
        let (mut definitions, mut status) = (Vec::new(), DONE);
        for path in &self.paths {
            for text in read(path)? {
                let found = import(&text, keep);
                for (source, problem) in &found.problems {
                    status = PROBLEM;
                    eprintln!("{:?}", located(source, problem));
                }
                definitions.extend(found.definitions);
            }
        }
        match &self.out {
            Some(directory) => self.write(directory, &definitions)?,
            None => self.print(&definitions)?,
        }
        Ok(status)
    }

    fn written(&self, one: &Imported) -> String {
        match self.to {
            Syntax::Xml => to_xml(&one.definition, &one.policy),
            Syntax::Yaml => to_yaml(&one.definition, &one.policy),
        }
    }

    fn print(&self, definitions: &[Imported]) -> miette::Result<()> {
        let texts: Vec<String> = definitions.iter().map(|one| self.written(one)).collect();
        let between = match self.to {
            Syntax::Xml => "",
            Syntax::Yaml => "---\n",
        };
        output::print(Format::Text, &(), || texts.join(between))
    }

    /// Nothing is written unless everything can be.
    fn write(&self, directory: &Path, definitions: &[Imported]) -> miette::Result<()> {
        let ending = match self.to {
            Syntax::Xml => "xml",
            Syntax::Yaml => "yaml",
        };
        let mut files: BTreeMap<_, (&Imported, String)> = BTreeMap::new();
        for one in definitions {
            let place = one.place();
            let name = format!("{}.{ending}", place.display());
            let text = self.written(one);
            if let Some((other, _)) = files.insert(directory.join(&name), (one, text)) {
                bail!(
                    help = "import one of them, or each into a directory of its own",
                    "{} and {} would both be written to {name}",
                    other.from,
                    one.from
                );
            }
        }
        let there: Vec<String> = files
            .keys()
            .filter(|file| !self.force && file.symlink_metadata().is_ok())
            .map(|file| file.display().to_string())
            .collect();
        if !there.is_empty() {
            bail!(
                help = "--force replaces them",
                "these files are there already: {}",
                there.join(", ")
            );
        }
        for (file, (_, text)) in &files {
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent)
                    .into_diagnostic()
                    .wrap_err_with(|| format!("cannot make {}", parent.display()))?;
            }
            write_durably(file, text.as_bytes()).into_diagnostic()?;
            eprintln!("{}", file.display());
        }
        eprintln!(
            "{} definitions; see what vireo would make of them: vireo plan --desired {}",
            files.len(),
            directory.display()
        );
        Ok(())
    }
}

fn read(path: &Path) -> miette::Result<Vec<Text>> {
    if path != Path::new("-") {
        return texts(path)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot read {}", path.display()));
    }
    Ok(vec![Text {
        path: PathBuf::from(input::NAME),
        autostart: None,
        text: input::standard()?,
    }])
}
