//! The command `vireo`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vireo_reconciler::cli::main()
}
