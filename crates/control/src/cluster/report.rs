//! What can be told of the cluster.

use async_nats::jetstream::stream::{Info, Stream};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::PoisonError;
use tokio::time::timeout;

use super::Cluster;
use super::members::Row;
use super::plan::placed;
use crate::limits::BUS_REPLY_WITHIN;

/// `GET /v1/cluster`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterReport {
    /// The cluster's name.
    pub cluster: String,
    /// The node that tells.
    pub node: String,
    /// What is shared.
    pub store: StoreReport,
    /// The nodes that live, as far as is known there.
    pub members: Vec<String>,
    /// Per app, what each node is to run and what it runs.
    pub apps: Vec<AppReport>,
    /// What went wrong last and was not made good; empty if nothing.
    pub last_error: String,
}

/// The store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreReport {
    /// The servers, as the node was told them.
    pub servers: String,
    /// Whether it answers.
    pub reachable: bool,
    /// Its buckets; empty while it does not answer.
    pub buckets: Vec<BucketReport>,
}

/// A bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BucketReport {
    /// Its name.
    pub bucket: String,
    /// Messages in it.
    pub messages: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Copies that are kept.
    pub replicas: usize,
    /// The server that decides; empty where one server is all.
    pub leader: String,
    /// The other servers that have a copy.
    pub copies: Vec<CopyReport>,
}

/// A server's copy of a bucket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyReport {
    /// The server.
    pub server: String,
    /// Whether it has all of it.
    pub current: bool,
}

/// An app across the cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppReport {
    /// The app.
    pub app: String,
    /// The version that is wanted; `None` if the app is on its way out, or its row cannot be read.
    pub version: Option<u64>,
    /// Each node's part.
    pub nodes: Vec<NodePart>,
}

/// What a node has of an app, and what it should have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodePart {
    /// The node.
    pub node: String,
    /// The version that runs there; `None` if none does.
    pub version: Option<u64>,
    /// The functions that it is to host.
    pub wanted: Vec<String>,
    /// The functions that it hosts.
    pub hosted: Vec<String>,
    /// Why what is wanted does not run; empty if nothing is known against it.
    pub error: String,
}

impl Cluster {
    /// How things are.
    pub async fn report(&self) -> ClusterReport {
        let buckets = self.bucket_reports().await;
        let rows = self.rows();
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ClusterReport {
            cluster: self.options.cluster.clone(),
            node: self.options.node.clone(),
            store: StoreReport {
                servers: self.bus.servers().to_owned(),
                reachable: buckets.is_some(),
                buckets: buckets.unwrap_or_default(),
            },
            members: rows.iter().map(|row| row.name.clone()).collect(),
            apps: self.app_reports(&rows),
            last_error: trouble.unwrap_or_default(),
        }
    }

    fn app_reports(&self, rows: &[Row]) -> Vec<AppReport> {
        let wanted = self.wanted.borrow().clone();
        let seats = self.seats();
        let mut names: BTreeSet<String> = wanted.apps.keys().map(ToString::to_string).collect();
        names.extend(wanted.unreadable.keys().cloned());
        names.extend(rows.iter().flat_map(|row| row.apps.keys().cloned()));
        let per_node: Vec<_> =
            rows.iter().map(|row| (row, placed(&wanted.apps, &seats, &row.name))).collect();
        let report = |app: String| {
            let version = wanted.apps.get(app.as_str()).map(|deployment| deployment.version);
            let part = |(row, placed): &(&Row, std::collections::BTreeMap<_, crate::deploy::Placed>)| {
                let own = row.apps.get(&app).cloned().unwrap_or_default();
                let placed = placed.get(app.as_str());
                NodePart {
                    node: row.name.clone(),
                    version: own.version,
                    wanted: placed.iter().flat_map(|p| p.hosted().map(ToString::to_string)).collect(),
                    hosted: own.functions.into_keys().collect(),
                    error: own.error.unwrap_or_default(),
                }
            };
            AppReport { nodes: per_node.iter().map(part).collect(), version, app }
        };
        names.into_iter().map(report).collect()
    }

    /// The buckets as their leaders tell; `None` if one does not.
    async fn bucket_reports(&self) -> Option<Vec<BucketReport>> {
        let read = async {
            let buckets = self.bus.buckets().await.ok()?;
            let artifacts = self.bus.artifacts_stream().await.ok()?;
            let mut reports = Vec::new();
            for stream in [&buckets.wanted.stream, &buckets.members.stream, &artifacts] {
                reports.push(bucket(stream).await?);
            }
            Some(reports)
        };
        timeout(BUS_REPLY_WITHIN, read).await.ok()?
    }
}

async fn bucket(stream: &Stream) -> Option<BucketReport> {
    let info: Info = stream.get_info().await.ok()?;
    let cluster = info.cluster.unwrap_or_default();
    let copy = |peer: async_nats::jetstream::stream::PeerInfo| CopyReport {
        server: peer.name,
        current: peer.current && !peer.offline,
    };
    Some(BucketReport {
        bucket: info.config.name,
        messages: info.state.messages,
        bytes: info.state.bytes,
        replicas: info.config.num_replicas,
        leader: cluster.leader.unwrap_or_default(),
        copies: cluster.replicas.into_iter().map(copy).collect(),
    })
}
