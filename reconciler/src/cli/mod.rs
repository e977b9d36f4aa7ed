//! The command line: one file a subcommand.
//!
//! Exit status: 0 done (or nothing to do), 1 a problem, 2 changes wait (`plan`) or wrong usage. What programs read goes to standard output, what people are told
//! meanwhile to standard error.

mod apply;
mod complaint;
mod consent;
mod console;
mod convert;
mod doctor;
mod get;
mod import;
mod input;
mod nmi;
mod object;
mod output;
mod plan;
mod restart;
mod resume;
mod run;
mod schema;
mod status;
mod validate;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::host::paths::Paths;
use crate::host::real::RealHost;
use crate::source::directory::Directories;

/// Everything went as asked.
const DONE: u8 = 0;
/// A problem was found or something failed.
const PROBLEM: u8 = 1;
/// `plan` found changes.
const CHANGES: u8 = 2;

const EXAMPLES: &str = "\
First steps:
  vireo doctor                      what this host can and cannot do
  vireo validate /etc/vireo/desired check definitions, change nothing
  vireo plan                        what would be done, and why
  vireo apply                       do it, once
  vireo run                         do it, and keep it so

Definitions are libvirt's XML as it is, or the same as YAML, one or several objects a file, in any
layout of directories. What libvirt has no words for (wanted state, how much disruption is allowed)
is the element <vireo:policy> in <metadata>, or the key `policy` in YAML.";

/// Keeps this host's virtual machines, networks, storage pools and packet filters equal to a directory of definitions.
#[derive(Debug, Parser)]
#[command(name = "vireo", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every subcommand.
#[derive(Debug, Clone, Args)]
struct Common {
    /// A directory of definitions; may be given several times
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "VIREO_DESIRED",
        value_delimiter = ':',
        default_value = "/etc/vireo/desired"
    )]
    desired: Vec<PathBuf>,
    /// Where vireo remembers what it owns
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "VIREO_STATE_DIR",
        default_value = "/var/lib/vireo"
    )]
    state_dir: PathBuf,
    /// Where running guests have their sockets, consoles and logs
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "VIREO_RUNTIME_DIR",
        default_value = "/run/vireo"
    )]
    runtime_dir: PathBuf,
    /// Where the hook scripts are
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "VIREO_HOOKS_DIR",
        default_value = "/etc/vireo/hooks"
    )]
    hooks_dir: PathBuf,
    /// How to print objects
    #[arg(long, short, global = true, value_enum, default_value = "text")]
    output: Format,
    /// Colour in text output
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        env = "VIREO_COLOR"
    )]
    color: Color,
    /// Tell more on standard error; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// How objects are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// When text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check definitions; change nothing
    Validate(validate::Validate),
    /// Rewrite a definition as XML or as YAML
    Convert(convert::Convert),
    /// Make tidy definitions of libvirt's configuration directory or of `virsh dumpxml`
    Import(import::Import),
    /// Print what a definition may say, as a JSON Schema for editors
    Schema(schema::Schema),
    /// Show what would be done, and why (exit status 0: nothing, 2: changes, 1: a problem)
    Plan(plan::Plan),
    /// Make the host as the definitions say, once
    Apply(apply::Apply),
    /// Make the host as the definitions say and keep it so: watch, converge, repair
    Run(run::Run),
    /// List objects, or show one
    Get(get::Get),
    /// Show how every object does
    Status(status::Status),
    /// Explain one object: where it is defined, how it does, what is planned for it and why
    Why(why::Why),
    /// Stop a guest and start it again as it is defined now
    Restart(restart::Restart),
    /// Let a guest go on that was paused because the host failed its disk, or by its watchdog
    Resume(resume::Resume),
    /// Give a guest a non-maskable interrupt: one that hangs tells where, or dumps itself
    Nmi(nmi::Nmi),
    /// Attach to a guest's serial console (leave with Ctrl-])
    Console(console::Console),
    /// Tell what this host can and cannot do, and how to fix it
    Doctor(doctor::Doctor),
    /// Print a script that completes commands and flags in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Common {
    fn paths(&self) -> Paths {
        Paths {
            state: self.state_dir.clone(),
            runtime: self.runtime_dir.clone(),
            hooks: self.hooks_dir.clone(),
        }
    }

    fn source(&self) -> Directories {
        Directories::new(self.desired.clone())
    }

    fn socket(&self) -> PathBuf {
        self.runtime_dir.join("vireo.sock")
    }

    fn host(&self) -> miette::Result<Arc<RealHost>> {
        RealHost::new(self.paths())
            .map(Arc::new)
            .map_err(|error| complaint::plain(&error))
    }
}

/// Runs the command line that this process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    complaint::install(cli.common.color);
    start_log(&cli.common, matches!(cli.command, Command::Run(_)));
    match dispatch(&cli.common, cli.command) {
        Ok(status) => ExitCode::from(status),
        Err(report) => {
            eprintln!("{report:?}");
            ExitCode::from(PROBLEM)
        }
    }
}

fn dispatch(common: &Common, command: Command) -> miette::Result<u8> {
    match command {
        Command::Validate(command) => command.run(common),
        Command::Convert(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Schema(command) => command.run(),
        Command::Plan(command) => block_on(command.run(common)),
        Command::Apply(command) => block_on(command.run(common)),
        Command::Run(command) => block_on(command.run(common)),
        Command::Get(command) => block_on(command.run(common)),
        Command::Status(command) => block_on(command.run(common)),
        Command::Why(command) => block_on(command.run(common)),
        Command::Restart(command) => block_on(command.run(common)),
        Command::Resume(command) => block_on(command.run(common)),
        Command::Nmi(command) => block_on(command.run(common)),
        Command::Console(command) => block_on(command.run(common)),
        Command::Doctor(command) => block_on(command.run(common)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "vireo", &mut std::io::stdout());
            Ok(DONE)
        }
    }
}

fn block_on(work: impl Future<Output = miette::Result<u8>>) -> miette::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| miette::miette!("cannot start the runtime: {error}"))?;
    runtime.block_on(work)
}

/// The log goes to standard error: warnings for commands, information for the agent, more with `-v`; `VIREO_LOG` overrides both.
fn start_log(common: &Common, agent: bool) {
    use tracing_subscriber::EnvFilter;
    let level = match (common.verbose, agent) {
        (0, false) => "error",
        (0, true) => "info",
        (1, _) => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("VIREO_LOG").unwrap_or_else(|_| {
        EnvFilter::new(format!("error,vireo={level},vireo_reconciler={level}"))
    });
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let log = log.with_ansi(output::coloured(common.color, &std::io::stderr()));
    if common.output == Format::Json && agent {
        log.json().init();
    } else {
        log.with_target(false).init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
