//! A host that is data: an [`Inventory`] and a [`Ledger`], changed by effects as the real host would be.
//!
//! For simulations: effects fail on demand, and the process that asked for one "crashes" before or after it, which here means that it is never answered. Damage (somebody
//! kills a guest, deletes a link, empties a table) is done to the [`World`] directly. The world also counts what must never happen, so that tests can ask.

mod apply;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use super::{Host, ObserveError};
use crate::execute::effect::{Effect, EffectError};
use crate::inventory::{HostFacts, Interest, Inventory};
use crate::ledger::Ledger;

/// What becomes of one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is done.
    Done,
    /// It fails, and nothing is changed.
    Fails,
    /// It is done, and reported as failed.
    FailsAfter,
    /// Its caller is gone before it is done.
    CrashBefore,
    /// Its caller is gone after it is done.
    CrashAfter,
}

/// Everything there is.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// What the host shows.
    pub inventory: Inventory,
    /// What is owned.
    pub ledger: Ledger,
    /// Every effect that was done, in order.
    pub journal: Vec<Effect>,
    /// How often each guest's process was started.
    pub starts: BTreeMap<Uuid, u32>,
    /// What must never happen and did: an invariant broken by an effect, told in a sentence.
    pub violations: Vec<String>,
    /// The next process that is started gets this number.
    pub next_pid: u32,
}

/// The simulated host, as one life of the agent has it in hand. What an earlier life left running reaches it no more.
pub struct SimulatedHost {
    shared: Arc<Shared>,
    life: u64,
}

struct Shared {
    world: Mutex<World>,
    fate: Mutex<Decide>,
    /// Which life is the present one, and whether it has crashed.
    present: watch::Sender<(u64, bool)>,
}

/// Decides what becomes of an effect.
type Decide = Box<dyn FnMut(&Effect, &World) -> Fate + Send>;

impl SimulatedHost {
    /// A host that begins as this world, whose effects all succeed.
    pub fn new(world: World) -> Self {
        let shared = Shared {
            world: Mutex::new(world),
            fate: Mutex::new(Box::new(|_, _| Fate::Done)),
            present: watch::Sender::new((0, false)),
        };
        Self {
            shared: Arc::new(shared),
            life: 0,
        }
    }

    /// From now on this decides what becomes of each effect. It is asked before the effect is done, and sees the world.
    pub fn decide(&self, fate: impl FnMut(&Effect, &World) -> Fate + Send + 'static) {
        *self
            .shared
            .fate
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Box::new(fate);
    }

    /// The world, to look at or to damage.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.shared
            .world
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the present life has crashed.
    pub fn has_crashed(&self) -> bool {
        self.shared.present.borrow().1
    }

    /// Resolves when the present life has crashed. Whoever drives the simulation then goes on with [`SimulatedHost::next_life`].
    pub async fn crash(&self) {
        // The sender lives as long as this host, so waiting cannot fail.
        let _ = self
            .shared
            .present
            .subscribe()
            .wait_for(|(_, crashed)| *crashed)
            .await;
    }

    /// The same world for a new process. What the old one still does is never answered.
    pub fn next_life(&self) -> Self {
        let life = self.shared.present.borrow().0 + 1;
        self.shared.present.send_replace((life, false));
        Self {
            shared: self.shared.clone(),
            life,
        }
    }
}

impl Host for SimulatedHost {
    async fn facts(&self) -> Result<HostFacts, ObserveError> {
        Ok(self.world().inventory.host.clone())
    }

    async fn ledger(&self) -> Result<Ledger, ObserveError> {
        Ok(self.world().ledger.clone())
    }

    async fn observe(&self, interest: &Interest) -> Result<Inventory, ObserveError> {
        let mut inventory = self.world().inventory.clone();
        inventory
            .files
            .retain(|path, _| interest.files.contains(path));
        inventory
            .directories
            .retain(|path, _| interest.directories.contains(path));
        Ok(inventory)
    }

    async fn perform(&self, effect: &Effect) -> Result<(), EffectError> {
        // Lets the scheduler take another task between any two effects.
        tokio::task::yield_now().await;
        if *self.shared.present.borrow() != (self.life, false) {
            std::future::pending::<()>().await;
        }
        let fate = {
            let mut decide = self
                .shared
                .fate
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            decide(effect, &self.world())
        };
        let result = match fate {
            Fate::Fails | Fate::CrashBefore => Ok(()),
            Fate::Done | Fate::FailsAfter | Fate::CrashAfter => self.world().apply(effect),
        };
        match fate {
            Fate::Done => result,
            Fate::Fails | Fate::FailsAfter => {
                Err(EffectError::passing("the simulated host was told to fail"))
            }
            Fate::CrashBefore | Fate::CrashAfter => {
                self.shared.present.send_replace((self.life, true));
                std::future::pending().await
            }
        }
    }
}
