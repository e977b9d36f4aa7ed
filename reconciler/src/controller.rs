//! The loop, on one page: wake, load, look, plan, execute, report.
//!
//! In: a [`Source`] of definitions, a [`Host`], wake-ups. Out: a host that is as the definitions say, and a [`Snapshot`] that tells how far that is so. A pass takes the whole
//! state anew and remembers nothing of the one before but what failed ([`retry`]), so it does not matter which wake-up was lost or came twice. Steps run beside
//! the loop: while a guest takes its minute to shut down, damage elsewhere is still repaired. What can go wrong: the source or the host cannot be read; then nothing
//! is done, the reason is in the snapshot, and the next pass tries again.

pub mod retry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};
use uuid::Uuid;

use crate::desired::Desired;
use crate::execute::executor::{Executor, Progress};
use crate::host::{Host, ObserveError};
use crate::inventory::{Interest, Inventory};
use crate::ledger::Ledger;
use crate::object::{Kind, ObjectId};
use crate::plan::step::{Plan, Verb};
use crate::source::{Source, SourceError};
use crate::status::{self, ObjectStatus, Report};
use retry::Retries;

/// After a wake-up, how long others are waited for: one change of a host makes many events.
const GATHER: Duration = Duration::from_millis(40);

/// How long the loop sleeps at most: the safety net under lost events.
const FULL_PASS: Duration = Duration::from_secs(30);

/// How soon a pass that could not look is made again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Everything that one pass knows.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// What is wanted.
    pub desired: Desired,
    /// What is.
    pub inventory: Inventory,
    /// Which files were looked at.
    pub interest: Interest,
    /// What is owned.
    pub ledger: Ledger,
    /// What is to be done.
    pub plan: Plan,
}

/// A pass could not be made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The definitions cannot be told.
    #[error("cannot load the desired state")]
    Source(#[from] SourceError),
    /// The host cannot be told.
    #[error("cannot look at the host")]
    Observe(#[from] ObserveError),
}

/// Takes the whole state and plans. Changes nothing.
///
/// # Errors
/// When the definitions, the ledger or the host cannot be read.
pub async fn look<H: Host, S: Source>(host: &H, source: &S) -> Result<Look, LookError> {
    let documents = source.load().await?;
    let facts = host.facts().await?;
    let ledger = host.ledger().await?;
    let desired = Desired::build(&documents, &ledger, &facts);
    let interest = crate::plan::interest(&desired, &ledger);
    let inventory = host.observe(&interest).await?;
    let plan = crate::plan::plan(&desired, &inventory, &ledger);
    Ok(Look {
        desired,
        inventory,
        interest,
        ledger,
        plan,
    })
}

/// What the agent tells of itself.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The last whole look, its plan unabridged.
    pub look: Arc<Look>,
    /// How every object does.
    pub statuses: Vec<ObjectStatus>,
    /// Why the last pass could not look, if it could not.
    pub error: Option<String>,
    /// How many passes were made.
    pub passes: u64,
    /// The ends of the latest steps, newest last; at most [`HISTORY`].
    pub history: Vec<Report>,
    /// Nothing is at work and nothing is to be done that need not wait.
    pub settled: bool,
}

/// How many ended steps a snapshot keeps.
pub const HISTORY: usize = 256;

/// A wish sent to a running controller.
#[derive(Debug)]
pub enum Request {
    /// Make a pass now; answered when one that began after this has ended.
    Pass(oneshot::Sender<()>),
    /// The plan of this digest may be carried out although it waits for confirmation. Answered with whether it is still the plan.
    Confirm(String, oneshot::Sender<bool>),
    /// Restart this guest, whatever its policy allows. Answered when its step has ended, or with why there is none.
    Restart(Uuid, Asked),
}

/// Who asked for a restart.
pub type Asked = oneshot::Sender<Result<Report, String>>;

/// What a plan at work tells the loop.
enum End {
    /// One of its steps has ended. Sent before the step's object is no longer busy.
    Step(Arc<Plan>, Report),
    /// All of them have.
    Plan,
}

/// Everything that reaches the loop.
struct Inbox {
    wakes: mpsc::Receiver<()>,
    requests: mpsc::Receiver<Request>,
    arriving: mpsc::UnboundedReceiver<End>,
    /// Plans that have not ended.
    at_work: usize,
    /// Who asked for the next pass.
    waiting: Vec<oneshot::Sender<()>>,
    /// Restarts that are asked for and not begun.
    restarts: Vec<(Uuid, Asked)>,
}

/// The agent's heart.
pub struct Controller<H, S> {
    host: Arc<H>,
    source: S,
    executor: Executor<H>,
    retries: Retries,
    confirmed: Option<String>,
    /// Restarts at work, and who waits for them.
    restarting: BTreeMap<Uuid, Asked>,
    snapshot: watch::Sender<Snapshot>,
    stop: CancellationToken,
}

impl<H: Host, S: Source> Controller<H, S> {
    /// A controller for this host and these definitions; the watch shows its state. Cancelling `stop` ends it after the steps at work have ended.
    pub fn new(
        host: Arc<H>,
        source: S,
        stop: CancellationToken,
    ) -> (Self, watch::Receiver<Snapshot>) {
        let (snapshot, shown) = watch::channel(Snapshot::default());
        let executor = Executor::new(host.clone(), stop.clone());
        let controller = Self {
            host,
            source,
            executor,
            retries: Retries::default(),
            confirmed: None,
            restarting: BTreeMap::new(),
            snapshot,
            stop,
        };
        (controller, shown)
    }

    /// Keeps the host as wanted until told to stop. Any message in `wakes` causes a pass.
    pub async fn run(mut self, wakes: mpsc::Receiver<()>, requests: mpsc::Receiver<Request>) {
        let (news, arriving) = mpsc::unbounded_channel();
        let mut inbox = Inbox {
            wakes,
            requests,
            arriving,
            at_work: 0,
            waiting: Vec::new(),
            restarts: Vec::new(),
        };
        while !self.stop.is_cancelled() {
            // Taken before the news are read: whoever ends later is in it, whoever ended earlier is in the news.
            let busy = self.executor.busy();
            while let Ok(end) = inbox.arriving.try_recv() {
                self.take_in(end, &mut inbox.at_work);
            }
            let asked = std::mem::take(&mut inbox.waiting);
            let pause = match self.pass(&busy).await {
                Some(mut plan) => {
                    self.begin_restarts(&mut plan, &busy, &mut inbox, &news);
                    if !plan.steps.is_empty() {
                        inbox.at_work += 1;
                        self.begin(Arc::new(plan), news.clone());
                    }
                    self.until_next()
                }
                None => LOOK_AGAIN,
            };
            self.snapshot.send_modify(|snapshot| {
                snapshot.settled = inbox.at_work == 0 && snapshot.error.is_none();
            });
            for asked in asked {
                // Whoever asked may have gone.
                let _ = asked.send(());
            }
            self.until_woken(&mut inbox, pause).await;
        }
        while inbox.at_work > 0
            && let Some(end) = inbox.arriving.recv().await
        {
            self.take_in(end, &mut inbox.at_work);
        }
    }

    /// Waits for a reason to make another pass.
    async fn until_woken(&mut self, inbox: &mut Inbox, pause: Duration) {
        let full_pass = Instant::now() + pause;
        loop {
            // Every arm may be cancelled: channels keep what was not received.
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep_until(full_pass) => return debug!("full pass"),
                Some(end) = inbox.arriving.recv() => {
                    let over = matches!(end, End::Plan);
                    self.take_in(end, &mut inbox.at_work);
                    if over {
                        return;
                    }
                }
                Some(()) = inbox.wakes.recv() => {
                    tokio::time::sleep(GATHER).await;
                    while inbox.wakes.try_recv().is_ok() {}
                    return;
                }
                Some(request) = inbox.requests.recv() => {
                    match request {
                        Request::Pass(asked) => inbox.waiting.push(asked),
                        Request::Restart(guest, asked) => inbox.restarts.push((guest, asked)),
                        Request::Confirm(digest, asked) => {
                            let known = self.snapshot.borrow().look.plan.digest() == digest;
                            self.confirmed = known.then_some(digest);
                            let _ = asked.send(known);
                        }
                    }
                    return;
                }
            }
        }
    }

    /// Looks, tells, and gives the part of the plan that may be carried out now.
    async fn pass(&mut self, busy: &BTreeSet<ObjectId>) -> Option<Plan> {
        let now = Instant::now();
        let look = match look(&*self.host, &self.source).await {
            Ok(look) => Arc::new(look),
            Err(failure) => {
                let message = crate::status::chain(&failure);
                error!(error = message, "this pass changes nothing");
                self.snapshot.send_modify(|snapshot| {
                    snapshot.passes += 1;
                    snapshot.error = Some(message);
                });
                return None;
            }
        };
        let mut plan = look.plan.clone();
        if let Some(why) = plan.confirm.clone() {
            if self.confirmed.as_deref() == Some(&plan.digest()) {
                info!(why, "confirmed");
            } else {
                plan.leave_out(|step| matches!(step.verb, Verb::Delete | Verb::Release));
            }
        }
        plan.leave_out(|step| busy.contains(&step.object));
        self.retries.hold_back(&mut plan, now);
        let statuses = status::of(
            &look.desired,
            &look.inventory,
            &look.plan,
            &self.retries.failures(now),
        );
        self.snapshot.send_modify(|snapshot| {
            snapshot.look = look;
            snapshot.statuses = statuses;
            snapshot.error = None;
            snapshot.passes += 1;
        });
        Some(plan)
    }

    /// Begins the restarts that are asked for. What a restart's plan holds is no longer in the pass's own; a guest that is busy is restarted when it no longer is.
    fn begin_restarts(
        &mut self,
        pass: &mut Plan,
        busy: &BTreeSet<ObjectId>,
        inbox: &mut Inbox,
        news: &mpsc::UnboundedSender<End>,
    ) {
        let look = self.snapshot.borrow().look.clone();
        for (guest, asked) in std::mem::take(&mut inbox.restarts) {
            let id = ObjectId::new(Kind::Domain, guest, "");
            if busy.contains(&id) || self.restarting.contains_key(&guest) {
                inbox.restarts.push((guest, asked));
                continue;
            }
            match crate::plan::restart(&look.desired, &look.inventory, &look.ledger, &id) {
                Ok(plan) if !plan.steps.iter().any(|step| busy.contains(&step.object)) => {
                    pass.leave_out(|step| plan.steps.iter().any(|own| own.object == step.object));
                    self.restarting.insert(guest, asked);
                    inbox.at_work += 1;
                    self.begin(Arc::new(plan), news.clone());
                }
                Ok(_) => inbox.restarts.push((guest, asked)),
                // Whoever asked may have gone.
                Err(error) => drop(asked.send(Err(error.to_string()))),
            }
        }
    }

    /// Carries the plan out beside the loop.
    fn begin(&self, plan: Arc<Plan>, news: mpsc::UnboundedSender<End>) {
        let executor = self.executor.clone();
        tokio::spawn(async move {
            let tell = |progress: Progress<'_>| {
                if let Progress::End(report) = progress {
                    // The loop outlives its plans; were it gone, nobody would want the news.
                    drop(news.send(End::Step(plan.clone(), report.clone())));
                }
            };
            executor.execute(&plan, tell).await;
            drop(news.send(End::Plan));
        });
    }

    fn take_in(&mut self, end: End, at_work: &mut usize) {
        match end {
            End::Plan => *at_work -= 1,
            End::Step(plan, report) => {
                if report.object.kind == Kind::Domain
                    && let Some(asked) = self.restarting.remove(&report.object.uuid)
                {
                    // Whoever asked may have gone.
                    drop(asked.send(Ok(report.clone())));
                }
                self.retries
                    .learn(&plan, std::slice::from_ref(&report), Instant::now());
                self.snapshot.send_modify(|snapshot| {
                    snapshot.history.push(report);
                    let surplus = snapshot.history.len().saturating_sub(HISTORY);
                    snapshot.history.drain(..surplus);
                });
            }
        }
    }

    fn until_next(&self) -> Duration {
        let now = Instant::now();
        let retry = self
            .retries
            .next()
            .map_or(FULL_PASS, |time| time.saturating_duration_since(now));
        retry.clamp(Duration::from_millis(50), FULL_PASS)
    }
}
