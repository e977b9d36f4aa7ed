//! The agent's interface: HTTP with JSON over a unix socket, for the command line and for anybody else who may open it.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status` | [`AgentStatus`]: how every object does, what ended lately |
//! | `GET /v1/plan` | the last pass's [`Plan`], with its digest in the header `vireo-plan-digest` |
//! | `POST /v1/pass` | makes a pass now, waits until nothing is at work (at most `?wait=SECONDS`), and gives [`AgentStatus`] |
//! | `POST /v1/restart?guest=UUID` | restarts a guest, whatever its policy allows, waits until it has ended (at most `?wait=SECONDS`), and gives its [`Report`]; 409 when it cannot be |
//! | `POST /v1/confirm?digest=…` | lets a plan that waits for confirmation be carried out; 409 when it is no longer the plan |
//!
//! Only the socket's owner and group may open it. Nothing here decides anything: requests go to the controller, answers come from its snapshot.

pub mod client;
pub mod server;

use serde::{Deserialize, Serialize};

use crate::controller::Snapshot;
use crate::plan::step::Plan;
use crate::status::{ObjectStatus, Report};

/// The header that carries a plan's digest.
pub const DIGEST_HEADER: &str = "vireo-plan-digest";

/// What the agent says of itself and of its objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AgentStatus {
    /// The agent's process.
    pub pid: u32,
    /// How many passes it has made.
    pub passes: u64,
    /// Nothing is at work and nothing is to be done that need not wait.
    pub settled: bool,
    /// Why the last pass could not look, if it could not.
    pub error: Option<String>,
    /// How every object does.
    pub objects: Vec<ObjectStatus>,
    /// The ends of the latest steps, newest last.
    pub history: Vec<Report>,
    /// What the last pass planned.
    pub plan: Plan,
}

impl AgentStatus {
    /// What a snapshot tells.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            pid: std::process::id(),
            passes: snapshot.passes,
            settled: snapshot.settled,
            error: snapshot.error.clone(),
            objects: snapshot.statuses.clone(),
            history: snapshot.history.clone(),
            plan: snapshot.look.plan.clone(),
        }
    }
}
