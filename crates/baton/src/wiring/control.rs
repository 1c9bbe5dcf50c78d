//! The control thread: the admin API, and what is restored at the start.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use baton_catalog::AppName;
use baton_control::admin::{self, Api};
use baton_control::{DeployFault, Restored};
use tokio::sync::oneshot;

use super::runtime;
use crate::failure::Failure;

/// What the thread is given.
pub(super) struct ControlPlane {
    pub(super) api: Arc<Api>,
    pub(super) tcp: std::net::TcpListener,
    pub(super) unix: std::os::unix::net::UnixListener,
    pub(super) except: Vec<AppName>,
    pub(super) restored: SyncSender<Result<Vec<Restored>, Failure>>,
    pub(super) stop: oneshot::Receiver<()>,
}

/// The control thread, from start to end.
pub(super) fn control_plane(control: ControlPlane) {
    let ControlPlane { api, tcp, unix, except, restored, stop } = control;
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(failure) => {
            let _ = restored.send(Err(failure));
            return;
        }
    };
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
        let result = api.deployer.restore(&except).await;
        let _ = restored.send(result.map_err(|fault: DeployFault| Failure::failed(fault, "")));
        let _ = stop.await;
    });
    // A file that is being written or hashed is not worth waiting for.
    runtime.shutdown_background();
}
