//! How a node comes into its cluster, and how it leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::ClusterError;
use super::members::Row;
use super::{Cluster, Wanted};
use crate::deploy::{DeployFault, Deployer, Restored};
use crate::limits::{JOIN_WITHIN, LEAVE_WITHIN, NAME_WITHIN};
use crate::plane::Plane;

/// Between two looks at a row that may be a dead node's.
const NAME_LOOK: Duration = Duration::from_millis(250);

/// How a node came in.
#[derive(Debug)]
pub struct Entered {
    /// What became of the apps that it is to run.
    pub restored: Vec<Restored>,
    /// Why it starts with what it knew, where the store did not answer. It goes on trying.
    pub apart: Option<ClusterError>,
}

impl Cluster {
    /// Takes the node's name, brings its apps up, and keeps it a member from then on. Where the store does not answer in time,
    /// the node starts with what it knew, and comes in when it can.
    ///
    /// # Errors
    /// Another node that lives has the name, the store refuses, or what is kept here cannot be read.
    pub async fn enter(
        self: &Arc<Self>,
        deployer: &Arc<Deployer>,
        plane: &Arc<dyn Plane>,
    ) -> Result<Entered, EnterError> {
        let until = Instant::now() + JOIN_WITHIN;
        let mut connections = self.bus.connections();
        let connected = async {
            while !self.bus.is_connected() {
                if connections.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout_at(until, connected).await;
        let apart = loop {
            match self.claim_and_read().await {
                Ok(()) => break None,
                Err(error @ ClusterError::Unreachable { .. }) if Instant::now() > until => break Some(error),
                Err(ClusterError::Unreachable { .. }) => sleep(NAME_LOOK).await,
                Err(error) => return Err(EnterError::Cluster(error)),
            }
        };
        self.spawn_membership(deployer, plane);
        let restored = match &apart {
            None => deployer.reconcile(self).await,
            Some(error) => {
                self.troubled(error);
                deployer.restore(&[]).await.map_err(EnterError::Deploy)?
            }
        };
        self.spawn_execution(deployer);
        Ok(Entered { restored, apart })
    }

    async fn claim_and_read(&self) -> Result<(), ClusterError> {
        self.claim().await?;
        let buckets = self.bus.buckets().await?;
        if let Some(contents) = self.bus.contents(&buckets.members, None).await? {
            let rows = contents.rows.values().filter_map(|entry| entry.value.as_ref());
            for row in rows.filter_map(|row| serde_json::from_slice::<Row>(row).ok()) {
                self.members().heard(row, self.now());
            }
        }
        self.publish_table();
        if let Some(contents) = self.bus.contents(&buckets.wanted, None).await? {
            self.wanted.send_replace(Wanted::read(&contents));
        }
        Ok(())
    }

    /// Makes the name this node's. A row of a node that died is waited out: a node that lives puts it again and again.
    pub(super) async fn claim(&self) -> Result<(), ClusterError> {
        if *self.claimed.borrow() {
            return Ok(());
        }
        let store = self.bus.buckets().await?.members;
        let node = &self.options.node;
        let until = Instant::now() + NAME_WITHIN;
        let mut seen = None;
        loop {
            let entry = self.bus.read(&store, node).await?;
            let other: Option<Row> =
                entry.value.as_ref().and_then(|value| serde_json::from_slice(value).ok());
            let is_own = other.as_ref().is_some_and(|row| row.incarnation == self.options.incarnation);
            if entry.value.is_none() || is_own {
                let row = serde_json::to_vec(&self.bare_row()).map_err(ClusterError::Encode)?;
                match self.bus.write(&store, node, Some(Bytes::from(row)), entry.revision).await {
                    Ok(_) => {
                        self.claimed.send_replace(true);
                        return Ok(());
                    }
                    Err(ClusterError::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
            } else {
                let was_renewed = seen.is_some_and(|seen| seen != entry.revision);
                if was_renewed || Instant::now() > until {
                    let gateway =
                        other.map_or_else(|| "an unknown address".to_owned(), |row| row.gateway.to_string());
                    return Err(ClusterError::NameTaken { node: node.clone(), gateway });
                }
                seen = Some(entry.revision);
            }
            sleep(NAME_LOOK).await;
        }
    }

    /// Tells the others to turn to other nodes. Until [`leave`](Self::leave) they let this one finish what it has of theirs.
    pub fn retire(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        self.nudge.notify_one();
    }

    /// Says farewell, so that nobody has to wait for this node's silence.
    pub async fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        if !self.claimed.send_replace(false) || !self.bus.is_connected() {
            return;
        }
        let goodbye = async {
            let store = self.bus.buckets().await?.members;
            let entry = self.bus.read(&store, &self.options.node).await?;
            let own: Option<Row> = entry.value.as_ref().and_then(|value| serde_json::from_slice(value).ok());
            if own.is_some_and(|row| row.incarnation == self.options.incarnation) {
                self.bus.write(&store, &self.options.node, None, entry.revision).await?;
            }
            Ok::<_, ClusterError>(())
        };
        // Whoever does not hear it finds out in three seconds.
        let _ = timeout(LEAVE_WITHIN, goodbye).await;
        let _ = timeout(LEAVE_WITHIN, self.bus.flush()).await;
    }
}

/// Why a node did not come into its cluster.
#[derive(Debug)]
pub enum EnterError {
    /// The cluster will not have it.
    Cluster(ClusterError),
    /// What it knew cannot be read.
    Deploy(DeployFault),
}
