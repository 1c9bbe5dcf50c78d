//! Artifacts on their way to and from the store.
//!
//! One is there before the deployment that names it is, and stays for as long as a kept version names it. What comes back
//! counts only if its bytes have the hash that it is called by.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::object_store::GetErrorKind;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

use super::Cluster;
use super::bus::Bus;
use super::error::{Cause, ClusterError};
use crate::artifacts::{ArtifactError, ArtifactHash, Artifacts, Incoming};
use crate::limits::{BUS_ARTIFACT_WITHIN, BUS_REPLY_WITHIN};

/// Bytes of an artifact that are read at once.
const PIECE_BYTES: usize = 128 << 10;
/// Looks for an artifact that a deployment names: a copy on another server may be a moment behind.
const LOOKS: u32 = 4;
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Cluster {
    /// Brings an artifact to the store unless it is there.
    pub(crate) async fn upload(&self, hash: &ArtifactHash, path: &Path) -> Result<(), ClusterError> {
        self.bus.upload(hash, path).await
    }

    /// Gets those artifacts that are not on this node.
    pub(crate) async fn fetch(
        &self,
        artifacts: &Arc<Artifacts>,
        named: impl Iterator<Item = ArtifactHash>,
    ) -> Result<(), ClusterError> {
        for hash in named {
            let mut looks = 0;
            while !artifacts.contains(&hash) {
                let incoming = artifacts.receive(hash).map_err(ClusterError::Artifact)?;
                looks += 1;
                match self.bus.download(&hash, incoming).await {
                    Err(ClusterError::Absent { .. }) if looks < LOOKS => sleep(LOOK_AGAIN).await,
                    result => result?,
                }
            }
        }
        Ok(())
    }

    /// Removes artifacts that no kept version of a deployed app names, if they are too old to be on their way to one. Says how
    /// many.
    pub(super) async fn sweep_store(&self, older_than: Duration) -> Result<usize, ClusterError> {
        let mut named = BTreeSet::new();
        let apps: Vec<_> = self.wanted.borrow().apps.keys().cloned().collect();
        for app in apps {
            for version in self.versions(&app).await? {
                named.extend(version.deployment.named());
            }
        }
        // What this node cannot read may name anything.
        if !self.wanted.borrow().unreadable.is_empty() {
            return Ok(0);
        }
        self.bus.sweep(&named, older_than).await
    }
}

impl Bus {
    async fn upload(&self, hash: &ArtifactHash, path: &Path) -> Result<(), ClusterError> {
        let store = self.buckets().await?.artifacts;
        let name = hash.to_string();
        if self.within(BUS_REPLY_WITHIN, store.info(&name)).await?.is_ok_and(|info| !info.deleted) {
            return Ok(());
        }
        let failed = |source| ClusterError::File { path: path.to_owned(), source };
        let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
        let sent = self.within(BUS_ARTIFACT_WITHIN, store.put(name.as_str(), &mut file)).await?;
        sent.map(|_| ()).map_err(|error| {
            self.forget_buckets();
            self.unreachable(error)
        })
    }

    /// Gets an artifact. One whose bytes are not what its name says is refused, and removed from the store so that the next
    /// deployment brings it anew.
    async fn download(&self, hash: &ArtifactHash, mut incoming: Incoming) -> Result<(), ClusterError> {
        let store = self.buckets().await?.artifacts;
        let name = hash.to_string();
        let mut object = match self.within(BUS_REPLY_WITHIN, store.get(&name)).await? {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => {
                return Err(ClusterError::Absent { hash: *hash });
            }
            Err(error) => return Err(self.unreachable(error)),
        };
        let read = async {
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                let count = object.read(&mut piece).await.map_err(|error| self.unreachable(error))?;
                let Some(piece) = piece.get(..count).filter(|piece| !piece.is_empty()) else { break };
                incoming.write(piece).map_err(ClusterError::Artifact)?;
            }
            let finished = tokio::task::spawn_blocking(move || incoming.finish().map(|_| ())).await;
            finished.map_err(|error| self.unreachable(error))?.map_err(ClusterError::Artifact)
        };
        let result = self.within(BUS_ARTIFACT_WITHIN, read).await?;
        if let Err(ClusterError::Artifact(ArtifactError::Mismatch { .. })) = &result {
            tracing::error!(%hash, "an artifact in the cluster's store is damaged: it is removed from there");
            let _ = timeout(BUS_REPLY_WITHIN, store.delete(&name)).await;
        }
        result
    }

    async fn sweep(
        &self,
        named: &BTreeSet<ArtifactHash>,
        older_than: Duration,
    ) -> Result<usize, ClusterError> {
        let store = self.buckets().await?.artifacts;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let kept_from = now.saturating_sub(older_than).as_secs();
        let list = async {
            let mut stale = Vec::new();
            let mut objects = store.list().await.map_err(Cause::from)?;
            while let Some(object) = objects.next().await {
                let object = object.map_err(Cause::from)?;
                let modified = object.modified.and_then(|at| u64::try_from(at.unix_timestamp()).ok());
                let is_old = modified.is_some_and(|at| at < kept_from);
                // Other names are not this program's to remove.
                let is_unnamed = object.name.parse().is_ok_and(|hash: ArtifactHash| !named.contains(&hash));
                if is_old && is_unnamed {
                    stale.push(object.name);
                }
            }
            Ok(stale)
        };
        let stale = self.within(BUS_ARTIFACT_WITHIN, list).await?;
        let stale: Vec<String> = stale.map_err(|error: Cause| self.unreachable(error))?;
        for name in &stale {
            let removed = self.within(BUS_REPLY_WITHIN, store.delete(name)).await?;
            removed.map_err(|error| self.unreachable(error))?;
        }
        Ok(stale.len())
    }
}
