//! The real controller against a simulated host, over random histories of edits, damage, failures and crashes.
//!
//! One history is one seed: [`run`] builds a world, lets the agent settle, then does some thirty things to it: edits files, breaks them, damages the host, makes
//! effects fail, crashes the agent between any two effects. After each it lets time pass and asks the [`auditor`] what must never happen. At the end all faults stop,
//! the files are made good, and the host must become as they say, with nothing left to do. Time is virtual, so that a minute of backoff costs nothing.
//! A failure names its seed; the same seed gives the same history.
//!
//! The test runs 2,000 histories by default: two to four minutes of two cores in the dev profile. To run fewer or more:
//!
//! ```text
//! VIREO_SIMULATIONS=50 cargo test -p vireo-tests --test simulation
//! VIREO_SIMULATIONS=100000 cargo test --release -p vireo-tests --test simulation
//! ```

pub mod auditor;
pub mod damage;
pub mod files;
pub mod model;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use vireo_reconciler::controller::{Controller, Request, Snapshot};
use vireo_reconciler::execute::effect::Effect;
use vireo_reconciler::host::simulated::{Fate, SimulatedHost, World};

use auditor::Auditor;
use files::Files;
use model::Model;

/// How many things happen in one history.
const EVENTS: usize = 30;

/// The virtual time within which a host without faults must settle: several backoffs of a minute, and a graceful stop.
const SETTLE: Duration = Duration::from_secs(3600);

/// How many passes one life of the agent may take. A loop that never rests would otherwise hang the test, because virtual time only moves while all tasks wait.
const PASSES: u64 = 20_000;

/// What went wrong in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The seed that repeats it.
    pub seed: u64,
    /// Which event it followed, from 0; [`EVENTS`] is the end.
    pub event: usize,
    /// What happened that must not.
    pub what: String,
    /// The events so far, for a person.
    pub history: Vec<String>,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "seed {}: after event {}: {}",
            self.seed, self.event, self.what
        )?;
        self.history
            .iter()
            .enumerate()
            .try_for_each(|(n, line)| writeln!(f, "  {n:>3} {line}"))
    }
}

/// Runs the history of one seed.
///
/// # Errors
/// What happened that must not.
pub fn run(seed: u64) -> Result<(), Box<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.map_err(|error| finding(seed, 0, format!("no runtime: {error}"), &[]))?;
    runtime.block_on(History::new(seed).play())
}

fn finding(seed: u64, event: usize, what: String, history: &[String]) -> Box<Finding> {
    Box::new(Finding {
        seed,
        event,
        what,
        history: history.to_vec(),
    })
}

/// How likely an effect comes to harm just now, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    fail: u32,
    crash: u32,
}

struct History {
    seed: u64,
    rng: fastrand::Rng,
    model: Model,
    files: Files,
    host: Arc<SimulatedHost>,
    auditor: Arc<Mutex<Auditor>>,
    faults: Arc<Mutex<Faults>>,
    told: Vec<String>,
}

/// One life of the agent.
struct Agent {
    task: tokio::task::JoinHandle<()>,
    wake: mpsc::Sender<()>,
    _requests: mpsc::Sender<Request>,
    snapshot: watch::Receiver<Snapshot>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let model = Model::random(&mut rng);
        let host = Arc::new(SimulatedHost::new(damage::first_world()));
        let auditor = Arc::new(Mutex::new(Auditor::new(&model)));
        let history = Self {
            seed,
            files: Files::of(&model),
            rng,
            model,
            auditor,
            faults: Arc::default(),
            host,
            told: Vec::new(),
        };
        history.install_fates();
        history
    }

    /// Before each effect the auditor sees it and the world; then the dice decide.
    fn install_fates(&self) {
        let (auditor, faults) = (self.auditor.clone(), self.faults.clone());
        let mut dice = fastrand::Rng::with_seed(self.seed ^ 0x5eed);
        self.host.decide(move |effect: &Effect, world: &World| {
            let faults = *faults.lock().unwrap_or_else(PoisonError::into_inner);
            let fate = match dice.u32(0..1000) {
                roll if roll < faults.crash / 2 => Fate::CrashBefore,
                roll if roll < faults.crash => Fate::CrashAfter,
                roll if roll < faults.crash + faults.fail / 2 => Fate::Fails,
                roll if roll < faults.crash + faults.fail => Fate::FailsAfter,
                _ => Fate::Done,
            };
            let mut auditor = auditor.lock().unwrap_or_else(PoisonError::into_inner);
            auditor.see(effect, world);
            if matches!(fate, Fate::Fails | Fate::FailsAfter) {
                auditor.expect_undoing();
            }
            fate
        });
    }

    async fn play(mut self) -> Result<(), Box<Finding>> {
        let mut agent = self.start();
        self.settle(&mut agent, 0).await?;
        for event in 0..EVENTS {
            self.happen();
            let _ = agent.wake.try_send(());
            let patience = Duration::from_millis(self.rng.u64(0..20_000));
            tokio::select! {
                () = self.host.crash() => {
                    self.told.push("the agent dies, and another begins".to_owned());
                    agent = self.reborn(agent).await;
                }
                () = tokio::time::sleep(patience) => {}
                () = spins(agent.snapshot.clone()) => return Err(self.spinning(event)),
            }
            self.audit(event)?;
            self.renew_leave(&agent);
        }
        self.end_well(agent).await
    }

    fn start(&self) -> Agent {
        let (controller, snapshot) = Controller::new(
            self.host.clone(),
            self.files.clone(),
            CancellationToken::new(),
        );
        let (wake, wakes) = mpsc::channel(8);
        let (requests, inbox) = mpsc::channel(8);
        let task = tokio::spawn(controller.run(wakes, inbox));
        Agent {
            task,
            wake,
            _requests: requests,
            snapshot,
        }
    }

    /// The agent's process is gone with everything it was doing; a new one begins.
    async fn reborn(&mut self, agent: Agent) -> Agent {
        agent.task.abort();
        drop(agent.task.await);
        // Steps run in tasks of their own: they wait for the answer of a host that no longer hears them, and go with the runtime.
        self.host = Arc::new(self.host.next_life());
        self.start()
    }

    fn happen(&mut self) {
        let told = match self.rng.u32(0..100) {
            0..40 => self.files.edit(&mut self.model, &mut self.rng),
            40..75 => damage::strike(&mut self.host.world(), &mut self.rng, &self.auditor),
            75..90 => {
                let faults = Faults {
                    fail: self.rng.u32(0..200),
                    crash: self.rng.u32(0..60),
                };
                *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
                format!(
                    "effects begin to fail ({} in a thousand) and the agent to crash ({})",
                    faults.fail, faults.crash
                )
            }
            _ => {
                *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Faults::default();
                "all is well for a while".to_owned()
            }
        };
        self.auditor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .learn(&self.model);
        self.told.push(told);
    }

    /// Where the agent has carried out everything, leave that was taken back no longer holds.
    fn renew_leave(&self, agent: &Agent) {
        let snapshot = agent.snapshot.borrow();
        if snapshot.settled && Auditor::only_waits(&snapshot) {
            self.auditor
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .forget_leave(&self.model);
        }
    }

    /// Without faults and with good files, the host becomes as they say and nothing is left to do.
    async fn end_well(mut self, mut agent: Agent) -> Result<(), Box<Finding>> {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Faults::default();
        if self.host.has_crashed() {
            agent = self.reborn(agent).await;
        }
        self.files.make_good(&self.model);
        self.told.push("faults end, files are good".to_owned());
        let _ = agent.wake.try_send(());
        self.settle(&mut agent, EVENTS).await?;
        self.audit(EVENTS)?;
        let world = self.host.world().clone();
        let auditor = self
            .auditor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(missing) = auditor.unmet(&self.model, &world).into_iter().next() {
            return Err(finding(self.seed, EVENTS, missing, &self.told));
        }
        self.nothing_more(&mut agent, world.journal.len()).await
    }

    /// A settled agent that is woken does nothing.
    async fn nothing_more(&self, agent: &mut Agent, before: usize) -> Result<(), Box<Finding>> {
        let _ = agent.wake.try_send(());
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
            () = spins(agent.snapshot.clone()) => return Err(self.spinning(EVENTS)),
        }
        let journal = self.host.world().journal.clone();
        match journal.get(before..) {
            None | Some([]) => Ok(()),
            Some(more) => {
                let what = format!("a settled host was touched again: {more:?}");
                Err(finding(self.seed, EVENTS, what, &self.told))
            }
        }
    }

    async fn settle(&self, agent: &mut Agent, event: usize) -> Result<(), Box<Finding>> {
        let passes = agent.snapshot.borrow().passes;
        let spinning = spins(agent.snapshot.clone());
        let quiet = agent.snapshot.wait_for(|snapshot| {
            snapshot.passes > passes + 1 && snapshot.settled && Auditor::only_waits(snapshot)
        });
        // What was waited for is a borrow of the snapshot: let it go before another look.
        let ended = tokio::select! {
            ended = tokio::time::timeout(SETTLE, quiet) => ended.map(|quiet| quiet.map(drop)),
            () = spinning => return Err(self.spinning(event)),
        };
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(finding(
                self.seed,
                event,
                "the agent's loop ended".to_owned(),
                &self.told,
            )),
            Err(_) => {
                let snapshot = agent.snapshot.borrow();
                let what = format!(
                    "the host does not settle: steps {:#?}, failing {:#?}, error {:?}",
                    snapshot
                        .look
                        .plan
                        .steps
                        .iter()
                        .map(|step| (&step.object.name, step.verb, &step.why))
                        .collect::<Vec<_>>(),
                    snapshot
                        .statuses
                        .iter()
                        .map(|status| (&status.object.name, status.condition, &status.message))
                        .collect::<Vec<_>>(),
                    snapshot.error,
                );
                Err(finding(self.seed, event, what, &self.told))
            }
        }
    }

    fn spinning(&self, event: usize) -> Box<Finding> {
        let what = format!("the agent took more than {PASSES} passes: it does not rest");
        finding(self.seed, event, what, &self.told)
    }

    fn audit(&self, event: usize) -> Result<(), Box<Finding>> {
        let world = self.host.world();
        let mut auditor = self.auditor.lock().unwrap_or_else(PoisonError::into_inner);
        auditor.look(&world);
        let first = world
            .violations
            .first()
            .or_else(|| auditor.violations.first())
            .cloned();
        first.map_or(Ok(()), |what| {
            Err(finding(self.seed, event, what, &self.told))
        })
    }
}

/// Returns when this life of the agent has taken more than [`PASSES`] passes; never where it ends before.
async fn spins(mut snapshot: watch::Receiver<Snapshot>) {
    let ended = snapshot
        .wait_for(|snapshot| snapshot.passes > PASSES)
        .await
        .is_err();
    if ended {
        std::future::pending::<()>().await;
    }
}
