//! The guests of this host: what their effects do, and how they are found.
//!
//! In: the runtime directory, the control groups, launches. Out: processes that outlive us, and a [`Guest`] for each directory. What can go wrong: a monitor that
//! is not installed, does not start or does not answer; each becomes an [`EffectError`] with the monitor's own words where it left any.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::time::Instant;
use uuid::Uuid;

use super::builtin::Builtin;
use super::directory::GuestDir;
use super::qemu::Qemu;
use super::{Driver, DriverError, LastWords, Launch, Request, Vitals, with_causes};
use crate::execute::effect::EffectError;
use crate::host::cgroup::Cgroups;
use crate::host::process::{Detached, Handle, Identity};
use crate::inventory::{Guest, GuestState};
use crate::resolve;
use crate::resolve::limits::Limits;
use crate::units::Bytes;

/// Evaluates an expression with the driver of that name: each is a type of its own, and their methods are asynchronous.
macro_rules! with_driver {
    ($which:expr, $driver:ident => $body:expr) => {
        match $which {
            resolve::Driver::Builtin => {
                let $driver = Builtin;
                $body
            }
            resolve::Driver::Qemu => {
                let $driver = Qemu;
                $body
            }
        }
    };
}

/// How long a monitor may take from its start to its first answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// How long somebody who holds the lock may take to be seen as the guest.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);
/// How long a guest that is ended at once may take, images and all, before it is killed.
const QUITS_WITHIN: Duration = Duration::from_secs(5);
/// How long a killed process may take to be gone.
const DIES_WITHIN: Duration = Duration::from_secs(10);
/// How often the power button is pressed again: a guest that was still booting has not heard it.
const PRESSES_EVERY: Duration = Duration::from_secs(5);

/// What an earlier process of a guest may have left, and the next one makes anew.
const OF_ONE_PROCESS: &[&str] = &[
    "pid",
    "control",
    "console",
    "state",
    "events.in",
    "events.out",
];

/// The guests of this host.
#[derive(Debug, Clone)]
pub struct Guests {
    directory: PathBuf,
    state: Option<PathBuf>,
    cgroups: Cgroups,
}

/// Guests that cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum GuestsError {
    /// Their directories cannot be listed.
    #[error("cannot list {}", path.display())]
    List {
        /// Directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// One does not say what it was started as.
    #[error("cannot read what guest {guest} was started as")]
    Launch {
        /// The guest.
        guest: Uuid,
        /// Why.
        source: io::Error,
    },
}

impl Guests {
    /// The guests whose directories are in `RUNTIME/guests`.
    pub fn new(runtime: &Path, cgroups: Cgroups) -> Self {
        Self {
            directory: runtime.join("guests"),
            state: None,
            cgroups,
        }
    }

    /// The same, with what outlasts guests in this state directory.
    #[must_use]
    pub fn with_state(mut self, state: PathBuf) -> Self {
        self.state = Some(state);
        self
    }

    /// A guest's directory, whether it exists or not.
    pub fn dir(&self, guest: Uuid) -> GuestDir {
        let dir = GuestDir::new(&self.directory, guest);
        match &self.state {
            Some(state) => dir.with_state(state),
            None => dir,
        }
    }

    /// The path of a guest's serial console, if it has one.
    pub fn console(&self, guest: Uuid) -> Option<PathBuf> {
        Some(self.dir(guest).console()).filter(|path| path.exists())
    }

    /// Forgets what is kept of a guest from one start to the next. Core dumps stay, for people.
    ///
    /// # Errors
    /// The file system's.
    pub fn forget(&self, guest: Uuid) -> io::Result<()> {
        match std::fs::remove_file(self.dir(guest).clock()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Every guest that was started and not released.
    ///
    /// # Errors
    /// The directory cannot be listed, or a guest does not say what it was started as.
    pub async fn observe(&self) -> Result<BTreeMap<Uuid, Guest>, GuestsError> {
        let list = |source| GuestsError::List {
            path: self.directory.clone(),
            source,
        };
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(list(error)),
        };
        let mut looks = Vec::new();
        for entry in entries {
            let name = entry.map_err(list)?.file_name();
            let Some(guest) = name.to_str().and_then(|name| name.parse::<Uuid>().ok()) else {
                continue;
            };
            let dir = self.dir(guest);
            let launch = dir.launch();
            if let Some(launch) = launch.map_err(|source| GuestsError::Launch { guest, source })? {
                looks.push(async move { (guest, look(&dir, launch).await) });
            }
        }
        Ok(join_all(looks).await.into_iter().collect())
    }

    /// Starts a guest inside its control group, and waits until its monitor answers. A guest whose process runs is left alone.
    ///
    /// # Errors
    /// The monitor is not there, cannot do what is asked, or ends at once; then no process is left.
    pub async fn start(&self, launch: &Launch) -> Result<(), EffectError> {
        let domain = &launch.domain;
        let dir = self.dir(domain.uuid);
        let failed = |error: &dyn std::error::Error| failure("start", &domain.name, error);
        dir.create().map_err(|error| failed(&error))?;
        let Some(lock) = self
            .lock_or_find(&dir)
            .await
            .map_err(|error| failed(&error))?
        else {
            tracing::debug!(guest = %domain.name, "the guest runs already");
            return Ok(());
        };
        dir.sweep(OF_ONE_PROCESS).map_err(|error| failed(&error))?;
        dir.record_launch(launch).map_err(|error| failed(&error))?;
        let invocation = with_driver!(domain.driver, driver => driver.prepare(launch, &dir))
            .map_err(|error| refusal("start", &domain.name, &error))?;
        self.cgroups
            .ensure(domain.uuid)
            .map_err(|error| failed(&error))?;
        let detached = Detached {
            program: invocation.program,
            arguments: invocation.arguments,
            directory: dir.path().to_owned(),
            log: dir.open_log().map_err(|error| failed(&error))?,
            lock,
            groups: self
                .cgroups
                .entrances(domain.uuid)
                .map_err(|error| failed(&error))?,
            alone: invocation.alone,
        };
        let spawned = detached.spawn();
        let identity =
            spawned.map_err(|error| ended_at_once(&dir, launch, &with_causes(&error)))?;
        dir.record_process(identity)
            .map_err(|error| failed(&error))?;
        tracing::info!(guest = %domain.name, driver = %domain.driver, pid = identity.pid, "the guest's process has started");
        await_answer(&dir, launch, identity).await?;
        for interface in domain.interfaces.iter().filter(|i| !i.link_up) {
            self.set_link(domain.uuid, domain.driver, interface.index, false)
                .await?;
        }
        // The builtin monitor has read the rest; QEMU begins without limits, and with all of the memory.
        if domain.driver != resolve::Driver::Qemu {
            return Ok(());
        }
        for disk in domain.disks.iter().filter(|d| !d.limits.is_default()) {
            self.set_limits(domain.uuid, domain.driver, &disk.target, &disk.limits)
                .await?;
        }
        let memory = &domain.memory;
        if domain.balloon && memory.current < memory.maximum {
            return self
                .set_balloon(domain.uuid, domain.driver, memory.current)
                .await;
        }
        Ok(())
    }

    /// Puts a guest's disk, and the others of its group, under these limits.
    ///
    /// # Errors
    /// The monitor does not answer, or refuses.
    pub async fn set_limits(
        &self,
        guest: Uuid,
        driver: resolve::Driver,
        disk: &str,
        limits: &Limits,
    ) -> Result<(), EffectError> {
        let request = Request::Limits(disk.to_owned(), Box::new(limits.clone()));
        self.ask("limit a disk of", guest, driver, request).await
    }

    /// Makes a guest's disk so large: its image, and what the guest sees of it.
    ///
    /// # Errors
    /// The monitor does not answer, or refuses; the image cannot grow.
    pub async fn grow_disk(
        &self,
        guest: Uuid,
        driver: resolve::Driver,
        disk: &str,
        capacity: Bytes,
    ) -> Result<(), EffectError> {
        let request = Request::Grow(disk.to_owned(), capacity);
        self.ask("make a disk larger in", guest, driver, request)
            .await
    }

    /// The lock, or `None` if a process of the guest has it. Somebody who looks at neither for a moment is one who starts or stops it: that is waited for.
    async fn lock_or_find(&self, dir: &GuestDir) -> io::Result<Option<std::os::fd::OwnedFd>> {
        let deadline = Instant::now() + SETTLES_WITHIN;
        loop {
            if let Some(lock) = dir.lock()? {
                return Ok(Some(lock));
            }
            if let Some(identity) = dir.process() {
                dir.record_process(identity)?;
                return Ok(None);
            }
            if Instant::now() >= deadline {
                let path = dir.file("lock");
                return Err(io::Error::other(format!(
                    "{} is held by somebody who is not the guest",
                    path.display()
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks a guest to shut down, waits, and then ends its process. With no time to wait it is ended at once. A guest that does not run is left alone.
    ///
    /// # Errors
    /// The process cannot be ended.
    pub async fn shutdown(
        &self,
        guest: Uuid,
        driver: resolve::Driver,
        timeout: Duration,
    ) -> Result<(), EffectError> {
        let dir = self.dir(guest);
        let name = self.name(guest);
        let Some(identity) = dir.process() else {
            return Ok(());
        };
        let failed = |error: io::Error| failure("stop", &name, &error);
        let Some(process) = Handle::open(identity).map_err(failed)? else {
            return Ok(());
        };
        if !timeout.is_zero()
            && press_until(&dir, driver, &process, timeout)
                .await
                .map_err(failed)?
        {
            tracing::info!(guest = %name, "the guest shut down");
            return Ok(());
        }
        let quit = with_driver!(driver, driver => driver.ask(&dir, Request::Quit).await);
        if let Err(error) = &quit {
            tracing::warn!(guest = %name, error = %with_causes(error), "the guest's monitor cannot be asked to end");
        }
        if quit.is_ok() && process.ended_within(QUITS_WITHIN).await.map_err(failed)? {
            return Ok(());
        }
        process.signal(Signal::KILL).map_err(failed)?;
        if process.ended_within(DIES_WITHIN).await.map_err(failed)? {
            return Ok(());
        }
        Err(failed(io::Error::other(format!(
            "process {} does not end, killed as it is: it waits for the kernel",
            identity.pid
        ))))
    }

    /// Halts a guest's processors.
    ///
    /// # Errors
    /// The monitor does not answer, or refuses.
    pub async fn pause(&self, guest: Uuid, driver: resolve::Driver) -> Result<(), EffectError> {
        self.ask("pause", guest, driver, Request::Pause).await
    }

    /// Lets a guest's processors run.
    ///
    /// # Errors
    /// The monitor does not answer, or refuses.
    pub async fn resume(&self, guest: Uuid, driver: resolve::Driver) -> Result<(), EffectError> {
        self.ask("resume", guest, driver, Request::Resume).await
    }

    /// Why a guest is paused although nobody asked for it, if it is.
    ///
    /// # Errors
    /// The monitor does not answer.
    pub async fn why_paused(
        &self,
        guest: Uuid,
        driver: resolve::Driver,
    ) -> Result<Option<String>, EffectError> {
        let dir = self.dir(guest);
        let vitals = with_driver!(driver, driver => driver.vitals(&dir).await);
        let vitals = vitals.map_err(|error| refusal("look at", &self.name(guest), &error))?;
        Ok(vitals.stopped)
    }

    /// Gives a guest's processors a non-maskable interrupt.
    ///
    /// # Errors
    /// The monitor does not answer, or refuses: the guest has ended.
    pub async fn inject_nmi(
        &self,
        guest: Uuid,
        driver: resolve::Driver,
    ) -> Result<(), EffectError> {
        self.ask("inject an nmi into", guest, driver, Request::Nmi)
            .await
    }

    /// Sets what the balloon leaves a guest. Whether and when the guest gives the rest back is the guest's.
    ///
    /// # Errors
    /// The monitor does not answer, or refuses.
    pub async fn set_balloon(
        &self,
        guest: Uuid,
        driver: resolve::Driver,
        size: Bytes,
    ) -> Result<(), EffectError> {
        self.ask("set the balloon of", guest, driver, Request::Balloon(size))
            .await
    }

    /// Puts the cable of a guest's interface in, or pulls it.
    ///
    /// # Errors
    /// The monitor does not answer, or refuses.
    pub async fn set_link(
        &self,
        guest: Uuid,
        driver: resolve::Driver,
        interface: usize,
        up: bool,
    ) -> Result<(), EffectError> {
        let request = Request::Link(interface, up);
        self.ask("set a link of", guest, driver, request).await
    }

    async fn ask(
        &self,
        what: &str,
        guest: Uuid,
        driver: resolve::Driver,
        request: Request,
    ) -> Result<(), EffectError> {
        let dir = self.dir(guest);
        let asked = with_driver!(driver, driver => driver.ask(&dir, request).await);
        asked.map_err(|error| refusal(what, &self.name(guest), &error))
    }

    /// Rewrites what a guest is said to be, after a live change. A guest without a directory is left without.
    ///
    /// # Errors
    /// The file system's.
    pub fn record(&self, launch: &Launch) -> Result<(), EffectError> {
        let dir = self.dir(launch.domain.uuid);
        if !dir.path().exists() {
            return Ok(());
        }
        let recorded = dir.record_launch(launch);
        recorded.map_err(|error| failure("record what runs as", &launch.domain.name, &error))
    }

    /// Removes the directory of a guest whose process is gone.
    ///
    /// # Errors
    /// The process is not gone, or the file system's.
    pub fn release(&self, guest: Uuid) -> Result<(), EffectError> {
        let dir = self.dir(guest);
        if let Some(identity) = dir.process() {
            return Err(EffectError {
                message: format!(
                    "cannot release guest {}: its process {} runs",
                    self.name(guest),
                    identity.pid
                ),
                help: None,
                retry: true,
            });
        }
        dir.remove()
            .map_err(|error| failure("remove the directory of", &guest.to_string(), &error))
    }

    /// A guest's name for messages, as far as its directory knows it.
    fn name(&self, guest: Uuid) -> String {
        let launch = self.dir(guest).launch().ok().flatten();
        launch.map_or_else(|| guest.to_string(), |launch| launch.domain.name)
    }
}

/// How one guest does. A monitor that does not answer is believed what it last wrote: its process shows that the guest runs.
async fn look(dir: &GuestDir, launch: Launch) -> Guest {
    let driver = launch.domain.driver;
    let Some(Identity { pid, .. }) = dir.process() else {
        let words = with_driver!(driver, driver => driver.last_words(dir));
        return Guest {
            launch: Box::new(launch),
            state: GuestState::Ended {
                reason: words.reason.unwrap_or_else(|| "killed".to_owned()),
            },
            balloon: None,
            disks: BTreeMap::new(),
            memory: BTreeMap::new(),
        };
    };
    let vitals = with_driver!(driver, driver => driver.vitals(dir).await);
    let Vitals {
        paused,
        stopped,
        preserved,
        balloon,
        disks,
        memory,
    } = vitals.unwrap_or_else(|error| {
        tracing::warn!(guest = %launch.domain.name, error = %with_causes(&error), "a guest's monitor does not answer");
        let words = with_driver!(driver, driver => driver.last_words(dir));
        let LastWords {
            paused, stopped, ..
        } = words;
        Vitals {
            paused,
            stopped,
            ..Vitals::default()
        }
    });
    Guest {
        launch: Box::new(launch),
        state: match (preserved, paused) {
            (Some(reason), _) => GuestState::Preserved { pid, reason },
            (None, true) => GuestState::Paused { pid, why: stopped },
            (None, false) => GuestState::Running { pid },
        },
        balloon,
        disks,
        memory,
    }
}

/// Waits until a new monitor answers. One that ends instead, or never answers, is an error, and is gone.
async fn await_answer(
    dir: &GuestDir,
    launch: &Launch,
    identity: Identity,
) -> Result<(), EffectError> {
    let name = &launch.domain.name;
    let failed = |error: io::Error| failure("start", name, &error);
    let Some(process) = Handle::open(identity).map_err(failed)? else {
        return Err(ended_at_once(dir, launch, "its monitor ended at once"));
    };
    let deadline = Instant::now() + ANSWERS_WITHIN;
    let mut pause = Duration::from_millis(2);
    loop {
        let vitals = with_driver!(launch.domain.driver, driver => driver.vitals(dir).await);
        let Err(error) = vitals else { return Ok(()) };
        if process.ended_within(pause).await.map_err(failed)? {
            return Err(ended_at_once(dir, launch, "its monitor ended at once"));
        }
        if Instant::now() >= deadline {
            process.signal(Signal::KILL).map_err(failed)?;
            process.ended_within(DIES_WITHIN).await.map_err(failed)?;
            return Err(refusal("start", name, &error));
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Presses the power button until the guest is gone, at most so long. Returns whether it is. A paused guest is let run, also one whose disk the host fails again and again: it
/// could not hear. One that has ended already, and is kept for a look, does not hear either.
async fn press_until(
    dir: &GuestDir,
    driver: resolve::Driver,
    process: &Handle,
    timeout: Duration,
) -> io::Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        let vitals = with_driver!(driver, driver => driver.vitals(dir).await);
        let vitals = vitals.unwrap_or_default();
        if vitals.preserved.is_some() {
            return Ok(false);
        }
        if vitals.paused {
            let _ = with_driver!(driver, driver => driver.ask(dir, Request::Resume).await);
        }
        if let Err(error) =
            with_driver!(driver, driver => driver.ask(dir, Request::PowerButton).await)
        {
            tracing::debug!(error = %with_causes(&error), "the power button cannot be pressed");
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if process.ended_within(left.min(PRESSES_EVERY)).await? {
            return Ok(true);
        }
        if left <= PRESSES_EVERY {
            return Ok(false);
        }
    }
}

/// A monitor that ended before it answered, in its own words.
fn ended_at_once(dir: &GuestDir, launch: &Launch, why: &str) -> EffectError {
    let words = with_driver!(launch.domain.driver, driver => driver.last_words(dir));
    let log = dir.tail("log", 4096);
    let said = words.message.or_else(|| Some(log.trim().to_owned()));
    let said = said
        .filter(|said| !said.is_empty())
        .map(|said| format!(": {said}"));
    EffectError {
        message: format!(
            "cannot start guest {}: {why}{}",
            launch.domain.name,
            said.unwrap_or_default()
        ),
        help: Some(format!("its complaints are in {}", dir.log().display())),
        retry: true,
    }
}

fn failure(what: &str, name: &str, error: &dyn std::error::Error) -> EffectError {
    EffectError {
        message: format!("cannot {what} guest {name}: {}", with_causes(error)),
        help: None,
        retry: true,
    }
}

/// A driver's error: what it cannot do at all is not worth another try.
fn refusal(what: &str, name: &str, error: &DriverError) -> EffectError {
    let mut effect = failure(what, name, error);
    match error {
        DriverError::NotInstalled { help, .. } => effect.help = Some(help.clone()),
        DriverError::Unsupported { .. } => effect.retry = false,
        _ => {}
    }
    effect
}
