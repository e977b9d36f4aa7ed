//! A private network namespace with a tap, and the host's side of it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process that keeps a network namespace of its own, ended when this is dropped.
pub struct Namespace {
    keeper: Child,
}

impl Namespace {
    /// Makes one; says why not where it cannot.
    pub fn new() -> Option<Self> {
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sleep", "600"])
            .stderr(Stdio::null());
        let keeper = match command.spawn() {
            Ok(keeper) => keeper,
            Err(error) => {
                eprintln!("skipped: cannot run unshare: {error}");
                return None;
            }
        };
        let mut namespace = Self { keeper };
        let own = std::fs::read_link("/proc/self/ns/net").ok();
        let end = Instant::now() + Duration::from_secs(5);
        let theirs = format!("/proc/{}/ns/net", namespace.keeper.id());
        while std::fs::read_link(&theirs).ok() == own {
            if namespace.keeper.try_wait().ok().flatten().is_some() || Instant::now() > end {
                eprintln!("skipped: cannot make a network namespace");
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(namespace)
    }

    /// The command that runs another inside.
    fn enter(&self) -> [String; 4] {
        [
            "nsenter".into(),
            "--target".into(),
            self.keeper.id().to_string(),
            "--net".into(),
        ]
    }

    /// The same, as words before a command.
    pub fn prefix(&self) -> Vec<&'static str> {
        // Leaked: a few bytes in a test.
        self.enter().into_iter().map(|word| &*word.leak()).collect()
    }

    /// Waits for the interface and brings it up, takes the guest's "ping" and answers "pong"; returns the guest's address.
    pub fn answer_ping(&self, interface: &str, patience: Duration) -> Result<[u8; 6], String> {
        let script = include_str!("pong.py");
        let [nsenter, rest @ ..] = self.enter();
        let seconds = patience.as_secs().to_string();
        let output = Command::new(nsenter)
            .args(rest)
            .args(["python3", "-c", script, interface, &seconds])
            .output();
        let output = output.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let bytes: Vec<u8> = text
            .trim()
            .split(':')
            .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        bytes
            .try_into()
            .map_err(|_| format!("{text} {}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
