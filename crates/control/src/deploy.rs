//! From what is wanted to what runs.
//!
//! ```text
//!   wanted ─┐
//!           ├─ plan (pure) ─▶ steps ─ execute ─▶ artifacts checked ─▶ data plane ─▶ store ─▶ sweep
//!   actual ─┘
//! ```
//!
//! A version is stored once it runs. If storing fails, the version before is brought back, so that what runs and
//! what a restart would bring are the same.

mod complete;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use baton_catalog::{AppName, ByteSize, Fallback, Function, FunctionName, Isolation, Manifest};
use baton_cell::bundle::{Bundle, BundleError};
use baton_flow::{AppSpec, BundledFiles, DeployError, Deployed, PlaneGone};

use self::complete::{complete, complete_files, misfit};
pub use self::plan::{Step, plan};
use crate::artifacts::{ArtifactError, ArtifactHash, Artifacts, VetError, vet};
use crate::bundles::Trees;
use crate::limits::UPLOAD_KEPT;
use crate::modules::{Executable, Host, ModuleError, Modules};
use crate::plane::Plane;
use crate::protocol::FailedApp;
use crate::store::{Deployment, Store, StoreError};

/// Why an app was not deployed or removed.
#[derive(Debug)]
pub enum DeployFault {
    /// No artifact is given for a function.
    NoArtifact {
        /// The function.
        function: FunctionName,
    },
    /// An artifact is given for a function that the manifest does not know.
    StrayArtifact {
        /// The function.
        function: FunctionName,
    },
    /// No bundle is given for a function that has files.
    NoFiles {
        /// The function.
        function: FunctionName,
    },
    /// A bundle is given for a function that has no files, or that the manifest does not know.
    StrayFiles {
        /// The function.
        function: FunctionName,
    },
    /// What was given as a bundle is none.
    Files {
        /// The function.
        function: FunctionName,
        /// What is wrong with it.
        source: BundleError,
    },
    /// An artifact is not there or not as it should be.
    Artifact {
        /// The function.
        function: FunctionName,
        /// What is wrong with it.
        source: ArtifactError,
    },
    /// An artifact is for a compartment and holds what no compartment may run.
    Unfit {
        /// The function.
        function: FunctionName,
        /// What it holds.
        source: VetError,
    },
    /// An artifact is for Wasm and cannot be run as a module.
    Module {
        /// The function.
        function: FunctionName,
        /// Why.
        source: ModuleError,
    },
    /// A module that no deployment names yet cannot be compiled.
    Compile(ModuleError),
    /// A module begins with more memory than its function may have.
    ModuleMemory {
        /// The function.
        function: FunctionName,
        /// What it begins with.
        needed: ByteSize,
        /// What it may have.
        memory: ByteSize,
    },
    /// A setting is for another kind of Wasm function.
    ModuleSetting {
        /// The function.
        function: FunctionName,
        /// What cannot be, and what to do.
        why: &'static str,
    },
    /// The data plane did not start it.
    Refused(DeployError),
    /// The data plane has ended.
    Gone(PlaneGone),
    /// It could not be stored; the version before runs again.
    Store(StoreError),
    /// The directory of artifacts cannot be used.
    Artifacts(ArtifactError),
    /// The row in the store cannot be read.
    Unreadable(serde_json::Error),
    /// The node is going down.
    Ending,
}

impl fmt::Display for DeployFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoArtifact { function } => write!(f, "function {function} has no artifact"),
            Self::StrayArtifact { function } => {
                write!(f, "there is an artifact for {function}, which the manifest does not declare")
            }
            Self::NoFiles { function } => write!(f, "function {function} has files, and no bundle of them"),
            Self::StrayFiles { function } => {
                write!(f, "there is a bundle of files for {function}, for which the manifest declares none")
            }
            Self::Files { function, source } => write!(f, "the files of function {function}: {source}"),
            Self::Artifact { function, source } => write!(f, "function {function}: {source}"),
            Self::Unfit { function, source } => write!(f, "function {function}: {source}"),
            Self::Module { function, source } => write!(f, "function {function}: {source}"),
            Self::Compile(source) => write!(f, "{source}"),
            Self::ModuleMemory { function, needed, memory } => write!(
                f,
                "function {function}: its module begins with {needed} of memory, and `memory` is {memory}: raise it"
            ),
            Self::ModuleSetting { function, why } => write!(f, "function {function}: {why}"),
            Self::Refused(source) => write!(f, "{source}"),
            Self::Gone(source) => write!(f, "{source}"),
            Self::Store(source) => write!(f, "{source}"),
            Self::Artifacts(source) => write!(f, "{source}"),
            Self::Unreadable(source) => write!(f, "the stored deployment cannot be read: {source}"),
            Self::Ending => f.write_str("the node is shutting down"),
        }
    }
}

impl std::error::Error for DeployFault {}

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
    /// What runs. Locked for the whole of a change, so that changes come one after the other.
    running: tokio::sync::Mutex<BTreeMap<AppName, Deployment>>,
    /// Stored apps that do not run.
    failed: Mutex<BTreeMap<String, String>>,
}

impl fmt::Debug for Deployer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployer").field("files", &self.files).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Files {
    store: Store,
    artifacts: Arc<Artifacts>,
    trees: Trees,
    modules: Arc<Modules>,
}

impl Files {
    /// A deployment with its artifacts checked, and those for compartments vetted. Whether this machine has what
    /// compartments need does not matter: the same app is fit everywhere or nowhere.
    fn spec(&self, deployment: Deployment) -> Result<AppSpec, DeployFault> {
        let files = self.files(&deployment)?;
        self.compile_missing(&deployment);
        let (mut artifacts, mut hosts, mut patches) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (function, hash) in deployment.artifacts {
            let unusable = |source| DeployFault::Artifact { function: function.clone(), source };
            let path = self.artifacts.verified(&hash).map_err(unusable)?;
            let spec = deployment.manifest.functions.get(&function);
            let (path, vetted) = match (spec, spec.map(|spec| spec.isolation)) {
                (_, Some(Isolation::Compartment)) => {
                    let vetted = vet(&self.artifacts.read(&hash).map_err(unusable)?);
                    (path, Some(vetted.map(|vetted| vetted.patches)))
                }
                (Some(spec), Some(Isolation::Wasm)) => {
                    let (host, executable) = self.module((&function, spec), &hash, &path)?;
                    let patches = host.patches_with(&executable.bytes);
                    hosts.insert(function.clone(), host);
                    (executable.path, Some(patches))
                }
                _ => (path, None),
            };
            if let Some(vetted) = vetted {
                let vetted =
                    vetted.map_err(|source| DeployFault::Unfit { function: function.clone(), source })?;
                patches.insert(function.clone(), vetted);
            }
            artifacts.insert(function, path);
        }
        let Deployment { manifest, version, .. } = deployment;
        self.keep_hosts(&hosts)?;
        let hosts = hosts.into_iter().map(|(function, host)| (function, host.path.clone())).collect();
        Ok(AppSpec { manifest, version, artifacts, hosts, patches, files, here: None })
    }

    /// Sees to it that the programs of Wasm functions are where cells will look for them.
    fn keep_hosts(&self, hosts: &BTreeMap<FunctionName, Arc<Host>>) -> Result<(), DeployFault> {
        let mut seen = BTreeSet::new();
        for (function, host) in hosts {
            if seen.insert(&host.path) {
                let failed = |source| DeployFault::Module { function: function.clone(), source };
                self.modules.keep_host(host).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Compiles the modules of a deployment that are missing, several at once.
    fn compile_missing(&self, deployment: &Deployment) {
        let is_module = |name: &FunctionName| {
            deployment.manifest.functions.get(name).is_some_and(|spec| spec.isolation == Isolation::Wasm)
        };
        let hashes = deployment.artifacts.iter().filter(|(name, _)| is_module(name)).map(|(_, hash)| *hash);
        let hashes: BTreeSet<ArtifactHash> = hashes.collect();
        let found = |hash: ArtifactHash| {
            let path = self.artifacts.verified(&hash).ok()?;
            Some((self.modules.host_of(&path).ok()?, hash, path))
        };
        self.modules.compile_missing(&hashes.into_iter().filter_map(found).collect::<Vec<_>>());
    }

    /// The executable of a Wasm function, and the program in which it goes on.
    fn module(
        &self,
        (function, spec): (&FunctionName, &Function),
        hash: &ArtifactHash,
        module: &Path,
    ) -> Result<(Arc<Host>, Executable), DeployFault> {
        let failed = |source| DeployFault::Module { function: function.clone(), source };
        let host = self.modules.host_of(module).map_err(failed)?;
        let executable = self.modules.executable(&host, hash, module).map_err(failed)?;
        let header = &executable.header;
        if let Some(why) = misfit(header.kind, spec) {
            return Err(DeployFault::ModuleSetting { function: function.clone(), why });
        }
        if header.memory_bytes > spec.memory.bytes() {
            return Err(DeployFault::ModuleMemory {
                function: function.clone(),
                needed: ByteSize::from_bytes(header.memory_bytes),
                memory: spec.memory,
            });
        }
        Ok((host, executable))
    }

    /// The checked bundles of a deployment, unpacked for functions that may run as processes.
    fn files(&self, deployment: &Deployment) -> Result<BTreeMap<FunctionName, BundledFiles>, DeployFault> {
        let mut files = BTreeMap::new();
        for (function, hash) in &deployment.files {
            let unusable = |source| DeployFault::Artifact { function: function.clone(), source };
            let path = self.artifacts.verified(hash).map_err(unusable)?;
            let bytes = self.artifacts.read(hash).map_err(unusable)?;
            let no_bundle = |source| DeployFault::Files { function: function.clone(), source };
            let bundle = Bundle::parse(&bytes).map_err(no_bundle)?;
            let spec = deployment.manifest.functions.get(function);
            let in_cells_only =
                spec.is_some_and(|spec| spec.wants_cell() && spec.fallback == Fallback::Refuse);
            let unpack = || self.trees.tree(hash, bundle).map_err(unusable);
            let tree = if in_cells_only { None } else { Some(unpack()?) };
            files.insert(function.clone(), BundledFiles { bundle: path, tree });
        }
        Ok(files)
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
        Self { plane, files, running: tokio::sync::Mutex::default(), failed: Mutex::default() }
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
    pub async fn deploy(
        &self,
        manifest: Manifest,
        artifacts: BTreeMap<FunctionName, ArtifactHash>,
        files: BTreeMap<FunctionName, ArtifactHash>,
    ) -> Result<Outcome, DeployFault> {
        complete(&manifest, &artifacts)?;
        complete_files(&manifest, &files)?;
        let mut running = self.running.lock().await;
        let app = manifest.app.name.clone();
        let stored = self.blocking(|files| files.store.all().map_err(DeployFault::Store)).await?;
        let before = running.get(&app).or_else(|| stored.deployments.get(&app));
        let mut next = Deployment { manifest, version: 1, artifacts, files };
        if let Some(before) = before {
            next.version = before.version + u64::from(!before.same_as(&next));
        }
        let version = next.version;
        let wanted = BTreeMap::from([(app.clone(), next)]);
        let actual = running.get(&app).map(|now| (app.clone(), now.clone())).into_iter().collect();
        let Some(Step::Start(next)) = plan(&wanted, &actual).into_iter().next() else {
            self.sweep(&running).await;
            return Ok(Outcome::Unchanged { version });
        };
        let deployed = self.start(&next).await?;
        let row = next.clone();
        if let Err(fault) =
            self.blocking(move |files| files.store.put(&row).map_err(DeployFault::Store)).await
        {
            self.bring_back(running.get(&app), &app).await;
            return Err(fault);
        }
        running.insert(app.clone(), next);
        self.note(app.as_str(), None);
        self.sweep(&running).await;
        Ok(Outcome::Running { version, replicas: deployed.replicas })
    }

    /// Stops an app and forgets it; says whether it was there.
    ///
    /// # Errors
    /// It cannot be forgotten, or the data plane has ended.
    pub async fn remove(&self, app: &str) -> Result<bool, DeployFault> {
        let mut running = self.running.lock().await;
        let name = app.to_owned();
        let stored =
            self.blocking(move |files| files.store.remove(&name).map_err(DeployFault::Store)).await?;
        let ran = self.plane.remove(app.to_owned()).await.map_err(DeployFault::Gone)?;
        running.remove(app);
        self.note(app, None);
        self.sweep(&running).await;
        Ok(stored || ran)
    }

    /// Starts everything that is stored, but for some apps; one that fails does not stop the others.
    ///
    /// # Errors
    /// The store cannot be read at all.
    pub async fn restore(&self, except: &[AppName]) -> Result<Vec<Restored>, DeployFault> {
        let mut running = self.running.lock().await;
        let mut stored = self.blocking(|files| files.store.all().map_err(DeployFault::Store)).await?;
        stored.deployments.retain(|app, _| !except.contains(app));
        let mut done = Vec::new();
        for (app, error) in stored.unreadable {
            self.note(&app, Some(format!("the stored deployment cannot be read: {error}")));
            done.push(Restored { app, result: Err(DeployFault::Unreadable(error)) });
        }
        for step in plan(&stored.deployments, &running) {
            // What runs without being stored is another call's business.
            let Step::Start(next) = step else { continue };
            let result = self.start(&next).await.map(|deployed| deployed.version);
            self.note(next.app().as_str(), result.as_ref().err().map(ToString::to_string));
            done.push(Restored { app: next.app().to_string(), result });
            if done.last().is_some_and(|restored| restored.result.is_ok()) {
                running.insert(next.app().clone(), next);
            }
        }
        Ok(done)
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

    async fn start(&self, next: &Deployment) -> Result<Deployed, DeployFault> {
        let deployment = next.clone();
        let spec = self.blocking(move |files| files.spec(deployment)).await?;
        self.plane.deploy(spec).await.map_err(DeployFault::Gone)?.map_err(DeployFault::Refused)
    }

    /// After a version that runs could not be stored.
    async fn bring_back(&self, before: Option<&Deployment>, app: &AppName) {
        let result = match before {
            Some(before) => self.start(before).await.map(|_| ()),
            None => self.plane.remove(app.to_string()).await.map(|_| ()).map_err(DeployFault::Gone),
        };
        if let Err(error) = result {
            tracing::error!(%app, %error, "the version before does not run again");
        }
    }

    /// Removes artifacts that nothing names. A failure costs disk space only, so it is logged and no more.
    async fn sweep(&self, running: &BTreeMap<AppName, Deployment>) {
        let mut named: BTreeSet<ArtifactHash> = running.values().flat_map(Deployment::named).collect();
        let sweep = move |files: &Files| {
            let stored = files.store.all().map_err(DeployFault::Store)?;
            if !stored.unreadable.is_empty() {
                // What those rows name cannot be known.
                return Ok(0);
            }
            named.extend(stored.deployments.values().flat_map(Deployment::named));
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
