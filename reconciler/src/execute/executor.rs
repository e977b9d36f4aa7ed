//! Runs a plan: steps whose needs are met go side by side, each step's effects one after another.
//!
//! In: a plan and the host. Out: one [`Report`] a step. A step that fails takes only those with it that need it. What a plan holds is done as it stands: nothing is
//! chosen here. Objects at work are marked busy, so that another plan, made while a slow step still runs (a guest may take a minute to shut down), leaves them alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, info_span, warn};

use super::effect::{Effect, EffectError};
use crate::host::Host;
use crate::object::ObjectId;
use crate::plan::step::{Plan, Step};
use crate::status::{Outcome, Report};

/// How many steps run side by side at most. Steps wait for processes and the kernel far more than they compute.
const SIDE_BY_SIDE: usize = 16;

/// What is told while a plan runs.
#[derive(Debug, Clone)]
pub enum Progress<'a> {
    /// A step begins.
    Begin(&'a Step),
    /// A step ended.
    End(&'a Report),
}

/// Runs plans on one host.
pub struct Executor<H> {
    host: Arc<H>,
    busy: Arc<Mutex<BTreeSet<ObjectId>>>,
    stop: CancellationToken,
}

impl<H> Clone for Executor<H> {
    fn clone(&self) -> Self {
        Self {
            host: self.host.clone(),
            busy: self.busy.clone(),
            stop: self.stop.clone(),
        }
    }
}

impl<H: Host> Executor<H> {
    /// An executor for this host. After `stop` is cancelled, steps that run end in their own time and no other begins.
    pub fn new(host: Arc<H>, stop: CancellationToken) -> Self {
        Self {
            host,
            busy: Arc::default(),
            stop,
        }
    }

    /// Objects with a step at work.
    pub fn busy(&self) -> BTreeSet<ObjectId> {
        self.busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Runs every step of the plan whose object is not busy. Returns when all have ended.
    pub async fn execute(&self, plan: &Plan, mut tell: impl FnMut(Progress<'_>)) -> Vec<Report> {
        let mut graph = self.claim(plan);
        let mut running = JoinSet::new();
        let mut at_work: BTreeMap<tokio::task::Id, usize> = BTreeMap::new();
        let mut reports = Vec::new();
        loop {
            let mut ended = Vec::new();
            while running.len() < SIDE_BY_SIDE
                && let Some(index) = graph.next_ready()
            {
                let step = &plan.steps[index];
                if self.stop.is_cancelled() {
                    ended.push((index, report(step, Outcome::Cancelled, Duration::ZERO)));
                    graph.end(index, &Outcome::Cancelled);
                    continue;
                }
                tell(Progress::Begin(step));
                let span = info_span!("step", object = %step.object, uuid = %step.object.uuid, verb = %step.verb);
                let work = run_step(self.host.clone(), step.clone()).instrument(span);
                at_work.insert(running.spawn(work).id(), index);
            }
            while let Some((index, need)) = graph.next_skipped() {
                ended.push((
                    index,
                    report(
                        &plan.steps[index],
                        Outcome::Skipped { need },
                        Duration::ZERO,
                    ),
                ));
            }
            for (index, report) in ended {
                self.finish(index, report, &graph, &mut reports, &mut tell);
            }
            let (index, report) = match running.join_next_with_id().await {
                Some(Ok((id, report))) => (at_work.remove(&id), report),
                Some(Err(error)) => {
                    let index = at_work.remove(&error.id());
                    let Some(step) = index.and_then(|index| plan.steps.get(index)) else {
                        continue;
                    };
                    (
                        index,
                        report(
                            step,
                            Outcome::Failed(EffectError::from_task(&error)),
                            Duration::ZERO,
                        ),
                    )
                }
                None => return reports,
            };
            if let Some(index) = index {
                graph.end(index, &report.outcome);
                self.finish(index, report, &graph, &mut reports, &mut tell);
            }
        }
    }

    /// Marks the objects of the steps that will run busy. Steps whose object already was, and those that need them, are left out.
    fn claim(&self, plan: &Plan) -> Graph {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let graph = Graph::new(plan, &busy);
        busy.extend(
            graph
                .waits
                .keys()
                .map(|index| graph.objects[*index].clone()),
        );
        graph
    }

    fn finish(
        &self,
        index: usize,
        report: Report,
        graph: &Graph,
        reports: &mut Vec<Report>,
        tell: &mut impl FnMut(Progress<'_>),
    ) {
        tell(Progress::End(&report));
        if !graph.has_more(index) {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.remove(&report.object);
        }
        reports.push(report);
    }
}

async fn run_step<H: Host>(host: Arc<H>, step: Step) -> Report {
    let begun = Instant::now();
    info!(why = step.why, "begin");
    for (place, effect) in step.effects.iter().enumerate() {
        if let Err(error) = host.perform(effect).await {
            warn!(%error, place, "failed");
            let error = undo(&*host, &step, error).await;
            return report(&step, Outcome::Failed(error), begun.elapsed());
        }
    }
    let outcome = Outcome::done(step.verb);
    info!(took = ?begun.elapsed(), "done");
    report(&step, outcome, begun.elapsed())
}

/// Does the step's undoing and adds to the error what of it failed. All of it, unless a guest cannot be ended: what runs keeps its taps, its control group and its directory,
/// by which the next pass finds it.
async fn undo<H: Host>(host: &H, step: &Step, mut error: EffectError) -> EffectError {
    for effect in &step.undo {
        if let Err(left) = host.perform(effect).await {
            warn!(error = %left, "undoing failed");
            error.message = format!("{}; and while undoing it: {}", error.message, left.message);
            if matches!(effect, Effect::ShutdownGuest { .. }) {
                break;
            }
        }
    }
    error
}

fn report(step: &Step, outcome: Outcome, took: Duration) -> Report {
    Report {
        object: step.object.clone(),
        verb: step.verb,
        outcome,
        why: step.why.clone(),
        took,
    }
}

/// Which steps wait for which.
struct Graph {
    /// By step: how many steps it still waits for.
    waits: BTreeMap<usize, usize>,
    /// By step: the steps that wait for it.
    followers: BTreeMap<usize, Vec<usize>>,
    ready: std::collections::VecDeque<usize>,
    skipped: Vec<(usize, ObjectId)>,
    objects: Vec<ObjectId>,
    /// By step: the next step of the same object.
    later: BTreeMap<usize, usize>,
}

impl Graph {
    fn new(plan: &Plan, leave_out: &BTreeSet<ObjectId>) -> Self {
        let mut steps_of: BTreeMap<&ObjectId, Vec<usize>> = BTreeMap::new();
        let mut graph = Self {
            waits: BTreeMap::new(),
            followers: BTreeMap::new(),
            ready: std::collections::VecDeque::new(),
            skipped: Vec::new(),
            objects: plan.steps.iter().map(|step| step.object.clone()).collect(),
            later: BTreeMap::new(),
        };
        for (index, step) in plan.steps.iter().enumerate() {
            // A need is a step that comes before; the plan's order is a topological one. Steps of one object keep their order.
            let needs: BTreeSet<usize> = std::iter::once(&step.object)
                .chain(&step.needs)
                .flat_map(|need| steps_of.get(need).into_iter().flatten().copied())
                .collect();
            for need in &needs {
                graph.followers.entry(*need).or_default().push(index);
            }
            graph.waits.insert(index, needs.len());
            let own = steps_of.entry(&step.object).or_default();
            if let Some(before) = own.last() {
                graph.later.insert(*before, index);
            }
            own.push(index);
        }
        for (index, step) in plan.steps.iter().enumerate() {
            if leave_out.contains(&step.object) {
                graph.waits.remove(&index);
                graph.skip_followers(index);
            }
        }
        graph.skipped.clear();
        graph.ready = graph
            .waits
            .iter()
            .filter(|(_, n)| **n == 0)
            .map(|(index, _)| *index)
            .collect();
        graph
    }

    fn next_ready(&mut self) -> Option<usize> {
        self.ready.pop_front()
    }

    fn next_skipped(&mut self) -> Option<(usize, ObjectId)> {
        self.skipped.pop()
    }

    fn end(&mut self, index: usize, outcome: &Outcome) {
        self.waits.remove(&index);
        if !outcome.succeeded() {
            self.skip_followers(index);
            return;
        }
        for follower in self.followers.get(&index).into_iter().flatten() {
            if let Some(waits) = self.waits.get_mut(follower) {
                *waits = waits.saturating_sub(1);
                if *waits == 0 {
                    self.ready.push_back(*follower);
                }
            }
        }
    }

    fn skip_followers(&mut self, index: usize) {
        let mut stack = vec![index];
        while let Some(failed) = stack.pop() {
            for follower in self.followers.get(&failed).cloned().unwrap_or_default() {
                if self.waits.remove(&follower).is_some() {
                    self.skipped.push((follower, self.objects[failed].clone()));
                    stack.push(follower);
                }
            }
        }
    }

    /// Whether a later step of the same object is still to run.
    fn has_more(&self, index: usize) -> bool {
        self.later
            .get(&index)
            .is_some_and(|later| self.waits.contains_key(later))
    }
}

#[cfg(test)]
mod tests;
