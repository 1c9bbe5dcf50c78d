//! The admin API: JSON over HTTP/1.1, at two doors.
//!
//! | door | who may come in |
//! |---|---|
//! | `$BATON_HOME/admin.sock` | whoever may open the file: mode 0600 |
//! | TCP, loopback by default | whoever shows the token; only by a numeric host or `localhost`, and not from a page of another origin |
//!
//! The dashboard's own files are the exception: they tell nothing about the node, and who has no token yet needs them to
//! type one in.

mod cluster;
mod events;
mod fault;
mod guard;
mod invoke;
mod metrics;
mod overview;
mod page;
mod payload;
mod policy;
mod reads;
mod scale;
mod secrets;
mod usage;
mod versions;
mod writes;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post, put};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, Semaphore};

use crate::cluster::Cluster;
use crate::connections::serve;
use crate::deploy::Deployer;
use crate::events::Events;
use crate::limits;
use crate::plane::{Answer, Plane};
use crate::protocol::NodeInfo;
use crate::usage::Usage;

/// A figure of the gateway, as the metrics show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name, without prefix and suffix.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// Whether it only ever grows.
    pub counts: bool,
    /// One value, or one for each class.
    pub values: Vec<(Option<&'static str>, u64)>,
}

/// Asks the gateway, which lives on another thread, for its figures.
pub type GatewayFigures = Arc<dyn Fn() -> Answer<'static, Vec<Figure>> + Send + Sync>;

/// What the node tells about itself.
#[derive(Clone, Debug)]
pub struct Node {
    /// Version of the program.
    pub version: &'static str,
    /// Where requests go.
    pub gateway: SocketAddr,
    /// Where the admin API listens on TCP.
    pub admin: SocketAddr,
    /// The state directory.
    pub home: PathBuf,
    /// When it started.
    pub started: Instant,
}

/// Everything that the admin API needs.
pub struct Api {
    /// The data plane.
    pub plane: Arc<dyn Plane>,
    /// Deploys and removes.
    pub deployer: Arc<Deployer>,
    /// The cluster that the node is in, if it is in one.
    pub cluster: Option<Arc<Cluster>>,
    /// Calls that nobody waits for.
    pub events: Arc<Events>,
    /// What TCP clients must show.
    pub token: String,
    /// What the node tells about itself.
    pub node: Node,
    /// Told when a client asks the node to drain and end.
    pub drain: Arc<Notify>,
    /// Figures of the gateway, if there is one.
    pub gateway: Option<GatewayFigures>,
    /// The node's accounts, if it can keep any.
    pub usage: Option<Arc<Usage>>,
    /// Bounds what runs at once.
    pub bounds: Bounds,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Api {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            version: self.node.version.to_owned(),
            pid: std::process::id(),
            uptime_s: self.node.started.elapsed().as_secs(),
            gateway: self.node.gateway.to_string(),
            admin: self.node.admin.to_string(),
            home: self.node.home.display().to_string(),
        }
    }
}

/// Bounds what runs at once.
#[derive(Debug)]
pub struct Bounds {
    uploads: Semaphore,
    invokes: Semaphore,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { uploads: Semaphore::new(limits::UPLOADS_MAX), invokes: Semaphore::new(limits::INVOKES_MAX) }
    }
}

/// By which door requests come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The Unix socket.
    Unix,
    /// TCP.
    Tcp,
}

/// All endpoints behind a door's checks.
pub fn router(api: Arc<Api>, door: Door) -> Router {
    let router = Router::new()
        .route("/healthz", get(reads::health))
        .route("/metrics", get(metrics::page))
        .route("/", get(page::index))
        .route("/page/{file}", get(page::file))
        .route("/v1/node", get(reads::node))
        .route("/v1/overview", get(overview::overview))
        .route("/v1/apps", get(reads::apps))
        .route("/v1/apps/{app}", post(writes::deploy).delete(writes::remove))
        .route("/v1/apps/{app}/evict", post(writes::evict))
        .route("/v1/apps/{app}/functions/{function}/scale", put(scale::set))
        .route("/v1/apps/{app}/graph", get(overview::graph))
        .route("/v1/apps/{app}/pool", get(reads::pool))
        .route("/v1/apps/{app}/versions", get(versions::list))
        .route("/v1/apps/{app}/promote", post(versions::promote))
        .route("/v1/apps/{app}/rollback", post(versions::rollback))
        .route("/v1/apps/{app}/traffic", put(versions::traffic))
        .route("/v1/apps/{app}/policy", get(policy::show).put(policy::set).delete(policy::reset))
        .route("/v1/secrets", get(secrets::list))
        .route("/v1/secrets/{app}/{name}", put(secrets::set).delete(secrets::remove))
        .route("/v1/nodes", get(cluster::nodes))
        .route("/v1/nodes/{node}/drain", post(cluster::drain).delete(cluster::undrain))
        .route("/v1/cluster", get(cluster::report))
        .route("/v1/artifacts/{hash}", put(writes::upload).head(reads::artifact))
        .route("/v1/modules/{hash}", post(writes::compile))
        .route("/v1/invoke/{app}/{function}", any(invoke::call))
        .route("/v1/events", get(events::list))
        .route("/v1/events/{app}/{function}", any(events::accept))
        .route("/v1/dead/{event}", post(events::revive).delete(events::forget))
        .route("/v1/logs", get(reads::logs))
        .route("/v1/caps", get(reads::capabilities))
        .route("/v1/usage", get(usage::report))
        .route("/v1/receipts", get(reads::receipts))
        .route("/v1/receipts/{id}", get(reads::receipt))
        .route("/v1/recording", put(writes::recording))
        .route("/v1/drain", post(writes::drain))
        .fallback(fault::unknown_path)
        .method_not_allowed_fallback(fault::wrong_method)
        .with_state(Arc::clone(&api));
    match door {
        Door::Unix => router,
        Door::Tcp => router.layer(from_fn_with_state(api, guard::check)),
    }
}

/// What logs call it.
const ADMIN: &str = "admin API";

/// Answers requests on TCP until the future is dropped.
pub async fn serve_tcp(listener: TcpListener, api: Arc<Api>) {
    let accept = || async { listener.accept().await.map(|(stream, _)| stream) };
    serve(ADMIN, limits::CONNECTIONS_MAX, accept, router(api, Door::Tcp)).await;
}

/// Answers requests on the Unix socket until the future is dropped.
pub async fn serve_unix(listener: UnixListener, api: Arc<Api>) {
    let accept = || async { listener.accept().await.map(|(stream, _)| stream) };
    serve(ADMIN, limits::CONNECTIONS_MAX, accept, router(api, Door::Unix)).await;
}

#[cfg(test)]
mod tests;
