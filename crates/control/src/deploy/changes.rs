//! What is done with the versions of an app: brought up, stored, switched to, judged.
//!
//! ```text
//!   bring: what is missing starts, no route leads to it ─▶ commit: stored ─▶ switch: the routes change at once
//!                     │ fails                                  │ fails
//!                     └────────────── discard: nothing has changed ──────┘
//! ```
//!
//! What is stored has been ready, and what answers is stored: a node that dies between the two comes back with what was
//! stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_catalog::AppName;
use baton_flow::status::VersionStatus;
use baton_flow::{Next, Traffic};
use baton_placement::{Answered, Terms, Verdict, judge};
use tokio::time::{Instant, sleep};

use super::authority::{Authority, Found};
use super::rollout::{self, Change};
use super::{DeployFault, Deployer, Placed};
use crate::limits::ROLLOUT_LOOK;
use crate::protocol::Refusal;
use crate::store::{Beside, Deployment, Kept};

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Deployer {
    /// Changes which versions of an app answer.
    ///
    /// # Errors
    /// [`DeployFault::Rollout`] if there is no such thing to do; then, and after every other error, nothing is changed.
    pub async fn change(&self, app: &AppName, change: Change) -> Result<Deployment, DeployFault> {
        let _change = self.change.lock().await;
        let found = self.find(app).await?;
        let Some(now) = &found.deployment else { return Err(DeployFault::NoApp { app: app.to_string() }) };
        let kept = self.kept(app).await?;
        let next = self.place(rollout::changed(now, &kept, change)?);
        let row = next.deployment.clone();
        if now.stands_as(&row)
            && now.undone == row.undone
            && self.running().get(app).is_some_and(|runs| runs.same_as(&next))
        {
            return Ok(row);
        }
        self.apply(next, &found).await?;
        Ok(row)
    }

    /// The versions of an app that are kept, oldest first.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn kept(&self, app: &AppName) -> Result<Vec<Kept>, DeployFault> {
        if let Authority::Cluster(cluster) = &self.authority {
            return Ok(cluster.versions(app).await?);
        }
        let name = app.to_string();
        self.blocking(move |files| files.store.versions(&name).map_err(DeployFault::Store)).await
    }

    /// What is deployed of an app.
    ///
    /// # Errors
    /// It cannot be read, or nothing is.
    pub async fn deployed(&self, app: &AppName) -> Result<Deployment, DeployFault> {
        let found = self.find(app).await?;
        found.deployment.ok_or_else(|| DeployFault::NoApp { app: app.to_string() })
    }

    /// Brings up what is missing, stores it, and has it answer. Gives the replicas of what was brought up last.
    pub(super) async fn apply(&self, mut next: Placed, found: &Found) -> Result<u32, DeployFault> {
        let app = next.deployment.app().clone();
        next.deployment.highest = found.version.max(next.deployment.highest());
        let brought = self.bring(&next).await;
        let stored = match brought {
            Ok(replicas) => self.commit(&next.deployment, found).await.map(|()| replicas),
            Err(fault) => Err(fault),
        };
        match stored {
            Ok(replicas) => {
                self.switch(&next).await?;
                self.refused().remove(app.as_str());
                self.runs(next);
                self.sweep().await;
                Ok(replicas)
            }
            Err(fault) => {
                self.plane.discard(app.to_string()).await.map_err(DeployFault::Gone)?;
                Err(fault)
            }
        }
    }

    /// Starts those versions that do not run. They get no requests yet.
    pub(super) async fn bring(&self, next: &Placed) -> Result<u32, DeployFault> {
        let running = self.running().get(next.deployment.app()).map(Placed::parts).unwrap_or_default();
        let mut replicas = 0;
        for part in next.parts() {
            let runs =
                |other: &&Placed| other.deployment.version == part.deployment.version && other.same_as(&part);
            if running.iter().find(runs).is_none() {
                replicas = self.start(&part).await?.replicas;
            }
        }
        Ok(replicas)
    }

    /// Has those versions answer, and nothing else of the app.
    pub(super) async fn switch(&self, next: &Placed) -> Result<(), DeployFault> {
        let traffic = traffic(&next.deployment);
        self.plane.route(traffic).await.map_err(DeployFault::Gone)?.map_err(DeployFault::Refused)
    }

    /// Brings up what was stored, or the part of it that can be: one version that fails does not take the other with it.
    pub(super) async fn resume(&self, next: Placed) -> Result<u64, DeployFault> {
        let app = next.deployment.app().clone();
        let whole = match self.bring(&next).await {
            Ok(_) => self.switch(&next).await,
            Err(fault) => Err(fault),
        };
        let Err(fault) = whole else {
            let version = next.deployment.version;
            self.runs(next);
            return Ok(version);
        };
        self.plane.discard(app.to_string()).await.map_err(DeployFault::Gone)?;
        if next.deployment.beside.is_some() {
            for part in next.parts() {
                let version = part.deployment.version;
                if self.bring(&part).await.is_ok() && self.switch(&part).await.is_ok() {
                    tracing::warn!(%app, version, %fault, "runs alone, since the version beside it does not start");
                    self.runs(part);
                    break;
                }
                self.plane.discard(app.to_string()).await.map_err(DeployFault::Gone)?;
            }
        }
        Err(fault)
    }

    pub(super) fn refused(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Refusal>> {
        self.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Versions that were refused since their apps were last deployed.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        self.refused().values().cloned().collect()
    }

    // ---- how new versions do ---------------------------------------------------------------------------------

    /// Watches the versions that have a part of the requests, for as long as the node lives: what answers worse than the one
    /// before is undone, and what was watched long enough takes over.
    pub async fn watch(self: Arc<Self>) {
        let mut watched: BTreeMap<AppName, Watched> = BTreeMap::new();
        loop {
            let rollouts = self.rollouts();
            watched.retain(|app, known| {
                rollouts.get(app).is_some_and(|row| row.next().is_some_and(|next| known.is_about(row, next)))
            });
            if rollouts.is_empty() {
                self.rollout_begun.notified().await;
                continue;
            }
            let Ok(figures) = self.plane.versions().await else { return };
            for (app, row) in rollouts {
                let Some(beside) = row.beside.as_deref() else { continue };
                let seen = Seen::of(&figures, &row, &beside.next);
                let known =
                    watched.entry(app.clone()).or_insert_with(|| Watched::new(&row, &beside.next, seen));
                if let Some(change) = known.look(beside, seen) {
                    self.conclude(&app, change).await;
                }
            }
            sleep(ROLLOUT_LOOK).await;
        }
    }

    fn rollouts(&self) -> BTreeMap<AppName, Deployment> {
        let running = self.running();
        let rollouts = running.iter().filter(|(_, placed)| placed.deployment.beside.is_some());
        rollouts.map(|(app, placed)| (app.clone(), placed.deployment.clone())).collect()
    }

    async fn conclude(&self, app: &AppName, change: Change) {
        let told = format!("{change:?}");
        match self.change(app, change.clone()).await {
            Ok(row) => match change {
                Change::Undo { version, why, .. } => {
                    tracing::warn!(%app, version, back_to = row.version, why, "a version is rolled back");
                }
                _ => tracing::info!(%app, version = row.version, "a watched version takes over"),
            },
            // Somebody else was faster: another node, or a person.
            Err(DeployFault::Rollout(_) | DeployFault::NoApp { .. }) => {}
            Err(fault) => {
                tracing::warn!(%app, %fault, change = told, "what a version's answers call for cannot be done yet")
            }
        }
    }
}

/// What the data plane is to be told of a row.
fn traffic(row: &Deployment) -> Traffic {
    let next = row.beside.as_deref().map(|Beside { next, share, sticky, .. }| Next {
        version: next.version,
        share: *share,
        sticky: sticky.clone(),
    });
    Traffic { app: row.app().to_string(), leading: row.version, next }
}

/// What two versions have answered since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    old: Answered,
    new: Answered,
}

impl Seen {
    fn of(figures: &[VersionStatus], row: &Deployment, next: &Deployment) -> Self {
        let answered = |version: u64| {
            let found =
                figures.iter().filter(|figure| figure.app == row.app().as_str() && figure.version == version);
            // One that replaced another of the same number counts on beside it while that drains.
            found.fold(Answered::default(), |sum, figure| Answered {
                requests: sum.requests + figure.requests,
                failures: sum.failures + figure.failures,
            })
        };
        Self { old: answered(row.version), new: answered(next.version) }
    }
}

/// A version under watch.
#[derive(Debug)]
struct Watched {
    versions: (u64, u64),
    /// When counting began, and what had been answered by then.
    since: Instant,
    base: Seen,
}

impl Watched {
    fn new(row: &Deployment, next: &Deployment, seen: Seen) -> Self {
        Self { versions: (row.version, next.version), since: Instant::now(), base: seen }
    }

    fn is_about(&self, row: &Deployment, next: &Deployment) -> bool {
        self.versions == (row.version, next.version)
    }

    fn look(&mut self, beside: &Beside, seen: Seen) -> Option<Change> {
        let window: Duration = beside.rollback.window.duration();
        let terms =
            Terms { errors: beside.rollback.errors.hundredths(), after: u64::from(beside.rollback.after) };
        let new = seen.new.since(self.base.new);
        let mut old = seen.old.since(self.base.old);
        if old.requests < terms.after {
            // It has too few of the requests to compare with: what it answered before counts too.
            old = seen.old;
        }
        let version = self.versions.1;
        if let Verdict::Worse { rate, before } = judge(terms, new, old) {
            let why = format!(
                "{} of {} requests failed ({}.{:02}%) where {}.{:02}% did with version {}, and {} more are allowed",
                new.failures,
                new.requests,
                rate / 100,
                rate % 100,
                before / 100,
                before % 100,
                self.versions.0,
                beside.rollback.errors,
            );
            return Some(Change::Undo { version, why, at_ms: now_ms() });
        }
        if self.since.elapsed() < window {
            return None;
        }
        if beside.takes_over {
            return Some(Change::TakeOver { version });
        }
        // Old failures are forgotten window by window.
        (self.since, self.base) = (Instant::now(), seen);
        None
    }
}

#[cfg(test)]
mod tests;
