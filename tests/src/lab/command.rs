//! Programs that a scenario runs, and what it expects of them.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::failure::{Failure, Outcome, ensure};

/// A program that has run.
#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    /// Exit status; -1 when a signal ended it.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

/// Runs a program and waits for it.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Outcome<Ran> {
    let mut command = Command::new(program);
    command.args(arguments);
    run_with(command)
}

/// Runs a prepared command and waits for it. Its standard input is empty.
pub fn run_with(mut command: Command) -> Outcome<Ran> {
    let program = command.get_program().to_string_lossy();
    let mut line = program.rsplit('/').next().unwrap_or(&program).to_string();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    let start = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Failure::from(e).during(format!("could not run {line}")))?;
    Ok(Ran {
        line,
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: start.elapsed(),
    })
}

impl Ran {
    /// Holds when the program ended with this status.
    pub fn exits(self, status: i32) -> Outcome<Self> {
        ensure(self.status == status, || {
            format!(
                "{} ended with {} instead of {status}:\n{}",
                self.line,
                self.status,
                self.output()
            )
        })?;
        Ok(self)
    }

    /// Holds when the output, on either stream, has this text in it (without regard to case).
    pub fn says(self, text: &str) -> Outcome<Self> {
        let said = format!("{}{}", self.out, self.err).to_lowercase();
        ensure(said.contains(&text.to_lowercase()), || {
            format!("{} does not say {text:?}:\n{}", self.line, self.output())
        })?;
        Ok(self)
    }

    /// Holds when neither stream has this text in it.
    pub fn does_not_say(self, text: &str) -> Outcome<Self> {
        let said = format!("{}{}", self.out, self.err).to_lowercase();
        ensure(!said.contains(&text.to_lowercase()), || {
            format!("{} says {text:?}:\n{}", self.line, self.output())
        })?;
        Ok(self)
    }

    /// Both streams, indented, the last 60 lines of each.
    pub fn output(&self) -> String {
        let mut text = String::new();
        for (name, stream) in [("out", &self.out), ("err", &self.err)] {
            let lines: Vec<&str> = stream.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(60)) {
                text.push_str(&format!("        {name}| {line}\n"));
            }
        }
        text
    }
}
