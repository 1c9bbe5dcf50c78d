//! Secrets of a cluster: sealed rows in its store. Every node that has the cluster's key keeps what they hold in its own store,
//! sealed with its own key, and gives it to functions from there.
//!
//! ```text
//!   node a: set ─▶ own store ─▶ start with it ─▶ secret.APP.NAME {revision, sealed with --cluster-secrets} ─▶ switch
//!                                                          │ follow
//!   node b:                       own store ◀── open ◀─────┘ ─▶ start with it ─▶ switch
//! ```
//!
//! The key is in no bucket: who reads the servers' disks reads sealed values. A sealed value is bound to the cluster, the app,
//! its name and its revision.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use baton_catalog::{AppName, SecretName};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::ClusterError;
use super::{Cluster, about};
use crate::secrets::{SealKey, SecretError, SecretValue, Stamp};

/// What begins the key of a secret.
pub(super) const SECRET: &str = "secret.";

/// A secret as it lies in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedSecret {
    pub(crate) revision: u64,
    pub(crate) set_ms: u64,
    sealed: String,
}

/// A secret that is about to be changed for all nodes.
#[derive(Clone, Debug)]
pub(crate) struct Sharing {
    /// What is there.
    pub(crate) row: Option<SharedSecret>,
    /// What the store wants to see to let it be replaced.
    at: u64,
}

/// The secrets of all apps.
pub(crate) type SharedSecrets = BTreeMap<(AppName, SecretName), SharedSecret>;

/// The key of a secret's row.
pub(super) fn key_of((app, name): &(AppName, SecretName)) -> String {
    format!("{SECRET}{app}.{name}")
}

/// The secret that a row's key names.
pub(super) fn named(key: &str) -> Option<(AppName, SecretName)> {
    let (app, name) = key.strip_prefix(SECRET)?.split_once('.')?;
    Some((AppName::new(app).ok()?, SecretName::new(name).ok()?))
}

impl Cluster {
    fn bound_to(&self, app: &AppName, name: &SecretName, revision: u64) -> Vec<u8> {
        let cluster = &self.options.cluster;
        format!("baton cluster secret 1\0{cluster}\0{app}/{name}\0{revision}").into_bytes()
    }

    fn seal_key(&self) -> Option<&SealKey> {
        self.secrets_key.as_ref()
    }

    /// Whether this node has the key of the cluster's secrets.
    pub(crate) fn shares_secrets(&self) -> bool {
        self.secrets_key.is_some()
    }

    /// What all nodes have of a secret, from the store itself.
    pub(crate) async fn find_secret(&self, place: &(AppName, SecretName)) -> Result<Sharing, ClusterError> {
        let entry = self.bus.read(&self.bus.buckets().await?.wanted, &key_of(place)).await?;
        let row = entry.value.as_ref().and_then(|value| serde_json::from_slice(value).ok());
        Ok(Sharing { row, at: entry.revision })
    }

    /// Gives all nodes a value, or takes it from them (`None`), if it is still as it was found.
    pub(crate) async fn commit_secret(
        &self,
        place: &(AppName, SecretName),
        next: Option<(&SecretValue, Stamp)>,
        found: &Sharing,
    ) -> Result<(), ClusterError> {
        let (app, name) = place;
        let next = match next {
            None => None,
            Some((value, Stamp { revision, set_ms, .. })) => {
                let key = self.seal_key().ok_or(ClusterError::NoSecretsKey)?;
                let sealed = key.seal(&self.bound_to(app, name, revision), value.bytes());
                let sealed = sealed.ok_or(ClusterError::NotSealed)?;
                Some(SharedSecret { revision, set_ms, sealed })
            }
        };
        let row = next.as_ref().map(serde_json::to_vec).transpose().map_err(ClusterError::Encode)?;
        let store = self.bus.buckets().await?.wanted;
        let written = self.bus.write(&store, &key_of(place), row.map(Bytes::from), found.at).await;
        let revision = written.map_err(|error| about(error, format!("secret {name} of app {app}")))?;
        self.amend(revision, |wanted| match next {
            Some(row) => drop(wanted.secrets.insert(place.clone(), row)),
            None => drop(wanted.secrets.remove(place)),
        });
        Ok(())
    }

    /// What all nodes shall have; `None` until the store was read, and where this node has no key.
    pub(crate) fn shared_secrets(&self) -> Option<SharedSecrets> {
        let wanted = self.wanted.borrow();
        wanted.known?;
        if self.secrets_key.is_some() {
            return Some(wanted.secrets.clone());
        }
        if !wanted.secrets.is_empty() && !self.is_told_of_secrets.swap(true, Ordering::Relaxed) {
            tracing::warn!("{}", ClusterError::NoSecretsKey);
        }
        None
    }

    /// The value of a secret, if this node's key opens it.
    pub(crate) fn open_secret(
        &self,
        (app, name): &(AppName, SecretName),
        row: &SharedSecret,
    ) -> Result<SecretValue, SecretError> {
        let unreadable = || SecretError::OtherKey { app: app.to_string(), name: name.to_string() };
        let key = self.seal_key().ok_or_else(unreadable)?;
        let opened = key.open(&self.bound_to(app, name, row.revision), &row.sealed);
        // What no function can have was not sealed by a node.
        SecretValue::new(opened.ok_or_else(unreadable)?.to_vec()).map_err(|_| unreadable())
    }
}
