//! Endpoints about the cluster that the node is in.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Api;
use super::fault::Fault;
use crate::cluster::{Cluster, ClusterReport};
use crate::protocol::{DrainReply, NodeRow, Nodes};

impl Api {
    fn cluster(&self) -> Result<&Arc<Cluster>, Fault> {
        self.cluster.as_ref().ok_or_else(|| {
            Fault::new(
                StatusCode::NOT_FOUND,
                "this node is in no cluster",
                "start it with `--cluster nats://HOST:PORT --name NAME`",
            )
        })
    }
}

pub(super) async fn nodes(State(api): State<Arc<Api>>) -> Result<Json<Nodes>, Fault> {
    let cluster = api.cluster()?;
    let nodes = cluster.rows().iter().map(NodeRow::of).collect();
    Ok(Json(Nodes { node: cluster.node().to_owned(), nodes }))
}

pub(super) async fn report(State(api): State<Arc<Api>>) -> Result<Json<ClusterReport>, Fault> {
    Ok(Json(api.cluster()?.report().await))
}

pub(super) async fn drain(
    State(api): State<Arc<Api>>,
    Path(node): Path<String>,
) -> Result<Json<DrainReply>, Fault> {
    api.cluster()?.drain(&node, true).await?;
    Ok(Json(DrainReply { node, draining: true }))
}

pub(super) async fn undrain(
    State(api): State<Arc<Api>>,
    Path(node): Path<String>,
) -> Result<Json<DrainReply>, Fault> {
    api.cluster()?.drain(&node, false).await?;
    Ok(Json(DrainReply { node, draining: false }))
}
