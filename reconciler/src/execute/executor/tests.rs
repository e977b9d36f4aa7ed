//! The executor against a host that only writes down what it is asked to do.

use std::path::PathBuf;

use uuid::Uuid;

use super::*;
use crate::host::ObserveError;
use crate::inventory::{HostFacts, Interest, Inventory};
use crate::ledger::Ledger;
use crate::object::Kind;
use crate::plan::step::{Disruption, Verb};

/// Writes down the paths of `DeleteVolume`; fails on those named `bad`, waits on those named `slow`. Ends no guest.
#[derive(Default)]
struct Recorder {
    done: Mutex<Vec<String>>,
    together: Mutex<(usize, usize)>,
}

impl Host for Recorder {
    async fn facts(&self) -> Result<HostFacts, ObserveError> {
        Ok(HostFacts::default())
    }

    async fn ledger(&self) -> Result<Ledger, ObserveError> {
        Ok(Ledger::default())
    }

    async fn observe(&self, _: &Interest) -> Result<Inventory, ObserveError> {
        Ok(Inventory::default())
    }

    async fn perform(&self, effect: &Effect) -> Result<(), EffectError> {
        let path = match effect {
            Effect::DeleteVolume { path } => path,
            Effect::ShutdownGuest { .. } => return Err(EffectError::passing("it goes on")),
            _ => return Ok(()),
        };
        let name = path.display().to_string();
        {
            let mut together = self.together.lock().unwrap();
            together.0 += 1;
            together.1 = together.1.max(together.0);
        }
        if name.contains("slow") {
            tokio::time::sleep(Duration::from_secs(60)).await;
        } else {
            tokio::task::yield_now().await;
        }
        self.together.lock().unwrap().0 -= 1;
        assert!(!name.contains("panic"), "asked to panic");
        self.done.lock().unwrap().push(name.clone());
        if name.contains("bad") {
            Err(EffectError::passing("asked to fail"))
        } else {
            Ok(())
        }
    }
}

fn object(n: u128) -> ObjectId {
    ObjectId::new(Kind::Volume, Uuid::from_u128(n), format!("v{n}"))
}

fn step(n: u128, needs: &[u128], effects: &[&str], undo: &[&str]) -> Step {
    let effect = |name: &&str| Effect::DeleteVolume {
        path: PathBuf::from(name),
    };
    Step {
        object: object(n),
        verb: Verb::Change,
        disruption: Disruption::Live,
        summary: String::new(),
        why: String::new(),
        differences: Vec::new(),
        needs: needs.iter().map(|n| object(*n)).collect(),
        effects: effects.iter().map(effect).collect(),
        undo: undo.iter().map(effect).collect(),
    }
}

fn setup(steps: Vec<Step>) -> (Arc<Recorder>, Executor<Recorder>, Plan) {
    let host = Arc::new(Recorder::default());
    let executor = Executor::new(host.clone(), CancellationToken::new());
    (
        host,
        executor,
        Plan {
            steps,
            ..Plan::default()
        },
    )
}

fn outcomes(reports: &[Report]) -> BTreeMap<String, &'static str> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Failed(_) => "failed",
        Outcome::Skipped { .. } => "skipped",
        Outcome::Cancelled => "cancelled",
        _ => "done",
    };
    reports
        .iter()
        .map(|report| (report.object.name.clone(), word(&report.outcome)))
        .collect()
}

#[tokio::test]
async fn a_step_begins_after_all_it_needs() {
    let (host, executor, plan) = setup(vec![
        step(1, &[], &["a"], &[]),
        step(2, &[], &["b"], &[]),
        step(3, &[1, 2], &["c"], &[]),
    ]);
    let reports = executor.execute(&plan, |_| {}).await;
    assert_eq!(reports.len(), 3);
    assert_eq!(host.done.lock().unwrap().last().unwrap(), "c");
}

#[tokio::test(start_paused = true)]
async fn independent_steps_run_side_by_side() {
    let (host, executor, plan) = setup((0..5).map(|n| step(n, &[], &["slow"], &[])).collect());
    executor.execute(&plan, |_| {}).await;
    assert_eq!(host.together.lock().unwrap().1, 5);
}

#[tokio::test]
async fn a_failure_takes_only_what_needs_it() {
    let (host, executor, plan) = setup(vec![
        step(1, &[], &["a", "bad", "never"], &["undo"]),
        step(2, &[1], &["never"], &[]),
        step(3, &[2], &["never"], &[]),
        step(4, &[], &["d"], &[]),
    ]);
    let reports = executor.execute(&plan, |_| {}).await;
    let expected = [
        ("v1", "failed"),
        ("v2", "skipped"),
        ("v3", "skipped"),
        ("v4", "done"),
    ];
    assert_eq!(
        outcomes(&reports),
        expected.map(|(n, w)| (n.to_owned(), w)).into()
    );
    let done = host.done.lock().unwrap();
    assert!(done.contains(&"undo".to_owned()) && !done.contains(&"never".to_owned()));
}

#[tokio::test]
async fn a_panic_is_a_failure_of_its_step() {
    let (_, executor, plan) = setup(vec![
        step(1, &[], &["panic"], &[]),
        step(2, &[], &["b"], &[]),
    ]);
    let reports = executor.execute(&plan, |_| {}).await;
    assert_eq!(
        outcomes(&reports),
        [("v1".to_owned(), "failed"), ("v2".to_owned(), "done")].into()
    );
    assert!(executor.busy().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_object_at_work_is_left_alone_by_another_plan() {
    let (host, executor, slow) = setup(vec![step(1, &[], &["slow"], &[])]);
    let other = Plan {
        steps: vec![
            step(1, &[], &["x"], &[]),
            step(2, &[1], &["y"], &[]),
            step(3, &[], &["z"], &[]),
        ],
        ..Plan::default()
    };
    let first = tokio::spawn({
        let executor = executor.clone();
        async move { executor.execute(&slow, |_| {}).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reports = executor.execute(&other, |_| {}).await;
    assert_eq!(outcomes(&reports), [("v3".to_owned(), "done")].into());
    assert_eq!(executor.busy(), [object(1)].into());
    first.await.unwrap();
    assert!(executor.busy().is_empty());
    assert_eq!(*host.done.lock().unwrap(), ["z", "slow"]);
}

#[tokio::test]
async fn nothing_begins_after_the_stop() {
    let (host, executor, plan) = setup(vec![step(1, &[], &["a"], &[]), step(2, &[1], &["b"], &[])]);
    executor.stop.cancel();
    let reports = executor.execute(&plan, |_| {}).await;
    assert_eq!(reports.len(), 2);
    assert!(host.done.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_guest_that_cannot_be_ended_keeps_what_is_around_it() {
    let mut start = step(1, &[], &["bad"], &["taps"]);
    start.undo.insert(
        0,
        Effect::ShutdownGuest {
            guest: Uuid::from_u128(1),
            driver: crate::resolve::Driver::Builtin,
            timeout: Duration::ZERO,
        },
    );
    let (host, executor, plan) = setup(vec![start]);
    let reports = executor.execute(&plan, |_| {}).await;
    assert_eq!(outcomes(&reports)["v1"], "failed");
    assert_eq!(*host.done.lock().unwrap(), ["bad"]);
}
