//! Secrets of apps that run: who is granted which, and what is done when a value changes.
//!
//! A new value reaches running apps at once: every version that is granted the secret is started anew beside itself, and the
//! requests are switched to it when it is ready, as at a deployment. A version that does not start with the new value keeps the old one, which
//! is stored again: what is stored is what ran.
//!
//! In a cluster whose secrets are sealed with one key, the node that is told a value starts with it, shares it, and switches; the
//! others follow as they follow deployments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use baton_catalog::{AppName, FunctionName, Manifest, SecretName};
use baton_flow::SecretEnv;

use super::{Authority, DeployFault, Deployer, Placed, Restored, changes};
use crate::cluster::{Cluster, SharedSecret, SharedSecrets};
use crate::secrets::{Known, SecretError, SecretReport, SecretValue, Stamp, place as place_of};
use crate::store::Store;

/// What came of setting a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretChange {
    /// Counts the values that it has had.
    pub revision: u64,
    /// Whether it is another value than before.
    pub changed: bool,
    /// Whether an app was started with it.
    pub started: bool,
    /// Whether all nodes of a cluster have it, or will have it in a moment.
    pub shared: bool,
}

/// Why a secret was not set or removed.
#[derive(Debug)]
pub enum SecretFault {
    /// It cannot be sealed, stored or read.
    Secret(SecretError),
    /// The app does not start with the new value, or it cannot be shared; the one before holds.
    Refused(DeployFault),
    /// Functions that run are granted it.
    InUse {
        /// The functions.
        functions: Vec<String>,
    },
}

impl From<DeployFault> for SecretFault {
    fn from(fault: DeployFault) -> Self {
        Self::Refused(fault)
    }
}

impl Known {
    /// Whether it is what the cluster has.
    fn is_of(&self, row: &SharedSecret) -> bool {
        self.is_shared && (self.revision, self.set_ms) == (row.revision, row.set_ms)
    }
}

impl From<SecretError> for SecretFault {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

impl Deployer {
    /// Sets a secret of an app, on this node or, where the cluster's secrets are sealed with one key, on all of them; and starts what
    /// is granted it anew.
    ///
    /// # Errors
    /// [`SecretFault`]; then the value of before holds, where there was one.
    pub async fn set_secret(
        &self,
        app: AppName,
        name: SecretName,
        value: SecretValue,
    ) -> Result<SecretChange, SecretFault> {
        let _change = self.change.lock().await;
        let place = (app, name);
        let store = &self.files.store;
        let known = store.known_secret(&place.0, &place.1)?;
        let cluster = self.sharing();
        let found = match cluster {
            Some(cluster) => Some(cluster.find_secret(&place).await.map_err(DeployFault::Cluster)?),
            None => None,
        };
        let there = found.as_ref().and_then(|found| found.row.as_ref());
        let is_same = known.value.as_ref().is_some_and(|known| known.as_slice() == value.bytes());
        let is_everywhere = cluster.is_none() || there.is_some_and(|row| known.is_of(row));
        if is_same && is_everywhere {
            let shared = cluster.is_some();
            return Ok(SecretChange { revision: known.revision, changed: false, started: false, shared });
        }
        let revision = known.revision.max(there.map_or(0, |row| row.revision)) + 1;
        let stamp = Stamp { revision, set_ms: changes::now_ms(), is_shared: cluster.is_some() };
        let share = async {
            match (cluster, &found) {
                (Some(cluster), Some(found)) => {
                    let next = Some((&value, stamp));
                    cluster.commit_secret(&place, next, found).await.map_err(DeployFault::Cluster)
                }
                _ => Ok(()),
            }
        };
        let started = Box::pin(self.turn(&place, (&value, stamp), is_same, share)).await?;
        Ok(SecretChange { revision, changed: !is_same, started, shared: stamp.is_shared })
    }

    /// The cluster, if its secrets are sealed with a key that this node has.
    fn sharing(&self) -> Option<&Arc<Cluster>> {
        self.cluster().filter(|cluster| cluster.shares_secrets())
    }

    /// Keeps a value, starts with it what is granted it, and has it shared; if one of that fails, the value of before holds.
    async fn turn(
        &self,
        place: &(AppName, SecretName),
        (value, stamp): (&SecretValue, Stamp),
        is_same: bool,
        share: impl Future<Output = Result<(), DeployFault>>,
    ) -> Result<bool, SecretFault> {
        let (app, name) = place;
        let key = place_of(app, name);
        let before = self.files.store.secret_row(&key).map_err(SecretError::Store)?;
        self.files.store.seal_secret(app, name, value, stamp)?;
        let turned = match is_same {
            true => share.await.map(|()| false),
            false => self.start_with(app, name, share).await,
        };
        turned.map_err(|fault| {
            // A row that could not be read is no loss.
            let row = before.flatten();
            if let Err(error) = self.files.store.put_secret(&key, row.as_ref()) {
                tracing::error!(%app, %name, %error, "the former value of a secret cannot be put back");
            }
            SecretFault::Refused(fault)
        })
    }

    /// Starts an app anew that runs and is granted the secret, or that could not be started before; says whether it did. Requests
    /// are switched to it once the value is shared.
    async fn start_with(
        &self,
        app: &AppName,
        name: &SecretName,
        share: impl Future<Output = Result<(), DeployFault>>,
    ) -> Result<bool, DeployFault> {
        let running = self.running().get(app).cloned();
        let Some(placed) = running else {
            share.await?;
            self.start_failed(app).await;
            return Ok(false);
        };
        if holders(&placed, name).is_empty() {
            share.await?;
            return Ok(false);
        }
        let brought = async {
            for part in placed.parts() {
                self.start(&part).await?;
            }
            share.await?;
            self.switch(&placed).await
        };
        if let Err(fault) = brought.await {
            self.plane.discard(app.to_string()).await.map_err(DeployFault::Gone)?;
            return Err(fault);
        }
        tracing::info!(%app, %name, "started anew with a new value of a secret");
        Ok(true)
    }

    /// Brings the cluster's secrets to this node, and starts anew what is granted one that changed. Tells what could not be done:
    /// that app runs on with the value of before.
    pub(super) async fn follow_secrets(&self, cluster: &Cluster) -> Vec<Restored> {
        let Some(shared) = cluster.shared_secrets() else { return Vec::new() };
        let mut done = Vec::new();
        for (place, row) in &shared {
            let (app, name) = place;
            let followed = self.follow_secret(cluster, place, row).await;
            let fault = match followed {
                Ok(true) => {
                    tracing::info!(%app, %name, revision = row.revision, "has the cluster's value of a secret");
                    // What kept it from its change may be over.
                    self.note(app.as_str(), None);
                    continue;
                }
                Ok(false) => continue,
                Err(SecretFault::Refused(fault)) => fault,
                Err(SecretFault::Secret(source)) => DeployFault::Shared(source),
                Err(SecretFault::InUse { .. }) => continue,
            };
            self.note(app.as_str(), Some(fault.to_string()));
            done.push(Restored { app: app.to_string(), result: Err(fault) });
        }
        if let Err(error) = self.drop_secrets(&shared) {
            tracing::warn!(%error, "secrets that the cluster has no more are not forgotten here");
        }
        done
    }

    /// Takes over a secret of the cluster's, if it is another than is here; says whether it is.
    async fn follow_secret(
        &self,
        cluster: &Cluster,
        place: &(AppName, SecretName),
        row: &SharedSecret,
    ) -> Result<bool, SecretFault> {
        let known = self.files.store.known_secret(&place.0, &place.1)?;
        if known.is_of(row) && known.value.is_some() {
            return Ok(false);
        }
        let value = cluster.open_secret(place, row)?;
        let is_same = known.value.is_some_and(|known| known.as_slice() == value.bytes());
        let stamp = Stamp { revision: row.revision, set_ms: row.set_ms, is_shared: true };
        Box::pin(self.turn(place, (&value, stamp), is_same, std::future::ready(Ok(())))).await?;
        Ok(true)
    }

    /// Forgets the cluster's secrets that it has no more.
    fn drop_secrets(&self, shared: &SharedSecrets) -> Result<(), SecretError> {
        for (key, row) in self.files.store.secret_rows()? {
            let place = key
                .split_once('/')
                .and_then(|(app, name)| Some((AppName::new(app).ok()?, SecretName::new(name).ok()?)));
            let is_gone = place.is_some_and(|place| !shared.contains_key(&place));
            if is_gone && row.is_some_and(|row| row.shared) {
                self.files.store.put_secret(&key, None)?;
            }
        }
        Ok(())
    }

    /// An app that is stored and does not run may have waited for this secret. In a cluster its turn comes by itself.
    async fn start_failed(&self, app: &AppName) {
        let waits = self.failed().iter().any(|failed| failed.app == app.as_str());
        if !waits || !matches!(self.authority, Authority::Own) {
            return;
        }
        let Ok(Some(deployment)) = self.find(app).await.map(|found| found.deployment) else { return };
        if let Err(fault) = self.resume(Placed { deployment, here: None }).await {
            self.note(app.as_str(), Some(fault.to_string()));
        }
    }

    /// Removes a secret that nothing is granted.
    ///
    /// # Errors
    /// [`SecretFault`].
    pub async fn remove_secret(&self, app: &AppName, name: &SecretName) -> Result<(), SecretFault> {
        let _change = self.change.lock().await;
        let functions = self.running().get(app).map(|placed| holders(placed, name)).unwrap_or_default();
        if !functions.is_empty() {
            return Err(SecretFault::InUse { functions });
        }
        if let Some(cluster) = self.sharing() {
            let place = (app.clone(), name.clone());
            let found = cluster.find_secret(&place).await.map_err(DeployFault::Cluster)?;
            if found.row.is_some() {
                cluster.commit_secret(&place, None, &found).await.map_err(DeployFault::Cluster)?;
                // It may not have come here yet.
                self.files.store.put_secret(&place_of(app, name), None).map_err(SecretError::Store)?;
                return Ok(());
            }
        }
        Ok(self.files.store.remove_secret(app, name)?)
    }

    /// All secrets of this node, and which functions that run are granted them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn secrets(&self) -> Result<Vec<SecretReport>, SecretError> {
        let mut secrets = self.files.store.secrets()?;
        let running = self.running();
        for secret in &mut secrets {
            let placed = running.iter().find(|(app, _)| app.as_str() == secret.app).map(|(_, placed)| placed);
            if let (Some(placed), Ok(name)) = (placed, SecretName::new(&secret.name)) {
                secret.granted_to = holders(placed, &name);
            }
        }
        Ok(secrets)
    }
}

/// The functions of an app that are granted a secret, on whichever node and in whichever of its versions.
fn holders(placed: &Placed, name: &SecretName) -> Vec<String> {
    let versions = std::iter::once(&placed.deployment).chain(placed.deployment.next());
    let functions = versions.flat_map(|version| &version.manifest.functions);
    let granted = functions.filter(|(_, function)| function.secrets.values().any(|granted| granted == name));
    let names: BTreeSet<String> = granted.map(|(function, _)| function.to_string()).collect();
    names.into_iter().collect()
}

/// What each function that is hosted here is granted.
pub(super) fn granted(
    store: &Store,
    manifest: &Manifest,
    here: Option<&BTreeSet<FunctionName>>,
) -> Result<BTreeMap<FunctionName, SecretEnv>, DeployFault> {
    let is_here = |name: &FunctionName| here.is_none_or(|here| here.contains(name));
    let mut granted = BTreeMap::new();
    for (function, spec) in manifest.functions.iter().filter(|(name, _)| is_here(name)) {
        let mut env = SecretEnv::default();
        for (variable, name) in &spec.secrets {
            let refused = |source| DeployFault::Secret { function: function.clone(), source };
            env.add(variable.clone(), store.secret(&manifest.app.name, name).map_err(refused)?);
        }
        if !env.is_empty() {
            granted.insert(function.clone(), env);
        }
    }
    Ok(granted)
}
