//! The host that a scenario works on: the inside of the lab's throw-away VM.
//!
//! A scenario is a function over a [`Lab`], in a file of its own under `tests/scenarios`. It writes definitions, calls `vireo` as an operator would, and then
//! looks for itself at what the kernel shows: it never asks vireo whether vireo was right.
//!
//! In: the binaries beside the running one, the guest images of `tests/lab/build-guest`. Out: printed steps with the time each took, and an [`Outcome`].
//! What can go wrong: a [`Failure`], which names the step and what was seen instead. The host is put back as it was before each scenario ([`clean`]),
//! by force: run it nowhere but in the lab, which [`Lab::start`] checks.

pub mod clean;
pub mod command;
pub mod failure;
pub mod guest;
pub mod kernel;
pub mod runner;
pub mod wait;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

pub use command::{Ran, run};
pub use failure::{Failure, Outcome, ensure};
pub use guest::Guest;
pub use kernel::Process;
pub use wait::eventually;

/// Where a scenario's host keeps everything; removed before each scenario.
pub const ROOT: &str = "/srv/vireo-lab";

/// A host of its own, empty at first.
pub struct Lab {
    vireo: PathBuf,
    images: PathBuf,
    step_started: RefCell<Instant>,
}

impl Lab {
    /// Empties the lab and lays out the directories. Fails outside the lab.
    pub fn start() -> Outcome<Self> {
        ensure(Path::new("/run/lab/bin/stage2").exists(), || {
            "this is not the lab: run it through tests/lab/run".into()
        })?;
        clean::everything()?;
        for directory in ["desired", "state", "runtime", "hooks", "images", "boot"] {
            fs::create_dir_all(Path::new(ROOT).join(directory))?;
        }
        let own = std::env::current_exe()?;
        let binaries = own
            .parent()
            .ok_or_else(|| Failure::new("the test binary has no directory"))?;
        let images = match std::env::var_os("VIREO_LAB_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => binaries.with_file_name("lab"),
        };
        for (from, to) in [
            ("guest/vmlinuz", "vmlinuz"),
            ("guest/initrd", "initrd"),
            ("guest-full/vmlinuz", "vmlinuz-full"),
            ("guest-full/initrd", "initrd-full"),
            ("testguest", "testguest"),
        ] {
            let from = images.join(from);
            ensure(from.exists(), || {
                format!("{from:?} is missing: run tests/lab/build-guest")
            })?;
            fs::copy(&from, format!("{ROOT}/boot/{to}"))?;
        }
        Ok(Self {
            vireo: binaries.join("vireo"),
            images,
            step_started: RefCell::new(Instant::now()),
        })
    }

    /// A path under the scenario's own directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        Path::new(ROOT).join(relative)
    }

    /// Where the machine has what `tests/lab/build-*` made for guests to boot.
    pub fn images(&self) -> &Path {
        &self.images
    }

    /// Does one step of the story and prints it with the time it took.
    pub fn step<T>(&self, what: &str, doing: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        *self.step_started.borrow_mut() = Instant::now();
        let result = doing().map_err(|failure| failure.during(what));
        if result.is_ok() {
            self.say(&format!(
                "{:5.1} s  {what}",
                self.step_started.borrow().elapsed().as_secs_f64()
            ));
        }
        result
    }

    /// Prints a line of the story.
    pub fn say(&self, line: &str) {
        println!("      {line}");
    }

    /// Copies the definitions of `tests/scenarios/<name>` into the desired directory.
    pub fn desired(&self, name: &str) -> Outcome {
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("scenarios")
            .join(name);
        for entry in fs::read_dir(&from).map_err(|e| Failure::from(e).during(from.display()))? {
            let entry = entry?;
            fs::copy(entry.path(), self.path("desired").join(entry.file_name()))?;
        }
        Ok(())
    }

    /// Writes one definition, whole, as an editor does: to a temporary name that the watch ignores, then renamed.
    pub fn write(&self, file: &str, text: &str) -> Outcome {
        let temporary = self.path("desired").join(format!(".{file}.new"));
        fs::write(&temporary, text)?;
        fs::rename(&temporary, self.path("desired").join(file))?;
        Ok(())
    }

    /// Replaces text in one definition; the text must be there.
    pub fn edit(&self, file: &str, from: &str, to: &str) -> Outcome {
        let text = self.read(file)?;
        ensure(text.contains(from), || {
            format!("{file} has no {from:?} to replace")
        })?;
        self.write(file, &text.replace(from, to))
    }

    /// One definition's text.
    pub fn read(&self, file: &str) -> Outcome<String> {
        let path = self.path("desired").join(file);
        fs::read_to_string(&path).map_err(|e| Failure::from(e).during(path.display()))
    }

    /// Removes one definition.
    pub fn remove(&self, file: &str) -> Outcome {
        let path = self.path("desired").join(file);
        fs::remove_file(&path).map_err(|e| Failure::from(e).during(path.display()))
    }

    /// Writes an executable hook script.
    pub fn hook(&self, name: &str, script: &str) -> Outcome {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("hooks").join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Runs `vireo` with these words and waits for it.
    pub fn vireo(&self, words: &str) -> Outcome<Ran> {
        command::run_with(self.vireo_command(words))
    }

    /// Starts `vireo` with these words and leaves it running, its output in a log.
    pub fn vireo_started(&self, words: &str) -> Outcome<Child> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("agent.log"))?;
        let child = self
            .vireo_command(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(child)
    }

    /// Starts the agent (`vireo run`); it is killed when the value is dropped.
    pub fn agent(&self) -> Outcome<Agent> {
        Ok(Agent {
            child: self.vireo_started("run")?,
        })
    }

    fn vireo_command(&self, words: &str) -> std::process::Command {
        let mut command = std::process::Command::new(&self.vireo);
        command
            .args(words.split_whitespace())
            .env("VIREO_DESIRED", self.path("desired"))
            .env("VIREO_STATE_DIR", self.path("state"))
            .env("VIREO_RUNTIME_DIR", self.path("runtime"))
            .env("VIREO_HOOKS_DIR", self.path("hooks"));
        command
    }

    /// A guest, by its name and the address it is to have.
    pub fn guest(&self, name: &str, address: &str) -> Guest {
        Guest::new(name, address)
    }

    /// Waits until every guest answers on the network, or says which does not.
    pub fn all_answer(&self, guests: &[&Guest], within: Duration) -> Outcome {
        let deadline = Instant::now() + within;
        for guest in guests {
            let left = deadline.saturating_duration_since(Instant::now());
            guest.comes_up(left.max(Duration::from_secs(1)))?;
        }
        Ok(())
    }
}

/// A running `vireo run`.
pub struct Agent {
    child: Child,
}

impl Agent {
    /// Kills it without warning and waits for its end.
    pub fn kill(mut self) -> Outcome {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> Outcome<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Nothing is lost when it has gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
