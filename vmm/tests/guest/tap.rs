//! A private network namespace with a tap, and the host's side of it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
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

    /// Has somebody wait for the interface, bring it up, take the guest's "ping" and answer "pong". Who does is there when this returns: an emulated host takes longer to
    /// start a program than a guest goes on asking.
    pub fn answer_ping(&self, interface: &str, patience: Duration) -> Answer {
        let [nsenter, rest @ ..] = self.enter();
        let seconds = patience.as_secs().to_string();
        let mut child = Command::new(nsenter)
            .args(rest)
            .args(["python3", "-c", include_str!("pong.py")])
            .args([interface, &seconds])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        // One that could not begin says nothing here, and why in the end.
        said.read_line(&mut String::new()).unwrap();
        Answer { child, said }
    }
}

/// Somebody who answers a guest's "ping".
pub struct Answer {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Answer {
    /// Waits until it is given; the guest's address, or why there was none.
    pub fn address(mut self) -> Result<[u8; 6], String> {
        let mut text = String::new();
        self.said.read_to_string(&mut text).unwrap();
        let output = self.child.wait_with_output().unwrap();
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
