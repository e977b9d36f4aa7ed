//! `vireo run`: the agent.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use miette::{IntoDiagnostic as _, WrapErr as _};
use notify_debouncer_full::notify::RecursiveMode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::complaint::plain;
use super::{Common, DONE};
use crate::api::server;
use crate::controller::{Controller, Request, Snapshot};
use crate::execute::effect::{Effect, Hook};
use crate::host::Host as _;
use crate::host::real::RealHost;
use crate::host::watch::{Targets, Watch};
use crate::ledger::store::Lock;

/// How long changes of files are gathered: an editor or a checkout makes many events of one change.
const GATHER: Duration = Duration::from_millis(100);

/// Keeps the host as defined until it is told to stop (SIGTERM or Ctrl-C). SIGHUP causes a full pass.
///
/// Guests run on when the agent stops, is upgraded or dies; the next one finds them.
#[derive(Debug, Args)]
pub struct Run {}

impl Run {
    /// Exit status: 0 told to stop.
    pub async fn run(self, common: &Common) -> miette::Result<u8> {
        let _lock = Lock::take(&common.state_dir).map_err(|error| plain(&error))?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&common.runtime_dir)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot make {}", common.runtime_dir.display()))?;
        let stop = CancellationToken::new();
        let host = common.host()?;
        daemon_hook(&host, "start", "-", "start").await;

        let (controller, snapshot) = Controller::new(host.clone(), common.source(), stop.clone());
        let (wake, wakes) = mpsc::channel(64);
        let (request, requests) = mpsc::channel(16);
        let _files = watch_files(common.desired.clone(), wake.clone())?;
        let watch = Watch::start()
            .into_diagnostic()
            .wrap_err("cannot watch the kernel's events")?;
        let events = tokio::spawn(forward_events(
            watch,
            host.clone(),
            snapshot.clone(),
            wake.clone(),
            stop.clone(),
        ));
        let signals = tokio::spawn(obey_signals(host.clone(), request.clone(), stop.clone()));
        let socket = common.socket();
        let api = tokio::spawn({
            let stop = stop.clone();
            async move { server::serve(&socket, request, snapshot, stop).await }
        });
        info!(desired = ?common.desired, "the agent begins");
        notify_manager("READY=1");
        controller.run(wakes, requests).await;
        notify_manager("STOPPING=1");
        stop.cancel();
        if let Err(error) = api.await.into_diagnostic()? {
            warn!(error = crate::status::chain(&error), "the interface ended");
        }
        drop((events.await, signals.await));
        daemon_hook(&host, "shutdown", "-", "shutdown").await;
        info!("the agent ends; guests run on");
        Ok(DONE)
    }
}

/// Wakes the loop when a definition may have changed. The returned watcher works as long as it lives.
fn watch_files(roots: Vec<PathBuf>, wake: mpsc::Sender<()>) -> miette::Result<impl Send> {
    let mut watcher = notify_debouncer_full::new_debouncer(GATHER, None, move |_| {
        // A full queue already holds a wake-up; a closed one belongs to a loop that has ended. Errors wake too: the pass will see what is wrong.
        let _ = wake.try_send(());
    })
    .into_diagnostic()
    .wrap_err("cannot watch files")?;
    for root in roots {
        if let Err(error) = watcher.watch(&root, RecursiveMode::Recursive) {
            warn!(root = %root.display(), %error, "cannot be watched; the full pass will see its changes");
        }
    }
    Ok(watcher)
}

/// Wakes the loop on the kernel's events, and after each pass says anew what to keep an eye on.
async fn forward_events(
    watch: Watch,
    host: Arc<RealHost>,
    mut snapshot: watch::Receiver<Snapshot>,
    wake: mpsc::Sender<()>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            kinds = watch.next() => {
                debug!(?kinds, "woken");
                // A full queue already holds a wake-up; a closed one belongs to a loop that has ended.
                let _ = wake.try_send(());
            }
            changed = snapshot.changed() => {
                if changed.is_err() {
                    return;
                }
                let look = snapshot.borrow_and_update().look.clone();
                watch.aim(Targets::of(&look.inventory, &look.interest, host.cgroups()));
            }
        }
    }
}

async fn obey_signals(
    host: Arc<RealHost>,
    requests: mpsc::Sender<Request>,
    stop: CancellationToken,
) {
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ];
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = kinds.map(signal) else {
        return warn!("signals cannot be received; only SIGKILL ends this agent");
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = terminate.recv() => return stop.cancel(),
            _ = interrupt.recv() => return stop.cancel(),
            _ = hangup.recv() => {
                info!("told to reload");
                daemon_hook(&host, "reload", "begin", "SIGHUP").await;
                let (asked, _) = tokio::sync::oneshot::channel();
                drop(requests.send(Request::Pass(asked)).await);
            }
        }
    }
}

/// libvirt's `daemon` hook: `- OPERATION SUB-OPERATION EXTRA`. It may not refuse anything.
async fn daemon_hook(host: &RealHost, operation: &str, sub_operation: &str, extra: &str) {
    let hook = Hook {
        script: "daemon".to_owned(),
        object: "-".to_owned(),
        operation: operation.to_owned(),
        sub_operation: sub_operation.to_owned(),
        extra: extra.to_owned(),
        input: String::new(),
        may_refuse: false,
    };
    if let Err(error) = host.perform(&Effect::RunHook(hook)).await {
        warn!(%error, "a daemon hook failed");
    }
}

/// Tells systemd, where it started us, how we do. Source: sd_notify(3).
fn notify_manager(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|datagram| datagram.send_to(state.as_bytes(), socket));
    if let Err(error) = sent {
        warn!(%error, "the service manager cannot be told {state}");
    }
}
