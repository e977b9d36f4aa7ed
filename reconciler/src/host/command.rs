//! Running a tool: `nft`, `tc`, `qemu-img`, `dnsmasq --test`.
//!
//! In: a program, its arguments (never through a shell), a text for its standard input, a time limit. Out: what it wrote. What can go wrong: it is not
//! there, it fails (its own words are kept), it takes too long (it is killed). It sees nothing of our environment but a path, and speaks English.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::execute::effect::EffectError;

/// Where tools are looked for besides `PATH`: where distributions keep those for root.
const TOOL_PATHS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// The most that is kept of what a tool writes.
const OUTPUT_MAX: u64 = 64 << 20;

/// A tool that did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("{program} cannot be started: {error}", program = .program.display())]
    Start {
        /// Its path.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It said no.
    #[error("{program} failed: {message}", program = .program.display())]
    Failed {
        /// Its path.
        program: PathBuf,
        /// The last of its own words.
        message: String,
    },
    /// It did not end.
    #[error("{program} did not end within {limit:?}", program = .program.display())]
    Late {
        /// Its path.
        program: PathBuf,
        /// The time limit.
        limit: Duration,
    },
}

impl CommandError {
    /// The failure of an effect that needed the tool to do this.
    pub fn during(self, doing: &str) -> EffectError {
        let message = format!("cannot {doing}: {self}");
        match self {
            Self::Start { error, program } if error.kind() == io::ErrorKind::NotFound => {
                let tool = program
                    .file_name()
                    .unwrap_or_default()
                    .display()
                    .to_string();
                EffectError::refused(message).with_help(package_help(&tool))
            }
            Self::Start { .. } | Self::Late { .. } => EffectError::passing(message),
            Self::Failed { .. } => EffectError::refused(message),
        }
    }
}

/// How to get a tool on Debian and its like.
pub fn package_help(tool: &str) -> String {
    let package = match tool {
        "nft" => "nftables",
        "tc" | "ip" => "iproute2",
        "dnsmasq" => "dnsmasq-base",
        "qemu-img" => "qemu-utils",
        "qemu-system-x86_64" => "qemu-system-x86",
        other => other,
    };
    format!("install it (`apt-get install {package}`)")
}

/// The path of a tool, from `PATH` and the places where tools for root are kept.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(TOOL_PATHS.iter().map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Runs a tool by its name and gives back what it wrote to standard output.
///
/// # Errors
/// It cannot be started, it fails, it takes longer than `limit`.
pub async fn run<A: AsRef<OsStr>>(
    tool: &str,
    arguments: &[A],
    input: &str,
    limit: Duration,
) -> Result<Vec<u8>, CommandError> {
    let program = find_tool(tool).unwrap_or_else(|| PathBuf::from(tool));
    let start = |error| CommandError::Start {
        program: program.clone(),
        error,
    };
    let mut child = tokio::process::Command::new(&program)
        .args(arguments)
        .env_clear()
        .env("PATH", TOOL_PATHS.join(":"))
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(start(io::Error::other("no pipes")));
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let work = async {
        let write = async {
            // A tool that ends before it has read everything says why on standard error.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
        };
        let mut stdout = stdout.take(OUTPUT_MAX);
        let mut stderr = stderr.take(OUTPUT_MAX);
        let (_, read, read_err, ended) = tokio::join!(
            write,
            stdout.read_to_end(&mut out),
            stderr.read_to_end(&mut err),
            child.wait()
        );
        read?;
        read_err?;
        ended
    };
    let status = match tokio::time::timeout(limit, work).await {
        Ok(ended) => ended.map_err(start)?,
        Err(_) => return Err(CommandError::Late { program, limit }),
    };
    if status.success() {
        return Ok(out);
    }
    let message = last_words(&err).unwrap_or_else(|| status.to_string());
    Err(CommandError::Failed { program, message })
}

/// The beginning of what a tool complained of, on one line.
fn last_words(err: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(err);
    let words: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.chars().all(|c| matches!(c, '^' | '~' | ' ')))
        .collect();
    let mut line = words.join("; ");
    if line.len() > 600 {
        let end = (0..=600).rev().find(|n| line.is_char_boundary(*n))?;
        line.truncate(end);
        line.push('…');
    }
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tool_that_fails_is_quoted() {
        let error = run(
            "sh",
            &["-c", "echo no such luck >&2; exit 3"],
            "",
            Duration::from_secs(5),
        )
        .await
        .expect_err("exit status 3");
        assert!(
            error.to_string().ends_with("failed: no such luck"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_tool_that_hangs_is_given_up() {
        let error = run("sleep", &["60"], "", Duration::from_millis(50))
            .await
            .expect_err("late");
        assert!(matches!(error, CommandError::Late { .. }), "{error}");
    }

    #[tokio::test]
    async fn much_input_and_much_output_do_not_wait_for_each_other() {
        let text = "x".repeat(1 << 20);
        let out = run::<&str>("cat", &[], &text, Duration::from_secs(10))
            .await
            .expect("cat");
        assert_eq!(out.len(), text.len());
    }

    #[tokio::test]
    async fn a_missing_tool_says_how_to_get_it() {
        let error = run::<&str>("dnsmasq-that-is-not", &[], "", Duration::from_secs(5))
            .await
            .expect_err("missing")
            .during("serve");
        assert!(!error.retry);
        assert!(error.help.is_some());
    }
}
