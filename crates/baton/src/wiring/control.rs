//! The control thread: the admin API, the node's part in a cluster, and what is restored at the start.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use baton_catalog::AppName;
use baton_control::admin::{self, Api};
use baton_control::lambda;
use baton_control::{DeployFault, Entered, Events, Restored};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::cloudevents::Delivery;
use crate::failure::Failure;
use crate::output::Style;

/// How long the last accounts may take to be written.
const ACCOUNTS_WITHIN: Duration = Duration::from_secs(2);

/// What the thread is given.
pub(super) struct ControlPlane {
    pub(super) runtime: Runtime,
    pub(super) api: Arc<Api>,
    pub(super) doors: Doors,
    pub(super) except: Vec<AppName>,
    pub(super) restored: SyncSender<Result<Vec<Restored>, Failure>>,
    /// Says that the node is about to end: others shall not count on it any more.
    pub(super) leave: oneshot::Receiver<()>,
    pub(super) stop: oneshot::Receiver<()>,
    pub(super) observers: Observers,
    pub(super) deliveries: mpsc::Receiver<Delivery>,
}

/// The Lambda API, and where it listens.
pub(super) type LambdaDoor = (std::net::TcpListener, Arc<lambda::Api>);

/// Where clients come in.
pub(super) struct Doors {
    pub(super) tcp: std::net::TcpListener,
    pub(super) unix: std::os::unix::net::UnixListener,
    pub(super) lambda: Option<LambdaDoor>,
}

/// Those who write down what happened, and have to know when nothing more will.
pub(super) struct Observers {
    pub(super) export_ending: oneshot::Sender<()>,
    pub(super) usage_ending: oneshot::Sender<()>,
    /// Ends once the accounts are written.
    pub(super) keeping: Option<JoinHandle<()>>,
}

/// The control thread, from start to end.
pub(super) fn control_plane(control: ControlPlane) {
    let ControlPlane { runtime, api, doors, except, restored, leave, stop, observers, deliveries } = control;
    let Doors { tcp, unix, lambda } = doors;
    runtime.block_on(async move {
        let listeners = tokio::net::TcpListener::from_std(tcp)
            .and_then(|tcp| Ok((tcp, tokio::net::UnixListener::from_std(unix)?)));
        let (tcp, unix) = match listeners {
            Ok(listeners) => listeners,
            Err(error) => {
                let failure = Failure::failed(format_args!("cannot serve the admin API: {error}"), "");
                let _ = restored.send(Err(failure));
                return;
            }
        };
        tokio::spawn(admin::serve_tcp(tcp, Arc::clone(&api)));
        tokio::spawn(admin::serve_unix(unix, Arc::clone(&api)));
        let _ = restored.send(restore(&api, &except).await);
        // Only now: what it made is deployed before it is called.
        if let Some((listener, lambda)) = lambda
            && let Ok(listener) = tokio::net::TcpListener::from_std(listener)
        {
            tokio::spawn(lambda::serve(listener, lambda));
        }
        tokio::spawn(Arc::clone(&api.deployer).watch());
        tokio::spawn(Arc::clone(&api.events).run());
        tokio::spawn(take_in(Arc::clone(&api.events), deliveries));
        // An error means that the main thread ends without a word, and the process with it.
        if leave.await.is_ok() {
            api.cluster.as_ref().inspect(|cluster| cluster.retire());
        }
        let Observers { export_ending, usage_ending, keeping } = observers;
        let _ = export_ending.send(());
        let _ = usage_ending.send(());
        let _ = stop.await;
        if let Some(keeping) = keeping {
            // A data plane or disk that hangs does not hold up the end.
            let _ = timeout(ACCOUNTS_WITHIN, keeping).await;
        }
        if let Some(cluster) = &api.cluster {
            cluster.leave().await;
        }
    });
    // A file that is being written or hashed is not worth waiting for.
    runtime.shutdown_background();
}

/// Brings up what is stored here, or what the cluster wants here.
async fn restore(api: &Arc<Api>, except: &[AppName]) -> Result<Vec<Restored>, Failure> {
    let policies = api.deployer.restore_policies().await;
    policies.map_err(|error| Failure::failed(&error, error.hint()))?;
    let Some(cluster) = &api.cluster else {
        let restored = api.deployer.restore(except).await;
        return restored.map_err(|fault: DeployFault| Failure::failed(fault, ""));
    };
    // An app that is about to be deployed is the cluster's until then, and so is not left out.
    let Entered { restored, apart } = cluster.enter(&api.deployer, &api.plane).await?;
    if let Some(error) = apart {
        let warning = Style::stderr().yellow("warning:");
        eprintln!("{warning} {error}; this node starts with what it knew, and joins when it can");
    }
    Ok(restored)
}

/// Takes in events that come by the gateway. Many at once are written at once; the queues bound how many wait.
async fn take_in(events: Arc<Events>, mut deliveries: mpsc::Receiver<Delivery>) {
    while let Some((event, told)) = deliveries.recv().await {
        let events = Arc::clone(&events);
        tokio::spawn(async move {
            // Whoever asked may have left; the event is taken all the same.
            let _ = told.send(events.accept(event).await);
        });
    }
}
