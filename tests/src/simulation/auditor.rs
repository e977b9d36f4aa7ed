//! What must never happen, and what must be so in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use vireo_reconciler::controller::Snapshot;
use vireo_reconciler::execute::effect::Effect;
use vireo_reconciler::host::simulated::World;
use vireo_reconciler::inventory::{GuestState, Link};
use vireo_reconciler::plan::step::Verb;
use vireo_reconciler::units::Bytes;

use super::damage;
use super::model::{Guest, Model, State};

/// How long a start may be under way.
const STARTING: Duration = Duration::from_secs(10);

/// Watches effects and the world.
#[derive(Debug, Clone, Default)]
pub struct Auditor {
    /// What happened that must not, in sentences.
    pub violations: Vec<String>,
    /// Volume files that were deleted by somebody else: never to be made again.
    pub lost: BTreeSet<PathBuf>,
    /// Guests that may be stopped: by the files as they are, or as they were since the host last settled.
    may_stop: BTreeSet<Uuid>,
    /// When each guest was last started, and whether an effect failed soon after: a start that failed half way may be undone.
    started: BTreeMap<Uuid, (Instant, bool)>,
    foreign: BTreeMap<String, Link>,
}

impl Auditor {
    /// Knows what the world was before the agent came, and what the first files allow.
    pub fn new(model: &Model) -> Self {
        let mut auditor = Self {
            foreign: damage::first_world().inventory.links,
            ..Self::default()
        };
        auditor.learn(model);
        auditor
    }

    /// The files have changed: what they allow is allowed from now on.
    pub fn learn(&mut self, model: &Model) {
        let allows =
            |guest: &&Guest| !guest.present || guest.state == State::Stopped || guest.may_restart;
        self.may_stop
            .extend(model.guests.iter().filter(allows).map(Guest::uuid));
    }

    /// The host has settled: only what the files allow now is allowed.
    pub fn forget_leave(&mut self, model: &Model) {
        self.may_stop.clear();
        self.learn(model);
    }

    /// An effect fails: starts that are under way may be undone.
    pub fn expect_undoing(&mut self) {
        for (when, trouble) in self.started.values_mut() {
            *trouble |= when.elapsed() < STARTING;
        }
    }

    /// Sees an effect before it is done.
    pub fn see(&mut self, effect: &Effect, world: &World) {
        match effect {
            Effect::StartGuest(launch) => {
                let uuid = launch.domain.uuid;
                if runs(world, uuid) {
                    self.violations
                        .push(format!("guest {uuid} is started while it runs"));
                }
                self.started.insert(uuid, (Instant::now(), false));
            }
            Effect::ShutdownGuest { guest, .. } | Effect::RemoveCgroup { guest } => {
                let undone = self.started.get(guest).is_some_and(|(_, trouble)| *trouble);
                if runs(world, *guest) && !self.may_stop.contains(guest) && !undone {
                    self.violations
                        .push(format!("guest {guest} is stopped without leave"));
                }
            }
            Effect::CreateVolume(volume) if self.lost.contains(&volume.path) => {
                self.violations.push(format!(
                    "{} was lost and is silently made again",
                    volume.path.display()
                ));
            }
            Effect::DeleteVolume { path } => {
                self.violations.push(format!(
                    "{} is deleted, and nobody gave leave",
                    path.display()
                ));
            }
            _ => {}
        }
    }

    /// Looks at the world as a whole: what is not ours is as it was.
    pub fn look(&mut self, world: &World) {
        for (name, link) in &self.foreign {
            if world.inventory.links.get(name) != Some(link) {
                self.violations
                    .push(format!("link {name}, which is not ours, was changed"));
            }
        }
        if !world
            .inventory
            .files
            .contains_key(&PathBuf::from("/images/somebody-elses.qcow2"))
        {
            self.violations
                .push("a file that is not ours was removed".to_owned());
        }
    }

    /// Whether nothing is to be done but removals that wait for a confirmation.
    pub fn only_waits(snapshot: &Snapshot) -> bool {
        let plan = &snapshot.look.plan;
        let removal = |verb| matches!(verb, Verb::Delete | Verb::Release);
        plan.steps
            .iter()
            .all(|step| plan.confirm.is_some() && removal(step.verb))
    }

    /// What is not as the model wants it although nothing stands against it.
    pub fn unmet(&self, model: &Model, world: &World) -> Vec<String> {
        let mut unmet = Vec::new();
        for guest in model
            .guests
            .iter()
            .filter(|guest| guest.present && model.is_whole(guest))
        {
            let volume = guest
                .volume
                .and_then(|n| model.volumes.iter().find(|volume| volume.number == n));
            if volume.is_some_and(|volume| self.lost.contains(&volume.path())) {
                continue;
            }
            unmet.extend(unmet_guest(guest, world));
        }
        for network in model.networks.iter().filter(|network| network.present) {
            let link = world.inventory.links.get(&network.bridge());
            if !link.is_some_and(|link| {
                link.up && link.owner == Some(network.uuid()) && !link.addresses.is_empty()
            }) {
                unmet.push(format!("network {} has no working bridge", network.number));
            }
            if !world.inventory.dnsmasq.contains_key(&network.uuid()) {
                unmet.push(format!("network {} has no dnsmasq", network.number));
            }
        }
        unmet
    }
}

fn runs(world: &World, guest: Uuid) -> bool {
    let guest = world.inventory.guests.get(&guest);
    guest.is_some_and(|guest| !matches!(guest.state, GuestState::Ended { .. }))
}

fn unmet_guest(guest: &Guest, world: &World) -> Vec<String> {
    let mut unmet = Vec::new();
    let observed = world.inventory.guests.get(&guest.uuid());
    let as_wanted = match (guest.state, observed.map(|observed| &observed.state)) {
        (State::Running, Some(GuestState::Running { .. }))
        | (State::Paused, Some(GuestState::Paused { .. })) => true,
        (State::Stopped, state) => !matches!(
            state,
            Some(GuestState::Running { .. } | GuestState::Paused { .. })
        ),
        _ => false,
    };
    // A guest that may not be restarted keeps running although it should not, until leave is given.
    if !as_wanted {
        unmet.push(format!(
            "{} is wanted {:?} and is {:?}",
            guest.name(),
            guest.state,
            observed.map(|o| &o.state)
        ));
    }
    if let (Some(observed), true) = (observed, guest.state != State::Stopped) {
        let shares = world
            .inventory
            .cgroups
            .get(&guest.uuid())
            .and_then(|tuning| tuning.shares);
        if shares != guest.shares.map(u64::from) {
            unmet.push(format!(
                "{} should have shares {:?} and has {shares:?}",
                guest.name(),
                guest.shares
            ));
        }
        let memory = observed.launch.domain.memory.maximum;
        if guest.may_restart && memory != Bytes::mib(u64::from(guest.memory)) {
            unmet.push(format!(
                "{} may be restarted, should have {} MiB and has {memory}",
                guest.name(),
                guest.memory
            ));
        }
    }
    unmet
}
