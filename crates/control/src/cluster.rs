//! Several nodes as one: what they share lies in NATS, and each node makes its own part of it so.
//!
//! ```text
//!   Deployer ── find, commit ──▶ Bus ◀── rows ── pulse ◀── what runs, and its figures
//!      ▲                          │ wanted        │ members
//!      │                          ▼               ▼
//!      └── reconcile ◀── execute ◀── follow     listen ──▶ the table of hosts ──▶ Plane
//! ```
//!
//! | task | does |
//! |---|---|
//! | pulse | puts this node's row, each second and whenever something changed |
//! | listen | hears the rows of all, drops those that fell silent, tells the data plane |
//! | follow | keeps what is wanted as it is in the store |
//! | execute | brings what runs to what is wanted here, again and again |
//!
//! Nothing here is told to do one thing once: each task looks at how things are and at how they shall be, so what was lost
//! while the store was away costs nothing but time. While it is away everything stays as it is: the data plane keeps the table
//! that it has, what runs runs on, and what is to be changed is refused.

mod bus;
mod cores;
mod error;
mod goods;
mod join;
mod members;
mod plan;
pub(crate) mod queue;
mod report;
mod secrets;
mod servers;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use baton_catalog::AppName;
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use self::bus::{Bus, Contents};
pub use self::error::ClusterError;
pub use self::join::{EnterError, Entered};
use self::members::Members;
pub use self::members::{AppRow, Load, Row};
use self::plan::{Seat, placed};
pub use self::report::{AppReport, BucketReport, ClusterReport, CopyReport, NodePart, StoreReport};
pub(crate) use self::secrets::{SharedSecret, SharedSecrets};
use crate::deploy::{Found, Placed};
use crate::secrets::{SealKey, SecretError};
use crate::store::{Deployment, Kept, told};

/// What begins the key of an app.
const APP: &str = "app.";
/// What begins the key of a node that drains.
const DRAIN: &str = "drain.";
/// Times that a mark is tried to be set against others that change it.
const MARK_TRIES: usize = 3;

/// How a node takes part in a cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The servers, as URLs: `nats://HOST:PORT` or `tls://HOST:PORT`.
    pub servers: Vec<String>,
    /// The cluster's name: others may use the same servers.
    pub cluster: String,
    /// This node's name.
    pub node: String,
    /// Another number at each start.
    pub incarnation: u64,
    /// Where other nodes reach this one.
    pub transfer: SocketAddr,
    /// Where requests reach this node.
    pub gateway: SocketAddr,
    /// Version of the program.
    pub version: &'static str,
    /// Cores that this node may use.
    pub cores: u32,
    /// Bytes of memory of the machine.
    pub memory: u64,
    /// A file with credentials for the servers.
    pub credentials: Option<PathBuf>,
    /// Certificates, also for servers whose URL begins with `tls://`.
    pub tls: Option<Tls>,
    /// The file of the key with which the cluster's secrets are sealed. Without one each node has its own secrets.
    pub secrets: Option<PathBuf>,
}

/// Who this node is, and whom it believes. Files in PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Its certificate.
    pub cert: PathBuf,
    /// The key of it.
    pub key: PathBuf,
    /// The authorities that it believes.
    pub ca: PathBuf,
}

impl ClusterOptions {
    /// Whether the way to the servers is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.servers.iter().any(|server| server.starts_with("tls://"))
    }
}

/// This node's part in a cluster.
pub struct Cluster {
    options: ClusterOptions,
    bus: Bus,
    /// With what its secrets are sealed.
    secrets_key: Option<SealKey>,
    /// Whether it was said that there are secrets and no key to them.
    is_told_of_secrets: AtomicBool,
    /// What is wanted, as far as is known here.
    wanted: watch::Sender<Wanted>,
    /// Who lives, as far as is known here.
    table: watch::Sender<Arc<Vec<Row>>>,
    members: Mutex<Members>,
    /// Told when this node's row should be put at once.
    nudge: Notify,
    /// What went wrong last in a task.
    trouble: Mutex<Option<String>>,
    /// Set once the node is on its way out.
    leaving: AtomicBool,
    /// Whether the name is this node's.
    claimed: watch::Sender<bool>,
    since_ms: u64,
    started: Instant,
}

/// What the store says that there shall be.
#[derive(Clone, Debug, Default)]
struct Wanted {
    /// Bucket and revision that this was read at; `None` until it was.
    known: Option<(i128, u64)>,
    apps: BTreeMap<AppName, Deployment>,
    /// Rows that this node cannot read, and why.
    unreadable: BTreeMap<String, String>,
    /// Nodes that are to give their work to others.
    drains: BTreeSet<String>,
    secrets: SharedSecrets,
}

impl Wanted {
    fn read(contents: &Contents) -> Self {
        let mut wanted = Self { known: Some((contents.bucket, contents.revision)), ..Self::default() };
        for (key, entry) in &contents.rows {
            let Some(value) = &entry.value else { continue };
            if let Some(node) = key.strip_prefix(DRAIN) {
                wanted.drains.insert(node.to_owned());
            } else if key.starts_with(secrets::SECRET) {
                match secrets::named(key).zip(serde_json::from_slice(value).ok()) {
                    Some((place, row)) => drop(wanted.secrets.insert(place, row)),
                    None => tracing::warn!(key, "the row of a secret is not one that this version writes"),
                }
            } else if let Some(app) = key.strip_prefix(APP) {
                match serde_json::from_slice::<Deployment>(value) {
                    Ok(deployment) if deployment.app().as_str() == app => {
                        wanted.apps.insert(deployment.app().clone(), deployment);
                    }
                    Ok(other) => {
                        let why = format!("the row in the cluster's store is about {}", other.app());
                        wanted.unreadable.insert(app.to_owned(), why);
                    }
                    Err(error) => {
                        let why = format!("the row in the cluster's store cannot be read: {error}");
                        wanted.unreadable.insert(app.to_owned(), why);
                    }
                }
            }
        }
        wanted
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Begins to connect; whether the store answers is found out by [`enter`](Self::enter).
    ///
    /// # Errors
    /// A file or an address cannot be used.
    pub async fn open(options: ClusterOptions) -> Result<Arc<Self>, ClusterError> {
        let secrets_key = options.secrets.as_deref().map(seal_key).transpose()?;
        let bus = Bus::open(&options).await?;
        let members = Mutex::new(Members::new(&options.node, options.incarnation));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Arc::new(Self {
            options,
            bus,
            secrets_key,
            is_told_of_secrets: AtomicBool::new(false),
            wanted: watch::Sender::default(),
            table: watch::Sender::default(),
            members,
            nudge: Notify::new(),
            trouble: Mutex::default(),
            leaving: AtomicBool::new(false),
            claimed: watch::Sender::default(),
            since_ms: u64::try_from(now.as_millis()).unwrap_or(0),
            started: Instant::now(),
        }))
    }

    /// This node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.options.node
    }

    /// Where other nodes reach this one.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.options.transfer
    }

    /// Whether a server of the store is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.bus.is_connected()
    }

    /// Who lives, as far as is known here, by name.
    #[must_use]
    pub fn rows(&self) -> Arc<Vec<Row>> {
        Arc::clone(&self.table.borrow())
    }

    /// Whether this node is on its way out.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whether this node is the one of the cluster that calls by the clock: the first by name of those that live.
    pub(crate) fn keeps_time(&self) -> bool {
        let rows = self.rows();
        let first = rows.iter().map(|row| row.name.as_str()).min();
        first.is_none_or(|first| first == self.options.node)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what went wrong, for who asks; each thing is logged once.
    fn troubled(&self, error: &ClusterError) {
        let text = error.to_string();
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.as_ref() != Some(&text) {
            tracing::warn!("{text}");
            *trouble = Some(text);
        }
    }

    fn untroubled(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The places that functions have, this node's among them even if its row is not heard yet.
    fn seats(&self) -> Vec<Seat> {
        let rows = self.rows();
        let mut seats: Vec<Seat> = rows.iter().map(Seat::of).collect();
        if !seats.iter().any(|seat| seat.name == self.options.node) {
            let ClusterOptions { node, cores, memory, .. } = &self.options;
            let draining = self.wanted.borrow().drains.contains(node);
            seats.push(Seat { name: node.clone(), cores: *cores, memory: *memory, draining });
        }
        seats
    }

    /// What shall run here, and the apps of which that cannot be said; `None` until the store was read.
    pub(crate) fn wanted_here(&self) -> Option<(BTreeMap<AppName, Placed>, BTreeMap<String, String>)> {
        let wanted = self.wanted.borrow().clone();
        wanted.known?;
        Some((placed(&wanted.apps, &self.seats(), &self.options.node), wanted.unreadable))
    }

    /// What of a deployment is to run here, once it is stored.
    pub(crate) fn place(&self, deployment: Deployment) -> Placed {
        let mut apps = self.wanted.borrow().apps.clone();
        let app = deployment.app().clone();
        apps.insert(app.clone(), deployment.clone());
        let here = placed(&apps, &self.seats(), &self.options.node).remove(&app);
        here.unwrap_or(Placed { deployment, here: None })
    }

    // ---- deployments ----------------------------------------------------------------------------------------

    /// What is deployed of an app, from the store itself.
    pub(crate) async fn find(&self, app: &AppName) -> Result<Found, ClusterError> {
        let key = format!("{APP}{app}");
        let entry = self.bus.read(&self.bus.buckets().await?.wanted, &key).await?;
        let deployment: Option<Deployment> =
            entry.value.as_ref().and_then(|value| serde_json::from_slice(value).ok());
        let mut version = deployment.as_ref().map_or(0, Deployment::highest);
        if deployment.is_none() && entry.revision > 0 {
            // Numbers go on after a removal, and over rows of a newer program.
            version = self.versions(app).await?.last().map_or(0, |last| last.deployment.version);
        }
        Ok(Found { deployment, version, revision: entry.revision })
    }

    /// Stores a deployment for all nodes, if the one before is still that of `revision`.
    pub(crate) async fn commit(&self, next: &Deployment, revision: u64) -> Result<(), ClusterError> {
        let key = format!("{APP}{}", next.app());
        let row = serde_json::to_vec(next).map_err(ClusterError::Encode)?;
        let store = self.bus.buckets().await?.wanted;
        let written = self.bus.write(&store, &key, Some(Bytes::from(row)), revision).await;
        let revision = written.map_err(|error| about(error, format!("app {}", next.app())))?;
        self.amend(revision, |wanted| {
            wanted.apps.insert(next.app().clone(), next.clone());
            wanted.unreadable.remove(next.app().as_str());
        });
        Ok(())
    }

    /// Removes an app for all nodes; says whether it was deployed.
    pub(crate) async fn forget(&self, app: &str) -> Result<bool, ClusterError> {
        let key = format!("{APP}{app}");
        let store = self.bus.buckets().await?.wanted;
        let entry = self.bus.read(&store, &key).await?;
        if entry.value.is_none() {
            return Ok(false);
        }
        let written = self.bus.write(&store, &key, None, entry.revision).await;
        let revision = written.map_err(|error| about(error, format!("app {app}")))?;
        self.amend(revision, |wanted| {
            wanted.apps.remove(app);
            wanted.unreadable.remove(app);
        });
        Ok(true)
    }

    /// Takes over a change of this node's own before it is read back: until then, what this node believes to be wanted
    /// would be older than what it has just made so.
    fn amend(&self, revision: u64, change: impl FnOnce(&mut Wanted)) {
        self.wanted.send_modify(|wanted| {
            change(wanted);
            if let Some((_, known)) = &mut wanted.known {
                *known = (*known).max(revision);
            }
        });
    }

    /// The versions of an app that the store still has, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn versions(&self, app: &AppName) -> Result<Vec<Kept>, ClusterError> {
        let rows = self.bus.history(&format!("{APP}{app}")).await?;
        Ok(told(rows.into_iter().flatten().filter_map(|row| serde_json::from_slice(&row).ok())))
    }

    // ---- nodes ----------------------------------------------------------------------------------------------

    /// Has a node give its work to others, or take work again.
    ///
    /// # Errors
    /// No such node lives, or the store cannot be changed.
    pub async fn drain(&self, node: &str, on: bool) -> Result<(), ClusterError> {
        let is_alive = self.rows().iter().any(|row| row.name == node);
        if !is_alive && (on || !self.wanted.borrow().drains.contains(node)) {
            return Err(ClusterError::NoNode { node: node.to_owned() });
        }
        let store = self.bus.buckets().await?.wanted;
        let key = format!("{DRAIN}{node}");
        let mut last = ClusterError::Conflict { what: format!("node {node}") };
        for _ in 0..MARK_TRIES {
            let entry = self.bus.read(&store, &key).await?;
            if entry.value.is_some() == on {
                return Ok(());
            }
            let value = on.then(|| Bytes::from_static(b"{}"));
            match self.bus.write(&store, &key, value, entry.revision).await {
                Ok(revision) => {
                    self.amend(revision, |wanted| {
                        match on {
                            true => wanted.drains.insert(node.to_owned()),
                            false => wanted.drains.remove(node),
                        };
                    });
                    return Ok(());
                }
                Err(error @ ClusterError::Conflict { .. }) => last = about(error, format!("node {node}")),
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

fn seal_key(path: &Path) -> Result<SealKey, ClusterError> {
    let fault = |source| ClusterError::File { path: path.to_owned(), source };
    SealKey::read(path).map_err(|error| match error {
        SecretError::Key { source, .. } => fault(source),
        SecretError::KeyMissing { .. } => fault(std::io::ErrorKind::NotFound.into()),
        _ => fault(std::io::Error::other("it holds no key, which is 64 hexadecimal digits")),
    })
}

/// Says what a conflict is about in the words of who asked.
fn about(error: ClusterError, what: String) -> ClusterError {
    match error {
        ClusterError::Conflict { .. } => ClusterError::Conflict { what },
        ClusterError::TooLarge { bytes, most, .. } => ClusterError::TooLarge { what, bytes, most },
        error => error,
    }
}

#[cfg(test)]
mod tests;
