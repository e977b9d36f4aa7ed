//! Restarts asked of a running agent, on a simulated host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vireo_reconciler::controller::{Controller, Request, Snapshot};
use vireo_reconciler::host::simulated::{SimulatedHost, World};
use vireo_reconciler::inventory::{File, HostFacts, Inventory};
use vireo_reconciler::plan::step::Verb;
use vireo_reconciler::resolve::storage::Permissions;
use vireo_reconciler::source::{Source, SourceError};
use vireo_reconciler::status::Report;
use vireo_reconciler::units::Bytes;
use vireo_schema::{Document, read};

struct Files(Vec<Arc<Document>>);

impl Source for Files {
    async fn load(&self) -> Result<Vec<Arc<Document>>, SourceError> {
        Ok(self.0.clone())
    }
}

struct Agent {
    host: Arc<SimulatedHost>,
    requests: mpsc::Sender<Request>,
    _wake: mpsc::Sender<()>,
    snapshot: watch::Receiver<Snapshot>,
}

impl Agent {
    /// An agent that keeps this definition, settled.
    async fn keeping(definition: &str) -> Self {
        let kernel = File {
            permissions: Permissions::default(),
            size: Bytes::mib(8),
            image: None,
        };
        let inventory = Inventory {
            host: HostFacts {
                kvm: true,
                ..HostFacts::default()
            },
            files: BTreeMap::from([(PathBuf::from("/boot/vmlinuz"), kernel)]),
            ..Inventory::default()
        };
        let host = Arc::new(SimulatedHost::new(World {
            inventory,
            ..World::default()
        }));
        let source = vireo_schema::Source::new("web.yaml", definition);
        let files = Files(vec![Arc::new(read(&Arc::new(source)))]);
        let (controller, mut snapshot) =
            Controller::new(host.clone(), files, CancellationToken::new());
        let (wake, wakes) = mpsc::channel(8);
        let (requests, inbox) = mpsc::channel(8);
        tokio::spawn(controller.run(wakes, inbox));
        let settled = snapshot.wait_for(|snapshot| snapshot.settled && snapshot.passes > 1);
        drop(settled.await.unwrap());
        Self {
            host,
            requests,
            _wake: wake,
            snapshot,
        }
    }

    async fn restart(&self, guest: Uuid) -> Result<Report, String> {
        let (asked, answer) = oneshot::channel();
        let request = Request::Restart(guest, asked);
        self.requests.send(request).await.unwrap();
        let limit = Duration::from_secs(60);
        tokio::time::timeout(limit, answer).await.unwrap().unwrap()
    }

    fn generation(&self, guest: Uuid) -> Option<Uuid> {
        let world = self.host.world();
        let guest = world.inventory.guests.get(&guest)?;
        Some(guest.launch.generation)
    }
}

#[tokio::test(start_paused = true)]
async fn the_agent_restarts_a_guest_that_may_not_be_disturbed_when_it_is_asked_to() {
    let agent = Agent::keeping("domain: web\nmemory: 64 MiB\nkernel: /boot/vmlinuz\n").await;
    let guest = *agent.host.world().inventory.guests.keys().next().unwrap();
    let before = agent.generation(guest).unwrap();
    let report = agent.restart(guest).await.unwrap();
    assert_eq!(report.verb, Verb::Restart);
    assert!(report.outcome.succeeded(), "{report:?}");
    assert_ne!(agent.generation(guest), Some(before));
    assert!(agent.snapshot.borrow().error.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_restarted_is_refused_with_the_reason() {
    let definition =
        "domain: web\nmemory: 64 MiB\nkernel: /boot/vmlinuz\npolicy: {state: stopped}\n";
    let agent = Agent::keeping(definition).await;
    let guest = *agent
        .snapshot
        .borrow()
        .look
        .desired
        .objects
        .keys()
        .next()
        .map(|id| &id.uuid)
        .unwrap();
    let why = agent.restart(guest).await.unwrap_err();
    assert_eq!(
        why,
        "domain web is not restarted: its policy wants it stopped"
    );
    let why = agent.restart(Uuid::nil()).await.unwrap_err();
    assert!(why.contains("is in no definition"), "{why}");
}
