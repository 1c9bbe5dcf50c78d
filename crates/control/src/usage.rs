//! Accounting: what each function used, hour by hour, over restarts of the node.
//!
//! ```text
//!   every 5 s   counters of the data plane, /proc of each replica ── differences ──▶ rows in memory
//!   every 60 s, and when the node ends: rows that changed ──one transaction──▶ usage.redb
//! ```
//! A row is one function's hour; after two days hours become days, and days are kept for two months. What a crash loses is the
//! last minute. A replica that lives for less than a look does not show its processor time.

mod sampler;
mod table;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use self::sampler::Sampler;
use self::table::Table;
pub use self::table::UsageError;
use crate::plane::Plane;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Between two transactions.
const WRITE: Duration = Duration::from_secs(60);

/// What a function used in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Used {
    /// Calls of it: by the gateway, the admin API, other nodes and other functions.
    pub invocations: u64,
    /// Of these, failures.
    pub errors: u64,
    /// Processor time. Of a cell each function that it holds has a share by its calls.
    pub cpu_ns: u64,
    /// Resident memory of its replicas over time, MiB-milliseconds. Of a cell each function has an equal share.
    pub memory_mib_ms: u64,
    /// Bytes of bodies that requests from outside brought.
    pub bytes_in: u64,
    /// Bytes of bodies that answered them.
    pub bytes_out: u64,
    /// Bytes of payloads that other functions handed it, and that it handed back.
    pub bytes_handed: u64,
    /// Requests that it sent to the network, refused ones not included.
    pub egress: u64,
    /// Calls that had to wait for a replica to start; absent if none had to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold_starts: Option<u64>,
}

impl Used {
    fn add(&mut self, other: &Used) {
        self.invocations = self.invocations.saturating_add(other.invocations);
        self.errors = self.errors.saturating_add(other.errors);
        self.cpu_ns = self.cpu_ns.saturating_add(other.cpu_ns);
        self.memory_mib_ms = self.memory_mib_ms.saturating_add(other.memory_mib_ms);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.bytes_handed = self.bytes_handed.saturating_add(other.bytes_handed);
        self.egress = self.egress.saturating_add(other.egress);
        if let Some(more) = other.cold_starts {
            self.cold_starts = Some(self.cold_starts.unwrap_or(0).saturating_add(more));
        }
    }

    fn is_nothing(&self) -> bool {
        *self == Used::default()
    }
}

/// What one function used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageRow {
    /// The app.
    pub app: String,
    /// The function.
    pub function: String,
    /// How much.
    #[serde(flatten)]
    pub used: Used,
}

/// `GET /v1/usage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageReport {
    /// Beginning of the first hour, or day, that is counted, seconds since the epoch.
    pub since_s: u64,
    /// Now.
    pub until_s: u64,
    /// By app and function.
    pub rows: Vec<UsageRow>,
}

/// The accounts of a node.
#[derive(Debug)]
pub struct Usage {
    table: Mutex<Table>,
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Usage {
    /// Opens the accounts in `file`, or begins them.
    ///
    /// # Errors
    /// [`UsageError`]: the file cannot be used. A node runs without accounts then.
    pub fn open(file: &std::path::Path) -> Result<Usage, UsageError> {
        Ok(Usage { table: Mutex::new(Table::open(file)?) })
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was used since then, of one app or of all.
    #[must_use]
    pub fn report(&self, app: Option<&str>, since_s: u64) -> UsageReport {
        let (since_s, rows) = self.table().sum(app, since_s);
        let rows = rows.into_iter().map(|((app, function), used)| UsageRow { app, function, used }).collect();
        UsageReport { since_s, until_s: now_s(), rows }
    }

    /// Keeps the accounts until `ending` says that the node is about to end, then writes them a last time.
    pub async fn keep(self: Arc<Self>, plane: Arc<dyn Plane>, mut ending: oneshot::Receiver<()>) {
        let mut sampler = Sampler::default();
        let mut written = Instant::now();
        loop {
            let is_last = tokio::select! {
                () = sleep(LOOK) => false,
                _ = &mut ending => true,
            };
            let Ok(apps) = plane.load().await else { break };
            let used = sampler.look(&apps, std::time::Instant::now());
            self.table().add(now_s(), used);
            if is_last {
                break;
            }
            if written.elapsed() >= WRITE {
                written = Instant::now();
                let usage = Arc::clone(&self);
                // A disk that is slow keeps nobody else waiting.
                let _ = tokio::task::spawn_blocking(move || usage.write()).await;
            }
        }
        self.write();
    }

    fn write(&self) {
        let written = self.table().write(now_s());
        if let Err(error) = written {
            tracing::warn!(%error, "accounts of usage were not written; they will be tried again");
        }
    }
}
