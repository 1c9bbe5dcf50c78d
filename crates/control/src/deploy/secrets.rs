//! Secrets of apps that run: who is granted which, and what is done when a value changes.
//!
//! A new value reaches running apps at once: every version that is granted the secret is started anew beside itself, and the
//! requests are switched to it when it is ready, as at a deployment. A version that does not start with the new value keeps the old one, which
//! is stored again: what is stored is what ran.

use std::collections::{BTreeMap, BTreeSet};

use baton_catalog::{AppName, FunctionName, Manifest, SecretName};
use baton_flow::SecretEnv;

use super::{Authority, DeployFault, Deployer, Placed, changes};
use crate::secrets::{SecretError, SecretReport, SecretValue, place};
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
}

/// Why a secret was not set or removed.
#[derive(Debug)]
pub enum SecretFault {
    /// It cannot be sealed, stored or read.
    Secret(SecretError),
    /// The app does not start with the new value; the one before holds.
    Refused(DeployFault),
    /// Functions that run are granted it.
    InUse {
        /// The functions.
        functions: Vec<String>,
    },
}

impl From<SecretError> for SecretFault {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

impl Deployer {
    /// Sets a secret of an app, and starts what is granted it anew.
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
        let key = place(&app, &name);
        let before = self.files.store.secret_row(&key).map_err(SecretError::Store)?;
        let (revision, changed) = self.files.store.set_secret(&app, &name, &value, changes::now_ms())?;
        if !changed {
            return Ok(SecretChange { revision, changed, started: false });
        }
        match self.start_with(&app, &name).await {
            Ok(started) => Ok(SecretChange { revision, changed, started }),
            Err(fault) => {
                // A row that could not be read is no loss.
                let row = before.flatten();
                if let Err(error) = self.files.store.put_secret(&key, row.as_ref()) {
                    tracing::error!(%app, %name, %error, "the former value of a secret cannot be put back");
                }
                Err(SecretFault::Refused(fault))
            }
        }
    }

    /// Starts an app anew that runs and is granted the secret, or that could not be started before; says whether it did.
    async fn start_with(&self, app: &AppName, name: &SecretName) -> Result<bool, DeployFault> {
        let running = self.running().get(app).cloned();
        let Some(placed) = running else {
            self.start_failed(app).await;
            return Ok(false);
        };
        if holders(&placed, name).is_empty() {
            return Ok(false);
        }
        let brought = async {
            for part in placed.parts() {
                self.start(&part).await?;
            }
            self.switch(&placed).await
        };
        if let Err(fault) = brought.await {
            self.plane.discard(app.to_string()).await.map_err(DeployFault::Gone)?;
            return Err(fault);
        }
        tracing::info!(%app, %name, "started anew with a new value of a secret");
        Ok(true)
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
