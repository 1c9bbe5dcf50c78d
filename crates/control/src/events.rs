//! Events: calls that nobody waits for. Each is on the disk before it is accepted, and stays there until a function has done it
//! or it has come to nothing.
//!
//! ```text
//!   admin API, cron ──▶ Book (disk) ──▶ lane of its function ──▶ Plane::invoke ──▶ judge ─▶ done
//!                                          ▲       at most `concurrency` at once      ├──▶ again, later
//!                                          └──────────────────────────────────────────┤
//!                                                                                     └──▶ dead letter, or kept to be looked at
//! ```
//!
//! In a cluster the store of the cluster takes the place of the disk, and any node does the work (`shared`).
//!
//! At least once: a node that dies may have had the work done and not written that down. Each try says in `x-baton-event` which
//! event it is, so that a function can tell.

mod book;
mod cron;
mod lanes;
mod retry;
mod run;
mod shared;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use baton_catalog::{Cron, Events as Settings};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub use self::book::Event;
use self::book::{Book, Change, Known};
use self::lanes::Lanes;
use self::retry::Tries;
use self::shared::{Shared, Turned};
use crate::cluster::ClusterError;
use crate::cluster::queue::Dead;
use crate::deploy::Deployer;
use crate::limits::{EVENT_BYTES_MAX, EVENTS_BYTES_MAX};
use crate::plane::Plane;
use crate::store::StoreError;

/// Why an event is not taken, or not found.
#[derive(Clone, Debug)]
pub enum EventFault {
    /// No such function is deployed.
    Unknown {
        /// The app.
        app: String,
        /// The function.
        function: String,
    },
    /// As many wait for the function as may.
    QueueFull {
        /// How many that is.
        queue: u32,
    },
    /// The body is larger than an event's may be.
    TooLarge,
    /// As many bytes wait on this node as may.
    NoRoom,
    /// The disk does not keep up.
    Busy,
    /// There is no such event.
    Absent {
        /// Its name.
        event: String,
    },
    /// It cannot be written or read.
    Disk(Arc<StoreError>),
    /// The cluster's store cannot be asked.
    Store(Arc<ClusterError>),
}

impl fmt::Display for EventFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { app, function } => write!(f, "no function {app}/{function} is deployed"),
            Self::QueueFull { queue } => {
                write!(f, "{queue} events wait for the function, as many as may (`events.queue`)")
            }
            Self::TooLarge => write!(f, "the body of an event has at most {} MiB", EVENT_BYTES_MAX >> 20),
            Self::NoRoom => {
                write!(
                    f,
                    "the bodies of events that wait have {} MiB together, as many as may",
                    EVENTS_BYTES_MAX >> 20
                )
            }
            Self::Busy => f.write_str("the disk does not keep up with the events that come"),
            Self::Absent { event } => write!(f, "there is no event {event} that came to nothing"),
            Self::Disk(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EventFault {}

/// A function's events, as they are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueReport {
    /// The app.
    pub app: String,
    /// The function.
    pub function: String,
    /// How many are not done, those that are being tried included.
    pub waiting: u32,
    /// How many are being tried.
    pub running: u32,
    /// How many were done since the node started.
    pub done: u64,
    /// How often one was tried again since then.
    pub retried: u64,
    /// How many came to nothing since then.
    pub dead: u64,
    /// How long the oldest has waited, seconds.
    pub oldest_s: u64,
}

/// An event that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadReport {
    /// Its name.
    pub event: String,
    /// The app.
    pub app: String,
    /// The function.
    pub function: String,
    /// When it was accepted, milliseconds since the epoch.
    pub accepted_ms: u64,
    /// How often a function began with it.
    pub attempts: u32,
    /// What the last try came to.
    pub error: String,
}

/// The events of a node.
pub struct Events {
    book: Book,
    plane: Arc<dyn Plane>,
    deployer: Arc<Deployer>,
    lanes: Mutex<Lanes>,
    /// The events of the cluster, where there is one.
    shared: Option<Shared>,
    /// Told when there may be something to try.
    stirred: Notify,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Milliseconds since the epoch.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The name of an event, as headers and people see it.
fn name(id: u64) -> String {
    format!("{id:016x}")
}

impl Events {
    /// The events that wait in a file. Nothing is tried before [`run`](Self::run).
    ///
    /// # Errors
    /// The file is damaged or cannot be written.
    pub fn open(
        path: &Path,
        plane: Arc<dyn Plane>,
        deployer: Arc<Deployer>,
    ) -> Result<Arc<Self>, StoreError> {
        let book = Book::open(path)?;
        let waiting = book.waiting()?;
        // Numbers go on from the clock, so that those of a lost file are not given out again.
        let next = book.last()?.max(now_ms().saturating_mul(1000)) + 1;
        let lanes = Mutex::new(Lanes::new(next, waiting));
        let shared = deployer.cluster().map(|cluster| Shared::new(Arc::clone(cluster)));
        Ok(Arc::new(Self { book, plane, deployer, lanes, shared, stirred: Notify::new() }))
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the manifest says of a function's events, if it is deployed.
    fn settings(&self, app: &str, function: &str) -> Option<Settings> {
        self.deployer
            .declared(app, |manifest| manifest.function(function).map(|found| found.events.clone()))?
    }

    fn expected(&self, event: &Event) -> Result<Settings, EventFault> {
        let unknown = || EventFault::Unknown { app: event.app.clone(), function: event.function.clone() };
        let settings = self.settings(&event.app, &event.function).ok_or_else(unknown)?;
        if event.body.len() > EVENT_BYTES_MAX {
            return Err(EventFault::TooLarge);
        }
        Ok(settings)
    }

    /// Accepts an event: it is on the disk when this returns, or in the cluster's store. Gives its name.
    ///
    /// # Errors
    /// There is no such function, its queue is full, or the disk is.
    pub async fn accept(&self, event: Event) -> Result<String, EventFault> {
        match self.accept_shared(Shared::number(), &event).await {
            Some(accepted) => accepted,
            None => self.accept_here(event).await,
        }
    }

    /// Takes an event into the cluster's store; `None` where there is none, or it cannot take it now.
    async fn accept_shared(&self, id: u64, event: &Event) -> Option<Result<String, EventFault>> {
        let shared = self.shared.as_ref()?;
        let settings = match self.expected(event) {
            Ok(settings) => settings,
            Err(fault) => return Some(Err(fault)),
        };
        match shared.accept(id, event, settings.queue).await {
            Ok(()) => Some(Ok(name(id))),
            Err(Turned::Away(fault)) => Some(Err(fault)),
            Err(Turned::Back(error)) => {
                let (app, function) = (&event.app, &event.function);
                tracing::warn!(app, function, %error, "an event is kept on this node's own disk");
                None
            }
        }
    }

    /// Takes an event onto this node's own disk.
    async fn accept_here(&self, event: Event) -> Result<String, EventFault> {
        let settings = self.expected(&event)?;
        let id = self.lanes().admit(&known(&event), settings.queue)?;
        let written = self.book.write(Change::Add(id, Arc::new(event))).await;
        let mut lanes = self.lanes();
        match written {
            Ok(()) => lanes.ready(id),
            Err(_) => lanes.forget(id),
        }
        drop(lanes);
        self.stirred.notify_one();
        written.map(|()| name(id))
    }

    /// Every function that has events, or had some since the node started.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueReport> {
        let own = self.lanes().report(now_ms());
        match &self.shared {
            Some(shared) => shared.report(own),
            None => own,
        }
    }

    /// Those that came to nothing, newest first. Those of a cluster are left out while its store does not answer.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub async fn dead(&self) -> Result<Vec<DeadReport>, EventFault> {
        let dead = self.book.dead().await.map_err(|error| EventFault::Disk(Arc::new(error)))?;
        let report = |(id, event, tries): (u64, Event, Tries)| DeadReport {
            event: name(id),
            app: event.app,
            function: event.function,
            accepted_ms: event.accepted_ms,
            attempts: tries.attempts,
            error: tries.error,
        };
        let mut reports: Vec<DeadReport> = dead.into_iter().map(report).collect();
        if let Some(shared) = &self.shared {
            match shared.dead().await {
                Ok(dead) => reports.splice(0..0, dead).for_each(drop),
                Err(error) => tracing::warn!(%error, "events that came to nothing cannot be listed"),
            }
        }
        Ok(reports)
    }

    /// Has one that came to nothing tried anew, as if it had just come; gives its new name.
    ///
    /// # Errors
    /// There is none of that name, or no room for it.
    pub async fn revive(&self, event: &str) -> Result<String, EventFault> {
        if let Some((shared, dead, found)) = self.dead_shared(event).await? {
            let fresh = self.accept(Event { accepted_ms: now_ms(), ..found }).await?;
            shared.forget(&dead).await.map_err(|error| EventFault::Store(Arc::new(error)))?;
            return Ok(fresh);
        }
        let (id, found) = self.dead_one(event).await?;
        let settings = self.settings(&found.app, &found.function);
        let unknown = || EventFault::Unknown { app: found.app.clone(), function: found.function.clone() };
        let settings = settings.ok_or_else(unknown)?;
        let fresh = Event { accepted_ms: now_ms(), ..found.clone() };
        let next = self.lanes().admit(&known(&fresh), settings.queue)?;
        let written = self.book.write(Change::Revive(id, next, Arc::new(fresh))).await;
        let mut lanes = self.lanes();
        match written {
            Ok(()) => lanes.ready(next),
            Err(_) => lanes.forget(next),
        }
        drop(lanes);
        self.stirred.notify_one();
        written.map(|()| name(next))
    }

    /// Removes one that came to nothing.
    ///
    /// # Errors
    /// There is none of that name, or the disk cannot be written.
    pub async fn forget(&self, event: &str) -> Result<(), EventFault> {
        if let Some((shared, dead, _)) = self.dead_shared(event).await? {
            return shared.forget(&dead).await.map_err(|error| EventFault::Store(Arc::new(error)));
        }
        let (id, _) = self.dead_one(event).await?;
        self.book.write(Change::Forget(id)).await
    }

    /// One that came to nothing and lies in the cluster's store.
    async fn dead_shared(&self, event: &str) -> Result<Option<(&Shared, Dead, Event)>, EventFault> {
        let is_of_a_store = u64::from_str_radix(event, 16).is_ok_and(|id| name(id) == event && id >> 63 == 1);
        let Some(shared) = self.shared.as_ref().filter(|_| is_of_a_store) else { return Ok(None) };
        let found = shared.dead_one(event).await.map_err(|error| EventFault::Store(Arc::new(error)))?;
        Ok(found.map(|(dead, event)| (shared, dead, event)))
    }

    async fn dead_one(&self, event: &str) -> Result<(u64, Event), EventFault> {
        let absent = || EventFault::Absent { event: event.to_owned() };
        let id = u64::from_str_radix(event, 16).map_err(|_| absent())?;
        let found = self.book.dead_one(id).await.map_err(|error| EventFault::Disk(Arc::new(error)))?;
        found.map(|found| (id, found)).ok_or_else(absent)
    }

    /// Every schedule that is deployed, with its app.
    fn schedules(&self) -> Vec<(String, Cron)> {
        self.deployer.all_declared(|app, manifest| {
            manifest.cron.iter().map(|cron| (app.to_string(), cron.clone())).collect::<Vec<_>>()
        })
    }
}

fn known(event: &Event) -> Known {
    Known {
        app: event.app.clone(),
        function: event.function.clone(),
        accepted_ms: event.accepted_ms,
        bytes: event.body.len() as u64,
        tries: Tries { due_ms: event.accepted_ms, ..Tries::default() },
    }
}
