//! Hook scripts: programs of the operator that are told what happens to guests, networks and the agent, and may refuse a start.
//!
//! In: a [`Hook`] and the hooks directory. For the script `qemu`, `HOOKS/qemu` runs first, then every executable file of `HOOKS/qemu.d/` by name, each with
//! libvirt's four arguments and the definition on standard input. Out: nothing, or the refusal with what the script said. What can go wrong: a script that
//! fails, that takes longer than its time (its whole process group is killed), or that others could have written.
//! Source: libvirt's "Hooks for specific system management".

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::execute::effect::{EffectError, Hook};

/// How long one script may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long the output of a script that has ended is waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How much of what a script says is kept, in bytes.
const MOST_OUTPUT: u64 = 16 * 1024;

/// A script that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The scripts cannot be listed.
    #[error("cannot list the hook scripts in {}", path.display())]
    List {
        /// Directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A script that somebody else could have written is not run.
    #[error("the hook {} is not run: {why}", path.display())]
    Untrusted {
        /// Script.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It cannot be run.
    #[error("cannot run the hook {}", path.display())]
    Run {
        /// Script.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("the hook {} was ended after {limit:?}{}", path.display(), said(output))]
    TimedOut {
        /// Script.
        path: PathBuf,
        /// Its time.
        limit: Duration,
        /// What it had said.
        output: String,
    },
    /// It said no.
    #[error("the hook {} ended with {status}{}", path.display(), said(output))]
    Failed {
        /// Script.
        path: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        output: String,
    },
}

fn said(output: &str) -> String {
    match output.trim() {
        "" => String::new(),
        output => format!(": {output}"),
    }
}

/// Runs the scripts of one hook, one after the other. A script that fails stops them all if the hook may refuse; otherwise it is logged and the next one runs.
///
/// # Errors
/// A failure of a script whose hook may refuse.
pub async fn run(directory: &Path, hook: &Hook) -> Result<(), EffectError> {
    run_within(directory, hook, TIME_LIMIT).await
}

async fn run_within(directory: &Path, hook: &Hook, limit: Duration) -> Result<(), EffectError> {
    let outcome = async {
        for script in scripts(directory, &hook.script)? {
            let result = run_script(&script, hook, limit).await;
            match result {
                Err(error) if !hook.may_refuse => report(hook, &error),
                other => other?,
            }
        }
        Ok(())
    };
    match outcome.await {
        Ok(()) => Ok(()),
        Err(error) if !hook.may_refuse => {
            report(hook, &error);
            Ok(())
        }
        Err(error) => Err(EffectError {
            message: message(hook, &error),
            help: Some(format!(
                "the script decides: mend what it complains of, or the script in {}",
                directory.display()
            )),
            retry: true,
        }),
    }
}

fn message(hook: &Hook, error: &HookError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    let Hook {
        object,
        operation,
        sub_operation,
        ..
    } = hook;
    format!(
        "{operation} {sub_operation} of {object}: {error}{}",
        source.unwrap_or_default()
    )
}

fn report(hook: &Hook, error: &HookError) {
    tracing::warn!(hook = %hook.script, object = %hook.object, "{}", message(hook, error));
}

/// The scripts of one name, in the order in which they run. None is fine.
fn scripts(directory: &Path, name: &str) -> Result<Vec<PathBuf>, HookError> {
    let mut found = Vec::new();
    let script = directory.join(name);
    if script.is_file() {
        found.push(script);
    }
    let more = directory.join(format!("{name}.d"));
    let listed = match fs::read_dir(&more) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    };
    let listed = listed.map_err(|source| HookError::List { path: more, source })?;
    let mut listed: Vec<_> = listed.into_iter().map(|entry| entry.path()).collect();
    listed.sort();
    found.extend(listed);
    found.retain(|path| {
        fs::metadata(path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
    });
    Ok(found)
}

/// A script runs with all our rights: only those who already have them may have written it. A link is fine; what counts is the file it leads to.
fn check_trust(path: &Path) -> Result<(), HookError> {
    let file = fs::metadata(path).map_err(|source| HookError::Run {
        path: path.to_owned(),
        source,
    })?;
    let us = rustix::process::geteuid().as_raw();
    let why = if file.uid() != 0 && file.uid() != us {
        "its owner is neither root nor who runs the agent"
    } else if file.mode() & 0o002 != 0 {
        "anybody may write it"
    } else {
        return Ok(());
    };
    Err(HookError::Untrusted {
        path: path.to_owned(),
        why,
    })
}

async fn run_script(path: &Path, hook: &Hook, limit: Duration) -> Result<(), HookError> {
    check_trust(path)?;
    let started = std::time::Instant::now();
    let child = command(path, hook)
        .spawn()
        .map_err(|source| HookError::Run {
            path: path.to_owned(),
            source,
        })?;
    let (result, output) = supervise(child, &hook.input, limit).await;
    tracing::debug!(
        hook = %path.display(), object = %hook.object, operation = %hook.operation, sub_operation = %hook.sub_operation,
        elapsed = ?started.elapsed(), output = %output.trim(), "a hook ran"
    );
    let path = path.to_owned();
    match result {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(HookError::Failed {
            path,
            status,
            output,
        }),
        Ok(None) => Err(HookError::TimedOut {
            path,
            limit,
            output,
        }),
        Err(source) => Err(HookError::Run { path, source }),
    }
}

fn command(path: &Path, hook: &Hook) -> Command {
    let mut command = Command::new(path);
    command
        .args([
            &hook.object,
            &hook.operation,
            &hook.sub_operation,
            &hook.extra,
        ])
        .current_dir("/")
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/")
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Feeds a script, listens to it and waits for it. `None` if its time ran out. Then nothing of its process group is left.
async fn supervise(
    mut child: Child,
    input: &str,
    limit: Duration,
) -> (io::Result<Option<std::process::ExitStatus>>, String) {
    let group = child.id();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A script that does not read what it is told is none the worse for it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let work = async {
        let mut talk = Box::pin(async {
            tokio::join!(
                feed,
                listen(stdout, &mut said),
                listen(stderr, &mut complained)
            )
        });
        tokio::select! {
            _ = &mut talk => child.wait().await,
            // What it left running may hold its output open for ever: its last words are waited for, no more.
            status = child.wait() => {
                let _ = tokio::time::timeout(LAST_WORDS, &mut talk).await;
                status
            }
        }
    };
    let outcome = tokio::time::timeout(limit, work).await;
    if outcome.is_err() {
        if let Some(group) = group
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
        {
            // The script has not ended, or has only just: the group's number is not somebody else's yet.
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _ = child.wait().await;
    }
    let mut output = String::from_utf8_lossy(&complained).into_owned();
    output.push_str(&String::from_utf8_lossy(&said));
    (outcome.ok().transpose(), output)
}

/// Keeps the beginning of what a script says and reads on, so that it is never held up.
async fn listen(stream: Option<impl tokio::io::AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    if let Some(mut stream) = stream {
        let _ = (&mut stream).take(MOST_OUTPUT).read_to_end(kept).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn hook(may_refuse: bool) -> Hook {
        Hook {
            script: "qemu".into(),
            object: "web".into(),
            operation: "prepare".into(),
            sub_operation: "begin".into(),
            extra: "-".into(),
            input: "<domain/>".into(),
            may_refuse,
        }
    }

    fn script(path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn scripts_run_in_order_with_libvirts_arguments_and_the_definition() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let say = |name: &str| {
            format!(
                "echo {name} \"$@\" \"$(cat)\" \"$SECRET\" >> {}",
                out.display()
            )
        };
        script(&dir.path().join("qemu.d/20-b"), &say("b"), 0o755);
        script(&dir.path().join("qemu.d/10-a"), &say("a"), 0o755);
        script(&dir.path().join("qemu.d/30-not"), &say("not"), 0o644);
        script(&dir.path().join("qemu"), &say("first"), 0o755);
        run(dir.path(), &hook(true)).await.unwrap();
        let all = "web prepare begin - <domain/> ";
        assert_eq!(
            fs::read_to_string(&out).unwrap(),
            format!("first {all}\na {all}\nb {all}\n")
        );
    }

    #[tokio::test]
    async fn a_refusal_says_what_the_script_said_and_stops_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let after = dir.path().join("after");
        script(
            &dir.path().join("qemu"),
            "echo no room in rack 7 >&2; exit 3",
            0o755,
        );
        script(
            &dir.path().join("qemu.d/a"),
            &format!("touch {}", after.display()),
            0o755,
        );
        let error = run(dir.path(), &hook(true)).await.unwrap_err();
        assert!(error.message.contains("prepare begin of web"), "{error}");
        assert!(
            error.message.contains("exit status: 3: no room in rack 7"),
            "{error}"
        );
        assert!(!after.exists());
        run(dir.path(), &hook(false)).await.unwrap();
        assert!(
            after.exists(),
            "a script that may not refuse must not stop the next"
        );
    }

    #[tokio::test]
    async fn a_script_that_hangs_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let text = format!(
            "sleep 1000 & echo $! > {}; echo waiting; wait",
            pids.display()
        );
        script(&dir.path().join("qemu"), &text, 0o755);
        let error = run_within(dir.path(), &hook(true), Duration::from_millis(500))
            .await
            .unwrap_err();
        assert!(
            error.message.contains("was ended after 500ms: waiting"),
            "{error}"
        );
        let pid: u32 = fs::read_to_string(pids).unwrap().trim().parse().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(super::super::process::Identity::of(pid).is_none());
    }

    #[tokio::test]
    async fn a_script_that_anybody_may_write_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        script(
            &dir.path().join("qemu"),
            &format!("touch {}", out.display()),
            0o757,
        );
        let error = run(dir.path(), &hook(true)).await.unwrap_err();
        assert!(error.message.contains("anybody may write it"), "{error}");
        assert!(!out.exists());
    }

    #[tokio::test]
    async fn no_script_is_no_refusal() {
        let dir = tempfile::tempdir().unwrap();
        run(&dir.path().join("absent"), &hook(true)).await.unwrap();
    }

    #[tokio::test]
    async fn a_script_that_says_much_and_reads_nothing_is_not_held_up() {
        let dir = tempfile::tempdir().unwrap();
        script(
            &dir.path().join("qemu"),
            "head -c 3000000 /dev/zero | tr '\\0' x; exit 1",
            0o755,
        );
        let mut big = hook(true);
        big.input = "x".repeat(1 << 20);
        let error = run(dir.path(), &big).await.unwrap_err();
        assert!(error.message.len() < 20_000, "{}", error.message.len());
    }
}
