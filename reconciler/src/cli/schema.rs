//! `vireo schema`: what a definition may say, for editors.

use clap::{Args, builder::PossibleValuesParser};
use miette::IntoDiagnostic as _;
use vireo_schema::Kind;

use super::{DONE, Format, output};

const EXAMPLES: &str = "\
An editor with a YAML language server completes and checks a file that begins with
  # yaml-language-server: $schema=vireo.json
beside the output of `vireo schema > vireo.json`.";

/// Prints the JSON Schema of definitions in YAML: every key, what it means and what it may be.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Schema {
    /// The kind of definition; without one, a file that may hold any of them
    #[arg(value_parser = PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.as_str())))]
    kind: Option<String>,
    /// List the kinds instead
    #[arg(long, conflicts_with = "kind")]
    list: bool,
    /// List the shorthands of YAML instead, with what each stands for
    #[arg(long, conflicts_with_all = ["kind", "list"])]
    shorthands: bool,
}

impl Schema {
    /// Exit status: 0.
    pub fn run(self) -> miette::Result<u8> {
        let text = if self.list {
            Kind::ALL.iter().map(|kind| format!("{kind}\n")).collect()
        } else if self.shorthands {
            vireo_schema::shorthand_list()
        } else {
            let kind = self.kind.as_deref().map(str::parse::<Kind>).transpose();
            let kind = kind.map_err(|_| miette::miette!("no kind of definition is called so"))?;
            let schema = kind.map_or_else(vireo_schema::file_schema, vireo_schema::schema);
            serde_json::to_string_pretty(&schema).into_diagnostic()? + "\n"
        };
        output::print(Format::Text, &(), || text)?;
        Ok(DONE)
    }
}
