//! `vireo schema`: what a definition may say, for editors.

use clap::{Args, builder::PossibleValuesParser};
use miette::IntoDiagnostic as _;
use vireo_schema::Kind;

use super::{DONE, Format, output};

const EXAMPLES: &str = "\
An editor with a YAML language server completes and checks a file that begins with
  # yaml-language-server: $schema=domain.json
beside the output of `vireo schema domain > domain.json`.";

/// Prints the JSON Schema of definitions in YAML: every key, what it means and what it may be.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Schema {
    /// The kind of definition
    #[arg(value_parser = PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.as_str())))]
    kind: String,
}

impl Schema {
    /// Exit status: 0.
    pub fn run(self) -> miette::Result<u8> {
        let kind: Kind = self
            .kind
            .parse()
            .map_err(|_| miette::miette!("{} is no kind of definition", self.kind))?;
        let text = serde_json::to_string_pretty(&vireo_schema::schema(kind)).into_diagnostic()?;
        output::print(Format::Text, &(), || text + "\n")?;
        Ok(DONE)
    }
}
