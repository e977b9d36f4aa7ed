//! The server side of the agent's interface.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{AgentStatus, DIGEST_HEADER};
use crate::controller::{Request, Snapshot};

/// How long `POST /v1/pass` waits at most when it is not told, and the longest that it can be told.
const WAIT: Duration = Duration::from_secs(60);
const WAIT_MAX: Duration = Duration::from_secs(3600);

#[derive(Clone)]
struct Agent {
    requests: mpsc::Sender<Request>,
    snapshot: watch::Receiver<Snapshot>,
}

/// The interface could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {path}")]
pub struct ListenError {
    path: PathBuf,
    source: io::Error,
}

/// Serves until `stop` is cancelled. A socket left by an agent that died is replaced: the caller holds the state directory's lock, so nobody else listens.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(
    path: &Path,
    requests: mpsc::Sender<Request>,
    snapshot: watch::Receiver<Snapshot>,
    stop: CancellationToken,
) -> Result<(), ListenError> {
    let listen_error = |source| ListenError {
        path: path.to_owned(),
        source,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(listen_error(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(listen_error)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(listen_error)?;
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/plan", get(plan))
        .route("/v1/pass", post(pass))
        .route("/v1/confirm", post(confirm))
        .route("/v1/restart", post(restart))
        .with_state(Agent { requests, snapshot });
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(listen_error)
}

async fn status(State(agent): State<Agent>) -> Json<AgentStatus> {
    Json(AgentStatus::of(&agent.snapshot.borrow()))
}

async fn plan(State(agent): State<Agent>) -> Response {
    let look = agent.snapshot.borrow().look.clone();
    let mut response = Json(&look.plan).into_response();
    if let Ok(digest) = HeaderValue::from_str(&look.plan.digest()) {
        response.headers_mut().insert(DIGEST_HEADER, digest);
    }
    response
}

#[derive(Deserialize)]
struct Wait {
    wait: Option<u64>,
}

async fn pass(State(mut agent): State<Agent>, Query(query): Query<Wait>) -> Response {
    let limit = query.wait.map_or(WAIT, Duration::from_secs).min(WAIT_MAX);
    let (asked, done) = oneshot::channel();
    if agent.requests.send(Request::Pass(asked)).await.is_err() || done.await.is_err() {
        return stopping();
    }
    // The time limit is no error: the status says that the agent has not settled.
    let settled = agent
        .snapshot
        .wait_for(|snapshot| snapshot.settled || snapshot.error.is_some());
    drop(tokio::time::timeout(limit, settled).await.map(drop));
    status(State(agent)).await.into_response()
}

#[derive(Deserialize)]
struct Confirm {
    digest: String,
}

async fn confirm(State(agent): State<Agent>, Query(query): Query<Confirm>) -> Response {
    let (asked, done) = oneshot::channel();
    if agent
        .requests
        .send(Request::Confirm(query.digest, asked))
        .await
        .is_err()
    {
        return stopping();
    }
    match done.await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => (
            StatusCode::CONFLICT,
            "the plan has changed; look at it again\n",
        )
            .into_response(),
        Err(_) => stopping(),
    }
}

#[derive(Deserialize)]
struct Restart {
    guest: Uuid,
    wait: Option<u64>,
}

async fn restart(State(agent): State<Agent>, Query(query): Query<Restart>) -> Response {
    let limit = query.wait.map_or(WAIT, Duration::from_secs).min(WAIT_MAX);
    let (asked, done) = oneshot::channel();
    let request = Request::Restart(query.guest, asked);
    if agent.requests.send(request).await.is_err() {
        return stopping();
    }
    match tokio::time::timeout(limit, done).await {
        Ok(Ok(Ok(report))) => Json(report).into_response(),
        Ok(Ok(Err(why))) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
        Ok(Err(_)) => stopping(),
        Err(_) => (
            StatusCode::CONFLICT,
            "the restart is still at work; see `vireo status`\n",
        )
            .into_response(),
    }
}

fn stopping() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping\n").into_response()
}
