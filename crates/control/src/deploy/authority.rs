//! Who decides what is deployed: the node's own store, or its cluster's.

use std::sync::Arc;

use baton_catalog::AppName;

use super::{DeployFault, Deployer, Placed};
use crate::cluster::Cluster;
use crate::store::Deployment;

/// The two seams to the same questions.
pub(super) enum Authority {
    /// The embedded store, which only this node writes.
    Own,
    /// The store of a cluster. The embedded one keeps a copy for the day on which it is away.
    Cluster(Arc<Cluster>),
}

/// What there is of an app.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// What is deployed; `None` if nothing is.
    pub(crate) deployment: Option<Deployment>,
    /// The highest number that a version had.
    pub(crate) version: u64,
    /// What the store wants to see to let it be replaced.
    pub(crate) revision: u64,
}

impl Deployer {
    /// What is deployed of an app.
    pub(super) async fn find(&self, app: &AppName) -> Result<Found, DeployFault> {
        if let Authority::Cluster(cluster) = &self.authority {
            return Ok(cluster.find(app).await?);
        }
        let mut stored = self.blocking(|files| files.store.all().map_err(DeployFault::Store)).await?;
        let running = self.running().get(app).map(|placed| placed.deployment.clone());
        let deployment = running.or_else(|| stored.deployments.remove(app));
        let version = deployment.as_ref().map_or(0, Deployment::highest);
        Ok(Found { deployment, version, revision: 0 })
    }

    /// What of a deployment is hosted here.
    pub(super) fn place(&self, deployment: Deployment) -> Placed {
        match &self.authority {
            Authority::Own => Placed { deployment, here: None },
            Authority::Cluster(cluster) => cluster.place(deployment),
        }
    }

    /// Brings what a deployment names to where other nodes find it.
    pub(super) async fn publish(&self, deployment: &Deployment) -> Result<(), DeployFault> {
        let Authority::Cluster(cluster) = &self.authority else { return Ok(()) };
        for hash in deployment.named() {
            let unusable = DeployFault::Artifacts;
            let path = self.blocking(move |files| files.artifacts.verified(&hash).map_err(unusable)).await?;
            cluster.upload(&hash, &path).await?;
        }
        Ok(())
    }

    /// Makes a version that runs here the one that is deployed, if nobody was faster.
    pub(super) async fn commit(&self, next: &Deployment, found: &Found) -> Result<(), DeployFault> {
        if let Authority::Cluster(cluster) = &self.authority {
            cluster.commit(next, found.revision).await?;
        }
        let row = next.clone();
        let kept = self.blocking(move |files| files.store.put(&row).map_err(DeployFault::Store)).await;
        match &self.authority {
            Authority::Own => kept,
            Authority::Cluster(_) => {
                if let Err(error) = kept {
                    tracing::warn!(app = %next.app(), %error, "a version runs and is not kept for the next start");
                }
                Ok(())
            }
        }
    }

    /// Forgets an app; says whether it was deployed.
    pub(super) async fn forget(&self, app: &str) -> Result<bool, DeployFault> {
        let deployed = match &self.authority {
            Authority::Own => false,
            Authority::Cluster(cluster) => cluster.forget(app).await?,
        };
        let name = app.to_owned();
        let stored =
            self.blocking(move |files| files.store.remove(&name).map_err(DeployFault::Store)).await?;
        Ok(deployed || stored)
    }
}
