//! From what is wanted to what runs.
//!
//! ```text
//!   wanted ─┐
//!           ├─ plan (pure) ─▶ steps ─ execute ─▶ artifacts checked ─▶ data plane ─▶ store ─▶ sweep
//!   actual ─┘
//! ```
//!
//! A version is stored once it is ready, and gets requests once it is stored: what answers and what a restart would bring
//! are the same. In a cluster the same holds of the node that took the deployment: what it stored
//! for all has run there, and the other nodes are led to it by [`Deployer::reconcile`].

mod authority;
mod changes;
mod complete;
mod fault;
mod files;
mod lambda;
mod plan;
mod policies;
mod rollout;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use baton_catalog::{AppName, FunctionName, Manifest, Percent};
use baton_flow::Deployed;

use self::authority::Authority;
pub(crate) use self::authority::Found;
use self::complete::{complete, complete_files};
pub use self::fault::DeployFault;
use self::files::Files;
pub use self::plan::{Placed, Step, plan};
pub use self::policies::PolicyFault;
pub use self::rollout::{Change, RolloutError, Wish};
pub use self::secrets::{SecretChange, SecretFault};
use crate::artifacts::{ArtifactHash, Artifacts};
use crate::bundles::Trees;
use crate::cluster::Cluster;
use crate::limits::UPLOAD_KEPT;
use crate::modules::{Host, Modules};
use crate::plane::Plane;
use crate::protocol::{FailedApp, Refusal};
use crate::store::{Deployment, Made, Store};
use tokio::sync::Notify;

/// What a deployment came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The very same version runs already.
    Unchanged {
        /// Its number.
        version: u64,
    },
    /// The new version runs.
    Running {
        /// Its number.
        version: u64,
        /// Replicas that are ready.
        replicas: u32,
    },
    /// The new version runs, and the one before it does too.
    Beside {
        /// Its number.
        version: u64,
        /// Replicas that are ready.
        replicas: u32,
        /// The version before.
        before: u64,
        /// The new one's part of the requests.
        share: Percent,
    },
}

/// A version as it is handed in.
#[derive(Clone, Debug)]
pub struct Submission {
    /// What the app declares.
    pub manifest: Manifest,
    /// The artifact of each function.
    pub artifacts: BTreeMap<FunctionName, ArtifactHash>,
    /// The bundle of files of each function that has any.
    pub files: BTreeMap<FunctionName, ArtifactHash>,
    /// How it is to take over.
    pub wish: Wish,
    /// Who hands it in.
    pub by: String,
}

impl Submission {
    /// A version that takes over as its manifest says.
    #[must_use]
    pub fn new(
        manifest: Manifest,
        artifacts: BTreeMap<FunctionName, ArtifactHash>,
        files: BTreeMap<FunctionName, ArtifactHash>,
    ) -> Self {
        Self { manifest, artifacts, files, wish: Wish::default(), by: String::new() }
    }
}

/// What became of a stored app at the start of a node.
#[derive(Debug)]
pub struct Restored {
    /// The app.
    pub app: String,
    /// The version that runs, or why none does.
    pub result: Result<u64, DeployFault>,
}

/// Deploys, removes and restores apps, one at a time.
pub struct Deployer {
    plane: Arc<dyn Plane>,
    files: Arc<Files>,
    authority: Authority,
    /// Held for the whole of a change, so that changes come one after the other.
    change: tokio::sync::Mutex<()>,
    /// What runs. Written by who holds `change`.
    running: Mutex<BTreeMap<AppName, Placed>>,
    /// Stored apps that do not run.
    failed: Mutex<BTreeMap<String, String>>,
    /// The last version of each app that was refused, for as long as no other one was deployed.
    refused: Mutex<BTreeMap<String, Refusal>>,
    /// Told when a version begins to have a part of the requests.
    rollout_begun: Notify,
}

impl fmt::Debug for Deployer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployer").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Deployer {
    /// A deployer over what is stored; nothing runs yet.
    #[must_use]
    pub fn new(
        plane: Arc<dyn Plane>,
        store: Store,
        artifacts: Arc<Artifacts>,
        trees: Trees,
        modules: Modules,
    ) -> Self {
        let files = Arc::new(Files { store, artifacts, trees, modules: Arc::new(modules) });
        let (change, running, failed, refused) = Default::default();
        let (authority, rollout_begun) = (Authority::Own, Notify::new());
        Self { plane, files, authority, change, running, failed, refused, rollout_begun }
    }

    /// Leaves it to a cluster what is deployed.
    #[must_use]
    pub fn in_cluster(self, cluster: Arc<Cluster>) -> Self {
        Self { authority: Authority::Cluster(cluster), ..self }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<AppName, Placed>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What runs, and what of it is hosted here.
    #[must_use]
    pub fn placed(&self) -> BTreeMap<AppName, Placed> {
        self.running().clone()
    }

    /// The version of an app that runs.
    #[must_use]
    pub fn leading(&self, app: &str) -> Option<Deployment> {
        let running = self.running();
        running.iter().find(|(name, _)| name.as_str() == app).map(|(_, placed)| placed.deployment.clone())
    }

    /// What is asked of an app's manifest, if it runs.
    pub(crate) fn declared<R>(&self, app: &str, ask: impl FnOnce(&Manifest) -> R) -> Option<R> {
        self.running().get(app).map(|placed| ask(&placed.deployment.manifest))
    }

    /// The cluster that this node is in.
    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        match &self.authority {
            Authority::Own => None,
            Authority::Cluster(cluster) => Some(cluster),
        }
    }

    /// Whether this node calls by the clock.
    pub(crate) fn keeps_time(&self) -> bool {
        match &self.authority {
            Authority::Own => true,
            Authority::Cluster(cluster) => cluster.keeps_time(),
        }
    }

    /// What is asked of the manifest of each app that runs, in one list.
    pub(crate) fn all_declared<R>(&self, ask: impl Fn(&AppName, &Manifest) -> Vec<R>) -> Vec<R> {
        self.running().iter().flat_map(|(app, placed)| ask(app, &placed.deployment.manifest)).collect()
    }

    /// The uploaded executables.
    #[must_use]
    pub fn artifacts(&self) -> &Arc<Artifacts> {
        &self.files.artifacts
    }

    /// Stored apps that do not run, and why.
    #[must_use]
    pub fn failed(&self) -> Vec<FailedApp> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.iter().map(|(app, error)| FailedApp { app: app.clone(), error: error.clone() }).collect()
    }

    fn note(&self, app: &str, error: Option<String>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => failed.insert(app.to_owned(), error),
            None => failed.remove(app),
        };
    }

    /// Makes a version of an app run and remembers it.
    ///
    /// # Errors
    /// Artifacts are missing, the data plane refuses, or the disk does; the version before runs on.
    pub async fn deploy(&self, new: Submission) -> Result<Outcome, DeployFault> {
        let Submission { manifest, artifacts, files, wish, by } = new;
        complete(&manifest, &artifacts)?;
        complete_files(&manifest, &files)?;
        let _change = self.change.lock().await;
        let app = manifest.app.name.clone();
        let found = self.find(&app).await?;
        let made = Made { at_ms: changes::now_ms(), by };
        let version = found.version + 1;
        let next = Deployment { made, ..Deployment::new(manifest, version, artifacts, files) };
        let next = self.place(rollout::deployed(found.deployment.as_ref(), next, wish)?);
        self.publish(&next.deployment).await?;
        let newest = next.deployment.next().unwrap_or(&next.deployment).version;
        let is_stored = found.deployment.as_ref().is_some_and(|stored| stored.stands_as(&next.deployment));
        if is_stored && self.running().get(&app).is_some_and(|now| now.same_as(&next)) {
            self.sweep().await;
            return Ok(Outcome::Unchanged { version: newest });
        }
        let beside = next.deployment.beside.as_deref().map(|beside| (next.deployment.version, beside.share));
        let replicas = match self.apply(next, &found).await {
            Ok(replicas) => replicas,
            Err(fault) => {
                if found.deployment.is_some() {
                    let (error, at_ms) = (fault.to_string(), changes::now_ms());
                    let refusal = Refusal { app: app.to_string(), version: newest, error, at_ms };
                    self.refused().insert(app.to_string(), refusal);
                }
                return Err(fault);
            }
        };
        Ok(match beside {
            None => Outcome::Running { version: newest, replicas },
            Some((before, share)) => Outcome::Beside { version: newest, replicas, before, share },
        })
    }

    /// Notes that a version runs.
    fn runs(&self, placed: Placed) {
        let app = placed.deployment.app().clone();
        self.note(app.as_str(), None);
        let is_rollout = placed.deployment.beside.is_some();
        self.running().insert(app, placed);
        if is_rollout {
            self.rollout_begun.notify_one();
        }
    }

    /// Stops an app and forgets it; says whether it was there.
    ///
    /// # Errors
    /// It cannot be forgotten, or the data plane has ended.
    pub async fn remove(&self, app: &str) -> Result<bool, DeployFault> {
        let _change = self.change.lock().await;
        let stored = self.forget(app).await?;
        let ran = self.stop(app).await?;
        self.sweep().await;
        Ok(stored || ran)
    }

    async fn stop(&self, app: &str) -> Result<bool, DeployFault> {
        let ran = self.plane.remove(app.to_owned()).await.map_err(DeployFault::Gone)?;
        self.running().remove(app);
        self.note(app, None);
        Ok(ran)
    }

    /// Starts everything that is stored, but for some apps; one that fails does not stop the others.
    ///
    /// # Errors
    /// The store cannot be read at all.
    pub async fn restore(&self, except: &[AppName]) -> Result<Vec<Restored>, DeployFault> {
        let _change = self.change.lock().await;
        let mut stored = self.blocking(|files| files.store.all().map_err(DeployFault::Store)).await?;
        stored.deployments.retain(|app, _| !except.contains(app));
        let mut done = Vec::new();
        for (app, error) in stored.unreadable {
            self.note(&app, Some(format!("the stored deployment cannot be read: {error}")));
            done.push(Restored { app, result: Err(DeployFault::Unreadable(error)) });
        }
        let place = |(app, deployment)| (app, Placed { deployment, here: None });
        let wanted = stored.deployments.into_iter().map(place).collect();
        let actual = self.placed();
        for step in plan(&wanted, &actual) {
            // What runs without being stored is another call's business.
            let Step::Start(next) = step else { continue };
            let app = next.deployment.app().to_string();
            let result = self.resume(*next).await;
            if let Err(fault) = &result {
                self.note(&app, Some(fault.to_string()));
            }
            done.push(Restored { app, result });
        }
        Ok(done)
    }

    /// Brings what runs here to what the cluster wants here, as it is when its turn comes. What cannot be started is told in
    /// [`failed`](Self::failed), and what ran before in its place runs on; the others are not kept from their change.
    pub async fn reconcile(&self, cluster: &Cluster) -> Vec<Restored> {
        let _change = self.change.lock().await;
        let Some((wanted, unreadable)) = cluster.wanted_here() else { return Vec::new() };
        // First: what starts below may need them.
        let mut done = self.follow_secrets(cluster).await;
        let actual = self.placed();
        let mut changed = false;
        for step in plan(&wanted, &actual) {
            match step {
                // What cannot be read may still be wanted.
                Step::Stop(app) if unreadable.contains_key(app.as_str()) => {}
                Step::Stop(app) => {
                    changed = true;
                    let stopped = self.drop_here(&app).await;
                    if let Err(error) = stopped {
                        tracing::warn!(%app, %error, "an app that was removed is not forgotten here");
                    }
                }
                Step::Start(next) => {
                    changed = true;
                    done.push(self.follow(*next, cluster).await);
                }
            }
        }
        self.failed_now(&wanted, unreadable);
        if changed {
            self.sweep().await;
        }
        done
    }

    /// Stops and forgets an app that the cluster has removed.
    async fn drop_here(&self, app: &AppName) -> Result<(), DeployFault> {
        self.stop(app.as_str()).await?;
        let name = app.to_string();
        self.blocking(move |files| files.store.remove(&name).map_err(DeployFault::Store)).await.map(|_| ())
    }

    /// Starts what the cluster wants here, and keeps it for a start without the cluster.
    async fn follow(&self, next: Placed, cluster: &Cluster) -> Restored {
        let app = next.deployment.app().to_string();
        let run = async {
            cluster.fetch(&self.files.artifacts, next.deployment.named()).await?;
            let version = self.resume(next.clone()).await?;
            let row = next.deployment.clone();
            let kept = self.blocking(move |files| files.store.put(&row).map_err(DeployFault::Store)).await;
            if let Err(error) = kept {
                tracing::warn!(%app, %error, "a version runs and is not kept for the next start");
            }
            Ok(version)
        };
        let result: Result<u64, DeployFault> = run.await;
        match &result {
            Ok(version) => {
                tracing::info!(%app, version, functions = next.hosted().count(), "runs here");
            }
            Err(fault) => self.note(&app, Some(fault.to_string())),
        }
        Restored { app, result }
    }

    /// Forgets failures of apps that nobody wants any more, and tells of those that cannot be read.
    fn failed_now(&self, wanted: &BTreeMap<AppName, Placed>, unreadable: BTreeMap<String, String>) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|app, _| wanted.contains_key(app.as_str()));
        failed.extend(unreadable);
    }

    /// Compiles an uploaded module ahead of its deployment, which then finds it done.
    ///
    /// # Errors
    /// It is not there, or cannot be compiled.
    pub async fn compile(&self, hash: ArtifactHash) -> Result<(), DeployFault> {
        let work = move |files: &Files| {
            let path = files.artifacts.verified(&hash).map_err(DeployFault::Artifacts)?;
            let compiled = |host: Arc<Host>| files.modules.executable(&host, &hash, &path).map(|_| ());
            files.modules.host_of(&path).and_then(compiled).map_err(DeployFault::Compile)
        };
        self.blocking(work).await
    }

    async fn start(&self, next: &Placed) -> Result<Deployed, DeployFault> {
        let next = next.clone();
        if let Authority::Cluster(cluster) = &self.authority {
            // One that was gone back to may never have been here.
            cluster.fetch(&self.files.artifacts, next.deployment.named()).await?;
        }
        let spec = self.blocking(move |files| files.spec(next)).await?;
        self.plane.prepare(spec).await.map_err(DeployFault::Gone)?.map_err(DeployFault::Refused)
    }

    /// Removes artifacts that nothing names. A failure costs disk space only, so it is logged and no more.
    async fn sweep(&self) {
        let running = self.placed();
        let named = running.values().flat_map(|placed| placed.deployment.named());
        let mut named: BTreeSet<ArtifactHash> = named.collect();
        let sweep = move |files: &Files| {
            let stored = files.store.all().map_err(DeployFault::Store)?;
            if !stored.unreadable.is_empty() || !stored.is_whole {
                // What those rows name cannot be known.
                return Ok(0);
            }
            named.extend(stored.deployments.values().flat_map(Deployment::named));
            named.extend(stored.named);
            files.trees.sweep(&named).map_err(DeployFault::Artifacts)?;
            files.modules.sweep(&named, UPLOAD_KEPT).map_err(DeployFault::Artifacts)?;
            files.artifacts.sweep(&named).map_err(DeployFault::Artifacts)
        };
        if let Err(error) = self.blocking(sweep).await {
            tracing::warn!(%error, "artifacts that nothing names stay on the disk");
        }
    }

    /// Runs file work off the control thread.
    async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<R, DeployFault> + Send + 'static,
    ) -> Result<R, DeployFault> {
        let files = Arc::clone(&self.files);
        match tokio::task::spawn_blocking(move || work(&files)).await {
            Ok(result) => result,
            Err(join) if join.is_panic() => std::panic::resume_unwind(join.into_panic()),
            Err(_) => Err(DeployFault::Ending),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
